/** Where a domain could run: every node, with every reason against it. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { planMigrate } from '../../../src/core/plan/migrate.ts'
import { isRefusal } from '../../../src/core/plan/plan.ts'
import { planStart } from '../../../src/core/plan/start.ts'
import { planWhere } from '../../../src/core/plan/where.ts'
import { clusters, NAMES } from '../arbitraries.ts'
import {
  aCluster,
  aDefinition,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  onPath,
} from '../builders.ts'

const told = (fits: ReturnType<typeof planWhere>): string[] =>
  isRefusal(fits)
    ? [`refused: ${fits.reason}`]
    : fits.map(({ node, verdict, objections }) => [node, verdict, ...objections.map(({ reason }) => reason)].join(' '))

function where(parts: ClusterParts): string[] {
  return told(planWhere(aCluster(parts), 'web'))
}

const small = { memoryMiB: 1024 } as const
const crowded = aDomainOnNode({}, aDomain({ name: 'mail', memoryMiB: 2048 }))

test('a domain that is off could start on each node that has room, best where most is left', () => {
  expect(where({ nodes: [aNode('node1', [crowded]), aNode('node2'), aNode('node3', [], small)] })).toEqual([
    'node1 yes',
    'node2 best',
    'node3 no memory',
  ])
})

test('a domain that runs could move to the others, and a silent node is none of them', () => {
  const shared = { paths: onPath('/srv/web.img') }
  const nodes = [
    aNode('node1', [aDomainOnNode()], shared),
    aNode('node2', [], shared),
    aSilentNode('node3', 'unreachable'),
  ]
  expect(where({ nodes })).toEqual(['node1 here', 'node2 best', 'node3 no unreachable'])
})

test('every reason is given at once', () => {
  const definitions = [aDefinition(aDomain({ memoryMiB: 999_999, vcpus: 999 }))]
  expect(where({ nodes: [aNode('node1')], definitions })).toEqual(['node1 no memory vcpus'])
})

test('a domain that nobody knows is refused', () => {
  expect(told(planWhere(aCluster({}), 'other'))).toEqual(['refused: unknownDomain'])
})

test('what planners would do is where it says yes, and nowhere else but for what stands against any node', () => {
  const anywhere = (plan: ReturnType<typeof planStart>) => plan.kind === 'steps'
  fc.assert(
    fc.property(clusters, fc.constantFrom(...NAMES), (cluster, domain) => {
      const fits = planWhere(cluster, domain)
      const options = { autoConverge: false, postCopy: false, unsafe: false }
      for (const node of cluster.nodes.keys()) {
        const verdict = isRefusal(fits) ? 'no' : fits.find(each => each.node === node)?.verdict
        const done =
          anywhere(planStart(cluster, { domain, node, auto: false })) ||
          anywhere(planMigrate(cluster, { domain, node, options }))
        if (done) expect(verdict).toMatch(/best|yes/)
      }
    }),
    { numRuns: 2000 },
  )
})
