/** Steps are plain data, each with one line for people. */
import { expect, test } from 'vitest'
import { describeStep, nodesOf, type Step, step } from '../../src/core/step.ts'

const on = { domain: 'web', uuid: 'u', node: 'node1' }
const options = { desturi: 'x', autoConverge: false, postCopy: false, unsafe: false, persistent: false }
const STEPS: readonly [Step, string, string[]][] = [
  [step('createDomain', { ...on, definition: 'd', sha256: 's' }), 'start web on node1', ['node1']],
  [
    step('migrateDomain', { ...on, from: 'node1', to: 'node2', options }),
    'move web from node1 to node2 while it runs',
    ['node1', 'node2'],
  ],
  [
    step('recordIntent', { ...on, manual: true }),
    'record that web was stopped on purpose, so that nothing starts it by itself',
    ['node1'],
  ],
  [
    step('abortMigration', { domain: 'web', uuid: 'u', from: 'node1', to: 'node2' }),
    'end the migration of web from node1 to node2; it stays on node1',
    ['node1', 'node2'],
  ],
  [step('destroyDomain', { ...on, graceful: true }), 'end web on node1 at once, as if its power were cut', ['node1']],
]

test.each(STEPS)('a step survives being written down: %o', (one, text, nodes) => {
  const again = JSON.parse(JSON.stringify(one)) as Step
  expect(again).toEqual(one)
  expect(describeStep(again)).toBe(text)
  expect(nodesOf(again)).toEqual(nodes)
})

test('a step that only records acts on no node', () => {
  expect(nodesOf(step('recordIntent', { domain: 'web', uuid: 'u', manual: true }))).toEqual([])
})
