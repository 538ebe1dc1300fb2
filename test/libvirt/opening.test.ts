/** Opening a connection: against the test server, which may misbehave, and against recorded daemons. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Duplex, duplexPair } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { type Access, ConnectionError, openConnection, procedures, xmlFlags } from '../../src/libvirt/index.ts'
import { parseRecording, replay } from './recording.ts'
import { encode, type Misbehaviour, ProtocolServer, type SeenCall, type ServerOptions } from './server.ts'
import { everyKindOfCall, fieldsOfError, openTestDriver } from './session.ts'

const URI = 'qemu:///system'
const WEB = { name: 'web', uuid: '11111111-2222-4333-8444-555555555555', xml: '<domain/>', state: 'running' } as const

interface Served {
  readonly server: ProtocolServer
  readonly ours: Duplex
  readonly open: (changes?: { timeoutMs?: number; access?: Access }) => ReturnType<typeof openConnection>
}

/** A server at the other end of a stream in memory. */
function served(options: Partial<ServerOptions> = {}): Served {
  const [ours, theirs] = duplexPair()
  const server = new ProtocolServer({ domains: [WEB], ...options })
  server.serve(theirs)
  const defaults = { uri: URI, access: 'readWrite', timeoutMs: 10_000 } as const
  return { server, ours, open: changes => openConnection(async () => ours, { ...defaults, ...changes }) }
}

/** Misbehaves at one procedure. */
function at(name: SeenCall['name'], how: Misbehaviour): Pick<ServerOptions, 'misbehave'> {
  return { misbehave: call => (call.name === name ? how : undefined) }
}

const names = ({ server }: Served) => server.calls.map(({ name }) => name)

describe('the handshake', () => {
  test('asks for authentication, then for keepalive, then opens the URI', async () => {
    const all = served()
    await all.open()
    expect(names(all)).toEqual(['authList', 'connectSupportsFeature', 'connectOpen'])
    expect(all.server.calls.at(-1)?.payload).toEqual(encode(procedures.connectOpen.args, { name: URI, flags: 0 }))
  })

  test('read-only access is asked for when opening', async () => {
    const all = served()
    const connection = await all.open({ access: 'readOnly' })
    expect(all.server.calls.at(-1)?.payload).toEqual(encode(procedures.connectOpen.args, { name: URI, flags: 1 }))
    const { domains } = await connection.call(procedures.connectListAllDomains, { needResults: 1, flags: 0 })
    const [domain = { name: '', uuid: WEB.uuid, id: 1 }] = domains
    const denied = connection.call(procedures.domainDestroyFlags, { domain, flags: 0 })
    expect(await fieldsOfError(denied)).toMatchObject({ code: 29 })
  })

  test('polkit is gone through when the daemon asks for it', async () => {
    const all = served({ authTypes: [2] })
    await all.open()
    expect(names(all)).toEqual(['authList', 'authPolkit', 'connectSupportsFeature', 'connectOpen'])
  })

  test('an authentication that havirt does not have is refused and nothing stays open', async () => {
    const all = served({ authTypes: [1] })
    await expect(all.open()).rejects.toMatchObject({ name: 'ConnectionError', kind: 'refused' })
    expect(all.ours.destroyed).toBe(true)
  })

  test.each<[string, Misbehaviour, object]>([
    ['refuses', { kind: 'refuse', error: { code: 45, message: 'no' } }, { name: 'LibvirtError', code: 45 }],
    ['never answers', { kind: 'silence' }, { name: 'ConnectionError', kind: 'timeout' }],
    ['answers garbage', { kind: 'garbage', bytes: Buffer.from('garbage!') }, { name: 'ProtocolError' }],
    ['stops in a packet', { kind: 'cut', afterBytes: 9 }, { name: 'ConnectionError', message: /middle of a packet/ }],
  ])('a daemon that %s at any step is an error and nothing stays open', async (_what, how, error) => {
    for (const step of ['authList', 'connectSupportsFeature', 'connectOpen'] as const) {
      const all = served(at(step, how))
      const { message, ...fields } = error as { message?: RegExp }
      const opening = all.open({ timeoutMs: how.kind === 'silence' ? 50 : 10_000 })
      await expect(opening).rejects.toMatchObject(fields)
      if (message !== undefined) await expect(opening).rejects.toThrow(message)
      expect(all.ours.destroyed).toBe(true)
    }
  })

  test('a daemon that is slow at every step has one deadline for all of them', async () => {
    const all = served({ misbehave: () => ({ kind: 'delay', ms: 80 }) })
    await expect(all.open({ timeoutMs: 120 })).rejects.toMatchObject({ kind: 'timeout' })
    expect(names(all)).not.toContain('connectOpen')
  })

  test('a dialer that fails is the error of the opening', async () => {
    const refused = new ConnectionError('refused', 'nobody there')
    const options = { uri: URI, access: 'readOnly', timeoutMs: 50 } as const
    await expect(openConnection(() => Promise.reject(refused), options)).rejects.toBe(refused)
  })

  test('a dialer is told of the deadline', async () => {
    const never = (signal: AbortSignal) =>
      new Promise<Duplex>((_, reject) => {
        signal.addEventListener('abort', () => reject(new ConnectionError('refused', 'the deadline passed')))
      })
    // The deadline alone keeps no process alive, so that something else has to.
    const busy = setTimeout(() => undefined, 10_000)
    const opening = openConnection(never, { uri: URI, access: 'readOnly', timeoutMs: 20 })
    await expect(opening).rejects.toThrow('the deadline passed')
    clearTimeout(busy)
  })
})

