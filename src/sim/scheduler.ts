/**
 * Virtual time. Events lie in a heap and are called one after the other; nothing waits for real time. What an event belongs to
 * is a {@link Life}: when that ends its events never happen, and while its host is frozen they wait.
 */
import { drain } from './drain.ts'

/** A machine as far as time goes on it: its clock, and whether it is frozen. */
export class Host {
  readonly name: string
  /** Its place in the network. */
  readonly index: number
  frozen = false
  /** What its wall clock is ahead of true time. */
  clockOffsetMs = 0
  /** How long its monotonic clock stood still, because the machine was suspended to memory. */
  stoodStillMs = 0
  /** Events that wait until it thaws. */
  readonly held: Timer[] = []

  constructor(name: string, index: number) {
    this.name = name
    this.index = index
  }
}

/** Something that happens on a host until it ends: one boot of a machine, one run of libvirtd, one process. */
export class Life {
  readonly host: Host
  ended = false

  constructor(host: Host) {
    this.host = host
  }
}

/** One event to come. */
export interface Timer {
  atMs: number
  order: number
  readonly life: Life | undefined
  fire: (() => void) | undefined
}

/** The event heap and the time. */
export class Scheduler {
  nowMs = 0
  /** Set by whoever resolved a promise: continuations run before the next event. */
  resolved = false
  #order = 0
  readonly #heap: Timer[] = []

  /** Calls `fire` after `delayMs`, unless `life` has ended by then. */
  after(delayMs: number, life: Life | undefined, fire: () => void): Timer {
    const timer: Timer = { atMs: this.nowMs + delayMs, order: this.#order++, life, fire }
    this.#push(timer)
    return timer
  }

  /** Takes an event back. */
  cancel(timer: Timer | undefined): void {
    if (timer !== undefined) timer.fire = undefined
  }

  /** True while something is still to happen before `untilMs`. */
  run(untilMs: number): void {
    for (let top = this.#heap[0]; top !== undefined && top.atMs <= untilMs; top = this.#heap[0]) {
      this.#pop()
      if (top.fire === undefined || top.life?.ended === true) continue
      this.nowMs = top.atMs
      if (top.life?.host.frozen === true) top.life.host.held.push(top)
      else this.#call(top.fire)
    }
    this.nowMs = untilMs
  }

  /** Lets a frozen host go on: what was due meanwhile happens now, in its order. */
  thaw(host: Host): void {
    host.frozen = false
    for (const timer of host.held.splice(0)) {
      timer.atMs = this.nowMs
      timer.order = this.#order++
      this.#push(timer)
    }
  }

  /** Runs the continuations of promises that were resolved. */
  settle(): void {
    while (this.resolved) {
      this.resolved = false
      drain()
    }
  }

  #call(fire: () => void): void {
    fire()
    if (this.resolved) this.settle()
  }

  #push(timer: Timer): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(timer)
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above] as Timer
      if (!before(timer, parent)) break
      heap[at] = parent
      at = above
    }
    heap[at] = timer
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Timer
    const size = heap.length
    if (size === 0) return
    let at = 0
    for (let below = 1; below < size; below = 2 * at + 1) {
      if (below + 1 < size && before(heap[below + 1] as Timer, heap[below] as Timer)) below++
      const child = heap[below] as Timer
      if (!before(child, last)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}
