/** Plans what becomes of a domain that is left on a node which came back after the domain was started past it. */
import type { Cluster } from '../cluster.ts'
import { whatIsLeft } from '../lease-pass.ts'
import { type Refusal, refuse, refuseSilent } from '../refusal.ts'
import { step } from '../step.ts'
import { already, type Plan, refused, steps, unlistedRefusal } from './plan.ts'

interface Request {
  readonly domain: string
  readonly uuid: string
  readonly node: string
}

/** A stale copy goes; the domain itself stays, and is one like any other again; where nobody can tell, a person has to. */
export function planReconcile(cluster: Cluster, { domain, uuid, node }: Request): Plan {
  const there = cluster.nodes.get(node)
  if (there === undefined) return refused(refuse('unknownNode', { node, known: [...cluster.nodes.keys()] }))
  if (there.seen.state !== 'up') return refused(refuseSilent(node, there.seen))
  if (there.seen.inquiryProblem !== undefined)
    return refused(refuse('probeFailed', { node, problem: there.seen.inquiryProblem }))
  const entry = there.ledger.passed?.find(each => each.uuid === uuid)
  const left = there.seen.domains.find(each => each.uuid === uuid && (each.active || each.managedSave))
  if (entry === undefined || left === undefined) return already(refuse('alreadyOff', { domain }))
  const standing = standingRefusal({ domain, uuid, node }, left)
  if (standing !== undefined) return refused(standing)
  const on = { domain, uuid, node, by: entry.by, since: entry.since }
  const verdict = whatIsLeft(cluster, entry, node)
  if (verdict === 'stale') return steps([step('destroyCopy', on)])
  return verdict === 'own'
    ? steps([step('acquitCopy', on)])
    : refused(refuse('leftUnknown', { domain, node, why: verdict }))
}

/** What virsh destroy cannot end. */
function standingRefusal(
  { domain, node }: Request,
  left: Parameters<typeof unlistedRefusal>[1]['domain'],
): Refusal | undefined {
  if (!left.active) return refuse('managedSave', { domain: left.name, node })
  return unlistedRefusal(domain, { node, domain: left })
}
