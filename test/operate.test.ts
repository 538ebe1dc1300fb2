/** The pipeline: claim, doubts, two looks, plan, check, show or execute, release; on fake nodes and a fake clock. */
import { readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { steps } from '../src/core/plan/plan.ts'
import { planPower } from '../src/core/plan/power.ts'
import { planStart } from '../src/core/plan/start.ts'
import { planStop } from '../src/core/plan/stop.ts'
import { step } from '../src/core/step.ts'
import { changeDomain, type DomainChange, type Mode } from '../src/operate.ts'
import { Claims } from '../src/store/claims.ts'
import { shutOff, WEB_UUID } from './core/builders.ts'
import { definitionXml } from './fake-nodes.ts'
import { anOwner, aWorld, type World, web } from './world.ts'

const ACT: Mode = { act: true, ensure: false }
const SHOW: Mode = { act: false, ensure: false }

const start = (node = 'node1'): DomainChange => ({
  domain: 'web',
  verb: `domain start web ${node}`,
  plan: cluster => planStart(cluster, { domain: 'web', node, auto: false }),
})
const stop: DomainChange = {
  domain: 'web',
  verb: 'domain stop web',
  plan: cluster => planStop(cluster, { domain: 'web', timeoutMs: 1000, force: true }),
}
const resume: DomainChange = {
  domain: 'web',
  verb: 'domain resume web',
  plan: cluster => planPower(cluster, { domain: 'web', verb: 'resume' }),
}

const identity = { name: 'web', uuid: WEB_UUID, disks: [] }

/** Somebody else holds the claim on web. */
async function heldByOther(world: World) {
  const theirs = new Claims(world.store, world.clock, anOwner('ann'), 30_000)
  const acquired = await theirs.acquire({ identity, verb: 'domain migrate web node2', node: 'node9' })
  if ('heldBy' in acquired) throw new Error('expected the claim to be free')
  return acquired.claim
}

/** A command of an earlier run was sent to this node, and its end was not seen. */
async function leaveDoubt(world: World, node: string): Promise<void> {
  const claim = await heldByOther(world)
  await claim.about(node, 'virsh create /dev/stdin')
  await claim.release()
}

const texts = (report: { messages: readonly { text: string }[] }) => report.messages.map(({ text }) => text).join('\n')

describe('the claim', () => {
  test('it is taken before the looks that count, held while nodes are asked, and released at the end', async () => {
    const world = await aWorld()
    const states: unknown[] = []
    world.nodes.beforeLook = async () => states.push((await world.claim())?.state)
    world.nodes.beforeAct = async () => states.push(`act under ${(await world.claim())?.state}`)
    const report = await changeDomain(world, start(), ACT)
    expect(report).toMatchObject({ exit: 0 })
    // The first look only says what to claim.
    expect(states).toEqual([undefined, 'held', 'held', 'act under held'])
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [] })
  })

  test('it is released when the plan is refused, when a step fails, and when the world breaks', async () => {
    const refused = await aWorld({ node1: [web()] })
    expect(await changeDomain(refused, start('node2'), ACT)).toMatchObject({ exit: 3 })
    expect(await refused.claim()).toMatchObject({ state: 'released' })

    const failing = await aWorld()
    failing.nodes.fail('node1', { status: 1 })
    expect(await changeDomain(failing, start(), ACT)).toMatchObject({ exit: 1 })
    expect(await failing.claim()).toMatchObject({ state: 'released' })

    const broken = await aWorld()
    const plan = () => {
      throw new Error('defect')
    }
    await expect(changeDomain(broken, { ...start(), plan }, ACT)).rejects.toThrow('defect')
    expect(await broken.claim()).toMatchObject({ state: 'released' })
  })

  test('one that is held refuses, naming who holds it and what for, and nothing is sent', async () => {
    const world = await aWorld()
    await heldByOther(world)
    const report = await changeDomain(world, start(), ACT)
    expect(report.exit).toBe(3)
    expect(texts(report)).toContain('web is claimed by ann@node9 (pid 7)')
    expect(texts(report)).toContain('domain migrate web node2')
    expect(world.nodes.acts).toEqual([])
    expect(await world.claim()).toMatchObject({ state: 'held', owner: { user: 'ann' } })
  })

  test('a definition that gets another uuid after it was claimed is not started under the old claim', async () => {
    const world = await aWorld()
    const other = '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0aff'
    let looks = 0
    world.nodes.beforeLook = () =>
      ++looks === 2 && writeFile(join(world.definitionsFolder, 'web.xml'), definitionXml('web', other))
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a definition that gets another disk after it was claimed is not started: nobody holds that disk for it', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => {
      const disk = "<devices><disk type='file' device='disk'><source file='/d/new'/><target dev='vdz'/></disk>"
      const xml = definitionXml('web', WEB_UUID)
        .replace(/<devices\/>|<devices>/, disk)
        .replace(/(<\/disk>)(<\/domain>)/, '$1</devices>$2')
      return ++looks === 2 && writeFile(join(world.definitionsFolder, 'web.xml'), xml)
    }
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a domain that nobody knew and that appears now is not touched without a claim', async () => {
    const world = await aWorld()
    await unlink(join(world.definitionsFolder, 'web.xml'))
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && world.nodes.set('node2', web())
    expect(await changeDomain(world, stop, ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })
})

