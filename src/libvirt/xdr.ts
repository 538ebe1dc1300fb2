/**
 * XDR (RFC 4506) as libvirt uses it: values in, bytes out, and back. No sockets, no libvirt names.
 *
 * Two habits of libvirt differ from what one expects: `char` and `short` take four bytes each, also inside arrays,
 * and lengths are bounded by libvirt's own limits, which we check too, since a peer's length is never trusted.
 */
import { ProtocolError } from './error.ts'

/** REMOTE_STRING_MAX and VIR_NET_MESSAGE_STRING_MAX: no string on the wire is longer, in bytes. */
const MAX_STRING_BYTES = 4 * 1024 * 1024
/** The largest list that libvirt sends of domains, networks, pools and volumes (REMOTE_DOMAIN_LIST_MAX and its kin). */
const MAX_LIST = 16_384

/** How one type goes onto the wire and comes off it. `decode` throws {@link ProtocolError} on bytes that it cannot be. */
export interface Codec<T> {
  encode(writer: Writer, value: T): void
  decode(reader: Reader): T
}

/** The TypeScript type that a codec carries. */
export type ValueOf<C> = C extends Codec<infer T> ? T : never

/** Bytes being written. Grows as needed. */
export class Writer {
  #buffer = Buffer.allocUnsafe(256)
  #length = 0

  /** Makes room for `size` more bytes and returns where they start. */
  #reserve(size: number): number {
    const start = this.#length
    this.#length += size
    if (this.#length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length))
      this.#buffer.copy(larger, 0, 0, start)
      this.#buffer = larger
    }
    return start
  }

  int(value: number): void {
    const at = this.#reserve(4)
    this.#buffer.writeInt32BE(value, at)
  }

  uint(value: number): void {
    const at = this.#reserve(4)
    this.#buffer.writeUInt32BE(value, at)
  }

  double(value: number): void {
    const at = this.#reserve(8)
    this.#buffer.writeDoubleBE(value, at)
  }

  wide(value: bigint): void {
    const at = this.#reserve(8)
    this.#buffer.writeBigUInt64BE(BigInt.asUintN(64, value), at)
  }

  /** Raw bytes, padded with zeros to a multiple of four. */
  padded(bytes: Uint8Array): void {
    const size = bytes.length + padding(bytes.length)
    const at = this.#reserve(size)
    this.#buffer.set(bytes, at)
    this.#buffer.fill(0, at + bytes.length, at + size)
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }
}

/** Bytes being read. Every read checks that the bytes are there. */
export class Reader {
  readonly #buffer: Buffer
  #at = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  get remaining(): number {
    return this.#buffer.length - this.#at
  }

  #take(size: number): number {
    if (size > this.remaining)
      throw new ProtocolError(`message ends early: ${size} bytes wanted, ${this.remaining} left`)
    const at = this.#at
    this.#at += size
    return at
  }

  int(): number {
    return this.#buffer.readInt32BE(this.#take(4))
  }

  uint(): number {
    return this.#buffer.readUInt32BE(this.#take(4))
  }

  double(): number {
    return this.#buffer.readDoubleBE(this.#take(8))
  }

  wide(): bigint {
    return this.#buffer.readBigUInt64BE(this.#take(8))
  }

  /** A view of `size` bytes; the padding that follows them is skipped. */
  padded(size: number): Buffer {
    const at = this.#take(size + padding(size))
    return this.#buffer.subarray(at, at + size)
  }
}

function padding(size: number): number {
  return (4 - (size % 4)) % 4
}

/** Signed 32 bit. libvirt's `char` and `short` are this, too. */
export const int: Codec<number> = { encode: (w, v) => w.int(v), decode: r => r.int() }

/** Unsigned 32 bit. */
export const uint: Codec<number> = { encode: (w, v) => w.uint(v), decode: r => r.uint() }

/** An int where 0 is false and anything else true. */
export const bool: Codec<boolean> = { encode: (w, v) => w.int(v ? 1 : 0), decode: r => r.int() !== 0 }

