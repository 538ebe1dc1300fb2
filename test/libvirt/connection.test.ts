/** One connection against a peer that the test leads: what it sends, what it hears, and how it ends. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Connection } from '../../src/libvirt/connection.ts'
import { ConnectionError, LibvirtError, ProtocolError } from '../../src/libvirt/error.ts'
import { encodePacket } from '../../src/libvirt/packet.ts'
import { procedures } from '../../src/libvirt/procedures.ts'
import { anError } from './arbitraries.ts'
import { cutAt, hex } from './bytes.ts'
import { A_DOMAIN, arrive, keepalive, lifecycle, type Peered, peered, replyTo } from './peer.ts'
import { encode } from './server.ts'

const { connectGetVersion, connectGetHostname, domainAbortJob } = procedures
const VERSION = encode(connectGetVersion.result, { version: 7 })
const REGISTERED = encode(procedures.connectDomainEventCallbackRegisterAny.result, { callbackID: 0 })

/** How a promise stands: its value, its error, or 'pending'. */
async function standing(promise: Promise<unknown>): Promise<unknown> {
  let standing: unknown = 'pending'
  const settle = (outcome: unknown) => {
    standing = outcome
  }
  promise.then(settle, settle)
  await arrive()
  return standing
}

function version({ connection }: Peered, timeoutMs?: number): Promise<{ version: number }> {
  const call = connection.call(connectGetVersion, undefined, timeoutMs)
  call.catch(() => undefined)
  return call
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
})
afterEach(() => {
  vi.useRealTimers()
})

async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms)
  await arrive()
}