describe('a dry run', () => {
  test('it shows the script, takes no claim, records nothing, and sends nothing', async () => {
    const world = await aWorld()
    const report = await changeDomain(world, start(), SHOW)
    expect(report.exit).toBe(0)
    const path = join(world.definitionsFolder, 'web.xml')
    expect(report.script?.slice(2)).toEqual([
      '# (havirt itself: record that web may run, as asked)',
      '# start web on node1',
      `ssh node1 virsh -c qemu:///system create /dev/stdin < ${path}`,
    ])
    expect(world.nodes.acts).toEqual([])
    expect(await world.store.list('claims')).toEqual([])
    expect(await world.store.list('domains')).toEqual([])
  })

  test('its lines are what execution sends', async () => {
    const world = await aWorld()
    const shown = (await changeDomain(world, start(), SHOW)).script?.at(-1)
    await changeDomain(world, start(), ACT)
    const [order] = world.nodes.orders
    expect(shown).toBe(`ssh node1 ${order?.command.argv.join(' ')} < ${order?.command.stdin}`)
    expect(order?.stdin).toBe(await readFile(order?.command.stdin ?? '', 'utf8'))
  })

  test('it does not mind that somebody else holds the claim', async () => {
    const world = await aWorld()
    await heldByOther(world)
    expect(await changeDomain(world, start(), SHOW)).toMatchObject({ exit: 0 })
  })

  test('it refuses what execution would refuse', async () => {
    const world = await aWorld()
    world.nodes.silence('node3')
    const report = await changeDomain(world, start(), SHOW)
    expect(report).toMatchObject({ exit: 3 })
    expect(texts(report)).toContain('node3 is unreachable')
  })
})

describe('looking', () => {
  test('every node that answered is asked a second time, and one that did not stays silent', async () => {
    const world = await aWorld()
    world.nodes.silence('node3')
    expect(await changeDomain(world, start(), SHOW)).toMatchObject({ exit: 3 })
    expect(world.nodes.log).toEqual(['look node1 node2 node3', 'look node1 node2'])
  })

  test('a domain that turns up in the second look is not started', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 3 && world.nodes.set('node2', web())
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a node that falls silent for the second look counts as unknown', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 3 && world.nodes.silence('node2')
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a domain that moves between the looks is looked at again', async () => {
    const world = await aWorld()
    world.nodes.moves = 2
    expect(await changeDomain(world, start(), SHOW)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.filter(line => line.startsWith('look'))).toHaveLength(4)
  })

  test('one that keeps moving is refused, and nothing is sent', async () => {
    const world = await aWorld()
    world.nodes.moves = 1000
    const report = await changeDomain(world, start(), ACT)
    expect(report.exit).toBe(3)
    expect(texts(report)).toContain('kept changing')
    expect(world.nodes.acts).toEqual([])
  })
})

