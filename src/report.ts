/** What an operation gives back to whatever door asked: data, never text for one kind of screen. */
import { type Observed, type Twice, unknownNodes } from './core/cluster.ts'
import { downText, type Ledger, markText } from './core/ledger.ts'
import { isConfirmedDown } from './core/node.ts'
import { describeRefusal, type Refusal } from './core/refusal.ts'
import type { Step } from './core/step.ts'

/** Exit statuses, the same for every verb (docs/formats.md). */
export const exitStatus = { done: 0, failed: 1, usage: 2, refused: 3, partly: 4, unknown: 5, twice: 6 } as const
export type ExitStatus = (typeof exitStatus)[keyof typeof exitStatus]

export type Cell = string | number | boolean | undefined

/** A table: how people see its columns, and rows whose values keep their types for machines. */
export interface Table {
  readonly columns: readonly Column[]
  readonly rows: readonly Readonly<Record<string, Cell>>[]
}

export interface Column {
  readonly key: string
  readonly title: string
  readonly align?: 'left' | 'right'
  /** Put behind numbers on a terminal, `MiB`. Machines get the number. */
  readonly unit?: string
  /** What the column means, for the docs and the man page. */
  readonly help: string
}

export interface Message {
  readonly kind: 'note' | 'warning' | 'refused' | 'error'
  readonly text: string
  /** What to do next. */
  readonly next?: string
}

/** What became of one step. */
export interface StepResult {
  readonly step: Step['step']
  /** The domain, by its name and its uuid. */
  readonly domain: string
  readonly uuid: string
  /** The step in words. */
  readonly text: string
  readonly outcome: 'done' | 'failed' | 'unknown' | 'not executed'
  readonly detail?: string
}

export interface Report {
  readonly exit: ExitStatus
  readonly table?: Table
  /** A second table, below the first, and the key under which programs find its rows. */
  readonly also?: { readonly key: string; readonly table: Table }
  /** A dry run's shell script, line by line. */
  readonly script?: readonly string[]
  readonly results?: readonly StepResult[]
  /** A plan that can be carried out later, for programs: what `--plan` reads. */
  readonly plan?: object
  /** Why nothing was done, as values from the closed list; `messages` say the same in sentences. */
  readonly refusals?: readonly Refusal[]
  readonly messages: readonly Message[]
}

/** How long work tells of itself while it goes on. Text for people; the report says what became of it. */
export interface Progress {
  /** Something that takes time begins. `total` absent: nobody knows how much there is. */
  begin(label: string, total?: number): ProgressBar
}

export interface ProgressBar {
  /** `done` of the total, and a few words such as a rate. */
  update(done: number, detail: string): void
  end(outcome: string): void
}

/** Nobody watches. */
export const noProgress: Progress = { begin: () => ({ update: () => undefined, end: () => undefined }) }

export function note(text: string): Message {
  return { kind: 'note', text }
}

export function warning(text: string, next?: string): Message {
  return { kind: 'warning', text, ...(next === undefined ? {} : { next }) }
}

export function failure(text: string, next?: string): Message {
  return { kind: 'error', text, ...(next === undefined ? {} : { next }) }
}

export function refusalMessage(refusal: Refusal): Message {
  const { why, next } = describeRefusal(refusal)
  return { kind: 'refused', text: why, next }
}

/** The report of an operation that says no. */
export function refusedReport(refusals: readonly Refusal[]): Report {
  return { exit: exitStatus.refused, refusals, messages: refusals.map(refusalMessage) }
}

/** What is to be said of a domain that several nodes show active: by any verb that sees it, and loudly unless it is moving. */
export function twiceMessage({ name, uuid, nodes, migrating }: Twice, seen?: Observed): Message {
  const passed = nodes.find(node => seen?.nodes.get(node)?.ledger.passed?.some(each => each.uuid === uuid))
  if (passed !== undefined && !migrating)
    return failure(
      `${name} IS PRESENT ON ${nodes.join(' AND ')} AT ONCE`,
      `its disk is being destroyed: it was started elsewhere while ${passed} was dead to sanlock; end what is left there now: havirt -y lease reconcile ${passed}`,
    )
  return migrating
    ? note(`${name} is moving between ${nodes.join(' and ')}`)
    : failure(
        `${name} IS PRESENT ON ${nodes.join(' AND ')} AT ONCE`,
        'its disk is being destroyed: find the right copy now, and destroy the other with virsh',
      )
}

/** What every verb says while the cluster has no node. */
export const NO_NODES: Message = note('there is no node yet; add the first with: havirt node update NODE')

/** What every list says of each node that was not heard. One that is confirmed down is told of by {@link ledgerNotes}. */
export function silentWarnings(cluster: Observed): Message[] {
  return unknownNodes(cluster).map(({ name, seen }) => warning(`${name} is ${seen.state}: ${seen.reason}`, seen.hint))
}

function leftOver(node: string, passed: NonNullable<Ledger['passed']>): Message {
  const names = passed.map(({ domain, to }) => `${domain} (now on ${to})`).join(', ')
  return warning(
    `${node} answers again; started elsewhere past it by their leases: ${names}. What is left of them there must go`,
    `havirt lease reconcile ${node}`,
  )
}

/** What every list says of what was written down about nodes, until it lapses: who is confirmed down, and who is in maintenance. */
export function ledgerNotes({ nodes }: Observed): Message[] {
  return [...nodes.values()].flatMap(node => {
    const { name, ledger, seen, lapsed } = node
    const { down, maintenance, passed = [] } = ledger
    const text = down === undefined ? '' : downText(down)
    return [
      ...(isConfirmedDown(node) ? [note(`${name} is down, ${text}`)] : []),
      ...(down !== undefined && !isConfirmedDown(node)
        ? [warning(`${name} is ${seen.state} again, and was confirmed down (${text}): that no longer counts`)]
        : []),
      ...(lapsed === undefined
        ? []
        : [note(`${name} answers again; it was down, ${downText(lapsed)}, which no longer counts`)]),
      ...(passed.length === 0 || seen.state !== 'up' ? [] : [leftOver(name, passed)]),
      ...(maintenance === undefined ? [] : [note(`${name} is in maintenance ${markText(maintenance)}`)]),
    ]
  })
}
