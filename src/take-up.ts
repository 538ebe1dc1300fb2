/**
 * Taking up what a dead holder of a claim left behind (rule 12): commands whose end nobody saw, and migrations that go on by
 * themselves. Only when each of them is over, or its node counts as unknown, may anything else be planned.
 */
import type { NodeRecord, SilentNode } from './core/node.ts'
import { type Refusal, refuse } from './core/refusal.ts'
import { describeStep } from './core/step.ts'
import { takeUpMigration } from './execute/migration.ts'
import { hasComeToRest, type Outcome } from './execute/work.ts'
import { workOf } from './execute.ts'
import type { Parts } from './operate.ts'
import { type ExitStatus, exitStatus, type Message, note, warning } from './report.ts'
import type { Claim } from './store/claim.ts'
import { type ClaimRecord, type Doubt, ownerText } from './store/claim-record.ts'

/** A uuid that no domain has: asked for, it only tells whether a node answers. */
const NOBODY = '00000000-0000-0000-0000-000000000000'

/** What is known once everything that can be settled is settled. */
export interface Left {
  /** Nodes where a command may still be carried out, whatever they answer. */
  readonly unsettled: ReadonlyMap<string, SilentNode>
  /** The same on nodes that are confirmed down, as soon as they answer. */
  readonly parked: ReadonlyMap<string, SilentNode>
  readonly messages: readonly Message[]
  /** Why nothing may be planned at all: a migration still goes on. */
  readonly refusals: readonly Refusal[]
  /** A migration was found broken in a way that only a person can put right. */
  readonly exit?: ExitStatus
}

/** How a migration that still goes on is treated: waited for until `untilMs`, or ended. */
export interface TakeUpOptions {
  readonly untilMs: number
  readonly endMigration: boolean
}

interface Finding {
  readonly unsettled?: SilentNode
  readonly parked?: SilentNode
  readonly refusal?: Refusal
  readonly outcome?: Outcome
  /** What was done although its end was not seen. */
  readonly told?: string
}

/** Settles what the claim's earlier holders left in doubt. */
export async function takeUp(parts: Parts, claim: Claim, options: TakeUpOptions): Promise<Left> {
  const { doubts } = claim.record
  const told = doubts.length > 0 || claim.takenFrom !== undefined ? [note(whoLeft(claim.record, claim.takenFrom))] : []
  const records = await parts.home.records.nodes()
  const unsettled = new Map<string, SilentNode>()
  const parked = new Map<string, SilentNode>()
  const messages: Message[] = [...told, ...doubts.map(doubt => note(whatWasLeft(doubt)))]
  const refusals: Refusal[] = []
  let exit: ExitStatus | undefined
  for (const [node, doubt] of decisive(doubts)) {
    const found = await settleOne(parts, claim, records, doubt, options)
    if (found.unsettled !== undefined) unsettled.set(node, found.unsettled)
    if (found.parked !== undefined) parked.set(node, found.parked)
    if (found.refusal !== undefined) refusals.push(found.refusal)
    if (found.told !== undefined) messages.push(note(found.told))
    messages.push(...outcomeMessages(doubt, found.outcome))
    exit = exit === exitStatus.twice ? exit : (exitOf(found.outcome) ?? exit)
  }
  return { unsettled, parked, messages, refusals, ...(exit === undefined ? {} : { exit }) }
}

/** One doubt for each node: a migration before anything else, since its end must be judged. */
function decisive(doubts: readonly Doubt[]): Map<string, Doubt> {
  const chosen = new Map<string, Doubt>()
  for (const doubt of doubts) {
    if (chosen.get(doubt.node)?.step?.step !== 'migrateDomain') chosen.set(doubt.node, doubt)
  }
  return chosen
}

async function settleOne(
  parts: Parts,
  claim: Claim,
  records: ReadonlyMap<string, NodeRecord>,
  doubt: Doubt,
  options: TakeUpOptions,
): Promise<Finding> {
  const { node, step } = doubt
  const record = records.get(node)
  if (record === undefined) return { unsettled: inDoubt(doubt) }
  const isMigration = step?.step === 'migrateDomain' && records.has(step.to)
  const found = isMigration
    ? await settleMigration(parts, claim, records, doubt, options)
    : await raiseGuard(parts, claim, record, doubt)
  if (found.unsettled === undefined || !(await isCalledDown(parts, record, doubt))) return found
  claim.parked(node)
  return { parked: found.unsettled, ...(found.told === undefined ? {} : { told: found.told }) }
}

