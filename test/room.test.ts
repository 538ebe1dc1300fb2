/** Reservations: the room that a start takes is written down before it is looked at once more, and holds as long as the claim. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Reservation } from '../src/core/ledger.ts'
import type { Exit } from '../src/nodes/process.ts'
import { aDomain, aDomainOnNode, MAIL_UUID, uuidOf, WEB_UUID } from './core/builders.ts'
import { definitionXml } from './fake-nodes.ts'
import { act, migrate, outcomes, reasons, show, start, startAnywhere, stop, texts } from './verbs.ts'
import { aWorld, claimsOf, holdClaim, type World, web } from './world.ts'

/** Leaves this much of a node's 8192 MiB for others. */
const leaving = (memoryMiB: number, at = 8) =>
  aDomainOnNode({}, aDomain({ name: `big${at}`, uuid: uuidOf(at), memoryMiB: 8192 - memoryMiB, disks: [] }))

const reservations = async (world: World, node: string) => (await world.home.records.ledger(node)).reservations

/** mail is defined, too. */
async function withMail(world: World): Promise<World> {
  await writeFile(join(world.definitionsFolder, 'mail.xml'), definitionXml('mail', MAIL_UUID))
  return world
}

/** The same cluster, as somebody else works on it. */
function another(world: World, user: string): World {
  return { ...world, claims: claimsOf(world.store, world.clock, user) }
}

/** mail's claim is held, and it has reserved all that is left of node1. */
async function reservedByMail(world: World, dead: boolean, more: Partial<Reservation> = {}) {
  const identity = { name: 'mail', uuid: MAIL_UUID, disks: [] }
  const claim = await holdClaim(world, { identity, dead, verb: 'domain start mail node1' })
  const { token, generation } = claim.record
  const one = {
    token,
    generation,
    uuid: MAIL_UUID,
    domain: 'mail',
    memoryMiB: 8000,
    vcpus: 1,
    by: 'ann@node9 (pid 7)',
    ...more,
  }
  await world.home.records.changeLedger('node1', ledger => ({ ...ledger, reservations: [one] }))
  return claim
}

describe('what a command takes', () => {
  test('it is written down while it arrives, with who takes it, and counts for nobody afterwards', async () => {
    const world = await aWorld()
    let seen: readonly Reservation[] = []
    world.nodes.beforeAct = async () => {
      seen = await reservations(world, 'node1')
    }
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    const token = (await world.claim())?.token
    const by = 'us@far (pid 7)'
    expect(seen).toEqual([{ token, generation: 1, uuid: WEB_UUID, domain: 'web', memoryMiB: 1024, vcpus: 1, by }])
    world.nodes.set('node1', leaving(1024))
    await withMail(world)
    expect(await act(world, start('node1', 'mail'))).toMatchObject({ exit: 0 })
    expect((await reservations(world, 'node1')).map(({ domain }) => domain)).toEqual(['mail'])
  })

  test('it stands there before the second look', async () => {
    const world = await aWorld()
    const found: number[] = []
    world.nodes.beforeLook = async () => found.push((await reservations(world, 'node1')).length)
    await act(world, start())
    expect(found).toEqual([0, 1])
  })

  test('what runs says how large it is; a migration takes its room on the target', async () => {
    const world = await aWorld({ node1: [web({ memoryMiB: 4096, vcpus: 3 })] })
    let seen: readonly Reservation[] = []
    world.nodes.beforeAct = async () => {
      seen = await reservations(world, 'node2')
    }
    expect(await act(world, migrate())).toMatchObject({ exit: 0 })
    expect(seen).toMatchObject([{ domain: 'web', memoryMiB: 4096, vcpus: 3 }])
    expect(await reservations(world, 'node1')).toEqual([])
  })

  test('a dry run takes none, nor does a stop, nor a start that is refused', async () => {
    const world = await aWorld({ node1: [leaving(512)] })
    await show(world, start('node2'))
    expect(await act(world, start())).toMatchObject({ exit: 3 })
    world.nodes.set('node1', web())
    expect(await act(world, stop())).toMatchObject({ exit: 0 })
    for (const node of ['node1', 'node2', 'node3']) expect(await reservations(world, node)).toEqual([])
  })

  test('a second try of one claim reserves once', async () => {
    const world = await aWorld()
    world.nodes.moves = 2
    let writes = 0
    const changeLedger = world.home.records.changeLedger.bind(world.home.records)
    world.home.records.changeLedger = (...args) => {
      writes++
      return changeLedger(...args)
    }
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(writes).toBe(1)
  })

  test('a node that was not reserved is not used, whatever the second look would choose', async () => {
    const world = await aWorld({ node1: [], node2: [leaving(4000)], node3: [leaving(3000, 9)] })
    let looks = 0
    // The best node is filled up between the looks.
    world.nodes.beforeLook = () => ++looks === 2 && world.nodes.set('node1', leaving(0, 7))
    let held: readonly Reservation[] = []
    world.nodes.beforeAct = async () => {
      held = await reservations(world, 'node2')
    }
    expect(await act(world, startAnywhere)).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual(['act node2 create /dev/stdin'])
    expect(held).toHaveLength(1)
    expect(looks).toBe(4)
  })
})

