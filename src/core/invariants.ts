/**
 * Checks any list of steps against the safety rules (docs/safety.md). It does not trust the planners and never imports them:
 * each rule is written down here a second time, so that one mistake is not enough.
 */
import type { Cluster } from './cluster.ts'
import type { Domain } from './domain.ts'
import { diskIdentity, exclusiveDisks } from './domain-xml.ts'
import { applyStep } from './effect.ts'
import type { Ledger } from './ledger.ts'
import type { DomainOnNode, UpNode } from './node.ts'
import type { Step } from './step.ts'

/** A rule of docs/safety.md, by its number, and how the plan would break it. */
export interface Violation {
  readonly rule: number
  readonly problem: string
}

/** Every way in which carrying out the steps, one after the other, would break a rule; empty for a sound plan. */
export function violations(cluster: Cluster, steps: readonly Step[]): Violation[] {
  const found: Violation[] = []
  let now = cluster
  for (const [at, one] of steps.entries()) {
    found.push(...stepViolations(now, one, steps.slice(0, at)))
    now = applyStep(now, one)
    found.push(...overcommitted(cluster, now))
  }
  return found
}

function stepViolations(cluster: Cluster, one: Step, before: readonly Step[]): Violation[] {
  switch (one.step) {
    case 'createDomain':
      return [
        ...everyNodeHeard(cluster, one.domain, before),
        ...nobodyHas(cluster, one),
        ...nobodyWakes(cluster, one),
        ...definitionIsKnown(cluster, one),
        ...mayReceive(cluster, one.node, one.domain),
      ]
    case 'resumeDomain':
      return [
        ...everyNodeHeard(cluster, one.domain, []),
        ...notLeftOver(cluster, one.node, one),
        ...activeOnlyOn(cluster, one.uuid, one.domain, one.node),
        ...nobodyElseHas(cluster, one),
      ]
    case 'migrateDomain':
      return [
        ...keepsLeases(cluster, one),
        ...notLeftOver(cluster, one.from, one),
        ...activeOnlyOn(cluster, one.uuid, one.domain, one.from),
        ...canReceive(cluster, one),
        ...mayReceive(cluster, one.to, one.domain),
        ...staysAsleep(cluster, one),
      ]
    case 'abortMigration':
      return isUnderWay(cluster, one)
    case 'shutdownDomain':
    case 'destroyDomain':
      return [...activeOnlyOn(cluster, one.uuid, one.domain, one.node), ...intentRecorded(one, before)]
    case 'rebootDomain':
    case 'resetDomain':
      return [...activeOnlyOn(cluster, one.uuid, one.domain, one.node), ...notLeftOver(cluster, one.node, one)]
    case 'suspendDomain':
    case 'setMaxDowntime':
    case 'disableAutostart':
      return activeOnlyOn(cluster, one.uuid, one.domain, one.node)
    case 'undefineDomain':
      return nothingLost(cluster, one, before)
    case 'awaitHostDead':
      return mayPass(cluster, one)
    case 'destroyCopy':
      return isLeftOver(cluster, one)
    case 'acquitCopy':
      return isItself(cluster, one)
    case 'awaitShutOff':
    case 'saveDefinition':
    case 'recordIntent':
      return []
  }
}

function heard(cluster: Cluster): { name: string; seen: UpNode }[] {
  return [...cluster.nodes.values()].flatMap(({ name, seen }) => (seen.state === 'up' ? [{ name, seen }] : []))
}

/** A node that the plan waits for until sanlock counts it as dead need not be heard; {@link mayPass} judges that wait. */
function everyNodeHeard(cluster: Cluster, domain: string, before: readonly Step[]): Violation[] {
  const passed = before.flatMap(each => (each.step === 'awaitHostDead' && each.domain === domain ? [each.silent] : []))
  return [...cluster.nodes.values()]
    .filter(
      ({ name, seen, ledger }) =>
        seen.state === 'busy' ||
        (seen.state === 'unreachable' && !vouchedFor(ledger) && !passed.includes(name)) ||
        (seen.state === 'up' && seen.inquiryProblem !== undefined),
    )
    .map(({ name }) => ({ rule: 2, problem: `${domain} would run although ${name} was not heard` }))
}

/** Somebody said that it is off, and it has not answered since. */
function vouchedFor({ down }: Ledger): boolean {
  return down !== undefined && down.answered === undefined
}

