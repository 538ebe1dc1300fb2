/** Rules in plans: what is refused, what is mended, and that no plan breaks a hard rule at any moment. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Cluster } from '../../../src/core/cluster.ts'
import { configOf } from '../../../src/core/config.ts'
import { planBalance } from '../../../src/core/plan/balance.ts'
import { planDrain } from '../../../src/core/plan/drain.ts'
import { planMigrate } from '../../../src/core/plan/migrate.ts'
import type { Move } from '../../../src/core/plan/moves.ts'
import { planStart } from '../../../src/core/plan/start.ts'
import { planWhatIf } from '../../../src/core/plan/what-if.ts'
import { brokenRules } from '../../../src/core/rules.ts'
import { aCluster, aDefinition, aDomain, aDomainOnNode, aNode, uuidOf } from '../builders.ts'

const xml = (name: string, number: number, gib = 1) =>
  aDomain({ name, uuid: uuidOf(number), memoryMiB: gib * 1024, disks: [] })
const guest = (name: string, number: number, gib = 1) => aDomainOnNode({}, xml(name, number, gib))

type Guests = readonly ReturnType<typeof guest>[]
function clusterOf(rules: readonly string[], ...nodes: Guests[]): Cluster {
  const config = configOf(new Map([['placement.rules', rules]]))
  const definitions = [aDefinition(xml('new', 99))]
  return aCluster({ nodes: nodes.map((guests, at) => aNode(`node${at + 1}`, guests)), config, definitions })
}

function movesOf(plan: { moves: readonly Move[] } | readonly { reason: string }[]): readonly Move[] {
  if (!('moves' in plan)) throw new Error(plan.map(({ reason }) => reason).join(', '))
  return plan.moves
}
const NO_LIMIT = { moves: 1000, movedMiB: Number.POSITIVE_INFINITY }
const balanced = (cluster: Cluster) => movesOf(planBalance(cluster, NO_LIMIT))
const drained = (cluster: Cluster, node = 'node1') =>
  movesOf(planDrain(cluster, { nodes: [node], stuck: 'skip', mark: { by: 'ann', since: '' } }))

/** The cluster once these moves are made. */
function moved(cluster: Cluster, moves: readonly Move[]): Cluster {
  const nodes = new Map(cluster.nodes)
  for (const { domain, from, to } of moves) {
    const [source, target] = [nodes.get(from), nodes.get(to)]
    if (source?.seen.state !== 'up' || target?.seen.state !== 'up') throw new Error('both are up')
    const going = source.seen.domains.filter(({ name }) => name === domain)
    expect(going).toHaveLength(1)
    const staying = source.seen.domains.filter(({ name }) => name !== domain)
    nodes.set(from, { ...source, seen: { ...source.seen, domains: staying } })
    nodes.set(to, { ...target, seen: { ...target.seen, domains: [...target.seen.domains, ...going] } })
  }
  return { ...cluster, nodes }
}

const hardOnes = (cluster: Cluster) => brokenRules(cluster).filter(({ rule }) => rule.hard)

describe('a start', () => {
  test('beside one that it must be apart from is refused, and --auto goes elsewhere', () => {
    const cluster = clusterOf(['apart new web'], [guest('web', 1)], [guest('a', 2, 2)])
    const on = (node: string, despiteRules = false) =>
      planStart(cluster, { domain: 'new', node, auto: false, despiteRules })
    expect(on('node1')).toMatchObject({ kind: 'refused', refusals: [{ reason: 'rule', rule: 'apart new web' }] })
    expect(on('node1', true)).toMatchObject({ kind: 'steps' })
    expect(planStart(cluster, { domain: 'new', auto: true })).toMatchObject({ steps: [{}, { node: 'node2' }] })
  })

  test('prefers the nodes that it should be on to those with more room', () => {
    const cluster = clusterOf(['prefer new : node1'], [guest('web', 1, 4)], [])
    expect(planStart(cluster, { domain: 'new', auto: true })).toMatchObject({ steps: [{}, { node: 'node1' }] })
  })
})

test('a migration away from those that it must be with is refused, unless they come along or rules do not count', () => {
  const cluster = clusterOf(['together web db'], [guest('web', 1), guest('db', 2)], [])
  const options = { autoConverge: false, postCopy: false, unsafe: false }
  const plan = (waived?: 'all' | { along: string[] }) =>
    planMigrate(cluster, { domain: 'web', node: 'node2', options, ...(waived === undefined ? {} : { waived }) })
  expect(plan()).toMatchObject({ kind: 'refused', refusals: [{ reason: 'rule', why: 'db is on node1' }] })
  expect(plan({ along: ['db'] })).toMatchObject({ kind: 'steps' })
  expect(plan('all')).toMatchObject({ kind: 'steps' })
})

