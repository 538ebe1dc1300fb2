/** What the leases of all nodes together say: whose each disk's lease is, and who of the lockspace is alive. Pure. */
import { type Cluster, sightings } from './cluster.ts'
import type { Domain } from './domain.ts'
import {
  folderOf,
  type HeldLease,
  type HostState,
  type LeaseFile,
  type LeaseHost,
  type LeaseManager,
  leaseManagers,
  leasePaths,
  type NodeLeases,
} from './lease.ts'

/** What nodes and the folder say of leases. */
export interface LeasesOfNodes {
  /** Of the nodes that answered. */
  readonly nodes: ReadonlyMap<string, NodeLeases>
  /** Nodes that did not, and why. */
  readonly unasked: ReadonlyMap<string, string>
  /** The lockspace's own records, by host id. */
  readonly hosts: ReadonlyMap<number, LeaseHost>
  /** The folder's files, by name. */
  readonly files: ReadonlyMap<string, LeaseFile>
  /** Every name that a path's lease would have: of each disk that a definition or a domain names. */
  readonly names: ReadonlyMap<string, string>
  /** The folder from which they were read; empty where there is none. */
  readonly folder: string
}

/** The same with the cluster that it is about. */
export interface LeaseFacts extends LeasesOfNodes {
  readonly cluster: Cluster
}

/** The manager that most nodes have; undefined while none has one. Two are never mixed: libvirt would not notice. */
export function managerOf(nodes: LeaseFacts['nodes']): LeaseManager | undefined {
  const count = (manager: LeaseManager) =>
    [...nodes.values()].filter(({ settings }) => settings.manager === manager).length
  const [best] = leaseManagers.filter(each => count(each) > 0).sort((a, b) => count(b) - count(a))
  return best
}

/** The folder that most nodes have for leases. */
export function commonFolder(nodes: LeaseFacts['nodes']): string {
  const counts = new Map<string, number>()
  for (const { settings } of nodes.values()) {
    const folder = settings.manager === '' ? '' : folderOf(settings)
    if (folder !== '') counts.set(folder, (counts.get(folder) ?? 0) + 1)
  }
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? ''
}

/** Every domain that has a definition or is shown, with what it has now where it runs. */
export function domainsWithDisks(cluster: Cluster): { domain: Domain; running: string | undefined }[] {
  const active = sightings(cluster).flatMap(({ node, domain }) =>
    domain.active && domain.definition !== undefined ? [{ domain: domain.definition, running: node }] : [],
  )
  const names = new Set(active.map(({ domain }) => domain.name))
  const defined = [...cluster.definitions.values()].flatMap(({ domain }) =>
    domain === undefined || names.has(domain.name) ? [] : [{ domain, running: undefined }],
  )
  return [...active, ...defined]
}

/** Every path that a definition in conf/, a node's own definition or a running domain names for a disk that it writes. */
export function knownPaths(cluster: Cluster): Set<string> {
  return new Set(everyDefinition(cluster).flatMap(leasePaths))
}

function everyDefinition(cluster: Cluster): Domain[] {
  const shown = sightings(cluster).flatMap(({ domain }) => domain.definition ?? [])
  const defined = [...cluster.definitions.values()].flatMap(({ domain }) => domain ?? [])
  return [...shown, ...defined]
}

/**
 * How a disk's lease stands. `held`: its holder is alive. `doubt`: it does not renew, and is not dead yet. `dead`: it is, and the next who
 * asks gets the lease. `old`: its holder has started anew since, so that it is as good as free. `damaged`: nobody can tell, and sanlock
 * refuses it to all.
 */
export type Standing = 'held' | 'doubt' | 'dead' | 'old' | 'free' | 'damaged' | 'none'

