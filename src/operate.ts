/**
 * The pipeline of every verb that changes a domain: claim -> observe -> plan -> check -> show | execute -> record.
 * It reaches the world through three seams only, Nodes, Store and Clock, and so runs on a simulated one unchanged.
 */
import { type Cluster, type Identity, identityOf, namesOfDisks, sightingsOf } from './core/cluster.ts'
import { script } from './core/command.ts'
import type { Disk } from './core/domain.ts'
import { exclusiveDisks, isDomainName } from './core/domain-xml.ts'
import { violations } from './core/invariants.ts'
import type { Ledger, Reservation } from './core/ledger.ts'
import { isConfirmedDown, type Node, type NodeRecord, type SilentNode } from './core/node.ts'
import type { Plan } from './core/plan/plan.ts'
import { type Refusal, refuse, refuseSilent } from './core/refusal.ts'
import { arrivalOf, nodesOf, type Step } from './core/step.ts'
import { type Execution, executeSteps, type Interrupt } from './execute.ts'
import { rememberLeases, withLeaseKnowledge, withLeases } from './lease-memory.ts'
import { powerProblem } from './nodes/fence.ts'
import { guardComment } from './nodes/guard.ts'
import type { Nodes } from './nodes/nodes.ts'
import type { Inquiry } from './nodes/session.ts'
import { clusterOf, heldReservations, hereAmong, observeOnce } from './observe.ts'
import { exitStatus, failure, type Message, note, type Progress, type Report, refusedReport } from './report.ts'
import { type Claim, ClaimLostError } from './store/claim.ts'
import { type ClaimRecord, ownerText } from './store/claim-record.ts'
import type { Acquired, ClaimRequest, Claims, Patience } from './store/claims.ts'
import type { Clock } from './store/clock.ts'
import type { Home } from './store/home.ts'
import { type Left, takeUp } from './take-up.ts'

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
  /** The node that was named to receive it: room is reserved there before the look that checks it. */
  readonly target?: string
  /** Pure: the plan for what was observed. */
  plan(cluster: Cluster): Plan
  /** What the second look must ask of which node, judged by the first. */
  inquire?(cluster: Cluster): ReadonlyMap<string, Inquiry>
  /** It may go past nodes that do not answer, by leases, where that is allowed. */
  readonly passes?: true
  /** It judges by leases what is left on a node that was passed. */
  readonly judges?: true
  /** A migration that a dead command left under way is ended, not waited for. */
  readonly endsMigration?: true
}

/** How a door wants it done. */
export interface Mode {
  /** Act; otherwise only show. */
  readonly act: boolean
  /** "Already so" is success. */
  readonly ensure: boolean
  /** How long to try again when something that passes by itself stands in the way. */
  readonly waitMs: number
}

type ClaimIdentity = Identity & { readonly uuid: string }

/** How often a look is repeated because the domain moved meanwhile, and how long it is given to come to rest. */
const LOOKS = 5
const REST_MS = 300
/** How often another claim is taken, since the domain turned out not to be what the first was taken for. */
const OTHER_CLAIMS = 3
/** How often a change is tried again while `--wait` lasts. */
const RETRY_MS = 1000
/** What passes by itself. */
function passes(refusal: Refusal): boolean {
  const { reason } = refusal
  if (reason === 'presentTwice') return refusal.migrating
  return reason === 'claimed' || reason === 'changing' || reason === 'migrating'
}

/** Shows or carries out a change of one domain. Rejects only when the store or havirt itself fails. */
export async function changeDomain(parts: Parts, change: DomainChange, mode: Mode): Promise<Report> {
  if (!mode.act) return showChange(parts, change, mode)
  const untilMs = parts.clock.monotonicMs() + mode.waitMs
  for (let earlier: Report | undefined; ; ) {
    const report = withEarlier(earlier, await attempt(parts, change, mode, untilMs))
    const mayPass = report.refusals?.every(passes) === true
    const isOver = parts.clock.monotonicMs() + RETRY_MS > untilMs || parts.interrupt.requested()
    if (!mayPass || isOver) return report
    earlier = report
    await parts.clock.sleep(RETRY_MS)
  }
}

