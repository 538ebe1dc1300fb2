/** Planning in numbers: against trying everything where that is possible, and by what must hold always where it is not. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Arrangement } from '../../../src/core/balance/arrangement.ts'
import { evacuate } from '../../../src/core/balance/evacuate.ts'
import { type Layout, type Places, place, placesNow } from '../../../src/core/balance/layout.ts'
import { Reserve, refuge } from '../../../src/core/balance/reserve.ts'
import { costOf, FREE, improve, type Prices } from '../../../src/core/balance/search.ts'
import { sequence } from '../../../src/core/balance/sequence.ts'
import { everyPlacing, item, layouts, node } from './layouts.ts'

const UNLIMITED = { moves: 1000, movedMiB: Number.POSITIVE_INFINITY }

function arranged(layout: Layout, places: Places): Arrangement {
  const arrangement = new Arrangement(layout, placesNow(layout))
  for (const [index, at] of places.entries()) arrangement.put(index, at)
  return arrangement
}

/** Room everywhere, and nothing where it may not be. */
function isLegal(layout: Layout, places: Places): boolean {
  const arrangement = arranged(layout, places)
  const within = layout.nodes.every((_, at) => Object.values(arrangement.excess(at)).every(excess => excess === 0))
  return within && layout.items.every((_, index) => arrangement.mayBe(index, places[index] ?? 0))
}

/** By trying every way: whether the items of a node could all go elsewhere while the others stay. */
function canLose(arrangement: Arrangement, lost: number): boolean {
  const { layout, at } = arrangement
  const items = [...at.keys()].filter(index => at[index] === lost)
  const { memoryMiB, vcpus } = arrangement.rooms()
  const places = (index: number): boolean => {
    const which = items[index]
    if (which === undefined) return true
    const { needs } = layout.items[which] ?? { needs: { memoryMiB: 0, vcpus: 0 } }
    return [...layout.nodes.keys()].some(node => {
      if (node === lost || !arrangement.mayGo(which, node)) return false
      if ((memoryMiB[node] ?? 0) < needs.memoryMiB || (vcpus[node] ?? 0) < needs.vcpus) return false
      memoryMiB[node] = (memoryMiB[node] ?? 0) - needs.memoryMiB
      vcpus[node] = (vcpus[node] ?? 0) - needs.vcpus
      const fits = places(index + 1)
      memoryMiB[node] = (memoryMiB[node] ?? 0) + needs.memoryMiB
      vcpus[node] = (vcpus[node] ?? 0) + needs.vcpus
      return fits
    })
  }
  return places(0)
}

describe('an arrangement', () => {
  test('has the same score whichever way it came about', () => {
    const moves = fc.array(fc.tuple(fc.nat(6), fc.nat(3)), { maxLength: 30 })
    fc.assert(
      fc.property(layouts(), moves, (layout, all) => {
        const stepwise = new Arrangement(layout, placesNow(layout))
        for (const [index, to] of all)
          if (index < layout.items.length && to < layout.nodes.length) stepwise.put(index, to)
        const moved = layout.items.filter(({ node: home }, index) => home !== stepwise.at[index])
        const afresh = new Arrangement(
          { ...layout, items: layout.items.map((each, index) => ({ ...each, node: stepwise.at[index] ?? 0 })) },
          stepwise.at,
        )
        expect(stepwise.score).toBeCloseTo(afresh.score, 9)
        expect(stepwise.broken).toBe(afresh.broken)
        expect(stepwise.unwanted).toBe(afresh.unwanted)
        expect(stepwise.moved).toBe(moved.length)
        expect(stepwise.movedMiB).toBe(moved.reduce((sum, { needs }) => sum + needs.memoryMiB, 0))
      }),
    )
  })

  test('tells the imbalance of a change before it is made', () => {
    fc.assert(
      fc.property(layouts(), fc.nat(6), fc.nat(3), (layout, index, to) => {
        fc.pre(index < layout.items.length && to < layout.nodes.length)
        const arrangement = new Arrangement(layout, placesNow(layout))
        const from = arrangement.at[index] ?? 0
        fc.pre(from !== to)
        const { memoryMiB, vcpus } = arrangement.needsOf(index)
        const told = arrangement.imbalanceAfter(from, to, memoryMiB, vcpus)
        arrangement.put(index, to)
        expect(told).toBeCloseTo(arrangement.imbalance, 9)
      }),
    )
  })

  test('is the deviation of memory use plus that of vCPUs per thread, and 0 when all nodes are alike', () => {
    const layout = { nodes: [node('a', 8), node('b', 8)], items: [item('x', 4, 0), item('y', 4, 1)], aparts: [] }
    const arrangement = new Arrangement(layout, placesNow(layout))
    expect(arrangement.score).toBeCloseTo(0, 9)
    arrangement.put(1, 0)
    // One node has 8 of 8 GiB and 2 vCPUs on 8 threads, the other nothing.
    expect(arrangement.score).toBeCloseTo(0.5 + 0.125, 9)
  })
})