describe('a balance mends', () => {
  test.each([
    ['apart web db', [guest('web', 1), guest('db', 2)], []],
    ['together web db', [guest('web', 1), guest('a', 3)], [guest('db', 2), guest('b', 4)]],
    ['on web : node2', [guest('web', 1)], [guest('a', 2)]],
    ['prefer web : node2', [guest('web', 1), guest('b', 3)], [guest('a', 2)]],
    ['soft apart web db', [guest('web', 1), guest('db', 2)], [guest('a', 3), guest('b', 4)]],
  ] as [string, Guests, Guests][])('%s', (rule, one, two) => {
    const cluster = clusterOf([rule], one, two)
    expect(brokenRules(cluster)).toHaveLength(1)
    const moves = balanced(cluster)
    expect(brokenRules(moved(cluster, moves))).toEqual([])
    expect(moves.some(({ why }) => why.startsWith('a rule wants it there'))).toBe(true)
  })

  test('and moves those that stay together at once, each knowing of the other', () => {
    const cluster = clusterOf(['together web db'], [guest('web', 1, 2), guest('db', 2, 1), guest('a', 3, 3)], [])
    const moves = balanced(cluster)
    expect(moved(cluster, moves)).toSatisfy((end: Cluster) => brokenRules(end).length === 0)
    for (const { domain, along } of moves.filter(each => each.domain !== 'a'))
      expect(along).toEqual([domain === 'web' ? 'db' : 'web'])
  })
})

describe('a drain', () => {
  test('keeps those together that must be, and those apart', () => {
    const rules = ['together web db', 'apart web cache']
    const cluster = clusterOf(rules, [guest('web', 1), guest('db', 2)], [guest('cache', 3)], [guest('big', 4, 5)])
    expect(drained(cluster).map(({ to }) => to)).toEqual(['node3', 'node3'])
  })

  test('moves another out of the way when only so a rule can be kept', () => {
    const cluster = clusterOf(['on web : node1 node2', 'apart web db'], [guest('web', 1)], [guest('db', 2)], [])
    expect(drained(cluster).map(({ domain, to }) => `${domain} ${to}`)).toEqual(['db node3', 'web node2'])
  })
})

test('what if: those that must be apart find no room on one node', () => {
  const cluster = clusterOf(['apart web db'], [guest('web', 1)], [guest('db', 2)])
  expect(planWhatIf(cluster, ['node1'])).toMatchObject({ restarts: [{ domain: 'web' }] })
  expect(planWhatIf(cluster, ['node1'])).not.toMatchObject({ restarts: [{ to: expect.anything() }] })
})

test('no step of any plan breaks a hard rule that was kept', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f']
  const some = fc.uniqueArray(fc.constantFrom(...names), { minLength: 2, maxLength: 3 })
  const rule = fc.oneof(
    some.map(domains => `apart ${domains.join(' ')}`),
    some.map(domains => `together ${domains.join(' ')}`),
    fc
      .tuple(fc.constantFrom(...names), fc.constantFrom('node1', 'node2'))
      .map(([name, node]) => `on ${name} : ${node} node3`),
    some.map(domains => `soft apart ${domains.join(' ')}`),
  )
  const places = fc.array(fc.record({ at: fc.nat(2), gib: fc.integer({ min: 1, max: 3 }) }), {
    minLength: 6,
    maxLength: 6,
  })
  fc.assert(
    fc.property(fc.uniqueArray(rule, { maxLength: 3 }), places, fc.boolean(), (rules, drawn, isDrain) => {
      const on = (at: number) =>
        drawn.flatMap((each, number) => (each.at === at ? [guest(names[number] ?? '', number + 1, each.gib)] : []))
      const cluster = clusterOf(rules, on(0), on(1), on(2))
      const before = new Set(hardOnes(cluster).map(({ rule: each }) => each))
      const moves = isDrain ? drained(cluster) : balanced(cluster)
      let now = cluster
      for (const [at, move] of moves.entries()) {
        now = moved(now, [move])
        // Those that go together arrive one after the other.
        if (moves[at + 1]?.along?.includes(move.domain)) continue
        for (const { rule: each } of hardOnes(now)) expect(before).toContain(each)
      }
    }),
    { numRuns: 40 },
  )
})
