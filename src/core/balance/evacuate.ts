/**
 * Finds a place for everything that is on nodes which are to be empty, and makes room by moving other items where that is the only
 * way. Packing is hard in the worst case; what is tried first is quick, and what comes after it goes on for as long as it may.
 */
import { Random } from '../random.ts'
import { Arrangement } from './arrangement.ts'
import { type Layout, MIB_PER_GIB, type Places, placesNow } from './layout.ts'

/** What a vCPU too many counts in GiB: both have to vanish, and so many of each is about as hard. */
const GIB_PER_VCPU = 4
/** What it costs to move an item that is not on a leaving node, in GiB of excess: little, so that room is made where it must be. */
const THIRD_COST = 0.05
/** How wild the tries are, in GiB of excess that may be made worse: tame ones move less, and wild ones find what is hard to find. */
const HEATS = [0.05, 0.2, 0.5, 1, 2, 4] as const
const COOLED = 0.05
const BROKEN_COST = 4
const SEED = 20_251
/** With so many other chances each; of those that end well the one that moves least is taken. */
const TRIES = 4

/** How much it may try. */
export interface Effort {
  readonly proposals: number
}

const PROPOSALS_PER_PAIR = 1000
const MOST_PROPOSALS = 600_000

/** So much for each pair of an item and a node finds what an exact search finds in small clusters (make bench). */
export function effortToEmpty({ items, nodes }: Layout): Effort {
  return { proposals: Math.min(MOST_PROPOSALS, items.length * nodes.length * PROPOSALS_PER_PAIR) }
}

/** Where everything is when the leaving nodes are empty; undefined when no way was found. */
export function evacuate(layout: Layout, leaving: readonly number[], { proposals }: Effort): Places | undefined {
  for (const heat of HEATS) {
    const tries = Array.from({ length: TRIES }, (_, turn) => attempt(layout, leaving, turn, proposals, heat))
    const found = tries.filter(each => each !== undefined).sort((a, b) => a.moved - b.moved)
    if (found[0] !== undefined) return found[0].at
  }
  return undefined
}

function attempt(
  layout: Layout,
  leaving: readonly number[],
  turn: number,
  proposals: number,
  heat: number,
): Arrangement | undefined {
  const evacuation = new Evacuation(layout, leaving, SEED + turn)
  if (!evacuation.begin()) return undefined
  return evacuation.makeRoom(Math.ceil(proposals / HEATS.length / TRIES), heat) ? evacuation.settled() : undefined
}

class Evacuation {
  readonly #arrangement: Arrangement
  readonly #home: Places
  readonly #isLeaving: Uint8Array
  readonly #brokenBefore: number
  readonly #random: Random
  /** The items on each node, in no order, and where each stands in its list. */
  readonly #on: number[][]
  readonly #place: Int32Array
  /** By how much each node holds too much, in GiB. */
  readonly #excess: Float64Array
  #excessSum = 0

  constructor(layout: Layout, leaving: readonly number[], seed: number) {
    this.#home = placesNow(layout)
    this.#arrangement = new Arrangement(layout, this.#home)
    this.#brokenBefore = this.#arrangement.broken
    this.#isLeaving = Uint8Array.from(layout.nodes, (_, node) => Number(leaving.includes(node)))
    this.#random = new Random(seed)
    this.#on = layout.nodes.map(() => [])
    this.#place = new Int32Array(layout.items.length)
    this.#excess = new Float64Array(layout.nodes.length)
    for (const item of layout.items.keys()) this.#enter(item, this.#home[item] as number)
    for (const node of layout.nodes.keys()) this.#measure(node)
  }

