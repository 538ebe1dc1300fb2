/** What would become of domains if nodes were lost, and how much more the cluster can take. Nothing is changed. */
import { Arrangement } from '../balance/arrangement.ts'
import { evacuate } from '../balance/evacuate.ts'
import { type Amount, type Layout, type LayoutItem, place, placesNow } from '../balance/layout.ts'
import { type Packing, refuge } from '../balance/reserve.ts'
import type { Cluster } from '../cluster.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { type Counted, countCluster } from './count.ts'
import { silentRefusals } from './plan.ts'

/** One domain of a lost node. */
export interface Restart {
  readonly domain: string
  readonly node: string
  readonly memoryMiB: number
  /** Where it would find room; undefined: nowhere. */
  readonly to?: string
  /** Why it cannot be anywhere else, whatever the room. */
  readonly why?: readonly Refusal[]
}

/** What the loss of some nodes would mean. */
export interface Loss {
  readonly lost: readonly string[]
  readonly restarts: readonly Restart[]
  /** Domains for which there is no room as things are, although all could be placed if others moved first. */
  readonly roomCanBeMade: boolean
}

/** How many changes are tried to make room: this is a question, not a plan. */
const PROPOSALS = 200_000

/** What would become of the domains of these nodes, all lost at once; or why nobody can say. */
export function planWhatIf(cluster: Cluster, lost: readonly string[]): Loss | readonly Refusal[] {
  const unknown = lost.find(name => !cluster.nodes.has(name))
  if (unknown !== undefined) return [refuse('unknownNode', { node: unknown, known: [...cluster.nodes.keys()] })]
  const refusals = silentRefusals(cluster)
  if (refusals.length > 0) return refusals
  const counted = countCluster(cluster, 'restart')
  return lossOf(counted, arrangementOf(counted.layout), lost, true)
}

/** What the cluster could lose, and what it could take. */
export interface ReserveReport {
  /** For each node that runs something. */
  readonly single: readonly Loss[]
  /** Pairs that lose a domain although each of the two alone would not; undefined where there are too many pairs to try. */
  readonly pairs: readonly Loss[] | undefined
  /** The median domain, and how many more of it fit: at all, and so that any one node may still be lost. */
  readonly typical: Amount | undefined
  readonly more: number
  readonly moreWithReserve: number
}

const MOST_NODES_IN_PAIRS = 50

/** The reserve of every node and of every pair of nodes. */
export function planReserve(cluster: Cluster): ReserveReport | readonly Refusal[] {
  const refusals = silentRefusals(cluster)
  if (refusals.length > 0) return refusals
  const counted = countCluster(cluster, 'restart')
  const { layout } = counted
  const arrangement = arrangementOf(layout)
  const names = layout.nodes.map(({ name }) => name)
  const busy = names.filter(
    (_, at) => arrangement.at.includes(at) || counted.fixed.some(({ node }) => node === names[at]),
  )
  const single = busy.map(name => lossOf(counted, arrangement, [name], false))
  const safe = single.filter(loss => lostDomains(loss).length === 0).map(({ lost: [name = ''] }) => name)
  const typical = typicalOf(layout)
  return {
    single,
    pairs: names.length > MOST_NODES_IN_PAIRS ? undefined : badPairs(counted, arrangement, safe),
    typical,
    more: typical === undefined ? 0 : howMany(layout, typical, false),
    moreWithReserve: typical === undefined ? 0 : howMany(layout, typical, true),
  }
}

/** The domains that would not run again. */
export function lostDomains({ restarts }: Loss): string[] {
  return restarts.flatMap(({ domain, to }) => (to === undefined ? [domain] : []))
}

function arrangementOf(layout: Layout): Arrangement {
  return new Arrangement(layout, placesNow(layout))
}

function lossOf({ layout, fixed }: Counted, arrangement: Arrangement, lost: readonly string[], look: boolean): Loss {
  const nodes = layout.nodes.flatMap(({ name }, at) => (lost.includes(name) ? [at] : []))
  const packing = refuge(arrangement, nodes)
  const stuck = fixed.filter(({ node }) => lost.includes(node))
  const restarts = [
    ...packing.items.map((item, at) => restartOf(layout, item, packing.nodes[at] ?? -1)),
    ...stuck.map(({ domain, node, why }) => ({ domain, node, memoryMiB: 0, why })),
  ]
  return { lost, restarts, roomCanBeMade: look && canMakeRoom(layout, nodes, packing) }
}

function restartOf(layout: Layout, item: number, target: number): Restart {
  const { domains, needs, node } = layout.items[item] as LayoutItem
  const to = layout.nodes[target]?.name
  return {
    domain: domains.join(', '),
    node: layout.nodes[node]?.name ?? '',
    memoryMiB: needs.memoryMiB,
    ...(to === undefined ? {} : { to }),
  }
}

function canMakeRoom(layout: Layout, lost: readonly number[], { left }: Packing): boolean {
  return left.length > 0 && evacuate(layout, lost, { proposals: PROPOSALS }) !== undefined
}

function badPairs(counted: Counted, arrangement: Arrangement, safe: readonly string[]): Loss[] {
  return safe.flatMap((one, at) =>
    safe.slice(at + 1).flatMap(other => {
      const loss = lossOf(counted, arrangement, [one, other], false)
      return lostDomains(loss).length > 0 ? [loss] : []
    }),
  )
}

function typicalOf({ items }: Layout): Amount | undefined {
  if (items.length === 0) return undefined
  const median = (what: 'memoryMiB' | 'vcpus') => {
    const sorted = items.map(({ needs }) => needs[what]).sort((a, b) => a - b)
    return sorted[sorted.length >> 1] ?? 0
  }
  return { memoryMiB: Math.max(1, median('memoryMiB')), vcpus: Math.max(1, median('vcpus')) }
}

/** The most of the typical domain that fit beside what is there, anywhere where nothing but room counts. */
function howMany(layout: Layout, typical: Amount, keepReserve: boolean): number {
  const { memoryMiB, vcpus } = arrangementOf(layout).rooms()
  const each = layout.nodes.map(({ counts }, at) => {
    const byMemory = Math.floor((memoryMiB[at] ?? 0) / typical.memoryMiB)
    const byCpu = Math.floor((vcpus[at] ?? 0) / typical.vcpus)
    return counts ? Math.max(0, Math.min(byMemory, byCpu)) : 0
  })
  const all = each.reduce((sum, count) => sum + count, 0)
  if (!keepReserve) return all
  let [fits, tooMany] = [0, all + 1]
  while (tooMany - fits > 1) {
    const count = (fits + tooMany) >> 1
    if (survivesAny(withMore(layout, typical, each, count))) fits = count
    else tooMany = count
  }
  return survivesAny(layout) ? fits : 0
}

/** So many more of them, spread by the room that each node has. */
function withMore(layout: Layout, needs: Amount, each: readonly number[], count: number): Layout {
  const left = [...each]
  const places = Uint8Array.from(layout.nodes, ({ counts }) => (counts ? 0 : place.barred))
  const more = Array.from({ length: count }, (_, at): LayoutItem => {
    const node = left.indexOf(Math.max(...left))
    left[node] = (left[node] ?? 0) - 1
    return { domains: [`typical ${at + 1}`], needs, node, places }
  })
  return { ...layout, items: [...layout.items, ...more] }
}

function survivesAny(layout: Layout): boolean {
  const arrangement = arrangementOf(layout)
  return layout.nodes.every((_, at) => refuge(arrangement, [at]).left.length === 0)
}
