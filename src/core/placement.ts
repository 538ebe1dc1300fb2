/** Which node can host a domain, and which is best. Every reason against is a refusal from the closed list. */
import type { Cluster } from './cluster.ts'
import { upNodes } from './cluster.ts'
import type { Disk, Domain } from './domain.ts'
import { placeOf } from './domain-xml.ts'
import type { Reservation } from './ledger.ts'
import { cpuKey, cpuQuestionOf, isSharedIdentity, load, type Node, type UpNode } from './node.ts'
import { type Refusal, refuse, refuseSilent } from './refusal.ts'
import { ruleRefusals, rulesAgainst } from './rules.ts'

/** What an observation must ask of a node before the domain can be placed there. */
export interface Needs {
  readonly paths: readonly string[]
  /** `pool/volume`. */
  readonly volumes: readonly string[]
  readonly devices: readonly string[]
}

/** The paths and volumes that these disks are; a disk over the network or an empty drive is neither. */
export function placesOf(disks: readonly Disk[]): { paths: string[]; volumes: string[] } {
  const sources = disks.map(({ source }) => source)
  const paths = sources.flatMap(source => ('path' in source ? [source.path] : []))
  const volumes = sources.flatMap(source => (source.kind === 'volume' ? [`${source.pool}/${source.volume}`] : []))
  return { paths: [...new Set(paths)], volumes: [...new Set(volumes)] }
}

/** The paths and network devices that the domain needs on its node. */
export function needsOf(domain: Domain): Needs {
  const disks = placesOf(domain.disks)
  const bridges = domain.interfaces.flatMap(({ kind, source }) =>
    (kind === 'bridge' || kind === 'direct') && source !== undefined ? [source] : [],
  )
  const paths = [...new Set([...disks.paths, ...boundPaths(domain)])]
  return { paths, volumes: disks.volumes, devices: [...new Set(bridges)] }
}

/** Files of one node that belong to the domain: UEFI variables, TPM state. Devices of the host have no path. */
function boundPaths(domain: Domain): string[] {
  return domain.nodeBound.flatMap(({ what }) => (what.startsWith('/') ? [what] : []))
}

/** Room for domains on a node: capacity by the configured ratios, less what its active domains hold and what is reserved. */
export function room(
  cluster: Pick<Cluster, 'config'>,
  node: Answering,
  except?: string,
): { memoryMiB: number; vcpus: number } {
  const capacity = capacityOf(cluster, node.seen)
  const held = load(node.seen)
  const reserved = reservations(node, except)
  const sum = (what: 'memoryMiB' | 'vcpus') => reserved.reduce((total, each) => total + each[what], held[what])
  return { memoryMiB: capacity.memoryMiB - sum('memoryMiB'), vcpus: capacity.vcpus - sum('vcpus') }
}

/** The most that domains may hold on a node, by the configured ratios. */
export function capacityOf({ config }: Pick<Cluster, 'config'>, seen: UpNode): { memoryMiB: number; vcpus: number } {
  const { reservedMemoryMiB, memoryRatio, vcpuRatio } = config.node
  return {
    memoryMiB: Math.floor((seen.memoryMiB - reservedMemoryMiB) * memoryRatio),
    vcpus: Math.floor(seen.cpus * vcpuRatio),
  }
}

/** A node that answered. */
type Answering = Node & { readonly seen: UpNode }

/**
 * What is reserved for domains that are still to arrive; one that is active there already is counted as such. Who reserved first
 * comes first: of two that reserved the last room at one moment, exactly one sees the other before itself.
 */
export function reservations({ ledger, seen }: Answering, except?: string): Reservation[] {
  const here = new Set(seen.domains.filter(({ active }) => active).map(({ uuid }) => uuid))
  const ours = ledger.reservations.findIndex(({ uuid }) => uuid === except)
  const first = ours < 0 ? ledger.reservations : ledger.reservations.slice(0, ours)
  return first.filter(({ uuid }) => !here.has(uuid))
}

/** What of the rules does not count: none of them, or that these domains are elsewhere, since they come along. */
export type RulesWaived = 'all' | { readonly along: readonly string[] }

/** Every reason why this node cannot host the domain; empty when it can. A silent node cannot be asked, so it cannot host. */
export function objections(
  cluster: Cluster,
  domain: Domain,
  node: Node,
  waived: RulesWaived = { along: [] },
): Refusal[] {
  const closed = notOpen(cluster, node)
  const { seen, name } = node
  if (closed.length > 0 || seen.state !== 'up') return closed
  return [
    ...lackOfRoom(cluster, domain, { ...node, seen }),
    ...unfit(cluster, domain, name, seen),
    ...(waived === 'all' ? [] : ruleRefusals(cluster, domain.name, name, waived.along)),
  ]
}

/** The same but for room and rules: what stands against the node however empty it is. */
export function obstacles(cluster: Cluster, domain: Domain, node: Node): Refusal[] {
  const closed = notOpen(cluster, node)
  const { seen, name } = node
  return closed.length > 0 || seen.state !== 'up' ? closed : unfit(cluster, domain, name, seen)
}

