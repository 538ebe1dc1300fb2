/** Looks as they become a cluster: what runs twice is looked at again, and a mark "down" ends when its node answers. */
import { describe, expect, test } from 'vitest'
import { reconciledNodes, unknownNodes } from '../src/core/cluster.ts'
import type { Ledger } from '../src/core/ledger.ts'
import { isConfirmedDown } from '../src/core/node.ts'
import { clusterOf, hereAmong, observeNodes, observeOnce } from '../src/observe.ts'
import { StoreError } from '../src/store/store.ts'
import { aCluster, aDomainOnNode, aNode, aRecord, aSilentNode, MAIL_UUID, WEB_UUID } from './core/builders.ts'
import { aWorld, holdClaim, type World, web } from './world.ts'

const MARK = { by: 'ops@node9 (pid 7)', since: '2026-01-01T00:00:00.000Z' }

async function callDown(world: World, node: string, more: object = {}): Promise<void> {
  const down = { ...MARK, how: 'word' as const, ...more }
  await world.home.records.changeLedger(node, ledger => ({ ...ledger, maintenance: MARK, down }))
}

const ledger = (world: World, node = 'node2') => world.home.records.ledger(node)

/** Counts who writes a ledger. */
function countWrites(world: World): { writes: number } {
  const count = { writes: 0 }
  const swap = world.store.swap.bind(world.store)
  world.store.swap = (key, ...rest) => {
    if (key.startsWith('ledger/')) count.writes++
    return swap(key, ...rest)
  }
  return count
}

describe('a node that was called down', () => {
  test('one that stays silent stays confirmed down, and nothing is written', async () => {
    const world = await aWorld()
    await callDown(world, 'node2')
    world.nodes.silence('node2')
    const count = countWrites(world)
    const cluster = await observeOnce(world)
    expect(unknownNodes(cluster)).toEqual([])
    expect(cluster.nodes.get('node2')?.ledger.down).toMatchObject(MARK)
    expect(count.writes).toBe(0)
  })

  test('one that answers, and whose domains run nowhere else, is forgotten; the rest of its ledger stays', async () => {
    const world = await aWorld({ node2: [web()] })
    await callDown(world, 'node2')
    const cluster = await observeOnce(world)
    expect(cluster.nodes.get('node2')?.ledger).toEqual({ maintenance: MARK, reservations: [] })
    expect(await ledger(world)).toEqual({ maintenance: MARK, reservations: [] })
  })

  test('the same when it is forgotten by a look at all nodes one by one', async () => {
    const world = await aWorld()
    await callDown(world, 'node2')
    const nodes = await observeNodes(world, [...(await world.home.records.nodes()).values()])
    expect(nodes.get('node2')?.ledger.down).toBeUndefined()
    expect((await ledger(world)).down).toBeUndefined()
  })

  test('one that answers while something runs there and elsewhere is marked, and stays so until that ends', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    await callDown(world, 'node2')
    expect((await observeOnce(world)).nodes.get('node2')?.ledger.down).toMatchObject({ ...MARK, answered: true })
    expect((await ledger(world)).down).toMatchObject({ ...MARK, answered: true })
    world.nodes.set('node1')
    await observeOnce(world)
    expect((await ledger(world)).down).toBeUndefined()
  })

  test('one that runs the same on two others is not held for that', async () => {
    const world = await aWorld({ node1: [web()], node3: [web()] })
    await callDown(world, 'node2')
    await observeOnce(world)
    expect((await ledger(world)).down).toBeUndefined()
  })

  test('the end of a migration there is no second run', async () => {
    const world = await aWorld({ node1: [web()], node2: [web({ state: 'paused', stateReason: 2 })] })
    await callDown(world, 'node2')
    await observeOnce(world)
    expect((await ledger(world)).down).toBeUndefined()
  })

  test('one that is only busy answers, so it vouches for nothing; it is not forgotten', async () => {
    const world = await aWorld()
    await callDown(world, 'node2')
    const records = await world.home.records.nodes()
    const seen = new Map([['node2', aSilentNode('node2', 'busy').seen]])
    const node = (await clusterOf(world, records, seen)).nodes.get('node2')
    expect(node?.ledger.down).toMatchObject({ answered: true })
    expect((await ledger(world)).down).toMatchObject({ answered: true })
    expect(node === undefined || isConfirmedDown(node)).toBe(false)
  })

  test('one that answered once and is silent again is unknown', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    await callDown(world, 'node2')
    await observeOnce(world)
    world.nodes.silence('node2')
    expect(unknownNodes(await observeOnce(world)).map(({ name }) => name)).toEqual(['node2'])
    expect((await ledger(world)).down).toMatchObject({ answered: true })
  })

  test('a mark that says so already is not written again', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    await callDown(world, 'node2', { answered: true })
    const count = countWrites(world)
    await observeOnce(world)
    expect(count.writes).toBe(0)
  })

  test('a mark that somebody took back meanwhile does not come back', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    await callDown(world, 'node2')
    const { records } = world.home
    const changeLedger = records.changeLedger.bind(records)
    records.changeLedger = async (node, change) => {
      await changeLedger(node, () => ({ reservations: [] }))
      return changeLedger(node, change)
    }
    await observeOnce(world)
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('a look at some nodes only marks it: what runs elsewhere was not asked', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    await callDown(world, 'node2')
    const nodes = await observeNodes(world, [aRecord('node2')])
    expect(nodes.get('node2')?.ledger.down).toMatchObject({ answered: true })
    expect((await ledger(world)).down).toMatchObject({ answered: true })
  })

  test('a store that fails does not matter: what was seen holds, and the next look tries again', async () => {
    const world = await aWorld()
    await callDown(world, 'node2')
    const swap = world.store.swap
    world.store.swap = () => Promise.reject(new StoreError('no room', 'make room'))
    expect((await observeOnce(world)).nodes.get('node2')?.ledger.down).toBeUndefined()
    expect((await ledger(world)).down).toMatchObject(MARK)
    world.store.swap = swap
    await observeOnce(world)
    expect((await ledger(world)).down).toBeUndefined()
  })

  test('a defect in the store is not taken for one', async () => {
    const world = await aWorld()
    await callDown(world, 'node2')
    world.store.swap = () => Promise.reject(new TypeError('a defect'))
    await expect(observeOnce(world)).rejects.toThrow('a defect')
  })

  test('nobody writes where nothing was called down', async () => {
    const world = await aWorld({ node2: [web()] })
    const count = countWrites(world)
    await observeOnce(world)
    expect(count.writes).toBe(0)
  })
})

