/**
 * The few file operations that a store in a folder needs, behind one interface, so that tests can put a simulated NFS
 * beneath it. Nothing here knows what a record is; errors are Node's own, with their `code`.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { link, lstat, mkdir, open, readdir, readFile, unlink } from 'node:fs/promises'
import { hostname } from 'node:os'

/** One name in a folder. */
export interface Entry {
  readonly name: string
  readonly isFolder: boolean
}

/** What a file system must offer. There is no rename, lock or time stamp here: none of them can be trusted on NFS. */
export interface Files {
  /** Creates the file, mode 0600, and writes it; EEXIST if the name is taken. `durable` returns after the fsync. */
  write(path: string, text: string, how: 'durable' | 'fleeting'): Promise<void>
  /** Gives the file a second name. On NFS it can say EEXIST although it was this very call that made the name. */
  link(from: string, to: string): Promise<void>
  read(path: string): Promise<Buffer>
  /** On NFS it can say ENOENT although it was this very call that removed the name. */
  unlink(path: string): Promise<void>
  list(folder: string): Promise<Entry[]>
  /** Makes one folder, mode 0700, unless it is there. ENOTDIR if something else is, a symbolic link included. */
  makeFolder(path: string): Promise<void>
  /** Makes the folder's names durable, where the system knows how. */
  sync(folder: string): Promise<void>
}

/** The code of a failed system call, `ENOSPC`; empty for any other error. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** The real file system. */
export const realFiles: Files = {
  link,
  unlink,
  read: path => readFile(path),
  async write(path, text, how) {
    const file = await open(path, 'wx', 0o600)
    try {
      await file.writeFile(text)
      if (how === 'durable') await file.sync()
    } finally {
      await file.close()
    }
  },
  async list(folder) {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.map(entry => ({ name: entry.name, isFolder: entry.isDirectory() }))
  },
  async makeFolder(path) {
    try {
      await mkdir(path, { mode: 0o700 })
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
      if (!(await lstat(path)).isDirectory()) throw notAFolder(path)
    }
  },
  async sync(folder) {
    const handle = await open(folder, 'r')
    try {
      await handle.sync()
    } catch (error) {
      // Some file systems have no fsync for folders. Any other failure may mean that the name is lost with the power.
      if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(errorCode(error))) throw error
    } finally {
      await handle.close()
    }
  },
}

function notAFolder(path: string): Error {
  return Object.assign(new Error(`ENOTDIR: not a folder, '${path}'`), { code: 'ENOTDIR' })
}

/** Who writes, so that the temporary files of a crashed process can be told from those of a living one. */
export interface Writer {
  /** The host, its boot, and the process namespace: within one label a pid means one process. No slash. */
  readonly label: string
  readonly pid: number
  isAlive(pid: number): boolean
}

/** This process. */
export function thisWriter(): Writer {
  return { label: `${safeHostname()}.${bootId()}.${pidNamespace()}`, pid: process.pid, isAlive }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errorCode(error) !== 'ESRCH'
  }
}

function safeHostname(): string {
  return hostname()
    .replace(/[^A-Za-z0-9.-]/g, '-')
    .slice(0, 64)
}

function bootId(): string {
  return orElse(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8), 'noboot')
}

/** Two containers can share a host name and a boot, and still not see each other's processes. */
function pidNamespace(): string {
  return orElse(() => readlinkSync('/proc/self/ns/pid').replace(/\D/g, ''), '0')
}

function orElse(read: () => string, fallback: string): string {
  try {
    return read()
  } catch {
    return fallback
  }
}
