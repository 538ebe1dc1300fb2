/**
 * Checks any list of steps against the safety rules (docs/safety.md). It does not trust the planners and never imports them:
 * each rule is written down here a second time, so that one mistake is not enough.
 */
import type { Cluster } from './cluster.ts'
import type { Disk } from './domain.ts'
import { diskIdentity, exclusiveDisks } from './domain-xml.ts'
import { applyStep } from './effect.ts'
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
      return [...everyNodeHeard(cluster, one.domain), ...nobodyHas(cluster, one), ...definitionIsKnown(cluster, one)]
    case 'resumeDomain':
      return [
        ...everyNodeHeard(cluster, one.domain),
        ...activeOnlyOn(cluster, one.uuid, one.domain, one.node),
        ...nobodyElseHas(cluster, one),
      ]
    case 'migrateDomain':
      return [...activeOnlyOn(cluster, one.uuid, one.domain, one.from), ...canReceive(cluster, one)]
    case 'shutdownDomain':
    case 'destroyDomain':
      return [...activeOnlyOn(cluster, one.uuid, one.domain, one.node), ...intentRecorded(one, before)]
    case 'rebootDomain':
    case 'resetDomain':
    case 'suspendDomain':
    case 'setMaxDowntime':
      return activeOnlyOn(cluster, one.uuid, one.domain, one.node)
    case 'undefineDomain':
      return nothingLost(cluster, one, before)
    case 'awaitShutOff':
    case 'saveDefinition':
    case 'recordIntent':
      return []
  }
}

function heard(cluster: Cluster): { name: string; seen: UpNode }[] {
  return [...cluster.nodes.values()].flatMap(({ name, seen }) => (seen.state === 'up' ? [{ name, seen }] : []))
}

function everyNodeHeard(cluster: Cluster, domain: string): Violation[] {
  return [...cluster.nodes.values()]
    .filter(({ seen }) => seen.state !== 'up')
    .map(({ name }) => ({ rule: 2, problem: `${domain} would run although ${name} was not heard` }))
}

/** Rule 1 in full: the name, the uuid, a saved image, and every disk that only one may write. */
function nobodyHas(cluster: Cluster, one: Extract<Step, { step: 'createDomain' }>): Violation[] {
  const disks = disksOf(cluster, one.domain)
  return heard(cluster).flatMap(({ name, seen }) =>
    seen.domains
      .filter(other => isPresentRival(other, one, disks))
      .map(other => ({
        rule: 1,
        problem: `${one.domain} would start on ${one.node} while ${other.name} is present on ${name}`,
      })),
  )
}

/** A paused domain holds no lease: before it runs on, nobody else may be it or write its disks. A copy of it that is active elsewhere has its own rule. */
function nobodyElseHas(cluster: Cluster, one: Extract<Step, { step: 'resumeDomain' }>): Violation[] {
  const own = heard(cluster)
    .find(({ name }) => name === one.node)
    ?.seen.domains.find(({ uuid }) => uuid === one.uuid)?.definition
  const disks = identitiesOf(own === undefined ? [] : exclusiveDisks(own))
  return heard(cluster).flatMap(({ name, seen }) =>
    seen.domains
      .filter(other => (other.uuid === one.uuid ? other.managedSave : isPresentRival(other, one, disks)))
      .map(other => ({
        rule: 1,
        problem: `${one.domain} would run on ${one.node} while ${other.name} is present on ${name}`,
      })),
  )
}

function isPresentRival(other: DomainOnNode, one: { domain: string; uuid: string }, disks: ReadonlySet<string>) {
  return (other.active || other.managedSave) && isSame(other, one, disks)
}

function isSame(other: DomainOnNode, one: { domain: string; uuid: string }, disks: ReadonlySet<string>): boolean {
  if (other.name === one.domain || other.uuid === one.uuid) return true
  // Whose definition cannot be read may hold any disk.
  if (other.definition === undefined) return disks.size > 0
  return [...identitiesOf(exclusiveDisks(other.definition))].some(disk => disks.has(disk))
}

function disksOf(cluster: Cluster, domain: string): Set<string> {
  const definition = cluster.definitions.get(domain)?.domain
  return identitiesOf(definition === undefined ? [] : exclusiveDisks(definition))
}

function identitiesOf(disks: readonly Disk[]): Set<string> {
  return new Set(disks.flatMap(disk => diskIdentity(disk.source) ?? []))
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
  return on.length === 1 ? [] : [{ rule: 6, problem: `${domain} was not seen active on ${node}` }]
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

/** Rule 8: no step may bring a node over its capacity that was within it before. */
function overcommitted(before: Cluster, after: Cluster): Violation[] {
  return heard(after).flatMap(({ name, seen }) => {
    const was = heard(before).find(node => node.name === name)?.seen
    const over = memoryOver(after, seen)
    return over > 0 && was !== undefined && over > Math.max(0, memoryOver(before, was))
      ? [{ rule: 8, problem: `${name} would lack ${over} MiB of memory` }]
      : []
  })
}

function memoryOver(cluster: Cluster, seen: UpNode): number {
  const { reservedMemoryMiB, memoryRatio } = cluster.config.node
  const held = seen.domains.reduce((sum, domain) => sum + (domain.active ? domain.memoryMiB : 0), 0)
  return held - Math.floor((seen.memoryMiB - reservedMemoryMiB) * memoryRatio)
}
