/**
 * The cluster at one moment: every node as one observation saw it, every definition, every record, and the time.
 * Immutable. What a planner wants to know is a fact derived here, so that planning never asks anything.
 */
import type { Config } from './config.ts'
import type { Disk, Domain } from './domain.ts'
import { diskIdentity, exclusiveDisks, placeOf } from './domain-xml.ts'
import type { LeaseKnowledge } from './lease-pass.ts'
import {
  type DomainOnNode,
  isConfirmedDown,
  isMigrationEnd,
  isPresent,
  type Node,
  overlap,
  type PathFacts,
  type SilentNode,
  type UpNode,
  wholeOf,
} from './node.ts'

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
  /** Asked for only where a start may go past a node that does not answer. */
  readonly leases?: LeaseKnowledge
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

/** The nodes that did not answer, or not everything. */
export function silentNodes(cluster: Observed): (Node & { readonly seen: SilentNode })[] {
  return [...cluster.nodes.values()].filter(
    (node): node is Node & { readonly seen: SilentNode } => node.seen.state !== 'up',
  )
}

/** The nodes that may be running anything (rule 2): silent, and nobody vouches that they are off. */
export function unknownNodes(cluster: Observed): (Node & { readonly seen: SilentNode })[] {
  return silentNodes(cluster).filter(node => !isConfirmedDown(node))
}

/** Every domain that every answering node shows, shut off ones included. */
export const sightings = derived(({ nodes }): readonly Sighting[] =>
  upNodes({ nodes }).flatMap(node => node.seen.domains.map(domain => ({ node: node.name, domain }))),
)

/** A cluster never changes, and planners ask for the same facts again and again: each is worked out once for its nodes. */
function derived<T>(work: (cluster: Observed) => T): (cluster: Observed) => T {
  const known = new WeakMap<Observed['nodes'], { readonly fact: T }>()
  return ({ nodes }) => {
    const found = known.get(nodes) ?? { fact: work({ nodes }) }
    known.set(nodes, found)
    return found.fact
  }
}

/** The numbers of the sightings, by `name NAME` and by `uuid UUID`. */
const positions = derived(cluster => {
  const by = new Map<string, number[]>()
  for (const [at, { domain }] of sightings(cluster).entries()) {
    for (const key of [`name ${domain.name}`, `uuid ${domain.uuid}`]) {
      const numbers = by.get(key)
      if (numbers === undefined) by.set(key, [at])
      else numbers.push(at)
    }
  }
  return by
})

/** Where a domain of this name or uuid is shown, shut off or not. */
export function sightingsOf(cluster: Cluster, { name, uuid }: Pick<Identity, 'name' | 'uuid'>): Sighting[] {
  const by = positions(cluster)
  const found = new Set([...(by.get(`name ${name}`) ?? []), ...(by.get(`uuid ${uuid}`) ?? [])])
  return [...found].sort((a, b) => a - b).map(at => sightings(cluster)[at] as Sighting)
}

/** Where the domain is present (rule 1), by name or by uuid. */
export function presencesOf(cluster: Cluster, identity: Pick<Identity, 'name' | 'uuid'>): Sighting[] {
  return sightingsOf(cluster, identity).filter(({ domain }) => isPresent(domain))
}

/** Other present domains that hold one of these disks, with the disk they share. */
export function holdersOf(cluster: Observed, identity: Identity): { sighting: Sighting; disk: string }[] {
  const wanted = namedDisks(identity.disks, upNodes(cluster))
  return rivals(cluster, identity).flatMap(sighting => {
    const found = sharedDisk(wanted, disksOf(cluster, sighting))
    return found === undefined ? [] : [{ sighting, disk: found }]
  })
}

/** Other present domains whose definition nobody could read: they may hold any disk (rule 2). */
export function unreadableRivals(cluster: Observed, identity: Identity): Sighting[] {
  if (identity.disks.every(disk => diskIdentity(disk.source) === undefined)) return []
  return rivals(cluster, identity).filter(({ domain }) => domain.definition === undefined)
}

function rivals(cluster: Observed, { name, uuid }: Identity): Sighting[] {
  return sightings(cluster).filter(({ domain }) => isPresent(domain) && domain.name !== name && domain.uuid !== uuid)
}

/** A disk with everything it is called: first by its definition, then by what nodes found behind that. */
interface NamedDisk {
  readonly names: readonly [string, ...string[]]
}

