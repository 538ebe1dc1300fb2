/**
 * The system's OpenSSH, one master connection a node: commands run through it, and libvirt's sockets are forwarded through it.
 *
 * Everything lives in a private folder, `RUNTIME/ssh/NODE/`: each master in a folder of its own, and the link `current` to the
 * one in use. Two havirt processes that start a master at the same time both succeed; the later link wins, and the other master
 * ends when it is idle. A forwarded socket is root on that node, so nobody else may reach the folder.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { isNodeName } from '../core/node.ts'
import { type Access, SYSTEM_SOCKET_FOLDER } from '../libvirt/index.ts'
import { type Exit, pipe, type RunOptions, run } from './process.ts'

export interface SshSettings {
  readonly aliveIntervalSeconds: number
  readonly aliveCountMax: number
  readonly persistSeconds: number
  readonly connectTimeoutSeconds: number
  /** Extra `-o` options from the config, `Key=value`. */
  readonly options: readonly string[]
}

/** The node cannot be reached by ssh. The message is ssh's own. */
export class SshError extends Error {
  override readonly name = 'SshError'
}

/**
 * The forwarded sockets, by names that are short, since a unix socket's path ends at 108 bytes. libvirtd's come first: where the
 * modular daemons serve, virtproxyd answers there, too, while asking sshd for a socket that is not there writes a line into
 * the node's log each time.
 */
const FORWARDS: readonly { readonly name: string; readonly access: Access; readonly remote: string }[] = [
  { name: 'lr', access: 'readOnly', remote: 'libvirt-sock-ro' },
  { name: 'lw', access: 'readWrite', remote: 'libvirt-sock' },
  { name: 'qr', access: 'readOnly', remote: 'virtqemud-sock-ro' },
  { name: 'qw', access: 'readWrite', remote: 'virtqemud-sock' },
]
const CONTROL = 'c'
/** For so long a master is not asked again whether it lives. Should it have ended since, ssh makes a connection of its own. */
const TRUSTED_MS = 1000
const LOG = 'log'

/** The masters of one runtime folder. */
export class Ssh {
  readonly #folder: string
  readonly #settings: SshSettings
  readonly #starting = new Map<string, Promise<void>>()
  /** When each master was last seen alive. */
  readonly #livedAtMs = new Map<string, number>()

  /** `runtimeFolder` must be private to us, see {@link privateFolder}. */
  constructor(runtimeFolder: string, settings: SshSettings) {
    this.#folder = join(runtimeFolder, 'ssh')
    this.#settings = settings
  }

