/** The pipeline: claim, doubts, two looks, plan, check, show or execute, release; on fake nodes and a fake clock. */
import { readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { DomainOnNode } from '../src/core/node.ts'
import { planAdopt } from '../src/core/plan/adopt.ts'
import { steps } from '../src/core/plan/plan.ts'
import { step } from '../src/core/step.ts'
import { guardComment } from '../src/nodes/guard.ts'
import { changeDomain, type DomainChange, type Mode, underClaim } from '../src/operate.ts'
import { ClaimLostError } from '../src/store/claim.ts'
import { keySegment } from '../src/store/key.ts'
import { aDisk, MAIL_UUID, onPath, shutOff, uuidOf, WEB_UUID } from './core/builders.ts'
import { definitionXml } from './fake-nodes.ts'
import { migrate, resume, start, stop as stopIt } from './verbs.ts'
import { aWorld, claimsOf, holdClaim, type World, web } from './world.ts'

const ACT: Mode = { act: true, ensure: false, waitMs: 0 }
const SHOW: Mode = { act: false, ensure: false, waitMs: 0 }

const stop = stopIt(true)
/** Every path is on both nodes and shared. */
const withFacts = (change: DomainChange): DomainChange => ({
  ...change,
  plan: cluster => {
    const paths = onPath('/d/live')
    const nodes = [...cluster.nodes].map(
      ([name, node]) => [name, node.seen.state === 'up' ? { ...node, seen: { ...node.seen, paths } } : node] as const,
    )
    return change.plan({ ...cluster, nodes: new Map(nodes) })
  },
})
const adopt = (world: World): DomainChange => ({
  domain: 'web',
  verb: 'domain adopt web',
  plan: cluster => planAdopt(cluster, { domain: 'web', path: world.home.definitions.path('web') }),
})

/** A command of an earlier run was sent to this node, and its end was not seen. */
async function leaveDoubt(world: World, node: string): Promise<void> {
  const claim = await holdClaim(world, { dead: true })
  await claim.about(node, 'virsh create /dev/stdin')
  await claim.release()
}

const texts = (report: { messages: readonly { text: string }[] }) => report.messages.map(({ text }) => text).join('\n')

/** conf/web.xml gets a disk of its own at this path. */
async function withDisk(world: World, path: string): Promise<void> {
  const disk = `<devices><disk type='file' device='disk'><source file='${path}'/><target dev='vdz'/></disk>`
  const xml = definitionXml('web', WEB_UUID).replace('<devices>', disk)
  await writeFile(join(world.definitionsFolder, 'web.xml'), xml)
}

describe('the claim', () => {
  test('it is taken before the looks that count, held while nodes are asked, and released at the end', async () => {
    const world = await aWorld()
    const states: unknown[] = []
    world.nodes.beforeLook = async () => states.push((await world.claim())?.state)
    world.nodes.beforeAct = async () => states.push(`act under ${(await world.claim())?.state}`)
    const report = await changeDomain(world, start(), ACT)
    expect(report).toMatchObject({ exit: 0 })
    // conf/ says what to claim; no look is needed for that.
    expect(states).toEqual(['held', 'held', 'act under held'])
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

  test('one whose holder lives refuses, naming who holds it and what for, and nothing is looked at or sent', async () => {
    const world = await aWorld()
    await holdClaim(world)
    const report = await changeDomain(world, start(), ACT)
    expect(report.exit).toBe(3)
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['claimed'])
    expect(texts(report)).toContain('web is claimed by ann@node9 (pid 7)')
    expect(texts(report)).toContain('domain migrate web node2')
    expect(world.nodes.log).toEqual([])
    expect(await world.claim()).toMatchObject({ state: 'held', owner: { user: 'ann' } })
  })

  test('one whose holder gives no sign of life for its time to live is taken over, and that is said', async () => {
    const world = await aWorld()
    await holdClaim(world, { dead: true })
    const waits: string[] = []
    const begin = (label: string) => ({
      update: (_: number, detail: string) => waits.push(`${label}: ${detail}`),
      end: (how: string) => waits.push(how),
    })
    const report = await changeDomain({ ...world, progress: { begin } }, start(), ACT)
    expect(report).toMatchObject({ exit: 0 })
    expect(texts(report)).toContain('took over the claim of ann@node9 (pid 7), which gave no sign of life')
    expect(texts(report)).toContain('domain migrate web node2')
    expect(world.clock.ms).toBeGreaterThanOrEqual(30_000)
    expect(waits[0]).toBe(
      'web is claimed by ann@node9 (pid 7) (domain migrate web node2): dead if it is silent for 30 s more',
    )
    expect(waits.at(-1)).toBe('waited')
    expect(await world.claim()).toMatchObject({ state: 'released', generation: 2, owner: { user: 'us' } })
  })

  test('it is renewed while something takes longer than a claim lives', async () => {
    const world = await aWorld()
    const bob = claimsOf(world.store, world.clock, 'bob')
    let looks = 0
    world.nodes.beforeLook = async () => {
      if (++looks !== 2) return
      await world.clock.sleep(100_000)
      const identity = { name: 'web', uuid: WEB_UUID, disks: [] }
      expect(await bob.acquire({ identity, verb: 'domain stop web' })).toHaveProperty('heldBy')
    }
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect(await world.claim()).toMatchObject({ state: 'released', generation: 1 })
  })

  test('a holder that is released while it is watched is succeeded at once', async () => {
    const world = await aWorld()
    const theirs = await holdClaim(world)
    void world.clock.sleep(2000).then(() => theirs.release())
    const report = await changeDomain(world, start(), ACT)
    expect(report).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeLessThan(3000)
    expect(texts(report)).not.toContain('took over')
  })

  test('a definition that gets another uuid after it was claimed is started under the claim of that one', async () => {
    const world = await aWorld()
    const other = uuidOf(9)
    let looks = 0
    world.nodes.beforeLook = () =>
      ++looks === 2 && writeFile(join(world.definitionsFolder, 'web.xml'), definitionXml('web', other))
    const held: unknown[] = []
    world.nodes.beforeAct = async () => {
      for (const uuid of [WEB_UUID, other]) held.push((await world.claim(uuid))?.state)
    }
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect(held).toEqual(['released', 'held'])
    expect(world.nodes.domainsOf('node1')).toMatchObject([{ uuid: other }])
  })

  test('a definition that keeps getting another uuid is not started', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () =>
      writeFile(join(world.definitionsFolder, 'web.xml'), definitionXml('web', uuidOf(++looks)))
    const report = await changeDomain(world, start(), ACT)
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['changing'])
    expect(world.nodes.acts).toEqual([])
    expect((await world.claims.list()).filter(({ state }) => state === 'held')).toEqual([])
  })

  test('a definition that gets another disk after it was claimed is started only under a claim that has that disk', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && withDisk(world, '/d/new')
    let holder: string | undefined
    world.nodes.beforeAct = async () => {
      const pointer = await world.store.read(`claims/disk/${keySegment('file:/d/new')}`)
      holder = pointer?.text
    }
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 0 })
    expect(holder).toContain((await world.claim())?.token)
    expect(await world.claim()).toMatchObject({ generation: 2 })
  })

  test('a definition that gets a disk which another command holds is not started', async () => {
    const world = await aWorld()
    await holdClaim(world, { identity: { name: 'mail', uuid: MAIL_UUID, disks: [aDisk('/d/new')] } })
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && withDisk(world, '/d/new')
    const report = await changeDomain(world, start(), ACT)
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['claimed'])
    expect(world.nodes.acts).toEqual([])
  })

  test.each([
    ['moved', migrate(), {}],
    ['let run on', resume, { state: 'paused' as const }],
  ])('what is %s is claimed with the disks that it has now, whatever conf/ says by now', async (_, change, more) => {
    const disk = aDisk('/d/live')
    const definition = { ...web().definition, disks: [disk] } as NonNullable<DomainOnNode['definition']>
    const paths = { node1: [web({ definition, ...more })] }
    const free = await aWorld(paths)
    const keys: string[][] = []
    free.nodes.beforeAct = async () => keys.push(await free.store.list('claims/disk'))
    expect(await changeDomain(free, withFacts(change), ACT)).toMatchObject({ exit: 0 })
    expect(keys[0]).toContain(keySegment('file:/d/live'))

    const world = await aWorld(paths)
    await holdClaim(world, { identity: { name: 'mail', uuid: MAIL_UUID, disks: [disk] } })
    const report = await changeDomain(world, withFacts(change), ACT)
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['claimed'])
    expect(world.nodes.acts).toEqual([])
  })

  test('a definition that replaces one with another uuid is taken under the claim of the new one', async () => {
    const other = uuidOf(9)
    const { definition } = web()
    const theirs = { ...definition, uuid: other } as NonNullable<DomainOnNode['definition']>
    const world = await aWorld({ node1: [shutOff({ uuid: other }, theirs)] })
    let held: unknown
    world.nodes.beforeAct = async () => {
      held = (await world.claim(other))?.state
    }
    expect(await changeDomain(world, adopt(world), ACT)).toMatchObject({ exit: 0 })
    expect(held).toBe('held')
  })

  test('what was found out and put right in a first try is told with the last one', async () => {
    const world = await aWorld()
    await holdClaim(world, { dead: true })
    world.nodes.moves = 12
    const report = await changeDomain(world, start(), { ...ACT, waitMs: 60_000 })
    expect(report).toMatchObject({ exit: 0 })
    expect(texts(report).match(/took over the claim of ann/g)).toHaveLength(1)
    expect(texts(report)).not.toContain('kept changing')
  })

  test('a file that defines another domain says nothing about what to claim', async () => {
    const world = await aWorld({ node1: [web()] })
    await writeFile(join(world.definitionsFolder, 'web.xml'), definitionXml('mail', MAIL_UUID))
    await holdClaim(world, { identity: { name: 'mail', uuid: MAIL_UUID, disks: [] } })
    expect(await changeDomain(world, stop, ACT)).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBeLessThan(1000)
  })

  test('one that is lost outside of any step is unknown, and says where to look', async () => {
    const world = await aWorld()
    const claim = await holdClaim(world, { dead: true })
    const report = await underClaim(claim, () => Promise.reject(new ClaimLostError('taken over by bob')))
    expect(report).toMatchObject({ exit: 5, messages: [{ text: 'taken over by bob' }] })
    expect(await world.claim()).toMatchObject({ state: 'released' })
  })

  test('what each try finds out anew is told once', async () => {
    const world = await aWorld({ node1: [web()] })
    await leaveDoubt(world, 'node2')
    world.nodes.locked.add('node2')
    world.nodes.moves = 1000
    const report = await changeDomain(world, stop, { ...ACT, waitMs: 10_000 })
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['changing'])
    expect(texts(report).match(/left half done on node2/g)).toHaveLength(1)
  })

  test('a plan for another name than the claimed one is not carried out, whoever made it', async () => {
    const world = await aWorld({ node1: [web({ name: 'old' })] })
    const other = step('rebootDomain', { domain: 'old', uuid: WEB_UUID, node: 'node1' })
    const report = await changeDomain(world, { ...start(), plan: () => steps([other]) }, ACT)
    expect(report.refusals?.map(({ reason }) => reason)).toEqual(['changing'])
    expect(world.nodes.acts).toEqual([])
  })

  test('the same where it turned out under the claim that another one is needed', async () => {
    const world = await aWorld({ node1: [web({ uuid: uuidOf(9) })] })
    await leaveDoubt(world, 'node2')
    const report = await changeDomain(world, stop, ACT)
    expect(report).toMatchObject({ exit: 0 })
    expect(texts(report)).toContain('left half done on node2')
  })

  test('what runs with another uuid than conf/ says is stopped under the claim of what runs', async () => {
    const other = uuidOf(9)
    const world = await aWorld({ node1: [web({ uuid: other })] })
    let held: unknown
    world.nodes.beforeAct = async () => {
      held = (await world.claim(other))?.state
    }
    expect(await changeDomain(world, stop, ACT)).toMatchObject({ exit: 0 })
    expect(held).toBe('held')
    expect(await world.claim()).toMatchObject({ state: 'released' })
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
    expect(report.script?.slice(guardComment().length)).toEqual([
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
    await holdClaim(world)
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
    world.nodes.beforeLook = () => ++looks === 2 && world.nodes.set('node2', web())
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a node that falls silent for the second look counts as unknown', async () => {
    const world = await aWorld()
    let looks = 0
    world.nodes.beforeLook = () => ++looks === 2 && world.nodes.silence('node2')
    expect(await changeDomain(world, start(), ACT)).toMatchObject({ exit: 3 })
    expect(world.nodes.acts).toEqual([])
  })

  test('a domain that moves between the looks is looked at again', async () => {
    const world = await aWorld()
    world.nodes.moves = 2
    expect(await changeDomain(world, start(), SHOW)).toMatchObject({ exit: 0 })
    expect(world.nodes.log.filter(line => line.startsWith('look'))).toHaveLength(4)
    // It is given time to come to rest.
    expect(world.clock.ms).toBe(300)
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
    expect(world.nodes.log.slice(0, 2)).toEqual(['raise node2 2', 'look node1 node2 node3'])
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
    expect(await changeDomain(world, start(), { act: true, ensure: true, waitMs: 0 })).toMatchObject({ exit: 0 })
    expect(await changeDomain(world, start(), { act: false, ensure: true, waitMs: 0 })).toMatchObject({ exit: 0 })
    expect(world.nodes.acts).toEqual([])
  })

  test('--ensure does not turn another refusal into success', async () => {
    const world = await aWorld({ node1: [web({ state: 'paused' })] })
    expect(await changeDomain(world, start(), { act: true, ensure: true, waitMs: 0 })).toMatchObject({ exit: 3 })
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
