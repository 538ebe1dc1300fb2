/** A claim as text: one field a line, YAML too, and never believed when it was damaged. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type ClaimRecord, isInDoubt, pointerKeys, toPointer, toRecord, toText } from '../../src/store/claim-record.ts'
import { Claims } from '../../src/store/claims.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { StoreError } from '../../src/store/store.ts'
import { claimKey, TTL_MS, wanted } from './claim-parts.ts'
import { aClock, identity, OTHER_UUID, stranger, UUID } from './parts.ts'

const KEY = claimKey(UUID)
const POINTER = { claim: KEY, token: 't' }
const notBegun = ['start web on node2']
const RECORD: ClaimRecord = {
  state: 'held',
  generation: 3,
  token: 'a: b',
  beat: 5,
  ttlMs: TTL_MS,
  domain: 'web',
  uuid: UUID,
  node: 'node1',
  verb: 'havirt domain start web',
  since: '2026-01-02T03:04:05.000Z',
  owner: { host: 'far', user: 'ann', pid: 7, bootId: 'b', pidNamespace: 'pid:[1]', startTime: '1' },
  doubts: [
    { node: 'node2', generation: 2, command: 'virsh create', since: '2026-01-02T03:04:05.000Z', parked: true },
    { node: 'node1', generation: 3, command: "virsh destroy 'x'\n# y", since: '', notBegun },
  ],
}

/** Every scalar in it. */
function leaves(value: unknown): unknown[] {
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(leaves) : [value]
}

/** A copy in which the value at this path is another; undefined removes it. */
function changed(path: readonly (string | number)[], value: unknown): unknown {
  const copy = structuredClone(RECORD) as unknown as Record<string, unknown>
  let at = copy
  for (const name of path.slice(0, -1)) at = at[name] as Record<string, unknown>
  at[path.at(-1) ?? ''] = value
  return copy
}

describe('the text of a claim', () => {
  test('comes back as it was, for us and for any reader of YAML', () => {
    expect(toRecord(KEY, toText(RECORD))).toEqual(RECORD)
    expect(parse(toText(RECORD))).toEqual(RECORD)
    expect(toPointer(KEY, toText(POINTER))).toEqual(POINTER)
    expect(parse(toText(POINTER))).toEqual(POINTER)
  })

  test('has one field a line and ends with the line, so that two versions can be compared', () => {
    const lines = toText(RECORD).split('\n')
    expect(lines.at(-1)).toBe('')
    for (const leaf of leaves(RECORD)) {
      const holding = lines.filter(line => line.trim().replace(/,$/, '').endsWith(JSON.stringify(leaf)))
      expect(holding.length, String(leaf)).toBeGreaterThan(0)
    }
    expect(lines.filter(line => line.includes('"'))).toSatisfy((fields: string[]) =>
      fields.every(line => /^ +("\w+": )?("([^"\\]|\\.)*"|\d+|true|\{|\[)?,?$/.test(line)),
    )
  })

  test('holds whatever a verb and a command say', () => {
    const text = fc.string({ unit: 'binary' })
    fc.assert(
      fc.property(text, text, fc.array(text), (verb, command, notBegun) => {
        const doubts = [{ node: 'node1', generation: 1, command, since: '', notBegun }]
        const written = toText({ ...RECORD, verb, doubts })
        expect(toRecord(KEY, written)).toEqual({ ...RECORD, verb, doubts })
        expect(parse(written)).toEqual({ ...RECORD, verb, doubts })
      }),
    )
  })
})

