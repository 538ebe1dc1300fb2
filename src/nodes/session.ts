/**
 * One node during one command: opens libvirt's read-only connection when it is first needed, keeps it for the looks that
 * follow, and hears lifecycle events in between. A node that does not answer in time is a value, never an exception.
 */
import type { Domain } from '../core/domain.ts'
import { parseDomain } from '../core/domain-xml.ts'
import type { End } from '../core/migration.ts'
import type { CpuVerdict, DomainOnNode, DomainState, NodeRecord, SilentNode, UpNode } from '../core/node.ts'
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
import { parseProbe, probeLine } from './probe.ts'
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
        (await this.#open()).call(procedures.domainGetJobStats, { domain: { name, uuid, id: -1 }, flags: 0 }),
      )
    } catch (error) {
      return error instanceof LibvirtError ? undefined : 'silent'
    }
  }

  /** One domain's state; `absent` when the node does not have it active, undefined when the node did not answer. */
  async domainState(uuid: string): Promise<End | undefined> {
    try {
      return await this.#inTime(async () => {
        const connection = await this.#open()
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
    const [host, info, free, networks, pools, domains, answers] = await Promise.all([
      connection.call(procedures.connectGetCapabilities, undefined).then(({ xml }) => parseCapabilities(xml)),
      connection.call(procedures.nodeGetInfo, undefined),
      connection.call(procedures.nodeGetFreeMemory, undefined),
      names(connection.call(procedures.connectListAllNetworks, { needResults: 1, flags: LIST_ACTIVE }), 'networks'),
      names(connection.call(procedures.connectListAllStoragePools, { needResults: 1, flags: LIST_ACTIVE }), 'pools'),
      this.#domains(connection),
      inquiry === undefined ? undefined : this.#inquire(inquiry),
    ])
    this.#checkIdentity(host)
    return {
      state: 'up',
      hostUuid: host.hostUuid,
      cpuModel: host.cpuModel || info.model,
      cpus: info.cpus,
      memoryMiB: Math.floor(info.memoryKiB / 1024),
      freeMemoryMiB: Math.floor(free.freeBytes / 1024 / 1024),
      domains,
      networks,
      pools,
      hostCpu: host.cpu,
      ...NOTHING_ASKED,
      ...answers,
    }
  }

  /** Rule 7: an alias that leads to another machine must not pass for the node. */
  #checkIdentity({ hostUuid }: HostCapabilities): void {
    const { hostUuid: expected } = this.#record
    if (expected !== '' && hostUuid !== expected)
      throw new StrangerError(`another machine answered: host uuid ${hostUuid}, recorded ${expected}`)
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

  async #inquire(inquiry: Inquiry): Promise<Partial<UpNode>> {
    const [probe, cpu] = await Promise.all([
      this.#probe(inquiry),
      inquiry.cpu === undefined ? undefined : this.#compare(inquiry.cpu),
    ])
    return { ...probe, ...(cpu === undefined ? {} : { cpu }) }
  }

  async #probe({ paths, devices }: Inquiry): Promise<Partial<UpNode>> {
    if (paths.length === 0 && devices.length === 0) return {}
    const odd = [...paths, ...devices].find(name => /[\n\t]/.test(name))
    if (odd !== undefined) return { inquiryProblem: `the name ${JSON.stringify(odd)} holds a line break or tab` }
    const exit = await this.#reach.run(probeLine(paths, devices), { timeoutMs: this.#timeoutMs })
    const answer = parseProbe(exit.stdout)
    return answer ?? { inquiryProblem: exit.stderr.trim() || 'it gave no whole answer' }
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
