/** One node as one process sees it through libvirt's connection: what it answers, and when (src/nodes/session.ts). */
import type { End } from '../core/migration.ts'
import {
  type DomainOnNode,
  isPresent,
  type NodeRecord,
  type PathFacts,
  type SilentNode,
  type UpNode,
} from '../core/node.ts'
import type { TypedParams } from '../libvirt/index.ts'
import type { Inquiry } from '../nodes/session.ts'
import type { LifecycleEvent, Machine } from './machine.ts'
import type { SimProcess } from './process.ts'
import type { Host, Life } from './scheduler.ts'
import type { World } from './world.ts'

const IMPATIENT_MS = 1000
/** virDomainJobType UNBOUNDED. */
const UNDER_WAY = 2

/** What came back: an answer, or how the question ended without one. */
type Answer<T> = { readonly is: T } | 'silent' | 'refused' | 'disconnected'

/** One node during one command. */
export class SimSession {
  readonly #world: World
  readonly #process: SimProcess
  readonly #record: NodeRecord
  readonly #timeoutMs: number
  #machine: Machine | undefined
  /** The run of libvirtd that the connection leads to; undefined when there is none. */
  #daemon: Life | undefined
  /** Events of the machine before this one were not heard; none while there never was a connection. */
  #openedAt = Number.POSITIVE_INFINITY
  /** Answers come in order with events: those before this one were heard. */
  #heardTo = 0
  #keptWaiting = false

  constructor(world: World, process: SimProcess, record: NodeRecord, timeoutMs: number) {
    this.#world = world
    this.#process = process
    this.#record = record
    this.#timeoutMs = timeoutMs
  }

  /** How many events were heard so far: what came after this mark is an answer. */
  get mark(): number {
    return this.#daemon === undefined ? -1 : this.#heard()
  }

