/** XDR: known values on annotated bytes, values that cannot be, and round trips of everything. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ProtocolError } from '../../src/libvirt/error.ts'
import { events, procedures, remoteError } from '../../src/libvirt/procedures.ts'
import {
  array,
  bool,
  type Codec,
  charArray,
  double,
  hyper,
  int,
  nothing,
  opaque,
  optional,
  Reader,
  string,
  struct,
  type TypedParam,
  text,
  typedParamList,
  typedParams,
  uhyper,
  uint,
  uuid,
  Writer,
  wide,
} from '../../src/libvirt/xdr.ts'
import {
  aDomain,
  aLifecycle,
  anError,
  anInt,
  aSize,
  aUint,
  aUuid,
  aWide,
  procedureValues,
  someText,
  someTypedParams,
} from './arbitraries.ts'
import { hex } from './bytes.ts'
import { type ProcedureName, resultCodec } from './world.ts'

function encode<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new Writer()
  codec.encode(writer, value)
  return Buffer.from(writer.finish())
}

/** Decodes, and expects nothing to be left. */
function decode<T>(codec: Codec<T>, bytes: Buffer): T {
  const reader = new Reader(bytes)
  const value = codec.decode(reader)
  expect(reader.remaining).toBe(0)
  return value
}

const domain = struct({ name: string, uuid, id: int })

/** One row: a codec, a value, the bytes. */
function known<T>(what: string, codec: Codec<T>, value: T, bytes: string): [string, Codec<unknown>, unknown, string] {
  return [what, codec as Codec<unknown>, value, bytes]
}

const KNOWN = [
  known('int', int, 42, '0000002a'),
  known('negative int', int, -1, 'ffffffff'),
  known('largest uint', uint, 0xffff_ffff, 'ffffffff'),
  known('false', bool, false, '00000000'),
  known('true', bool, true, '00000001'),
  known('double', double, 1.5, '3ff80000 00000000'),
  known('hyper', hyper, -2, 'ffffffff fffffffe'),
  known('uhyper', uhyper, 2 ** 32, '00000001 00000000'),
  known('largest safe uhyper', uhyper, 2 ** 53 - 1, '001fffff ffffffff'),
  known('largest wide', wide, 2n ** 64n - 1n, 'ffffffff ffffffff'),
  known('nothing', nothing, undefined, ''),
  known('empty string', string, '', '00000000 # length, and no bytes'),
  known(
    'string of five bytes',
    string,
    'node1',
    `00000005 # length
     6e6f6465 # node
     31000000 # 1, padding`,
  ),
  known(
    'string of four bytes',
    string,
    'test',
    `00000004 # length
     74657374 # test, no padding`,
  ),
  known(
    'string beyond ASCII, counted in bytes',
    string,
    'ü',
    `00000002 # length
     c3bc0000 # one character of two bytes, padding`,
  ),
  known(
    'opaque',
    opaque(8),
    Buffer.from([1, 2, 3]),
    `00000003 # length
     01020300 # bytes, padding`,
  ),
  known(
    'char array, four bytes for each character',
    charArray(4),
    'i68',
    `00000069 # i
     00000036 # 6
     00000038 # 8
     00000000 # the end`,
  ),
  known('uuid', uuid, '6695eb01-f6a4-8304-79aa-97f2502e193f', '6695eb01 f6a48304 79aa97f2 502e193f'),
  known(
    'array',
    array(int, 3),
    [1, 2],
    `00000002 # count
     00000001
     00000002`,
  ),
  known('absent optional', optional(int), undefined, '00000000'),
  known('present optional', optional(int), 7, '00000001 00000007'),
  known(
    'domain',
    domain,
    { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: -1 },
    `00000004 74657374                   # name
     6695eb01 f6a48304 79aa97f2 502e193f # uuid
     ffffffff                            # id: not active`,
  ),
  known(
    'typed parameters of all types',
    typedParamList(7),
    [
      { field: 'a', type: 'int', value: -1 },
      { field: 'b', type: 'uint', value: 2 },
      { field: 'c', type: 'llong', value: -3 },
      { field: 'd', type: 'ullong', value: 2n ** 64n - 1n },
      { field: 'e', type: 'double', value: 0.5 },
      { field: 'f', type: 'boolean', value: true },
      { field: 'g', type: 'string', value: 'x' },
    ] as TypedParam[],
    `00000007                                     # count
     00000001 61000000 00000001 ffffffff          # a, int
     00000001 62000000 00000002 00000002          # b, uint
     00000001 63000000 00000003 ffffffff fffffffd # c, llong
     00000001 64000000 00000004 ffffffff ffffffff # d, ullong
     00000001 65000000 00000005 3fe00000 00000000 # e, double
     00000001 66000000 00000006 00000001          # f, boolean
     00000001 67000000 00000007 00000001 78000000 # g, string`,
  ),
]

