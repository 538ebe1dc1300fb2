/** Plans how nodes get disk leases, and how they lose them: commands on each node, in the order that works. */
import type { NodeAct } from '../command.ts'
import {
  DEFAULT_IO_TIMEOUT_SECONDS,
  deadAfterSeconds,
  folderOf,
  type LeaseHost,
  type LeaseManager,
  type LeaseSettings,
  LOCKSPACE,
  localLocks,
  MAX_HOST_ID,
  type NodeLeases,
  SANLOCK_ORDER_FILE,
} from '../lease.ts'
import { domainOfPid, type LeaseFacts } from '../leases.ts'
import { type Refusal, refuse, refuseSilent } from '../refusal.ts'

export interface LeaseSetup {
  readonly manager: LeaseManager
  /** The folder for leases, the same path on all nodes. */
  readonly folder: string
  readonly ioTimeoutSeconds: number
  /** The nodes to set up, in this order. */
  readonly nodes: readonly string[]
  /** Of each of them. */
  readonly hostIds: ReadonlyMap<string, number>
}

/** What nodes found out about the folder. */
export interface Ground {
  readonly missingOn: readonly string[]
  /** Nodes that see other files there than most. */
  readonly elsewhere: readonly string[]
  /** Nobody could write there, or nobody looked. */
  readonly unwritable: readonly string[]
  /** Nodes where it cannot be read and written past the page cache, and what was said. */
  readonly indirect: ReadonlyMap<string, string>
}

const FILES = {
  qemu: '/etc/libvirt/qemu.conf',
  sanlock: '/etc/libvirt/qemu-sanlock.conf',
  lockd: '/etc/libvirt/qemu-lockd.conf',
  daemon: '/etc/sanlock/sanlock.conf',
} as const

// ---- refusals -----------------------------------------------------------------------------------------------------------

/** One refusal for each of the nodes that did not answer, or did not say what leases it has. */
export function unheardRefusals({ cluster, unasked }: LeaseFacts, nodes: readonly string[]): Refusal[] {
  return nodes.flatMap(node => {
    const seen = cluster.nodes.get(node)?.seen
    if (seen !== undefined && seen.state !== 'up') return [refuseSilent(node, seen)]
    const problem = unasked.get(node)
    return problem === undefined ? [] : [refuse('probeFailed', { node, problem })]
  })
}

/** Everything that stands in the way, of all nodes at once. */
export function setupRefusals(facts: LeaseFacts, setup: LeaseSetup, ground: Ground): Refusal[] {
  const asked = setup.nodes.flatMap(node => {
    const leases = facts.nodes.get(node)
    return leases === undefined ? [] : [[node, leases] as const]
  })
  return [
    ...unheardRefusals(facts, setup.nodes),
    ...asked.flatMap(([node, leases]) => packageRefusals(node, leases, setup.manager)),
    ...groundRefusals(setup, ground),
    ...asked.flatMap(([node, leases]) => mountRefusals(node, leases, setup)),
    ...mixedRefusals(facts, setup),
    ...asked.flatMap(([node, leases]) => changeRefusals(node, leases, setup)),
    ...asked.flatMap(([node, leases]) => spaceRefusals(node, leases, setup)),
    ...asked.flatMap(([node, leases]) => hostIdRefusals(facts, node, leases, setup)),
  ]
}

/** havirt installs nothing: it says what is missing, by the names of both families of packages. */
function packageRefusals(node: string, { installed }: NodeLeases, manager: LeaseManager): Refusal[] {
  const missing = PACKAGES[manager].filter(([what]) => !installed.has(what))
  return missing.map(([what, debian, fedora]) =>
    refuse('leaseGround', {
      node,
      problem: `${node} lacks ${what}`,
      fix: `ssh ${node} apt install ${debian} (Debian, Ubuntu), or ssh ${node} dnf install ${fedora} (Fedora, RHEL)`,
    }),
  )
}

