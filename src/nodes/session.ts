/**
 * One node during one command: opens libvirt's read-only connection when it is first needed, keeps it for the looks that
 * follow, and hears lifecycle events in between. A node that does not answer in time is a value, never an exception.
 */
import type { Domain } from '../core/domain.ts'
import { exclusiveDisks, parseDomain } from '../core/domain-xml.ts'
import type { End } from '../core/migration.ts'
import {
  type CpuVerdict,
  type DomainOnNode,
  type DomainState,
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
  DOMAIN_STATES,
  domainStats,
  errorCode,
  LibvirtError,
  type LifecycleEvent,
  listDomains,
  openConnection,
  procedures,
  type TypedParams,
  type WireDomain,
} from '../libvirt/index.ts'
import { type HostCapabilities, parseCapabilities } from './capabilities.ts'
import { type ProbeAnswer, type ProbeQuestion, parseProbe, probeLine } from './probe.ts'
import { asDomain, type QemuProcess, unlistedOf } from './qemu-process.ts'
import type { Reach } from './reach.ts'

/** A CPU to compare, with the parts of the definition that libvirt's comparison wants. */
export interface CpuQuestion {
  readonly xml: string
  readonly type: string
  readonly arch?: string | undefined
  readonly machine?: string | undefined
  readonly emulator?: string | undefined
}

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
  readonly cpu?: CpuQuestion
}

/** virConnectListNetworksFlags and virConnectListStoragePoolsFlags: only active ones. */
const LIST_ACTIVE = 2
const IMPATIENT_MS = 1000
const NOTHING_ASKED = { paths: new Map(), devices: new Map() }

