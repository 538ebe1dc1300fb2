/** Plans how nodes become empty, making room by moving other domains where that is the only way, and how all comes back. */
import { Arrangement } from '../balance/arrangement.ts'
import { effortToEmpty, evacuate } from '../balance/evacuate.ts'
import { type Layout, type LayoutItem, type Places, placesNow, withFixed } from '../balance/layout.ts'
import { refuge } from '../balance/reserve.ts'
import { type Hop, sequence } from '../balance/sequence.ts'
import { type Cluster, sightingsOf, unknownNodes } from '../cluster.ts'
import type { Drained, Ledger, Mark } from '../ledger.ts'
import { type Refusal, refuse, refuseSilent } from '../refusal.ts'
import { type Counted, countCluster, type Fixed } from './count.ts'
import { type Move, movesOf } from './moves.ts'

/** What becomes of a domain that cannot be moved live. */
export type Stuck = 'refuse' | 'shutdown' | 'skip'

export interface DrainRequest {
  readonly nodes: readonly string[]
  readonly stuck: Stuck
  /** What will be written down about the nodes. */
  readonly mark: Mark
}

/** How the nodes become empty. In numbers, like every plan of several moves: each is planned anew when its turn comes. */
export interface Drain {
  /** The cluster with the nodes in maintenance: what the moves are planned in. */
  readonly cluster: Cluster
  readonly moves: readonly Move[]
  /** Those that cannot be moved, with the reasons: to be shut down, or left. */
  readonly stops: readonly Fixed[]
  readonly stays: readonly Fixed[]
  /** Everything that is not to stay where it is, and whether it is shut down. */
  readonly drained: readonly Drained[]
}

/** The plan, or why none is made. */
export function planDrain(cluster: Cluster, { nodes, stuck, mark }: DrainRequest): Drain | readonly Refusal[] {
  const refusals = nodes.flatMap(node => unfitToDrain(cluster, node))
  if (refusals.length > 0) return refusals
  const closed = withLedgers(cluster, nodes, ledger => ({ maintenance: mark, ...ledger }))
  const counted = countCluster(closed, 'move')
  const { hops, layout, left } = wayOut(counted.layout, nodes)
  const stays = [...counted.fixed.filter(({ node }) => nodes.includes(node)), ...left]
  if (stays.length > 0 && stuck === 'refuse') return [...stays.flatMap(({ why }) => why), ...cannotLeave(stays)]
  const moves = hops.flatMap(hop => movesOf(layout, hop, whyOf(layout, nodes, hop)))
  const stops = stuck === 'shutdown' ? stays : []
  return {
    cluster: closed,
    moves,
    stops,
    stays: stuck === 'shutdown' ? [] : stays,
    drained: [...moved(cluster, moves), ...stops.flatMap(each => stopped(cluster, each))],
  }
}

function unfitToDrain({ nodes }: Cluster, name: string): Refusal[] {
  const node = nodes.get(name)
  if (node === undefined) return [refuse('unknownNode', { node: name, known: [...nodes.keys()] })]
  return node.seen.state === 'up' ? [] : [refuseSilent(name, node.seen)]
}

function withLedgers(cluster: Cluster, names: readonly string[], change: (ledger: Ledger) => Ledger): Cluster {
  const nodes = [...cluster.nodes].map(
    ([name, node]) => [name, names.includes(name) ? { ...node, ledger: change(node.ledger) } : node] as const,
  )
  return { ...cluster, nodes: new Map(nodes) }
}

function cannotLeave(stays: readonly Fixed[]): Refusal[] {
  const nodes = [...new Set(stays.map(({ node }) => node))]
  return nodes.map(node =>
    refuse('cannotLeave', { node, domains: stays.filter(each => each.node === node).map(({ domain }) => domain) }),
  )
}

interface WayOut {
  /** Without those that find no room. */
  readonly layout: Layout
  readonly hops: readonly Hop[]
  readonly left: readonly Fixed[]
}

/** An order of moves after which as much as possible has left these nodes. */
function wayOut(layout: Layout, names: readonly string[]): WayOut {
  const nodes = layout.nodes.flatMap(({ name }, at) => (names.includes(name) ? [at] : []))
  const goal = evacuate(layout, nodes, effortToEmpty(layout))
  const all = goal === undefined ? undefined : sequence(layout, goal, { keepReserve: false })
  if (all !== undefined && !all.left.some(item => nodes.includes(all.places[item] as number)))
    return { layout, hops: all.hops, left: [] }
  return withoutHomeless(layout, nodes)
}

/** Nobody makes room for all: those that fit beside what is elsewhere leave, and nothing else moves. */
function withoutHomeless(layout: Layout, nodes: readonly number[]): WayOut {
  const { items, nodes: targets, left } = refuge(new Arrangement(layout, placesNow(layout)), nodes)
  const goal = placesNow(layout)
  for (const [at, item] of items.entries()) if ((targets[at] as number) >= 0) goal[item] = targets[at] as number
  const rest = new Set(left)
  const smaller = withFixed(layout, rest)
  const { hops } = sequence(smaller, Int32Array.from(goal.filter((_, item) => !rest.has(item))), { keepReserve: false })
  return { layout: smaller, hops, left: left.flatMap(item => homeless(layout, item)) }
}