const PACKAGES = {
  sanlock: [
    ['sanlock', 'sanlock', 'sanlock'],
    ['sanlock.so', 'libvirt-sanlock', 'libvirt-lock-sanlock'],
  ],
  lockd: [
    ['virtlockd', 'libvirt-daemon, from Debian 13 on libvirt-daemon-lock', 'libvirt-daemon-lock'],
    ['lockd.so', 'libvirt-daemon, from Debian 13 on libvirt-daemon-plugin-lockd', 'libvirt-daemon-plugin-lockd'],
  ],
} as const

function groundRefusals({ folder, manager }: LeaseSetup, ground: Ground): Refusal[] {
  const say = (node: string, problem: string, fix: string) => refuse('leaseGround', { node, problem, fix })
  return [
    ...ground.missingOn.map(node =>
      say(node, `${folder} is not there on ${node}`, `mount its storage there, and make the folder if it is new`),
    ),
    ...ground.elsewhere.map(node =>
      say(
        node,
        `${folder} on ${node} is another folder than on the other nodes: leases there would keep nobody out`,
        `look what is mounted there: ssh ${node} findmnt --target ${folder}`,
      ),
    ),
    ...ground.unwritable.map(node =>
      say(
        node,
        `root on ${node} cannot write into ${folder}`,
        'on an NFS server, export it with no_root_squash to the nodes',
      ),
    ),
    ...(manager === 'sanlock' ? [...ground.indirect] : []).map(([node, said]) =>
      say(
        node,
        `the filesystem of ${folder} on ${node} cannot be written past the page cache, as sanlock does: ${said}`,
        'use a folder on NFS, GFS2, OCFS2 or CephFS',
      ),
    ),
  ]
}

/** Locks that a mount keeps to itself are seen by nobody else. */
function mountRefusals(node: string, { folder }: NodeLeases, { manager, folder: wanted }: LeaseSetup): Refusal[] {
  const local = localLocks(folder)
  if (manager !== 'lockd' || local === undefined || folder.path !== wanted) return []
  return [
    refuse('leaseGround', {
      node,
      problem: `${wanted} is mounted on ${node} with ${local}, so that no lock leaves the node`,
      fix: `take ${local} out of its mount options there, and mount it anew`,
    }),
  ]
}

/** Nodes that stay as they are must fit to those that are set up: two managers, or two folders, keep nobody apart. */
function mixedRefusals({ nodes }: LeaseFacts, { manager, folder, nodes: wanted }: LeaseSetup): Refusal[] {
  const others = [...nodes].filter(([node, { settings }]) => !wanted.includes(node) && settings.manager !== '')
  return others.flatMap(([node, { settings }]) => {
    if (settings.manager !== manager)
      return [refuse('leaseMixed', { node, manager: settings.manager, wanted: manager })]
    const theirs = folderOf(settings)
    if (theirs === folder) return []
    const problem = `${node} has its leases in ${theirs}: neither folder would keep out who uses the other`
    return [
      refuse('leaseGround', {
        node,
        problem,
        fix: `name ${theirs}, or all nodes at once: havirt lease enable ${manager} --dir ${folder}`,
      }),
    ]
  })
}

/** What holds leases of one kind, or in one folder, is seen by nobody who looks for the others. */
function changeRefusals(node: string, leases: NodeLeases, { manager, folder }: LeaseSetup): Refusal[] {
  const { settings } = leases
  const holders = holdersOn(leases)
  if (settings.manager === '' || holders.length === 0) return []
  const before = folderOf(settings)
  if (settings.manager === manager && before === folder) return []
  const change = settings.manager === manager ? `the folder was ${before}` : `it used ${settings.manager}`
  return [refuse('leasesInUse', { node, domains: holders, change })]
}

/**
 * A lockspace that a node has joined is not left when libvirt's settings change. Its leases would be those of the new folder, and its life
 * shown in the old one only: whoever joins the new one holds it for dead, and takes them from it.
 */
