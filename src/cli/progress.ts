/** Progress on stderr: bars on a terminal, one line a change elsewhere, nothing when nobody wants it. */
import type { MultiBar, SingleBar } from 'cli-progress'
import { noProgress, type Progress, type ProgressBar } from '../report.ts'

const SCREEN = {
  stream: process.stderr,
  clearOnComplete: true,
  hideCursor: true,
  barsize: 30,
  linewrap: false,
  gracefulExit: false,
} as const

/** The progress for this terminal. */
export async function terminalProgress(quiet: boolean): Promise<Progress> {
  if (quiet) return noProgress
  if (!process.stderr.isTTY) return { begin: lines }
  const screen = new Screen()
  return { begin: (label, total) => screen.begin(label, total) }
}

/** The bars of this terminal, below one another. The library is loaded when the first is drawn: most commands draw none. */
class Screen {
  #bars: MultiBar | undefined
  readonly #open = new Set<object>()

  begin(label: string, total?: number): ProgressBar {
    const mine = {}
    let latest = { done: 0, detail: '' }
    let drawn: SingleBar | undefined
    this.#open.add(mine)
    void import('cli-progress').then(({ default: library }) => {
      if (!this.#open.has(mine)) return
      const format = total === undefined ? '{label}  {detail}' : '{label}  {bar} {percentage}%  {detail}'
      this.#bars ??= new library.MultiBar(SCREEN, library.Presets.rect)
      drawn = this.#bars.create(total ?? 1, latest.done, { label, detail: latest.detail }, { format })
    })
    return {
      update: (done, detail) => {
        latest = { done, detail }
        // The library would draw a bar again that it has cleared.
        if (this.#open.has(mine)) drawn?.update(done, { label, detail })
      },
      end: () => this.#open.delete(mine) && this.#end(drawn),
    }
  }

  /** At once: with the last bar all is cleared, and what is printed next begins where the bars stood. */
  #end(drawn: SingleBar | undefined): void {
    if (this.#open.size > 0) {
      if (drawn !== undefined) this.#bars?.remove(drawn)
      return
    }
    this.#bars?.stop()
    this.#bars = undefined
  }
}

const TENTH = 10

function lines(label: string, total?: number): ProgressBar {
  let shown = ''
  const say = (text: string) => {
    if (text !== shown) process.stderr.write(`${label}: ${text}\n`)
    shown = text
  }
  return {
    update: (done, detail) => {
      if (total !== undefined && total > 0) say(`${Math.floor(((done / total) * 100) / TENTH) * TENTH}%`)
      else if (shown === '') say(detail)
    },
    end: outcome => say(outcome),
  }
}