/** What was found out and put right in an earlier try is told once, with the last one; why that try was refused is not. */
function withEarlier(earlier: Report | undefined, report: Report): Report {
  const told = new Set(report.messages.map(({ text }) => text))
  const kept = earlier?.messages.filter(({ kind, text }) => kind !== 'refused' && !told.has(text)) ?? []
  return { ...report, messages: [...kept, ...report.messages] }
}

/** One try. The claim is asked for by what conf/ says; where a node shows the domain to be something else, once more by that. */
async function attempt(
  parts: Parts,
  change: DomainChange,
  mode: Mode,
  untilMs: number,
  known?: ClaimIdentity,
  again = OTHER_CLAIMS,
): Promise<Report> {
  const identity = known ?? (await identify(parts, change.domain))
  if (identity === undefined) return changeUnknown(parts, change, mode)
  const records = await parts.home.records.nodes()
  parts.nodes.approach([...records.values()])
  const request = await claimRequest(parts, identity, change.verb, records)
  const { acquired, settled } = await takeClaim(parts, request, untilMs)
  if ('heldBy' in acquired) return withEarlier(settled, heldReport(change.domain, acquired.heldBy, settled))
  let other: ClaimIdentity | undefined
  const report = await underClaim(acquired.claim, async claim => {
    const left = await takeUp(parts, claim, { untilMs, endMigration: change.endsMigration === true })
    const done = await changeUnderClaim(parts, change, mode, { claim, identity, left })
    if ('otherwise' in done) other = done.otherwise
    const { messages, ...said } =
      'otherwise' in done ? refusedReport([refuse('changing', { domain: change.domain })]) : done
    return { ...said, messages: [...left.messages, ...messages] }
  })
  const told = withEarlier(settled, report)
  if (other === undefined || again === 0) return told
  return withEarlier(told, await attempt(parts, change, mode, untilMs, other, again - 1))
}

/** A claim, what it is on, and what its earlier holders left. */
interface Holding {
  readonly claim: Claim
  readonly identity: ClaimIdentity
  readonly left: Left
}

/** `otherwise`: the domain is not what the claim was taken for, and nothing was done. */
async function changeUnderClaim(
  parts: Parts,
  change: DomainChange,
  mode: Mode,
  holding: Holding,
): Promise<Report | { readonly otherwise: ClaimIdentity | undefined }> {
  const { left } = holding
  if (left.refusals.length > 0) return refusedReport(left.refusals)
  if (left.exit !== undefined) return { exit: left.exit, messages: [] }
  const { told, ...planned } = await planWithRoom(parts, change, holding)
  const done = await changeAsPlanned(parts, change, mode, holding, planned)
  return 'otherwise' in done ? done : { ...done, messages: [...told, ...done.messages] }
}

async function changeAsPlanned(
  parts: Parts,
  change: DomainChange,
  mode: Mode,
  { claim, identity, left }: Holding,
  planned: Planned,
): Promise<Report | { readonly otherwise: ClaimIdentity | undefined }> {
  const { plan, cluster } = planned
  if (plan.kind !== 'steps') return planReport(plan, mode)
  const unclaimed = plan.steps.find(each => !isClaimed({ claim, identity }, cluster, each))
  if (unclaimed !== undefined) {
    await rememberNames(parts, claim, cluster, unclaimed)
    return { otherwise: identityIn(cluster, change.domain, unclaimed.uuid) }
  }
  const wrong = violations(cluster, plan.steps)
  if (wrong.length > 0) return brokenPlan(wrong)
  const refusals = [...doubtsElsewhere(planned, left.unsettled), ...(await lapsedFences(parts, planned))]
  if (refusals.length > 0) return refusedReport(refusals)
  const execution = await executeSteps(parts, claim, cluster, plan.steps)
  await rememberLeases(parts, cluster, plan.steps.flatMap(nodesOf))
  return executionReport(execution, plan.notes)
}

/**
 * True when the claim covers what the step brings to life or moves: its uuid, its name, and every disk that only it may write, by
 * whatever name nodes know it. By the text of its path alone, two definitions could name one disk in two ways, under two claims.
 */
function isClaimed({ claim, identity }: Pick<Holding, 'claim' | 'identity'>, cluster: Cluster, one: Step): boolean {
  if (one.uuid !== identity.uuid || one.domain !== identity.name) return false
  const needed = disksOf(cluster, one)
  return needed !== undefined && namesOfDisks(cluster, needed).every(names => names.every(name => claim.covers(name)))
}