function spaceRefusals(node: string, { sanlock }: NodeLeases, setup: LeaseSetup): Refusal[] {
  const space = sanlock?.lockspace
  const hostId = setup.hostIds.get(node)
  if (setup.manager !== 'sanlock' || space === undefined) return []
  const other = [
    ...(space.path === `${setup.folder}/${LOCKSPACE}` ? [] : [`in ${space.path}`]),
    ...(space.hostId === hostId ? [] : [`with host id ${space.hostId} instead of ${hostId}`]),
    ...(space.ioTimeoutSeconds === setup.ioTimeoutSeconds ? [] : [`with io_timeout ${space.ioTimeoutSeconds}`]),
  ]
  if (other.length === 0) return []
  return [
    refuse('leaseGround', {
      node,
      problem: `${node} has joined the lockspace ${other.join(', ')}, and does not leave it by itself`,
      fix: `once no domain runs there, since sanlock ends what holds leases when it leaves: ssh ${node} sanlock client rem_lockspace -s ${LOCKSPACE}:${space.hostId}:${space.path}:0; then the same command`,
    }),
  ]
}

function holdersOn(leases: NodeLeases): string[] {
  const { sanlock, lockd, pids } = leases
  const named = (sanlock?.held ?? []).map(held => domainOfPid(leases, held) ?? `process ${held.pid}`)
  const locked = (lockd?.held.length ?? 0) > 0 ? [...pids.keys()] : []
  return [...new Set([...named, ...locked])].sort()
}

function hostIdRefusals(facts: LeaseFacts, node: string, leases: NodeLeases, setup: LeaseSetup): Refusal[] {
  const hostId = setup.hostIds.get(node)
  if (setup.manager !== 'sanlock' || hostId === undefined) return []
  if (hostId > MAX_HOST_ID)
    return [
      refuse('leaseGround', {
        node,
        problem: `all ${MAX_HOST_ID} host ids were given out, and none is left for ${node}`,
        fix: 'make a new folder for leases, and a new cluster record of host ids (var/host-ids)',
      }),
    ]
  const twin = [...facts.nodes].find(([other, { sanlock }]) => other !== node && sanlock?.lockspace?.hostId === hostId)
  if (twin !== undefined) return [refuse('hostIdTaken', { node, hostId, by: twin[0] })]
  const host = facts.folder === setup.folder ? facts.hosts.get(hostId) : undefined
  const ours = [leases.settings.hostName, leases.sanlock?.hostName, node]
  if (host === undefined || host.timestamp === 0 || ours.includes(host.name)) return []
  if (leases.sanlock?.lockspace?.hostId === hostId) return []
  return [refuse('hostIdTaken', { node, hostId, by: `the machine that joined the lockspace as ${host.name}` })]
}

// ---- host ids -----------------------------------------------------------------------------------------------------------

/** Who has which host id: the book, by the nodes' own ids. */
export type HostIdBook = Readonly<Record<string, { readonly node: string; readonly hostId: number }>>

/** A node that needs a host id. */
export interface Newcomer {
  readonly node: string
  readonly nodeId: string
  /** What its configuration says already. */
  readonly configured: number | undefined
}

/**
 * The book with a host id for each of them. What a node has stays; what its configuration says is taken over where nobody else has it;
 * else it gets the lowest that neither the book nor the lockspace has given to anybody.
 */
export function withHostIds(
  book: HostIdBook,
  newcomers: readonly Newcomer[],
  hosts: ReadonlyMap<number, LeaseHost>,
): HostIdBook {
  let now = book
  for (const { node, nodeId, configured } of newcomers) {
    if (now[nodeId] !== undefined) continue
    const taken = new Set(Object.values(now).map(({ hostId }) => hostId))
    const isFree = (id: number | undefined): id is number =>
      id !== undefined && Number.isInteger(id) && id >= 1 && id <= MAX_HOST_ID && !taken.has(id)
    const hostId = isFree(configured) ? configured : lowest(id => isFree(id) && !hosts.has(id))
    now = { ...now, [nodeId]: { node, hostId } }
  }
  return now
}

function lowest(isFree: (id: number) => boolean): number {
  let id = 1
  while (!isFree(id) && id <= MAX_HOST_ID) id++
  return id
}

// ---- acts ---------------------------------------------------------------------------------------------------------------

const act = (node: string, why: string, ...argv: string[]): NodeAct => ({ node, why, command: { node, argv } })

