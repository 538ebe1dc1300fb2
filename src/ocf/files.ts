/** Files that may lie on a share. A share that hangs would hang the agent with it, and have its node fenced: so it is asked by another process. */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'

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

/** Asked anew each time: what is mounted changes, and the list costs little. */
export function isShared(path: string): boolean {
  try {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    let best = { point: '', type: '' }
    for (const line of mounts) {
      const fields = line.split(' ')
      const point = (fields[4] ?? '').replace(/\\(\d{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8)))
      const within = point === '/' || path === point || path.startsWith(`${point}/`)
      if (within && point.length >= best.point.length) best = { point, type: fields[fields.indexOf('-') + 1] ?? '' }
    }
    return SHARED.test(best.type)
  } catch {
    return false
  }
}

async function readByCat(path: string): Promise<{ readonly text: string } | Unreadable> {
  const { run } = await import('../nodes/process.ts')
  const end = run('cat', ['--', path], { timeoutMs: SHARE_TIMEOUT_MS, maxOutputBytes: MAX_BYTES })
  // A process that waits for a dead share cannot be killed, and is not waited for.
  const silence = new Promise<undefined>(resolve => {
    setTimeout(() => resolve(undefined), SHARE_TIMEOUT_MS + 200).unref()
  })
  const exit = await Promise.race([end, silence])
  if (exit === undefined || exit.timedOut) return { problem: 'cannot be read: its share does not answer', hangs: true }
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