export class Session {
  readonly #reach: Reach
  readonly #record: Pick<NodeRecord, 'name' | 'hostUuid'>
  readonly #timeoutMs: number
  #connection: Promise<Connection> | undefined
  /** The connection at whose end the recorded machine is. */
  #isNode: Connection | undefined
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
    try {
      return await this.#inTime(async () => {
        const connection = await this.#open()
        opened = true
        return await this.#ask(connection, inquiry)
      })
    } catch (error) {
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
    if (this.#isNode !== connection) {
      const { xml } = await connection.call(procedures.connectGetCapabilities, undefined)
      this.#checkIdentity(connection, parseCapabilities(xml))
    }
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

  async #ask(connection: Connection, inquiry: Inquiry | undefined): Promise<UpNode> {
    const listed = this.#domains(connection)
    const [host, info, free, networks, pools, domains, probe, cpu] = await Promise.all([
      connection.call(procedures.connectGetCapabilities, undefined).then(({ xml }) => parseCapabilities(xml)),
      connection.call(procedures.nodeGetInfo, undefined),
      connection.call(procedures.nodeGetFreeMemory, undefined),
      names(connection.call(procedures.connectListAllNetworks, { needResults: 1, flags: LIST_ACTIVE }), 'networks'),
      names(connection.call(procedures.connectListAllStoragePools, { needResults: 1, flags: LIST_ACTIVE }), 'pools'),
      listed,
      inquiry === undefined ? undefined : this.#inquire(inquiry, listed),
      inquiry?.cpu === undefined ? undefined : this.#compare(inquiry.cpu),
    ])
    this.#checkIdentity(connection, host)
    const asked = await this.#withUnlisted(connection, domains, probe)
    return {
      state: 'up',
      hostUuid: host.hostUuid,
      cpuModel: host.cpuModel || info.model,
      cpus: info.cpus,
      memoryMiB: Math.floor(info.memoryKiB / 1024),
      freeMemoryMiB: Math.floor(free.freeBytes / 1024 / 1024),
      networks,
      pools,
      hostCpu: host.cpu,
      ...(cpu === undefined ? {} : { cpu }),
      ...asked,
    }
  }

  /** Rule 7: an alias that leads to another machine must not pass for the node. */
  #checkIdentity(connection: Connection, { hostUuid }: HostCapabilities): void {
    const { hostUuid: expected } = this.#record
    if (expected !== '' && hostUuid !== expected)
      throw new StrangerError(`another machine answered: host uuid ${hostUuid}, recorded ${expected}`)
    this.#isNode = connection
  }

  async #domains(connection: Connection): Promise<DomainOnNode[]> {
    const list = (flags: number) => connection.call(procedures.connectListAllDomains, { needResults: 1, flags })
    const [all, persistent, autostart, saved, snapshots, stats] = await Promise.all([
      list(0),
      list(listDomains.persistent).then(uuids),
      list(listDomains.autostart).then(uuids),
      // Drivers without saved images or snapshots say so; they have none.
      list(listDomains.managedSave).then(uuids, noneIfUnsupported),
      list(listDomains.hasSnapshot).then(uuids, noneIfUnsupported),
      states(connection),
    ])
    const described = all.domains.map(async domain => {
      const seen = stats.get(domain.uuid) ?? (await stateOf(connection, domain))
      if (seen === undefined) return undefined
      const definition = await definitionOf(connection, domain)
      if (definition === 'gone') return undefined
      return {
        name: domain.name,
        uuid: domain.uuid,
        state: stateName(seen.state),
        stateReason: seen.reason,
        active: domain.id >= 0 || (seen.state !== SHUTOFF && seen.state !== 0),
        persistent: persistent.has(domain.uuid),
        autostart: autostart.has(domain.uuid),
        managedSave: saved.has(domain.uuid),
        snapshots: snapshots.has(domain.uuid),
        ...sizes(definition),
      }
    })
    return (await Promise.all(described)).filter(domain => domain !== undefined)
  }

  /** The question to the script; `listed` is waited for only where it says what to ask. */
  async #inquire(inquiry: Inquiry, listed: Promise<readonly DomainOnNode[]>): Promise<Probed | undefined> {
    const { paths, devices, volumes = [], processes = false, held = false } = inquiry
    const holding = held ? heldBy(await listed) : NOTHING_HELD
    const question = {
      paths: [...paths, ...holding.paths],
      devices,
      volumes: [...new Set([...volumes, ...holding.volumes])],
      processes,
    }
    const idle = !processes && [question.paths, devices, question.volumes].every(list => list.length === 0)
    return idle ? undefined : this.#probe(question)
  }

  async #probe(question: ProbeQuestion): Promise<Probed> {
    const odd = [...question.paths, ...question.devices, ...question.volumes].find(isOdd)
    if (odd !== undefined) return { problem: `the name ${JSON.stringify(odd)} holds a line break or tab` }
    const { line, stdin } = probeLine(question, this.#reach.uri)
    const exit = await this.#reach.run(line, { stdin, timeoutMs: this.#timeoutMs })
    const answer = parseProbe(exit.stdout, question, this.#record.name)
    return answer ?? { problem: exit.stderr.trim() || 'it gave no whole answer' }
  }

  /** What the script answered, and the domains with those that only a process shows. */
  async #withUnlisted(
    connection: Connection,
    listed: readonly DomainOnNode[],
    probe: Probed | undefined,
  ): Promise<Pick<UpNode, 'domains' | 'paths' | 'devices' | 'inquiryProblem'>> {
    if (probe === undefined) return { domains: listed, ...NOTHING_ASKED }
    if ('problem' in probe) return { domains: listed, ...NOTHING_ASKED, inquiryProblem: probe.problem }
    const { paths, devices } = probe
    const suspects = unlistedOf(probe.processes, activeAmong(listed), probe.pids)
    const again = suspects.length === 0 ? undefined : await this.#confirm(connection, suspects)
    if (again === undefined) return { domains: listed, paths, devices }
    if ('problem' in again) return { domains: listed, paths, devices, inquiryProblem: again.problem }
    return { domains: withStrays(listed, again.strays), paths: new Map([...paths, ...again.paths]), devices }
  }

  /**
   * A domain that begins or ends between libvirt's list and that of the processes is in one of them only. What is no stray is in
   * libvirt's next list, or has no process after that.
   */
  async #confirm(connection: Connection, suspects: readonly QemuProcess[]): Promise<Confirmed> {
    const active = uuids(
      await connection.call(procedures.connectListAllDomains, { needResults: 1, flags: listDomains.active }),
    )
    const { paths } = heldIn(suspects.flatMap(each => asDomain(each) ?? []))
    const probe = await this.#probe({ paths, devices: [], volumes: [], processes: true })
    if ('problem' in probe) return probe
    const before = new Set(suspects.map(({ pid }) => pid))
    return {
      strays: unlistedOf(probe.processes, active, probe.pids).filter(({ pid }) => before.has(pid)),
      paths: probe.paths,
    }
  }

  /** On a connection that may write, since libvirt serves the comparison on no other (it changes nothing). */
  async #compare(cpu: CpuQuestion): Promise<CpuVerdict> {
    let connection: Connection | undefined
    try {
      connection = await this.#dial('readWrite')
      const args = {
        emulator: cpu.emulator,
        arch: cpu.arch,
        machine: cpu.machine,
        virttype: cpu.type,
        xmlCPU: cpu.xml,
        flags: 0,
      }
      const { result } = await connection.call(procedures.connectCompareHypervisorCPU, args)
      return result > 0 ? 'runs' : 'cannot'
    } catch (error) {
      if (error instanceof LibvirtError && error.code === errorCode.noSupport) return 'runs'
      return { unknown: error instanceof Error ? error.message : String(error) }
    } finally {
      connection?.destroy()
    }
  }
}

