/** What nodes would print when they are asked for their leases: made here, in the format of src/nodes/leases.ts, and kept as files. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { LOCKSPACE } from '../src/core/lease.ts'
import { shareOf } from '../src/nodes/leases.ts'
import { hostSector, leaseSector } from '../src/sim/sectors.ts'
import { guestUuid, guestXml } from './guest-xml.ts'

/** A cluster whose domains have two disks each, all of them with a lease; and leases that belong to no disk any more. */
export interface LeaseShape {
  readonly nodes: number
  readonly domainsPerNode: number
  readonly unused: number
}

/** Where the lease of each disk is, as every node has it. */
export const FOLDER = '/srv/leases'
const BYTES = 1024 * 1024
const NOW_SECONDS = 5000
/** A lease that nobody has was given back then: 2025-01-01. */
const LONG_AGO_SECONDS = 1_735_689_600
/** libvirtd's own. */
const DAEMON_PID = 700

export interface BenchGuest {
  readonly name: string
  readonly uuid: string
  readonly xml: string
  readonly paths: readonly string[]
  readonly pid: number
}

/** Node names sort as they count. */
export function nodeName(at: number): string {
  return `node${String(at + 1).padStart(3, '0')}`
}

/** The domains of one node. */
export function guestsOf({ domainsPerNode }: LeaseShape, node: number): BenchGuest[] {
  return Array.from({ length: domainsPerNode }, (_, at) => {
    const id = node * domainsPerNode + at + 1
    const name = `vm${id}`
    const xml = guestXml('kvm', name, id)
    const paths = [...xml.matchAll(/<source (?:dev|file)='([^']+)'/g)].map(([, path = '']) => path)
    return { name, uuid: guestUuid(id), xml, paths, pid: 10_000 + id }
  })
}

/** The sector at the beginning of a lease's file, for a lease that was given back. */
export function freeSector(name: string): Buffer {
  return leaseSector({ name, ownerId: 1, ownerGeneration: 1, version: 3, timestamp: 0 })
}

/** Names of leases that belong to no disk. */
export function unusedNames(count: number): string[] {
  return Array.from({ length: count }, (_, at) => md5(`a disk that is gone ${at}`))
}

/** Writes each node's answer into the folder, as `NODE.txt`. */
export async function writeAnswers(shape: LeaseShape, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const nodes = Array.from({ length: shape.nodes }, (_, at) => at)
  const held = nodes.flatMap(node =>
    guestsOf(shape, node).flatMap(({ paths }) => paths.map(path => [md5(path), node + 1] as const)),
  )
  const files = new Map<string, Buffer>([
    ...held.map(([name, ownerId]) => [name, heldSector(name, ownerId)] as const),
    ...unusedNames(shape.unused).map(name => [name, freeSector(name)] as const),
  ])
  for (const node of nodes) await writeFile(join(folder, `${nodeName(node)}.txt`), answerOf(shape, node, files))
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}

function heldSector(name: string, ownerId: number): Buffer {
  return leaseSector({ name, ownerId, ownerGeneration: 1, version: 2, timestamp: NOW_SECONDS - 900 })
}

const say = (...words: readonly (string | number)[]) => words.join('\t')

function answerOf(shape: LeaseShape, node: number, files: ReadonlyMap<string, Buffer>): string {
  const hostId = node + 1
  const settings = {
    auto_disk_leases: 1,
    disk_lease_dir: FOLDER,
    host_id: hostId,
    require_lease_for_disks: 1,
    user: 'sanlock',
    group: 'sanlock',
  }
  return [
    say('setting', 'qemu', 'lock_manager', 'sanlock'),
    ...Object.entries(settings).map(([key, value]) => say('setting', 'sanlock', key, value)),
    say('setting', 'daemon', 'our_host_name', nodeName(node)),
    ...['sanlock', 'sanlock.so'].map(name => say('installed', name)),
    say('process', 'libvirtd', DAEMON_PID, 100),
    say('process', 'wdmd', 300, 50),
    say('device', '/dev/watchdog'),
    ...guestsOf(shape, node).map(({ name, pid }) => say('pid', name, pid)),
    ...daemonLines(shape, node),
    say('user', 'sanlock'),
    say('folder', FOLDER, 'yes', 'nfs'),
    say('mounted', 'nas:/leases', 'rw'),
    ...(node === 0 ? [say('hosts', pack(hostSectors(shape)))] : []),
    ...fileLines(shape, node, files),
    'end',
    '',
  ].join('\n')
}

function hostSectors({ nodes }: LeaseShape): Buffer {
  const sectors = Array.from({ length: nodes }, (_, at) =>
    hostSector({ hostId: at + 1, generation: 1, timestamp: NOW_SECONDS - 5, name: nodeName(at), ioTimeoutSeconds: 10 }),
  )
  return Buffer.concat(sectors)
}

function daemonLines(shape: LeaseShape, node: number): string[] {
  const hosts = Array.from({ length: shape.nodes }, (_, at) => at + 1)
  const guests = guestsOf(shape, node)
  const status = [
    `daemon ${nodeName(node)}`,
    `    our_host_name=${nodeName(node)}`,
    '    use_watchdog=1',
    `    monotime=${NOW_SECONDS}`,
    'p -1 helper',
    ...guests.map(({ pid, name }) => `p ${pid} ${name}`),
    `s ${LOCKSPACE}:${node + 1}:${FOLDER}/${LOCKSPACE}:0`,
    '    io_timeout=10',
    '    host_generation=1',
    '    space_dead=0',
    '    killing_pids=0',
    `    renewal_last_success=${NOW_SECONDS - 5}`,
    ...guests.flatMap(({ pid, paths }) =>
      paths.flatMap(path => [
        `r ${LOCKSPACE}:${md5(path)}:${FOLDER}/${md5(path)}:0:2 p ${pid}`,
        '    list=held',
        '    flags=0',
        '    lver=2',
      ]),
    ),
  ]
  return [
    ...status.map(line => say('status', line)),
    ...hosts.map(id => say('gets', `h ${id} gen 1 timestamp ${NOW_SECONDS - 5} LIVE`)),
    ...hosts.flatMap(id => [
      say('watched', `${id} timestamp ${NOW_SECONDS - 5}`),
      say('watched', `    last_live=${NOW_SECONDS - 8}`),
    ]),
  ]
}

/** The files that this node is to read, and no others: every one is read by one node. */
function fileLines({ nodes }: LeaseShape, node: number, files: ReadonlyMap<string, Buffer>): string[] {
  const starts = shareOf(node, nodes)
    .replace('files=', '')
    .split(' ')
    .map(glob => glob.replace('*', ''))
  const mine = [...files]
    .filter(([name]) => starts.some(start => name.startsWith(start)))
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const sectors = mine.flatMap(([name, sector], at) => [
    Buffer.from(`${at === 0 ? '' : '\n'}==> ${name} <==\n`),
    sector,
  ])
  return [
    ...mine.map(([name]) => say('file', BYTES, LONG_AGO_SECONDS, name)),
    ...(mine.length === 0 ? [] : [say('leaders', pack(Buffer.concat(sectors)))]),
  ]
}

function pack(bytes: Buffer): string {
  return gzipSync(bytes).toString('base64')
}
