/** Several moves in reports and as work: their rows, their tasks, and how they are made within the limits. */
import type { Fixed } from '../core/plan/count.ts'
import { gibOf, type Move } from '../core/plan/moves.ts'
import { describeRefusal } from '../core/refusal.ts'
import type { DomainChange, Parts } from '../operate.ts'
import { type Column, exitStatus, type Message, note, type Report, warning } from '../report.ts'
import { migration } from './changes.ts'
import { carryOut, type Task } from './moves.ts'
import { combine, type Input } from './operation.ts'

/** Of a table of moves, and of what does not move. */
export const MOVE_COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'the domain' },
  { key: 'from', title: 'FROM', help: 'the node where it is' },
  { key: 'to', title: 'TO', help: 'the node that receives it; empty where it is shut down, or stays' },
  { key: 'gib', title: 'COST', align: 'right', unit: 'GiB', help: 'the memory that goes over the network' },
  { key: 'why', title: 'WHY', help: 'what it moves for, or why it cannot' },
]

/** A report that has only words. */
export function told(...messages: Message[]): Report {
  return { exit: exitStatus.done, messages }
}

/** `1 move`, `2 moves`. */
export function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}

/** What stays, and its first reason. */
export function stayNote({ domain, node, why: [first] }: Fixed): Message[] {
  return [note(`${domain} stays on ${node}${first === undefined ? '' : `: ${describeRefusal(first).why}`}`)]
}

/** What stays as rows of the table, with every reason. */
export function fixedRows(fixed: readonly Fixed[]) {
  return fixed.map(({ domain, node, why }) => ({
    domain,
    from: node,
    why: why.map(each => describeRefusal(each).why).join('; '),
  }))
}

/** The moves as changes, with what the dry run says of each. */
export function moveTasks(parts: Parts, input: Input, moves: readonly Move[]): Task[] {
  return moves.map(move => ({
    change: moving(parts, input, move),
    why: `${gibOf(move.memoryMiB)} GiB: ${move.why}`,
  }))
}

/** The migration that makes the move. */
export function moving(parts: Parts, input: Input, { domain, to, along }: Move): DomainChange {
  return migration(parts, input, domain, to, along)
}

/** What became of moves that were made within the limits. */
export interface Made {
  readonly report: Report
  readonly failed: readonly Move[]
  readonly stopped: boolean
}

/** Makes the moves, as many at a time as the configuration allows. */
export async function makeMoves(parts: Parts, input: Input, label: string, moves: readonly Move[]): Promise<Made> {
  const { together, togetherPerNode: perNode } = parts.home.config.migrate
  const way = { mode: input.mode, limits: { together, perNode } }
  const carried = await carryOut(parts, label, moves, move => moving(parts, input, move), way)
  const { failed, notBegun, stopped } = carried
  const report = combine(carried.reports)
  if (notBegun.length === 0) return { report, failed, stopped }
  const left = warning(
    `${counted(notBegun.length, 'move was', 'moves were')} not begun: ${notBegun.map(({ domain }) => domain).join(', ')}`,
    'the same command plans anew for what is left',
  )
  const exit = report.exit === exitStatus.done ? exitStatus.partly : report.exit
  return { report: { ...report, exit, messages: [...report.messages, left] }, failed, stopped }
}
