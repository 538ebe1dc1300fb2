/** A private libvirtd for tests: its own sockets, folders and network, gone without a trace at the end. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

const LIBVIRTD = '/usr/sbin/libvirtd'
const START_WITHIN_MS = 20_000
const STOP_WITHIN_MS = 5_000

export interface PrivateLibvirtd {
  /** The folder of the sockets. */
  readonly folder: string
  readonly socket: string
  readonly readOnlySocket: string
  stop(): Promise<void>
}

/** Why no libvirtd can be started here; undefined when one can. */
export function whyNoLibvirtd(): string | undefined {
  if (!existsSync(LIBVIRTD)) return `${LIBVIRTD} is not installed`
  if (process.getuid?.() !== 0) return 'needs root'
  if (spawnSync('unshare', ['-m', '-n', 'true']).status !== 0) return 'no new mount and network namespaces here'
  return undefined
}

export async function startLibvirtd(): Promise<PrivateLibvirtd> {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-libvirtd-'))
  const configuration = join(folder, 'libvirtd.conf')
  await writeFile(configuration, settings(folder))
  const daemon = spawnPrivately(`exec ${LIBVIRTD} -f ${configuration} -p ${folder}/pid`)
  const libvirtd = {
    folder,
    socket: join(folder, 'libvirt-sock'),
    readOnlySocket: join(folder, 'libvirt-sock-ro'),
    stop: () => stop(daemon, folder),
  }
  try {
    await untilAnswers(libvirtd.readOnlySocket, daemon, join(folder, 'log'))
    return libvirtd
  } catch (error) {
    await libvirtd.stop()
    throw error
  }
}

/** Pings after one second of silence and gives up at the third, so that a test need not wait long to see it. */
function settings(folder: string): string {
  return `unix_sock_dir = "${folder}"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:${folder}/log"
keepalive_interval = 1
keepalive_count = 2
`
}

/** Hides every folder that libvirtd would write to, and the network that it might bring up; dies with this process. */
function spawnPrivately(command: string): ChildProcess {
  const folders = ['/run', '/etc/libvirt', '/var/lib/libvirt', '/var/cache/libvirt', '/var/log/libvirt']
  const mounts = folders.map(folder => `{ [ ! -d ${folder} ] || mount -t tmpfs none ${folder}; }`)
  const script = [...mounts, 'mkdir -p /run/libvirt', command].join(' && ')
  return spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '-m', '-n', 'bash', '-c', script], { stdio: 'ignore' })
}

async function untilAnswers(path: string, daemon: ChildProcess, log: string): Promise<void> {
  const deadline = Date.now() + START_WITHIN_MS
  while (!(await accepts(path))) {
    if (daemon.exitCode !== null || Date.now() > deadline) {
      throw new Error(`libvirtd did not start: ${await readFile(log, 'utf8').catch(() => 'no log')}`)
    }
    await pause(10)
  }
}

function accepts(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path })
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

async function stop(daemon: ChildProcess, folder: string): Promise<void> {
  if (daemon.exitCode === null && daemon.signalCode === null) {
    const gone = once(daemon, 'exit')
    daemon.kill('SIGTERM')
    const killer = setTimeout(() => daemon.kill('SIGKILL'), STOP_WITHIN_MS)
    await gone
    clearTimeout(killer)
  }
  await rm(folder, { recursive: true, force: true })
}
