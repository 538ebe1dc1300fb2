/** Every broken variant still fits the source: told in a moment, where catching them all takes minutes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { covered, type Edit, variants } from './variants.ts'

const SRC = join(import.meta.dirname, '..', '..', 'src')
const all: [string, Edit][] = [
  ...variants.flatMap(({ why, edits }) => edits.map((edit): [string, Edit] => [why, edit])),
  ...covered.flatMap(({ why, edits, layer }) => [...edits, ...layer].map((edit): [string, Edit] => [why, edit])),
]

test.each(all)('%s: what is edited stands in the source once', (_, { file, find }) => {
  expect(readFileSync(join(SRC, file), 'utf8').split(find)).toHaveLength(2)
})