/** Waits for what still runs on the node, and keeps out whatever comes later. */
async function raiseGuard(parts: Parts, claim: Claim, record: NodeRecord, doubt: Doubt): Promise<Finding> {
  const { generation, uuid } = claim.record
  const exit = await parts.nodes.raise(record, { uuid, generation, nodeId: record.id })
  if (exit.status !== 0 || !(await hasComeToRest(parts, record, doubt.step))) return { unsettled: inDoubt(doubt) }
  claim.settled(doubt.node)
  // A migration whose target is no node any more cannot be judged; the look tells where the domain is.
  claim.concluded(doubt.node)
  return {}
}

async function settleMigration(
  parts: Parts,
  claim: Claim,
  records: ReadonlyMap<string, NodeRecord>,
  doubt: Doubt,
  { untilMs, endMigration }: TakeUpOptions,
): Promise<Finding> {
  const { step } = doubt
  if (step?.step !== 'migrateDomain') return {}
  const target = records.get(step.to)
  const targetIsDown = target !== undefined && (await isCalledDown(parts, target, doubt))
  let told = {}
  const { domain, uuid, from, to } = step
  const asked = () => {
    told = { told: `${describeStep({ step: 'abortMigration', domain, uuid, from, to })}: asked` }
  }
  const how = { untilMs, end: endMigration, targetIsDown, judged: doubt.judged, asked }
  const taken = await takeUpMigration(workOf(parts, claim, records, []), step, how)
  if (taken === 'silent') return { unsettled: inDoubt(doubt), ...told }
  if ('moving' in taken) return { refusal: refuse('migrating', { domain, from, to, percent: taken.moving }), ...told }
  claim.settled(doubt.node)
  if (taken.outcome !== 'unknown') claim.concluded(doubt.node)
  return { outcome: taken, ...told }
}

/** Whoever was called down runs nothing; one that answers, however badly, is not down, whatever was written about it. */
async function isCalledDown(parts: Parts, record: NodeRecord, { step }: Doubt): Promise<boolean> {
  const { down } = await parts.home.records.ledger(record.name)
  if (down === undefined || down.answered === true) return false
  return (await parts.nodes.domainState(record, step?.uuid ?? NOBODY)) === undefined
}

function exitOf(outcome: Outcome | undefined): ExitStatus | undefined {
  if (outcome?.twice === true) return exitStatus.twice
  return outcome?.outcome === 'unknown' ? exitStatus.unknown : undefined
}

function outcomeMessages({ step }: Doubt, outcome: Outcome | undefined): Message[] {
  if (outcome === undefined || step === undefined) return []
  const text = `${describeStep(step)}: ${outcome.outcome}${outcome.detail === undefined ? '' : ` (${outcome.detail})`}`
  return [note(text), ...(outcome.messages ?? [])]
}

/** What commands that ended, or were ended, left half done: said by every scan until somebody finds out. */
export function leftHalfDone(claims: readonly ClaimRecord[]): Message[] {
  return claims
    .filter(({ state }) => state === 'released')
    .flatMap(claim => claim.doubts.map(doubt => halfDone(claim, doubt)))
}

function halfDone({ domain, verb }: ClaimRecord, doubt: Doubt): Message {
  const why = `${domain}: ${whatWasLeft(doubt)} (${verb}, since ${doubt.since})`
  return warning(
    why,
    `find out and finish it with: havirt claim takeover ${domain}; so does any other command on ${domain}`,
  )
}

function whoLeft(record: ClaimRecord, from: ClaimRecord | undefined): string {
  if (from === undefined) return `an earlier command on ${record.domain} was cut off before its end was seen`
  return `took over the claim of ${ownerText(from)}, which gave no sign of life: ${from.verb}, since ${from.since}`
}

function whatWasLeft({ node, step, command, notBegun = [] }: Doubt): string {
  const what = step === undefined ? command : describeStep(step)
  const after = notBegun.length === 0 ? '' : `; not begun: ${notBegun.join('; ')}`
  return `left half done on ${node}: ${what}${after}`
}

function inDoubt({ node, command }: Doubt): SilentNode {
  return {
    state: 'busy',
    reason: `a command that was sent to ${node} earlier may still be carried out there: ${command}`,
    hint: `look on ${node} for a virsh that hangs, or wait for it to end, then try again`,
  }
}
