/** A claim that we hold: renewed while we live, changed by one compare-and-swap a step, and lost as soon as it is not ours. */
import type { Verdict } from '../core/migration.ts'
import type { Step } from '../core/step.ts'
import { type ClaimRecord, type Doubt, diskKey, ownerText, toRecord, toText } from './claim-record.ts'
import type { Clock } from './clock.ts'
import { type Key, type Store, StoreError } from './store.ts'

/** The claim is no longer ours: somebody took it over, or our time ran out. Nothing more may be started. */
export class ClaimLostError extends Error {
  override readonly name = 'ClaimLostError'
}

/** A renewal is due so often within the time to live: several may fail before the claim is lost. */
const RENEWALS = 6

/** Every method rejects with {@link ClaimLostError} once the claim is not ours any more. */
export class Claim {
  readonly #store: Store
  readonly #clock: Clock
  /** Where its record is. */
  readonly key: Key
  readonly #covered = new Set<Key>()
  readonly #called = new Set<Key>()
  #version: number
  #record: ClaimRecord
  /** Never used twice, not even after a swap that failed: one record of ours must not be taken for another. */
  #beat: number
  /** From before the last renewal was sent: our life begins no later than anybody could see it begin. */
  #renewedAtMs: number
  #queue: Promise<unknown> = Promise.resolve()
  readonly #ending = new AbortController()
  /** What became of doubts while a swap which still has them was under way: another doubt, or none. */
  readonly #became = new WeakMap<Doubt, readonly Doubt[]>()
  /** Never resolves; rejects once the claim is taken from us or could not be renewed in time. */
  readonly lost: Promise<never>
  #lose: (error: Error) => void = () => undefined
  /** Whose claim we took over, when it was still held. */
  readonly takenFrom: ClaimRecord | undefined

  constructor(
    store: Store,
    clock: Clock,
    key: Key,
    found: { readonly version: number; readonly record: ClaimRecord },
    sentAtMs: number,
    takenFrom?: ClaimRecord,
  ) {
    this.#store = store
    this.#clock = clock
    this.key = key
    this.#version = found.version
    this.#record = found.record
    this.#beat = found.record.beat
    this.#renewedAtMs = sentAtMs
    this.takenFrom = takenFrom
    this.lost = new Promise((_, reject) => {
      this.#lose = reject
    })
    // Whoever does not wait for it learns of the loss with the next swap.
    this.lost.catch(() => undefined)
  }

  /** The pointer at this key is ours; `also` are further keys of the same disk. */
  cover(key: Key, also: readonly Key[]): void {
    this.#covered.add(key)
    for (const each of also) this.#called.add(each)
  }

  /** Keys of our disks that are not ours yet. */
  uncovered(): Key[] {
    return [...this.#called].filter(key => !this.#covered.has(key)).sort()
  }

  /** True when nobody else can hold a claim on a disk of this name now. */
  covers(disk: string): boolean {
    return this.#covered.has(diskKey(disk))
  }

  get record(): ClaimRecord {
    return this.#record
  }

  /** Renews in the background until the claim is released; {@link lost} tells if it is taken from us. */
  async keepAlive(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      await this.#clock.sleep(this.#record.ttlMs / RENEWALS, signal)
      if (signal.aborted) return
      try {
        await this.#renew()
      } catch (error) {
        // A store that hiccups is asked again as long as our life lasts; nobody can have taken the claim before that.
        if (!(error instanceof ClaimLostError) && this.#alive()) continue
        return this.#lose(lossOf(error))
      }
    }
  }

  /** A store that does not answer at all ends our life, too; it is given time to, if we stood still ourselves. */
  async #renew(): Promise<void> {
    const done = new AbortController()
    const { ttlMs } = this.#record
    const leftMs = ttlMs / 2 - (this.#clock.monotonicMs() - this.#renewedAtMs)
    const late = this.#clock.sleep(Math.max(leftMs, ttlMs / RENEWALS), done.signal).then(() => {
      if (!done.signal.aborted) throw new ClaimLostError('the claim could not be renewed: the store does not answer')
    })
    await Promise.race([this.#change(record => record), late]).finally(() => done.abort())
  }

  /** Within the first half of our life, counted from before the last renewal was sent. */
  #alive(): boolean {
    return this.#clock.monotonicMs() - this.#renewedAtMs <= this.#record.ttlMs / 2
  }

