/** Plans the end of what is left of a domain on a node that came back after the domain was started past it. */
import { type Cluster, sightingsOf } from '../cluster.ts'
import { refuse, refuseSilent } from '../refusal.ts'
import { step } from '../step.ts'
import { already, type Plan, refused, steps } from './plan.ts'

/** Its memory there is old, and its disk was written elsewhere since: it goes, whether the other one still runs or not. */
export function planReconcile(
  cluster: Cluster,
  { domain, uuid, node }: { domain: string; uuid: string; node: string },
): Plan {
  const there = cluster.nodes.get(node)
  if (there === undefined) return refused(refuse('unknownNode', { node, known: [...cluster.nodes.keys()] }))
  if (there.seen.state !== 'up') return refused(refuseSilent(node, there.seen))
  const entry = there.ledger.passed?.find(each => each.uuid === uuid)
  const left = there.seen.domains.find(each => each.uuid === uuid && each.active)
  if (entry === undefined || left === undefined) return already(refuse('alreadyOff', { domain }))
  const others = sightingsOf(cluster, { name: domain, uuid }).filter(each => each.node !== node && each.domain.active)
  const runs =
    others.length > 0
      ? []
      : [`${domain} does not run on ${entry.to} any more, nor elsewhere; start it again: havirt domain start ${domain}`]
  return steps([step('destroyCopy', { domain, uuid, node })], runs)
}
