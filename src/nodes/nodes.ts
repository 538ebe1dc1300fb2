/** The nodes as the pipeline sees them: one seam, behind which are real machines or the simulator's. */
import { randomUUID } from 'node:crypto'
import { type Command, remoteLine } from '../core/command.ts'
import type { FenceAction, FenceDevice } from '../core/fence.ts'
import type { End } from '../core/migration.ts'
import type { NodeRecord, SilentNode, UpNode } from '../core/node.ts'
import { openConnection, procedures, type TypedParams } from '../libvirt/index.ts'
import { runFenceAgent } from './fence.ts'
import { type GuardTicket, guarded, raising } from './guard.ts'
import { identityLine, type NodeIdentity, parseIdentity } from './probe.ts'
import type { Exit } from './process.ts'
import { localReach, type Reach, sshReach } from './reach.ts'
import { parseReach, REACH_TIMEOUT_MS, type Reached, reachLine } from './reaches.ts'
import { type Inquiry, Session } from './session.ts'
import type { Ssh } from './ssh.ts'

export type { Reached } from './reaches.ts'

/** What one look saw, and whether anything moved since it began. */
export interface Look {
  readonly seen: ReadonlyMap<string, UpNode | SilentNode>
  /** True when a lifecycle event of this domain was heard on any node since the look began (rule 5). */
  movedSince(domain: { name: string; uuid?: string }): boolean
}

/** How a command is to be run on its node. */
export interface Order {
  readonly command: Command
  readonly stdin?: string
  readonly timeoutMs: number
  readonly abort?: AbortSignal
}

/** A machine that may become a node, or a node asked anew: see `node update`. */
export interface Introduction {
  readonly identity: NodeIdentity
  readonly record: Omit<NodeRecord, 'name' | 'id' | 'updated'>
}

/** Everything that havirt does to nodes. Real ones here, simulated ones in sim/. */
export interface Nodes {
  /** Begins to connect to them, for a look that comes soon and tells what became of it. */
  approach(records: readonly NodeRecord[]): void
  /** Asks all of them at once. Never rejects: a node that does not answer is a value. */
  look(records: readonly NodeRecord[], inquiries?: ReadonlyMap<string, Inquiry>): Promise<Look>
  /** One domain's state on one node; `absent` when it is not active there, undefined when the node did not answer. */
  domainState(record: NodeRecord, uuid: string): Promise<End | undefined>
  /** The domain's migration job on its source node; undefined when there is none, `silent` when the node did not answer. */
  jobStats(
    record: NodeRecord,
    domain: { name: string; uuid: string },
  ): Promise<{ type: number; params: TypedParams } | undefined | 'silent'>
  /** Runs a changing command behind the guard; `nolock` for one that ends a command which holds the lock. */
  act(record: NodeRecord, ticket: GuardTicket, order: Order, mode?: 'lock' | 'nolock'): Promise<Exit>
  /** Runs a command that is about no domain, and so behind no guard: one that only reads, or one that sets the node itself up. */
  ask(record: NodeRecord, order: Order): Promise<Exit>
  /** Raises the guard's generation on the node, waiting for a command that still runs there. */
  raise(record: NodeRecord, ticket: GuardTicket): Promise<Exit>
  /**
   * Whether `to` answers anything at all on the network when another node tries it, or this machine: the test before somebody is
   * called down. Never rejects.
   */
  reaches(from: NodeRecord | 'this machine', to: NodeRecord): Promise<Reached>
  /**
   * Runs a fence agent on this machine. Never rejects. `status` ends with 0 when the node has power and with 2 when it has none (fence
   * agents' own convention); no status: the agent could not be asked, and stderr says why.
   */
  fence(device: FenceDevice, action: FenceAction): Promise<Exit>
  /** Learns who a node is and, with `cluster`, makes it one of that cluster's if it is nobody's. Rejects with ssh's or libvirt's message. */
  introduce(name: string, cluster?: string): Promise<Introduction>
  /** Ends the node's master connection. */
  forget(name: string): Promise<void>
  close(): void
}

/** The local node's name among the records, by the id file of this machine. */
export interface Here {
  readonly id?: string
  readonly hostname: string
}

