/** The store on a share that every host mounts: linearizable underneath, with all that a network file system does on top. */
import { checkKey, type Key, type Store, StoreError, type SwapResult, type Versioned } from '../store/store.ts'
import type { Network } from './network.ts'
import type { SimProcess } from './process.ts'
import type { Host, Scheduler } from './scheduler.ts'

/** How often DirectoryStore looks while it watches. */
const WATCH_INTERVAL_MS = 1000

interface Dated extends Versioned {
  readonly atMs: number
}

/** What is wrong with the share, as one host sees it. */
export interface StoreWeather {
  /** Reads are as old as this; nobody's own writes are. */
  staleMs: number
  slowMs: number
  full: boolean
  /** How often a swap says that nobody knows. */
  unknown: number
  /** Cut off, requests fail instead of waiting. */
  soft: boolean
}

/** Nothing is wrong. */
export const calm: StoreWeather = { staleMs: 0, slowMs: 0, full: false, unknown: 0, soft: false }

/** The records, as they truly are. */
export class Share {
  readonly server: Host
  readonly network: Network
  readonly scheduler: Scheduler
  /** All versions of each key, oldest first. */
  readonly records = new Map<Key, Dated[]>()
  /** Weather by host index; absent is calm. */
  readonly weather = new Map<number, StoreWeather>()
  readonly watchers = new Map<Key, Set<() => void>>()
  readonly #waiting: (() => void)[] = []
  readonly #answers = new Map<string, Promise<unknown>>()
  #names = new Map<Key, string[]>()

  constructor(server: Host, network: Network, scheduler: Scheduler) {
    this.server = server
    this.network = network
    this.scheduler = scheduler
  }

  /** The newest record. */
  newest(key: Key): Dated | undefined {
    return this.records.get(key)?.at(-1)
  }

  /** Compare-and-swap as it truly happens; the new version, or undefined. */
  put(key: Key, expected: number, text: string): number | undefined {
    const versions = this.records.get(key) ?? []
    if ((versions.at(-1)?.version ?? 0) !== expected) return undefined
    if (versions.length === 0) this.#names = new Map()
    if (!key.startsWith('claims/')) this.#answers.clear()
    // What is there at the beginning has been there for long: no cache is so old that it does not know it.
    const { nowMs } = this.scheduler
    versions.push({ version: expected + 1, text, atMs: nowMs === 0 ? Number.NEGATIVE_INFINITY : nowMs })
    this.records.set(key, versions)
    for (const wake of [...(this.watchers.get(key) ?? [])]) wake()
    return expected + 1
  }

  /** What reading gave, until something is written: every reader whom nothing ails gets the same. */
  answer<T>(what: string, read: () => Promise<T>): Promise<T> {
    const known = this.#answers.get(what) as Promise<T> | undefined
    if (known !== undefined) return known
    const answer = read()
    this.#answers.set(what, answer)
    return answer
  }

  /** Names below a prefix. */
  names(prefix: Key): string[] {
    const known = this.#names.get(prefix)
    if (known !== undefined) return known
    const start = prefix === '' ? '' : `${prefix}/`
    const below = [...this.records.keys()].filter(key => key.startsWith(start))
    const names = [...new Set(below.map(key => key.slice(start.length).split('/', 1).join()))].sort()
    this.#names.set(prefix, names)
    return names
  }

  /** True when this host can work with the share now. */
  reachable(host: Host): boolean {
    return this.network.both(host, this.server)
  }

  /** A request that hangs until the cables are mended. */
  wait(retry: () => void): void {
    this.#waiting.push(retry)
  }

  /** Some cable was mended: what hangs is tried again. */
  mended(): void {
    for (const retry of this.#waiting.splice(0)) retry()
  }
}

/** The store of one process. */
export class SimStore implements Store {
  readonly #share: Share
  readonly #process: SimProcess
  /** The versions that this process knows: no read is older. */
  readonly #floor = new Map<Key, number>()

  constructor(share: Share, process: SimProcess) {
    this.#share = share
    this.#process = process
  }

