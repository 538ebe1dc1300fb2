/** The table "Broken or interrupted migration" of docs/safety.md, over every pair of states and reasons. */
import { describe, expect, test } from 'vitest'
import { type End, judgeMigration, type Verdict } from '../../src/core/migration.ts'
import type { DomainState } from '../../src/core/node.ts'

const STATES: readonly DomainState[] = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutdown',
  'shutoff',
  'crashed',
  'pmsuspended',
]
const MAX_REASON = 15

const PAUSED: readonly End[] = Array.from({ length: MAX_REASON }, (_, stateReason) => ({
  state: 'paused',
  stateReason,
}))
const OTHERS: readonly End[] = STATES.filter(state => state !== 'paused').map(state => ({ state, stateReason: 1 }))
const ENDS: readonly End[] = ['absent', ...PAUSED, ...OTHERS]

/** The classes that the table speaks of, written down by hand. */
type Kind = 'absent' | 'runs' | 'waiting' | 'startingUp' | 'postCopy' | 'other'

function kindOf(end: End): Kind {
  if (end === 'absent') return 'absent'
  if (['running', 'blocked', 'shutdown'].includes(end.state)) return 'runs'
  if (end.state !== 'paused') return 'other'
  return end.stateReason === 2
    ? 'waiting'
    : end.stateReason === 11
      ? 'startingUp'
      : [12, 13].includes(end.stateReason)
        ? 'postCopy'
        : 'other'
}

/** Source -> target -> what is to be done; what is not listed is unclear. */
const TABLE: { readonly [S in Kind]?: { readonly [T in Kind]?: Verdict } } = {
  absent: { runs: 'moved', absent: 'off' },
  runs: { runs: 'twice', absent: 'stayed', waiting: 'destroyTarget', startingUp: 'destroyTarget' },
  waiting: { runs: 'destroySource', waiting: 'destroyTargetResumeSource', startingUp: 'destroyTargetResumeSource' },
}

const PAIRS = ENDS.flatMap(source => ENDS.map(target => [source, target] as const))
const text = (end: End) => (end === 'absent' ? end : `${end.state}(${end.stateReason})`)

describe('a migration that broke', () => {
  test('every pair of ends is judged as the table says', () => {
    const judged = PAIRS.map(([source, target]) => `${text(source)} ${text(target)} ${judgeMigration(source, target)}`)
    const expected = PAIRS.map(
      ([source, target]) => `${text(source)} ${text(target)} ${TABLE[kindOf(source)]?.[kindOf(target)] ?? 'unclear'}`,
    )
    expect(judged).toEqual(expected)
  })

  test.each<[string, End, End, Verdict]>([
    ['it moved, and the source is gone', 'absent', { state: 'running', stateReason: 1 }, 'moved'],
    [
      'it moved, and the source waits paused',
      { state: 'paused', stateReason: 2 },
      { state: 'running', stateReason: 5 },
      'destroySource',
    ],
    ['it runs on both', { state: 'running', stateReason: 1 }, { state: 'running', stateReason: 5 }, 'twice'],
    ['it did not move, and the target is gone', { state: 'running', stateReason: 6 }, 'absent', 'stayed'],
    [
      'it did not move, and the target waits',
      { state: 'running', stateReason: 6 },
      { state: 'paused', stateReason: 2 },
      'destroyTarget',
    ],
    [
      'both wait, and the target never ran',
      { state: 'paused', stateReason: 2 },
      { state: 'paused', stateReason: 11 },
      'destroyTargetResumeSource',
    ],
    ['post-copy broke', { state: 'paused', stateReason: 13 }, { state: 'paused', stateReason: 13 }, 'unclear'],
    ['post-copy is under way', { state: 'paused', stateReason: 12 }, { state: 'running', stateReason: 11 }, 'unclear'],
    ['nobody has it: it ended on the way', 'absent', 'absent', 'off'],
    [
      'a person paused the source',
      { state: 'paused', stateReason: 1 },
      { state: 'running', stateReason: 5 },
      'unclear',
    ],
    [
      'a person paused the target after it ran',
      { state: 'running', stateReason: 6 },
      { state: 'paused', stateReason: 1 },
      'unclear',
    ],
  ])('%s', (_, source, target, verdict) => {
    expect(judgeMigration(source, target)).toBe(verdict)
  })

  test('nothing is touched when both ends could have run', () => {
    const couldHaveRun = (end: End) => end !== 'absent' && !['waiting', 'startingUp'].includes(kindOf(end))
    const both = PAIRS.filter(([source, target]) => couldHaveRun(source) && couldHaveRun(target))
    expect(new Set(both.map(([source, target]) => judgeMigration(source, target)))).toEqual(
      new Set(['twice', 'unclear']),
    )
  })

  test('what is destroyed never runs, and what stays runs or is resumed', () => {
    for (const [source, target] of PAIRS) {
      const verdict = judgeMigration(source, target)
      if (verdict.startsWith('destroyTarget')) expect(kindOf(target)).toMatch(/waiting|startingUp/)
      if (verdict === 'destroySource') expect([kindOf(source), kindOf(target)]).toEqual(['waiting', 'runs'])
      if (verdict === 'destroyTargetResumeSource') expect(kindOf(source)).toBe('waiting')
    }
  })
})
