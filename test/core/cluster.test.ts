/** What can be known of a cluster from one look. */
import { describe, expect, test } from 'vitest'
import {
  holdersOf,
  identityOf,
  presencesOf,
  presentTwice,
  sharedDisks,
  sharedUuids,
  sightings,
  sightingsOf,
  silentNodes,
  spreadDomains,
  unlisted,
  unreadableRivals,
  upNodes,
} from '../../src/core/cluster.ts'
import type { DomainOnNode, PathFacts, UpNode } from '../../src/core/node.ts'
import {
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  onPath,
  shutOff,
  unreadable,
  uuidOf,
  WEB_UUID,
} from './builders.ts'

const names = (nodes: readonly { name: string }[]) => nodes.map(({ name }) => name)
const where = (found: readonly { node: string; domain: { name: string } }[]) =>
  found.map(({ node, domain }) => `${domain.name}@${node}`)

describe('sightings', () => {
  const cluster = aCluster({
    nodes: [
      aNode('node1', [aDomainOnNode(), shutOff({ name: 'mail', uuid: uuidOf(1) })]),
      aSilentNode('node2'),
      aNode('node3', [shutOff({ name: 'old', uuid: WEB_UUID }), shutOff({ uuid: uuidOf(2), managedSave: true })]),
    ],
  })

  test('a silent node shows nothing and is named as silent', () => {
    expect(names(upNodes(cluster))).toEqual(['node1', 'node3'])
    expect(names(silentNodes(cluster))).toEqual(['node2'])
    expect(sightings(cluster)).toHaveLength(4)
  })

  test('a domain is found by name or by uuid, and is present where it is active or saved', () => {
    expect(where(sightingsOf(cluster, { name: 'web', uuid: WEB_UUID }))).toEqual([
      'web@node1',
      'old@node3',
      'web@node3',
    ])
    expect(where(presencesOf(cluster, { name: 'web', uuid: WEB_UUID }))).toEqual(['web@node1', 'web@node3'])
    expect(where(presencesOf(cluster, { name: 'old' }))).toEqual([])
  })
})

describe('disks', () => {
  const identity = identityOf(aDomain())
  const holder = (disk: ReturnType<typeof aDisk>) => aDomain({ name: 'mail', disks: [disk] })
  const held = (domain: ReturnType<typeof aDomainOnNode>) =>
    holdersOf(aCluster({ nodes: [aNode('n', [domain])] }), identity)

  test('the identity of a domain has the disks that only it may write', () => {
    const disks = [
      aDisk('/a'),
      aDisk('/b', { readOnly: true }),
      aDisk('/c', { shareable: true }),
      aDisk('/d', { transient: true }),
      aDisk('/e', { device: 'cdrom' }),
    ]
    expect(identityOf(aDomain({ disks })).disks).toEqual([disks[0]])
  })

  test('another present domain with the same disk holds it', () => {
    expect(held(aDomainOnNode({}, holder(aDisk('/srv//web.img'))))).toMatchObject([{ disk: 'file:/srv/web.img' }])
  })

  test('nobody holds it who is shut off, only reads it, or is the domain itself', () => {
    expect(held(shutOff({}, holder(aDisk('/srv/web.img'))))).toEqual([])
    expect(held(aDomainOnNode({}, holder(aDisk('/srv/web.img', { readOnly: true }))))).toEqual([])
    expect(held(aDomainOnNode())).toEqual([])
  })

  test('a present domain that nobody can read may hold it', () => {
    const rivals = (domain: ReturnType<typeof unreadable>, of = identity) =>
      where(unreadableRivals(aCluster({ nodes: [aNode('n', [domain])] }), of))
    expect(rivals(unreadable({ name: 'mail' }))).toEqual(['mail@n'])
    expect(rivals(unreadable())).toEqual([])
    expect(rivals(unreadable({ name: 'mail' }), { ...identity, disks: [] })).toEqual([])
  })
})