describe('reservations as a look shows them', () => {
  const one = { token: 't', generation: 1, uuid: MAIL_UUID, domain: 'mail', memoryMiB: 1, vcpus: 1, by: 'ann' }
  const write = (world: World, reservations: Ledger['reservations']) =>
    world.home.records.changeLedger('node1', () => ({ reservations }))

  test('those of claims that are held, and no others; the ledger is left as it is', async () => {
    const world = await aWorld()
    const claim = await holdClaim(world, { dead: true })
    const held = { ...one, uuid: WEB_UUID, token: claim.record.token }
    await write(world, [one, held, { ...held, token: 'an earlier one' }])
    const cluster = await observeOnce(world)
    expect(cluster.nodes.get('node1')?.ledger.reservations).toEqual([held])
    expect((await ledger(world, 'node1')).reservations).toHaveLength(3)
    await claim.release()
    expect((await observeOnce(world)).nodes.get('node1')?.ledger.reservations).toEqual([])
  })
})

describe('a look', () => {
  test('what seems to run twice is looked at again, since a healthy migration can look like that once', async () => {
    const world = await aWorld({ node1: [web()], node2: [web()] })
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && world.nodes.set('node1')
    const nodes = (await observeOnce(world)).nodes
    expect(looks).toBe(2)
    expect(nodes.get('node1')?.seen).toMatchObject({ domains: [] })
  })

  test('a migration that is seen as one is not looked at again, nor is anything else', async () => {
    for (const there of [[], [web({ state: 'paused', stateReason: 2 })]]) {
      const world = await aWorld({ node1: [web()], node2: there })
      await observeOnce(world)
      expect(world.nodes.log).toEqual(['look node1 node2 node3'])
    }
  })

  test('nodes that nobody asked are not in it; definitions, records and configuration are', async () => {
    const world = await aWorld()
    await world.home.records.writeDomain('web', { manual: true })
    const records = await world.home.records.nodes()
    const cluster = await clusterOf(world, records, new Map([['node1', aNode('node1').seen]]))
    expect([...cluster.nodes.keys()]).toEqual(['node1'])
    expect([...cluster.definitions.keys()]).toEqual(['web'])
    expect(cluster.records.get('web')).toEqual({ manual: true })
    expect(cluster.config).toBe(world.home.config)
    expect(cluster).not.toHaveProperty('here')
  })

  test('the node that this machine is has a name, by its id', async () => {
    const world = await aWorld()
    expect((await observeOnce({ ...world, hereId: 'id-of-node2' })).here).toBe('node2')
    expect(hereAmong(await world.home.records.nodes(), 'id-of-nobody')).toBeUndefined()
    expect(hereAmong(await world.home.records.nodes(), undefined)).toBeUndefined()
  })
})

test('only nodes that were called down and answer can be reconciled', () => {
  const called = { reservations: [], down: { ...MARK, how: 'word' as const } }
  const nodes = [
    { ...aNode('back', [aDomainOnNode({ name: 'mail', uuid: MAIL_UUID })]), ledger: called },
    { ...aNode('twice', [aDomainOnNode()]), ledger: called },
    { ...aSilentNode('silent'), ledger: called },
    aNode('other', [aDomainOnNode()]),
  ]
  expect(reconciledNodes(aCluster({ nodes }))).toEqual(['back'])
})
