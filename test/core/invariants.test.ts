/** No planner makes a plan that breaks a rule, planning after success plans nothing, and each rule catches a broken plan. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Cluster } from '../../src/core/cluster.ts'
import { configOf } from '../../src/core/config.ts'
import { exclusiveDisks } from '../../src/core/domain-xml.ts'
import { applyStep } from '../../src/core/effect.ts'
import { violations } from '../../src/core/invariants.ts'
import type { Ledger } from '../../src/core/ledger.ts'
import { planAdopt } from '../../src/core/plan/adopt.ts'
import { planMigrate } from '../../src/core/plan/migrate.ts'
import type { Plan } from '../../src/core/plan/plan.ts'
import { planPower } from '../../src/core/plan/power.ts'
import { planStart } from '../../src/core/plan/start.ts'
import { planStop } from '../../src/core/plan/stop.ts'
import { planUpdate } from '../../src/core/plan/update.ts'
import { type Step, type StepArgs, step } from '../../src/core/step.ts'
import { clusters, NAMES, NODES } from './arbitraries.ts'
import {
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  MAIL_UUID,
  onPath,
  shutOff,
  unreadable,
  uuidOf,
  WEB_UUID,
} from './builders.ts'

type Planner = (cluster: Cluster) => Plan

const domain = fc.constantFrom(...NAMES)
const anyNode = fc.constantFrom(...NODES)
const PLAIN = { autoConverge: false, postCopy: false, unsafe: false }

const starts = fc
  .record({ domain, node: anyNode, auto: fc.boolean() })
  .map((request): [string, Planner] => [`start ${JSON.stringify(request)}`, cluster => planStart(cluster, request)])
const stops = fc
  .record({ domain, force: fc.boolean() })
  .map((request): [string, Planner] => [
    `stop ${JSON.stringify(request)}`,
    cluster => planStop(cluster, { ...request, timeoutMs: 1000 }),
  ])
const powers = fc
  .record({ domain, verb: fc.constantFrom('reboot', 'reset', 'suspend', 'resume', 'resume', 'resume') })
  .map((request): [string, Planner] => [JSON.stringify(request), cluster => planPower(cluster, request)])
const migrations = fc
  .record({ domain, node: anyNode })
  .map((request): [string, Planner] => [
    `migrate ${JSON.stringify(request)}`,
    cluster => planMigrate(cluster, { ...request, options: PLAIN }),
  ])
const adoptions = domain.map((name): [string, Planner] => [
  `adopt ${name}`,
  cluster => planAdopt(cluster, { domain: name, path: `conf/${name}.xml` }),
])
const updates = fc
  .record({ domain, node: anyNode, force: fc.boolean() })
  .map((request): [string, Planner] => [
    `update ${JSON.stringify(request)}`,
    cluster => planUpdate(cluster, { ...request, path: 'conf/x.xml' }),
  ])

const RUNS = { numRuns: 3000 }

describe('plans for random clusters', () => {
  test('no planner ever makes a plan that breaks a rule', () => {
    const made = new Map<string, number>()
    fc.assert(
      fc.property(
        clusters,
        fc.oneof(starts, stops, powers, powers, migrations, adoptions, updates),
        (cluster, [, planner]) => {
          const plan = planner(cluster)
          if (plan.kind !== 'steps') return
          expect(violations(cluster, plan.steps)).toEqual([])
          for (const { step: name } of plan.steps) made.set(name, (made.get(name) ?? 0) + 1)
        },
      ),
      RUNS,
    )
    // The property says nothing about verbs that were always refused.
    for (const name of [
      'createDomain',
      'shutdownDomain',
      'destroyDomain',
      'resumeDomain',
      'migrateDomain',
      'undefineDomain',
      'suspendDomain',
    ])
      expect(made.get(name), name).toBeGreaterThan(0)
  })

  test('planning after success plans nothing that changes a domain', () => {
    fc.assert(
      fc.property(clusters, fc.oneof(starts, stops, migrations), (cluster, [, planner]) => {
        const plan = planner(cluster)
        if (plan.kind !== 'steps') return
        expect(planner(plan.steps.reduce(applyStep, cluster)).kind).not.toBe('steps')
      }),
      RUNS,
    )
  })

  test('nothing that was off comes to run beside a copy of it, or beside a holder of its disks', () => {
    fc.assert(
      fc.property(clusters, fc.oneof(starts, powers, migrations), (cluster, [, planner]) => {
        const plan = planner(cluster)
        if (plan.kind !== 'steps') return
        const before = rivalries(cluster)
        const after = rivalries(plan.steps.reduce(applyStep, cluster))
        expect([...after].filter(each => !before.has(each))).toEqual([])
      }),
      RUNS,
    )
  })
})

/** Pairs of present domains of which at least one runs, that are one domain or write one disk: by this file's own reckoning. */
function rivalries(cluster: Cluster): Set<string> {
  const present = [...cluster.nodes.values()].flatMap(({ name, seen }) =>
    seen.state === 'up'
      ? seen.domains.filter(each => each.active || each.managedSave).map(each => ({ name, each, seen }))
      : [],
  )
  type Present = (typeof present)[number]
  const disks = ({ each, seen }: Present) =>
    each.definition === undefined
      ? []
      : exclusiveDisks(each.definition).flatMap(({ source }) => {
          const path = 'path' in source ? source.path : ''
          return [path, seen.paths.get(path)?.identity ?? path]
        })
  const same = (a: Present, b: Present) =>
    a.each.uuid === b.each.uuid || a.each.name === b.each.name || disks(a).some(disk => disks(b).includes(disk))
  return new Set(
    present.flatMap((one, at) =>
      present
        .slice(at + 1)
        .filter(other => [one, other].some(({ each }) => each.state === 'running') && same(one, other))
        // Where each is does not matter: a migration moves a rivalry, it does not make one.
        .map(other =>
          [one, other]
            .map(({ each }) => `${each.name}/${each.uuid}`)
            .sort()
            .join(' and '),
        ),
    ),
  )
}

