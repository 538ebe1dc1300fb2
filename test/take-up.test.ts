/** What a dead holder of a claim left behind: each broken migration, commands in doubt, nodes that are down or gone. */
import { describe, expect, test } from 'vitest'
import type { End } from '../src/core/migration.ts'
import { type Step, step } from '../src/core/step.ts'
import type { ClaimRequest } from '../src/store/claims.ts'
import { aDomainOnNode, MAIL_UUID, WEB_UUID } from './core/builders.ts'
import { act, outcomes, reasons, reboot, resume, show, start, startAnywhere, stop, texts } from './verbs.ts'
import { aWorld, holdClaim, type World, web } from './world.ts'

const OPTIONS = {
  desturi: 'qemu+ssh://node2/system',
  autoConverge: false,
  postCopy: false,
  unsafe: false,
  persistent: false,
}
const MOVE = step('migrateDomain', { domain: 'web', uuid: WEB_UUID, from: 'node1', to: 'node2', options: OPTIONS })
const CREATE = (node: string) =>
  step('createDomain', { domain: 'web', uuid: WEB_UUID, node, definition: 'conf/web.xml', sha256: 'x' })
const running: End = { state: 'running', stateReason: 1 }
const waiting: End = { state: 'paused', stateReason: 2 }
const RAISED = (log: readonly string[]) => log.filter(line => line.startsWith('raise'))
const DOWN = { by: 'ops@node9 (pid 7)', since: '2026-01-01T00:00:00.000Z', how: 'word' } as const

const NO_MORE = { notBegun: [] }

/** ann died while she carried out this, before she saw its end. */
async function leave(world: World, node: string, one: Step | undefined, notBegun: readonly string[] = [], dead = true) {
  const claim = await holdClaim(world, { dead: true, verb: 'domain migrate web node2' })
  await claim.about(node, `the command of ${one?.step}`, one === undefined ? undefined : { step: one, notBegun })
  if (!dead) await claim.release()
}

function ends(world: World, source: End, target: End): void {
  for (const [node, end] of [
    ['node1', source],
    ['node2', target],
  ] as const)
    world.nodes.set(node, ...(end === 'absent' ? [] : [web(end)]))
}

const states = (world: World) => ['node1', 'node2'].map(node => world.nodes.domainsOf(node).map(({ state }) => state))
const acts = (world: World) => world.nodes.acts.map(line => line.split(' ').slice(0, 3).join(' '))

