/** What the agent remembers: it comes back as it was, or not at all, and never outside of its folder. */
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { forget, type Memory, recall, remember } from '../../src/ocf/memory.ts'
import { temporaryFolder } from '../store/parts.ts'
import { callOf, UUID } from './builders.ts'

const WEB: Memory = { config: '/srv/web.xml', name: 'web', uuid: UUID }

const of = (runFolder: string, instance = 'web') =>
  callOf('monitor', { OCF_RESOURCE_INSTANCE: instance, HA_RSCTMP: runFolder })
const filesIn = (folder: string) => readdirSync(join(folder, 'havirt'))

describe('what was remembered', () => {
  test.each<[string, Memory]>([
    ['a domain', WEB],
    ['one without a uuid yet', { ...WEB, uuid: '' }],
    ['with what Pacemaker knows', { ...WEB, utilization: { cib: '1 2 3', values: '[["cpu","2"]]' } }],
    ['odd names', { config: '/a "b"\n/ü', name: `it's </name> \\ \u2028`, uuid: UUID }],
  ])('comes back: %s', async (_, memory) => {
    const call = of(await temporaryFolder())
    remember(call, memory)
    expect(recall(call)).toEqual(memory)
  })

  test('is replaced by what is remembered next', async () => {
    const call = of(await temporaryFolder())
    remember(call, WEB)
    remember(call, { ...WEB, name: 'other' })
    expect(recall(call)).toMatchObject({ name: 'other' })
    expect(filesIn(call.runFolder)).toHaveLength(1)
  })

  test('is nothing after it was forgotten, and may be forgotten again', async () => {
    const call = of(await temporaryFolder())
    remember(call, WEB)
    forget(call)
    forget(call)
    expect(recall(call)).toBeUndefined()
    expect(filesIn(call.runFolder)).toEqual([])
  })

  test('is nothing where nothing ever was', async () => {
    expect(recall(of(join(await temporaryFolder(), 'no')))).toBeUndefined()
    expect(() => forget(of('/nowhere'))).not.toThrow()
  })

  test('is for the agent alone', async () => {
    const call = of(await temporaryFolder())
    remember(call, WEB)
    const folder = join(call.runFolder, 'havirt')
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(statSync(join(folder, filesIn(call.runFolder)[0] ?? '')).mode & 0o777).toBe(0o600)
  })

  test('that cannot be written is told', async () => {
    const file = join(await temporaryFolder(), 'file')
    writeFileSync(file, '')
    expect(() => remember(of(file), WEB)).toThrow(/ENOTDIR|EEXIST/)
  })
})

test.each([
  '',
  '{',
  'null',
  '[]',
  '7',
  '"web"',
  '{}',
  JSON.stringify({ ...WEB, uuid: undefined }),
  JSON.stringify({ ...WEB, name: null }),
  JSON.stringify({ ...WEB, config: 5 }),
  JSON.stringify({ ...WEB, name: ['web'] }),
  JSON.stringify(WEB).slice(0, -1),
  '\0'.repeat(100),
])('a damaged file, %j, is no memory', async text => {
  const call = of(await temporaryFolder())
  remember(call, WEB)
  writeFileSync(join(call.runFolder, 'havirt', filesIn(call.runFolder)[0] ?? ''), text)
  expect(recall(call)).toBeUndefined()
})

test('a folder in the place of the file is no memory', async () => {
  const call = of(await temporaryFolder())
  remember(call, WEB)
  const [file = ''] = filesIn(call.runFolder)
  forget(call)
  mkdirSync(join(call.runFolder, 'havirt', file))
  expect(recall(call)).toBeUndefined()
})

describe('a resource of any name', () => {
  const odd = fc.oneof(
    fc.constantFrom(
      '..',
      '.',
      '../../etc/passwd',
      '/etc/passwd',
      'a/b',
      'a\nb',
      'grp:web:0',
      '%2e%2e',
      '',
      ' ',
      '~',
      '-rf',
    ),
    fc.string({ minLength: 1, maxLength: 20 }),
  )

  test('is remembered within the folder, and nowhere else', async () => {
    const folder = await temporaryFolder()
    const run = join(folder, 'run')
    fc.assert(
      fc.property(odd, instance => {
        const call = of(run, instance)
        remember(call, WEB)
        expect(recall(call)).toEqual(WEB)
        expect(readdirSync(folder)).toEqual(['run'])
        expect(readdirSync(run)).toEqual(['havirt'])
        expect(filesIn(run)).toHaveLength(1)
        expect(filesIn(run)[0]).toMatch(/^VirtualDomain-[^/\s]*\.json$/)
        forget(call)
      }),
    )
  })

  test('is not taken for another', async () => {
    const folder = await temporaryFolder()
    fc.assert(
      fc.property(odd, odd, (one, other) => {
        const name = (instance: string) => instance || 'default'
        fc.pre(name(one) !== name(other))
        remember(of(folder, one), { ...WEB, name: 'one' })
        remember(of(folder, other), { ...WEB, name: 'other' })
        expect(recall(of(folder, one))).toMatchObject({ name: 'one' })
        forget(of(folder, one))
        expect(recall(of(folder, other))).toMatchObject({ name: 'other' })
        forget(of(folder, other))
      }),
    )
  })
})
