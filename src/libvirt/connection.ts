/**
 * One connection to one libvirt daemon: calls with deadlines, events, keepalive in both directions.
 *
 * The daemon works on at most five requests of a client (`max_client_requests`) and then stops reading from it, keepalive
 * included, so at most four are sent at a time and the rest wait here.
 */
import type { Duplex } from 'node:stream'
import { ConnectionError, LibvirtError, ProtocolError, type WireDomain } from './error.ts'
import {
  encodePacket,
  keepaliveProcedure,
  messageStatus,
  messageType,
  type Packet,
  PacketAssembler,
  program,
} from './packet.ts'
import { eventId, events, type Procedure, procedures, remoteError } from './procedures.ts'
import type { Access, Dialer } from './transport.ts'
import { type Codec, Reader, Writer } from './xdr.ts'

/** Requests under way at once; one below the daemon's own limit, so that a keepalive is always read. */
const MAX_IN_FLIGHT = 4
const REMOTE_VERSION = 1
const KEEPALIVE_VERSION = 1
/** VIR_DRV_FEATURE_PROGRAM_KEEPALIVE: the daemon may ping us, and expects an answer. */
const FEATURE_KEEPALIVE = 10
const OPEN_READ_ONLY = 1
const AUTH_NONE = 0
const AUTH_POLKIT = 2

export interface ConnectOptions {
  /** The driver's URI without transport and host, `qemu:///system`. */
  readonly uri: string
  readonly access: Access
  /** For the opening and, unless a call says otherwise, for each call. */
  readonly timeoutMs: number
  /** Our own pings after this much silence; 0 sends none (pings of the daemon are always answered). */
  readonly keepaliveIntervalMs?: number
  /** Unanswered pings until the connection is given up. */
  readonly keepaliveCount?: number
}

/** A lifecycle event (virDomainEventType and its detail) as libvirt numbers it. */
export interface LifecycleEvent {
  readonly domain: WireDomain
  readonly event: number
  readonly detail: number
}

interface Pending {
  readonly serial: number
  readonly procedure: Procedure<never, unknown>
  readonly bytes: Buffer
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** Dials, authenticates and opens. Rejects with ConnectionError, LibvirtError or ProtocolError; nothing stays open then. */
export async function openConnection(dial: Dialer, options: ConnectOptions): Promise<Connection> {
  const deadline = performance.now() + options.timeoutMs
  const stream = await dial(AbortSignal.timeout(options.timeoutMs))
  const connection = new Connection(stream, options)
  try {
    await handshake(connection, options, deadline)
    return connection
  } catch (error) {
    connection.destroy()
    throw error
  }
}

/** All its calls together have until `deadline`: a slow daemon does not get the whole time for each. */
async function handshake(connection: Connection, options: ConnectOptions, deadline: number): Promise<void> {
  const call = <A, R>(procedure: Procedure<A, R>, args: A): Promise<R> =>
    connection.call(procedure, args, Math.max(1, Math.ceil(deadline - performance.now())))
  // Always asked: root over a unix socket under polkit is let through by this very call.
  const { types } = await call(procedures.authList, undefined)
  if (types.includes(AUTH_POLKIT)) await call(procedures.authPolkit, undefined)
  else if (!types.includes(AUTH_NONE)) {
    throw new ConnectionError(
      'refused',
      `the daemon asks for an authentication (type ${types.join(', ')}) that havirt does not have`,
    )
  }
  await call(procedures.connectSupportsFeature, { feature: FEATURE_KEEPALIVE })
  const flags = options.access === 'readOnly' ? OPEN_READ_ONLY : 0
  await call(procedures.connectOpen, { name: options.uri, flags })
}

/** An open connection. All its errors are ConnectionError, LibvirtError or ProtocolError. */
export class Connection {
  readonly #stream: Duplex
  readonly #timeoutMs: number
  readonly #assembler = new PacketAssembler()
  readonly #waiting: Pending[] = []
  readonly #inFlight = new Map<number, Pending>()
  /** Serials whose caller gave up. Their answers may still come, and the daemon still counts them as requests. */
  readonly #abandoned = new Set<number>()
  readonly #lifecycleListeners = new Set<(event: LifecycleEvent) => void>()
  #registration: Promise<unknown> | undefined
  readonly #keepaliveCount: number
  #keepaliveTimer: NodeJS.Timeout | undefined
  #unansweredPings = 0
  #lastSerial = 0
  #gathering = false
  #failure: Error | undefined
  #finish: (error: Error) => void = () => undefined
  /** Resolves, never rejects, with the reason once the connection is over. */
  readonly closed: Promise<Error>

