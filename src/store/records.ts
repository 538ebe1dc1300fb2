/** The typed records of the cluster over any store: YAML texts that people can read, checked when they are read back. */
import { parse, stringify } from 'yaml'
import type { DomainRecord } from '../core/cluster.ts'
import type { LeaseSighting } from '../core/lease-pass.ts'
import { emptyLedger, type Ledger } from '../core/ledger.ts'
import { isNodeName, type NodeRecord } from '../core/node.ts'
import { keySegment } from './key.ts'
import { type Store, StoreError, type Versioned } from './store.ts'

/** What the last scan saw on a node: the base of "what changed since". Never evidence (rule 6). */
export interface Population {
  readonly [uuid: string]: { readonly name: string; readonly state: string; readonly autostart?: true }
}

/** Who the cluster is. */
export interface ClusterRecord {
  readonly id: string
  readonly created: string
}

/**
 * The host ids that were given out, by the node's own id. None is ever given to another machine: one that is no node any more may still
 * be alive, and two hosts with one id could hold one lease.
 */
export interface HostIds {
  readonly [nodeId: string]: { readonly node: string; readonly hostId: number }
}

const NODES = 'nodes'
const HOST_IDS = 'host-ids'
const LEASES = 'leases'
const LEDGERS = 'ledger'
const DOMAINS = 'domains'
const POPULATION = 'population'
const CLUSTER = 'cluster'
/** How often a write is tried again when somebody else wrote the same record in between. */
const ATTEMPTS = 20
/** More than one command reads; what runs for months must not keep them all. */
const KNOWN_TEXTS = 5000

export class Records {
  readonly #store: Store
  /** The values of texts that were read before: most records are read several times by one command. Nobody changes a value. */
  readonly #values = new Map<string, unknown>()

  constructor(store: Store) {
    this.#store = store
  }

