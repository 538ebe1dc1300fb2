/** Time, as the pipeline sees it: a seam, so that tests and the simulator own it. */
import { setTimeout as delay } from 'node:timers/promises'

export interface Clock {
  /** Wall clock in ms since 1970: for people to read, never compared between hosts (rule 3). */
  now(): number
  /** A clock that only goes forward, in ms: for everything that is decided by time. */
  monotonicMs(): number
  /** Resolves after `ms`, or at once when the signal fires. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { ...(signal === undefined ? {} : { signal }) }).catch(() => undefined),
}
