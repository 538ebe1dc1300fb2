/** The promise, over many seeds: whatever happens, a domain never runs twice, and every report is true. `make test` runs more. */
import { expect, test } from 'vitest'
import { simulate } from './bundled.ts'

const SEEDS = 500

test(`${SEEDS} simulated clusters keep every promise`, async () => {
  const { status, text } = await simulate(['--seeds', String(SEEDS)])
  expect(text).toContain('promises broken:           0')
  expect(status).toBe(0)
}, 600_000)

test('a run is a pure function of its seed: its log is the same twice, byte for byte', async () => {
  const { status, text } = await simulate(['--twice', '--seeds', '60'])
  expect(text).toBe('60 seeds: the same twice\n')
  expect(status).toBe(0)
}, 120_000)

test('so it is in another process', async () => {
  const [one, other] = await Promise.all([simulate(['--seed', '7', '--whole']), simulate(['--seed', '7', '--whole'])])
  expect(one.text).toBe(other.text)
  expect(one.text).toContain('havirt domain')
}, 120_000)
