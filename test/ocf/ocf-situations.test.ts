/** The table of what two resource agents answer is whole: the lab trusts it, and so does the documentation. */
import { describe, expect, test } from 'vitest'
import { ASKS, type Run } from '../lab/ocf-answers.ts'
import { DIFFERENCES } from '../lab/ocf-differences.ts'
import { SITUATIONS } from '../lab/ocf-situations.ts'

const RUNS = SITUATIONS.flatMap(({ name, runs }) => runs.map(run => ({ at: `${name}: ${run.action}`, run })))

const isDifferent = ({ original, ours }: Run) => JSON.stringify(original) !== JSON.stringify(ours)

function mayBeSilent({ action, ours }: Run): boolean {
  return ours.code === 0 || (ours.code === 7 && ASKS.has(action))
}

describe('the situations of the resource agent', () => {
  test('there are many, and each has a name of its own', () => {
    expect(SITUATIONS.length).toBeGreaterThan(60)
    expect(new Set(SITUATIONS.map(({ name }) => name)).size).toBe(SITUATIONS.length)
  })

  test('wherever the answers differ it is told why, and nowhere else', () => {
    const wrong = RUNS.filter(({ run }) => isDifferent(run) !== (run.why !== undefined))
    expect(wrong.map(({ at }) => at)).toEqual([])
  })

  test('each sentence is needed, and is one sentence', () => {
    const needed = new Set(RUNS.map(({ run }) => run.why))
    expect(Object.keys(DIFFERENCES).filter(key => !needed.has(key as never))).toEqual([])
    for (const sentence of Object.values(DIFFERENCES)) expect(sentence).toMatch(/^[`a-zA-Z][^.]*(\d\.\d[^.]*)*\.$/)
  })

  test('ours never hangs, and whenever it fails it is told what it must say', () => {
    expect(RUNS.filter(({ run }) => run.ours.code === 'hangs').map(({ at }) => at)).toEqual([])
    const speechless = RUNS.filter(({ run }) => !mayBeSilent(run) && run.reason === undefined)
    expect(speechless.map(({ at }) => at)).toEqual([])
  })
})
