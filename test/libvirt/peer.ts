/** The other end of a connection, led by the test packet by packet. */
import { type Duplex, duplexPair } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { Connection, type ConnectOptions } from '../../src/libvirt/connection.ts'
import { encodePacket, type Packet, PacketAssembler, program } from '../../src/libvirt/packet.ts'
import { events, remoteError } from '../../src/libvirt/procedures.ts'
import type { ValueOf } from '../../src/libvirt/xdr.ts'
import { encode } from './server.ts'

export const NO_ERROR: ValueOf<typeof remoteError> = {
  code: 42,
  domain: 12,
  message: 'Domain not found',
  level: 2,
  dom: undefined,
  str1: undefined,
  str2: undefined,
  str3: undefined,
  int1: -1,
  int2: -1,
  net: undefined,
}

export const A_DOMAIN = { name: 'web', uuid: '11111111-2222-4333-8444-555555555555', id: 3 }

export interface Peered {
  readonly connection: Connection
  readonly peer: Peer
  /** Our end of the stream, which the connection holds. */
  readonly stream: Duplex
}

/** A connection that is not opened by a handshake, and its peer. */
export function peered(options: Partial<ConnectOptions> = {}): Peered {
  const [stream, theirs] = duplexPair()
  const peer = new Peer(theirs)
  return { connection: new Connection(stream, { timeoutMs: 1000, ...options }), peer, stream }
}

/** Lets everything that is on its way arrive. Real time, also when timers are fake. */
export async function arrive(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn()
}

export class Peer {
  readonly stream: Duplex
  readonly packets: Packet[] = []

  constructor(stream: Duplex) {
    this.stream = stream
    const assembler = new PacketAssembler()
    stream.on('data', (chunk: Buffer) => this.packets.push(...assembler.push(chunk)))
    stream.on('error', () => undefined)
  }

  get calls(): Packet[] {
    return this.packets.filter(packet => packet.program === program.remote)
  }

  get serials(): number[] {
    return this.calls.map(({ serial }) => serial)
  }

  /** The last call that came; an empty one when none did. */
  get lastCall(): Packet {
    return this.calls.at(-1) ?? { ...REPLY, procedure: 0, serial: 0, payload: Buffer.alloc(0) }
  }

  /** Answers a call; `changes` make the answer a wrong one. */
  async reply(call: Packet, payload: Buffer = Buffer.alloc(0), changes: Partial<Packet> = {}): Promise<void> {
    await this.send(replyTo(call, payload, changes))
  }

  async refuse(call: Packet, error: Partial<typeof NO_ERROR> = {}): Promise<void> {
    await this.reply(call, encode(remoteError, { ...NO_ERROR, ...error }), { status: 1 })
  }

  async send(...packets: readonly Buffer[]): Promise<void> {
    this.stream.write(Buffer.concat(packets))
    await arrive()
  }
}

const REPLY = { program: program.remote, version: 1, type: 1, status: 0 }

export function replyTo(call: Packet, payload: Buffer = Buffer.alloc(0), changes: Partial<Packet> = {}): Buffer {
  return encodePacket({ ...REPLY, procedure: call.procedure, serial: call.serial, payload, ...changes })
}

/** With serial 1, as libvirtd sends it. */
export function lifecycle(event: number, changes: Partial<Packet> = {}): Buffer {
  const payload = encode(events.lifecycle.args, { callbackID: 0, domain: A_DOMAIN, event, detail: 0 })
  return encodePacket({ ...REPLY, type: 2, serial: 1, procedure: events.lifecycle.number, payload, ...changes })
}

export function keepalive(procedure: 1 | 2): Buffer {
  const header = { program: program.keepalive, version: 1, procedure, type: 2, serial: 0, status: 0 }
  return encodePacket({ ...header, payload: Buffer.alloc(0) })
}
