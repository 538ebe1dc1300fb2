/** What was not started by havirt is found: QEMUs that libvirtd forgot, disks under another name, definitions that start by themselves. */
import { afterEach, describe, expect, test } from 'vitest'
import {
  clean,
  define,
  defineByVirsh,
  exec,
  fault,
  guest,
  havirt,
  NODES,
  nextBeat,
  printed,
  processes,
  putDefinition,
  running,
  shell,
  signal,
  sure,
  until,
  uuidOf,
  whereIs,
  words,
} from './lab.ts'

/** What virsh does not reach is left over when all that it reaches is gone. */
afterEach(async () => {
  await clean()
  for (const node of NODES) for (const name of ['web', 'other']) await signal(node, 'KILL', await qemus(node, name))
})

/** The numbers of the QEMUs that run this guest. */
function qemus(node: string, name: string): Promise<number[]> {
  return processes(node, `guest=${name},`)
}

/** Makes libvirtd forget a domain that goes on running, as one that lost its /run would. */
async function forget(node: string, name: string): Promise<number> {
  const [pid] = await qemus(node, name)
  await fault('libvirtd', node, 'stop')
  await sure(shell(node, `rm /run/libvirt/qemu/${name}.xml /run/libvirt/qemu/${name}.pid`))
  await fault('libvirtd', node, 'start')
  await until('libvirtd answers', async () => (await exec(node, ['virsh', '-q', 'list'])).status === 0)
  expect(await whereIs(name)).toEqual([])
  expect(await qemus(node, name)).toEqual([pid])
  return pid ?? 0
}

/** A verb that must say no, in these words, and change nothing. */
async function refused(why: string | RegExp, ...verb: string[]): Promise<void> {
  const answer = await printed('node1', '-y', 'domain', ...verb)
  expect([verb[0], answer.status]).toEqual([verb[0], 3])
  expect(words(answer)).toMatch(why)
  expect(answer.results).toBeUndefined()
}

describe('a QEMU that libvirtd forgot', () => {
  test.each(['iscsi', 'file'] as const)('is found by scan, and nothing starts beside it (%s)', async disk => {
    const xml = await running('web', 'node2', { disk })
    const { nonce } = await nextBeatOf(disk)
    const pid = await forget('node2', 'web')
    const scan = await printed('node1', 'node', 'scan')
    expect(scan.status).toBe(4)
    expect(scan.rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'web', state: 'unlisted' }))
    expect(words(scan)).toContain(`web runs on node2 as process ${pid}, which libvirt there does not list`)
    expect(words(scan)).toContain(`kill ${pid}`)
    const unlisted = `web runs on node2 as process ${pid}`
    for (const verb of [
      ['start', 'web', 'node1'],
      ['start', 'web', 'node2'],
      ['start', 'web', '--auto'],
      ['stop', 'web', '--force'],
      ['suspend', 'web'],
      ['migrate', 'web', 'node3'],
    ])
      await refused(unlisted, ...verb)
    const other = await define('other', { disk: 'none' })
    await putDefinition('other', xml.replace('<name>web<', '<name>other<').replace(uuidOf(xml), uuidOf(other)))
    await refused('web, present on node2, holds the disk', 'start', 'other', 'node1')
    expect((await nextBeatOf(disk)).nonce).toBe(nonce)
    await signal('node2', 'KILL', [pid])
    await until('it is gone', async () => (await qemus('node2', 'web')).length === 0)
    expect((await printed('node1', 'node', 'scan')).status).toBe(0)
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'web', 'node3'))
  })

  test('that somebody started once more, on the same node, is there twice', async () => {
    const xml = await running('web', 'node2')
    await nextBeat('web')
    await forget('node2', 'web')
    await sure(shell('node2', 'cat | virsh create /dev/stdin', { stdin: xml }))
    const scan = await printed('node1', 'node', 'scan')
    expect(scan.status).toBe(6)
    expect(scan.rows.filter(({ domain }) => domain === 'web').map(({ state }) => state)).toEqual([
      'running',
      'unlisted',
    ])
    await refused(/present on node2 and node2/, 'stop', 'web')
  })

  test('is no concern while libvirtd knows it, however often it is asked', async () => {
    await running('web', 'node2')
    for (const _ of [1, 2, 3]) expect((await printed('node1', 'node', 'scan')).status).toBe(0)
  })
})

/** Only a disk on the lab's storage can be read from here; of a guest with a file the process is proof enough. */
async function nextBeatOf(disk: 'iscsi' | 'file'): Promise<{ nonce: string }> {
  return disk === 'iscsi' ? nextBeat('web') : { nonce: '' }
}

describe('a disk under another name', () => {
  test('a link to the file of a running domain refuses a second one, on every node', async () => {
    await running('web', 'node2', { disk: 'file' })
    await sure(shell('node1', 'ln -sf web.img /media/images/alias.img'))
    try {
      const other = await guest('other', { disk: 'file' })
      await putDefinition('other', other.replace('/media/images/other.img', '/media/images/alias.img'))
      for (const node of NODES)
        await refused('web, present on node2, holds the disk file:/media/images/alias.img', 'start', 'other', node)
    } finally {
      await exec('node1', ['rm', '-f', '/media/images/alias.img'])
    }
  })

  test('a volume of a pool is the file that a running domain has', async () => {
    await running('web', 'node2', { disk: 'file' })
    const pool = "<pool type='dir'><name>images</name><target><path>/media/images</path></target></pool>"
    await sure(shell('node1', 'cat | virsh pool-create /dev/stdin', { stdin: pool }))
    try {
      const other = await guest('other', { disk: 'file' })
      const volume = other
        .replace("<disk type='file'", "<disk type='volume'")
        .replace("<source file='/media/images/other.img'/>", "<source pool='images' volume='web.img'/>")
      await putDefinition('other', volume)
      await refused('web, present on node2, holds the disk volume:images/web.img', 'start', 'other', 'node1')
    } finally {
      await exec('node1', ['virsh', 'pool-destroy', 'images'])
    }
  })
})

describe('a definition that starts by itself elsewhere', () => {
  test('refuses a start, and scan warns of it while the domain runs', async () => {
    const xml = await define('web')
    await defineByVirsh('node3', xml, 'autostart')
    await refused('autostart on node3', 'start', 'web', 'node1')
    await sure(exec('node3', ['virsh', 'autostart', '--disable', 'web']))
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'web', 'node1'))
    await sure(exec('node3', ['virsh', 'autostart', 'web']))
    const scan = await printed('node1', 'node', 'scan')
    expect(words(scan)).toContain('web RUNS ON node1 AND HAS AUTOSTART ON node3')
    expect(words(scan)).toContain('autostart --disable web')
  })
})
