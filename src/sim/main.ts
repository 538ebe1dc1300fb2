/** The simulator's command line: many seeds on all cores, or one seed in words. `make simulate` says how it is called. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { outside } from './drain.ts'
import type { Problem } from './oracle.ts'
import { isPlotName, type PlotName } from './plots.ts'
import { runSchedule, type Stats } from './run.ts'
import { runScenario, scenarioOf } from './scenario.ts'
import { makeSchedule, type Schedule } from './schedule.ts'
import { shrink } from './shrink.ts'

/** Seeds that one worker runs before it tells how far it is. */
const BATCH = 50

/** Most of what a seed makes is garbage soon after. */
const YOUNG = { maxYoungGenerationSizeMb: 96 }

/** What a worker says after each batch. */
interface Told {
  readonly seeds: number
  readonly stats: Stats
  readonly failed?: { readonly seed: number; readonly problem: Problem }
}

interface Task {
  readonly from: number
  readonly until: number
  readonly step: number
  readonly plot: PlotName | undefined
}

/** Seeds `from` to `until` on all cores; gives back the exit status. */
async function simulate(
  from: number,
  count: number,
  jobs: number,
  brief: boolean,
  plot: PlotName | undefined,
): Promise<number> {
  const startedMs = performance.now()
  const sum = { seeds: 0, stats: {} as Record<string, number> }
  const workers: Worker[] = []
  const failed = await new Promise<Told['failed']>((resolve, reject) => {
    let running = jobs
    for (let job = 0; job < jobs; job++) {
      const task: Task = { from: from + job, until: from + count, step: jobs, plot }
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task, resourceLimits: YOUNG })
      workers.push(worker)
      worker.on('message', (told: Told) => {
        add(sum, told)
        progress(sum.seeds, count, startedMs)
        if (told.failed !== undefined) resolve(told.failed)
      })
      worker.on('error', reject)
      worker.on('exit', () => --running === 0 && resolve(undefined))
    }
  })
  await Promise.all(workers.map(worker => worker.terminate()))
  process.stderr.write(process.stderr.isTTY ? '\r\x1b[K' : '')
  summarize(sum, (performance.now() - startedMs) / 1000, failed === undefined ? 0 : 1)
  if (failed === undefined) return 0
  process.stdout.write(`seed ${failed.seed}: ${failed.problem.kind}: ${failed.problem.text}\n`)
  if (!brief) await replay(failed.seed, true, plot)
  return 1
}

function add(sum: { seeds: number; stats: Record<string, number> }, told: Told): void {
  sum.seeds += told.seeds
  for (const [key, value] of Object.entries(told.stats)) sum.stats[key] = (sum.stats[key] ?? 0) + value
}

function progress(done: number, count: number, startedMs: number): void {
  if (!process.stderr.isTTY) return
  const share = done / count
  const left = ((performance.now() - startedMs) / 1000 / share) * (1 - share)
  const bar = '#'.repeat(Math.round(share * 30)).padEnd(30, '.')
  process.stderr.write(`\r${bar} ${done} of ${count} seeds, ${left.toFixed(0)} s left \x1b[K`)
}

function summarize(sum: { seeds: number; stats: Record<string, number> }, seconds: number, failed: number): void {
  const { stats } = sum
  const { user, system } = process.cpuUsage()
  const lines = [
    [
      'seeds',
      `${sum.seeds} in ${seconds.toFixed(1)} s, ${((1e6 * sum.seeds) / (user + system)).toFixed(0)} a second and core`,
    ],
    ['things that happened', `${stats['operations']}, runs of havirt ${stats['runs']}`],
    [
      'starts',
      `${stats['starts']}: done ${stats['startsDone']}, refused ${stats['startsRefused']}, unknown ${stats['startsUnknown']}`,
    ],
    ['migrations', `${stats['migrations']}: done ${stats['migrationsDone']}`],
    ['killed', `${stats['kills']}, cables cut ${stats['cuts']}, claims taken over ${stats['takeOvers']}`],
    ["twice by a person's virsh", `${stats['excused']}`],
    ['past a silent node', `${stats['passed']}, then twice without a watchdog ${stats['unguarded']}`],
    ['promises broken', `${failed}`],
  ] as const
  for (const [what, value] of lines) process.stdout.write(`${`${what}:`.padEnd(27)}${value}\n`)
}

/** One seed in words; shrunk first, when it fails and that is wanted. Gives back the exit status. */
async function replay(seed: number, shrunk: boolean, plot?: PlotName, folder?: string): Promise<number> {
  return outside(() => {
    const whole = makeSchedule(seed, plot)
    const schedule = shrunk ? shrink(whole) : whole
    if (shrunk)
      process.stdout.write(`\nseed ${seed}, ${schedule.items.length} of ${whole.items.length} items are left:\n`)
    if (folder !== undefined) keep(schedule, folder)
    return tell(schedule, `SEED=${seed}${plot === undefined ? '' : ` PLOT=${plot}`}`)
  })
}

