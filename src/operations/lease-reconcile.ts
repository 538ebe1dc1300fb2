/** `lease reconcile`: a node that was passed by leases and answers again gets rid of what is left there, before it receives anything. */
import type { Cluster } from '../core/cluster.ts'
import type { Passed } from '../core/ledger.ts'
import { planReconcile } from '../core/plan/reconcile.ts'
import { observeOnce } from '../observe.ts'
import { changeDomain, type Parts } from '../operate.ts'
import { exitStatus, NO_NODES, note, type Report, silentWarnings } from '../report.ts'
import { everywhere, PROCESSES } from './inquiries.ts'
import { combine, type Input, unknownAmong, words } from './operation.ts'

/** A domain that was started past a node, and may be left there. */
type Left = Passed & { readonly node: string }

export async function reconcile(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  if (records.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const asked = words(input, 'NODE')
  const unknown = unknownAmong(asked, records)
  if (unknown !== undefined) return unknown
  // This look itself forgets those of whom nothing is left.
  const cluster = await observeOnce(parts, PROCESSES)
  const wanted = [...cluster.nodes.values()].filter(({ name }) => asked.length === 0 || asked.includes(name))
  const left = wanted.flatMap(({ name, ledger }) =>
    (ledger.passed ?? []).map((each): Left => ({ node: name, ...each })),
  )
  if (left.length === 0)
    return {
      exit: exitStatus.done,
      messages: [
        ...silentWarnings(cluster),
        note('nothing to do: nothing is left of any domain that was started past a node'),
      ],
    }
  const reports: Report[] = []
  for (const each of left) reports.push(await reconcileOne(parts, input, each))
  return combine(reports)
}

/** Judged under the claim, by what leases say then. */
function reconcileOne(parts: Parts, { spelled, mode }: Input, { domain, uuid, node }: Left): Promise<Report> {
  const plan = (now: Cluster) => planReconcile(now, { domain, uuid, node })
  const inquire = (now: Cluster) => everywhere(now, PROCESSES)
  return changeDomain(parts, { domain, verb: spelled, plan, inquire, judges: true }, mode)
}
