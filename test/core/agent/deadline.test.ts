/** How a timeout is spent: whatever it is, there is time to ask the guest, time to force it, and time to say why. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { marginOf, reserveOf, timeoutOf } from '../../../src/core/agent/deadline.ts'

const timeouts = fc.integer({ min: 1, max: 86_400_000 })

describe('the timeout', () => {
  test.each([
    ['start', 90_000],
    ['stop', 90_000],
    ['migrate_to', 120_000],
    ['migrate_from', 60_000],
    ['monitor', 30_000],
    ['status', 30_000],
    ['validate-all', 20_000],
    ['reload-agent', 20_000],
    ['no-such-action', 20_000],
    ['constructor', 20_000],
    ['', 20_000],
  ])('of %s that nobody names is %d ms', (action, timeoutMs) => {
    expect(timeoutOf(action, undefined)).toBe(timeoutMs)
    for (const nonsense of ['', '0', '-5', '20s', '1.5', 'NaN', ' 20000', '0x10', '1e9', 'Infinity'])
      expect(timeoutOf(action, nonsense), nonsense).toBe(timeoutMs)
  })

  test('that is said is taken, in milliseconds', () => {
    fc.assert(fc.property(timeouts, timeoutMs => timeoutOf('stop', String(timeoutMs)) === timeoutMs))
  })

  test('is a number of milliseconds for any text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^\d{1,400}$/)), said => {
        const timeoutMs = timeoutOf('start', said)
        expect(timeoutMs).toBeGreaterThan(0)
      }),
    )
  })
})

describe('the margin at the end', () => {
  test('is a second, and of a short timeout a tenth', () => {
    expect([90_000, 20_000, 10_000, 5000, 1000].map(marginOf)).toEqual([1000, 1000, 1000, 500, 100])
  })

  test('is always there, and never more than a tenth or a second', () => {
    fc.assert(
      fc.property(timeouts, timeoutMs => {
        const margin = marginOf(timeoutMs)
        expect(margin).toBeGreaterThan(0)
        expect(margin).toBeLessThanOrEqual(Math.min(1000, timeoutMs / 10))
      }),
    )
  })
})

describe('the reserve for force', () => {
  test.each([
    [600_000, 40_000],
    [120_000, 40_000],
    [90_000, 30_000],
    [60_000, 20_000],
    [30_000, 10_000],
    [24_000, 10_000],
    [20_000, 10_000],
    [12_000, 6000],
    [5000, 2500],
    [1000, 500],
  ])('of %d ms is %d ms', (timeoutMs, reserveMs) => {
    expect(reserveOf(timeoutMs)).toBe(reserveMs)
  })

  test('never takes more than half: the guest is always asked first', () => {
    fc.assert(
      fc.property(timeouts, timeoutMs => {
        expect(reserveOf(timeoutMs)).toBeGreaterThan(0)
        expect(reserveOf(timeoutMs)).toBeLessThanOrEqual(timeoutMs / 2)
      }),
    )
  })

  test('gives libvirt the 10 s after which it kills, wherever they are there, and never more than the 40 s after which it gives up', () => {
    fc.assert(
      fc.property(timeouts, timeoutMs => {
        const reserve = reserveOf(timeoutMs)
        expect(reserve).toBeLessThanOrEqual(40_000)
        if (timeoutMs >= 20_000) expect(reserve).toBeGreaterThanOrEqual(10_000)
        if (timeoutMs >= 30_000) expect(reserve).toBe(Math.min(timeoutMs / 3, 40_000))
      }),
    )
  })

  test('grows with the timeout, and so does the time before it', () => {
    fc.assert(
      fc.property(timeouts, timeouts, (a, b) => {
        const [less, more] = [Math.min(a, b), Math.max(a, b)]
        expect(reserveOf(less)).toBeLessThanOrEqual(reserveOf(more))
        expect(less - reserveOf(less)).toBeLessThanOrEqual(more - reserveOf(more))
      }),
    )
  })

  test('leaves time to ask even behind the margin', () => {
    fc.assert(fc.property(timeouts, timeoutMs => timeoutMs - marginOf(timeoutMs) - reserveOf(timeoutMs) > 0))
  })
})
