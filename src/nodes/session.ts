/**
 * One node during one command: opens libvirt's read-only connection when it is first needed, keeps it for the looks that
 * follow, and hears lifecycle events in between. A node that does not answer in time is a value, never an exception.
 */
import type { Domain } from '../core/domain.ts'
import { exclusiveDisks } from '../core/domain-xml.ts'
import type { End } from '../core/migration.ts'
import {
  type CpuQuestion,
  type CpuVerdict,
  cpuKey,
  type DomainOnNode,
  isPresent,
  type NodeRecord,
  type SilentNode,
  type UpNode,
} from '../core/node.ts'
import { placesOf } from '../core/placement.ts'
import {
  type Access,
  type Connection,
  ConnectionError,
  errorCode,
  LibvirtError,
  type LifecycleEvent,
  openConnection,
  procedures,
  type TypedParams,
} from '../libvirt/index.ts'
import { parseCapabilities } from './capabilities.ts'
import { activeOn, domainsOn, networksOn, poolsOn, SHUTOFF, stateName } from './listing.ts'
import { type ProbeAnswer, type ProbeQuestion, parseProbe, probeLine } from './probe.ts'
import { asDomain, type QemuProcess, unlistedOf } from './qemu-process.ts'
import type { Reach } from './reach.ts'
import { activeAmong, withStrays } from './strays.ts'

/** What an observation asks beyond lists and states. */
export interface Inquiry {
  readonly paths: readonly string[]
  readonly devices: readonly string[]
  /** Volumes of storage pools, `pool/volume`: their facts come under the same name with `volume:` before it. */
  readonly volumes?: readonly string[]
  /** Look for QEMU processes, too, that libvirt does not list. */
  readonly processes?: boolean
  /** Ask for the paths and volumes, too, that the domains present there write and nobody else may: the look itself finds them. */
  readonly held?: boolean
  readonly cpus?: readonly CpuQuestion[]
}

const IMPATIENT_MS = 1000
const NOTHING_ASKED = { paths: new Map(), devices: new Map() }

export class Session {
  readonly #reach: Reach
  readonly #record: Pick<NodeRecord, 'name' | 'hostUuid'>
  readonly #timeoutMs: number
  #connection: Promise<Connection> | undefined
  /** What does not change at the end of one connection, which is the recorded machine: asked once. */
  #machine: { readonly of: Connection; readonly facts: Promise<Machine> } | undefined
  /** What the last look found there. */
  #listed: readonly DomainOnNode[] | undefined
  readonly #events: LifecycleEvent[] = []
  /** It kept us waiting before: while this command runs it gets less time, and unreachable it is either way. */
  #keptWaiting = false

  /** `record.hostUuid` empty: any machine is accepted, for a node that is being added. */
  constructor(reach: Reach, record: Pick<NodeRecord, 'name' | 'hostUuid'>, timeoutMs: number) {
    this.#reach = reach
    this.#record = record
    this.#timeoutMs = timeoutMs
  }

  /** Lifecycle events heard so far: their number is a mark, and what came after a mark is an answer. */
  get events(): readonly LifecycleEvent[] {
    return this.#events
  }

