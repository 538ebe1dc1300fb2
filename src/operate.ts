/**
 * The pipeline of every verb that changes a domain: claim -> observe -> plan -> check -> show | execute -> record.
 * It reaches the world through three seams only, Nodes, Store and Clock, and so runs on a simulated one unchanged.
 */
import { type Cluster, type Identity, identityOf, presentTwice, sightingsOf } from './core/cluster.ts'
import { script } from './core/command.ts'
import { diskIdentity, exclusiveDisks } from './core/domain-xml.ts'
import { violations } from './core/invariants.ts'
import type { Node, NodeRecord, SilentNode } from './core/node.ts'
import type { Plan } from './core/plan/plan.ts'
import { type Refusal, refuse, refuseSilent } from './core/refusal.ts'
import { nodesOf, type Step } from './core/step.ts'
import { type Execution, executeSteps, type Interrupt } from './execute.ts'
import { guardComment } from './nodes/guard.ts'
import type { Look, Nodes } from './nodes/nodes.ts'
import type { Inquiry } from './nodes/session.ts'
import { exitStatus, failure, note, type Progress, type Report, refusedReport } from './report.ts'
import {
  type Claim,
  ClaimLostError,
  type ClaimRecord,
  type ClaimRequest,
  type Claims,
  ownerText,
} from './store/claims.ts'
import type { Clock } from './store/clock.ts'
import type { Home } from './store/home.ts'

/** Everything an operation works with. Made in assemble.ts, or by a test. */
export interface Parts {
  readonly home: Home
  readonly nodes: Nodes
  readonly claims: Claims
  readonly clock: Clock
  /** The id of the node that this machine is, if it is one. */
  readonly hereId?: string
  readonly progress: Progress
  readonly interrupt: Interrupt
}

/** A change of one domain, as a verb describes it. */
export interface DomainChange {
  readonly domain: string
  /** The words of the command, shown to whoever the claim keeps out. */
  readonly verb: string
  /** Pure: the plan for what was observed. */
  plan(cluster: Cluster): Plan
  /** What the second look must ask of which node, judged by the first. */
  inquire?(cluster: Cluster): ReadonlyMap<string, Inquiry>
}

/** How a door wants it done. */
export interface Mode {
  /** Act; otherwise only show. */
  readonly act: boolean
  /** "Already so" is success. */
  readonly ensure: boolean
}

/** How often a look is repeated because the domain moved meanwhile, and how long it is given to come to rest. */
const LOOKS = 5
const REST_MS = 300

/** Shows or carries out a change of one domain. Rejects only when the store or havirt itself fails. */
export async function changeDomain(parts: Parts, change: DomainChange, mode: Mode): Promise<Report> {
  if (!mode.act) return showChange(parts, change, mode)
  const identity = await identify(parts, change.domain)
  if (identity === undefined) return changeUnknown(parts, change, mode)
  const acquired = await parts.claims.acquire(await claimRequest(parts, identity, change.verb))
  if ('heldBy' in acquired) return refusedReport([claimedRefusal(change.domain, acquired.heldBy)])
  return underClaim(acquired.claim, async claim => {
    const unsettled = await raiseDoubted(parts, claim)
    const planned = await observeAndPlan(parts, change, unsettled)
    if (planned.plan.kind !== 'steps') return planReport(planned.plan, mode)
    // The claim is on the identity of a moment ago; a definition that was replaced since then is not under it.
    if (!planned.plan.steps.every(each => isClaimed(identity, planned.cluster, each)))
      return refusedReport([refuse('changing', { domain: change.domain })])
    const gone = doubtsElsewhere(planned, unsettled)
    if (gone.length > 0) return refusedReport(gone)
    const wrong = violations(planned.cluster, planned.plan.steps)
    if (wrong.length > 0) return brokenPlan(wrong)
    const execution = await executeSteps(parts, claim, planned.cluster, planned.plan.steps)
    return executionReport(execution, planned.plan.notes)
  })
}

/** True when the claim covers what the step brings to life or moves: its uuid, its name, and every disk that only it may write. */
function isClaimed(identity: Identity & { uuid: string }, cluster: Cluster, one: Step): boolean {
  if (one.uuid !== identity.uuid || one.domain !== identity.name) return false
  if (one.step !== 'createDomain') return true
  const defined = cluster.definitions.get(one.domain)?.domain
  const claimed = new Set(identity.disks.map(disk => diskIdentity(disk.source)))
  return defined !== undefined && exclusiveDisks(defined).every(disk => claimed.has(diskIdentity(disk.source)))
}

