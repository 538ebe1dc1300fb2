/** Evening out the cluster. */
import { readFile } from 'node:fs/promises'
import { MIB_PER_GIB } from '../core/balance/layout.ts'
import type { Cluster } from '../core/cluster.ts'
import { type Balance, percent, planBalance, planMoves, type Use } from '../core/plan/balance.ts'
import { type Move, moveRows } from '../core/plan/moves.ts'
import { changesSince, parsePlan, type SavedPlan, savedPlan } from '../core/plan/saved-plan.ts'
import { refuse } from '../core/refusal.ts'
import type { Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  failure,
  type Message,
  NO_NODES,
  note,
  type Report,
  refusedReport,
  warning,
} from '../report.ts'
import { carryOut, scriptOf } from './moves.ts'
import { observeForMoves } from './observations.ts'
import { combine, type Input, type Operation } from './operation.ts'
import { moveTasks, moving, stayNote } from './several-moves.ts'

const BALANCE_COLUMNS: readonly Column[] = [
  {
    key: 'move',
    title: 'MOVE',
    align: 'right',
    help: 'its turn: one after the other, each possible when its turn comes',
  },
  { key: 'domain', title: 'DOMAIN', help: 'the domain' },
  { key: 'from', title: 'FROM', help: 'the node where it is' },
  { key: 'to', title: 'TO', help: 'the node that receives it' },
  { key: 'gib', title: 'COST', align: 'right', unit: 'GiB', help: 'the memory that goes over the network' },
  { key: 'why', title: 'WHY', help: 'what is uneven between the two nodes at that moment' },
]

const NO_LIMIT = 1_000_000

export const balanceOperations: readonly Operation[] = [
  {
    name: 'cluster balance',
    summary: 'even out memory and vCPU use by few live migrations',
    description:
      'Looks for the fewest and cheapest live migrations after which all nodes have about the same share of their memory and of their CPU threads in use, and stops where another move gains too little for what it costs. Each move is possible when its turn comes, and a node whose domains would find room elsewhere if it failed stays such a node. Nodes in maintenance receive nothing; nothing is planned while a node is silent. With -y the moves are made one after the other, each looked at, planned and guarded like a domain migrate of its own; the first that fails ends the run, and the same command then plans anew from what is true.',
    args: [],
    options: [
      { flags: '--max-moves N', help: 'move at most so many domains', range: { min: 1, max: NO_LIMIT } },
      { flags: '--max-gib N', help: 'move at most so much memory', range: { min: 1, max: NO_LIMIT } },
      {
        flags: '--goal PERCENT',
        help: "good enough when each node's memory use is within so many percent points of the mean",
        range: { min: 1, max: 100 },
      },
      {
        flags: '--plan FILE',
        help: 'carry out this plan, which -o json gave; refused when the cluster has changed since',
      },
    ],
    changes: true,
    columns: BALANCE_COLUMNS,
    examples: [
      'havirt cluster balance',
      'havirt cluster balance --max-moves 5',
      'havirt cluster balance --goal 10 -y',
      'havirt cluster balance -o json',
      'havirt -y cluster balance --plan tonight.json',
    ],
    run: balanceCluster,
  },
]

async function balanceCluster(parts: Parts, input: Input): Promise<Report> {
  const saved = await planIn(input)
  if (saved !== undefined && !('version' in saved)) return saved
  const cluster = await observeForMoves(parts)
  if (cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const changes = saved === undefined ? [] : changesSince(saved, cluster)
  if (changes.length > 0) return refusedReport([refuse('planStale', { changes })])
  const plan = saved === undefined ? planBalance(cluster, requestOf(input)) : planMoves(cluster, saved.moves)
  if (!('moves' in plan)) return refusedReport(plan)
  const about = [...usesText(plan), ...plan.fixed.flatMap(stayNote)]
  if (plan.moves.length === 0)
    return { exit: exitStatus.done, messages: [...about, note('nothing to do: no move gains more than it costs')] }
  return input.mode.act ? carryOutAll(parts, input, plan, about) : show(parts, input, cluster, plan, about)
}

/** The plan of `--plan`; a report when there is none in that file. */
async function planIn({ options }: Input): Promise<SavedPlan | Report | undefined> {
  const file = options['plan']
  if (file === undefined) return undefined
  const next = 'a plan is made with: havirt cluster balance -o json > FILE'
  const wrong = (text: string): Report => ({ exit: exitStatus.usage, messages: [failure(text, next)] })
  if (['maxMoves', 'maxGib', 'goal'].some(key => options[key] !== undefined))
    return wrong('--plan says what is moved, so that --max-moves, --max-gib and --goal have nothing to say')
  try {
    return parsePlan(await readFile(String(file), 'utf8')) ?? wrong(`${file} holds no plan`)
  } catch (error) {
    return wrong(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function requestOf({ options }: Input) {
  const { maxMoves, maxGib, goal } = options
  return {
    moves: Number(maxMoves ?? NO_LIMIT),
    movedMiB: maxGib === undefined ? Number.POSITIVE_INFINITY : Number(maxGib) * MIB_PER_GIB,
    ...(goal === undefined ? {} : { spread: Number(goal) / 100 }),
  }
}

/** The moves, and their commands as they would run if everything stays as it is. */
function show(parts: Parts, input: Input, cluster: Cluster, { moves }: Balance, about: readonly Message[]): Report {
  const shown = scriptOf(parts, cluster, moveTasks(parts, input, moves))
  return { ...shown, plan: savedPlan(cluster, moves), table: tableOf(moves), messages: [...about, ...shown.messages] }
}

/** One after the other: that is how each was planned to leave every node its reserve. */
const ONE_BY_ONE = { together: 1, perNode: 1 }

async function carryOutAll(parts: Parts, input: Input, { moves }: Balance, about: readonly Message[]): Promise<Report> {
  const way = { mode: input.mode, limits: ONE_BY_ONE, untilFailure: true }
  const { reports, notBegun } = await carryOut(parts, 'balance', moves, move => moving(parts, input, move), way)
  const combined = combine(reports)
  const left = notBegun.length
  const unfinished =
    left === 0 ? [] : [warning(`${left} more moves were not begun`, 'havirt cluster balance plans anew')]
  return {
    ...combined,
    exit: left > 0 && combined.exit === exitStatus.done ? exitStatus.partly : combined.exit,
    messages: [...about, ...combined.messages, ...unfinished],
  }
}

function tableOf(moves: readonly Move[]) {
  return { columns: BALANCE_COLUMNS, rows: moveRows(moves).map((row, at) => ({ move: at + 1, ...row })) }
}

/** A line a node: how much of its memory is in use, before and after. */
function usesText({ moves, before, after }: Balance): Message[] {
  const width = Math.max(...before.map(({ node }) => node.length))
  return before.map((use, at) => {
    const then = after[at] ?? use
    const start = `${use.node.padEnd(width)}  memory ${barOf(use.memory)} ${percent(use.memory).padStart(5)}`
    const end = moves.length === 0 ? '' : ` -> ${barOf(then.memory)} ${percent(then.memory).padStart(5)}`
    return note(`${start}${end}  ${cpuText(use, moves.length === 0 ? undefined : then)}`)
  })
}

const BAR_CELLS = 20

function barOf(share: number): string {
  const full = Math.min(BAR_CELLS, Math.round(share * BAR_CELLS))
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`
}

function cpuText(use: Use, then: Use | undefined): string {
  const now = `vCPUs ${percent(use.cpu).padStart(5)}`
  return then === undefined ? now : `${now} -> ${percent(then.cpu).padStart(5)}`
}
