/** Small builders for leases in tests: nodes with sanlock that have joined, and only what a test is about in its text. */
import { createHash } from 'node:crypto'
import type { Cluster } from '../../src/core/cluster.ts'
import type {
  HeldLease,
  HostState,
  LeaseFile,
  LeaseHost,
  LeaseRecord,
  LeaseSettings,
  Lockspace,
  NodeLeases,
  Sanlock,
  SeenHost,
} from '../../src/core/lease.ts'
import { knownPaths, type LeaseFacts, managerOf } from '../../src/core/leases.ts'
import { aCluster, aDomainOnNode, aNode } from './builders.ts'

export const LEASES = '/srv/leases'
/** The path of the disk of `web`, and of any other domain of {@link aDomain}. */
export const diskOf = (domain: string) => `/srv/${domain}.img`
/** What sanlock calls the lease of a path; worked out here by itself, so that a mistake in havirt shows. */
export const md5 = (path: string) => createHash('md5').update(path).digest('hex')
export const sha256 = (path: string) => createHash('sha256').update(path).digest('hex')

export const BYTES = 1024 * 1024
export const DAY_MS = 24 * 60 * 60 * 1000
/** What the fake clock of a world begins with. */
export const NOW_MS = Date.UTC(2026, 0, 1)

export function aLockspace(more: Partial<Lockspace> = {}): Lockspace {
  return {
    hostId: 1,
    generation: 1,
    path: `${LEASES}/__LIBVIRT__DISKS__`,
    ioTimeoutSeconds: 10,
    renewedSeconds: 995,
    state: 'joined',
    ...more,
  }
}

/** A lease that a process has. */
export function aHeld(path: string, pid: number, more: Partial<HeldLease> = {}): HeldLease {
  return { name: md5(path), pid, shared: false, ...more }
}

/** Hosts as a node's sanlock sees them: by host id, alive unless told. */
export function seenHosts(states: Readonly<Record<number, HostState | Partial<SeenHost>>>): Map<number, SeenHost> {
  return new Map(
    Object.entries(states).map(([id, state]) => [
      Number(id),
      {
        hostId: Number(id),
        generation: 1,
        aliveSeconds: 990,
        state: 'live',
        ...(typeof state === 'string' ? { state } : state),
      },
    ]),
  )
}

/** A sanlock with a watchdog that has joined; its own clock says 1000. */
export function aSanlock(more: Partial<Sanlock> = {}): Sanlock {
  return {
    hostName: 'node1',
    watchdog: true,
    nowSeconds: 1000,
    lockspace: aLockspace(),
    pids: new Set((more.held ?? []).flatMap(({ pid }) => pid ?? [])),
    held: [],
    hosts: seenHosts({ 1: 'live', 2: 'live', 3: 'live' }),
    ...more,
  }
}

/** Settings as `lease enable sanlock --dir /srv/leases` writes them. */
export function sanlockSettings(hostId: number, more: Readonly<Record<string, string>> = {}): LeaseSettings {
  return {
    manager: 'sanlock',
    saysNone: false,
    sanlock: new Map(
      Object.entries({
        auto_disk_leases: '1',
        disk_lease_dir: LEASES,
        host_id: String(hostId),
        require_lease_for_disks: '1',
        user: 'sanlock',
        group: 'sanlock',
        ...more,
      }),
    ),
    lockd: new Map(),
    hostName: `node${hostId}`,
  }
}

export function lockdSettings(more: Readonly<Record<string, string>> = {}): LeaseSettings {
  return {
    manager: 'lockd',
    saysNone: false,
    sanlock: new Map(),
    lockd: new Map(
      Object.entries({
        auto_disk_leases: '1',
        require_lease_for_disks: '1',
        file_lockspace_dir: LEASES,
        ...more,
      }),
    ),
    hostName: '',
  }
}

export const NO_SETTINGS: LeaseSettings = {
  manager: '',
  saysNone: false,
  sanlock: new Map(),
  lockd: new Map(),
  hostName: '',
}

/** nodeN with host id N: sanlock is set up there, runs and has joined. */
export function aNodeWithLeases(hostId = 1, more: Partial<NodeLeases> = {}): NodeLeases {
  return {
    settings: sanlockSettings(hostId),
    installed: new Set(['sanlock', 'virtlockd', 'sanlock.so', 'lockd.so']),
    service: 'libvirtd',
    sanlock: aSanlock({ hostName: `node${hostId}`, lockspace: aLockspace({ hostId }) }),
    lockd: undefined,
    ordered: true,
    user: 'sanlock',
    wdmd: true,
    pids: new Map(),
    folder: { path: LEASES, exists: true, filesystem: 'nfs', source: 'nas:/leases', options: 'rw' },
    stableNames: new Map(),
    ...more,
  }
}