/**
 * The disks with their names on these nodes. Two of them are one disk if any two of their names are. That errs towards "the same":
 * the same text counts although it may lead elsewhere on each node, and so does what a path leads to where it is not used.
 */
function namedDisks(disks: readonly Disk[], nodes: readonly { readonly seen: UpNode }[]): NamedDisk[] {
  return disks.flatMap(({ source }) => {
    const text = diskIdentity(source)
    if (text === undefined) return []
    const behind = nodes.flatMap(({ seen }) => namesBehind(seen.paths.get(placeOf(source) ?? '')))
    return [{ names: [text, ...new Set(behind)] }]
  })
}

/** Every disk of a domain that has a name, with all that nodes call it: what a claim on it must cover. */
export function namesOfDisks(cluster: Observed, disks: readonly Disk[]): NamedDisk['names'][] {
  return namedDisks(disks, upNodes(cluster)).map(({ names }) => names)
}

/** The canonical path is compared like any path's text, also between nodes: a share may look like a local folder to them. */
function namesBehind(facts: PathFacts | undefined): string[] {
  const canonical = facts?.canonical === undefined ? undefined : diskIdentity({ kind: 'file', path: facts.canonical })
  return [canonical, facts?.identity].filter(name => name !== undefined)
}

/** What a domain holds, as its own node knows it. */
function disksOf(cluster: Observed, { node, domain }: Sighting): NamedDisk[] {
  const nodes = upNodes(cluster).filter(({ name }) => name === node)
  return domain.definition === undefined ? [] : namedDisks(exclusiveDisks(domain.definition), nodes)
}

/** The first disk that is in both lists; with both names, where they differ. */
function sharedDisk(some: readonly NamedDisk[], others: readonly NamedDisk[]): string | undefined {
  for (const { names } of some) {
    const twin = others.find(other => names.some(a => other.names.some(b => overlap(a, b))))
    if (twin !== undefined) return names[0] === twin.names[0] ? names[0] : `${names[0]} (there: ${twin.names[0]})`
  }
  return undefined
}

/** A domain that is active on more than one node. `migrating` when all but one are the waiting ends of a migration. */
export interface Twice {
  readonly uuid: string
  readonly name: string
  readonly nodes: readonly string[]
  readonly migrating: boolean
}

/** Every uuid or name that more than one node shows active. */
export const presentTwice = derived((cluster): readonly Twice[] => {
  const groups = new Map<string, Sighting[]>()
  for (const sighting of sightings(cluster)) {
    if (!sighting.domain.active) continue
    for (const key of [`uuid ${sighting.domain.uuid}`, `name ${sighting.domain.name}`]) {
      groups.set(key, [...(groups.get(key) ?? []), sighting])
    }
  }
  const twice = [...groups.values()].filter(group => group.length > 1).map(describeTwice)
  return twice.filter((each, at) => twice.findIndex(other => sameTwice(each, other)) === at)
})

function describeTwice(group: Sighting[]): Twice {
  const running = group.filter(({ domain }) => !isMigrationEnd(domain))
  return {
    uuid: group[0]?.domain.uuid ?? '',
    name: group[0]?.domain.name ?? '',
    nodes: group.map(({ node }) => node),
    migrating: running.length <= 1,
  }
}

/** Nodes that answer again after somebody confirmed them down, and of which nothing runs elsewhere, too: they are as any other. */
export function reconciledNodes(cluster: Observed): string[] {
  const twice = new Set(presentTwice(cluster).flatMap(({ nodes, migrating }) => (migrating ? [] : nodes)))
  return upNodes(cluster).flatMap(({ name, ledger }) => (ledger.down !== undefined && !twice.has(name) ? [name] : []))
}

/** The two ends of a migration that is under way: the one that runs, and the one that waits for it. */
export function movingEnds(cluster: Cluster, name: string): { source: Sighting; target: Sighting } | undefined {
  const named = sightingsOf(cluster, { name }).filter(({ domain }) => domain.active)
  // Another name with the same uuid is a third one, and libvirt's commands would mean any of them.
  const uuids = new Set(named.map(({ domain }) => domain.uuid))
  const active = sightings(cluster).filter(({ domain }) => domain.active && uuids.has(domain.uuid))
  const [source, ...others] = active.filter(({ domain }) => !isMigrationEnd(domain))
  const target = active.find(({ domain }) => isMigrationEnd(domain) && domain.uuid === source?.domain.uuid)
  const isSure =
    others.length === 0 &&
    named.length === 2 &&
    active.length === 2 &&
    active.every(({ domain }) => domain.unlistedPid === undefined)
  return source === undefined || target === undefined || !isSure ? undefined : { source, target }
}

