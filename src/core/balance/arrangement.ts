/** One arrangement of a layout's items, with its score kept up to date: a change of one item costs the same in any cluster. */
import { type Amount, type Layout, type LayoutItem, type Places, place } from './layout.ts'
import { Resource } from './resource.ts'

/** Above any imbalance that is possible, so that no evenness pays for a broken rule. */
const BROKEN_COST = 4
/** What one soft rule is worth: as much as one node in ten that is two thirds fuller than the others. */
const UNWANTED_COST = 0.1

/**
 * Where items are, and how good that is. The score is the standard deviation over the nodes of the share of their memory that is in
 * use, plus that of vCPUs per CPU thread, plus a cost for each rule that is broken: 0 is perfect, and less is better.
 */
export class Arrangement {
  readonly layout: Layout
  /** The node of each item; changed by {@link put} only. */
  readonly at: Places
  readonly memory: Resource
  readonly cpu: Resource
  readonly #home: Places
  readonly #domains: Int32Array
  readonly #places: readonly Uint8Array[]
  /** For each item the groups it should be alone in, each as the offset of its row in {@link #crowd}. */
  readonly #groups: readonly (readonly number[])[]
  readonly #isHard: readonly boolean[]
  readonly #free: Uint8Array
  /** How many members of a group are on a node. */
  readonly #crowd: Int32Array
  #broken = 0
  #unwanted = 0
  #moved = 0
  #movedMiB = 0

