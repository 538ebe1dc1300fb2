/** What the tests of the store's users share: time that stands still until it is told, owners, identities, folders. */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Identity } from '../../src/core/cluster.ts'
import type { Disk } from '../../src/core/domain.ts'
import type { Clock } from '../../src/store/clock.ts'
import type { Owner } from '../../src/store/owner.ts'

interface Sleeper {
  readonly untilMs: number
  readonly wake: () => void
}

/**
 * Time passes only by sleeping: once everybody sleeps, it jumps to whoever wakes first. Nobody really waits.
 * {@link busy} holds it while somebody works who does not sleep.
 */
export class FakeClock implements Clock {
  ms = 0
  busy: () => boolean = () => false
  readonly #sleepers = new Set<Sleeper>()
  #turning = false
  #stopped = false

  now = () => Date.UTC(2026, 0, 2, 3, 4, 5) + this.ms
  monotonicMs = () => this.ms
  sleep = (ms: number, signal?: AbortSignal) =>
    new Promise<void>(resolve => {
      if (signal?.aborted) return resolve()
      const wake = () => {
        this.#sleepers.delete(sleeper)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      const sleeper = { untilMs: this.ms + ms, wake }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', wake)
      this.#turn()
    })

  /** The clock of another host in the same time: its wall clock shows another hour, and it was booted at another moment. */
  ofHost(wallOffsetMs: number, bootMs: number): Clock {
    return {
      now: () => this.now() + wallOffsetMs,
      monotonicMs: () => this.ms + bootMs,
      sleep: this.sleep,
    }
  }

  /** Nobody wakes any more: who renews a claim for ever must not outlive the test. */
  stop(): void {
    this.#stopped = true
  }

  #turn(): void {
    if (this.#turning || this.#stopped) return
    this.#turning = true
    // Whoever can go on does so first.
    setImmediate(() => {
      this.#turning = false
      const [first] = [...this.#sleepers].sort((a, b) => a.untilMs - b.untilMs)
      if (first === undefined) return
      if (!this.busy()) {
        this.ms = Math.max(this.ms, first.untilMs)
        first.wake()
      }
      this.#turn()
    })
  }
}

/** A clock that stops with the test. */
export function aClock(): FakeClock {
  const clock = new FakeClock()
  onTestFinished(() => clock.stop())
  return clock
}

let machines = 0

/** Somebody on a machine of their own: whether they live cannot be told from any other. */
export function stranger(user: string): Owner {
  return { host: 'far', user, pid: 4711, bootId: `boot ${++machines}`, pidNamespace: 'pid:[1]', startTime: '1' }
}

export const UUID = '11111111-2222-4333-8444-555555555555'
export const OTHER_UUID = '99999999-2222-4333-8444-555555555555'

export function disk(path: string): Disk {
  return {
    target: 'vda',
    device: 'disk',
    source: { kind: 'file', path },
    readOnly: false,
    shareable: false,
    transient: false,
  }
}

export function identity(name: string, uuid = UUID, ...paths: readonly string[]): Identity & { uuid: string } {
  return { name, uuid, disks: paths.map(disk) }
}

/** An empty folder, for the caller to remove. */
export function makeFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'havirt-test-'))
}

/** An empty folder that goes when the test does. */
export async function temporaryFolder(): Promise<string> {
  const folder = await makeFolder()
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Every path below the folder with its mode, its time of change, and its text: equal listings are the same folder. */
export async function listing(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true })
  const entries = names.sort().map(async name => {
    const path = join(folder, name)
    const { mode, mtimeMs, ino } = await stat(path)
    const text = (await stat(path)).isFile() ? await readFile(path, 'latin1') : ''
    return [name, `${mode.toString(8)} ${mtimeMs} ${ino} ${text}`] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

/** A definition that havirt takes. */
export function domainXml(name = 'web', uuid = UUID): string {
  return `<domain type='kvm'>
  <name>${name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
`
}
