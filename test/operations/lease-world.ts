/**
 * Fake nodes with leases: they answer the real scripts with what those would print, their settings change when commands change them,
 * and libvirt joins the lockspace when it is restarted.
 */
import { gzipSync } from 'node:zlib'
import type { Command } from '../../src/core/command.ts'
import type { LeaseFile, LeaseHost, LeaseSettings, NodeLeases } from '../../src/core/lease.ts'
import type { DomainOnNode } from '../../src/core/node.ts'
import { LOOK_SCRIPT, MARK_SCRIPT, UNMARK_SCRIPT } from '../../src/nodes/cross-check.ts'
import { DIRECT_SCRIPT, REMOVE_SCRIPT } from '../../src/nodes/lease-folder.ts'
import { crc32c } from '../../src/nodes/lease-sector.ts'
import { LEASES_SCRIPT } from '../../src/nodes/leases.ts'
import type { Exit } from '../../src/nodes/process.ts'
import { aLeaseHost, aLockspace, aSanlock, LEASES } from '../core/lease-builders.ts'
import { exit } from '../fake-nodes.ts'
import { aWorld, type World } from '../world.ts'

export interface LeaseWorld extends World {
  /** What each node has; a test may change it. */
  readonly leases: Map<string, NodeLeases>
  readonly hosts: Map<number, LeaseHost>
  readonly files: Map<string, LeaseFile>
  /** Every changing command of ours, in order: `node1 systemctl restart libvirtd`. */
  readonly done: string[]
  /** Ends a command in another way. */
  fault: (line: string) => Exit | undefined
  /** Nodes that see another folder than the others, that have none, and that cannot write there. */
  readonly ground: { elsewhere: string[]; missing: string[]; unwritable: string[]; indirect: string[] }
  /** A restarted libvirt joins. */
  joins: boolean
}

interface Asked {
  readonly command: Command
  readonly stdin?: string
}

/** node1 to node3 with these leases and domains, all of which share the folder. */
export async function aLeaseWorld(
  leases: Readonly<Record<string, NodeLeases>>,
  domains: Readonly<Record<string, readonly DomainOnNode[]>> = {},
  { files = [], hosts = [] }: { files?: readonly LeaseFile[]; hosts?: readonly LeaseHost[] } = {},
): Promise<LeaseWorld> {
  const world: LeaseWorld = {
    ...(await aWorld(domains)),
    leases: new Map(Object.entries(leases)),
    hosts: new Map(hosts.map(host => [host.hostId, host])),
    files: new Map(files.map(file => [file.name, file])),
    done: [],
    fault: () => undefined,
    ground: { elsewhere: [], missing: [], unwritable: [], indirect: [] },
    joins: true,
  }
  const ask = world.nodes.ask.bind(world.nodes)
  world.nodes.ask = async (record, order: Asked) => {
    const line = `${record.name} ${order.command.argv.join(' ')}`
    if ((await world.nodes.look([record])).seen.get(record.name)?.state !== 'up')
      return exit(255, 'ssh: no route to host')
    return world.fault(line) ?? answer(world, record.name, order) ?? ask(record, order)
  }
  return world
}

function answer(world: LeaseWorld, node: string, { command: { argv }, stdin = '' }: Asked): Exit | undefined {
  const [program = '', , script = '', , ...words] = argv
  const { ground } = world
  if (script === LEASES_SCRIPT) return exit(0, '', leaseText(world, node, words))
  if (script === DIRECT_SCRIPT)
    return ground.indirect.includes(node) ? exit(1, 'dd: failed to open: Invalid argument\n') : exit(0, '', 'end\n')
  if (script === REMOVE_SCRIPT) return exit(0, '', removal(world, stdin))
  const [, folder = ''] = words
  if (script === MARK_SCRIPT) {
    const word = ground.missing.includes(node) ? 'missing' : ground.unwritable.includes(node) ? '' : 'wrote'
    return exit(0, '', `${word === '' ? '' : `${word}\t${folder}\n`}end\n`)
  }
  if (script === LOOK_SCRIPT) {
    const isApart = ground.elsewhere.includes(node)
    const seen = [...world.leases.keys()].filter(
      other => !ground.missing.includes(other) && ground.elsewhere.includes(other) === isApart,
    )
    return exit(0, '', `${seen.map(other => `there\t${folder}\t${other}\n`).join('')}end\n`)
  }
  if (script === UNMARK_SCRIPT) return exit(0, '', 'end\n')
  if (!['sed', 'systemctl', 'sync', 'sh'].includes(program)) return undefined
  world.done.push(`${node} ${argv.join(' ')}`)
  return change(world, node, argv)
}

