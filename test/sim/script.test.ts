/** Schedules as text: what is written is read as what it was, so that a seed that fails can be kept as a scenario. */
import { describe, expect, test } from 'vitest'
import type { Action } from '../../src/sim/actions.ts'
import { parseCluster, printCluster } from '../../src/sim/cluster-file.ts'
import { outside } from '../../src/sim/drain.ts'
import { runSchedule } from '../../src/sim/run.ts'
import { runScenario, scenarioOf } from '../../src/sim/scenario.ts'
import { makeSchedule } from '../../src/sim/schedule.ts'
import { actionText, parseScript, printScript } from '../../src/sim/script.ts'

const SEEDS = Array.from({ length: 200 }, (_, at) => at + 1)

describe('a script', () => {
  test('is read as the schedule that it was written from', () => {
    for (const seed of SEEDS) {
      const { items, endMs } = makeSchedule(seed)
      expect(parseScript(printScript({ items, mendedMs: endMs }))).toEqual({ items, mendedMs: endMs })
    }
  })

  test('keeps the luck of what is left when lines were taken away', () => {
    const items = makeSchedule(5).items.filter(({ id }) => id % 3 === 0)
    expect(parseScript(printScript({ items }))).toEqual({ items })
  })

  const rare: Action[] = [
    { kind: 'killHavirt', host: 'desk' },
    { kind: 'killSanlock', node: 'node2', forMs: 60_000 },
    { kind: 'unmount', node: 'node2', forMs: 30_000 },
    { kind: 'sulkFence', node: 'node1' },
    { kind: 'breakFence', node: 'node1' },
    { kind: 'crash', node: 'node1', forMs: 1e9 },
    { kind: 'havirt', host: 'desk', words: ['domain', 'start', 'web', 'node1', '--dryrun'] },
    { kind: 'store', host: 'node1', weather: { staleMs: 20_000, unknown: 0.2, full: true, soft: true }, forMs: 1500 },
  ]
  test.each(rare.map(action => [actionText(action), action] as const))('has the line: %s', (text, action) => {
    expect(parseScript(`3 s  ${text}`).items).toEqual([{ id: 0, atMs: 3000, action }])
  })

  test('may name several cables, and explain itself', () => {
    const { items } = parseScript('# why\n\n1.5 s  node1: cables to node2, nas cut for 2 s\n')
    expect(items.map(({ action }) => action)).toEqual([
      { kind: 'cut', from: 'node1', to: 'node2', both: true, forMs: 2000 },
      { kind: 'cut', from: 'node1', to: 'nas', both: true, forMs: 2000 },
    ])
  })

  test.each(['node1: power off', '1 s  node1: sings', '1 s  node1: the share is green'])('cannot be: %s', line => {
    expect(() => parseScript(line)).toThrow(/cannot be/)
  })
})

test('a cluster is read as the setting that it was written from', () => {
  for (const seed of SEEDS) {
    const { setting } = makeSchedule(seed)
    expect(parseCluster(printCluster({ seed, setting }))).toEqual({ seed, setting })
  }
})

test('a seed runs the same as the scenario that it was written to', async () => {
  const schedule = makeSchedule(7)
  const { cluster, commands } = scenarioOf(schedule)
  const [lines, { log }] = await outside(() => {
    const heard: string[] = []
    runSchedule(schedule, line => heard.push(`${line}\n`))
    return [heard, runScenario(cluster, commands)] as const
  })
  expect(log).toBe(lines.join(''))
})
