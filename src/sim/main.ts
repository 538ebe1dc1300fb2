/** The simulator's command line: many seeds on all cores, or one seed in words. `make simulate` says how it is called. */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { outside } from './drain.ts'
import type { Problem } from './oracle.ts'
import { runSchedule, type Stats } from './run.ts'
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
}

/** Seeds `from` to `until` on all cores; gives back the exit status. */
async function simulate(from: number, count: number, jobs: number, brief: boolean): Promise<number> {
  const startedMs = performance.now()
  const sum = { seeds: 0, stats: {} as Record<string, number> }
  const workers: Worker[] = []
  const failed = await new Promise<Told['failed']>((resolve, reject) => {
    let running = jobs
    for (let job = 0; job < jobs; job++) {
      const task: Task = { from: from + job, until: from + count, step: jobs }
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
  if (!brief) await replay(failed.seed, true)
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
    ['promises broken', `${failed}`],
  ] as const
  for (const [what, value] of lines) process.stdout.write(`${`${what}:`.padEnd(27)}${value}\n`)
}

/** One seed in words; shrunk first, when it fails and that is wanted. Gives back the exit status. */
async function replay(seed: number, shrunk: boolean): Promise<number> {
  return outside(() => {
    const whole = makeSchedule(seed)
    const schedule = shrunk ? shrink(whole) : whole
    if (shrunk)
      process.stdout.write(`\nseed ${seed}, ${schedule.items.length} of ${whole.items.length} items are left:\n`)
    return tell(schedule, seed)
  })
}

function tell(schedule: Schedule, seed: number): number {
  const { problems } = runSchedule(schedule, line => process.stdout.write(`${line}\n`))
  if (problems.length > 0) process.stdout.write(`\nagain: make simulate SEED=${seed}\n`)
  return problems.length > 0 ? 1 : 0
}

/** What a worker does. */
async function work({ from, until, step }: Task): Promise<void> {
  for (let at = from; at < until; ) {
    const told = await outside(() => batch(at, until, step))
    parentPort?.postMessage(told)
    if (told.failed !== undefined) return
    at += told.seeds * step
  }
}

function batch(from: number, until: number, step: number): Told {
  const stats: Record<string, number> = {}
  let seeds = 0
  let failed: Told['failed']
  for (let seed = from; seed < until && seeds < BATCH && failed === undefined; seed += step, seeds++) {
    const verdict = runSchedule(makeSchedule(seed))
    for (const [key, value] of Object.entries(verdict.stats)) stats[key] = (stats[key] ?? 0) + value
    const [problem] = verdict.problems
    if (problem !== undefined) failed = { seed, problem }
  }
  return { seeds, stats: stats as unknown as Stats, ...(failed === undefined ? {} : { failed }) }
}

/** A schedule that was kept, in words. Gives back the exit status. */
function replayFile(file: string): Promise<number> {
  const schedule = JSON.parse(readFileSync(file, 'utf8')) as Schedule
  return outside(() => tell(schedule, schedule.seed))
}

/** `--seeds N --from K --jobs J`, `--seed K [--whole]` to replay one, or `--file SCHEDULE.json`. */
async function main(words: readonly string[]): Promise<number> {
  const number = (flag: string, standard: number) => {
    const at = words.indexOf(flag)
    return at < 0 || (words[at + 1] ?? '') === '' ? standard : Number(words[at + 1])
  }
  const file = words[words.indexOf('--file') + 1]
  if (words.includes('--file') && file !== undefined) return replayFile(file)
  const seed = number('--seed', Number.NaN)
  if (!Number.isNaN(seed)) return replay(seed, !words.includes('--whole'))
  return simulate(
    number('--from', 1),
    number('--seeds', 10_000),
    number('--jobs', availableParallelism()),
    words.includes('--brief'),
  )
}

if (isMainThread) process.exitCode = await main(process.argv.slice(2))
else await work(workerData as Task)
