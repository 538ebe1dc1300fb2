/** Every figure of docs/performance.md, each measured beside what it is compared with. Prints; never fails for being slow. */
import { existsSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { balance } from './balance.ts'
import type { Bench, Benchmark } from './bench.ts'
import { changes } from './changes.ts'
import { cutOff } from './cut-off.ts'
import { type Figure, lineOf, ratioOf, titles, verdictOf } from './figure.ts'
import { leases } from './leases.ts'
import { libvirtd } from './libvirtd.ts'
import { ocf } from './ocf.ts'
import { scan } from './scan.ts'
import { sockets } from './sockets.ts'
import { start } from './start.ts'

const benchmarks: Readonly<Record<string, Benchmark>> = {
  start,
  scan,
  changes,
  cut: cutOff,
  libvirtd,
  sockets,
  balance,
  leases,
  ocf,
}

const USAGE = `usage: make bench, or node bench/run.mjs [--only NAME]... [--json]

NAME is one of ${Object.keys(benchmarks).join(', ')}. Needs root, as the lab does.
`

/** Gives back the exit status: 0 when everything was measured, however slow; 1 when something could not be; 2 wrong usage. */
export async function main(argv: readonly string[], root: string): Promise<number> {
  const asked = optionsOf(argv)
  if (asked === undefined) {
    process.stderr.write(USAGE)
    return 2
  }
  if (asked === 'help') {
    process.stdout.write(USAGE)
    return 0
  }
  const undoing = new Undoing()
  const bench: Bench = {
    root,
    programs: join(import.meta.dirname, 'programs'),
    node: nodeOf(root),
    atEnd: undo => undoing.add(undo),
  }
  undoing.onInterrupt()
  try {
    await measure(bench, asked)
    return 0
  } catch (error) {
    if (!undoing.interrupted) process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  } finally {
    await undoing.undo()
  }
}

interface Asked {
  readonly names: readonly string[]
  readonly json: boolean
}

function optionsOf(argv: readonly string[]): Asked | 'help' | undefined {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        only: { type: 'string', multiple: true },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    if (values.help === true) return 'help'
    const names = values.only ?? Object.keys(benchmarks)
    return names.every(name => name in benchmarks) ? { names, json: values.json === true } : undefined
  } catch {
    return undefined
  }
}

async function measure(bench: Bench, { names, json }: Asked): Promise<void> {
  const machine = {
    node: process.version,
    kernel: release(),
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    date: new Date().toISOString(),
  }
  const figures: Figure[] = []
  if (!json) {
    const { node, kernel, cores, cpu, date } = machine
    process.stdout.write(`Node.js ${node}, Linux ${kernel}, ${cores} cores of ${cpu}, ${date}\n${titles}\n`)
  }
  for (const name of names) {
    for await (const figure of benchmarks[name]?.(bench) ?? []) {
      figures.push(figure)
      if (!json) process.stdout.write(`${lineOf(figure)}\n`)
    }
  }
  if (json) process.stdout.write(`${JSON.stringify({ machine, figures: figures.map(forPrograms) }, null, 2)}\n`)
}

function forPrograms(figure: Figure): object {
  return { ...figure, ratio: ratioOf(figure), verdict: verdictOf(figure) }
}

/** As bin/havirt chooses it. */
function nodeOf(root: string): string {
  const own = join(root, '.tools/node/bin/node')
  return existsSync(own) ? own : 'node'
}

/** What must be undone at the end, after a failure, and at Ctrl-C. */
class Undoing {
  readonly #undos: (() => void | Promise<void>)[] = []
  /** From now on nothing that fails is worth a word: we ended it ourselves. */
  interrupted = false

  add(undo: () => void | Promise<void>): void {
    this.#undos.push(undo)
  }

  async undo(): Promise<void> {
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) await undo()
  }

  onInterrupt(): void {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => {
        this.interrupted = true
        this.undo().finally(() => process.exit(130))
      })
    }
  }
}
