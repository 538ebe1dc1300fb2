/** Steps as they are carried out: written down first, their precondition looked at again, their end seen, or doubted. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Cluster } from '../src/core/cluster.ts'
import type { End } from '../src/core/migration.ts'
import { planAdopt } from '../src/core/plan/adopt.ts'
import { planMigrate } from '../src/core/plan/migrate.ts'
import type { Plan } from '../src/core/plan/plan.ts'
import { type PowerVerb, planPower } from '../src/core/plan/power.ts'
import { planStart } from '../src/core/plan/start.ts'
import { planStop } from '../src/core/plan/stop.ts'
import { changeDomain } from '../src/operate.ts'
import { StoreError } from '../src/store/store.ts'
import { shutOff, WEB_UUID } from './core/builders.ts'
import { definitionXml } from './fake-nodes.ts'
import { aWorld, claimsOf, type World, web } from './world.ts'

const PLAIN = { autoConverge: false, postCopy: false, unsafe: false }

function run(world: World, plan: (cluster: Cluster) => Plan) {
  return changeDomain(world, { domain: 'web', verb: 'domain test web', plan }, { act: true, ensure: false, waitMs: 0 })
}

const start = (world: World) => run(world, cluster => planStart(cluster, { domain: 'web', node: 'node1', auto: false }))
const power = (world: World, verb: PowerVerb) => run(world, cluster => planPower(cluster, { domain: 'web', verb }))
const stop = (world: World, force: boolean) =>
  run(world, cluster => planStop(cluster, { domain: 'web', timeoutMs: 1000, force }))
const migrate = (world: World, options: object = {}) =>
  run(world, cluster => planMigrate(cluster, { domain: 'web', node: 'node2', options: { ...PLAIN, ...options } }))

const outcomes = (report: { results?: readonly { step: string; outcome: string }[] }) =>
  report.results?.map(({ step, outcome }) => `${step} ${outcome}`)
const details = (report: { results?: readonly { detail?: string }[] }) =>
  report.results?.map(({ detail }) => detail ?? '').join('\n')
const texts = (report: { messages: readonly { text: string; next?: string }[] }) =>
  report.messages.map(({ text, next }) => `${text}: ${next}`).join('\n')
const states = (world: World, node: string) => world.nodes.domainsOf(node).map(({ state }) => state)

/** Somebody takes the claim on web over, as after our time ran out. */
async function takeOver(world: World): Promise<void> {
  const version = (await world.store.read(`claims/uuid/${WEB_UUID}`))?.version ?? 0
  const released = { ...(await world.claim()), state: 'released', token: 'theirs' }
  await world.store.swap(`claims/uuid/${WEB_UUID}`, version, JSON.stringify(released))
  const theirs = claimsOf(world.store, world.clock, 'ann')
  await theirs.acquire({ identity: { name: 'web', uuid: WEB_UUID, disks: [] }, verb: 'theirs' })
}

