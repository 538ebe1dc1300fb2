/** The end of maintenance: the flag goes, and what a drain took away comes back. */
import { sightings } from '../core/cluster.ts'
import { type Drained, type Ledger, markText } from '../core/ledger.ts'
import { planReturn, type Return } from '../core/plan/drain.ts'
import { moveRows } from '../core/plan/moves.ts'
import { describeRefusal } from '../core/refusal.ts'
import { observeOnce } from '../observe.ts'
import { changeDomain, type Parts } from '../operate.ts'
import { exitStatus, type Message, note, type Report, refusedReport, warning } from '../report.ts'
import { starting } from './changes.ts'
import { PROCESSES } from './inquiries.ts'
import { recording } from './marks.ts'
import { scriptOf, whateverHappens } from './moves.ts'
import { observeForMoves } from './observations.ts'
import { combine, type Input, requiredWord, unknownAmong } from './operation.ts'
import { fixedRows, MOVE_COLUMNS, makeMoves, moveTasks, stayNote, told } from './several-moves.ts'

/** Ends the maintenance of a node; with `--return` also brings back what its drain took away. */
export async function maintenanceOff(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const name = requiredWord(input, 'NODE')
  const unknown = unknownAmong([name], records)
  if (unknown !== undefined) return unknown
  const ledger = await parts.home.records.ledger(name)
  return input.options['return'] === true ? bringBack(parts, input, name, ledger) : unflag(parts, input, name, ledger)
}

async function unflag(parts: Parts, input: Input, name: string, { maintenance, drained }: Ledger): Promise<Report> {
  if (maintenance === undefined) return told(note(`nothing to do: ${name} is not in maintenance`))
  if (!input.mode.act)
    return { exit: exitStatus.done, script: [recording(name, 'no longer in maintenance')], messages: [] }
  await endMaintenance(parts, name)
  const away = drained?.length ?? 0
  return told(
    note(`${name} may receive domains again; it was in maintenance ${markText(maintenance)}`),
    ...(away === 0
      ? []
      : [note(`what was moved away stays where it is; to bring it back: havirt node maintenanceoff ${name} --return`)]),
  )
}

async function endMaintenance(parts: Parts, name: string): Promise<void> {
  await parts.home.records.changeLedger(name, ({ maintenance: _, ...ledger }) => ledger)
}

async function bringBack(
  parts: Parts,
  input: Input,
  name: string,
  { maintenance, drained = [] }: Ledger,
): Promise<Report> {
  const first = planReturn(await observeForMoves(parts), name)
  if (!('moves' in first)) return refusedReport(first)
  const flagged = maintenance !== undefined
  if (!flagged && drained.length === 0)
    return told(note(`nothing to do: ${name} is not in maintenance, and nothing was moved away from it`))
  if (!input.mode.act) return showReturn(parts, input, first, name, flagged)
  if (flagged) await endMaintenance(parts, name)
  // With the mark gone and a fresh look, the plan is made again: others may have begun something meanwhile.
  const plan = planReturn(await observeForMoves(parts), name)
  if (!('moves' in plan)) return refusedReport(plan)
  const { report: moved, stopped } = await makeMoves(parts, input, `return to ${name}`, plan.moves)
  const starts = stopped ? [] : plan.starts
  const started = await Promise.all(
    starts.map(each =>
      whateverHappens(() => changeDomain(parts, starting(input, each.domain, each.from, false), input.mode)),
    ),
  )
  const made = combine([...(plan.moves.length > 0 ? [moved] : []), ...started])
  const report =
    starts.length < plan.starts.length && made.exit === exitStatus.done ? { ...made, exit: exitStatus.partly } : made
  return returned(parts, name, plan, report)
}

function showReturn(parts: Parts, input: Input, plan: Return, name: string, flagged: boolean): Report {
  const { cluster, moves, starts, stays, gone } = plan
  const startTasks = starts.map(({ domain, from }) => ({
    change: starting(input, domain, from, false),
    why: `${domain} was shut down when ${name} was drained`,
  }))
  const shown = scriptOf(parts, cluster, [...moveTasks(parts, input, moves), ...startTasks])
  const script = [...(flagged ? [recording(name, 'no longer in maintenance')] : []), ...(shown.script ?? [])]
  const table = { columns: MOVE_COLUMNS, rows: [...moveRows(moves), ...fixedRows(stays)] }
  return {
    ...shown,
    script,
    table,
    messages: [...shown.messages, ...stays.flatMap(stayNote), ...gone.flatMap(goneNote)],
  }
}

function goneNote({ domain }: Drained): Message[] {
  return [note(`${domain} runs nowhere now and was not shut down by the drain, so it is left as it is`)]
}

/** What is back is forgotten; what is not stays written down for the next try. */
async function returned(parts: Parts, name: string, plan: Return, report: Report): Promise<Report> {
  const seen = await observeOnce(parts, PROCESSES)
  const isHome = ({ uuid, from }: Drained) =>
    sightings(seen).some(({ node, domain }) => domain.uuid === uuid && domain.active && node === from)
  const isGone = ({ uuid }: Drained) => plan.gone.some(each => each.uuid === uuid)
  await parts.home.records.changeLedger(name, ledger => {
    const { drained: known = [], ...rest } = ledger
    const kept = known.filter(each => !isHome(each) && !isGone(each))
    return kept.length === 0 ? rest : { ...rest, drained: kept }
  })
  const stays = plan.stays.flatMap(({ why }) => why)
  const exit = report.exit === exitStatus.done && stays.length > 0 ? exitStatus.partly : report.exit
  const isAll = exit === exitStatus.done && plan.gone.length === 0
  const all = isAll ? [note(`everything that was taken away from ${name} is back`)] : []
  return {
    ...report,
    exit,
    messages: [...report.messages, ...plan.gone.flatMap(goneNote), ...stays.map(stayWarning), ...all],
  }
}

function stayWarning(refusal: Parameters<typeof describeRefusal>[0]): Message {
  const { why, next } = describeRefusal(refusal)
  return warning(why, next)
}
