/** What Pacemaker says in the environment, and what is made of its absence. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isOver, leftMs, readCall } from '../../src/ocf/call.ts'

/** As Pacemaker 2.1 calls a recurring monitor. */
const PACEMAKER = {
  OCF_ROOT: '/usr/lib/ocf',
  OCF_RA_VERSION_MAJOR: '1',
  OCF_RA_VERSION_MINOR: '1',
  OCF_RESOURCE_INSTANCE: 'grp:web:0',
  OCF_RESKEY_config: '/srv/web.xml',
  OCF_RESKEY_force_stop: '',
  OCF_RESKEY_CRM_meta_timeout: '30000',
  OCF_RESKEY_CRM_meta_interval: '10000',
  OCF_RESKEY_CRM_meta_name: 'monitor',
  OCF_RESKEY_CRM_meta_migrate_source: 'node1',
  OCF_RESKEY_CRM_meta_migrate_target: 'node2',
  OCF_CHECK_LEVEL: '10',
  HA_RSCTMP: '/run/other',
}

test("Pacemaker's words are read", () => {
  const call = readCall('monitor', PACEMAKER)
  expect(call).toMatchObject({
    action: 'monitor',
    instance: 'grp:web:0',
    recurring: true,
    knowsDegraded: true,
    timeoutMs: 30_000,
    deadlineMs: 29_000,
    migrateTarget: 'node2',
    migrateSource: 'node1',
    checkLevel: 10,
    runFolder: '/run/other',
  })
  expect([call.given('config'), call.given('force_stop'), call.given('snapshot')]).toEqual([
    '/srv/web.xml',
    '',
    undefined,
  ])
})

test('an empty environment has what is usual', () => {
  expect(readCall('start', {})).toMatchObject({
    action: 'start',
    instance: 'default',
    recurring: false,
    knowsDegraded: false,
    timeoutMs: 90_000,
    deadlineMs: 89_000,
    migrateTarget: undefined,
    migrateSource: undefined,
    checkLevel: 0,
    runFolder: '/run/resource-agents',
  })
})

test('an empty word is none', () => {
  const empty = Object.fromEntries(Object.keys(PACEMAKER).map(name => [name, '']))
  const { given: _, ...without } = readCall('monitor', {})
  expect(readCall('monitor', empty)).toMatchObject(without)
})

test.each([
  ['monitor', '10000', true],
  ['monitor', '1', true],
  ['monitor', '0', false],
  ['monitor', '', false],
  ['monitor', undefined, false],
  ['monitor', 'often', false],
  ['monitor', '-1', false],
  ['status', '10000', false],
  ['start', '10000', false],
])('%s with the interval %j: recurring is %s', (action, interval, recurring) => {
  const environment = interval === undefined ? {} : { OCF_RESKEY_CRM_meta_interval: interval }
  expect(readCall(action, environment).recurring).toBe(recurring)
})

test.each([
  ['1', '1', true],
  ['1', '2', true],
  ['1', '10', true],
  ['2', '0', true],
  ['10', '0', true],
  ['2', undefined, true],
  ['1', '0', false],
  ['0', '9', false],
  ['1', undefined, false],
  [undefined, '1', false],
  [undefined, undefined, false],
  ['one', 'one', false],
  ['', '', false],
])('who announces OCF %s.%s knows "degraded": %s', (major, minor, knowsDegraded) => {
  const environment = { OCF_RA_VERSION_MAJOR: major, OCF_RA_VERSION_MINOR: minor }
  expect(readCall('monitor', environment).knowsDegraded).toBe(knowsDegraded)
})

test.each([
  ['0', 0],
  ['20', 20],
  ['', 0],
  ['deep', 0],
])('the check level %j is %d', (OCF_CHECK_LEVEL, checkLevel) => {
  expect(readCall('validate-all', { OCF_CHECK_LEVEL }).checkLevel).toBe(checkLevel)
})

describe('the deadline', () => {
  const timeouts = fc.integer({ min: 1, max: 86_400_000 })

  test('lies before the timeout, by a second or a tenth', () => {
    fc.assert(
      fc.property(timeouts, timeoutMs => {
        const call = readCall('stop', { OCF_RESKEY_CRM_meta_timeout: String(timeoutMs) })
        expect(call.timeoutMs).toBe(timeoutMs)
        expect(call.deadlineMs).toBeLessThan(timeoutMs)
        expect(call.deadlineMs).toBeGreaterThanOrEqual(Math.max(timeoutMs - 1000, timeoutMs * 0.9 - 1e-6))
      }),
    )
  })

  test('leaves whole milliseconds, and at least one', () => {
    const now = performance.now()
    expect(leftMs({ deadlineMs: now - 5000 })).toBe(1)
    const left = leftMs({ deadlineMs: now + 5000.5 })
    expect(Number.isInteger(left)).toBe(true)
    expect(left).toBeGreaterThan(4000)
    expect(left).toBeLessThanOrEqual(5001)
  })

  test('is over once it has passed', () => {
    expect([isOver(performance.now() - 1), isOver(performance.now() + 60_000)]).toEqual([true, false])
  })

  test('of a timeout of a month is no moment: timers of Node.js take 2^31 - 1 ms, and would end at once for more', () => {
    const call = readCall('start', { OCF_RESKEY_CRM_meta_timeout: String(30 * 86_400_000) })
    expect(leftMs(call)).toBeGreaterThan(86_400_000)
    expect(leftMs(call)).toBeLessThan(2 ** 31)
  })
})
