/** The cluster as one, on real nodes: `cluster balance`. */
import { afterEach, expect, test } from 'vitest'
import { clean, everywhere, fault, havirt, NODES, nextBeat, printed, running, words } from './lab.ts'

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
