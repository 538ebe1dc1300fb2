/** How nodes become empty: where everything goes, what makes room, what cannot leave; and the way back. */
import { describe, expect, test } from 'vitest'
import type { Drained, Ledger } from '../../../src/core/ledger.ts'
import { type Drain, type DrainRequest, planDrain, planReturn, type Return } from '../../../src/core/plan/drain.ts'
import {
  A_CPU,
  aCluster,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  cpuSays,
  uuidOf,
} from '../builders.ts'

const MARK = { by: 'ann', since: '2026-01-01T00:00:00Z' }

/** A running domain without disks, of so many GiB; a node has 8 for them. */
function guest(number: number, gib = 1, more: Parameters<typeof aDomainOnNode>[0] = {}) {
  return aDomainOnNode(
    more,
    aDomain({ name: `guest${number}`, uuid: uuidOf(number), memoryMiB: gib * 1024, disks: [] }),
  )
}

const planOf = (parts: ClusterParts, more: Partial<DrainRequest> = {}) =>
  planDrain(aCluster(parts), { nodes: ['node1'], stuck: 'refuse', mark: MARK, ...more })

function drained(parts: ClusterParts, more: Partial<DrainRequest> = {}): Drain {
  const plan = planOf(parts, more)
  if (!('moves' in plan)) throw new Error(plan.map(({ reason }) => reason).join(', '))
  return plan
}

const reasons = (plan: ReturnType<typeof planOf>) => ('moves' in plan ? [] : plan.map(({ reason }) => reason))
const routes = ({ moves }: Pick<Drain, 'moves'>) => moves.map(({ domain, from, to }) => `${domain}: ${from} -> ${to}`)

describe('a drain', () => {
  test('finds a place for everything that runs there, and says why it moves', () => {
    const plan = drained({
      nodes: [aNode('node1', [guest(1, 5), guest(2, 3)]), aNode('node2'), aNode('node3', [guest(3, 4)])],
    })
    expect(routes(plan).sort()).toEqual(['guest1: node1 -> node2', 'guest2: node1 -> node3'])
    expect(plan.moves[0]).toMatchObject({ why: 'node1 is to be empty' })
    expect(plan.drained.map(({ domain, from }) => [domain, from]).sort()).toEqual([
      ['guest1', 'node1'],
      ['guest2', 'node1'],
    ])
  })

  test('makes room by moving others when that is the only way', () => {
    const nodes = [aNode('node1', [guest(1, 6)]), aNode('node2', [guest(2, 4)]), aNode('node3', [guest(3, 4)])]
    const plan = drained({ nodes })
    expect(plan.moves).toHaveLength(2)
    expect(plan.moves[0]).toMatchObject({ why: 'makes room for others' })
    expect(plan.moves[1]).toMatchObject({ domain: 'guest1', from: 'node1' })
    expect(plan.drained.map(({ from }) => from)).toContain(plan.moves[0]?.from)
  })

  test('of two nodes at once sends nothing from one to the other', () => {
    const nodes = [aNode('node1', [guest(1, 3)]), aNode('node2', [guest(2, 3)]), aNode('node3')]
    expect(routes(drained({ nodes }, { nodes: ['node1', 'node2'] })).sort()).toEqual([
      'guest1: node1 -> node3',
      'guest2: node2 -> node3',
    ])
  })

  test('sends each domain to a node that can run its CPU', () => {
    const milan = aDomainOnNode({}, aDomain({ name: 'guest1', disks: [], cpu: A_CPU }))
    const nodes = [
      aNode('node1', [milan, guest(2)]),
      aNode('node2', [], cpuSays('cannot')),
      aNode('node3', [guest(3, 4)]),
    ]
    expect(drained({ nodes }).moves.find(({ domain }) => domain === 'guest1')?.to).toBe('node3')
  })

  test('of an empty node plans nothing', () => {
    expect(drained({ nodes: [aNode('node1'), aNode('node2')] })).toMatchObject({ moves: [], stops: [], stays: [] })
  })

  test('sends nothing to a node in maintenance, nor to a silent one, which does not stand in the way', () => {
    const closed = { ...aNode('node2'), ledger: { maintenance: MARK, reservations: [] } }
    const nodes = [aNode('node1', [guest(1)]), closed, aSilentNode('node3'), aNode('node4')]
    expect(routes(drained({ nodes }))).toEqual(['guest1: node1 -> node4'])
  })

  test('is refused where the node is unknown or does not answer', () => {
    expect(reasons(planOf({ nodes: [aNode('node2')] }))).toEqual(['unknownNode'])
    expect(reasons(planOf({ nodes: [aSilentNode('node1'), aNode('node2')] }))).toEqual(['unreachable'])
  })
})

