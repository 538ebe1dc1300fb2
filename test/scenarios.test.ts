/**
 * Every folder of scenarios/: a situation that broke some cluster, played through the simulator. Its log is compared with
 * expected.log; `npx vitest run test/scenarios.test.ts -u` renews those, and a folder without one fails otherwise.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { outside } from '../src/sim/drain.ts'
import { type Outcome, runScenario } from '../src/sim/scenario.ts'

vi.mock('../src/store/owner.ts', async original => ({
  ...(await original<object>()),
  thisProcess: (await import('../src/sim/owner.ts')).thisProcess,
}))

const FOLDER = join(import.meta.dirname, 'scenarios')
const scenarios = readdirSync(FOLDER, { withFileTypes: true }).flatMap(each => (each.isDirectory() ? [each.name] : []))
/** A README that says so has a domain that runs twice, by a person's own virsh or wrong word. */
const BY_A_PERSON = /^\*\*Runs twice, by a person's hand\*\*/m
/** A README that says so shows what havirt does not do right yet, and which promise that breaks. */
const OPEN_DEFECT = /^\*\*Open defect\*\*: ([a-z ]+)\./m

function textOf(scenario: string, file: string): string {
  return readFileSync(join(FOLDER, scenario, file), 'utf8')
}

function renewing(): boolean {
  const { snapshotState } = expect.getState() as unknown as { snapshotState: { _updateSnapshot: string } }
  return snapshotState._updateSnapshot === 'all'
}

function play(scenario: string): Promise<Outcome> {
  return outside(() => runScenario(textOf(scenario, 'cluster.yaml'), textOf(scenario, 'commands')))
}

test.each(scenarios)('%s', async scenario => {
  const golden = join(FOLDER, scenario, 'expected.log')
  if (!renewing())
    expect(existsSync(golden), `${golden} is missing: npx vitest run test/scenarios.test.ts -u makes it`).toBe(true)
  const { log, problems, excused } = await play(scenario)
  await expect(log).toMatchFileSnapshot(golden)
  const readme = textOf(scenario, 'README.md')
  const open = OPEN_DEFECT.exec(readme)?.[1]
  expect([...new Set(problems.map(({ kind, text }) => open ?? `${kind}: ${text}`))]).toEqual(
    open === undefined ? [] : [open],
  )
  expect(open === undefined || problems.every(({ kind }) => kind === open)).toBe(true)
  const byAPerson = BY_A_PERSON.test(readme)
  expect(excused > 0).toBe(byAPerson)
  if (byAPerson) expect(scanAfterTwice(log)).toContain('ends with 6 (twice)')
})

/** What the log says once a domain ran twice, from the next scan on. */
function scanAfterTwice(log: string): string {
  const since = log.slice(log.indexOf("(a person's "))
  return since.slice(since.indexOf('havirt node scan'))
}

test('the table of scenarios names each folder, and none that is not there', () => {
  const table = readFileSync(join(FOLDER, 'README.md'), 'utf8')
  const named = [...table.matchAll(/\]\(([\w-]+)\/\)/g)].map(([, folder = '']) => folder)
  expect(named.sort()).toEqual([...scenarios].sort())
})
