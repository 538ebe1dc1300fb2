/**
 * A libvirt daemon for tests and benchmarks: speaks the protocol on a unix socket or on any stream, answers from a
 * {@link World}, and misbehaves when told to. Each different answer is encoded once and kept.
 */
import { rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  encodePacket,
  keepaliveProcedure,
  messageStatus,
  messageType,
  type Packet,
  PacketAssembler,
  program,
} from '../../src/libvirt/packet.ts'
import { eventId, events, procedures, remoteError } from '../../src/libvirt/procedures.ts'
import { type Codec, Reader, type ValueOf, Writer } from '../../src/libvirt/xdr.ts'
import {
  type Answers,
  answersOf,
  type ProcedureName,
  Refusal,
  resultCodec,
  type WireError,
  type World,
} from './world.ts'

export { type Answers, Refusal, type ServedDomain, type WireError, type World } from './world.ts'

/** A call as the server got it. `name` is undefined for a procedure that havirt's table does not have. */
export interface SeenCall {
  readonly name: ProcedureName | undefined
  readonly procedure: number
  readonly serial: number
  readonly payload: Buffer
}

export type LifecycleEvent = Omit<ValueOf<typeof events.lifecycle.args>, 'callbackID'>

/** What the server does instead of answering. */
export type Misbehaviour =
  | { readonly kind: 'silence' }
  | { readonly kind: 'close' }
  /** Any bytes in place of the answer. */
  | { readonly kind: 'garbage'; readonly bytes: Uint8Array }
  /** The first bytes of the answer, then the end of the stream. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  | { readonly kind: 'delay'; readonly ms: number }
  /** Kept until {@link ProtocolServer.release}. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'refuse'; readonly error: WireError }
  /** Events first, with serial 1 as libvirtd sends them, then the answer. */
  | { readonly kind: 'eventsFirst'; readonly events: readonly LifecycleEvent[] }

export interface ServerOptions extends World {
  /** The read-only socket: everything that changes something is denied. Otherwise the client's own flag decides. */
  readonly readOnly?: boolean
  /** Authentication types that are offered; [0], none, unless told. */
  readonly authTypes?: readonly number[]
  /** Calls of one client that are worked on at once; further ones, keepalive included, are not read (libvirtd: 5). */
  readonly maxRequests?: number
  /** False: pings are ignored, as by a dead daemon. */
  readonly answersPings?: boolean
  /** Answers of a test's own, asked anew each time; they win over those from the world. */
  readonly answers?: Answers
  readonly misbehave?: (call: SeenCall) => Misbehaviour | undefined
  /** False for benchmarks: no call is kept in {@link ProtocolServer.calls}. */
  readonly recordCalls?: boolean
}

const DEFAULT_MAX_REQUESTS = 5
const SERIAL_OFFSET = 20
/** libvirt's number for code 29 and the level of an error. */
const OPERATION_DENIED = 29
const RPC_ERROR = 39
const LEVEL_ERROR = 2
const OPEN_READ_ONLY = 1

const namesByNumber = new Map(
  Object.values(procedures).map(({ number, name }) => [number, name as ProcedureName] as const),
)
const CHANGES = /^domain(Create|Define|Undefine|Shutdown|Destroy|Suspend|Resume|AbortJob)/

/** A server of its own on a unix socket, ready when this resolves. */
export async function startProtocolServer(options: ServerOptions & { readonly path: string }): Promise<SocketServer> {
  const protocol = new ProtocolServer(options)
  const net = createServer(stream => protocol.serve(stream))
  await listen(net, options.path)
  const close = async () => {
    protocol.disconnect()
    await new Promise(done => net.close(done))
    await rm(options.path, { force: true })
  }
  return { path: options.path, protocol, close }
}

export interface SocketServer {
  readonly path: string
  readonly protocol: ProtocolServer
  /** Ends all connections and removes the socket. */
  close(): Promise<void>
}

function listen(net: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    net.once('error', reject)
    net.listen(path, 511, resolve)
  })
}

/** All clients of one daemon. */
export class ProtocolServer {
  readonly options: ServerOptions
  readonly #sessions = new Set<Session>()
  #answers: Answers
  #kept = new Map<string, Buffer>()
  /** Calls in the order in which they came, over all clients. */
  readonly calls: SeenCall[] = []
  /** The largest number of calls of one client that were unanswered at once. */
  mostOutstanding = 0
  pongs = 0
  pings = 0

  constructor(options: ServerOptions) {
    this.options = options
    this.#answers = answersOf(options)
  }

  /** From now on answers from another world. Events are for the test to send. */
  change(world: World): void {
    this.#answers = answersOf(world)
    this.#kept.clear()
  }

