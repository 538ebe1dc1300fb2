/** `lease reconcile`: a node that was passed by leases and answers again gets rid of what is left there, before it receives anything. */
import { planReconcile } from '../core/plan/reconcile.ts'
import { observeOnce } from '../observe.ts'
import { changeDomain, type Parts } from '../operate.ts'
import { exitStatus, NO_NODES, note, type Report, silentWarnings } from '../report.ts'
import { everywhere, PROCESSES } from './inquiries.ts'
import { combine, type Input, unknownAmong, words } from './operation.ts'

export async function reconcile(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  if (records.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const asked = words(input, 'NODE')
  const unknown = unknownAmong(asked, records)
  if (unknown !== undefined) return unknown
  // This look itself forgets those of whom nothing is left.
  const cluster = await observeOnce(parts, PROCESSES)
  const wanted = [...cluster.nodes.values()].filter(({ name }) => asked.length === 0 || asked.includes(name))
  const left = wanted.flatMap(({ name, ledger }) => (ledger.passed ?? []).map(each => ({ node: name, ...each })))
  if (left.length === 0)
    return {
      exit: exitStatus.done,
      messages: [
        ...silentWarnings(cluster),
        note('nothing to do: nothing is left of any domain that was started past a node'),
      ],
    }
  const reports: Report[] = []
  for (const { node, domain, uuid } of left) {
    const plan = (now: Parameters<typeof planReconcile>[0]) => planReconcile(now, { domain, uuid, node })
    reports.push(
      await changeDomain(
        parts,
        { domain, verb: input.spelled, plan, inquire: now => everywhere(now, PROCESSES) },
        input.mode,
      ),
    )
  }
  return combine(reports)
}
