/** The cluster as one, on real nodes: `cluster balance`. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { impatientLibvirt } from './impatient-libvirt.ts'
import {
  clean,
  configure,
  everywhere,
  fault,
  HOME,
  havirt,
  havirtBegins,
  NODES,
  nextBeat,
  pathOn,
  printed,
  running,
  until,
  words,
} from './lab.ts'

afterEach(clean)

const GUESTS = ['b1', 'b2', 'b3'] as const

async function counts(): Promise<number[]> {
  const domains = await everywhere()
  return NODES.map(node => Object.values(domains[node] ?? {}).filter(state => state === 'running').length)
}

test('three guests on one node are spread over all, live, as it was shown before', async () => {
  for (const name of GUESTS) await running(name, 'node1')
  const plan = await printed('node2', 'cluster', 'balance')
  expect(plan.status).toBe(0)
  expect(plan.rows.map(({ from }) => from)).toEqual(['node1', 'node1'])
  expect(plan.rows.map(({ to }) => to).sort()).toEqual(['node2', 'node3'])
  const shown = await havirt('node2', 'cluster', 'balance')
  expect(shown.stdout.split('\n').filter(line => /virsh .*migrate --live/.test(line))).toHaveLength(2)
  expect(await counts()).toEqual([3, 0, 0])

  expect((await havirt('node2', '-y', 'cluster', 'balance')).status).toBe(0)
  expect(await counts()).toEqual([1, 1, 1])
  for (const name of GUESTS) await nextBeat(name)
  expect(words(await printed('node3', 'cluster', 'balance'))).toContain('nothing to do')
})

test('nothing is planned while a node is cut off', async () => {
  await running('b1', 'node1')
  await fault('cut', 'node3')
  const report = await printed('node1', 'cluster', 'balance').finally(() => fault('heal', 'node3'))
  expect(report.status).toBe(3)
  expect(words(report)).toContain('node3 is unreachable')
})

test('a target that is cut off in the middle of a balance: what moves there stays where it was, and the rest is planned anew', async () => {
  const five = ['b1', 'b2', 'b3', 'b4', 'b5']
  const before = await readFile(await pathOn('node1', `${HOME}/config.yaml`), 'utf8')
  onTestFinished(async () => writeFile(await pathOn('node1', `${HOME}/config.yaml`), before))
  await configure('observe', 'timeoutMs: 2000')
  await configure('migrate', 'bandwidthMiBps: 1')
  await impatientLibvirt('node2')
  for (const name of five) await running(name, 'node2', { memoryMiB: 512 })
  const beats = new Map(await Promise.all(five.map(async name => [name, await nextBeat(name)] as const)))
  const balance = havirtBegins('node2', '-y', 'cluster', 'balance')
  await until('one moves to node3', () => /-> node3/.test(balance.said()))
  await fault('cut', 'node3')
  const { status, stderr } = await balance.done
  await fault('heal', 'node3')
  expect([1, 4, 5]).toContain(status)
  expect(stderr).toMatch(/more moves were not begun|is not known while node3 does not answer|Lost connection/)
  await writeFile(await pathOn('node1', `${HOME}/config.yaml`), before)
  await until('all nodes are heard', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  await until(
    'the rest is balanced',
    async () => (await havirt('node2', '-y', '--wait', '30', 'cluster', 'balance')).status === 0,
    60,
  )
  expect([...(await counts())].sort()).toEqual([1, 2, 2])
  for (const [name, beat] of beats) expect((await nextBeat(name, beat)).nonce).toBe(beat.nonce)
})
