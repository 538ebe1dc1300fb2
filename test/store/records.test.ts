/** The cluster's records: what is written is what is read, and what is damaged is named and left alone. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import type { NodeRecord } from '../../src/core/node.ts'
import { DirectoryStore } from '../../src/store/directory.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { Records } from '../../src/store/records.ts'
import { StoreError } from '../../src/store/store.ts'
import { temporaryFolder } from './parts.ts'

const NODE: NodeRecord = {
  name: 'node1',
  id: '0c5d7a52-1a1e-4f0a-9a44-0d2a3f1d5b10',
  hostUuid: '4c4c4544-0042-3510-8054-b2c04f4d3632',
  hostname: 'hv1.example.org',
  sshHostKey: 'ssh-ed25519 SHA256:abc/def+ghi',
  cpuModel: 'Skylake-Server',
  cpus: 32,
  memoryMiB: 262_144,
  sockets: 2,
  coresPerSocket: 8,
  threadsPerCore: 2,
  mhz: 2100,
  libvirtVersion: '9.0.0',
  hypervisorVersion: '7.2.0',
  updated: '2026-01-02T03:04:05.000Z',
}

let store = new MemoryStore()
let records = new Records(store)
beforeEach(() => {
  store = new MemoryStore()
  records = new Records(store)
})

describe('what is written is what is read', () => {
  test('nodes', async () => {
    const { sshHostKey: _, ...here } = { ...NODE, name: 'node2' }
    await records.writeNode(NODE)
    await records.writeNode(here)
    expect(await records.nodes()).toEqual(
      new Map([
        ['node1', NODE],
        ['node2', here],
      ]),
    )
  })

  test('domains, whatever their names', async () => {
    const names = ['web', 'größe', 'a b', '..', 'yes', '1e3', 'x'.repeat(300)]
    for (const [at, name] of names.entries()) await records.writeDomain(name, { manual: at % 2 === 0 })
    expect(await records.domains()).toEqual(new Map(names.map((name, at) => [name, { manual: at % 2 === 0 }])))
  })

  test('populations', async () => {
    const population = { '11111111-2222-4333-8444-555555555555': { name: 'null', state: 'running' } }
    expect(await records.population('node1')).toBeUndefined()
    await records.writePopulation('node1', population)
    expect(await records.population('node1')).toEqual(population)
    await records.writePopulation('node1', {})
    expect(await records.population('node1')).toEqual({})
  })

  test('of several who make the cluster at once, all get the same one', async () => {
    const ids = ['a', 'b', 'c']
    const made = await Promise.all(ids.map(id => records.createCluster({ id, created: 'now' })))
    expect(made).toEqual([made[0], made[0], made[0]])
    expect(await records.cluster()).toEqual(made[0])
  })
})

test('what is unchanged is not written', async () => {
  await records.writeNode(NODE)
  await records.writeNode({ ...NODE })
  expect((await store.read('nodes/node1'))?.version).toBe(1)
  await records.writeNode({ ...NODE, mhz: 1 })
  expect((await store.read('nodes/node1'))?.version).toBe(2)
})

test('a removed node is out of the list, its versions live on, and it can come back', async () => {
  await records.writeNode(NODE)
  await records.removeNode('node1')
  expect(await records.nodes()).toEqual(new Map())
  expect((await store.read('nodes/node1'))?.version).toBe(2)
  await records.writeNode(NODE)
  expect((await records.nodes()).get('node1')).toEqual(NODE)
})

test('writers that meet both get through, and one that never does says so', async () => {
  await Promise.all([1, 2, 3, 4, 5].map(mhz => records.writeNode({ ...NODE, mhz })))
  expect((await store.read('nodes/node1'))?.version).toBe(5)
  store.swap = async () => ({ outcome: 'lost' })
  await expect(records.removeNode('node1')).rejects.toThrow('others kept writing it')
})

describe('damaged', () => {
  const { hostUuid: _hostUuid, ...withoutUuid } = NODE

  test.each([
    ['no YAML', 'name: "node1'],
    ['an alias bomb', 'a: &a [x]\nb: [*a, *a]\n'],
    ['nothing', ''],
    ['a list', '- node1\n'],
    ['a field missing', JSON.stringify(withoutUuid)],
    ['a field of another type', JSON.stringify({ ...NODE, cpus: '32' })],
    ['a name that no node has', JSON.stringify({ ...NODE, name: '-oProxyCommand=x' })],
  ])('%s: it is named with the version before it, and left alone', async (_what, text) => {
    await records.writeNode(NODE)
    await store.swap('nodes/node1', 1, text)
    const nodes = records.nodes()
    await expect(nodes).rejects.toThrow(/^the record var\/nodes\/node1\/2\.yaml cannot be used: [^\n]+$/)
    await expect(nodes).rejects.toMatchObject({
      name: 'StoreError',
      hint: 'the version before it is var/nodes/node1/1.yaml',
    })
    expect(await store.read('nodes/node1')).toEqual({ version: 2, text })
  })

  test('records of each kind are checked', async () => {
    await store.swap('domains/web', 0, 'name: web\nmanual: 1\n')
    await store.swap('population/node1', 0, 'a: {name: web}\n')
    await store.swap('cluster', 0, 'id: 7\n')
    await expect(records.domains()).rejects.toThrow('var/domains/web/1.yaml')
    await expect(records.population('node1')).rejects.toThrow('var/population/node1/1.yaml')
    await expect(records.cluster()).rejects.toThrow('var/cluster/1.yaml')
  })

  test('a file that was cut after it was written is not taken, at any byte', async () => {
    const folder = await temporaryFolder()
    const onDisk = new Records(new DirectoryStore(folder))
    await onDisk.writeNode(NODE)
    const file = join(folder, 'nodes', 'node1', '1.yaml')
    const whole = await readFile(file)
    for (let bytes = 0; bytes < whole.length; bytes += 7) {
      await writeFile(file, whole.subarray(0, bytes))
      await expect(onDisk.nodes(), `cut after ${bytes} bytes`).rejects.toBeInstanceOf(StoreError)
    }
    await writeFile(file, whole)
    expect((await onDisk.nodes()).get('node1')).toEqual(NODE)
  })
})