  /** Paths of the forwarded sockets that may serve libvirt, best first. They exist while a master lives. */
  sockets(node: string, access: Access): string[] {
    return FORWARDS.filter(forward => forward.access === access).map(forward => this.#current(node, forward.name))
  }

  /** Makes sure that a master lives. Rejects with {@link SshError} in ssh's own words. */
  async ensureMaster(node: string): Promise<void> {
    checkName(node)
    if (!(await accepts(this.#current(node, CONTROL)))) {
      const starting = this.#starting.get(node) ?? this.#startMaster(node).finally(() => this.#starting.delete(node))
      this.#starting.set(node, starting)
      await starting
    }
    this.lives(node)
  }

  /** Somebody just got through by the node's master. */
  lives(node: string): void {
    this.#livedAtMs.set(node, performance.now())
  }

  /** Runs one line in the node's shell through its master. Status 255 is ssh's own: the line may have run or not. */
  async run(node: string, line: string, options: RunOptions): Promise<Exit> {
    checkName(node)
    if (!this.#isTrusted(node)) await this.ensureMaster(node)
    return run('ssh', [...this.#clientOptions(node), '--', node, line], options)
  }

  /** A stream through a program on the node. */
  async pipe(node: string, line: string): Promise<Duplex> {
    await this.ensureMaster(node)
    return pipe('ssh', [...this.#clientOptions(node), '-T', '--', node, line])
  }

  /** The fingerprint of the host key that a fresh connection sees, `ssh-ed25519 SHA256:...`. */
  async hostKey(node: string): Promise<string | undefined> {
    checkName(node)
    const options = ['-v', '-o', 'ControlPath=none', '-o', 'BatchMode=yes', ...this.#commonOptions()]
    const { stderr } = await run('ssh', [...options, '--', node, 'true'], {
      timeoutMs: this.#settings.connectTimeoutSeconds * 2000,
    })
    return /^debug1: Server host key: (\S+ \S+)/m.exec(stderr)?.[1]
  }

  /** Ends the node's master, if there is one: after it led to the wrong host, or when the node is removed. */
  async forget(node: string): Promise<void> {
    checkName(node)
    this.#livedAtMs.delete(node)
    await run('ssh', ['-S', this.#current(node, CONTROL), '-O', 'exit', '--', node], { timeoutMs: 2000 })
    await rm(join(this.#folder, node), { recursive: true, force: true })
  }

  #isTrusted(node: string): boolean {
    const livedAtMs = this.#livedAtMs.get(node)
    return livedAtMs !== undefined && performance.now() - livedAtMs < TRUSTED_MS
  }

  #current(node: string, name: string): string {
    return join(this.#folder, node, 'current', name)
  }

  #commonOptions(): string[] {
    const { aliveIntervalSeconds, aliveCountMax, connectTimeoutSeconds, options } = this.#settings
    const fixed = [
      `ConnectTimeout=${connectTimeoutSeconds}`,
      `ServerAliveInterval=${aliveIntervalSeconds}`,
      `ServerAliveCountMax=${aliveCountMax}`,
      'ForwardAgent=no',
      'ForwardX11=no',
      'PermitLocalCommand=no',
      'EscapeChar=none',
    ]
    return [...fixed, ...options].flatMap(option => ['-o', option])
  }

  #clientOptions(node: string): string[] {
    return [
      '-S',
      this.#current(node, CONTROL),
      '-o',
      'ControlMaster=no',
      '-o',
      'BatchMode=yes',
      ...this.#commonOptions(),
    ]
  }

  async #startMaster(node: string): Promise<void> {
    const folder = join(this.#folder, node)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const master = join(folder, `m.${randomBytes(4).toString('hex')}`)
    await mkdir(master, { mode: 0o700 })
    const timeoutMs = this.#settings.connectTimeoutSeconds * 1000 + 4000
    const exit = await run('ssh', this.#masterArguments(node, master), { timeoutMs })
    if (exit.status !== 0) {
      const message = await readFile(join(master, LOG), 'utf8').catch(() => exit.stderr)
      await rm(master, { recursive: true, force: true })
      throw new SshError(sshMessage(message, exit.timedOut))
    }
    await this.#makeCurrent(folder, master)
  }

  #masterArguments(node: string, master: string): string[] {
    const forwards = FORWARDS.flatMap(({ name, remote }) => [
      '-L',
      `${join(master, name)}:${SYSTEM_SOCKET_FOLDER}/${remote}`,
    ])
    return [
      ...['-M', '-N', '-f', '-S', join(master, CONTROL), '-E', join(master, LOG)],
      ...[
        '-o',
        'BatchMode=yes',
        // A master may live for months: its log must not grow by a line for every socket that was not there.
        '-o',
        'LogLevel=ERROR',
        '-o',
        `ControlPersist=${this.#settings.persistSeconds}`,
        '-o',
        'StreamLocalBindMask=0177',
      ],
      ...this.#commonOptions(),
      ...forwards,
      ...['--', node],
    ]
  }

  /** Puts the link on the new master in one step and removes the folder of the one before, if that is dead. */
  async #makeCurrent(folder: string, master: string): Promise<void> {
    const link = join(folder, 'current')
    const before = await readlink(link).catch(() => undefined)
    const fresh = `${master}.link`
    await symlink(master, fresh)
    await rename(fresh, link)
    if (before !== undefined && before !== master && !(await accepts(join(before, CONTROL)))) {
      await rm(before, { recursive: true, force: true })
    }
  }
}

/** A folder that only we may enter, made if it is not there. Rejects when it belongs to somebody else or lets others in. */
export async function privateFolder(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  const { uid, mode } = await stat(path)
  if (uid !== process.getuid?.() || (mode & 0o077) !== 0) {
    throw new SshError(
      `${path} must belong to this user with mode 0700, since root's connections live in it; remove it or mend its mode`,
    )
  }
  return path
}

function checkName(node: string): void {
  if (!isNodeName(node)) throw new SshError(`'${node}' cannot be a node's name`)
}

/** True when somebody listens on a unix socket. */
function accepts(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}

/** ssh's last words, without its notes about forwardings and control sockets. */
function sshMessage(log: string, timedOut: boolean): string {
  const lines = log.split(/\r?\n/).map(line => line.trim())
  const last = lines.filter(line => line !== '' && !/^(Warning: Permanently added|debug\d:)/.test(line)).at(-1)
  return last ?? (timedOut ? 'ssh did not connect in time' : 'ssh failed without a message')
}
