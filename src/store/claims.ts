/**
 * Claims: one operator at a time on a domain (rule 3), by compare-and-swap alone.
 *
 * A claim's record lives under the domain's uuid. The name and each exclusive writable disk have a key of their own, which
 * says which claim holds them; they are held exactly as long as that claim is. So only one record is renewed and released.
 * No two hosts' clocks are compared: `since` is for people; a stale claim is one that a watcher saw unchanged for its time to live.
 */
import { randomUUID } from 'node:crypto'
import { parse, stringify } from 'yaml'
import type { Identity } from '../core/cluster.ts'
import { diskIdentity } from '../core/domain-xml.ts'
import type { Clock } from './clock.ts'
import { keySegment } from './key.ts'
import { isDead, type Owner } from './owner.ts'
import { type Key, type Store, StoreError } from './store.ts'

/** A command that was sent and whose end nobody saw (rule 12). It stays until its node's guard has been raised above it. */
export interface Doubt {
  readonly node: string
  readonly generation: number
  readonly command: string
  readonly since: string
}

/** A claim as the store holds it. */
export interface ClaimRecord {
  readonly state: 'held' | 'released'
  /** Grows by one with every new holder. The guard on the node lets no lower one pass. */
  readonly generation: number
  /** This one holding: two holdings never have the same. */
  readonly token: string
  /** Grows with every renewal and step, so that a watcher sees life. */
  readonly beat: number
  readonly ttlMs: number
  readonly domain: string
  readonly uuid: string
  readonly node?: string
  readonly verb: string
  readonly since: string
  readonly owner: Owner
  readonly doubts: readonly Doubt[]
}

/** A key that belongs to a claim: `claims/name/web` says by which record it is held. */
interface Pointer {
  readonly claim: Key
  readonly token: string
}

/** The claim is no longer ours: somebody took it over, or our time ran out. Nothing more may be started. */
export class ClaimLostError extends Error {
  override readonly name = 'ClaimLostError'
}

/** Who asks, and for what: shown in every refusal that the claim causes. */
export interface ClaimRequest {
  readonly identity: Identity & { readonly uuid: string }
  readonly verb: string
  /** The node that we run on, if it is one. */
  readonly node?: string
}

/** What came of asking for a claim. */
export type Acquired = { readonly claim: Claim } | { readonly heldBy: ClaimRecord }

const CLAIMS = 'claims/uuid'

export class Claims {
  readonly #store: Store
  readonly #clock: Clock
  readonly #us: Owner
  readonly #ttlMs: number

  constructor(store: Store, clock: Clock, us: Owner, ttlMs: number) {
    this.#store = store
    this.#clock = clock
    this.#us = us
    this.#ttlMs = ttlMs
  }

