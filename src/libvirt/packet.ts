/**
 * Packets of libvirt's RPC (libvirt: docs/kbase/internals/rpc.rst, src/rpc/virnetprotocol.x): a length, a header of six words, a payload.
 * Bytes in, packets out, whatever pieces the bytes arrive in.
 */
import { ProtocolError } from './error.ts'

/** VIR_NET_MESSAGE_MAX: no packet is longer, its own length word included. */
export const MAX_PACKET_BYTES = 33_554_432
/** The length word and the six words of the header. */
const HEADER_BYTES = 28

export const program = { remote: 0x2000_8086, keepalive: 0x6b65_6570 } as const
export const messageType = { call: 0, reply: 1, message: 2, stream: 3 } as const
export const messageStatus = { ok: 0, error: 1, continue: 2 } as const
/** Procedures of the keepalive program; both have no payload and are sent as messages. */
export const keepaliveProcedure = { ping: 1, pong: 2 } as const

export interface Packet {
  readonly program: number
  readonly version: number
  readonly procedure: number
  readonly type: number
  readonly serial: number
  readonly status: number
  readonly payload: Buffer
}

/** One packet as bytes. Throws RangeError when the payload is too long to be sent. */
export function encodePacket(packet: Packet): Buffer {
  const length = HEADER_BYTES + packet.payload.length
  if (length > MAX_PACKET_BYTES) throw new RangeError(`a message of ${length} bytes is over libvirt's limit`)
  const bytes = Buffer.allocUnsafe(length)
  bytes.writeUInt32BE(length, 0)
  bytes.writeUInt32BE(packet.program, 4)
  bytes.writeUInt32BE(packet.version, 8)
  bytes.writeInt32BE(packet.procedure, 12)
  bytes.writeInt32BE(packet.type, 16)
  bytes.writeUInt32BE(packet.serial, 20)
  bytes.writeInt32BE(packet.status, 24)
  packet.payload.copy(bytes, HEADER_BYTES)
  return bytes
}

function decodePacket(bytes: Buffer): Packet {
  return {
    program: bytes.readUInt32BE(4),
    version: bytes.readUInt32BE(8),
    procedure: bytes.readInt32BE(12),
    type: bytes.readInt32BE(16),
    serial: bytes.readUInt32BE(20),
    status: bytes.readInt32BE(24),
    payload: bytes.subarray(HEADER_BYTES),
  }
}

/** Collects the pieces of a byte stream and gives back whole packets. Holds at most one packet's announced length. */
export class PacketAssembler {
  #pieces: Buffer[] = []
  #size = 0

  /** True when no part of a packet is waiting for its rest. */
  get empty(): boolean {
    return this.#size === 0
  }

  /**
   * All packets that `chunk` completes, one by one. Throws {@link ProtocolError} where a length cannot be one, after the
   * packets before it: what is heard must not depend on how the bytes were cut. The caller takes them all.
   */
  *push(chunk: Buffer): Generator<Packet, void> {
    this.#pieces.push(chunk)
    this.#size += chunk.length
    for (let length = this.#nextLength(); length !== undefined && this.#size >= length; length = this.#nextLength()) {
      yield decodePacket(this.#shift(length))
    }
  }

  #nextLength(): number | undefined {
    if (this.#size < 4) return undefined
    const first = this.#firstAtLeast(4)
    const length = first.readUInt32BE(0)
    if (length < HEADER_BYTES || length > MAX_PACKET_BYTES) {
      throw new ProtocolError(`a packet announces ${length} bytes, expected ${HEADER_BYTES} to ${MAX_PACKET_BYTES}`)
    }
    return length
  }

  #shift(length: number): Buffer {
    const whole = this.#firstAtLeast(length)
    const rest = whole.subarray(length)
    if (rest.length > 0) this.#pieces[0] = rest
    else this.#pieces.shift()
    this.#size -= length
    return whole.subarray(0, length)
  }

  /** The first piece, after merging as many as are needed to make it `size` long. Merged once a packet, not once a piece. */
  #firstAtLeast(size: number): Buffer {
    const first = this.#pieces[0]
    if (first !== undefined && first.length >= size) return first
    const merged = Buffer.concat(this.#pieces)
    this.#pieces = [merged]
    return merged
  }
}
