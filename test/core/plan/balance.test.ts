/** When evening out the cluster is planned, what it leaves alone, and why it is refused. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { defaultConfig } from '../../../src/core/config.ts'
import { type Balance, type BalanceRequest, planBalance } from '../../../src/core/plan/balance.ts'
import { aCluster, aDomain, aDomainOnNode, aNode, aSilentNode, type ClusterParts, uuidOf } from '../builders.ts'

const UNLIMITED: BalanceRequest = { moves: 1000, movedMiB: Number.POSITIVE_INFINITY }

/** A running domain without disks, of so many GiB. */
function guest(number: number, gib = 1, more: Parameters<typeof aDomain>[0] = {}) {
  const name = `guest${number}`
  return aDomainOnNode({}, aDomain({ name, uuid: uuidOf(number), memoryMiB: gib * 1024, vcpus: 1, disks: [], ...more }))
}

function planned(parts: ClusterParts, request: Partial<BalanceRequest> = {}): Balance {
  const plan = planBalance(aCluster(parts), { ...UNLIMITED, ...request })
  if (!('moves' in plan)) throw new Error(plan.map(({ reason }) => reason).join(', '))
  return plan
}

/** Six guests on node1, none elsewhere; a node has 8 GiB for them. */
const uneven = {
  nodes: [
    aNode(
      'node1',
      [1, 2, 3, 4, 5, 6].map(n => guest(n)),
    ),
    aNode('node2'),
    aNode('node3'),
  ],
}
const routes = ({ moves }: Balance) => moves.map(({ domain, from, to }) => `${domain}: ${from} -> ${to}`)
const counts = ({ after }: Balance) => after.map(({ memory }) => Math.round((memory * 8704) / 1024))

describe('an uneven cluster', () => {
  test('is made even by as few moves as it takes, each with its reason and its cost', () => {
    const plan = planned(uneven)
    expect(counts(plan)).toEqual([2, 2, 2])
    expect(plan.moves).toHaveLength(4)
    expect(plan.moves[0]).toMatchObject({ from: 'node1', memoryMiB: 1024 })
    expect(plan.moves[0]?.why).toMatch(/^vCPUs per CPU: 150 % there, 0 % on node[23]$/)
    expect(plan.scoreAfter).toBeLessThan(0.01)
    expect(plan.scoreBefore).toBeGreaterThan(0.3)
  })

  test('once it is even is left alone', () => {
    const even = {
      nodes: ['node1', 'node2', 'node3'].map((name, at) => aNode(name, [guest(at * 2 + 1), guest(at * 2 + 2)])),
    }
    expect(planned(even).moves).toEqual([])
    expect(planned({ nodes: [aNode('node1', [guest(1), guest(2)])] }).moves).toEqual([])
    expect(planned({ nodes: [] }).moves).toEqual([])
  })

  test('that differs by less than a move is worth is left alone', () => {
    const nodes = [1, 2, 3, 4].map(n => aNode(`node${n}`, [guest(n * 10, 2), guest(n * 10 + 1, 2)]))
    const one = { nodes: [...nodes, aNode('node5', [guest(99, 3)])] }
    expect(planned(one).moves).toEqual([])
    // Two that change places would make it even, and are not worth their 4 GiB.
    const more = 2 + 100 / 1024
    const uneven = [aNode('node1', [guest(1, more), guest(2, 2)]), aNode('node2', [guest(3, 2), guest(4, 4 - more)])]
    expect(planned({ nodes: uneven }).moves).toEqual([])
  })

  test('is evened out as far as moves, memory or the goal allow', () => {
    expect(planned(uneven, { moves: 2 }).moves).toHaveLength(2)
    expect(planned(uneven, { movedMiB: 3 * 1024 }).moves).toHaveLength(3)
    expect(planned(uneven, { spread: 1 }).moves).toHaveLength(0)
    // After two moves the nodes hold 4, 1 and 1: at most 24 percent points off the mean.
    expect(planned(uneven, { spread: 0.24 }).moves).toHaveLength(2)
  })

  test('is evened out in vCPUs, too', () => {
    const busy = (n: number) => guest(n, 1, { vcpus: 4 })
    const idle = (n: number) => guest(n, 1)
    const plan = planned({ nodes: [aNode('node1', [busy(1), busy(2)]), aNode('node2', [idle(3), idle(4)])] })
    expect(plan.after.map(({ cpu }) => cpu)).toEqual([1.25, 1.25])
    expect(plan.moves[0]?.why).toBe('vCPUs per CPU: 200 % there, 50 % on node2')
  })

  test('with nodes of different sizes gets the same share of each', () => {
    const large = aNode(
      'large',
      [1, 2, 3, 4, 5, 6].map(n => guest(n)),
      { memoryMiB: 16_896, cpus: 8 },
    )
    const plan = planned({ nodes: [large, aNode('small')] })
    expect(plan.moves).toHaveLength(2)
    expect(plan.scoreAfter).toBeLessThan(0.01)
  })
})

