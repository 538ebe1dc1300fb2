/**
 * Looks for an arrangement that is more even, by simulated annealing: random small changes, of which those for the worse are
 * allowed less and less. Chance comes from a seed, and how long it looks is counted in proposals, so the same layout always gives
 * the same answer.
 */
import { Random } from '../random.ts'
import { Arrangement } from './arrangement.ts'
import { descend } from './descent.ts'
import { type Layout, MIB_PER_GIB, type Places, placesNow } from './layout.ts'

/** What a search may spend. */
export interface Budget {
  /** Domains that may be somewhere else at the end. */
  readonly moves: number
  /** Their memory together. */
  readonly movedMiB: number
  /** How many changes it tries. */
  readonly proposals: number
}

/** What each domain and each GiB that moves must gain at least, in parts of the score. */
export interface Prices {
  readonly move: number
  readonly gib: number
}

export const FREE: Prices = { move: 0, gib: 0 }

const FIRST_HEAT = 0.02
/** Where soft rules speak, ways that go over a broken one must be open at first. */
const FIRST_HEAT_WITH_RULES = 0.1
const LAST_HEAT = 1e-5
const PROPOSALS_PER_ITEM = 2500
/** In large clusters each item weighs little, and fewer will do. */
const MANY = 400
const PROPOSALS_PER_ITEM_OF_MANY = 2000
/** In small clusters each item weighs much, and the best is worth finding: it takes little time there. */
const FEW = 100
const PROPOSALS_OF_FEW = 1_000_000
/** What they are so often divided into: a search may go astray, but hardly all of them do. */
const TURNS_OF_FEW = 5
/** How often the heat is lowered. */
const COOLINGS = 400
const SEED = 20_251
/** The share of proposals with three nodes. */
const ROTATIONS = 0.05

/** How many proposals suit the layout: enough for a good answer, within 0.05 s for 100 domains and some seconds for 10,000. */
export function effortFor({ items }: Layout): number {
  if (items.length < FEW) return PROPOSALS_OF_FEW
  return items.length * (items.length < MANY ? PROPOSALS_PER_ITEM : PROPOSALS_PER_ITEM_OF_MANY)
}

/** The best arrangement found, no worse than the present one. */
export function improve(layout: Layout, budget: Budget, prices: Prices = FREE): Places {
  if (layout.nodes.length < 2 || layout.items.length === 0) return placesNow(layout)
  const turns = layout.items.length < FEW ? TURNS_OF_FEW : 1
  const each = { ...budget, proposals: Math.ceil(budget.proposals / turns) }
  const found = Array.from({ length: turns }, (_, turn) => new Search(layout, each, prices, SEED + turn).run())
  const plain = descend(layout, budget, prices)
  const all = plain === undefined ? found : [...found, { cost: costAt(layout, plain, prices), places: plain }]
  return all.reduce((best, one) => (one.cost < best.cost ? one : best)).places
}

function costAt(layout: Layout, places: Places, prices: Prices): number {
  return costOf(new Arrangement(layout, places), prices)
}

/** What an arrangement costs in all. */
export function costOf(arrangement: Arrangement, { move, gib }: Prices): number {
  return arrangement.score + arrangement.moved * move + (arrangement.movedMiB / MIB_PER_GIB) * gib
}

/** A change under trial: one item to another node, or two that change places. */
interface Change {
  item: number
  /** The one that takes its place, or none. */
  other: number
  from: number
  to: number
  memoryMiB: number
  vcpus: number
  moved: number
  movedMiB: number
}

const NONE = -1

class Search {
  readonly #arrangement: Arrangement
  readonly #budget: Budget
  readonly #prices: Prices
  readonly #random: Random
  readonly #home: Places
  /** Items that are not at home, in no order, and where each stands in that list. */
  readonly #away: Int32Array
  readonly #awayAt: Int32Array
  #awayCount = 0
  /** One for all trials: there are millions. */
  readonly #change: Change = { item: 0, other: 0, from: 0, to: 0, memoryMiB: 0, vcpus: 0, moved: 0, movedMiB: 0 }
  #cost: number
  #heat: number