describe('a migration that a dead holder left', () => {
  test.each<[string, End, End, number, string, string[], string[][]]>([
    [
      'it moved: that is said, and the rest goes on',
      'absent',
      running,
      0,
      'done',
      ['act node2 reboot'],
      [[], ['running']],
    ],
    [
      'it stayed: that is said, and the rest goes on',
      running,
      'absent',
      0,
      'failed',
      ['act node1 reboot'],
      [['running'], []],
    ],
    [
      'the target waits and never ran: it is destroyed',
      running,
      waiting,
      0,
      'failed',
      ['act node2 destroy', 'act node1 reboot'],
      [['running'], []],
    ],
    [
      'the source waits paused: it is destroyed',
      waiting,
      running,
      0,
      'done',
      ['act node1 destroy', 'act node2 reboot'],
      [[], ['running']],
    ],
    [
      'both wait: the target is destroyed and the source runs on',
      waiting,
      waiting,
      0,
      'failed',
      ['act node2 destroy', 'act node1 resume', 'act node1 reboot'],
      [['running'], []],
    ],
    ['it ended on the way: nothing is touched', 'absent', 'absent', 3, 'failed', [], [[], []]],
    ['it runs twice: nothing is touched', running, running, 6, 'unknown', [], [['running'], ['running']]],
    [
      'a post-copy broke: nothing is touched',
      { state: 'paused', stateReason: 13 },
      running,
      5,
      'unknown',
      [],
      [['paused'], ['running']],
    ],
    [
      'somebody paused the target: nothing is touched',
      running,
      { state: 'paused', stateReason: 1 },
      5,
      'unknown',
      [],
      [['running'], ['paused']],
    ],
  ])('%s', async (_, source, target, exit, outcome, sent, left) => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE, ['let it run on'])
    ends(world, source, target)
    const report = await act(world, reboot)
    expect(report.exit).toBe(exit)
    expect(acts(world)).toEqual(sent)
    expect(states(world)).toEqual(left)
    expect(texts(report)).toContain('took over the claim of ann@node9 (pid 7), which gave no sign of life')
    expect(texts(report)).toContain(
      'left half done on node1: move web from node1 to node2 while it runs; not begun: let it run on',
    )
    expect(texts(report)).toContain(`move web from node1 to node2 while it runs: ${outcome}`)
    for (const each of sent.filter(line => line.includes('destroy')))
      expect(texts(report)).toContain(`kill web on ${each.split(' ')[1]} at once, as if its power were cut: done`)
    // The guard is above the dead one before anything is touched.
    expect(world.nodes.log[0]).toBe('raise node1 2')
    if (exit > 4) expect(texts(report)).toMatch(/node1.*node2/)
    if (exit > 4) expect(report.results).toBeUndefined()
    expect((await world.claim())?.doubts).toHaveLength(exit > 4 ? 1 : 0)
  })

  test('one that a person has to put right is judged again by whoever comes next', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, running)
    expect(await act(world, reboot)).toMatchObject({ exit: 6 })
    ends(world, running, 'absent')
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('while it goes on nothing is planned: refused, with how far it is and what to do', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    world.nodes.job = () => ({ type: 2, left: 60 })
    const report = await act(world, reboot)
    expect(report).toMatchObject({
      exit: 3,
      refusals: [{ reason: 'migrating', domain: 'web', from: 'node1', to: 'node2', percent: 40 }],
    })
    expect(texts(report)).toContain('--wait SECONDS')
    expect(world.nodes.log).toEqual([])
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node1' }] })
  })

  test.each([1, 2])('a job of type %i goes on', async type => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    world.nodes.job = () => type
    expect(await act(world, reboot)).toMatchObject({ refusals: [{ reason: 'migrating', percent: undefined }] })
  })

  test('with --wait it is waited for, and then the rest is done', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    world.nodes.job = () => {
      if (world.clock.ms < 50_000) return 2
      ends(world, 'absent', running)
      return undefined
    }
    const report = await act(world, reboot, 60_000)
    expect(report).toMatchObject({ exit: 0 })
    expect(acts(world)).toEqual(['act node2 reboot'])
    expect(world.clock.ms).toBeGreaterThanOrEqual(50_000)
    // Under one claim all the while.
    expect(await world.claim()).toMatchObject({ state: 'released', generation: 2, doubts: [] })
  })

  test('with --wait that is too short it is refused, and not before the time is up', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE, [], false)
    ends(world, running, waiting)
    world.nodes.job = () => 2
    expect(reasons(await act(world, reboot, 20_000))).toEqual(['migrating'])
    expect(world.clock.ms).toBeGreaterThanOrEqual(20_000)
    expect(world.clock.ms).toBeLessThan(22_000)
    expect(world.nodes.acts).toEqual([])
  })

  test('Ctrl-C ends the wait for it, and nothing is planned', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE, [], false)
    ends(world, running, waiting)
    world.nodes.job = () => {
      world.interrupt.stopped = world.clock.ms > 3000
      return 2
    }
    expect(reasons(await act(world, reboot, 60_000))).toEqual(['migrating'])
    expect(world.clock.ms).toBeLessThan(5000)
  })

  test('a stop does not wait for it: it is ended once, past its lock, and the source stopped', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    let polls = 0
    world.nodes.job = () => {
      const ended = acts(world).length > 0 && ++polls > 3
      if (ended) ends(world, running, 'absent')
      return ended ? undefined : 2
    }
    const report = await act(world, stop())
    expect(report).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual([`act node1 domjobabort ${WEB_UUID} (nolock)`, `act node1 destroy ${WEB_UUID}`])
    expect(states(world)).toEqual([[], []])
    expect(texts(report)).toContain('web still runs on node1')
  })

  test('a stop of one that moved before it could be ended stops the target', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    world.nodes.job = () => {
      if (acts(world).length === 0) return 2
      ends(world, 'absent', running)
      return undefined
    }
    expect(await act(world, stop())).toMatchObject({ exit: 0 })
    expect(acts(world)).toEqual(['act node1 domjobabort', 'act node2 destroy'])
  })

  test('one whose command came late and began it anew is waited for behind the raised guard', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, 'absent')
    let polls = 0
    world.nodes.job = () => {
      if (RAISED(world.nodes.log).length === 0) return undefined
      if (++polls < 4) return 2
      ends(world, 'absent', running)
      return undefined
    }
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(acts(world)).toEqual(['act node2 reboot'])
  })

  test('while its command still holds the guard, its source counts as unknown', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, waiting, waiting)
    world.nodes.locked.add('node1')
    const report = await act(world, start('node3'))
    expect(report.exit).toBe(3)
    expect(reasons(report)).toContain('unreachable')
    expect(acts(world)).toEqual([])
    expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node1' }] })
  })

  test.each(['node1', 'node2'])('while %s is silent nothing is judged, and nothing is started', async node => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, waiting, waiting)
    world.nodes.silence(node)
    const report = await act(world, startAnywhere)
    expect(report.exit).toBe(3)
    expect(reasons(report)).toContain('unreachable')
    expect(acts(world)).toEqual([])
    expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node1' }] })
  })

  test.each(['node1', 'node2'])(
    'while %s falls silent behind the raised guard, the source counts as unknown',
    async node => {
      const world = await aWorld()
      await leave(world, 'node1', MOVE)
      ends(world, waiting, waiting)
      const raise = world.nodes.raise.bind(world.nodes)
      world.nodes.raise = async (...args) => {
        const done = await raise(...args)
        world.nodes.silence(node)
        return done
      }
      const report = await act(world, startAnywhere)
      expect(report.exit).toBe(3)
      expect(report.refusals).toContainEqual(
        expect.objectContaining({ reason: 'unreachable', node: 'node1', state: 'busy' }),
      )
      expect(acts(world)).toEqual([])
      expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node1' }] })
    },
  )

  test('a source that does not say whether its job is over counts as unknown', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, waiting, waiting)
    world.nodes.job = () => 'silent'
    expect(reasons(await act(world, startAnywhere))).toContain('unreachable')
    expect(acts(world)).toEqual([])
  })

  test('one whose mending fails is left for a person, and judged again by whoever comes next', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, waiting)
    world.nodes.fail('node2', { status: 1 })
    expect(await act(world, reboot)).toMatchObject({ exit: 5 })
    expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node1' }] })
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(states(world)).toEqual([['running'], []])
  })

  test('what begins to run on the target as it is about to be destroyed is left alone, and the source never runs on', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, waiting, waiting)
    world.nodes.beforeAct = async line => {
      if (line.startsWith('destroy')) ends(world, waiting, running)
    }
    expect(await act(world, reboot)).toMatchObject({ exit: 5 })
    expect(states(world)).toEqual([['paused'], ['running']])
    // It ends by itself: nothing says any more that the source has its last state.
    ends(world, waiting, 'absent')
    world.nodes.beforeAct = async () => undefined
    expect(await act(world, reboot)).toMatchObject({ exit: 5 })
    expect(states(world)).toEqual([['paused'], []])
    expect(acts(world)).toEqual(['act node2 destroy'])
  })

  test('it is judged before any other command that was left on its node', async () => {
    for (const first of [true, false]) {
      const world = await aWorld()
      const claim = await holdClaim(world, { dead: true })
      const doubts = [
        () => claim.about('node1', 'migrate', { step: MOVE, ...NO_MORE }),
        () => claim.about('node1', 'domjobabort'),
      ]
      for (const doubt of first ? doubts : doubts.reverse()) await doubt()
      ends(world, running, waiting)
      expect(await act(world, reboot)).toMatchObject({ exit: 0 })
      expect(acts(world)).toEqual(['act node2 destroy', 'act node1 reboot'])
    }
  })

  test('one to a machine that is no node any more: the source is guarded, and what it shows counts', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    await world.home.records.removeNode('node2')
    world.nodes.set('node1', web())
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(RAISED(world.nodes.log)).toEqual(['raise node1 2'])
  })

  test('a dry run touches nothing and says what would be found out first', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    ends(world, running, 'absent')
    const report = await show(world, reboot)
    expect(report).toMatchObject({ exit: 0 })
    expect(texts(report)).toContain(
      'with -y havirt first finds out what became of a command of ann@node9 (pid 7) on node1',
    )
    expect(world.nodes.log.filter(line => !line.startsWith('look'))).toEqual([])
    expect(await world.claim()).toMatchObject({ state: 'held', generation: 1 })
  })
})