describe('every step', () => {
  test('it is written into the claim before it is sent, and taken out when its end was seen', async () => {
    const world = await aWorld({ node1: [web({ state: 'paused' })] })
    const doubts: unknown[] = []
    world.nodes.beforeAct = async () => doubts.push((await world.claim())?.doubts)
    expect(await power(world, 'resume')).toMatchObject({ exit: 0 })
    expect(doubts).toMatchObject([
      [{ node: 'node1', generation: 1, command: `virsh -c qemu:///system resume ${WEB_UUID}` }],
    ])
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('one that fails ends the run: what follows is not executed', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', { status: 1 })
    const report = await stop(world, true)
    expect(report.exit).toBe(1)
    expect(outcomes(report)).toEqual(['recordIntent done', 'destroyDomain failed', 'awaitShutOff not executed'])
  })

  test('one that fails after another acted is partly done', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = line => line.startsWith('migrate ') && world.nodes.set('node1', web())
    world.nodes.fail('node1', { status: 0 }, { status: 1 })
    const report = await migrate(world, { maxDowntimeMs: 5 })
    expect(outcomes(report)).toEqual(['setMaxDowntime done', 'migrateDomain failed'])
    expect(report.exit).toBe(4)
  })

  test.each([
    [97, 'displaced'],
    [96, 'still runs'],
    [95, 'not the recorded node'],
    [94, 'could not work'],
  ])('a guard that says %i did nothing, and that is said', async (status, words) => {
    for (const perform of [start, (world: World) => power(world, 'suspend')]) {
      const world = await aWorld(perform === start ? {} : { node1: [web()] })
      world.nodes.fail('node1', { status })
      const report = await perform(world)
      expect(report.exit).toBe(1)
      expect(details(report)).toContain(words)
      expect(details(report)).toContain('did nothing')
      expect(await world.claim()).toMatchObject({ doubts: [] })
    }
  })

  test('a start that the guard kept out is not done, although the domain runs there by then', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', { status: 97 })
    world.nodes.beforeAct = () => world.nodes.set('node1', web())
    expect(outcomes(await start(world))).toEqual(['recordIntent done', 'createDomain failed'])
  })

  test('once the claim is lost no further step is begun, and what was not sent is not called unknown', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = line => line.startsWith('migrate-set') && takeOver(world)
    const report = await migrate(world, { maxDowntimeMs: 5 })
    expect(report.exit).toBe(4)
    expect(outcomes(report)).toEqual(['setMaxDowntime done', 'migrateDomain failed'])
    expect(texts(report)).toContain('taken over by ann')
    expect(world.nodes.acts).toEqual([`act node1 migrate-setmaxdowntime ${WEB_UUID} 5`])
    expect(await world.claim()).toMatchObject({ state: 'held', owner: { user: 'ann' } })
  })

  test('a store that fails before a command is sent leaves that step failed, and begins no other', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = () => {
      world.store.swap = () => Promise.reject(new StoreError('no room', 'make room'))
    }
    const report = await migrate(world, { maxDowntimeMs: 5 })
    expect(report.exit).toBe(4)
    expect(outcomes(report)).toEqual(['setMaxDowntime done', 'migrateDomain failed'])
    expect(details(report)).toContain('no room')
    expect(texts(report)).toContain('look what is true now')
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('a store that fails in a step which writes to it leaves that step unknown', async () => {
    const world = await aWorld({ node1: [web()] })
    world.home.records.writeDomain = () => Promise.reject(new StoreError('no room', 'make room'))
    const report = await stop(world, true)
    expect(report.exit).toBe(5)
    expect(outcomes(report)).toEqual([
      'recordIntent unknown',
      'destroyDomain not executed',
      'awaitShutOff not executed',
    ])
    expect(world.nodes.acts).toEqual([])
  })

  test('a claim that is lost while a command runs leaves that command unknown, and begins no other', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = async line => {
      if (!line.startsWith('migrate-set')) return
      await takeOver(world)
      await world.clock.sleep(10_000)
    }
    const report = await migrate(world, { maxDowntimeMs: 5 })
    expect(report.exit).toBe(5)
    expect(outcomes(report)).toEqual(['setMaxDowntime unknown', 'migrateDomain not executed'])
    expect(texts(report)).toContain('taken over by ann')
  })

  test('a claim that was lost before the first command sends nothing', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && takeOver(world)
    const report = await start(world)
    expect(report).toMatchObject({ exit: 1 })
    expect(outcomes(report)).toEqual(['recordIntent done', 'createDomain failed'])
    expect(texts(report)).toContain('taken over by ann')
    expect(world.nodes.acts).toEqual([])
  })

  test('a store that takes longer than half of a claim lives sends nothing', async () => {
    const world = await aWorld()
    const swap = world.store.swap.bind(world.store)
    world.store.swap = async (key, expected, text) => {
      const result = await swap(key, expected, text)
      if (text.includes('create /dev/stdin')) world.clock.ms += 15_001
      return result
    }
    const report = await start(world)
    expect(report).toMatchObject({ exit: 1 })
    expect(details(report)).toContain('the claim may have run out')
    expect(world.nodes.acts).toEqual([])
  })

  test('after Ctrl-C no further step is begun', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = () => {
      world.interrupt.stopped = true
    }
    expect(outcomes(await stop(world, true))).toEqual([
      'recordIntent done',
      'destroyDomain done',
      'awaitShutOff not executed',
    ])
  })
})

