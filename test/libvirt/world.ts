/** What the test server knows and how it answers from it: domains, host, networks. No sockets, no packets. */
import { DOMAIN_STATES, domainStats, listDomains, procedures } from '../../src/libvirt/procedures.ts'
import {
  array,
  type Codec,
  int,
  string,
  struct,
  type TypedParam,
  typedParamList,
  uuid,
  type ValueOf,
} from '../../src/libvirt/xdr.ts'

export interface ServedDomain {
  readonly name: string
  readonly uuid: string
  readonly xml: string
  readonly state: (typeof DOMAIN_STATES)[number]
  readonly reason?: number
  /** Unless told: persistent, and nothing else. */
  readonly persistent?: boolean
  readonly autostart?: boolean
  readonly managedSave?: boolean
  readonly hasSnapshot?: boolean
  readonly memoryKiB?: number
  readonly maxMemoryKiB?: number
  readonly vcpus?: number
  readonly maxVcpus?: number
}

/** One hypervisor as the server plays it. Only the domains have no default. */
export interface World {
  readonly domains: readonly ServedDomain[]
  readonly networks?: readonly { readonly name: string; readonly uuid: string }[]
  readonly pools?: readonly { readonly name: string; readonly uuid: string }[]
  readonly interfaces?: readonly { readonly name: string; readonly mac: string }[]
  readonly hostname?: string
  readonly capabilitiesXml?: string
  readonly nodeInfo?: Partial<ValueOf<typeof procedures.nodeGetInfo.result>>
  readonly freeBytes?: number
  readonly version?: number
  readonly libVersion?: number
}

/** The fields of libvirt's error that a test wants to choose. */
export interface WireError {
  readonly code: number
  readonly message: string
}

/** Thrown by an answer, sent as libvirt's error. */
export class Refusal extends Error {
  readonly code: number

  constructor({ code, message }: WireError) {
    super(message)
    this.code = code
  }
}

export type ProcedureName = keyof typeof procedures
export type ArgsOf<K extends ProcedureName> = ValueOf<(typeof procedures)[K]['args']>

const wireDomain = struct({ name: string, uuid, id: int })
const statsRecords = struct({ records: array(struct({ domain: wireDomain, params: typedParamList(262_144) })) })
const jobStats = struct({ type: int, params: typedParamList(64) })

/** Answers with typed parameters are written with their types, which the client's codecs do not keep. */
interface WrittenResults {
  connectGetAllDomainStats: ValueOf<typeof statsRecords>
  domainGetJobStats: ValueOf<typeof jobStats>
}
export type ResultOf<K extends ProcedureName> = K extends keyof WrittenResults
  ? WrittenResults[K]
  : ValueOf<(typeof procedures)[K]['result']>

/** Answers by procedure. May throw {@link Refusal}. */
export type Answers = { [K in ProcedureName]?: (args: ArgsOf<K>) => ResultOf<K> }

/** The codec that writes a procedure's answer. */
export function resultCodec(name: ProcedureName): Codec<unknown> {
  if (name === 'connectGetAllDomainStats') return statsRecords as Codec<unknown>
  if (name === 'domainGetJobStats') return jobStats as Codec<unknown>
  return procedures[name].result as Codec<unknown>
}

const NODE_INFO = {
  model: 'x86_64',
  memoryKiB: 67_108_864,
  cpus: 16,
  mhz: 3000,
  nodes: 1,
  sockets: 1,
  cores: 8,
  threads: 2,
}
const KIB = 1024

/** Pure answers: the same arguments give the same answer for as long as the world stays, so that they can be kept as bytes. */
export function answersOf(world: World): Answers {
  const wire = new Map(world.domains.map((domain, at) => [domain.uuid, wireOf(domain, at)]))
  const byUuid = new Map(world.domains.map(domain => [domain.uuid, domain]))
  const byName = new Map(world.domains.map(domain => [domain.name, domain]))
  const found = (domain: ServedDomain | undefined) => domain ?? refuse(42, 'Domain not found')
  const known = (uuid: string) =>
    byUuid.get(uuid) ?? refuse(42, `Domain not found: no domain with matching uuid '${uuid}'`)
  const named = (domain: ServedDomain) => wire.get(domain.uuid) ?? refuse(1, 'no such wire domain')
  const selected = (flags: number) => world.domains.filter(filterOf(flags))
  return {
    ...hostAnswers(world),
    connectListAllDomains: ({ flags }) => counted('domains', selected(flags).map(named)),
    connectGetAllDomainStats: ({ domains, stats, flags }) => {
      const asked = domains.length > 0 ? domains.map(({ uuid }) => known(uuid)) : selected(withoutStatsFlags(flags))
      return { records: asked.map(domain => ({ domain: named(domain), params: statsOf(domain, stats) })) }
    },
    domainLookupByName: ({ name }) => ({ domain: named(found(byName.get(name))) }),
    domainLookupByUUID: ({ uuid }) => ({ domain: named(known(uuid)) }),
    domainGetXMLDesc: ({ domain }) => ({ xml: known(domain.uuid).xml }),
    domainGetState: ({ domain }) => stateOf(known(domain.uuid)),
    domainGetAutostart: ({ domain }) => ({ autostart: known(domain.uuid).autostart ?? false }),
    domainHasManagedSaveImage: ({ domain }) => ({ result: known(domain.uuid).managedSave ? 1 : 0 }),
    domainGetJobStats: ({ domain }) => {
      if (!isActive(known(domain.uuid))) refuse(55, 'Requested operation is not valid: domain is not running')
      return { type: 0, params: [] }
    },
  }
}

