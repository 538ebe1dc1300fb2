/** `--wait`: what passes by itself is waited for, within the time given; what does not is refused at once. */
import { describe, expect, test } from 'vitest'
import { act, reasons, show, start, startAnywhere, stop } from './verbs.ts'
import { aWorld, holdClaim, web } from './world.ts'

describe('--wait', () => {
  test('a claim of a holder that lives and ends in time', async () => {
    const world = await aWorld()
    const theirs = await holdClaim(world)
    void world.clock.sleep(40_000).then(() => theirs.release())
    expect(await act(world, start(), 60_000)).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeGreaterThanOrEqual(40_000)
    expect(world.clock.ms).toBeLessThan(42_000)
  })

  test('one that does not end in time refuses when the time is up', async () => {
    const world = await aWorld()
    await holdClaim(world)
    expect(reasons(await act(world, start(), 60_000))).toEqual(['claimed'])
    // A sign of life comes every 5 s.
    expect(world.clock.ms).toBeGreaterThanOrEqual(60_000)
    expect(world.clock.ms).toBeLessThanOrEqual(66_000)
    expect(world.nodes.log).toEqual([])
  })

  test('without it a sign of life refuses', async () => {
    const world = await aWorld()
    await holdClaim(world)
    expect(reasons(await act(world, start()))).toEqual(['claimed'])
    expect(world.clock.ms).toBeLessThanOrEqual(6000)
  })

  test('a holder that dies while it is waited for is taken over', async () => {
    const world = await aWorld()
    await holdClaim(world, { dead: true })
    expect(await act(world, start(), 300_000)).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeLessThan(32_000)
  })

  test('a domain that keeps changing and comes to rest', async () => {
    const world = await aWorld()
    world.nodes.moves = 12
    expect(await act(world, start(), 30_000)).toMatchObject({ exit: 0 })
  })

  test('one that never comes to rest is refused when the time is up', async () => {
    const world = await aWorld()
    world.nodes.moves = 100_000
    expect(reasons(await act(world, start(), 30_000))).toEqual(['changing'])
    expect(world.clock.ms).toBeGreaterThan(28_000)
    expect(world.clock.ms).toBeLessThanOrEqual(32_000)
  })

  test('what does not pass by itself is refused at once', async () => {
    const world = await aWorld({ node2: [web()] })
    expect(await act(world, start(), 60_000)).toMatchObject({ exit: 3 })
    expect(world.clock.ms).toBe(0)
    const silent = await aWorld()
    silent.nodes.silence('node3')
    expect(reasons(await act(silent, startAnywhere, 60_000))).toEqual(['unreachable'])
    expect(silent.clock.ms).toBe(0)
  })

  test('what is already so is not waited for', async () => {
    const world = await aWorld()
    expect(reasons(await act(world, stop(), 60_000))).toEqual(['alreadyOff'])
    expect(world.clock.ms).toBe(0)
  })

  test('a failure is not tried again', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', { status: 1 }, { status: 0 })
    expect(await act(world, start(), 60_000)).toMatchObject({ exit: 1 })
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('Ctrl-C ends the waiting', async () => {
    const world = await aWorld()
    world.nodes.moves = 100_000
    world.nodes.beforeLook = () => {
      world.interrupt.stopped = world.clock.ms > 5000
    }
    expect(reasons(await act(world, start(), 60_000))).toEqual(['changing'])
    expect(world.clock.ms).toBeLessThan(10_000)
  })

  test('a dry run does not wait', async () => {
    const world = await aWorld()
    world.nodes.moves = 100_000
    expect(reasons(await show(world, start()))).toEqual(['changing'])
    expect(world.clock.ms).toBeLessThan(3000)
  })
})
