/** Rules as numbers: what must stay together becomes one item, and the rest are flags of places and groups that stay apart. */
import { type Apart, type Layout, type LayoutItem, place } from '../balance/layout.ts'
import type { Rule } from '../rule.ts'
import type { Member } from '../rules.ts'

/** A rule with the active domains that it is about. */
export interface Ruled {
  readonly rule: Rule
  readonly members: readonly Member[]
}

/** The layout with these rules in it. */
export function withRules(layout: Layout, ruled: readonly Ruled[]): Layout {
  if (ruled.length === 0) return layout
  const flagged = ruled.reduce((items, each) => flaggedBy(layout, items, each), layout.items)
  const items = merged(flagged, ruled)
  return { ...layout, items, aparts: ruled.flatMap(each => apartOf(items, each)) }
}

/** The items with what the rule says against their places. */
function flaggedBy({ nodes }: Layout, items: readonly LayoutItem[], ruled: Ruled): readonly LayoutItem[] {
  const wanted = wantedNodes(nodes, new Set(items.flatMap(({ domains }) => domains)), ruled)
  if (wanted === undefined) return items
  const flag = ruled.rule.hard ? place.broken : place.unwanted
  const names = new Set(ruled.members.map(({ domain }) => domain))
  return items.map(item =>
    item.domains.some(domain => names.has(domain))
      ? { ...item, places: item.places.map((flags, node) => (wanted[node] === true ? flags : flags | flag)) }
      : item,
  )
}

/** For each node whether the rule wants its domains there; undefined where it says nothing of nodes as things are. */
function wantedNodes(
  nodes: Layout['nodes'],
  movable: ReadonlySet<string>,
  { rule, members }: Ruled,
): readonly boolean[] | undefined {
  if (rule.kind === 'on' || rule.kind === 'prefer') return nodes.map(({ name }) => rule.nodes.includes(name))
  // Those that cannot move say where the others belong, and where not.
  const held = members.filter(({ domain }) => !movable.has(domain))
  const holds = nodes.map(({ name }) => held.some(({ node }) => node === name))
  if (rule.kind === 'apart') return held.length === 0 ? undefined : holds.map(each => !each)
  return held.length > 0 ? holds : meetingPlace(nodes, { rule, members })
}

/** Domains that should be together and are not, or that would only like to be, meet where most of them are. */
function meetingPlace(nodes: Layout['nodes'], { rule, members }: Ruled): readonly boolean[] | undefined {
  const here = nodes.map(({ name }) => members.filter(({ node }) => node === name).length)
  if (rule.hard && here.includes(members.length)) return undefined
  const open = here.map((count, node) => (nodes[node]?.counts === true ? count : 0))
  const most = Math.max(...open)
  return most === 0 ? undefined : open.map((_, node) => node === open.indexOf(most))
}

/** Items of one node that a hard rule keeps together are one. */
function merged(items: readonly LayoutItem[], ruled: readonly Ruled[]): readonly LayoutItem[] {
  const groups = ruled.filter(({ rule }) => rule.kind === 'together' && rule.hard)
  return groups.reduce((list, { members }) => {
    const names = new Set(members.map(({ domain }) => domain))
    const own = list.filter(({ domains }) => domains.some(domain => names.has(domain)))
    const [first] = own
    if (first === undefined || own.length < 2 || own.some(({ node }) => node !== first.node)) return list
    const rest = list.filter(item => !own.includes(item))
    return [...rest, own.reduce(asOne)]
  }, items)
}

function asOne(one: LayoutItem, other: LayoutItem): LayoutItem {
  return {
    domains: [...one.domains, ...other.domains],
    needs: {
      memoryMiB: one.needs.memoryMiB + other.needs.memoryMiB,
      vcpus: one.needs.vcpus + other.needs.vcpus,
    },
    node: one.node,
    places: one.places.map((flags, node) => flags | (other.places[node] ?? 0)),
  }
}

function apartOf(items: readonly LayoutItem[], { rule, members }: Ruled): Apart[] {
  if (rule.kind !== 'apart') return []
  const names = new Set(members.map(({ domain }) => domain))
  const group = [...items.keys()].filter(item => items[item]?.domains.some(domain => names.has(domain)) === true)
  return group.length < 2 ? [] : [{ items: group, hard: rule.hard }]
}