describe('known values', () => {
  test.each(KNOWN)('%s is written as these bytes and read back', (_what, codec, value, bytes) => {
    expect(encode(codec, value).toString('hex')).toBe(hex(bytes).toString('hex'))
    expect(decode(codec, hex(bytes))).toEqual(value)
  })

  test.each(KNOWN)('%s that ends early at any byte is refused', (_what, codec, _value, text) => {
    const bytes = hex(text)
    for (let end = 0; end < bytes.length; end++) {
      expect(() => codec.decode(new Reader(bytes.subarray(0, end)))).toThrow(ProtocolError)
    }
  })

  test('typed parameters are read as an object by field', () => {
    const params: TypedParam[] = [
      { field: 'balloon.current', type: 'ullong', value: 2048 },
      { field: '__proto__', type: 'string', value: 'a field like any other' },
    ]
    const read = decode(typedParams(2), encode(typedParamList(2), params))
    expect(Object.entries(read)).toEqual(params.map(({ field, value }) => [field, value]))
  })

  test('a bool that is neither 0 nor 1 is true, as in C', () => {
    expect(decode(bool, hex('00000002'))).toBe(true)
  })

  test('a char array without an end is read whole, and a longer text is written cut', () => {
    expect(decode(charArray(2), hex('00000061 00000062'))).toBe('ab')
    expect(decode(charArray(2), encode(charArray(2), 'abc'))).toBe('a')
  })
})

describe('values that cannot be', () => {
  test.each<[string, Codec<unknown>, string, string]>([
    ['a string over its limit', text(3), '00000004 74657374', 'a length of 4 is over the limit of 3'],
    ['a string longer than the message', string, '00000005 6e6f6465', '8 bytes wanted, 4 left'],
    ['a string without its padding', string, '00000005 6e6f6465 31', '8 bytes wanted, 5 left'],
    ['a string over libvirt’s limit', string, '00400001', 'over the limit of 4194304'],
    ['opaque data over its limit', opaque(1), '00000002 01020000', 'over the limit of 1'],
    ['an array over its limit', array(int, 1), '00000002 00000001 00000002', 'over the limit of 1'],
    ['an array that announces billions', array(int), 'ffffffff', 'over the limit of 16384'],
    ['an array that announces more than there is', array(int), '00000002 00000001', '4 bytes wanted, 0 left'],
    ['an optional marked 2', optional(int), '00000002 00000001', 'marked 2, expected 0 or 1'],
    ['a size over 2^53', uhyper, '00200000 00000000', '9007199254740992 is larger'],
    ['a size that is negative beyond 2^53', hyper, '80000000 00000000', '-9223372036854775808 is larger'],
    ['typed parameter of type 0', typedParams(1), '00000001 00000000 00000000', 'type 0, expected 1 to 7'],
    ['typed parameter of type 8', typedParams(1), '00000001 00000000 00000008', 'type 8, expected 1 to 7'],
    ['typed parameter of type 8 in a list', typedParamList(1), '00000001 00000000 00000008', 'type 8, expected 1 to 7'],
    ['typed parameters over their limit', typedParams(1), '00000002', 'a length of 2 is over the limit of 1'],
  ])('%s is refused', (_what, codec, bytes, message) => {
    const read = () => codec.decode(new Reader(hex(bytes)))
    expect(read).toThrow(ProtocolError)
    expect(read).toThrow(message)
  })

  test.each([['6695eb01'], ['not a uuid'], ['6695eb01-f6a4-8304-79aa-97f2502e193f00'], ['']])(
    'the text "%s" is not written as a UUID',
    value => {
      expect(() => encode(uuid, value)).toThrow(RangeError)
    },
  )

  test('typed parameters cannot be written without their types', () => {
    expect(() => encode(typedParams(1), {})).toThrow(TypeError)
  })
})