/** What is to be done on one node; nothing where it is all so already. */
export function enableActs(node: string, leases: NodeLeases, setup: LeaseSetup): NodeAct[] {
  const { settings } = leases
  const edits = [
    ...settingEdits(node, FILES[setup.manager], settings[setup.manager], managerSettings(node, leases, setup)),
    ...settingEdits(node, FILES.qemu, managerLine(settings), [['lock_manager', `"${setup.manager}"`]]),
  ]
  const daemon = setup.manager === 'sanlock' ? sanlockActs(node, leases) : lockdActs(node, leases)
  if (edits.length === 0 && daemon.length === 0 && !needsRestart(leases, setup)) return []
  return [
    ...daemon,
    ...edits,
    ...(edits.length === 0 ? [] : [flush(node, FILES[setup.manager], FILES.qemu)]),
    act(
      node,
      `let libvirt on ${node} read it, which touches no domain that runs`,
      'systemctl',
      'restart',
      leases.service,
    ),
  ]
}

/** The daemon runs and the files are as they should be, but libvirt has not joined, or its virtlockd is a newer one. */
function needsRestart({ sanlock, lockd }: NodeLeases, { manager }: LeaseSetup): boolean {
  return manager === 'sanlock' ? sanlock?.lockspace === undefined : lockd === undefined || lockd.newerThanLibvirt
}

function managerLine({ manager, saysNone }: LeaseSettings): Map<string, string> {
  return new Map(manager === '' && !saysNone ? [] : [['lock_manager', manager]])
}

/** Keys with their values as libvirt's files have them. */
type Wanted = readonly (readonly [key: string, value: string])[]

function managerSettings(node: string, { user, settings }: NodeLeases, setup: LeaseSetup): Wanted {
  const { manager, folder, ioTimeoutSeconds, hostIds } = setup
  if (manager === 'lockd')
    return [
      ['auto_disk_leases', '1'],
      ['require_lease_for_disks', '1'],
      ['file_lockspace_dir', `"${folder}"`],
    ]
  return [
    ['auto_disk_leases', '1'],
    ['disk_lease_dir', `"${folder}"`],
    ['host_id', String(hostIds.get(node))],
    ['require_lease_for_disks', '1'],
    ...(ioTimeoutSeconds === DEFAULT_IO_TIMEOUT_SECONDS && !settings.sanlock.has('io_timeout')
      ? []
      : [['io_timeout', String(ioTimeoutSeconds)] as const]),
    ['user', `"${user}"`],
    ['group', `"${user}"`],
  ]
}

/** Under this name the file stays as it was before havirt first changed it. */
export const KEPT_SUFFIX = '.before-havirt'

function keep(node: string, file: string): NodeAct {
  const kept = `${file}${KEPT_SUFFIX}`
  return act(
    node,
    `keep ${file} on ${node} as it is now, unless it was kept before`,
    'sh',
    '-c',
    `test -e ${kept} || cp -p ${file} ${kept} && { test -s ${file} || echo >>${file}; }`,
  )
}

/**
 * The lines of these keys replaced where they stand, or added at the end, and every other byte kept: comments that hold an example of
 * the same key are no lines of it. sed writes the file anew beside the old one and renames it.
 */
function settingEdits(node: string, file: string, now: ReadonlyMap<string, string>, wanted: Wanted): NodeAct[] {
  const other = wanted.filter(([key, value]) => now.get(key) !== value.replaceAll('"', ''))
  if (other.length === 0) return []
  // What is added goes first: for a line that it changes sed does nothing more, and that may be the last one.
  const added = other.flatMap(([key, value]) => (now.has(key) ? [] : ['-e', `$a ${key} = ${value}`]))
  const changed = other.flatMap(([key, value]) =>
    now.has(key) ? ['-e', `/^[[:blank:]]*${key}[[:blank:]]*=/c ${key} = ${value}`] : [],
  )
  const words = [...added, ...changed]
  const what = other.map(([key, value]) => `${key} = ${value}`).join(', ')
  return [keep(node, file), act(node, `write into ${file} on ${node}: ${what}`, 'sed', '-i', ...words, file)]
}

function flush(node: string, ...files: string[]): NodeAct {
  return act(node, `see that it is on the disk of ${node}`, 'sync', ...files)
}