function hostAnswers(world: World): Answers {
  return {
    connectGetVersion: () => ({ version: world.version ?? 7_002_000 }),
    connectGetLibVersion: () => ({ version: world.libVersion ?? 9_000_000 }),
    connectGetHostname: () => ({ hostname: world.hostname ?? 'node1' }),
    connectGetCapabilities: () => ({ xml: world.capabilitiesXml ?? '<capabilities/>' }),
    nodeGetInfo: () => ({ ...NODE_INFO, ...world.nodeInfo }),
    nodeGetFreeMemory: () => ({ freeBytes: world.freeBytes ?? NODE_INFO.memoryKiB * KIB }),
    connectListAllNetworks: () => counted('networks', [...(world.networks ?? [])]),
    connectListAllStoragePools: () => counted('pools', [...(world.pools ?? [])]),
    connectListAllInterfaces: () => counted('interfaces', [...(world.interfaces ?? [])]),
  }
}

function refuse(code: number, message: string): never {
  throw new Refusal({ code, message })
}

function counted<K extends string, T>(key: K, items: T[]): { [P in K]: T[] } & { ret: number } {
  return { [key]: items, ret: items.length } as { [P in K]: T[] } & { ret: number }
}

function isActive(domain: ServedDomain): boolean {
  return domain.state !== 'shutoff' && domain.state !== 'crashed'
}

function wireOf(domain: ServedDomain, at: number): ValueOf<typeof wireDomain> {
  return { name: domain.name, uuid: domain.uuid, id: isActive(domain) ? at + 1 : -1 }
}

function stateOf(domain: ServedDomain): { state: number; reason: number } {
  return { state: DOMAIN_STATES.indexOf(domain.state), reason: domain.reason ?? 1 }
}

/** Pairs of opposite filters (virConnectListAllDomainsFlags). One of a pair chooses; both or neither choose all. */
const FILTERS: readonly [yes: number, no: number, holds: (domain: ServedDomain) => boolean][] = [
  [listDomains.active, listDomains.inactive, isActive],
  [listDomains.persistent, listDomains.transient, domain => domain.persistent ?? true],
  [listDomains.managedSave, 512, domain => domain.managedSave ?? false],
  [listDomains.autostart, 2048, domain => domain.autostart ?? false],
  [listDomains.hasSnapshot, 8192, domain => domain.hasSnapshot ?? false],
]
const ALL_FILTERS = FILTERS.reduce((sum, [yes, no]) => sum + yes + no, 0)

function filterOf(flags: number): (domain: ServedDomain) => boolean {
  const unknown = flags & ~ALL_FILTERS
  if (unknown !== 0) refuse(8, `unsupported flags (0x${(unknown >>> 0).toString(16)}) in function ListAllDomains`)
  const asked = FILTERS.filter(([yes, no]) => Boolean(flags & yes) !== Boolean(flags & no))
  return domain => asked.every(([yes, , holds]) => holds(domain) === Boolean(flags & yes))
}

function withoutStatsFlags(flags: number): number {
  return flags & ~domainStats.noWait
}

/** A mask of 0 asks for everything, as in libvirt. */
function statsOf(domain: ServedDomain, mask: number): TypedParam[] {
  const asks = (bit: number) => mask === 0 || (mask & bit) !== 0
  return [
    ...(asks(domainStats.state) ? stateParams(domain) : []),
    ...(asks(domainStats.balloon) ? balloonParams(domain) : []),
    ...(asks(domainStats.vcpu) ? vcpuParams(domain) : []),
  ]
}

function stateParams(domain: ServedDomain): TypedParam[] {
  const { state, reason } = stateOf(domain)
  return [
    { field: 'state.state', type: 'int', value: state },
    { field: 'state.reason', type: 'int', value: reason },
  ]
}

function balloonParams({ memoryKiB = 2_097_152, maxMemoryKiB = memoryKiB }: ServedDomain): TypedParam[] {
  return [
    { field: 'balloon.current', type: 'ullong', value: memoryKiB },
    { field: 'balloon.maximum', type: 'ullong', value: maxMemoryKiB },
  ]
}

function vcpuParams({ vcpus = 2, maxVcpus = vcpus }: ServedDomain): TypedParam[] {
  return [
    { field: 'vcpu.current', type: 'uint', value: vcpus },
    { field: 'vcpu.maximum', type: 'uint', value: maxVcpus },
  ]
}
