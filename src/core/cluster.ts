/**
 * The cluster at one moment: every node as one observation saw it, every definition, every record, and the time.
 * Immutable. What a planner wants to know is a fact derived here, so that planning never asks anything.
 */
import type { Config } from './config.ts'
import type { Disk, Domain } from './domain.ts'
import { diskIdentity, exclusiveDisks } from './domain-xml.ts'
import { type DomainOnNode, isMigrationEnd, isPresent, type Node, type SilentNode, type UpNode } from './node.ts'

/** One file of `conf/`: what it says, or why it cannot be read. */
export interface Definition {
  readonly name: string
  /** The file's path as commands name it. */
  readonly path: string
  /** SHA-256 of the file's bytes, hexadecimal: what is started is what was read. */
  readonly sha256: string
  readonly domain?: Domain
  /** One sentence with file and line, when the text is no domain. */
  readonly problem?: string
}

/** What the store remembers of a domain. Never evidence of where it runs (rule 6). */
export interface DomainRecord {
  /** An operator stopped it: nothing may start it by itself (rule 9). */
  readonly manual: boolean
}

/** The whole of what havirt knows when it plans. */
export interface Cluster {
  readonly nodes: ReadonlyMap<string, Node>
  readonly definitions: ReadonlyMap<string, Definition>
  readonly records: ReadonlyMap<string, DomainRecord>
  readonly config: Config
  /** The node that havirt runs on, when it is one of the cluster's. */
  readonly here?: string
}

/** What a look alone gives: the nodes. */
export type Observed = Pick<Cluster, 'nodes'>

/** A domain on a node. */
export interface Sighting {
  readonly node: string
  readonly domain: DomainOnNode
}

/** What makes a domain the same one: name, uuid, and the disks that only one may write. */
export interface Identity {
  readonly name: string
  readonly uuid?: string
  readonly disks: readonly Disk[]
}

/** The nodes that answered. */
export function upNodes(cluster: Observed): (Node & { readonly seen: UpNode })[] {
  return [...cluster.nodes.values()].filter(
    (node): node is Node & { readonly seen: UpNode } => node.seen.state === 'up',
  )
}

/** The nodes that may be running anything. */
export function silentNodes(cluster: Observed): (Node & { readonly seen: SilentNode })[] {
  return [...cluster.nodes.values()].filter(
    (node): node is Node & { readonly seen: SilentNode } => node.seen.state !== 'up',
  )
}

/** Every domain that every answering node shows, shut off ones included. */
export function sightings(cluster: Observed): Sighting[] {
  return upNodes(cluster).flatMap(node => node.seen.domains.map(domain => ({ node: node.name, domain })))
}

/** Where a domain of this name or uuid is shown, shut off or not. */
export function sightingsOf(cluster: Cluster, identity: Pick<Identity, 'name' | 'uuid'>): Sighting[] {
  return sightings(cluster).filter(({ domain }) => domain.name === identity.name || domain.uuid === identity.uuid)
}

/** Where the domain is present (rule 1), by name or by uuid. */
export function presencesOf(cluster: Cluster, identity: Pick<Identity, 'name' | 'uuid'>): Sighting[] {
  return sightingsOf(cluster, identity).filter(({ domain }) => isPresent(domain))
}

/** Other present domains that hold one of these disks, with the disk they share. */
export function holdersOf(cluster: Cluster, identity: Identity): { sighting: Sighting; disk: string }[] {
  const wanted = new Set(identity.disks.map(disk => diskIdentity(disk.source)).filter(id => id !== undefined))
  return sightings(cluster)
    .filter(({ domain }) => isPresent(domain) && domain.name !== identity.name && domain.uuid !== identity.uuid)
    .flatMap(sighting => sharedDisk(sighting, wanted))
}

/** Other present domains whose definition nobody could read: they may hold any disk (rule 2). */
export function unreadableRivals(cluster: Cluster, identity: Identity): Sighting[] {
  if (identity.disks.every(disk => diskIdentity(disk.source) === undefined)) return []
  return sightings(cluster).filter(
    ({ domain }) =>
      isPresent(domain) &&
      domain.definition === undefined &&
      domain.name !== identity.name &&
      domain.uuid !== identity.uuid,
  )
}

function sharedDisk(sighting: Sighting, wanted: ReadonlySet<string>): { sighting: Sighting; disk: string }[] {
  const { definition } = sighting.domain
  if (definition === undefined) return []
  const disk = exclusiveDisks(definition)
    .map(each => diskIdentity(each.source))
    .find(id => id !== undefined && wanted.has(id))
  return disk === undefined ? [] : [{ sighting, disk }]
}

/** A domain that is active on more than one node. `migrating` when all but one are the waiting ends of a migration. */
export interface Twice {
  readonly uuid: string
  readonly name: string
  readonly nodes: readonly string[]
  readonly migrating: boolean
}

/** Every uuid or name that more than one node shows active. */
export function presentTwice(cluster: Observed): Twice[] {
  const groups = new Map<string, Sighting[]>()
  for (const sighting of sightings(cluster)) {
    if (!sighting.domain.active) continue
    for (const key of [`uuid ${sighting.domain.uuid}`, `name ${sighting.domain.name}`]) {
      groups.set(key, [...(groups.get(key) ?? []), sighting])
    }
  }
  const twice = [...groups.values()].filter(group => group.length > 1).map(describeTwice)
  return twice.filter((each, at) => twice.findIndex(other => sameTwice(each, other)) === at)
}

function describeTwice(group: Sighting[]): Twice {
  const running = group.filter(({ domain }) => !isMigrationEnd(domain))
  return {
    uuid: group[0]?.domain.uuid ?? '',
    name: group[0]?.domain.name ?? '',
    nodes: group.map(({ node }) => node),
    migrating: running.length <= 1,
  }
}

function sameTwice(a: Twice, b: Twice): boolean {
  return a.nodes.join() === b.nodes.join() && (a.uuid === b.uuid || a.name === b.name)
}

/** The identity of a definition, with the disks that only it may write. */
export function identityOf(domain: Domain): Identity {
  return { name: domain.name, uuid: domain.uuid, disks: exclusiveDisks(domain) }
}