describe('disks under two names', () => {
  const other = (path: string) => aDomain({ name: 'mail', disks: [aDisk(path)] })
  const cluster = (ours: Partial<PathFacts>, theirs: Partial<PathFacts>) =>
    aCluster({
      nodes: [
        aNode('node1', [], { paths: onPath('/srv/web.img', ours) }),
        aNode('node2', [aDomainOnNode({}, other('/dev/x'))], { paths: onPath('/dev/x', theirs) }),
      ],
    })
  const held = (ours: Partial<PathFacts>, theirs: Partial<PathFacts>) =>
    holdersOf(cluster(ours, theirs), identityOf(aDomain())).map(({ disk }) => disk)

  test('are one disk when a node knows them as one, and both names are told', () => {
    const both = ['file:/srv/web.img (there: block:/dev/x)']
    expect(held({ identity: 'naa.1' }, { identity: 'naa.1' })).toEqual(both)
    expect(held({ identity: 'naa.1-part3' }, { identity: 'naa.1' })).toEqual(both)
    expect(held({ identity: 'naa.1' }, { identity: 'naa.1-part3' })).toEqual(both)
    expect(held({ canonical: '/x' }, { canonical: '/x' })).toEqual(both)
  })

  test('are two when they are not, or nobody knows', () => {
    expect(held({ identity: 'naa.1' }, { identity: 'naa.2' })).toEqual([])
    expect(held({ identity: 'naa.1-part1' }, { identity: 'naa.1-part2' })).toEqual([])
    expect(held({}, {})).toEqual([])
  })

  test('what another node than its own says of the held one does not matter', () => {
    const found = cluster({ identity: 'naa.1' }, { identity: 'naa.2' })
    const node3 = aNode('node3', [], { paths: onPath('/dev/x', { identity: 'naa.1' }) })
    const nodes = new Map(found.nodes).set('node3', node3)
    expect(holdersOf({ ...found, nodes }, identityOf(aDomain()))).toEqual([])
  })

  test('what any node says of the wanted one does', () => {
    const found = cluster({}, { identity: 'naa.1' })
    const node3 = aNode('node3', [], { paths: onPath('/srv/web.img', { identity: 'naa.1' }) })
    const nodes = new Map(found.nodes).set('node3', node3)
    expect(holdersOf({ ...found, nodes }, identityOf(aDomain()))).toHaveLength(1)
  })
})

describe('disks that two domains hold', () => {
  const with_ = (name: string, path: string, more: Partial<DomainOnNode> = {}, number = name.length) =>
    aDomainOnNode(more, aDomain({ name, uuid: uuidOf(number), disks: [aDisk(path)] }))
  const shared = (one: DomainOnNode[], two: DomainOnNode[], paths: UpNode['paths'] = new Map()) =>
    sharedDisks(aCluster({ nodes: [aNode('node1', one, { paths }), aNode('node2', two)] })).map(
      ({ disk, holders, active }) => [disk, ...where(holders), active],
    )

  test('are told with both, once', () => {
    expect(shared([with_('a', '/x')], [with_('bb', '/x')])).toEqual([['file:/x', 'a@node1', 'bb@node2', true]])
    expect(shared([with_('a', '/x'), with_('bb', '//x')], [])).toEqual([['file:/x', 'a@node1', 'bb@node1', true]])
    expect(shared([with_('a', '/x'), with_('bb', '/y')], [with_('ccc', '/x')])).toHaveLength(1)
    expect(shared([with_('a', '/x'), with_('bb', '/x')], [with_('ccc', '/x')])).toHaveLength(3)
  })

  test('under two names, too', () => {
    const paths = new Map([...onPath('/x', { identity: 'naa.1' }), ...onPath('/y', { identity: 'naa.1-part1' })])
    expect(shared([with_('a', '/x'), with_('bb', '/y')], [], paths)).toEqual([
      ['file:/x (there: file:/y)', 'a@node1', 'bb@node1', true],
    ])
  })

  test('are less when one of them is only saved, and nothing when one is off', () => {
    expect(shared([with_('a', '/x')], [with_('bb', '/x', { state: 'shutoff', managedSave: true })])).toEqual([
      ['file:/x', 'a@node1', 'bb@node2', false],
    ])
    expect(shared([with_('a', '/x')], [with_('bb', '/x', { state: 'shutoff' })])).toEqual([])
  })

  test('one domain on two nodes is another matter', () => {
    expect(shared([with_('a', '/x')], [with_('a', '/x')])).toEqual([])
    expect(shared([with_('a', '/x', {}, 1)], [with_('bb', '/x', {}, 1)])).toEqual([])
  })
})