describe('two starts of different domains at one moment', () => {
  test('exactly one gets the last room, and the other is told who has it', async () => {
    const world = await withMail(await aWorld({ node1: [leaving(1500)] }))
    // What starts takes a while, so that the other one has to decide meanwhile.
    const nodes = world.nodes
    const send = nodes.act.bind(nodes)
    const sentAt: number[] = []
    nodes.act = async (...args: Parameters<typeof send>): Promise<Exit> => {
      sentAt.push(world.clock.ms)
      await world.clock.sleep(20_000)
      return send(...args)
    }
    const reports = await Promise.all([
      act(world, start('node1', 'web')),
      act(another(world, 'bob'), start('node1', 'mail')),
    ])
    expect(reports.map(({ exit }) => exit).sort()).toEqual([0, 3])
    const refused = reports.find(({ exit }) => exit === 3)
    expect(refused?.refusals).toMatchObject([{ reason: 'memory' }])
    expect(refused === undefined ? '' : texts(refused)).toMatch(/1024 MiB for (web|mail) by (us|bob)@far/)
    expect(nodes.domainsOf('node1')).toHaveLength(2)
    // Who reserved first waits for nobody.
    expect(sentAt).toEqual([0])
  })

  test('one that comes while the other is being sent does not get its room', async () => {
    const world = await withMail(await aWorld({ node1: [leaving(1500)] }))
    const second: Promise<unknown>[] = []
    world.nodes.beforeAct = async () => {
      if (second.length > 0) return
      second.push(act(another(world, 'bob'), start('node1', 'mail')).then(reasons))
      await world.clock.sleep(20_000)
    }
    expect(await act(world, start('node1', 'web'))).toMatchObject({ exit: 0 })
    expect(await Promise.all(second)).toEqual([['memory']])
  })

  test('both are started where there is room for both', async () => {
    const world = await withMail(await aWorld({ node1: [leaving(2048)] }))
    const reports = await Promise.all([
      act(world, start('node1', 'web')),
      act(another(world, 'bob'), start('node1', 'mail')),
    ])
    expect(reports.map(({ exit }) => exit)).toEqual([0, 0])
  })

  test('whichever of the two looks first, never both', async () => {
    for (const delays of [
      [0, 0, 0, 0],
      [0, 100, 0, 0],
      [0, 0, 100, 0],
      [100, 0, 0, 0],
      [0, 0, 0, 100],
      [50, 0, 0, 100],
    ]) {
      const world = await withMail(await aWorld({ node1: [leaving(1500)] }))
      let looks = 0
      world.nodes.beforeLook = () => world.clock.sleep(delays[looks++] ?? 0)
      const reports = await Promise.all([
        act(world, start('node1', 'web')),
        act(another(world, 'bob'), start('node1', 'mail')),
      ])
      expect(reports.map(({ exit }) => exit).sort(), String(delays)).toEqual([0, 3])
    }
  })
})

