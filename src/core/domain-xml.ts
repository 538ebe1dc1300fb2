/** libvirt domain XML: text to Domain, and which disks of it nobody else may hold. Acts on nothing. */

import type { Disk, DiskSource, Domain, DomainCpu, NetworkInterface, NodeBoundState } from './domain.ts'
import { all, attr, child, children, parseXml, textOf, utf8Length, type XmlElement, XmlError } from './xml.ts'

/** The text is XML, but not a domain that havirt can keep. Names the field, says what was expected, and where. */
export class DomainXmlError extends XmlError {
  /** Path of the element or attribute, `devices/disk/target@dev`. */
  readonly field: string

  /** `near` is the element at fault, or the one where something is missing. */
  constructor(near: XmlElement, field: string, expected: string) {
    super(`${field}: expected ${expected}`, near.line, near.column)
    this.name = 'DomainXmlError'
    this.field = field
  }
}

/** Longest domain name in UTF-8 bytes: with suffixes it must still be a file name. */
export const MAX_DOMAIN_NAME_BYTES = 200

const DOMAIN_NAME = /^[\p{L}\p{Nd}_+@:~][\p{L}\p{Nd}_.+@:~ -]*$/u
const DOMAIN_NAME_RULE = `a name of letters, digits and "_.+@:~ -", not starting with "-" or ".", of at most ${MAX_DOMAIN_NAME_BYTES} bytes`
const UUID = /^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$/i
const DIGITS = /^[0-9]{1,18}$/
const UNIT = /^(?:(b|bytes?)|([kmgtpe])(b|ib)?)$/i
const MIB = 1024n * 1024n

/**
 * Whether havirt takes this as the name of a domain. A name becomes a file name (`conf/NAME.xml`) and an argument of
 * commands, so nothing that is a path, an option or a hidden file may pass, nor two spellings of one accented letter.
 */
export function isDomainName(name: string): boolean {
  if (!DOMAIN_NAME.test(name) || name.endsWith(' ')) return false
  return name === name.normalize('NFC') && utf8Length(name) <= MAX_DOMAIN_NAME_BYTES
}

/** Reads a definition. Throws XmlError for text that is not XML, DomainXmlError for XML that is no usable domain. */
export function parseDomain(text: string): Domain {
  const root = domainRoot(text)
  const name = nameOf(root)
  const uuid = uuidOf(root)
  const osType = child(child(root, 'os'), 'type')
  const disks = all(root, 'devices', 'disk').map(diskOf)
  return {
    name,
    uuid,
    type: required(root, root, 'type', 'domain'),
    vcpus: vcpusOf(root),
    memoryMiB: memoryOf(root),
    disks,
    interfaces: all(root, 'devices', 'interface').map(interfaceOf),
    nodeBound: nodeBoundOf(root, name, uuid),
    hugePages: hugePagesOf(root),
    ...present({
      arch: attr(osType, 'arch'),
      machine: attr(osType, 'machine'),
      emulator: textOf(all(root, 'devices', 'emulator')[0]),
      vncPort: vncPortOf(root),
      cpu: cpuOf(root, text),
    }),
  }
}

/** The disks that exactly one domain may hold: it writes them, keeps what it wrote, and nobody said they are shared. */
export function exclusiveDisks(domain: Domain): Disk[] {
  return domain.disks.filter(
    disk => (disk.device === 'disk' || disk.device === 'lun') && !disk.readOnly && !disk.shareable && !disk.transient,
  )
}

/**
 * One name for what backs a disk, to compare disks by. Undefined when the source names nothing comparable.
 * It errs towards "the same": two names for one disk would let two domains write it, one name for two is only a refusal.
 * Symbolic links and `..` are not resolved; that takes a node.
 */
