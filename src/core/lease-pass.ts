/**
 * Past an unreachable node by leases (docs/safety.md, its section of that name): when a domain may start although the node where it ran
 * does not answer. The node must have been guarded when it was last seen, the domain must have run there with a lease for each disk that
 * it writes, and each of them must still be in that host's name: what is free proves nothing. Then sanlock is waited for.
 */
import { type Cluster, sightingsOf, unknownNodes } from './cluster.ts'
import type { Domain } from './domain.ts'
import {
  DEFAULT_IO_TIMEOUT_SECONDS,
  deadAfterSeconds,
  folderOf,
  isGuarded,
  leasePaths,
  type NodeLeases,
  uncoverable,
} from './lease.ts'
import type { LeasesOfNodes } from './leases.ts'
import type { Passed } from './ledger.ts'
import { type Refusal, refuse } from './refusal.ts'
import type { StepArgs } from './step.ts'

/** What the store remembers of the leases of a node, as its last observation showed them. It allows nothing by itself (rule 6). */
export interface LeaseSighting {
  /** The node's own id: another machine may have its name by now. */
  readonly nodeId: string
  readonly hostId: number
  readonly generation: number
  readonly watchdog: boolean
  readonly domains: Readonly<Record<string, SightedDomain>>
}

export interface SightedDomain {
  readonly name: string
  readonly state: string
  /** Why it had not a lease for each disk that it writes; absent: it had. */
  readonly without?: string
  /** libvirt starts it there by itself when the node boots. */
  readonly autostart?: true
}

/** What a start knows of leases when a node is silent. */
export interface LeaseKnowledge extends LeasesOfNodes {
  readonly sightings: ReadonlyMap<string, LeaseSighting>
  /** Nodes on which a command for the domain may still be carried out. */
  readonly doubts: ReadonlySet<string>
}

/** How a start gets past one silent node: what it waits for; or why it does not. */
export type Passage = Pick<
  StepArgs['awaitHostDead'],
  'silent' | 'hostId' | 'generation' | 'timeoutMs' | 'withoutWatchdog'
>

/** Beyond the time by which sanlock counts a host as dead: its next look, and ours. */
const SLACK_SECONDS = 30

/** The passages past every silent node, or every reason why there is none. Without the setting there is none, and nothing to say. */
export function passages(
  cluster: Cluster,
  domain: Domain,
  target: string,
): { readonly ways: readonly Passage[]; readonly refusals: readonly Refusal[] } | undefined {
  const silent = unknownNodes(cluster)
  if (!cluster.config.lease.passUnreachable || cluster.leases === undefined || silent.length === 0) return undefined
  const { leases } = cluster
  const ways: Passage[] = []
  const refusals: Refusal[] = []
  for (const { name, seen } of silent) {
    const way =
      seen.state === 'busy' ? 'it answers, though not everything' : passageOf(cluster, leases, domain, name, target)
    if (typeof way === 'string') refusals.push(refuse('notPassable', { domain: domain.name, node: name, why: way }))
    else ways.push(way)
  }
  return { ways, refusals }
}

function passageOf(
  cluster: Cluster,
  leases: LeaseKnowledge,
  domain: Domain,
  silent: string,
  target: string,
): Passage | string {
  const sighting = leases.sightings.get(silent)
  const problem =
    seenProblem(cluster, leases, domain, silent) ?? watcherProblem(leases.nodes.get(target), target, leases.folder)
  if (problem !== undefined || sighting === undefined) return problem ?? 'nothing is known'
  const { hostId, generation, watchdog } = sighting
  const problems = leasePaths(domain).flatMap(path => leaseProblem(leases, path, sighting, silent) ?? [])
  if (problems[0] !== undefined) return problems[0]
  const ioTimeout = leases.hosts.get(hostId)?.ioTimeoutSeconds || DEFAULT_IO_TIMEOUT_SECONDS
  const timeoutMs = (deadAfterSeconds(ioTimeout) + SLACK_SECONDS) * 1000
  return { silent, hostId, generation, timeoutMs, ...(watchdog ? {} : { withoutWatchdog: true }) }
}

