/** What the tests of the store's users share: time that stands still until it is told, owners, identities, folders. */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Identity } from '../../src/core/cluster.ts'
import type { Disk } from '../../src/core/domain.ts'
import type { Clock } from '../../src/store/clock.ts'
import type { Owner } from '../../src/store/owner.ts'

/** A clock that only the test moves. */
export class FakeClock implements Clock {
  wallMs = Date.UTC(2026, 0, 2, 3, 4, 5)
  ms = 0
  now = () => this.wallMs
  monotonicMs = () => this.ms
  sleep = async (ms: number) => {
    this.ms += ms
  }
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

/** An empty folder that goes when the test does. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-test-'))
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
