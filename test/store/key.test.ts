/** Any text becomes one segment of a key, and no two texts the same one. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { keySegment } from '../../src/store/key.ts'
import { checkKey, KEY_SEGMENT, StoreError } from '../../src/store/store.ts'

const anyText = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 80 }),
  fc.string({ unit: 'binary-ascii', maxLength: 400 }),
  fc.constantFrom('', '.', '..', '/', '%2F', 'sha256=', '~', "'"),
)

test.each([
  ['web', 'web'],
  ['/dev/sdb', '%2Fdev%2Fsdb'],
  ['.web', '%2Eweb'],
  ['..', '%2E.'],
  ["a'b*c", 'a%27b%2Ac'],
  ['größe', 'gr%C3%B6%C3%9Fe'],
])('%s is %s', (text, segment) => {
  expect(keySegment(text)).toBe(segment)
})

test('a long text and an empty one become a hash', () => {
  for (const text of ['x'.repeat(201), '']) expect(keySegment(text)).toMatch(/^sha256=[0-9a-f]{64}$/)
  expect(keySegment('x'.repeat(201))).not.toBe(keySegment('x'.repeat(202)))
})

test('every segment is one that a store can hold, and no two texts share one', () => {
  fc.assert(
    fc.property(anyText, anyText, (one, other) => {
      expect(keySegment(one)).toMatch(KEY_SEGMENT)
      if (one !== other) expect(keySegment(one)).not.toBe(keySegment(other))
    }),
    { numRuns: 500 },
  )
})

test.each(['', '/', 'a//b', '../a', 'a/..', 'a/7.yaml', 'a/tmp.x', 'a b', 'ä', `a/${'x'.repeat(201)}`])(
  'a store refuses the key %j in words',
  key => {
    expect(() => checkKey(key)).toThrow(StoreError)
  },
)