  /** True when an event of the domain was heard after the mark. */
  movedSince(mark: number, { name, uuid }: { name: string; uuid?: string }): boolean {
    const from = mark < 0 ? this.#openedAt : mark
    const events = this.#machine?.events ?? []
    return events.slice(from, this.#heard()).some((event: LifecycleEvent) => event.name === name || event.uuid === uuid)
  }

  #heard(): number {
    const events = this.#machine?.events ?? []
    let heard = Math.max(this.#heardTo, this.#openedAt)
    const before = this.#world.scheduler.nowMs - 2
    while (heard < events.length && (events[heard] as LifecycleEvent).atMs < before) heard++
    return heard
  }

  /** Asks for everything. */
  look(inquiry: Inquiry | undefined, settle: (seen: UpNode | SilentNode) => void): void {
    const timeoutMs = this.#keptWaiting ? Math.min(IMPATIENT_MS, this.#timeoutMs) : this.#timeoutMs
    this.#request(
      timeoutMs,
      machine => ({ seen: snapshot(machine, inquiry, this.#world), events: machine.events.length }),
      (answer, machine) => settle(this.#seen(answer, machine)),
    )
  }

  #seen(answer: Answer<{ seen: UpNode; events: number }>, machine: Machine): UpNode | SilentNode {
    if (typeof answer === 'object') {
      if (answer.is.seen.hostUuid !== this.#record.hostUuid) return this.#stranger(answer.is.seen.hostUuid)
      this.#heardTo = Math.max(this.#heardTo, answer.is.events)
      this.#world.passes?.heard(this.#process.pid, machine)
      return answer.is.seen
    }
    this.#close()
    if (answer === 'silent') this.#keptWaiting = true
    const busy = answer === 'disconnected' || (answer === 'silent' && machine.libvirtd === 'hung')
    return silent(busy ? 'busy' : 'unreachable', this.#record.name, WORDS[answer])
  }

  #stranger(found: string): SilentNode {
    this.#close()
    const { name } = this.#record
    const hint = `check where the alias ${name} leads; if the machine was replaced: havirt node remove ${name}, then havirt node update ${name}`
    return { state: 'unreachable', reason: `another machine answered: host uuid ${found}`, hint }
  }

  /** One domain's state. */
  domainState(uuid: string, settle: (end: End | undefined) => void): void {
    this.#request<End>(
      this.#timeout(),
      machine => endOf(machine, uuid),
      (answer, { hostUuid }) => {
        if (typeof answer === 'object' && hostUuid === this.#record.hostUuid) return settle(answer.is)
        this.#close()
        settle(undefined)
      },
    )
  }

  /** One domain's job. */
  jobStats(uuid: string, settle: (stats: { type: number; params: TypedParams } | undefined | 'silent') => void): void {
    const job = (machine: Machine) => (machine.jobs.has(uuid) ? { type: UNDER_WAY, params: {} } : undefined)
    this.#request(this.#timeout(), job, (answer, { hostUuid }) =>
      settle(typeof answer === 'object' && hostUuid === this.#record.hostUuid ? answer.is : 'silent'),
    )
  }

  #timeout(): number {
    return this.#keptWaiting ? Math.min(IMPATIENT_MS, this.#timeoutMs) : this.#timeoutMs
  }

  #close(): void {
    this.#daemon = undefined
  }

  /** Request on its way, answered at one moment there, answer on its way back. Lost anywhere, it ends at the deadline. */
  #request<T>(
    timeoutMs: number,
    serve: (machine: Machine) => T,
    settle: (answer: Answer<T>, machine: Machine) => void,
  ): void {
    const { scheduler, network } = this.#world
    const { host, random } = this.#process
    const deadlineMs = scheduler.nowMs + timeoutMs
    const machine = this.#reached()
    let isOver = false
    const finish = (answer: Answer<T>) => {
      if (!isOver) settle(answer, machine)
      isOver = true
    }
    const lose = () => void this.#process.after(deadlineMs - scheduler.nowMs, () => finish('silent'))
    // TCP sends again until the cable is whole; what comes too late is not heard.
    const lateOver = (from: Host, to: Host, go: () => void) => {
      lose()
      network.keep(from, to, () => isOver || scheduler.nowMs > deadlineMs || go())
    }
    const reply = (answer: Answer<T>) => {
      scheduler.after(network.latencyMs(machine, host, random), undefined, () => {
        if (!network.open(machine, host)) lateOver(machine, host, () => reply(answer))
        else if (scheduler.nowMs > deadlineMs) lose()
        else if (host.frozen) this.#process.after(0, () => finish(answer))
        else if (!this.#process.ended) finish(answer)
      })
    }
    const arrive = () => {
      if (!machine.works) return lose()
      if (!network.open(host, machine)) return lateOver(host, machine, arrive)
      if (machine.libvirtd === 'hung') {
        this.#opened(machine)
        return lose()
      }
      if (this.#daemon !== undefined && this.#daemon !== machine.daemon) return reply('disconnected')
      if (machine.libvirtd === 'down') return reply('refused')
      this.#opened(machine)
      reply({ is: serve(machine) })
    }
    scheduler.after(network.latencyMs(host, machine, random) + random.between(1, 8), undefined, arrive)
  }

  /** An open connection leads where it led; a new one where the alias leads now. */
  #reached(): Machine {
    if (this.#daemon === undefined || this.#machine === undefined) {
      this.#machine = this.#world.reached(this.#process.host, this.#record)
      this.#daemon = undefined
    }
    return this.#machine
  }

  #opened(machine: Machine): void {
    if (this.#daemon !== undefined) return
    this.#daemon = machine.daemon
    this.#openedAt = machine.events.length
    this.#heardTo = machine.events.length
  }
}

function endOf(machine: Machine, uuid: string): End {
  const qemu = machine.qemu(uuid)
  return qemu === undefined ? 'absent' : { state: qemu.state, stateReason: qemu.reason }
}

/** As src/nodes/session.ts says it. */
function silent(state: SilentNode['state'], node: string, reason: string): SilentNode {
  const hint =
    state === 'busy'
      ? `libvirt on ${node} answers, but not everything: look there for a hung domain or storage, then try again`
      : `check its power, its network, ssh and libvirtd: ssh ${node} systemctl status libvirtd`
  return { state, reason, hint }
}

/** How a question ended without an answer, in words. */
const WORDS = {
  silent: 'no answer in time',
  refused: 'libvirtd takes no connections',
  disconnected: 'libvirtd ended the connection',
} as const

const NONE: readonly string[] = []
const NO_PATHS: ReadonlyMap<string, PathFacts> = new Map()
const PROCESSES = { processes: true } as const
const NOTHING_MORE = {}
const NO_DEVICES: ReadonlyMap<string, boolean> = new Map()

function snapshot(machine: Machine, inquiry: Inquiry | undefined, world: World): UpNode {
  const domains = domainsOf(machine, inquiry)
  return {
    state: 'up',
    hostUuid: machine.hostUuid,
    cpuModel: 'EPYC',
    cpus: 16,
    memoryMiB: machine.memoryMiB,
    freeMemoryMiB: machine.memoryMiB,
    domains,
    networks: NONE,
    pools: NONE,
    paths: inquiry === undefined ? NO_PATHS : world.pathFacts(pathsOf(inquiry, domains)),
    devices: NO_DEVICES,
    hostCpu: '<cpu/>',
    ...(inquiry?.processes === true ? PROCESSES : NOTHING_MORE),
  }
}

/** What was asked for, and with `held` what those hold who are present here. */
function pathsOf({ paths, held }: Inquiry, domains: readonly DomainOnNode[]): readonly string[] {
  if (held !== true) return paths
  const disks = domains.filter(isPresent).flatMap(({ definition }) => definition?.disks ?? [])
  return [...paths, ...disks.flatMap(({ source }) => ('path' in source ? [source.path] : []))]
}

function domainsOf(machine: Machine, inquiry: Inquiry | undefined): readonly DomainOnNode[] {
  const listed = machine.domains()
  if (inquiry?.processes !== true || machine.qemus.every(qemu => qemu.listed)) return listed
  return [...listed, ...machine.unlisted()]
}