const on = { domain: 'web', uuid: WEB_UUID, node: 'node1' }
const options = { ...PLAIN, desturi: 'x', persistent: false }
const create = (more: Partial<StepArgs['createDomain']> = {}) =>
  step('createDomain', { ...on, definition: 'conf/web.xml', sha256: 'sha-of-web', ...more })
const resume = step('resumeDomain', on)
const move = (more: Partial<StepArgs['migrateDomain']> = {}) =>
  step('migrateDomain', { ...on, from: 'node1', to: 'node2', options, ...more })
const intent = (manual: boolean, uuid = WEB_UUID) => step('recordIntent', { domain: 'web', uuid, manual })
const save = (node = 'node1') => step('saveDefinition', { ...on, node, definition: 'conf/web.xml' })
const undefine = step('undefineDomain', { ...on, keepTpm: false })
const kill = step('destroyDomain', { ...on, graceful: false })
const ask = step('shutdownDomain', on)

const two = (
  here: ReturnType<typeof aDomainOnNode>[],
  there: ReturnType<typeof aDomainOnNode>[] = [],
): ClusterParts => ({
  nodes: [aNode('node1', here), aNode('node2', there)],
})
const running = two([aDomainOnNode()])
const paused = [aDomainOnNode({ state: 'paused' })]
const rival = aDomain({ name: 'mail', disks: [aDisk('/srv/web.img')] })
const silent: ClusterParts = { nodes: [aNode('node1', [aDomainOnNode({ state: 'paused' })]), aSilentNode('node2')] }
const stray = aDomainOnNode({ unlistedPid: 7 })
/** web's disk is known on node1 as the one, and mail's, on node2, as the other. */
const named = (path: string, one: string, other: string): ClusterParts => ({
  nodes: [
    aNode('node1', [], { paths: onPath(path, { identity: one }) }),
    aNode('node2', [aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk('/other')] }))], {
      paths: onPath('/other', { identity: other }),
    }),
  ],
})
const large = aDomainOnNode({}, aDomain({ name: 'mail', memoryMiB: 7500 }))

