/** What a monitor answers: every state and every silence, told apart. Pacemaker acts on the number alone. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type ActiveDomain,
  type Asking,
  findingOf,
  isBeyondShutdown,
  isPausedByError,
  isPausedByMigration,
  type Presence,
  type Silence,
} from '../../../src/core/agent/presence.ts'
import type { DomainState } from '../../../src/core/node.ts'

const UUID = '71c0e72b-1fc2-0c35-5a7d-1ac80702ff0e'
const active = (state: DomainState, stateReason = 1): ActiveDomain => ({
  kind: 'active',
  name: 'web',
  uuid: UUID,
  state,
  stateReason,
})
const silent = (more: Partial<Silence>): Silence => ({
  kind: 'silent',
  why: 'libvirt does not answer (closed)',
  installed: true,
  process: undefined,
  ...more,
})

/** All askings: recurring or probe, with or without the definition, with or without a word for "degraded". */
const ASKINGS: Asking[] = [true, false].flatMap(recurring =>
  [true, false].flatMap(configRead => [true, false].map(knowsDegraded => ({ recurring, configRead, knowsDegraded }))),
)
const ACTIVE_STATES: DomainState[] = ['nostate', 'running', 'blocked', 'paused', 'shutdown', 'crashed', 'pmsuspended']
/** virDomainPausedReason, all of it. */
const PAUSED_REASONS = [...Array(15).keys()]
const IO_ERROR = 5

const codes = (presence: Presence) => ASKINGS.map(asking => findingOf(presence, 'web', asking).code)

describe('an active domain', () => {
  test.each<DomainState>(['running', 'blocked', 'shutdown'])('that is %s is well, whoever asks', state => {
    for (let reason = 0; reason < 20; reason++)
      for (const asking of ASKINGS) expect(findingOf(active(state, reason), 'web', asking)).toEqual({ code: 0 })
  })

  test.each(PAUSED_REASONS.filter(reason => reason !== IO_ERROR))(
    'that is paused for reason %d is well, as the original has it',
    reason => {
      for (const asking of ASKINGS) expect(findingOf(active('paused', reason), 'web', asking)).toEqual({ code: 0 })
    },
  )

  test('that is paused by an I/O error is degraded, for a recurring monitor that knows the word; the sentence says what to do', () => {
    for (const asking of ASKINGS) {
      const { code, sentence } = findingOf(active('paused', IO_ERROR), 'web', asking)
      expect(code).toBe(asking.recurring && asking.knowsDegraded ? 190 : 0)
      expect(sentence).toMatch(/^web .*I\/O error.*virsh resume web/)
    }
  })

  test('that is paused by an I/O error is told apart from other states with that number', () => {
    for (const state of ACTIVE_STATES) expect(isPausedByError(active(state, IO_ERROR)), state).toBe(state === 'paused')
  })

  test.each([
    ['crashed', 'web has crashed'],
    ['pmsuspended', 'the guest of web has suspended itself'],
  ] as const)('that is %s is an error with its reason, whoever asks', (state, sentence) => {
    for (const asking of ASKINGS) expect(findingOf(active(state), 'web', asking)).toEqual({ code: 1, sentence })
  })
})

describe('an absent domain', () => {
  test('is not running, whoever asks, and needs no sentence', () => {
    for (const asking of ASKINGS) expect(findingOf({ kind: 'absent' }, 'web', asking)).toEqual({ code: 7 })
  })
})