/** IEEE double. */
export const double: Codec<number> = { encode: (w, v) => w.double(v), decode: r => r.double() }

/** Signed 64 bit that must fit a safe integer: counts, sizes and times, where anything else is nonsense from the peer. */
export const hyper: Codec<number> = {
  encode: (w, v) => w.wide(BigInt(v)),
  decode: r => safeInteger(BigInt.asIntN(64, r.wide())),
}

/** Unsigned 64 bit, as {@link hyper}. */
export const uhyper: Codec<number> = { encode: (w, v) => w.wide(BigInt(v)), decode: r => safeInteger(r.wide()) }

/** Unsigned 64 bit that may outgrow a safe integer: 104 days of processor time are 2^53 nanoseconds. */
export const wide: Codec<bigint> = { encode: (w, v) => w.wide(v), decode: r => r.wide() }

function safeInteger(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new ProtocolError(`${value} is larger than any size or count can be`)
  return number
}

/** No bytes at all: the argument or the answer of many procedures. */
export const nothing: Codec<void> = { encode: () => undefined, decode: () => undefined }

/** Variable opaque data of at most `max` bytes. Decodes to a copy, so that a small value does not keep a whole packet. */
export function opaque(max: number): Codec<Buffer> {
  return {
    encode: (w, v) => {
      w.uint(checkLength(v.length, max))
      w.padded(v)
    },
    decode: r => Buffer.from(r.padded(checkLength(r.uint(), max))),
  }
}

/** UTF-8 text of at most `max` bytes. */
export function text(max: number): Codec<string> {
  return {
    encode: (w, v) => {
      const bytes = Buffer.from(v, 'utf8')
      w.uint(checkLength(bytes.length, max))
      w.padded(bytes)
    },
    decode: r => r.padded(checkLength(r.uint(), max)).toString('utf8'),
  }
}

/** A string with libvirt's own limit. */
export const string = text(MAX_STRING_BYTES)

/** A `char[size]` holding zero-ended text: four bytes for each character (struct remote_node_get_info_ret has one). */
export function charArray(size: number): Codec<string> {
  return {
    encode: (w, v) => {
      const bytes = Buffer.alloc(size)
      bytes.write(v, 0, size - 1, 'utf8')
      for (const byte of bytes) w.int(byte)
    },
    decode: r => {
      const bytes = Buffer.alloc(size)
      for (let i = 0; i < size; i++) bytes[i] = r.int() & 0xff
      const end = bytes.indexOf(0)
      return bytes.toString('utf8', 0, end < 0 ? size : end)
    },
  }
}