/** What was found out about the disks' names is there for the next claim to cover. */
async function rememberNames(parts: Parts, claim: Claim, cluster: Cluster, one: Step): Promise<void> {
  for (const [disk, ...names] of namesOfDisks(cluster, disksOf(cluster, one) ?? []))
    if (names.length > 0) await parts.claims.remember(claim, disk, names)
}

/** The disks that only the domain may write once it is started, by its definition, or moved or let run on, by what it has now. */
function disksOf(cluster: Cluster, one: Step): readonly Disk[] | undefined {
  const { step: name, domain, uuid } = one
  if (name === 'createDomain') {
    const defined = cluster.definitions.get(domain)?.domain
    return defined === undefined ? undefined : exclusiveDisks(defined)
  }
  if (name !== 'migrateDomain' && name !== 'resumeDomain') return []
  const live = sightingsOf(cluster, { name: domain, uuid }).find(each => each.domain.active)?.domain.definition
  return live === undefined ? [] : exclusiveDisks(live)
}

/** True when the plan lets a domain run that did not. */
function givesLife(plan: Plan): boolean {
  return plan.kind === 'steps' && plan.steps.some(({ step }) => step === 'createDomain' || step === 'resumeDomain')
}

/** A command in doubt on a machine that is no node any more cannot be waited for, and nobody looks there: nothing may start. */
function doubtsElsewhere({ cluster, plan }: Planned, unsettled: ReadonlyMap<string, SilentNode>): Refusal[] {
  const removed = [...unsettled].filter(([name]) => givesLife(plan) && !cluster.nodes.has(name))
  return removed.map(([node, seen]) => refuseSilent(node, seen))
}

/** A start that relies on a fenced node asks its fence device once more: somebody may have given it power since. */
async function lapsedFences(parts: Parts, { cluster, plan }: Planned): Promise<Refusal[]> {
  if (!givesLife(plan)) return []
  const fenced = [...cluster.nodes.values()].filter(node => isConfirmedDown(node) && node.ledger.down?.how === 'fence')
  const refusals = await Promise.all(fenced.map(node => lapsedFence(parts, node)))
  return refusals.filter(refusal => refusal !== undefined)
}

async function lapsedFence(parts: Parts, { name: node, ledger }: Node): Promise<Refusal | undefined> {
  const said = await powerProblem(parts.nodes, parts.home.config, node)
  if (said === undefined) return undefined
  // Only the mark that was asked about: a person may have given a word of their own since.
  const isIt = (down: Ledger['down']) => down?.since === ledger.down?.since && down?.by === ledger.down?.by
  await parts.home.records.changeLedger(node, ({ down, ...rest }) =>
    down === undefined || isIt(down) ? rest : { ...rest, down },
  )
  return refuse('fenceLapsed', { node, said })
}

