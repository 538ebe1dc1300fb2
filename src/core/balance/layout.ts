/**
 * The cluster as numbers, for planners that try thousands of arrangements: nodes with what they can hold, items with what they
 * need. An item is one domain, or several that must stay together. Everything is by index; nothing is asked of anybody.
 */

/** One node. Amounts are whole MiB and whole vCPUs, and what is fixed there (reservations, domains that stay) is in `held`. */
export interface LayoutNode {
  readonly name: string
  /** The most that domains may take there, by the configured ratios. */
  readonly room: Amount
  /** What use is measured against: the memory and the CPU threads of the machine. */
  readonly size: Amount
  /** Taken by what no planner moves. */
  readonly held: Amount
  /** False for a node that is to be empty, and so is no part of what is to be even. */
  readonly counts: boolean
}

/** Memory is counted in MiB, and shown and priced in GiB. */
export const MIB_PER_GIB = 1024

/** Memory and vCPUs. */
export interface Amount {
  readonly memoryMiB: number
  readonly vcpus: number
}

/** What a place is to an item: a sum of these. 0: it can be there, and nothing speaks against it. */
export const place = {
  /** It cannot move there: no disk, no network, another CPU, maintenance. Where it is now, it can stay. */
  barred: 1,
  /** A hard rule is broken there. */
  broken: 2,
  /** A soft rule would have it elsewhere. */
  unwanted: 4,
} as const

/** What moves as one. */
export interface LayoutItem {
  /** The domains, one or several that must stay together. */
  readonly domains: readonly string[]
  readonly needs: Amount
  /** The index of the node where it is. */
  readonly node: number
  /** For each node a sum of {@link place}. Items may share one array. */
  readonly places: Uint8Array
}

/** Items that should be on different nodes. */
export interface Apart {
  readonly items: readonly number[]
  readonly hard: boolean
}

/** The whole. */
export interface Layout {
  readonly nodes: readonly LayoutNode[]
  readonly items: readonly LayoutItem[]
  readonly aparts: readonly Apart[]
}

/** Where everything is: a node's index for each item. */
export type Places = Int32Array

/** Where everything is now. */
export function placesNow({ items }: Layout): Places {
  return Int32Array.from(items, ({ node }) => node)
}

/** The layout without these items as items: where they are they stay, and take what they need. */
export function withFixed(layout: Layout, fixed: ReadonlySet<number>): Layout {
  if (fixed.size === 0) return layout
  const numbers = new Map([...layout.items.keys()].filter(item => !fixed.has(item)).map((item, at) => [item, at]))
  const held = layout.nodes.map(node => ({ ...node.held }))
  for (const item of fixed) {
    const { node, needs } = layout.items[item] as LayoutItem
    const there = held[node] as { memoryMiB: number; vcpus: number }
    there.memoryMiB += needs.memoryMiB
    there.vcpus += needs.vcpus
  }
  return {
    nodes: layout.nodes.map((node, at) => ({ ...node, held: held[at] as Amount })),
    items: layout.items.filter((_, item) => !fixed.has(item)),
    aparts: layout.aparts.map(({ items, hard }) => ({ items: items.flatMap(item => numbers.get(item) ?? []), hard })),
  }
}
