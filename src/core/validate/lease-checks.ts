/** Checks of leases on the nodes: one lock manager, set up the same way everywhere, running, and joined. */
import { quote } from '../command.ts'
import {
  DEFAULT_IO_TIMEOUT_SECONDS,
  folderOf,
  type LeaseManager,
  LOCKSPACE,
  leasePaths,
  localLocks,
  MAX_HOST_ID,
  type NodeLeases,
} from '../lease.ts'
import { domainsWithDisks, type LeaseFacts, managerOf, stateOfHost } from '../leases.ts'
import { type Check, type Facts, type Finding, minority } from './facts.ts'
import type { CheckId } from './ids.ts'
import { on } from './on.ts'

/** What validation knows of leases, once some node has a lock manager. */
export interface Leased extends Facts {
  readonly leases: LeaseFacts
  /** The one that most nodes have. */
  readonly manager: LeaseManager
}

/** A check that has nothing to say while no node has a lock manager. */
export function ofLeases(id: CheckId, title: string, find: (facts: Leased) => readonly Finding[]): Check {
  return {
    id,
    title,
    run: facts => {
      const { leases } = facts
      const manager = leases === undefined ? undefined : managerOf(leases.nodes)
      return leases === undefined || manager === undefined ? [] : find({ ...facts, leases, manager })
    },
  }
}

/** The nodes that have a lock manager of their own, or this one. */
function using({ leases }: Leased, manager?: LeaseManager): [node: string, leases: NodeLeases][] {
  return [...leases.nodes].filter(([, { settings }]) =>
    manager === undefined ? settings.manager !== '' : settings.manager === manager,
  )
}

function eachUsing(manager: LeaseManager | undefined, find: (node: string, leases: NodeLeases) => readonly Finding[]) {
  return (facts: Leased) => using(facts, manager).flatMap(([node, leases]) => find(node, leases))
}

/** The command that sets a node up as the others are, or all of them. */
function enable({ leases, manager }: Leased, ...words: string[]): string {
  const folderOption = leases.folder === '' ? ['--dir FOLDER'] : []
  return ['havirt lease enable', manager, ...words.map(quote), ...folderOption].join(' ')
}

function restart(node: string, { service }: NodeLeases): string {
  return on(node, 'systemctl', 'restart', service)
}

// ---- settings -----------------------------------------------------------------------------------------------------------

const sameManager = ofLeases('leases', 'the same lock manager', facts => [
  ...otherManagers(facts),
  ...withoutLeases(facts),
  ...otherSettings(facts),
])

function otherManagers(facts: Leased): Finding[] {
  const { leases, manager } = facts
  return [...leases.nodes].flatMap(([node, { settings }]) => {
    const own = settings.manager
    if (own === manager) return []
    const why =
      own === ''
        ? `${node} has no lock manager, and others have ${manager}: what starts there by plain virsh is refused by nobody`
        : `${node} has the lock manager ${own}, and others ${manager}: neither sees the leases of the other`
    return [{ node, why, fix: enable(facts, node) }]
  })
}

/** sanlock takes leases by itself only where it is told to, virtlockd unless it is told not to. */
function takesLeases({ settings: { manager, sanlock, lockd } }: NodeLeases): boolean {
  if (manager === 'lockd') return lockd.get('auto_disk_leases') !== '0'
  return sanlock.get('auto_disk_leases') === '1'
}

function withoutLeases(facts: Leased): Finding[] {
  return using(facts, facts.manager).flatMap(([node, leases]) =>
    takesLeases(leases)
      ? []
      : [
          {
            node,
            why: `${facts.manager} on ${node} takes no lease for a disk: auto_disk_leases is off`,
            fix: enable(facts, node),
          },
        ],
  )
}

/** What must be the same everywhere besides the folder, whose differences have a check of their own. */
const SETTINGS = {
  sanlock: ['require_lease_for_disks'],
  lockd: ['require_lease_for_disks', 'lvm_lockspace_dir', 'scsi_lockspace_dir'],
} as const

