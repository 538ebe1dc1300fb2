/** What the nodes hold of one thing, memory or vCPUs, and how evenly; kept up to date as items move. */
import type { Amount, Layout, Places } from './layout.ts'

export class Resource {
  /** What each item needs. */
  readonly needs: Float64Array
  /** What each node holds; changed by {@link move} only. */
  readonly held: Float64Array
  readonly #room: Float64Array
  /** One by the node's size, so that shares are compared; 0 for a node that does not count. */
  readonly #per: Float64Array
  readonly #counting: number
  #sum = 0
  #squares = 0

  /** `of` picks the thing. */
  constructor({ nodes, items }: Layout, at: Places, of: (amount: Amount) => number) {
    this.needs = Float64Array.from(items, ({ needs }) => of(needs))
    this.held = Float64Array.from(nodes, ({ held }) => of(held))
    this.#room = Float64Array.from(nodes, ({ room }) => of(room))
    this.#per = Float64Array.from(nodes, ({ size, counts }) => (counts ? 1 / Math.max(1, of(size)) : 0))
    this.#counting = Math.max(1, nodes.filter(({ counts }) => counts).length)
    for (const [item, node] of at.entries())
      this.held[node] = (this.held[node] as number) + (this.needs[item] as number)
    for (const node of nodes.keys()) this.#weigh(node, 1)
  }

  /** The standard deviation over the nodes that count of the share that is in use. */
  get deviation(): number {
    return deviationOf(this.#sum / this.#counting, this.#squares / this.#counting)
  }

  /** The same if so much went from one node to another. */
  deviationAfter(from: number, to: number, amount: number): number {
    const perFrom = this.#per[from] as number
    const perTo = this.#per[to] as number
    const less = amount * perFrom
    const more = amount * perTo
    const usedFrom = (this.held[from] as number) * perFrom
    const usedTo = (this.held[to] as number) * perTo
    const squares = this.#squares + less * (less - 2 * usedFrom) + more * (more + 2 * usedTo)
    return deviationOf((this.#sum - less + more) / this.#counting, squares / this.#counting)
  }

  /** True when the node has room for so much more; where it gets less, it need not have room for what it has. */
  hasRoom(node: number, amount: number): boolean {
    return amount < 0 || (this.held[node] as number) + amount <= (this.#room[node] as number)
  }

  /** What is left on each node. */
  left(): Float64Array {
    return this.#room.map((room, node) => room - (this.held[node] as number))
  }

  /** By how much the node holds more than it has room for. */
  excess(node: number): number {
    return Math.max(0, (this.held[node] as number) - (this.#room[node] as number))
  }

  move(item: number, from: number, to: number): void {
    const amount = this.needs[item] as number
    this.#weigh(from, -1)
    this.#weigh(to, -1)
    this.held[from] = (this.held[from] as number) - amount
    this.held[to] = (this.held[to] as number) + amount
    this.#weigh(from, 1)
    this.#weigh(to, 1)
  }

  #weigh(node: number, sign: 1 | -1): void {
    const share = (this.held[node] as number) * (this.#per[node] as number)
    this.#sum += sign * share
    this.#squares += sign * share * share
  }
}

/** Rounding may leave a little less than nothing. */
function deviationOf(mean: number, meanSquare: number): number {
  return Math.sqrt(Math.max(0, meanSquare - mean * mean))
}