  constructor(layout: Layout, budget: Budget, prices: Prices, seed: number) {
    this.#random = new Random(seed)
    this.#home = placesNow(layout)
    this.#arrangement = new Arrangement(layout, this.#home)
    this.#budget = budget
    this.#prices = prices
    this.#away = new Int32Array(layout.items.length)
    this.#awayAt = new Int32Array(layout.items.length).fill(NONE)
    this.#cost = costOf(this.#arrangement, prices)
    const isFree = layout.items.every((_, item) => this.#arrangement.isFree(item))
    this.#heat = isFree ? FIRST_HEAT : FIRST_HEAT_WITH_RULES
  }

  run(): { cost: number; places: Places } {
    let found = { cost: this.#cost, places: Int32Array.from(this.#arrangement.at) }
    const each = Math.ceil(this.#budget.proposals / COOLINGS)
    const factor = (LAST_HEAT / this.#heat) ** (1 / COOLINGS)
    for (let cooling = 0; cooling < COOLINGS; cooling++) {
      for (let trial = 0; trial < each; trial++) this.#try()
      this.#cost = costOf(this.#arrangement, this.#prices)
      if (this.#cost < found.cost) found = { cost: this.#cost, places: Int32Array.from(this.#arrangement.at) }
      this.#heat *= factor
    }
    return found
  }

  /** One change; when the budget is used up, half the time one item goes home for it. */
  #try(): void {
    if (this.#random.next() < ROTATIONS) return this.#rotate()
    const full =
      this.#arrangement.moved >= this.#budget.moves || this.#arrangement.movedMiB >= this.#budget.movedMiB * 0.9
    if (full && this.#awayCount > 0 && this.#random.next() < 0.5) this.#replace()
    else if (this.#propose(full)) this.#decide(this.#cost)
  }

  #replace(): void {
    const item = this.#away[this.#random.below(this.#awayCount)] as number
    const node = this.#arrangement.at[item] as number
    const home = this.#home[item] as number
    const { memoryMiB, vcpus } = this.#arrangement.needsOf(item)
    if (!this.#arrangement.hasRoom(home, memoryMiB, vcpus)) return
    const before = this.#cost
    this.#put(item, home)
    this.#cost = costOf(this.#arrangement, this.#prices)
    if (this.#propose(false) && this.#change.item !== item && this.#change.other !== item && this.#decide(before))
      return
    this.#put(item, node)
    this.#cost = before
  }

  /** Three items in a ring, or two of them in a row: the only way on where everything is nearly full. */
  #rotate(): void {
    const { at } = this.#arrangement
    const [first, second, third] = [this.#draw(false), this.#draw(false), this.#draw(false)]
    const [a, b, c] = [at[first] as number, at[second] as number, at[third] as number]
    if (a === b || b === c || a === c) return
    const ring = this.#random.next() < 0.5
    this.#put(first, b)
    this.#put(second, c)
    if (ring) this.#put(third, a)
    const cost = costOf(this.#arrangement, this.#prices)
    const legal = this.#isLegal(first) && this.#isLegal(second) && this.#isLegal(third) && this.#isWithinBudget()
    if (legal && this.#isAccepted(cost - this.#cost)) {
      this.#cost = cost
      return
    }
    if (ring) this.#put(third, c)
    this.#put(second, b)
    this.#put(first, a)
  }

  #isLegal(item: number): boolean {
    const node = this.#arrangement.at[item] as number
    return this.#arrangement.mayBe(item, node) && this.#arrangement.hasRoom(node, 0, 0)
  }

  /** Also with so much more. */
  #isWithinBudget(moved = 0, movedMiB = 0): boolean {
    return (
      this.#arrangement.moved + moved <= this.#budget.moves &&
      this.#arrangement.movedMiB + movedMiB <= this.#budget.movedMiB
    )
  }

  /** Draws a change that is legal by room and places. False: this one is not. `full`: of what is away already. */
  #propose(full: boolean): boolean {
    const { layout, at } = this.#arrangement
    const change = this.#change
    const item = this.#draw(full && this.#random.next() < 0.7)
    const other = this.#random.next() < 0.5 ? NONE : this.#draw(full)
    const from = at[item] as number
    const to = other !== NONE ? (at[other] as number) : this.#random.below(layout.nodes.length)
    if (to === from || !this.#arrangement.mayBe(item, to)) return false
    change.item = item
    change.other = other
    change.from = from
    change.to = to
    change.memoryMiB = this.#arrangement.memoryOf(item)
    change.vcpus = this.#arrangement.vcpusOf(item)
    change.moved = this.#farther(item, from, to, this.#arrangement.domainsOf(item))
    change.movedMiB = this.#farther(item, from, to, change.memoryMiB)
    if (other !== NONE) {
      if (!this.#arrangement.mayBe(other, from)) return false
      const memoryMiB = this.#arrangement.memoryOf(other)
      change.memoryMiB -= memoryMiB
      change.vcpus -= this.#arrangement.vcpusOf(other)
      change.moved += this.#farther(other, to, from, this.#arrangement.domainsOf(other))
      change.movedMiB += this.#farther(other, to, from, memoryMiB)
    }
    return (
      this.#isWithinBudget(change.moved, change.movedMiB) &&
      this.#arrangement.hasRoom(to, change.memoryMiB, change.vcpus) &&
      this.#arrangement.hasRoom(from, -change.memoryMiB, -change.vcpus)
    )
  }

  #draw(away: boolean): number {
    return away && this.#awayCount > 0
      ? (this.#away[this.#random.below(this.#awayCount)] as number)
      : this.#random.below(this.#arrangement.layout.items.length)
  }

  #farther(item: number, from: number, to: number, amount: number): number {
    const home = this.#home[item]
    if (from === home) return amount
    return to === home ? -amount : 0
  }

  /** Makes the proposed change if chance and heat allow it, against a cost of `before`. */
  #decide(before: number): boolean {
    const { item, other, from, to, memoryMiB, vcpus, moved, movedMiB } = this.#change
    const arrangement = this.#arrangement
    if (arrangement.isFree(item) && (other === NONE || arrangement.isFree(other))) {
      const even = arrangement.imbalanceAfter(from, to, memoryMiB, vcpus) - arrangement.imbalance
      const cost = this.#cost + even + moved * this.#prices.move + (movedMiB / MIB_PER_GIB) * this.#prices.gib
      if (!this.#isAccepted(cost - before)) return false
      this.#cost = cost
      this.#make(item, to, other, from)
      return true
    }
    this.#make(item, to, other, from)
    const cost = costOf(arrangement, this.#prices)
    if (this.#isAccepted(cost - before)) {
      this.#cost = cost
      return true
    }
    this.#make(item, from, other, to)
    return false
  }

  #isAccepted(worse: number): boolean {
    return worse <= 0 || this.#random.next() < Math.exp(-worse / this.#heat)
  }

  #make(item: number, to: number, other: number, from: number): void {
    this.#put(item, to)
    if (other !== NONE) this.#put(other, from)
  }

  #put(item: number, node: number): void {
    this.#arrangement.put(item, node)
    const isAway = node !== this.#home[item]
    const at = this.#awayAt[item] as number
    if (isAway && at < 0) {
      this.#awayAt[item] = this.#awayCount
      this.#away[this.#awayCount++] = item
    } else if (!isAway && at >= 0) {
      const last = this.#away[--this.#awayCount] as number
      this.#away[at] = last
      this.#awayAt[last] = at
      this.#awayAt[item] = NONE
    }
  }
}
