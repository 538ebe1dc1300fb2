/** Which moves may go at the same time, and that nothing gets too full by that. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Arrangement } from '../../../src/core/balance/arrangement.ts'
import { evacuate } from '../../../src/core/balance/evacuate.ts'
import { type Layout, placesNow } from '../../../src/core/balance/layout.ts'
import { sequence } from '../../../src/core/balance/sequence.ts'
import { type Limits, nextTurn, type Standing, type Way } from '../../../src/core/plan/turns.ts'
import { layouts } from '../balance/layouts.ts'

const WIDE: Limits = { together: 10, perNode: 10 }
const way = (domain: string, from: string, to: string): Way => ({ domain, from, to })

/** All that may begin now, one after the other. */
function begun(ways: readonly Way[], limits = WIDE, standings: Standing[] = ways.map(() => 'waiting')): string[] {
  const names: string[] = []
  for (let at = nextTurn(ways, standings, limits); at !== undefined; at = nextTurn(ways, standings, limits)) {
    standings[at] = 'moving'
    names.push(ways[at]?.domain ?? '')
  }
  return names
}

describe('moves begin together', () => {
  test('when they leave one node for others', () => {
    expect(begun([way('a', '1', '2'), way('b', '1', '3'), way('c', '1', '2')])).toEqual(['a', 'b', 'c'])
  })

  test('as many as the limits allow, over all and on each node', () => {
    const ways = [way('a', '1', '2'), way('b', '1', '3'), way('c', '4', '5'), way('d', '4', '5')]
    expect(begun(ways, { together: 3, perNode: 10 })).toEqual(['a', 'b', 'c'])
    expect(begun(ways, { together: 10, perNode: 1 })).toEqual(['a', 'c'])
  })
})

describe('a move waits', () => {
  test('for the one that makes room for it', () => {
    const ways = [way('other', '2', '3'), way('a', '1', '2')]
    expect(begun(ways)).toEqual(['other'])
    expect(begun(ways, WIDE, ['done', 'waiting'])).toEqual(['a'])
  })

  test('for ever, when that one failed; others do not', () => {
    const ways = [way('other', '2', '3'), way('a', '1', '2'), way('b', '1', '3')]
    expect(begun(ways, WIDE, ['failed', 'waiting', 'waiting'])).toEqual(['b'])
  })

  test('for ever, when one failed that it must be together with', () => {
    const ways = [way('a', '1', '2'), { ...way('b', '1', '2'), along: ['a'] }]
    expect(begun(ways, { together: 1, perNode: 1 }, ['done', 'waiting'])).toEqual(['b'])
    expect(begun(ways, { together: 1, perNode: 1 }, ['failed', 'waiting'])).toEqual([])
  })

  test('for an earlier one that waits for room on the same node: it would take that', () => {
    const ways = [way('other', '2', '3'), way('a', '1', '2'), way('b', '4', '2')]
    expect(begun(ways)).toEqual(['other'])
  })

  test('for the first half of its own way', () => {
    expect(begun([way('a', '1', '3'), way('a', '3', '2')])).toEqual(['a'])
  })
})

/** Makes the moves several at a time, ending in any order, and looks at each moment. */
function walk(
  layout: Layout,
  hops: readonly { item: number; from: number; to: number }[],
  limits: Limits,
  ends: readonly number[],
) {
  const ways = hops.map(({ item, from, to }) => way(String(item), String(from), String(to)))
  const standings: Standing[] = hops.map(() => 'waiting')
  const arrangement = new Arrangement(layout, placesNow(layout))
  const taken = (node: number) => {
    const arriving = hops.filter(({ to }, at) => to === node && standings[at] === 'moving')
    return arriving.reduce((sum, { item }) => sum + arrangement.memoryOf(item), arrangement.memory.held[node] ?? 0)
  }
  let turn = 0
  for (;;) {
    const next = nextTurn(ways, standings, limits)
    if (next !== undefined) standings[next] = 'moving'
    const moving = [...standings.keys()].filter(at => standings[at] === 'moving')
    expect(moving.length).toBeLessThanOrEqual(limits.together)
    for (const node of layout.nodes.keys()) {
      const before = layout.nodes[node]?.room.memoryMiB ?? 0
      if (moving.some(at => hops[at]?.to === node)) expect(taken(node)).toBeLessThanOrEqual(before)
    }
    if (next !== undefined) continue
    const ending = moving[(ends[turn++ % ends.length] ?? 0) % Math.max(1, moving.length)]
    if (ending === undefined) return standings
    standings[ending] = 'done'
    arrangement.put(hops[ending]?.item ?? 0, hops[ending]?.to ?? 0)
  }
}

test('however they end, no node gets more than it has room for, and all are made', () => {
  const limits = fc.record({ together: fc.integer({ min: 1, max: 5 }), perNode: fc.integer({ min: 1, max: 3 }) })
  fc.assert(
    fc.property(
      layouts({ nodes: 4, items: 8 }),
      limits,
      fc.array(fc.nat(), { minLength: 1 }),
      (layout, limit, ends) => {
        const goal = evacuate(layout, [0], { proposals: 5000 })
        if (goal === undefined) return
        const { hops } = sequence(layout, goal, { keepReserve: false })
        expect(new Set(walk(layout, hops, limit, ends)).has('waiting')).toBe(false)
      },
    ),
    { numRuns: 300 },
  )
})
