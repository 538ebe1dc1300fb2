/** Watches one live migration from outside: a progress bar from the job's statistics, and Ctrl-C turned into a question. */
import type { NodeRecord } from './core/node.ts'
import type { Exit } from './nodes/process.ts'
import type { Parts } from './operate.ts'

const POLL_MS = 250

export interface MigrationWatcher {
  /** Ends the watching; to be called when the command has ended, however it did. */
  stop(): void
  /** How long the guest stood still, as libvirt measured it; undefined when it did not say. */
  downtimeMs(): number | undefined
}

/** Starts watching. `abort` sends the command that ends the job on the source. */
export function watchMigration(
  parts: Parts,
  source: NodeRecord,
  { domain, uuid, from, to }: { domain: string; uuid: string; from: string; to: string },
  abort: () => Promise<Exit>,
): MigrationWatcher {
  const begin = () => parts.progress.begin(`${domain}: ${from} -> ${to}`, 100)
  let bar = begin()
  const stopping = new AbortController()
  let downtimeMs: number | undefined
  const poll = async () => {
    while (!stopping.signal.aborted) {
      const stats = await parts.nodes.jobStats(source, { name: domain, uuid })
      if (stats !== undefined && stats !== 'silent' && !stopping.signal.aborted) {
        const { percent, detail } = describeJob(stats.params)
        if (percent !== undefined) bar.update(percent, detail)
        if (typeof stats.params['downtime'] === 'number') downtimeMs = stats.params['downtime']
      }
      await parts.clock.sleep(POLL_MS, stopping.signal)
    }
  }
  void poll()
  const deafen = parts.interrupt.onInterrupt(async () => {
    // A bar that goes on would write over the question.
    bar.end('asked to end')
    const wanted = await parts.interrupt.confirmAbort(
      `End the migration of ${domain}? It keeps running on ${from}.`,
      stopping.signal,
    )
    if (stopping.signal.aborted) return
    if (wanted) await abort()
    else bar = begin()
  })
  const stop = () => {
    stopping.abort()
    deafen()
    bar.end('ended')
  }
  return { stop, downtimeMs: () => downtimeMs }
}

/** How far a migration is, from the fields of virDomainGetJobStats (bytes, bytes per second, ms). */
function describeJob(params: Readonly<Record<string, unknown>>): {
  percent: number | undefined
  detail: string
} {
  const number = (key: string) => (typeof params[key] === 'number' ? (params[key] as number) : 0)
  const total = number('memory_total')
  if (total === 0) return { percent: undefined, detail: '' }
  const percent = Math.min(99, Math.floor((100 * (total - number('memory_remaining'))) / total))
  const rate = number('memory_bps')
  const iteration = number('memory_iteration')
  const parts = [
    `${mebibytes(number('memory_remaining'))} MiB left`,
    rate > 0 ? `${mebibytes(rate)} MiB/s` : '',
    iteration > 1 ? `pass ${iteration}` : '',
  ]
  return { percent, detail: parts.filter(part => part !== '').join(', ') }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024)
}
