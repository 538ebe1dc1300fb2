/** Packets: bytes in, packets out, however the bytes were cut. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ProtocolError } from '../../src/libvirt/error.ts'
import { encodePacket, MAX_PACKET_BYTES, type Packet, PacketAssembler } from '../../src/libvirt/packet.ts'
import { procedures } from '../../src/libvirt/procedures.ts'
import { Reader, Writer } from '../../src/libvirt/xdr.ts'
import { anInt, aUint } from './arbitraries.ts'
import { cutAt, hex } from './bytes.ts'
import { parseRecording } from './recording.ts'

const PING = hex(`
  0000001c # length: 28, itself included
  6b656570 # program: keep
  00000001 # version
  00000001 # procedure: ping
  00000002 # type: message
  00000000 # serial: none
  00000000 # status: ok
`)

const STATE = hex(`
  00000024 # length: 36
  20008086 # program: remote
  00000001 # version
  000000d4 # procedure: 212, domainGetState
  00000001 # type: reply
  00000007 # serial
  00000000 # status: ok
  00000001 # state: running
  00000005 # reason: unpaused
`)

const NO_DOMAIN = hex(`
  00000070          # length: 112
  20008086          # program: remote
  00000001          # version
  00000017          # procedure: 23, domainLookupByName
  00000001          # type: reply
  00000012          # serial
  00000001          # status: error
  0000002a          # code: no domain
  0000000c          # domain: the test driver
  00000001          # message: present
  00000010          # 16 bytes
  446f6d61 696e206e # Domain n
  6f742066 6f756e64 # ot found
  00000002          # level: error
  00000000          # dom: absent
  00000001          # str1: present
  00000010          # 16 bytes
  446f6d61 696e206e
  6f742066 6f756e64
  00000000          # str2: absent
  00000000          # str3: absent
  ffffffff          # int1
  ffffffff          # int2
  00000000          # net: absent
`)

const STOPPED = hex(`
  00000044                            # length: 68
  20008086                            # program: remote
  00000001                            # version
  0000013e                            # procedure: 318, lifecycle event
  00000002                            # type: message
  00000001                            # serial: 1, although it answers no call
  00000000                            # status: ok
  00000000                            # callback
  00000004 74657374                   # domain: test
  6695eb01 f6a48304 79aa97f2 502e193f # its uuid
  ffffffff                            # its id: none any more
  00000005                            # event: stopped
  00000001                            # detail: destroyed
`)

const ALL = Buffer.concat([PING, STATE, NO_DOMAIN, STOPPED])

function assemble(chunks: readonly Buffer[]): Packet[] {
  const assembler = new PacketAssembler()
  return chunks.flatMap(chunk => [...assembler.push(chunk)])
}

describe('bytes of packets', () => {
  test('a ping has a header and nothing else', () => {
    const [packet] = assemble([PING])
    const header = { program: 0x6b65_6570, version: 1, procedure: 1, type: 2, serial: 0, status: 0 }
    expect(packet).toEqual({ ...header, payload: Buffer.alloc(0) })
  })

  test('an answer has its payload after the header', () => {
    const [packet] = assemble([STATE])
    expect(packet).toMatchObject({ program: 0x2000_8086, procedure: 212, type: 1, serial: 7, status: 0 })
    const value = procedures.domainGetState.result.decode(new Reader(packet?.payload ?? Buffer.alloc(0)))
    expect(value).toEqual({ state: 1, reason: 5 })
  })

  test('an error and an event are told by status and type', () => {
    expect(assemble([NO_DOMAIN, STOPPED])).toMatchObject([
      { type: 1, serial: 18, status: 1 },
      { type: 2, serial: 1, status: 0 },
    ])
  })

  test.each([
    ['ping', PING],
    ['answer', STATE],
    ['error', NO_DOMAIN],
    ['event', STOPPED],
  ])('the %s is written as it was read', (_what, bytes) => {
    expect(assemble([bytes]).map(encodePacket)).toEqual([bytes])
  })

  test('a payload that is too long is not written', () => {
    const payload = Buffer.alloc(MAX_PACKET_BYTES - 27)
    const header = { program: 1, version: 1, procedure: 1, type: 0, serial: 1, status: 0 }
    expect(() => encodePacket({ ...header, payload })).toThrow(RangeError)
    expect(encodePacket({ ...header, payload: payload.subarray(1) })).toHaveLength(MAX_PACKET_BYTES)
  })
})

describe('pieces', () => {
  const whole = assemble([ALL])

  test('packets cut in two at any byte come out the same', () => {
    expect(whole).toHaveLength(4)
    for (let at = 0; at <= ALL.length; at++) {
      expect(assemble([ALL.subarray(0, at), ALL.subarray(at)])).toEqual(whole)
    }
  })

  test('packets that come byte by byte come out the same', () => {
    expect(assemble([...ALL].map(byte => Buffer.from([byte])))).toEqual(whole)
  })

  test('packets cut anywhere come out the same', () => {
    fc.assert(fc.property(fc.array(fc.nat()), places => void expect(assemble(cutAt(ALL, places))).toEqual(whole)))
  })

  test('any packets, merged and cut anywhere, come out as they were', () => {
    const aPacket = fc.record({
      program: aUint,
      version: aUint,
      procedure: anInt,
      type: anInt,
      serial: aUint,
      status: anInt,
      payload: fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
    })
    fc.assert(
      fc.property(fc.array(aPacket, { maxLength: 6 }), fc.array(fc.nat()), (packets, places) => {
        const bytes = Buffer.concat(packets.map(encodePacket))
        expect(assemble(cutAt(bytes, places))).toEqual(packets)
      }),
    )
  })

  test('a packet is given out with its last byte and not before', () => {
    const assembler = new PacketAssembler()
    expect([...assembler.push(STATE.subarray(0, -1))]).toEqual([])
    expect(assembler.empty).toBe(false)
    expect([...assembler.push(STATE.subarray(-1))]).toHaveLength(1)
    expect(assembler.empty).toBe(true)
  })

  test('a large packet in many pieces takes time that grows with its size only', () => {
    const header = { program: 1, version: 1, procedure: 1, type: 0, serial: 1, status: 0 }
    const bytes = encodePacket({ ...header, payload: Buffer.alloc(16 * 1024 * 1024) })
    const chunks = Array.from({ length: Math.ceil(bytes.length / 1024) }, (_, at) =>
      bytes.subarray(at * 1024, (at + 1) * 1024),
    )
    const start = performance.now()
    expect(assemble(chunks)).toHaveLength(1)
    // Copying all that came so far with each of the 16,384 pieces would move 128 GiB.
    expect(performance.now() - start).toBeLessThan(2000)
  })
})

describe('lengths', () => {
  test.each([
    ['nothing', '00000000'],
    ['less than a header', '0000001b'],
    ['more than libvirt sends', '02000001'],
    ['billions', 'ffffffff'],
    ['an SSH banner', '5353482d'],
    ['a TLS alert', '15030300'],
  ])('a packet that announces %s is refused with its first four bytes', (_what, bytes) => {
    expect(() => assemble([hex(bytes)])).toThrow(ProtocolError)
  })

  test.each([['0000001c'], ['02000000']])('a packet that announces %s bytes is waited for', bytes => {
    expect(assemble([hex(bytes)])).toEqual([])
  })

  test('packets before a length that cannot be are given out first, however the bytes were cut', () => {
    const bytes = Buffer.concat([PING, hex('ffffffff')])
    for (let at = 0; at <= bytes.length; at++) {
      expect(untilRefused([bytes.subarray(0, at), bytes.subarray(at)])).toHaveLength(1)
    }
  })

  test('random bytes are packets, a wait for more, or a ProtocolError', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 })), chunks => {
        untilRefused(chunks.map(chunk => Buffer.from(chunk)))
      }),
      { numRuns: 1000 },
    )
  })
})

/** The packets until the assembler refuses the rest, which it does with a ProtocolError only. */
function untilRefused(chunks: readonly Buffer[]): Packet[] {
  const packets: Packet[] = []
  const assembler = new PacketAssembler()
  try {
    for (const chunk of chunks) for (const packet of assembler.push(chunk)) packets.push(packet)
  } catch (error) {
    expect(error).toBeInstanceOf(ProtocolError)
  }
  return packets
}

describe('recorded packets', async () => {
  const folder = join(import.meta.dirname, 'recorded')
  const files = (await readdir(folder)).filter(name => name.endsWith('.txt'))

  test.each(files)('%s: every packet comes out of the merged bytes and is written the same', async file => {
    const packets = parseRecording(await readFile(join(folder, file), 'utf8'))
    expect(packets.length).toBeGreaterThan(8)
    for (const from of ['client', 'daemon'] as const) {
      const bytes = packets.filter(packet => packet.from === from).map(packet => packet.bytes)
      expect(assemble([Buffer.concat(bytes)]).map(encodePacket)).toEqual(bytes)
    }
  })

  test.each(files)('%s: every argument is read to its end and written the same', async file => {
    const packets = parseRecording(await readFile(join(folder, file), 'utf8'))
    const calls = assemble(packets.filter(({ from }) => from === 'client').map(({ bytes }) => bytes))
    for (const { procedure, payload } of calls.filter(({ type }) => type === 0)) {
      const row = Object.values(procedures).find(({ number }) => number === procedure)
      const writer = new Writer()
      row?.args.encode(writer, row.args.decode(new Reader(payload)) as never)
      expect(writer.finish()).toEqual(payload)
    }
  })
})
