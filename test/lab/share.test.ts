/** The shared folder fails, or a node is not who it was: nothing is started, and what can be seen is still shown. */
import { afterEach, describe, expect, test } from 'vitest'
import { clean, define, exec, fault, havirt, printed, running, sure, whereIs, words } from './lab.ts'

afterEach(clean)

describe.each([
  ['full', ['fill', 'unfill'], 'ENOSPC'],
  ['read-only', ['readonly', 'readwrite'], 'EROFS'],
] as const)('a share that is %s', (_how, [breaks, heals], code) => {
  test('stops every change before it begins, in one sentence; healed, all works', async () => {
    await running('web', 'node2')
    await define('other')
    await fault(breaks, 'node1')
    try {
      for (const verb of [
        ['start', 'other', 'node1'],
        ['stop', 'web'],
      ]) {
        const { status, stderr } = await havirt('node1', '-y', 'domain', ...verb)
        expect([verb[0], status]).toEqual([verb[0], 1])
        expect(stderr).toContain(code)
      }
      expect(await whereIs('web')).toEqual(['node2'])
      expect(await whereIs('other')).toEqual([])
    } finally {
      await fault(heals, 'node1')
    }
    expect(await havirt('node1', 'claim', 'list')).toMatchObject({ status: 0, stdout: '' })
    await sure(havirt('node1', '-y', 'domain', 'start', 'other', 'node1'))
  })

  test('does not hide who runs what', async () => {
    await running('web', 'node2')
    await fault(breaks, 'node1')
    try {
      expect((await printed('node1', 'domain', 'list')).rows).toEqual([
        expect.objectContaining({ domain: 'web', node: 'node2', state: 'running' }),
      ])
      // That it cannot be recorded is said, and is no reason to keep it back.
      const scan = await printed('node1', 'node', 'scan')
      const web = expect.objectContaining({ domain: 'web', node: 'node2', state: 'running' })
      expect(scan).toMatchObject({ rows: expect.arrayContaining([web]) })
      expect(words(scan)).toContain(code)
    } finally {
      await fault(heals, 'node1')
    }
  })
})

test('a machine that lost its id, or has another one, is given nothing to run', async () => {
  await define('web')
  await sure(exec('node2', ['cp', '-a', '/var/lib/havirt/id', '/root/id']))
  try {
    for (const line of ['rm -f /var/lib/havirt/id', 'sed s/^node:.*/node:\\ other/ /root/id > /var/lib/havirt/id']) {
      await sure(exec('node2', ['sh', '-c', line]))
      const { status } = await havirt('node1', '-y', 'domain', 'start', 'web', 'node2')
      expect([1, 3]).toContain(status)
      expect(await whereIs('web')).toEqual([])
    }
    const update = await printed('node1', 'node', 'update', 'node2')
    expect(update.status).toBe(3)
    expect(words(update)).toContain('node2 is not who it was')
  } finally {
    await sure(exec('node2', ['cp', '-a', '/root/id', '/var/lib/havirt/id']))
  }
  await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node2'))
})