const crowd = aDomain({ name: 'mail', vcpus: 16 })
const MARK = { by: 'ops@node9 (pid 7)', since: '2026-01-01T00:00:00.000Z' }
const reserved = (memoryMiB: number, vcpus = 1, uuid = MAIL_UUID) => ({
  token: `t${uuid}`,
  generation: 1,
  uuid,
  domain: 'x',
  memoryMiB,
  vcpus,
  by: 'y',
})
const waiting = [aDomainOnNode({ state: 'paused', stateReason: 2 })]
const abort = step('abortMigration', { domain: 'web', uuid: WEB_UUID, from: 'node1', to: 'node2' })

/** Two nodes, one of which keeps this ledger and shows these domains; the other shows the others. */
function keeping(
  name: string,
  ledger: Ledger,
  domains: ReturnType<typeof aDomainOnNode>[] = [],
  others: ReturnType<typeof aDomainOnNode>[] = [],
): ClusterParts {
  const other = name === 'node1' ? 'node2' : 'node1'
  return { nodes: [{ ...aNode(name, domains), ledger }, aNode(other, others)] }
}

/** node2 is silent, and somebody called it down. */
function down(
  state: 'unreachable' | 'busy',
  more: object = {},
  here: ReturnType<typeof aDomainOnNode>[] = [],
): ClusterParts {
  const ledger: Ledger = { reservations: [], down: { ...MARK, how: 'word', ...more } }
  return { nodes: [aNode('node1', here), { ...aSilentNode('node2', state), ledger }] }
}

