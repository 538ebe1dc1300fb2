/** Past an unreachable node by leases: every condition of docs/safety.md, left out one at a time, and held against the checker each time. */
import { describe, expect, test } from 'vitest'
import type { Cluster } from '../../src/core/cluster.ts'
import { configOf } from '../../src/core/config.ts'
import type { Domain } from '../../src/core/domain.ts'
import { violations } from '../../src/core/invariants.ts'
import type { LeaseKnowledge, LeaseSighting } from '../../src/core/lease-pass.ts'
import { planMigrate } from '../../src/core/plan/migrate.ts'
import { planPower } from '../../src/core/plan/power.ts'
import { planReconcile } from '../../src/core/plan/reconcile.ts'
import { planStart } from '../../src/core/plan/start.ts'
import { describeRefusal } from '../../src/core/refusal.ts'
import { step } from '../../src/core/step.ts'
import {
  aCluster,
  aDefinition,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aRecord,
  aSilentNode,
  shutOff,
  WEB_UUID,
} from './builders.ts'
import {
  aLeaseFile,
  aLeaseHost,
  aLockspace,
  aNodeWithLeases,
  aSanlock,
  diskOf,
  hostsOf,
  leaseFactsOf,
  md5,
} from './lease-builders.ts'

const PATH = diskOf('web')

/** Everything as it must be; `web` ran on node2, which is silent. */
interface Situation {
  readonly allowed: boolean
  readonly withoutWatchdog: boolean
  readonly sighting: LeaseSighting | undefined
  readonly domain: Domain
  readonly doubts: readonly string[]
  readonly state: 'unreachable' | 'busy'
  readonly leases: (facts: LeaseKnowledge) => LeaseKnowledge
}

const SIGHTING: LeaseSighting = {
  nodeId: aRecord('node2').id,
  hostId: 2,
  generation: 1,
  watchdog: true,
  domains: { [WEB_UUID]: { name: 'web', state: 'running' } },
}

const GOOD: Situation = {
  allowed: true,
  withoutWatchdog: false,
  sighting: SIGHTING,
  domain: aDomain({ disks: [aDisk(PATH)] }),
  doubts: [],
  state: 'unreachable',
  leases: facts => facts,
}

function clusterOf(more: Partial<Situation> = {}): Cluster {
  const { allowed, withoutWatchdog, sighting, domain, doubts, state, leases } = { ...GOOD, ...more }
  const config = configOf(
    new Map([
      ['lease.passUnreachable', allowed],
      ['lease.passWithoutWatchdog', withoutWatchdog],
    ]),
  )
  const cluster = aCluster({
    nodes: [aNode('node1'), aSilentNode('node2', state), aNode('node3')],
    definitions: [aDefinition(domain)],
    here: 'node1',
    config,
  })
  const { cluster: _, ...facts } = leaseFactsOf({
    cluster,
    nodes: new Map([
      ['node1', aNodeWithLeases(1)],
      ['node3', aNodeWithLeases(3)],
    ]),
    files: [aLeaseFile(PATH, { ownerId: 2, ownerGeneration: 1, version: 4, timestamp: 900 })],
  })
  const sightings = new Map(sighting === undefined ? [] : [['node2', sighting] as const])
  return { ...cluster, leases: leases({ ...facts, sightings, doubts: new Set(doubts) }) }
}

const start = (cluster: Cluster) => planStart(cluster, { domain: 'web', node: 'node1', auto: false })

/** The steps that a planner without any conditions would make. */
function stepsOf({ definitions }: Cluster) {
  const on = { domain: 'web', uuid: WEB_UUID, node: 'node1' }
  const definition = definitions.get('web')
  return [
    step('recordIntent', { domain: 'web', uuid: WEB_UUID, manual: false }),
    step('awaitHostDead', { ...on, silent: 'node2', hostId: 2, generation: 1, timeoutMs: 170_000 }),
    step('createDomain', { ...on, definition: definition?.path ?? '', sha256: definition?.sha256 ?? '' }),
  ]
}

function why(cluster: Cluster): string[] {
  const plan = start(cluster)
  return plan.kind === 'refused' ? plan.refusals.map(each => describeRefusal(each).why) : []
}