describe('round trips', () => {
  const rows: [string, Codec<unknown>, fc.Arbitrary<unknown>][] = [
    ['int', int as Codec<unknown>, anInt],
    ['uint', uint as Codec<unknown>, aUint],
    ['bool', bool as Codec<unknown>, fc.boolean()],
    ['double', double as Codec<unknown>, fc.double()],
    ['hyper', hyper as Codec<unknown>, fc.maxSafeInteger()],
    ['uhyper', uhyper as Codec<unknown>, aSize],
    ['wide', wide as Codec<unknown>, aWide],
    ['string', string as Codec<unknown>, someText],
    ['opaque', opaque(50) as Codec<unknown>, fc.uint8Array({ maxLength: 50 }).map(bytes => Buffer.from(bytes))],
    ['char array', charArray(64) as Codec<unknown>, fc.string({ unit: 'grapheme', maxLength: 5 }).filter(fits(63))],
    ['uuid', uuid as Codec<unknown>, aUuid],
    ['array', array(domain) as Codec<unknown>, fc.array(aDomain)],
    ['optional', optional(domain) as Codec<unknown>, fc.option(aDomain, { nil: undefined })],
    ['typed parameter list', typedParamList(8) as Codec<unknown>, someTypedParams],
    ['error', remoteError as Codec<unknown>, anError],
    ['lifecycle event', events.lifecycle.args as Codec<unknown>, aLifecycle],
  ]

  test.each(rows)('any %s comes back as it was', (_what, codec, values) => {
    fc.assert(fc.property(values, value => void expect(decode(codec, encode(codec, value))).toEqual(value)))
  })

  const names = Object.keys(procedures) as ProcedureName[]

  test.each(names)('the arguments of %s come back as they were', name => {
    const codec = procedures[name].args as Codec<unknown>
    const values = procedureValues[name].args as fc.Arbitrary<unknown>
    fc.assert(fc.property(values, value => void expect(decode(codec, encode(codec, value))).toEqual(value)))
  })

  test.each(names)('the answer of %s comes back as it was', name => {
    const values = procedureValues[name].result as fc.Arbitrary<unknown>
    const written = resultCodec(name)
    fc.assert(
      fc.property(values, value => {
        expect(decode(procedures[name].result as Codec<unknown>, encode(written, value))).toEqual(asRead(value))
      }),
    )
  })

  test('random bytes are a value or a ProtocolError, for every answer and error', () => {
    const codecs = [
      ...names.map(name => procedures[name].result as Codec<unknown>),
      remoteError,
      events.jobCompleted.args,
    ]
    fc.assert(
      fc.property(fc.constantFrom(...codecs), fc.uint8Array({ maxLength: 200 }), (codec, bytes) => {
        try {
          codec.decode(new Reader(Buffer.from(bytes)))
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

function fits(bytes: number): (text: string) => boolean {
  return text => Buffer.byteLength(text) <= bytes && !text.includes('\0')
}

/** Typed parameters are written as a list and read as an object. */
function asRead(value: unknown): unknown {
  if (!Array.isArray(value)) return isRecord(value) ? mapValues(value, asRead) : value
  const params = value as { type?: string; field?: string; value?: unknown }[]
  if (value.length > 0 && params.every(item => item.type !== undefined && item.field !== undefined)) {
    return Object.fromEntries(params.map(param => [param.field, param.value]))
  }
  return value.map(asRead)
}

function mapValues(value: Record<string, unknown>, change: (value: unknown) => unknown): Record<string, unknown> {
  const entries = Object.entries(value)
  return Object.fromEntries(entries.map(([key, item]) => [key, key === 'params' && isEmpty(item) ? {} : change(item)]))
}

function isEmpty(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