describe('a start', () => {
  test('it is done when the node shows the domain', async () => {
    const world = await aWorld()
    expect(outcomes(await start(world))).toEqual(['recordIntent done', 'createDomain done'])
    expect(states(world, 'node1')).toEqual(['running'])
  })

  test('one whose connection ended after the effect is found running: done', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', 'lostAfter')
    expect(await start(world)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.slice(-2)).toEqual(['act node1 create /dev/stdin', 'raise node1 2'])
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('one whose connection ended before the effect is said to have failed, but only behind the raised guard', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', 'lostBefore')
    expect(outcomes(await start(world))).toEqual(['recordIntent done', 'createDomain failed'])
    expect(world.nodes.log.at(-1)).toBe('raise node1 2')
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('one whose connection ended while its command still holds the guard is unknown, and stays in doubt', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', 'lostBefore')
    world.nodes.locked.add('node1')
    const report = await start(world)
    expect(report.exit).toBe(5)
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node1' }] })
  })

  test.each([
    ['was killed on its node', { status: 137 }],
    ['lost its libvirtd', { status: 1, stderr: 'error: Disconnected from qemu:///system due to end of file' }],
  ])('one whose virsh %s may still happen: it is unknown and stays in doubt', async (_, answer) => {
    const world = await aWorld()
    world.nodes.fail('node1', answer)
    expect(await start(world)).toMatchObject({ exit: 5 })
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node1' }] })
  })

  test('one whose node falls silent is unknown, stays in doubt, and is settled by the next command', async () => {
    const world = await aWorld()
    world.nodes.fail('node1', 'lostAndSilent')
    const report = await start(world)
    expect(report.exit).toBe(5)
    expect(outcomes(report)).toEqual(['recordIntent done', 'createDomain unknown'])
    expect(texts(report)).toContain('what node1 did is not known')
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node1' }] })

    world.nodes.answerAgain('node1')
    expect(await stop(world, true)).toMatchObject({ exit: 0 })
    expect(world.nodes.log).toContain('raise node1 2')
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test('a definition that changed since it was planned is not sent', async () => {
    const world = await aWorld()
    const writeDomain = world.home.records.writeDomain.bind(world.home.records)
    world.home.records.writeDomain = async (...args) => {
      const changed = definitionXml('web', WEB_UUID).replace('1024', '2048')
      await writeFile(join(world.definitionsFolder, 'web.xml'), changed)
      await writeDomain(...args)
    }
    const report = await start(world)
    expect(outcomes(report)).toEqual(['recordIntent done', 'createDomain failed'])
    expect(details(report)).toContain('changed after it was planned')
    expect(world.nodes.acts).toEqual([])
  })

  test('a domain that is active on the target by now is not started once more', async () => {
    const world = await aWorld()
    const writeDomain = world.home.records.writeDomain.bind(world.home.records)
    world.home.records.writeDomain = async (...args) => {
      world.nodes.set('node1', web())
      await writeDomain(...args)
    }
    expect(outcomes(await start(world))).toEqual(['recordIntent done', 'createDomain failed'])
    expect(world.nodes.acts).toEqual([])
  })
})

describe('a domain that is there', () => {
  test('a shut down is waited for, and one that does not come is told with the way out', async () => {
    const slow = await aWorld({ node1: [web()] })
    slow.nodes.fail('node1', { status: 0 })
    const report = await stop(slow, false)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('domain stop web --force')
    expect(outcomes(await stop(await aWorld({ node1: [web()] }), false))?.at(-1)).toBe('awaitShutOff done')
  })

  test('Ctrl-C while it shuts down ends the wait, not the shut down', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', { status: 0 })
    const sleep = world.clock.sleep
    world.clock.sleep = (ms, signal) => {
      if (world.nodes.acts.length > 0) world.interrupt.stopped = true
      return sleep(ms, signal)
    }
    const report = await stop(world, false)
    expect(report).toMatchObject({ exit: 5 })
    expect(outcomes(report)).toEqual(['recordIntent done', 'shutdownDomain done', 'awaitShutOff unknown'])
  })

  test.each<[PowerVerb, 'running' | 'paused', 'lostBefore' | 'lostAfter', number]>([
    ['suspend', 'running', 'lostAfter', 0],
    ['suspend', 'running', 'lostBefore', 1],
    ['resume', 'paused', 'lostAfter', 0],
    ['resume', 'paused', 'lostBefore', 1],
    // A reboot leaves nothing to see.
    ['reboot', 'running', 'lostAfter', 5],
    ['reset', 'running', 'lostBefore', 5],
  ])('%s of a %s domain, %s: exit %i', async (verb, state, fault, exit) => {
    const world = await aWorld({ node1: [web({ state })] })
    world.nodes.fail('node1', fault)
    expect(await power(world, verb)).toMatchObject({ exit })
    expect(world.nodes.log.at(-1)).toBe('raise node1 2')
  })

  test('one that went away by itself needs no kill', async () => {
    const world = await aWorld({ node1: [web()] })
    const writeDomain = world.home.records.writeDomain.bind(world.home.records)
    world.home.records.writeDomain = async (...args) => {
      world.nodes.set('node1')
      await writeDomain(...args)
    }
    expect(await stop(world, true)).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual([])
  })
})

describe('an adoption', () => {
  const adopt = (world: World) =>
    run(world, cluster => planAdopt(cluster, { domain: 'web', path: world.home.definitions.path('web') }))

  test('the definition is kept before it is taken off the node', async () => {
    const world = await aWorld({ node1: [shutOff({}, web().definition)] })
    expect(await adopt(world)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.slice(-2)).toEqual([
      `ask node1 dumpxml --inactive --security-info ${WEB_UUID}`,
      `act node1 undefine --keep-nvram ${WEB_UUID}`,
    ])
    expect(world.nodes.domainsOf('node1')).toEqual([])
  })

  test('it is not taken off when what was kept is another domain', async () => {
    const world = await aWorld({ node1: [shutOff({}, web().definition)] })
    const write = world.home.definitions.write.bind(world.home.definitions)
    const other = definitionXml('web', '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0aff')
    world.home.definitions.write = (name, _, before) => write(name, other, before)
    expect(outcomes(await adopt(world))).toEqual(['saveDefinition done', 'undefineDomain failed'])
    expect(world.nodes.acts).toEqual([])
    expect(world.nodes.domainsOf('node1')).toHaveLength(1)
  })
})

describe('a migration', () => {
  const running: End = { state: 'running', stateReason: 1 }
  const waiting: End = { state: 'paused', stateReason: 2 }
  const paused: End = { state: 'paused', stateReason: 1 }
  const broken = (source: End, target: End, status = 1) => ({ ends: [source, target] as const, status })

  test('it moves, and both nodes are looked at', async () => {
    const world = await aWorld({ node1: [web()] })
    expect(await migrate(world)).toMatchObject({ exit: 0 })
    expect([states(world, 'node1'), states(world, 'node2')]).toEqual([[], ['running']])
    expect(await world.claim()).toMatchObject({ doubts: [] })
  })

  test.each([
    ['has ended', (world: World) => world.nodes.set('node1')],
    ['cannot be asked for', (world: World) => world.nodes.silence('node1')],
  ])('what %s since it was planned is not moved', async (_, change) => {
    const world = await aWorld({ node1: [web()] })
    let looks = 0
    const look = world.nodes.look.bind(world.nodes)
    world.nodes.look = async (...args) => {
      const found = await look(...args)
      if (++looks === 2) change(world)
      return found
    }
    const report = await migrate(world)
    expect(outcomes(report)).toEqual(['migrateDomain failed'])
    expect(details(report)).toContain('no longer active on node1')
    expect(world.nodes.acts).toEqual([])
  })

  test('one whose connection ended and that nobody wants to wait for is unknown', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(running, waiting, 255))
    world.nodes.job = () => {
      if (world.nodes.acts.length === 0) return undefined
      world.interrupt.stopped = true
      return 2
    }
    const report = await migrate(world)
    expect(report.exit).toBe(5)
    expect(outcomes(report)).toEqual(['migrateDomain unknown'])
    expect(world.nodes.acts).toHaveLength(1)
  })

  test.each<[string, End, End, number, string[], string[], string[]]>([
    ['it moved after all: done', 'absent', running, 0, [], ['running'], []],
    ['it stayed: failed', running, 'absent', 1, ['running'], [], []],
    ['the target waits: it is destroyed', running, waiting, 1, ['running'], [], ['act node2 destroy']],
    ['the source waits paused: it is destroyed', waiting, running, 0, [], ['running'], ['act node1 destroy']],
    [
      'both wait: the target is destroyed, the source runs on',
      waiting,
      waiting,
      1,
      ['running'],
      [],
      ['act node2 destroy', 'act node1 resume'],
    ],
    ['it runs twice: nothing is touched', running, running, 6, ['running'], ['running'], []],
    [
      'a post-copy broke: nothing is touched',
      { state: 'paused', stateReason: 13 },
      running,
      5,
      ['paused'],
      ['running'],
      [],
    ],
    ['somebody paused the target: nothing is touched', running, paused, 5, ['running'], ['paused'], []],
    ['it ended on the way: failed, and nothing is touched', 'absent', 'absent', 1, [], [], []],
  ])('one that broke: %s', async (_, source, target, exit, onSource, onTarget, acts) => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(source, target))
    const report = await migrate(world)
    expect(report.exit).toBe(exit)
    expect([states(world, 'node1'), states(world, 'node2')]).toEqual([onSource, onTarget])
    expect(world.nodes.acts.slice(1).map(line => line.split(' ').slice(0, 3).join(' '))).toEqual(acts)
    if (exit > 4) expect(texts(report)).toMatch(/node1.*node2/)
    // libvirt is given time to tidy up, and no more.
    expect(world.clock.ms).toBeLessThan(12_000)
  })

  test('a target that cannot be destroyed leaves the source as it is', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting))
    world.nodes.fail('node2', { status: 1 })
    expect(await migrate(world)).toMatchObject({ exit: 5 })
    expect(states(world, 'node1')).toEqual(['paused'])
  })

  test('a target that begins to run while it is put right is not destroyed', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting))
    let lastMs = -1
    const state = world.nodes.domainState.bind(world.nodes)
    world.nodes.domainState = async (record, uuid) => {
      // While libvirt is given time, each look is followed by a sleep; the one that is not comes before the repair.
      const atOnce = lastMs === world.clock.ms && world.nodes.acts.length === 1
      if (record.name === 'node2' && atOnce) world.nodes.set('node2', web())
      if (record.name === 'node2') lastMs = world.clock.ms
      return state(record, uuid)
    }
    expect((await migrate(world)).exit).not.toBe(0)
    expect(world.nodes.acts.filter(line => line.includes('destroy'))).toEqual([])
  })

  test('one whose connection ended is judged only when its job is over', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting, 255))
    let polls = 0
    world.nodes.job = () => {
      if (world.nodes.acts.length === 0) return undefined
      // libvirtd goes on without its client, and ends by itself.
      if (++polls === 200) {
        world.nodes.set('node1')
        world.nodes.set('node2', web())
      }
      return polls < 200 ? 2 : 0
    }
    expect(await migrate(world)).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toHaveLength(1)
    expect(states(world, 'node2')).toEqual(['running'])
  })

  test('libvirt gets its time to tidy up after the job is over, however long that went on', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting, 255))
    world.nodes.job = () => (world.nodes.acts.length > 0 && world.clock.ms < 40_000 ? 2 : undefined)
    void world.clock.sleep(45_000).then(() => {
      world.nodes.set('node1')
      world.nodes.set('node2', web())
    })
    expect(await migrate(world)).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('a source that does not say whether its job is over is not taken for one whose job is over', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting))
    world.nodes.job = () => 'silent'
    expect(await migrate(world)).toMatchObject({ exit: 5 })
    expect(world.nodes.acts).toHaveLength(1)
  })

  test.each(['node1', 'node2'])('while %s falls silent before it is put right, nothing is touched', async node => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting))
    const state = world.nodes.domainState.bind(world.nodes)
    let at = -1
    world.nodes.domainState = async (record, uuid) => {
      // The look that comes without a sleep after another is the one before the repair.
      const isSource = record.name === 'node1' && world.nodes.acts.length === 1
      if (isSource && at === world.clock.ms) world.nodes.silence(node)
      if (isSource) at = world.clock.ms
      return state(record, uuid)
    }
    expect(await migrate(world)).toMatchObject({ exit: 5 })
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('one whose repair cannot be written down is unknown, and nothing is touched', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(running, waiting))
    world.nodes.beforeAct = () => {
      world.store.swap = () => Promise.reject(new StoreError('no room', 'make room'))
    }
    const report = await migrate(world)
    expect(report.exit).toBe(5)
    expect(texts(report)).toContain('no room')
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('one whose command still holds the guard is judged by nobody', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', broken(waiting, waiting, 255))
    world.nodes.locked.add('node1')
    expect(await migrate(world)).toMatchObject({ exit: 5 })
    expect(world.nodes.acts).toHaveLength(1)
    expect(await world.claim()).toMatchObject({ doubts: [{ node: 'node1' }] })
  })

  test('one that the guard kept out touches nothing, whatever the ends look like', async () => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.fail('node1', { status: 97 })
    world.nodes.beforeAct = () => world.nodes.set('node2', web({ state: 'paused', stateReason: 2 }))
    expect(await migrate(world)).toMatchObject({ exit: 1 })
    expect(world.nodes.acts).toHaveLength(1)
  })

  test.each(['node1', 'node2'])('while %s is silent afterwards, where it runs is unknown', async node => {
    const world = await aWorld({ node1: [web()] })
    world.nodes.beforeAct = () => setImmediate(() => world.nodes.silence(node))
    world.nodes.fail('node1', broken(waiting, waiting))
    const report = await migrate(world)
    expect(report.exit).toBe(5)
    expect(texts(report)).toContain(node)
    expect(world.nodes.acts).toHaveLength(1)
  })

  test('Ctrl-C asks, and ends the job past the lock that the migration holds', async () => {
    for (const wanted of [true, false]) {
      const world = await aWorld({ node1: [web()] })
      world.interrupt.answer = wanted
      let sent = false
      world.nodes.beforeAct = async line => {
        if (sent || !line.startsWith('migrate ')) return
        sent = true
        world.interrupt.press()
        for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve))
      }
      await migrate(world)
      expect(world.interrupt.questions).toHaveLength(1)
      expect(world.nodes.acts.filter(line => line.includes('domjobabort'))).toEqual(
        wanted ? [`act node1 domjobabort ${WEB_UUID} (nolock)`] : [],
      )
    }
  })
})