function tell(schedule: Schedule, again: string): number {
  const { problems } = runSchedule(schedule, line => process.stdout.write(`${line}\n`))
  if (problems.length > 0) process.stdout.write(`\nagain: make simulate ${again}\n`)
  return problems.length > 0 ? 1 : 0
}

/** What a worker does. */
async function work({ from, until, step, plot }: Task): Promise<void> {
  for (let at = from; at < until; ) {
    const told = await outside(() => batch(at, until, step, plot))
    parentPort?.postMessage(told)
    if (told.failed !== undefined) return
    at += told.seeds * step
  }
}

function batch(from: number, until: number, step: number, plot: PlotName | undefined): Told {
  const stats: Record<string, number> = {}
  let seeds = 0
  let failed: Told['failed']
  for (let seed = from; seed < until && seeds < BATCH && failed === undefined; seed += step, seeds++) {
    const verdict = runSchedule(makeSchedule(seed, plot))
    for (const [key, value] of Object.entries(verdict.stats)) stats[key] = (stats[key] ?? 0) + value
    const [problem] = verdict.problems
    if (problem !== undefined) failed = { seed, problem }
  }
  return { seeds, stats: stats as unknown as Stats, ...(failed === undefined ? {} : { failed }) }
}

/** Writes a scenario's files (test/scenarios/README.md); its README is for a person to write. */
function keep(schedule: Schedule, folder: string): void {
  const { cluster, commands } = scenarioOf(schedule)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'cluster.yaml'), cluster)
  writeFileSync(join(folder, 'commands'), commands)
}

/** A scenario's log. Gives back the exit status. */
function replayScenario(folder: string): Promise<number> {
  return outside(() => {
    const textOf = (file: string) => readFileSync(join(folder, file), 'utf8')
    const { log, problems } = runScenario(textOf('cluster.yaml'), textOf('commands'))
    process.stdout.write(log)
    return problems.length > 0 ? 1 : 0
  })
}

/** Whether each seed gives the same log a second time, byte for byte, whatever ran in between. Gives back the exit status. */
function runTwice(from: number, count: number): number {
  const seeds = Array.from({ length: count }, (_, at) => from + at)
  const once = seeds.map(logOf)
  const other = seeds.find((seed, at) => logOf(seed) !== once[at])
  process.stdout.write(other === undefined ? `${count} seeds: the same twice\n` : `seed ${other} differs\n`)
  return other === undefined ? 0 : 1
}

function logOf(seed: number): string {
  const lines: string[] = []
  runSchedule(makeSchedule(seed), line => lines.push(line))
  return lines.join('\n')
}

/** A schedule that was kept, in words. Gives back the exit status. */
function replayFile(file: string): Promise<number> {
  const schedule = JSON.parse(readFileSync(file, 'utf8')) as Schedule
  return outside(() => tell(schedule, `SEED=${schedule.seed}`))
}

/** `--seeds N --from K --jobs J [--plot NAME]`, the same with `--twice`, `--seed K [--whole] [--keep FOLDER]` for one, `--file SCHEDULE.json`, or `--scenario FOLDER`. */
async function main(words: readonly string[]): Promise<number> {
  const number = (flag: string, standard: number) => {
    const at = words.indexOf(flag)
    return at < 0 || (words[at + 1] ?? '') === '' ? standard : Number(words[at + 1])
  }
  const file = words[words.indexOf('--file') + 1]
  if (words.includes('--file') && file !== undefined) return replayFile(file)
  const scenario = words[words.indexOf('--scenario') + 1]
  if (words.includes('--scenario') && scenario !== undefined) return replayScenario(scenario)
  const seed = number('--seed', Number.NaN)
  const folder = words.includes('--keep') ? words[words.indexOf('--keep') + 1] : undefined
  const plot = plotIn(words)
  if (!Number.isNaN(seed)) return replay(seed, !words.includes('--whole'), plot, folder)
  if (words.includes('--twice')) return outside(() => runTwice(number('--from', 1), number('--seeds', 50)))
  return simulate(
    number('--from', 1),
    number('--seeds', 10_000),
    number('--jobs', availableParallelism()),
    words.includes('--brief'),
    plot,
  )
}

function plotIn(words: readonly string[]): PlotName | undefined {
  const name = words.includes('--plot') ? (words[words.indexOf('--plot') + 1] ?? '') : ''
  if (name === '') return undefined
  if (!isPlotName(name)) throw new Error(`there is no plot ${name}`)
  return name
}

if (isMainThread) process.exitCode = await main(process.argv.slice(2))
else await work(workerData as Task)
