/**
 * The client against a real libvirtd with its test driver, which has domains, events and networks but no guests.
 * `HAVIRT_RECORD=1` also writes the sessions to recorded/, for the tests that run everywhere.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Access,
  type Connection,
  DOMAIN_STATES,
  type LifecycleEvent,
  listDomains,
  openConnection,
  procedures,
  unixSocket,
} from '../../src/libvirt/index.ts'
import { encodePacket, keepaliveProcedure, messageType, program } from '../../src/libvirt/packet.ts'
import { type PrivateLibvirtd, startLibvirtd, whyNoLibvirtd } from './libvirtd.ts'
import { formatRecording, parseRecording, type RecordedPacket, tap } from './recording.ts'
import { everyKindOfCall, fieldsOfError, openTestDriver, STATS_MASK, TEST_URI } from './session.ts'

const reason = whyNoLibvirtd()
const TEST_UUID = '6695eb01-f6a4-8304-79aa-97f2502e193f'
const ALL = { needResults: 1, flags: 0 }

function domainXml(name: string, id = 0): string {
  const uuid = `00000000-0000-4000-8000-${String(id).padStart(12, '0')}`
  return `<domain type='test'><name>${name}</name><uuid>${uuid}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>`
}

describe.skipIf(reason !== undefined)(
  `against a real libvirtd${reason === undefined ? '' : ` (not run: ${reason})`}`,
  () => {
    let libvirtd: PrivateLibvirtd
    const open: Connection[] = []

    beforeAll(async () => {
      libvirtd = await startLibvirtd()
    })
    afterAll(async () => {
      for (const connection of open) await connection.close()
      await libvirtd?.stop()
    })

    function socketFor(access: Access): string {
      return access === 'readOnly' ? libvirtd.readOnlySocket : libvirtd.socket
    }

    async function connected(access: Access = 'readWrite'): Promise<Connection> {
      const connection = await openTestDriver(unixSocket(socketFor(access)), access)
      open.push(connection)
      return connection
    }

    async function define(connection: Connection, name: string, id: number) {
      const { domain } = await connection.call(procedures.domainDefineXMLFlags, { xml: domainXml(name, id), flags: 0 })
      return domain
    }

    test('the list has the one domain of the test driver, running', async () => {
      const connection = await connected('readOnly')
      const { domains } = await connection.call(procedures.connectListAllDomains, ALL)
      expect(domains).toContainEqual({ name: 'test', uuid: TEST_UUID, id: 1 })
      const domain = { name: 'test', uuid: TEST_UUID, id: 1 }
      const { state } = await connection.call(procedures.domainGetState, { domain, flags: 0 })
      expect(DOMAIN_STATES[state]).toBe('running')
    })

    test('XML and statistics tell of the same domain', async () => {
      const connection = await connected('readOnly')
      const domain = { name: 'test', uuid: TEST_UUID, id: 1 }
      const { xml } = await connection.call(procedures.domainGetXMLDesc, { domain, flags: 0 })
      expect(xml).toContain(`<uuid>${TEST_UUID}</uuid>`)
      const asked = { domains: [domain], stats: STATS_MASK, flags: 0 }
      const { records } = await connection.call(procedures.connectGetAllDomainStats, asked)
      expect(records).toEqual([{ domain, params: expect.objectContaining({ 'state.state': 1 }) }])
    })

    test.each([
      ['by name', (c: Connection) => c.call(procedures.domainLookupByName, { name: 'nobody' })],
      ['by UUID', (c: Connection) => c.call(procedures.domainLookupByUUID, { uuid: TEST_UUID.replace('6', '7') })],
    ])('looking up a missing domain %s is refused with code 42', async (_how, lookUp) => {
      expect(await fieldsOfError(lookUp(await connected('readOnly')))).toMatchObject({ code: 42 })
    })

    test('looking up a domain by name and by UUID gives the same one', async () => {
      const connection = await connected('readOnly')
      const byName = await connection.call(procedures.domainLookupByName, { name: 'test' })
      expect(await connection.call(procedures.domainLookupByUUID, { uuid: TEST_UUID })).toEqual(byName)
    })

    test('a change on the read-only socket is refused with code 29 and the connection stays good', async () => {
      const connection = await connected('readOnly')
      const domain = { name: 'test', uuid: TEST_UUID, id: 1 }
      expect(await fieldsOfError(connection.call(procedures.domainSuspend, { domain }))).toMatchObject({
        code: 29,
        message: expect.stringContaining('read only'),
      })
      await connection.call(procedures.connectGetVersion, undefined)
    })

    test('processor time that is more than 2^53 nanoseconds is read, not refused', async () => {
      const connection = await connected('readOnly')
      const domain = { name: 'test', uuid: TEST_UUID, id: 1 }
      const info = await connection.call(procedures.domainGetInfo, { domain })
      // The test driver gives the time of day.
      expect(info.cpuTimeNs).toBeGreaterThan(2n ** 53n)
      expect(info).toMatchObject({ state: 1, vcpus: 2, maxMemoryKiB: 8_388_608, memoryKiB: 2_097_152 })
    })

    test('write access that is asked for on the read-only socket is silently read-only', async () => {
      const options = { uri: TEST_URI, access: 'readWrite', timeoutMs: 5000 } as const
      const connection = await openConnection(unixSocket(libvirtd.readOnlySocket), options)
      open.push(connection)
      const domain = { name: 'test', uuid: TEST_UUID, id: 1 }
      expect(await fieldsOfError(connection.call(procedures.domainSuspend, { domain }))).toMatchObject({ code: 29 })
    })

    test('a procedure that the daemon does not have is refused and the connection stays good', async () => {
      const connection = await connected()
      const unknown = { ...procedures.connectRegisterCloseCallback, number: 9999 }
      expect(await fieldsOfError(connection.call(unknown, undefined))).toMatchObject({
        code: 39,
        message: 'unknown procedure: 9999',
      })
      await connection.call(procedures.connectGetVersion, undefined)
    })

    test('every step of a life is heard as an event', async () => {
      const connection = await connected()
      const heard: LifecycleEvent[] = []
      await connection.onLifecycle(event => heard.push(event))
      const domain = await define(connection, 'lively', 500_000)
      await connection.call(procedures.domainCreateWithFlags, { domain, flags: 0 })
      await connection.call(procedures.domainSuspend, { domain })
      await connection.call(procedures.domainResume, { domain })
      await connection.call(procedures.domainDestroyFlags, { domain, flags: 0 })
      await connection.call(procedures.domainUndefineFlags, { domain, flags: 0 })
      await expect.poll(() => heard.map(({ event }) => event)).toEqual([0, 2, 3, 4, 5, 1])
      expect(new Set(heard.map(event => event.domain.name))).toEqual(new Set(['lively']))
    })

    test('a transient domain is in the transient list and gone after its end', async () => {
      const connection = await connected()
      const { domain } = await connection.call(procedures.domainCreateXML, {
        xml: domainXml('passing', 600_000),
        flags: 0,
      })
      const transient = { needResults: 1, flags: listDomains.transient }
      expect((await connection.call(procedures.connectListAllDomains, transient)).domains).toEqual([domain])
      await connection.call(procedures.domainDestroyFlags, { domain, flags: 0 })
      expect((await connection.call(procedures.connectListAllDomains, transient)).domains).toEqual([])
    })

    test('a thousand domains are defined, listed and read', async () => {
      const connection = await connected()
      const ids = Array.from({ length: 1000 }, (_, id) => id + 1)
      const defined = await Promise.all(ids.map(id => define(connection, `many-${id}`, id)))
      const inactive = { needResults: 1, flags: listDomains.inactive }
      const { domains } = await connection.call(procedures.connectListAllDomains, inactive)
      expect(new Set(domains.map(({ uuid }) => uuid))).toEqual(new Set(defined.map(({ uuid }) => uuid)))
      const texts = await Promise.all(
        domains.map(domain => connection.call(procedures.domainGetXMLDesc, { domain, flags: 0 })),
      )
      expect(texts.every(({ xml }, at) => xml.includes(`<name>${domains[at]?.name}</name>`))).toBe(true)
      await Promise.all(defined.map(domain => connection.call(procedures.domainUndefineFlags, { domain, flags: 0 })))
    })

    test('a client that answers pings outlives one that does not', async () => {
      const patient = await connected()
      const mute = await openMute(libvirtd.socket)
      await once(mute, 'close')
      await patient.call(procedures.connectGetVersion, undefined)
    })

    test('a daemon that answers our pings keeps the connection', async () => {
      const dial = unixSocket(libvirtd.socket)
      const options = { uri: TEST_URI, access: 'readOnly', timeoutMs: 5000, keepaliveIntervalMs: 50 } as const
      const connection = await openConnection(dial, options)
      open.push(connection)
      const tooLong = new Promise(resolve => setTimeout(() => resolve('still open'), 400))
      expect(await Promise.race([connection.closed, tooLong])).toBe('still open')
    })

    test('a daemon that is stopped ends the connection and every call on it', async () => {
      const other = await startLibvirtd()
      const connection = await openTestDriver(unixSocket(other.socket), 'readWrite')
      await other.stop()
      expect(await connection.closed).toMatchObject({ name: 'ConnectionError', kind: 'closed' })
      await expect(connection.call(procedures.connectGetVersion, undefined)).rejects.toBe(await connection.closed)
    })

    // A daemon of its own: the sessions must not see what other tests defined.
    test.each(['readWrite', 'readOnly'] as const)('the %s session is what was recorded', async access => {
      const fresh = await startLibvirtd()
      try {
        const packets = await recordSession(access === 'readOnly' ? fresh.readOnlySocket : fresh.socket, access)
        await compare(access, packets)
      } finally {
        await fresh.stop()
      }
    })
  },
)

/** A client that opens a connection by hand, asks for keepalive, and then says nothing more. */
async function openMute(path: string): Promise<Duplex> {
  const stream = connect({ path })
  await once(stream, 'connect')
  stream.on('error', () => undefined).resume()
  const recording = parseRecording(await readFile(recordingPath('readWrite', '9.0.0'), 'utf8'))
  for (const packet of recording.filter(({ from }) => from === 'client').slice(0, 3)) stream.write(packet.bytes)
  return stream
}

