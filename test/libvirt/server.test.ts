/** The test server, as far as other tests and benchmarks lean on it. */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { duplexPair } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { type Connection, listDomains, openConnection, procedures, unixSocket } from '../../src/libvirt/index.ts'
import { encodePacket, PacketAssembler } from '../../src/libvirt/packet.ts'
import { domainStats } from '../../src/libvirt/procedures.ts'
import { type Misbehaviour, ProtocolServer, type ServedDomain, startProtocolServer } from './server.ts'
import { fieldsOfError } from './session.ts'

const uuidOf = (id: number) => `00000000-0000-4000-8000-${String(id).padStart(12, '0')}`
const DOMAINS: ServedDomain[] = [
  {
    name: 'web',
    uuid: uuidOf(1),
    xml: '<web/>',
    state: 'running',
    autostart: true,
    memoryKiB: 1024,
    maxMemoryKiB: 2048,
  },
  { name: 'db', uuid: uuidOf(2), xml: '<db/>', state: 'shutoff', reason: 1, managedSave: true, hasSnapshot: true },
  { name: 'job', uuid: uuidOf(3), xml: '<job/>', state: 'paused', reason: 1, persistent: false, vcpus: 1, maxVcpus: 4 },
]

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'havirt-server-'))
  cleanups.push(() => rm(path, { recursive: true }))
  return path
}

async function connected(server: ProtocolServer): Promise<Connection> {
  const [ours, theirs] = duplexPair()
  server.serve(theirs)
  const connection = await openConnection(async () => ours, {
    uri: 'qemu:///system',
    access: 'readWrite',
    timeoutMs: 500,
  })
  cleanups.push(() => connection.destroy())
  return connection
}

const list = (connection: Connection, flags: number) =>
  connection.call(procedures.connectListAllDomains, { needResults: 1, flags })

describe('answers', () => {
  test.each([
    ['no flag', 0, ['web', 'db', 'job']],
    ['active', listDomains.active, ['web', 'job']],
    ['inactive', listDomains.inactive, ['db']],
    ['active and inactive', listDomains.active | listDomains.inactive, ['web', 'db', 'job']],
    ['persistent', listDomains.persistent, ['web', 'db']],
    ['transient', listDomains.transient, ['job']],
    ['autostart', listDomains.autostart, ['web']],
    ['managed save', listDomains.managedSave, ['db']],
    ['snapshot', listDomains.hasSnapshot, ['db']],
    ['active and persistent', listDomains.active | listDomains.persistent, ['web']],
  ])('the list with %s has the domains that libvirt would give', async (_what, flags, names) => {
    const connection = await connected(new ProtocolServer({ domains: DOMAINS }))
    const { domains, ret } = await list(connection, flags)
    expect(domains.map(({ name }) => name)).toEqual(names)
    expect(ret).toBe(names.length)
  })

  test('an unknown filter is refused with code 8, as by libvirt', async () => {
    const connection = await connected(new ProtocolServer({ domains: DOMAINS }))
    expect(await fieldsOfError(list(connection, 2 ** 25))).toMatchObject({ code: 8 })
  })

  test('statistics are those that were asked for', async () => {
    const connection = await connected(new ProtocolServer({ domains: DOMAINS }))
    const stats = domainStats.state | domainStats.balloon | domainStats.vcpu
    const asked = { domains: [], stats, flags: domainStats.noWait | listDomains.active }
    const { records } = await connection.call(procedures.connectGetAllDomainStats, asked)
    expect(records.map(({ params }) => params)).toEqual([
      {
        'state.state': 1,
        'state.reason': 1,
        'balloon.current': 1024,
        'balloon.maximum': 2048,
        'vcpu.current': 2,
        'vcpu.maximum': 2,
      },
      expect.objectContaining({ 'state.state': 3, 'vcpu.current': 1, 'vcpu.maximum': 4 }),
    ])
    const one = { ...asked, stats: domainStats.state, domains: [{ name: 'db', uuid: uuidOf(2), id: -1 }] }
    expect(await connection.call(procedures.connectGetAllDomainStats, one)).toEqual({
      records: [{ domain: one.domains[0], params: { 'state.state': 5, 'state.reason': 1 } }],
    })
  })

  test('the same question is answered the same to every serial, until the world changes', async () => {
    const server = new ProtocolServer({ domains: DOMAINS })
    const connection = await connected(server)
    expect(await list(connection, 0)).toEqual(await list(connection, 0))
    server.change({ domains: [] })
    expect(await list(connection, 0)).toEqual({ domains: [], ret: 0 })
  })

  test('an answer of a test’s own wins, and is asked anew each time', async () => {
    let free = 0
    const answers = { nodeGetFreeMemory: () => ({ freeBytes: ++free }) }
    const connection = await connected(new ProtocolServer({ domains: [], answers }))
    expect(await connection.call(procedures.nodeGetFreeMemory, undefined)).toEqual({ freeBytes: 1 })
    expect(await connection.call(procedures.nodeGetFreeMemory, undefined)).toEqual({ freeBytes: 2 })
  })

  test('an event reaches those who registered, and a missing domain is refused with code 42', async () => {
    const server = new ProtocolServer({ domains: DOMAINS })
    const heard: unknown[] = []
    const connection = await connected(server)
    await connection.onLifecycle(event => heard.push(event))
    const event = { domain: { name: 'web', uuid: uuidOf(1), id: -1 }, event: 5, detail: 0 }
    server.emit(event)
    await expect.poll(() => heard).toEqual([event])
    const missing = connection.call(procedures.domainLookupByName, { name: 'nobody' })
    expect(await fieldsOfError(missing)).toMatchObject({ code: 42 })
  })
})

