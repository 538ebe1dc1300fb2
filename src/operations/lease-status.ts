/** `lease status` and `lease list`: node by node, and disk by disk. */
import { sightings } from '../core/cluster.ts'
import { folderOf, isGuarded, type NodeLeases, uncoverable } from '../core/lease.ts'
import {
  domainOfPid,
  domainsWithDisks,
  type LeaseFacts,
  type LeaseOfDisk,
  leasesOfDisks,
  managerOf,
  unprotected,
} from '../core/leases.ts'
import { leaseFacts } from '../lease-facts.ts'
import { writeSightings } from '../lease-memory.ts'
import type { Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  type Message,
  NO_NODES,
  note,
  type Report,
  silentWarnings,
  type Table,
  warning,
} from '../report.ts'

export const NODE_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the node' },
  {
    key: 'manager',
    title: 'MANAGER',
    help: 'sanlock or lockd (virtlockd), as qemu.conf says; none: nothing guards the disks there',
  },
  { key: 'daemon', title: 'DAEMON', help: 'whether its daemon runs' },
  {
    key: 'watchdog',
    title: 'WATCHDOG',
    help: 'yes: a node that can no longer renew its leases is reset; no: only sanlock itself ends its domains then',
  },
  { key: 'lockspace', title: 'LOCKSPACE', help: 'joined, joining, lost (domains are being killed), leaving, or no' },
  { key: 'hostId', title: 'HOST ID', align: 'right', help: "the node's number in the lockspace" },
  {
    key: 'renewedSeconds',
    title: 'RENEWED',
    align: 'right',
    unit: 's ago',
    help: 'how long ago it last renewed (seconds)',
  },
  { key: 'held', title: 'LEASES', align: 'right', help: 'leases that it holds' },
  { key: 'domains', title: 'DOMAINS', help: 'the domains that hold them' },
  { key: 'without', title: 'WITHOUT', help: 'domains that run there and do not have all their leases' },
]

export const DISK_COLUMNS: readonly Column[] = [
  {
    key: 'path',
    title: 'DISK',
    help: "the disk's path as its definition has it, by whose text its lease is named; - for a file that no known disk has",
  },
  { key: 'domains', title: 'DOMAIN', help: 'the domains that have it' },
  {
    key: 'state',
    title: 'LEASE',
    help: 'held; doubt: its holder does not renew; dead: its holder is dead, and the next gets it; free (old: its holder has started anew since); none: never taken; damaged; not covered: libvirt takes none',
  },
  { key: 'holder', title: 'HOLDER', help: 'the node that has it, or had it last' },
  { key: 'hostId', title: 'HOST ID', align: 'right', help: "that node's number in the lockspace" },
  { key: 'generation', title: 'GENERATION', align: 'right', help: 'how often that node had joined when it took it' },
  { key: 'version', title: 'TAKEN', align: 'right', help: 'how often the lease was taken' },
  { key: 'file', title: 'FILE', help: "the lease's file" },
]

