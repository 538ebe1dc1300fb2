/** Whether the domains of nodes that are lost would find room on the others, while those stay where they are (N+1). */
import type { Arrangement } from './arrangement.ts'

/** Places for items on other nodes, and those that found none. */
export interface Packing {
  /** Largest first. */
  readonly items: readonly number[]
  /** The node of each; -1 for none. */
  readonly nodes: readonly number[]
  readonly left: readonly number[]
}

/** Where the items of these nodes would go if they were lost and all others stayed where they are. */
export function refuge(arrangement: Arrangement, lost: readonly number[]): Packing {
  const items = [...arrangement.at.keys()].filter(item => lost.includes(arrangement.at[item] as number))
  return packed(arrangement, items, lost)
}

/** Spread first; filling nodes up leaves large gaps whole, which spreading does not. Neither is always the better one. */
function packed(arrangement: Arrangement, items: readonly number[], lost: readonly number[]): Packing {
  const sorted = arrangement.largestFirst(items)
  const spread = pack(arrangement, sorted, lost, mostRoomFirst)
  if (spread.left.length === 0) return spread
  const filled = pack(arrangement, sorted, lost, leastRoomFirst)
  return filled.left.length < spread.left.length ? filled : spread
}

type Preference = (room: number, best: number) => boolean
const mostRoomFirst: Preference = (room, best) => room > best
const leastRoomFirst: Preference = (room, best) => room < best

interface Rooms {
  readonly memoryMiB: Float64Array
  readonly vcpus: Float64Array
}

function pack(
  arrangement: Arrangement,
  items: readonly number[],
  lost: readonly number[],
  better: Preference,
): Packing {
  const rooms = arrangement.rooms()
  for (const node of lost) rooms.memoryMiB[node] = -1
  const nodes = items.map(item => {
    const node = chosen(arrangement, item, rooms, better)
    if (node >= 0) take(rooms, node, arrangement.memoryOf(item), arrangement.vcpusOf(item))
    return node
  })
  return { items, nodes, left: items.filter((_, at) => nodes[at] === -1) }
}

function chosen(arrangement: Arrangement, item: number, { memoryMiB, vcpus }: Rooms, better: Preference): number {
  let best = -1
  for (let node = 0; node < memoryMiB.length; node++) {
    const room = memoryMiB[node] as number
    if (room < arrangement.memoryOf(item) || (vcpus[node] as number) < arrangement.vcpusOf(item)) continue
    if (best >= 0 && !better(room, memoryMiB[best] as number)) continue
    if (arrangement.mayGo(item, node)) best = node
  }
  return best
}

function take({ memoryMiB, vcpus }: Rooms, node: number, memory: number, cpus: number): void {
  memoryMiB[node] = (memoryMiB[node] as number) - memory
  vcpus[node] = (vcpus[node] as number) - cpus
}

/**
 * Watches over the nodes that have a reserve while items move. For each it remembers one way to place its items elsewhere, and only
 * where a move makes that way impossible another is looked for.
 */
export class Reserve {
  readonly #nodes: readonly Ways[]

  /** Of the nodes that have something to lose, and a reserve for it now. */
  constructor(arrangement: Arrangement) {
    const on = arrangement.layout.nodes.map((): number[] => [])
    for (const [item, node] of arrangement.at.entries()) on[node]?.push(item)
    this.#nodes = on.flatMap((items, node) => {
      const ways = new Ways(arrangement, node)
      return items.length > 0 && ways.renew(items) ? [ways] : []
    })
  }

  /** The nodes that it watches over. */
  get nodes(): number[] {
    return this.#nodes.map(({ node }) => node)
  }

  /** Whether all of them still have a reserve after this move, which was made already. If not, it is to be taken back. */
  allows(item: number, from: number, to: number): boolean {
    const changed: Ways[] = []
    const allowed = this.#nodes.every(ways => {
      const outcome = ways.after(item, from, to)
      if (outcome === 'changed') changed.push(ways)
      return outcome !== 'lost'
    })
    if (allowed) for (const ways of changed) ways.keep()
    else for (const ways of changed) ways.restore()
    return allowed
  }
}

/** Where the items of one node would go. */
class Ways {
  readonly node: number
  readonly #arrangement: Arrangement
  #targets = new Map<number, number>()
  #memoryMiB: Float64Array
  #vcpus: Float64Array
  #before: { targets: Map<number, number>; memoryMiB: Float64Array; vcpus: Float64Array } | undefined

  constructor(arrangement: Arrangement, node: number) {
    this.node = node
    this.#arrangement = arrangement
    this.#memoryMiB = new Float64Array(arrangement.layout.nodes.length)
    this.#vcpus = new Float64Array(arrangement.layout.nodes.length)
  }

  /** Looks for places for these items. False: some find none, and nothing is changed. */
  renew(items: readonly number[]): boolean {
    const packing = packed(this.#arrangement, items, [this.node])
    if (packing.left.length > 0) return false
    this.#targets = new Map(packing.items.map((item, at) => [item, packing.nodes[at] as number]))
    this.#memoryMiB = new Float64Array(this.#memoryMiB.length)
    this.#vcpus = new Float64Array(this.#vcpus.length)
    for (const [item, target] of this.#targets) this.#add(item, target, 1)
    return true
  }

  /** `lost`: there is no way any more, and nothing was changed. */
  after(item: number, from: number, to: number): 'same' | 'changed' | 'lost' {
    const concerns = this.node === from || this.node === to
    if (!concerns && this.#fits(to)) return 'same'
    this.#before = { targets: this.#targets, memoryMiB: this.#memoryMiB, vcpus: this.#vcpus }
    const items = new Set(this.#targets.keys())
    if (this.node === from) items.delete(item)
    if (this.node === to) items.add(item)
    if (this.#adjust(item, from, to) || this.renew([...items])) return 'changed'
    this.restore()
    return 'lost'
  }

  /** The quick way: the item alone is taken out or put in. False where that does not do. */
  #adjust(item: number, from: number, to: number): boolean {
    if (this.node !== from && this.node !== to) return false
    this.#targets = new Map(this.#targets)
    this.#memoryMiB = Float64Array.from(this.#memoryMiB)
    this.#vcpus = Float64Array.from(this.#vcpus)
    if (this.node === from) {
      const target = this.#targets.get(item)
      if (target !== undefined) this.#add(item, target, -1)
      this.#targets.delete(item)
      return this.#fits(to)
    }
    const rooms = this.#arrangement.rooms()
    for (const node of rooms.memoryMiB.keys())
      take(rooms, node, this.#memoryMiB[node] as number, this.#vcpus[node] as number)
    rooms.memoryMiB[this.node] = -1
    const target = chosen(this.#arrangement, item, rooms, mostRoomFirst)
    if (target < 0) return false
    this.#targets.set(item, target)
    this.#add(item, target, 1)
    return true
  }

  #fits(node: number): boolean {
    return this.#arrangement.hasRoom(node, this.#memoryMiB[node] as number, this.#vcpus[node] as number)
  }

  #add(item: number, target: number, sign: 1 | -1): void {
    this.#memoryMiB[target] = (this.#memoryMiB[target] as number) + sign * this.#arrangement.memoryOf(item)
    this.#vcpus[target] = (this.#vcpus[target] as number) + sign * this.#arrangement.vcpusOf(item)
  }

  keep(): void {
    this.#before = undefined
  }

  restore(): void {
    if (this.#before === undefined) return
    this.#targets = this.#before.targets
    this.#memoryMiB = this.#before.memoryMiB
    this.#vcpus = this.#before.vcpus
    this.#before = undefined
  }
}