describe("another command's reservation", () => {
  test('one whose holder lives is no room: refused, naming who holds it', async () => {
    const world = await aWorld()
    await reservedByMail(world, false)
    const report = await act(world, start())
    expect(reasons(report)).toEqual(['memory'])
    expect(texts(report)).toContain('8000 MiB for mail by ann@node9 (pid 7)')
    // Nothing changed, so nobody looks again.
    expect(world.nodes.log).toEqual(['look node1 node2 node3', 'look node1 node2 node3'])
  })

  test('vCPUs are reserved, too', async () => {
    const world = await aWorld()
    await reservedByMail(world, false, { memoryMiB: 1, vcpus: 16 })
    expect(reasons(await act(world, start()))).toEqual(['vcpus'])
  })

  test('one of a dead holder is waited out, and then dropped', async () => {
    const world = await aWorld()
    await reservedByMail(world, true)
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeGreaterThanOrEqual(30_000)
    expect((await reservations(world, 'node1')).map(({ domain }) => domain)).toEqual(['web'])
    expect(await world.claim(MAIL_UUID)).toMatchObject({ state: 'released' })
  })

  test('one of a dead holder that keeps vCPUs alone is waited out, too', async () => {
    const world = await aWorld()
    await reservedByMail(world, true, { memoryMiB: 1, vcpus: 16 })
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeGreaterThanOrEqual(30_000)
  })

  test('where a node has no room at all, the reservations of others are not waited for', async () => {
    const world = await aWorld({ node2: [leaving(512)] })
    await reservedByMail(world, true)
    expect(reasons(await act(world, start('node2')))).toEqual(['memory'])
    expect(world.clock.ms).toBeLessThan(5000)
  })

  test('one that is in nobody’s way is not waited for', async () => {
    const world = await aWorld()
    await reservedByMail(world, true, { memoryMiB: 1024 })
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeLessThan(5000)
  })

  test('a start that is refused for another reason waits for nobody', async () => {
    const world = await aWorld({ node2: [web()] })
    await reservedByMail(world, true, { memoryMiB: 1024 })
    expect(await act(world, start())).toMatchObject({ exit: 3 })
    expect(world.clock.ms).toBeLessThan(5000)
  })

  test('one whose claim has ended is no hindrance and is dropped when the ledger is next written', async () => {
    const world = await aWorld()
    await (await reservedByMail(world, true)).release()
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeLessThan(5000)
    expect((await reservations(world, 'node1')).map(({ domain }) => domain)).toEqual(['web'])
  })

  test('one of an earlier holder of our own claim is replaced', async () => {
    const world = await aWorld()
    const claim = await holdClaim(world, { dead: true })
    const one = {
      token: claim.record.token,
      generation: 1,
      uuid: WEB_UUID,
      domain: 'web',
      memoryMiB: 8192,
      vcpus: 1,
      by: 'ann',
    }
    await world.home.records.changeLedger('node1', () => ({ reservations: [one] }))
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(await reservations(world, 'node1')).toMatchObject([{ domain: 'web', memoryMiB: 1024 }])
  })

  test('one for what is there by now does not count twice', async () => {
    const mail = aDomainOnNode({ name: 'mail', uuid: MAIL_UUID, memoryMiB: 5000 })
    const world = await aWorld({ node1: [mail] })
    await reservedByMail(world, false, { memoryMiB: 5000 })
    expect(await act(world, start())).toMatchObject({ exit: 0 })
  })
})

test('a node that is put into maintenance between the looks receives nothing', async () => {
  const world = await aWorld()
  const maintenance = { by: 'ops@node9 (pid 7)', since: '2026-01-01T00:00:00.000Z' }
  let looks = 0
  world.nodes.beforeLook = () =>
    ++looks === 2 && world.home.records.changeLedger('node1', ledger => ({ ...ledger, maintenance }))
  const report = await act(world, start())
  expect(reasons(report)).toEqual(['maintenance'])
  expect(outcomes(report)).toBeUndefined()
  expect(world.nodes.acts).toEqual([])
})

test('a ledger that cannot be written starts nothing', async () => {
  const world = await aWorld()
  const swap = world.store.swap.bind(world.store)
  world.store.swap = async (key, ...rest) => {
    if (key === 'ledger/node1') throw new Error('the store is gone')
    return swap(key, ...rest)
  }
  await expect(act(world, start())).rejects.toThrow('the store is gone')
  expect(world.nodes.acts).toEqual([])
  expect(await world.claim()).toMatchObject({ state: 'released' })
})