describe('a domain that cannot be moved while running', () => {
  const parts = { nodes: [aNode('node1', [guest(1), guest(2, 1, { state: 'paused' })]), aNode('node2')] }

  test('is named with its reason, and the choice', () => {
    const plan = planOf(parts)
    expect(plan).toMatchObject([
      { reason: 'wrongState', domain: 'guest2', state: 'paused' },
      { reason: 'cannotLeave', node: 'node1', domains: ['guest2'] },
    ])
  })

  test('is left when told to skip it, and shut down last when told so', () => {
    expect(drained(parts, { stuck: 'skip' })).toMatchObject({
      moves: [{ domain: 'guest1' }],
      stops: [],
      stays: [{ domain: 'guest2' }],
    })
    const { moves, stops, stays, drained: away } = drained(parts, { stuck: 'shutdown' })
    expect({ moves, stops, stays }).toMatchObject({
      moves: [{ domain: 'guest1' }],
      stops: [{ domain: 'guest2' }],
      stays: [],
    })
    expect(away).toEqual([
      { uuid: uuidOf(1), domain: 'guest1', from: 'node1' },
      { uuid: uuidOf(2), domain: 'guest2', from: 'node1', stopped: true },
    ])
  })

  test('and one for which nobody can make room is the same', () => {
    const full = { nodes: [aNode('node1', [guest(1, 6), guest(2, 1)]), aNode('node2', [guest(3, 4)])] }
    expect(reasons(planOf(full))).toEqual(['noRoom', 'cannotLeave'])
    expect(drained(full, { stuck: 'skip' })).toMatchObject({
      moves: [{ domain: 'guest2' }],
      stays: [{ domain: 'guest1' }],
    })
  })
})

describe('the way back', () => {
  const away = (number: number, more: Partial<Drained> = {}): Drained => ({
    uuid: uuidOf(number),
    domain: `guest${number}`,
    from: 'node1',
    ...more,
  })
  const ledger = (...list: Drained[]): Ledger => ({ maintenance: MARK, drained: list, reservations: [] })

  function back(nodes: ClusterParts['nodes'], ...list: Drained[]): Return {
    const [first, ...rest] = nodes ?? []
    if (first === undefined) throw new Error('a node is needed')
    const plan = planReturn(aCluster({ nodes: [{ ...first, ledger: ledger(...list) }, ...rest] }), 'node1')
    if (!('moves' in plan)) throw new Error(plan.map(({ reason }) => reason).join(', '))
    return plan
  }

  test('brings everything home that runs elsewhere, those that made room included', () => {
    const nodes = [aNode('node1'), aNode('node2', [guest(1)]), aNode('node3', [guest(2)])]
    expect(routes(back(nodes, away(1), away(2, { from: 'node2' }))).sort()).toEqual([
      'guest1: node2 -> node1',
      'guest2: node3 -> node2',
    ])
  })

  test('leaves alone what is home already, and what runs nowhere though nobody shut it down for this', () => {
    const plan = back([aNode('node1', [guest(1)]), aNode('node2')], away(1), away(2))
    expect(plan).toMatchObject({ moves: [], starts: [], gone: [{ domain: 'guest2' }] })
  })

  test('calls nothing gone while a node is silent: it may run there', () => {
    const plan = back([aNode('node1'), aSilentNode('node2')], away(1))
    expect(plan).toMatchObject({
      gone: [],
      stays: [{ domain: 'guest1', why: [{ reason: 'unreachable', node: 'node2' }] }],
    })
  })

  test('starts what was shut down', () => {
    expect(back([aNode('node1'), aNode('node2')], away(1, { stopped: true })).starts).toMatchObject([
      { domain: 'guest1' },
    ])
  })

  test('names what finds its room taken', () => {
    const nodes = [aNode('node1', [guest(9, 6)]), aNode('node2', [guest(1, 4)])]
    expect(back(nodes, away(1))).toMatchObject({
      moves: [],
      stays: [{ domain: 'guest1', why: [{ reason: 'noWayBack' }] }],
    })
  })

  test('is refused while the node does not answer', () => {
    expect(planReturn(aCluster({ nodes: [aSilentNode('node1')] }), 'node1')).toMatchObject([{ reason: 'unreachable' }])
  })
})