  /** Puts everything that has to go somewhere, with as little excess as possible. False: something can go nowhere. */
  begin(): boolean {
    const { at } = this.#arrangement
    const leaving = [...at.keys()].filter(item => this.#isLeaving[at[item] as number] === 1)
    for (const item of this.#arrangement.largestFirst(leaving)) {
      const node = this.#leastExcess(item)
      if (node < 0) return false
      this.#put(item, node)
    }
    return true
  }

  #leastExcess(item: number): number {
    const { memoryMiB, vcpus } = this.#arrangement.rooms()
    let best = -1
    let bestRoom = Number.NEGATIVE_INFINITY
    for (const node of memoryMiB.keys()) {
      if (!this.#isOpen(item, node)) continue
      const gib = ((memoryMiB[node] as number) - this.#arrangement.memoryOf(item)) / MIB_PER_GIB
      const room = Math.min(gib, ((vcpus[node] as number) - this.#arrangement.vcpusOf(item)) * GIB_PER_VCPU)
      if (room <= bestRoom) continue
      best = node
      bestRoom = room
    }
    return best
  }

  #isOpen(item: number, node: number): boolean {
    if (this.#isLeaving[node] === 1) return false
    return node === this.#home[item] || this.#arrangement.mayGo(item, node)
  }

  /** Moves items between the nodes that stay until none holds too much. */
  makeRoom(proposals: number, firstHeat: number): boolean {
    let heat = firstHeat
    const cooling = COOLED ** (1 / Math.max(1, proposals))
    for (let trial = 0; trial < proposals && !this.#isDone(); trial++) {
      this.#try(heat)
      heat *= cooling
    }
    return this.#isDone()
  }

  #isDone(): boolean {
    return this.#excessSum < 1e-9 && this.#arrangement.broken <= this.#brokenBefore
  }

  #try(heat: number): void {
    const from = this.#drawNode()
    const here = this.#on[from] as number[]
    const to = this.#random.below(this.#on.length)
    if (to === from || this.#isLeaving[to] === 1 || here.length === 0) return
    const item = this.#random.pick(here)
    const there = this.#on[to] as number[]
    const other = there.length === 0 || this.#random.next() < 0.5 ? -1 : this.#random.pick(there)
    if (!this.#isOpen(item, to) || (other >= 0 && !this.#isOpen(other, from))) return
    const before = this.#cost()
    this.#exchange(item, to, other, from)
    const worse = this.#cost() - before
    if (worse > 0 && this.#random.next() >= Math.exp(-worse / heat)) this.#exchange(item, from, other, to)
  }

  /** Mostly one that holds too much: only there something has to change. */
  #drawNode(): number {
    const start = this.#random.below(this.#on.length)
    if (this.#random.next() < 0.3) return this.#isLeaving[start] === 1 ? this.#drawNode() : start
    for (let step = 0; step < this.#on.length; step++) {
      const node = (start + step) % this.#on.length
      if ((this.#excess[node] as number) > 0) return node
    }
    return start
  }

  #cost(): number {
    const { moved, broken } = this.#arrangement
    return this.#excessSum + moved * THIRD_COST + broken * BROKEN_COST
  }

  #exchange(item: number, to: number, other: number, from: number): void {
    this.#put(item, to)
    if (other >= 0) this.#put(other, from)
  }

  /** Lets those go home again that were moved for nothing. */
  settled(): Arrangement {
    for (const item of this.#home.keys()) {
      const home = this.#home[item] as number
      const at = this.#arrangement.at[item] as number
      if (home === at || this.#isLeaving[home] === 1) continue
      const { broken } = this.#arrangement
      this.#put(item, home)
      if (this.#excessSum > 1e-9 || this.#arrangement.broken > broken) this.#put(item, at)
    }
    return this.#arrangement
  }

  #put(item: number, node: number): void {
    const from = this.#arrangement.at[item] as number
    this.#leave(item, from)
    this.#arrangement.put(item, node)
    this.#enter(item, node)
    this.#measure(from)
    this.#measure(node)
  }

  #enter(item: number, node: number): void {
    const list = this.#on[node] as number[]
    this.#place[item] = list.length
    list.push(item)
  }

  #leave(item: number, node: number): void {
    const list = this.#on[node] as number[]
    const last = list.pop() as number
    if (last === item) return
    const at = this.#place[item] as number
    list[at] = last
    this.#place[last] = at
  }

  /** What a leaving node holds is no excess: it goes. */
  #measure(node: number): void {
    const { memoryMiB, vcpus } = this.#arrangement.excess(node)
    const excess = this.#isLeaving[node] === 1 ? 0 : memoryMiB / MIB_PER_GIB + vcpus * GIB_PER_VCPU
    this.#excessSum += excess - (this.#excess[node] as number)
    this.#excess[node] = excess
  }
}