  /**
   * Takes the domain's claim. A holder that is alive, or whose life cannot be told from here, refuses it; one that
   * certainly died on this machine is succeeded at once, its commands in doubt included.
   */
  async acquire(request: ClaimRequest): Promise<Acquired> {
    const key = `${CLAIMS}/${request.identity.uuid}`
    const found = await this.#read(key)
    if (found !== undefined && (await this.#isHeld(found.record))) return { heldBy: found.record }
    return this.#succeed(key, found, request)
  }

  /**
   * Takes the claim although somebody holds it, once it has stood unchanged for its time to live by our own clock.
   * `heldBy` comes back when the holder gave a sign of life meanwhile.
   */
  async takeOver(request: ClaimRequest, waiting: (secondsLeft: number) => void): Promise<Acquired> {
    const key = `${CLAIMS}/${request.identity.uuid}`
    const found = await this.#read(key)
    if (found !== undefined && (await this.#isHeld(found.record))) {
      const alive = await this.#watch(key, found, waiting)
      // It let go while we watched: then it is there to be taken like any other.
      if (alive?.state === 'released') return this.acquire(request)
      if (alive !== undefined) return { heldBy: alive }
    }
    return this.#succeed(key, found, request)
  }

  /** Every claim that is held now, or that left commands in doubt. */
  async list(): Promise<ClaimRecord[]> {
    const keys = await this.#store.list(CLAIMS)
    const found = await Promise.all(keys.map(key => this.#read(`${CLAIMS}/${key}`)))
    return found.flatMap(each =>
      each !== undefined && (each.record.state === 'held' || each.record.doubts.length > 0) ? [each.record] : [],
    )
  }

  async #succeed(key: Key, found: Found | undefined, request: ClaimRequest): Promise<Acquired> {
    const record = this.#newRecord(found?.record, request)
    const sentAtMs = this.#clock.monotonicMs()
    const result = await this.#store.swap(key, found?.version ?? 0, stringify(record))
    const now = await this.#read(key)
    // "Unknown" may have held after all: the record itself tells.
    if (result.outcome === 'lost' || now === undefined || now.record.token !== record.token) {
      if (now === undefined) throw new StoreError('a claim vanished while it was taken', 'try again')
      return { heldBy: now.record }
    }
    const claim = new Claim(this.#store, this.#clock, key, now, sentAtMs)
    try {
      const holder = await this.#takePointers(request.identity, { claim: key, token: record.token })
      if (holder === undefined) return { claim }
      await claim.release()
      return { heldBy: holder }
    } catch (error) {
      // A claim that nobody works under must not stand in the way; if it cannot be released either, it runs out.
      await claim.release().catch(() => undefined)
      throw error
    }
  }

  #newRecord(before: ClaimRecord | undefined, { identity, verb, node }: ClaimRequest): ClaimRecord {
    return {
      state: 'held',
      generation: (before?.generation ?? 0) + 1,
      token: randomUUID(),
      beat: 0,
      ttlMs: this.#ttlMs,
      domain: identity.name,
      uuid: identity.uuid,
      ...(node === undefined ? {} : { node }),
      verb,
      since: new Date(this.#clock.now()).toISOString(),
      owner: this.#us,
      doubts: before?.doubts ?? [],
    }
  }

  /** Points the name and the disks at our claim; the holder of one that is taken, if any is. In sorted order, so that one of two rivals wins. */
  async #takePointers(identity: Identity, ours: Pointer): Promise<ClaimRecord | undefined> {
    for (const key of pointerKeys(identity)) {
      const holder = await this.#takePointer(key, ours)
      if (holder !== undefined) return holder
    }
    return undefined
  }

  async #takePointer(key: Key, ours: Pointer): Promise<ClaimRecord | undefined> {
    const found = await this.#store.read(key)
    const holder = found === undefined ? undefined : await this.#holderOf(toPointer(key, found.text), ours)
    if (holder !== undefined) return holder
    const result = await this.#store.swap(key, found?.version ?? 0, stringify(ours))
    if (result.outcome === 'won') return undefined
    // Somebody was faster, or nobody knows: whoever it points at now decides.
    const now = await this.#store.read(key)
    const pointer = now === undefined ? undefined : toPointer(key, now.text)
    if (pointer?.token === ours.token) return undefined
    const rival = pointer === undefined ? undefined : await this.#read(pointer.claim)
    if (rival === undefined) throw new StoreError(`the claim ${key} could not be taken`, 'try again')
    return rival.record
  }

  async #holderOf(pointer: Pointer, ours: Pointer): Promise<ClaimRecord | undefined> {
    if (pointer.claim === ours.claim) return undefined
    const claim = await this.#read(pointer.claim)
    if (claim === undefined) return undefined
    // A command in doubt may still bring that domain to life, with this name and on these disks (rule 12), whoever held the
    // claim since and whatever disks it had then.
    if (claim.record.doubts.length > 0) return claim.record
    return claim.record.token === pointer.token && (await this.#isHeld(claim.record)) ? claim.record : undefined
  }

  async #isHeld(record: ClaimRecord): Promise<boolean> {
    return record.state === 'held' && !(await isDead(record.owner, this.#us))
  }

  /** Waits until the record stood still for its time to live; the living holder's record if it did not. */
  async #watch(key: Key, found: Found, waiting: (secondsLeft: number) => void): Promise<ClaimRecord | undefined> {
    const signal = AbortSignal.timeout(found.record.ttlMs)
    const startedMs = this.#clock.monotonicMs()
    const left = () => Math.ceil((found.record.ttlMs - (this.#clock.monotonicMs() - startedMs)) / 1000)
    waiting(left())
    const ticker = setInterval(() => waiting(Math.max(0, left())), 1000)
    const changed = await this.#store.watch(key, found.version, signal).finally(() => clearInterval(ticker))
    return changed === undefined ? undefined : toRecord(key, changed.text)
  }

  async #read(key: Key): Promise<Found | undefined> {
    const found = await this.#store.read(key)
    return found === undefined ? undefined : { version: found.version, record: toRecord(key, found.text) }
  }
}

interface Found {
  readonly version: number
  readonly record: ClaimRecord
}

/** A claim that we hold. Every method rejects with {@link ClaimLostError} once it is not ours any more. */
export class Claim {
  readonly #store: Store
  readonly #clock: Clock
  readonly #key: Key
  #version: number
  #record: ClaimRecord
  /** From before the last renewal was sent: our life begins no later than anybody could see it begin. */
  #renewedAtMs: number
  #queue: Promise<unknown> = Promise.resolve()
  #renewing: NodeJS.Timeout | undefined
  /** Doubts that ended while a swap which still has them was under way. */
  readonly #settled = new WeakSet<Doubt>()

  constructor(store: Store, clock: Clock, key: Key, found: Found, sentAtMs: number) {
    this.#store = store
    this.#clock = clock
    this.#key = key
    this.#version = found.version
    this.#record = found.record
    this.#renewedAtMs = sentAtMs
  }

  get record(): ClaimRecord {
    return this.#record
  }

  /** Renews in the background while something long goes on. `lost` is called once if the claim is taken from us. */
  keepAlive(lost: (error: Error) => void): void {
    let busy = false
    this.#renewing = setInterval(async () => {
      if (busy) return
      busy = true
      try {
        await this.#change(record => record)
        busy = false
      } catch (error) {
        busy = false
        // A store that hiccups is asked again as long as our life lasts; nobody can have taken the claim before that.
        if (!(error instanceof ClaimLostError) && this.#alive()) return
        clearInterval(this.#renewing)
        lost(
          error instanceof ClaimLostError
            ? error
            : new ClaimLostError(`the claim could not be renewed: ${(error as Error).message}`),
        )
      }
    }, this.#record.ttlMs / 6)
  }

  /** Within the first half of our life, counted from before the last renewal was sent. */
  #alive(): boolean {
    return this.#clock.monotonicMs() - this.#renewedAtMs <= this.#record.ttlMs / 2
  }

  /** Re-checks that the claim is ours and writes what is about to be sent, both in one swap (rule 12). */
  async about(node: string, command: string): Promise<void> {
    const doubt: Doubt = {
      node,
      generation: this.#record.generation,
      command,
      since: new Date(this.#clock.now()).toISOString(),
    }
    await this.#change(record => ({ ...record, doubts: [...record.doubts, doubt] }))
    if (!this.#alive()) {
      throw new ClaimLostError('the store took so long that the claim may have run out')
    }
  }

  /** The end of everything sent to this node was seen, or the guard there was raised: no doubt is left. Written with the next swap. */
  settled(node: string): void {
    for (const doubt of this.#record.doubts) if (doubt.node === node) this.#settled.add(doubt)
    this.#record = this.#withoutSettled(this.#record)
  }

  /** Ends the claim. What is still in doubt stays written down for whoever comes next. */
  async release(): Promise<void> {
    clearInterval(this.#renewing)
    await this.#change(record => ({ ...record, state: 'released' }))
  }

  /** One swap at a time: a renewal and a step must not lose against each other. */
  #change(change: (record: ClaimRecord) => ClaimRecord): Promise<void> {
    const turn = this.#queue.then(() => this.#swap(change))
    this.#queue = turn.catch(() => undefined)
    return turn
  }

  async #swap(change: (record: ClaimRecord) => ClaimRecord): Promise<void> {
    if (this.#record.state === 'released') throw new ClaimLostError('the claim was released')
    const sentAtMs = this.#clock.monotonicMs()
    const record = { ...change(this.#record), beat: this.#record.beat + 1 }
    const result = await this.#store.swap(this.#key, this.#version, stringify(record))
    if (result.outcome === 'won') this.#version = result.version
    else await this.#resolve(record)
    this.#record = this.#withoutSettled(record)
    this.#renewedAtMs = sentAtMs
  }

  #withoutSettled(record: ClaimRecord): ClaimRecord {
    return { ...record, doubts: record.doubts.filter(doubt => !this.#settled.has(doubt)) }
  }

  /** The swap was lost or nobody knows: only finding our very record as the newest says that it held. */
  async #resolve(record: ClaimRecord): Promise<void> {
    const now = await this.#store.read(this.#key)
    const newest = now === undefined ? undefined : toRecord(this.#key, now.text)
    if (now === undefined || newest?.token !== record.token || newest.beat !== record.beat) {
      throw new ClaimLostError(
        `the claim on ${this.#record.domain} was taken over by ${newest === undefined ? 'somebody' : ownerText(newest)}`,
      )
    }
    this.#version = now.version
  }
}

/** "root@node2 (pid 4711)": who holds a claim, for people. */
export function ownerText({ owner, node }: ClaimRecord): string {
  return `${owner.user}@${node ?? owner.host} (pid ${owner.pid})`
}

function pointerKeys(identity: Identity): Key[] {
  const disks = identity.disks.flatMap(disk => diskIdentity(disk.source) ?? [])
  return [`claims/name/${keySegment(identity.name)}`, ...disks.map(disk => `claims/disk/${keySegment(disk)}`)].sort()
}

function toRecord(key: Key, text: string): ClaimRecord {
  const value = parsed(key, text)
  const numbers = ['generation', 'beat', 'ttlMs'].every(field => typeof value[field] === 'number')
  const texts = ['token', 'domain', 'uuid', 'verb', 'since'].every(field => typeof value[field] === 'string')
  const known = value['state'] === 'held' || value['state'] === 'released'
  if (!numbers || !texts || !known || !isObject(value['owner']) || !Array.isArray(value['doubts']))
    throw unreadable(key)
  return value as unknown as ClaimRecord
}

function toPointer(key: Key, text: string): Pointer {
  const value = parsed(key, text)
  if (typeof value['claim'] !== 'string' || typeof value['token'] !== 'string') throw unreadable(key)
  return value as unknown as Pointer
}

function parsed(key: Key, text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = parse(text, { maxAliasCount: 0 })
  } catch {
    throw unreadable(key)
  }
  if (!isObject(value)) throw unreadable(key)
  return value
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unreadable(key: Key): StoreError {
  return new StoreError(
    `the claim var/${key} cannot be read`,
    'it may be of a newer havirt; do not remove it while anything runs under it',
  )
}
