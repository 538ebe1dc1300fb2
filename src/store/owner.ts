/** Who we are, so exactly that another process on this machine can tell whether we still live. */
import { readFile, readlink } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'

/** A process that holds a claim. Shown to people, and asked after by processes of the same machine. */
export interface Owner {
  readonly host: string
  readonly user: string
  readonly pid: number
  /** /proc/sys/kernel/random/boot_id: a pid of an earlier boot is nobody. */
  readonly bootId: string
  /** The pid namespace: a pid of another one says nothing here. */
  readonly pidNamespace: string
  /** Field 22 of /proc/PID/stat, in clock ticks since boot: a pid that was given out again is somebody else. */
  readonly startTime: string
}

/** This process. */
export async function thisProcess(): Promise<Owner> {
  const [bootId, pidNamespace, startTime] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    readlink('/proc/self/ns/pid'),
    startTimeOf('self'),
  ])
  return {
    host: hostname(),
    user: user(),
    pid: process.pid,
    bootId: bootId.trim(),
    pidNamespace,
    startTime: startTime ?? '',
  }
}

/** True only when the owner ran in our boot and pid namespace and is certainly gone. Otherwise nothing is known. */
export async function isDead(owner: Owner, us: Owner): Promise<boolean> {
  if (
    owner.host !== us.host ||
    owner.bootId !== us.bootId ||
    owner.pidNamespace !== us.pidNamespace ||
    owner.bootId === ''
  )
    return false
  const startTime = await startTimeOf(String(owner.pid))
  // A /proc that hides other users' processes (hidepid) says "none" of living ones, too; a signal tells.
  return startTime === undefined ? !isHidden(owner.pid) : startTime !== owner.startTime
}

function isHidden(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The process's start time, undefined when there is no such process (any more: a zombie has ended, too). */
async function startTimeOf(pid: string): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The command's name, in parentheses, may hold anything; the fields begin after the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH')
      return undefined
    throw error
  }
}

function user(): string {
  try {
    return process.env['SUDO_USER'] ?? userInfo().username
  } catch {
    // A user id without an entry in /etc/passwd, as in containers.
    return `uid ${process.getuid?.()}`
  }
}
