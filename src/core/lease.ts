/**
 * Disk leases: what sanlock or virtlockd, below libvirt, keep for the disks that running domains write. Facts only. They refuse what
 * nobody above can see; a lease that is missing proves nothing, since a paused domain holds none (rule 13).
 */
import type { Disk, Domain } from './domain.ts'

/** libvirt's lock managers by the names that qemu.conf has for them. */
export const leaseManagers = ['sanlock', 'lockd'] as const
export type LeaseManager = (typeof leaseManagers)[number]

/** The lockspace that libvirt makes for its own leases, and the name of its file in the folder (libvirt's lock_driver_sanlock.c). */
export const LOCKSPACE = '__LIBVIRT__DISKS__'

/** Where `lease enable` says that sanlock comes before libvirt at boot; Debian's own units do not. */
export const SANLOCK_ORDER_FILE = '/etc/systemd/system/sanlock.service.d/havirt.conf'

/** A process may have no more leases than this (SANLK_MAX_RESOURCES of sanlock_resource.h): a ninth writable disk cannot start. */
export const MAX_LEASES = 8

/** Host ids that a lockspace has room for (sanlock(8)). */
export const MAX_HOST_ID = 2000

/** What sanlock on one node holds of a host of the lockspace: by its own watching, on its own clock (sanlock(8), host_status). */
export type HostState = 'live' | 'fail' | 'dead' | 'free' | 'unknown'

export interface SeenHost {
  readonly hostId: number
  readonly generation: number
  readonly state: HostState
  /** When it was last seen to renew, on the watching sanlock's own clock; 0: never. */
  readonly aliveSeconds: number
}

/** A host's own record in the lockspace, as it is on the disk. */
export interface LeaseHost {
  readonly hostId: number
  readonly generation: number
  /** Seconds of that host's own monotonic clock when it last renewed; 0: it left. */
  readonly timestamp: number
  readonly name: string
  readonly ioTimeoutSeconds: number
}

/** Who has a lease, or had it last, as it is on the disk. */
export interface LeaseRecord {
  readonly ownerId: number
  readonly ownerGeneration: number
  /** How often it was taken. */
  readonly version: number
  /** Seconds of the owner's own clock when it was taken; 0: it was given back. */
  readonly timestamp: number
}

/** A file of the folder. It belongs to the disk whose path has its name as MD5. */
export interface LeaseFile {
  readonly name: string
  readonly bytes: number
  /** When it was last written, by the clock of the machine that stores it: milliseconds since 1970. */
  readonly writtenMs: number
  /** Undefined: it is no lease, or a damaged one, and nobody knows whether somebody has it. */
  readonly record: LeaseRecord | undefined
}

/** A lease that a process of this node has. */
export interface HeldLease {
  /** The file's name: for sanlock the MD5 of the disk's path, for virtlockd whatever its lockspace names it by. */
  readonly name: string
  readonly pid: number | undefined
  readonly shared: boolean
}

/** The lockspace as the sanlock of one node has it. Seconds are those of {@link Sanlock.nowSeconds}. */
export interface Lockspace {
  readonly hostId: number
  readonly generation: number
  readonly path: string
  readonly ioTimeoutSeconds: number
  readonly renewedSeconds: number
  /** `joining` may last 20 s, or 140 s after a crash; `lost`: its renewals failed, and what holds leases here is being killed. */
  readonly state: 'joined' | 'joining' | 'leaving' | 'lost'
}

/** A running sanlock daemon. */
export interface Sanlock {
  readonly hostName: string
  /** It has wdmd reset the machine when it can no longer renew and processes do not die. */
  readonly watchdog: boolean
  /** Its own clock, in seconds. */
  readonly nowSeconds: number
  readonly lockspace: Lockspace | undefined
  /** Processes that are registered with it, whether they hold anything now or not. */
  readonly pids: ReadonlySet<number>
  readonly held: readonly HeldLease[]
  readonly hosts: ReadonlyMap<number, SeenHost>
}

