/** Asks a node about its leases, all of it by one read-only script over ssh: configuration, daemons, who holds what, and the files. */
import { gunzipSync } from 'node:zlib'
import {
  folderOf,
  type HeldLease,
  type HostState,
  type LeaseFile,
  type LeaseFolder,
  type LeaseHost,
  type LeaseSettings,
  LOCKSPACE,
  type Lockspace,
  managerIn,
  NO_MANAGER,
  type NodeLeases,
  SANLOCK_ORDER_FILE,
  type Sanlock,
  type SeenHost,
} from '../core/lease.ts'
import { readHost, readLease, SECTOR_BYTES } from './lease-sector.ts'
import { SAY } from './survey.ts'

/**
 * `sh -c` with what is wanted of the folder: `hosts` for the lockspace, `files=GLOB` for leases by name, `dir=FOLDER` for another folder. One
 * process lists the files and one reads the first sector of each; a process for each would take 44 ms (`sanlock direct dump`).
 */
export const LEASES_SCRIPT = `LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin
${SAY}
settings() {
  sed -n -e 's/^[ \\t]*\\([a-z_]*\\)[ \\t]*=[ \\t]*"\\([^"]*\\)".*/\\1 \\2/p' -e t -e 's/^[ \\t]*\\([a-z_]*\\)[ \\t]*=[ \\t]*\\([^ \\t#]*\\).*/\\1 \\2/p' "$2" 2>/dev/null |
    while read -r key value; do say setting "$1" "$key" "$value"; done
}
settings qemu /etc/libvirt/qemu.conf
settings sanlock /etc/libvirt/qemu-sanlock.conf
settings lockd /etc/libvirt/qemu-lockd.conf
settings daemon /etc/sanlock/sanlock.conf
for program in sanlock virtlockd; do command -v $program >/dev/null && say installed $program; done
for plugin in /usr/lib*/libvirt/lock-driver/*.so /usr/lib/*/libvirt/lock-driver/*.so; do [ -e "$plugin" ] && say installed "\${plugin##*/}"; done
process() {
  at=\${1%/comm} name=$(first "$1")
  set -- $(first "$at/stat" | sed 's/.*) //')
  say process "$name" "\${at#/proc/}" "\${20}"
  [ "$name" = virtlockd ] && readlink "$at"/fd/* | while read -r open; do say lock "$open"; done
}
for file in $(grep -lsxE 'virtlockd|libvirtd|virtqemud|wdmd' /proc/[0-9]*/comm); do process "$file"; done
for device in /dev/watchdog /dev/watchdog0; do [ -e $device ] && say device $device; done
for file in /run/libvirt/qemu/*.pid; do
  [ -e "$file" ] && { name=\${file##*/}; say pid "\${name%.pid}" "$(first "$file")"; }
done
tab=$(printf '\\t')
timeout 5 sanlock client status -D 2>/dev/null | sed "s/^/status$tab/"
timeout 5 sanlock client gets -h 1 2>/dev/null | sed "s/^/gets$tab/"
timeout 5 sanlock client host_status -s ${LOCKSPACE} -D 2>/dev/null | sed "s/^/watched$tab/"
case " $(systemctl show -p After --value libvirtd virtqemud 2>/dev/null | tr '\\n' ' ') " in *' sanlock.service '*) say ordered ;; *) [ -e ${SANLOCK_ORDER_FILE} ] && say ordered ;; esac
getent passwd sanlock >/dev/null && say user sanlock
for link in /dev/disk/by-id/*; do [ -e "$link" ] && say link "\${link##*/}" "$(readlink "$link")"; done
folder() {
  [ -d "$1" ] || { say folder "$1"; return; }
  say folder "$1" yes "$(stat -f -c %T -- "$1")"
  findmnt -rno SOURCE,OPTIONS --target "$1" | while read -r source options; do say mounted "$source" "$options"; done
}
manager=$(sed -n 's/^[ \\t]*lock_manager[ \\t]*=[ \\t]*"\\([^"]*\\)".*/\\1/p' /etc/libvirt/qemu.conf 2>/dev/null | head -n 1)
dir=
case $manager in
  lockd) dir=$(sed -n 's/^[ \\t]*file_lockspace_dir[ \\t]*=[ \\t]*"\\([^"]*\\)".*/\\1/p' /etc/libvirt/qemu-lockd.conf | head -n 1) ;;
  *) dir=$(sed -n 's/^[ \\t]*disk_lease_dir[ \\t]*=[ \\t]*"\\([^"]*\\)".*/\\1/p' /etc/libvirt/qemu-sanlock.conf 2>/dev/null | head -n 1); : "\${dir:=/var/lib/libvirt/sanlock}" ;;
esac
[ -z "$dir" ] || folder "$dir"
for word in "$@"; do case $word in dir=*) dir=\${word#dir=} ;; esac; done
pack() { gzip -1c | base64 | tr -d '\\n'; }
if [ -n "$dir" ] && cd "$dir" 2>/dev/null; then
  for word in "$@"; do
    case $word in
      hosts) [ -f ${LOCKSPACE} ] && say hosts "$(head -c 1024000 ${LOCKSPACE} | pack)" ;;
      files=*)
        names=$(printf '%s\\n' \${word#files=} | grep -xE '[0-9a-f]{32}')
        [ -n "$names" ] || continue
        printf '%s\\n' "$names" | xargs stat -c "file$tab%s$tab%Y$tab%n" -- 2>/dev/null
        say leaders "$(printf '%s\\n' "$names" | xargs head -v -c ${SECTOR_BYTES} -- 2>/dev/null | pack)" ;;
    esac
  done
fi
say end`