const record = (more: object) => (facts: LeaseKnowledge) => ({
  ...facts,
  files: new Map([
    [md5(PATH), aLeaseFile(PATH, { ownerId: 2, ownerGeneration: 1, version: 4, timestamp: 900, ...more })],
  ]),
})

describe('past a silent node', () => {
  test('with every condition met: it waits until sanlock counts the host as dead, and only then starts', () => {
    const plan = start(clusterOf())
    expect(plan).toMatchObject({
      kind: 'steps',
      steps: [
        { step: 'recordIntent' },
        { step: 'awaitHostDead', node: 'node1', silent: 'node2', hostId: 2, generation: 1, timeoutMs: 170_000 },
        { step: 'createDomain', node: 'node1' },
      ],
    })
    expect(plan.kind === 'steps' ? violations(clusterOf(), plan.steps) : plan).toEqual([])
    expect(violations(clusterOf(), stepsOf(clusterOf()))).toEqual([])
  })

  test('without a watchdog, and with the second setting: it passes, and the step says what it relies on', () => {
    const cluster = clusterOf({ withoutWatchdog: true, sighting: { ...SIGHTING, watchdog: false } })
    const plan = start(cluster)
    expect(plan).toMatchObject({ steps: [{}, { step: 'awaitHostDead', withoutWatchdog: true }, {}] })
    expect(plan.kind === 'steps' ? violations(cluster, plan.steps) : plan).toEqual([])
  })

  const DISKS = (disks: Domain['disks']) => ({ domain: aDomain({ disks }) })

  const BROKEN: readonly (readonly [what: string, broken: Partial<Situation>, why: RegExp])[] = [
    ['it answers, though not everything', { state: 'busy' }, /it answers, though not everything/],
    ['nobody recorded its leases', { sighting: undefined }, /nobody recorded the leases of node2/],
    ['no watchdog guarded it', { sighting: { ...SIGHTING, watchdog: false } }, /no watchdog guarded node2/],
    [
      'it did not run there',
      { sighting: { ...SIGHTING, domains: {} } },
      /it did not run there when node2 was last seen/,
    ],
    [
      'it was paused there',
      { sighting: { ...SIGHTING, domains: { [WEB_UUID]: { name: 'web', state: 'paused' } } } },
      /it was paused there/,
    ],
    [
      'it starts there by itself',
      { sighting: { ...SIGHTING, domains: { [WEB_UUID]: { name: 'web', state: 'running', autostart: true } } } },
      /set to autostart there/,
    ],
    [
      'it ran without a lease',
      { sighting: { ...SIGHTING, domains: { [WEB_UUID]: { name: 'web', state: 'running', without: PATH } } } },
      /without all its leases/,
    ],
    ['a command may still be carried out there', { doubts: ['node2'] }, /a command for it may still be carried out/],
    [
      'a network disk',
      DISKS([
        aDisk(PATH),
        aDisk('', { target: 'vdb', source: { kind: 'network', protocol: 'rbd', name: 'x', hosts: [] } }),
      ]),
      /no lease covers its disk vdb/,
    ],
    ['nine disks', DISKS(Array.from({ length: 9 }, (_, at) => aDisk(`${PATH}${at}`))), /8 leases at most/],
    ['no disk at all', DISKS([]), /it writes no disk that could have a lease/],
    [
      'a disk that was not there when it was started',
      DISKS([aDisk(PATH), aDisk('/srv/new.img')]),
      /the lease of \/srv\/new\.img cannot be read/,
    ],
    ['a lease that was given back', { leases: record({ timestamp: 0 }) }, /is free, and a paused domain holds none/],
    ['a lease that somebody else has', { leases: record({ ownerId: 3 }) }, /in the name of host id 3/],
    ['a lease of an earlier life', { leases: record({ ownerGeneration: 7 }) }, /joined the lockspace anew/],
    [
      'a damaged lease',
      { leases: facts => ({ ...facts, files: new Map([[md5(PATH), aLeaseFile(PATH, 'damaged')]]) }) },
      /cannot be read/,
    ],
    [
      'it has joined anew since',
      { leases: facts => ({ ...facts, hosts: hostsOf(aLeaseHost(2, { generation: 2 })) }) },
      /joined the lockspace anew/,
    ],
    ['the lockspace does not know it', { leases: facts => ({ ...facts, hosts: new Map() }) }, /no record of host id 2/],
    [
      'the target has not joined',
      {
        leases: facts => ({
          ...facts,
          nodes: new Map([['node1', aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: undefined }) })]]),
        }),
      },
      /node1/,
    ],
    [
      'the target is in another lockspace',
      {
        leases: facts => ({
          ...facts,
          nodes: new Map([
            [
              'node1',
              aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ path: '/old/__LIBVIRT__DISKS__' }) }) }),
            ],
          ]),
        }),
      },
      /node1/,
    ],
    [
      'it was another machine when it was last seen',
      { sighting: { ...SIGHTING, nodeId: 'another' } },
      /node2 was another machine/,
    ],
    [
      'the target could not be asked',
      { leases: facts => ({ ...facts, nodes: new Map() }) },
      /node1 could not be asked/,
    ],
  ]

  test.each(BROKEN)(
    '%s: refused with that reason, and the checker stops a planner that overlooks it',
    (_, broken, reason) => {
      const cluster = clusterOf(broken)
      expect(why(cluster)).toContainEqual(expect.stringMatching(reason))
      expect(violations(cluster, stepsOf(cluster))).not.toEqual([])
    },
  )

  test('without the setting: the refusal is the usual one, and the checker says no', () => {
    const cluster = clusterOf({ allowed: false })
    expect(why(cluster)).toEqual([expect.stringContaining('node2 is unreachable and may be running anything')])
    expect(violations(cluster, stepsOf(cluster))).toContainEqual(expect.objectContaining({ rule: 13 }))
  })

  test('a second silent node on which it was not seen: refused because of that one', () => {
    const cluster = clusterOf()
    const nodes = new Map([...cluster.nodes, ['node4', aSilentNode('node4')] as const])
    expect(why({ ...cluster, nodes })).toContainEqual(expect.stringContaining('past node4'))
    expect(violations({ ...cluster, nodes }, stepsOf(cluster))).toContainEqual(expect.objectContaining({ rule: 2 }))
  })

  test('a start without the wait before it is stopped by the checker', () => {
    const cluster = clusterOf()
    expect(
      violations(
        cluster,
        stepsOf(cluster).filter(each => each.step !== 'awaitHostDead'),
      ),
    ).toContainEqual(expect.objectContaining({ rule: 2 }))
  })
})