/** How nodes are asked. */
export interface NodeSettings {
  /** The libvirt URI on each node. */
  readonly uri: string
  readonly timeoutMs: number
  /** So many nodes at a time. */
  readonly concurrency: number
}

const INTRODUCTION_TIMEOUT_MS = 15_000
const RAISE_TIMEOUT_MS = 45_000

/** Real nodes, by ssh and libvirt. */
export class RealNodes implements Nodes {
  readonly #ssh: Ssh
  readonly #here: Here
  readonly #uri: string
  readonly #timeoutMs: number
  readonly #concurrency: number
  readonly #sessions = new Map<string, Session>()

  constructor(ssh: Ssh, here: Here, settings: NodeSettings) {
    this.#ssh = ssh
    this.#here = here
    this.#uri = settings.uri
    this.#timeoutMs = settings.timeoutMs
    this.#concurrency = settings.concurrency
  }

  approach(records: readonly NodeRecord[]): void {
    for (const record of records.slice(0, this.#concurrency)) this.#session(record).approach()
  }

  async look(records: readonly NodeRecord[], inquiries: ReadonlyMap<string, Inquiry> = new Map()): Promise<Look> {
    // The machine itself answers soonest, and to start a process for it holds up the others.
    const ordered = [...records].sort((a, b) => Number(this.#isHere(a)) - Number(this.#isHere(b)))
    const sessions = ordered.map(record => this.#session(record))
    const marks = sessions.map(session => session.events.length)
    const seen = await eachWithin(this.#concurrency, ordered, async (record, at) => {
      const answer = await sessions[at]?.look(inquiries.get(record.name))
      return [record.name, answer as UpNode | SilentNode] as const
    })
    const movedSince = ({ name, uuid }: { name: string; uuid?: string }) =>
      sessions.some((session, at) =>
        session.events.slice(marks[at]).some(({ domain }) => domain.name === name || domain.uuid === uuid),
      )
    return { seen: new Map(seen), movedSince }
  }

  domainState(record: NodeRecord, uuid: string): Promise<End | undefined> {
    return this.#session(record).domainState(uuid)
  }

  jobStats(
    record: NodeRecord,
    { name, uuid }: { name: string; uuid: string },
  ): Promise<{ type: number; params: TypedParams } | undefined | 'silent'> {
    return this.#session(record).jobStats(uuid, name)
  }

  act(
    record: NodeRecord,
    ticket: GuardTicket,
    { command, ...options }: Order,
    mode: 'lock' | 'nolock' = 'lock',
  ): Promise<Exit> {
    return this.#run(record, guarded(ticket, remoteLine(command), mode), options)
  }

  ask(record: NodeRecord, { command, ...options }: Order): Promise<Exit> {
    return this.#run(record, remoteLine(command), options)
  }

  raise(record: NodeRecord, ticket: GuardTicket): Promise<Exit> {
    return this.#run(record, raising(ticket), { timeoutMs: RAISE_TIMEOUT_MS })
  }

  async reaches(from: NodeRecord | 'this machine', to: NodeRecord): Promise<Reached> {
    const options = { timeoutMs: REACH_TIMEOUT_MS }
    const exit =
      from === 'this machine'
        ? await localReach(this.#uri).run(reachLine(to.name), options)
        : await this.#run(from, reachLine(to.name), options)
    const reached = parseReach(exit.stdout)
    if (reached !== undefined) return reached
    const why = exit.timedOut ? 'it did not answer in time' : lastLine(exit.stderr)
    return { verdict: 'unknown', said: why ?? 'it gave no whole answer' }
  }

  fence(device: FenceDevice, action: FenceAction): Promise<Exit> {
    return runFenceAgent(device, action)
  }

  async introduce(name: string, cluster?: string): Promise<Introduction> {
    const reach = this.#reach(name, name === this.#here.hostname)
    const exit = await reach.run(identityLine(cluster === undefined ? undefined : { node: randomUUID(), cluster }), {
      timeoutMs: INTRODUCTION_TIMEOUT_MS,
    })
    const identity = parseIdentity(exit.stdout)
    if (identity === undefined) throw new Error(lastLine(exit.stderr) ?? 'it gave no whole answer')
    const facts = await this.#facts(reach, name)
    const sshHostKey = name === this.#here.hostname ? undefined : await this.#ssh.hostKey(name)
    return {
      identity,
      record: { ...facts, hostname: identity.hostname, ...(sshHostKey === undefined ? {} : { sshHostKey }) },
    }
  }

  async forget(name: string): Promise<void> {
    await this.#ssh.forget(name)
  }

  close(): void {
    for (const session of this.#sessions.values()) session.close()
  }

  async #facts(
    reach: Reach,
    name: string,
  ): Promise<Omit<NodeRecord, 'name' | 'id' | 'updated' | 'hostname' | 'sshHostKey'>> {
    const session = new Session(reach, { name, hostUuid: '' }, INTRODUCTION_TIMEOUT_MS)
    const seen = await session.look().finally(() => session.close())
    if (seen.state !== 'up') throw new Error(seen.reason)
    const details = await hardware(reach)
    return { ...details, hostUuid: seen.hostUuid, cpuModel: seen.cpuModel, cpus: seen.cpus, memoryMiB: seen.memoryMiB }
  }

  async #run(
    record: NodeRecord,
    line: string,
    options: { stdin?: string; timeoutMs: number; abort?: AbortSignal },
  ): Promise<Exit> {
    try {
      return await this.#reach(record.name, this.#isHere(record)).run(line, options)
    } catch (error) {
      // No master: the line was never sent.
      return {
        status: 255,
        signal: undefined,
        stdout: '',
        stderr: error instanceof Error ? error.message : String(error),
        timedOut: false,
      }
    }
  }

  #isHere(record: NodeRecord): boolean {
    return record.id === this.#here.id
  }

  #reach(name: string, local: boolean): Reach {
    return local ? localReach(this.#uri) : sshReach(this.#ssh, name, this.#uri)
  }

  #session(record: NodeRecord): Session {
    const known = this.#sessions.get(record.name)
    if (known !== undefined) return known
    const session = new Session(this.#reach(record.name, this.#isHere(record)), record, this.#timeoutMs)
    this.#sessions.set(record.name, session)
    return session
  }
}

/** What `node list` shows beyond what a look needs. */
async function hardware(reach: Reach) {
  for (const dial of reach.dialers('readOnly')) {
    const connection = await openConnection(dial, {
      uri: reach.uri,
      access: 'readOnly',
      timeoutMs: INTRODUCTION_TIMEOUT_MS,
    }).catch(() => undefined)
    if (connection === undefined) continue
    const [info, libvirt, hypervisor] = await Promise.all([
      connection.call(procedures.nodeGetInfo, undefined),
      connection.call(procedures.connectGetLibVersion, undefined),
      connection.call(procedures.connectGetVersion, undefined),
    ])
    await connection.close()
    return {
      sockets: info.sockets,
      coresPerSocket: info.cores,
      threadsPerCore: info.threads,
      mhz: info.mhz,
      libvirtVersion: dotted(libvirt.version),
      hypervisorVersion: dotted(hypervisor.version),
    }
  }
  throw new Error('libvirt did not answer')
}

/** libvirt's version numbers: major * 1,000,000 + minor * 1,000 + release. */
function dotted(version: number): string {
  return [Math.floor(version / 1e6), Math.floor(version / 1000) % 1000, version % 1000].join('.')
}

function lastLine(text: string): string | undefined {
  return text.trim().split('\n').at(-1) || undefined
}

/** How long an item keeps others waiting: a silent node must not hold up those behind it for its whole deadline. */
const TURN_MS = 500

/** Works on all items and keeps their order. At most `limit` are begun at a time, not counting those that take long. */
async function eachWithin<T, R>(
  limit: number,
  items: readonly T[],
  work: (item: T, at: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<Promise<R>>(items.length)
  let next = 0
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) {
      const result = work(items[at] as T, at)
      results[at] = result
      await turn(result)
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  return Promise.all(results)
}

async function turn(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise(resolve => {
    timer = setTimeout(resolve, TURN_MS)
  })
  await Promise.race([work, over]).finally(() => clearTimeout(timer))
}
