/** Ways to a daemon: which socket it is, and what happens when it is not there. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type Access,
  ConnectionError,
  openConnection,
  procedures,
  socketNames,
  unixSocket,
} from '../../src/libvirt/index.ts'
import { type SocketServer, startProtocolServer } from './server.ts'

let folder: string
const servers: SocketServer[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'havirt-transport-'))
})
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
  await rm(folder, { recursive: true })
})

async function serve(name: string): Promise<void> {
  servers.push(await startProtocolServer({ path: join(folder, name), domains: [], hostname: name }))
}

const soon = () => AbortSignal.timeout(1000)

describe('socket names', () => {
  test.each<[string, Access, string[]]>([
    ['qemu:///system', 'readWrite', ['virtqemud-sock', 'libvirt-sock']],
    ['qemu:///system', 'readOnly', ['virtqemud-sock-ro', 'libvirt-sock-ro']],
    ['qemu:///session', 'readWrite', ['virtqemud-sock', 'libvirt-sock']],
    ['qemu+ssh://root@node2/system', 'readWrite', ['virtqemud-sock', 'libvirt-sock']],
    ['qemu+unix:///system', 'readOnly', ['virtqemud-sock-ro', 'libvirt-sock-ro']],
    ['xen:///system', 'readWrite', ['virtxend-sock', 'libvirt-sock']],
    ['lxc:///system', 'readOnly', ['virtlxcd-sock-ro', 'libvirt-sock-ro']],
  ])('%s, %s: the modular daemon first, then the monolithic one', (uri, access, names) => {
    expect(socketNames(uri, access)).toEqual(names)
  })

  test.each<[string, string[], string]>([
    ['both daemons', ['virtqemud-sock', 'libvirt-sock'], 'virtqemud-sock'],
    ['the modular daemon alone', ['virtqemud-sock'], 'virtqemud-sock'],
    ['the monolithic daemon alone', ['libvirt-sock'], 'libvirt-sock'],
    ['the daemons of other drivers, too', ['virtxend-sock', 'virtnetworkd-sock', 'libvirt-sock'], 'libvirt-sock'],
    ['read-only sockets, too', ['virtqemud-sock-ro', 'libvirt-sock-ro', 'libvirt-sock'], 'libvirt-sock'],
  ])('with %s, the first name that answers is the right one', async (_what, present, expected) => {
    for (const name of present) await serve(name)
    expect(await hostnameOfFirst(socketNames('qemu:///system', 'readWrite'))).toBe(expected)
  })
})

/** Tries the names in order, as a node does. */
async function hostnameOfFirst(names: readonly string[]): Promise<string | undefined> {
  const options = { uri: 'qemu:///system', access: 'readWrite', timeoutMs: 1000 } as const
  for (const name of names) {
    const connection = await openConnection(unixSocket(join(folder, name)), options).catch(() => undefined)
    if (connection === undefined) continue
    const { hostname } = await connection.call(procedures.connectGetHostname, undefined)
    await connection.close()
    return hostname
  }
  return undefined
}

describe('a unix socket', () => {
  test('that is there gives a stream', async () => {
    await serve('libvirt-sock')
    const stream = await unixSocket(join(folder, 'libvirt-sock'))(soon())
    expect(stream.destroyed).toBe(false)
    stream.destroy()
  })

  test.each<[string, (path: string) => Promise<unknown>, string]>([
    ['is missing', async () => undefined, 'ENOENT'],
    ['is a file', path => writeFile(path, ''), 'ECONNREFUSED'],
    ['is a folder', path => mkdir(path), 'ECONNREFUSED'],
  ])('that %s is refused, with the path and the reason', async (_what, prepare, code) => {
    const path = join(folder, 'libvirt-sock')
    await prepare(path)
    const refused = await unixSocket(path)(soon()).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ConnectionError)
    expect(refused).toMatchObject({ kind: 'refused', cause: { code } })
    expect((refused as Error).message).toBe(`cannot connect to ${path}: connect ${code} ${path}`)
  })

  test('whose daemon is gone is refused', async () => {
    await serve('libvirt-sock')
    const path = join(folder, 'libvirt-sock')
    await servers.pop()?.close()
    await expect(unixSocket(path)(soon())).rejects.toMatchObject({ kind: 'refused' })
    expect(await readdir(folder)).toEqual([])
  })

  test('is given up when the deadline has passed', async () => {
    await serve('libvirt-sock')
    const dialing = unixSocket(join(folder, 'libvirt-sock'))(AbortSignal.abort())
    await expect(dialing).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringMatching(/the deadline passed$/),
    })
  })

  test('stays connected when the deadline passes afterwards', async () => {
    await serve('libvirt-sock')
    const deadline = new AbortController()
    const stream = await unixSocket(join(folder, 'libvirt-sock'))(deadline.signal)
    deadline.abort()
    expect(stream.destroyed).toBe(false)
    stream.destroy()
  })

  test('is given up when the deadline passes while it is dialled', async () => {
    await serve('libvirt-sock')
    const deadline = new AbortController()
    const dialing = unixSocket(join(folder, 'libvirt-sock'))(deadline.signal)
    deadline.abort()
    await expect(dialing).rejects.toMatchObject({ kind: 'refused' })
    await expect.poll(() => servers[0]?.protocol.clients).toBe(0)
  })
})