  read(key: Key, how?: 'fresh'): Promise<Versioned | undefined> {
    if (this.isFine()) return Promise.resolve(this.#share.newest(key))
    if (how === 'fresh') return this.#request(() => this.#newest(key), this.#weather().full)
    return this.#request(() => this.#seen(key))
  }

  list(prefix: Key, how?: 'fresh'): Promise<string[]> {
    if (this.isFine()) return Promise.resolve(this.#share.names(prefix))
    return this.#request(() => this.#share.names(prefix), how === 'fresh' && this.#weather().full)
  }

  swap(key: Key, expected: number, text: string): Promise<SwapResult> {
    checkKey(key)
    return this.#request(() => this.#swapped(key, expected, text), this.#weather().full)
  }

  /** Lets something else happen on the share, as any request would; a `write` fails where the share is full. */
  pass<T>(work: () => Promise<T>, write = false): Promise<T> {
    if (this.isFine()) return work()
    const begun = () => {
      const done = work()
      done.catch(() => undefined)
      return { done }
    }
    return this.#request(begun, write && this.#weather().full).then(({ done }) => done)
  }

  watch(key: Key, known: number, signal: AbortSignal): Promise<Versioned | undefined> {
    const { newest, reachable } = { newest: () => this.#share.newest(key), reachable: () => this.#reachable() }
    return new Promise(resolve => {
      let over = false
      const watchers = this.#share.watchers.get(key) ?? new Set()
      this.#share.watchers.set(key, watchers)
      const finish = (value: Versioned | undefined) => {
        if (over) return
        over = true
        watchers.delete(changed)
        signal.removeEventListener('abort', aborted)
        this.#process.resume(resolve, value)
      }
      const look = () => {
        if (over) return
        if (!reachable()) return this.#share.wait(() => this.#process.after(1, look))
        const found = newest()
        if (found !== undefined && found.version !== known) finish(found)
        else if (signal.aborted) finish(undefined)
      }
      const changed = () => this.#process.after(this.#process.random.between(1, WATCH_INTERVAL_MS), look)
      // Its last look was up to an interval ago; where the share hangs, the end waits, too.
      const aborted = () => this.#process.after(0, () => (reachable() ? finish(undefined) : look()))
      watchers.add(changed)
      signal.addEventListener('abort', aborted)
      if (signal.aborted) aborted()
      else if ((newest()?.version ?? 0) !== known) changed()
    })
  }

  /** A request to the share: on its way, done there, answered. */
  #request<T>(work: () => T, refused = false): Promise<T> {
    return new Promise((resolve, reject) => {
      const attempt = () => {
        if (this.#reachable()) {
          const value = refused ? undefined : { is: work() }
          this.#process.after(this.#delay(), () => {
            if (value !== undefined) this.#process.resume(resolve, value.is)
            else this.#process.resume(reject, broken('no space left on device'))
          })
        } else if (this.#weather().soft) {
          this.#process.after(5000, () => this.#process.resume(reject, broken('the share does not answer')))
        } else this.#share.wait(() => this.#process.after(1, attempt))
      }
      // What was sent arrives, whatever becomes of the sender; of what a machine that stands still now has sent, half is still in it.
      this.#share.scheduler.after(this.#delay(), undefined, () => {
        const { host, random } = this.#process
        if (host.frozen && random.chance(0.5)) this.#process.after(0, attempt)
        else attempt()
      })
    })
  }

  #swapped(key: Key, expected: number, text: string): SwapResult {
    const { unknown } = this.#weather()
    const doubtful = unknown > 0 && this.#process.random.chance(unknown)
    if (doubtful && this.#process.random.chance(0.5)) return { outcome: 'unknown', reason: 'the share failed' }
    const version = this.#share.put(key, expected, text)
    if (version === undefined) {
      this.#know(key, this.#share.newest(key)?.version ?? 0)
      return { outcome: 'lost' }
    }
    this.#know(key, version)
    return doubtful ? { outcome: 'unknown', reason: 'the share failed' } : { outcome: 'won', version }
  }

  #newest(key: Key): Versioned | undefined {
    const found = this.#share.newest(key)
    if (found !== undefined) this.#know(key, found.version)
    return found
  }

  /** As this host sees it: not older than its weather allows, nor than what this process knows. */
  #seen(key: Key): Versioned | undefined {
    const versions = this.#share.records.get(key)
    if (versions === undefined) return undefined
    const since = this.#share.scheduler.nowMs - this.#weather().staleMs
    const floor = this.#floor.get(key) ?? 0
    const found = versions.findLast(({ version, atMs }) => version <= floor || atMs <= since)
    if (found !== undefined) this.#know(key, found.version)
    return found
  }

  #know(key: Key, version: number): void {
    if (version > (this.#floor.get(key) ?? 0)) this.#floor.set(key, version)
  }

  /** True when reads are answered at once and with the newest. */
  isFine(): boolean {
    const weather = this.#share.weather.get(this.#process.host.index)
    return weather === undefined && this.#reachable()
  }

  #reachable(): boolean {
    return this.#share.reachable(this.#process.host)
  }

  #weather(): StoreWeather {
    return this.#share.weather.get(this.#process.host.index) ?? calm
  }

  #delay(): number {
    return this.#process.random.between(0.3, 2) + this.#weather().slowMs * this.#process.random.next()
  }
}

function broken(why: string): StoreError {
  return new StoreError(`the store cannot be used: ${why}`, 'look at the share')
}