/** A command in doubt on a machine that is no node any more cannot be waited for, and nobody looks there: nothing may start. */
function doubtsElsewhere(
  { cluster, plan }: { cluster: Cluster; plan: Plan },
  unsettled: ReadonlyMap<string, SilentNode>,
): Refusal[] {
  const starts =
    plan.kind === 'steps' && plan.steps.some(each => each.step === 'createDomain' || each.step === 'resumeDomain')
  const removed = [...unsettled].filter(([name]) => starts && !cluster.nodes.has(name))
  return removed.map(([node, seen]) => refuseSilent(node, seen))
}

/** Runs `work` under the claim and releases it whatever happens; a claim that was lost needs no release. */
export async function underClaim(claim: Claim, work: (claim: Claim) => Promise<Report>): Promise<Report> {
  try {
    return await work(claim)
  } catch (error) {
    if (!(error instanceof ClaimLostError)) throw error
    return {
      exit: exitStatus.unknown,
      messages: [failure(error.message, 'havirt started nothing more; look what is true now: havirt node scan')],
    }
  } finally {
    await claim.release().catch(() => undefined)
  }
}

/** Nobody knew the domain, so there is nothing to claim; if it appears now, nothing is done to it without a claim. */
async function changeUnknown(parts: Parts, change: DomainChange, mode: Mode): Promise<Report> {
  const report = await showChange(parts, change, mode)
  return report.script === undefined ? report : refusedReport([refuse('changing', { domain: change.domain })])
}

async function showChange(parts: Parts, change: DomainChange, mode: Mode): Promise<Report> {
  const { plan, cluster } = await observeAndPlan(parts, change)
  if (plan.kind !== 'steps') return planReport(plan, mode)
  const wrong = violations(cluster, plan.steps)
  if (wrong.length > 0) return brokenPlan(wrong)
  const lines = script(plan.steps, parts.home.config.libvirt.uri, cluster.here)
  const acts = plan.steps.some(each => nodesOf(each).length > 0)
  return { exit: exitStatus.done, script: [...(acts ? guardComment() : []), ...lines], messages: plan.notes.map(note) }
}

function planReport(plan: Exclude<Plan, { kind: 'steps' }>, mode: Mode): Report {
  if (plan.kind === 'refused') return refusedReport(plan.refusals)
  const report = refusedReport([plan.refusal])
  if (!mode.ensure) return report
  return { exit: exitStatus.done, messages: [note(`nothing to do: ${report.messages[0]?.text}`)] }
}

/** The planner made a plan that the rules forbid: a defect of havirt, stopped by the checker before it could do harm. */
function brokenPlan(wrong: readonly { rule: number; problem: string }[]): Report {
  const messages = wrong.map(({ rule, problem }) =>
    failure(
      `the plan would break safety rule ${rule}: ${problem}`,
      'nothing was done; this is a defect of havirt, please report it',
    ),
  )
  return { exit: exitStatus.failed, messages }
}

function executionReport(execution: Execution, notes: readonly string[]): Report {
  return { exit: execution.exit, results: execution.results, messages: [...notes.map(note), ...execution.messages] }
}

/**
 * Where a command could not be seen to its end, raises the guard on its node first: it waits for what still runs there (rule 12).
 * Gives back the nodes where that failed, with what they may still do.
 */
async function raiseDoubted(parts: Parts, claim: Claim): Promise<ReadonlyMap<string, SilentNode>> {
  const { doubts, generation, uuid } = claim.record
  const records = await parts.home.records.nodes()
  const unsettled = new Map<string, SilentNode>()
  for (const { node, command } of doubts) {
    if (unsettled.has(node)) continue
    const record = records.get(node)
    const exit =
      record === undefined ? undefined : await parts.nodes.raise(record, { uuid, generation, nodeId: record.id })
    if (exit?.status === 0) claim.settled(node)
    else unsettled.set(node, inDoubt(node, command))
  }
  return unsettled
}

/** The same, as sentences for what could not be settled. */
export async function settleDoubts(parts: Parts, claim: Claim): Promise<string[]> {
  return [...(await raiseDoubted(parts, claim)).values()].map(({ reason }) => reason)
}

function inDoubt(node: string, command: string): SilentNode {
  return {
    state: 'busy',
    reason: `a command that was sent to ${node} earlier may still be carried out there: ${command}`,
    hint: `look on ${node} for a virsh that hangs, or wait for it to end, then try again`,
  }
}

