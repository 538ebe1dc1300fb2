/** The last look at nodes that are to be empty, and what may be said of them. */
import { type Cluster, sightings } from '../core/cluster.ts'
import type { Fixed } from '../core/plan/count.ts'
import { heldReservations, observeOnce } from '../observe.ts'
import type { Parts } from '../operate.ts'
import { exitStatus, type Message, note, type Report, warning } from '../report.ts'
import { PROCESSES } from './inquiries.ts'

/** Rule 8: a node is called empty only after a last look at it, and at what claims and reservations say may still come to it. */
export async function concluded(
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
