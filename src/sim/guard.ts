/** The guard's state on one machine (src/nodes/guard.ts): a lock and the highest generation for each domain. */
import { type GuardTicket, guardStatus } from '../nodes/guard.ts'
import type { Life, Scheduler, Timer } from './scheduler.ts'

const LOCK_WAIT_MS = 30_000

/** What the guard asks before it lets a command pass. */
export interface Pass extends GuardTicket {
  readonly mode: 'lock' | 'nolock'
  /** Raised generations outlast a reboot. */
  readonly durable: boolean
}

interface Waiter {
  readonly enter: () => void
  readonly late: Timer
}

interface Lock {
  held: boolean
  readonly waiters: Waiter[]
}

/** The guard of one machine. Locks and common generations lie in /run and are gone after a reboot. */
export class SimGuard {
  readonly #scheduler: Scheduler
  #locks = new Map<string, Lock>()
  #generations = new Map<string, number>()
  readonly #durable = new Map<string, number>()

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler
  }

  /** The machine was booted. */
  reboot(): void {
    this.#locks = new Map()
    this.#generations = new Map()
  }

  /** Calls `run` with how to let go of the lock, or `refuse` with the guard's status. */
  pass(boot: Life, id: string, pass: Pass, run: (release: () => void) => void, refuse: (status: number) => void): void {
    if (id !== pass.nodeId) return refuse(guardStatus.otherNode)
    if (pass.mode === 'nolock') return this.#compare(pass, () => run(() => undefined), refuse)
    this.#lock(
      boot,
      pass.uuid,
      release => {
        const refuseAndRelease = (status: number) => {
          release()
          refuse(status)
        }
        this.#compare(pass, () => run(release), refuseAndRelease)
      },
      refuse,
    )
  }

  #compare(pass: Pass, run: () => void, refuse: (status: number) => void): void {
    const { uuid, generation } = pass
    if (generation < this.generation(uuid)) return refuse(guardStatus.displaced)
    if (pass.mode === 'lock') this.#generations.set(uuid, generation)
    if (pass.durable) this.#durable.set(uuid, generation)
    run()
  }

  /** The highest generation that was recorded. */
  generation(uuid: string): number {
    return Math.max(this.#generations.get(uuid) ?? 0, this.#durable.get(uuid) ?? 0)
  }

  #lock(boot: Life, uuid: string, enter: (release: () => void) => void, refuse: (status: number) => void): void {
    const lock = this.#locks.get(uuid) ?? { held: false, waiters: [] }
    this.#locks.set(uuid, lock)
    const take = () => {
      lock.held = true
      enter(once(() => this.#release(lock)))
    }
    if (!lock.held) return take()
    const late = this.#scheduler.after(LOCK_WAIT_MS, boot, () => {
      lock.waiters.splice(lock.waiters.indexOf(waiter), 1)
      refuse(guardStatus.locked)
    })
    const waiter = { enter: take, late }
    lock.waiters.push(waiter)
  }

  #release(lock: Lock): void {
    lock.held = false
    const next = lock.waiters.shift()
    if (next === undefined) return
    this.#scheduler.cancel(next.late)
    next.enter()
  }
}

function once(work: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    work()
  }
}
