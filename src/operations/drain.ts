/** Taking nodes out of service: maintenance, the drain that empties them, and the way back. */
import { type Cluster, sightings } from '../core/cluster.ts'
import { type Drained, type Ledger, type Mark, markText } from '../core/ledger.ts'
import type { Fixed } from '../core/plan/count.ts'
import { type Drain, planDrain, planReturn, type Return, type Stuck } from '../core/plan/drain.ts'
import { gibOf, type Move, moveRows } from '../core/plan/moves.ts'
import { describeRefusal, refuse } from '../core/refusal.ts'
import { heldReservations, observeOnce } from '../observe.ts'
import { changeDomain, type DomainChange, type Parts } from '../operate.ts'
import { type Column, exitStatus, failure, type Message, note, type Report, refusedReport, warning } from '../report.ts'
import { observeForMoves } from './balance.ts'
import { migration, starting, stopping } from './changes.ts'
import { PROCESSES } from './inquiries.ts'
import { mark, REASON, recording } from './marks.ts'
import { carryOut, scriptOf, type Task, whateverHappens } from './moves.ts'
import { combine, type Input, type Operation, requiredWord, words } from './operation.ts'

const NODES = { name: 'NODE', help: 'the nodes', required: true, many: true, complete: 'node' } as const
const NODE = { name: 'NODE', help: 'the node', required: true, complete: 'node' } as const

const COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'the domain' },
  { key: 'from', title: 'FROM', help: 'the node where it is' },
  { key: 'to', title: 'TO', help: 'the node that receives it; empty where it is shut down, or stays' },
  { key: 'gib', title: 'COST', align: 'right', unit: 'GiB', help: 'the memory that goes over the network' },
  { key: 'why', title: 'WHY', help: 'what it moves for, or why it cannot' },
]

export const drainOperations: readonly Operation[] = [
  {
    name: 'node maintenanceon',
    aliases: ['node drain'],
    summary: 'take nodes out of service: start nothing more there, and move everything away',
    description:
      'Records that the nodes are in maintenance, finds a place for every domain that runs there, making room by moving others where that is the only way, and moves them live, several at a time (migrate.together, migrate.togetherPerNode). The whole plan is shown first. A domain that cannot be moved while running is named with its reason, and nothing is done until --shutdown or --skip says what becomes of it. A move that fails keeps only those from beginning that need its room, and what is left is planned anew, around a node that has fallen silent. Interrupted, or run again for what is left, it goes on where it was. "Empty" is said only after a last look at the node, and at claims and reservations there.',
    args: [NODES],
    options: [
      { flags: '--shutdown', help: 'shut down what cannot be moved while running' },
      { flags: '--skip', help: 'leave what cannot be moved running where it is' },
      { flags: '--flag-only', help: 'start nothing more there, and leave everything running' },
      REASON,
    ],
    changes: true,
    columns: COLUMNS,
    examples: [
      'havirt node maintenanceon node2',
      'havirt -y node maintenanceon node2 --reason memory --shutdown',
      'havirt -y node maintenanceon node2 --flag-only',
    ],
    run: maintenanceOn,
  },
  {
    name: 'node maintenanceoff',
    summary: 'put a node back into service',
    description:
      'Records that the node may receive domains again. --return also brings back what its drain took away, as far as it still runs elsewhere, and starts what the drain shut down. What cannot come back now is named, and the same command tries again.',
    args: [NODE],
    options: [{ flags: '--return', help: 'bring back what the drain took away' }],
    changes: true,
    columns: COLUMNS,
    examples: ['havirt -y node maintenanceoff node2', 'havirt node maintenanceoff node2 --return'],
    run: maintenanceOff,
  },
]

// ---- maintenance on ---------------------------------------------------------------------------------------------------