  /**
   * All nodes by name. Under a claim they are read `fresh` (rule 6): a node that was added a moment ago, and that a cache does not
   * show yet, may have the domain.
   */
  async nodes(how?: 'fresh'): Promise<Map<string, NodeRecord>> {
    const names = await this.#store.list(NODES, how)
    const records = await Promise.all(names.map(name => this.#read<NodeRecord>(`${NODES}/${name}`, isNodeRecord)))
    return new Map(records.filter(record => record !== undefined).map(record => [record.name, record]))
  }

  async writeNode(record: NodeRecord): Promise<void> {
    await this.#write(`${NODES}/${record.name}`, record)
  }

  /** Takes the node out of the list. Its numbers live on, so that an old writer cannot bring it back unseen. */
  async removeNode(name: string): Promise<void> {
    await this.#write(`${NODES}/${name}`, { removed: true })
  }

  /**
   * What is written down about a node: empty when nothing is. That it is down allows something, and may be an old cache's word for
   * a node that has come back since: only that is read past the caches.
   */
  async ledger(node: string): Promise<Ledger> {
    const key = `${LEDGERS}/${node}`
    const seen = await this.#read<Ledger>(key, isLedger)
    const ledger =
      seen?.down === undefined ? seen : await this.#read<Ledger>(key, isLedger, 'fresh').catch(unproven(seen))
    return ledger ?? emptyLedger
  }

  /** Changes a node's ledger by compare-and-swap: `change` gets what is there, and may be called again when somebody was faster. */
  async changeLedger(node: string, change: (ledger: Ledger) => Ledger | Promise<Ledger>): Promise<Ledger> {
    return this.#change<Ledger>(`${LEDGERS}/${node}`, isLedger, async before => change(before ?? emptyLedger))
  }

  /** What is remembered of every domain, by name. */
  async domains(): Promise<Map<string, DomainRecord>> {
    const segments = await this.#store.list(DOMAINS)
    const records = await Promise.all(
      segments.map(segment => this.#read<DomainRecord & { name: string }>(`${DOMAINS}/${segment}`, isDomainRecord)),
    )
    return new Map(records.filter(record => record !== undefined).map(({ name, ...record }) => [name, record]))
  }

  /** Changes one domain's record; unchanged, nothing is written. */
  async writeDomain(name: string, record: DomainRecord): Promise<void> {
    await this.#write(`${DOMAINS}/${keySegment(name)}`, { name, ...record })
  }

  async population(node: string): Promise<Population | undefined> {
    return this.#read<Population>(`${POPULATION}/${node}`, isPopulation)
  }

  async writePopulation(node: string, population: Population): Promise<void> {
    await this.#write(`${POPULATION}/${node}`, population)
  }

  /** What the last observation of a node's leases showed; undefined when there was none. */
  async leaseSighting(node: string): Promise<LeaseSighting | undefined> {
    return this.#read<LeaseSighting>(`${LEASES}/${node}`, isLeaseSighting, 'fresh')
  }

  async writeLeaseSighting(node: string, sighting: LeaseSighting): Promise<void> {
    await this.#write(`${LEASES}/${node}`, sighting)
  }

  async hostIds(): Promise<HostIds> {
    return (await this.#read<HostIds>(HOST_IDS, isHostIds)) ?? {}
  }

  /** Changes who has which host id by compare-and-swap, so that two who give them out at once give none twice. */
  async changeHostIds(change: (before: HostIds) => HostIds): Promise<HostIds> {
    return this.#change<HostIds>(HOST_IDS, isHostIds, async before => change(before ?? {}))
  }

  async cluster(): Promise<ClusterRecord | undefined> {
    return this.#read<ClusterRecord>(CLUSTER, isClusterRecord)
  }

  /** Makes the cluster's record if there is none; whoever was first, everybody gets the same one. */
  async createCluster(record: ClusterRecord): Promise<ClusterRecord> {
    await this.#store.swap(CLUSTER, 0, stringify(record))
    const made = await this.cluster()
    if (made === undefined)
      throw new StoreError('the cluster record could not be written', 'check that the home folder can be written')
    return made
  }

  async #read<T>(key: string, check: (value: unknown) => boolean, how?: 'fresh'): Promise<T | undefined> {
    const found = await this.#store.read(key, how)
    return found === undefined ? undefined : this.#understood<T>(key, found, check)
  }

  async #write(key: string, value: unknown): Promise<void> {
    await this.#change(
      key,
      () => true,
      async () => value,
    )
  }

  /** Unchanged, nothing is written. A swap of which nobody knows is tried again: the text that is there then tells. */
  async #change<T>(
    key: string,
    check: (value: unknown) => boolean,
    change: (before: T | undefined) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found = await this.#store.read(key)
      const value = await change(found === undefined ? undefined : this.#understood<T>(key, found, check))
      const text = stringify(value)
      if (found?.text === text) return value
      const result = await this.#store.swap(key, found?.version ?? 0, text)
      if (result.outcome === 'won') return value
    }
    throw new StoreError(`${key} could not be written: others kept writing it`, 'try again')
  }

  #understood<T>(key: string, found: Versioned, check: (value: unknown) => boolean): T | undefined {
    const value = this.#valueOf(key, found)
    if (isRemoved(value)) return undefined
    if (!check(value)) throw damaged(key, found, 'it does not hold what it should')
    return value as T
  }

  #valueOf(key: string, found: Versioned): unknown {
    if (this.#values.has(found.text)) return this.#values.get(found.text)
    const value = parsed(key, found)
    if (this.#values.size === KNOWN_TEXTS) this.#values.clear()
    this.#values.set(found.text, value)
    return value
  }
}

/** Where nothing can be written, nothing proves that a node is still called down: it is shown, and nothing relies on it. */
function unproven(seen: Ledger): (error: unknown) => Ledger {
  return error => {
    if (!(error instanceof StoreError) || seen.down === undefined) throw error
    return { ...seen, down: { ...seen.down, answered: true } }
  }
}