function otherSettings(facts: Leased): Finding[] {
  const { manager } = facts
  const taking = using(facts, manager).filter(([, leases]) => takesLeases(leases))
  return SETTINGS[manager].flatMap(key => {
    // libvirt's own default, where leases are taken for every disk.
    const none = key === 'require_lease_for_disks' ? '0' : 'not set'
    const values = taking.map(([node, { settings }]) => [node, settings[manager].get(key) ?? none] as const)
    return minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `${key} is ${value} on ${node}, and ${usual} elsewhere`,
      fix:
        key === 'require_lease_for_disks'
          ? enable(facts, ...(usual === '1' ? [node] : []))
          : `make it the same in /etc/libvirt/qemu-${manager}.conf of ${node}, and restart libvirt there`,
    }))
  })
}

// ---- the folder ---------------------------------------------------------------------------------------------------------

const folder = ofLeases('lease-folder', 'the same folder for leases', facts => [
  ...otherFolders(facts),
  ...missing(facts),
  ...joinedElsewhere(facts),
  ...keptLocks(facts),
  ...locksOnDevices(facts),
])

function otherFolders(facts: Leased): Finding[] {
  const { leases, manager } = facts
  return using(facts, manager).flatMap(([node, { settings }]) => {
    const own = folderOf(settings)
    if (own === leases.folder) return []
    const has = own === '' ? 'has no folder for leases' : `has its leases in ${own}`
    return [
      {
        node,
        why: `${node} ${has}, and others have theirs in ${leases.folder}: neither sees the leases of the other`,
        fix: enable(facts, node, '--dir', leases.folder),
      },
    ]
  })
}

const missing = eachUsing(undefined, (node, { folder: { path, exists } }) =>
  exists || path === ''
    ? []
    : [
        {
          node,
          why: `the folder for leases, ${path}, is not there on ${node}: nothing starts there`,
          fix: `mount its storage there: ${on(node, 'mount', path)}`,
        },
      ],
)

/** libvirt reads its settings when it starts, and sanlock stays where it has joined. */
const joinedElsewhere = eachUsing('sanlock', (node, { settings, sanlock }) => {
  const [wanted, joined] = [`${folderOf(settings)}/${LOCKSPACE}`, sanlock?.lockspace?.path ?? '']
  if (joined === '' || joined === wanted) return []
  return [
    {
      node,
      why: `sanlock on ${node} has joined ${joined}, and its settings say ${wanted}`,
      fix: rejoin(node),
    },
  ]
})

/** sanlock leaves a lockspace when the node goes down, and only then does it not matter to what runs. */
function rejoin(node: string): string {
  return `it joins by its settings once it is booted anew, empty: havirt node drain ${node}`
}

/** Locks that a mount keeps to itself are seen by nobody else (nfs(5)). */
const keptLocks = eachUsing('lockd', (node, { folder: { path, options } }) => {
  const local = localLocks({ options })
  if (local === undefined) return []
  return [
    {
      node,
      why: `${path} is mounted on ${node} with ${local}: no lock there is seen by another node`,
      fix: `take ${local} out of its mount options there, and mount it anew once nothing runs on ${node}`,
    },
  ]
})

/** Without a folder virtlockd locks each disk itself, and a lock on a device does not leave its node. */
function locksOnDevices(facts: Leased): Finding[] {
  const { leases, manager, cluster } = facts
  if (manager !== 'lockd' || leases.folder !== '') return []
  const device = domainsWithDisks(cluster)
    .flatMap(({ domain }) => leasePaths(domain))
    .find(path => path.startsWith('/dev/'))
  if (device === undefined) return []
  return using(facts, manager).map(([node]) => ({
    node,
    why: `virtlockd on ${node} has no folder for leases: it locks disks themselves, and a lock on a device such as ${device} is seen by no other node`,
    fix: enable(facts, node),
  }))
}

// ---- host ids -----------------------------------------------------------------------------------------------------------