/** The same with domains that hold leases of these paths: the first has the process 101, the next 102. */
export function holding(
  hostId: number,
  paths: Readonly<Record<string, readonly string[]>>,
  more: Partial<NodeLeases> = {},
): NodeLeases {
  const domains = Object.entries(paths)
  const held = domains.flatMap(([, list], at) => list.map(path => aHeld(path, 101 + at)))
  return aNodeWithLeases(hostId, {
    sanlock: aSanlock({ hostName: `node${hostId}`, lockspace: aLockspace({ hostId }), held }),
    pids: new Map(domains.map(([name], at) => [name, 101 + at])),
    ...more,
  })
}

/** A node as a distribution leaves it, with the packages: nothing is set up, and no daemon runs. */
export function aFreshNode(more: Partial<NodeLeases> = {}): NodeLeases {
  return aNodeWithLeases(0, {
    settings: NO_SETTINGS,
    sanlock: undefined,
    ordered: false,
    wdmd: false,
    folder: {
      path: '/var/lib/libvirt/sanlock',
      exists: true,
      filesystem: 'ext2/ext3',
      source: '/dev/sda1',
      options: 'rw',
    },
    ...more,
  })
}

/** A node with virtlockd, which holds the locks of these names or paths. */
export function aNodeWithLockd(held: readonly string[] = [], more: Partial<NodeLeases> = {}): NodeLeases {
  return aNodeWithLeases(0, {
    settings: lockdSettings(),
    sanlock: undefined,
    lockd: {
      held: held.map(name => ({ name, pid: undefined, shared: false })),
      newerThanLibvirt: false,
    },
    ...more,
  })
}

/** A host of the lockspace as it is on the disk. */
export function aLeaseHost(hostId: number, more: Partial<LeaseHost> = {}): LeaseHost {
  return { hostId, generation: 1, timestamp: 990, name: `node${hostId}`, ioTimeoutSeconds: 10, ...more }
}

export const hostsOf = (...hosts: readonly LeaseHost[]) => new Map(hosts.map(host => [host.hostId, host]))

/** The lease of a path, given back ten days ago; `damaged` where nobody can tell. */
export function aLeaseFile(
  path: string,
  record: Partial<LeaseRecord> | 'damaged' = {},
  more: Partial<LeaseFile> = {},
): LeaseFile {
  return {
    name: md5(path),
    bytes: BYTES,
    writtenMs: NOW_MS - 10 * DAY_MS,
    record: record === 'damaged' ? undefined : { ownerId: 1, ownerGeneration: 1, version: 1, timestamp: 0, ...record },
    ...more,
  }
}

/** node1 to node3, each with sanlock, and nothing that runs. */
export const THREE = () => new Map([1, 2, 3].map(id => [`node${id}`, aNodeWithLeases(id)]))

export interface FactParts {
  readonly cluster?: Cluster
  readonly nodes?: ReadonlyMap<string, NodeLeases>
  readonly unasked?: ReadonlyMap<string, string>
  readonly hosts?: ReadonlyMap<number, LeaseHost>
  readonly files?: readonly LeaseFile[]
  readonly folder?: string
}

/** Facts of node1 to node3 and the definition of `web`; names are those of every known disk. */
export function leaseFactsOf({
  cluster = aCluster(),
  nodes = THREE(),
  unasked = new Map(),
  hosts = hostsOf(aLeaseHost(1), aLeaseHost(2), aLeaseHost(3)),
  files = [],
  folder = LEASES,
}: FactParts = {}): LeaseFacts {
  const nameOf = managerOf(nodes) === 'lockd' ? sha256 : md5
  return {
    cluster,
    nodes,
    unasked,
    hosts,
    files: new Map(files.map(file => [file.name, file])),
    names: new Map([...knownPaths(cluster)].sort().map(path => [path, nameOf(path)])),
    folder,
  }
}

/** A cluster where web runs on node1, and node2 and node3 run nothing. */
export const webOnNode1 = () => aCluster({ nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2'), aNode('node3')] })
