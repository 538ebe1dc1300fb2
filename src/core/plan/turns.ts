/**
 * Which of several moves, planned one after the other, may begin while others are under way. A domain that moves takes room on both
 * nodes until it has arrived, so a move that needs what another leaves has to wait for it; two that do not meet can change places.
 */

/** One domain's way from one node to another. */
export interface Way {
  readonly domain: string
  readonly from: string
  readonly to: string
  /** Domains that go there with it: without them it does not go. */
  readonly along?: readonly string[]
}

/** What has become of a move. One that `failed` took nothing away from where it was. */
export type Standing = 'waiting' | 'moving' | 'done' | 'failed'

/** How many at once: on all nodes together, and that one node sends or receives. */
export interface Limits {
  readonly together: number
  readonly perNode: number
}

/**
 * The first move that may begin now, by its index; undefined: none may. Whatever order that gives, no node ever holds more than it
 * does at some point when the moves are made one after the other, those that have left it but not arrived counted on both.
 */
export function nextTurn(ways: readonly Way[], standings: readonly Standing[], limits: Limits): number | undefined {
  const moving = ways.filter((_, at) => standings[at] === 'moving')
  if (moving.length >= limits.together) return undefined
  const at = ways.findIndex(
    (way, turn) =>
      standings[turn] === 'waiting' &&
      isWithin(way, moving, limits.perNode) &&
      ways.every((other, before) => before >= turn || mayPass(way, other, standings[before] as Standing)),
  )
  return at < 0 ? undefined : at
}

function isWithin({ from, to }: Way, moving: readonly Way[], perNode: number): boolean {
  const on = (node: string) => moving.filter(way => way.from === node || way.to === node).length
  return on(from) < perNode && on(to) < perNode
}

/** Whether a move may begin although one that was planned before it is not done. */
function mayPass(way: Way, before: Way, standing: Standing): boolean {
  if (standing === 'done') return true
  if (standing === 'failed' && way.along?.includes(before.domain) === true) return false
  // It may need the room that the other leaves, and the same domain goes one way after the other.
  if (way.domain === before.domain || way.to === before.from) return false
  // What has begun has its room on the target already; what waits must still find it there.
  return standing !== 'waiting' || way.to !== before.to
}
