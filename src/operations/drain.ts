/** Emptying nodes: planned, shown, and carried out in rounds until they are empty, or until a person has to look. */
import type { Drained, Ledger, Mark } from '../core/ledger.ts'
import type { Fixed } from '../core/plan/count.ts'
import { type Drain, planDrain, type Stuck } from '../core/plan/drain.ts'
import { gibOf, type Move, moveRows } from '../core/plan/moves.ts'
import { changeDomain, type DomainChange, type Parts } from '../operate.ts'
import { exitStatus, note, type Report, refusedReport, warning } from '../report.ts'
import { stopping } from './changes.ts'
import { concluded } from './emptiness.ts'
import { mark, recording } from './marks.ts'
import { scriptOf, type Task, whateverHappens } from './moves.ts'
import { observeForMoves } from './observations.ts'
import { combine, type Input } from './operation.ts'
import { counted, fixedRows, MOVE_COLUMNS, makeMoves, moveTasks, stayNote } from './several-moves.ts'

/** Whoever was first is the one who is named. What an earlier drain took away is forgotten when another begins. */
export async function flag(parts: Parts, name: string, fresh: Mark): Promise<Mark> {
  const after = await parts.home.records.changeLedger(name, ledger => {
    const { drained: _, ...rest } = ledger
    return ledger.maintenance === undefined ? { maintenance: fresh, ...rest } : ledger
  })
  return after.maintenance ?? fresh
}

/** How often it is planned anew: for what came to the node meanwhile, and around a node that has fallen silent. */
const ROUNDS = 4

/** Shows how the nodes would be emptied, or flags and empties them. Refused, nothing is changed. */
export async function drain(parts: Parts, input: Input, names: readonly string[]): Promise<Report> {
  const request = { nodes: names, stuck: stuckOf(input), mark: await mark(parts, input) }
  const first = planDrain(await observeForMoves(parts), request)
  if (!('moves' in first)) return refusedReport(first)
  if (!input.mode.act) return showDrain(parts, input, first, names)
  for (const name of names) await flag(parts, name, request.mark)
  return emptied(parts, input, names, request, new Set(first.stops.map(({ domain }) => domain)))
}

async function emptied(
  parts: Parts,
  input: Input,
  names: readonly string[],
  request: Parameters<typeof planDrain>[1],
  mayStop: ReadonlySet<string>,
): Promise<Report> {
  const rounds: Round[] = []
  let skipped: readonly Fixed[] = []
  for (let turn = 0; turn < ROUNDS; turn++) {
    const planned = planDrain(await observeForMoves(parts), request)
    if (!('moves' in planned))
      return stillFlagged(names, combine([...rounds.map(({ report }) => report), refusedReport(planned)]))
    const plan = withStops(planned, mayStop)
    skipped = plan.stays
    if (plan.moves.length + plan.stops.length === 0 || isTriedBefore(rounds, plan.moves)) break
    await writeDrained(parts, names, plan.drained)
    const round = await drainRound(parts, input, names, plan)
    rounds.push(round)
    if (round.isOver) break
  }
  return concluded(parts, names, combine(rounds.map(({ report }) => report)), skipped)
}

/** Only what was shown is shut down: what finds no room any more, since a node fell silent, stays and is told. */
function withStops(plan: Drain, mayStop: ReadonlySet<string>): Drain {
  const drained = plan.drained.filter(({ domain, stopped }) => stopped !== true || mayStop.has(domain))
  return { ...plan, stops: plan.stops.filter(({ domain }) => mayStop.has(domain)), drained }
}

/** One plan, carried out. */
interface Round {
  readonly report: Report
  readonly failed: readonly Move[]
  /** Nothing is to follow: the person said so, or what was to be shut down did not. */
  readonly isOver: boolean
}

/** What failed is not tried again in the same way: the person looks first, and gives the command again. */
function isTriedBefore(rounds: readonly Round[], moves: readonly Move[]): boolean {
  const failed = rounds.flatMap(each => each.failed)
  return moves.some(move => failed.some(({ domain, to }) => move.domain === domain && move.to === to))
}

function stuckOf({ options }: Input): Stuck {
  return options['shutdown'] === true ? 'shutdown' : options['skip'] === true ? 'skip' : 'refuse'
}

