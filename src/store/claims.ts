/**
 * Claims: one operator at a time on a domain (rule 3), by compare-and-swap alone.
 *
 * A claim's record lives under the domain's uuid. The name and each exclusive writable disk have a key of their own, which
 * says which claim holds them; they are held exactly as long as that claim is. So only one record is renewed and released.
 * No two hosts' clocks are compared: `since` is for people; a stale claim is one that a watcher saw unchanged for its time to
 * live, by its own monotonic clock, and is then taken over.
 */
import { randomUUID } from 'node:crypto'
import type { Identity } from '../core/cluster.ts'
import type { Reservation } from '../core/ledger.ts'
import { Claim } from './claim.ts'
import {
  arrivesLate,
  CLAIMS,
  type ClaimRecord,
  type Doubt,
  diskKey,
  isInDoubt,
  type Pointer,
  pointerKeys,
  toPointer,
  toRecord,
  toText,
} from './claim-record.ts'
import type { Clock } from './clock.ts'
import { isDead, type Owner } from './owner.ts'
import { type Key, type Store, StoreError, type Versioned } from './store.ts'

/** The claim that room was reserved under. */
type Reserving = Pick<Reservation, 'uuid' | 'token' | 'generation'>

/** Who asks, and for what: shown in every refusal that the claim causes. */
export interface ClaimRequest {
  readonly identity: Identity & { readonly uuid: string }
  readonly verb: string
  /** The node that we run on, if it is one. */
  readonly node?: string
}

/** How long the asker waits for a holder who lives. One who gives no sign of life is always waited for, until he counts as dead. */
export interface Patience {
  readonly waitMs: number
  /** Told while it waits: for whom, and for how many seconds at most. */
  waiting(holder: ClaimRecord, secondsLeft: number): void
}

/** What came of asking for a claim. */
export type Acquired = { readonly claim: Claim } | { readonly heldBy: ClaimRecord }

const IMPATIENT: Patience = { waitMs: 0, waiting: () => undefined }

interface Found {
  readonly version: number
  readonly record: ClaimRecord
}

export class Claims {
  readonly #store: Store
  readonly #clock: Clock
  readonly #us: Owner
  readonly #ttlMs: number
  readonly #isDead: (owner: Owner, us: Owner) => Promise<boolean>
  /** The last holder of each claim that we watched, by the claim's key. */
  readonly #watched = new Map<Key, ClaimRecord>()

  /** `isOwnerDead` is true only for one who is certainly gone, as {@link isDead} says it of processes of this machine. */
  constructor(store: Store, clock: Clock, us: Owner, ttlMs: number, isOwnerDead = isDead) {
    this.#store = store
    this.#clock = clock
    this.#us = us
    this.#ttlMs = ttlMs
    this.#isDead = isOwnerDead
  }

  /**
   * Takes the domain's claim. A holder that certainly died on this machine is succeeded at once; any other is watched: a sign
   * of life refuses us (unless there is patience left), standing still for its time to live makes the claim ours, its commands
   * in doubt included. `heldBy` in state `released` is another domain's claim that left commands in doubt on our name or disks.
   */
  async acquire(request: ClaimRequest, patience: Patience = IMPATIENT): Promise<Acquired> {
    const untilMs = this.#clock.monotonicMs() + patience.waitMs
    for (;;) {
      const attempt = await this.#attempt(request)
      if ('claim' in attempt) return attempt
      const { state, uuid } = attempt.heldBy
      // One of our own domain was faster than we, and has ended since: it is free.
      if (state === 'released' && uuid !== request.identity.uuid) return attempt
      const key = `${CLAIMS}/${uuid}`
      const end = await this.#outwait(key, attempt.heldBy, untilMs, patience)
      if (end !== 'free') return { heldBy: end }
    }
  }

  /**
   * Writes down that nodes show a disk under other names, too, so that whoever claims it by this name claims it by those. Only a
   * claim that is taken afterwards covers them.
   */
  async remember(claim: Claim, disk: string, names: readonly string[]): Promise<void> {
    const key = diskKey(disk)
    const found = await this.#store.read(key)
    const before = found === undefined ? undefined : toPointer(key, found.text)
    if (found === undefined || before === undefined || before.token !== claim.record.token) return
    const also = [...new Set([...(before.also ?? []), ...names.map(diskKey)])].sort()
    await this.#store.swap(key, found.version, toText({ ...before, also }))
  }

