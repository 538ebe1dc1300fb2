/** `lease cleanup`: what virt-sanlock-cleanup does, for the whole cluster, and only where nobody can miss it. */
import { pasteableLine } from '../core/command.ts'
import { type LeaseFile, LOCKSPACE } from '../core/lease.ts'
import { type LeaseFacts, managerOf } from '../core/leases.ts'
import { type LeaseCleanup, planCleanup } from '../core/plan/lease-cleanup.ts'
import { leaseFacts } from '../lease-facts.ts'
import { parseRemoved, REMOVE_SCRIPT, type Removal } from '../nodes/lease-folder.ts'
import type { Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  failure,
  type Message,
  NO_NODES,
  note,
  type Report,
  refusedReport,
  warning,
} from '../report.ts'
import type { Input } from './operation.ts'

export const CLEANUP_COLUMNS: readonly Column[] = [
  { key: 'file', title: 'FILE', help: "the lease's file" },
  { key: 'kib', title: 'SIZE', align: 'right', unit: 'KiB', help: 'what it takes (KiB)' },
  { key: 'written', title: 'LAST TAKEN', help: 'when it was last taken or given back' },
  { key: 'outcome', title: 'OUTCOME', help: 'removed; or why it stays' },
]

export async function cleanUp(parts: Parts, input: Input): Promise<Report> {
  const facts = await leaseFacts(parts)
  if (facts.cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  if (managerOf(facts.nodes) !== 'sanlock')
    return {
      exit: exitStatus.done,
      messages: [note('nothing to do: only sanlock leaves files behind, and no node that answers uses it')],
    }
  const days = Number(input.options['olderThan'] ?? parts.home.config.lease.cleanupDays)
  const plan = planCleanup(facts, parts.clock.now(), days)
  if (!('remove' in plan)) return refusedReport(plan)
  if (plan.remove.length === 0)
    return { exit: exitStatus.done, ...listed(plan, new Map()), messages: [...kept(plan), note('nothing to remove')] }
  if (plan.by === undefined)
    return {
      exit: exitStatus.failed,
      messages: [
        failure(
          'no node that answers has joined the lockspace, so none can hold a lease while its file goes',
          'havirt lease status says what is wrong',
        ),
      ],
    }
  return input.mode.act ? remove(parts, facts, plan, plan.by) : shown(facts, plan, plan.by)
}

function shown(facts: LeaseFacts, plan: LeaseCleanup, by: string): Report {
  const lines = plan.remove.flatMap(({ name, bytes }) => [
    `# ${facts.folder}/${name}: ${kib(bytes)} KiB, no disk has it`,
    pasteableLine({ node: by, argv: removal(facts.folder, name) }, facts.cluster.here),
  ])
  return {
    exit: exitStatus.done,
    script: lines,
    ...listed(plan, new Map()),
    messages: [...kept(plan), freed('would free', plan.remove)],
  }
}

/** What the script runs for each, as a person would. */
function removal(folder: string, name: string): string[] {
  const file = `${folder}/${name}`
  return ['sanlock', 'client', 'command', '-r', `${LOCKSPACE}:${name}:${file}:0`, '-c', '/bin/rm', '-f', file]
}

/** So many in one command: few enough to show how it goes, and enough that the commands are no cost. */
const TOGETHER = 200
const TIMEOUT_MS = 600_000

async function remove(parts: Parts, facts: LeaseFacts, plan: LeaseCleanup, by: string): Promise<Report> {
  const record = (await parts.home.records.nodes()).get(by)
  const done = new Map<string, Removal>()
  const bar = parts.progress.begin(`removing leases that nobody uses, on ${by}`, plan.remove.length)
  for (let at = 0; record !== undefined && at < plan.remove.length && !parts.interrupt.requested(); at += TOGETHER) {
    const names = plan.remove.slice(at, at + TOGETHER).map(({ name }) => name)
    const command = { node: by, argv: ['sh', '-c', REMOVE_SCRIPT, 'havirt', facts.folder] }
    const exit = await parts.nodes.ask(record, { command, stdin: `${names.join('\n')}\n`, timeoutMs: TIMEOUT_MS })
    const outcomes = parseRemoved(exit.stdout)
    for (const [name, outcome] of outcomes) done.set(name, outcome)
    bar.update(done.size, `${done.size} of ${plan.remove.length}`)
    if (outcomes.size < names.length) break
  }
  bar.end('done')
  return outcome(plan, done)
}

function outcome(plan: LeaseCleanup, done: ReadonlyMap<string, Removal>): Report {
  const removed = plan.remove.filter(({ name }) => done.get(name) === 'removed')
  const complete = removed.length === plan.remove.length
  const missed = plan.remove.length - done.size
  return {
    exit: complete ? exitStatus.done : removed.length > 0 ? exitStatus.partly : exitStatus.failed,
    ...listed(plan, done),
    messages: [
      ...kept(plan),
      freed('freed', removed),
      ...(missed > 0 ? [warning(`${missed} were not come to`, 'the same command goes on with them')] : []),
    ],
  }
}

function listed(plan: LeaseCleanup, done: ReadonlyMap<string, Removal>): Pick<Report, 'table'> {
  const row = ({ name, bytes, writtenMs }: LeaseFile, outcome: string) => ({
    file: name,
    kib: kib(bytes),
    written: new Date(writtenMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    outcome,
  })
  const rows = plan.remove.map(file => row(file, wordOf(done.get(file.name))))
  return {
    table: {
      columns: CLEANUP_COLUMNS,
      rows: [...rows, ...plan.keep.map(({ file, why }) => row(file, `stays: ${why}`))],
    },
  }
}

function wordOf(outcome: Removal | undefined): string {
  if (outcome === undefined) return 'to be removed'
  return outcome === 'removed' ? 'removed' : `stays: ${outcome.kept === '' ? 'it could not be had' : outcome.kept}`
}

function kept({ keep }: LeaseCleanup): Message[] {
  if (keep.length === 0) return []
  return [
    note(
      `${keep.length} ${keep.length === 1 ? 'lease that belongs to no disk stays' : 'leases that belong to no disk stay'}; havirt lease cleanup -o table says why, or havirt lease explain FILE`,
    ),
  ]
}

function freed(word: string, files: readonly LeaseFile[]): Message {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  return note(
    `${word} ${(bytes / 1024 / 1024).toFixed(1)} MiB in ${files.length} ${files.length === 1 ? 'file' : 'files'}`,
  )
}

function kib(bytes: number): number {
  return Math.round(bytes / 1024)
}