describe('commands in doubt', () => {
  test('one guard is raised for all that were left on a node, and one on each node', async () => {
    const world = await aWorld()
    const claim = await holdClaim(world, { dead: true })
    for (const node of ['node2', 'node1', 'node2']) await claim.about(node, 'virsh')
    const report = await act(world, start())
    expect(report).toMatchObject({ exit: 0 })
    expect(RAISED(world.nodes.log)).toEqual(['raise node2 2', 'raise node1 2'])
    expect(texts(report)).toContain('left half done on node2: virsh')
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('one that was cut off under a claim that was released is told of without a take-over', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'), [], false)
    const report = await act(world, start())
    expect(texts(report)).toContain('an earlier command on web was cut off before its end was seen')
    expect(texts(report)).toContain('left half done on node2: start web on node2:')
    expect(texts(report)).not.toContain('not begun')
    expect(texts(report)).not.toContain('took over')
  })

  test('nothing is said where nothing was left', async () => {
    expect((await act(await aWorld(), start())).messages).toEqual([])
  })

  test('one on a machine that is no node any more refuses a start: nobody looks there', async () => {
    for (const change of [start(), resume]) {
      const world = await aWorld(change === resume ? { node1: [web({ state: 'paused' })] } : {})
      await leave(world, 'node2', CREATE('node2'))
      await world.home.records.removeNode('node2')
      const report = await act(world, change)
      expect(report).toMatchObject({ exit: 3, refusals: [{ reason: 'unreachable', node: 'node2' }] })
      expect(world.nodes.acts).toEqual([])
      expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node2' }] })
    }
  })

  test('the same does not keep what runs from being stopped', async () => {
    const world = await aWorld({ node1: [web()] })
    await leave(world, 'node2', CREATE('node2'))
    await world.home.records.removeNode('node2')
    expect(await act(world, stop())).toMatchObject({ exit: 0 })
  })
})

describe('commands in doubt on a node that is confirmed down', () => {
  const called = (world: World, more: object = {}) =>
    world.home.records.changeLedger('node2', ledger => ({ ...ledger, down: { ...DOWN, ...more } }))

  test('they are parked, the start goes on, and whoever comes when the node is back raises its guard', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'))
    world.nodes.silence('node2')
    await called(world)
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node2', parked: true }] })

    world.nodes.answerAgain('node2')
    world.nodes.log.length = 0
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(RAISED(world.nodes.log)).toEqual(['raise node2 3'])
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('they are parked although a renewal of the claim is under way at that moment', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'), [], false)
    world.nodes.silence('node2')
    await called(world)
    const swap = world.store.swap.bind(world.store)
    world.store.swap = async (key, expected, text) => {
      // Renewals come every 5 s and take 1 s; the guard is given up in the middle of one.
      if (world.clock.ms === 5000) await world.clock.sleep(1000)
      return swap(key, expected, text)
    }
    const raise = world.nodes.raise.bind(world.nodes)
    world.nodes.raise = async (...args) => {
      await world.clock.sleep(5500)
      return raise(...args)
    }
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node2', parked: true }] })
  })

  test('what is parked keeps nobody from its disks', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'))
    world.nodes.silence('node2')
    await called(world)
    expect(await act(world, stop())).toMatchObject({ exit: 3 })
    const identity: ClaimRequest['identity'] = { name: 'web', uuid: MAIL_UUID, disks: [] }
    expect(await world.claims.acquire({ identity, verb: 'v' })).toHaveProperty('claim')
  })

  test('a migration whose source is down is parked, too: nobody can judge it, and what the target shows counts', async () => {
    const world = await aWorld()
    const down = step('migrateDomain', { ...MOVE, from: 'node2', to: 'node1' } as never)
    await leave(world, 'node2', down)
    world.nodes.set('node1', web())
    world.nodes.silence('node2')
    await called(world)
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node2', parked: true }] })
  })

  test('a migration whose target is down is judged without it: what the source shows is all there is', async () => {
    const world = await aWorld()
    await leave(world, 'node1', MOVE)
    world.nodes.set('node1', web())
    world.nodes.silence('node2')
    await called(world)
    expect(await act(world, reboot)).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('one that answered since vouches for nothing: it counts as unknown', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'))
    world.nodes.silence('node2')
    await called(world, { answered: true })
    expect(reasons(await act(world, start()))).toEqual(['unreachable'])
    const [doubt] = (await world.claim())?.doubts ?? []
    expect(doubt).not.toHaveProperty('parked')
  })

  test('one that answers while the command still holds its guard there counts as unknown, whoever called it down', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'))
    world.nodes.locked.add('node2')
    await called(world)
    const report = await act(world, start())
    expect(report.refusals).toMatchObject([{ reason: 'unreachable', state: 'busy', node: 'node2' }])
    expect(texts(report)).toContain('may still be carried out there')
    expect(world.nodes.acts).toEqual([])
    // Nor is it parked, or others would pass it over.
    const [doubt] = (await world.claim())?.doubts ?? []
    expect(doubt).not.toHaveProperty('parked')
  })

  test('one that begins to answer after its guard could not be raised counts as unknown', async () => {
    const world = await aWorld()
    await leave(world, 'node2', CREATE('node2'))
    world.nodes.silence('node2')
    await called(world)
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 1 && world.nodes.answerAgain('node2')
    const report = await act(world, start())
    expect(reasons(report)).toEqual(['unreachable'])
    expect(world.nodes.acts).toEqual([])
  })
})