  /**
   * True while a domain may still arrive on the node under the claim that reserved its room there: the claim is held, or a command
   * that brings the domain there is in doubt, whoever held the claim since. What is over is known at once: a claim never comes back.
   */
  async mayArrive({ uuid, token, generation }: Reserving, node: string): Promise<boolean> {
    const key = `${CLAIMS}/${uuid}`
    const known = (await this.#read(key))?.record
    const isOver =
      known !== undefined && (known.token === token ? known.state === 'released' : known.generation >= generation)
    if (isOver && !arrivesLate(known, node)) return false
    const record = (await this.#look(key))?.record
    if (record === undefined) return false
    return arrivesLate(record, node) || (record.token === token && (await this.#isHeld(record)))
  }

  /** Waits until the claim with this token shows a sign of life (true), or is gone or buried (false). */
  async isAlive(uuid: string, token: string, patience: Patience = IMPATIENT): Promise<boolean> {
    const key = `${CLAIMS}/${uuid}`
    const record = (await this.#look(key))?.record
    if (record?.token !== token || !(await this.#isHeld(record))) return false
    const end = await this.#outwait(key, record, this.#clock.monotonicMs(), patience)
    return end !== 'free' && end.token === token
  }

  /**
   * A node that was confirmed down answers: what was parked there may be carried out after all, and stands in the way again. Of a
   * claim that is held its holder takes care.
   */
  async unpark(node: string): Promise<void> {
    for (const key of (await this.#store.list(CLAIMS)).map(name => `${CLAIMS}/${name}`)) {
      const found = await this.#read(key)
      const isParked = (doubt: Doubt) => doubt.node === node && doubt.parked === true
      if (found?.record.state !== 'released' || !found.record.doubts.some(isParked)) continue
      const doubts = found.record.doubts.map(({ parked, ...doubt }) =>
        parked !== true || doubt.node === node ? doubt : { ...doubt, parked },
      )
      await this.#store.swap(key, found.version, toText({ ...found.record, doubts }))
    }
  }

  /** Every claim that is held now, or that left commands in doubt. */
  async list(): Promise<ClaimRecord[]> {
    const keys = await this.#store.list(CLAIMS)
    const found = await Promise.all(keys.map(key => this.#read(`${CLAIMS}/${key}`)))
    return found.flatMap(each =>
      each !== undefined && (each.record.state === 'held' || each.record.doubts.length > 0) ? [each.record] : [],
    )
  }

  async #attempt(request: ClaimRequest): Promise<Acquired> {
    const key = `${CLAIMS}/${request.identity.uuid}`
    const found = await this.#read(key)
    if (found !== undefined && (await this.#isHeld(found.record))) return { heldBy: found.record }
    return this.#succeed(key, found, request)
  }

  async #succeed(key: Key, found: Found | undefined, request: ClaimRequest): Promise<Acquired> {
    const record = this.#newRecord(found?.record, request)
    const sentAtMs = this.#clock.monotonicMs()
    const result = await this.#store.swap(key, found?.version ?? 0, toText(record))
    const now = await this.#read(key)
    // "Unknown" may have held after all: the record itself tells.
    if (result.outcome === 'lost' || now === undefined || now.record.token !== record.token) {
      if (now === undefined || now.version === found?.version)
        throw new StoreError('the claim could not be taken', 'try again')
      return { heldBy: now.record }
    }
    const claim = new Claim(this.#store, this.#clock, key, now, sentAtMs, this.#takenFrom(key, found?.record))
    try {
      const holder = await this.#takePointers(claim, request.identity)
      if (holder === undefined) return { claim }
      await claim.release().catch(() => undefined)
      return { heldBy: holder }
    } catch (error) {
      // A claim that nobody works under must not stand in the way; if it cannot be released either, it runs out.
      await claim.release().catch(() => undefined)
      throw error
    }
  }

  /** Who held it until now: its record says so, or is a burial, ours or another watcher's, of him whom we watched. */
  #takenFrom(key: Key, before: ClaimRecord | undefined): ClaimRecord | undefined {
    if (before?.state === 'held') return before
    const holder = this.#watched.get(key)
    return before?.generation === holder?.generation && before?.token !== holder?.token ? holder : undefined
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

  /** Points the name and the disks, by each of their names, at our claim; the holder of one that is taken, if any is. */
  async #takePointers(claim: Claim, identity: Identity): Promise<ClaimRecord | undefined> {
    const ours = { claim: claim.key, token: claim.record.token }
    for (let keys = pointerKeys(identity); keys.length > 0; keys = claim.uncovered()) {
      for (const key of keys) {
        const taken = await this.#takePointer(key, ours)
        if ('state' in taken) return taken
        claim.cover(key, taken.also ?? [])
      }
    }
    return undefined
  }

  /** What we wrote, or who holds it. */
  async #takePointer(key: Key, ours: Pointer): Promise<Pointer | ClaimRecord> {
    const found = await this.#store.read(key)
    const before = found === undefined ? undefined : toPointer(key, found.text)
    const holder = before === undefined ? undefined : await this.#holderOf(before, ours)
    if (holder !== undefined) return holder
    const pointer = before?.also === undefined ? ours : { ...ours, also: before.also }
    const result = await this.#store.swap(key, found?.version ?? 0, toText(pointer))
    if (result.outcome === 'won') return pointer
    const now = await this.#store.read(key)
    if (now !== undefined && toPointer(key, now.text).token === ours.token) return pointer
    if (now === undefined || now.version === found?.version)
      throw new StoreError(`the claim ${key} could not be taken`, 'try again')
    // Somebody was faster: whoever it points at now decides.
    return this.#takePointer(key, ours)
  }

  async #holderOf(pointer: Pointer, ours: Pointer): Promise<ClaimRecord | undefined> {
    if (pointer.claim === ours.claim) return undefined
    // An old record may show it free that is held by now, and no swap of the pointer would tell.
    const claim = await this.#look(pointer.claim)
    if (claim === undefined) return undefined
    // A command in doubt may still bring that domain to life, with this name and on these disks (rule 12), whoever held the
    // claim since and whatever disks it had then.
    if (isInDoubt(claim.record)) return claim.record
    return claim.record.token === pointer.token && (await this.#isHeld(claim.record)) ? claim.record : undefined
  }

  async #isHeld(record: ClaimRecord): Promise<boolean> {
    return record.state === 'held' && !(await this.#isDead(record.owner, this.#us))
  }

  /** Waits for a holder: `free` once it let go or was buried, its record when it lives on and there is no more patience. */
  async #outwait(key: Key, holder: ClaimRecord, untilMs: number, patience: Patience): Promise<ClaimRecord | 'free'> {
    for (let record = holder; ; ) {
      // Old news is no sign of life.
      const found = await this.#look(key)
      if (found === undefined || found.record.token !== record.token || found.record.state === 'released') return 'free'
      this.#watched.set(key, found.record)
      const { ttlMs } = found.record
      const changed = await this.#watch(key, found.version, ttlMs, left => patience.waiting(found.record, left))
      if (changed?.record.state === 'released') return 'free'
      // The next look tells whether the burial held: a lost one is a sign of life.
      if (changed === undefined) await this.#bury(key, found)
      else if (this.#clock.monotonicMs() >= untilMs) return changed.record
      record = changed?.record ?? found.record
    }
  }

  /** The newest record past every cache, which a read need not be; undefined when there is none. */
  async #look(key: Key): Promise<Found | undefined> {
    const found = await this.#watch(key, 0, this.#ttlMs, () => undefined)
    if (found === undefined && (await this.#store.read(key)) !== undefined)
      throw new StoreError(`the claim var/${key} could not be read in time`, 'try again')
    return found
  }

  /** What the claim became, undefined when it stayed at the version that we know for so long. */
  async #watch(
    key: Key,
    known: number,
    forMs: number,
    waiting: (secondsLeft: number) => void,
  ): Promise<Found | undefined> {
    const startedMs = this.#clock.monotonicMs()
    const left = () => forMs - (this.#clock.monotonicMs() - startedMs)
    const over = new AbortController()
    const tick = async () => {
      while (!over.signal.aborted && left() > 0) {
        waiting(Math.ceil(left() / 1000))
        await this.#clock.sleep(Math.min(1000, left()), over.signal)
      }
      over.abort()
    }
    void tick()
    const changed = await this.#store.watch(key, known, over.signal).finally(() => over.abort())
    return changed === undefined ? undefined : toFound(key, changed)
  }

  /**
   * Ends a claim that stood still for its time to live. Its holder, should it wake up, loses its next swap; what it left in
   * doubt stays written down, and its generation: whoever takes the claim now has a higher one. A lost swap is a sign of life.
   * The token is a new one, or the holder would take our record for its own.
   */
  async #bury(key: Key, { version, record }: Found): Promise<void> {
    await this.#store.swap(key, version, toText({ ...record, token: randomUUID(), state: 'released' }))
  }

  async #read(key: Key): Promise<Found | undefined> {
    const found = await this.#store.read(key)
    return found === undefined ? undefined : toFound(key, found)
  }
}

function toFound(key: Key, { version, text }: Versioned): Found {
  return { version, record: toRecord(key, text) }
}
