/** A session with `test:///default` that has one of every kind of packet: recorded from a real daemon, replayed without. */
import {
  type Access,
  type Connection,
  LibvirtError,
  type LifecycleEvent,
  openConnection,
} from '../../src/libvirt/index.ts'
import { domainStats, procedures } from '../../src/libvirt/procedures.ts'
import type { Dialer } from '../../src/libvirt/transport.ts'

export const TEST_URI = 'test:///default'
const ALL = { needResults: 1, flags: 0 }
const NO_DOMAIN = 'no-such-domain'
export const STATS_MASK = domainStats.state + domainStats.balloon + domainStats.vcpu

export async function openTestDriver(dial: Dialer, access: Access): Promise<Connection> {
  return openConnection(dial, { uri: TEST_URI, access, timeoutMs: 10_000 })
}

/** Everything that was answered, in order of asking. Asks one after the other, so that serials are always the same. */
export async function everyKindOfCall(connection: Connection): Promise<Record<string, unknown>> {
  const { domains } = await connection.call(procedures.connectListAllDomains, ALL)
  const [domain = { name: '', uuid: '', id: -1 }] = domains
  return {
    domains,
    version: await connection.call(procedures.connectGetLibVersion, undefined),
    node: await connection.call(procedures.nodeGetInfo, undefined),
    free: await connection.call(procedures.nodeGetFreeMemory, undefined),
    networks: await connection.call(procedures.connectListAllNetworks, ALL),
    pools: await connection.call(procedures.connectListAllStoragePools, ALL),
    interfaces: await connection.call(procedures.connectListAllInterfaces, ALL),
    stats: await connection.call(procedures.connectGetAllDomainStats, { domains: [], stats: STATS_MASK, flags: 0 }),
    state: await connection.call(procedures.domainGetState, { domain, flags: 0 }),
    xml: await connection.call(procedures.domainGetXMLDesc, { domain, flags: 0 }),
    missing: await fieldsOfError(connection.call(procedures.domainLookupByName, { name: NO_DOMAIN })),
    suspended: await suspendAndHear(connection),
  }
}

/** Suspends the first domain, or is denied to; with the events that came with it. */
async function suspendAndHear(connection: Connection): Promise<unknown> {
  const { domains } = await connection.call(procedures.connectListAllDomains, ALL)
  const [domain = { name: '', uuid: '', id: -1 }] = domains
  const heard: LifecycleEvent[] = []
  let both = () => {}
  // The events may come before or after the answers.
  const twoEvents = new Promise<void>(resolve => {
    both = resolve
  })
  await connection.onLifecycle(event => {
    if (heard.push(event) === 2) both()
  })
  const denied = await fieldsOfError(connection.call(procedures.domainSuspend, { domain }))
  if (denied !== undefined) return { denied }
  await connection.call(procedures.domainResume, { domain })
  await twoEvents
  return { heard }
}

/** The fields of the error that libvirt answers; undefined when it agrees. */
export async function fieldsOfError(call: Promise<unknown>): Promise<LibvirtError['fields'] | undefined> {
  try {
    await call
    return undefined
  } catch (error) {
    if (error instanceof LibvirtError) return error.fields
    throw error
  }
}
