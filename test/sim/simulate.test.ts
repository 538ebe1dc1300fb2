/** The promise, over many seeds: whatever happens, a domain never runs twice, and every report is true. */
import { expect, test } from 'vitest'
import { simulate } from './bundled.ts'

const SEEDS = 2000

test(`${SEEDS} simulated clusters keep every promise`, async () => {
  const { status, text } = await simulate(['--seeds', String(SEEDS)])
  expect(text).toContain('promises broken:           0')
  expect(status).toBe(0)
}, 600_000)

test('one seed is the same run each time', async () => {
  const [one, other] = await Promise.all([simulate(['--seed', '7', '--whole']), simulate(['--seed', '7', '--whole'])])
  expect(one.text).toBe(other.text)
  expect(one.text).toContain('havirt domain')
}, 120_000)
