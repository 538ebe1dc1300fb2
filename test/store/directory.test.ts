/** The store in a real folder: the conformance suite, racing processes, damaged files, and what is left on the disk. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterEach, assert, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DirectoryStore } from '../../src/store/directory.ts'
import { type Files, realFiles } from '../../src/store/files.ts'
import { StoreError } from '../../src/store/store.ts'
import { storeConformance } from './conformance.ts'

storeConformance('the store in a real folder', async () => {
  const root = await mkdtemp(join(tmpdir(), 'havirt-store-'))
  const stores = [1, 2, 3, 4].map(() => new DirectoryStore(root, { watchIntervalMs: 2 }))
  return { stores, close: () => rm(root, { recursive: true }) }
})

const KEY = 'nodes/node1'
let root: string
let folder: string
let store: DirectoryStore
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'havirt-store-'))
  folder = join(root, KEY)
  store = new DirectoryStore(root, { watchIntervalMs: 2 })
})
afterEach(() => rm(root, { recursive: true, force: true }))

describe('on the disk', () => {
  it('a record is a numbered file: one comment line, and then the text as it is', async () => {
    await store.swap(KEY, 0, 'memory: 4 GiB\n')
    const uuid = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
    const content = new RegExp(`^# havirt record 1 ${uuid} [0-9a-f]{32}\nmemory: 4 GiB\n$`)
    expect(await readFile(join(folder, '1.yaml'), 'utf8')).toMatch(content)
  })

  it('nobody else may read files and folders', async () => {
    await store.swap(KEY, 0, 'x')
    expect((await stat(join(folder, '1.yaml'))).mode & 0o777).toBe(0o600)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    expect((await stat(join(root, 'nodes'))).mode & 0o777).toBe(0o700)
  })

  it('eight versions stay, and no temporary file', async () => {
    await writeTimes(20)
    expect((await readdir(folder)).sort()).toEqual([13, 14, 15, 16, 17, 18, 19, 20].map(n => `${n}.yaml`))
  })

  it('temporary files of dead processes of this host are swept, those of the living and of other hosts stay', async () => {
    await store.swap(KEY, 0, 'x')
    const writer = { label: 'node1.boot.1', pid: 7, isAlive: (pid: number) => pid === 8 }
    const drafts = ['tmp.node1.boot.1.9.dead', 'tmp.node1.boot.1.8.living', 'tmp.node2.boot.1.9.foreign']
    for (const name of drafts) await writeFile(join(folder, name), '')
    await new DirectoryStore(root, { writer }).swap(KEY, 1, 'y')
    expect(await readdir(folder)).toEqual(['1.yaml', '2.yaml', drafts[1], drafts[2]])
  })

  it('temporary files of other hosts are swept when they are too many', async () => {
    await store.swap(KEY, 0, 'x')
    for (let n = 0; n < 65; n++) await writeFile(join(folder, `tmp.node2.boot.1.9.${n}`), '')
    await store.swap(KEY, 1, 'y')
    expect(await readdir(folder)).toEqual(['1.yaml', '2.yaml'])
  })

  it('files that are not ours are neither records nor names', async () => {
    await store.swap(KEY, 0, 'x')
    for (const name of ['07.yaml', '0.yaml', '9.yaml~', '9.yml', 'notes.txt']) await writeFile(join(folder, name), '')
    await mkdir(join(folder, '.snapshot'))
    expect(await store.read(KEY)).toEqual({ version: 1, text: 'x' })
    expect(await store.list(KEY)).toEqual([])
  })
})

describe('what cannot be used is said, with a way out', () => {
  it('a missing root is an unmounted share, not an empty store', async () => {
    const unmounted = new DirectoryStore(join(root, 'gone'))
    const signal = AbortSignal.timeout(1000)
    for (const act of [
      () => unmounted.read(KEY),
      () => unmounted.list(''),
      () => unmounted.list('nodes'),
      () => unmounted.swap(KEY, 0, 'x'),
      () => unmounted.watch(KEY, 0, signal),
    ]) {
      expect((await storeError(act())).hint).toContain('mounted')
    }
    expect(await readdir(root)).toEqual([])
  })

  it('a symbolic link in the place of a folder is not followed when folders are made', async () => {
    const outside = join(root, 'outside')
    await symlink(outside, join(root, 'nodes'))
    expect((await storeError(store.swap(KEY, 0, 'x'))).message).toContain('not a folder')
    await expect(readdir(outside)).rejects.toThrow('ENOENT')
  })

  it('a file in the place of a folder is an error', async () => {
    await writeFile(join(root, 'nodes'), '')
    expect((await storeError(store.read(KEY))).hint).toContain('not a folder')
    expect((await storeError(store.swap(KEY, 0, 'x'))).hint).toContain('not a folder')
  })

  it('a file system without hard links is named, and nothing is written', async () => {
    const link = () => Promise.reject(Object.assign(new Error('EPERM: not permitted'), { code: 'EPERM' }))
    const files: Files = { ...realFiles, link }
    const error = await storeError(new DirectoryStore(root, { files }).swap(KEY, 0, 'x'))
    expect(error.message).toContain('hard links')
    expect(await readdir(folder)).toEqual([])
  })

  it('a full disk leaves the old record and no temporary file', async () => {
    await store.swap(KEY, 0, 'old')
    const files: Files = { ...realFiles, write: cutWrite }
    const error = await storeError(new DirectoryStore(root, { files }).swap(KEY, 1, 'new'))
    expect(error.message).toContain('ENOSPC')
    expect(error.hint).toContain('Free some space')
    expect(await readdir(folder)).toEqual(['1.yaml'])
    expect(await store.read(KEY)).toEqual({ version: 1, text: 'old' })
  })

  it('a record of a newer format asks for an upgrade, and is left alone', async () => {
    await store.swap(KEY, 0, 'x')
    const newer = '# havirt record 2 something else\nx'
    await writeFile(join(folder, '2.yaml'), newer)
    expect((await storeError(store.read(KEY))).hint).toContain('Upgrade havirt')
    expect((await store.swap(KEY, 1, 'y')).outcome).toBe('lost')
    expect(await readFile(join(folder, '2.yaml'), 'utf8')).toBe(newer)
  })
})

describe('a damaged record', () => {
  it('cut at any byte is reported with its path, never taken for truth, never overwritten', async () => {
    await writeTimes(2)
    const path = join(folder, '2.yaml')
    const whole = await readFile(path)
    for (let length = 0; length < whole.length; length++) {
      await writeFile(path, whole.subarray(0, length))
      const error = await storeError(store.read(KEY))
      expect(error.message).toContain(path)
      expect(error.hint).toContain(`cp -n ${folder}/1.yaml ${folder}/3.yaml`)
      const late = await store.swap(KEY, 1, 'late').catch(error => error)
      expect(late instanceof StoreError || late.outcome === 'lost').toBe(true)
      expect(await readFile(path)).toEqual(whole.subarray(0, length))
    }
    expect(await readdir(folder)).toEqual(['1.yaml', '2.yaml'])
  })

  it('with any byte changed is reported', async () => {
    await writeTimes(2)
    const path = join(folder, '2.yaml')
    const whole = await readFile(path)
    // The nonce may be any word: it is compared by its writer only, just after the write.
    const nonce = whole.toString().split(' ')[4] ?? ''
    const at = whole.indexOf(nonce)
    for (let n = 0; n < whole.length; n++) {
      if (n >= at && n < at + nonce.length) continue
      await writeFile(path, whole.fill((whole[n] ?? 0) ^ 1, n, n + 1))
      expect((await storeError(store.read(KEY))).message).toContain(path)
      whole.fill((whole[n] ?? 0) ^ 1, n, n + 1)
    }
  })

  it('is left behind by the command in its hint, and versions still grow', async () => {
    await writeTimes(2)
    await writeFile(join(folder, '2.yaml'), '')
    const { hint } = await storeError(store.read(KEY))
    await promisify(execFile)('sh', ['-c', hint.slice(hint.indexOf('cp -n'))])
    expect(await store.read(KEY)).toEqual({ version: 3, text: '1' })
    expect(await store.swap(KEY, 3, 'next')).toEqual({ outcome: 'won', version: 4 })
  })

  it('that is the first one has no version before it', async () => {
    await writeTimes(1)
    await writeFile(join(folder, '1.yaml'), '')
    expect((await storeError(store.read(KEY))).hint).toContain('It is the first version')
  })

  it('in the place of ours, just written, is a doubt and not a victory', async () => {
    const files: Files = { ...realFiles, read: async path => (await realFiles.read(path)).subarray(0, 20) }
    const result = await new DirectoryStore(root, { files }).swap(KEY, 0, 'x')
    assert(result.outcome === 'unknown')
    expect(result.reason).toContain(`${folder}/1.yaml is damaged`)
  })
})

describe('several processes on one folder', () => {
  let racer: string
  beforeAll(async () => {
    const bundles = await mkdtemp(join(tmpdir(), 'havirt-racer-'))
    racer = join(bundles, 'racer.mjs')
    const resolveDir = resolve(import.meta.dirname, '../../src/store')
    const stdin = { contents: RACER, resolveDir, loader: 'ts' as const }
    await build({ stdin, bundle: true, platform: 'node', format: 'esm', outfile: racer })
    return () => rm(bundles, { recursive: true })
  })

  it('one key for each round: exactly one process wins it', async () => {
    const rounds = 60
    const outcomes = await race('keys', rounds, 5)
    for (let round = 0; round < rounds; round++) {
      expect(outcomes.map(outcome => outcome[round]).sort()).toEqual(['lost', 'lost', 'lost', 'lost', 'won'])
    }
  }, 60_000)

  it('one key for all: the counter is the number of victories, and of doubts that came true', async () => {
    const outcomes = (await race('counter', 100, 5)).flat()
    const count = (outcome: string) => outcomes.filter(each => each === outcome).length
    const counter = Number((await store.read('counter'))?.text)
    expect(count('won') + count('lost') + count('unknown')).toBe(500)
    expect(counter).toBeGreaterThanOrEqual(count('won'))
    expect(counter).toBeLessThanOrEqual(count('won') + count('unknown'))
    expect((await readdir(join(root, 'counter'))).length, 'no temporary file stays').toBeLessThanOrEqual(16)
  }, 60_000)

  it('a process killed at any moment leaves a record or none, and the others go on', async () => {
    for (let delay = 0; delay < 10; delay++) {
      const killed = promisify(execFile)(process.execPath, [racer, root, 'counter', '100000'])
      await new Promise(resolve => setTimeout(resolve, 60 + delay * 7))
      killed.child.kill('SIGKILL')
      await expect(killed).rejects.toThrow()
      const before = await store.read('counter')
      expect((await store.swap('counter', before?.version ?? 0, before?.text ?? '0')).outcome).toBe('won')
    }
    expect((await readdir(join(root, 'counter'))).filter(name => name.startsWith('tmp.'))).toEqual([])
  }, 60_000)

  async function race(what: string, rounds: number, processes: number): Promise<string[][]> {
    const runs = Array.from({ length: processes }, () =>
      promisify(execFile)(process.execPath, [racer, root, what, `${rounds}`]),
    )
    return (await Promise.all(runs)).map(({ stdout }) => stdout.trim().split('\n'))
  }
})

/** What each racing process runs: it swaps once a round, and prints each outcome. */
const RACER = `
import { DirectoryStore } from './directory.ts'
const [root, what, rounds] = process.argv.slice(2)
const store = new DirectoryStore(root)
for (let round = 0; round < Number(rounds); round++) {
  if (what === 'keys') {
    console.log((await store.swap('race/' + round, 0, String(process.pid))).outcome)
  } else {
    const before = await store.read('counter')
    const text = String(Number(before?.text ?? 0) + 1)
    console.log((await store.swap('counter', before?.version ?? 0, text)).outcome)
  }
}
`

async function writeTimes(times: number): Promise<void> {
  for (let n = 0; n < times; n++) expect((await store.swap(KEY, n, `${n + 1}`)).outcome).toBe('won')
}

async function storeError(promise: Promise<unknown>): Promise<StoreError> {
  const error = await promise.then(
    () => undefined,
    error => error,
  )
  assert(error instanceof StoreError, `expected a StoreError, not ${error}`)
  return error
}

/** The disk is full in the middle of the file. */
async function cutWrite(path: string, text: string): Promise<void> {
  await writeFile(path, text.slice(0, 10), { flag: 'wx' })
  throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
}
