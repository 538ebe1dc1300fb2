/** `node maintenanceon` as a drain, and `maintenanceoff --return`, from the look to the last word; on fake nodes. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Progress } from '../../src/report.ts'
import { StoreError } from '../../src/store/store.ts'
import { aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import { definitionXml } from '../fake-nodes.ts'
import { perform, texts } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const guest = (number: number, more: Parameters<typeof aDomainOnNode>[0] = {}) =>
  aDomainOnNode(more, aDomain({ name: `guest${number}`, uuid: uuidOf(number), memoryMiB: 1024, disks: [] }))
const guests = [1, 2, 3, 4, 5].map(number => guest(number))

const on = (world: World, options: Record<string, boolean | string> = {}, act = true, nodes = ['node1']) =>
  perform(world, 'node maintenanceon', { words: { NODE: nodes }, options, act })
const off = (world: World, options: Record<string, boolean | string> = {}, act = true) =>
  perform(world, 'node maintenanceoff', { words: { NODE: 'node1' }, options, act })

const populations = (world: World) => ['node1', 'node2', 'node3'].map(node => world.nodes.domainsOf(node).length)
const ledger = (world: World) => world.home.records.ledger('node1')
const migrations = (world: World) => world.nodes.acts.filter(line => line.includes('migrate'))

describe('a drain', () => {
  test('shows the flag, every move and what it costs, and does nothing', async () => {
    const world = await aWorld({ node1: guests })
    const report = await on(world, {}, false)
    expect(report.exit).toBe(0)
    expect(report.script?.[0]).toBe('# (havirt itself: record that node1 is in maintenance)')
    expect(report.script?.filter(line => line.includes('migrate --live'))).toHaveLength(5)
    expect(report.table?.rows[0]).toMatchObject({ from: 'node1', gib: 1, why: 'node1 is to be empty' })
    expect(texts(report)).toContain('to empty node1: 5 domains move away, 5 GiB go over the network')
    expect(world.nodes.acts).toEqual([])
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('flags the node, empties it, and says so after a last look', async () => {
    const world = await aWorld({ node1: guests })
    const report = await on(world, { reason: 'memory' })
    expect(report.exit).toBe(0)
    expect(populations(world)[0]).toBe(0)
    expect(report.results).toHaveLength(5)
    expect(texts(report)).toContain('node1 is in maintenance and empty: nothing runs there')
    const { maintenance, drained } = await ledger(world)
    expect(maintenance).toMatchObject({ reason: 'memory' })
    expect(drained?.map(({ domain, from }) => [domain, from]).sort()).toEqual(guests.map(({ name }) => [name, 'node1']))
  })

  test('moves several at a time, but no more than the limits', async () => {
    const world = await aWorld({ node1: guests })
    let moving = 0
    let most = 0
    world.nodes.beforeAct = async line => {
      if (!line.includes('migrate')) return
      most = Math.max(most, ++moving)
      await world.clock.sleep(1000)
      moving--
    }
    expect((await on(world)).exit).toBe(0)
    expect(most).toBe(2)
    expect(migrations(world)).toHaveLength(5)
  })

  test('with its flag set before the first look that counts: nothing can arrive behind its back', async () => {
    const world = await aWorld({ node1: [guest(1)] })
    let looks = 0
    world.nodes.beforeLook = async () => {
      if (++looks === 3) expect(await ledger(world)).toHaveProperty('maintenance')
    }
    await on(world)
    expect(looks).toBeGreaterThan(3)
  })

  test('moves what came while it was at it, too', async () => {
    const world = await aWorld({ node1: [guest(1)] })
    world.nodes.beforeAct = () => {
      if (world.nodes.acts.length === 0) world.nodes.set('node1', ...world.nodes.domainsOf('node1'), guest(9))
    }
    expect((await on(world)).exit).toBe(0)
    expect(populations(world)[0]).toBe(0)
  })

  test('goes on with the others when one fails, says what is left, and goes on where it was', async () => {
    const world = await aWorld({ node1: guests })
    world.nodes.fail('node1', { status: 1, stderr: 'error: internal error: no' })
    const report = await on(world)
    expect(report.exit).toBe(4)
    expect(populations(world)[0]).toBe(1)
    expect(texts(report)).toMatch(
      /node1 is in maintenance, and not empty: guest\d still there: the same command goes on/,
    )
    expect(await on(world)).toMatchObject({ exit: 0 })
    expect(populations(world)[0]).toBe(0)
    expect((await ledger(world)).drained).toHaveLength(5)
  })

  test('goes round a target that falls silent, and is done when the node is empty', async () => {
    const world = await aWorld({ node1: [guest(1), guest(2), guest(3), guest(4)] })
    // Two looks for each of the two plans; then the moves look for themselves.
    let looks = 0
    world.nodes.beforeLook = () => {
      if (++looks === 5) world.nodes.silence('node2')
    }
    const report = await on(world)
    expect(world.nodes.domainsOf('node1')).toEqual([])
    expect(report.exit).toBe(0)
  })

  test('of a node that is empty and flagged says so, and does nothing', async () => {
    const world = await aWorld()
    await on(world)
    const again = await on(world, {}, false)
    expect(again).toMatchObject({ exit: 0, script: [] })
    expect(texts(again)).toContain('node1 is in maintenance and empty')
  })

  test('after Ctrl-C begins no other move, and asks once about all that are under way', async () => {
    const world = await aWorld({ node1: guests })
    world.interrupt.answer = false
    let pressed = false
    world.nodes.beforeAct = async line => {
      if (!line.includes('migrate')) return
      await world.clock.sleep(1000)
      if (!pressed) world.interrupt.press()
      pressed = true
    }
    const report = await on(world)
    expect(world.interrupt.questions).toEqual([
      'No other move is begun. End the 2 migrations under way? Their domains keep running where they are.',
    ])
    expect(populations(world)[0]).toBe(3)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('3 moves were not begun')
  })

  test('takes every bar away before it asks: they would be drawn over the question', async () => {
    const world = await aWorld({ node1: guests })
    const open = new Set<string>()
    const progress: Progress = {
      begin: label => {
        open.add(label)
        return { update: () => undefined, end: () => open.delete(label) }
      },
    }
    let openWhenAsked: string[] | undefined
    world.interrupt.confirmAbort = async () => {
      openWhenAsked = [...open]
      return false
    }
    let pressed = false
    world.nodes.beforeAct = async line => {
      if (!line.includes('migrate')) return
      await world.clock.sleep(1000)
      if (!pressed) expect([...open]).toHaveLength(3)
      if (!pressed) world.interrupt.press()
      pressed = true
    }
    await on({ ...world, progress })
    expect(openWhenAsked).toEqual([])
    expect([...open]).toEqual([])
  })

  test('says that a command may still be carried out there, and not that the node is empty', async () => {
    const world = await aWorld()
    const theirs = await world.claims.acquire({
      identity: { name: 'mail', uuid: uuidOf(7), disks: [] },
      verb: 'domain start mail',
    })
    if ('heldBy' in theirs) throw new Error('expected the claim')
    await theirs.claim.record
    const { token, generation } = theirs.claim.record
    await world.home.records.changeLedger('node1', each => ({
      ...each,
      reservations: [{ token, generation, uuid: uuidOf(7), domain: 'mail', memoryMiB: 1, vcpus: 1, by: 'us' }],
    }))
    const report = await on(world)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('a command for mail may still be carried out on node1')
    await theirs.claim.release()
  })
})

describe('what cannot be moved while running', () => {
  const stuck = { node1: [guest(1), guest(2, { state: 'paused' })] }

  test('keeps everything as it is until somebody chooses', async () => {
    const world = await aWorld(stuck)
    const report = await on(world)
    expect(report.exit).toBe(3)
    expect(texts(report)).toContain('guest2 is paused on node1, expected running')
    expect(texts(report)).toContain('choose: --shutdown shuts it down, --skip leaves it running there')
    expect(world.nodes.acts).toEqual([])
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('stays with --skip, which is told', async () => {
    const world = await aWorld(stuck)
    const report = await on(world, { skip: true })
    expect(report.exit).toBe(0)
    expect(world.nodes.domainsOf('node1').map(({ name }) => name)).toEqual(['guest2'])
    expect(texts(report)).toContain('not empty: guest2 still there')
  })

  test('is shut down with --shutdown, after the moves', async () => {
    const world = await aWorld(stuck)
    const report = await on(world, { shutdown: true })
    expect(report.exit).toBe(0)
    expect(world.nodes.acts.map(line => line.split(' ')[2])).toEqual(['migrate', 'shutdown'])
    expect(await ledger(world)).toMatchObject({ drained: [{ domain: 'guest1' }, { domain: 'guest2', stopped: true }] })
  })

  test('two ways at once are wrong usage', async () => {
    expect((await on(await aWorld(), { skip: true, shutdown: true })).exit).toBe(2)
  })
})

test('what finds no room any more since a node fell silent is not shut down: nobody was shown that', async () => {
  const big = [1, 2].map(number =>
    aDomainOnNode({}, aDomain({ name: `big${number}`, uuid: uuidOf(number), memoryMiB: 6144, disks: [] })),
  )
  const world = await aWorld({ node1: big })
  let looks = 0
  world.nodes.beforeLook = () => {
    if (++looks === 5) world.nodes.silence('node2')
  }
  const report = await on(world, { shutdown: true })
  expect(world.nodes.acts.filter(line => line.includes('shutdown'))).toEqual([])
  expect(report.exit).toBe(4)
  expect(populations(world)[0]).toBe(1)
})

test('of two nodes that are drained together, each brings back its own', async () => {
  const world = await aWorld({ node1: [guest(1)], node2: [guest(2)], node3: [] })
  await on(world, {}, true, ['node1', 'node2'])
  expect((await ledger(world)).drained?.map(({ domain }) => domain)).toEqual(['guest1'])
  expect((await world.home.records.ledger('node2')).drained?.map(({ domain }) => domain)).toEqual(['guest2'])
  expect((await off(world, { return: true })).exit).toBe(0)
  expect(world.nodes.domainsOf('node1').map(({ name }) => name)).toEqual(['guest1'])
})

test('a store that fails under one move lets the others end, and is told', async () => {
  const world = await aWorld({ node1: guests })
  let taken = 0
  const acquire = world.claims.acquire.bind(world.claims)
  world.claims.acquire = (...args) => {
    if (++taken === 2) throw new StoreError('the share is gone', 'mount it')
    return acquire(...args)
  }
  const report = await on(world)
  expect(texts(report)).toContain('the share is gone: mount it')
  expect(texts(report)).toContain('3 moves were not begun')
  expect(report.exit).toBe(5)
  expect(populations(world)[0]).toBe(4)
})

test('a node that could not say which QEMUs run there is not called empty', async () => {
  const world = await aWorld({ node1: [] })
  world.nodes.more.set('node1', { inquiryProblem: 'ssh said no' })
  const report = await on(world)
  expect(report.exit).toBe(4)
  expect(texts(report)).not.toContain('and empty')
  expect(texts(report)).toContain('node1 could not say which QEMUs run there: ssh said no')
})

describe('the way back', () => {
  test('forgets nothing while a node is silent', async () => {
    const world = await aWorld({ node1: [guest(1)] })
    await on(world)
    const holder = ['node2', 'node3'].find(node => world.nodes.domainsOf(node).length > 0) ?? ''
    world.nodes.silence(holder)
    const report = await off(world, { return: true })
    expect(report.exit).toBe(4)
    expect(texts(report)).not.toContain('is back')
    expect((await ledger(world)).drained).toHaveLength(1)
    world.nodes.answerAgain(holder)
    expect((await off(world, { return: true })).exit).toBe(0)
    expect(world.nodes.domainsOf('node1')).toHaveLength(1)
  })

  test('is shown first, then made; and the node receives again', async () => {
    const world = await aWorld({ node1: guests })
    await on(world)
    const shown = await off(world, { return: true }, false)
    expect(shown.script?.[0]).toBe('# (havirt itself: record that node1 is no longer in maintenance)')
    expect(shown.script?.filter(line => line.includes('migrate --live'))).toHaveLength(5)
    const report = await off(world, { return: true })
    expect(report.exit).toBe(0)
    expect(populations(world)).toEqual([5, 0, 0])
    expect(texts(report)).toContain('everything that was taken away from node1 is back')
    expect(await ledger(world)).not.toHaveProperty('drained')
    expect(await ledger(world)).not.toHaveProperty('maintenance')
    expect(texts(await off(world, { return: true }))).toContain('nothing to do')
  })

  test('can be taken later, after a plain maintenanceoff', async () => {
    const world = await aWorld({ node1: guests })
    await on(world)
    expect(texts(await off(world))).toContain('to bring it back: havirt node maintenanceoff node1 --return')
    expect(populations(world)[0]).toBe(0)
    expect((await off(world, { return: true })).exit).toBe(0)
    expect(populations(world)[0]).toBe(5)
  })

  test('that fails for one is tried again by the same command, for that one', async () => {
    const world = await aWorld({ node1: [guest(1), guest(2)] })
    await on(world)
    const holder = ['node2', 'node3'].find(node => world.nodes.domainsOf(node).length > 0) ?? ''
    world.nodes.fail(holder, { status: 1, stderr: 'error: no' })
    expect((await off(world, { return: true })).exit).not.toBe(0)
    expect((await ledger(world)).drained).toHaveLength(1)
    expect((await off(world, { return: true })).exit).toBe(0)
    expect(populations(world)[0]).toBe(2)
  })

  test('starts what was shut down', async () => {
    const world = await aWorld({ node1: [guest(2, { state: 'paused' })] })
    await writeFile(join(world.definitionsFolder, 'guest2.xml'), definitionXml('guest2', uuidOf(2)))
    await on(world, { shutdown: true })
    expect(populations(world)[0]).toBe(0)
    expect((await off(world, { return: true })).exit).toBe(0)
    expect(world.nodes.domainsOf('node1').map(({ name }) => name)).toEqual(['guest2'])
  })

  test('a new drain forgets what an earlier one took away', async () => {
    const world = await aWorld({ node1: guests })
    await on(world)
    await off(world)
    await on(world)
    expect((await ledger(world)).drained ?? []).toEqual([])
  })
})
