/** Taking over what nodes define themselves, and keeping definitions in conf/. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import {
  clean,
  defineByVirsh,
  domainsOn,
  exec,
  guest,
  HOME,
  havirt,
  nextBeat,
  pathOn,
  printed,
  running,
  sure,
  uuidOf,
  words,
} from './lab.ts'

afterEach(clean)

const definition = (name: string) => pathOn('node1', `${HOME}/conf/${name}.xml`)

test('a running persistent domain is taken over without stopping it', async () => {
  await defineByVirsh('node2', await guest('own'), 'start', 'autostart')
  const first = await nextBeat('own')
  const qemu = await sure(exec('node2', ['pgrep', 'qemu']))
  expect((await printed('node1', '-y', 'domain', 'adopt', 'own')).status).toBe(0)
  expect(await sure(exec('node2', ['pgrep', 'qemu']))).toBe(qemu)
  expect((await nextBeat('own', await nextBeat('own', first))).nonce).toBe(first.nonce)
  expect(await sure(exec('node2', ['virsh', '-q', 'list', '--name', '--transient']))).toMatch(/^own\s*$/)
  const path = await definition('own')
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  expect(await readFile(path, 'utf8')).toContain(`<uuid>${uuidOf(await guest('own'))}</uuid>`)
  // It is the cluster's now: stopped, it can start anywhere.
  await sure(havirt('node1', '-y', 'domain', 'stop', 'own'))
  await sure(havirt('node1', '-y', 'domain', 'start', 'own', 'node3'))
  expect(await domainsOn('node2')).toEqual({})
})

test('the VNC password, which only the definition knows, is kept', async () => {
  const xml = (await guest('own')).replace("autoport='yes'", "autoport='yes' passwd='tiger'")
  await defineByVirsh('node2', xml, 'start')
  const { stdout, stderr } = await havirt('node1', '-y', 'domain', 'adopt', 'own')
  expect(await readFile(await definition('own'), 'utf8')).toContain("passwd='tiger'")
  expect(`${stdout}${stderr}`).not.toContain('tiger')
})

test('ALL takes those that are shut off, too, and a second time there is nothing to do', async () => {
  await defineByVirsh('node2', await guest('own'))
  await defineByVirsh('node3', await guest('own2'), 'start')
  await sure(havirt('node1', '-y', 'domain', 'adopt', 'ALL'))
  expect(await domainsOn('node2')).toEqual({})
  expect(await domainsOn('node3')).toEqual({ own2: 'running' })
  expect(await printed('node1', '-y', 'domain', 'adopt', 'ALL')).toMatchObject({ status: 0 })
})

test('a saved image stands in the way, and stays', async () => {
  await defineByVirsh('node2', await guest('own'), 'start')
  await nextBeat('own')
  await sure(exec('node2', ['virsh', 'managedsave', 'own']))
  const refused = await printed('node1', '-y', 'domain', 'adopt', 'own')
  expect(refused.status).toBe(3)
  expect(words(refused)).toContain('saved image')
  expect((await sure(exec('node2', ['virsh', 'list', '--with-managed-save', '--inactive', '--name']))).trim()).toBe(
    'own',
  )
})

test('a snapshot stands in the way, and stays', async () => {
  // Only a qcow2 image can have one.
  const image = '/media/images/snap.qcow2'
  await sure(exec('node2', ['qemu-img', 'create', '-q', '-f', 'qcow2', image, '1M']))
  try {
    const xml = (await guest('snap', { disk: 'file' }))
      .replace("type='raw'", "type='qcow2'")
      .replace(/\/media\/images\/snap\.img/, image)
    await defineByVirsh('node2', xml)
    await sure(exec('node2', ['virsh', 'snapshot-create-as', 'snap', 'first']))
    const refused = await printed('node1', '-y', 'domain', 'adopt', 'snap')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain('snapshots')
    expect(await sure(exec('node2', ['virsh', 'snapshot-list', '--name', 'snap']))).toMatch(/^first/)
  } finally {
    await exec('node2', ['rm', '-f', image])
  }
})

test('what no node defines is not adopted', async () => {
  await running('web', 'node2')
  const refused = await printed('node1', '-y', 'domain', 'adopt', 'web')
  expect(refused.status).toBe(3)
  expect(words(refused)).toContain('nothing to adopt')
})

test('update RUNNING fetches the definitions that conf/ lacks, and changes nothing on the nodes', async () => {
  await running('web', 'node1')
  await defineByVirsh('node2', await guest('own'), 'start')
  await defineByVirsh('node3', await guest('idle'))
  const before = await readFile(await definition('web'), 'utf8')
  const { rows, status } = await printed('node1', '-y', 'domain', 'update', 'RUNNING')
  expect(status).toBe(0)
  expect(rows.map(({ domain }) => domain)).toEqual(['own', 'web'])
  expect((await readdir(await pathOn('node1', `${HOME}/conf`))).sort()).toEqual(['own.xml', 'web.xml'])
  expect(await readFile(await definition('web'), 'utf8')).toBe(before)
  expect(await domainsOn('node2')).toEqual({ own: 'running' })
  expect(await domainsOn('node3')).toEqual({ idle: 'shut off' })
})

test('update --force shows what differs first, replaces the definition, and keeps the old one', async () => {
  await defineByVirsh('node2', await guest('own'))
  await sure(havirt('node1', '-y', 'domain', 'update', 'own'))
  const path = await definition('own')
  const edited = (await readFile(path, 'utf8')).replace(/(<vcpu[^>]*>)1</, '$12<')
  await writeFile(path, edited)
  const shown = await printed('node1', 'domain', 'update', 'own', '--force')
  expect(words(shown)).toMatch(/own: vcpu: '2' -> '1'/)
  expect(shown.rows).toEqual([expect.objectContaining({ domain: 'own', vcpus: 2 })])
  expect(await readFile(path, 'utf8')).toBe(edited)
  const replaced = await printed('node1', '-y', 'domain', 'update', 'own', '--force')
  expect(replaced.rows).toEqual([expect.objectContaining({ domain: 'own', vcpus: 1 })])
  const history = await pathOn('node1', `${HOME}/var/definitions/own`)
  const kept = await Promise.all((await readdir(history)).map(file => readFile(join(history, file), 'utf8')))
  expect(kept).toContain(edited)
  expect(await printed('node1', '-y', 'domain', 'update', 'own', '--force')).toMatchObject({
    status: 0,
    messages: [expect.objectContaining({ text: expect.stringContaining('is what node2 has') })],
  })
})