export function diskIdentity(source: DiskSource): string | undefined {
  switch (source.kind) {
    case 'file':
    case 'block':
    case 'dir':
      return pathIdentity(source.kind, plainPath(source.path))
    case 'volume':
      return `volume:${source.pool}/${source.volume}`
    case 'network':
      return networkIdentity(source.protocol, source.name, source.hosts)
    default:
      return undefined
  }
}

/** Under which name a node's facts on a disk are kept; undefined for one that has no place on a node. */
export function placeOf(source: DiskSource): string | undefined {
  return source.kind === 'volume'
    ? `volume:${source.pool}/${source.volume}`
    : 'path' in source
      ? source.path
      : undefined
}

// --- Reading

/** The tree of a definition. Throws XmlError when the text is not XML or no domain. */
export function domainRoot(text: string): XmlElement {
  const root = parseXml(text)
  if (root.name !== 'domain')
    throw new DomainXmlError(root, 'domain', `<domain> as the root element, found <${root.name}>`)
  return root
}

/** The child that may stand once. libvirt would take the first of two and not say so. */
function only(root: XmlElement, name: string): XmlElement | undefined {
  const [first, second] = children(root, name)
  if (second !== undefined) throw new DomainXmlError(second, name, `only one <${name}>`)
  return first
}

function needed(root: XmlElement, name: string): XmlElement {
  const found = only(root, name)
  if (found === undefined) throw new DomainXmlError(root, name, `an element <${name}> in <domain>`)
  return found
}

function required(parent: XmlElement, element: XmlElement | undefined, name: string, path: string): string {
  const value = attr(element, name)
  if (!value) throw new DomainXmlError(element ?? parent, `${path}@${name}`, 'a value')
  return value
}

/** The name is not trimmed: libvirt takes white space as part of it, and we refuse it. */
function nameOf(root: XmlElement): string {
  const element = needed(root, 'name')
  if (!isDomainName(element.text)) throw new DomainXmlError(element, 'name', DOMAIN_NAME_RULE)
  return element.text
}

function uuidOf(root: XmlElement): string {
  const element = needed(root, 'uuid')
  return canonicalUuid(element.text.trim(), element)
}

function canonicalUuid(uuid: string, near: XmlElement): string {
  const groups = UUID.exec(uuid)?.slice(1)
  if (groups === undefined) throw new DomainXmlError(near, 'uuid', 'a UUID of 32 hexadecimal digits')
  return groups.join('-').toLowerCase()
}

/** NUMA cells may stand in for `<memory>`; with both the larger counts, so that placement never promises too little. */
function memoryOf(root: XmlElement): number {
  const cells = numaCells(root).reduce((sum, cell) => sum + cellBytes(cell), 0n)
  const memory = only(root, 'memory')
  if (memory === undefined && cells === 0n) throw new DomainXmlError(root, 'memory', 'an element <memory> in <domain>')
  const own = memory === undefined ? 0n : bytesOf(memory)
  const mebibytes = ((own > cells ? own : cells) + MIB - 1n) / MIB
  if (mebibytes < 1n || mebibytes > BigInt(Number.MAX_SAFE_INTEGER))
    throw new DomainXmlError(memory ?? root, 'memory', 'a size above zero that a node could have')
  return Number(mebibytes)
}

function numaCells(root: XmlElement): XmlElement[] {
  return all(root, 'cpu', 'numa', 'cell')
}

function cellBytes(cell: XmlElement): bigint {
  return scaled(cell, 'cpu/numa/cell@memory', attr(cell, 'memory') ?? '')
}

function bytesOf(element: XmlElement): bigint {
  return scaled(element, element.name, element.text.trim())
}

function scaled(element: XmlElement, field: string, digits: string): bigint {
  if (!DIGITS.test(digits)) throw new DomainXmlError(element, field, 'a whole number')
  return BigInt(digits) * unitOf(element)
}