describe('a silent libvirt', () => {
  test('and a process of the domain: well where the definition says who it is, else an error', () => {
    for (const installed of [true, false])
      for (const asking of ASKINGS) {
        const { code, sentence } = findingOf(silent({ process: 4711, installed }), 'web', asking)
        expect(code).toBe(asking.configRead ? 0 : 1)
        expect(sentence).toMatch(/libvirt does not answer \(closed\).*4711/)
        expect(sentence).toMatch(/\bweb\b/)
      }
  })

  test('and no process: not running', () => {
    expect(codes(silent({}))).toEqual(ASKINGS.map(() => 7))
  })

  test('that is not even installed, and no process: not installed', () => {
    for (const asking of ASKINGS) {
      const { code, sentence } = findingOf(silent({ installed: false, why: 'libvirt is not installed' }), 'web', asking)
      expect(code).toBe(5)
      expect(sentence).toMatch(/^libvirt is not installed, and no process of web/)
    }
  })

  test('and processes that do not say whose they are: an error, never an answer', () => {
    for (const installed of [true, false])
      for (const asking of ASKINGS) {
        const { code, sentence } = findingOf(silent({ process: 'unknown', installed }), 'web', asking)
        expect(code).toBe(1)
        expect(sentence).toMatch(/web .*unknown.*libvirt does not answer/)
      }
  })
})

const silences = fc.record({
  kind: fc.constant('silent' as const),
  why: fc.string(),
  installed: fc.boolean(),
  process: fc.oneof(fc.nat(), fc.constant('unknown' as const), fc.constant(undefined)),
})
const domains = fc.record({
  kind: fc.constant('active' as const),
  name: fc.string(),
  uuid: fc.constant(UUID),
  state: fc.constantFrom(...ACTIVE_STATES),
  stateReason: fc.nat(30),
})
const presences: fc.Arbitrary<Presence> = fc.oneof(silences, domains, fc.constant({ kind: 'absent' as const }))
const askings = fc.constantFrom(...ASKINGS)

/** Stopped for Pacemaker, whatever the action was. */
const STOPPED = [5, 7]

describe('always', () => {
  test('an active domain is never called stopped or not installed', () => {
    fc.assert(
      fc.property(domains, askings, (domain, asking) => {
        expect(STOPPED).not.toContain(findingOf(domain, 'web', asking).code)
      }),
    )
  })

  test('nor is one whose process may be there, or of which nobody knows', () => {
    fc.assert(
      fc.property(silences, askings, (silence, asking) => {
        const { code } = findingOf(silence, 'web', asking)
        expect(STOPPED.includes(code)).toBe(silence.process === undefined)
      }),
    )
  })

  test('process 0 counts as one', () => {
    for (const asking of ASKINGS) expect(STOPPED).not.toContain(findingOf(silent({ process: 0 }), 'web', asking).code)
  })

  test('without the definition, success needs the word of libvirt', () => {
    fc.assert(
      fc.property(silences, askings, (silence, asking) => {
        fc.pre(!asking.configRead)
        expect(findingOf(silence, 'web', asking).code).not.toBe(0)
      }),
    )
  })

  test('each answer but success and "not running" has its sentence', () => {
    fc.assert(
      fc.property(presences, askings, (presence, asking) => {
        const { code, sentence } = findingOf(presence, 'web', asking)
        if (code !== 0 && code !== 7) expect(sentence).toMatch(/web/)
      }),
    )
  })

  test('degraded is said to nobody who does not know it, and by no probe', () => {
    fc.assert(
      fc.property(presences, askings, (presence, asking) => {
        if (findingOf(presence, 'web', asking).code === 190)
          expect(asking).toMatchObject({ recurring: true, knowsDegraded: true })
      }),
    )
  })
})

describe('what a stop asks of a state', () => {
  test('no guest can answer where it is paused, crashed or suspended', () => {
    for (const state of ACTIVE_STATES)
      expect(isBeyondShutdown(active(state)), state).toBe(['paused', 'crashed', 'pmsuspended'].includes(state))
  })

  test('an end of a live migration waits for the other: paused for migration, starting up, post-copy, or a failed post-copy', () => {
    expect(PAUSED_REASONS.filter(reason => isPausedByMigration(active('paused', reason)))).toEqual([2, 11, 12, 13])
    for (const state of ACTIVE_STATES.filter(each => each !== 'paused'))
      for (const reason of [2, 11, 12, 13]) expect(isPausedByMigration(active(state, reason)), state).toBe(false)
  })
})