/** What the node's last observation must have shown. */
function seenProblem(
  { config, nodes }: Cluster,
  { sightings, doubts }: LeaseKnowledge,
  domain: Domain,
  silent: string,
): string | undefined {
  if (doubts.has(silent)) return 'a command for it may still be carried out there'
  const sighting = sightings.get(silent)
  const nodeId = nodes.get(silent)?.record.id
  if (sighting !== undefined && sighting.nodeId !== nodeId)
    return `${silent} was another machine when its leases were last seen`
  if (sighting === undefined)
    return `nobody recorded the leases of ${silent} while it answered (havirt node scan and lease status do)`
  const seen = sighting.domains[domain.uuid]
  if (seen === undefined)
    return `it did not run there when ${silent} was last seen, so it may have been started there since`
  if (seen.state !== 'running')
    return `it was ${seen.state} there when ${silent} was last seen, and only what runs holds leases`
  if (seen.without !== undefined) return `it ran there without all its leases: ${seen.without}`
  if (seen.autostart === true) return `it was set to autostart there, and would start by itself when ${silent} boots`
  const [bare] = uncoverable(domain, 'sanlock')
  if (bare !== undefined) return `no lease covers its disk ${bare.disk}: ${bare.why}`
  if (leasePaths(domain).length === 0) return 'it writes no disk that could have a lease'
  if (!sighting.watchdog && !config.lease.passWithoutWatchdog)
    return `no watchdog guarded ${silent}, so that it may run there although sanlock counts the node dead (lease.passWithoutWatchdog would allow it)`
  return undefined
}

/** Who is to start it must watch the others itself. */
function watcherProblem(leases: NodeLeases | undefined, target: string, folder: string): string | undefined {
  if (leases === undefined) return `${target} could not be asked for its leases`
  if (leases.settings.manager !== 'sanlock' || !isGuarded(leases)) return `${target} has not joined the lockspace`
  return folderOf(leases.settings) === folder ? undefined : `${target} has its leases in another folder than ${folder}`
}

function leaseProblem(
  leases: LeaseKnowledge,
  path: string,
  sighting: LeaseSighting,
  silent: string,
): string | undefined {
  const record = leases.files.get(leases.names.get(path) ?? '')?.record
  if (record === undefined) return `the lease of ${path} cannot be read`
  if (record.timestamp === 0) return `the lease of ${path} is free, and a paused domain holds none: that is no proof`
  if (record.ownerId !== sighting.hostId)
    return `the lease of ${path} is in the name of host id ${record.ownerId}, and ${silent} had ${sighting.hostId}`
  const host = leases.hosts.get(sighting.hostId)
  if (host === undefined) return `the lockspace has no record of host id ${sighting.hostId}`
  if (record.ownerGeneration !== sighting.generation || host.generation !== sighting.generation)
    return `${silent} has joined the lockspace anew since it was last seen`
  return undefined
}

// ---- a node that was passed, and is back --------------------------------------------------------------------------------

/**
 * What is left of a domain on a node that it was started past. `stale`: it runs elsewhere, or somebody else has taken its leases since, so
 * that its memory here is old. `own`: nobody else ever took them, so it is the domain itself. A text: why nobody can tell.
 */
export function whatIsLeft(
  cluster: Cluster,
  { uuid, domain, hostId, taken }: Passed,
  node: string,
): 'stale' | 'own' | string {
  const shown = sightingsOf(cluster, { name: domain, uuid }).filter(
    each => each.domain.active && each.domain.uuid === uuid,
  )
  if (shown.some(each => each.node !== node)) return 'stale'
  const records = Object.entries(taken).map(([name, times]) => ({
    times,
    record: cluster.leases?.files.get(name)?.record,
  }))
  if (records.some(({ record }) => record !== undefined && record.ownerId !== hostId)) return 'stale'
  if (records.length === 0 || records.some(({ record }) => record === undefined)) return 'its leases cannot be read'
  const [silent] = unknownNodes(cluster)
  if (silent !== undefined) return `${silent.name} does not answer, and may run it`
  // Somebody else in between would have made it two more: one for him, and one for this node, which has it again.
  const isOwn = records.every(({ times, record }) => record !== undefined && record.version <= times + 1)
  return isOwn ? 'own' : 'its leases were taken several times since, last by this node'
}
