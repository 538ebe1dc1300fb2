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
  const company = new Company(arrangement)
  const nodes = items.map(item => {
    const node = chosen(arrangement, item, rooms, better, company)
    if (node >= 0) {
      take(rooms, node, arrangement.memoryOf(item), arrangement.vcpusOf(item))
      company.join(item, node)
    }
    return node
  })
  return { items, nodes, left: items.filter((_, at) => nodes[at] === -1) }
}

/** Who comes to a node beside those who are there: domains that must be apart are no company for one another. */
class Company {
  readonly #arrangement: Arrangement
  readonly #joined = new Set<string>()

  constructor(arrangement: Arrangement) {
    this.#arrangement = arrangement
  }

  join(item: number, node: number): void {
    for (const group of this.#arrangement.hardGroups(item)) this.#joined.add(`${group} ${node}`)
  }

  isFree(item: number, node: number): boolean {
    return this.#arrangement
      .hardGroups(item)
      .every(group => this.#arrangement.crowd(group, node) === 0 && !this.#joined.has(`${group} ${node}`))
  }
}

function chosen(
  arrangement: Arrangement,
  item: number,
  { memoryMiB, vcpus }: Rooms,
  better: Preference,
  company: Company,
): number {
  let best = -1
  for (let node = 0; node < memoryMiB.length; node++) {
    const room = memoryMiB[node] as number
    if (room < arrangement.memoryOf(item) || (vcpus[node] as number) < arrangement.vcpusOf(item)) continue
    if (best >= 0 && !better(room, memoryMiB[best] as number)) continue
    if (arrangement.mayGo(item, node) && company.isFree(item, node)) best = node
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
  readonly #arrangement: Arrangement
  #ways: readonly Way[]

  /** Of the nodes that have something to lose, and a reserve for it now. */
  constructor(arrangement: Arrangement) {
    this.#arrangement = arrangement
    this.#ways = waysOut(arrangement)
  }

  /** Watches from now on over those that have a reserve as things are. */
  renew(): void {
    this.#ways = waysOut(this.#arrangement)
  }

  /** The nodes that it watches over. */
  get nodes(): number[] {
    return this.#ways.map(({ node }) => node)
  }

  /** Whether all of them still have a reserve after this move, which was made already. If not, it is to be taken back. */
  allows(item: number, from: number, to: number): boolean {
    const ways: Way[] = []
    for (const way of this.#ways) {
      const after = wayAfter(this.#arrangement, way, item, from, to)
      if (after === undefined) return false
      ways.push(after)
    }
    this.#ways = ways
    return true
  }
}

function waysOut(arrangement: Arrangement): readonly Way[] {
  const on = arrangement.layout.nodes.map((): number[] => [])
  for (const [item, node] of arrangement.at.entries()) on[node]?.push(item)
  return on.flatMap((items, node) => (items.length === 0 ? [] : (wayOut(arrangement, node, items) ?? [])))
}

/** Where the items of one node would go. */
interface Way {
  readonly node: number
  readonly targets: ReadonlyMap<number, number>
  /** What they would take on each node. */
  readonly takes: Rooms
}

function wayOut(arrangement: Arrangement, node: number, items: readonly number[]): Way | undefined {
  const packing = packed(arrangement, items, [node])
  if (packing.left.length > 0) return undefined
  const targets = new Map(packing.items.map((item, at) => [item, packing.nodes[at] as number]))
  const count = arrangement.layout.nodes.length
  const takes = { memoryMiB: new Float64Array(count), vcpus: new Float64Array(count) }
  for (const [item, target] of targets) take(takes, target, -arrangement.memoryOf(item), -arrangement.vcpusOf(item))
  return { node, targets, takes }
}

/** A way after a move: the same one where it still is one, with the item put in or taken out, or another; undefined: there is none. */
function wayAfter(arrangement: Arrangement, way: Way, item: number, from: number, to: number): Way | undefined {
  const { node, targets } = way
  const isApart = isKeptApart(arrangement, way, item, to)
  if (node !== from && node !== to && isApart && isOpen(arrangement, way, to)) return way
  const adjusted =
    node === from ? without(arrangement, way, item) : node === to ? including(arrangement, way, item) : way
  if (adjusted !== undefined && isApart && isOpen(arrangement, adjusted, to)) return adjusted
  const others = [...targets.keys()].filter(each => each !== item)
  return wayOut(arrangement, node, node === to ? [...others, item] : others)
}

/** False where the item has come to a node that is to take in one that it must be apart from. */
function isKeptApart(arrangement: Arrangement, { targets }: Way, item: number, node: number): boolean {
  const groups = arrangement.hardGroups(item)
  if (groups.length === 0) return true
  const comers = [...targets].filter(([, target]) => target === node)
  return comers.every(([each]) => !arrangement.hardGroups(each).some(group => groups.includes(group)))
}

function isOpen(arrangement: Arrangement, { takes }: Way, node: number): boolean {
  return arrangement.hasRoom(node, takes.memoryMiB[node] as number, takes.vcpus[node] as number)
}

function without(arrangement: Arrangement, { node, targets, takes }: Way, item: number): Way {
  const rest = copyOf(takes)
  const target = targets.get(item)
  if (target !== undefined) take(rest, target, arrangement.memoryOf(item), arrangement.vcpusOf(item))
  return { node, targets: new Map([...targets].filter(([each]) => each !== item)), takes: rest }
}

function including(arrangement: Arrangement, { node, targets, takes }: Way, item: number): Way | undefined {
  const rooms = arrangement.rooms()
  for (const each of rooms.memoryMiB.keys())
    take(rooms, each, takes.memoryMiB[each] as number, takes.vcpus[each] as number)
  rooms.memoryMiB[node] = -1
  const company = new Company(arrangement)
  for (const [each, there] of targets) company.join(each, there)
  const target = chosen(arrangement, item, rooms, mostRoomFirst, company)
  if (target < 0) return undefined
  const more = copyOf(takes)
  take(more, target, -arrangement.memoryOf(item), -arrangement.vcpusOf(item))
  return { node, targets: new Map([...targets, [item, target]]), takes: more }
}

function copyOf({ memoryMiB, vcpus }: Rooms): Rooms {
  return { memoryMiB: Float64Array.from(memoryMiB), vcpus: Float64Array.from(vcpus) }
}