/** Bytes in the unit of a size, by libvirt's rule: `KB` is 1000, `k` and `KiB` are 1024, case does not matter. */
function unitOf(element: XmlElement): bigint {
  const match = UNIT.exec(attr(element, 'unit') ?? 'KiB')
  if (match === null) throw new DomainXmlError(element, `${element.name}@unit`, 'a unit such as KiB, MB or GiB')
  const [, bytes, letter = '', suffix = ''] = match
  if (bytes !== undefined) return 1n
  const base = suffix.toLowerCase() === 'b' ? 1000n : 1024n
  return base ** BigInt('kmgtpe'.indexOf(letter.toLowerCase()) + 1)
}

/** libvirt's default is one vCPU; a list of single vCPUs outweighs `current`. */
function vcpusOf(root: XmlElement): number {
  const listed = all(root, 'vcpus', 'vcpu').filter(each => attr(each, 'enabled') === 'yes').length
  if (listed > 0) return listed
  const vcpu = only(root, 'vcpu')
  if (vcpu === undefined) return 1
  const maximum = countOf(vcpu, 'vcpu')
  const current = attr(vcpu, 'current')
  return current === undefined ? maximum : counted(vcpu, 'vcpu@current', current)
}

function countOf(element: XmlElement, field: string): number {
  return counted(element, field, element.text.trim())
}

function counted(near: XmlElement, field: string, digits: string): number {
  if (!DIGITS.test(digits) || !Number.isSafeInteger(Number(digits)) || Number(digits) < 1)
    throw new DomainXmlError(near, field, 'a whole number above zero')
  return Number(digits)
}

function diskOf(disk: XmlElement): Disk {
  const device = deviceOf(disk)
  const driver = child(disk, 'driver')
  const cache = attr(driver, 'cache')
  return {
    target: required(disk, child(disk, 'target'), 'dev', 'devices/disk/target'),
    device,
    source: diskSourceOf(disk, device),
    readOnly: device === 'cdrom' || child(disk, 'readonly') !== undefined,
    shareable: child(disk, 'shareable') !== undefined,
    transient: child(disk, 'transient') !== undefined,
    ...present({ cache: cache === 'default' ? undefined : cache, format: attr(driver, 'type') }),
  }
}

function deviceOf(disk: XmlElement): Disk['device'] {
  const device = attr(disk, 'device') ?? 'disk'
  if (device === 'disk' || device === 'cdrom' || device === 'floppy' || device === 'lun') return device
  throw new DomainXmlError(disk, 'devices/disk@device', 'disk, cdrom, floppy or lun')
}

/** Only a drive with a removable medium may be empty; libvirt refuses an empty disk too. */
function diskSourceOf(disk: XmlElement, device: Disk['device']): DiskSource {
  const source = child(disk, 'source')
  const found = sourceOf(attr(disk, 'type') ?? 'file', source)
  if (found.kind === 'none' && (device === 'disk' || device === 'lun'))
    throw new DomainXmlError(source ?? disk, 'devices/disk/source', 'a source that fits the type of the disk')
  return found
}

const PATH_ATTRIBUTES = { file: 'file', block: 'dev', dir: 'dir' } as const

function sourceOf(type: string, source: XmlElement | undefined): DiskSource {
  if (type === 'file' || type === 'block' || type === 'dir') {
    const path = attr(source, PATH_ATTRIBUTES[type])
    return path ? { kind: type, path } : { kind: 'none' }
  }
  if (type === 'volume') return volumeOf(source)
  if (type === 'network') return networkOf(source)
  return { kind: 'other', type }
}

function volumeOf(source: XmlElement | undefined): DiskSource {
  const pool = attr(source, 'pool')
  const volume = attr(source, 'volume')
  return pool && volume ? { kind: 'volume', pool, volume } : { kind: 'none' }
}

function networkOf(source: XmlElement | undefined): DiskSource {
  const protocol = attr(source, 'protocol')
  if (!protocol) return { kind: 'none' }
  return { kind: 'network', protocol, name: attr(source, 'name') ?? '', hosts: children(source, 'host').map(hostOf) }
}

