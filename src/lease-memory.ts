/**
 * What is remembered of leases for the day on which a node does not answer: who ran there with all its leases when it was last seen.
 * Kept only where lease.passUnreachable asks for it. It allows nothing by itself (rule 6): the leases on the disk decide then.
 */
import { type Cluster, unknownNodes, upNodes } from './core/cluster.ts'
import { isGuarded } from './core/lease.ts'
import type { LeaseSighting, SightedDomain } from './core/lease-pass.ts'
import { type HeldNow, type Unprotected, unprotected } from './core/leases.ts'
import { askLeases, leaseFacts, leaseNames } from './lease-facts.ts'
import type { Parts } from './operate.ts'
import { StoreError } from './store/store.ts'

/** The cluster with what leases say, where a node is silent and a start may go past it. */
export async function withLeases(parts: Parts, cluster: Cluster, doubts: readonly string[]): Promise<Cluster> {
  const silent = unknownNodes(cluster)
  if (!cluster.config.lease.passUnreachable || silent.length === 0) return cluster
  return withLeaseKnowledge(parts, cluster, doubts)
}

/** The cluster with what leases say now, and what is remembered of those of silent nodes. */
export async function withLeaseKnowledge(parts: Parts, cluster: Cluster, doubts: readonly string[]): Promise<Cluster> {
  const silent = unknownNodes(cluster)
  const [{ cluster: _, ...leases }, sightings] = await Promise.all([
    leaseFacts(parts, cluster),
    Promise.all(silent.map(async ({ name }) => [name, await parts.home.records.leaseSighting(name)] as const)),
  ])
  const known = sightings.flatMap(([name, sighting]) => (sighting === undefined ? [] : [[name, sighting] as const]))
  return { ...cluster, leases: { ...leases, sightings: new Map(known), doubts: new Set(doubts) } }
}

/**
 * Looks at these nodes alone, which a command has just acted on, and writes down what they show. A store that cannot be written changes
 * nothing of what was done.
 */
export async function rememberLeases(parts: Parts, cluster: Cluster, names: readonly string[]): Promise<void> {
  if (!cluster.config.lease.passUnreachable) return
  const touched = [...new Set(names)].flatMap(name => cluster.nodes.get(name) ?? [])
  const records = touched.map(({ record }) => record)
  const [{ seen }, answers] = await Promise.all([
    parts.nodes.look(records),
    Promise.all(records.map(async record => [record.name, await askLeases(parts, record, [])] as const)),
  ])
  const now = touched.map(node => [node.name, { ...node, seen: seen.get(node.name) ?? node.seen }] as const)
  const fresh: Cluster = { ...cluster, nodes: new Map(now) }
  const leases = answers.flatMap(([name, answer]) =>
    typeof answer === 'string' ? [] : [[name, answer.leases] as const],
  )
  await writeSightings(parts, { cluster: fresh, nodes: new Map(leases), names: leaseNames(fresh, 'sanlock') })
}

/** Writes down what is seen, of all nodes or of some. Unchanged, nothing is written. */
export async function writeSightings(parts: Parts, facts: HeldNow, only?: ReadonlySet<string>): Promise<void> {
  if (!facts.cluster.config.lease.passUnreachable) return
  const wanted = upNodes(facts.cluster).filter(({ name }) => only === undefined || only.has(name))
  const bare = unprotected(facts)
  const writes = wanted.flatMap(({ name }) => {
    const sighting = sightingOf(facts, name, bare)
    return sighting === undefined ? [] : [parts.home.records.writeLeaseSighting(name, sighting)]
  })
  await Promise.all(writes).catch(error => (error instanceof StoreError ? undefined : Promise.reject(error)))
}

/** A node that is in no lockspace is remembered, too, as one that protects nothing. */
function sightingOf(facts: HeldNow, node: string, all: readonly Unprotected[]): LeaseSighting | undefined {
  const seen = facts.cluster.nodes.get(node)?.seen
  const leases = facts.nodes.get(node)
  if (seen?.state !== 'up' || leases === undefined) return undefined
  const lockspace = isGuarded(leases) ? leases.sanlock?.lockspace : undefined
  const bare = new Map(all.flatMap(each => (each.node === node ? [[each.domain, each.paths] as const] : [])))
  const domains = seen.domains
    .filter(({ active }) => active)
    .map(({ uuid, name, state, definition, autostart }): [string, SightedDomain] => {
      const paths = bare.get(name)
      const without =
        definition === undefined ? 'its disks could not be read' : paths === undefined ? undefined : paths.join(', ')
      return [
        uuid,
        { name, state, ...(without === undefined ? {} : { without }), ...(autostart ? { autostart: true } : {}) },
      ]
    })
  const nodeId = facts.cluster.nodes.get(node)?.record.id ?? ''
  return {
    nodeId,
    hostId: lockspace?.hostId ?? 0,
    generation: lockspace?.generation ?? 0,
    watchdog: leases.sanlock?.watchdog === true && leases.wdmd,
    domains: Object.fromEntries(domains.sort(([a], [b]) => (a < b ? -1 : 1))),
  }
}