function homeless({ items, nodes }: Layout, item: number): Fixed[] {
  const { domains, needs, node } = items[item] as LayoutItem
  const name = nodes[node]?.name ?? ''
  const facts = { node: name, neededMiB: needs.memoryMiB, vcpus: needs.vcpus }
  return domains.map(domain => ({ domain, node: name, why: [refuse('noRoom', { domain, ...facts })] }))
}

function whyOf({ nodes }: Layout, leaving: readonly string[], { from }: Hop): string {
  const name = nodes[from]?.name ?? ''
  return leaving.includes(name) ? `${name} is to be empty` : 'makes room for others'
}

/** Of a domain that goes two ways, the first is from where it was. */
function moved(cluster: Cluster, moves: readonly Move[]): Drained[] {
  const first = moves.filter(({ domain }, at) => moves.findIndex(each => each.domain === domain) === at)
  return first.flatMap(({ domain, from }) => {
    const uuid = uuidOn(cluster, domain, from)
    return uuid === undefined ? [] : [{ uuid, domain, from }]
  })
}

function stopped(cluster: Cluster, { domain, node }: Fixed): Drained[] {
  const uuid = uuidOn(cluster, domain, node)
  return uuid === undefined ? [] : [{ uuid, domain, from: node, stopped: true }]
}

function uuidOn(cluster: Cluster, name: string, node: string): string | undefined {
  return sightingsOf(cluster, { name }).find(each => each.node === node && each.domain.active)?.domain.uuid
}

/** How what a drain took away comes back. */
export interface Return {
  readonly cluster: Cluster
  readonly moves: readonly Move[]
  /** Those that the drain shut down. */
  readonly starts: readonly Drained[]
  /** Those that cannot come back now, with the reasons. */
  readonly stays: readonly Fixed[]
  /** Those that do not run any more although the drain did not stop them, and so are left alone. */
  readonly gone: readonly Drained[]
}

/** The way back of everything that the ledger of the node says was taken away when it was drained. */
export function planReturn(cluster: Cluster, name: string): Return | readonly Refusal[] {
  const refusals = unfitToDrain(cluster, name)
  if (refusals.length > 0) return refusals
  const open = withLedgers(cluster, [name], ({ maintenance: _, ...ledger }) => ledger)
  const drained = cluster.nodes.get(name)?.ledger.drained ?? []
  const away = drained.filter(each => whereNow(cluster, each) !== each.from)
  const [off, running] = [
    away.filter(each => whereNow(cluster, each) === undefined),
    away.filter(each => whereNow(cluster, each) !== undefined),
  ]
  const vanished = off.filter(each => each.stopped !== true)
  const unknown = unknownNodes(cluster)
  const counted = countCluster(open, 'move')
  const { hops, left } = sequence(counted.layout, homes(counted.layout, running), { keepReserve: false })
  return {
    cluster: open,
    moves: hops.flatMap(hop =>
      movesOf(counted.layout, hop, `it was on ${homeOf(counted.layout, running, hop)} before`),
    ),
    starts: off.filter(each => each.stopped === true),
    stays: [
      ...fixedOf(counted, running),
      ...left.flatMap(item => noWayBack(counted.layout, item)),
      ...(unknown.length === 0 ? [] : vanished.map(each => mayRun(each, unknown))),
    ],
    gone: unknown.length === 0 ? vanished : [],
  }
}

/** Rule 2: what nobody shows may run on a node that was not heard. */
function mayRun({ domain, from }: Drained, unknown: ReturnType<typeof unknownNodes>): Fixed {
  return { domain, node: from, why: unknown.map(({ name, seen }) => refuseSilent(name, seen)) }
}

function noWayBack({ items, nodes }: Layout, item: number): Fixed[] {
  const { domains, node: at } = items[item] as LayoutItem
  const node = nodes[at]?.name ?? ''
  return domains.map(domain => ({ domain, node, why: [refuse('noWayBack', { domain, node })] }))
}

/** The node where it is active now. */
function whereNow(cluster: Cluster, { uuid }: Drained): string | undefined {
  return sightingsOf(cluster, { name: '', uuid }).find(({ domain }) => domain.active)?.node
}

function homes(layout: Layout, running: readonly Drained[]): Places {
  const goal = placesNow(layout)
  for (const [item, { domains }] of layout.items.entries()) {
    const home = running.find(({ domain }) => domains.includes(domain))
    const node = layout.nodes.findIndex(({ name }) => name === home?.from)
    if (node >= 0) goal[item] = node
  }
  return goal
}

function homeOf({ items }: Layout, running: readonly Drained[], { item }: Hop): string {
  return running.find(({ domain }) => items[item]?.domains.includes(domain))?.from ?? ''
}

function fixedOf({ fixed }: Counted, running: readonly Drained[]): Fixed[] {
  return fixed.filter(each => running.some(({ domain }) => domain === each.domain))
}