describe('what is spread over nodes', () => {
  const cluster = (one: DomainOnNode[], two: DomainOnNode[]) =>
    aCluster({ nodes: [aNode('node1', one), aNode('node2', two), aSilentNode('node3')] })
  const spread = (...sides: [DomainOnNode[], DomainOnNode[]]) =>
    spreadDomains(cluster(...sides)).map(({ name, active, off }) => [name, where(active), where(off)])

  test('a definition beside a running domain, and two definitions', () => {
    expect(spread([aDomainOnNode()], [shutOff()])).toEqual([['web', ['web@node1'], ['web@node2']]])
    expect(spread([shutOff()], [shutOff()])).toEqual([['web', [], ['web@node1', 'web@node2']]])
    expect(spread([aDomainOnNode()], [aDomainOnNode()])).toEqual([])
    expect(spread([aDomainOnNode()], [shutOff({ name: 'mail' })])).toEqual([])
  })

  test('one uuid under two names', () => {
    const found = (...sides: [DomainOnNode[], DomainOnNode[]]) =>
      sharedUuids(cluster(...sides)).map(each => [each.uuid, ...where(each.sightings)])
    const old = shutOff({ name: 'old', uuid: WEB_UUID })
    expect(found([aDomainOnNode()], [old])).toEqual([[WEB_UUID, 'web@node1', 'old@node2']])
    expect(found([aDomainOnNode()], [shutOff()])).toEqual([])
  })

  test('QEMUs that libvirt does not list', () => {
    const stray = aDomainOnNode({ unlistedPid: 7 })
    expect(unlisted(cluster([aDomainOnNode()], [stray]))).toEqual([{ node: 'node2', domain: stray, pid: 7 }])
  })
})

describe('present twice', () => {
  const twice = (...domains: ReturnType<typeof aDomainOnNode>[]) =>
    presentTwice(aCluster({ nodes: domains.map((domain, at) => aNode(`node${at + 1}`, [domain])) }))
  const waiting = aDomainOnNode({ state: 'paused', stateReason: 2 })

  test('one uuid or one name, active on two nodes, is one domain twice, and said once', () => {
    expect(twice(aDomainOnNode(), aDomainOnNode())).toMatchObject([
      { name: 'web', uuid: WEB_UUID, nodes: ['node1', 'node2'], migrating: false },
    ])
    expect(twice(aDomainOnNode(), aDomainOnNode({ name: 'old', uuid: WEB_UUID }))).toHaveLength(1)
    expect(twice(aDomainOnNode(), aDomainOnNode({ uuid: uuidOf(1) }))).toHaveLength(1)
  })

  test('a running and a waiting end are a migration; two that could have run are not', () => {
    expect(twice(aDomainOnNode(), waiting)).toMatchObject([{ migrating: true }])
    expect(twice(waiting, waiting)).toMatchObject([{ migrating: true }])
    expect(twice(aDomainOnNode(), aDomainOnNode({ state: 'paused', stateReason: 1 }))).toMatchObject([
      { migrating: false },
    ])
    expect(twice(aDomainOnNode(), aDomainOnNode(), waiting)).toMatchObject([{ migrating: false }])
  })

  test('a shut off definition is no second presence', () => {
    expect(twice(aDomainOnNode(), shutOff())).toEqual([])
    expect(twice(aDomainOnNode(), aDomainOnNode({ name: 'mail', uuid: uuidOf(1) }))).toEqual([])
  })
})