async function recordSession(path: string, access: Access): Promise<RecordedPacket[]> {
  const stream = await unixSocket(path)(AbortSignal.timeout(5000))
  const packets = tap(stream)
  const connection = await openTestDriver(async () => stream, access)
  await everyKindOfCall(connection)
  stream.write(ping())
  await expect.poll(() => packets.at(-1)?.label).toBe('pong')
  // Said by hand: havirt waits for the answer to its goodbye for a moment only, and the recording has it.
  await connection.call(procedures.connectClose, undefined)
  connection.destroy()
  return packets
}

function ping(): Buffer {
  const common = { version: 1, type: messageType.message, serial: 0, status: 0, payload: Buffer.alloc(0) }
  return encodePacket({ program: program.keepalive, procedure: keepaliveProcedure.ping, ...common })
}

function recordingPath(access: Access, version: string): string {
  return join(import.meta.dirname, 'recorded', `libvirtd-${version}-${access}.txt`)
}

/** As sets: an event may come before or after the answer to the call that caused it. */
async function compare(access: Access, packets: readonly RecordedPacket[]): Promise<void> {
  const version = versionIn(packets)
  const path = recordingPath(access, version)
  if (process.env['HAVIRT_RECORD'] === '1') {
    const title = `libvirtd ${version}, ${TEST_URI}, ${access}; '>' is the client. Written by HAVIRT_RECORD=1.`
    await writeFile(path, formatRecording(title, packets))
  }
  if (!existsSync(path)) return
  const recorded = parseRecording(await readFile(path, 'utf8'))
  expect(sorted(packets)).toEqual(sorted(recorded))
}

function sorted(packets: readonly RecordedPacket[]): string[] {
  return packets.map(({ label, bytes }) => `${label} ${bytes.toString('hex')}`).sort()
}

function versionIn(packets: readonly RecordedPacket[]): string {
  const answer = packets.find(({ from, label }) => from === 'daemon' && label.startsWith('connectGetLibVersion'))
  const number = Number(answer?.bytes.readBigUInt64BE(28))
  return [number / 1e6, (number / 1e3) % 1e3, number % 1e3].map(Math.floor).join('.')
}
