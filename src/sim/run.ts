/** Runs one schedule from its beginning to its end: a verdict, and what happened in figures. */

import { emptyLedger, type Ledger } from '../core/ledger.ts'
import { subStream } from '../core/random.ts'
import { exitStatus } from '../report.ts'
import { perform } from './actions.ts'
import { simConfig } from './home.ts'
import type { Problem, Run } from './oracle.ts'
import type { Schedule } from './schedule.ts'
import { World } from './world.ts'

/** Faults end with the schedule; after so long every time to live has passed and every migration has ended. */
const REST_MS = 180_000
/** The longest that a run of havirt may take once nothing is broken. */
const PATIENCE_MS = 900_000
const ATTEMPTS = 4
const BETWEEN_ATTEMPTS_MS = 20_000

/** What happened, in figures. */
export interface Stats {
  operations: number
  runs: number
  starts: number
  startsDone: number
  startsRefused: number
  startsUnknown: number
  migrations: number
  migrationsDone: number
  kills: number
  cuts: number
  takeOvers: number
  excused: number
  /** Starts past a silent node. */
  passed: number
  unguarded: number
}

export interface Verdict {
  readonly problems: readonly Problem[]
  readonly stats: Stats
}

/** Must be called outside of any continuation, see drain.ts. `log` hears every line. */
export function runSchedule(schedule: Schedule, log?: (line: string) => void): Verdict {
  const world = new World(schedule.setting, log)
  for (const { id, atMs, action } of schedule.items)
    world.scheduler.after(atMs, undefined, () => perform(world, action, subStream(schedule.seed, id)))
  const endMs = schedule.endMs
  world.scheduler.after(endMs, undefined, () => world.heal(subStream(schedule.seed, -2)))
  // A fence that took its time may come after that.
  world.scheduler.after(endMs + REST_MS / 2, undefined, () => world.heal(subStream(schedule.seed, -4)))
  world.scheduler.run(endMs + REST_MS)
  startAll(world, schedule)
  world.scheduler.run(endMs + REST_MS + PATIENCE_MS)
  judgeEnd(world, schedule)
  return { problems: world.oracle.problems, stats: statsOf(world, schedule) }
}

/** Liveness: with nothing broken any more, every definition is started, as often as the rules ask for. */
function startAll(world: World, schedule: Schedule): void {
  const desk = world.hosts.get('desk')
  if (desk === undefined) return
  const random = subStream(schedule.seed, -1)
  world.havirt(desk, ['node', 'scan'], random)
  for (const { name } of world.machines) world.havirt(desk, ['node', 'maintenanceoff', name], random)
  if (world.passes !== undefined) world.havirt(desk, ['lease', 'reconcile'], random)
  const attempt = (name: string, left: number) => {
    if (left === 0 || isActive(world, name) || obstacleTo(world, name)) return
    world.havirt(desk, ['domain', 'start', name, '--auto'], random, 0, ({ report }: Run) => {
      if (report?.exit !== exitStatus.done)
        world.scheduler.after(BETWEEN_ATTEMPTS_MS, undefined, () => attempt(name, left - 1))
    })
  }
  for (const [at, { name }] of schedule.setting.domains.entries())
    world.scheduler.after(1000 * (at + 1), undefined, () => attempt(name, ATTEMPTS))
}

function isActive(world: World, name: string): boolean {
  const uuid = world.uuidOf(name)
  return world.machines.some(({ qemus }) => qemus.some(qemu => qemu.uuid === uuid || qemu.name === name))
}

function judgeEnd(world: World, { setting }: Schedule): void {
  const { oracle } = world
  oracle.judgeReports()
  judgeMarks(world)
  for (const { pid } of world.processes)
    oracle.fail('not live', `pid ${pid} (havirt ${oracle.runs.get(pid)?.words.join(' ')}) never ends`)
  for (const { name } of setting.domains) {
    const obstacle = isActive(world, name) || obstacleTo(world, name) || !hasRoom(world, name)
    if (!obstacle) oracle.fail('not live', `${name} cannot be started, although nothing stands in its way`)
  }
}