  serve(stream: Duplex): void {
    const session = new Session(this, stream)
    this.#sessions.add(session)
    stream.on('close', () => this.#sessions.delete(session))
  }

  get clients(): number {
    return this.#sessions.size
  }

  /** Pings all clients. */
  ping(): void {
    for (const session of this.#sessions) session.sendKeepalive(keepaliveProcedure.ping)
  }

  /** Sends a lifecycle event to every client that registered for it. */
  emit(event: LifecycleEvent): void {
    for (const session of this.#sessions) session.sendEvent(event)
  }

  /** Sends held answers, in the order in which the calls came or the other way round. */
  release(order: 'inOrder' | 'lastFirst' = 'inOrder'): void {
    for (const session of this.#sessions) session.release(order)
  }

  /** Raw bytes to all clients. */
  send(bytes: Uint8Array): void {
    for (const session of this.#sessions) session.send(bytes)
  }

  disconnect(): void {
    for (const session of this.#sessions) session.destroy()
  }

  /** The whole answer to a call, serial included. */
  answer(packet: Packet): Buffer {
    const key = `${packet.procedure}:${packet.payload.toString('latin1')}`
    const kept = this.#kept.get(key)
    if (kept !== undefined) return withSerial(kept, packet.serial)
    const name = namesByNumber.get(packet.procedure)
    const own = name === undefined ? undefined : this.options.answers?.[name]
    const answer = own ?? (name === undefined ? undefined : this.#answers[name])
    if (name === undefined || answer === undefined) return unknownProcedure(packet)
    const bytes = ask(name, answer as (args: unknown) => unknown, packet)
    if (own === undefined) this.#kept.set(key, bytes)
    return bytes
  }
}

function withSerial(bytes: Buffer, serial: number): Buffer {
  const copy = Buffer.allocUnsafe(bytes.length)
  bytes.copy(copy)
  copy.writeUInt32BE(serial, SERIAL_OFFSET)
  return copy
}

function ask(name: ProcedureName, answer: (args: unknown) => unknown, packet: Packet): Buffer {
  try {
    const args = procedures[name].args.decode(new Reader(packet.payload))
    return reply(packet, messageStatus.ok, encode(resultCodec(name), answer(args)))
  } catch (error) {
    if (error instanceof Refusal) return refusal(packet, error)
    throw error
  }
}

function unknownProcedure(packet: Packet): Buffer {
  return refusal(packet, { code: RPC_ERROR, message: `unknown procedure: ${packet.procedure}` })
}

function refusal(packet: Packet, { code, message }: WireError): Buffer {
  const fields = { code, domain: 7, message, level: LEVEL_ERROR, str1: '%s', str2: message, int1: -1, int2: -1 }
  const none = { dom: undefined, str3: undefined, net: undefined }
  return reply(packet, messageStatus.error, encode(remoteError, { ...fields, ...none }))
}

function reply(call: Packet, status: number, payload: Buffer): Buffer {
  const { procedure, serial } = call
  return encodePacket({
    program: program.remote,
    version: 1,
    procedure,
    type: messageType.reply,
    serial,
    status,
    payload,
  })
}

export function encode<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new Writer()
  codec.encode(writer, value)
  return writer.finish()
}

/** One client. */
class Session {
  readonly #server: ProtocolServer
  readonly #stream: Duplex
  readonly #assembler = new PacketAssembler()
  readonly #unread: Packet[] = []
  readonly #held: Packet[] = []
  readonly #maxRequests: number
  #working = 0
  #readOnly: boolean
  #callbackID: number | undefined

  constructor(server: ProtocolServer, stream: Duplex) {
    this.#server = server
    this.#stream = stream
    this.#readOnly = server.options.readOnly ?? false
    this.#maxRequests = server.options.maxRequests ?? DEFAULT_MAX_REQUESTS
    stream.on('data', (chunk: Buffer) => this.#receive(chunk))
    stream.on('error', () => stream.destroy())
    stream.on('end', () => stream.end())
  }

  send(bytes: Uint8Array): void {
    if (this.#stream.writable) this.#stream.write(bytes)
  }

  destroy(): void {
    this.#stream.destroy()
  }

  sendKeepalive(procedure: number): void {
    const common = { version: 1, type: messageType.message, serial: 0, status: messageStatus.ok }
    this.send(encodePacket({ program: program.keepalive, procedure, ...common, payload: Buffer.alloc(0) }))
  }

  /** With serial 1, as libvirtd sends events. */
  sendEvent(event: LifecycleEvent): void {
    if (this.#callbackID !== undefined) this.#sendEventAs(this.#callbackID, event)
  }

  #sendEventAs(callbackID: number, event: LifecycleEvent): void {
    const payload = encode(events.lifecycle.args, { callbackID, ...event })
    const procedure = events.lifecycle.number
    const common = { program: program.remote, version: 1, type: messageType.message, status: messageStatus.ok }
    this.send(encodePacket({ ...common, procedure, serial: 1, payload }))
  }

  release(order: 'inOrder' | 'lastFirst'): void {
    const held = this.#held.splice(0)
    for (const packet of order === 'inOrder' ? held : held.reverse()) this.#finishLate(packet)
  }

  #receive(chunk: Buffer): void {
    this.#unread.push(...this.#assembler.push(chunk))
    this.#note()
    this.#stream.cork()
    this.#work()
    this.#stream.uncork()
  }

  #note(): void {
    const waiting = this.#unread.filter(packet => packet.program === program.remote).length
    this.#server.mostOutstanding = Math.max(this.#server.mostOutstanding, this.#working + waiting)
  }

  /** libvirtd stops reading a client, keepalive included, that has too many requests under way. */
  #work(): void {
    while (this.#working < this.#maxRequests) {
      const packet = this.#unread.shift()
      if (packet === undefined) return
      if (packet.program === program.keepalive) this.#keepalive(packet)
      else this.#take(packet)
    }
  }

  #keepalive(packet: Packet): void {
    if (packet.procedure === keepaliveProcedure.pong) this.#server.pongs++
    if (packet.procedure !== keepaliveProcedure.ping) return
    this.#server.pings++
    if (this.#server.options.answersPings ?? true) this.sendKeepalive(keepaliveProcedure.pong)
  }

  #take(packet: Packet): void {
    this.#working++
    const { procedure, serial, payload } = packet
    const call = { name: namesByNumber.get(procedure), procedure, serial, payload }
    // A copy, so that a few bytes do not keep the whole piece in which they came.
    if (this.#server.options.recordCalls ?? true) this.#server.calls.push({ ...call, payload: Buffer.from(payload) })
    const misbehaviour = this.#server.options.misbehave?.(call)
    if (misbehaviour === undefined) this.#finish(packet)
    else this.#misbehave(packet, misbehaviour)
  }

  #finish(packet: Packet, bytes = this.#answer(packet)): void {
    // First, since a stream in memory brings the next call before `send` returns.
    this.#working--
    this.send(bytes)
  }

  /** An answer outside the reading of calls: it may make room for the next one. */
  #finishLate(packet: Packet): void {
    this.#finish(packet)
    this.#work()
  }

  #misbehave(packet: Packet, how: Misbehaviour): void {
    switch (how.kind) {
      case 'silence':
        return
      case 'close':
        this.#stream.end(() => this.destroy())
        return
      case 'garbage':
        return this.#finish(packet, Buffer.from(how.bytes))
      case 'cut':
        this.#stream.end(this.#answer(packet).subarray(0, how.afterBytes))
        return
      case 'delay':
        setTimeout(() => this.#finishLate(packet), how.ms)
        return
      case 'hold':
        this.#held.push(packet)
        return
      case 'refuse':
        return this.#finish(packet, refusal(packet, how.error))
      case 'eventsFirst':
        for (const event of how.events) this.#sendEventAs(this.#callbackID ?? 0, event)
        return this.#finish(packet)
    }
  }

  #answer(packet: Packet): Buffer {
    const name = namesByNumber.get(packet.procedure)
    const own = name === undefined ? undefined : this.#server.options.answers?.[name]
    if (name !== undefined && this.#readOnly && CHANGES.test(name)) {
      const message = `operation forbidden: read only access prevents vir${name.replace(/^d/, 'D')}`
      return refusal(packet, { code: OPERATION_DENIED, message })
    }
    return (own === undefined ? this.#sessionAnswer(name, packet) : undefined) ?? this.#server.answer(packet)
  }

  /** Answers that belong to this client alone: opening, authentication, registration. */
  #sessionAnswer(name: ProcedureName | undefined, packet: Packet): Buffer | undefined {
    const ok = <T>(codec: Codec<T>, value: T) => reply(packet, messageStatus.ok, encode(codec, value))
    switch (name) {
      case 'authList':
        return ok(procedures.authList.result, { types: [...(this.#server.options.authTypes ?? [0])] })
      case 'authPolkit':
        return ok(procedures.authPolkit.result, { complete: 1 })
      case 'connectSupportsFeature':
        return ok(procedures.connectSupportsFeature.result, { supported: 1 })
      case 'connectOpen':
        this.#open(packet)
        return ok(procedures.connectOpen.result, undefined)
      case 'connectDomainEventCallbackRegisterAny':
        return ok(procedures[name].result, { callbackID: this.#register(packet) })
      case 'connectDomainEventCallbackDeregisterAny':
        this.#callbackID = undefined
        return ok(procedures[name].result, undefined)
      case 'connectClose':
      case 'connectRegisterCloseCallback':
        return ok(procedures[name].result, undefined)
      default:
        return undefined
    }
  }

  #open(packet: Packet): void {
    const { flags } = procedures.connectOpen.args.decode(new Reader(packet.payload))
    if (flags & OPEN_READ_ONLY) this.#readOnly = true
  }

  #register(packet: Packet): number {
    const args = procedures.connectDomainEventCallbackRegisterAny.args.decode(new Reader(packet.payload))
    if (args.eventID === eventId.lifecycle) this.#callbackID = 0
    return 0
  }
}