/** A running virtlockd. */
export interface Lockd {
  readonly held: readonly HeldLease[]
  /** It was started after libvirt was, which therefore asks it for lockspaces that it does not have: every start fails. */
  readonly newerThanLibvirt: boolean
}

/** The folder of the leases as one node has it. */
export interface LeaseFolder {
  readonly path: string
  readonly exists: boolean
  /** As stat(1) names it. */
  readonly filesystem: string
  /** What is mounted there, and how: `server:/export`, `rw,local_lock=none`. */
  readonly source: string
  readonly options: string
}

/** What libvirt's configuration says of leases on one node. */
export interface LeaseSettings {
  /** `lock_manager` of qemu.conf; empty where there is none. */
  readonly manager: string
  /** It says in so many words that there is none: a second line would not be read. */
  readonly saysNone: boolean
  readonly sanlock: ReadonlyMap<string, string>
  readonly lockd: ReadonlyMap<string, string>
  /** `our_host_name` of sanlock.conf; empty: it has a new one each time it starts, and joins again only after minutes. */
  readonly hostName: string
}

/** Everything about leases on one node. */
export interface NodeLeases {
  readonly settings: LeaseSettings
  /** What is installed: `sanlock`, `virtlockd`, and libvirt's plugins `sanlock.so` and `lockd.so`. */
  readonly installed: ReadonlySet<string>
  /** The service that runs domains: `libvirtd`, or `virtqemud` where the daemons are split. */
  readonly service: string
  readonly sanlock: Sanlock | undefined
  readonly lockd: Lockd | undefined
  /** At boot sanlock comes before libvirt, which joins the lockspace only as it starts. */
  readonly ordered: boolean
  /** The user that sanlock runs as. */
  readonly user: string
  /** A watchdog device is there, and wdmd runs. */
  readonly wdmd: boolean
  /** The QEMU of each domain, as libvirt wrote it down. */
  readonly pids: ReadonlyMap<string, number>
  readonly folder: LeaseFolder
  /** Links of /dev/disk/by-id, by the kernel's name of their disk. */
  readonly stableNames: ReadonlyMap<string, readonly string[]>
}

/** libvirt's name for no manager at all. */
export const NO_MANAGER = 'nop'

/** `lock_manager` of qemu.conf as {@link LeaseSettings} has it. */
export function managerIn(value = ''): string {
  return value === NO_MANAGER ? '' : value
}

/** The folder for leases by the settings of one node. libvirt's default is that of lock_driver_sanlock.c. */
export function folderOf({ manager, sanlock, lockd }: LeaseSettings): string {
  if (manager === 'lockd') return lockd.get('file_lockspace_dir') ?? ''
  return sanlock.get('disk_lease_dir') ?? '/var/lib/libvirt/sanlock'
}

/** Mount options by which locks stay on the node: no lock manager can keep anybody else out then. */
export function localLocks({ options }: Pick<LeaseFolder, 'options'>): string | undefined {
  return /(?:^|,)(nolock|local_lock=(?:all|posix))(?:,|$)/.exec(options)?.[1]
}

/** sanlock's own default (sanlock(8)). */
export const DEFAULT_IO_TIMEOUT_SECONDS = 10

/** sanlock(8): renewals that fail for so long lose the lease, and from then on processes are killed. */
export function lostAfterSeconds(ioTimeoutSeconds: number): number {
  return 8 * ioTimeoutSeconds
}

/** sanlock(8): a host that did not renew for so long is dead to all others, since its watchdog has fired by then. */
export function deadAfterSeconds(ioTimeoutSeconds: number): number {
  return lostAfterSeconds(ioTimeoutSeconds) + 60
}

/** The file of the lockspace that the settings mean. A node that has joined stays in its lockspace when they change (tried with libvirt 9). */
export function spaceFileOf(settings: LeaseSettings): string {
  return `${folderOf(settings)}/${LOCKSPACE}`
}

