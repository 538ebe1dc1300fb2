/** Times processes in turn, A B C A B C ..., so that a machine whose speed drifts is unfair to nobody. */
import { spawn } from 'node:child_process'

/** What `programs/timer.ts` is asked, in a lab or here. */
export interface TimingPlan {
  readonly rounds: number
  /** First rounds that do not count; one unless told. */
  readonly warmUps?: number
  readonly commands: Readonly<Record<string, TimedCommand>>
}

export interface TimedCommand {
  readonly argv: readonly string[]
  /** The status that it ends with when all went well; 0 unless told. */
  readonly status?: number
}

/** Milliseconds of every counted round, by command. */
export type Samples = Readonly<Record<string, number[]>>

/** Runs every command once per round, in the order in which they stand. Rejects when one ends otherwise than expected. */
export async function timeInTurn({ rounds, warmUps = 1, commands }: TimingPlan): Promise<Samples> {
  const samples = Object.fromEntries(Object.keys(commands).map(name => [name, [] as number[]]))
  for (let round = -warmUps; round < rounds; round++) {
    for (const [name, command] of Object.entries(commands)) {
      const ms = await timeOnce(command)
      if (round >= 0) samples[name]?.push(ms)
    }
  }
  return samples
}

/** From before the process is made until it has ended, whoever still holds its output. */
export function timeOnce({ argv, status = 0 }: TimedCommand): Promise<number> {
  const [file = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', chunk => {
      said += chunk
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      const ms = performance.now() - began
      child.stderr.destroy()
      if (code === status) resolve(ms)
      else reject(new Error(`${argv.join(' ')} ended with ${signal ?? code}, not ${status}: ${said.trim()}`))
    })
  })
}

/** The samples of one command, which must be in the plan. */
export function of(samples: Samples, name: string): number[] {
  const found = samples[name]
  if (found === undefined) throw new Error(`${name} was not timed`)
  return found
}

/** What a command took beyond an empty process of its kind, round by round. */
export function beyond(samples: Samples, name: string, empty: string): number[] {
  const base = of(samples, empty)
  return of(samples, name).map((ms, round) => ms - (base[round] ?? 0))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}
