/** What becomes of acts on nodes, as people see it. */
import type { Column } from '../report.ts'

export const ACT_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the node' },
  { key: 'what', title: 'WHAT', help: 'what was done there' },
  { key: 'outcome', title: 'OUTCOME', help: 'done; or what the command said' },
]

/** One row of that table. */
export interface ActDone {
  readonly node: string
  readonly what: string
  readonly outcome: string
}