  /** Everything about the node, within the deadline. Unreachable: no libvirt answered. Busy: it did, but not to the list. */
  async look(inquiry?: Inquiry): Promise<UpNode | SilentNode> {
    let opened = false
    const over = new AbortController()
    const asked = this.#inquire(inquiry, over.signal)
    try {
      return await this.#inTime(async () => {
        const connection = await this.#open()
        opened = true
        return await this.#ask(connection, inquiry, asked)
      })
    } catch (error) {
      over.abort()
      this.close()
      this.#keptWaiting ||= error instanceof ConnectionError && error.kind === 'timeout'
      return silent(opened ? 'busy' : 'unreachable', this.#record.name, error)
    }
  }

  /** The domain's current or last job (virDomainGetJobStats); undefined when libvirt knows of none, `silent` when nobody answered. */
  async jobStats(uuid: string, name: string): Promise<{ type: number; params: TypedParams } | undefined | 'silent'> {
    try {
      return await this.#inTime(async () =>
        (await this.#openToNode()).call(procedures.domainGetJobStats, { domain: { name, uuid, id: -1 }, flags: 0 }),
      )
    } catch (error) {
      if (error instanceof LibvirtError) return undefined
      this.close()
      return 'silent'
    }
  }

  /** One domain's state; `absent` when the node does not have it active, undefined when the node did not answer. */
  async domainState(uuid: string): Promise<End | undefined> {
    try {
      return await this.#inTime(async () => {
        const connection = await this.#openToNode()
        const { domain } = await connection.call(procedures.domainLookupByUUID, { uuid })
        const { state, reason } = await connection.call(procedures.domainGetState, { domain, flags: 0 })
        return state === SHUTOFF ? 'absent' : { state: stateName(state), stateReason: reason }
      })
    } catch (error) {
      if (error instanceof LibvirtError && error.code === errorCode.noDomain) return 'absent'
      if (!(error instanceof LibvirtError)) this.close()
      return undefined
    }
  }

  /** Begins to open the connection, for a look that comes soon. What becomes of it, that look tells. */
  approach(): void {
    const opening = this.#open()
    const drop = () => {
      if (this.#listed === undefined && this.#connection === opening) this.#connection = undefined
    }
    // A look dials again then, but none after the first: what happened in between would not be heard (rule 5).
    opening.then(({ closed }) => closed).then(drop, drop)
  }

  close(): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.then(
      open => open.destroy(),
      () => undefined,
    )
  }

  /** Rule 7: an alias may lead to another machine by the time that it is dialled again, and that one's word is worth nothing. */
  async #openToNode(): Promise<Connection> {
    const connection = await this.#open()
    await this.#machineAt(connection)
    return connection
  }

  #open(): Promise<Connection> {
    this.#connection ??= this.#connect()
    return this.#connection
  }

  async #connect(): Promise<Connection> {
    const connection = await this.#dial('readOnly')
    await connection.onLifecycle(event => this.#events.push(event))
    return connection
  }

  #machineAt(connection: Connection): Promise<Machine> {
    if (this.#machine?.of !== connection) this.#machine = { of: connection, facts: this.#recordedMachine(connection) }
    return this.#machine.facts
  }

  /** Rule 7: an alias that leads to another machine must not pass for the node. */
  async #recordedMachine(connection: Connection): Promise<Machine> {
    const [{ xml }, info] = await Promise.all([
      connection.call(procedures.connectGetCapabilities, undefined),
      connection.call(procedures.nodeGetInfo, undefined),
    ])
    const host = parseCapabilities(xml)
    const { hostUuid: expected } = this.#record
    if (expected !== '' && host.hostUuid !== expected)
      throw new StrangerError(`another machine answered: host uuid ${host.hostUuid}, recorded ${expected}`)
    return {
      hostUuid: host.hostUuid,
      cpuModel: host.cpuModel || info.model,
      cpus: info.cpus,
      memoryMiB: Math.floor(info.memoryKiB / 1024),
      hostCpu: host.cpu,
    }
  }

  async #dial(access: Access): Promise<Connection> {
    let last: unknown
    for (const dial of this.#reach.dialers(access)) {
      try {
        return await openConnection(dial, { uri: this.#reach.uri, access, timeoutMs: this.#timeoutMs })
      } catch (error) {
        // Only a socket that leads nowhere is worth trying the next: an answer, or silence, is the node's own.
        if (!(error instanceof ConnectionError) || error.kind === 'timeout') throw error
        last = error
      }
    }
    throw last
  }

  async #inTime<T>(work: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const timeoutMs = this.#keptWaiting ? Math.min(IMPATIENT_MS, this.#timeoutMs) : this.#timeoutMs
    const late = new Promise<never>((_, reject) => {
      const error = new ConnectionError('timeout', `no answer within ${timeoutMs / 1000} s`)
      timer = setTimeout(() => reject(error), timeoutMs)
    })
    const result = work()
    // Whoever loses the race must not become an unhandled rejection.
    result.catch(() => undefined)
    return Promise.race([result, late]).finally(() => clearTimeout(timer))
  }

  async #ask(connection: Connection, inquiry: Inquiry | undefined, asked: Asked): Promise<UpNode> {
    const listed = domainsOn(connection)
    const [machine, free, networks, pools, domains, probe, cpuVerdicts] = await Promise.all([
      this.#machineAt(connection),
      connection.call(procedures.nodeGetFreeMemory, undefined),
      networksOn(connection),
      poolsOn(connection),
      listed,
      inquiry === undefined ? undefined : this.#whole(inquiry, asked, listed),
      this.#compareAll(inquiry?.cpus ?? []),
    ])
    this.#listed = domains
    return {
      state: 'up',
      ...machine,
      freeMemoryMiB: Math.floor(free.freeBytes / 1024 / 1024),
      networks,
      pools,
      ...(cpuVerdicts === undefined ? {} : { cpuVerdicts }),
      ...(await this.#withUnlisted(connection, domains, probe, inquiry?.processes === true)),
    }
  }

  /** Sends the question to the script before libvirt has listed anything: what is held is taken from the last look. */
  #inquire(inquiry: Inquiry | undefined, abort: AbortSignal): Asked {
    const early = inquiry !== undefined && (inquiry.held !== true || this.#listed !== undefined)
    const question = early ? questionOf(inquiry, this.#listed ?? []) : NOTHING_TO_ASK
    const answer = isNothing(question) ? Promise.resolve(undefined) : this.#probe(question, abort)
    // The look may have failed by the time that this does.
    answer.catch(() => undefined)
    return { question, answer }
  }

  /** The script's answer, with what the domains hold that are there now and were not when it was asked. */
  async #whole(
    inquiry: Inquiry,
    { question, answer }: Asked,
    listed: Promise<readonly DomainOnNode[]>,
  ): Promise<Probed | undefined> {
    const more = beyond(questionOf(inquiry, inquiry.held === true ? await listed : []), question)
    if (isNothing(more)) return answer
    const [first, rest] = await Promise.all([answer, this.#probe(more)])
    if (first === undefined || 'problem' in rest) return rest
    return 'problem' in first ? first : { ...first, paths: new Map([...first.paths, ...rest.paths]) }
  }

  async #probe(question: ProbeQuestion, abort?: AbortSignal): Promise<Probed> {
    const odd = [...question.paths, ...question.devices, ...question.volumes].find(isOdd)
    if (odd !== undefined) return { problem: `the name ${JSON.stringify(odd)} holds a line break or tab` }
    const { line, stdin } = probeLine(question, this.#reach.uri)
    const exit = await this.#reach.run(line, { stdin, timeoutMs: this.#timeoutMs, abort })
    const answer = parseProbe(exit.stdout, question, this.#record.name)
    return answer ?? { problem: exit.stderr.trim() || 'it gave no whole answer' }
  }

  /** What the script answered, and the domains with those that only a process shows. */
  async #withUnlisted(
    connection: Connection,
    listed: readonly DomainOnNode[],
    probe: Probed | undefined,
    processes: boolean,
  ): Promise<Pick<UpNode, 'domains' | 'paths' | 'devices' | 'inquiryProblem' | 'processes' | 'lockManager'>> {
    if (probe === undefined) return { domains: listed, ...NOTHING_ASKED }
    if ('problem' in probe) return { domains: listed, ...NOTHING_ASKED, inquiryProblem: probe.problem }
    const { paths, devices, lockManager } = probe
    const asked = processes ? ({ processes: true, lockManager } as const) : {}
    const suspects = unlistedOf(probe.processes, activeAmong(listed), probe.pids)
    const again = suspects.length === 0 ? undefined : await this.#confirm(connection, suspects)
    if (again === undefined) return { domains: listed, paths, devices, ...asked }
    if ('problem' in again) return { domains: listed, paths, devices, inquiryProblem: again.problem }
    return { domains: withStrays(listed, again.strays), paths: new Map([...paths, ...again.paths]), devices, ...asked }
  }

  /**
   * A domain that begins or ends between libvirt's list and that of the processes is in one of them only. What is no stray is in
   * libvirt's next list, or has no process after that.
   */
  async #confirm(connection: Connection, suspects: readonly QemuProcess[]): Promise<Confirmed> {
    const active = await activeOn(connection)
    const { paths } = heldIn(suspects.flatMap(each => asDomain(each) ?? []))
    const probe = await this.#probe({ paths, devices: [], volumes: [], processes: true })
    if ('problem' in probe) return probe
    const before = new Set(suspects.map(({ pid }) => pid))
    return {
      strays: unlistedOf(probe.processes, active, probe.pids).filter(({ pid }) => before.has(pid)),
      paths: probe.paths,
    }
  }

  /** On a connection that may write, since libvirt serves the comparison on no other (it changes nothing). Each question once. */
  async #compareAll(questions: readonly CpuQuestion[]): Promise<UpNode['cpuVerdicts']> {
    if (questions.length === 0) return undefined
    const unique = new Map(questions.map(question => [cpuKey(question), question]))
    let connection: Connection | undefined
    try {
      const opened = await this.#dial('readWrite')
      connection = opened
      const verdicts = [...unique].map(async ([key, question]) => [key, await compare(opened, question)] as const)
      return new Map(await Promise.all(verdicts))
    } catch (error) {
      const unknown = { unknown: error instanceof Error ? error.message : String(error) }
      return new Map([...unique.keys()].map(key => [key, unknown]))
    } finally {
      connection?.destroy()
    }
  }
}