describe('commands in doubt', () => {
  test('the guard is raised where one was sent, before anything is looked at', async () => {
    const world = await aWorld()
    await leaveDoubt(world, 'node2')
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.slice(1, 3)).toEqual(['raise node2 2', 'look node1 node2 node3'])
    expect(await world.claim()).toMatchObject({ state: 'released', generation: 2, doubts: [] })
  })

  test('a node that answers, but whose guard cannot be raised, may still start the domain: it counts as unknown', async () => {
    const world = await aWorld()
    await leaveDoubt(world, 'node2')
    world.nodes.locked.add('node2')
    const report = await changeDomain(world, start('node1'), ACT)
    expect(report.exit).toBe(3)
    expect(texts(report)).toContain('may still be carried out there: virsh create /dev/stdin')
    expect(world.nodes.acts).toEqual([])
    expect(await world.claim()).toMatchObject({ state: 'released', doubts: [{ node: 'node2' }] })
  })

  test('the same for letting a paused domain run on', async () => {
    const world = await aWorld({ node1: [web({ state: 'paused' })] })
    await leaveDoubt(world, 'node2')
    world.nodes.locked.add('node2')
    expect(await changeDomain(world, resume, ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a doubt that was not settled is still there for the next one', async () => {
    const world = await aWorld()
    await leaveDoubt(world, 'node2')
    world.nodes.locked.add('node2')
    await changeDomain(world, start(), ACT)
    world.nodes.locked.clear()
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.filter(line => line.startsWith('raise'))).toEqual(['raise node2 2', 'raise node2 3'])
  })
})

describe('answers', () => {
  test('"already so" is refused, and with --ensure it is success; neither sends anything', async () => {
    const world = await aWorld({ node1: [web()] })
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(await changeDomain(world, start(), { act: true, ensure: true })).toMatchObject({ exit: 0 })
    expect(await changeDomain(world, start(), { act: false, ensure: true })).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual([])
  })

  test('--ensure does not turn another refusal into success', async () => {
    const world = await aWorld({ node1: [web({ state: 'paused' })] })
    expect(await changeDomain(world, start(), { act: true, ensure: true })).toMatchObject({ exit: 3 })
  })

  test('a planner that breaks a rule is stopped by the checker, shown or executed', async () => {
    const world = await aWorld({ node2: [web()] })
    const { sha256 = '' } = (await world.home.definitions.read('web')) ?? {}
    const create = { domain: 'web', uuid: WEB_UUID, node: 'node1', definition: 'conf/web.xml', sha256 }
    const bad = { ...start(), plan: () => steps([step('createDomain', create)]) }
    for (const mode of [ACT, SHOW]) {
      const report = await changeDomain(world, bad, mode)
      expect(report.exit).toBe(1)
      expect(texts(report)).toContain('safety rule 1')
      expect(report.script).toBeUndefined()
    }
    expect(world.nodes.acts).toEqual([])
  })

  test('intent is remembered: a stop is on purpose before it is sent, and a start clears it', async () => {
    const world = await aWorld({ node1: [web()] })
    let manual: unknown
    world.nodes.beforeAct = async () => {
      manual = (await world.home.records.domains()).get('web')?.manual
    }
    expect(await changeDomain(world, stop, ACT)).toMatchObject({ exit: 0 })
    expect(manual).toBe(true)
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect((await world.home.records.domains()).get('web')).toEqual({ manual: false })
  })

  test('a shut off definition elsewhere is told of with the start', async () => {
    const world = await aWorld({ node2: [shutOff()] })
    expect(texts(await changeDomain(world, start(), ACT))).toContain('also defined on node2')
  })
})
