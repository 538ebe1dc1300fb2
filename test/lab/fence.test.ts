/** A node that dies, or only seems to: who may call it down, by which way, and what that allows. */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  begin,
  clean,
  configure,
  type Done,
  define,
  exec,
  fault,
  HOME,
  havirt,
  type Printed,
  pathOn,
  printed,
  type Running,
  running,
  shell,
  sure,
  until,
  whereIs,
  words,
} from './lab.ts'

const ENTRY = 'node3 fence_lab plug=node3 password=@/root/fence.secret'
/** The agent lies where only the nodes of this test have it. */
const SEARCH = 'PATH=/root/agents:/media/shared/havirt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

let standardConfig = ''
let power: Running
const configFile = () => pathOn('node1', `${HOME}/config.yaml`)

/** havirt on node1, where the fence agent is. */
const fencing = (...args: string[]): Promise<Done> =>
  begin(['exec', '--env', SEARCH, 'node1', 'havirt', '-o', 'json', ...args]).done
const asJson = ({ stdout }: Done): Printed => JSON.parse(stdout)

beforeAll(async () => {
  standardConfig = await readFile(await configFile(), 'utf8')
  await configure('observe', 'timeoutMs: 2000')
  await configure('ssh', 'connectTimeoutSeconds: 1')
  await sure(havirt('node1', 'config', 'set', 'fence.devices', ENTRY))
  await sure(exec('node1', ['mkdir', '-p', '/root/agents']))
  await copyFile(join(import.meta.dirname, '../../lab/fence_lab'), await pathOn('node1', '/root/agents/fence_lab'))
  await sure(shell('node1', 'chmod 755 /root/agents/fence_lab; umask 077; echo lab >/root/fence.secret'))
  power = begin(['power'])
  await until(
    'the switches listen',
    async () => (await exec('node1', ['test', '-d', '/media/shared/power'])).status === 0,
  )
})
afterAll(async () => {
  power.child.kill('SIGTERM')
  await writeFile(await configFile(), standardConfig)
  await exec('node1', ['rm', '-rf', '/media/shared/power', '/root/agents', '/root/fence.secret'])
})
beforeEach(async () => {
  await sure(havirt('node1', 'node', 'scan'))
})
afterEach(async () => {
  await fault('on', 'node3')
  await fault('heal', 'node3')
  await until('node3 is heard again', async () => (await havirt('node1', 'node', 'update', 'node3')).status === 0)
  await sure(havirt('node1', '-y', 'node', 'confirm-down', '--cancel', 'node3'))
  await clean()
})

/** web ran on node3, which lost its power. */
async function deadNode3(): Promise<void> {
  await running('web', 'node3')
  await fault('off', 'node3')
}

