/** Nodes and what they run: `node update|list|scan`, `domain list`, `info`. */
import { appendFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import {
  clean,
  createByVirsh,
  define,
  exec,
  guest,
  HOME,
  havirt,
  NODES,
  OUTSIDER,
  pathOn,
  printed,
  running,
  shell,
  sure,
  words,
} from './lab.ts'

afterEach(clean)

/** Every file below a folder with its size and time of change. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true })
  const all = await Promise.all(entries.sort().map(async name => `${name} ${(await stat(join(folder, name))).mtimeMs}`))
  return all
}

describe('node update and node list', () => {
  test('the three nodes are listed with what libvirt says of them', async () => {
    const { rows } = await printed('node2', 'node', 'list')
    expect(rows.map(({ node }) => node)).toEqual([...NODES])
    for (const row of rows) {
      expect(row).toMatchObject({ hostname: row['node'], cpus: expect.any(Number), memoryMiB: expect.any(Number) })
      expect(row['libvirt']).toMatch(/^\d+\.\d+\.\d+$/)
      expect(row['hypervisor']).toMatch(/^\d+\.\d+\.\d+$/)
    }
    const { stdout } = await havirt('node2', 'node', 'list')
    expect(stdout.split('\n')[0]).toBe(
      ['NODE', 'HOSTNAME', 'CPU MODEL', 'CPUS', 'MHZ', 'MEMORY', 'LIBVIRT', 'QEMU', 'UPDATED', 'NOTES'].join('\t'),
    )
  })

  test('a second update, from another node, changes only when it was', async () => {
    // The first, since a virtual machine's memory, of which the nodes are made, may have changed meanwhile.
    const before = await printed('node1', 'node', 'update')
    const again = await printed('node3', 'node', 'update')
    expect(again.status).toBe(0)
    const timeless = (rows: typeof before.rows) => rows.map(row => ({ ...row, updated: '' }))
    expect(timeless(again.rows)).toEqual(timeless(before.rows))
    const times = [before, again].map(({ rows = [] }) => String(rows[0]?.['updated']))
    expect([...times].sort()).toEqual(times)
  })

  test('a second alias of a machine that is a node already is refused', async () => {
    const config = await pathOn('node1', '/root/.ssh/config')
    await appendFile(config, 'Host twin\n  HostName node2\n  HostKeyAlias node2\n  User root\n')
    const refused = await printed('node1', 'node', 'update', 'twin')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain('already known as node2')
    expect((await printed('node1', 'node', 'list')).rows).toHaveLength(3)
  })

  test('a node of another cluster is refused, and stays what it was', async () => {
    await sure(exec(OUTSIDER, ['mkdir', '-p', '/media/shared/other']))
    try {
      const id = await sure(exec('node2', ['cat', '/var/lib/havirt/id']))
      const refused = await printed(OUTSIDER, '--home', '/media/shared/other', 'node', 'update', 'node2')
      expect(refused.status).toBe(3)
      expect(words(refused)).toContain('belongs to another cluster')
      expect(await sure(exec('node2', ['cat', '/var/lib/havirt/id']))).toBe(id)
      expect((await printed(OUTSIDER, '--home', '/media/shared/other', 'node', 'list')).rows).toEqual([])
    } finally {
      await exec(OUTSIDER, ['rm', '-rf', '/media/shared/other'])
    }
  })

  test('a home folder that holds no cluster is left empty by a machine that belongs to one', async () => {
    await sure(exec('node1', ['mkdir', '-p', '/media/shared/empty']))
    try {
      const refused = await havirt('node1', '--home', '/media/shared/empty', 'node', 'scan')
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('holds no cluster') })
      expect(await sure(exec('node1', ['ls', '-A', '/media/shared/empty']))).toBe('')
    } finally {
      await exec('node1', ['rm', '-rf', '/media/shared/empty'])
    }
  })

  test('a name that ssh would take for an option is refused, and nothing is run', async () => {
    const refused = await havirt('node1', 'node', 'update', '--', '-oProxyCommand=touch /root/ran')
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toContain("cannot be a node's name")
    expect((await exec('node1', ['ls', '/root/ran'])).status).not.toBe(0)
  })

  test("a machine that nobody knows is answered in ssh's own words", async () => {
    const { status, stderr } = await havirt('node1', 'node', 'update', 'nowhere')
    expect(status).toBe(1)
    expect(stderr).toContain('Could not resolve hostname nowhere')
    expect(stderr).toContain('check by hand: ssh nowhere')
  })
})

describe('node scan', () => {
  test('it shows who runs what, and what changed since the scan before', async () => {
    expect((await printed('node1', 'node', 'scan')).status).toBe(0)
    await running('web', 'node2')
    const started = await printed('node3', 'node', 'scan')
    expect(started.status).toBe(0)
    expect(started.rows).toEqual([
      { node: 'node1' },
      expect.objectContaining({ node: 'node2', domain: 'web', state: 'running', kind: 'transient', change: 'new' }),
      { node: 'node3' },
    ])
    await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
    const paused = await printed('node1', 'node', 'scan', 'node2')
    expect(paused.rows).toEqual([expect.objectContaining({ state: 'paused', change: 'was running' })])
    await sure(havirt('node1', '-y', 'domain', 'stop', 'web', '--force'))
    const stopped = await printed('node1', 'node', 'scan')
    expect(words(stopped)).toContain('web no longer runs on node2')
  })

  test('a scan that sees no change writes no file', async () => {
    await running('web', 'node1')
    await sure(havirt('node1', 'node', 'scan'))
    const folder = await pathOn('node1', `${HOME}/var`)
    const before = await filesBelow(folder)
    for (const node of NODES) await sure(havirt(node, 'node', 'scan'))
    expect(await filesBelow(folder)).toEqual(before)
  })

  test('a domain that plain virsh started is shown by scan, list and info', async () => {
    await createByVirsh('node2', await guest('wild'))
    const scan = await printed('node1', 'node', 'scan')
    expect(scan.rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'wild', state: 'running' }))
    const list = await printed('node1', 'domain', 'list')
    expect(list.rows).toEqual([expect.objectContaining({ domain: 'wild', node: 'node2', conf: 'no' })])
    const info = await printed('node3', 'info', 'wild')
    expect(info.rows).toContainEqual({ what: 'on node2', value: 'running, transient' })
  })

  test('a domain that runs on two nodes ends the scan with 6 and is named loudly', async () => {
    const xml = await define('web')
    for (const node of ['node2', 'node3']) await createByVirsh(node, xml)
    const { status, stdout, stderr } = await havirt('node1', 'node', 'scan')
    expect(status).toBe(6)
    expect(stderr).toContain('error: web IS PRESENT ON node2 AND node3 AT ONCE')
    expect(stdout.match(/\tweb\trunning/g)).toHaveLength(2)
    const list = await printed('node1', 'domain', 'list', 'web')
    expect(list.rows.map(({ node, state }) => `${node} ${state}`)).toEqual(['node2 running', 'node3 running'])
    const info = await printed('node1', 'info', 'web')
    expect(info.rows.map(({ what }) => what)).toEqual(expect.arrayContaining(['on node2', 'on node3']))
    for (const verb of [
      ['start', 'web'],
      ['stop', 'web'],
      ['suspend', 'web'],
      ['migrate', 'web', 'node1'],
    ])
      expect([verb[0], (await havirt('node1', '-y', 'domain', ...verb)).status]).toEqual([verb[0], 3])
  })

  test('a definition that cannot be read is named and does not hide the others', async () => {
    await running('web', 'node1')
    await sure(shell('node1', `printf '<domain' > ${HOME}/conf/broken.xml`))
    const list = await printed('node1', 'domain', 'list')
    expect(list.rows.map(({ domain, conf }) => `${domain} ${conf}`)).toEqual(['broken bad', 'web yes'])
    expect(words(list)).toContain(`${HOME}/conf/broken.xml`)
  })

  test('info without a name shows the load of every node', async () => {
    await running('web', 'node3')
    const { rows, status } = await printed('node1', 'info')
    expect(status).toBe(0)
    expect(rows.map(({ node, domains, usedMiB }) => [node, domains, usedMiB])).toEqual([
      ['node1', 0, 0],
      ['node2', 0, 0],
      ['node3', 1, 32],
    ])
  })
})
