/** This node's libvirt as the agent reads it: over the local socket, by error codes and never by texts, and what is to be made of its silence. */
import { existsSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { ActiveDomain, Presence, Silence } from '../core/agent/presence.ts'
import {
  type Access,
  type Connection,
  ConnectionError,
  DOMAIN_STATES,
  errorCode,
  JOB_TYPES,
  LibvirtError,
  listDomains,
  openConnection,
  type Procedure,
  procedures,
  SYSTEM_SOCKET_FOLDER,
  socketNames,
  unixSocket,
  type WireDomain,
  xmlFlags,
} from '../libvirt/index.ts'
import { taggedBy } from './definition.ts'
import { hasOtherThan, isLibvirtInstalled, type Known, processOf } from './processes.ts'

/** For how long one question may go unanswered, where the operation has more time than that. */
const PATIENCE_MS = 10_000
/** Sizes are not worth waiting for: libvirt may have to ask a busy QEMU. */
const SIZE_PATIENCE_MS = 2000

/** The URI that libvirt's own programs would take (libvirt: docs/uri.html), without asking one of them: that takes a process. */
export function defaultUri(environment: NodeJS.ProcessEnv): string {
  const named = environment['VIRSH_DEFAULT_CONNECT_URI'] || environment['LIBVIRT_DEFAULT_URI']
  if (named) return named
  const configured = /^\s*uri_default\s*=\s*"([^"]+)"/m.exec(textOf('/etc/libvirt/libvirt.conf'))?.[1]
  if (configured !== undefined) return configured
  return textOf('/proc/xen/capabilities').includes('control_d') ? 'xen:///system' : 'qemu:///system'
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

interface LocalUri {
  readonly driver: string
  /** As the daemon is asked for it, without transport and host. */
  readonly name: string
  /** Named in the URI. */
  readonly socket: string | undefined
}

/** The parts of a URI that ends on this machine; undefined for any other. */
export function localUri(uri: string): LocalUri | undefined {
  const found = /^([a-z]+)(?:\+([a-z0-9]+))?:\/\/([^/?]*)(\/[^?]*)?(?:\?(.*))?$/.exec(uri)
  if (found === null) return undefined
  const [, driver = '', transport, host = '', path = '', query = ''] = found
  if ((transport !== undefined && transport !== 'unix') || path === '/session') return undefined
  const own = ['', 'localhost', '127.0.0.1', '[::1]', hostname(), hostname().split('.', 1).join()]
  if (!own.includes(host.replace(/^[^@]*@/, '').replace(/:\d+$/, ''))) return undefined
  const socket = query
    .split('&')
    .find(each => each.startsWith('socket='))
    ?.slice('socket='.length)
  try {
    return {
      driver,
      name: `${driver}://${path}`,
      socket: socket === undefined ? undefined : decodeURIComponent(socket),
    }
  } catch {
    return undefined
  }
}

export class Hypervisor {
  readonly uri: string
  readonly #local: LocalUri
  readonly #open = new Map<Access, Promise<Connection>>()

  /** `uri` must end on this machine; see {@link localUri}. */
  constructor(uri: string, local: LocalUri) {
    this.uri = uri
    this.#local = local
  }

  /** What there is of the domain. Never rejects: where libvirt is silent, the machine's processes say what they can. */
  async look(known: Known, leftMs: number): Promise<Presence> {
    try {
      return await this.#ask(known, leftMs)
    } catch (error) {
      return this.#silence(error as Error, known)
    }
  }

  /**
   * The active domain that a resource has tagged. Never rejects: a domain whose tag nobody could read is no absence. `otherwise`: by what
   * its process may be known while libvirt is silent.
   */
  async lookForTag(instance: string, otherwise: Known, leftMs: number): Promise<Presence> {
    try {
      const domain = await this.#tagged(instance, leftMs)
      return domain === undefined ? { kind: 'absent' } : await this.#ask({ names: [], uuids: [domain.uuid] }, leftMs)
    } catch (error) {
      return this.#silence(error as Error, otherwise)
    }
  }

