/** Live migration: what moves, what is told, and what is refused. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { guarded, guardStatus } from '../../src/nodes/guard.ts'
import {
  clean,
  configure,
  createByVirsh,
  define,
  defineByVirsh,
  domainsOn,
  exec,
  fault,
  guest,
  HAVIRT_PROCESS,
  HOME,
  havirt,
  havirtBegins,
  nextBeat,
  pathOn,
  printed,
  processes,
  running,
  shell,
  signal,
  sure,
  until,
  uuidOf,
  whereIs,
  words,
} from './lab.ts'

afterEach(clean)

/** So much memory, empty as it is, takes more than two seconds at 1 MiB/s. */
const SLOW = { memoryMiB: 1024 } as const
const SLOWLY = ['--bandwidth', '1'] as const

async function refusedMigration(name: string, node: string, why: RegExp, ...options: string[]) {
  const before = await whereIs(name)
  const refused = await printed('node1', '-y', 'domain', 'migrate', name, node, ...options)
  expect(refused.status).toBe(3)
  expect(words(refused)).toMatch(why)
  expect(await whereIs(name)).toEqual(before)
}

describe('a migration', () => {
  test('moves the guest as it runs: the same boot goes on counting on the target', async () => {
    await running('web', 'node1')
    const first = await nextBeat('web')
    for (const [from, to] of [
      ['node3', 'node2'],
      ['node1', 'node3'],
      ['node2', 'node1'],
    ] as const) {
      // Asked for on the source, on the target and on a third node.
      await sure(havirt(from, '-y', 'domain', 'migrate', 'web', to))
      expect(await whereIs('web')).toEqual([to])
      const now = await nextBeat('web', await nextBeat('web'))
      expect(now.nonce).toBe(first.nonce)
      expect(now.counter).toBeGreaterThan(first.counter)
    }
  })

  test('tells of its progress on stderr, line by line, and of its end on stdout', async () => {
    await running('big', 'node1', SLOW)
    const { status, stdout, stderr } = await havirt('node1', '-y', 'domain', 'migrate', 'big', 'node2', ...SLOWLY)
    expect(status).toBe(0)
    const tenths = [...stderr.matchAll(/^big: node1 -> node2: (\d+)%$/gm)].map(match => Number(match[1]))
    expect(tenths.length).toBeGreaterThan(3)
    expect(tenths).toEqual([...tenths].sort((a, b) => a - b))
    expect(stdout).toMatch(/^done\tmove big from node1 to node2.*verified on both nodes/m)
  })

  test('of a domain that the source itself defines leaves no definition behind', async () => {
    await defineByVirsh('node2', await guest('own'), 'start', 'autostart')
    const { nonce } = await nextBeat('own')
    const moved = await printed('node1', '-y', 'domain', 'migrate', 'own', 'node3')
    expect(moved.status).toBe(0)
    expect(await domainsOn('node2')).toEqual({})
    expect(await domainsOn('node3')).toEqual({ own: 'running' })
    expect((await nextBeat('own')).nonce).toBe(nonce)
  })

  test('ends when the person wants it to: the domain goes on where it was', async () => {
    await running('big', 'node1', SLOW)
    const { nonce } = await nextBeat('big')
    const moving = havirtBegins('node1', '-y', 'domain', 'migrate', 'big', 'node2', ...SLOWLY)
    await until('it moves', () => /[1-9]0%/.test(moving.said()))
    await signal('node1', 'INT', await processes('node1', `${HAVIRT_PROCESS}.* domain migrate`))
    const { status, stdout } = await moving.done
    expect(status).toBe(1)
    expect(stdout).toMatch(/^failed\t.*big still runs on node1/m)
    expect(await whereIs('big')).toEqual(['node1'])
    expect((await nextBeat('big')).nonce).toBe(nonce)
  })

  test('keeps others away while it goes on, and they are told who does what', async () => {
    // It goes on for as long as all of these take, on a machine that has other work.
    await running('big', 'node2', { memoryMiB: 4096 })
    const moving = havirtBegins('node1', '-y', 'domain', 'migrate', 'big', 'node3', ...SLOWLY)
    await until('it moves', () => /\d%/.test(moving.said()))
    const attempts = [
      ['stop', 'big'],
      ['start', 'big', 'node1'],
      ['migrate', 'big', 'node1'],
    ].map(verb => havirt('node3', '-y', 'domain', ...verb))
    const claims = await printed('node2', 'claim', 'list')
    expect(claims.rows).toEqual([expect.objectContaining({ domain: 'big', state: 'held' })])
    for (const refused of await Promise.all(attempts))
      expect(refused).toMatchObject({ status: 3, stderr: expect.stringMatching(/claimed by root@node1 \(pid \d+\)/) })
    const scan = await printed('node2', 'node', 'scan')
    expect(scan.status).toBe(0)
    expect(await moving.done).toMatchObject({ status: 0 })
    expect(await whereIs('big')).toEqual(['node3'])
  })

  test('the guard lets nothing destroy what has begun to run on the target, and knows what still waits there', async () => {
    await running('big', 'node1', SLOW)
    const uuid = uuidOf(await readFile(await pathOn('node1', `${HOME}/conf/big.xml`), 'utf8'))
    const id = await readFile(await pathOn('node2', '/var/lib/havirt/id'), 'utf8')
    const nodeId = /^node: (.*)$/m.exec(id)?.[1] ?? ''
    const waits = { uri: 'qemu:///system' }
    const line = guarded({ uuid, generation: 1_000_000, nodeId, waits }, 'echo passed', 'nolock')
    const moving = havirtBegins('node1', '-y', 'domain', 'migrate', 'big', 'node2', ...SLOWLY)
    await until('both ends are there', async () => (await whereIs('big')).length === 2)
    expect(await shell('node2', line)).toMatchObject({ status: 0, stdout: 'passed\n' })
    expect(await moving.done).toMatchObject({ status: 0 })
    const late = await shell('node2', line)
    expect(late).toMatchObject({ status: guardStatus.noLongerWaits, stdout: '' })
    expect(late.stderr).toContain('waits no longer: running')
  })

  test('begun with plain virsh is no double presence, and a stop during it stops the domain or leaves it alone', async () => {
    await running('big', 'node1', SLOW)
    const { nonce } = await nextBeat('big')
    const virsh = exec('node1', [
      'virsh',
      'migrate',
      '--live',
      '--p2p',
      '--bandwidth',
      '1',
      'big',
      'qemu+ssh://node2/system',
    ])
    await until('both ends are there', async () => (await whereIs('big')).length === 2)
    const scan = await printed('node3', 'node', 'scan')
    expect(scan.status).toBe(0)
    expect(words(scan)).toContain('big is moving between node1 and node2')
    const stop = await printed('node3', '-y', 'domain', 'stop', 'big', '--force')
    await virsh
    const left = await whereIs('big')
    // Either it waited for the migration's end and stopped it, or it said no and left it alone.
    if (stop.status === 0) expect(left).toEqual([])
    else {
      expect(stop.status).toBe(3)
      expect(words(stop)).toMatch(/migrat|moving/)
      expect(left).toEqual(['node2'])
      expect((await nextBeat('big')).nonce).toBe(nonce)
    }
  })
})

