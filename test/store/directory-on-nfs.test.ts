/** The store in a folder, on a simulated NFS: the conformance suite, and the traps of NFS one by one. */
import { assert, describe, expect, it } from 'vitest'
import { DirectoryStore } from '../../src/store/directory.ts'
import { StoreError } from '../../src/store/store.ts'
import { storeConformance, storeConformanceUnderFailures } from './conformance.ts'
import { type Call, type Fault, SimulatedNfs, storeOnNfs, worldOnNfs } from './simulated-nfs.ts'

const calm = { repeats: 0.1, stalls: 0.02 }
const storm = { ...calm, failures: 0.03 }
storeConformance('the folder on NFS', async seed => worldOnNfs(DirectoryStore, { seed, ...calm }), { runs: 150 })
storeConformanceUnderFailures('the folder on NFS', async seed => worldOnNfs(DirectoryStore, { seed, ...storm }), {
  runs: 150,
})

const KEY = 'claims/domain/web'
const folder = `/var/${KEY}`

describe('the folder on NFS', () => {
  it('wins although link() said EEXIST and unlink() said ENOENT, because both were repeated', async () => {
    const { nfs, store } = oneHost()
    nfs.hook = () => ({ when: 'repeated' })
    expect(await store.swap(KEY, 0, 'x')).toEqual({ outcome: 'won', version: 1 })
    expect(await store.read(KEY)).toEqual({ version: 1, text: 'x' })
  })

  it('is never won by a contender that slept from its look to its link while others went on and pruned', async () => {
    const { nfs, store } = oneHost()
    const sleeper = storeOnNfs(DirectoryStore, nfs, 'sleeper')
    expect((await store.swap(KEY, 0, '1')).outcome).toBe('won')
    const awake = gate()
    const asleep = gate()
    nfs.hook = ({ client, operation }) => {
      if (client !== 'sleeper' || operation !== 'link') return undefined
      asleep.open()
      return awake.passed
    }
    const late = sleeper.swap(KEY, 1, 'late')
    await asleep.passed
    for (let version = 1; version < 20; version++) await store.swap(KEY, version, `${version + 1}`)
    awake.open()
    expect((await late).outcome).toBe('unknown')
    expect(nfs.nodes.has(`${folder}/2.yaml`), 'what it left behind').toBe(true)
    expect(await sleeper.read(KEY)).toEqual({ version: 20, text: '20' })
    expect((await store.swap(KEY, 20, '21')).outcome).toBe('won')
    expect(recordsOf(nfs), 'the next winner prunes it').toEqual([14, 15, 16, 17, 18, 19, 20, 21])
  })

  it('says unknown, not won, when another record followed before the winner had looked', async () => {
    const { nfs, store } = oneHost()
    const fast = storeOnNfs(DirectoryStore, nfs, 'fast')
    nfs.hook = async ({ client, operation, path }) => {
      if (client !== 'node1' || operation !== 'unlink' || !path.includes('tmp.')) return undefined
      await fast.swap(KEY, 1, 'fast')
      return undefined
    }
    const result = await store.swap(KEY, 0, 'slow')
    expect(result).toEqual({ outcome: 'unknown', reason: 'written as version 1, but version 2 already follows it' })
    nfs.hook = undefined
    expect(await store.read(KEY)).toEqual({ version: 2, text: 'fast' })
  })

  it('ends a doubt by a read: a link that is still under way can happen no more', async () => {
    const { nfs, store } = oneHost()
    let linkLater: (() => Promise<void>) | undefined
    const files = nfs.client('node2')
    const doubtful = new DirectoryStore('/var', {
      files: {
        ...files,
        async link(from, to) {
          linkLater = () => files.link(from, to)
          throw Object.assign(new Error('ETIMEDOUT'), { code: 'ETIMEDOUT' })
        },
      },
    })
    nfs.hook = fail(({ client, operation }) => client === 'node2' && operation === 'unlink', 'EIO')
    expect((await doubtful.swap(KEY, 0, 'x')).outcome).toBe('unknown')
    await expect(doubtful.read(KEY), 'no answer while the doubt cannot be ended').rejects.toThrow(StoreError)
    nfs.hook = () => undefined
    expect(await doubtful.read(KEY)).toBe(undefined)
    await expect(linkLater?.()).rejects.toThrow('ENOENT')
    expect(await store.read(KEY)).toBe(undefined)
  })

  it('shows a watcher a new record at its next look, whatever its caches hold', async () => {
    const { nfs, store } = oneHost()
    const watcher = storeOnNfs(DirectoryStore, nfs, 'watcher')
    nfs.hook = () => undefined
    await store.swap('a/b', 0, '1')
    expect(await watcher.read(KEY)).toBe(undefined)
    expect((await watcher.read('a/b'))?.version).toBe(1)
    await store.swap('a/b', 1, '2')
    await store.swap(KEY, 0, '1')
    const before = nfs.operations
    expect((await watcher.watch('a/b', 1, AbortSignal.timeout(5000)))?.version).toBe(2)
    expect((await watcher.watch(KEY, 0, AbortSignal.timeout(5000)))?.version).toBe(1)
    expect(nfs.operations - before).toBeLessThan(20)
  })

  it('costs two operations to read, seven to win, one to be refused for an old version', async () => {
    const { nfs, store } = oneHost()
    nfs.hook = () => undefined
    await store.swap(KEY, 0, '1')
    expect(await cost(nfs, () => store.read(KEY))).toBe(2)
    expect(await cost(nfs, () => store.swap(KEY, 1, '2'))).toBe(7)
    expect(await cost(nfs, () => store.swap(KEY, 0, '2'))).toBe(1)
  })

  describe.each(['ENOSPC', 'EROFS', 'EIO', 'ESTALE', 'EACCES'])('%s', code => {
    const steps = ['list', 'write', 'link', 'read', 'unlink', 'sync'] as const
    it.each(steps)('in %s is an error before the link and a doubt after it, and nothing is lost', async step => {
      for (const when of ['before', 'after'] as const) {
        const { nfs, store } = oneHost()
        expect((await store.swap(KEY, 0, '1')).outcome).toBe('won')
        nfs.hook = fail(({ operation }) => operation === step, code, when)
        const early = step === 'list' || step === 'write'
        const result = await store.swap(KEY, 1, '2').catch(error => error)
        nfs.hook = undefined
        const after = await store.read(KEY)
        if (early) {
          assert(result instanceof StoreError)
          expect(result.message).toContain(folder)
          expect(result.message).toContain(code)
          expect(result.hint).not.toBe('')
          expect(after?.version).toBe(1)
        } else if (step === 'link' && when === 'after') {
          expect(result.outcome, 'what link answers is not asked').toBe('won')
        } else if (step === 'read' && code === 'ESTALE') {
          expect(result.outcome, 'a stale handle is a file that is gone').toBe('unknown')
        } else {
          expect(result.outcome).toBe('unknown')
          expect(result.reason).toContain(code)
        }
        expect(after?.text).toBe(`${after?.version}`)
      }
    })
  })
})

function oneHost(): { nfs: SimulatedNfs; store: DirectoryStore } {
  const nfs = new SimulatedNfs({ seed: 1 })
  return { nfs, store: storeOnNfs(DirectoryStore, nfs, 'node1') }
}

function gate(): { open: () => void; passed: Promise<undefined> } {
  let open = () => {}
  const passed = new Promise<undefined>(resolve => {
    open = () => resolve(undefined)
  })
  return { open, passed }
}

function fail(which: (call: Call) => boolean, code: string, when: 'before' | 'after' = 'before') {
  return (call: Call): Fault | undefined => (which(call) ? { when, code } : undefined)
}

async function cost(nfs: SimulatedNfs, act: () => Promise<unknown>): Promise<number> {
  const before = nfs.operations
  await act()
  return nfs.operations - before
}

function recordsOf(nfs: SimulatedNfs): number[] {
  const names = [...nfs.nodes.keys()].filter(path => path.startsWith(`${folder}/`) && path.endsWith('.yaml'))
  return names.map(path => Number.parseInt(path.slice(folder.length + 1), 10)).sort((a, b) => a - b)
}
