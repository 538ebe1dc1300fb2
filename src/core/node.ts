/** A node: what the store remembers of it, and what one observation saw. Facts only. */
import type { Domain } from './domain.ts'
import type { Down, Ledger } from './ledger.ts'

/** What `node update` recorded: enough to know the node again (rule 7) and to print `node list` without asking it. */
export interface NodeRecord {
  /** The node's name: the alias by which ssh reaches it. */
  readonly name: string
  /** Random id that havirt wrote to /var/lib/havirt/id on the node. */
  readonly id: string
  /** The host's uuid as libvirt gives it in its capabilities. */
  readonly hostUuid: string
  readonly hostname: string
  /** Fingerprint of the ssh host key that was seen when the node was last updated; absent for the node we were on. */
  readonly sshHostKey?: string
  readonly cpuModel: string
  /** CPU threads that the node has. */
  readonly cpus: number
  readonly memoryMiB: number
  readonly sockets: number
  readonly coresPerSocket: number
  readonly threadsPerCore: number
  readonly mhz: number
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  /** ISO 8601, by the clock of whoever updated it: for people, never compared. */
  readonly updated: string
}

/** virDomainState by libvirt's own words. */
export type DomainState =
  | 'nostate'
  | 'running'
  | 'blocked'
  | 'paused'
  | 'shutdown'
  | 'shutoff'
  | 'crashed'
  | 'pmsuspended'

/** One domain as one node shows it. */
export interface DomainOnNode {
  readonly name: string
  readonly uuid: string
  readonly state: DomainState
  /** libvirt's reason number for the state (virDomainPausedReason and its kin). */
  readonly stateReason: number
  /** True in every state in which QEMU exists. */
  readonly active: boolean
  readonly persistent: boolean
  readonly autostart: boolean
  readonly managedSave: boolean
  readonly snapshots: boolean
  readonly vcpus: number
  readonly memoryMiB: number
  /** Its live definition; absent when the XML could not be read (`problem` says why) or was not asked for. */
  readonly definition?: Domain
  readonly problem?: string
  /** The process id of a QEMU that runs the domain although libvirt there does not list it; virsh cannot reach it. */
  readonly unlistedPid?: number
}

/** What a node knows about one path that a domain needs. */
export interface PathFacts {
  readonly exists: boolean
  readonly kind: 'file' | 'block' | 'folder' | 'other' | 'missing'
  /** The filesystem's type as stat(1) names it, `nfs`, `ext2/ext3`, ... */
  readonly filesystem?: string
  /** What it is: words that are equal for two names of one disk. For what only its node can tell see {@link localIdentity}. */
  readonly identity?: string
  /** Where a file or folder really is, with no link on the way. Device nodes are numbered anew at each boot, so they have none. */
  readonly canonical?: string
}

/** An identity that holds on one node only: the same words of another node mean another disk. */
export function localIdentity(node: string, what: string): string {
  return `local:${node}:${what}`
}

/** True when two nodes can compare it. */
export function isSharedIdentity(identity: string): boolean {
  return !identity.startsWith('local:')
}

/** The identity of a partition, by that of its disk. */
export function partitionOf(disk: string, number: string): string {
  return `${disk}-part${number}`
}

/** The identity of the disk that a partition, perhaps of a partition, is on; of a disk its own. */
export function wholeOf(identity: string): string {
  return identity.replace(/(-part\d+)+$/, '')
}

/** Whether two identities share bytes: they are the same, or one is a partition of the other. Two partitions are two disks. */
export function overlap(a: string, b: string): boolean {
  const [whole, part] = a.length < b.length ? [a, b] : [b, a]
  return a === b || (part.startsWith(`${whole}-part`) && wholeOf(part) === wholeOf(whole))
}

/** A CPU to compare, with the parts of the definition that libvirt's comparison wants. */
export interface CpuQuestion {
  readonly xml: string
  readonly type: string
  readonly arch?: string | undefined
  readonly machine?: string | undefined
  readonly emulator?: string | undefined
}

/** What a domain's CPU asks of a node; undefined for modes that follow the host, where there is nothing to compare. */
export function cpuQuestionOf({ cpu, type, arch, machine, emulator }: Domain): CpuQuestion | undefined {
  const named = cpu?.model !== undefined && (cpu.mode === 'custom' || cpu.mode === undefined)
  return named ? { xml: cpu.xml, type, arch, machine, emulator } : undefined
}

/** Equal for questions that have one answer. */
export function cpuKey({ xml, type, arch, machine, emulator }: CpuQuestion): string {
  return JSON.stringify([xml, type, arch, machine, emulator])
}

