/** What a machine prints when it is asked for its leases: the answer of LEASES_SCRIPT (src/nodes/leases.ts). */
import { gzipSync } from 'node:zlib'
import { LOCKSPACE } from '../core/lease.ts'
import type { Machine } from './machine.ts'
import { EPOCH_MS } from './process.ts'
import { type Daemon, IO_TIMEOUT_SECONDS, type Sanlock } from './sanlock.ts'
import { hostSector, leaseSector } from './sectors.ts'

const FOLDER = '/srv/leases'
const BYTES = 1024 * 1024
const STATES: Readonly<Record<string, string>> = { live: 'LIVE', fail: 'FAIL', dead: 'DEAD', free: 'FREE' }
/** libvirtd's own. */
const DAEMON_PID = 700

/** The whole answer; `wanted` are the words behind the script. */
export function leasesText(machine: Machine, wanted: readonly string[]): string {
  const { sanlock } = machine
  const lines = sanlock === undefined ? [] : linesOf(machine, sanlock, wanted)
  return [...lines, ...processes(machine), 'end', ''].join('\n')
}

const say = (...words: readonly (string | number)[]) => words.join('\t')

function processes(machine: Machine): string[] {
  const pids = machine.qemus.map(({ name, pid }) => say('pid', name, pid))
  return machine.libvirtd === 'down' ? pids : [say('process', 'libvirtd', DAEMON_PID, 100), ...pids]
}

function linesOf(machine: Machine, sanlock: Sanlock, wanted: readonly string[]): string[] {
  const { daemon, hostId, watchdog } = sanlock
  const settings = {
    auto_disk_leases: 1,
    disk_lease_dir: FOLDER,
    host_id: hostId,
    require_lease_for_disks: 1,
    io_timeout: IO_TIMEOUT_SECONDS,
    user: 'sanlock',
    group: 'sanlock',
  }
  return [
    say('setting', 'qemu', 'lock_manager', 'sanlock'),
    ...Object.entries(settings).map(([key, value]) => say('setting', 'sanlock', key, value)),
    say('setting', 'daemon', 'our_host_name', machine.name),
    ...['sanlock', 'sanlock.so'].map(name => say('installed', name)),
    ...(watchdog ? [say('process', 'wdmd', 300, 50), say('device', '/dev/watchdog')] : []),
    ...(daemon === undefined ? [] : daemonLines(machine, sanlock, daemon)),
    say('user', 'sanlock'),
    say('folder', FOLDER, 'yes', 'nfs'),
    say('mounted', 'san:/leases', 'rw'),
    ...wanted.flatMap(word => (word === 'hosts' ? [hostsLine(sanlock)] : fileLines(sanlock, word))),
  ]
}

function daemonLines(machine: Machine, sanlock: Sanlock, daemon: Daemon): string[] {
  const { hostId } = sanlock
  const space = `${LOCKSPACE}:${hostId}:${FOLDER}/${LOCKSPACE}:0`
  const joined = [
    `s ${space}${daemon.space === 'joining' ? ' ADD' : ''}`,
    `    io_timeout=${IO_TIMEOUT_SECONDS}`,
    `    host_generation=${daemon.generation}`,
    '    space_dead=0',
    '    killing_pids=0',
    `    renewal_last_success=${1000 + Math.floor(daemon.renewedMs / 1000)}`,
  ]
  const held = [...daemon.held].flatMap(([name, { pid }]) => {
    const version = sanlock.lockspace.leases.get(name)?.version ?? 0
    return [`r ${LOCKSPACE}:${name}:${FOLDER}/${name}:0:${version} p ${pid}`, '    list=held']
  })
  const status = [
    `daemon ${machine.name}`,
    `    our_host_name=${machine.name}`,
    `    use_watchdog=${sanlock.watchdog ? 1 : 0}`,
    `    monotime=${sanlock.stamp}`,
    'p -1 helper',
    ...[...daemon.registered].map(({ pid, name }) => `p ${pid} ${name}`),
    ...(daemon.space === 'none' ? [] : joined),
    ...held,
  ]
  const hosts = daemon.space === 'joined' ? [...daemon.seen] : []
  const gets = hosts.map(
    ([id, { generation, timestamp }]) =>
      `h ${id} gen ${generation} timestamp ${timestamp} ${STATES[sanlock.stateOf(id)] ?? 'UNKNOWN'}`,
  )
  const watched = hosts.flatMap(([id, { timestamp, liveMs }]) => [
    `${id} timestamp ${timestamp}`,
    `    last_live=${1000 + Math.floor(liveMs / 1000)}`,
  ])
  return [
    ...status.map(line => say('status', line)),
    ...(gets.length === 0 ? [] : [say('gets', `s ${space} `)]),
    ...gets.map(line => say('gets', line)),
    ...watched.map(line => say('watched', line)),
  ]
}

function pack(bytes: Buffer): string {
  return gzipSync(bytes, { level: 1 }).toString('base64')
}

function hostsLine({ lockspace }: Sanlock): string {
  const sectors = [...lockspace.hosts]
    .sort(([a], [b]) => a - b)
    .map(([hostId, record]) => hostSector({ ...record, hostId, ioTimeoutSeconds: IO_TIMEOUT_SECONDS }))
  return say('hosts', pack(Buffer.concat(sectors)))
}

/** `files=GLOB...`, each two digits and a star, or a star alone. */
function fileLines({ lockspace }: Sanlock, word: string): string[] {
  const starts = word
    .replace(/^files=/, '')
    .split(' ')
    .map(glob => glob.replace('*', ''))
  const files = [...lockspace.leases].filter(([name]) => starts.some(start => name.startsWith(start))).sort(byName)
  if (files.length === 0) return []
  const leaders = files.flatMap(([name, lease], at) => [
    Buffer.from(`${at === 0 ? '' : '\n'}==> ${name} <==\n`),
    leaseSector({ name, ...lease }),
  ])
  return [
    ...files.map(([name, { writtenMs }]) => say('file', BYTES, Math.floor((EPOCH_MS + writtenMs) / 1000), name)),
    say('leaders', pack(Buffer.concat(leaders))),
  ]
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}
