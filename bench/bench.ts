/** What a benchmark is given, and what it gives back. */
import type { Figure } from './figure.ts'

export interface Bench {
  /** The repository. */
  readonly root: string
  /** The folder of the bundled programs. */
  readonly programs: string
  /** The node that bin/havirt runs. */
  readonly node: string
  /** Done at the end, whatever happens, last one first. */
  atEnd(undo: () => void | Promise<void>): void
}

/** Measures, and hands over each figure as soon as it is known. */
export type Benchmark = (bench: Bench) => AsyncIterable<Figure>