describe('a migration is refused', () => {
  test('to an unknown node, and to where it runs already unless --ensure', async () => {
    await running('web', 'node2')
    await refusedMigration('web', 'node9', /no node 'node9'/)
    await refusedMigration('web', 'node2', /already runs on node2/)
    expect(await havirt('node1', '-y', '--ensure', 'domain', 'migrate', 'web', 'node2')).toMatchObject({ status: 0 })
  })

  test('when it runs nowhere, or is paused', async () => {
    await define('web')
    await refusedMigration('web', 'node2', /does not run on any node/)
    await running('web', 'node1')
    await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
    await refusedMigration('web', 'node2', /web is paused on node1/)
  })

  test('to a node that does not answer', async () => {
    await running('web', 'node1')
    await fault('libvirtd', 'node2', 'stop')
    try {
      await refusedMigration('web', 'node2', /node2 is unreachable/)
    } finally {
      await fault('libvirtd', 'node2', 'start')
    }
  })

  test('with a disk on a filesystem of one host, as libvirt itself refuses it; --unsafe overrules both', async () => {
    await running('filed', 'node1', { disk: 'file' })
    await refusedMigration('filed', 'node2', /filed\.img of filed is not shared: it lies on/)
    const plain = await exec('node1', ['virsh', 'migrate', '--live', '--p2p', 'filed', 'qemu+ssh://node2/system'])
    expect(plain).toMatchObject({ status: 1, stderr: expect.stringMatching(/unsafe/i) })
    await sure(havirt('node1', '-y', 'domain', 'migrate', 'filed', 'node2', '--unsafe'))
    expect(await whereIs('filed')).toEqual(['node2'])
  })

  test('to a node that lacks the bridge', async () => {
    const edit = (xml: string) =>
      xml.replace('</devices>', "<interface type='bridge'><source bridge='br0'/></interface></devices>")
    await running('bridged', 'node1', { edit })
    await sure(exec('node2', ['ip', 'link', 'delete', 'br0']))
    try {
      await refusedMigration('bridged', 'node2', /bridge or device 'br0' of bridged does not exist on node2/)
    } finally {
      await sure(exec('node2', ['ip', 'link', 'add', 'br0', 'type', 'bridge']))
      await sure(exec('node2', ['ip', 'link', 'set', 'br0', 'up']))
    }
    await sure(havirt('node1', '-y', 'domain', 'migrate', 'bridged', 'node2'))
  })

  test('to a node without room for its memory', async () => {
    const [node] = (await printed('node1', 'node', 'list')).rows
    const memoryMiB = Math.min(99_999, Math.floor(Number(node?.['memoryMiB']) * 0.55))
    await running('one', 'node1', { memoryMiB })
    await running('two', 'node2', { memoryMiB })
    await refusedMigration('one', 'node2', new RegExp(`one needs ${memoryMiB} MiB, and node2 has \\d+ MiB left`))
  })

  test('when the target holds a saved image or an autostart definition of it', async () => {
    const xml = await define('web')
    await defineByVirsh('node2', xml, 'start')
    await nextBeat('web')
    await sure(exec('node2', ['virsh', 'managedsave', 'web']))
    await createByVirsh('node1', xml)
    await refusedMigration('web', 'node2', /saved image/)
    await sure(exec('node2', ['virsh', 'managedsave-remove', 'web']))
    await sure(exec('node2', ['virsh', 'autostart', 'web']))
    await refusedMigration('web', 'node2', /autostart on node2/)
  })
})