/** One disk and its lease. */
export interface LeaseOfDisk {
  /** Absent for a file that no known disk has. */
  readonly path: string | undefined
  /** The domains that have the disk. */
  readonly domains: readonly string[]
  readonly name: string
  readonly file: LeaseFile | undefined
  readonly standing: Standing
  /** Who has it, or had it last. */
  readonly owner: Owner | undefined
}

export interface Owner {
  readonly hostId: number
  readonly generation: number
  /** The node with that host id; absent for a machine that is none. */
  readonly node: string | undefined
  /** What it called itself when it joined. */
  readonly hostName: string
  /** The domain that holds it there, where that node answered. */
  readonly domain: string | undefined
}

/** Every known disk with its lease, and every file that belongs to none. */
export function leasesOfDisks(facts: LeaseFacts): LeaseOfDisk[] {
  const users = usersOf(facts.cluster)
  const lease = managerOf(facts.nodes) === 'lockd' ? lockOf : leaseOf
  const known = [...facts.names].map(([path, name]) => lease(facts, name, path, [...(users.get(path) ?? [])]))
  const named = new Set(facts.names.values())
  const others = [...facts.files.keys()].filter(name => !named.has(name)).map(name => lease(facts, name, undefined, []))
  return [...known, ...others]
}

function usersOf(cluster: Cluster): Map<string, Set<string>> {
  const users = new Map<string, Set<string>>()
  for (const domain of everyDefinition(cluster))
    for (const path of leasePaths(domain)) users.set(path, (users.get(path) ?? new Set()).add(domain.name))
  return users
}

type Read = (facts: LeaseFacts, name: string, path: string | undefined, domains: readonly string[]) => LeaseOfDisk

/** With virtlockd only a node that answers can say who has a lock: its files tell nothing. */
const lockOf: Read = (facts, name, path, domains) => {
  const owner = lockdHolder(facts, [name, ...(path === undefined ? [] : [path])], path)
  return { path, domains, name, file: facts.files.get(name), standing: owner === undefined ? 'free' : 'held', owner }
}

const leaseOf: Read = (facts, name, path, domains) => {
  const file = facts.files.get(name)
  const common = { path, domains, name, file }
  if (file === undefined) return { ...common, standing: 'none', owner: undefined }
  const { record } = file
  if (record === undefined) return { ...common, standing: 'damaged', owner: undefined }
  const sharer = record.timestamp === 0 ? sharerOf(facts, name) : undefined
  if (sharer !== undefined) return { ...common, standing: 'held', owner: sharer }
  const owner = record.ownerId === 0 ? undefined : ownerOf(facts, record.ownerId, record.ownerGeneration, name)
  return {
    ...common,
    standing: record.timestamp === 0 ? 'free' : standingOf(facts, record.ownerId, record.ownerGeneration),
    owner,
  }
}

/** A node that does not answer is known by the name that havirt gave its sanlock. */
function ownerOf(facts: LeaseFacts, hostId: number, generation: number, name: string): Owner {
  const hostName = facts.hosts.get(hostId)?.name ?? ''
  const isSilent = facts.cluster.nodes.has(hostName) && !facts.nodes.has(hostName)
  const node = nodeOfHost(facts.nodes, hostId) ?? (isSilent ? hostName : undefined)
  const leases = node === undefined ? undefined : facts.nodes.get(node)
  const held = leases?.sanlock?.held.find(each => each.name === name)
  const domain = leases === undefined || held === undefined ? undefined : domainOfPid(leases, held)
  return { hostId, generation, node, hostName, domain }
}

/** The first node that says it holds a lease whose file says that nobody has it: that is how the lease of a shareable disk is held. */
function sharerOf({ nodes }: LeaseFacts, name: string): Owner | undefined {
  for (const [node, leases] of nodes) {
    const held = leases.sanlock?.held.find(each => each.name === name)
    const space = leases.sanlock?.lockspace
    if (held === undefined || space === undefined) continue
    const { hostId, generation } = space
    return { hostId, generation, node, hostName: node, domain: domainOfPid(leases, held) }
  }
  return undefined
}