test('a node that does not count changes nothing in the score, however full it is', () => {
  const nodes = [node('a', 8), node('b', 8), node('resting', 8, { counts: false })]
  const layout = { nodes, items: [item('x', 6, 0), item('y', 2, 1), item('z', 8, 2)], aparts: [] }
  expect(new Arrangement(layout, placesNow(layout)).score).toBeCloseTo(0.25, 9)
})

describe('evening out', () => {
  const prices = fc.constantFrom<Prices>(FREE, { move: 0.01, gib: 0.001 })

  test('never makes it worse, breaks no rule and no budget, and overfills nothing', () => {
    fc.assert(
      fc.property(layouts({ items: 12 }), prices, fc.nat(6), fc.nat(20), (layout, price, moves, gib) => {
        const budget = { moves, movedMiB: gib * 1024, proposals: 2000 }
        const before = arranged(layout, placesNow(layout))
        const after = arranged(layout, improve(layout, budget, price))
        expect(costOf(after, price)).toBeLessThanOrEqual(costOf(before, price) + 1e-9)
        expect(after.moved).toBeLessThanOrEqual(moves)
        expect(after.movedMiB).toBeLessThanOrEqual(gib * 1024)
        expect(after.broken).toBeLessThanOrEqual(before.broken)
        expect(isLegal(layout, after.at)).toBe(true)
      }),
    )
  })

  test('finds the best of all arrangements of small clusters', () => {
    fc.assert(
      fc.property(layouts({ nodes: 3, items: 6 }), prices, fc.integer({ min: 1, max: 6 }), (layout, price, moves) => {
        let best = Number.POSITIVE_INFINITY
        for (const places of everyPlacing(layout)) {
          const arrangement = arranged(layout, places)
          if (arrangement.moved > moves || !isLegal(layout, places)) continue
          best = Math.min(best, costOf(arrangement, price))
        }
        const found = improve(layout, { ...UNLIMITED, moves, proposals: 20_000 }, price)
        expect(costOf(arranged(layout, found), price)).toBeCloseTo(best, 6)
      }),
      { numRuns: 40 },
    )
  })

  test('moves what a move and its memory are worth, and no more', () => {
    const nodes = [node('a', 16), node('b', 16)]
    const items = [1, 2, 3, 4, 5, 6].map(number => item(`d${number}`, 2, 0))
    const moved = (price: Prices) =>
      arranged(
        { nodes, items, aparts: [] },
        improve({ nodes, items, aparts: [] }, { ...UNLIMITED, proposals: 5000 }, price),
      ).moved
    expect(moved(FREE)).toBe(3)
    // Each of the first three gains a little more than 0.18.
    expect(moved({ move: 0.15, gib: 0 })).toBe(3)
    expect(moved({ move: 0.25, gib: 0 })).toBe(0)
    expect(moved({ move: 0, gib: 0.15 })).toBe(0)
    const small = [1, 2, 3, 4, 5, 6].map(number => item(`s${number}`, 1, 0))
    const layout = { nodes, items: [item('large', 8, 0), ...small], aparts: [] }
    const best = improve(layout, { ...UNLIMITED, proposals: 20_000 }, { move: 0.2, gib: 0 })
    expect([...best]).toEqual([1, 0, 0, 0, 0, 0, 0])
  })

  test('three that can only change places in a ring do so', () => {
    const only = (to: number) => [0, 1, 2].map(at => (at === to ? 0 : place.barred))
    const unwanted = (home: number, to: number) => only(to).map((flags, at) => (at === home ? place.unwanted : flags))
    const layout = {
      nodes: ['a', 'b', 'c'].map(name => node(name, 4)),
      items: [item('x', 4, 0, unwanted(0, 1)), item('y', 4, 1, unwanted(1, 2)), item('z', 4, 2, unwanted(2, 0))],
      aparts: [],
    }
    expect([...improve(layout, { ...UNLIMITED, proposals: 5000 })]).toEqual([1, 2, 0])
  })

  test('says the same each time', () => {
    fc.assert(
      fc.property(layouts({ items: 12 }), layout => {
        const budget = { ...UNLIMITED, proposals: 2000 }
        expect(improve(layout, budget)).toEqual(improve(layout, budget))
      }),
      { numRuns: 20 },
    )
  })

  test('mends a broken rule, and one that is hard before one that is soft', () => {
    const items = [item('web1', 2, 0), item('web2', 2, 0), item('db', 2, 1)]
    const nodes = [node('a', 16), node('b', 16)]
    const apart = { nodes, items, aparts: [{ items: [0, 1], hard: true }] }
    const found = arranged(apart, improve(apart, { ...UNLIMITED, proposals: 2000 }))
    expect([found.broken, found.at[0] === found.at[1]]).toEqual([0, false])
    const torn = {
      ...apart,
      items: [...items.slice(0, 2), item('db', 2, 1, [place.unwanted, place.broken])],
    }
    expect(improve(torn, { ...UNLIMITED, proposals: 2000 })[2]).toBe(0)
  })
})