describe('a broken plan is caught', () => {
  test.each<[string, ClusterParts, Step[], number[]]>([
    // Sound plans, to be broken below
    ['nothing is wrong with a start of what is nowhere', {}, [intent(false), create()], []],
    ['nothing is wrong with a stop', running, [intent(true), ask], []],
    ['nothing is wrong with a migration', running, [move()], []],
    ['nothing is wrong with an adoption', two([shutOff()]), [save(), undefine], []],
    ['nothing is wrong with letting run on', two(paused), [resume], []],
    ['nothing is wrong with a start where only a shut off copy is', two([], [shutOff()]), [create()], []],

    ['a start while it is active elsewhere', two([], [aDomainOnNode()]), [create()], [1]],
    ['a start while it is paused elsewhere', two([], paused), [create()], [1]],
    ['a start where it is active already', running, [create()], [1]],
    ['a start while a saved image of it is elsewhere', two([], [shutOff({ managedSave: true })]), [create()], [1]],
    [
      'a start while its uuid is active under another name',
      two([], [aDomainOnNode({ name: 'old', uuid: WEB_UUID })]),
      [create()],
      [1],
    ],
    [
      'a start while its name is active under another uuid',
      two([], [aDomainOnNode({ uuid: MAIL_UUID })]),
      [create()],
      [1],
    ],
    ['a start while its disk is held', two([], [aDomainOnNode({}, rival)]), [create()], [1]],
    ['a start while its disk may be held', two([], [unreadable({ name: 'mail' })]), [create()], [1]],
    ['a start while its disk is held under another name', named('/srv/web.img', 'naa.1', 'naa.1'), [create()], [1]],
    ['a start while a partition of its disk is held', named('/srv/web.img', 'naa.1', 'naa.1-part2'), [create()], [1]],
    ['a start of a partition while its disk is held', named('/srv/web.img', 'naa.1-part2', 'naa.1'), [create()], [1]],
    [
      'nothing is wrong with a start beside another partition',
      named('/srv/web.img', 'naa.1-part2', 'naa.1-part21'),
      [create()],
      [],
    ],
    [
      'a start while a link on another node leads to what is held',
      {
        nodes: [
          aNode('node1', [aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk('/x')] }))]),
          aNode('node2', [], { paths: onPath('/srv/web.img', { canonical: '/x' }) }),
        ],
      },
      [create()],
      [1],
    ],
    [
      'a start while a node could not be asked what it runs',
      { nodes: [aNode('node1'), aNode('node2', [], { inquiryProblem: 'no' })] },
      [create()],
      [2],
    ],
    ['a start while it runs unlisted', two([], [stray]), [create()], [1]],
    ['a stop of what is not listed', two([stray]), [intent(true), kill], [6]],
    ['a stop of what runs a second time, unlisted', two([aDomainOnNode(), stray]), [intent(true), kill], [6]],
    ['a start twice in one plan', {}, [create(), create({ node: 'node2' })], [1]],
    ['a start while a node is silent', { nodes: [aNode('node1'), aSilentNode('node2')] }, [create()], [2]],
    ['a start while a node is busy', { nodes: [aNode('node1'), aSilentNode('node2', 'busy')] }, [create()], [2]],
    ['a start from a definition that is not the one that was read', {}, [create({ sha256: 'stale' })], [11]],
    ['a start under another uuid than the definition has', {}, [create({ uuid: MAIL_UUID })], [11]],
    ['a start without a definition', { definitions: [] }, [create()], [11]],
    ['a start over the memory of the node', two([large]), [create()], [8]],

    ['letting run on while a node is silent', silent, [resume], [2]],
    ['letting run on while it is active elsewhere', two(paused, [aDomainOnNode()]), [resume], [1]],
    [
      'letting run on while a saved image of it is elsewhere',
      two(paused, [shutOff({ managedSave: true })]),
      [resume],
      [1],
    ],
    ['letting run on while its disk is held', two(paused, [aDomainOnNode({}, rival)]), [resume], [1]],
    ['letting run on while its disk may be held', two(paused, [unreadable({ name: 'mail' })]), [resume], [1]],
    ['letting run on what is not there', two([shutOff()]), [resume], [6]],

    ['a migration to where it is', running, [move({ to: 'node1' })], [1]],
    [
      'a migration to a silent node',
      { nodes: [aNode('node1', [aDomainOnNode()]), aSilentNode('node2')] },
      [move()],
      [2],
    ],
    ['a migration to a node that nobody knows', running, [move({ to: 'nodeX' })], [2]],
    ['a migration from where it is not', two([], [aDomainOnNode()]), [move({ to: 'node3' })], [1, 2]],
    ['a migration of what is active on both', two([aDomainOnNode()], [aDomainOnNode()]), [move()], [1]],
    ['a migration of what is off', two([shutOff()]), [move()], [6]],
    ['a migration onto a saved image', two([aDomainOnNode()], [shutOff({ managedSave: true })]), [move()], [1]],
    [
      'a migration to a node with another lock manager',
      {
        nodes: [
          aNode('node1', [aDomainOnNode()], { lockManager: 'sanlock' }),
          aNode('node2', [], { lockManager: 'lockd' }),
        ],
      },
      [move()],
      [13],
    ],
    ['a migration over the memory of the target', two([aDomainOnNode()], [large]), [move()], [8]],

    ['a start over the vCPUs of the node', two([aDomainOnNode({}, crowd)]), [create()], [8]],
    ['a migration over the vCPUs of the target', two([aDomainOnNode()], [aDomainOnNode({}, crowd)]), [move()], [8]],
    [
      'a start in the room that is reserved for another',
      keeping('node1', { reservations: [reserved(7500)] }),
      [create()],
      [8],
    ],
    [
      'a start in the vCPUs that are reserved for another',
      keeping('node1', { reservations: [reserved(0, 16)] }),
      [create()],
      [8],
    ],
    [
      'a start over the memory of the node, with its own room reserved',
      keeping('node1', { reservations: [reserved(1024, 1, WEB_UUID)] }, [large]),
      [create()],
      [8],
    ],
    [
      'a migration in the room that is reserved for another',
      keeping('node2', { reservations: [reserved(7500)] }, [], [aDomainOnNode()]),
      [move()],
      [8],
    ],
    [
      'nothing is wrong with a start in its own reserved room',
      keeping('node1', { reservations: [reserved(8192, 16, WEB_UUID)] }),
      [create()],
      [],
    ],
    [
      'nothing is wrong with a start beside a reservation for what is there by now',
      keeping('node1', { reservations: [reserved(7000)] }, [
        aDomainOnNode({}, aDomain({ name: 'mail', memoryMiB: 7000 })),
      ]),
      [create()],
      [],
    ],
    [
      'nothing is wrong with a start before whoever reserved later',
      keeping('node1', { reservations: [reserved(1024, 1, WEB_UUID), reserved(7500)] }),
      [create()],
      [],
    ],
    [
      'a start after whoever reserved before',
      keeping('node1', { reservations: [reserved(7500), reserved(1024, 1, WEB_UUID)] }),
      [create()],
      [8],
    ],

    [
      'a start after whoever reserved before, behind a reservation for what is there by now',
      keeping('node1', { reservations: [reserved(1), reserved(7500, 1, uuidOf(9)), reserved(1024, 1, WEB_UUID)] }, [
        aDomainOnNode({ name: 'mail', uuid: MAIL_UUID }),
      ]),
      [create()],
      [8],
    ],
    ['a start on a node in maintenance', keeping('node1', { reservations: [], maintenance: MARK }), [create()], [8]],
    [
      'a start on a node that failed a validation that is required',
      {
        ...keeping('node1', { reservations: [], invalid: { ...MARK, checks: ['bridges'] } }),
        config: configOf(new Map([['validate.required', ['bridges']]])),
      },
      [create()],
      [8],
    ],
    [
      'nothing is wrong with a start on a node that failed another validation',
      {
        ...keeping('node1', { reservations: [], invalid: { ...MARK, checks: ['bridges'] } }),
        config: configOf(new Map([['validate.required', ['clocks']]])),
      },
      [create()],
      [],
    ],
    [
      'a migration to a node in maintenance',
      keeping('node2', { reservations: [], maintenance: MARK }, [], [aDomainOnNode()]),
      [move()],
      [8],
    ],
    [
      'nothing is wrong with a migration away from a node in maintenance',
      keeping('node1', { reservations: [], maintenance: MARK }, [aDomainOnNode()]),
      [move()],
      [],
    ],
    [
      'nothing is wrong with a stop on a node in maintenance',
      keeping('node1', { reservations: [], maintenance: MARK }, [aDomainOnNode()]),
      [intent(true), kill],
      [],
    ],

    ['nothing is wrong with a start while a silent node is confirmed down', down('unreachable'), [create()], []],
    [
      'a start of what a node that is called down starts by itself when it boots',
      down('unreachable', { autostarts: [{ uuid: WEB_UUID, domain: 'web' }] }),
      [create()],
      [1],
    ],
    [
      'nothing is wrong with a start of something else than that',
      down('unreachable', { autostarts: [{ uuid: MAIL_UUID, domain: 'mail' }] }),
      [create()],
      [],
    ],
    ['a start while a node that is called down is busy', down('busy'), [create()], [2]],
    [
      'a start while a silent node was called down and answered since',
      down('unreachable', { answered: true }),
      [create()],
      [2],
    ],
    ['letting run on while a node that is called down is busy', down('busy', {}, paused), [resume], [2]],
    [
      'a start on a node that is back and not reconciled',
      keeping('node1', { reservations: [], down: { ...MARK, how: 'word', answered: true } }),
      [create()],
      [2],
    ],
    [
      'a migration to a node that is back and not reconciled',
      keeping('node2', { reservations: [], down: { ...MARK, how: 'fence', answered: true } }, [], [aDomainOnNode()]),
      [move()],
      [2],
    ],

    [
      'nothing is wrong with ending a migration and stopping the source',
      two([aDomainOnNode()], waiting),
      [intent(true), abort, kill],
      [],
    ],
    ['a stop of the source while the migration goes on', two([aDomainOnNode()], waiting), [intent(true), kill], [1]],
    ['ending a migration of what runs on one node only', running, [abort], [6]],
    ['ending a migration of what runs on both', two([aDomainOnNode()], [aDomainOnNode()]), [abort], [6]],
    ['ending a migration of what waits on both', two(waiting, waiting), [abort], [6]],
    ['ending a migration the other way round', two(waiting, [aDomainOnNode()]), [abort], [6]],
    ['ending a migration whose target a person paused', two([aDomainOnNode()], paused), [abort], [6]],
    [
      'ending a migration with a third copy',
      { nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', waiting), aNode('node3', waiting)] },
      [abort],
      [6],
    ],

    ['a stop without intent', running, [ask], [9]],
    ['a kill without intent', running, [kill], [9]],
    ['a stop before its intent', running, [ask, intent(true)], [9]],
    ['a stop with the intent of a start', running, [intent(false), kill], [9]],
    ['a stop with the intent of another domain', running, [intent(true, uuidOf(9)), kill], [9]],
    ['a stop on another node than it is on', two([], [aDomainOnNode()]), [intent(true), kill], [1]],
    ['a stop of one of two copies', two([aDomainOnNode()], [aDomainOnNode()]), [intent(true), kill], [1]],
    ['a reset of what is not there', {}, [step('resetDomain', on)], [6]],
    ['a pause of one of two copies', two([aDomainOnNode()], [aDomainOnNode()]), [step('suspendDomain', on)], [1]],

    ['undefine before the definition is kept', two([shutOff()]), [undefine], [10]],
    ['undefine, and keep the definition afterwards', two([shutOff()]), [undefine, save()], [10]],
    [
      "undefine after another node's definition was kept",
      two([shutOff()], [shutOff()]),
      [save('node2'), undefine],
      [10],
    ],
    ['undefine with snapshots', two([shutOff({ snapshots: true })]), [save(), undefine], [10]],
    ['undefine with a saved image', two([shutOff({ managedSave: true })]), [save(), undefine], [10]],
  ])('%s', (_, parts, steps, rules) => {
    expect(violations(aCluster(parts), steps).map(({ rule }) => rule)).toEqual(rules)
  })

  test('a node that is over its memory already is not held against what makes it no worse', () => {
    const over = aDomainOnNode({}, aDomain({ name: 'mail', memoryMiB: 20_000 }))
    expect(violations(aCluster(two([aDomainOnNode(), over])), [intent(true), kill])).toEqual([])
  })

  test('a node that is over its vCPUs already is not held against what makes it no worse', () => {
    const over = aDomainOnNode({}, aDomain({ name: 'mail', vcpus: 99 }))
    expect(violations(aCluster(two([aDomainOnNode(), over])), [intent(true), kill])).toEqual([])
  })

  test('what is wrong is told with how much is missing', () => {
    const cluster = aCluster(keeping('node1', { reservations: [reserved(7500, 16)] }))
    expect(violations(cluster, [create()]).map(({ problem }) => problem)).toEqual([
      'node1 would lack 332 MiB of memory',
      'node1 would lack 1 vCPUs',
    ])
  })

  test('a sound plan for a random cluster is caught once a node of it falls silent', () => {
    fc.assert(
      fc.property(clusters, starts, anyNode, (cluster, [, planner], name) => {
        const plan = planner(cluster)
        if (plan.kind !== 'steps' || !cluster.nodes.has(name)) return
        const nodes = new Map(cluster.nodes).set(name, aSilentNode(name))
        expect(violations({ ...cluster, nodes }, plan.steps).map(({ rule }) => rule)).toContain(2)
      }),
      RUNS,
    )
  })
})
