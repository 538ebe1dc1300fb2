/** Files that may lie on a share. A share that hangs would hang the agent with it, and have its node fenced: so it is asked by another process. */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, normalize, resolve } from 'node:path'

/** For how long a share may keep us waiting. */
const SHARE_TIMEOUT_MS = 3000
/** File systems whose server, or whose other nodes, a reader may have to wait for. */
const SHARED = /^(nfs\d?|cifs|smb3|ceph|glusterfs|gfs2|ocfs2|afs|9p|lustre|beegfs|autofs|fuse(\..*)?)$/
const MAX_BYTES = 4 * 1024 * 1024

export interface Unreadable {
  /** Why, as the end of a sentence. */
  readonly problem: string
  /** Its share does not answer: whoever touches it otherwise hangs. */
  readonly hangs?: true
}

/** The text of a file, or why it cannot be had. */
export async function readText(path: string): Promise<{ readonly text: string } | Unreadable> {
  if (isShared(path)) return readByCat(path)
  try {
    // A pipe would be waited for as a share is.
    const stat = statSync(path)
    if (!stat.isFile()) return { problem: stat.isDirectory() ? 'is a folder' : 'is no file' }
    return { text: readFileSync(path, 'utf8') }
  } catch (error) {
    return { problem: meaning(error) }
  }
}

function meaning(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'does not exist'
  if (code === 'EACCES') return 'may not be read'
  if (code === 'EISDIR') return 'is a folder'
  return `cannot be read: ${message}`
}

/**
 * True when somebody may have to be waited for to read this path: it leads to a share, or through one. Links are followed only as long as
 * they lie on local disks. What is mounted is asked anew each time: it changes, and the list costs little.
 */
export function isShared(path: string): boolean {
  try {
    const mounts = mountsIn(readFileSync('/proc/self/mountinfo', 'utf8'))
    return leadsToShare(mounts, normalize(path), MAX_LINKS)
  } catch {
    return false
  }
}

/** As many as Linux follows. */
const MAX_LINKS = 40

function leadsToShare(mounts: readonly Mount[], path: string, links: number): boolean {
  const names = path.split('/').filter(name => name !== '')
  for (let at = 1; at <= names.length; at++) {
    const place = `/${names.slice(0, at).join('/')}`
    if (SHARED.test(typeOf(mounts, place))) return true
    const target = linkAt(place)
    if (target === undefined) continue
    const beyond = join(resolve(dirname(place), target), ...names.slice(at))
    return links > 0 && leadsToShare(mounts, beyond, links - 1)
  }
  return false
}

function linkAt(place: string): string | undefined {
  try {
    return readlinkSync(place)
  } catch {
    return undefined
  }
}

interface Mount {
  readonly point: string
  readonly type: string
}

/** proc(5), mountinfo: white space in a path is written in octal, and the type follows a lone dash. */
export function mountsIn(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap(line => {
    const fields = line.split(' ')
    const dash = fields.indexOf('-')
    if (dash < 0) return []
    const point = (fields[4] ?? '').replace(/\\(\d{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8)))
    return [{ point, type: fields[dash + 1] ?? '' }]
  })
}

/** The type of what is mounted where a path lies; of several mounts at one place the last one hides the others. */
function typeOf(mounts: readonly Mount[], path: string): string {
  let best: Mount = { point: '', type: '' }
  for (const mount of mounts) {
    const { point } = mount
    const isWithin = point === '/' || path === point || path.startsWith(`${point}/`)
    if (isWithin && point.length >= best.point.length) best = mount
  }
  return best.type
}

/** False when the path is on a share that does not answer: whoever touched it would hang. */
export async function answers(path: string): Promise<boolean> {
  if (!isShared(path)) return true
  const { run } = await import('../nodes/process.ts')
  return !(await run('stat', ['--', path], { timeoutMs: SHARE_TIMEOUT_MS, maxOutputBytes: MAX_BYTES })).timedOut
}

async function readByCat(path: string): Promise<{ readonly text: string } | Unreadable> {
  const { run } = await import('../nodes/process.ts')
  // A process that waits for a dead share cannot be killed, and is not waited for.
  const exit = await run('cat', ['--', path], { timeoutMs: SHARE_TIMEOUT_MS, maxOutputBytes: MAX_BYTES })
  if (exit.timedOut) return { problem: 'cannot be read: its share does not answer', hangs: true }
  if (exit.status === 0) return { text: exit.stdout }
  return { problem: /No such file/.test(exit.stderr) ? 'does not exist' : `cannot be read: ${exit.stderr.trim()}` }
}

/** Replaces a file whole or not at all; whoever reads it meanwhile has the old one or the new one. */
export function replaceFile(path: string, text: string, mode: number, owner?: { uid: number; gid: number }): void {
  const fresh = `${path}.${process.pid}.new`
  const file = openSync(fresh, 'wx', mode)
  try {
    // On a descriptor, and to the last byte: a disk that is full takes a part without a word.
    writeFileSync(file, text)
    fsyncSync(file)
    closeSync(file)
    if (owner !== undefined) giveTo(fresh, owner, mode)
    renameSync(fresh, path)
  } catch (error) {
    try {
      unlinkSync(fresh)
    } catch {}
    throw error
  }
}

function giveTo(path: string, { uid, gid }: { uid: number; gid: number }, mode: number): void {
  try {
    chownSync(path, uid, gid)
  } catch {
    // Some shares give their files to whom they like.
  }
  chmodSync(path, mode)
}