describe('an order of moves', () => {
  test('is possible at every step, breaks no rule on the way, and keeps the reserve of nodes that have one, unless it mends a rule', () => {
    fc.assert(
      fc.property(layouts({ items: 10 }), fc.boolean(), (layout, keepReserve) => {
        const goal = improve(layout, { ...UNLIMITED, proposals: 2000 })
        const { hops, left, places } = sequence(layout, goal, { keepReserve })
        const arrangement = new Arrangement(layout, placesNow(layout))
        const safe = () =>
          layout.nodes.flatMap((_, at) =>
            keepReserve && arrangement.at.includes(at) && refuge(arrangement, [at]).left.length === 0 ? [at] : [],
          )
        let guarded = safe()
        for (const { item: index, from, to } of hops) {
          const { broken } = arrangement
          expect(arrangement.at[index]).toBe(from)
          expect(arrangement.fits(index, to)).toBe(true)
          expect(arrangement.keepsRules(index, to)).toBe(true)
          arrangement.put(index, to)
          expect(arrangement.broken).toBeLessThanOrEqual(broken)
          if (arrangement.broken < broken) guarded = safe()
          // What packs them greedily may miss a way that was found before; trying everything does not.
          expect(guarded.filter(at => refuge(arrangement, [at]).left.length > 0 && !canLose(arrangement, at))).toEqual(
            [],
          )
        }
        expect(places).toEqual(arrangement.at)
        for (const [index, at] of goal.entries()) if (!left.includes(index)) expect(places[index]).toBe(at)
      }),
    )
  })

  test('two that must be apart change places by way of a third node, and are never together', () => {
    const layout = {
      nodes: [node('a', 16), node('b', 16), node('c', 16)],
      items: [item('x', 2, 0), item('y', 2, 1)],
      aparts: [{ items: [0, 1], hard: true }],
    }
    const { hops, left } = sequence(layout, Int32Array.of(1, 0), { keepReserve: false })
    expect(left).toEqual([])
    expect(hops).toHaveLength(3)
    const pair = { ...layout, nodes: layout.nodes.slice(0, 2) }
    expect(sequence(pair, Int32Array.of(1, 0), { keepReserve: false })).toMatchObject({ hops: [], left: [0, 1] })
  })

  test('two that have to change places on full nodes go by way of a third', () => {
    const layout = {
      nodes: [node('a', 8), node('b', 8), node('c', 4)],
      items: [item('x', 8, 0), item('y', 8, 1), item('small', 1, 2)],
      aparts: [],
    }
    const swap = Int32Array.of(1, 0, 2)
    expect(sequence(layout, swap, { keepReserve: false })).toMatchObject({ hops: [], left: [0, 1] })
    const roomier = { ...layout, nodes: [node('a', 8), node('b', 8), node('c', 16)] }
    const { hops, left } = sequence(roomier, swap, { keepReserve: false })
    expect(left).toEqual([])
    expect(hops.map(({ item: index, to }) => [index, to])).toEqual([
      [0, 2],
      [1, 0],
      [0, 1],
    ])
  })
})

