/** What the cluster can lose, and what it can take: questions that change nothing. */
import type { Cluster } from '../core/cluster.ts'
import { type Loss, lostDomains, planReserve, planWhatIf, type ReserveReport } from '../core/plan/what-if.ts'
import { describeRefusal } from '../core/refusal.ts'
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
} from '../report.ts'
import { observeForMoves } from './observations.ts'
import type { Input, Operation } from './operation.ts'

const WHAT_IF_COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'a domain of the nodes that are lost' },
  { key: 'from', title: 'FROM', help: 'its node' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'the room that it needs' },
  { key: 'to', title: 'TO', help: 'a node that would have room for it beside the others; empty when none has' },
  { key: 'why', title: 'WHY NOT', help: 'what keeps it from every other node, or that there is no room' },
]

const RESERVE_COLUMNS: readonly Column[] = [
  { key: 'lost', title: 'LOST', help: 'the node, or the two nodes, that would be lost' },
  { key: 'domains', title: 'DOMAINS', align: 'right', help: 'domains that run there' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'what they need elsewhere' },
  { key: 'placed', title: 'PLACED', align: 'right', help: 'of these, those that would find room elsewhere' },
  { key: 'homeless', title: 'NOT PLACED', help: 'those that would not' },
]

export const whatIfOperations: readonly Operation[] = [
  {
    name: 'cluster whatif',
    summary: 'show where the domains of lost nodes would run again',
    description:
      'Takes the named nodes for lost, all at once, and shows for each of their domains another node that would have room for it beside what runs there, or why there is none. Ends with 4 when a domain has no place. Changes nothing.',
    args: [],
    options: [{ flags: '--down NODES', help: 'the nodes that are lost, with commas between them' }],
    changes: false,
    columns: WHAT_IF_COLUMNS,
    examples: ['havirt cluster whatif --down node2', 'havirt cluster whatif --down node1,node3'],
    run: whatIf,
  },
  {
    name: 'cluster reserve',
    summary: 'show which nodes the cluster can lose, and how much more it can take',
    description:
      'For every node that runs something: whether its domains would find room on the others if it failed, without moving anything there. Then every pair of nodes that loses a domain although neither of the two alone would (up to 50 nodes), and how many more of a typical domain fit. Ends with 4 when a node cannot be lost. Changes nothing.',
    args: [],
    options: [],
    changes: false,
    columns: RESERVE_COLUMNS,
    examples: ['havirt cluster reserve'],
    run: reserve,
  },
]

async function whatIf(parts: Parts, input: Input): Promise<Report> {
  const lost = String(input.options['down'] ?? '')
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '')
  if (lost.length === 0)
    return {
      exit: exitStatus.usage,
      messages: [failure('no node was named', 'name those that are lost: havirt cluster whatif --down NODE[,NODE]')],
    }
  const loss = planWhatIf(await observeForMoves(parts), [...new Set(lost)])
  if (!('restarts' in loss)) return refusedReport(loss)
  const rows = loss.restarts.map(({ domain, node, memoryMiB, to, why }) => ({
    domain,
    from: node,
    memoryMiB,
    ...(to === undefined ? { why: whyNot(why) } : { to }),
  }))
  return {
    exit: lostDomains(loss).length > 0 ? exitStatus.partly : exitStatus.done,
    table: { columns: WHAT_IF_COLUMNS, rows },
    messages: verdictOf(loss),
  }
}

function whyNot(why: NonNullable<Loss['restarts'][number]['why']> | undefined): string {
  return why === undefined ? 'no node has room' : why.map(each => describeRefusal(each).why).join('; ')
}

function verdictOf(loss: Loss): Message[] {
  const { restarts, roomCanBeMade } = loss
  const names = loss.lost.join(' and ')
  if (restarts.length === 0) return [note(`nothing runs on ${names}`)]
  const homeless = lostDomains(loss).length
  const whole = restarts.length === 1 ? 'the only domain' : `all ${restarts.length} domains`
  const all = note(`${whole} of ${names} would find room elsewhere`)
  if (homeless === 0) return [all]
  const some = note(`${homeless} of ${restarts.length} domains of ${names} would not run again`)
  return roomCanBeMade ? [some, note('there would be room for all if other domains moved first')] : [some]
}

async function reserve(parts: Parts): Promise<Report> {
  const cluster = await observeForMoves(parts)
  if (cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const report = planReserve(cluster)
  if (!('single' in report)) return refusedReport(report)
  const rows = [...report.single, ...(report.pairs ?? [])].map(rowOf)
  return {
    exit: report.single.some(loss => lostDomains(loss).length > 0) ? exitStatus.partly : exitStatus.done,
    table: { columns: RESERVE_COLUMNS, rows },
    messages: summaryOf(cluster, report),
  }
}

function rowOf(loss: Loss) {
  const homeless = lostDomains(loss)
  return {
    lost: loss.lost.join(' + '),
    domains: loss.restarts.length,
    memoryMiB: loss.restarts.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0),
    placed: loss.restarts.length - homeless.length,
    homeless: homeless.join(', '),
  }
}

function summaryOf({ nodes }: Cluster, { single, pairs, typical, more, moreWithReserve }: ReserveReport): Message[] {
  const bad = single.filter(loss => lostDomains(loss).length > 0).length
  const lose = bad === 0 ? 'any one node can be lost' : `${bad} of ${nodes.size} nodes cannot be lost`
  const both =
    pairs === undefined
      ? [note(`pairs were not tried: there are ${nodes.size} nodes`)]
      : pairs.length === 0 && bad === 0 && nodes.size > 2
        ? [note('any two nodes can be lost')]
        : []
  if (typical === undefined) return [note(lose), ...both]
  const size = `${typical.memoryMiB} MiB and ${typical.vcpus} vCPU${typical.vcpus === 1 ? '' : 's'}`
  const reserved = bad === 0 ? `, ${moreWithReserve} so that any one node can still be lost` : ''
  return [note(lose), ...both, note(`of a typical domain (${size}) ${more} more fit${reserved}`)]
}