  async #tagged(instance: string, leftMs: number): Promise<WireDomain | undefined> {
    const ask = await this.#asking('readOnly', leftMs)
    const { domains } = await ask(procedures.connectListAllDomains, { needResults: 1, flags: listDomains.active })
    for (const domain of domains) {
      const isIt = await ask(procedures.domainGetXMLDesc, { domain, flags: 0 })
        .then(({ xml }) => taggedBy(xml) === instance)
        // It may have ended since it was listed.
        .catch(error => (isGone(error) ? false : Promise.reject(error)))
      if (isIt) return domain
    }
    return undefined
  }

  /** The definition that a next start would have, with its secrets. Rejects as libvirt does. */
  async inactiveXml(domain: ActiveDomain, leftMs: number): Promise<string> {
    const flags = xmlFlags.inactive | xmlFlags.secure
    return (await this.#of(domain, 'readWrite', leftMs, procedures.domainGetXMLDesc, flags)).xml
  }

  async liveXml(domain: ActiveDomain, leftMs: number): Promise<string> {
    return (await this.#of(domain, 'readOnly', leftMs, procedures.domainGetXMLDesc, 0)).xml
  }

  /** The resource that has tagged the domain; undefined when none has, or nobody can tell. */
  async tagOf(domain: ActiveDomain, leftMs: number): Promise<string | undefined> {
    return this.liveXml(domain, leftMs).then(taggedBy, () => undefined)
  }

  /** True while a job runs on the domain, such as a migration. Rejects as libvirt does. */
  async hasJob(domain: ActiveDomain, leftMs: number): Promise<boolean> {
    const { type } = await this.#of(domain, 'readOnly', leftMs, procedures.domainGetJobStats, 0)
    return ['bounded', 'unbounded'].includes(JOB_TYPES[type] ?? 'none')
  }

  /** How far a live migration is, as a sentence for the log; undefined while there is none. */
  async progress(domain: ActiveDomain, leftMs: number): Promise<string | undefined> {
    const { type, params } = await this.#of(domain, 'readOnly', leftMs, procedures.domainGetJobStats, 0)
    if (!['bounded', 'unbounded'].includes(JOB_TYPES[type] ?? 'none')) return undefined
    const mebibytes = (field: string) => Math.round(Number(params[field] ?? 0) / 1024 / 1024)
    return `${mebibytes('memory_remaining')} of ${mebibytes('memory_total')} MiB of memory are left`
  }

  /** What stands in the way of a start: the domain as libvirt keeps it while it is not active. Undefined when it keeps none. */
  async kept(
    known: Known,
    leftMs: number,
  ): Promise<{ name: string; uuid: string; managedSave: boolean; xml: string } | undefined> {
    const ask = await this.#asking('readWrite', leftMs)
    for (const domain of await found(ask, known)) {
      if (domain.id >= 0) continue
      const { result } = await ask(procedures.domainHasManagedSaveImage, { domain, flags: 0 })
      const { xml } = await ask(procedures.domainGetXMLDesc, { domain, flags: xmlFlags.inactive | xmlFlags.secure })
      return { name: domain.name, uuid: domain.uuid, managedSave: result !== 0, xml }
    }
    return undefined
  }

  /** While libvirt is silent: true when a process runs a domain that none of these uuids is. */
  hasOthers(uuids: ReadonlySet<string>): boolean {
    return hasOtherThan(this.#local.driver, uuids)
  }

  close(): void {
    for (const opening of this.#open.values()) opening.then(each => each.destroy()).catch(() => undefined)
    this.#open.clear()
  }

  async #ask(known: Known, leftMs: number): Promise<Presence> {
    const ask = await this.#asking('readOnly', leftMs)
    for (const domain of await found(ask, known)) {
      const presence = await stateOf(ask, domain)
      if (presence !== undefined) return presence
    }
    return { kind: 'absent' }
  }

  async #of<R>(
    { name, uuid }: ActiveDomain,
    access: Access,
    leftMs: number,
    procedure: Procedure<{ domain: WireDomain; flags: number }, R>,
    flags: number,
  ): Promise<R> {
    const ask = await this.#asking(access, leftMs)
    return ask(procedure, { domain: { name, uuid, id: -1 }, flags })
  }

  /** Asks over an open connection; all questions together have so long, and none longer than we are patient. */
  async #asking(access: Access, leftMs: number): Promise<Ask> {
    const untilMs = performance.now() + whole(leftMs)
    const connection = await this.#connect(access, whole(leftMs))
    return (procedure, args, mostMs = PATIENCE_MS) =>
      connection.call(procedure, args, whole(Math.min(mostMs, untilMs - performance.now())))
  }

  /** One connection for each access. One that has failed is forgotten, so that the next question tries anew. */
  #connect(access: Access, timeoutMs: number): Promise<Connection> {
    const open = this.#open.get(access)
    if (open !== undefined) return open
    const opening = this.#dial(access, timeoutMs)
    this.#open.set(access, opening)
    const forget = () => {
      if (this.#open.get(access) === opening) this.#open.delete(access)
    }
    opening.then(connection => connection.closed.then(forget), forget)
    return opening
  }

  async #dial(access: Access, timeoutMs: number): Promise<Connection> {
    const { name, socket } = this.#local
    const paths =
      socket === undefined ? socketNames(this.uri, access).map(each => join(SYSTEM_SOCKET_FOLDER, each)) : [socket]
    let failure: unknown = new ConnectionError('refused', `there is no socket ${paths.join(' or ')}`)
    // A daemon that was replaced by the other may have left its socket behind.
    for (const path of paths.filter(each => existsSync(each))) {
      try {
        return await openConnection(unixSocket(path), { uri: name, access, timeoutMs })
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  #silence(error: Error, known: Known): Silence {
    const installed = isLibvirtInstalled()
    const why = installed ? `libvirt does not answer (${error.message})` : 'libvirt is not installed'
    this.close()
    const process = processOf(this.#local.driver, known)
    // Who took the question and does not answer may be in the middle of a start: its process is still to come.
    const mayCome = error instanceof ConnectionError ? error.kind === 'timeout' : true
    return { kind: 'silent', why, installed, process: process ?? (mayCome ? 'unknown' : undefined) }
  }
}

/** What one question may take. Timers want whole milliseconds. */
function whole(leftMs: number): number {
  return Math.max(1, Math.ceil(Math.min(PATIENCE_MS, leftMs)))
}

/** One question to libvirt, with what is left of the time. */
type Ask = <A, R>(procedure: Procedure<A, R>, args: A, mostMs?: number) => Promise<R>

/** The domains that answer to one of the names or uuids, each once. Only "there is no such domain" is an absence. */
async function found(ask: Ask, { names, uuids }: Known): Promise<WireDomain[]> {
  const byUuid = new Map<string, WireDomain>()
  const add = (answer: { domain: WireDomain } | undefined) => answer && byUuid.set(answer.domain.uuid, answer.domain)
  const orNone = (error: Error) => (isGone(error) ? undefined : Promise.reject(error))
  for (const name of names) add(await ask(procedures.domainLookupByName, { name }).catch(orNone))
  for (const uuid of uuids) {
    if (!byUuid.has(uuid)) add(await ask(procedures.domainLookupByUUID, { uuid }).catch(orNone))
  }
  return [...byUuid.values()]
}

/** Undefined when it is not active, or not any more. */
async function stateOf(ask: Ask, domain: WireDomain): Promise<ActiveDomain | undefined> {
  const sizes = ask(procedures.domainGetInfo, { domain }, SIZE_PATIENCE_MS)
    .then(({ vcpus, maxMemoryKiB }) => ({ vcpus, maxMemoryMiB: Math.floor(Number(maxMemoryKiB) / 1024) }))
    .catch(() => ({}))
  const state = await ask(procedures.domainGetState, { domain, flags: 0 }).catch(error =>
    isGone(error) ? undefined : Promise.reject(error),
  )
  if (state === undefined) return undefined
  const word = DOMAIN_STATES[state.state] ?? 'nostate'
  if (word === 'shutoff' || (domain.id < 0 && word !== 'crashed')) return undefined
  const { name, uuid } = domain
  return { kind: 'active', name, uuid, state: word, stateReason: state.reason, ...(await sizes) }
}

function isGone(error: Error): boolean {
  return error instanceof LibvirtError && error.fields.code === errorCode.noDomain
}
