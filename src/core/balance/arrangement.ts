/** One arrangement of a layout's items, with its score kept up to date: a change of one item costs the same in any cluster. */
import { type Amount, type Layout, type LayoutItem, type Places, place } from './layout.ts'

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
  readonly memoryMiB: Float64Array
  readonly vcpus: Float64Array
  readonly #home: Places
  readonly #itemMemory: Float64Array
  readonly #itemVcpus: Float64Array
  readonly #domains: Int32Array
  /** Nodes whose use is to be even. */
  readonly #counting: number
  readonly #perMemory: Float64Array
  readonly #perCpu: Float64Array
  readonly #roomMemory: Float64Array
  readonly #roomVcpus: Float64Array
  readonly #places: readonly Uint8Array[]
  /** For each item the groups it should be alone in, each as the offset of its row in {@link #crowd}. */
  readonly #groups: readonly (readonly number[])[]
  readonly #isHard: readonly boolean[]
  readonly #free: Uint8Array
  /** How many members of a group are on a node. */
  readonly #crowd: Int32Array
  #sumMemory = 0
  #sumMemorySquares = 0
  #sumCpu = 0
  #sumCpuSquares = 0
  #broken = 0
  #unwanted = 0
  #moved = 0
  #movedMiB = 0

  constructor(layout: Layout, at: Places) {
    const { nodes, items, aparts } = layout
    this.layout = layout
    this.at = Int32Array.from(at)
    this.#home = Int32Array.from(items, ({ node }) => node)
    this.#itemMemory = Float64Array.from(items, ({ needs }) => needs.memoryMiB)
    this.#itemVcpus = Float64Array.from(items, ({ needs }) => needs.vcpus)
    this.#domains = Int32Array.from(items, ({ domains }) => domains.length)
    this.#counting = Math.max(1, nodes.filter(({ counts }) => counts).length)
    this.#perMemory = Float64Array.from(nodes, ({ size, counts }) => (counts ? 1 / Math.max(1, size.memoryMiB) : 0))
    this.#perCpu = Float64Array.from(nodes, ({ size, counts }) => (counts ? 1 / Math.max(1, size.vcpus) : 0))
    this.#roomMemory = Float64Array.from(nodes, ({ room }) => room.memoryMiB)
    this.#roomVcpus = Float64Array.from(nodes, ({ room }) => room.vcpus)
    this.#places = items.map(({ places }) => places)
    this.memoryMiB = Float64Array.from(nodes, ({ held }) => held.memoryMiB)
    this.vcpus = Float64Array.from(nodes, ({ held }) => held.vcpus)
    this.#groups = groupsOf(layout)
    const isPlain = (flags: number) => (flags & (place.broken | place.unwanted)) === 0
    this.#free = Uint8Array.from(items, ({ places }, item) =>
      Number(this.#groups[item]?.length === 0 && places.every(isPlain)),
    )
    this.#isHard = aparts.map(({ hard }) => hard)
    this.#crowd = new Int32Array(aparts.length * nodes.length)
    this.#count()
  }

  /** Sums over everything. */
  #count(): void {
    for (const item of this.at.keys()) {
      const node = this.at[item] as number
      this.memoryMiB[node] = (this.memoryMiB[node] as number) + (this.#itemMemory[item] as number)
      this.vcpus[node] = (this.vcpus[node] as number) + (this.#itemVcpus[item] as number)
      this.#settle(item, node, 1)
      if (node !== this.#home[item]) this.#travel(item, 1)
    }
    for (const node of this.layout.nodes.keys()) this.#weigh(node, 1)
  }

  /** See the class. */
  get score(): number {
    return this.imbalance + this.#broken * BROKEN_COST + this.#unwanted * UNWANTED_COST
  }

  /** The score without its rules. */
  get imbalance(): number {
    const count = this.#counting
    const memory = this.#sumMemorySquares / count - (this.#sumMemory / count) ** 2
    const cpu = this.#sumCpuSquares / count - (this.#sumCpu / count) ** 2
    return Math.sqrt(Math.max(0, memory)) + Math.sqrt(Math.max(0, cpu))
  }

  /** The imbalance if so much went from one node to another; a negative amount goes the other way. */
  imbalanceAfter(from: number, to: number, memoryMiB: number, vcpus: number): number {
    const count = this.#counting
    const perFrom = this.#perMemory[from] as number
    const perTo = this.#perMemory[to] as number
    const less = memoryMiB * perFrom
    const more = memoryMiB * perTo
    const usedFrom = (this.memoryMiB[from] as number) * perFrom
    const usedTo = (this.memoryMiB[to] as number) * perTo
    const sum = (this.#sumMemory - less + more) / count
    const squares = this.#sumMemorySquares + less * (less - 2 * usedFrom) + more * (more + 2 * usedTo)
    const perFromCpu = this.#perCpu[from] as number
    const perToCpu = this.#perCpu[to] as number
    const lessCpu = vcpus * perFromCpu
    const moreCpu = vcpus * perToCpu
    const cpuFrom = (this.vcpus[from] as number) * perFromCpu
    const cpuTo = (this.vcpus[to] as number) * perToCpu
    const sumCpu = (this.#sumCpu - lessCpu + moreCpu) / count
    const squaresCpu = this.#sumCpuSquares + lessCpu * (lessCpu - 2 * cpuFrom) + moreCpu * (moreCpu + 2 * cpuTo)
    const memory = squares / count - sum * sum
    const cpu = squaresCpu / count - sumCpu * sumCpu
    return Math.sqrt(Math.max(0, memory)) + Math.sqrt(Math.max(0, cpu))
  }

  /** True when a node has room for so much more; where it gets less, it need not have room for what it has. */
  hasRoom(node: number, memoryMiB: number, vcpus: number): boolean {
    return (
      (memoryMiB < 0 || (this.memoryMiB[node] as number) + memoryMiB <= (this.#roomMemory[node] as number)) &&
      (vcpus < 0 || (this.vcpus[node] as number) + vcpus <= (this.#roomVcpus[node] as number))
    )
  }

  /** True for an item that no rule says anything about. */
  isFree(item: number): boolean {
    return this.#free[item] === 1
  }

  needsOf(item: number): Amount {
    return (this.layout.items[item] as LayoutItem).needs
  }

  memoryOf(item: number): number {
    return this.#itemMemory[item] as number
  }

  vcpusOf(item: number): number {
    return this.#itemVcpus[item] as number
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

  /** What is left on each node. */
  rooms(): { memoryMiB: Float64Array; vcpus: Float64Array } {
    return {
      memoryMiB: this.#roomMemory.map((room, node) => room - (this.memoryMiB[node] as number)),
      vcpus: this.#roomVcpus.map((room, node) => room - (this.vcpus[node] as number)),
    }
  }

  /** True where the item may be, and there is room for it beside what is there. */
  fits(item: number, node: number): boolean {
    if (this.at[item] === node) return true
    if (!this.mayBe(item, node)) return false
    return (
      (this.memoryMiB[node] as number) + (this.#itemMemory[item] as number) <= (this.#roomMemory[node] as number) &&
      (this.vcpus[node] as number) + (this.#itemVcpus[item] as number) <= (this.#roomVcpus[node] as number)
    )
  }

  /** By how much the node holds more than it has room for. */
  excess(node: number): Amount {
    return {
      memoryMiB: Math.max(0, (this.memoryMiB[node] as number) - (this.#roomMemory[node] as number)),
      vcpus: Math.max(0, (this.vcpus[node] as number) - (this.#roomVcpus[node] as number)),
    }
  }

  /** Puts the item onto the node, whatever that does. */
  put(item: number, node: number): void {
    const from = this.at[item] as number
    if (from === node) return
    const memory = this.#itemMemory[item] as number
    const vcpus = this.#itemVcpus[item] as number
    this.#weigh(from, -1)
    this.#weigh(node, -1)
    this.memoryMiB[from] = (this.memoryMiB[from] as number) - memory
    this.vcpus[from] = (this.vcpus[from] as number) - vcpus
    this.memoryMiB[node] = (this.memoryMiB[node] as number) + memory
    this.vcpus[node] = (this.vcpus[node] as number) + vcpus
    this.#weigh(from, 1)
    this.#weigh(node, 1)
    this.#settle(item, from, -1)
    this.#settle(item, node, 1)
    this.at[item] = node
    const home = this.#home[item]
    if (from === home) this.#travel(item, 1)
    else if (node === home) this.#travel(item, -1)
  }

  #weigh(node: number, sign: 1 | -1): void {
    const memory = (this.memoryMiB[node] as number) * (this.#perMemory[node] as number)
    const cpu = (this.vcpus[node] as number) * (this.#perCpu[node] as number)
    this.#sumMemory += sign * memory
    this.#sumMemorySquares += sign * memory * memory
    this.#sumCpu += sign * cpu
    this.#sumCpuSquares += sign * cpu * cpu
  }

  #travel(item: number, sign: 1 | -1): void {
    this.#moved += sign * (this.#domains[item] as number)
    this.#movedMiB += sign * (this.#itemMemory[item] as number)
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
