/** What becomes of domains when nodes are lost, and how much more fits. */
import { describe, expect, test } from 'vitest'
import { type Loss, lostDomains, planReserve, planWhatIf, type ReserveReport } from '../../../src/core/plan/what-if.ts'
import {
  aCluster,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  unreadable,
  uuidOf,
} from '../builders.ts'

function guest(number: number, gib = 1, more: Parameters<typeof aDomain>[0] = {}) {
  const name = `guest${number}`
  return aDomainOnNode({}, aDomain({ name, uuid: uuidOf(number), memoryMiB: gib * 1024, disks: [], ...more }))
}

function lossOf(parts: ClusterParts, ...lost: string[]): Loss {
  const loss = planWhatIf(aCluster(parts), lost)
  if (!('restarts' in loss)) throw new Error(loss.map(({ reason }) => reason).join(', '))
  return loss
}

function reserveOf(parts: ClusterParts): ReserveReport {
  const report = planReserve(aCluster(parts))
  if (!('single' in report)) throw new Error(report.map(({ reason }) => reason).join(', '))
  return report
}

const places = ({ restarts }: Loss) => Object.fromEntries(restarts.map(({ domain, to }) => [domain, to]))

/** A node has 8 GiB for domains. */
describe('the loss of nodes', () => {
  test('shows for each domain a node with room for it beside the others', () => {
    const nodes = [
      aNode('node1', [guest(1, 5), guest(2, 3)]),
      aNode('node2', [guest(3, 2)]),
      aNode('node3', [guest(4, 4)]),
    ]
    expect(places(lossOf({ nodes }, 'node1'))).toEqual({ guest1: 'node2', guest2: 'node3' })
    expect(places(lossOf({ nodes }, 'node2', 'node3'))).toEqual({ guest3: undefined, guest4: undefined })
  })

  test('that takes more than there is room for says which domains, and whether others could make room', () => {
    const nodes = [
      aNode('node1', [guest(1, 6)]),
      aNode('node2', [guest(2, 2), guest(3, 2)]),
      aNode('node3', [guest(4, 4)]),
    ]
    const loss = lossOf({ nodes }, 'node1')
    expect(lostDomains(loss)).toEqual(['guest1'])
    expect(loss.roomCanBeMade).toBe(true)
    const full = [aNode('node1', [guest(1, 6)]), aNode('node2', [guest(2, 7)])]
    expect(lossOf({ nodes: full }, 'node1').roomCanBeMade).toBe(false)
  })

  test('names what no other node can host with every reason, and what nobody could read', () => {
    const bound = guest(1, 1, { interfaces: [{ kind: 'network', source: 'only-here' }] as never })
    const nodes = [aNode('node1', [bound, unreadable()], { networks: ['only-here'] }), aNode('node2')]
    const { restarts } = lossOf({ nodes }, 'node1')
    expect(restarts.map(({ domain, to, why }) => [domain, to, why?.map(({ reason }) => reason)])).toEqual([
      ['guest1', undefined, ['networkMissing']],
      ['web', undefined, ['badDefinition']],
    ])
  })

  test('a paused domain would be started like any other', () => {
    const paused = { ...guest(1), state: 'paused' as const, stateReason: 1 }
    expect(places(lossOf({ nodes: [aNode('node1', [paused]), aNode('node2')] }, 'node1'))).toEqual({ guest1: 'node2' })
  })

  test('of a node that nobody knows, or while another is silent, cannot be told', () => {
    expect(planWhatIf(aCluster(), ['nodeX'])).toMatchObject([{ reason: 'unknownNode' }])
    const silent = aCluster({ nodes: [aNode('node1'), aSilentNode('node2')] })
    expect(planWhatIf(silent, ['node1'])).toMatchObject([{ reason: 'unreachable', node: 'node2' }])
    expect(planReserve(silent)).toMatchObject([{ reason: 'unreachable', node: 'node2' }])
  })
})

describe('the reserve', () => {
  test('is told of every node that runs something, and of pairs that are worse than either alone', () => {
    const nodes = [1, 2, 3].map(n => aNode(`node${n}`, [guest(n * 10, 3), guest(n * 10 + 1, 1)]))
    const { single, pairs } = reserveOf({ nodes: [...nodes, aNode('node4')] })
    expect(single.map(({ lost }) => lost)).toEqual([['node1'], ['node2'], ['node3']])
    expect(single.flatMap(lostDomains)).toEqual([])
    expect(pairs).toEqual([])
    const three = reserveOf({ nodes })
    expect(three.single.flatMap(lostDomains)).toEqual([])
    expect(three.pairs?.map(({ lost }) => lost)).toEqual([
      ['node1', 'node2'],
      ['node1', 'node3'],
      ['node2', 'node3'],
    ])
  })

  test('says how many more typical domains fit, and how many with a node to spare', () => {
    const nodes = [1, 2, 3].map(n => aNode(`node${n}`, [guest(n, 1)]))
    // 24 GiB in all, 3 in use; with one node lost, 16 GiB must hold everything.
    expect(reserveOf({ nodes })).toMatchObject({
      typical: { memoryMiB: 1024, vcpus: 1 },
      more: 21,
      moreWithReserve: 13,
    })
    expect(reserveOf({ nodes: [aNode('node1'), aNode('node2')] })).toMatchObject({ typical: undefined, more: 0 })
  })

  test('a node in maintenance takes no more', () => {
    const resting = { ...aNode('node2'), ledger: { reservations: [], maintenance: { by: 'ops', since: '2026' } } }
    const alone = reserveOf({ nodes: [aNode('node1', [guest(1)]), resting] })
    expect(alone.single.flatMap(lostDomains)).toEqual(['guest1'])
    const nodes = [aNode('node1', [guest(1)]), resting, aNode('node3', [guest(3)])]
    expect(reserveOf({ nodes })).toMatchObject({ more: 14, moreWithReserve: 6 })
  })

  test('beyond 50 nodes no pairs are tried', () => {
    const nodes = Array.from({ length: 51 }, (_, at) => aNode(`n${at}`, [guest(at + 1)]))
    expect(reserveOf({ nodes }).pairs).toBeUndefined()
    expect(reserveOf({ nodes: nodes.slice(1) }).pairs).toEqual([])
  })
})