  constructor(layout: Layout, at: Places) {
    const { nodes, items, aparts } = layout
    this.layout = layout
    this.at = Int32Array.from(at)
    this.#home = Int32Array.from(items, ({ node }) => node)
    this.memory = new Resource(layout, this.at, ({ memoryMiB }) => memoryMiB)
    this.cpu = new Resource(layout, this.at, ({ vcpus }) => vcpus)
    this.#domains = Int32Array.from(items, ({ domains }) => domains.length)
    this.#places = items.map(({ places }) => places)
    this.#groups = groupsOf(layout)
    const isPlain = (flags: number) => (flags & (place.broken | place.unwanted)) === 0
    this.#free = Uint8Array.from(items, ({ places }, item) =>
      Number(this.#groups[item]?.length === 0 && places.every(isPlain)),
    )
    this.#isHard = aparts.map(({ hard }) => hard)
    this.#crowd = new Int32Array(aparts.length * nodes.length)
    for (const [item, node] of this.at.entries()) {
      this.#settle(item, node, 1)
      if (node !== this.#home[item]) this.#travel(item, 1)
    }
  }

  /** See the class. */
  get score(): number {
    return this.imbalance + this.#broken * BROKEN_COST + this.#unwanted * UNWANTED_COST
  }

  /** The score without its rules. */
  get imbalance(): number {
    return this.memory.deviation + this.cpu.deviation
  }

  /** The imbalance if so much went from one node to another; a negative amount goes the other way. */
  imbalanceAfter(from: number, to: number, memoryMiB: number, vcpus: number): number {
    return this.memory.deviationAfter(from, to, memoryMiB) + this.cpu.deviationAfter(from, to, vcpus)
  }

  /** True when a node has room for so much more; where it gets less, it need not have room for what it has. */
  hasRoom(node: number, memoryMiB: number, vcpus: number): boolean {
    return this.memory.hasRoom(node, memoryMiB) && this.cpu.hasRoom(node, vcpus)
  }

  /** True for an item that no rule says anything about. */
  isFree(item: number): boolean {
    return this.#free[item] === 1
  }

  needsOf(item: number): Amount {
    return (this.layout.items[item] as LayoutItem).needs
  }

  memoryOf(item: number): number {
    return this.memory.needs[item] as number
  }

  vcpusOf(item: number): number {
    return this.cpu.needs[item] as number
  }

  /** How many domains the item is. */
  domainsOf(item: number): number {
    return this.#domains[item] as number
  }

  /** How many hard rules are broken, counted by item. */
  get broken(): number {
    return this.#broken
  }

  /** How many soft rules are not met, counted by item. */
  get unwanted(): number {
    return this.#unwanted
  }

  /** How many domains are not where they began. */
  get moved(): number {
    return this.#moved
  }

  /** The memory of those. */
  get movedMiB(): number {
    return this.#movedMiB
  }

  /** True where the item began, and where nothing bars it. */
  mayBe(item: number, node: number): boolean {
    return node === this.#home[item] || (((this.#places[item] as Uint8Array)[node] as number) & place.barred) === 0
  }

  /** True where nothing bars it, and where no hard rule of its own would be broken. */
  mayGo(item: number, node: number): boolean {
    return (((this.#places[item] as Uint8Array)[node] as number) & (place.barred | place.broken)) === 0
  }

  /** True when no hard rule says anything against the item being there beside those who are there now. */
  keepsRules(item: number, node: number): boolean {
    if ((((this.#places[item] as Uint8Array)[node] as number) & place.broken) !== 0) return false
    const own = this.at[item] === node ? 1 : 0
    return this.hardGroups(item).every(group => this.crowd(group, node) === own)
  }

  /** The groups that the item must be alone in on its node. */
  hardGroups(item: number): readonly number[] {
    return (this.#groups[item] as readonly number[]).filter(group => this.#isHard[group])
  }

  /** How many members of a group are on a node. */
  crowd(group: number, node: number): number {
    return this.#crowd[group * this.layout.nodes.length + node] as number
  }

  /** What is left on each node. */
  rooms(): { memoryMiB: Float64Array; vcpus: Float64Array } {
    return { memoryMiB: this.memory.left(), vcpus: this.cpu.left() }
  }

  /** True where the item may be, and there is room for it beside what is there. */
  fits(item: number, node: number): boolean {
    if (this.at[item] === node) return true
    return this.mayBe(item, node) && this.hasRoom(node, this.memoryOf(item), this.vcpusOf(item))
  }

  /** By how much the node holds more than it has room for. */
  excess(node: number): Amount {
    return { memoryMiB: this.memory.excess(node), vcpus: this.cpu.excess(node) }
  }

  /** The items in this order: the largest are the hardest to place, and what is left over at the end is small. */
  largestFirst(items: readonly number[]): number[] {
    return [...items].sort((a, b) => this.memoryOf(b) - this.memoryOf(a) || a - b)
  }

  /** Puts the item onto the node, whatever that does. */
  put(item: number, node: number): void {
    const from = this.at[item] as number
    if (from === node) return
    this.memory.move(item, from, node)
    this.cpu.move(item, from, node)
    this.#settle(item, from, -1)
    this.#settle(item, node, 1)
    this.at[item] = node
    const home = this.#home[item]
    if (from === home) this.#travel(item, 1)
    else if (node === home) this.#travel(item, -1)
  }

  #travel(item: number, sign: 1 | -1): void {
    this.#moved += sign * (this.#domains[item] as number)
    this.#movedMiB += sign * this.memoryOf(item)
  }

  /** The rules that the item breaks by being there: those of the place, and one for each group that it is not alone in. */
  #settle(item: number, node: number, sign: 1 | -1): void {
    const flags = (this.#places[item] as Uint8Array)[node] as number
    if (flags & place.broken) this.#broken += sign
    if (flags & place.unwanted) this.#unwanted += sign
    for (const group of this.#groups[item] as readonly number[]) {
      const at = group * this.layout.nodes.length + node
      const others = (this.#crowd[at] as number) - (sign === 1 ? 0 : 1)
      this.#crowd[at] = (this.#crowd[at] as number) + sign
      if (others > 0) {
        if (this.#isHard[group]) this.#broken += sign
        else this.#unwanted += sign
      }
    }
  }
}

const NO_GROUPS: readonly number[] = []

function groupsOf({ items, aparts }: Layout): (readonly number[])[] {
  const groups: (readonly number[])[] = items.map(() => NO_GROUPS)
  for (const [group, apart] of aparts.entries())
    for (const item of apart.items) groups[item] = [...(groups[item] ?? []), group]
  return groups
}
