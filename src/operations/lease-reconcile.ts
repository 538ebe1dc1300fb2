/** `lease reconcile`: a node that was passed by leases and answers again gets rid of what is left there, before it receives anything. */
import { type Cluster, sightingsOf, unknownNodes } from '../core/cluster.ts'
import { leasePaths } from '../core/lease.ts'
import { type LeaseFacts, nodeOfHost } from '../core/leases.ts'
import type { Passed } from '../core/ledger.ts'
import { planReconcile } from '../core/plan/reconcile.ts'
import { leaseFacts } from '../lease-facts.ts'
import { observeOnce, withoutPassed } from '../observe.ts'
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
  const facts = await leaseFacts(parts, cluster)
  const reports: Report[] = []
  for (const each of left)
    reports.push(await (isUntouched(facts, each) ? acquit(parts, input, each) : end(parts, input, each)))
  return combine(reports)
}

function end(parts: Parts, { spelled, mode }: Input, { domain, uuid, node }: Left): Promise<Report> {
  const plan = (now: Cluster) => planReconcile(now, { domain, uuid, node })
  return changeDomain(parts, { domain, verb: spelled, plan, inquire: now => everywhere(now, PROCESSES) }, mode)
}

/**
 * The start past the node never came to be, and whoever was to make it could not say so: every lease is still in the node's own name, so
 * that nobody wrote its disks, and it runs nowhere else. What runs there is no copy, but the domain.
 */
function isUntouched(facts: LeaseFacts, { domain, uuid, node }: Left): boolean {
  const shown = sightingsOf(facts.cluster, { name: domain, uuid }).filter(each => each.domain.active)
  const [only] = shown
  if (only?.node !== node || shown.length > 1 || unknownNodes(facts.cluster).length > 0) return false
  const paths = only.domain.definition === undefined ? [] : leasePaths(only.domain.definition)
  const owners = paths.map(path => facts.files.get(facts.names.get(path) ?? '')?.record?.ownerId)
  return paths.length > 0 && owners.every(owner => owner !== undefined && nodeOfHost(facts.nodes, owner) === node)
}

async function acquit(parts: Parts, { mode }: Input, { domain, uuid, node }: Left): Promise<Report> {
  const why = `${domain} on ${node} is no copy: it was never started elsewhere, and nobody took its leases`
  if (!mode.act) return { exit: exitStatus.done, script: [`# (havirt itself: record that ${why})`], messages: [] }
  await parts.home.records.changeLedger(node, ledger => withoutPassed(ledger, [uuid]))
  return { exit: exitStatus.done, messages: [note(why)] }
}