const hostIds = ofLeases('host-ids', 'a host id of its own on each node', facts =>
  using(facts, 'sanlock').flatMap(([node, leases]) => hostIdFindings(facts, node, leases)),
)

function configuredId({ settings }: NodeLeases): number {
  return Number(settings.sanlock.get('host_id') ?? 0)
}

function hostIdFindings(facts: Leased, node: string, leases: NodeLeases): Finding[] {
  const id = configuredId(leases)
  if (!(id >= 1 && id <= MAX_HOST_ID))
    return [
      { node, why: `${node} has no host id for sanlock: libvirt takes no lease without one`, fix: enable(facts, node) },
    ]
  const joined = leases.sanlock?.lockspace?.hostId ?? id
  const other =
    joined === id
      ? []
      : [
          {
            node,
            why: `${node} has joined with the host id ${joined}, and its settings say ${id}`,
            fix: `put ${joined} back (host_id in /etc/libvirt/qemu-sanlock.conf of ${node}); or ${rejoin(node)}`,
          },
        ]
  return [...other, ...twinOf(facts, node, id), ...strangerWith(facts, node, leases, id)]
}

/** Whoever has joined with an id has it; else whoever comes first. */
function ownerOf(facts: Leased, id: number): string | undefined {
  const same = using(facts, 'sanlock').filter(([, leases]) => configuredId(leases) === id)
  const joined = same.find(([, { sanlock }]) => sanlock?.lockspace?.hostId === id)
  return (joined ?? same[0])?.[0]
}

function twinOf(facts: Leased, node: string, id: number): Finding[] {
  const owner = ownerOf(facts, id)
  if (owner === undefined || owner === node) return []
  return [
    {
      node,
      why: `${node} and ${owner} have the same host id for sanlock, ${id}: only one of them can join`,
      fix: enable(facts),
    },
  ]
}

/** Somebody who is alive has joined with the id, under another name; sanlock itself gives away what a dead host had. */
function strangerWith(facts: Leased, node: string, { settings, sanlock, folder: own }: NodeLeases, id: number) {
  const { leases } = facts
  const host = leases.hosts.get(id)
  const isOurs = sanlock?.lockspace?.hostId === id || ownerOf(facts, id) !== node
  if (host === undefined || host.timestamp === 0 || isOurs || own.path !== leases.folder) return []
  if ([settings.hostName, sanlock?.hostName, node].includes(host.name)) return []
  if (['dead', 'free'].includes(stateOfHost(leases.nodes, id))) return []
  return [
    {
      node,
      why: `the host id of ${node}, ${id}, is that of another machine, which joined the lockspace as ${host.name}`,
      fix: `see which machine that is; if it uses ${leases.folder} rightly, take host_id out of /etc/libvirt/qemu-sanlock.conf of ${node}, and: ${enable(facts, node)}`,
    },
  ]
}

// ---- daemons ------------------------------------------------------------------------------------------------------------

const daemon = ofLeases('lease-daemon', 'the lease daemon runs and has joined', facts => [
  ...sanlocks(facts),
  ...unordered(facts),
  ...lockds(facts),
])

const sanlocks = eachUsing('sanlock', (node, leases) => {
  const { sanlock, settings } = leases
  if (sanlock === undefined)
    return [
      {
        node,
        why: `sanlock does not run on ${node}: what runs there has no protection, and nothing starts`,
        fix: `${on(node, 'systemctl', 'enable', '--now', 'sanlock')} && ${restart(node, leases)}`,
      },
    ]
  switch (sanlock.lockspace?.state) {
    case 'joined':
      return []
    case undefined:
      return [
        {
          node,
          why: `${node} has not joined the lockspace: starts there fail with "No space left on device"`,
          fix: restart(node, leases),
        },
      ]
    case 'lost':
      return [
        {
          node,
          why: `${node} has lost the lockspace, and its domains are being killed`,
          fix: `look at the storage of the leases: ${on(node, 'findmnt', '--target', folderOf(settings))}`,
        },
      ]
    default:
      return [
        {
          node,
          why: `${node} is ${sanlock.lockspace?.state} the lockspace: nothing starts there meanwhile`,
          fix: 'wait, up to some minutes after a crash, and look again: havirt lease status',
        },
      ]
  }
})