/** True when a domain of the node is guarded by this manager: it is configured, its daemon runs, and can give leases now. */
export function isGuarded({ settings, sanlock, lockd }: NodeLeases): boolean {
  if (settings.manager === 'sanlock')
    return sanlock?.lockspace?.state === 'joined' && sanlock.lockspace.path === spaceFileOf(settings)
  return settings.manager === 'lockd' && lockd !== undefined && !lockd.newerThanLibvirt
}

/** Why a lock manager kept a domain from running, by what libvirt 9 says then (tried with sanlock 3.8 and virtlockd). */
export type LockRefusal = 'held' | 'notJoined' | 'noDaemon' | 'noLockspace' | 'tooMany' | 'damaged'

const LOCK_REFUSALS: readonly (readonly [RegExp, LockRefusal])[] = [
  [/Failed to acquire lock: Lease is held by another host|Lockspace resource '[^']*' is locked/, 'held'],
  [/Failed to acquire lock: (?:Message too long|Lease does not exist on storage|Lease checksum error)/, 'damaged'],
  // The lockspace is what has no room for it: the disk is fine.
  [/Failed to acquire lock: No space left on device/, 'notJoined'],
  [
    /Failed to open socket to sanlock daemon|Lock Driver error[^;]*Connection refused|Unable to query sector size[^;]*Connection refused/,
    'noDaemon',
  ],
  [/Lockspace for path \S+ does not exist/, 'noLockspace'],
  [/Too many resources \d+ for object/, 'tooMany'],
]

/** Reads that in an error of virsh; undefined when it is about something else. */
export function lockRefusalIn(said: string): LockRefusal | undefined {
  return LOCK_REFUSALS.find(([pattern]) => pattern.test(said))?.[1]
}

/** A disk that no lease covers, and why. */
export interface Uncovered {
  readonly disk: string
  readonly why: string
}

/** The disks that a domain writes: what it wants a lease for, if it can have one. */
export function leasable(domain: Domain): Disk[] {
  return domain.disks.filter(({ readOnly, source }) => !readOnly && source.kind !== 'none')
}

/** The paths by whose text the leases of a domain are named, one for each disk that it writes and a lease can cover. */
export function leasePaths(domain: Domain): string[] {
  return leasable(domain).flatMap(({ source }) => ('path' in source ? [source.path] : []))
}

/** Disks that the domain writes and no lease covers, whatever is set up: libvirt's qemu driver leaves them out. */
export function uncoverable(domain: Domain, manager: LeaseManager): Uncovered[] {
  const disks = leasable(domain)
  const found = disks.flatMap(({ target, source }): Uncovered[] => {
    if (source.kind === 'network') return [{ disk: target, why: `libvirt takes no lease for ${source.protocol} disks` }]
    if (source.kind === 'other') return [{ disk: target, why: `libvirt takes no lease for ${source.type} disks` }]
    if (source.kind === 'volume') return [{ disk: target, why: 'a volume of a pool has its path on its node only' }]
    return []
  })
  const ninth = disks.filter(({ source }) => 'path' in source)[MAX_LEASES]
  if (manager !== 'sanlock' || ninth === undefined) return found
  return [...found, { disk: ninth.target, why: `sanlock gives a domain ${MAX_LEASES} leases at most` }]
}

/** Kernel names, which may mean another disk after the next boot. A lease is named by the text of the path, so it would, too. */
const UNSTABLE = /^\/dev\/(?:(?:sd|vd|xvd|hd)[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|dm-\d+|md\d+|loop\d+|sr\d+)$/

export function isUnstable(path: string): boolean {
  return UNSTABLE.test(path)
}

const BEST_NAMES = ['wwn-', 'dm-uuid-mpath-', 'scsi-', 'nvme-']

/** The name under which to write a disk instead: what says most about the disk itself comes first. */
export function stableNameOf(leases: NodeLeases, path: string): string | undefined {
  const names = leases.stableNames.get(path.replace('/dev/', '')) ?? []
  const rank = (name: string) => {
    const at = BEST_NAMES.findIndex(start => name.startsWith(start))
    return at < 0 ? BEST_NAMES.length : at
  }
  const [best] = [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
  return best === undefined ? undefined : `/dev/disk/by-id/${best}`
}
