/** A node that somebody vouches is off: a start relies on it, a fence device is asked once more, and an answer ends it. */
import { describe, expect, test, vi } from 'vitest'
import type { Down } from '../src/core/ledger.ts'
import { MAIL_UUID, shutOff } from './core/builders.ts'
import { exit } from './fake-nodes.ts'
import { act, reasons, reboot, resume, show, start, startAnywhere, stop, texts } from './verbs.ts'
import { aWorld, type World, web } from './world.ts'

const devices = vi.hoisted(() => new Set<string>())
vi.mock('../src/core/fence.ts', async actual => ({
  ...(await actual<typeof import('../src/core/fence.ts')>()),
  fenceDeviceOf: (_: unknown, node: string) =>
    devices.has(node) ? { node, agent: 'fence_ipmilan', parameters: {}, secrets: {} } : undefined,
}))

/** node3 does not answer, and was called down. */
async function aCalledDown(how: Down['how'], more: Partial<Down> = {}, domains: Parameters<typeof aWorld>[0] = {}) {
  const world = await aWorld(domains)
  world.nodes.silence('node3')
  for (const node of ['node2', 'node3']) world.nodes.powerless.add(node)
  devices.clear()
  devices.add('node3')
  const down = { by: 'ops@node9 (pid 7)', since: '2026-01-01T00:00:00.000Z', how, ...more }
  await world.home.records.changeLedger('node3', ledger => ({ ...ledger, down }))
  return world
}

const down = async (world: World) => (await world.home.records.ledger('node3')).down
const fences = (world: World) => world.nodes.log.filter(line => line.startsWith('fence_'))
const paused = { node1: [web({ state: 'paused' })] }

describe('a node that is confirmed down', () => {
  test('by a word: a start goes on, and nobody is asked', async () => {
    const world = await aCalledDown('word')
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(fences(world)).toEqual([])
    expect(await down(world)).toMatchObject({ how: 'word' })
  })

  test('it receives nothing', async () => {
    const world = await aCalledDown('word')
    expect(reasons(await act(world, start('node3')))).toEqual(['unreachable'])
  })

  test('another node that is silent refuses all the same', async () => {
    const world = await aCalledDown('word')
    world.nodes.silence('node2')
    expect(await act(world, start())).toMatchObject({ exit: 3, refusals: [{ node: 'node2' }] })
  })

  test('one that answered since refuses: it may be running anything', async () => {
    const world = await aCalledDown('word', { answered: true })
    expect(await act(world, start())).toMatchObject({ exit: 3, refusals: [{ reason: 'unreachable', node: 'node3' }] })
    expect(world.nodes.acts).toEqual([])
  })

  test('a dry run shows the start, and asks no device', async () => {
    const world = await aCalledDown('fence')
    expect(await show(world, start())).toMatchObject({ exit: 0 })
    expect(fences(world)).toEqual([])
  })
})