/** Rule 13, and rule 2 where it is set aside by leases: every condition, written down a second time. */
function mayPass(cluster: Cluster, one: Extract<Step, { step: 'awaitHostDead' }>): Violation[] {
  const { lease } = cluster.config
  const leases = cluster.leases
  const sighting = leases?.sightings.get(one.silent)
  const seen = sighting?.domains[one.uuid]
  const written =
    cluster.definitions.get(one.domain)?.domain?.disks.filter(disk => !disk.readOnly && disk.source.kind !== 'none') ??
    []
  const isTheirs = (path: string) => {
    const record = leases?.files.get(leases.names.get(path) ?? '')?.record
    return (
      record !== undefined &&
      record.timestamp > 0 &&
      record.ownerId === one.hostId &&
      record.ownerGeneration === one.generation
    )
  }
  const covered =
    written.length > 0 &&
    written.length <= 8 &&
    written.every(({ source }) => 'path' in source && isTheirs(source.path))
  const problems: [boolean, string][] = [
    [lease.passUnreachable, 'nobody allowed that'],
    [cluster.nodes.get(one.silent)?.seen.state === 'unreachable', 'it answers'],
    [leases?.doubts.has(one.silent) === false, 'a command may still be carried out there'],
    [seen?.state === 'running' && seen.without === undefined, 'it was not seen running there with all its leases'],
    [seen?.autostart !== true, 'it starts there by itself when the node boots'],
    [sighting?.nodeId === cluster.nodes.get(one.silent)?.record.id, 'it was another machine when it was last seen'],
    [
      sighting?.hostId === one.hostId && sighting.generation === one.generation,
      'its host id was another when it was last seen',
    ],
    [
      sighting?.watchdog === true || (lease.passWithoutWatchdog && one.withoutWatchdog === true),
      'no watchdog guarded it',
    ],
    [leases?.hosts.get(one.hostId)?.generation === one.generation, 'it has joined anew since'],
    [watchesFolder(leases, one.node), `${one.node} does not watch it`],
    [covered, 'not every disk has a lease in its name'],
  ]
  return problems
    .filter(([holds]) => !holds)
    .map(([, why]) => ({ rule: 13, problem: `${one.domain} would start past ${one.silent}: ${why}` }))
}

/** It has joined the very lockspace that lies in the folder from which the leases were read. */
function watchesFolder(leases: Cluster['leases'], node: string): boolean {
  const lockspace = leases?.nodes.get(node)?.sanlock?.lockspace
  return lockspace?.state === 'joined' && lockspace.path === `${leases?.folder}/__LIBVIRT__DISKS__`
}

/** What was started past its node has old memory there, if anything: it must neither run on nor move. */
function notLeftOver(cluster: Cluster, node: string, { domain, uuid }: Named): Violation[] {
  const passed = cluster.nodes.get(node)?.ledger.passed?.some(each => each.uuid === uuid) === true
  return passed ? [{ rule: 13, problem: `${domain} on ${node} may be left over` }] : []
}

/** Only what was started past the node, is left there, and is proven to be old: it runs elsewhere, or somebody else took its lease. */
function isLeftOver(cluster: Cluster, { domain, uuid, node }: Extract<Step, { step: 'destroyCopy' }>): Violation[] {
  const entry = cluster.nodes.get(node)?.ledger.passed?.find(each => each.uuid === uuid)
  const has = (seen: UpNode) => seen.domains.some(each => each.uuid === uuid && each.active)
  const there = heard(cluster).some(({ name, seen }) => name === node && has(seen))
  const elsewhere = heard(cluster).some(({ name, seen }) => name !== node && has(seen))
  const owners = Object.keys(entry?.taken ?? {}).map(name => cluster.leases?.files.get(name)?.record?.ownerId)
  const taken = owners.some(owner => owner !== undefined && owner !== entry?.hostId)
  return entry !== undefined && there && (elsewhere || taken)
    ? []
    : [{ rule: 13, problem: `${domain} on ${node} is not known to be left over` }]
}