describe('misbehaviour', () => {
  const HOSTNAME = procedures.connectGetHostname

  async function misbehaving(how: Misbehaviour): Promise<unknown> {
    const server = new ProtocolServer({
      domains: [],
      misbehave: ({ name }) => (name === 'connectGetHostname' ? how : undefined),
    })
    const connection = await connected(server)
    return connection.call(HOSTNAME, undefined, how.kind === 'silence' ? 50 : 10_000).catch((error: unknown) => error)
  }

  test.each<[Misbehaviour, object]>([
    [{ kind: 'silence' }, { kind: 'timeout' }],
    [{ kind: 'close' }, { kind: 'closed', message: 'the daemon ended the connection' }],
    [{ kind: 'garbage', bytes: Buffer.alloc(28) }, { name: 'ProtocolError' }],
    [{ kind: 'cut', afterBytes: 20 }, { message: 'the daemon ended the connection in the middle of a packet' }],
    [{ kind: 'delay', ms: 20 }, { hostname: 'node1' }],
    [
      { kind: 'refuse', error: { code: 38, message: 'broken' } },
      { code: 38, message: 'broken' },
    ],
    [
      { kind: 'eventsFirst', events: [{ domain: { name: 'web', uuid: uuidOf(1), id: 1 }, event: 2, detail: 0 }] },
      { hostname: 'node1' },
    ],
  ])('%o is seen by the client as such', async (how, outcome) => {
    expect(await await misbehaving(how)).toMatchObject(outcome)
  })

  test('beyond five calls nothing more is read, pings included, until one is answered', async () => {
    const [ours, theirs] = duplexPair()
    const server = new ProtocolServer({ domains: [], misbehave: () => ({ kind: 'hold' }) })
    server.serve(theirs)
    const header = { program: 0x2000_8086, version: 1, type: 0, status: 0, payload: Buffer.alloc(0) }
    for (let serial = 1; serial <= 6; serial++)
      ours.write(encodePacket({ ...header, procedure: HOSTNAME.number, serial }))
    ours.write(encodePacket({ ...header, program: 0x6b65_6570, procedure: 1, type: 2, serial: 0 }))
    await expect.poll(() => server.mostOutstanding).toBe(6)
    expect(server.calls).toHaveLength(5)
    expect(server.pings).toBe(0)
    server.release('lastFirst')
    await expect.poll(() => server.pings).toBe(1)
    const [chunk] = await once(ours, 'data')
    expect([...new PacketAssembler().push(chunk)][0]).toMatchObject({ serial: 5 })
  })
})

describe('sockets', () => {
  test('fifty clients are served on one socket, which is gone after the end', async () => {
    const path = join(await folder(), 'sock')
    const server = await startProtocolServer({ path, domains: DOMAINS })
    const options = { uri: 'qemu:///system', access: 'readOnly', timeoutMs: 5000 } as const
    const clients = await Promise.all(Array.from({ length: 50 }, () => openConnection(unixSocket(path), options)))
    const lists = await Promise.all(clients.map(client => list(client, 0)))
    expect(lists.every(({ domains }) => domains.length === 3)).toBe(true)
    expect(server.protocol.clients).toBe(50)
    await server.close()
    for (const client of clients) expect(await client.closed).toMatchObject({ kind: 'closed' })
    expect(existsSync(path)).toBe(false)
  })

  test('a socket in use is refused to a second server, and free after the first', async () => {
    const path = join(await folder(), 'sock')
    const server = await startProtocolServer({ path, domains: [] })
    await expect(startProtocolServer({ path, domains: [] })).rejects.toThrow('EADDRINUSE')
    await server.close()
    await (await startProtocolServer({ path, domains: [] })).close()
  })
})