function sameTwice(a: Twice, b: Twice): boolean {
  return a.nodes.join() === b.nodes.join() && (a.uuid === b.uuid || a.name === b.name)
}

/** A disk that two present domains may both write, although they are two. */
export interface SharedDisk {
  readonly disk: string
  readonly holders: readonly [Sighting, Sighting]
  /** Both are active: it may be written from both now. Otherwise one is a saved image, and would write it when it comes back. */
  readonly active: boolean
}

/** Every pair of present domains, of two names and uuids, that hold one disk. */
export function sharedDisks(cluster: Observed): SharedDisk[] {
  const present = sightings(cluster).filter(({ domain }) => isPresent(domain))
  const holders = present.map(sighting => ({ sighting, disks: disksOf(cluster, sighting) }))
  const pairs = new Map<string, SharedDisk>()
  // All pairs of a thousand domains would be half a million: only those are compared that have a name in common.
  for (const group of groupsOf(holders)) {
    for (const [at, one] of group.entries()) {
      for (const other of group.slice(at + 1)) {
        const shared = sharedBetween(one, other)
        if (shared !== undefined)
          pairs.set(JSON.stringify(shared.holders.map(each => [each.node, each.domain.uuid])), shared)
      }
    }
  }
  return [...pairs.values()]
}

interface Holder {
  readonly sighting: Sighting
  readonly disks: readonly NamedDisk[]
}

/** Holders by what their disks are called, partitions by their disk. */
function groupsOf(holders: readonly Holder[]): Holder[][] {
  const groups = new Map<string, Set<Holder>>()
  for (const holder of holders) {
    for (const name of holder.disks.flatMap(({ names }) => names)) {
      const key = wholeOf(name)
      groups.set(key, (groups.get(key) ?? new Set()).add(holder))
    }
  }
  return [...groups.values()].filter(({ size }) => size > 1).map(group => [...group])
}

function sharedBetween(one: Holder, other: Holder): SharedDisk | undefined {
  const [a, b] = [one.sighting.domain, other.sighting.domain]
  if (a.name === b.name || a.uuid === b.uuid) return undefined
  const disk = sharedDisk(one.disks, other.disks)
  if (disk === undefined) return undefined
  return { disk, holders: [one.sighting, other.sighting], active: a.active && b.active }
}

/** QEMUs that run although libvirt on their node does not list them. */
export function unlisted(cluster: Observed): (Sighting & { readonly pid: number })[] {
  return sightings(cluster).flatMap(({ node, domain }) =>
    domain.unlistedPid === undefined ? [] : [{ node, domain, pid: domain.unlistedPid }],
  )
}

/** A domain that several nodes know, by its uuid: where it is active, and where it is only defined. */
export interface Spread {
  readonly name: string
  readonly active: readonly Sighting[]
  readonly off: readonly Sighting[]
}

/** Every domain that is shut off on one node while another runs or defines it. */
export function spreadDomains(cluster: Observed): Spread[] {
  return [...byUuid(cluster).values()]
    .filter(group => new Set(group.map(({ node }) => node)).size > 1 && group.some(({ domain }) => !domain.active))
    .map(group => {
      const active = group.filter(({ domain }) => domain.active)
      const off = group.filter(({ domain }) => !domain.active)
      return { name: (active[0] ?? off[0])?.domain.name ?? '', active, off }
    })
}

/** Every uuid that stands under several names: one domain to libvirt, and two to people. */
export function sharedUuids(cluster: Observed): { uuid: string; sightings: readonly Sighting[] }[] {
  return [...byUuid(cluster)]
    .filter(([, group]) => new Set(group.map(({ domain }) => domain.name)).size > 1)
    .map(([uuid, group]) => ({ uuid, sightings: group }))
}

function byUuid(cluster: Observed): Map<string, Sighting[]> {
  const groups = new Map<string, Sighting[]>()
  for (const sighting of sightings(cluster)) {
    const group = groups.get(sighting.domain.uuid)
    if (group === undefined) groups.set(sighting.domain.uuid, [sighting])
    else group.push(sighting)
  }
  return groups
}

/** The identity of a definition, with the disks that only it may write. */
export function identityOf(domain: Domain): Identity {
  return { name: domain.name, uuid: domain.uuid, disks: exclusiveDisks(domain) }
}
