/**
 * What a disk is, in words that can be compared: between two paths of one node, and between nodes. Two names of one disk must come
 * to the same words. Where nothing says what it is to every node, the words name the node, and hold only there.
 */
import { localIdentity, partitionOf } from '../core/node.ts'

// --- Block devices

/** DRBD's device number. Its minor is in the configuration that all peers share, and sysfs has no other name of it. */
const DRBD_MAJOR = 147

/** What a block device is, from its files in sysfs (`dm/uuid`, `device/wwid`, ...; those of a partition's disk behind `../`). */
export function deviceIdentity(
  device: string,
  files: ReadonlyMap<string, string>,
  node: string,
  fileIdentity: (path: string) => string,
): string {
  const partition = files.get('partition')
  const whole = (prefix: string, number: string) =>
    ownIdentity(files, prefix, fileIdentity) ?? drbd(number) ?? localIdentity(node, `device ${number}`)
  return partition === undefined
    ? whole('', device)
    : partitionOf(whole('../', files.get('../dev') ?? device), partition)
}

function ownIdentity(
  files: ReadonlyMap<string, string>,
  prefix: string,
  fileIdentity: (path: string) => string,
): string | undefined {
  const text = (name: string) => files.get(`${prefix}${name}`)?.trim() || undefined
  const [mapped, wwid, backing] = [text('dm/uuid'), text('wwid') ?? text('device/wwid'), text('loop/backing_file')]
  if (mapped !== undefined) return mappedIdentity(mapped)
  if (wwid !== undefined) return normalWwid(wwid)
  return backing === undefined ? undefined : fileIdentity(backing.replace(/ \(deleted\)$/, ''))
}

function drbd(device: string): string | undefined {
  const [major, minor] = device.split(':')
  return Number(major) === DRBD_MAJOR ? `drbd:${minor}` : undefined
}

/** A mapping's uuid says who made it. Multipath names the disk behind it, kpartx a partition, LUKS adds a name that may differ. */
function mappedIdentity(uuid: string): string | undefined {
  const partition = /^part(\d+)-(.+)$/.exec(uuid)
  if (partition !== null) {
    const parent = mappedIdentity(partition[2] ?? '')
    return parent && partitionOf(parent, partition[1] ?? '')
  }
  if (uuid.startsWith('mpath-')) return multipathIdentity(uuid.slice('mpath-'.length))
  // Plain dm-crypt has nothing but the name that somebody gave it.
  if (uuid.startsWith('CRYPT-PLAIN')) return undefined
  return /^CRYPT-LUKS\d-[0-9a-f]{32}/.exec(uuid)?.[0] ?? uuid
}

/** The first digit of what scsi_id prints is the type of the name; the kernel writes the same in letters. */
const SCSI_TYPES: Readonly<Record<string, string>> = { 1: 't10.', 2: 'eui.', 3: 'naa.', 8: '' }

function multipathIdentity(id: string): string {
  if (/^(naa|eui|t10|uuid|nvme)\./.test(id)) return normalWwid(id)
  const type = SCSI_TYPES[id[0] ?? '']
  return type === undefined ? `mpath-${normalWwid(id)}` : normalWwid(`${type}${id.slice(1)}`)
}

/** udev replaces what is not in its list of characters, and the kernel does not. */
export function normalWwid(text: string): string {
  const plain = text
    .trim()
    .replace(/[^A-Za-z0-9#+\-.:=@_]/g, '_')
    .replace(/_+/g, '_')
    .replace(/_$/, '')
  return /^(naa|eui|uuid)\./i.test(plain) ? plain.toLowerCase() : plain
}

// --- Files

/** One line of /proc/self/mountinfo. */
export interface Mount {
  /** `major:minor` of the filesystem. */
  readonly device: string
  /** The folder of the filesystem that is mounted: not `/` for a bind mount. */
  readonly root: string
  readonly point: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** Reads mountinfo; lines that are none are left out. */
export function parseMounts(lines: readonly string[]): Mount[] {
  return lines.flatMap(line => {
    const [before = '', after = ''] = line.split(' - ')
    const [, , device, root, point] = before.split(' ').map(unescaped)
    const [type, source, options] = after.split(' ').map(unescaped)
    if (device === undefined || root === undefined || point === undefined || type === undefined) return []
    return [{ device, root, point, type, source: source ?? '', options: options?.split(',') ?? [] }]
  })
}

/** Blanks, line ends and backslashes are written in octal there. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** Filesystems that several hosts mount at once, as the kernel names them; FUSE ones are thought to be, too. */
const NETWORK_TYPES =
  /^(nfs4?|cifs|smb3|ceph|fuse\..+|glusterfs|lustre|beegfs\w*|gpfs|gfs2|ocfs2|afs|panfs|orangefs|pvfs2|coda|acfs|vxfs)$/

/** What a file is: on a network filesystem its server's name and its path there, else a place on this node. */
export function fileIdentity(path: string, mounts: readonly Mount[], node: string): string {
  const mount = mountOf(path, mounts)
  if (mount === undefined) return localIdentity(node, path)
  const within = joined(mount.root, path.slice(mount.point === '/' ? 0 : mount.point.length))
  return NETWORK_TYPES.test(mount.type)
    ? `${family(mount.type)}:${serverOf(mount)}${joined(exportOf(mount), within)}`
    : localIdentity(node, `${mount.device}${within}`)
}

/** The deepest mount that holds the path; of two at one place the later one covers the earlier. */
function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  const holds = ({ point }: Mount) => point === '/' || path === point || path.startsWith(`${point}/`)
  return mounts
    .filter(holds)
    .reduce<Mount | undefined>(
      (best, each) => (each.point.length >= (best?.point.length ?? 0) ? each : best),
      undefined,
    )
}

function family(type: string): string {
  return { nfs4: 'nfs', smb3: 'cifs' }[type] ?? type.replace(/^fuse\./, '')
}

/** Any server of these leads to the same files, and each node may name another. */
const ANY_SERVER = /^(ceph|fuse\.glusterfs|glusterfs|lustre)$/

/** The address is what all names of a server come to. */
function serverOf({ type, source, options }: Mount): string {
  if (ANY_SERVER.test(type)) return ''
  const address = options.find(option => option.startsWith('addr='))?.slice('addr='.length)
  const named = /^\/\/([^/]+)/.exec(source)?.[1] ?? /^(\[[^\]]+\]|[^/:]+):/.exec(source)?.[1] ?? ''
  return address ?? named.toLowerCase()
}

function exportOf({ source }: Mount): string {
  return source.replace(/^\/\/[^/]+/, '').replace(/^[^/]*[:=](?=\/|[^/]*$)/, '/')
}

function joined(...parts: readonly string[]): string {
  const names = parts.flatMap(part => part.split('/')).filter(name => name !== '')
  return `/${names.join('/')}`
}