describe('recorded daemons', () => {
  async function recorded(file: string): Promise<Duplex> {
    return replay(parseRecording(await readFile(join(import.meta.dirname, 'recorded', file), 'utf8')))
  }

  const TEST = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 }

  test('libvirtd, read-write: the client says what was recorded and understands every answer', async () => {
    const stream = await recorded('libvirtd-9.0.0-readWrite.txt')
    const connection = await openTestDriver(async () => stream, 'readWrite')
    expect(await everyKindOfCall(connection)).toEqual({
      domains: [TEST],
      version: { version: 9_000_000 },
      node: { model: 'i686', memoryKiB: 3_145_728, cpus: 16, mhz: 1400, nodes: 2, sockets: 2, cores: 2, threads: 2 },
      free: { freeBytes: 3_145_728 },
      networks: { networks: [{ name: 'default', uuid: 'dd8fe884-6c02-601e-7551-cca97df1c5df' }], ret: 1 },
      pools: { pools: [{ name: 'default-pool', uuid: 'dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566' }], ret: 1 },
      interfaces: { interfaces: [{ name: 'eth1', mac: 'aa:bb:cc:dd:ee:ff' }], ret: 1 },
      stats: { records: [{ domain: TEST, params: { 'state.state': 1, 'state.reason': 0 } }] },
      state: { state: 1, reason: 0 },
      xml: { xml: expect.stringContaining(`<uuid>${TEST.uuid}</uuid>`) },
      missing: {
        code: 42,
        domain: 12,
        message: 'Domain not found',
        level: 2,
        dom: undefined,
        str1: 'Domain not found',
        str2: undefined,
        str3: undefined,
        int1: -1,
        int2: -1,
        net: undefined,
      },
      suspended: {
        heard: [
          { domain: TEST, event: 3, detail: 0 },
          { domain: TEST, event: 4, detail: 0 },
        ],
      },
    })
  })

  test('libvirtd, read-only: a change is denied with code 29', async () => {
    const stream = await recorded('libvirtd-9.0.0-readOnly.txt')
    const connection = await openTestDriver(async () => stream, 'readOnly')
    expect(await everyKindOfCall(connection)).toMatchObject({
      domains: [TEST],
      suspended: {
        denied: { code: 29, message: 'operation forbidden: read only access prevents virDomainSuspend', level: 2 },
      },
    })
  })

  test('virtqemud: polkit is gone through, and it answers like libvirtd', async () => {
    const stream = await recorded('virtqemud.txt')
    const connection = await openConnection(async () => stream, { uri: URI, access: 'readWrite', timeoutMs: 1000 })
    const list = { needResults: 1, flags: 0 }
    expect(await connection.call(procedures.connectListAllDomains, list)).toEqual({ domains: [], ret: 0 })
  })

  test('a client that says something else than was recorded is not answered', async () => {
    const stream = await recorded('virtqemud.txt')
    const opening = openConnection(async () => stream, { uri: 'xen:///system', access: 'readWrite', timeoutMs: 1000 })
    await expect(opening).rejects.toThrow('recorded was connectOpen call')
  })
})

describe('many calls', () => {
  test('a thousand calls at once are all answered, never more than four at a time', async () => {
    const all = served(at('domainGetXMLDesc', { kind: 'delay', ms: 0 }))
    const connection = await all.open({ timeoutMs: 20_000 })
    const domain = { name: WEB.name, uuid: WEB.uuid, id: 1 }
    const asked = Array.from({ length: 1000 }, () =>
      connection.call(procedures.domainGetXMLDesc, { domain, flags: xmlFlags.inactive }),
    )
    expect(new Set((await Promise.all(asked)).map(({ xml }) => xml))).toEqual(new Set(['<domain/>']))
    expect(all.server.mostOutstanding).toBe(4)
  })

  test('pings get through while four calls hang', async () => {
    const all = served(at('domainGetState', { kind: 'hold' }))
    const connection = await all.open()
    const domain = { name: WEB.name, uuid: WEB.uuid, id: 1 }
    const asked = Array.from({ length: 6 }, () => connection.call(procedures.domainGetState, { domain, flags: 0 }))
    await expect.poll(() => all.server.mostOutstanding).toBe(4)
    all.server.ping()
    await expect.poll(() => all.server.pongs).toBe(1)
    all.server.release('lastFirst')
    await expect.poll(() => all.server.calls.length).toBe(9)
    all.server.release()
    expect(await Promise.all(asked)).toHaveLength(6)
  })
})