/** The identity to claim: what runs says more than what is defined. Undefined when nobody knows the domain. */
export async function identify(parts: Parts, name: string): Promise<(Identity & { uuid: string }) | undefined> {
  const cluster = await observeOnce(parts)
  const seen = sightingsOf(cluster, { name }).sort((a, b) => Number(b.domain.active) - Number(a.domain.active))[0]
    ?.domain
  const defined = cluster.definitions.get(name)?.domain
  const described = seen?.active ? (seen.definition ?? defined) : (defined ?? seen?.definition)
  const uuid = seen?.active ? seen.uuid : (defined?.uuid ?? seen?.uuid)
  if (uuid === undefined) return undefined
  return { ...(described === undefined ? { disks: [] } : identityOf(described)), name, uuid }
}

export async function claimRequest(
  parts: Parts,
  identity: Identity & { uuid: string },
  verb: string,
): Promise<ClaimRequest> {
  const here = hereAmong(await parts.home.records.nodes(), parts.hereId)
  return { identity, verb, ...(here === undefined ? {} : { node: here }) }
}

export function claimedRefusal(domain: string, by: ClaimRecord) {
  return refuse('claimed', { domain, owner: ownerText(by), since: by.since, verb: by.verb })
}

/** `unsettled` nodes count as unknown whatever they answer: what they show now may not be the end of it (rule 12). */
async function observeAndPlan(
  parts: Parts,
  change: DomainChange,
  unsettled: ReadonlyMap<string, SilentNode> = new Map(),
): Promise<{ cluster: Cluster; plan: Plan }> {
  const observed = await observeTwice(parts, change.domain, change.inquire)
  if (observed === 'changing') {
    const plan: Plan = { kind: 'refused', refusals: [refuse('changing', { domain: change.domain })] }
    return { cluster: await observeOnce(parts), plan }
  }
  const nodes = new Map(
    [...observed.nodes].map(([name, node]) => [name, { ...node, seen: unsettled.get(name) ?? node.seen }]),
  )
  const cluster = { ...observed, nodes }
  return { cluster, plan: change.plan(cluster) }
}

/** A look at every node: for showing, and for what no decision rests on. */
export async function observeOnce(parts: Parts): Promise<Cluster> {
  const records = await parts.home.records.nodes()
  return completeCluster(parts, records, await observeNodes(parts, [...records.values()]))
}

/** A look at these nodes. What seems to run twice is looked at again: a healthy migration can look like that once (rule 5). */
export async function observeNodes(parts: Parts, records: readonly NodeRecord[]): Promise<ReadonlyMap<string, Node>> {
  const nodes = joinNodes(records, await parts.nodes.look(records))
  if (presentTwice({ nodes }).every(({ migrating }) => migrating)) return nodes
  return joinNodes(records, await parts.nodes.look(records))
}

/**
 * Rule 5: two looks, the second begun when every node had answered the first, with no lifecycle event of the domain in between.
 * A node that was silent in the first stays silent: it would count as unknown anyway, and need not be waited for twice.
 */
async function observeTwice(
  parts: Parts,
  domain: string,
  inquire?: DomainChange['inquire'],
): Promise<Cluster | 'changing'> {
  for (let attempt = 0; attempt < LOOKS; attempt++) {
    const records = await parts.home.records.nodes()
    const first = await parts.nodes.look([...records.values()])
    const cluster = await completeCluster(parts, records, joinNodes([...records.values()], first))
    const answered = [...records.values()].filter(({ name }) => first.seen.get(name)?.state === 'up')
    const second = await parts.nodes.look(answered, inquire?.(cluster))
    const uuid = cluster.definitions.get(domain)?.domain?.uuid
    if (!first.movedSince({ name: domain, ...(uuid === undefined ? {} : { uuid }) })) {
      const seen = new Map([...first.seen, ...second.seen])
      return completeCluster(parts, records, joinNodes([...records.values()], { seen }))
    }
    await parts.clock.sleep(REST_MS)
  }
  return 'changing'
}

function joinNodes(records: readonly NodeRecord[], { seen }: Pick<Look, 'seen'>): Map<string, Node> {
  const nodes = records.flatMap(record => {
    const answer = seen.get(record.name)
    return answer === undefined ? [] : [[record.name, { name: record.name, record, seen: answer }] as const]
  })
  return new Map(nodes)
}

async function completeCluster(
  parts: Parts,
  records: ReadonlyMap<string, NodeRecord>,
  nodes: ReadonlyMap<string, Node>,
): Promise<Cluster> {
  const [definitions, domains] = await Promise.all([parts.home.definitions.all(), parts.home.records.domains()])
  const here = hereAmong(records, parts.hereId)
  return { nodes, definitions, records: domains, config: parts.home.config, ...(here === undefined ? {} : { here }) }
}

/** The name of the node that this machine is. */
export function hereAmong(records: ReadonlyMap<string, NodeRecord>, hereId: string | undefined): string | undefined {
  return [...records.values()].find(({ id }) => id === hereId)?.name
}
