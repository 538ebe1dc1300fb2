/** Brings moves into an order in which each is possible when its turn comes, through other nodes where there is no other way. */
import { Arrangement } from './arrangement.ts'
import { type Layout, type Places, placesNow } from './layout.ts'
import { Reserve } from './reserve.ts'

/** One item from one node to another. */
export interface Hop {
  readonly item: number
  readonly from: number
  readonly to: number
}

/** The moves in their order. */
export interface Sequence {
  readonly hops: readonly Hop[]
  /** Items that could not be brought where they should be: no order was found in which there is room for them. */
  readonly left: readonly number[]
  /** Where everything is at the end. */
  readonly places: Places
}

/** What holds at every step beside room and rules. */
export interface Conditions {
  /** A node whose domains would find room elsewhere if it failed stays such a node. */
  readonly keepReserve: boolean
}

/**
 * An order for getting to `goal`. After each hop every node has room for what it holds, and no hard rule is broken that was kept
 * before. A hop that mends one may cost a node its reserve: what a rule forbids is no refuge.
 */
export function sequence(layout: Layout, goal: Places, { keepReserve }: Conditions): Sequence {
  const walk = new Walk(layout, goal, keepReserve)
  while (walk.pending.length > 0 && (walk.advance() || walk.detour()));
  return { hops: walk.hops, left: walk.pending, places: walk.arrangement.at }
}

class Walk {
  readonly hops: Hop[] = []
  readonly arrangement: Arrangement
  pending: number[]
  readonly #goal: Places
  readonly #reserve: Reserve | undefined
  readonly #detoured = new Set<number>()

  constructor(layout: Layout, goal: Places, keepReserve: boolean) {
    this.arrangement = new Arrangement(layout, placesNow(layout))
    this.#goal = goal
    this.pending = [...layout.items.keys()].filter(item => goal[item] !== this.arrangement.at[item])
    this.#reserve = keepReserve ? new Reserve(this.arrangement) : undefined
  }

  /** Makes every move that is possible now, those that even out most first. False: none is. */
  advance(): boolean {
    const before = this.hops.length
    for (const item of this.#byGain()) {
      const to = this.#goal[item] as number
      if (this.#hop(item, to)) this.pending = this.pending.filter(each => each !== item)
    }
    return this.hops.length > before
  }

  /** Puts one that stands in the way of others onto a third node, the smallest that helps. False: nothing does. */
  detour(): boolean {
    const wanted = new Set(this.pending.map(item => this.#goal[item]))
    const small = [...this.pending].sort((a, b) => this.arrangement.memoryOf(a) - this.arrangement.memoryOf(b))
    for (const item of small) {
      if (this.#detoured.has(item) || !wanted.has(this.arrangement.at[item])) continue
      const thirds = this.arrangement.layout.nodes.keys()
      for (const node of thirds) {
        if (node === this.arrangement.at[item] || !this.#hop(item, node)) continue
        this.#detoured.add(item)
        return true
      }
    }
    return false
  }

  #byGain(): number[] {
    const gains = new Map(this.pending.map(item => [item, this.#gainOf(item)]))
    return [...this.pending].sort((a, b) => (gains.get(b) ?? 0) - (gains.get(a) ?? 0))
  }

  #gainOf(item: number): number {
    const { arrangement } = this
    const from = arrangement.at[item] as number
    const { memoryMiB, vcpus } = arrangement.needsOf(item)
    return arrangement.imbalance - arrangement.imbalanceAfter(from, this.#goal[item] as number, memoryMiB, vcpus)
  }

  #hop(item: number, to: number): boolean {
    const { arrangement } = this
    const from = arrangement.at[item] as number
    const { broken } = arrangement
    if (!arrangement.fits(item, to) || !arrangement.keepsRules(item, to)) return false
    arrangement.put(item, to)
    if (arrangement.broken < broken) this.#reserve?.renew()
    else if (this.#reserve?.allows(item, from, to) === false) {
      arrangement.put(item, from)
      return false
    }
    this.hops.push({ item, from, to })
    return true
  }
}