async function compare(
  connection: Connection,
  { emulator, arch, machine, type, xml }: CpuQuestion,
): Promise<CpuVerdict> {
  try {
    const args = { emulator, arch, machine, virttype: type, xmlCPU: xml, flags: 0 }
    const { result } = await connection.call(procedures.connectCompareHypervisorCPU, args)
    return result > 0 ? 'runs' : 'cannot'
  } catch (error) {
    if (error instanceof LibvirtError && error.code === errorCode.noSupport) return 'runs'
    return { unknown: error instanceof Error ? error.message : String(error) }
  }
}

type Machine = Pick<UpNode, 'hostUuid' | 'cpuModel' | 'cpus' | 'memoryMiB' | 'hostCpu'>

/** A question that is on its way. */
interface Asked {
  readonly question: ProbeQuestion
  readonly answer: Promise<Probed | undefined>
}

/** What the script answered, or why it did not. */
type Probed = ProbeAnswer | { readonly problem: string }

type Confirmed = { readonly strays: readonly QemuProcess[]; readonly paths: UpNode['paths'] } | { problem: string }

const NOTHING_TO_ASK: ProbeQuestion = { paths: [], devices: [], volumes: [], processes: false }

function isNothing({ paths, devices, volumes, processes }: ProbeQuestion): boolean {
  return !processes && [paths, devices, volumes].every(list => list.length === 0)
}