/** Removes what stands as given back; the rest somebody has. */
function removal({ files }: LeaseWorld, stdin: string): string {
  const names = stdin.split('\n').filter(name => name !== '')
  const lines = names.map(name => {
    if (files.get(name)?.record?.timestamp !== 0) return `kept\t${name}\tacquire error -243\n`
    files.delete(name)
    return `removed\t${name}\n`
  })
  return `${lines.join('')}end\n`
}

/** What commands of `lease enable` and `lease disable` leave behind. */
function change(world: LeaseWorld, node: string, argv: readonly string[]): Exit {
  const before = world.leases.get(node) as NodeLeases
  const [program, ...args] = argv
  const put = (more: Partial<NodeLeases>) => world.leases.set(node, { ...before, ...more })
  const hostName = /our_host_name = (\S+?)'/.exec(args.join(' '))?.[1]
  if (program === 'sh' && hostName !== undefined) put({ settings: { ...before.settings, hostName } })
  if (program === 'sh' && args[1]?.includes('sanlock.service.d')) put({ ordered: !args[1].startsWith('rm ') })
  if (program === 'sed') put({ settings: edited(before.settings, args) })
  const idle = aSanlock({ hostName: before.settings.hostName, lockspace: undefined })
  if (program === 'systemctl' && args[0] !== 'restart' && args.includes('sanlock')) put({ sanlock: idle })
  if (program === 'systemctl' && args.includes('virtlockd.service'))
    put({ lockd: { held: [], newerThanLibvirt: true } })
  if (program === 'systemctl' && args[0] === 'restart' && args[1] === before.service) {
    const { settings, sanlock, lockd } = before
    const hostId = Number(settings.sanlock.get('host_id'))
    if (lockd !== undefined) put({ lockd: { ...lockd, newerThanLibvirt: false } })
    if (settings.manager === 'sanlock' && sanlock !== undefined && world.joins) {
      const lockspace =
        sanlock.lockspace ??
        aLockspace({ hostId, path: `${settings.sanlock.get('disk_lease_dir')}/__LIBVIRT__DISKS__` })
      world.hosts.set(hostId, aLeaseHost(hostId, { name: node }))
      put({
        sanlock: { ...sanlock, lockspace },
        folder: { ...before.folder, path: settings.sanlock.get('disk_lease_dir') ?? '' },
      })
    }
  }
  return exit(0)
}

/** The lines that sed adds, changes and takes out. */
function edited(settings: LeaseSettings, args: readonly string[]): LeaseSettings {
  const file = args.at(-1)
  const key = file === '/etc/libvirt/qemu-sanlock.conf' ? 'sanlock' : 'lockd'
  const values = new Map(file === '/etc/libvirt/qemu.conf' ? [['lock_manager', settings.manager]] : settings[key])
  for (const word of args) {
    const [, name = '', value = ''] = /^(?:\$a|\/.*\/c) (\S+) = "?([^"]*)"?$/.exec(word) ?? []
    if (name !== '') values.set(name, value)
    const gone = /^\/\^\[\[:blank:\]\]\*(\w+)\[\[:blank:\]\]\*=\/d$/.exec(word)?.[1]
    if (gone !== undefined) values.delete(gone)
  }
  if (file === '/etc/libvirt/qemu.conf') return { ...settings, manager: values.get('lock_manager') ?? '' }
  return { ...settings, [key]: values }
}

// ---- what the script prints -----------------------------------------------------------------------------------------------

/** As {@link LEASES_SCRIPT} prints it on a node that has this. */
function leaseText(world: LeaseWorld, node: string, words: readonly string[]): string {
  const leases = world.leases.get(node)
  if (leases === undefined) return ''
  const { settings, sanlock, lockd, folder } = leases
  const values = [
    ...(settings.manager === '' ? [] : [['qemu', 'lock_manager', settings.manager]]),
    ...[...settings.sanlock].map(([key, value]) => ['sanlock', key, value]),
    ...[...settings.lockd].map(([key, value]) => ['lockd', key, value]),
    ...(settings.hostName === '' ? [] : [['daemon', 'our_host_name', settings.hostName]]),
  ]
  const rows = [
    ...values.map(row => ['setting', ...row]),
    ...[...leases.installed].map(name => ['installed', name]),
    ['process', leases.service, '92', '500'],
    ...(lockd === undefined ? [] : [['process', 'virtlockd', '90', lockd.newerThanLibvirt ? '60000' : '400']]),
    ...(lockd?.held ?? []).map(({ name }) => ['lock', name.startsWith('/') ? name : `${LEASES}/${name}`]),
    ...(leases.wdmd
      ? [
          ['process', 'wdmd', '80', '100'],
          ['device', '/dev/watchdog'],
        ]
      : []),
    ...[...leases.pids].map(([name, pid]) => ['pid', name, String(pid)]),
    ...(sanlock === undefined ? [['gets', 'gets error -111']] : sanlockRows(sanlock)),
    ...(leases.ordered ? [['ordered']] : []),
    ...(leases.user === 'root' ? [] : [['user', leases.user]]),
    ['folder', folder.path, ...(folder.exists ? ['yes', folder.filesystem] : [])],
    ...(folder.exists ? [['mounted', folder.source, folder.options]] : []),
    ...(folder.path === LEASES ? folderRows(world, words) : []),
    ['end'],
  ]
  return `${rows.map(row => row.join('\t')).join('\n')}\n`
}

