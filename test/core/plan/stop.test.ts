/** When a stop is planned: the intent first, then one domain on one node, and never on a copy that nobody can tell from another. */
import { describe, expect, test } from 'vitest'
import { planStop, type StopRequest } from '../../../src/core/plan/stop.ts'
import {
  aCluster,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  MAIL_UUID,
  shutOff,
  WEB_UUID,
} from '../builders.ts'
import { checkRows, type Row, stepsOf } from './answer.ts'

function stop(parts: ClusterParts, request: Partial<StopRequest> = {}) {
  return () => planStop(aCluster(parts), { domain: 'web', timeoutMs: 60_000, force: false, ...request })
}

const on = (...domains: Parameters<typeof aNode>[1] & object) => ({ nodes: [aNode('node1'), aNode('node2', domains)] })
const ASKED = ['recordIntent manual', 'shutdownDomain node2', 'awaitShutOff node2']

/** web runs on node1, and node2 has this of it. */
const moving = (there: Parameters<typeof aDomainOnNode>[0], more = {}) =>
  stop({ nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode(there)])] }, more)

const ROWS: readonly Row[] = [
  ['a running domain is asked, after the intent is recorded, and waited for', stop(on(aDomainOnNode())), ...ASKED],
  [
    'with --force its power is cut, after the intent is recorded',
    stop(on(aDomainOnNode()), { force: true }),
    'recordIntent manual',
    'destroyDomain node2',
    'awaitShutOff node2',
  ],
  ['a paused domain is stopped, too', stop(on(aDomainOnNode({ state: 'paused' }))), ...ASKED],
  [
    'a domain that libvirt does not list cannot be stopped by it',
    stop(on(aDomainOnNode({ unlistedPid: 7 })), { force: true }),
    'refused: unlisted',
  ],
  [
    'a domain that runs a second time, unlisted, on its own node is there twice',
    stop(on(aDomainOnNode(), aDomainOnNode({ unlistedPid: 7 }))),
    'refused: presentTwice',
  ],
  [
    'a domain that is nowhere is not said to be off while a node could not be asked what it runs',
    stop({ nodes: [aNode('node1'), aNode('node2', [], { inquiryProblem: 'no' })] }),
    'refused: probeFailed',
  ],
  ['a domain that is off is already so', stop(on(shutOff())), 'already: alreadyOff'],
  ['a domain that is only defined is already so', stop({}), 'already: alreadyOff'],
  ['a domain that nobody knows is refused', stop({}, { domain: 'other' }), 'refused: unknownDomain'],
  [
    'a domain that is nowhere is not said to be off while a node is silent',
    stop({ nodes: [aNode('node1'), aSilentNode('node2')] }),
    'refused: unreachable',
  ],
  [
    'a domain that is seen running is stopped although another node is silent',
    stop({ nodes: [aSilentNode('node1'), aNode('node2', [aDomainOnNode()])] }),
    ...ASKED,
  ],
  [
    'a domain that runs twice is not touched',
    stop({ nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode()])] }),
    'refused: presentTwice',
  ],
  [
    'the migration of a domain that is being moved is ended, and then the source is asked',
    moving({ state: 'paused', stateReason: 2 }),
    'recordIntent manual',
    'abortMigration node1 node2',
    'shutdownDomain node1',
    'awaitShutOff node1',
  ],
  [
    'the same when the target only starts up, and when its power is to be cut',
    moving({ state: 'paused', stateReason: 11 }, { force: true }),
    'recordIntent manual',
    'abortMigration node1 node2',
    'destroyDomain node1',
    'awaitShutOff node1',
  ],
  [
    'where both ends wait nobody runs, and no migration is ended',
    stop({
      nodes: [
        aNode('node1', [aDomainOnNode({ state: 'paused', stateReason: 2 })]),
        aNode('node2', [aDomainOnNode({ state: 'paused', stateReason: 2 })]),
      ],
    }),
    'refused: presentTwice',
  ],
  [
    'a copy that a person paused is no end of a migration',
    moving({ state: 'paused', stateReason: 1 }),
    'refused: presentTwice',
  ],
  [
    'the end of a post-copy migration is not ended: half of the memory is there',
    moving({ state: 'paused', stateReason: 12 }),
    'refused: presentTwice',
  ],
  [
    'a waiting copy of another uuid is no end of this migration',
    moving({ state: 'paused', stateReason: 2, uuid: MAIL_UUID }),
    'refused: presentTwice',
  ],
  [
    'a migration beside a third copy is not touched',
    stop({
      nodes: [
        aNode('node1', [aDomainOnNode()]),
        aNode('node2', [aDomainOnNode({ state: 'paused', stateReason: 2 })]),
        aNode('node3', [aDomainOnNode({ state: 'paused', stateReason: 2 })]),
      ],
    }),
    'refused: presentTwice',
  ],
  [
    'a migration beside another name with its uuid is not touched',
    stop({
      nodes: [
        aNode('node1', [aDomainOnNode()]),
        aNode('node2', [aDomainOnNode({ state: 'paused', stateReason: 2 })]),
        aNode('node3', [aDomainOnNode({ name: 'old', uuid: WEB_UUID })]),
      ],
    }),
    'refused: presentTwice',
  ],
  [
    'one uuid under two names on two nodes is one domain twice',
    stop({
      nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode({ name: 'old', uuid: WEB_UUID })])],
    }),
    'refused: presentTwice',
  ],
  [
    'a domain that runs under another name is not touched: it was not asked for',
    stop(on(aDomainOnNode({ name: 'old', uuid: WEB_UUID }))),
    'refused: sameUuid',
  ],
  [
    'a domain is stopped by the name that it runs under, whatever the definition of that uuid says',
    stop(on(aDomainOnNode({ name: 'old', uuid: WEB_UUID })), { domain: 'old' }),
    ...ASKED,
  ],
  [
    'what runs is twice by its own uuid, although a shut off copy with another uuid is found first',
    stop({
      nodes: [
        aNode('node1', [shutOff({ uuid: MAIL_UUID })]),
        aNode('node2', [aDomainOnNode()]),
        aNode('node3', [aDomainOnNode({ name: 'old', uuid: WEB_UUID })]),
      ],
      definitions: [],
    }),
    'refused: presentTwice',
  ],
  [
    'the waiting end of a migration alone is not touched',
    stop(on(aDomainOnNode({ state: 'paused', stateReason: 2 })), { force: true }),
    'refused: wrongState',
  ],
]

describe('stop', () => {
  checkRows(ROWS)

  test('the way to ask and the time to wait are in the steps', () => {
    expect(stepsOf(stop(on(aDomainOnNode()), { mode: 'agent' })())).toMatchObject([
      {},
      { mode: 'agent' },
      { timeoutMs: 60_000 },
    ])
  })

  test('two waiting ends are not described as a copy to destroy', () => {
    const waits = { state: 'paused', stateReason: 11 } as const
    const both = stop({ nodes: [aNode('node1', [aDomainOnNode(waits)]), aNode('node2', [aDomainOnNode(waits)])] })()
    expect(both).toMatchObject({ refusals: [{ reason: 'presentTwice', migrating: true, nodes: ['node1', 'node2'] }] })
  })
})