/** What a node says of its leases, and what it read in the folder, where it was asked for that. */
export interface LeaseAnswer {
  readonly leases: NodeLeases
  readonly hosts: ReadonlyMap<number, LeaseHost>
  readonly files: readonly LeaseFile[]
}

/** Reads what the script printed; undefined when it did not come to its end. */
export function parseLeases(text: string): LeaseAnswer | undefined {
  const rows = rowsOf(text)
  if (!rows.has('end')) return undefined
  const of = (key: string) => rows.get(key) ?? []
  const settings = settingsOf(of('setting'))
  const processes = of('process').map(([name = '', pid = '', start = '']) => ({
    name,
    pid: Number(pid),
    start: Number(start),
  }))
  const daemon = (name: string) => processes.find(each => each.name === name)
  const libvirt = daemon('virtqemud') ?? daemon('libvirtd')
  const lockd = daemon('virtlockd')
  const leases: NodeLeases = {
    settings,
    installed: new Set(of('installed').map(([name = '']) => name)),
    service: daemon('virtqemud') === undefined ? 'libvirtd' : 'virtqemud',
    sanlock: sanlockOf(of('status'), of('gets'), of('watched')),
    lockd:
      lockd === undefined
        ? undefined
        : {
            held: locksOf(of('lock'), folderOf(settings)),
            newerThanLibvirt: libvirt !== undefined && lockd.start > libvirt.start + ACTIVATION_TICKS,
          },
    ordered: rows.has('ordered'),
    user: of('user')[0]?.[0] ?? 'root',
    wdmd: daemon('wdmd') !== undefined && of('device').length > 0,
    // libvirt's own is among them, driver.pid.
    pids: new Map(
      of('pid').flatMap(([name = '', pid = '']) => (Number(pid) === libvirt?.pid ? [] : [[name, Number(pid)]])),
    ),
    folder: folderIn(of('folder'), of('mounted'), settings),
    stableNames: namesOf(of('link')),
  }
  return { leases, hosts: hostsOf(of('hosts')), files: filesOf(of('file'), of('leaders')) }
}

/**
 * Ticks (proc(5), 100 a second) by which a virtlockd may be younger than a libvirt that knows it: systemd starts it when libvirt, which is
 * just starting itself, first connects to its socket.
 */
const ACTIVATION_TICKS = 30 * 100

type Rows = readonly (readonly string[])[]

function rowsOf(text: string): Map<string, string[][]> {
  const rows = new Map<string, string[][]>()
  for (const line of text.split('\n')) {
    const [key = '', ...rest] = line.split('\t')
    const known = rows.get(key)
    if (known === undefined) rows.set(key, [rest])
    else known.push(rest)
  }
  return rows
}