  /** Takes over the stream. Use {@link openConnection}; this is public for tests and for daemons that need no opening. */
  constructor(stream: Duplex, options: Pick<ConnectOptions, 'timeoutMs' | 'keepaliveIntervalMs' | 'keepaliveCount'>) {
    this.#stream = stream
    this.#timeoutMs = options.timeoutMs
    this.#keepaliveCount = options.keepaliveCount ?? 2
    this.closed = new Promise(resolve => {
      this.#finish = resolve
    })
    stream.on('data', (chunk: Buffer) => this.#receive(chunk))
    stream.on('error', error =>
      this.#fail(new ConnectionError('closed', `the connection failed: ${error.message}`, { cause: error })),
    )
    stream.on('close', () => this.#fail(this.#unexpectedEnd()))
    stream.on('end', () => this.#fail(this.#unexpectedEnd()))
    this.#startKeepalive(options.keepaliveIntervalMs ?? 0)
    // A stream that is over already says so no more.
    if (stream.destroyed || stream.readableEnded) this.#fail(this.#unexpectedEnd())
  }

  /**
   * Calls a procedure. Rejects with LibvirtError when libvirt says no, and with ConnectionError (`timeout`, `closed`) or
   * ProtocolError when the outcome is unknown. The deadline runs from now, waiting for a free slot included.
   */
  call<A, R>(procedure: Procedure<A, R>, args: A, timeoutMs = this.#timeoutMs): Promise<R> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise<R>((resolve, reject) => {
      const serial = ++this.#lastSerial
      const bytes = encodeCall(procedure, serial, args)
      const timer = setTimeout(() => this.#abandon(serial, procedure.name, timeoutMs), timeoutMs)
      const pending: Pending = {
        serial,
        procedure: procedure as unknown as Procedure<never, unknown>,
        bytes,
        resolve: resolve as (value: unknown) => void,
        reject,
        timer,
      }
      this.#waiting.push(pending)
      this.#sendNext()
    })
  }

  /** Hears lifecycle events of all domains from now on. The listener is called in the order in which libvirt sent them. */
  async onLifecycle(listener: (event: LifecycleEvent) => void): Promise<void> {
    this.#lifecycleListeners.add(listener)
    const args = { eventID: eventId.lifecycle, domain: undefined }
    this.#registration ??= this.call(procedures.connectDomainEventCallbackRegisterAny, args)
    try {
      await this.#registration
    } catch (error) {
      // Forgotten, so that the next listener asks again instead of hearing nothing.
      this.#registration = undefined
      this.#lifecycleListeners.delete(listener)
      throw error
    }
  }

  /** Says goodbye and ends. Never rejects; a daemon that does not answer is left behind after a moment. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return
    await this.call(procedures.connectClose, undefined, Math.min(this.#timeoutMs, 200)).catch(() => undefined)
    this.destroy()
  }

  /** Ends at once. */
  destroy(): void {
    this.#fail(new ConnectionError('closed', 'the connection was closed by havirt'))
  }

  #sendNext(): void {
    while (this.#inFlight.size + this.#abandoned.size < MAX_IN_FLIGHT) {
      const pending = this.#waiting.shift()
      if (pending === undefined) return
      this.#inFlight.set(pending.serial, pending)
      this.#gather()
      this.#stream.write(pending.bytes)
    }
  }

  /** What is asked at the same moment goes in one write: through ssh, each write wakes up three processes. */
  #gather(): void {
    if (this.#gathering) return
    this.#gathering = true
    this.#stream.cork()
    process.nextTick(() => {
      this.#gathering = false
      this.#stream.uncork()
    })
  }

  #abandon(serial: number, name: string, timeoutMs: number): void {
    const error = new ConnectionError('timeout', `${name} was not answered within ${timeoutMs} ms`)
    const sent = this.#inFlight.get(serial)
    if (sent !== undefined) {
      this.#inFlight.delete(serial)
      this.#abandoned.add(serial)
      sent.reject(error)
      return
    }
    const at = this.#waiting.findIndex(pending => pending.serial === serial)
    if (at >= 0) this.#waiting.splice(at, 1)[0]?.reject(error)
  }

  #receive(chunk: Buffer): void {
    if (this.#failure !== undefined) return
    this.#unansweredPings = 0
    try {
      for (const packet of this.#assembler.push(chunk)) {
        this.#dispatch(packet)
        if (this.#failure !== undefined) return
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new ProtocolError(String(error)))
    }
  }

  /** By type before serial: libvirtd sends events with a serial of its own choice, 1, that is also a call's. */
  #dispatch(packet: Packet): void {
    if (packet.program === program.keepalive) return this.#answerKeepalive(packet)
    if (packet.program !== program.remote || packet.version !== REMOTE_VERSION) {
      throw new ProtocolError(
        `a packet is of program ${packet.program} version ${packet.version}, which is not libvirt's`,
      )
    }
    if (packet.type === messageType.message) return this.#hear(packet)
    if (packet.type === messageType.reply) return this.#settle(packet)
    throw new ProtocolError(`a packet has type ${packet.type}, expected an answer or an event`)
  }