/** It runs nowhere else, and each of its leases was taken at most once since, by the same host: nobody came in between. */
function isItself(cluster: Cluster, { domain, uuid, node }: Extract<Step, { step: 'acquitCopy' }>): Violation[] {
  const entry = cluster.nodes.get(node)?.ledger.passed?.find(each => each.uuid === uuid)
  const taken = Object.entries(entry?.taken ?? {})
  const alone = !heard(cluster).some(
    ({ name, seen }) => name !== node && seen.domains.some(each => each.uuid === uuid && each.active),
  )
  const own = taken.every(([name, times]) => {
    const record = cluster.leases?.files.get(name)?.record
    return record !== undefined && record.ownerId === entry?.hostId && record.version - times <= 1
  })
  return entry !== undefined && taken.length > 0 && alone && own && everyNodeHeard(cluster, domain, []).length === 0
    ? []
    : [{ rule: 13, problem: `${domain} on ${node} may be left over, and would count as the domain itself` }]
}

/** Rule 1 in full: the name, the uuid, a saved image, and every disk that only one may write. */
function nobodyHas(cluster: Cluster, one: Extract<Step, { step: 'createDomain' }>): Violation[] {
  const disks = calledAnywhere(cluster, cluster.definitions.get(one.domain)?.domain)
  return heard(cluster).flatMap(({ name, seen }) =>
    seen.domains
      .filter(other => isPresentRival(other, seen, one, disks))
      .map(other => ({
        rule: 1,
        problem: `${one.domain} would start on ${one.node} while ${other.name} is present on ${name}`,
      })),
  )
}

/** A node without power may get some, and start by itself what is set to autostart there. */
function nobodyWakes(cluster: Cluster, one: Extract<Step, { step: 'createDomain' }>): Violation[] {
  const waking = [...cluster.nodes.values()].filter(
    ({ ledger, seen }) =>
      seen.state !== 'up' && vouchedFor(ledger) && ledger.down?.autostarts?.some(({ uuid }) => uuid === one.uuid),
  )
  return waking.map(({ name }) => ({ rule: 1, problem: `${name} starts ${one.domain} by itself when it boots` }))
}

/** A paused domain holds no lease: before it runs on, nobody else may be it or write its disks. A copy of it that is active elsewhere has its own rule. */
function nobodyElseHas(cluster: Cluster, one: Extract<Step, { step: 'resumeDomain' }>): Violation[] {
  const own = heard(cluster)
    .find(({ name }) => name === one.node)
    ?.seen.domains.find(({ uuid }) => uuid === one.uuid)?.definition
  const disks = calledAnywhere(cluster, own)
  return heard(cluster).flatMap(({ name, seen }) =>
    seen.domains
      .filter(other => (other.uuid === one.uuid ? other.managedSave : isPresentRival(other, seen, one, disks)))
      .map(other => ({
        rule: 1,
        problem: `${one.domain} would run on ${one.node} while ${other.name} is present on ${name}`,
      })),
  )
}

type Named = { domain: string; uuid: string }

function isPresentRival(other: DomainOnNode, seen: UpNode, one: Named, disks: ReadonlySet<string>): boolean {
  return (other.active || other.managedSave) && isSame(other, seen, one, disks)
}

function isSame(other: DomainOnNode, seen: UpNode, one: Named, disks: ReadonlySet<string>): boolean {
  if (other.name === one.domain || other.uuid === one.uuid) return true
  // Whose definition cannot be read may hold any disk.
  if (other.definition === undefined) return disks.size > 0
  return [...calledOn(seen, other.definition)].some(each => disks.has(each) || isPartOfOne(each, disks))
}

/** The domain's disks by every name that any node has for them. */
function calledAnywhere(cluster: Cluster, domain: Domain | undefined): Set<string> {
  if (domain === undefined) return new Set()
  const texts = exclusiveDisks(domain).flatMap(({ source }) => diskIdentity(source) ?? [])
  return new Set([...texts, ...heard(cluster).flatMap(({ seen }) => [...calledOn(seen, domain)])])
}

/** The same by the names of one node: what the definition says, where that leads, and what is there. */
function calledOn(seen: UpNode, domain: Domain): Set<string> {
  const names = new Set<string>()
  for (const { source } of exclusiveDisks(domain)) {
    const text = diskIdentity(source)
    if (text === undefined) continue
    const facts = seen.paths.get('path' in source ? source.path : text)
    const behind = facts?.canonical && diskIdentity({ kind: 'file', path: facts.canonical })
    for (const name of [text, facts?.identity, behind]) if (name) names.add(name)
  }
  return names
}

