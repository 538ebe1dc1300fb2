/** How often the lab's tests of chance are repeated, what their chance is made from, and how they tell what they saw. */
import type { TestContext } from 'vitest'

declare module 'vitest' {
  interface TaskMeta {
    /** Figures of a test that proves by number: the closing line is preceded by them. */
    figures?: string
  }
}

/** Set by `make soak`. */
const SOAKING = process.env['HAVIRT_SOAK'] !== undefined

/** Rounds of thirty starts at once. */
export const RACE_ROUNDS = SOAKING ? 50 : 7
/** Commands that meet a fault at a moment of chance. */
export const KILL_RUNS = SOAKING ? 200 : 10
/** The same seed gives the same faults at the same moments of the same commands. */
export const SEED = Number(process.env['HAVIRT_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
/** Each run has its own chance, so that a late one can be had again without those before it. */
export const FIRST_RUN = Number(process.env['HAVIRT_FIRST_RUN'] ?? 0)
/** For a test of so many repetitions, each of which may take so long. */
export const timeoutFor = (repetitions: number, secondsEach: number) => ({ timeout: repetitions * secondsEach * 1000 })

/** Numbers from 0 up to 1, the same ones for the same seed and turn (mulberry32). */
export function chance(seed: number, turn: number): () => number {
  let state = (seed + Math.imul(turn, 0x9e3779b9)) | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    const mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    const more = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((more ^ (more >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Counts what happened, by name. */
export class Tally {
  readonly #counts = new Map<string, number>()
  readonly #begunMs = performance.now()

  count(what: string, times = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + times)
  }

  /** One line: "50 rounds, 1500 starts, 0 overlaps, 312 s". */
  toString(): string {
    const seconds = Math.round((performance.now() - this.#begunMs) / 1000)
    return [...[...this.#counts].map(([what, times]) => `${times} ${what}`), `${seconds} s`].join(', ')
  }
}

/** Has this line printed at the end of the whole run. */
export function tell({ task }: TestContext, line: string): void {
  task.meta.figures = line
}
