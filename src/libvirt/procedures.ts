/**
 * The table of libvirt's procedures that havirt calls, and of the events that it hears: number, arguments, answer.
 * Names are libvirt's own without `vir`, so that libvirt's documentation is the manual. Numbers are append-only in
 * libvirt (src/remote/remote_protocol.x), the same in 9.0 and 11.3. A new call is a new row; nothing else changes.
 */
import type { WireDomain } from './error.ts'
import {
  array,
  bool,
  type Codec,
  charArray,
  int,
  nothing,
  optional,
  string,
  struct,
  typedParams,
  uhyper,
  uint,
  uuid,
  wide,
} from './xdr.ts'

/** One row: what goes out, what comes back. */
export interface Procedure<A, R> {
  readonly name: string
  readonly number: number
  readonly args: Codec<A>
  readonly result: Codec<R>
}

const domain: Codec<WireDomain> = struct({ name: string, uuid, id: int })
const network = struct({ name: string, uuid })
const pool = struct({ name: string, uuid })
const networkInterface = struct({ name: string, mac: string })
const listFlags = struct({ needResults: int, flags: uint })
const domainFlags = struct({ domain, flags: uint })
const oneDomain = struct({ domain })
/** REMOTE_DOMAIN_JOB_STATS_MAX. */
const MAX_JOB_STATS = 64
/** REMOTE_CONNECT_GET_ALL_DOMAIN_STATS_MAX: over all domains of one answer. */
const MAX_DOMAIN_STATS = 262_144

/** The error that an answer with status 1 carries. */
export const remoteError = struct({
  code: int,
  domain: int,
  message: optional(string),
  level: int,
  dom: optional(domain),
  str1: optional(string),
  str2: optional(string),
  str3: optional(string),
  int1: int,
  int2: int,
  net: optional(network),
})

/** Procedures by libvirt's name. */
export const procedures = named({
  connectOpen: row(1, struct({ name: optional(string), flags: uint }), nothing),
  connectClose: row(2, nothing, nothing),
  connectGetVersion: row(4, nothing, struct({ version: uhyper })),
  connectGetLibVersion: row(157, nothing, struct({ version: uhyper })),
  connectGetHostname: row(59, nothing, struct({ hostname: string })),
  connectSupportsFeature: row(60, struct({ feature: int }), struct({ supported: int })),
  authList: row(66, nothing, struct({ types: array(int, 20) })),
  authPolkit: row(70, nothing, struct({ complete: int })),
  connectGetCapabilities: row(7, nothing, struct({ xml: string })),
  connectCompareHypervisorCPU: row(
    393,
    struct({
      emulator: optional(string),
      arch: optional(string),
      machine: optional(string),
      virttype: optional(string),
      xmlCPU: string,
      flags: uint,
    }),
    struct({ result: int }),
  ),
  nodeGetInfo: row(
    6,
    nothing,
    struct({
      model: charArray(32),
      memoryKiB: uhyper,
      cpus: int,
      mhz: int,
      nodes: int,
      sockets: int,
      cores: int,
      threads: int,
    }),
  ),
  nodeGetFreeMemory: row(102, nothing, struct({ freeBytes: uhyper })),
  nodeGetMemoryStats: row(
    228,
    struct({ nparams: int, cellNum: int, flags: uint }),
    struct({ stats: array(struct({ field: string, value: uhyper }), 16), nparams: int }),
  ),
  connectListAllDomains: row(273, listFlags, struct({ domains: array(domain), ret: uint })),
  connectListAllNetworks: row(283, listFlags, struct({ networks: array(network), ret: uint })),
  connectListAllStoragePools: row(281, listFlags, struct({ pools: array(pool), ret: uint })),
  connectListAllInterfaces: row(284, listFlags, struct({ interfaces: array(networkInterface), ret: uint })),
  connectGetAllDomainStats: row(
    344,
    struct({ domains: array(domain), stats: uint, flags: uint }),
    struct({ records: array(struct({ domain, params: typedParams(MAX_DOMAIN_STATS) })) }),
  ),
  domainLookupByName: row(23, struct({ name: string }), oneDomain),
  domainLookupByUUID: row(24, struct({ uuid }), oneDomain),
  domainGetXMLDesc: row(14, domainFlags, struct({ xml: string })),
  domainGetState: row(212, domainFlags, struct({ state: int, reason: int })),
  domainGetInfo: row(
    16,
    oneDomain,
    struct({ state: int, maxMemoryKiB: uhyper, memoryKiB: uhyper, vcpus: int, cpuTimeNs: wide }),
  ),
  domainGetAutostart: row(15, oneDomain, struct({ autostart: bool })),
  domainHasManagedSaveImage: row(183, domainFlags, struct({ result: int })),
  domainGetJobStats: row(298, domainFlags, struct({ type: int, params: typedParams(MAX_JOB_STATS) })),
  domainAbortJob: row(164, oneDomain, nothing),
  domainCreateXML: row(10, struct({ xml: string, flags: uint }), oneDomain),
  domainCreateWithFlags: row(196, domainFlags, oneDomain),
  domainDefineXMLFlags: row(350, struct({ xml: string, flags: uint }), oneDomain),
  domainUndefineFlags: row(231, domainFlags, nothing),
  domainShutdownFlags: row(258, domainFlags, nothing),
  domainDestroyFlags: row(234, domainFlags, nothing),
  domainSuspend: row(34, oneDomain, nothing),
  domainResume: row(28, oneDomain, nothing),
  storagePoolGetXMLDesc: row(88, struct({ pool, flags: uint }), struct({ xml: string })),
  networkGetXMLDesc: row(43, struct({ network, flags: uint }), struct({ xml: string })),
  connectDomainEventCallbackRegisterAny: row(
    316,
    struct({ eventID: int, domain: optional(domain) }),
    struct({ callbackID: int }),
  ),
  connectDomainEventCallbackDeregisterAny: row(317, struct({ callbackID: int }), nothing),
  connectRegisterCloseCallback: row(360, nothing, nothing),
})