describe('a node that was fenced', () => {
  test.each([
    ['a start', start(), {}],
    ['letting run on', resume, paused],
  ])('%s asks its device once more, after the looks; off: it goes on', async (_, change, domains) => {
    const world = await aCalledDown('fence', {}, domains)
    expect(await act(world, change)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.slice(-2)[0]).toBe('fence_ipmilan status node3')
    expect(await down(world)).toMatchObject({ how: 'fence' })
  })

  test.each([
    ['on', exit(0, '', 'Status: ON'), 'the power is on'],
    ['that it cannot tell', exit(1, 'Failed: Unable to connect'), 'Failed: Unable to connect'],
    ['nothing', exit(0), 'it ended with status 0'],
    ['nothing in time', { ...exit(0), status: undefined, timedOut: true }, 'it did not end in time'],
  ])('its device says %s: refused, and nothing relies on it any more', async (_, answer, said) => {
    for (const [change, domains] of [
      [start(), {}],
      [resume, paused],
    ] as const) {
      const world = await aCalledDown('fence', {}, domains)
      world.nodes.power.set('node3', answer)
      const report = await act(world, change)
      expect(report.refusals).toEqual([{ reason: 'fenceLapsed', node: 'node3', said }])
      expect(world.nodes.acts).toEqual([])
      expect(await down(world)).toBeUndefined()
      expect(await world.claim()).toMatchObject({ state: 'released' })
      expect(reasons(await act(world, change))).toEqual(['unreachable'])
    }
  })

  test('one whose device is not configured any more counts as unknown', async () => {
    const world = await aCalledDown('fence')
    devices.clear()
    const report = await act(world, start())
    expect(report.refusals).toMatchObject([{ reason: 'fenceLapsed', said: 'config.yaml names none any more' }])
    expect(await down(world)).toBeUndefined()
  })

  test('what gives life to nothing does not ask', async () => {
    for (const change of [stop(), reboot]) {
      const world = await aCalledDown('fence', {}, { node1: [web()] })
      world.nodes.power.set('node3', exit(0))
      expect(await act(world, change)).toMatchObject({ exit: 0 })
      expect(fences(world)).toEqual([])
    }
  })

  test('a refused start does not ask', async () => {
    const world = await aCalledDown('fence', {}, { node2: [web()] })
    expect(await act(world, start())).toMatchObject({ exit: 3 })
    expect(fences(world)).toEqual([])
  })

  test('every fenced node is asked, and only the one that came back lapses', async () => {
    const world = await aCalledDown('fence')
    world.nodes.silence('node2')
    devices.add('node2')
    const mark = await down(world)
    await world.home.records.changeLedger('node2', ledger => (mark ? { ...ledger, down: mark } : ledger))
    world.nodes.power.set('node3', exit(0))
    expect(await act(world, start())).toMatchObject({ refusals: [{ reason: 'fenceLapsed', node: 'node3' }] })
    expect(fences(world).sort()).toEqual(['fence_ipmilan status node2', 'fence_ipmilan status node3'])
    expect((await world.home.records.ledger('node2')).down).toMatchObject({ how: 'fence' })
  })
})

describe('a node that was called down and answers', () => {
  test('a start takes it for any other node, and it is forgotten', async () => {
    const world = await aCalledDown('word')
    world.nodes.answerAgain('node3')
    expect(await act(world, start('node3'))).toMatchObject({ exit: 0 })
    expect(await down(world)).toBeUndefined()
  })

  test('while something runs there and elsewhere it receives nothing, and vouches for nothing', async () => {
    const other = shutOff({
      name: 'mail',
      uuid: MAIL_UUID,
      state: 'running',
      active: true,
    })
    const world = await aCalledDown('word', {}, { node1: [other], node3: [other] })
    world.nodes.answerAgain('node3')
    const report = await act(world, start('node3'))
    expect(reasons(report)).toEqual(['returned'])
    expect(texts(report)).toContain('confirmed it down')
    expect(await down(world)).toMatchObject({ answered: true })
    // Another node may be used meanwhile, and is chosen.
    expect(await act(world, startAnywhere)).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual(['act node2 create /dev/stdin'])
  })

  test('what answers is not relied upon, so no fence device is asked about it', async () => {
    const other = shutOff({ name: 'mail', uuid: MAIL_UUID, state: 'running', active: true })
    const world = await aCalledDown('fence', {}, { node1: [other], node3: [other] })
    world.nodes.answerAgain('node3')
    world.nodes.power.set('node3', exit(0))
    expect(await act(world, start('node2'))).toMatchObject({ exit: 0 })
    expect(fences(world)).toEqual([])
  })

  test('one that answers in the second look is not down any more, and what runs there counts', async () => {
    for (const change of [start(), resume]) {
      const world = await aCalledDown('word', {}, { node3: [web()], ...(change === resume ? paused : {}) })
      let looks = 0
      world.nodes.beforeLook = () => ++looks === 2 && world.nodes.answerAgain('node3')
      const report = await act(world, change)
      expect(report).toMatchObject({ exit: 3 })
      expect(world.nodes.acts).toEqual([])
    }
  })

  test('one that stays silent is asked twice only by what gives life to something', async () => {
    const started = await aCalledDown('word')
    await act(started, start())
    expect(started.nodes.log.slice(0, 2)).toEqual(['look node1 node2 node3', 'look node1 node2 node3'])
    const stopped = await aCalledDown('word', {}, { node1: [web()] })
    await act(stopped, stop())
    expect(stopped.nodes.log.slice(0, 2)).toEqual(['look node1 node2 node3', 'look node1 node2'])
  })

  test('one that answers before the first look is looked at like any other', async () => {
    const world = await aCalledDown('word', {}, { node3: [web()] })
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 1 && world.nodes.answerAgain('node3')
    expect(reasons(await act(world, start()))).toEqual(['present'])
    expect(await down(world)).toBeUndefined()
  })
})