/** Runs `work` under the claim and releases it whatever happens; a claim that was lost needs no release. */
export async function underClaim(claim: Claim, work: (claim: Claim) => Promise<Report>): Promise<Report> {
  void claim.keepAlive()
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

/** How often another domain's doubts are settled because they stand in the way of ours. */
const SETTLEMENTS = 3

/** What came of asking for a claim, and what was found out on the way about another domain's. */
interface Taken {
  readonly acquired: Acquired
  readonly settled: Report | undefined
}

/** The claim; where another domain's dead claim left commands in doubt on our name or disks, they are settled first. */
async function takeClaim(parts: Parts, request: ClaimRequest, untilMs: number): Promise<Taken> {
  let settled: Report | undefined
  for (let turn = 0; ; turn++) {
    const acquired = await acquire(parts, request, untilMs)
    if ('claim' in acquired || acquired.heldBy.state === 'held' || turn === SETTLEMENTS) return { acquired, settled }
    settled = await settleOther(parts, request, acquired.heldBy)
    if (settled.exit !== exitStatus.done) return { acquired, settled }
  }
}

/** Why the claim was not to be had: somebody works under it, or another domain's left a command in doubt. */
function heldReport(domain: string, by: ClaimRecord, settled: Report | undefined): Report {
  const [doubt] = by.doubts
  if (by.state === 'held' || doubt === undefined) return refusedReport([claimedRefusal(domain, by)])
  const { node, command } = doubt
  const refused = refusedReport([refuse('inDoubt', { domain, other: by.domain, node, command })])
  return settled?.exit === exitStatus.twice ? { ...refused, exit: exitStatus.twice } : refused
}

/** Asks for the claim, and shows for whom it waits. */
export async function acquire(parts: Parts, request: ClaimRequest, untilMs: number): Promise<Acquired> {
  let bar: ReturnType<Progress['begin']> | undefined
  const patience: Patience = {
    waitMs: Math.max(0, untilMs - parts.clock.monotonicMs()),
    waiting: (holder, seconds) => {
      bar ??= parts.progress.begin(`${holder.domain} is claimed by ${ownerText(holder)} (${holder.verb})`)
      bar.update(0, `dead if it is silent for ${seconds} s more`)
    },
  }
  return parts.claims.acquire(request, patience).finally(() => bar?.end('waited'))
}

/** Settles another domain's doubts. `done`: nothing of it is in doubt any more, or somebody else works on it now. */
async function settleOther(
  parts: Parts,
  request: ClaimRequest,
  { domain, uuid }: Pick<ClaimRecord, 'domain' | 'uuid'>,
): Promise<Report> {
  const acquired = await parts.claims.acquire({ ...request, identity: { name: domain, uuid, disks: [] } })
  if ('heldBy' in acquired)
    return { exit: acquired.heldBy.uuid === uuid ? exitStatus.done : exitStatus.refused, messages: [] }
  return underClaim(acquired.claim, async claim => {
    const left = await takeUp(parts, claim, { untilMs: 0, endMigration: false })
    const open = left.unsettled.size + left.refusals.length > 0
    return { exit: left.exit ?? (open ? exitStatus.refused : exitStatus.done), messages: left.messages }
  })
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
  const messages = [...(await inDoubtNotes(parts, plan.steps)), ...plan.notes.map(note)]
  return { exit: exitStatus.done, script: [...(acts ? guardComment() : []), ...lines], messages }
}

/** What execution would have to find out first. */
async function inDoubtNotes(parts: Parts, steps: readonly Step[]): Promise<Message[]> {
  const uuids = new Set(steps.map(({ uuid }) => uuid))
  const left = (await parts.claims.list()).filter(({ uuid, doubts }) => uuids.has(uuid) && doubts.length > 0)
  return left.flatMap(claim =>
    claim.doubts.map(({ node, command }) =>
      note(`with -y havirt first finds out what became of a command of ${ownerText(claim)} on ${node}: ${command}`),
    ),
  )
}

function planReport(plan: Exclude<Plan, { kind: 'steps' }>, mode: Mode): Report {
  if (plan.kind === 'refused') return refusedReport(plan.refusals)
  const report = refusedReport([plan.refusal])
  if (!mode.ensure) return report
  return { exit: exitStatus.done, messages: [note(`nothing to do: ${report.messages[0]?.text}`)] }
}

/** The planner made a plan that the rules forbid: a defect of havirt, stopped by the checker before it could do harm. */
export function brokenPlan(wrong: readonly { rule: number; problem: string }[]): Report {
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

/** The identity to claim: by the definition, and without one by what a look shows. Undefined when nobody knows the domain. */
export async function identify(parts: Parts, name: string): Promise<ClaimIdentity | undefined> {
  const defined = isDomainName(name) ? (await parts.home.definitions.read(name))?.domain : undefined
  if (defined?.name === name) return { ...identityOf(defined), uuid: defined.uuid }
  return identityIn(await observeOnce(parts), name)
}

/** The identity by what was seen: what runs says more than what is defined. With `known`, that of this uuid only. */
function identityIn(cluster: Cluster, name: string, known?: string): ClaimIdentity | undefined {
  const isIt = ({ uuid }: { uuid: string }) => known === undefined || uuid === known
  const shown = sightingsOf(cluster, { name }).filter(({ domain }) => isIt(domain))
  const seen = shown.sort((a, b) => Number(b.domain.active) - Number(a.domain.active))[0]?.domain
  const definition = cluster.definitions.get(name)?.domain
  const defined = definition !== undefined && isIt(definition) ? definition : undefined
  const described = seen?.active ? (seen.definition ?? defined) : (defined ?? seen?.definition)
  const uuid = seen?.active ? seen.uuid : (defined?.uuid ?? seen?.uuid)
  if (uuid === undefined) return undefined
  return { ...(described === undefined ? { disks: [] } : identityOf(described)), name, uuid }
}

/** `records`: the nodes, where they were read already. */
export async function claimRequest(
  parts: Parts,
  identity: ClaimIdentity,
  verb: string,
  records?: ReadonlyMap<string, NodeRecord>,
): Promise<ClaimRequest> {
  const here = hereAmong(records ?? (await parts.home.records.nodes()), parts.hereId)
  return { identity, verb, ...(here === undefined ? {} : { node: here }) }
}

export function claimedRefusal(domain: string, by: ClaimRecord) {
  return refuse('claimed', { domain, owner: ownerText(by), since: by.since, verb: by.verb })
}

interface Planned {
  readonly cluster: Cluster
  readonly plan: Plan
}

/** The plan; where room that dead commands had reserved stood in its way, once more when what they left in doubt is settled. */
async function planWithRoom(parts: Parts, change: DomainChange, holding: Holding): Promise<Planned & Told> {
  const planned = await observeAndPlan(parts, change, holding)
  if (planned.plan.kind !== 'refused' || !planned.plan.refusals.some(lacksReserved)) return { ...planned, told: [] }
  const reserved = [...planned.cluster.nodes.values()].flatMap(({ ledger }) => ledger.reservations)
  const others = reserved.filter(({ token }) => token !== holding.claim.record.token)
  const alive = await Promise.all(others.map(({ uuid, token }) => parts.claims.isAlive(uuid, token)))
  const dead = others.filter((_, at) => !alive[at])
  if (dead.length === 0) return { ...planned, told: [] }
  const request = await claimRequest(parts, holding.identity, change.verb)
  const told: Message[] = []
  for (const each of dead) told.push(...(await settleOther(parts, request, each)).messages)
  return { ...(await observeAndPlan(parts, change, holding)), told }
}

interface Told {
  /** What was found out and put right on the way. */
  readonly told: readonly Message[]
}

function lacksReserved(refusal: Refusal): boolean {
  return (refusal.reason === 'memory' || refusal.reason === 'vcpus') && refusal.reserved.length > 0
}

/**
 * Rule 5: two looks, the second begun when every node had answered the first, with no lifecycle event of the domain in between.
 * A node that was silent in the first stays silent: it would count as unknown anyway, and need not be waited for twice. Only one
 * that is confirmed down, and so relied upon by what gives life to a domain, is asked again.
 * Under a claim, the room that the plan takes is reserved before the second look checks it (rule 8).
 */
async function observeAndPlan(parts: Parts, change: DomainChange, holding?: Holding): Promise<Planned> {
  const reserved: Reserved = new Map()
  for (let turn = 0; turn < LOOKS; turn++) {
    const planned = await lookAndPlan(parts, change, holding, reserved)
    if (planned !== 'again') return planned
    await parts.clock.sleep(REST_MS)
  }
  const plan: Plan = { kind: 'refused', refusals: [refuse('changing', { domain: change.domain })] }
  return { cluster: await observeOnce(parts), plan }
}

async function lookAndPlan(
  parts: Parts,
  change: DomainChange,
  holding: Holding | undefined,
  reserved: Reserved,
): Promise<Planned | 'again'> {
  const records = await parts.home.records.nodes(holding === undefined ? undefined : 'fresh')
  const first = await parts.nodes.look([...records.values()])
  const before = withDoubts(await clusterOf(parts, records, first.seen), holding)
  const firstPlan = holding === undefined ? undefined : change.plan(before)
  const room = change.target === undefined ? arrivals(firstPlan) : [change.target]
  if (holding !== undefined) await reserve(parts, holding.claim, before, room, reserved)
  const relied =
    firstPlan !== undefined && givesLife(firstPlan) ? [...before.nodes.values()].filter(isConfirmedDown) : []
  const again = new Set(relied.map(({ name }) => name))
  const second = await parts.nodes.look(
    [...records.values()].filter(({ name }) => again.has(name) || first.seen.get(name)?.state === 'up'),
    change.inquire?.(before),
  )
  const uuid = before.definitions.get(change.domain)?.domain?.uuid
  if (first.movedSince({ name: change.domain, ...(uuid === undefined ? {} : { uuid }) })) return 'again'
  const seen = new Map([...first.seen, ...second.seen])
  const looked = withReserved(withDoubts(await clusterOf(parts, records, seen), holding), reserved)
  const cluster = await withWhatLeasesSay(parts, change, looked, [...(holding?.left.unsettled.keys() ?? [])])
  const plan = change.plan(cluster)
  if (holding === undefined || arrivals(plan).every(node => reserved.has(node))) return { cluster, plan }
  // Only the second look knew enough for this plan. It is checked once more, with its room reserved.
  await reserve(parts, holding.claim, cluster, arrivals(plan), reserved)
  return 'again'
}

async function withWhatLeasesSay(
  parts: Parts,
  change: DomainChange,
  cluster: Cluster,
  doubts: readonly string[],
): Promise<Cluster> {
  if (change.judges === true) return withLeaseKnowledge(parts, cluster, doubts)
  return change.passes === true ? withLeases(parts, cluster, doubts) : cluster
}

/**
 * Nodes with a command in doubt count as unknown whatever they answer: what they show now may not be the end of it (rule 12).
 * One that is confirmed down stays so, unless it answers.
 */
function withDoubts(cluster: Cluster, holding: Holding | undefined): Cluster {
  if (holding === undefined) return cluster
  const { unsettled, parked } = holding.left
  const nodes = [...cluster.nodes].map(([name, node]) => {
    const back = node.seen.state === 'unreachable' ? undefined : parked.get(name)
    return [name, { ...node, seen: unsettled.get(name) ?? back ?? node.seen }] as const
  })
  return { ...cluster, nodes: new Map(nodes) }
}

/** What was reserved on nodes when we reserved there, ours last. */
type Reserved = Map<string, Ledger['reservations']>

/**
 * The room that others had taken before the look began: one whose domain came to life and whose claim ended since then is neither
 * in the look nor in the ledger any more.
 */
function withReserved(cluster: Cluster, reserved: Reserved): Cluster {
  const nodes = [...cluster.nodes].map(([name, node]) => {
    const { reservations } = node.ledger
    return [name, { ...node, ledger: { ...node.ledger, reservations: reserved.get(name) ?? reservations } }] as const
  })
  return { ...cluster, nodes: new Map(nodes) }
}

/** The nodes on which a plan takes room. */
function arrivals(plan: Plan | undefined): string[] {
  return plan?.kind === 'steps' ? plan.steps.flatMap(one => arrivalOf(one) ?? []) : []
}

/** Writes into the ledger of each node that is about to receive the domain how much room that takes, until the claim ends. */
async function reserve(
  parts: Parts,
  claim: Claim,
  cluster: Cluster,
  nodes: readonly string[],
  reserved: Reserved,
): Promise<void> {
  const { token, generation, uuid, domain } = claim.record
  const ours = { token, generation, uuid, domain, ...sizeOf(cluster, domain, uuid), by: ownerText(claim.record) }
  for (const node of nodes) {
    if (reserved.has(node) || !cluster.nodes.has(node)) continue
    const { reservations } = await parts.home.records.changeLedger(node, each =>
      withReservation(parts, node, each, ours),
    )
    reserved.set(node, reservations)
  }
}

/** Others' reservations that are over go at the same time. */
async function withReservation(parts: Parts, node: string, ledger: Ledger, ours: Reservation): Promise<Ledger> {
  const held = await heldReservations(parts, node, ledger)
  return { ...ledger, reservations: [...held.filter(({ uuid }) => uuid !== ours.uuid), ours] }
}

/** What runs says how large it is; what does not run yet, its definition. */
function sizeOf(cluster: Cluster, name: string, uuid: string): { memoryMiB: number; vcpus: number } {
  const running = sightingsOf(cluster, { name, uuid }).find(({ domain }) => domain.active)?.domain
  const { memoryMiB, vcpus } = running ?? cluster.definitions.get(name)?.domain ?? { memoryMiB: 0, vcpus: 0 }
  return { memoryMiB, vcpus }
}