export async function showStatus(parts: Parts): Promise<Report> {
  const facts = await leaseFacts(parts)
  if (facts.cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  await writeSightings(parts, facts)
  const leases = leasesOfDisks(facts)
  return {
    exit: exitOf(facts),
    table: nodeTable(facts),
    also: { key: 'disks', table: diskTable(facts, leases) },
    messages: messagesOf(facts, leases),
  }
}

export async function showDisks(parts: Parts, unused: boolean): Promise<Report> {
  const facts = await leaseFacts(parts)
  if (facts.cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const all = leasesOfDisks(facts)
  const leases = all.filter(({ path }) => !unused || path === undefined)
  const nothing = unused && leases.length === 0 ? [note('every lease belongs to a disk that is in use')] : []
  return {
    exit: exitOf(facts),
    table: diskTable(facts, leases, unused),
    messages: [...messagesOf(facts, all), ...nothing],
  }
}

/** Whoever did not answer may hold anything. */
function exitOf({ cluster, nodes }: LeaseFacts) {
  return [...cluster.nodes.keys()].every(name => nodes.has(name)) ? exitStatus.done : exitStatus.partly
}

function nodeTable(facts: LeaseFacts): Table {
  const bare = unprotected(facts)
  const rows = [...facts.cluster.nodes.keys()].map(node => {
    const leases = facts.nodes.get(node)
    if (leases === undefined)
      return { node, manager: facts.cluster.nodes.get(node)?.seen.state === 'up' ? 'unknown' : 'unreachable' }
    const here = bare.filter(each => each.node === node)
    const without = here.flatMap(each => (each.paused ? [] : [each.domain]))
    const names = here.map(({ domain }) => domain)
    return {
      node,
      ...nodeRow(leases, facts, node, names),
      ...(without.length === 0 ? {} : { without: without.join(', ') }),
    }
  })
  return { columns: NODE_COLUMNS, rows }
}

function nodeRow(leases: NodeLeases, facts: LeaseFacts, node: string, bare: readonly string[]) {
  const { sanlock, lockd, settings } = leases
  if (settings.manager === '') return { manager: 'none' }
  if (settings.manager === 'lockd')
    return {
      manager: 'lockd',
      daemon: lockd === undefined ? 'no' : 'runs',
      held: lockd?.held.length ?? 0,
      domains: lockdDomains(facts, node, bare),
    }
  if (sanlock === undefined) return { manager: settings.manager, daemon: 'no', watchdog: 'no', lockspace: 'no' }
  const { lockspace, held, watchdog, nowSeconds } = sanlock
  return {
    manager: settings.manager,
    daemon: 'runs',
    watchdog: watchdog ? 'yes' : 'no',
    lockspace: lockspace?.state ?? 'no',
    ...(lockspace === undefined
      ? {}
      : {
          hostId: lockspace.hostId,
          ...(lockspace.renewedSeconds > 0 ? { renewedSeconds: nowSeconds - lockspace.renewedSeconds } : {}),
        }),
    held: held.length,
    domains: [...new Set(held.map(each => domainOfPid(leases, each) ?? `pid ${each.pid}`))].sort().join(', '),
  }
}

function lockdDomains({ cluster }: LeaseFacts, node: string, bare: readonly string[]): string {
  return sightings(cluster)
    .flatMap(each =>
      each.node === node && each.domain.active && !bare.includes(each.domain.name) ? [each.domain.name] : [],
    )
    .join(', ')
}

export function diskTable(facts: LeaseFacts, leases: readonly LeaseOfDisk[], unused = false): Table {
  const rows = leases.map(({ path, domains, name, standing, owner }) => ({
    ...(path === undefined ? {} : { path }),
    domains: domains.join(', '),
    state: standing === 'old' ? 'free (old)' : standing,
    ...(owner === undefined ? {} : { holder: owner.node ?? owner.hostName }),
    ...(owner === undefined || owner.hostId === 0 ? {} : { hostId: owner.hostId, generation: owner.generation }),
    ...versionOf(facts, name),
    file: name,
  }))
  return { columns: DISK_COLUMNS, rows: [...rows, ...(unused ? [] : uncoveredRows(facts))] }
}

function versionOf({ files }: LeaseFacts, name: string) {
  const version = files.get(name)?.record?.version
  return version === undefined ? {} : { version }
}

/** Disks that no lease covers stand there, too: who reads the table must not miss them. */
function uncoveredRows(facts: LeaseFacts) {
  const manager = managerOf(facts.nodes)
  if (manager === undefined) return []
  return domainsWithDisks(facts.cluster).flatMap(({ domain }) =>
    uncoverable(domain, manager).map(({ disk }) => ({
      path: disk,
      domains: domain.name,
      state: 'not covered',
      file: '',
    })),
  )
}

function messagesOf(facts: LeaseFacts, leases: readonly LeaseOfDisk[]): Message[] {
  const { cluster, nodes, unasked } = facts
  const manager = managerOf(nodes)
  const silent = new Set([...cluster.nodes.values()].flatMap(({ name, seen }) => (seen.state === 'up' ? [] : [name])))
  const unheard = [...unasked].filter(([name]) => !silent.has(name))
  return [
    ...silentWarnings(cluster),
    ...unheard.map(([name, why]) =>
      warning(`${name} could not be asked for its leases: ${why}`, `try by hand: ssh ${name} sanlock client status`),
    ),
    ...(manager === undefined && nodes.size > 0
      ? [
          note(
            'no node has a lock manager: only havirt itself keeps a disk from being written twice; havirt lease enable sanlock --dir FOLDER changes that',
          ),
        ]
      : []),
    ...[...nodes].flatMap(([name, leases]) => warningsOf(name, leases)),
    ...unguardedMessages(
      [...nodes].flatMap(([name, { settings, sanlock }]) =>
        settings.manager === 'sanlock' && sanlock?.watchdog === false ? [name] : [],
      ),
    ),
    ...unprotected(facts).map(each => unprotectedMessage(each, facts)),
    ...damagedMessages(facts, leases),
  ]
}

function warningsOf(node: string, leases: NodeLeases): Message[] {
  const { settings, sanlock, service } = leases
  if (settings.manager === 'lockd' && !isGuarded(leases))
    return [
      warning(
        `virtlockd on ${node} ${leases.lockd === undefined ? 'does not run' : `is newer than ${service}`}: nothing starts there`,
        `ssh ${node} systemctl restart ${service}`,
      ),
    ]
  if (settings.manager !== 'sanlock') return []
  if (sanlock === undefined)
    return [
      warning(
        `sanlock on ${node} does not run: what runs there has no protection, and nothing starts`,
        `ssh ${node} systemctl start sanlock, and then restart ${service} there`,
      ),
    ]
  const state = sanlock.lockspace?.state
  return [
    ...(state === undefined
      ? [
          warning(
            `${node} has not joined the lockspace: starts there fail with "No space left on device"`,
            `ssh ${node} systemctl restart ${service}`,
          ),
        ]
      : []),
    ...(state === 'joined' && !isGuarded(leases)
      ? [
          warning(
            `${node} is in the lockspace ${sanlock.lockspace?.path}, and its settings mean ${folderOf(settings)}: its leases keep nobody else out`,
            `havirt lease enable sanlock ${node} says what to do`,
          ),
        ]
      : []),
    ...(state === 'lost'
      ? [
          warning(
            `${node} has lost the lockspace, and its domains are being killed`,
            `look at the storage of ${folderOf(settings)} there`,
          ),
        ]
      : []),
  ]
}

/** A plain word where nothing but sanlock itself stands between a node that cannot renew and a domain that runs twice. */
export function unguardedMessages(nodes: readonly string[]): Message[] {
  if (nodes.length === 0) return []
  return [
    warning(
      `no watchdog guards ${nodes.join(', ')}: should sanlock die on a node, its domains go on without leases while others may take them`,
      'docs/leases.md says how to set one up',
    ),
  ]
}

function unprotectedMessage(
  { domain, node, paths, paused }: ReturnType<typeof unprotected>[number],
  facts: LeaseFacts,
): Message {
  if (paused)
    return note(`${domain} is paused on ${node}, and a paused domain holds no lease; havirt counts it as present`)
  if (!isGuarded(facts.nodes.get(node) as NodeLeases))
    return note(`${domain} runs on ${node} without a lease for ${paths.join(', ')}`)
  return warning(
    `${domain} runs on ${node} without a lease for ${paths.join(', ')}`,
    `move it away and back: havirt domain migrate ${domain} --auto; or stop and start it`,
  )
}

function damagedMessages({ folder }: LeaseFacts, leases: readonly LeaseOfDisk[]): Message[] {
  return leases
    .filter(({ standing }) => standing === 'damaged')
    .map(({ path, name }) =>
      warning(
        `the lease ${folder}/${name}${path === undefined ? '' : ` of ${path}`} is damaged: nobody can tell whether somebody has it, and nothing with that disk can start`,
        `havirt lease explain ${path ?? name}`,
      ),
    )
}