describe('emptying nodes', () => {
  test('succeeds whenever trying everything does, and what it finds is legal and leaves nothing behind', () => {
    let possible = 0
    fc.assert(
      fc.property(layouts({ nodes: 4, items: 6 }), layout => {
        const empties = (places: Places) =>
          !places.includes(0) && arranged(layout, places).broken <= broken && isLegal(layout, places)
        const open = layout.items.every(({ node: home }, index) =>
          layout.nodes.some(
            (_, at) => at !== 0 && (at === home || arranged(layout, placesNow(layout)).mayGo(index, at)),
          ),
        )
        const { broken } = arranged(layout, placesNow(layout))
        const found = evacuate(layout, [0], { proposals: 60_000 })
        if (found !== undefined) {
          expect(empties(found)).toBe(true)
          return
        }
        for (const places of everyPlacing(layout)) {
          const strict = layout.items.every((each, index) => {
            const at = places[index] ?? 0
            return at === each.node || arranged(layout, placesNow(layout)).mayGo(index, at)
          })
          if (open && strict && empties(places)) possible++
        }
        expect(possible).toBe(0)
      }),
      { numRuns: 150 },
    )
  })

  test('makes room by moving what is not leaving, where that is the only way', () => {
    // 6 GiB leave a, and b and c have 4 and 3 left: only when the 2 on b go to c is there room on b.
    const layout = {
      nodes: [node('a', 8), node('b', 8), node('c', 8)],
      items: [item('big', 6, 0), item('b1', 2, 1), item('b2', 2, 1), item('c1', 5, 2)],
      aparts: [],
    }
    const found = evacuate(layout, [0], { proposals: 60_000 })
    expect(found?.[0]).toBe(1)
    expect(arranged(layout, found ?? placesNow(layout)).moved).toBe(2)
    expect(sequence(layout, found ?? placesNow(layout), { keepReserve: false }).left).toEqual([])
  })
})

describe('a reserve', () => {
  test('is there when every domain of a lost node has a place, and says which have none', () => {
    const layout = {
      nodes: [node('a', 10), node('b', 8), node('c', 8)],
      items: [item('a1', 5, 0), item('a2', 4, 0), item('b1', 4, 1), item('c1', 4, 2, [place.barred, place.barred])],
      aparts: [],
    }
    const arrangement = new Arrangement(layout, placesNow(layout))
    expect(refuge(arrangement, [0]).left).toEqual([0])
    expect(refuge(arrangement, [1]).left).toEqual([])
    expect(refuge(arrangement, [2]).left).toEqual([3])
    expect(new Reserve(arrangement).nodes).toEqual([1])
  })

  test('takes no place where a hard rule would be broken', () => {
    const items = [item('x', 4, 0, [0, place.broken])]
    const layout = { nodes: [node('a', 8), node('b', 8)], items, aparts: [] }
    expect(refuge(new Arrangement(layout, placesNow(layout)), [0]).left).toEqual([0])
  })

  test('fills gaps so that the large one stays whole, where spreading would not do', () => {
    const layout = {
      nodes: [node('a', 16), node('b', 6), node('c', 4)],
      items: [item('x', 4, 0), item('y', 3, 0), item('z', 3, 0)],
      aparts: [],
    }
    expect(refuge(new Arrangement(layout, placesNow(layout)), [0]).left).toEqual([])
  })
})