/** `name:port`, `[v6]:port`, `name`, or `unix:/socket`. */
function hostOf(host: XmlElement): string {
  const socket = attr(host, 'socket')
  if (socket !== undefined) return `unix:${socket}`
  const name = attr(host, 'name') ?? ''
  const port = attr(host, 'port')
  const bare = name.includes(':') && !name.startsWith('[') ? `[${name}]` : name
  return port === undefined ? bare : `${bare}:${port}`
}

const INTERFACE_SOURCES = { network: 'network', bridge: 'bridge', direct: 'dev', user: '', ethernet: '' } as const

function interfaceOf(element: XmlElement): NetworkInterface {
  const type = attr(element, 'type') ?? 'user'
  const kind = Object.hasOwn(INTERFACE_SOURCES, type) ? (type as keyof typeof INTERFACE_SOURCES) : 'other'
  const source = kind === 'other' ? undefined : attr(child(element, 'source'), INTERFACE_SOURCES[kind])
  const mac = attr(child(element, 'mac'), 'address')?.toLowerCase()
  return { kind, ...present({ source, mac, model: attr(child(element, 'model'), 'type') }) }
}

/** The first VNC display that has a port; one on a UNIX socket has none. */
function vncPortOf(root: XmlElement): number | undefined {
  const vnc = all(root, 'devices', 'graphics').find(each => attr(each, 'type') === 'vnc' && !onSocket(each))
  if (vnc === undefined) return undefined
  const port = attr(vnc, 'port') ?? '-1'
  if (attr(vnc, 'autoport') === 'yes' || port === '-1') return -1
  if (!DIGITS.test(port) || Number(port) > 65535)
    throw new DomainXmlError(vnc, 'devices/graphics@port', 'a port number, or -1')
  return Number(port)
}

function onSocket(graphics: XmlElement): boolean {
  return (
    attr(graphics, 'socket') !== undefined || children(graphics, 'listen').some(each => attr(each, 'type') === 'socket')
  )
}

function cpuOf(root: XmlElement, text: string): DomainCpu | undefined {
  const cpu = child(root, 'cpu')
  if (cpu === undefined) return undefined
  return {
    xml: text.slice(cpu.start, cpu.end),
    ...present({ mode: attr(cpu, 'mode'), model: textOf(child(cpu, 'model')) }),
  }
}

function nodeBoundOf(root: XmlElement, name: string, uuid: string): NodeBoundState[] {
  const interfaces = all(root, 'devices', 'interface').filter(each => attr(each, 'type') === 'hostdev')
  const disks = all(root, 'devices', 'disk').filter(each => attr(each, 'type') === 'nvme')
  const devices = [...all(root, 'devices', 'hostdev'), ...interfaces, ...disks]
  return [
    ...nvramOf(root, name),
    ...all(root, 'devices', 'tpm').map((tpm): NodeBoundState => ({ kind: 'tpm', what: tpmOf(tpm, uuid) })),
    ...devices.map((device): NodeBoundState => ({ kind: 'hostdev', what: deviceName(device) })),
  ]
}

/** UEFI writes its variables to a file that libvirt makes by itself when the definition names none. */
function nvramOf(root: XmlElement, name: string): NodeBoundState[] {
  const os = child(root, 'os')
  const nvram = child(os, 'nvram')
  const loader = child(os, 'loader')
  const uefi = attr(os, 'firmware') === 'efi' || attr(loader, 'type') === 'pflash'
  if (nvram === undefined && (!uefi || attr(loader, 'stateless') === 'yes')) return []
  const source = sourceOf(attr(nvram, 'type') ?? 'file', child(nvram, 'source'))
  const what = textOf(nvram) ?? diskIdentity(source)?.replace(/^file:/, '')
  return [{ kind: 'nvram', what: what ?? `/var/lib/libvirt/qemu/nvram/${name}_VARS.fd` }]
}