/** The node that joined with this host id, or that is set up to. */
export function nodeOfHost(nodes: LeaseFacts['nodes'], hostId: number): string | undefined {
  const joined = [...nodes].find(([, { sanlock }]) => sanlock?.lockspace?.hostId === hostId)
  const meant = [...nodes].find(([, { settings }]) => Number(settings.sanlock.get('host_id')) === hostId)
  return (joined ?? meant)?.[0]
}

/** The domain that a lease's process is. */
export function domainOfPid({ pids }: NodeLeases, { pid }: HeldLease): string | undefined {
  return [...pids].find(([, each]) => each === pid)?.[0]
}

function lockdHolder(
  { nodes, cluster }: LeaseFacts,
  names: readonly string[],
  path: string | undefined,
): Owner | undefined {
  for (const [node, { lockd }] of nodes) {
    if (lockd?.held.some(({ name }) => names.includes(name)) !== true) continue
    const running = domainsWithDisks(cluster).find(
      each => each.running === node && path !== undefined && leasePaths(each.domain).includes(path),
    )
    return { hostId: 0, generation: 0, node, hostName: node, domain: running?.domain.name }
  }
  return undefined
}

function standingOf(facts: LeaseFacts, hostId: number, generation: number): Standing {
  const host = facts.hosts.get(hostId)
  if (host !== undefined && (host.generation !== generation || host.timestamp === 0)) return 'old'
  const state = stateOfHost(facts.nodes, hostId)
  return state === 'dead' ? 'dead' : state === 'live' ? 'held' : 'doubt'
}

/** What the nodes' sanlocks make of a host: alive if any of them says so, dead only if none says better. */
export function stateOfHost(nodes: LeaseFacts['nodes'], hostId: number): HostState {
  const said = [...nodes.values()].flatMap(({ sanlock }) => sanlock?.hosts.get(hostId)?.state ?? [])
  const order: HostState[] = ['live', 'fail', 'unknown', 'dead', 'free']
  return order.find(state => said.includes(state)) ?? 'unknown'
}

/** Leases of running domains, as their node has them. */
export interface Unprotected {
  readonly domain: string
  readonly node: string
  /** Paths of disks that it writes and has no lease for. */
  readonly paths: readonly string[]
  /** It is paused, and so has given its leases back, as it should. */
  readonly paused: boolean
}

/** What it takes to tell whose leases are there: the domains, what their nodes hold, and how each path's lease is called. */
export type HeldNow = Pick<LeaseFacts, 'cluster' | 'nodes' | 'names'>

/** What runs has leases; what is paused, crashed or suspended has given them back. */
const RUNNING: ReadonlySet<string> = new Set(['running', 'blocked', 'shutdown'])

/** Domains that run without the leases that they should have; also a paused one, which holds none. */
export function unprotected({ nodes, cluster, names }: HeldNow): Unprotected[] {
  return sightings(cluster).flatMap(({ node, domain }): Unprotected[] => {
    const leases = nodes.get(node)
    if (leases === undefined || !domain.active || domain.definition === undefined) return []
    const paths = leasePaths(domain.definition).filter(path => !holds(leases, domain.name, path, names))
    return paths.length === 0 ? [] : [{ domain: domain.name, node, paths, paused: !RUNNING.has(domain.state) }]
  })
}

/** True when this domain's own process holds the lease of the path. virtlockd does not tell for which of its clients. */
function holds(leases: NodeLeases, domain: string, path: string, names: LeaseFacts['names']): boolean {
  const { sanlock, lockd, settings, pids } = leases
  const name = names.get(path)
  if (settings.manager === 'lockd') return lockd?.held.some(each => each.name === name || each.name === path) === true
  const pid = pids.get(domain)
  return pid !== undefined && sanlock?.held.some(each => each.name === name && each.pid === pid) === true
}