/** What the domain needs and an open node does not have. */
function unfit(cluster: Cluster, domain: Domain, name: string, seen: UpNode): Refusal[] {
  return [
    ...missingDisks(domain, name, seen),
    ...missingNetworks(domain, name, seen),
    ...unfitCpu(domain, name, seen),
    ...leftBehind(cluster, domain, name, seen),
    ...otherDefinitions(domain, name, seen),
    ...(domain.hugePages ? [refuse('hugePages', { domain: domain.name, node: name })] : []),
  ]
}

/** Why the node receives nothing at all, whatever it is. */
function notOpen(cluster: Cluster, node: Node): Refusal[] {
  const { seen, name } = node
  if (seen.state !== 'up') return [refuseSilent(name, seen)]
  const standing = notReceiving(cluster, node)
  if (standing.length > 0) return standing
  return seen.inquiryProblem === undefined ? [] : [refuse('probeFailed', { node: name, problem: seen.inquiryProblem })]
}

/** Not receiving (rule 8): in maintenance, failing a validation that is required, or answering again but called down and not reconciled. */
function notReceiving({ config }: Cluster, { name, ledger }: Node): Refusal[] {
  const { maintenance, down, invalid, passed = [] } = ledger
  const failed = invalid?.checks.filter(check => config.validate.required.includes(check)) ?? []
  return [
    ...(maintenance === undefined
      ? []
      : [refuse('maintenance', { node: name, by: maintenance.by, since: maintenance.since })]),
    ...(down === undefined ? [] : [refuse('returned', { node: name, by: down.by, since: down.since })]),
    ...(passed.length === 0 ? [] : [refuse('copyLeft', { node: name, domains: passed.map(({ domain }) => domain) })]),
    ...(failed.length === 0 ? [] : [refuse('validation', { node: name, checks: failed, since: invalid?.since ?? '' })]),
  ]
}

function lackOfRoom(cluster: Cluster, domain: Domain, node: Answering): Refusal[] {
  const free = room(cluster, node, domain.uuid)
  const about = { domain: domain.name, node: node.name, reserved: reservedTexts(reservations(node, domain.uuid)) }
  const refusals: Refusal[] = []
  if (domain.memoryMiB > free.memoryMiB)
    refusals.push(refuse('memory', { ...about, neededMiB: domain.memoryMiB, freeMiB: Math.max(0, free.memoryMiB) }))
  if (domain.vcpus > free.vcpus)
    refusals.push(refuse('vcpus', { ...about, needed: domain.vcpus, free: Math.max(0, free.vcpus) }))
  return refusals
}

function reservedTexts(reserved: readonly Reservation[]): string[] {
  return reserved.map(({ domain, memoryMiB, by }) => `${memoryMiB} MiB for ${domain} by ${by}`)
}

function missingDisks(domain: Domain, node: string, seen: UpNode): Refusal[] {
  return domain.disks.flatMap(disk => missingDisk(domain.name, disk, node, seen))
}

function missingDisk(domain: string, { source }: Disk, node: string, seen: UpNode): Refusal[] {
  if (source.kind === 'volume' && !seen.pools.includes(source.pool))
    return [refuse('poolMissing', { domain, node, pool: source.pool })]
  const place = placeOf(source)
  if (place !== undefined && seen.paths.get(place)?.exists === false)
    return [refuse('diskMissing', { domain, node, path: place })]
  return []
}

function missingNetworks(domain: Domain, node: string, seen: UpNode): Refusal[] {
  return domain.interfaces.flatMap(({ kind, source }) => {
    if (source === undefined) return []
    if (kind === 'network' && !seen.networks.includes(source)) {
      return [refuse('networkMissing', { domain: domain.name, node, network: source })]
    }
    const missing = (kind === 'bridge' || kind === 'direct') && seen.devices.get(source) === false
    return missing ? [refuse('bridgeMissing', { domain: domain.name, node, bridge: source })] : []
  })
}

/**
 * What is shut off there and has the domain's name or its uuid, but not both: libvirt takes neither a second name for a uuid nor a
 * second uuid for a name (virDomainObjListAdd).
 */
function otherDefinitions({ name, uuid }: Domain, node: string, seen: UpNode): Refusal[] {
  const others = seen.domains.filter(each => !each.active && (each.name === name) !== (each.uuid === uuid))
  return others.map(other => refuse('otherDefinition', { domain: name, node, other: other.name, uuid: other.uuid }))
}

/** State that another node has and this one lacks: libvirt would begin anew here, with empty UEFI variables or a blank TPM. */
function leftBehind(cluster: Cluster, domain: Domain, node: string, seen: UpNode): Refusal[] {
  return domain.nodeBound.flatMap(({ kind, what }) => {
    if (seen.paths.get(what)?.exists !== false) return []
    const keeper = upNodes(cluster).find(other => other.name !== node && other.seen.paths.get(what)?.exists === true)
    return keeper === undefined ? [] : [refuse('nodeBound', { domain: domain.name, kind, what, node: keeper.name })]
  })
}