/** A confirmation has lapsed once its node answered a full scan, unless something runs twice. */
function judgeMarks(world: World): void {
  const { oracle, machines } = world
  const marked = machines.find(({ name }) => isCalledDown(world, name))
  const uuids = machines.flatMap(({ qemus }) => qemus.map(({ uuid }) => uuid))
  if (marked !== undefined && new Set(uuids).size === uuids.length && oracle.problems.length === 0)
    oracle.fail('not live', `${marked.name} is still confirmed down, although it answered`)
  for (const { name, qemus } of machines) {
    const gone = oracle.passedOn(name).find(each => qemus.every(({ uuid }) => uuid !== each.uuid))
    if (gone !== undefined && oracle.problems.length === 0)
      oracle.fail('not live', `${name} still counts as passed, although nothing is left there of ${gone.domain}`)
  }
}

function isCalledDown({ share }: World, node: string): boolean {
  return /"down":/.test(share.newest(`ledger/${node}`)?.text ?? '')
}

/** True when some node could take it. */
function hasRoom(world: World, name: string): boolean {
  const { reservedMemoryMiB } = simConfig.node
  const needed = world.domainOf(name)?.memoryMiB ?? 0
  return world.machines.some(({ name: node, memoryMiB, qemus }) => {
    // What is back, and has what runs elsewhere, too, receives nothing.
    if (isCalledDown(world, node) || world.oracle.passedOn(node).length > 0) return false
    const held = qemus.reduce((sum, { domain }) => sum + domain.memoryMiB, keptFor(world, node))
    return held + needed <= memoryMiB - reservedMemoryMiB
  })
}

/** Room that is kept on a node for what may have moved there: it stands still somewhere, and only a person can say where it belongs. */
function keptFor({ share, machines }: World, node: string): number {
  const text = share.newest(`ledger/${node}`)?.text
  const { reservations }: Ledger = text === undefined ? emptyLedger : JSON.parse(text)
  const undecided = machines.flatMap(({ qemus }) =>
    qemus.flatMap(({ state, uuid }) => (state === 'paused' ? [uuid] : [])),
  )
  return reservations.reduce((sum, { uuid, memoryMiB }) => sum + (undecided.includes(uuid) ? memoryMiB : 0), 0)
}

/** True when something in the simulated truth forbids the start: a rival on its disks, a saved image, an autostart. */
function obstacleTo(world: World, name: string): boolean {
  const uuid = world.uuidOf(name)
  const disks = disksOf(world, name)
  const shares = (other: readonly string[]) => other.some(disk => disks.includes(disk))
  return world.machines.some(
    ({ qemus, defined }) =>
      qemus.some(qemu => !qemu.listed || shares(qemu.disks)) ||
      [...defined.values()].some(each => {
        const same = each.uuid === uuid || each.name === name
        return (
          (same && (each.autostart || each.managedSave)) || (each.managedSave && shares(world.trueDisks(each.domain)))
        )
      }),
  )
}

function disksOf(world: World, name: string): readonly string[] {
  const domain = world.domainOf(name)
  return domain === undefined ? [] : world.trueDisks(domain)
}

function statsOf(world: World, schedule: Schedule): Stats {
  const runs = [...world.oracle.runs.values()]
  const starts = runs.filter(({ words }) => words[0] === 'domain' && words[1] === 'start')
  const moves = runs.filter(({ words }) => words[1] === 'migrate')
  const exits = (list: readonly Run[], status: number) => list.filter(({ report }) => report?.exit === status).length
  return {
    operations: schedule.items.length,
    runs: runs.length,
    starts: starts.length,
    startsDone: exits(starts, exitStatus.done),
    startsRefused: exits(starts, exitStatus.refused),
    startsUnknown: exits(starts, exitStatus.unknown),
    migrations: moves.length,
    migrationsDone: exits(moves, exitStatus.done),
    kills: runs.filter(({ killed }) => killed).length,
    cuts: schedule.items.filter(({ action }) => action.kind === 'cut').length,
    takeOvers: world.takeOvers(),
    excused: world.oracle.excused,
    passed: world.passes?.count ?? 0,
    unguarded: world.oracle.unguarded,
  }
}