/** A disk and a partition of it are written both; two partitions of it are two disks. */
function isPartOfOne(name: string, disks: ReadonlySet<string>): boolean {
  const whole = (part: string) => {
    const parents: string[] = []
    for (let cut = part.lastIndexOf('-part'); cut > 0; cut = part.lastIndexOf('-part', cut - 1)) {
      if (!/^(-part\d+)+$/.test(part.slice(cut))) break
      parents.push(part.slice(0, cut))
    }
    return parents
  }
  return whole(name).some(each => disks.has(each)) || [...disks].some(disk => whole(disk).includes(name))
}

function definitionIsKnown(cluster: Cluster, one: Extract<Step, { step: 'createDomain' }>): Violation[] {
  const definition = cluster.definitions.get(one.domain)
  const known = definition?.sha256 === one.sha256 && definition.domain?.uuid === one.uuid
  return known ? [] : [{ rule: 11, problem: `${one.domain} would start from a definition that was not read` }]
}

function activeOnlyOn(cluster: Cluster, uuid: string, domain: string, node: string): Violation[] {
  const on = heard(cluster).filter(({ seen }) => seen.domains.some(each => each.uuid === uuid && each.active))
  const elsewhere = on.filter(({ name }) => name !== node)
  if (elsewhere.length > 0)
    return elsewhere.map(({ name }) => ({ rule: 1, problem: `${domain} is also present on ${name}` }))
  if (on.length !== 1) return [{ rule: 6, problem: `${domain} was not seen active on ${node}` }]
  const stray = on[0]?.seen.domains.some(each => each.uuid === uuid && each.unlistedPid !== undefined)
  return stray ? [{ rule: 6, problem: `libvirt on ${node} does not list ${domain}, or not all of it` }] : []
}

function canReceive(
  cluster: Cluster,
  { domain, from, to, uuid }: Extract<Step, { step: 'migrateDomain' }>,
): Violation[] {
  const target = heard(cluster).find(({ name }) => name === to)
  if (target === undefined) return [{ rule: 2, problem: `${domain} would move to ${to}, which was not heard` }]
  if (from === to) return [{ rule: 1, problem: `${domain} would move from ${from} to itself` }]
  const saved = target.seen.domains.some(each => each.uuid === uuid && each.managedSave)
  return saved ? [{ rule: 1, problem: `${to} holds a saved image of ${domain}` }] : []
}

/** Rule 8, and what is said of confirmed down: maintenance and a return that nobody reconciled keep everything away. */
function mayReceive(cluster: Cluster, node: string, domain: string): Violation[] {
  const { maintenance, down, invalid, passed = [] } = cluster.nodes.get(node)?.ledger ?? {}
  const failed = cluster.config.validate.required.find(check => invalid?.checks.includes(check) === true)
  return [
    ...(maintenance === undefined
      ? []
      : [{ rule: 8, problem: `${domain} would arrive on ${node}, which is in maintenance` }]),
    ...(failed === undefined
      ? []
      : [{ rule: 8, problem: `${domain} would arrive on ${node}, which failed a required validation: ${failed}` }]),
    ...(passed.length === 0
      ? []
      : [{ rule: 13, problem: `${domain} would arrive on ${node}, where ${passed[0]?.domain} may be left over` }]),
    ...(down === undefined
      ? []
      : [{ rule: 2, problem: `${domain} would arrive on ${node}, which was confirmed down and is not reconciled` }]),
  ]
}

/** libvirt moves a domain from one lock manager to another, or to none, without a word. */
function keepsLeases(cluster: Cluster, { domain, from, to }: Extract<Step, { step: 'migrateDomain' }>): Violation[] {
  const [source, target] = [from, to].map(name => heard(cluster).find(each => each.name === name)?.seen.lockManager)
  if (source === undefined || source === '' || source === target) return []
  return [{ rule: 13, problem: `${domain} would lose its leases (${source}) on ${to}` }]
}

/** A running source and a target that waits for it: anything else is no migration that could be ended. */
function isUnderWay(
  cluster: Cluster,
  { domain, uuid, from, to }: Extract<Step, { step: 'abortMigration' }>,
): Violation[] {
  const ends = heard(cluster).flatMap(({ name, seen }) =>
    seen.domains.filter(each => each.uuid === uuid && each.active).map(each => ({ name, waits: waits(each) })),
  )
  const source = ends.find(({ name }) => name === from)
  const target = ends.find(({ name }) => name === to)
  return ends.length === 2 && source?.waits === false && target?.waits === true
    ? []
    : [{ rule: 6, problem: `${domain} was not seen moving from ${from} to ${to}` }]
}

