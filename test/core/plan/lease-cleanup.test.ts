/** Which files of leases may go. Whoever removes one too many lets a disk be written twice. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Cluster } from '../../../src/core/cluster.ts'
import type { Domain } from '../../../src/core/domain.ts'
import type { HostState } from '../../../src/core/lease.ts'
import { leasesOfDisks } from '../../../src/core/leases.ts'
import { type LeaseCleanup, overdue, planCleanup } from '../../../src/core/plan/lease-cleanup.ts'
import {
  aCluster,
  aDefinition,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  shutOff,
  unreadable,
  uuidOf,
} from '../builders.ts'
import {
  aFreshNode,
  aLeaseFile,
  aLeaseHost,
  aLockspace,
  aNodeWithLeases,
  aNodeWithLockd,
  aSanlock,
  DAY_MS,
  type FactParts,
  hostsOf,
  leaseFactsOf,
  md5,
  NO_SETTINGS,
  NOW_MS,
  seenHosts,
  THREE,
} from '../lease-builders.ts'

const GONE = '/srv/gone.img'
const DAYS = 7

const plan = (parts: FactParts, days = DAYS) => planCleanup(leaseFactsOf(parts), NOW_MS, days)

function planned(parts: FactParts, days = DAYS): LeaseCleanup {
  const found = plan(parts, days)
  if (!('remove' in found)) throw new Error(`refused: ${JSON.stringify(found)}`)
  return found
}

const removed = (parts: FactParts, days = DAYS) => planned(parts, days).remove.map(({ name }) => name)
const kept = (parts: FactParts, days = DAYS) => planned(parts, days).keep.map(({ why }) => why)

describe('what goes', () => {
  test('the lease of a disk that nobody has, given back ten days ago', () => {
    expect(planned({ files: [aLeaseFile(GONE), aLeaseFile('/srv/web.img')] })).toEqual({
      remove: [aLeaseFile(GONE)],
      keep: [],
      by: 'node1',
    })
  })

  test.each<[string, FactParts]>([
    ['whose holder has joined anew since', { hosts: hostsOf(aLeaseHost(1, { generation: 2 })) }],
    ['whose holder has left', { hosts: hostsOf(aLeaseHost(1, { timestamp: 0 })) }],
  ])('one %s is as good as given back', (_, parts) => {
    expect(removed({ files: [aLeaseFile(GONE, { timestamp: 5 })], ...parts })).toEqual([md5(GONE)])
  })

  test('nothing, where there is nothing', () => {
    expect(planned({})).toEqual({ remove: [], keep: [], by: 'node1' })
  })
})

describe('what stays, and why', () => {
  test.each<[string, FactParts, string]>([
    ['somebody has it', { files: [aLeaseFile(GONE, { timestamp: 5 })] }, 'somebody has it: host id 1 (node1)'],
    [
      'whoever has it is dead by now: his disks may be written still',
      {
        files: [aLeaseFile(GONE, { timestamp: 5 })],
        nodes: new Map([
          [
            'node2',
            aNodeWithLeases(2, {
              sanlock: aSanlock({ lockspace: aLockspace({ hostId: 2 }), hosts: seenHosts({ 1: 'dead' }) }),
            }),
          ],
        ]),
      },
      'somebody has it: host id 1 (node1)',
    ],
    [
      'a host has it that the lockspace does not know',
      { files: [aLeaseFile(GONE, { ownerId: 77, timestamp: 5 })] },
      'somebody has it: host id 77',
    ],
    [
      'it is damaged',
      { files: [aLeaseFile(GONE, 'damaged')] },
      'it is damaged, and nobody can tell whether somebody has it',
    ],
    [
      'it was given back today',
      { files: [aLeaseFile(GONE, {}, { writtenMs: NOW_MS - 1000 })] },
      'it was taken or given back today',
    ],
    [
      'it was given back six days ago',
      { files: [aLeaseFile(GONE, {}, { writtenMs: NOW_MS - 6.9 * DAY_MS })] },
      'it was taken or given back 6 days ago',
    ],
    [
      'it was given back in the future: the clock of the storage is ahead',
      { files: [aLeaseFile(GONE, {}, { writtenMs: NOW_MS + 100 * DAY_MS })] },
      'it was taken or given back today',
    ],
  ])('%s', (_, parts, why) => {
    expect(removed(parts)).toEqual([])
    expect(kept(parts)).toEqual([why])
  })

  test('what a damaged or held one is does not depend on its age', () => {
    const files = [
      aLeaseFile(GONE, 'damaged', { writtenMs: 0 }),
      aLeaseFile('/srv/b.img', { timestamp: 1 }, { writtenMs: 0 }),
    ]
    expect(removed({ files }, 0)).toEqual([])
  })

  test('exactly so many days are enough', () => {
    const files = [aLeaseFile(GONE, {}, { writtenMs: NOW_MS - DAYS * DAY_MS })]
    expect(removed({ files })).toEqual([md5(GONE)])
    expect(removed({ files: [{ ...aLeaseFile(GONE), writtenMs: NOW_MS - DAYS * DAY_MS + 1 }] })).toEqual([])
    expect(removed({ files: [aLeaseFile(GONE, {}, { writtenMs: NOW_MS })] }, 0)).toEqual([md5(GONE)])
  })
})

describe('whose disk has it', () => {
  const disk = aDomain({ name: 'other', uuid: uuidOf(8), disks: [aDisk(GONE)] })
  const on = (domain: Parameters<typeof aNode>[1]) =>
    aCluster({ nodes: [aNode('node1', domain), aNode('node2'), aNode('node3')] })

  test.each<[string, Cluster]>([
    ['a definition in conf/', aCluster({ definitions: [aDefinition(disk)] })],
    ['a running domain', on([aDomainOnNode({ name: 'other', uuid: uuidOf(8) }, disk)])],
    ['a domain that is only defined on a node', on([shutOff({ name: 'other', uuid: uuidOf(8) }, disk)])],
    ['a paused domain', on([aDomainOnNode({ name: 'other', uuid: uuidOf(8), state: 'paused' }, disk)])],
    [
      'a running domain, while its definition no longer names it',
      on([aDomainOnNode({}, aDomain({ disks: [aDisk(GONE)] }))]),
    ],
    [
      'a definition, while the running domain does not have it yet',
      aCluster({
        nodes: [aNode('node1', [aDomainOnNode()])],
        definitions: [aDefinition(aDomain({ disks: [aDisk('/srv/web.img'), aDisk(GONE, { target: 'vdb' })] }))],
      }),
    ],
  ])('%s: it is not even considered', (_, cluster) => {
    expect(planned({ cluster, files: [aLeaseFile(GONE)] })).toMatchObject({ remove: [], keep: [] })
  })

  test('a domain that only reads it has no lease of it', () => {
    const reads = aDomain({ disks: [aDisk(GONE, { readOnly: true })] })
    expect(removed({ cluster: aCluster({ definitions: [aDefinition(reads)] }), files: [aLeaseFile(GONE)] })).toEqual([
      md5(GONE),
    ])
  })
})

describe('nothing goes while anything is not known', () => {
  const files = [aLeaseFile(GONE)]
  const confirmed = { ...aSilentNode('node3'), ledger: { ...aSilentNode('node3').ledger } }
  const nodes = new Map([...THREE()].filter(([name]) => name !== 'node3'))

  test.each<[string, FactParts, string, string]>([
    [
      'a node is silent',
      { cluster: aCluster({ nodes: [aNode('node1'), aNode('node2'), aSilentNode('node3')] }), nodes },
      'unreachable',
      'node3',
    ],
    [
      'a node answers not everything',
      { cluster: aCluster({ nodes: [aNode('node1'), aSilentNode('node3', 'busy')] }), nodes },
      'unreachable',
      'node3',
    ],
    [
      'a node could not be asked for its leases',
      { nodes, unasked: new Map([['node3', 'it did not answer in time']]) },
      'probeFailed',
      'node3',
    ],
    [
      'a domain could not be read',
      { cluster: aCluster({ nodes: [aNode('node1', [unreadable()])] }) },
      'unreadable',
      'node1',
    ],
    [
      'a domain that is shut off could not be read',
      { cluster: aCluster({ nodes: [aNode('node1', [unreadable({ state: 'shutoff' })])] }) },
      'unreadable',
      'node1',
    ],
    [
      'a node has another folder',
      {
        nodes: new Map([
          ...nodes,
          ['node3', aNodeWithLeases(3, { folder: { ...aNodeWithLeases().folder, path: '/srv/other' } })],
        ]),
      },
      'leaseGround',
      'node3',
    ],
  ])('%s', (_, parts, reason, node) => {
    const found = plan({ files, ...parts })
    expect(found).toMatchObject([{ reason, node }])
  })

  test('a definition could not be read', () => {
    const { domain: _, ...bad } = aDefinition()
    const cluster = aCluster({ definitions: [{ ...bad, problem: 'web.xml:3: no end' }] })
    expect(plan({ files, cluster })).toEqual([{ reason: 'badDefinition', domain: 'web', problem: 'web.xml:3: no end' }])
  })

  test('a node that somebody vouches to be down: its own definitions may name any disk', () => {
    const down = {
      ...confirmed,
      ledger: { ...confirmed.ledger, down: { by: 'fence', when: '2026-01-01T00:00:00.000Z' } as never },
    }
    const cluster = aCluster({ nodes: [aNode('node1'), aNode('node2'), down] })
    expect('remove' in plan({ files, cluster, nodes })).toBe(false)
  })

  test('a silent node is said once, though it also could not be asked', () => {
    const cluster = aCluster({ nodes: [aNode('node1'), aSilentNode('node2')] })
    const found = plan({
      files,
      cluster,
      nodes: new Map([['node1', aNodeWithLeases(1)]]),
      unasked: new Map([['node2', 'no route']]),
    })
    expect(found).toMatchObject([{ reason: 'unreachable', node: 'node2' }])
  })

  test('all of it is said at once', () => {
    const { domain: _, ...bad } = aDefinition()
    const cluster = aCluster({
      nodes: [aNode('node1', [unreadable({ name: 'db', uuid: uuidOf(3) })]), aSilentNode('node2'), aNode('node3')],
      definitions: [bad],
    })
    const found = plan({
      files,
      cluster,
      nodes: new Map([['node1', aNodeWithLeases(1)]]),
      unasked: new Map([['node3', 'x']]),
    })
    expect((found as readonly { reason: string }[]).map(({ reason }) => reason)).toEqual([
      'unreachable',
      'probeFailed',
      'unreadable',
      'badDefinition',
    ])
  })

  test('a node without a lock manager, or with its own folder for another one, is heard and no hindrance', () => {
    const others = new Map([...nodes, ['node3', aFreshNode({ settings: NO_SETTINGS })]])
    expect(removed({ files, nodes: others })).toEqual([md5(GONE)])
  })
})

describe('who removes them', () => {
  const byOf = (parts: FactParts) => planned({ files: [aLeaseFile(GONE)], ...parts }).by
  const node = (hostId: number, more: Parameters<typeof aSanlock>[0] = {}) =>
    aNodeWithLeases(hostId, { sanlock: aSanlock({ lockspace: aLockspace({ hostId }), ...more }) })

  test('this machine, where it is one of the nodes', () => {
    expect(byOf({ cluster: aCluster({ here: 'node2' }) })).toBe('node2')
  })

  test('the first that has joined the lockspace', () => {
    const nodes = new Map([
      ['node1', aNodeWithLeases(1, { sanlock: undefined })],
      ['node2', node(2, { lockspace: aLockspace({ hostId: 2, state: 'joining' }) })],
      ['node3', node(3)],
    ])
    expect(byOf({ nodes, cluster: aCluster({ here: 'node1' }) })).toBe('node3')
  })

  test.each<[string, FactParts['nodes']]>([
    ['none has joined', new Map([['node1', node(1, { lockspace: undefined })]])],
    [
      'the one that has joined is in the lockspace of another folder',
      new Map([['node1', node(1, { lockspace: aLockspace({ path: '/srv/old/__LIBVIRT__DISKS__' }) })]]),
    ],
    [
      'libvirt on the one that has joined uses no leases',
      new Map([['node1', aNodeWithLeases(1, { settings: NO_SETTINGS })]]),
    ],
  ])('nobody, while %s', (_, nodes) => {
    expect(byOf(nodes === undefined ? {} : { nodes })).toBeUndefined()
  })
})

// ---- whatever the facts -----------------------------------------------------------------------------------------------------

const PATHS = ['/srv/a', '/srv/b', '/srv/c', '/srv/d', '/srv/e', '/srv/f']
const path = fc.constantFrom(...PATHS)
const hostId = fc.integer({ min: 1, max: 4 })

const domainOf = (number: number, paths: readonly string[]): Domain =>
  aDomain({
    name: `d${number}`,
    uuid: uuidOf(number),
    disks: paths.map((each, at) => aDisk(each, { target: `vd${at}` })),
  })

const file = fc
  .record({
    path,
    damaged: fc.boolean(),
    ownerId: hostId,
    ownerGeneration: fc.integer({ min: 1, max: 3 }),
    timestamp: fc.constantFrom(0, 0, 5, 900),
    ageDays: fc.constantFrom(-1, 0, 0.5, 6, 7, 8, 400),
  })
  .map(({ path: of, damaged, ageDays, ...record }) =>
    aLeaseFile(of, damaged ? 'damaged' : record, { writtenMs: NOW_MS - ageDays * DAY_MS }),
  )

const anyFacts = fc
  .record({
    running: fc.array(fc.uniqueArray(path, { maxLength: 3 }), { maxLength: 2 }),
    shut: fc.array(fc.uniqueArray(path, { maxLength: 2 }), { maxLength: 1 }),
    defined: fc.array(fc.uniqueArray(path, { maxLength: 3 }), { maxLength: 2 }),
    files: fc.uniqueArray(file, { selector: ({ name }) => name }),
    hosts: fc.uniqueArray(
      fc.record({ hostId, generation: fc.integer({ min: 1, max: 3 }), timestamp: fc.constantFrom(0, 800) }),
      { selector: host => host.hostId },
    ),
    seen: fc.constantFrom<HostState>('live', 'fail', 'dead', 'free', 'unknown'),
    upset: fc.constantFrom('nothing', 'nothing', 'nothing', 'silent', 'unasked', 'opaque', 'unreadable'),
  })
  .map(({ running, shut, defined, files, hosts, seen, upset }) => {
    const onNode = [
      ...running.map((paths, at) => aDomainOnNode({}, domainOf(at + 1, paths))),
      ...shut.map(paths => shutOff({}, domainOf(5, paths))),
      ...(upset === 'opaque' ? [unreadable({ name: 'dark', uuid: uuidOf(9) })] : []),
    ]
    const definitions = defined.map((paths, at) => aDefinition(domainOf(at + 6, paths)))
    const cluster = aCluster({
      nodes: [aNode('node1', onNode), upset === 'silent' ? aSilentNode('node2') : aNode('node2')],
      definitions:
        upset === 'unreadable' ? [...definitions, { name: 'x', path: 'conf/x.xml', sha256: '0' }] : definitions,
    })
    const sanlock = aSanlock({ hosts: seenHosts({ 1: seen, 2: seen }) })
    const nodes = new Map([['node1', aNodeWithLeases(1, { sanlock })]])
    if (upset !== 'silent' && upset !== 'unasked') nodes.set('node2', aNodeWithLeases(2))
    const unasked = new Map(upset === 'unasked' ? [['node2', 'no']] : [])
    return {
      upset,
      facts: leaseFactsOf({
        cluster,
        nodes,
        unasked,
        files,
        hosts: hostsOf(...hosts.map(host => aLeaseHost(host.hostId, host))),
      }),
    }
  })

test('never goes what a definition or a domain names, what is held or damaged, what is young, nor anything in the dark', () => {
  let went = 0
  fc.assert(
    fc.property(anyFacts, ({ upset, facts }) => {
      const found = planCleanup(facts, NOW_MS, DAYS)
      expect('remove' in found).toBe(upset === 'nothing')
      if (!('remove' in found)) return
      const domains = [
        ...[...facts.cluster.nodes.values()]
          .flatMap(({ seen }) => (seen.state === 'up' ? seen.domains : []))
          .map(({ definition }) => definition),
        ...[...facts.cluster.definitions.values()].map(({ domain }) => domain),
      ]
      const used = new Set(
        domains.flatMap(domain => (domain?.disks ?? []).map(({ source }) => md5('path' in source ? source.path : ''))),
      )
      for (const { name, record, writtenMs } of found.remove) {
        went++
        expect(used.has(name)).toBe(false)
        expect(record).toBeDefined()
        const host = facts.hosts.get(record?.ownerId ?? 0)
        const isOver =
          record?.timestamp === 0 ||
          (host !== undefined && (host.timestamp === 0 || host.generation !== record?.ownerGeneration))
        expect(isOver).toBe(true)
        expect(NOW_MS - writtenMs).toBeGreaterThanOrEqual(DAYS * DAY_MS)
      }
      const standing = new Map(leasesOfDisks(facts).map(lease => [lease.name, lease.standing]))
      for (const { name } of found.remove) expect(['free', 'old']).toContain(standing.get(name))
      // Each file that belongs to no disk is either removed or kept with a reason; none is forgotten.
      const mentioned = [...found.remove, ...found.keep.map(each => each.file)].map(({ name }) => name).sort()
      expect(mentioned).toEqual([...facts.files.keys()].filter(name => !used.has(name)).sort())
    }),
  )
  expect(went).toBeGreaterThan(0)
})

describe('what has waited for long', () => {
  const young = { writtenMs: NOW_MS }
  const old = { writtenMs: NOW_MS - 8 * DAY_MS }

  test('by the clock of the storage itself: the newest file is now', () => {
    const files = [aLeaseFile('/srv/web.img', {}, young), aLeaseFile(GONE, {}, old)]
    expect(overdue(leaseFactsOf({ files }), DAYS)).toEqual([files[1]])
    expect(overdue(leaseFactsOf({ files }), 8)).toEqual([])
  })

  test('none that a disk has, and none while all are as old', () => {
    expect(
      overdue(leaseFactsOf({ files: [aLeaseFile('/srv/web.img', {}, old), aLeaseFile(GONE, {}, young)] }), DAYS),
    ).toEqual([])
    expect(overdue(leaseFactsOf({ files: [aLeaseFile(GONE, {}, old)] }), DAYS)).toEqual([])
    expect(overdue(leaseFactsOf(), DAYS)).toEqual([])
  })

  test('only sanlock leaves files behind', () => {
    const files = [aLeaseFile('/srv/b.img', {}, young), aLeaseFile(GONE, {}, old)]
    expect(overdue(leaseFactsOf({ files, nodes: new Map([['node1', aNodeWithLockd()]]) }), DAYS)).toEqual([])
    expect(overdue(leaseFactsOf({ files, nodes: new Map() }), DAYS)).toEqual([])
  })
})
