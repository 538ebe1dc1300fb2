/** One simulated process: a run of havirt. It is the clock of that run, and can be killed between any two of its awaits. */

import type { Random } from '../core/random.ts'
import type { Clock } from '../store/clock.ts'
import { begins } from './owner.ts'
import type { Cause } from './qemu.ts'
import { type Host, Life, type Scheduler } from './scheduler.ts'

/** What every wall clock says when a run begins. */
export const EPOCH_MS = Date.UTC(2026, 0, 1)
/** As with Node.js: no timer is shorter. */
const SHORTEST_MS = 1

/** A run of havirt. */
export class SimProcess extends Life implements Clock {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly pid: number
  readonly startedMs: number
  /** What its commands do is its doing. */
  readonly cause: Cause
  /** How often it went on after waiting. */
  resumptions = 0
  /** The person has pressed Ctrl-C, and nobody took it: no further step is begun. */
  interrupted = false
  /** Who takes Ctrl-C instead, the last first. */
  readonly interruptHandlers: (() => void)[] = []
  readonly #killAfter: number
  readonly #killed: () => void

  /** Killed as soon as it waits again after it went on for the `killAfter`th time; 0 is never. */
  constructor(scheduler: Scheduler, host: Host, pid: number, random: Random, killAfter: number, killed: () => void) {
    super(host)
    this.scheduler = scheduler
    this.random = random
    this.pid = pid
    this.startedMs = scheduler.nowMs
    this.cause = { person: false, decidedMs: scheduler.nowMs, run: pid }
    this.#killAfter = killAfter
    this.#killed = killed
  }

  /** Ctrl-C, as src/cli/interrupt.ts hears it. */
  interrupt(): void {
    const handler = this.interruptHandlers.at(-1)
    if (handler === undefined) this.interrupted = true
    else handler()
    this.scheduler.resolved = true
  }

  now(): number {
    return EPOCH_MS + this.scheduler.nowMs + this.host.clockOffsetMs
  }

  monotonicMs(): number {
    return this.scheduler.nowMs - this.host.stoodStillMs
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const timer = this.scheduler.after(Math.max(SHORTEST_MS, ms), this, () => {
        signal?.removeEventListener('abort', wake)
        this.resume(resolve, undefined)
      })
      const wake = () => {
        this.scheduler.cancel(timer)
        resolve()
      }
      signal?.addEventListener('abort', wake)
    })
  }

  /** Kills it now, whatever it waits for. */
  kill(): void {
    if (!this.ended) this.#killed()
  }

  /** Lets an await of this process go on with `value`; a process that is dead never does. */
  resume<T>(resolve: (value: T) => void, value: T): void {
    if (this.ended) return
    this.resumptions++
    // It dies as soon as it waits again: what it sent meanwhile is on its way.
    if (this.resumptions === this.#killAfter) this.scheduler.after(0, undefined, () => this.ended || this.#killed())
    this.scheduler.resolved = true
    begins(this)
    resolve(value)
  }

  /** Calls back after `delayMs`, unless the process has ended; later when its host is frozen. */
  after(delayMs: number, fire: () => void) {
    return this.scheduler.after(delayMs, this, fire)
  }
}
