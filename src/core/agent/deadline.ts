/** How an operation's timeout is spent. All of it is milliseconds; the clock is the caller's. */

/** Pacemaker's own advice for this agent, where a caller names no timeout. */
const USUAL_MS = new Map(
  Object.entries({
    start: 90_000,
    stop: 90_000,
    migrate_to: 120_000,
    migrate_from: 60_000,
    monitor: 30_000,
    status: 30_000,
  }),
)
const OTHERS_MS = 20_000

/** The timeout of an operation: as Pacemaker says it (CRM_meta_timeout), or what is usual. Nonsense counts as not said. */
export function timeoutOf(action: string, said: string | undefined): number {
  const timeoutMs = /^\d+$/.test(said ?? '') ? Number(said) : 0
  return timeoutMs > 0 ? timeoutMs : (USUAL_MS.get(action) ?? OTHERS_MS)
}

/** How much of the timeout is kept to end in good order and say why: Pacemaker kills whoever exceeds it, and knows no reason then. */
export function marginOf(timeoutMs: number): number {
  return Math.min(1000, timeoutMs / 10)
}

/**
 * How much of a stop's timeout is kept for the forced step. libvirt sends SIGTERM to QEMU, SIGKILL after 10 s, and gives up after 40 s
 * (virProcessKillPainfully of libvirt 9.0); a short timeout is shared half and half.
 */
export function reserveOf(timeoutMs: number): number {
  return Math.min(Math.max(timeoutMs / 3, 10_000), 40_000, timeoutMs / 2)
}