async function maintenanceOn(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const names = [...new Set(words(input, 'NODE'))]
  const stranger = names.find(name => !records.has(name))
  if (stranger !== undefined)
    return refusedReport([refuse('unknownNode', { node: stranger, known: [...records.keys()] })])
  const { shutdown, skip, flagOnly } = input.options
  if ([shutdown, skip, flagOnly].filter(each => each === true).length > 1)
    return usage('--shutdown, --skip and --flag-only exclude each other', 'give one of them')
  return flagOnly === true ? flagAll(parts, input, names) : drain(parts, input, names)
}

function usage(text: string, next: string): Report {
  return { exit: exitStatus.usage, messages: [failure(text, next)] }
}

async function flagAll(parts: Parts, input: Input, names: readonly string[]): Promise<Report> {
  const reports: Report[] = []
  for (const name of names) reports.push(await flagOne(parts, input, name))
  return combine(reports)
}

async function flagOne(parts: Parts, input: Input, name: string): Promise<Report> {
  const { maintenance } = await parts.home.records.ledger(name)
  if (maintenance !== undefined) return told(note(`nothing to do: ${name} is in maintenance ${markText(maintenance)}`))
  if (!input.mode.act) return { exit: exitStatus.done, script: [recording(name, 'in maintenance')], messages: [] }
  const set = await flag(parts, name, await mark(parts, input))
  return told(note(`${name} is in maintenance ${markText(set)}: nothing is started there or moved there`))
}

function told(...messages: Message[]): Report {
  return { exit: exitStatus.done, messages }
}

/** Whoever was first is the one who is named. What an earlier drain took away is forgotten when another begins. */
async function flag(parts: Parts, name: string, fresh: Mark): Promise<Mark> {
  const after = await parts.home.records.changeLedger(name, ledger => {
    const { drained: _, ...rest } = ledger
    return ledger.maintenance === undefined ? { maintenance: fresh, ...rest } : ledger
  })
  return after.maintenance ?? fresh
}

// ---- drain --------------------------------------------------------------------------------------------------------------

/** How often it is planned anew: for what came to the node meanwhile, and around a node that has fallen silent. */
const ROUNDS = 4

async function drain(parts: Parts, input: Input, names: readonly string[]): Promise<Report> {
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
  const table = { columns: COLUMNS, rows: [...moveRows(moves), ...fixedRows([...stops, ...plan.stays])] }
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

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}

function stayNote({ domain, node, why: [first] }: Fixed): Message[] {
  return [note(`${domain} stays on ${node}${first === undefined ? '' : `: ${describeRefusal(first).why}`}`)]
}

function fixedRows(fixed: readonly Fixed[]) {
  return fixed.map(({ domain, node, why }) => ({
    domain,
    from: node,
    why: why.map(each => describeRefusal(each).why).join('; '),
  }))
}

function moveTasks(parts: Parts, input: Input, moves: readonly Move[]): Task[] {
  return moves.map(move => ({
    change: moving(parts, input, move),
    why: `${gibOf(move.memoryMiB)} GiB: ${move.why}`,
  }))
}