/** libvirt joins the lockspace only as it starts: without sanlock before it, a node that boots could start nothing. */
function orderActs(node: string, { ordered }: NodeLeases): NodeAct[] {
  if (ordered) return []
  const folder = SANLOCK_ORDER_FILE.slice(0, SANLOCK_ORDER_FILE.lastIndexOf('/'))
  const lines = '"[Unit]" "After=wdmd.service" "Before=libvirtd.service virtqemud.service"'
  const write = `mkdir -p ${folder} && printf "%s\\n" ${lines} >${SANLOCK_ORDER_FILE} && systemctl daemon-reload`
  return [act(node, `let sanlock on ${node} start before libvirt at boot`, 'sh', '-c', write)]
}

function sanlockActs(node: string, leases: NodeLeases): NodeAct[] {
  const { settings, sanlock } = leases
  const order = orderActs(node, leases)
  const named =
    settings.hostName === ''
      ? [
          act(
            node,
            `let sanlock on ${node} keep one name, so that it joins again in seconds after a crash`,
            'sh',
            '-c',
            `mkdir -p /etc/sanlock && echo 'our_host_name = ${node}' >>${FILES.daemon}`,
          ),
        ]
      : []
  const idle = sanlock !== undefined && sanlock.lockspace === undefined && sanlock.held.length === 0
  const start = act(node, `start sanlock on ${node}, now and at every boot`, 'systemctl', 'enable', '--now', 'sanlock')
  const again = act(node, `let sanlock on ${node} read its name`, 'systemctl', 'restart', 'sanlock')
  if (sanlock === undefined) return [...named, ...order, start]
  return named.length > 0 && idle ? [...named, ...order, again] : [...named, ...order]
}

function lockdActs(node: string, { lockd }: NodeLeases): NodeAct[] {
  if (lockd !== undefined) return []
  return [
    act(
      node,
      `start virtlockd on ${node}, now and at every boot`,
      'systemctl',
      'enable',
      '--now',
      'virtlockd.socket',
      'virtlockd.service',
    ),
  ]
}

/** Takes the settings out again. The daemons run on: what runs now is registered with them. */
export function disableActs(node: string, leases: NodeLeases): NodeAct[] {
  const { settings, service } = leases
  if (settings.manager !== 'sanlock' && settings.manager !== 'lockd') return []
  const keys = [
    'auto_disk_leases',
    'disk_lease_dir',
    'host_id',
    'require_lease_for_disks',
    'io_timeout',
    'user',
    'group',
    'file_lockspace_dir',
  ]
  const present = keys.filter(key => settings[settings.manager as LeaseManager].has(key))
  const without = (file: string, gone: readonly string[]) =>
    act(
      node,
      `take out of ${file} on ${node}: ${gone.join(', ')}`,
      'sed',
      '-i',
      ...gone.flatMap(key => ['-e', `/^[[:blank:]]*${key}[[:blank:]]*=/d`]),
      file,
    )
  const order = act(
    node,
    `let sanlock on ${node} start at boot as its own unit says`,
    'sh',
    '-c',
    `rm -f ${SANLOCK_ORDER_FILE} && systemctl daemon-reload`,
  )
  return [
    without(FILES.qemu, ['lock_manager']),
    ...(present.length === 0 ? [] : [without(FILES[settings.manager], present)]),
    ...(settings.manager === 'sanlock' && leases.ordered ? [order] : []),
    flush(node, FILES.qemu, FILES[settings.manager]),
    act(node, `let libvirt on ${node} read it, which touches no domain that runs`, 'systemctl', 'restart', service),
  ]
}

/** How long joining may take: a host that crashed and comes back under another name is waited for until it counts as dead. */
export function joinSeconds(ioTimeoutSeconds: number): number {
  return deadAfterSeconds(ioTimeoutSeconds) + 4 * ioTimeoutSeconds + 20
}

/** A path that stands in configuration files and commands without surprises. */
export function folderProblem(folder: string): string | undefined {
  if (!folder.startsWith('/')) return 'expected the whole path of a folder, beginning with /'
  if (!/^[\p{L}\p{Nd}/_.@+-]+$/u.test(folder)) return 'expected letters, digits and /_.@+- only'
  if (/\/\.{0,2}(?:\/|$)/.test(folder)) return 'expected a path without //, /./, /../ and without / at its end'
  return undefined
}