describe('calls', () => {
  test('a call goes out as these bytes and its answer comes back as a value', async () => {
    const { connection, peer } = peered()
    const call = connection.call(procedures.domainLookupByName, { name: 'web' })
    await arrive()
    expect(encodePacket(peer.lastCall)).toEqual(
      hex(`
        00000024 # length: 36
        20008086 # program: remote
        00000001 # version
        00000017 # procedure: 23, domainLookupByName
        00000000 # type: call
        00000001 # serial
        00000000 # status: ok
        00000003 # name: three bytes
        77656200 # web, padding
      `),
    )
    await peer.reply(peer.lastCall, encode(procedures.domainLookupByName.result, { domain: A_DOMAIN }))
    expect(await call).toEqual({ domain: A_DOMAIN })
  })

  test('what is asked at the same moment goes out in one write', async () => {
    const peer = peered()
    const writes: number[] = []
    peer.stream._writev = (chunks, done) => {
      writes.push(chunks.length)
      done()
    }
    for (let i = 0; i < 3; i++) version(peer)
    await arrive()
    expect(writes).toEqual([3])
  })

  test('answers that come in another order reach their own callers', async () => {
    const { connection, peer } = peered()
    const calls = [connection.call(connectGetVersion, undefined), connection.call(connectGetHostname, undefined)]
    await arrive()
    const [first, second] = peer.calls
    if (first === undefined || second === undefined) throw new Error('two calls expected')
    await peer.send(replyTo(second, encode(connectGetHostname.result, { hostname: 'node1' })), replyTo(first, VERSION))
    expect(await Promise.all(calls)).toEqual([{ version: 7 }, { hostname: 'node1' }])
  })

  test('arguments that cannot be written are refused alone, and nothing is sent', async () => {
    const { connection, peer } = peered()
    const call = connection.call(procedures.domainLookupByUUID, { uuid: 'no uuid' })
    await expect(call).rejects.toThrow('is not a UUID')
    expect(peer.calls).toEqual([])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('any error of libvirt comes with all its fields, and the connection stays good', async () => {
    const { connection, peer } = peered()
    await fc.assert(
      fc.asyncProperty(anError, async fields => {
        const call = connection.call(domainAbortJob, { domain: A_DOMAIN })
        await Promise.all([arrive().then(() => peer.refuse(peer.lastCall, fields)), call.catch(() => undefined)])
        const error = await call.catch((thrown: unknown) => thrown)
        expect(error).toBeInstanceOf(LibvirtError)
        expect(error).toMatchObject({ procedure: 'domainAbortJob', code: fields.code, fields })
        expect((error as Error).message).toBe(fields.message ?? `libvirt error ${fields.code}`)
      }),
      { numRuns: 30 },
    )
  })
})

describe('at most four calls under way', () => {
  test('the fifth call waits until an answer makes room, and calls go out in order', async () => {
    const all = peered()
    const calls = Array.from({ length: 6 }, () => version(all))
    await arrive()
    expect(all.peer.serials).toEqual([1, 2, 3, 4])
    for (let answered = 0; answered < 6; answered++) {
      const call = all.peer.calls[answered]
      if (call !== undefined) await all.peer.reply(call, VERSION)
      expect(all.peer.serials).toHaveLength(Math.min(6, answered + 5))
    }
    expect(await Promise.all(calls)).toHaveLength(6)
  })

  test('an error makes room, too', async () => {
    const all = peered()
    const calls = Array.from({ length: 5 }, () => version(all))
    await arrive()
    await all.peer.refuse(all.peer.lastCall)
    expect(all.peer.serials).toEqual([1, 2, 3, 4, 5])
    expect(await standing(calls[3] ?? Promise.resolve())).toBeInstanceOf(LibvirtError)
  })
})

describe('deadlines', () => {
  test('a call that is never answered ends as a timeout, and not before', async () => {
    const all = peered()
    const call = version(all, 50)
    await pass(49)
    expect(await standing(call)).toBe('pending')
    await pass(1)
    await expect(call).rejects.toMatchObject({
      name: 'ConnectionError',
      kind: 'timeout',
      message: 'connectGetVersion was not answered within 50 ms',
    })
  })

  test('without a deadline of its own a call has that of the connection', async () => {
    const all = peered({ timeoutMs: 70 })
    const call = version(all)
    await pass(69)
    expect(await standing(call)).toBe('pending')
    await pass(1)
    expect(await standing(call)).toMatchObject({ kind: 'timeout' })
  })

  test('an answered or refused call leaves no timer behind', async () => {
    const all = peered()
    const calls = [version(all), version(all)]
    await arrive()
    const [first, second] = all.peer.calls
    if (first !== undefined) await all.peer.reply(first, VERSION)
    if (second !== undefined) await all.peer.refuse(second)
    await Promise.allSettled(calls)
    expect(vi.getTimerCount()).toBe(0)
  })

  test.each([
    ['answer', (all: Peered) => all.peer.reply(all.peer.lastCall, VERSION)],
    ['error', (all: Peered) => all.peer.refuse(all.peer.lastCall)],
  ])('a late %s is ignored and the connection stays good', async (_what, answerLate) => {
    const all = peered()
    const late = version(all, 50)
    await pass(50)
    await answerLate(all)
    const next = version(all)
    await arrive()
    await all.peer.reply(all.peer.lastCall, VERSION)
    expect(await next).toEqual({ version: 7 })
    expect(await standing(late)).toBeInstanceOf(ConnectionError)
  })

  test('calls that timed out still hold their places until the daemon answers them', async () => {
    const all = peered()
    for (let i = 0; i < 4; i++) version(all, 50)
    await pass(50)
    version(all)
    await arrive()
    expect(all.peer.serials).toEqual([1, 2, 3, 4])
    await all.peer.reply(all.peer.lastCall, VERSION)
    expect(all.peer.serials).toEqual([1, 2, 3, 4, 5])
  })

  test('a call whose deadline passes while it waits is never sent', async () => {
    const all = peered()
    for (let i = 0; i < 4; i++) version(all)
    const waiting = version(all, 50)
    await pass(50)
    expect(await standing(waiting)).toMatchObject({ kind: 'timeout' })
    await all.peer.reply(all.peer.lastCall, VERSION)
    expect(all.peer.serials).toEqual([1, 2, 3, 4])
  })

  test('an answer that comes twice after a timeout ends the connection at the second', async () => {
    const all = peered()
    version(all, 50)
    await pass(50)
    await all.peer.reply(all.peer.lastCall, VERSION)
    await all.peer.reply(all.peer.lastCall, VERSION)
    expect(await all.connection.closed).toBeInstanceOf(ProtocolError)
  })
})

describe('events', () => {
  /** A connection that hears; its registration has serial 1, as its events have. */
  async function hearing(listener: (event: number) => void): Promise<Peered> {
    const all = peered()
    const registered = all.connection.onLifecycle(({ event }) => listener(event))
    await arrive()
    await all.peer.reply(all.peer.lastCall, REGISTERED)
    await registered
    return all
  }

  test('an event with the serial of a call under way is heard as an event, and the call goes on', async () => {
    const heard: unknown[] = []
    const all = peered()
    const registered = all.connection.onLifecycle(event => heard.push(event))
    await arrive()
    expect(all.peer.serials).toEqual([1])
    await all.peer.send(lifecycle(5))
    expect(heard).toEqual([{ domain: A_DOMAIN, event: 5, detail: 0 }])
    expect(await standing(registered)).toBe('pending')
    await all.peer.reply(all.peer.lastCall, REGISTERED)
    await registered
  })

  test('an event with the serial of a call that timed out is heard, too', async () => {
    const heard: number[] = []
    const all = peered()
    version(all, 50)
    await pass(50)
    const registered = all.connection.onLifecycle(({ event }) => heard.push(event))
    await arrive()
    await all.peer.send(lifecycle(2), replyTo(all.peer.lastCall, REGISTERED))
    await registered
    expect(heard).toEqual([2])
  })

  test('events are heard in the order in which they came, by every listener', async () => {
    const [first, second]: [number[], number[]] = [[], []]
    const { connection, peer } = await hearing(event => first.push(event))
    await connection.onLifecycle(({ event }) => second.push(event))
    await peer.send(lifecycle(4), lifecycle(2), lifecycle(5))
    expect([first, second]).toEqual([
      [4, 2, 5],
      [4, 2, 5],
    ])
    expect(peer.calls).toHaveLength(1)
  })

  test('an event of another kind is passed over', async () => {
    const heard: number[] = []
    const { connection, peer } = await hearing(event => heard.push(event))
    await peer.send(lifecycle(1, { procedure: 319, payload: Buffer.from('whatever') }))
    expect(heard).toEqual([])
    expect(await standing(connection.closed)).toBe('pending')
  })

  test('a registration that is refused is asked for again by the next listener', async () => {
    const heard: string[] = []
    const { connection, peer } = peered()
    const refused = connection.onLifecycle(() => heard.push('refused'))
    const both = Promise.allSettled([refused])
    await arrive()
    await peer.refuse(peer.lastCall)
    expect((await both)[0]).toMatchObject({ status: 'rejected', reason: { name: 'LibvirtError' } })
    const registered = connection.onLifecycle(() => heard.push('registered'))
    await arrive()
    await peer.reply(peer.lastCall, REGISTERED)
    await registered
    await peer.send(lifecycle(1))
    expect(heard).toEqual(['registered'])
  })

  test('two listeners at once are registered once and both wait for it', async () => {
    const { connection, peer } = peered()
    const both = [connection.onLifecycle(() => undefined), connection.onLifecycle(() => undefined)]
    expect(await standing(Promise.race(both))).toBe('pending')
    expect(peer.calls).toHaveLength(1)
    await peer.reply(peer.lastCall, REGISTERED)
    await Promise.all(both)
  })

  test('a listener that ends the connection hears nothing more, even of the same piece', async () => {
    const heard: number[] = []
    const { connection, peer } = await hearing(event => {
      heard.push(event)
      connection.destroy()
    })
    await peer.send(lifecycle(1), lifecycle(2))
    expect(heard).toEqual([1])
  })
})

describe('keepalive', () => {
  const PING = keepalive(1)
  const PONG = keepalive(2)
  const keepalives = ({ peer }: Peered) =>
    peer.packets.filter(packet => packet.program !== 0x2000_8086).map(encodePacket)

  test('a ping of the daemon is answered', async () => {
    const all = peered()
    await all.peer.send(PING)
    expect(keepalives(all)).toEqual([PONG])
  })

  test('a ping is answered while four calls are under way and more wait', async () => {
    const all = peered()
    for (let i = 0; i < 6; i++) version(all)
    await all.peer.send(PING)
    expect(keepalives(all)).toEqual([PONG])
  })

  test('a pong that nobody asked for is passed over', async () => {
    const all = peered()
    await all.peer.send(PONG)
    expect(keepalives(all)).toEqual([])
    expect(await standing(all.connection.closed)).toBe('pending')
  })

  test('a daemon that stays silent is given up after the last unanswered ping', async () => {
    const all = peered({ keepaliveIntervalMs: 50, keepaliveCount: 2 })
    const call = version(all)
    await pass(149)
    expect(keepalives(all)).toEqual([PING, PING])
    expect(await standing(all.connection.closed)).toBe('pending')
    await pass(1)
    const reason = await all.connection.closed
    expect(reason).toMatchObject({ kind: 'timeout', message: 'the daemon has been silent for 150 ms' })
    await expect(call).rejects.toBe(reason)
    expect(vi.getTimerCount()).toBe(0)
  })

  test.each([
    ['pong', PONG],
    ['event', lifecycle(1)],
    ['part of a packet', lifecycle(1).subarray(0, 1)],
  ])('a %s is a sign of life', async (_what, bytes) => {
    const { connection, peer } = peered({ keepaliveIntervalMs: 50, keepaliveCount: 2 })
    await pass(149)
    await peer.send(bytes)
    await pass(100)
    expect(await standing(connection.closed)).toBe('pending')
    await pass(1)
    expect(await standing(connection.closed)).toMatchObject({ kind: 'timeout' })
  })

  test('unless asked for, no pings are sent', async () => {
    const all = peered()
    await pass(3_600_000)
    expect(keepalives(all)).toEqual([])
  })
})

describe('ends', () => {
  /** Bytes that may follow once the first call, for the version, is under way. */
  type Wrong = (all: Peered) => Buffer
  const wrongReply =
    (changes: object, payload = VERSION): Wrong =>
    all =>
      replyTo(first(all), payload, changes)
  const first = ({ peer }: Peered) => peer.calls[0] ?? peer.lastCall

  test.each<[string, Wrong, string]>([
    ['text', () => Buffer.from('HTTP/1.1 400 Bad Request'), 'a packet announces 1213486160 bytes'],
    ['a huge length', () => hex('02000001'), 'a packet announces 33554433 bytes, expected 28 to 33554432'],
    ['a length below a header', () => hex('0000001b'), 'a packet announces 27 bytes'],
    ['an answer with an unknown serial', wrongReply({ serial: 99 }), 'an answer has serial 99, which nobody waits for'],
    [
      'an answer to a call that waits here',
      wrongReply({ serial: 5 }),
      'an answer has serial 5, which nobody waits for',
    ],
    ['an answer of another procedure', wrongReply({ procedure: 59 }), 'is of procedure 59, expected 4'],
    ['an answer of another program', wrongReply({ program: 0x2000_8087 }), 'which is not libvirt'],
    ['an answer of another version', wrongReply({ version: 2 }), 'which is not libvirt'],
    ['a call', wrongReply({ type: 0 }), 'a packet has type 0, expected an answer or an event'],
    ['a stream', wrongReply({ type: 3 }), 'a packet has type 3, expected an answer or an event'],
    ['an answer of unknown status', wrongReply({ status: 2 }), 'an answer has status 2, expected 0 or 1'],
    ['an answer with bytes too many', wrongReply({}, Buffer.concat([VERSION, VERSION])), 'has 8 bytes too many'],
    ['an answer with bytes too few', wrongReply({}, VERSION.subarray(4)), 'message ends early'],
    ['an error that is none', wrongReply({ status: 1 }), 'message ends early'],
    ['an event with bytes too many', () => lifecycle(1, { payload: Buffer.alloc(44) }), 'bytes too many'],
    ['an event with bytes too few', () => lifecycle(1, { payload: Buffer.alloc(8) }), 'message ends early'],
  ])('%s ends the connection, and every call hears the same reason', async (_what, wrong, message) => {
    const all = peered({ keepaliveIntervalMs: 50 })
    const calls = Array.from({ length: 6 }, () => version(all))
    await arrive()
    await all.peer.send(wrong(all))
    const reason = await all.connection.closed
    expect(reason).toBeInstanceOf(ProtocolError)
    expect(reason.message).toContain(message)
    await expectOver(all, reason, calls)
  })

  async function expectOver(all: Peered, reason: Error, calls: readonly Promise<unknown>[]): Promise<void> {
    for (const call of [...calls, version(all)]) await expect(call).rejects.toBe(reason)
    expect(all.stream.destroyed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
    expect(all.peer.serials).toEqual([1, 2, 3, 4])
  }

  test.each<[string, (all: Peered) => void, string]>([
    ['between packets', ({ peer }) => void peer.stream.end(), 'the daemon ended the connection'],
    [
      'in the middle of a packet',
      ({ peer }) => void peer.stream.end(lifecycle(1).subarray(0, 40)),
      'the daemon ended the connection in the middle of a packet',
    ],
    [
      'in the middle of a length',
      ({ peer }) => void peer.stream.end(Buffer.alloc(3)),
      'the daemon ended the connection in the middle of a packet',
    ],
    ['with an error', ({ stream }) => void stream.destroy(new Error('read ECONNRESET')), 'failed: read ECONNRESET'],
    ['without a word', ({ stream }) => void stream.destroy(), 'the daemon ended the connection'],
    ['by us', ({ connection }) => connection.destroy(), 'the connection was closed by havirt'],
  ])('a stream that ends %s ends every call with the same reason', async (_where, end, message) => {
    const all = peered({ keepaliveIntervalMs: 50 })
    const calls = Array.from({ length: 6 }, () => version(all))
    await arrive()
    end(all)
    const reason = await all.connection.closed
    expect(reason).toMatchObject({ name: 'ConnectionError', kind: 'closed' })
    expect(reason.message).toMatch(new RegExp(`${message}$`))
    await expectOver(all, reason, calls)
  })

  test('an answer that came whole before garbage is still given to its caller', async () => {
    const all = peered()
    const [answered, lost] = [version(all), version(all)]
    await arrive()
    await all.peer.send(replyTo(first(all), VERSION), hex('ffffffff'))
    expect(await answered).toEqual({ version: 7 })
    await expect(lost).rejects.toBeInstanceOf(ProtocolError)
  })

  test('nothing that comes after the end is heard', async () => {
    const all = peered()
    const heard: number[] = []
    const registered = all.connection.onLifecycle(({ event }) => heard.push(event))
    registered.catch(() => undefined)
    await arrive()
    all.connection.destroy()
    all.stream.emit('data', lifecycle(1))
    await expect(registered).rejects.toMatchObject({ kind: 'closed' })
    expect(heard).toEqual([])
  })

  test('a connection on a stream that is over already is over, too', async () => {
    const { stream } = peered()
    stream.destroy()
    await arrive()
    const connection = new Connection(stream, { timeoutMs: 1000, keepaliveIntervalMs: 50 })
    expect(await standing(connection.closed)).toMatchObject({ kind: 'closed' })
    await expect(connection.call(connectGetVersion, undefined)).rejects.toMatchObject({ kind: 'closed' })
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('close', () => {
  test('says goodbye, waits for the answer, and ends', async () => {
    const { connection, peer, stream } = peered()
    const closing = connection.close()
    await arrive()
    expect(peer.lastCall.procedure).toBe(procedures.connectClose.number)
    expect(stream.destroyed).toBe(false)
    await peer.reply(peer.lastCall)
    await closing
    expect(stream.destroyed).toBe(true)
    expect(await connection.closed).toMatchObject({ message: 'the connection was closed by havirt' })
  })

  test('leaves a daemon behind that does not answer', async () => {
    const { connection, stream } = peered()
    const closing = connection.close()
    await pass(200)
    await closing
    expect(stream.destroyed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('leaves a daemon behind that has four calls under way', async () => {
    const all = peered({ timeoutMs: 60_000 })
    const calls = Array.from({ length: 4 }, () => version(all))
    const closing = all.connection.close()
    await pass(200)
    await closing
    for (const call of calls) await expect(call).rejects.toMatchObject({ kind: 'closed' })
  })

  test.each<[string, (all: Peered) => void]>([
    ['is refused', all => void all.peer.refuse(all.peer.lastCall)],
    ['is answered with garbage', all => void all.peer.send(hex('ffffffff'))],
    ['is answered with the end of the stream', all => void all.peer.stream.end()],
  ])('resolves when the goodbye %s', async (_how, answer) => {
    const all = peered()
    const closing = all.connection.close()
    await arrive()
    answer(all)
    await closing
    expect(all.stream.destroyed).toBe(true)
  })

  test('resolves as often as it is called, at once and afterwards', async () => {
    const { connection, peer } = peered()
    const closing = [connection.close(), connection.close()]
    await arrive()
    for (const call of peer.calls) await peer.reply(call)
    await Promise.all(closing)
    await connection.close()
    connection.destroy()
  })
})

describe('any bytes', () => {
  const known = (error: unknown) =>
    [ConnectionError, LibvirtError, ProtocolError].some(kind => error instanceof kind) ? 'known' : error

  /** Feeds the pieces, ends the stream, and expects the connection to be over with every call settled. */
  async function expectEnd(chunks: readonly Buffer[]): Promise<void> {
    const all = peered({ keepaliveIntervalMs: 1000 })
    const calls = Array.from({ length: 5 }, () => version(all))
    for (const chunk of chunks) all.peer.stream.write(chunk)
    all.peer.stream.end()
    expect(known(await all.connection.closed)).toBe('known')
    for (const outcome of await Promise.allSettled(calls)) {
      if (outcome.status === 'rejected') expect(known(outcome.reason)).toBe('known')
    }
    expect(vi.getTimerCount()).toBe(0)
  }

  test('random pieces end the connection in one of the known ways and leave nothing behind', async () => {
    const pieces = fc.array(
      fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)),
      { maxLength: 10 },
    )
    await fc.assert(fc.asyncProperty(pieces, expectEnd), { numRuns: 200 })
  })

  test('good packets with one byte changed, cut anywhere, end it in one of the known ways', async () => {
    const call = { program: 0, version: 0, type: 0, status: 0, payload: VERSION, procedure: 4 }
    const good = Buffer.concat([
      replyTo({ ...call, serial: 1 }, VERSION),
      lifecycle(2),
      keepalive(1),
      replyTo({ ...call, serial: 2 }, VERSION),
      replyTo({ ...call, serial: 5 }, VERSION),
    ])
    const place = fc.nat({ max: good.length - 1 })
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 255 }), fc.array(fc.nat()), async (at, change, places) => {
        const bytes = Buffer.from(good)
        bytes[at] = (bytes[at] ?? 0) ^ change
        await expectEnd(cutAt(bytes, places))
      }),
      { numRuns: 300 },
    )
  })

  test('pieces of a packet that never ends are held, no more than it announced, until the deadline', async () => {
    const all = peered()
    const call = version(all)
    await arrive()
    await all.peer.send(hex('02000000'), Buffer.alloc(1024))
    expect(await standing(call)).toBe('pending')
    await pass(1000)
    expect(await standing(call)).toMatchObject({ kind: 'timeout' })
    expect(await standing(all.connection.closed)).toBe('pending')
  })
})