function moving(parts: Parts, input: Input, { domain, to, along }: Move): DomainChange {
  return migration(parts, input, domain, to, along)
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

interface Made {
  readonly report: Report
  readonly failed: readonly Move[]
  readonly stopped: boolean
}

async function makeMoves(parts: Parts, input: Input, label: string, moves: readonly Move[]): Promise<Made> {
  const { together, togetherPerNode: perNode } = parts.home.config.migrate
  const way = { mode: input.mode, limits: { together, perNode } }
  const carried = await carryOut(parts, label, moves, move => moving(parts, input, move), way)
  const { failed, notBegun, stopped } = carried
  const report = combine(carried.reports)
  if (notBegun.length === 0) return { report, failed, stopped }
  const left = warning(
    `${counted(notBegun.length, 'move was', 'moves were')} not begun: ${notBegun.map(({ domain }) => domain).join(', ')}`,
    'the same command plans anew for what is left',
  )
  const exit = report.exit === exitStatus.done ? exitStatus.partly : report.exit
  return { report: { ...report, exit, messages: [...report.messages, left] }, failed, stopped }
}

/** Rule 8: a node is called empty only after a last look at it, and at what claims and reservations say may still come to it. */
async function concluded(
  parts: Parts,
  names: readonly string[],
  report: Report,
  skipped: readonly Fixed[],
): Promise<Report> {
  // Whoever was about to arrive may be there, and its claim over, by the time the look is: asked before and after, one of them tells.
  const before = await comers(parts, names)
  const cluster = await observeOnce(parts, PROCESSES)
  const after = await comers(parts, names)
  const left = names.flatMap(name => {
    const coming = new Set([...(before.get(name) ?? []), ...(after.get(name) ?? [])])
    return remains(cluster, name, [...coming], new Set(skipped.map(({ domain }) => domain)))
  })
  const about =
    left.length > 0 ? left : names.map(name => note(`${name} is in maintenance and empty: nothing runs there`))
  const exit = left.every(isNote)
    ? reached(report.exit)
    : report.exit === exitStatus.done
      ? exitStatus.partly
      : report.exit
  return { ...report, exit, messages: [...report.messages, ...about] }
}

/** Domains that claims or reservations say may come to each of these nodes. */
async function comers(parts: Parts, names: readonly string[]): Promise<Map<string, readonly string[]>> {
  const claims = await parts.claims.list()
  const each = names.map(async name => {
    const ledger = await parts.home.records.ledger(name)
    const reserved = await heldReservations(parts, name, ledger)
    const doubtful = claims.filter(({ doubts }) => doubts.some(({ node }) => node === name))
    return [name, [...reserved, ...doubtful].map(({ domain }) => domain)] as const
  })
  return new Map(await Promise.all(each))
}

/** What failed in one round and went well in the next is told, and does not count: the node is empty. */
function reached(exit: Report['exit']): Report['exit'] {
  return exit === exitStatus.twice || exit === exitStatus.unknown ? exit : exitStatus.done
}

function isNote({ kind }: Message): boolean {
  return kind === 'note'
}

function remains(cluster: Cluster, name: string, coming: readonly string[], skipped: ReadonlySet<string>): Message[] {
  const node = cluster.nodes.get(name)
  if (node?.seen.state !== 'up')
    return [
      warning(`${name} does not answer any more: nobody knows whether it is empty`, 'havirt node scan looks again'),
    ]
  const here = sightings(cluster).filter(each => each.node === name)
  const active = here.filter(({ domain }) => domain.active).map(({ domain }) => domain.name)
  const arriving = coming.filter(domain => !active.includes(domain))
  const saved = here.filter(({ domain }) => domain.managedSave && !domain.active).map(({ domain }) => domain.name)
  return [
    ...(node.ledger.maintenance === undefined
      ? [warning(`${name} is not in maintenance any more: somebody ended it meanwhile`)]
      : []),
    ...(node.seen.inquiryProblem === undefined
      ? []
      : [
          warning(
            `${name} could not say which QEMUs run there: ${node.seen.inquiryProblem}`,
            `look again: havirt node scan ${name}`,
          ),
        ]),
    ...stillThere(name, active, skipped),
    ...(arriving.length === 0
      ? []
      : [
          warning(
            `a command for ${arriving.join(', ')} may still be carried out on ${name}`,
            'look again: havirt claim list',
          ),
        ]),
    ...saved.map(domain => note(`a saved image of ${domain} lies on ${name}: it cannot be started elsewhere`)),
  ]
}

function stillThere(name: string, active: readonly string[], skipped: ReadonlySet<string>): Message[] {
  if (active.length === 0) return []
  const text = `${name} is in maintenance, and not empty: ${active.join(', ')} still there`
  return [active.every(domain => skipped.has(domain)) ? note(text) : warning(text, 'the same command goes on')]
}

// ---- maintenance off ----------------------------------------------------------------------------------------------------

async function maintenanceOff(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const name = requiredWord(input, 'NODE')
  if (!records.has(name)) return refusedReport([refuse('unknownNode', { node: name, known: [...records.keys()] })])
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
  const table = { columns: COLUMNS, rows: [...moveRows(moves), ...fixedRows(stays)] }
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