/** A record's value. Throws {@link StoreError} when the text is not YAML. */
function parsed(key: string, found: Versioned): unknown {
  try {
    return parse(found.text, { maxAliasCount: 0 })
  } catch (error) {
    throw damaged(key, found, error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))
  }
}

function damaged(key: string, { version }: Versioned, problem: string): StoreError {
  return new StoreError(
    `the record var/${key}/${version}.yaml cannot be used: ${problem}`,
    `the version before it is var/${key}/${version - 1}.yaml`,
  )
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isRemoved(value: unknown): boolean {
  return isObject(value) && value['removed'] === true
}

const NODE_TEXTS = ['id', 'hostUuid', 'hostname', 'cpuModel', 'libvirtVersion', 'hypervisorVersion', 'updated'] as const
const NODE_NUMBERS = ['cpus', 'memoryMiB', 'sockets', 'coresPerSocket', 'threadsPerCore', 'mhz'] as const

function isNodeRecord(value: unknown): boolean {
  if (!isObject(value) || typeof value['name'] !== 'string' || !isNodeName(value['name'])) return false
  return (
    NODE_TEXTS.every(key => typeof value[key] === 'string') && NODE_NUMBERS.every(key => typeof value[key] === 'number')
  )
}

function isDomainRecord(value: unknown): boolean {
  return isObject(value) && typeof value['name'] === 'string' && typeof value['manual'] === 'boolean'
}

function isLedger(value: unknown): boolean {
  if (!isObject(value) || !Array.isArray(value['reservations'])) return false
  const { maintenance, down, invalid } = value
  const marks = [maintenance, down, invalid].filter(mark => mark !== undefined)
  const texts = ['token', 'uuid', 'domain', 'by'] as const
  return (
    isDrained(value['drained'] ?? []) &&
    isPassed(value['passed'] ?? []) &&
    (!isObject(invalid) || isTexts(invalid['checks'])) &&
    marks.every(mark => isObject(mark) && typeof mark['by'] === 'string' && typeof mark['since'] === 'string') &&
    value['reservations'].every(
      (each: unknown) =>
        isObject(each) &&
        texts.every(key => typeof each[key] === 'string') &&
        typeof each['generation'] === 'number' &&
        typeof each['memoryMiB'] === 'number' &&
        typeof each['vcpus'] === 'number',
    )
  )
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every(each => typeof each === 'string')
}

function isDrained(value: unknown): boolean {
  const texts = ['uuid', 'domain', 'from'] as const
  return (
    Array.isArray(value) &&
    value.every((each: unknown) => isObject(each) && texts.every(key => typeof each[key] === 'string'))
  )
}

function isHostIds(value: unknown): boolean {
  return (
    isObject(value) &&
    Object.values(value).every(
      each => isObject(each) && typeof each['node'] === 'string' && typeof each['hostId'] === 'number',
    )
  )
}

function isPassed(value: unknown): boolean {
  const texts = ['uuid', 'domain', 'to', 'by', 'since'] as const
  return (
    Array.isArray(value) &&
    value.every(
      (each: unknown) =>
        isObject(each) &&
        texts.every(key => typeof each[key] === 'string') &&
        typeof each['hostId'] === 'number' &&
        isObject(each['taken']),
    )
  )
}

function isLeaseSighting(value: unknown): boolean {
  return (
    isObject(value) &&
    typeof value['nodeId'] === 'string' &&
    typeof value['hostId'] === 'number' &&
    typeof value['generation'] === 'number' &&
    typeof value['watchdog'] === 'boolean' &&
    isObject(value['domains']) &&
    Object.values(value['domains']).every(
      each => isObject(each) && typeof each['name'] === 'string' && typeof each['state'] === 'string',
    )
  )
}

function isPopulation(value: unknown): boolean {
  return (
    isObject(value) &&
    Object.values(value).every(
      each => isObject(each) && typeof each['name'] === 'string' && typeof each['state'] === 'string',
    )
  )
}

function isClusterRecord(value: unknown): boolean {
  return isObject(value) && typeof value['id'] === 'string'
}