/** libvirt's own verdict on a CPU (virCPUCompareResult), or why there is none. */
export type CpuVerdict = 'runs' | 'cannot' | { readonly unknown: string }

/** A node that answered every question of the observation. */
export interface UpNode {
  readonly state: 'up'
  readonly hostUuid: string
  readonly cpuModel: string
  readonly cpus: number
  readonly memoryMiB: number
  readonly freeMemoryMiB: number
  readonly domains: readonly DomainOnNode[]
  /** Names of active libvirt networks and storage pools. */
  readonly networks: readonly string[]
  readonly pools: readonly string[]
  /** Answers to the observation's inquiry; empty when none was made. */
  readonly paths: ReadonlyMap<string, PathFacts>
  /** Network devices (bridges) asked for, and whether they exist. */
  readonly devices: ReadonlyMap<string, boolean>
  /** What was asked of CPUs, by {@link cpuKey}. */
  readonly cpuVerdicts?: ReadonlyMap<string, CpuVerdict>
  /** The host CPU element of the capabilities: host-passthrough compares it. */
  readonly hostCpu: string
  /** QEMUs that libvirt there does not list were looked for, too: what is not among the domains does not run. */
  readonly processes?: true
  /** libvirt's lock manager there, `sanlock` or `lockd`, empty where it has none; asked for together with the processes. */
  readonly lockManager?: string
  /** Why the inquiry could not be answered, when it could not. */
  readonly inquiryProblem?: string
}

/** A node that may be running anything (rule 2): it did not answer, or not everything, or is not who it was (rule 7). */
export interface SilentNode {
  readonly state: 'unreachable' | 'busy'
  /** One sentence with the tool's own message. */
  readonly reason: string
  /** What to check. */
  readonly hint: string
}

/** One node of the cluster: its record, what was written down about it, and what this observation saw. */
export interface Node {
  readonly name: string
  readonly record: NodeRecord
  readonly ledger: Ledger
  readonly seen: UpNode | SilentNode
  /** It was confirmed down and answered this look, and what runs there runs nowhere else: that has just been forgotten. */
  readonly lapsed?: Down
}

/** True when the node counts as off: it does not answer, and somebody vouches for it. One that answers, however badly, is not. */
export function isConfirmedDown({ ledger, seen }: Pick<Node, 'ledger' | 'seen'>): boolean {
  return ledger.down !== undefined && ledger.down.answered !== true && seen.state === 'unreachable'
}

/** A node's name reaches ssh, file names and tables: letters and digits first, nothing that an option or a path could be. */
const NODE_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})$/

/** True when `name` can be a node's name. `-oProxyCommand=...` cannot. */
export function isNodeName(name: string): boolean {
  return NODE_NAME.test(name) && !name.includes('..')
}

/** Everything but shut off without a saved image is presence (rule 1). */
export function isPresent(domain: DomainOnNode): boolean {
  return domain.active || domain.managedSave
}

/** virDomainPausedReason (libvirt-domain.h). */
export const pausedReason = {
  user: 1,
  migration: 2,
  ioError: 5,
  startingUp: 11,
  postCopy: 12,
  postCopyFailed: 13,
} as const

/** How the receiving end of a migration looks while it is under way. */
const INCOMING_REASONS: ReadonlySet<number> = new Set([pausedReason.migration, pausedReason.startingUp])

/** True when this may be the receiving (or handed-over) end of a migration: paused by libvirt for it, never run here. */
export function isMigrationEnd(domain: Pick<DomainOnNode, 'state' | 'stateReason'>): boolean {
  return domain.state === 'paused' && INCOMING_REASONS.has(domain.stateReason)
}

/** Half of the memory is on another node. */
const POST_COPY_REASONS: ReadonlySet<number> = new Set([pausedReason.postCopy, pausedReason.postCopyFailed])

/** True for an end of a post-copy migration that does not run: it must never be let run by hand or by us. */
export function isPostCopy(domain: Pick<DomainOnNode, 'state' | 'stateReason'>): boolean {
  return domain.state === 'paused' && POST_COPY_REASONS.has(domain.stateReason)
}

/** Memory and vCPUs that the active domains of a node hold. */
export function load(node: UpNode): { memoryMiB: number; vcpus: number } {
  const active = node.domains.filter(domain => domain.active)
  return {
    memoryMiB: active.reduce((sum, domain) => sum + domain.memoryMiB, 0),
    vcpus: active.reduce((sum, domain) => sum + domain.vcpus, 0),
  }
}
