/** `cluster balance` from the look to the last move, on fake nodes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Input } from '../../src/operations/operation.ts'
import { aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import { perform, texts } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']
const guests = NAMES.map((name, at) =>
  aDomainOnNode({}, aDomain({ name, uuid: uuidOf(at + 1), memoryMiB: 1024, disks: [] })),
)

function balance(world: World, act: boolean, options: Input['options'] = {}) {
  return perform(world, 'cluster balance', { act, options })
}

const populations = (world: World) => ['node1', 'node2', 'node3'].map(node => world.nodes.domainsOf(node).length)
const acts = (world: World) => world.nodes.log.filter(line => line.startsWith('act'))

describe('a dry run', () => {
  test('shows each move, its commands, and the nodes before and after, and does nothing', async () => {
    const world = await aWorld({ node1: guests })
    const report = await balance(world, false)
    expect(report.exit).toBe(0)
    expect(report.table?.rows).toHaveLength(4)
    expect(report.table?.rows[0]).toMatchObject({ move: 1, from: 'node1', gib: 1 })
    expect(report.script?.filter(line => /virsh .*migrate/.test(line))).toHaveLength(4)
    expect(report.messages.map(({ text }) => text)).toEqual([
      'node1  memory [##############......]  71 % -> [#####...............]  24 %  vCPUs 150 % ->  50 %',
      'node2  memory [....................]   0 % -> [#####...............]  24 %  vCPUs   0 % ->  50 %',
      'node3  memory [....................]   0 % -> [#####...............]  24 %  vCPUs   0 % ->  50 %',
    ])
    expect(acts(world)).toEqual([])
  })

  test('of an even cluster says that there is nothing to do', async () => {
    const world = await aWorld({ node1: guests.slice(0, 2), node2: guests.slice(2, 4), node3: guests.slice(4) })
    const report = await balance(world, false)
    expect(report.exit).toBe(0)
    expect(report.messages.at(-1)?.text).toBe('nothing to do: no move gains more than it costs')
  })

  test('asks every node for the disks of all that runs', async () => {
    const world = await aWorld({ node1: [aDomainOnNode()] })
    await balance(world, false)
    expect(world.nodes.inquiries.get('node3')).toMatchObject({ paths: ['/srv/web.img'], processes: true })
  })
})

describe('with -y', () => {
  test('the moves are made one after the other, and the same command then finds nothing to do', async () => {
    const world = await aWorld({ node1: guests })
    const report = await balance(world, true)
    expect(report.exit).toBe(0)
    expect(report.results?.map(({ outcome }) => outcome)).toEqual(['done', 'done', 'done', 'done'])
    expect(populations(world)).toEqual([2, 2, 2])
    expect(acts(world)).toHaveLength(4)
    expect((await balance(world, true)).messages.at(-1)?.text).toContain('nothing to do')
  })

  test('no more is moved than was asked for', async () => {
    const world = await aWorld({ node1: guests })
    await balance(world, true, { maxMoves: 1 })
    expect(populations(world).sort()).toEqual([0, 1, 5])
  })

  test('the first move that fails ends the run, and says what was not begun', async () => {
    const world = await aWorld({ node1: guests })
    world.nodes.fail('node1', { status: 1, stderr: 'error: internal error: no' })
    const report = await balance(world, true)
    expect(report.exit).toBe(1)
    expect(populations(world)).toEqual([6, 0, 0])
    expect(report.messages.at(-1)).toMatchObject({
      text: '3 more moves were not begun',
      next: 'havirt cluster balance plans anew',
    })
  })

  test('Ctrl-C lets the move under way end, and begins no other', async () => {
    const world = await aWorld({ node1: guests })
    world.nodes.beforeAct = async () => {
      world.interrupt.stopped = true
    }
    const report = await balance(world, true)
    expect(populations(world).filter(count => count > 0)).toHaveLength(2)
    expect(report.messages.at(-1)?.text).toBe('3 more moves were not begun')
  })
})

test('nothing is planned while a node is silent', async () => {
  const world = await aWorld({ node1: guests })
  world.nodes.silence('node2')
  const report = await balance(world, true)
  expect(report).toMatchObject({ exit: 3, refusals: [{ reason: 'unreachable', node: 'node2' }] })
  expect(acts(world)).toEqual([])
})

describe('a plan for later', () => {
  /** The file that -o json would have been sent to. */
  async function planned(world: World): Promise<string> {
    const { plan } = await balance(world, false)
    const folder = await mkdtemp(join(tmpdir(), 'havirt-plan-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const file = join(folder, 'plan.json')
    await writeFile(file, JSON.stringify({ status: 0, plan }))
    return file
  }

  test('is carried out as it was shown', async () => {
    const world = await aWorld({ node1: guests })
    const file = await planned(world)
    const { table } = await balance(world, false)
    const report = await balance(world, true, { plan: file })
    expect(report.exit).toBe(0)
    expect(report.results?.map(({ domain }) => domain)).toEqual(table?.rows.map(({ domain }) => domain))
    expect(populations(world)).toEqual([2, 2, 2])
  })

  test('is refused once the cluster has changed, and says how', async () => {
    const world = await aWorld({ node1: guests })
    const file = await planned(world)
    world.nodes.set('node1', ...guests.slice(1))
    world.nodes.set('node2', ...guests.slice(0, 1))
    const report = await balance(world, true, { plan: file })
    expect(report.exit).toBe(3)
    expect(texts(report)).toContain('a no longer runs on node1; a runs on node2 now')
    expect(acts(world)).toEqual([])
  })

  test.each([
    ['{}', 'holds no plan'],
    ['no json', 'holds no plan'],
    ['{"plan":{"version":1,"moves":[{"domain":7}],"nodes":{}}}', 'holds no plan'],
  ])('in a file that says %s there is none', async (text, why) => {
    const world = await aWorld({ node1: guests })
    const file = await planned(world)
    await writeFile(file, text)
    const report = await balance(world, true, { plan: file })
    expect([report.exit, texts(report)]).toEqual([2, expect.stringContaining(why)])
  })

  test('takes no limits beside it, and must be there', async () => {
    const world = await aWorld({ node1: guests })
    expect((await balance(world, true, { plan: '/nowhere', maxMoves: 2 })).exit).toBe(2)
    expect(texts(await balance(world, true, { plan: '/nowhere' }))).toContain('/nowhere cannot be read')
  })
})