/** The inquiry as the script takes it, where these domains are on the node. */
function questionOf(inquiry: Inquiry, listed: readonly DomainOnNode[]): ProbeQuestion {
  const { paths, devices, volumes = [], processes = false, held = false } = inquiry
  const holding = heldBy(held ? listed : [])
  return {
    paths: [...new Set([...paths, ...holding.paths])],
    devices,
    volumes: [...new Set([...volumes, ...holding.volumes])],
    processes,
  }
}

/** What of the question was not asked yet. */
function beyond(wanted: ProbeQuestion, asked: ProbeQuestion): ProbeQuestion {
  const fresh = (names: readonly string[], known: readonly string[]) => names.filter(name => !known.includes(name))
  return {
    paths: fresh(wanted.paths, asked.paths),
    devices: fresh(wanted.devices, asked.devices),
    volumes: fresh(wanted.volumes, asked.volumes),
    processes: wanted.processes && !asked.processes,
  }
}

/** The script's answer is lines of words. */
function isOdd(name: string): boolean {
  return /[\n\t]/.test(name)
}

function heldBy(domains: readonly DomainOnNode[]) {
  return heldIn(domains.filter(isPresent).flatMap(({ definition }) => definition ?? []))
}

/** Names that cannot be sent are left out here: they are somebody else's, and are compared by their text all the same. */
function heldIn(definitions: readonly Domain[]): { paths: string[]; volumes: string[] } {
  const { paths, volumes } = placesOf(definitions.flatMap(exclusiveDisks))
  return { paths: paths.filter(name => !isOdd(name)), volumes: volumes.filter(name => !isOdd(name)) }
}

class StrangerError extends Error {}

function silent(state: SilentNode['state'], node: string, error: unknown): SilentNode {
  const reason = lastWords(error)
  if (error instanceof StrangerError) {
    return {
      state: 'unreachable',
      reason,
      hint: `check where the alias ${node} leads; if the machine was replaced: havirt node remove ${node}, then havirt node update ${node}`,
    }
  }
  const hint =
    state === 'busy'
      ? `libvirt on ${node} answers, but not everything: look there for a hung domain or storage, then try again`
      : `check its power, its network, ssh and libvirtd: ssh ${node} systemctl status libvirtd`
  return { state, reason, hint }
}

/** What the program at the far end said, where it said something: that is what a person can act on. */
function lastWords(error: unknown): string {
  const cause = error instanceof ConnectionError && error.cause instanceof Error ? error.cause : error
  const words = cause instanceof Error ? cause.message : String(cause)
  return words.replace(/^virt-ssh-helper: cannot connect to '[^']*': /, '')
}
