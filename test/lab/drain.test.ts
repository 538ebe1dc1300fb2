/** Taking a node out of service and back, on real nodes: five guests leave it, it is switched off and on, and they come home. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { impatientLibvirt } from './impatient-libvirt.ts'
import {
  type Beat,
  clean,
  configure,
  fault,
  HOME,
  havirt,
  havirtBegins,
  nextBeat,
  pathOn,
  printed,
  running,
  sure,
  until,
  whereIs,
  words,
} from './lab.ts'

const GUESTS = ['d1', 'd2', 'd3', 'd4', 'd5'] as const

let standardConfig = ''
const configFile = () => pathOn('node1', `${HOME}/config.yaml`)
beforeAll(async () => {
  standardConfig = await readFile(await configFile(), 'utf8')
})
afterEach(async () => {
  await writeFile(await configFile(), standardConfig)
  await fault('heal', 'node3')
  await until('all nodes are heard', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  for (const node of ['node2', 'node3']) await sure(havirt('node1', '-y', '-q', 'node', 'maintenanceoff', node))
  await clean()
})
afterAll(async () => {
  await writeFile(await configFile(), standardConfig)
})

const places = async () => Promise.all(GUESTS.map(async name => (await whereIs(name)).join('+')))
const beats = async () => new Map(await Promise.all(GUESTS.map(async name => [name, await nextBeat(name)] as const)))

/** The same boots, further on: nothing was restarted, and nothing was lost. */
async function goOn(before: ReadonlyMap<string, Beat>): Promise<void> {
  for (const [name, beat] of before) expect((await nextBeat(name, beat)).nonce).toBe(beat.nonce)
}

test('a node with five guests is drained, switched off and on, and refilled: none is refused, none restarted', async () => {
  for (const name of GUESTS) await running(name, 'node2')
  const before = await beats()
  const shown = await havirt('node1', 'node', 'drain', 'node2')
  expect(shown.status).toBe(0)
  expect(shown.stdout.split('\n').filter(line => /virsh .*migrate --live/.test(line))).toHaveLength(5)
  expect(await places()).toEqual(GUESTS.map(() => 'node2'))

  const drained = await printed('node1', '-y', 'node', 'drain', 'node2', '--reason', 'new memory')
  expect([drained.status, words(drained)]).toEqual([0, expect.stringContaining('node2 is in maintenance and empty')])
  expect((await places()).filter(place => place !== 'node1' && place !== 'node3')).toEqual([])
  await goOn(before)

  await fault('off', 'node2')
  await fault('on', 'node2')
  await until('node2 is heard again', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  const refused = await printed('node1', '-y', 'domain', 'migrate', 'd1', 'node2')
  expect([refused.status, words(refused)]).toEqual([3, expect.stringContaining('node2 is in maintenance')])

  const back = await printed('node3', '-y', 'node', 'maintenanceoff', 'node2', '--return')
  expect([back.status, words(back)]).toEqual([
    0,
    expect.stringContaining('everything that was taken away from node2 is back'),
  ])
  expect(await places()).toEqual(GUESTS.map(() => 'node2'))
  await goOn(before)
})

test('a target that is cut off in the middle: what moves there fails, the others go on, and the same command finishes', async () => {
  await configure('observe', 'timeoutMs: 2000')
  await configure('ssh', 'connectTimeoutSeconds: 1')
  await configure('migrate', 'bandwidthMiBps: 1')
  await impatientLibvirt('node2')
  for (const name of GUESTS) await running(name, 'node2', { memoryMiB: 512 })
  const before = await beats()
  const drain = havirtBegins('node2', '-y', 'node', 'drain', 'node2')
  await until('one moves to node3', () => /-> node3/.test(drain.said()))
  await fault('cut', 'node3')
  const { status, stderr } = await drain.done
  expect([1, 4, 5]).toContain(status)
  expect(stderr).toMatch(/node2 is in maintenance|node2 is not|still there/)
  await goOn(before)

  await fault('heal', 'node3')
  await writeFile(await configFile(), standardConfig)
  await until('node3 is heard again', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  await until(
    'the same command finishes',
    async () => (await havirt('node2', '-y', '--wait', '30', 'node', 'drain', 'node2')).status === 0,
    90,
  )
  expect((await places()).filter(place => place !== 'node1' && place !== 'node3')).toEqual([])
  await goOn(before)
})