describe('a node that lost its power', () => {
  test('a start is refused, and the ways out are named', async () => {
    await deadNode3()
    const refused = await printed('node1', '-y', 'domain', 'start', 'web', 'node1')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain('node3 is unreachable and may be running anything')
    expect(words(refused)).toContain('havirt node fence node3, or havirt node confirm-down node3')
    expect(await whereIs('web', ['node1', 'node2'])).toEqual([])
  })

  test('confirm-down tries it through the others, needs the name, and every list says so', async () => {
    await deadNode3()
    expect((await havirt('node1', '-y', 'node', 'confirm-down', 'node3')).status).toBe(2)
    const shown = await printed('node1', 'node', 'confirm-down', 'node3')
    expect(shown.script).toEqual([
      expect.stringMatching(/^# node1 gets no answer from node3: .*ssh: /),
      expect.stringMatching(/^# node2 gets no answer from node3: .*ssh: /),
      '# (havirt itself: record that node3 is down)',
    ])
    const confirmed = await printed(
      'node1',
      '-y',
      'node',
      'confirm-down',
      'node3',
      '--confirm',
      'node3',
      '--reason',
      'lab',
    )
    expect([confirmed.status, words(confirmed)]).toEqual([
      0,
      expect.stringMatching(/node3 is down, confirmed by root@node1/),
    ])
    for (const [noun = '', ...verb] of [['node', 'scan'], ['domain', 'list'], ['info']]) {
      const list = await printed('node2', noun, ...verb)
      expect([noun, list.status, words(list)]).toEqual([
        noun,
        0,
        expect.stringMatching(/node3 is down, confirmed by .*\(lab\)/),
      ])
    }
    const { rows } = await printed('node2', 'node', 'list')
    expect(rows.find(({ node }) => node === 'node3')).toMatchObject({ downHow: 'word', downReason: 'lab' })
  })

  test('confirmed down, its domain starts elsewhere; and when it is back it counts no longer', async () => {
    await deadNode3()
    await sure(havirt('node1', '-y', 'node', 'confirm-down', 'node3', '--confirm', 'node3'))
    await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node1'))
    expect(await whereIs('web', ['node1', 'node2'])).toEqual(['node1'])
    await fault('on', 'node3')
    await until('node3 is heard again', async () =>
      (await printed('node1', 'node', 'scan')).rows.every(({ state }) => state !== 'down'),
    )
    await fault('off', 'node3')
    await define('other')
    const refused = await printed('node1', '-y', 'domain', 'start', 'other', 'node1')
    expect([refused.status, words(refused)]).toEqual([3, expect.stringContaining('node3 is unreachable')])
  })

  test('it can be removed, and comes back by node update', async () => {
    await deadNode3()
    await sure(havirt('node1', '-y', 'node', 'confirm-down', 'node3', '--confirm', 'node3'))
    const removed = await printed('node1', '-y', 'node', 'remove', 'node3')
    expect([removed.status, words(removed)]).toEqual([0, expect.stringContaining('its machine still has its id')])
    expect((await printed('node1', 'node', 'list')).rows.map(({ node }) => node)).toEqual(['node1', 'node2'])
    await fault('on', 'node3')
    await until('node3 is a node again', async () => (await havirt('node1', 'node', 'update', 'node3')).status === 0)
    expect((await printed('node1', 'node', 'scan')).status).toBe(0)
  })
})

describe('a node that still answers somebody', () => {
  test('cut from node1 alone, it is refused by either way, and by whom it answers is said', async () => {
    await running('web', 'node3')
    await fault('cut', 'node1', 'node3')
    try {
      for (const verb of [['fence'], ['confirm-down', '--confirm', 'node3']]) {
        const refused = asJson(await fencing('-y', 'node', ...verb, 'node3'))
        expect([refused.status, words(refused)]).toEqual([
          3,
          expect.stringMatching(/node3 is not down: tried from node2, (it answered ping, )?ssh logs in/),
        ])
      }
    } finally {
      await fault('heal', 'node1', 'node3')
    }
    expect(await whereIs('web')).toEqual(['node3'])
  })

  test.each([
    ['without libvirtd', ['libvirtd', 'node3', 'kill'], ['libvirtd', 'node3', 'start'], /ssh logs in/],
    ['frozen', ['freeze', 'node3'], ['thaw', 'node3'], /it answered ssh/],
  ])('%s it is refused: its domains may run', async (_, begins, ends, said) => {
    await running('web', 'node3')
    await fault(...begins)
    try {
      const refused = await printed('node1', '-y', 'node', 'confirm-down', 'node3', '--confirm', 'node3')
      expect([refused.status, words(refused)]).toEqual([
        3,
        expect.stringMatching(/node3 is not down: tried from node[12], /),
      ])
      expect(words(refused)).toMatch(said)
    } finally {
      await fault(...ends)
    }
  })
})

describe('fence', () => {
  test('a node that nobody reaches but that runs on loses its power, and its device says so', async () => {
    await running('web', 'node3')
    await fault('cut', 'node3')
    const shown = asJson(await fencing('node', 'fence', 'node3'))
    expect(shown.script?.filter(line => !line.startsWith('#'))).toEqual(
      ['off', 'status'].map(
        action =>
          `{ printf '%s\\n' action=${action} plug=node3; printf 'password=%s\\n' "$(head -n1 /root/fence.secret)"; } | fence_lab`,
      ),
    )
    expect(await whereIs('web')).toEqual(['node3'])
    const fenced = asJson(await fencing('-y', 'node', 'fence', 'node3', '--reason', 'cut off'))
    expect([fenced.status, words(fenced)]).toEqual([
      0,
      expect.stringMatching(/node3 is down, fenced by root@node1 .*\(cut off\)/),
    ])
    expect((await begin(['pid', 'node3']).done).status).not.toBe(0)
    expect((await printed('node2', 'node', 'scan')).rows).toContainEqual(
      expect.objectContaining({ node: 'node3', state: 'down', downHow: 'fence' }),
    )
  })

  test('the shown line does the same when it is pasted', async () => {
    await running('web', 'node3')
    await fault('cut', 'node3')
    const { script = [] } = asJson(await fencing('node', 'fence', 'node3'))
    const pasted = await begin(['exec', '--env', SEARCH, 'node1', 'sh'], { stdin: script.join('\n') }).done
    expect(pasted).toMatchObject({ status: 2, stdout: 'Success: Powered OFF\nStatus: OFF\n' })
    expect((await begin(['pid', 'node3']).done).status).not.toBe(0)
  })

  test('without its agent, or with a secret that others may read, nothing is done', async () => {
    await fault('cut', 'node3')
    const missing = await printed('node1', '-y', 'node', 'fence', 'node3')
    expect([missing.status, words(missing)]).toEqual([1, expect.stringContaining('apt-get install fence-agents')])
    await sure(exec('node1', ['chmod', '644', '/root/fence.secret']))
    try {
      const open = asJson(await fencing('-y', 'node', 'fence', 'node3'))
      expect([open.status, words(open)]).toEqual([1, expect.stringContaining('others may read')])
    } finally {
      await sure(exec('node1', ['chmod', '600', '/root/fence.secret']))
    }
    expect((await begin(['pid', 'node3']).done).status).toBe(0)
    expect((await printed('node1', 'node', 'scan')).rows).toContainEqual({ node: 'node3', state: 'unreachable' })
  })

  test('fenced, its domain starts elsewhere, unless the device says on again', async () => {
    await running('web', 'node3')
    await fault('cut', 'node3')
    expect((await fencing('-y', 'node', 'fence', 'node3')).status).toBe(0)
    // On again, but nobody hears it: the cable is still out.
    await fault('on', 'node3')
    const refused = asJson(await fencing('-y', 'domain', 'start', 'web', 'node1'))
    expect([refused.status, words(refused)]).toEqual([3, expect.stringContaining('node3')])
    expect((await fencing('-y', 'node', 'fence', 'node3')).status).toBe(0)
    expect((await fencing('-y', 'domain', 'start', 'web', 'node1')).status).toBe(0)
    expect(await whereIs('web', ['node1', 'node2'])).toEqual(['node1'])
  })
})