function stillFlagged(names: readonly string[], report: Report): Report {
  const text = `${names.join(' and ')} ${names.length === 1 ? 'stays' : 'stay'} in maintenance: nothing is started there or moved there`
  return {
    ...report,
    messages: [
      ...report.messages,
      warning(text, `to end it: ${names.map(name => `havirt node maintenanceoff ${name}`).join('; ')}`),
    ],
  }
}

/**
 * Written before the first move: whoever is interrupted still finds the way back. Each node's own ledger says what was taken from it;
 * what made room elsewhere stands in the first.
 */
async function writeDrained(parts: Parts, names: readonly string[], drained: readonly Drained[]): Promise<void> {
  for (const [at, name] of names.entries()) {
    const own = drained.filter(({ from }) => from === name || (at === 0 && !names.includes(from)))
    await parts.home.records.changeLedger(name, (ledger): Ledger => {
      const known = ledger.drained ?? []
      const fresh = own.filter(({ uuid }) => known.every(each => each.uuid !== uuid))
      return known.length + fresh.length === 0 ? ledger : { ...ledger, drained: [...known, ...fresh] }
    })
  }
}

async function showDrain(parts: Parts, input: Input, plan: Drain, names: readonly string[]): Promise<Report> {
  const { cluster, moves, stops } = plan
  const ledgers = await Promise.all(names.map(async name => [name, await parts.home.records.ledger(name)] as const))
  const unflagged = ledgers.filter(([, { maintenance }]) => maintenance === undefined)
  const shown = scriptOf(parts, cluster, [...moveTasks(parts, input, moves), ...stopTasks(parts, input, stops)])
  const script = [...unflagged.map(([name]) => recording(name, 'in maintenance')), ...(shown.script ?? [])]
  if (script.length === 0 && shown.exit === exitStatus.done) return concluded(parts, names, shown, plan.stays)
  const table = { columns: MOVE_COLUMNS, rows: [...moveRows(moves), ...fixedRows([...stops, ...plan.stays])] }
  const about = [note(summaryOf(plan, names)), ...plan.stays.flatMap(stayNote)]
  return { ...shown, script, table, messages: [...about, ...shown.messages] }
}

function summaryOf({ moves, stops }: Drain, names: readonly string[]): string {
  const own = moves.filter(({ from }) => names.includes(from)).length
  const others = moves.length - own
  const gib = gibOf(moves.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0))
  return [
    `to empty ${names.join(' and ')}: ${counted(own, 'domain moves', 'domains move')} away`,
    ...(others === 0 ? [] : [`${counted(others, 'move', 'moves')} elsewhere to make room`]),
    ...(stops.length === 0 ? [] : [`${counted(stops.length, 'domain is', 'domains are')} shut down`]),
    `${gib} GiB go over the network`,
  ].join(', ')
}

function stopTasks(parts: Parts, input: Input, stops: readonly Fixed[]): Task[] {
  return stops.map(stop => ({
    change: stopTask(parts, input, stop),
    why: `${stop.domain} cannot be moved while running`,
  }))
}

function stopTask(parts: Parts, input: Input, { domain }: Fixed): DomainChange {
  return stopping(input, domain, { timeoutMs: parts.home.config.stop.timeoutSeconds * 1000, force: false })
}

async function drainRound(parts: Parts, input: Input, names: readonly string[], plan: Drain): Promise<Round> {
  const { report: moved, failed, stopped } = await makeMoves(parts, input, `drain ${names.join(', ')}`, plan.moves)
  if (moved.exit !== exitStatus.done) {
    const kept =
      plan.stops.length === 0 ? [] : [warning('nothing was shut down so far, since not everything was moved')]
    return { report: { ...moved, messages: [...moved.messages, ...kept] }, failed, isOver: stopped }
  }
  if (stopped && plan.stops.length > 0) {
    const told = warning(
      `nothing was shut down: ${plan.stops.map(({ domain }) => domain).join(', ')}`,
      'the same command goes on',
    )
    return { report: { ...moved, exit: exitStatus.partly, messages: [...moved.messages, told] }, failed, isOver: true }
  }
  const mode = { ...input.mode, ensure: true }
  const stops = await Promise.all(
    plan.stops.map(stop => whateverHappens(() => changeDomain(parts, stopTask(parts, input, stop), mode))),
  )
  const report = combine([...(plan.moves.length > 0 ? [moved] : []), ...stops])
  return { report, failed: [], isOver: stopped || report.exit !== exitStatus.done }
}
