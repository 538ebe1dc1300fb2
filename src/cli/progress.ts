/** Progress on stderr: bars on a terminal, one line a change elsewhere, nothing when nobody wants it. */
import { noProgress, type Progress, type ProgressBar } from '../report.ts'

/** The progress for this terminal. */
export async function terminalProgress(quiet: boolean): Promise<Progress> {
  if (quiet) return noProgress
  return process.stderr.isTTY ? { begin: bar } : { begin: lines }
}

/** The library is loaded when the first bar is drawn: most commands draw none. */
function bar(label: string, total?: number): ProgressBar {
  let latest: { done: number; detail: string } = { done: 0, detail: '' }
  let drawn: { update(value: number, payload: object): void; stop(): void } | undefined
  let ended = false
  void import('cli-progress').then(({ default: { SingleBar, Presets } }) => {
    if (ended) return
    const format = total === undefined ? '{label}  {detail}' : '{label}  {bar} {percentage}%  {detail}'
    const made = new SingleBar(
      {
        format,
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
        barsize: 30,
        linewrap: false,
        gracefulExit: false,
      },
      Presets.rect,
    )
    made.start(total ?? 1, latest.done, { label, detail: latest.detail })
    drawn = made
  })
  return {
    update: (done, detail) => {
      latest = { done, detail }
      // The library would draw a bar again that it has cleared.
      if (!ended) drawn?.update(done, { label, detail })
    },
    end: () => {
      ended = true
      drawn?.stop()
    },
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
