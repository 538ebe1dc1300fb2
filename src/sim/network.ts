/** Cables: every direction between two hosts can be cut by itself. What was sent into a cut waits in TCP until it heals. */
import type { Random } from '../core/random.ts'
import type { Host, Scheduler } from './scheduler.ts'

/** TCP gives up what it could not deliver for so long. */
const RETRANSMIT_MS = 120_000

interface Waiting {
  readonly sinceMs: number
  readonly deliver: () => void
}

/** All links. */
export class Network {
  readonly #scheduler: Scheduler
  readonly #size: number
  readonly #cuts: Int32Array
  readonly #waiting = new Map<number, Waiting[]>()

  constructor(scheduler: Scheduler, size: number) {
    this.#scheduler = scheduler
    this.#size = size
    this.#cuts = new Int32Array(size * size)
  }

  /** True when what `from` sends arrives at `to`. */
  open(from: Host, to: Host): boolean {
    return from === to || this.#cuts[this.#link(from, to)] === 0
  }

  /** True when the two can talk. */
  both(one: Host, other: Host): boolean {
    return this.open(one, other) && this.open(other, one)
  }

  /** Cuts one direction; cuts count, and each is healed by itself. */
  cut(from: Host, to: Host): void {
    const link = this.#link(from, to)
    this.#cuts[link] = (this.#cuts[link] ?? 0) + 1
  }

  /** Mends one cut; what still waits is delivered. */
  heal(from: Host, to: Host): void {
    const link = this.#link(from, to)
    const left = Math.max(0, (this.#cuts[link] ?? 0) - 1)
    this.#cuts[link] = left
    if (left === 0) this.#deliverWaiting(link)
  }

  /** Mends everything. */
  healAll(): void {
    this.#cuts.fill(0)
    for (const link of [...this.#waiting.keys()]) this.#deliverWaiting(link)
  }

  /** How long one message takes. */
  latencyMs(from: Host, to: Host, random: Random): number {
    if (from === to) return 0.05
    return random.chance(0.02) ? random.between(5, 400) : random.between(0.2, 2)
  }

  /** Delivers after the latency, or when the cable is mended. */
  send(from: Host, to: Host, random: Random, deliver: () => void): void {
    this.#scheduler.after(this.latencyMs(from, to, random), undefined, () => {
      if (this.open(from, to)) deliver()
      else this.keep(from, to, deliver)
    })
  }

  /** Delivers when the cable is mended, as long as TCP does not give up. */
  keep(from: Host, to: Host, deliver: () => void): void {
    const link = this.#link(from, to)
    const list = this.#waiting.get(link) ?? []
    list.push({ sinceMs: this.#scheduler.nowMs, deliver })
    this.#waiting.set(link, list)
  }

  #deliverWaiting(link: number): void {
    const list = this.#waiting.get(link) ?? []
    this.#waiting.delete(link)
    const kept = list.filter(({ sinceMs }) => this.#scheduler.nowMs - sinceMs < RETRANSMIT_MS)
    for (const { deliver } of kept) this.#scheduler.after(1, undefined, deliver)
  }

  #link(from: Host, to: Host): number {
    return from.index * this.#size + to.index
  }
}