function unfitCpu(domain: Domain, node: string, seen: UpNode): Refusal[] {
  const question = cpuQuestionOf(domain)
  const verdict = question === undefined ? undefined : seen.cpuVerdicts?.get(cpuKey(question))
  if (verdict === undefined || verdict === 'runs') return []
  if (verdict === 'cannot')
    return [refuse('cpuModel', { domain: domain.name, node, model: domain.cpu?.model ?? domain.cpu?.mode ?? 'CPU' })]
  return [refuse('cpuUnknown', { domain: domain.name, node, problem: verdict.unknown })]
}

/** Filesystems that several hosts mount at once (libvirt's own list, virFileIsSharedFSType), as stat(1) names them. */
const SHARED_FILESYSTEMS = new Set([
  'nfs',
  'nfs4',
  'smb',
  'smb2',
  'cifs',
  'gfs',
  'gfs2',
  'gfs/gfs2',
  'ocfs2',
  'ceph',
  'fuseblk',
  'fuse',
  'afs',
  'acfs',
  'gpfs',
  'glusterfs',
  'lustre',
  'panfs',
  'vxfs',
  'beegfs',
  'quobyte',
  'pvfs',
  'coda',
])

/** Why a disk that the domain keeps open would not be the same one on the target; empty when every disk is shared. */
export function unsharedDisks(domain: Domain, from: UpNode, to: UpNode): Refusal[] {
  return domain.disks.flatMap(({ source }) => {
    const path = placeOf(source)
    // A volume of a network pool has no path on any node, and nothing to compare.
    if (path === undefined || (source.kind === 'volume' && !from.paths.has(path) && !to.paths.has(path))) return []
    const why = unshared(path, from, to) ?? differentFile(path, from, to)
    return why === undefined ? [] : [refuse('diskNotShared', { domain: domain.name, path, why })]
  })
}

/** What a running domain would leave on `from`: devices always, files unless they lie on shared storage that the target has. */
export function staysBehind(domain: Domain, node: string, from: UpNode, to: UpNode): Refusal[] {
  return domain.nodeBound
    .filter(({ what }) => to.paths.get(what)?.exists !== true || unshared(what, from, to) !== undefined)
    .map(({ kind, what }) => refuse('nodeBound', { domain: domain.name, kind, what, node }))
}

function unshared(path: string, from: UpNode, to: UpNode): string | undefined {
  const here = from.paths.get(path)
  const there = to.paths.get(path)
  // A path that is missing on the target has its own refusal, which says more.
  if (there?.exists === false) return undefined
  if (here === undefined || there === undefined) return 'it could not be looked at on both nodes'
  if (here.kind === 'block') return differentDevice(shared(here.identity), shared(there.identity))
  // Both ends: where the share is not mounted, the same path is another file.
  const local = [here, there].find(({ filesystem }) => !SHARED_FILESYSTEMS.has(filesystem ?? ''))
  return local === undefined
    ? undefined
    : `it lies on ${local.filesystem ?? 'an unknown filesystem'}, which one host mounts`
}

/** One path on two shares: each node would write a file of its own. */
function differentFile(path: string, from: UpNode, to: UpNode): string | undefined {
  const [here, there] = [shared(from.paths.get(path)?.identity), shared(to.paths.get(path)?.identity)]
  return here === undefined || there === undefined ? undefined : differentDevice(here, there)
}

/** What another host can compare. */
function shared(identity: string | undefined): string | undefined {
  return identity !== undefined && isSharedIdentity(identity) ? identity : undefined
}

function differentDevice(here: string | undefined, there: string | undefined): string | undefined {
  if (here === undefined || there === undefined)
    return 'the device has no WWID or other identity that two hosts could compare'
  return here === there ? undefined : `it is ${here} on the source and ${there} on the target`
}

/** The nodes that can host the domain, best first: the fewest soft rules unmet, the most memory left, then the most vCPUs, then by name. */
export function candidates(cluster: Cluster, domain: Domain, waived?: RulesWaived): string[] {
  const fit = upNodes(cluster).filter(node => objections(cluster, domain, node, waived).length === 0)
  const unmet = new Map(fit.map(({ name }) => [name, rulesAgainst(cluster, domain.name, name).length]))
  const left = new Map(fit.map(node => [node.name, room(cluster, node, domain.uuid)]))
  const value = (name: string, what: 'memoryMiB' | 'vcpus') => left.get(name)?.[what] ?? 0
  return fit
    .map(node => node.name)
    .sort(
      (a, b) =>
        (unmet.get(a) ?? 0) - (unmet.get(b) ?? 0) ||
        value(b, 'memoryMiB') - value(a, 'memoryMiB') ||
        value(b, 'vcpus') - value(a, 'vcpus') ||
        (a < b ? -1 : 1),
    )
}