/** A UUID: sixteen raw bytes on the wire, lower case with dashes here. */
export const uuid: Codec<string> = {
  encode: (w, v) => {
    const bytes = Buffer.from(v.replaceAll('-', ''), 'hex')
    if (bytes.length !== 16) throw new RangeError(`'${v}' is not a UUID`)
    w.padded(bytes)
  },
  decode: r => {
    const hex = r.padded(16).toString('hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  },
}

/** At most `max` items, one after the other. */
export function array<T>(item: Codec<T>, max = MAX_LIST): Codec<T[]> {
  return {
    encode: (w, v) => {
      w.uint(checkLength(v.length, max))
      for (const each of v) item.encode(w, each)
    },
    decode: r => {
      const count = checkLength(r.uint(), max)
      const items: T[] = []
      // Not preallocated: a count that lies runs out of bytes before it costs memory.
      for (let i = 0; i < count; i++) items.push(item.decode(r))
      return items
    },
  }
}

/** XDR's optional data: absent is `undefined`. */
export function optional<T>(item: Codec<T>): Codec<T | undefined> {
  return {
    encode: (w, v) => {
      w.uint(v === undefined ? 0 : 1)
      if (v !== undefined) item.encode(w, v)
    },
    decode: r => {
      const present = r.uint()
      if (present > 1) throw new ProtocolError(`an optional value is marked ${present}, expected 0 or 1`)
      return present === 1 ? item.decode(r) : undefined
    },
  }
}

type Fields = Record<string, Codec<never> | Codec<unknown>>
type StructOf<F> = { -readonly [K in keyof F]: F[K] extends Codec<infer T> ? T : never }

/** Named fields, in the order in which they are listed. */
export function struct<const F extends Fields>(fields: F): Codec<StructOf<F>> {
  const entries = Object.entries(fields) as [string, Codec<unknown>][]
  return {
    encode: (w, v) => {
      const values = v as Record<string, unknown>
      for (const [name, codec] of entries) codec.encode(w, values[name])
    },
    decode: r => {
      const values: Record<string, unknown> = {}
      for (const [name, codec] of entries) values[name] = codec.decode(r)
      return values as StructOf<F>
    },
  }
}

function checkLength(length: number, max: number): number {
  if (length > max) throw new ProtocolError(`a length of ${length} is over the limit of ${max}`)
  return length
}

/** The value of a typed parameter. 64-bit values that no safe integer holds come as bigint. */
export type TypedValue = number | bigint | string | boolean
/** Typed parameters (virTypedParameter) by field name. */
export type TypedParams = Record<string, TypedValue>

/** How an encoder is told which of libvirt's seven types a number is. */
export type TypedParam = { readonly field: string } & (
  | { readonly type: 'int' | 'uint' | 'llong' | 'ullong' | 'double'; readonly value: number | bigint }
  | { readonly type: 'boolean'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
)

const TYPE_NUMBERS = { int: 1, uint: 2, llong: 3, ullong: 4, double: 5, boolean: 6, string: 7 } as const

/** A list of typed parameters: read as an object, written from {@link TypedParam}s. */
export function typedParams(max: number): Codec<TypedParams> {
  return {
    encode: () => {
      throw new TypeError('typed parameters are written with typedParamList')
    },
    decode: r => {
      const count = checkLength(r.uint(), max)
      const params: TypedParams = Object.create(null)
      for (let i = 0; i < count; i++) {
        const field = string.decode(r)
        params[field] = decodeTypedValue(r)
      }
      return params
    },
  }
}

/** The same list as {@link typedParams}, kept as a list with its types: for arguments, and for a server in tests. */
export function typedParamList(max: number): Codec<TypedParam[]> {
  return array<TypedParam>(
    {
      encode: (w, v) => {
        string.encode(w, v.field)
        w.int(TYPE_NUMBERS[v.type])
        encodeTypedValue(w, v)
      },
      decode: r => {
        const field = string.decode(r)
        const number = r.int()
        return { field, ...typedParamOf(number, r) } as TypedParam
      },
    },
    max,
  )
}

function encodeTypedValue(w: Writer, param: TypedParam): void {
  if (param.type === 'string') string.encode(w, param.value)
  else if (param.type === 'boolean') bool.encode(w, param.value)
  else if (param.type === 'double') w.double(Number(param.value))
  else if (param.type === 'int') w.int(Number(param.value))
  else if (param.type === 'uint') w.uint(Number(param.value))
  else w.wide(BigInt(param.value))
}

function typedParamOf(number: number, r: Reader): { type: string; value: TypedValue } {
  const type = Object.entries(TYPE_NUMBERS).find(([, n]) => n === number)?.[0]
  if (type === undefined) throw new ProtocolError(`a typed parameter has type ${number}, expected 1 to 7`)
  return { type, value: decodeTypedValueOf(number, r) }
}

function decodeTypedValue(r: Reader): TypedValue {
  return decodeTypedValueOf(r.int(), r)
}

function decodeTypedValueOf(type: number, r: Reader): TypedValue {
  switch (type) {
    case 1:
      return r.int()
    case 2:
      return r.uint()
    case 3:
      return narrow(BigInt.asIntN(64, r.wide()))
    case 4:
      return narrow(r.wide())
    case 5:
      return r.double()
    case 6:
      return r.int() !== 0
    case 7:
      return string.decode(r)
    default:
      throw new ProtocolError(`a typed parameter has type ${type}, expected 1 to 7`)
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