/** virDomainPausedReason MIGRATION or STARTING_UP: the end of a migration that never ran. */
function waits({ state, stateReason }: DomainOnNode): boolean {
  return state === 'paused' && (stateReason === 2 || stateReason === 11)
}

/** Should the definition stay behind on the source, its machine must not start it when it boots. */
function staysAsleep(cluster: Cluster, { domain, from, uuid }: Extract<Step, { step: 'migrateDomain' }>): Violation[] {
  const source = heard(cluster).find(({ name }) => name === from)
  return source?.seen.domains.some(each => each.uuid === uuid && each.autostart)
    ? [{ rule: 1, problem: `${from} would start ${domain} by itself if its definition stays behind` }]
    : []
}

function intentRecorded(one: { domain: string; uuid: string }, before: readonly Step[]): Violation[] {
  const recorded = before.some(each => each.step === 'recordIntent' && each.uuid === one.uuid && each.manual)
  return recorded ? [] : [{ rule: 9, problem: `${one.domain} would be stopped before that intent is recorded` }]
}

function nothingLost(
  cluster: Cluster,
  one: Extract<Step, { step: 'undefineDomain' }>,
  before: readonly Step[],
): Violation[] {
  const saved = before.some(each => each.step === 'saveDefinition' && each.uuid === one.uuid && each.node === one.node)
  const seen = heard(cluster)
    .find(({ name }) => name === one.node)
    ?.seen.domains.find(each => each.uuid === one.uuid)
  return [
    ...(saved ? [] : [{ rule: 10, problem: `${one.domain} would be undefined before its definition is kept` }]),
    ...(seen?.snapshots || seen?.managedSave
      ? [{ rule: 10, problem: `${one.node} would lose snapshots or a saved image of ${one.domain}` }]
      : []),
  ]
}

/** Rule 8: no step may bring a node over its capacity that was within it before, by memory or by vCPUs. */
function overcommitted(before: Cluster, after: Cluster): Violation[] {
  return [...after.nodes.keys()].flatMap(name =>
    (['memoryMiB', 'vcpus'] as const).flatMap(what => {
      const awaited = awaitedOn(before, after, name)
      const over = excess(after, name, what, awaited)
      return over > 0 && over > Math.max(0, excess(before, name, what, awaited))
        ? [{ rule: 8, problem: `${name} would lack ${over} ${what === 'vcpus' ? 'vCPUs' : 'MiB of memory'}` }]
        : []
    }),
  )
}

/** What is reserved for domains that are still to arrive after the step; nobody has to make room for those who reserved later. */
function awaitedOn(before: Cluster, after: Cluster, name: string): Ledger['reservations'] {
  const [had, has] = [before, after].map(cluster => new Set(activeOn(cluster, name).map(({ uuid }) => uuid)))
  const reservations = after.nodes.get(name)?.ledger.reservations ?? []
  const ours = reservations.findIndex(({ uuid }) => has?.has(uuid) && !had?.has(uuid))
  return (ours < 0 ? reservations : reservations.slice(0, ours)).filter(({ uuid }) => !has?.has(uuid))
}

function activeOn(cluster: Cluster, name: string): DomainOnNode[] {
  const seen = cluster.nodes.get(name)?.seen
  return seen?.state === 'up' ? seen.domains.filter(domain => domain.active) : []
}

/** How far a node is beyond its capacity, with what it awaits. */
function excess(cluster: Cluster, name: string, what: 'memoryMiB' | 'vcpus', awaited: Ledger['reservations']): number {
  const node = cluster.nodes.get(name)
  if (node?.seen.state !== 'up') return 0
  const { reservedMemoryMiB, memoryRatio, vcpuRatio } = cluster.config.node
  const capacity =
    what === 'vcpus'
      ? Math.floor(node.seen.cpus * vcpuRatio)
      : Math.floor((node.seen.memoryMiB - reservedMemoryMiB) * memoryRatio)
  return [...activeOn(cluster, name), ...awaited].reduce((sum, each) => sum + each[what], 0) - capacity
}
