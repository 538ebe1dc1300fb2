/** Plans how to even out the cluster: which domains move where, in which order, and why. */
import { Arrangement } from '../balance/arrangement.ts'
import { type LayoutNode, MIB_PER_GIB, placesNow } from '../balance/layout.ts'
import { effortFor, improve, type Prices } from '../balance/search.ts'
import { type Hop, sequence } from '../balance/sequence.ts'
import { type Cluster, presentTwice } from '../cluster.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { type Counted, countCluster } from './count.ts'
import { type Move, movesOf } from './moves.ts'
import { silentRefusals } from './plan.ts'

/** What is asked for. */
export interface BalanceRequest {
  /** Domains that may move. */
  readonly moves: number
  /** Their memory together. */
  readonly movedMiB: number
  /** Good enough: the most by which a node's memory use may be off the mean, as a share of 1. */
  readonly spread?: number
}

/** What a node's domains take, as shares of its memory and of its CPU threads. */
export interface Use {
  readonly node: string
  readonly memory: number
  readonly cpu: number
}

/** A plan in numbers: nothing in it is evidence, and each move is planned anew when its turn comes. */
export interface Balance {
  readonly moves: readonly Move[]
  readonly before: readonly Use[]
  readonly after: readonly Use[]
  /** 0 is perfectly even. */
  readonly scoreBefore: number
  readonly scoreAfter: number
  /** Domains that stay whatever the balance, and why. */
  readonly fixed: Counted['fixed']
}

/**
 * What a move costs, as a share of the score that it must gain: something for itself, and more for each share of a node's memory
 * that has to be carried. Both for one node: in a cluster of twice as many, one move does half as much for the whole.
 */
const MOVE_COST = 0.01
const MEMORY_COST = 0.05

/** The plan, or why none is made: what is unknown cannot be evened out. */
export function planBalance(cluster: Cluster, request: BalanceRequest): Balance | readonly Refusal[] {
  const refusals = [...silentRefusals(cluster), ...twiceRefusals(cluster)]
  if (refusals.length > 0) return refusals
  const counted = countCluster(cluster, 'move')
  const { layout } = counted
  const limits = { moves: request.moves, movedMiB: request.movedMiB, proposals: effortFor(layout) }
  const { hops } = sequence(layout, improve(layout, limits, pricesIn(counted)), { keepReserve: true })
  return described(counted, hops, request.spread)
}

/** Moves that somebody planned, as a balance of this cluster. */
export function planMoves(cluster: Cluster, moves: readonly Move[]): Balance | readonly Refusal[] {
  const refusals = [...silentRefusals(cluster), ...twiceRefusals(cluster)]
  if (refusals.length > 0) return refusals
  const counted = countCluster(cluster, 'move')
  const { nodes, items } = counted.layout
  const at = (name: string) => nodes.findIndex(node => node.name === name)
  const arrangement = new Arrangement(counted.layout, placesNow(counted.layout))
  const before = usesOf(arrangement)
  const scoreBefore = arrangement.score
  for (const { domain, to } of moves) {
    const item = items.findIndex(({ domains }) => domains.includes(domain))
    if (item >= 0 && at(to) >= 0) arrangement.put(item, at(to))
  }
  return { moves, before, after: usesOf(arrangement), scoreBefore, scoreAfter: arrangement.score, fixed: counted.fixed }
}

function twiceRefusals(cluster: Cluster): Refusal[] {
  return presentTwice(cluster).map(({ name, nodes, migrating }) =>
    refuse('presentTwice', { domain: name, nodes, migrating }),
  )
}

function pricesIn({ layout }: Counted): Prices {
  const counting = layout.nodes.filter(({ counts }) => counts)
  const meanMiB = counting.reduce((sum, { size }) => sum + size.memoryMiB, 0) / Math.max(1, counting.length)
  const share = 1 / Math.max(1, counting.length)
  return { move: MOVE_COST * share, gib: (MEMORY_COST * share * MIB_PER_GIB) / Math.max(1, meanMiB) }
}

function described({ layout, fixed }: Counted, hops: readonly Hop[], spread?: number): Balance {
  const arrangement = new Arrangement(layout, placesNow(layout))
  const before = usesOf(arrangement)
  const scoreBefore = arrangement.score
  const moves: Move[] = []
  for (const hop of hops) {
    const isKept = arrangement.broken + arrangement.unwanted === 0
    if (spread !== undefined && isKept && isWithin(usesOf(arrangement), spread)) break
    const even = whyOf(arrangement, hop)
    const before = arrangement.broken + arrangement.unwanted
    arrangement.put(hop.item, hop.to)
    const mends = arrangement.broken + arrangement.unwanted < before
    moves.push(...movesOf(layout, hop, mends ? 'a rule wants it there (havirt rule list)' : even))
  }
  return { moves, before, after: usesOf(arrangement), scoreBefore, scoreAfter: arrangement.score, fixed }
}

function whyOf(arrangement: Arrangement, { from, to }: Hop): string {
  const { layout } = arrangement
  const [source, target] = [layout.nodes[from], layout.nodes[to]]
  if (source === undefined || target === undefined) return ''
  const [here, there] = [useOf(arrangement, source, from), useOf(arrangement, target, to)]
  const [fuller, emptier] = [here.memory - there.memory, here.cpu - there.cpu]
  return fuller >= emptier
    ? `memory in use: ${percent(here.memory)} there, ${percent(there.memory)} on ${target.name}`
    : `vCPUs per CPU: ${percent(here.cpu)} there, ${percent(there.cpu)} on ${target.name}`
}

function usesOf(arrangement: Arrangement): Use[] {
  return arrangement.layout.nodes.map((node, at) => useOf(arrangement, node, at))
}

function useOf({ memory, cpu }: Arrangement, { name, size }: LayoutNode, at: number): Use {
  return {
    node: name,
    memory: (memory.held[at] ?? 0) / Math.max(1, size.memoryMiB),
    cpu: (cpu.held[at] ?? 0) / Math.max(1, size.vcpus),
  }
}

function isWithin(uses: readonly Use[], spread: number): boolean {
  const mean = uses.reduce((sum, { memory }) => sum + memory, 0) / Math.max(1, uses.length)
  return uses.every(({ memory }) => Math.abs(memory - mean) <= spread)
}

/** `81 %`. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}