/** virDomainEventID of the events that can be registered for. */
export const eventId = { lifecycle: 0, jobCompleted: 21 } as const

/** Events by name: the message's procedure number and its payload. */
export const events = named({
  lifecycle: row(318, struct({ callbackID: int, domain, event: int, detail: int }), nothing),
  connectionClosed: row(362, struct({ reason: int }), nothing),
  jobCompleted: row(363, struct({ callbackID: int, domain, params: typedParams(MAX_JOB_STATS) }), nothing),
})

/** virConnectListAllDomainsFlags: each is a filter; one call with one flag answers one question about all domains. */
export const listDomains = {
  active: 1,
  inactive: 2,
  persistent: 4,
  transient: 8,
  managedSave: 256,
  autostart: 1024,
  hasSnapshot: 4096,
} as const

/** virDomainStatsTypes, and the flag that keeps a busy domain from blocking the answer. */
export const domainStats = { state: 1, balloon: 4, vcpu: 8, noWait: 2 ** 29 } as const

/** virDomainXMLFlags. `secure` needs a connection that may write. */
export const xmlFlags = { secure: 1, inactive: 2, migratable: 8 } as const

/** virDomainState. */
export const DOMAIN_STATES = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutdown',
  'shutoff',
  'crashed',
  'pmsuspended',
] as const

/** virDomainJobType. */
export const JOB_TYPES = ['none', 'bounded', 'unbounded', 'completed', 'failed', 'cancelled'] as const

type Row<A, R> = Omit<Procedure<A, R>, 'name'>

function row<A, R>(number: number, args: Codec<A>, result: Codec<R>): Row<A, R> {
  return { number, args, result }
}

/** Gives each row its own key as name: written once, it cannot disagree. */
function named<T extends Record<string, { readonly number: number }>>(
  rows: T,
): { [K in keyof T]: T[K] & { name: string } } {
  const entries = Object.entries(rows).map(([name, entry]) => [name, { name, ...entry }])
  return Object.fromEntries(entries)
}