function sanlockRows({
  hostName,
  watchdog,
  nowSeconds,
  lockspace,
  held,
  hosts,
}: NonNullable<NodeLeases['sanlock']>): string[][] {
  const space =
    lockspace === undefined
      ? []
      : [
          `s __LIBVIRT__DISKS__:${lockspace.hostId}:${lockspace.path}:0${{ joining: ' ADD', leaving: ' REM', joined: '', lost: '' }[lockspace.state]}`,
          '    list=spaces',
          `    io_timeout=${lockspace.ioTimeoutSeconds}`,
          `    host_generation=${lockspace.generation}`,
          `    space_dead=${lockspace.state === 'lost' ? 1 : 0}`,
          `    renewal_last_success=${lockspace.renewedSeconds}`,
        ]
  const status = [
    `daemon ${hostName}`,
    `    our_host_name=${hostName}`,
    `    use_watchdog=${watchdog ? 1 : 0}`,
    `    monotime=${nowSeconds}`,
    ...space,
    ...held.flatMap(({ name, pid, shared }) => [
      `r __LIBVIRT__DISKS__:${name}:${LEASES}/${name}:0:${shared ? 'SH' : '1'} p ${pid}`,
      '    list=held',
    ]),
  ]
  return [
    ...status.map(line => ['status', line]),
    ...(lockspace === undefined ? [] : [['gets', `s __LIBVIRT__DISKS__:${lockspace.hostId}:${lockspace.path}:0 `]]),
    ...[...hosts.values()].flatMap(({ hostId, generation, state, aliveSeconds }) => [
      ['gets', `h ${hostId} gen ${generation} timestamp 990 ${state.toUpperCase()}`],
      ['watched', `${hostId} timestamp 990`],
      ['watched', `    last_live=${aliveSeconds}`],
    ]),
  ]
}

function folderRows({ files, hosts }: LeaseWorld, words: readonly string[]): string[][] {
  const globs = words.flatMap(word => (word.startsWith('files=') ? word.slice('files='.length).split(' ') : []))
  const mine = [...files.values()]
    .filter(({ name }) => globs.some(glob => name.startsWith(glob.replace('*', ''))))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  const sectors = mine.flatMap((file, at) => [
    Buffer.from(`${at === 0 ? '' : '\n'}==> ${file.name} <==\n`),
    leader(file),
  ])
  return [
    ...(words.includes('hosts') ? [['hosts', pack([...hosts.values()].map(hostSector))]] : []),
    ...mine.map(({ name, bytes, writtenMs }) => ['file', String(bytes), String(writtenMs / 1000), name]),
    ...(mine.length === 0 ? [] : [['leaders', pack(sectors)]]),
  ]
}

const pack = (parts: readonly Buffer[]) => gzipSync(Buffer.concat(parts)).toString('base64')

function sector(magic: number, major: number, numbers: Readonly<Record<number, number>>, name: string): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt16LE(major, 6)
  for (const [at, value] of Object.entries(numbers)) bytes.writeBigUInt64LE(BigInt(value), Number(at))
  bytes.write('__LIBVIRT__DISKS__', 56)
  bytes.write(name, 104)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 168)), 168)
  return bytes
}

function leader({ name, record }: LeaseFile): Buffer {
  if (record === undefined) return Buffer.alloc(512)
  const { ownerId, ownerGeneration, version, timestamp } = record
  return sector(0x06152010, 6, { 32: ownerId, 40: ownerGeneration, 48: version, 152: timestamp }, name)
}

function hostSector({ hostId, generation, timestamp, name, ioTimeoutSeconds }: LeaseHost): Buffer {
  const bytes = sector(0x12212010, 3, { 32: hostId, 40: generation, 152: timestamp }, name)
  bytes.writeUInt16LE(ioTimeoutSeconds, 174)
  return bytes
}
