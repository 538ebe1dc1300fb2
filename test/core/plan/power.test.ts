/** Reboot, reset, suspend and resume: where the domain is, in a state that fits; resume is guarded like a start. */
import { describe, expect, test } from 'vitest'
import { type PowerVerb, planPower } from '../../../src/core/plan/power.ts'
import {
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  shutOff,
  unreadable,
  WEB_UUID,
} from '../builders.ts'
import { checkRows, type Row, stepsOf } from './answer.ts'

const on = (...domains: Parameters<typeof aNode>[1] & object) => ({ nodes: [aNode('node1', domains), aNode('node2')] })
const beside = (...others: Parameters<typeof aNode>[1] & object) => ({
  nodes: [aNode('node1', [aDomainOnNode({ state: 'paused' })]), aNode('node2', others)],
})
const paused = (stateReason = 1) => aDomainOnNode({ state: 'paused', stateReason })
const withWebsDisk = aDomain({ name: 'mail', disks: [aDisk('/srv/web.img')] })

function row(verb: PowerVerb, title: string, parts: ClusterParts, ...answer: string[]): Row {
  return [`${verb} ${title}`, () => planPower(aCluster(parts), { domain: 'web', verb }), ...answer]
}

const ROWS: readonly Row[] = [
  row('reboot', 'asks a running domain', on(aDomainOnNode()), 'rebootDomain node1'),
  row('reboot', 'refuses a paused domain', on(paused()), 'refused: wrongState'),
  row('reset', 'resets a running domain', on(aDomainOnNode()), 'resetDomain node1'),
  row('reset', 'resets a paused domain', on(paused()), 'resetDomain node1'),
  row('reset', 'resets a crashed domain', on(aDomainOnNode({ state: 'crashed' })), 'resetDomain node1'),
  row('reset', 'refuses the waiting end of a migration', on(paused(2)), 'refused: wrongState'),
  row('suspend', 'pauses a running domain', on(aDomainOnNode()), 'suspendDomain node1'),
  row('suspend', 'of a paused domain is already so', on(paused()), 'already: wrongState'),
  row('suspend', 'refuses a crashed domain', on(aDomainOnNode({ state: 'crashed' })), 'refused: wrongState'),
  row(
    'suspend',
    'pauses a running domain although another node is silent',
    { nodes: [aNode('node1', [aDomainOnNode()]), aSilentNode('node2')] },
    'suspendDomain node1',
  ),
  row('suspend', 'refuses a domain that is off', on(shutOff()), 'refused: notRunning'),
  row(
    'suspend',
    'touches no copy of a domain that runs twice',
    { nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode()])] },
    'refused: presentTwice',
  ),

  row('resume', 'lets a paused domain run on', on(paused()), 'resumeDomain node1'),
  row(
    'resume',
    'refuses a domain that its guest put to sleep',
    on(aDomainOnNode({ state: 'pmsuspended' })),
    'refused: wrongState',
  ),
  row('resume', 'of a running domain is already so', on(aDomainOnNode()), 'already: wrongState'),
  row('resume', 'refuses the waiting end of a migration', on(paused(2)), 'refused: wrongState'),
  row('resume', 'refuses an incoming domain that is starting up', on(paused(11)), 'refused: wrongState'),
  row('resume', 'refuses the rest of a post-copy migration', on(paused(12)), 'refused: wrongState'),
  row('resume', 'refuses the rest of a broken post-copy migration', on(paused(13)), 'refused: wrongState'),
  row(
    'resume',
    'refuses while a node is silent: the domain may run there',
    { nodes: [aNode('node1', [paused()]), aSilentNode('node2')] },
    'refused: unreachable',
  ),
  row(
    'resume',
    'refuses while a node is busy',
    { nodes: [aNode('node1', [paused()]), aSilentNode('node2', 'busy')] },
    'refused: unreachable',
  ),
  row('resume', 'touches neither when it runs elsewhere', beside(aDomainOnNode()), 'refused: presentTwice'),
  row(
    'resume',
    'refuses while a node holds a saved image',
    beside(shutOff({ managedSave: true })),
    'refused: managedSave',
  ),
  row(
    'resume',
    'refuses while a node holds a saved image under another name',
    beside(shutOff({ name: 'old', uuid: WEB_UUID, managedSave: true })),
    'refused: managedSave',
  ),
  row(
    'resume',
    'refuses while another domain holds its disk: a paused domain holds no lease',
    beside(aDomainOnNode({}, withWebsDisk)),
    'refused: diskHeld',
  ),
  row(
    'resume',
    'refuses while a domain that libvirt does not list may hold its disk',
    beside({ ...unreadable({ name: 'mail' }), unlistedPid: 7 }),
    'refused: unlisted',
  ),
  row('suspend', 'refuses what libvirt does not list', on(aDomainOnNode({ unlistedPid: 7 })), 'refused: unlisted'),
  row(
    'resume',
    'does not mind a shut off domain with its disk',
    beside(shutOff({}, withWebsDisk)),
    'resumeDomain node1',
  ),
  row(
    'resume',
    'refuses while a domain that cannot be read may hold its disk',
    beside(unreadable({ name: 'mail' })),
    'refused: unreadable',
  ),
  row(
    'resume',
    'refuses a domain whose own disks nobody can read',
    on(unreadable({ state: 'paused' })),
    'refused: unreadable',
  ),
]

describe('power', () => {
  checkRows(ROWS)

  test('a reboot says how the guest is asked', () => {
    const request = { domain: 'web', verb: 'reboot', mode: 'acpi' } as const
    expect(stepsOf(planPower(aCluster(on(aDomainOnNode())), request))).toMatchObject([{ mode: 'acpi' }])
  })
})