describe('what does not move', () => {
  test('a domain that is paused, or that no other node can take, stays and is named with the reason', () => {
    const paused = { ...guest(1), state: 'paused' as const, stateReason: 1 }
    const bound = guest(2, 1, { interfaces: [{ kind: 'network', source: 'only-here' }] as never })
    const nodes = [aNode('node1', [paused, bound, guest(3)], { networks: ['only-here'] }), aNode('node2')]
    const plan = planned({ nodes })
    expect(routes(plan)).toEqual(['guest3: node1 -> node2'])
    expect(plan.fixed.map(({ domain, why }) => [domain, why[0]?.reason])).toEqual([
      ['guest1', 'wrongState'],
      ['guest2', 'networkMissing'],
    ])
  })

  test('nothing goes to a node in maintenance, and that node does not count', () => {
    const resting = { ...aNode('node3'), ledger: { reservations: [], maintenance: { by: 'ops', since: '2026' } } }
    const plan = planned({ nodes: [...uneven.nodes.slice(0, 2), resting] })
    expect(counts(plan)).toEqual([3, 3, 0])
  })

  test('nor where room is reserved for others', () => {
    const by = { token: 't', generation: 1, uuid: uuidOf(99), domain: 'other', vcpus: 1, by: 'ops' }
    const reserving = (memoryMiB: number) => ({
      ...aNode('node2'),
      ledger: { reservations: [{ ...by, memoryMiB }] },
    })
    const full = aNode('node1', [guest(1), guest(2), guest(3), guest(4)])
    expect(planned({ nodes: [full, reserving(8192)] }).moves).toEqual([])
    expect(planned({ nodes: [full, reserving(0)] }).moves.length).toBeGreaterThan(0)
  })

  test('no node is filled beyond what it has for domains', () => {
    const config = { ...defaultConfig, node: { ...defaultConfig.node, reservedMemoryMiB: 7680 } }
    const plan = planned({ nodes: [aNode('node1', [guest(1), guest(2), guest(3)]), aNode('node2')], config })
    expect(counts(plan)).toEqual([2, 1])
  })
})

test('nothing is planned while a node is silent, or a domain runs twice', () => {
  const silent = planBalance(aCluster({ nodes: [...uneven.nodes, aSilentNode('node4')] }), UNLIMITED)
  expect(silent).toMatchObject([{ reason: 'unreachable', node: 'node4' }])
  const twice = planBalance(aCluster({ nodes: [aNode('node1', [guest(1)]), aNode('node2', [guest(1)])] }), UNLIMITED)
  expect(twice).toMatchObject([{ reason: 'presentTwice', domain: 'guest1' }])
})

test('of random clusters a plan makes nothing worse, and once it is carried out there is nothing left to plan', () => {
  const one = fc.record({ at: fc.nat(2), gib: fc.integer({ min: 1, max: 3 }) })
  fc.assert(
    fc.property(fc.array(one, { minLength: 3, maxLength: 9 }), drawn => {
      const on = new Map(drawn.map(({ at }, number) => [`guest${number}`, `node${at + 1}`]))
      const cluster = () =>
        ['node1', 'node2', 'node3'].map(name =>
          aNode(
            name,
            drawn.flatMap(({ gib }, number) => (on.get(`guest${number}`) === name ? [guest(number, gib)] : [])),
            { memoryMiB: 32_768 },
          ),
        )
      const plan = planned({ nodes: cluster() })
      expect(plan.scoreAfter).toBeLessThanOrEqual(plan.scoreBefore)
      for (const { domain, to } of plan.moves) on.set(domain, to)
      expect(planned({ nodes: cluster() }).moves).toEqual([])
    }),
    { numRuns: 8 },
  )
})
