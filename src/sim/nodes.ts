/** The nodes as one simulated process reaches them, behind the same seam as real ones. */
import type { FenceAction, FenceDevice } from '../core/fence.ts'
import type { End } from '../core/migration.ts'
import type { NodeRecord, SilentNode, UpNode } from '../core/node.ts'
import type { TypedParams } from '../libvirt/index.ts'
import type { GuardTicket } from '../nodes/guard.ts'
import type { Introduction, Look, Nodes, Order, Reached } from '../nodes/nodes.ts'
import type { Exit } from '../nodes/process.ts'
import type { Inquiry } from '../nodes/session.ts'
import { Channel, type Errand, errandOf } from './channel.ts'
import { simConfig } from './home.ts'
import type { Machine } from './machine.ts'
import type { SimProcess } from './process.ts'
import type { Host } from './scheduler.ts'
import { SimSession } from './session.ts'
import type { World } from './world.ts'

const RAISE_TIMEOUT_MS = 45_000

/** All nodes, for one process. */
export class SimNodes implements Nodes {
  readonly #world: World
  readonly #process: SimProcess
  readonly #sessions = new Map<string, SimSession>()

  constructor(world: World, process: SimProcess) {
    this.#world = world
    this.#process = process
  }

  approach(): void {}

  look(records: readonly NodeRecord[], inquiries?: ReadonlyMap<string, Inquiry>): Promise<Look> {
    const sessions = records.map(record => this.#session(record))
    const marks = sessions.map(session => session.mark)
    const answers: (UpNode | SilentNode | undefined)[] = records.map(() => undefined)
    const movedSince: Look['movedSince'] = domain =>
      sessions.some((session, at) => session.movedSince(marks[at] ?? -1, domain))
    const look = (): Look => ({
      seen: new Map(records.map(({ name }, at) => [name, answers[at] as UpNode | SilentNode])),
      movedSince,
    })
    if (records.length === 0) return Promise.resolve(look())
    return new Promise(resolve => {
      let left = records.length
      for (const [at, session] of sessions.entries()) {
        session.look(inquiries?.get(records[at]?.name ?? ''), seen => {
          answers[at] = seen
          if (--left === 0) this.#process.resume(resolve, look())
        })
      }
    })
  }

  domainState(record: NodeRecord, uuid: string): Promise<End | undefined> {
    return this.#promise(settle => this.#session(record).domainState(uuid, settle))
  }

  jobStats(
    record: NodeRecord,
    { uuid }: { name: string; uuid: string },
  ): Promise<{ type: number; params: TypedParams } | undefined | 'silent'> {
    return this.#promise(settle => this.#session(record).jobStats(uuid, settle))
  }

  act(record: NodeRecord, ticket: GuardTicket, order: Order, mode: 'lock' | 'nolock' = 'lock'): Promise<Exit> {
    return this.#run(record, errandOf(order, { ...ticket, mode, durable: false }))
  }

  ask(record: NodeRecord, order: Order): Promise<Exit> {
    return this.#run(record, errandOf(order))
  }

  raise(record: NodeRecord, ticket: GuardTicket): Promise<Exit> {
    const pass = { ...ticket, mode: 'lock' as const, durable: true }
    return this.#run(record, { pass, argv: ['true'], stdin: '', timeoutMs: RAISE_TIMEOUT_MS })
  }

  async reaches(from: NodeRecord | 'this machine', to: NodeRecord): Promise<Reached> {
    if (from === 'this machine') return this.#pinged(this.#process.host, to)
    const asked = await this.ask(from, { command: { node: from.name, argv: ['true'] }, timeoutMs: 10_000 })
    if (asked.status !== 0) return { verdict: 'unknown', said: asked.stderr }
    return this.#pinged(this.#reached(from), to)
  }

  #pinged(from: Host, to: NodeRecord): Reached {
    const machine = this.#reached(to)
    const answers = machine.works && this.#world.network.both(from, machine)
    return answers ? { verdict: 'answers', said: 'answered ping' } : { verdict: 'silent', said: 'no route to host' }
  }

  fence(device: FenceDevice, action: FenceAction): Promise<Exit> {
    return this.#promise(settle => this.#fence(device, action, settle))
  }

  async introduce(name: string, cluster?: string): Promise<Introduction> {
    const machine = this.#world.machineOf(name)
    const exit = await this.#promise<Exit>(settle => {
      const reached = machine ?? this.#world.machines[0]
      if (reached !== undefined) new Channel(this.#world, this.#process, reached, IDENTIFY, settle)
    })
    if (exit.status !== 0 || machine === undefined) throw new Error(exit.stderr)
    void cluster
    const { name: _, id: __, updated: ___, ...record } = this.#world.recordOf(machine)
    return { identity: { hostname: machine.name, node: machine.nodeId, cluster: 'c1' }, record }
  }

  async forget(): Promise<void> {}

  close(): void {}

  #fence(device: FenceDevice, action: FenceAction, settle: (exit: Exit) => void): void {
    const machine = this.#world.machines.find(({ name }) => name === device.node)
    const { scheduler } = this.#world
    scheduler.after(this.#process.random.between(300, 3000), undefined, () => {
      const sulks = action === 'off' && machine?.fenceSulks === true && !machine.powered
      const works = machine !== undefined && !machine.fenceBroken && !sulks
      if (works && action === 'off') machine.powerOff()
      const status = !works ? 1 : action === 'status' && !machine.powered ? 2 : 0
      this.#world.tell(() => `${device.node}: its fence device was asked "${action}" and ends with ${status}`)
      this.#process.after(1, () => settle({ status, signal: undefined, stdout: '', stderr: '', timedOut: false }))
    })
  }

  #run(record: NodeRecord, errand: Errand): Promise<Exit> {
    this.#world.passes?.sent(this.#process.pid, record.name, errand)
    return this.#promise(settle => new Channel(this.#world, this.#process, this.#reached(record), errand, settle))
  }

  #reached(record: NodeRecord): Machine {
    return this.#world.reached(this.#process.host, record)
  }

  #promise<T>(begin: (settle: (value: T) => void) => void): Promise<T> {
    return new Promise(resolve => begin(value => this.#process.resume(resolve, value)))
  }

  #session(record: NodeRecord): SimSession {
    const known = this.#sessions.get(record.name)
    if (known !== undefined) return known
    const session = new SimSession(this.#world, this.#process, record, simConfig.observe.timeoutMs)
    this.#sessions.set(record.name, session)
    return session
  }
}

const IDENTIFY: Errand = { argv: ['cat', '/var/lib/havirt/id'], stdin: '', timeoutMs: 15_000 }