describe('a damaged text', () => {
  test.each(['', 'null\n', '[]\n', '{', '"held"', 'state: held\n', 'a: *b\n', 'generation: many\n', '{}'])(
    'that says %j is reported wherever it is met, and left alone',
    async text => {
      const store = new MemoryStore()
      const clock = aClock()
      const claims = new Claims(store, clock, stranger('ann'), TTL_MS)
      await store.swap(KEY, 0, text)
      const refusals = [
        () => claims.acquire(wanted()),
        () => claims.mayArrive({ uuid: UUID, token: 't', generation: 1 }, 'node1'),
        () => claims.list(),
      ]
      for (const refusal of [...refusals, () => claims.isAlive(UUID, 't')]) {
        await expect(refusal()).rejects.toThrow(`the claim var/${KEY} cannot be read`)
        await expect(refusal()).rejects.toThrow(StoreError)
      }
      await store.swap('claims/name/db', 0, text)
      const other = claims.acquire(wanted('db', OTHER_UUID))
      await expect(other).rejects.toThrow('the claim var/claims/name/db cannot be read')
      expect(await store.read(KEY)).toEqual({ version: 1, text })
      expect(await store.read('claims/name/db')).toEqual({ version: 1, text })
    },
  )

  const numbers = [undefined, null, '3', -1, 1.5, 1e300, [], {}, true]
  const texts = [undefined, null, 3, [], {}, false]
  const owner = ['host', 'user', 'bootId', 'pidNamespace', 'startTime']
  test.each<[string, readonly (string | number)[], readonly unknown[]]>([
    ['state', ['state'], [undefined, null, 'taken', 1]],
    ...['generation', 'beat'].map(name => [name, [name], numbers] as [string, string[], unknown[]]),
    ['ttlMs', ['ttlMs'], [...numbers, 0]],
    ...['token', 'domain', 'uuid', 'verb', 'since'].map(name => [name, [name], texts] as [string, string[], unknown[]]),
    ['owner', ['owner'], [undefined, null, 'ann', [], {}]],
    ...owner.map(name => [`owner.${name}`, ['owner', name], texts] as [string, string[], unknown[]]),
    ['owner.pid', ['owner', 'pid'], numbers],
    ['doubts', ['doubts'], [undefined, null, {}, 'none', 0]],
    ['a doubt', ['doubts', 1], [null, 'virsh', [], {}, 0]],
    ...['node', 'command', 'since'].map(
      name => [`a doubt's ${name}`, ['doubts', 1, name], texts] as [string, (string | number)[], unknown[]],
    ),
    ["a doubt's generation", ['doubts', 1, 'generation'], numbers],
    ["a doubt's step", ['doubts', 1, 'step'], [null, 'destroy', 1, []]],
    ["a doubt's follow-up", ['doubts', 1, 'notBegun'], [null, 'start', [1], {}]],
  ])('in which %s is something else is not believed', (_name, path, values) => {
    for (const value of values) {
      const text = JSON.stringify(changed(path, value))
      expect(() => toRecord(KEY, text), text).toThrow(StoreError)
    }
  })

  test('of a pointer is not believed, either', () => {
    for (const value of [{}, { claim: KEY }, { token: 't' }, { ...POINTER, claim: 1 }, { ...POINTER, token: null }, []])
      expect(() => toPointer(KEY, JSON.stringify(value))).toThrow(StoreError)
  })

  test('gives a StoreError with a hint, or a record that can be used, whatever it says', () => {
    const anything = fc.oneof(
      fc.string(),
      fc.json(),
      fc.json().map(json => JSON.stringify({ ...RECORD, doubts: json })),
    )
    fc.assert(
      fc.property(anything, text => {
        for (const read of [toRecord, toPointer]) {
          try {
            read(KEY, text)
          } catch (error) {
            expect(error).toBeInstanceOf(StoreError)
            expect((error as StoreError).hint).toContain('do not remove it')
          }
        }
      }),
    )
  })
})

test('a claim is in doubt while one of its doubts is not parked', () => {
  const [parked, open] = RECORD.doubts
  const doubts = [[], [parked], [open], [parked, open]].map(list => list.flatMap(each => each ?? []))
  expect(doubts.map(list => isInDoubt({ ...RECORD, doubts: list }))).toEqual([false, false, true, true])
})

test('whatever order two rivals name their disks in, they ask for the keys in the same order', () => {
  const keys = pointerKeys(identity('web', UUID, '/d/b', '/d/a'))
  expect(keys).toEqual(pointerKeys(identity('web', UUID, '/d/a', '/d/b')))
  expect(keys).toEqual([...keys].sort())
  expect(keys).toHaveLength(3)
  expect(keys).toContain('claims/name/web')
})
