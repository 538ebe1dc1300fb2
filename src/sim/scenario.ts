/** A scenario: a cluster and a script, run to their end, with the operational log of all that happened. */

import { subStream } from '../core/random.ts'
import { perform } from './actions.ts'
import { type ClusterFile, parseCluster, printCluster } from './cluster-file.ts'
import type { Problem } from './oracle.ts'
import { runSchedule } from './run.ts'
import type { Schedule } from './schedule.ts'
import { parseScript, printScript, type Script } from './script.ts'
import { World } from './world.ts'

/** After the last line every time to live passes, and every command ends. */
const REST_MS = 300_000

/** What came of a scenario. */
export interface Outcome {
  readonly log: string
  readonly problems: readonly Problem[]
  /** How often a person made a domain run twice. */
  readonly excused: number
}

/** Runs the texts of `cluster.yaml` and `commands`. Must be called outside of any continuation, see drain.ts. */
export function runScenario(clusterText: string, commandsText: string): Outcome {
  const cluster = parseCluster(clusterText)
  const script = parseScript(commandsText)
  const lines: string[] = []
  const log = (line: string) => void lines.push(`${line}\n`)
  const { mendedMs } = script
  const { problems, excused } =
    mendedMs === undefined
      ? runAsItIs(cluster, script, log)
      : runMended({ ...cluster, ...script, endMs: mendedMs }, log)
  return { log: lines.join(''), problems, excused }
}

/** A schedule as the two texts of a scenario. */
export function scenarioOf(schedule: Schedule): { cluster: string; commands: string } {
  const { seed, setting, items, endMs } = schedule
  return { cluster: printCluster({ seed, setting }), commands: printScript({ items, mendedMs: endMs }) }
}

type Log = (line: string) => void

function runMended(schedule: Schedule, log: Log): Omit<Outcome, 'log'> {
  const { problems, stats } = runSchedule(schedule, log)
  return { problems, excused: stats.excused }
}

/** Nothing is mended or started at the end: what is broken stays so. */
function runAsItIs({ setting, seed }: ClusterFile, { items }: Script, log: Log): Omit<Outcome, 'log'> {
  const world = new World(setting, log)
  for (const { id, atMs, action } of items)
    world.scheduler.after(atMs, undefined, () => perform(world, action, subStream(seed, id)))
  world.scheduler.run(Math.max(...items.map(({ atMs }) => atMs)) + REST_MS)
  const { oracle } = world
  oracle.judgeReports()
  for (const { pid, host } of world.processes)
    if (!host.frozen) oracle.fail('not live', `pid ${pid} (havirt ${oracle.runs.get(pid)?.words.join(' ')}) never ends`)
  return { problems: oracle.problems, excused: oracle.excused }
}