describe('what is left on a node that was passed', () => {
  const NAME = md5(PATH)
  const mark = { by: 'root@node1', since: '2026-01-01T00:00:00Z' }
  const passed = [{ uuid: WEB_UUID, domain: 'web', to: 'node1', hostId: 2, taken: { [NAME]: 4 }, ...mark }]
  const about = { domain: 'web', uuid: WEB_UUID, node: 'node2' }

  interface Back {
    readonly ledger?: object
    readonly on1?: Parameters<typeof aNode>[1]
    readonly on2?: Parameters<typeof aNode>[1]
    readonly silent?: true
    readonly record?: Parameters<typeof aLeaseFile>[1]
  }

  /** node2 answers again. */
  function back({
    ledger = { passed },
    on1 = [],
    on2 = [aDomainOnNode()],
    silent,
    record = { ownerId: 2, version: 4 },
  }: Back = {}): Cluster {
    const node2 = { ...aNode('node2', on2), ledger: { reservations: [], ...ledger } }
    const nodes = [aNode('node1', on1), node2, silent ? aSilentNode('node3') : aNode('node3')]
    const cluster = aCluster({ nodes, definitions: [aDefinition()] })
    const { cluster: _, ...facts } = leaseFactsOf({ cluster, files: [aLeaseFile(PATH, record)] })
    return { ...cluster, leases: { ...facts, sightings: new Map(), doubts: new Set() } }
  }

  const STALE = 'destroyCopy'
  const OWN = 'acquitCopy'
  const CASES: readonly (readonly [string, Back, string])[] = [
    ['it runs elsewhere', { on1: [aDomainOnNode()] }, STALE],
    ['it runs elsewhere, and a third node is silent', { on1: [aDomainOnNode()], silent: true }, STALE],
    ['somebody else took its lease, and gave it back', { record: { ownerId: 1, version: 5 } }, STALE],
    [
      'somebody else has its lease, wherever he is',
      { record: { ownerId: 1, version: 5, timestamp: 7 }, silent: true },
      STALE,
    ],
    ['nobody took its lease since', {}, OWN],
    [
      'the node took it itself once, when it was booted',
      { record: { ownerId: 2, ownerGeneration: 2, version: 5 } },
      OWN,
    ],
    ['the node took it, and somebody before it', { record: { ownerId: 2, version: 6 } }, 'leftUnknown'],
    ['its lease is damaged', { record: 'damaged' }, 'leftUnknown'],
    ['a third node is silent', { silent: true }, 'leftUnknown'],
    ['libvirt does not list it', { on2: [aDomainOnNode({ unlistedPid: 7 })], on1: [aDomainOnNode()] }, 'unlisted'],
    ['it is a saved image', { on2: [shutOff({ managedSave: true })] }, 'managedSave'],
    ['it was not started past the node', { ledger: {} }, 'alreadyOff'],
  ]

  test.each(CASES)('%s', (_, situation, expected) => {
    const cluster = back(situation)
    const plan = planReconcile(cluster, about)
    const said =
      plan.kind === 'steps'
        ? plan.steps.map(each => each.step)
        : plan.kind === 'refused'
          ? plan.refusals.map(({ reason }) => reason)
          : [plan.refusal.reason]
    expect(said).toEqual([expected])
    expect(plan.kind === 'steps' ? violations(cluster, plan.steps) : []).toEqual([])
    // The checker has its own opinion, and holds both steps against it.
    expect(violations(cluster, [step('destroyCopy', { ...about, ...mark })]).length === 0).toBe(
      expected === STALE || expected === 'unlisted',
    )
    const mayBeOwn = expected === OWN || expected === 'managedSave'
    expect(violations(cluster, [step('acquitCopy', { ...about, ...mark })]).length === 0).toBe(mayBeOwn)
  })

  test.each(['resume', 'reset'] as const)('%s of what is left is refused, by plan and by checker', verb => {
    const cluster = back({ on2: [aDomainOnNode({ state: 'paused', stateReason: 1 })] })
    const plan = planPower(cluster, { domain: 'web', verb })
    expect(plan.kind === 'refused' ? plan.refusals.map(({ reason }) => reason) : plan).toEqual(['copyLeft'])
    const one = step(verb === 'resume' ? 'resumeDomain' : 'resetDomain', about)
    expect(violations(cluster, [one])).toContainEqual(expect.objectContaining({ rule: 13 }))
  })

  test('it is not moved away either', () => {
    const options = { autoConverge: false, postCopy: false, unsafe: true }
    const plan = planMigrate(back(), { domain: 'web', node: 'node3', options })
    expect(plan.kind === 'refused' ? plan.refusals.map(({ reason }) => reason) : plan).toContain('copyLeft')
    const move = step('migrateDomain', {
      domain: 'web',
      uuid: WEB_UUID,
      from: 'node2',
      to: 'node3',
      options: { ...options, desturi: 'qemu+ssh://node3/system', persistent: false },
    })
    expect(violations(back(), [move])).toContainEqual(expect.objectContaining({ rule: 13 }))
  })

  test('until then the node receives nothing, by plan and by checker', () => {
    const mail = aDomain({ name: 'mail', uuid: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a02', disks: [] })
    const now = { ...back({ on1: [aDomainOnNode()] }), definitions: new Map([['mail', aDefinition(mail)]]) }
    const plan = planStart(now, { domain: 'mail', node: 'node2', auto: false })
    expect(plan.kind === 'refused' ? plan.refusals.map(({ reason }) => reason) : plan).toContain('copyLeft')
    const create = step('createDomain', {
      domain: 'mail',
      uuid: mail.uuid,
      node: 'node2',
      definition: 'conf/mail.xml',
      sha256: now.definitions.get('mail')?.sha256 ?? '',
    })
    expect(violations(now, [create])).toContainEqual(expect.objectContaining({ rule: 13 }))
  })
})