/** What the script answered, or why it did not. */
type Probed = ProbeAnswer | { readonly problem: string }

type Confirmed = { readonly strays: readonly QemuProcess[]; readonly paths: UpNode['paths'] } | { problem: string }

const NOTHING_HELD = { paths: [], volumes: [] }

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

function activeAmong(domains: readonly DomainOnNode[]): Set<string> {
  return new Set(domains.filter(({ active }) => active).map(({ uuid }) => uuid))
}

/** A stray takes the place of what libvirt shows as off under its uuid; beside what libvirt shows as running it is one more. */
function withStrays(listed: readonly DomainOnNode[], strays: readonly QemuProcess[]): DomainOnNode[] {
  const active = activeAmong(listed)
  const replaced = new Set(strays.map(({ uuid }) => uuid).filter(uuid => !active.has(uuid)))
  const known = new Map(listed.map(domain => [domain.uuid, domain]))
  return [
    ...listed.filter(({ uuid }) => !replaced.has(uuid)),
    ...strays.map(stray => strayDomain(stray, replaced.has(stray.uuid) ? known.get(stray.uuid) : undefined)),
  ]
}

/** Its disks are those that it opened, not those of a definition that may have changed since. */
function strayDomain(stray: QemuProcess, off: DomainOnNode | undefined): DomainOnNode {
  const { pid, name, uuid, vcpus, memoryMiB, problem } = stray
  const definition = asDomain(stray)
  return {
    name,
    uuid,
    state: 'running',
    stateReason: 0,
    active: true,
    persistent: off?.persistent ?? false,
    autostart: off?.autostart ?? false,
    managedSave: off?.managedSave ?? false,
    snapshots: off?.snapshots ?? false,
    vcpus,
    memoryMiB,
    ...(definition === undefined ? { problem: problem ?? 'its disks are not known' } : { definition }),
    unlistedPid: pid,
  }
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

const SHUTOFF = 5

function stateName(state: number): DomainState {
  return DOMAIN_STATES[state] ?? 'nostate'
}

function uuids({ domains }: { domains: WireDomain[] }): Set<string> {
  return new Set(domains.map(({ uuid }) => uuid))
}

function noneIfUnsupported(error: unknown): Set<string> {
  if (error instanceof LibvirtError && (error.code === errorCode.noSupport || error.code === errorCode.invalidArg))
    return new Set()
  throw error
}

async function names<K extends string>(answer: Promise<Record<K, { name: string }[]>>, key: K): Promise<string[]> {
  try {
    return (await answer)[key].map(({ name }) => name).sort()
  } catch (error) {
    // A host without the network or storage driver has none of them.
    if (error instanceof LibvirtError && error.code === errorCode.noSupport) return []
    throw error
  }
}

/** All states in one call; NOWAIT, so that one hung domain does not hide the others. */
async function states(connection: Connection): Promise<Map<string, { state: number; reason: number }>> {
  const { records } = await connection.call(procedures.connectGetAllDomainStats, {
    domains: [],
    stats: domainStats.state,
    flags: domainStats.noWait,
  })
  return new Map(
    records.map(({ domain, params }) => [
      domain.uuid,
      { state: Number(params['state.state'] ?? 0), reason: Number(params['state.reason'] ?? 0) },
    ]),
  )
}

async function stateOf(
  connection: Connection,
  domain: WireDomain,
): Promise<{ state: number; reason: number } | undefined> {
  try {
    return await connection.call(procedures.domainGetState, { domain, flags: 0 })
  } catch (error) {
    return goneOr(error, undefined)
  }
}

async function definitionOf(connection: Connection, domain: WireDomain): Promise<Domain | Error | 'gone'> {
  try {
    const { xml } = await connection.call(procedures.domainGetXMLDesc, { domain, flags: 0 })
    return parseDomain(xml)
  } catch (error) {
    if (error instanceof ConnectionError) throw error
    return goneOr(error, error instanceof Error ? error : new Error(String(error)), 'gone' as const)
  }
}

/** A domain may end between the list and the question: then `ifGone`; otherwise `instead`, or the error itself. */
function goneOr<T, G = T>(error: unknown, instead: T, ifGone?: G): T | G {
  if (error instanceof LibvirtError && error.code === errorCode.noDomain) return ifGone ?? instead
  if (instead === undefined) throw error
  return instead
}

function sizes(definition: Domain | Error): Pick<DomainOnNode, 'vcpus' | 'memoryMiB' | 'definition' | 'problem'> {
  if (definition instanceof Error) return { vcpus: 0, memoryMiB: 0, problem: definition.message }
  return { vcpus: definition.vcpus, memoryMiB: definition.memoryMiB, definition }
}
