/** What can be known of a cluster from one look. */
import { describe, expect, test } from 'vitest'
import {
  holdersOf,
  identityOf,
  presencesOf,
  presentTwice,
  sightings,
  sightingsOf,
  silentNodes,
  unreadableRivals,
  upNodes,
} from '../../src/core/cluster.ts'
import {
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
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
