/** QEMU processes of a node, by their command lines: who they say they are, and which disks they opened. */
import type { Disk, DiskSource, Domain } from '../core/domain.ts'

/** A process that has `-uuid`, whoever started it. */
export interface QemuProcess {
  readonly pid: number
  readonly uuid: string
  readonly name: string
  readonly memoryMiB: number
  readonly vcpus: number
  /** Its disks, all that it may write among them; undefined when an argument is not understood, as `problem` says. */
  readonly disks?: readonly Disk[]
  readonly problem?: string
}

/** Reads lines of `/proc/PID/cmdline:-flag` and `/proc/PID/cmdline-value`, as grep prints them. */
export function parseProcesses(lines: readonly string[]): QemuProcess[] {
  const flags = new Map<number, [flag: string, value: string][]>()
  for (const [at, line] of lines.entries()) {
    const flag = /\/(\d+)\/cmdline:-(\w+)$/.exec(line)
    const value = /\/(\d+)\/cmdline-(.*)$/.exec(lines[at + 1] ?? '')
    if (flag === null || value === null || flag[1] !== value[1]) continue
    const pid = Number(flag[1])
    flags.set(pid, [...(flags.get(pid) ?? []), [flag[2] ?? '', value[2] ?? '']])
  }
  return [...flags].flatMap(([pid, pairs]) => describe(pid, pairs) ?? [])
}

function describe(pid: number, pairs: readonly [string, string][]): QemuProcess | undefined {
  const values = (flag: string) => pairs.filter(([name]) => name === flag).map(([, value]) => value)
  const uuid = values('uuid').at(-1)?.toLowerCase()
  if (uuid === undefined || !/^[0-9a-f-]{36}$/.test(uuid)) return undefined
  const name = option(values('name')[0] ?? '', 'guest') || uuid
  const sizes = {
    memoryMiB: mebibytes(values('m')[0] ?? ''),
    vcpus: Number(option(values('smp')[0] ?? '', 'cpus')) || 1,
  }
  const facts = { pid, uuid, name, ...sizes }
  try {
    return { ...facts, disks: [...blockdevDisks(values('blockdev')), ...values('drive').flatMap(driveDisk)] }
  } catch (error) {
    return { ...facts, problem: error instanceof Error ? error.message : String(error) }
  }
}

/** One value of `a=b,c=d`, whose first may stand without its key; a comma in it is doubled. */
function option(text: string, key: string, first = true): string {
  const parts = text.replaceAll(',,', '\0').split(',')
  const found = parts.find(part => part.startsWith(`${key}=`))?.slice(key.length + 1)
  const bare = first && !parts[0]?.includes('=') ? parts[0] : ''
  return (found ?? bare ?? '').replaceAll('\0', ',')
}

const UNITS: Readonly<Record<string, number>> = { k: 1 / 1024, m: 1, '': 1, g: 1024, t: 1024 * 1024 }

function mebibytes(text: string): number {
  const [, digits = '0', unit = ''] = /^(\d+)([kmgt]?)/i.exec(option(text, 'size')) ?? []
  return Math.ceil(Number(digits) * (UNITS[unit.toLowerCase()] ?? 1))
}

// --- Disks

type Blockdev = Readonly<Record<string, unknown>>

/** Every node that ends in storage, unless all that is stacked on it only reads. */
function blockdevDisks(texts: readonly string[]): Disk[] {
  const top = texts.map(parseBlockdev)
  const all = top.flatMap(withInner)
  const reads = (one: Blockdev) => {
    const above = all.filter(({ file }) => file !== undefined && (file === one['node-name'] || file === one))
    return one['read-only'] === true || (above.length > 0 && above.every(each => each['read-only'] === true))
  }
  return all.flatMap(one => {
    const source = sourceOf(one)
    return source === undefined ? [] : [diskOf(source, String(one['node-name'] ?? ''), reads(one))]
  })
}

function parseBlockdev(text: string): Blockdev {
  const value = text.startsWith('{') ? JSON.parse(text) : undefined
  if (typeof value !== 'object' || value === null) throw new Error(`its -blockdev ${text} is not understood`)
  return value
}

/** A node may hold the one below it. */
function withInner(one: Blockdev): Blockdev[] {
  const inner = Object.values(one).filter(value => isNode(value))
  return [one, ...inner.flatMap(withInner)]
}

function isNode(value: unknown): value is Blockdev {
  return typeof value === 'object' && value !== null && typeof (value as Blockdev)['driver'] === 'string'
}

function sourceOf(one: Blockdev): DiskSource | undefined {
  const text = (key: string) => String(one[key] ?? '')
  const network = (name: string, host: string): DiskSource => ({
    kind: 'network',
    protocol: text('driver'),
    name,
    hosts: host === '' ? [] : [host],
  })
  switch (one['driver']) {
    case 'file':
    case 'host_device':
      return { kind: one['driver'] === 'file' ? 'file' : 'block', path: text('filename') }
    case 'iscsi':
      return network(`${text('target')}/${text('lun') || '0'}`, text('portal'))
    case 'rbd':
      return network([text('pool'), text('namespace'), text('image')].filter(part => part !== '').join('/'), '')
    case 'gluster':
      return network(`${text('volume')}/${text('path')}`, '')
    case 'host_cdrom':
    case 'null-co':
    case 'null-aio':
    case 'http':
    case 'https':
    case 'ftp':
    case 'ftps':
      return undefined
    default:
      if ('file' in one) return undefined
      throw new Error(`its storage by ${text('driver')} is not understood`)
  }
}

/** The old way: `file=/srv/web.img,format=raw,if=none`. */
function driveDisk(text: string): Disk[] {
  const path = option(text, 'file', false)
  if (path === '') return []
  if (!path.startsWith('/')) throw new Error(`its -drive ${text} is not understood`)
  const reads = /^(on|yes|true)$/.test(option(text, 'readonly', false) || option(text, 'read-only', false))
  return [diskOf({ kind: path.startsWith('/dev/') ? 'block' : 'file', path }, option(text, 'id', false), reads)]
}

function diskOf(source: DiskSource, target: string, readOnly: boolean): Disk {
  return { target, device: 'disk', source, readOnly, shareable: false, transient: false }
}

/** The process as a definition, to ask of it what is asked of any domain; undefined when its disks are not all known. */
export function asDomain({ disks, name, uuid, vcpus, memoryMiB }: QemuProcess): Domain | undefined {
  if (disks === undefined) return undefined
  const nothing = { interfaces: [], nodeBound: [], hugePages: false }
  return { name, uuid, type: 'qemu', vcpus, memoryMiB, disks, ...nothing }
}

/**
 * Processes that libvirt does not list as running. Of several with one uuid that it lists, those are its own whose number it wrote
 * down; where it wrote none, one is taken to be.
 */
export function unlistedOf(
  processes: readonly QemuProcess[],
  active: ReadonlySet<string>,
  own: ReadonlySet<number>,
): QemuProcess[] {
  return processes.filter(one => {
    if (!active.has(one.uuid)) return true
    const twins = processes.filter(({ uuid }) => uuid === one.uuid)
    const known = twins.filter(({ pid }) => own.has(pid))
    return !(known.length > 0 ? known : twins.slice(0, 1)).includes(one)
  })
}
