/** The simulator catches each broken variant of the source, so that a run without a find says something. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { simulate } from './bundled.ts'
import { covered, type Edit, type Variant, variants } from './variants.ts'

const SCENARIOS = join(import.meta.dirname, '..', 'scenarios')

/** On one core each: which seed catches it does not depend on how many cores there are. */
async function catches({ within, plot, scenario }: Variant, edits: readonly Edit[]): Promise<void> {
  if (scenario !== undefined) return shows(scenario, edits)
  const about = plot === undefined ? [] : ['--plot', plot]
  const { status, text } = await simulate(['--seeds', String(within), '--jobs', '1', '--brief', ...about], edits)
  expect(text).toContain('promises broken:           1')
  expect(status).toBe(1)
}

async function shows(scenario: string, edits: readonly Edit[]): Promise<void> {
  const { status, text } = await simulate(['--scenario', join(SCENARIOS, scenario)], edits)
  expect(text).toMatch(/\*\*\* (two writers|killed|past a node|left over)/)
  expect(status).toBe(1)
}

test.concurrent.each(variants)('$why', variant => catches(variant, variant.edits), 600_000)

test.concurrent.each(covered)(
  '$why (alone it is covered: $by)',
  variant => catches(variant, [...variant.edits, ...variant.layer]),
  600_000,
)