describe("another domain's dead claim that left a command in doubt on our disk", () => {
  /** mail had the disk of web when ann died over it. */
  async function mailLeft(world: World, node: string, one?: Step): Promise<void> {
    const { domain } = (await world.home.definitions.read('web')) ?? {}
    const identity = { name: 'mail', uuid: MAIL_UUID, disks: domain?.disks ?? [] }
    const claim = await holdClaim(world, { dead: true, identity, verb: 'domain start mail' })
    await claim.about(node, 'virsh create /dev/stdin', one === undefined ? undefined : { step: one, ...NO_MORE })
    await claim.release()
  }
  const mailMove = step('migrateDomain', { ...MOVE, domain: 'mail', uuid: MAIL_UUID } as never)

  test('it is settled first, and then ours goes on', async () => {
    const world = await aWorld()
    await mailLeft(world, 'node2')
    expect(await act(world, start())).toMatchObject({ exit: 0 })
    expect(world.nodes.log[0]).toBe('raise node2 2')
    expect(await world.claim(MAIL_UUID)).toMatchObject({ state: 'released', generation: 2, doubts: [] })
  })

  test('while it cannot be settled we are refused, and nothing is sent', async () => {
    const world = await aWorld()
    await mailLeft(world, 'node2')
    world.nodes.locked.add('node2')
    const report = await act(world, start())
    expect(report).toMatchObject({ exit: 3 })
    expect(texts(report)).toContain('may still be carried out on node2')
    expect(world.nodes.acts).toEqual([])
    expect(await world.claim(MAIL_UUID)).toMatchObject({ state: 'released', doubts: [{ node: 'node2' }] })
  })

  test('the same while its migration goes on; once it is over, ours goes on', async () => {
    const world = await aWorld()
    await mailLeft(world, 'node1', mailMove)
    world.nodes.job = () => 2
    expect(await act(world, start('node3'))).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
    world.nodes.job = () => undefined
    expect(await act(world, start('node3'))).toMatchObject({ exit: 0 })
  })

  test('its broken migration that runs twice is for a person: we are refused', async () => {
    const world = await aWorld()
    const mail = aDomainOnNode({ name: 'mail', uuid: MAIL_UUID })
    world.nodes.set('node1', mail)
    world.nodes.set('node2', mail)
    await mailLeft(world, 'node1', mailMove)
    expect(await act(world, start('node3'))).toMatchObject({ exit: 6 })
    expect(world.nodes.acts).toEqual([])
  })

  test('somebody who works on it is waited out, and then refuses', async () => {
    const world = await aWorld()
    await mailLeft(world, 'node2')
    world.nodes.locked.add('node2')
    const identity = { name: 'mail', uuid: MAIL_UUID, disks: [] }
    await holdClaim(world, { identity, user: 'bob', verb: 'domain start mail' })
    const report = await act(world, start())
    expect(reasons(report)).toEqual(['claimed'])
    expect(texts(report)).toContain('bob')
    expect(outcomes(report)).toBeUndefined()
  })
})