const unordered = eachUsing('sanlock', (node, { ordered }) =>
  ordered
    ? []
    : [
        {
          node,
          why: `libvirt on ${node} may start before sanlock when it boots, and would join no lockspace then`,
          fix: `havirt lease enable sanlock ${node}`,
        },
      ],
)

const lockds = eachUsing('lockd', (node, leases) => {
  const { lockd, service } = leases
  if (lockd !== undefined && !lockd.newerThanLibvirt) return []
  const why =
    lockd === undefined
      ? `virtlockd does not run on ${node}: nothing starts there`
      : `virtlockd on ${node} was started after ${service}, which asks it for what it does not have: nothing starts there`
  const start =
    lockd === undefined
      ? `${on(node, 'systemctl', 'enable', '--now', 'virtlockd.socket', 'virtlockd.service')} && `
      : ''
  return [{ node, why, fix: `${start}${restart(node, leases)}` }]
})

const timeouts = ofLeases('lease-timeouts', 'the same lease time-outs', facts => {
  const nodes = using(facts, 'sanlock')
  const values = nodes.map(([node, leases]) => [node, String(configuredTimeout(leases))] as const)
  return [
    ...minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `the io_timeout of ${node} is ${value} s, and ${usual} s elsewhere: nodes would not agree on when a host is dead`,
      fix: enable(facts, node, '--io-timeout', usual),
    })),
    ...nodes.flatMap(([node, leases]) => {
      const joined = leases.sanlock?.lockspace?.ioTimeoutSeconds ?? 0
      if (joined === 0 || joined === configuredTimeout(leases)) return []
      return [
        {
          node,
          why: `${node} has joined with an io_timeout of ${joined} s, and its settings say ${configuredTimeout(leases)} s`,
          fix: rejoin(node),
        },
      ]
    }),
  ]
})

/** 0 is libvirt's word for sanlock's own. */
function configuredTimeout({ settings }: NodeLeases): number {
  return Number(settings.sanlock.get('io_timeout') ?? 0) || DEFAULT_IO_TIMEOUT_SECONDS
}

const watchdog = ofLeases('watchdog', 'a watchdog guards the node', facts => {
  if (facts.cluster.config.lease.passWithoutWatchdog) return []
  return using(facts, 'sanlock').flatMap(([node, { sanlock, wdmd }]) => {
    if (sanlock === undefined || (sanlock.watchdog && wdmd)) return []
    const what = sanlock.watchdog ? 'wdmd does not run, or has no device' : 'sanlock runs without it'
    return [
      {
        node,
        why: `no watchdog guards ${node} (${what}): should sanlock die there, domains go on without leases while others may take them`,
        fix: 'docs/leases.md says how to set one up, and what it means to go without',
      },
    ]
  })
})

const names = ofLeases('lease-names', 'sanlock keeps its name', facts => {
  const nodes = using(facts, 'sanlock')
  return nodes.flatMap(([node, { settings }]): Finding[] => {
    const name = settings.hostName
    if (name === '')
      return [
        {
          node,
          why: `sanlock on ${node} has another name each time it starts, and after a crash joins again only when its former self counts as dead`,
          fix: enable(facts, node),
        },
      ]
    const [twin] = nodes.find(([, other]) => other.settings.hostName === name) ?? []
    if (twin === undefined || twin === node) return []
    return [
      {
        node,
        why: `sanlock on ${node} and on ${twin} have one name, ${name}: with one host id, each would take itself for the other`,
        fix: `our_host_name = ${node} in /etc/sanlock/sanlock.conf of ${node}, and boot it anew, empty: havirt node drain ${node}`,
      },
    ]
  })
})

export const leaseChecks: readonly Check[] = [sameManager, folder, hostIds, daemon, timeouts, watchdog, names]