function tpmOf(tpm: XmlElement, uuid: string): string {
  const backend = child(tpm, 'backend')
  const path = attr(child(backend, 'source'), 'path') ?? attr(child(backend, 'device'), 'path')
  if (path !== undefined) return path
  const type = attr(backend, 'type') ?? 'passthrough'
  return type === 'emulator' ? `/var/lib/libvirt/swtpm/${uuid}` : type
}

/** What a device of the node is called: `pci 0000:03:00.0`, `usb 046d:c31c`, `mdev UUID`, or only its type. */
function deviceName(device: XmlElement): string {
  const source = child(device, 'source')
  const address = child(source, 'address')
  const type =
    attr(device, 'type') === 'hostdev' ? (attr(address, 'type') ?? 'pci') : (attr(device, 'type') ?? 'device')
  const identity =
    attr(address, 'uuid') ??
    pciAddress(address) ??
    usbId(source) ??
    usbAddress(address) ??
    attr(child(source, 'adapter'), 'name')
  return identity === undefined ? type : `${type} ${identity}`
}

function pciAddress(address: XmlElement | undefined): string | undefined {
  const slot = attr(address, 'slot')
  if (slot === undefined) return undefined
  const [domain, bus, device] = [hex(attr(address, 'domain'), 4), hex(attr(address, 'bus'), 2), hex(slot, 2)]
  return `${domain}:${bus}:${device}.${hex(attr(address, 'function'), 1)}`
}

function usbId(source: XmlElement | undefined): string | undefined {
  const vendor = attr(child(source, 'vendor'), 'id')
  return vendor && `${hex(vendor, 4)}:${hex(attr(child(source, 'product'), 'id'), 4)}`
}

function usbAddress(address: XmlElement | undefined): string | undefined {
  const device = attr(address, 'device')
  return device && `bus ${attr(address, 'bus') ?? '?'} device ${device}`
}

function hex(value: string | undefined, width: number): string {
  const number = Number(value ?? '0')
  return Number.isInteger(number) && number >= 0 ? number.toString(16).padStart(width, '0') : '?'.repeat(width)
}

/** libvirt's default for a node set without a mode is strict. */
function hugePagesOf(root: XmlElement): boolean {
  if (all(root, 'memoryBacking', 'hugepages').length > 0) return true
  const pinned = [...all(root, 'numatune', 'memory'), ...all(root, 'numatune', 'memnode')]
  return pinned.some(each => attr(each, 'nodeset') !== undefined && (attr(each, 'mode') ?? 'strict') === 'strict')
}

/** The fields that are known: Domain has no `undefined` in it, a fact is there or not. */
function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never
}

// --- Comparing disks

function plainPath(path: string): string {
  const parts = path.split('/').filter(part => part !== '' && part !== '.')
  return (path.startsWith('/') ? '/' : '') + parts.join('/')
}

/** QEMU opens a device given as a file all the same, so what is in /dev is a device whatever the definition calls it. */
function pathIdentity(kind: 'file' | 'block' | 'dir', path: string): string {
  return `${path.startsWith('/dev/') ? 'block' : kind}:${path}`
}

/** In these protocols the name alone says which disk it is; the hosts only say how to reach it, and lists of them vary. */
const NAMED_BY_CLUSTER: ReadonlySet<string> = new Set(['iscsi', 'rbd', 'gluster', 'sheepdog'])

function networkIdentity(protocol: string, name: string, hosts: readonly string[]): string {
  if (protocol === 'iscsi') return `network:iscsi:${(name.includes('/') ? name : `${name}/0`).toLowerCase()}`
  if (NAMED_BY_CLUSTER.has(protocol)) return `network:${protocol}:${name}`
  const sorted = hosts.map(host => (host.startsWith('unix:') ? host : host.toLowerCase())).sort()
  return `network:${protocol}:${sorted.join(',')}:${name}`
}
