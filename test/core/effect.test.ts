/** What each step is meant to change, and that it changes nothing else. */
import { describe, expect, test } from 'vitest'
import { sightings } from '../../src/core/cluster.ts'
import { applyStep } from '../../src/core/effect.ts'
import { type Step, step } from '../../src/core/step.ts'
import { aCluster, aDomainOnNode, aNode, aSilentNode, shutOff, WEB_UUID } from './builders.ts'

const on = { domain: 'web', uuid: WEB_UUID, node: 'node1' }
const options = { desturi: 'x', autoConverge: false, postCopy: false, unsafe: false, persistent: false }
const create = step('createDomain', { ...on, definition: 'conf/web.xml', sha256: 'sha-of-web' })
const migrate = (persistent: boolean) =>
  step('migrateDomain', { ...on, from: 'node1', to: 'node2', options: { ...options, persistent } })

function after(one: Step, ...domains: ReturnType<typeof aDomainOnNode>[]): string[] {
  const cluster = aCluster({ nodes: [aNode('node1', domains), aNode('node2')] })
  return sightings(applyStep(cluster, one)).map(
    ({ node, domain }) => `${node} ${domain.state}${domain.persistent ? ' persistent' : ''}`,
  )
}

describe('the effect of a step', () => {
  test.each<[string, Step, ReturnType<typeof aDomainOnNode>[], string[]]>([
    ['create starts a transient domain', create, [], ['node1 running']],
    ['create of a defined domain keeps its definition', create, [shutOff()], ['node1 running persistent']],
    ['destroy removes a transient domain', step('destroyDomain', { ...on, graceful: false }), [aDomainOnNode()], []],
    [
      'the end of a defined domain leaves it shut off',
      step('awaitShutOff', { ...on, timeoutMs: 1 }),
      [aDomainOnNode({ persistent: true })],
      ['node1 shutoff persistent'],
    ],
    ['asking a guest proves nothing', step('shutdownDomain', on), [aDomainOnNode()], ['node1 running']],
    ['suspend pauses', step('suspendDomain', on), [aDomainOnNode()], ['node1 paused']],
    ['suspend of what is not there makes nothing', step('suspendDomain', on), [], []],
    ['resume lets run', step('resumeDomain', on), [aDomainOnNode({ state: 'paused' })], ['node1 running']],
    ['resume of what is not there makes nothing', step('resumeDomain', on), [], []],
    ['a transient domain moves', migrate(false), [aDomainOnNode()], ['node2 running']],
    [
      'a defined domain moves with its definition',
      migrate(true),
      [aDomainOnNode({ persistent: true })],
      ['node2 running persistent'],
    ],
    [
      'a definition that is not moved stays, shut off',
      migrate(false),
      [aDomainOnNode({ persistent: true })],
      ['node1 shutoff persistent', 'node2 running'],
    ],
    ['what is not there does not move', migrate(false), [], []],
    ['undefine of a shut off domain removes it', step('undefineDomain', { ...on, keepTpm: false }), [shutOff()], []],
    [
      'undefine of a running domain makes it transient',
      step('undefineDomain', { ...on, keepTpm: false }),
      [aDomainOnNode({ persistent: true })],
      ['node1 running'],
    ],
  ])('%s', (_, one, before, expected) => {
    expect(after(one, ...before)).toEqual(expected)
  })

  test('the end of a migration takes the domain off the target, and what the target defines stays', () => {
    const abort = step('abortMigration', { domain: 'web', uuid: WEB_UUID, from: 'node1', to: 'node2' })
    const waiting = { state: 'paused', stateReason: 2 } as const
    for (const persistent of [false, true]) {
      const nodes = [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode({ ...waiting, persistent })])]
      const left = sightings(applyStep(aCluster({ nodes }), abort)).map(({ node, domain }) => `${node} ${domain.state}`)
      expect(left).toEqual(['node1 running', ...(persistent ? ['node2 shutoff'] : [])])
    }
  })

  test('intent is remembered', () => {
    const stopped = applyStep(aCluster(), step('recordIntent', { domain: 'web', uuid: WEB_UUID, manual: true }))
    expect(stopped.records.get('web')).toEqual({ manual: true })
  })

  test('a silent node stays silent, whatever was sent there', () => {
    const cluster = aCluster({ nodes: [aSilentNode('node1')] })
    expect(applyStep(cluster, create)).toEqual(cluster)
  })

  test('the cluster before the step is not touched', () => {
    const cluster = aCluster({ nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2')] })
    const before = structuredClone(cluster)
    for (const one of [create, migrate(true), step('suspendDomain', on)]) applyStep(cluster, one)
    expect(cluster).toEqual(before)
  })
})