  /** Re-checks that the claim is ours and writes what is about to be sent, both in one swap (rule 12). */
  async about(node: string, command: string, what?: { step: Step; notBegun: readonly string[] }): Promise<void> {
    const { generation } = this.#record
    const since = new Date(this.#clock.now()).toISOString()
    const doubt: Doubt = { node, generation, command, since, ...what }
    await this.#change(record => ({ ...record, doubts: [...record.doubts, doubt] }))
    if (!this.#alive()) {
      throw new ClaimLostError('the store took so long that the claim may have run out')
    }
  }

  /** Re-checks that the claim is ours, right before a record is written that rests on it. */
  async confirm(): Promise<void> {
    await this.#change(record => record)
    if (!this.#alive()) throw new ClaimLostError('the store took so long that the claim may have run out')
  }

  /** Takes the next generation: what we sent so far and may still arrive then passes no guard that was raised since. */
  async advance(): Promise<void> {
    await this.#change(record => ({ ...record, generation: record.generation + 1 }))
  }

  /**
   * The end of everything sent to this node was seen, or the guard there was raised: no doubt is left but that of a migration,
   * which lasts until both its ends are in order ({@link concluded}). Written with the next swap.
   */
  settled(node: string): void {
    this.#turnDoubts(node, doubt => (isMigration(doubt) ? [doubt] : []))
  }

  /** The migration from this node is over, and its ends are in order. Written with the next swap. */
  concluded(node: string): void {
    this.#turnDoubts(node, doubt => (isMigration(doubt) ? [] : [doubt]))
  }

  /**
   * The ends of the migration from this node were judged so, and are about to be put right; undefined: that was not to be. Written
   * with the next swap.
   */
  judged(node: string, verdict: Verdict | undefined): void {
    this.#turnDoubts(node, doubt => {
      const { judged: _, ...unjudged } = doubt
      return isMigration(doubt) ? [verdict === undefined ? unjudged : { ...unjudged, judged: verdict }] : [doubt]
    })
  }

  /** The node is confirmed down: what was in doubt there cannot happen any more until it comes back. Written with the next swap. */
  parked(node: string): void {
    this.#turnDoubts(node, doubt => [{ ...doubt, parked: true }])
  }

  /** Ends the claim. What is still in doubt stays written down for whoever comes next. */
  async release(): Promise<void> {
    this.#ending.abort()
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
    const record = { ...change(this.#record), beat: ++this.#beat }
    const result = await this.#store.swap(this.key, this.#version, toText(record))
    if (result.outcome === 'won') this.#version = result.version
    else if (!(await this.#resolve(record))) return this.#swap(change)
    this.#record = this.#withTurned(record)
    this.#renewedAtMs = sentAtMs
  }

  #turnDoubts(node: string, turn: (doubt: Doubt) => readonly Doubt[]): void {
    for (const doubt of this.#record.doubts) {
      const turned = doubt.node === node ? turn(doubt) : [doubt]
      if (turned[0] !== doubt) this.#became.set(doubt, turned)
    }
    this.#record = this.#withTurned(this.#record)
  }

  #withTurned(record: ClaimRecord): ClaimRecord {
    const now = (doubt: Doubt): readonly Doubt[] => this.#became.get(doubt)?.flatMap(now) ?? [doubt]
    return { ...record, doubts: record.doubts.flatMap(now) }
  }

  /**
   * The swap was lost or nobody knows: only finding our very record as the newest says that it held. False when the newest is
   * an earlier one of ours that held although its swap failed: then ours is still to be written after it.
   */
  async #resolve(record: ClaimRecord): Promise<boolean> {
    const now = await this.#store.read(this.key)
    const newest = now === undefined ? undefined : toRecord(this.key, now.text)
    if (now === undefined || newest?.token !== record.token) {
      throw new ClaimLostError(
        `the claim on ${this.#record.domain} was taken over by ${newest === undefined ? 'somebody' : ownerText(newest)}`,
      )
    }
    // Others may have taken our name and disks since then.
    if (newest.state === 'released' && record.state === 'held') throw new ClaimLostError('the claim was released')
    if (now.version === this.#version)
      throw new StoreError(`the claim on ${this.#record.domain} could not be written`, 'try again')
    this.#version = now.version
    return newest.beat === record.beat
  }
}

function isMigration({ step }: Doubt): boolean {
  return step?.step === 'migrateDomain'
}

function lossOf(error: unknown): ClaimLostError {
  return error instanceof ClaimLostError
    ? error
    : new ClaimLostError(`the claim could not be renewed: ${(error as Error).message}`)
}
