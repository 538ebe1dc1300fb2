/** The home folder: made at first use, never in a place that is not ours, and nothing is made when anything is wrong. */
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { initialConfigText, sampleConfigText } from '../../src/core/config-text.ts'
import { ConfigError, openHome } from '../../src/store/home.ts'
import { StoreError } from '../../src/store/store.ts'
import { listing, temporaryFolder } from './parts.ts'

let home = ''
beforeEach(async () => {
  home = await temporaryFolder()
})

/** What opening rejects with, and a proof that it changed nothing. */
async function refusal(cluster?: string): Promise<Error & { hint?: string; problems?: readonly string[] }> {
  const before = await listing(home)
  const error = await openHome(home, cluster === undefined ? {} : { cluster }).then(
    () => new Error('it was opened'),
    (reason: Error) => reason,
  )
  expect(await listing(home)).toEqual(before)
  return error
}

describe('first use', () => {
  test('makes the two config files and the two private folders, and a cluster', async () => {
    const opened = await openHome(home, {})
    expect(await readFile(join(home, 'config.yaml'), 'utf8')).toBe(initialConfigText())
    expect(await readFile(join(home, 'config.sample.yaml'), 'utf8')).toBe(sampleConfigText())
    for (const folder of ['conf', 'var']) expect((await stat(join(home, folder))).mode & 0o7777).toBe(0o700)
    expect(Object.keys(await listing(home))).toEqual([
      'conf',
      'config.sample.yaml',
      'config.yaml',
      'var',
      'var/cluster',
      'var/cluster/1.yaml',
    ])
    expect(opened.config.dryrun).toBe(true)
    expect(opened.clusterId).toMatch(/^[0-9a-f-]{36}$/)
    expect((await opened.records.cluster())?.id).toBe(opened.clusterId)
  })

  test('a second opening changes nothing and finds the same cluster', async () => {
    const { clusterId } = await openHome(home, {})
    const before = await listing(home)
    expect((await openHome(home, {})).clusterId).toBe(clusterId)
    expect((await openHome(home, { node: 'n', cluster: clusterId })).clusterId).toBe(clusterId)
    expect(await listing(home)).toEqual(before)
  })

  test('of several at once, all open the same cluster', async () => {
    const homes = await Promise.all([1, 2, 3, 4].map(() => openHome(home, {})))
    expect(new Set(homes.map(({ clusterId }) => clusterId)).size).toBe(1)
    expect(Object.keys(await listing(home))).toHaveLength(6)
  })

  test('what people wrote stays as it is', async () => {
    await writeFile(join(home, 'config.yaml'), 'dryrun: false # ours\n')
    await mkdir(join(home, 'conf'), { mode: 0o755 })
    await chmod(join(home, 'conf'), 0o755)
    expect((await openHome(home, {})).config.dryrun).toBe(false)
    expect(await readFile(join(home, 'config.yaml'), 'utf8')).toBe('dryrun: false # ours\n')
    expect((await stat(join(home, 'conf'))).mode & 0o777).toBe(0o755)
  })
})

describe('not ours', () => {
  test('an empty home on a machine that knows a cluster: an unmounted share must not become a new one', async () => {
    const error = await refusal('11111111-aaaa')
    expect(error).toBeInstanceOf(StoreError)
    expect(error.message).toBe(
      `${home} holds no cluster, but this machine belongs to one (11111111-aaaa, in /var/lib/havirt/id)`,
    )
    expect(error.hint).toContain('mount the share')
  })

  test('a home of another cluster, complete or not', async () => {
    const { clusterId } = await openHome(home, {})
    expect((await refusal('11111111-aaaa')).message).toBe(
      `${home} belongs to another cluster (${clusterId}) than this machine (11111111-aaaa)`,
    )
    for (const gone of ['config.yaml', 'config.sample.yaml', 'conf']) await rm(join(home, gone), { recursive: true })
    expect((await refusal('11111111-aaaa')).message).toContain('belongs to another cluster')
  })

  test('a home whose cluster was begun and never made', async () => {
    await mkdir(join(home, 'var', 'cluster'), { recursive: true })
    expect((await refusal('11111111-aaaa')).message).toContain('holds no cluster')
    expect((await openHome(home, {})).clusterId).not.toBe('')
  })

  test('a cluster record that is damaged', async () => {
    await openHome(home, {})
    const file = join(home, 'var', 'cluster', '1.yaml')
    await writeFile(file, (await readFile(file, 'utf8')).replace('id:', 'Id:'))
    expect((await refusal()).message).toContain(`${file} is damaged`)
  })
})

describe('cannot be used', () => {
  test.each([
    ['nowhere', 'does not exist'],
    ['file', 'is no folder'],
  ])('a home that is %s', async (name, problem) => {
    await writeFile(join(home, 'file'), '')
    const path = join(home, name)
    const before = await listing(home)
    await expect(openHome(path, {})).rejects.toThrow(`${path} ${problem}`)
    expect(await listing(home)).toEqual(before)
  })

  test('a config with problems: all of them are named, and nothing is made', async () => {
    await writeFile(join(home, 'config.yaml'), 'dryrun: perhaps\nobserve:\n  timeoutms: 3\nclaim: 7\n')
    const error = await refusal()
    expect(error).toBeInstanceOf(ConfigError)
    const file = join(home, 'config.yaml')
    expect(error.problems).toHaveLength(3)
    expect(error.problems?.map(problem => problem.slice(0, file.length + 3))).toEqual(
      [1, 3, 4].map(n => `${file}:${n}:`),
    )
    for (const problem of error.problems ?? []) expect(problem).not.toContain('\n')
  })

  test('a folder in place of config.yaml', async () => {
    await mkdir(join(home, 'config.yaml'))
    expect((await refusal()).message).toContain(`${join(home, 'config.yaml')} cannot be read: EISDIR`)
  })

  test.each(['conf', 'var'])('a file in place of %s/', async folder => {
    await writeFile(join(home, 'config.yaml'), '')
    await writeFile(join(home, folder), '')
    const error = await openHome(home, {}).catch((reason: Error) => reason)
    expect(error).toBeInstanceOf(StoreError)
    expect((error as Error).message).toContain(join(home, folder))
  })
})
