/** Six processes on three nodes want the same domain at once: one gets it, the others are told who did. */
import { afterEach, expect, test } from 'vitest'
import { clean, define, exec, guest, havirt, NODES, putDefinition, sure, uuidOf, whereIs } from './lab.ts'

afterEach(clean)

const ROUNDS = 5

test('of six starts at once exactly one happens', { timeout: 180_000 }, async () => {
  await define('web')
  for (let round = 1; round <= ROUNDS; round++) {
    const attempts = [...NODES, ...NODES].map(node => havirt(node, '-y', 'domain', 'start', 'web', node))
    const ends = await Promise.all(attempts)
    const text = ends.map(({ status, stdout, stderr }) => `${status}: ${stdout}${stderr}`).join('\n')
    expect(ends.map(({ status }) => status).sort(), text).toEqual([0, 3, 3, 3, 3, 3])
    for (const { stderr } of ends.filter(({ status }) => status === 3))
      expect(stderr).toMatch(/web is (claimed by \S+@node\d \(pid \d+\)|present on node\d)/)
    expect(await whereIs('web')).toHaveLength(1)
    const counts = await Promise.all(NODES.map(async node => (await exec(node, ['pgrep', '-c', 'qemu'])).stdout.trim()))
    expect(counts.map(Number).reduce((a, b) => a + b)).toBe(1)
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'web', '--force'))
  }
})

test('of two domains with one disk, started at once on two nodes, exactly one runs', async () => {
  const xml = await define('web')
  const other = uuidOf(await guest('other', { disk: 'none' }))
  await putDefinition('other', xml.replace('<name>web<', '<name>other<').replace(uuidOf(xml), other))
  for (let round = 1; round <= 2; round++) {
    const ends = await Promise.all([
      havirt('node1', '-y', 'domain', 'start', 'web', 'node1'),
      havirt('node2', '-y', 'domain', 'start', 'other', 'node2'),
    ])
    expect(ends.map(({ status }) => status).sort()).toEqual([0, 3])
    expect([...(await whereIs('web')), ...(await whereIs('other'))]).toHaveLength(1)
    for (const name of ['web', 'other']) await havirt('node3', '-q', '-y', 'domain', 'stop', name, '--force')
  }
})