/** For whoever reads it, node2 is node3. */
const ASTRAY = 'Host node2\n  HostName node3\n  HostKeyAlias node3\n'

test('to a node whose name leads to another machine on the source moves nothing, whatever ssh there thinks of it', async () => {
  await running('web', 'node1')
  await sure(shell('node1', 'cd /root/.ssh && cp config config.right && cat - config.right >config', { stdin: ASTRAY }))
  try {
    expect((await exec('node1', ['ssh', 'node2', 'hostname'])).stdout.trim(), 'the name leads astray').toBe('node3')
    const moved = await printed('node3', '-y', 'domain', 'migrate', 'web', 'node2')
    expect(moved.status).toBe(1)
    expect(JSON.stringify(moved)).toContain('its way to the target leads to the recorded node')
    expect(await whereIs('web')).toEqual(['node1'])
  } finally {
    await sure(shell('node1', 'cd /root/.ssh && mv config.right config'))
  }
  await sure(havirt('node3', '-y', 'domain', 'migrate', 'web', 'node2'))
  expect(await whereIs('web')).toEqual(['node2'])
})

test('options of config.yaml are in the command that is shown', async () => {
  await running('web', 'node1')
  const file = await pathOn('node1', `${HOME}/config.yaml`)
  const before = await readFile(file, 'utf8')
  try {
    await configure('migrate', 'bandwidthMiBps: 77')
    const { script = [] } = await printed('node1', 'domain', 'migrate', 'web', 'node2')
    expect(script.join('\n')).toContain('--bandwidth 77')
  } finally {
    await writeFile(file, before)
  }
})
