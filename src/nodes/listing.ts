/** What libvirt lists on a node: its domains with their states and definitions, its active networks and pools. */
import type { Domain } from '../core/domain.ts'
import { parseDomain } from '../core/domain-xml.ts'
import type { DomainOnNode, DomainState } from '../core/node.ts'
import {
  type Connection,
  ConnectionError,
  DOMAIN_STATES,
  domainStats,
  errorCode,
  LibvirtError,
  listDomains,
  procedures,
  type WireDomain,
} from '../libvirt/index.ts'

/** virConnectListNetworksFlags and virConnectListStoragePoolsFlags: only active ones. */
const LIST_ACTIVE = 2
/** virDomainState. */
export const SHUTOFF = 5

/** libvirt's word for a virDomainState. */
export function stateName(state: number): DomainState {
  return DOMAIN_STATES[state] ?? 'nostate'
}

/** All domains that the node has, defined or active. One that ends while it is asked for is left out. */
export async function domainsOn(connection: Connection): Promise<DomainOnNode[]> {
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

/** The uuids of what is active now. */
export async function activeOn(connection: Connection): Promise<Set<string>> {
  return uuids(await connection.call(procedures.connectListAllDomains, { needResults: 1, flags: listDomains.active }))
}

/** Names of the active virtual networks. */
export function networksOn(connection: Connection): Promise<string[]> {
  return names(connection.call(procedures.connectListAllNetworks, { needResults: 1, flags: LIST_ACTIVE }), 'networks')
}

/** Names of the active storage pools. */
export function poolsOn(connection: Connection): Promise<string[]> {
  return names(connection.call(procedures.connectListAllStoragePools, { needResults: 1, flags: LIST_ACTIVE }), 'pools')
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

function uuids({ domains }: { domains: WireDomain[] }): Set<string> {
  return new Set(domains.map(({ uuid }) => uuid))
}

function noneIfUnsupported(error: unknown): Set<string> {
  if (error instanceof LibvirtError && (error.code === errorCode.noSupport || error.code === errorCode.invalidArg))
    return new Set()
  throw error
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
