/** What planners of several moves give: domains by name, in the order in which they go. */
import { type Layout, MIB_PER_GIB } from '../balance/layout.ts'
import type { Hop } from '../balance/sequence.ts'

/** One domain's way. */
export interface Move {
  readonly domain: string
  readonly from: string
  readonly to: string
  readonly memoryMiB: number
  readonly why: string
  /** Domains that go there with it, since a rule keeps them together. */
  readonly along?: readonly string[]
}

/** The moves of one hop: one a domain, and several where they stay together. */
export function movesOf({ nodes, items }: Layout, { item, from, to }: Hop, why: string): Move[] {
  const [source, target, moved] = [nodes[from], nodes[to], items[item]]
  if (source === undefined || target === undefined || moved === undefined) return []
  const memoryMiB = moved.needs.memoryMiB / Math.max(1, moved.domains.length)
  return moved.domains.map(domain => {
    const along = moved.domains.filter(other => other !== domain)
    const route = { domain, from: source.name, to: target.name, memoryMiB, why }
    return along.length === 0 ? route : { ...route, along }
  })
}

/** The moves as rows of a table. */
export function moveRows(moves: readonly Move[]) {
  return moves.map(({ memoryMiB, along: _, ...move }) => ({ ...move, gib: gibOf(memoryMiB) }))
}

/** GiB with two digits. */
export function gibOf(memoryMiB: number): number {
  return Math.round((memoryMiB / MIB_PER_GIB) * 100) / 100
}