describe('a stop while it is being moved', () => {
  const waiting = { state: 'paused', stateReason: 2 } as const

  /** Somebody moves web from node1 to node2; `end` is what that comes to once it is asked to end. */
  async function aMove(end: (world: World) => void, polls = 1): Promise<World> {
    const world = await aWorld({ node1: [web()], node2: [web(waiting)] })
    let asked = 0
    world.nodes.job = () => {
      if (!world.nodes.acts.some(line => line.includes('domjobabort'))) return 2
      if (++asked < polls) return 2
      if (asked === polls) end(world)
      return undefined
    }
    return world
  }
  const actsOf = (world: World) => world.nodes.acts.map(line => line.split(' ').slice(0, 3).join(' '))

  test('the migration is ended past its lock and waited for; then the source is stopped', async () => {
    const world = await aMove(({ nodes }) => nodes.set('node2'), 5)
    const report = await stop(world, true)
    expect(report.exit).toBe(0)
    expect(outcomes(report)).toEqual([
      'recordIntent done',
      'abortMigration done',
      'destroyDomain done',
      'awaitShutOff done',
    ])
    expect(details(report)).toContain('web stays on node1')
    expect(world.nodes.acts).toEqual([`act node1 domjobabort ${WEB_UUID} (nolock)`, `act node1 destroy ${WEB_UUID}`])
    expect([states(world, 'node1'), states(world, 'node2')]).toEqual([[], []])
  })

  test('what still waits on the target is destroyed first', async () => {
    const world = await aMove(() => undefined)
    const report = await stop(world, true)
    expect(report.exit).toBe(0)
    expect(actsOf(world)).toEqual(['act node1 domjobabort', 'act node2 destroy', 'act node1 destroy'])
    expect(texts(report)).toContain('kill web on node2')
  })

  test('it moved before it could be ended: failed, and the target is not touched', async () => {
    const world = await aMove(({ nodes }) => {
      nodes.set('node1')
      nodes.set('node2', web())
    })
    const report = await stop(world, true)
    expect(report.exit).toBe(1)
    expect(outcomes(report)).toEqual([
      'recordIntent done',
      'abortMigration failed',
      'destroyDomain not executed',
      'awaitShutOff not executed',
    ])
    expect(details(report)).toContain('web moved to node2 before it could be ended')
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
    expect(states(world, 'node2')).toEqual(['running'])
    expect(await stop(world, true)).toMatchObject({ exit: 0 })
  })

  test('it ended on the way: failed, and nothing is touched', async () => {
    const world = await aMove(({ nodes }) => {
      nodes.set('node1')
      nodes.set('node2')
    })
    const report = await stop(world, true)
    expect(outcomes(report)?.[1]).toBe('abortMigration failed')
    expect(details(report)).toContain('off on both nodes')
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
  })

  test('it runs twice afterwards: nothing is touched, and that is the exit status', async () => {
    const world = await aMove(({ nodes }) => nodes.set('node2', web()))
    const report = await stop(world, true)
    expect(report.exit).toBe(6)
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
  })

  test('one that cannot be told afterwards is unknown, and nothing is stopped', async () => {
    const world = await aMove(({ nodes }) => nodes.set('node2', web({ state: 'paused', stateReason: 1 })))
    const report = await stop(world, true)
    expect(report.exit).toBe(5)
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
  })

  test.each(['node1', 'node2'])('%s falls silent: unknown, and nothing is stopped', async node => {
    const world = await aMove(() => undefined)
    const job = world.nodes.job
    world.nodes.job = () => {
      const answer = job()
      if (answer === undefined) world.nodes.silence(node)
      return answer
    }
    const report = await stop(world, true)
    expect(report.exit).toBe(5)
    expect(outcomes(report)?.[1]).toBe('abortMigration unknown')
    expect(texts(report)).toContain(`not known while ${node} does not answer`)
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
  })

  test('the source falls silent and the target has nothing: unknown, not stayed', async () => {
    const world = await aMove(({ nodes }) => {
      nodes.set('node2')
      nodes.silence('node1')
    })
    const report = await stop(world, true)
    expect(report.exit).toBe(5)
    expect(outcomes(report)?.[1]).toBe('abortMigration unknown')
  })

  test('Ctrl-C while it is waited for: unknown, and nothing is stopped', async () => {
    const world = await aMove(() => undefined, 1_000_000)
    const job = world.nodes.job
    world.nodes.job = () => {
      world.interrupt.stopped = world.nodes.acts.length > 0
      return job()
    }
    const report = await stop(world, true)
    expect(report.exit).toBe(5)
    expect(details(report)).toContain('web is still moving')
    expect(actsOf(world)).toEqual(['act node1 domjobabort'])
  })

  test('a job that had ended when it was asked to is no failure', async () => {
    const world = await aMove(({ nodes }) => nodes.set('node2'))
    const sent = world.nodes.act.bind(world.nodes)
    world.nodes.act = async (record, ticket, order, mode) => {
      const exit = await sent(record, ticket, order, mode)
      return mode === 'nolock' ? { ...exit, status: 1, stderr: 'error: no job is active' } : exit
    }
    expect(await stop(world, true)).toMatchObject({ exit: 0 })
  })
})