/** Of two lines with one key libvirt takes the first (virconf.c). */
function settingsOf(rows: Rows): LeaseSettings {
  const of = (file: string) =>
    new Map(rows.flatMap(([from, key = '', value = '']) => (from === file ? [[key, value] as const] : [])).reverse())
  const manager = of('qemu').get('lock_manager')
  return {
    manager: managerIn(manager),
    saysNone: manager === NO_MANAGER,
    sanlock: of('sanlock'),
    lockd: of('lockd'),
    hostName: of('daemon').get('our_host_name') ?? '',
  }
}

function folderIn([folder = []]: Rows, [mounted = []]: Rows, settings: LeaseSettings): LeaseFolder {
  const [path = folderOf(settings), exists = '', filesystem = ''] = folder
  const [source = '', options = ''] = mounted
  return { path, exists: exists === 'yes', filesystem, source, options }
}

function namesOf(rows: Rows): Map<string, string[]> {
  const names = new Map<string, string[]>()
  for (const [name = '', target = ''] of rows) {
    const device = target.replace(/^.*\//, '')
    names.set(device, [...(names.get(device) ?? []), name])
  }
  return names
}

/** What virtlockd has open in its lockspace, or, without one, the disks themselves. */
function locksOf(rows: Rows, folder: string): HeldLease[] {
  const paths = rows.map(([path = '']) => path.replace(/ \(deleted\)$/, ''))
  const inFolder = (path: string) => folder !== '' && path.startsWith(`${folder}/`)
  return paths
    .filter(path => (folder === '' ? !NO_DISK.test(path) : inFolder(path)))
    .map(path => ({ name: inFolder(path) ? path.slice(folder.length + 1) : path, pid: undefined, shared: false }))
}

/** What any daemon has open: sockets, pipes, its pid file and its log. */
const NO_DISK = /^(?:socket:|pipe:|anon_inode:|\/dev\/(?:null|zero)|\/run\/|\/var\/(?:run|log)\/|\/proc\/)/

// ---- sanlock ------------------------------------------------------------------------------------------------------------

/**
 * `sanlock client status -D`: a block for each thing, its first line at the left margin and its facts indented below it. A line that
 * begins with `p` is a process, `s` a lockspace, `r` a resource.
 */
function sanlockOf(status: Rows, gets: Rows, watched: Rows): Sanlock | undefined {
  const blocks = blocksOf(status.map(([line = '']) => line))
  const daemon = blocks.find(({ words }) => words[0] === 'daemon')
  if (daemon === undefined) return undefined
  const of = (key: string) => blocks.filter(({ words }) => words[0] === key)
  return {
    hostName: daemon.facts.get('our_host_name') ?? daemon.words[1] ?? '',
    watchdog: daemon.facts.get('use_watchdog') === '1',
    nowSeconds: Number(daemon.facts.get('monotime')),
    lockspace: of('s').flatMap(lockspaceOf)[0],
    pids: new Set(of('p').map(({ words }) => Number(words[1]))),
    held: of('r').flatMap(heldOf),
    hosts: hostsSeen(gets, watched),
  }
}

interface Block {
  readonly words: readonly string[]
  readonly facts: ReadonlyMap<string, string>
}

function blocksOf(lines: readonly string[]): Block[] {
  const blocks: { words: string[]; facts: Map<string, string> }[] = []
  for (const line of lines) {
    if (!line.startsWith(' ')) blocks.push({ words: line.split(' '), facts: new Map() })
    const equals = line.indexOf('=')
    if (line.startsWith(' ') && equals > 0)
      blocks.at(-1)?.facts.set(line.slice(0, equals).trim(), line.slice(equals + 1))
  }
  return blocks
}

/** `s NAME:HOSTID:PATH:OFFSET`, perhaps with ADD or REM behind it. */
function lockspaceOf({ words: [, name = '', mark = ''], facts }: Block): Lockspace[] {
  const found = new RegExp(`^${LOCKSPACE}:(\\d+):(.*):\\d+$`).exec(name)
  if (found === null) return []
  const number = (key: string) => Number(facts.get(key) ?? 0)
  const isLost = number('space_dead') > 0 || number('killing_pids') > 0
  return [
    {
      hostId: Number(found[1]),
      path: found[2] ?? '',
      generation: number('host_generation'),
      ioTimeoutSeconds: number('io_timeout'),
      renewedSeconds: number('renewal_last_success'),
      state: isLost ? 'lost' : mark === 'ADD' ? 'joining' : mark === 'REM' ? 'leaving' : 'joined',
    },
  ]
}

/** `r LOCKSPACE:NAME:PATH:OFFSET:VERSION p PID`, with SH for the version of a shared one. Others than held are on their way. */
function heldOf({ words, facts }: Block): HeldLease[] {
  const [space = '', name = ''] = (words[1] ?? '').split(':')
  const list = facts.get('list')
  if (space !== LOCKSPACE || name === '' || (list !== undefined && list !== 'held')) return []
  const at = words.indexOf('p')
  return [{ name, pid: at < 0 ? undefined : Number(words[at + 1]), shared: (words[1] ?? '').endsWith(':SH') }]
}

const STATES: Readonly<Record<string, HostState>> = { LIVE: 'live', FAIL: 'fail', DEAD: 'dead', FREE: 'free' }

/** `h ID gen GENERATION timestamp SECONDS STATE`; and of host_status a block for each, `ID timestamp SECONDS`, with its facts. */
function hostsSeen(gets: Rows, watched: Rows): Map<number, SeenHost> {
  const blocks = blocksOf(watched.map(([line = '']) => line))
  const alive = new Map(blocks.map(({ words, facts }) => [Number(words[0]), Number(facts.get('last_live') ?? 0)]))
  let ours = false
  const hosts = gets.flatMap(([line = '']): SeenHost[] => {
    // lvmlockd and others have lockspaces of their own, with hosts of the same numbers.
    if (line.startsWith('s ')) ours = line.startsWith(`s ${LOCKSPACE}:`)
    const [, id, generation, state = ''] = /^h (\d+) gen (\d+) timestamp \d+ (\w+)/.exec(line) ?? []
    if (id === undefined || !ours) return []
    const hostId = Number(id)
    return [
      {
        hostId,
        generation: Number(generation),
        state: STATES[state] ?? 'unknown',
        aliveSeconds: alive.get(hostId) ?? 0,
      },
    ]
  })
  return new Map(hosts.map(host => [host.hostId, host]))
}

// ---- the folder ---------------------------------------------------------------------------------------------------------

/** A cut or foreign answer holds nothing that can be relied on, and reads as nothing. */
function unpack([[packed = ''] = []]: Rows): Buffer {
  try {
    return packed === '' ? Buffer.alloc(0) : gunzipSync(Buffer.from(packed, 'base64'))
  } catch {
    return Buffer.alloc(0)
  }
}

function hostsOf(rows: Rows): Map<number, LeaseHost> {
  const bytes = unpack(rows)
  const sectors = Array.from({ length: Math.floor(bytes.length / SECTOR_BYTES) }, (_, at) =>
    bytes.subarray(at * SECTOR_BYTES, (at + 1) * SECTOR_BYTES),
  )
  return new Map(
    sectors.flatMap(sector => readHost(sector) ?? []).flatMap(host => (host.hostId === 0 ? [] : [[host.hostId, host]])),
  )
}

/**
 * head(1) writes a line with each file's name before its bytes. A file that went in between has none, and is left out; one of which less
 * could be read than was listed is damaged, and hides no other behind it.
 */
function filesOf(listed: Rows, leaders: Rows): LeaseFile[] {
  const bytes = unpack(leaders)
  let from = 0
  return listed.flatMap(([size = '', written = '', name = '']): LeaseFile[] => {
    const header = `==> ${name} <==\n`
    const at = bytes.indexOf(header, from, 'latin1')
    if (at < 0) return []
    const start = at + header.length
    const end = start + Math.min(SECTOR_BYTES, Number(size))
    const isWhole = end === bytes.length || bytes.toString('latin1', end, end + 5) === '\n==> '
    from = isWhole ? end : start
    return [
      {
        name,
        bytes: Number(size),
        writtenMs: Number(written) * 1000,
        record: isWhole ? readLease(bytes.subarray(start, end), name) : undefined,
      },
    ]
  })
}

/** The globs of one of several nodes that share the work: every name belongs to exactly one of them. */
export function shareOf(at: number, nodes: number): string {
  const prefixes = Array.from({ length: 256 }, (_, byte) => byte).filter(byte => byte % nodes === at)
  if (nodes === 1) return 'files=*'
  return `files=${prefixes.map(byte => `${byte.toString(16).padStart(2, '0')}*`).join(' ')}`
}
