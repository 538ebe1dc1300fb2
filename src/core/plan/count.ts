/** The cluster as a layout: what can move, and where to. */
import { type Amount, type Layout, type LayoutItem, type LayoutNode, place } from '../balance/layout.ts'
import { type Cluster, type Sighting, upNodes } from '../cluster.ts'
import type { Node, UpNode } from '../node.ts'
import { capacityOf, obstacles, reservations } from '../placement.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { rulesWithMembers } from '../rules.ts'
import { withRules } from './count-rules.ts'
import { objectionsToMove } from './migrate.ts'
import { isRefusal, whereActive, wrongState } from './plan.ts'

/** A layout, and what stays out of it. */
export interface Counted {
  readonly layout: Layout
  /** Active domains that cannot be moved live at all now, with the reasons. */
  readonly fixed: readonly Fixed[]
}

/** One that stays where it is. */
export interface Fixed {
  readonly domain: string
  readonly node: string
  readonly why: readonly Refusal[]
}

type Answering = Node & { readonly seen: UpNode }

/**
 * What the places of a domain are for: to move there live from where it is, or to be started there because its node is lost. A live
 * migration also needs the source, and a domain that can be moved as it is.
 */
export type Purpose = 'move' | 'restart'

/** Every node that answers and is in service counts; every active domain is an item, or is held where it is. */
export function countCluster(cluster: Cluster, purpose: Purpose): Counted {
  const nodes = upNodes(cluster)
  const judged = nodes.flatMap((node, at) =>
    node.seen.domains
      .filter(({ active }) => active)
      .map(domain => judge(cluster, purpose, nodes, at, { node: node.name, domain })),
  )
  const items = judged.flatMap(each => ('item' in each ? [each.item] : []))
  const fixed = judged.flatMap(each => ('item' in each ? [] : [each]))
  const movable = new Set(items.flatMap(({ domains }) => domains))
  const layout = { nodes: nodes.map(node => nodeOf(cluster, node, movable)), items, aparts: [] }
  return { layout: withRules(layout, rulesWithMembers(cluster)), fixed }
}

function judge(
  cluster: Cluster,
  purpose: Purpose,
  nodes: readonly Answering[],
  at: number,
  sighting: Sighting,
): Fixed | { readonly item: LayoutItem } {
  const { domain, node } = sighting
  const unmoved = purpose === 'move' ? standsStill(cluster, sighting) : undefined
  const { definition } = domain
  if (definition === undefined) return { domain: domain.name, node, why: [unread(domain.name, domain.problem)] }
  if (unmoved !== undefined) return { domain: domain.name, node, why: [unmoved] }
  const against = nodes.map((target, index) => {
    if (index === at) return []
    return purpose === 'move'
      ? objectionsToMove(cluster, sighting, definition, target, false, obstacles)
      : obstacles(cluster, definition, target)
  })
  const item: LayoutItem = {
    domains: [domain.name],
    needs: { memoryMiB: domain.memoryMiB, vcpus: domain.vcpus },
    node: at,
    places: Uint8Array.from(against, refusals => (refusals.length > 0 ? place.barred : 0)),
  }
  const others = against.filter((_, index) => index !== at)
  return others.length > 0 && others.every(refusals => refusals.length > 0)
    ? { domain: domain.name, node, why: others.flat() }
    : { item }
}

function unread(domain: string, problem = 'its node gave no XML'): Refusal {
  return refuse('badDefinition', { domain, problem })
}

/** Why nothing can be done to it as it is. */
function standsStill(cluster: Cluster, { domain }: Sighting): Refusal | undefined {
  const where = whereActive(cluster, domain.name)
  return isRefusal(where) ? where : wrongState(where, 'running')
}

function nodeOf(cluster: Cluster, node: Answering, movable: ReadonlySet<string>): LayoutNode {
  const { seen, name, ledger } = node
  const stay = seen.domains.filter(domain => domain.active && !movable.has(domain.name))
  return {
    name,
    room: capacityOf(cluster, seen),
    size: { memoryMiB: seen.memoryMiB, vcpus: seen.cpus },
    held: [...stay, ...reservations(node)].reduce(plus, { memoryMiB: 0, vcpus: 0 }),
    counts: ledger.maintenance === undefined,
  }
}

function plus(sum: Amount, { memoryMiB, vcpus }: Amount): Amount {
  return { memoryMiB: sum.memoryMiB + memoryMiB, vcpus: sum.vcpus + vcpus }
}