  #settle(packet: Packet): void {
    if (this.#abandoned.delete(packet.serial)) return this.#sendNext()
    const pending = this.#inFlight.get(packet.serial)
    if (pending === undefined) throw new ProtocolError(`an answer has serial ${packet.serial}, which nobody waits for`)
    const { procedure } = pending
    if (packet.procedure !== procedure.number) {
      throw new ProtocolError(
        `the answer to ${procedure.name} is of procedure ${packet.procedure}, expected ${procedure.number}`,
      )
    }
    // Decoded while the call is still listed: if the bytes are wrong, it is rejected with all the others.
    const settle = packet.status === messageStatus.ok ? this.#accept(pending, packet) : this.#refuse(pending, packet)
    this.#inFlight.delete(packet.serial)
    clearTimeout(pending.timer)
    settle()
    this.#sendNext()
  }

  #accept(pending: Pending, packet: Packet): () => void {
    const value = decodeWhole(pending.procedure.result, packet.payload, pending.procedure.name)
    return () => pending.resolve(value)
  }

  #refuse(pending: Pending, packet: Packet): () => void {
    if (packet.status !== messageStatus.error)
      throw new ProtocolError(`an answer has status ${packet.status}, expected 0 or 1`)
    const fields = decodeWhole(remoteError, packet.payload, 'an error')
    return () => pending.reject(new LibvirtError(pending.procedure.name, fields))
  }

  /** Unknown events are none of ours; a known one with wrong bytes ends the connection, since a lost event is a lie. */
  #hear(packet: Packet): void {
    if (packet.procedure !== events.lifecycle.number) return
    const { domain, event, detail } = decodeWhole(events.lifecycle.args, packet.payload, 'a lifecycle event')
    for (const listener of this.#lifecycleListeners) listener({ domain, event, detail })
  }

  #answerKeepalive(packet: Packet): void {
    if (packet.procedure === keepaliveProcedure.ping) this.#sendKeepalive(keepaliveProcedure.pong)
  }

  #sendKeepalive(procedure: number): void {
    const bytes = encodePacket({
      program: program.keepalive,
      version: KEEPALIVE_VERSION,
      procedure,
      type: messageType.message,
      serial: 0,
      status: messageStatus.ok,
      payload: Buffer.alloc(0),
    })
    this.#stream.write(bytes)
  }

  #startKeepalive(intervalMs: number): void {
    if (intervalMs <= 0) return
    this.#keepaliveTimer = setInterval(() => {
      if (this.#unansweredPings >= this.#keepaliveCount) {
        const silenceMs = intervalMs * (this.#keepaliveCount + 1)
        return this.#fail(new ConnectionError('timeout', `the daemon has been silent for ${silenceMs} ms`))
      }
      this.#unansweredPings++
      this.#sendKeepalive(keepaliveProcedure.ping)
    }, intervalMs)
    this.#keepaliveTimer.unref()
  }

  #unexpectedEnd(): Error {
    const where = this.#assembler.empty ? '' : ' in the middle of a packet'
    return new ConnectionError('closed', `the daemon ended the connection${where}`)
  }

  /** The one end of everything: every caller hears the same reason, once. */
  #fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    clearInterval(this.#keepaliveTimer)
    this.#stream.destroy()
    for (const pending of [...this.#inFlight.values(), ...this.#waiting]) {
      clearTimeout(pending.timer)
      pending.reject(error)
    }
    this.#inFlight.clear()
    this.#waiting.length = 0
    this.#finish(error)
  }
}

function encodeCall<A>(procedure: Procedure<A, unknown>, serial: number, args: A): Buffer {
  const writer = new Writer()
  procedure.args.encode(writer, args)
  return encodePacket({
    program: program.remote,
    version: REMOTE_VERSION,
    procedure: procedure.number,
    type: messageType.call,
    serial,
    status: messageStatus.ok,
    payload: writer.finish(),
  })
}

/** Decodes a payload to its last byte: left-over bytes mean that we and the daemon do not agree on the layout. */
function decodeWhole<T>(codec: Codec<T>, payload: Buffer, what: string): T {
  const reader = new Reader(payload)
  const value = codec.decode(reader)
  if (reader.remaining > 0) throw new ProtocolError(`${what} has ${reader.remaining} bytes too many`)
  return value
}
