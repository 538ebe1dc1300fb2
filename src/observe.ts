/** Observing: what the nodes show, joined with what is written down, as one immutable `Cluster`. */
import { type Cluster, type Observed, presentTwice, reconciledNodes } from './core/cluster.ts'
import type { Ledger, Passed } from './core/ledger.ts'
import { isPresent, type Node, type NodeRecord, type SilentNode, type UpNode } from './core/node.ts'
import type { Look } from './nodes/nodes.ts'
import type { Inquiry } from './nodes/session.ts'
import type { Parts } from './operate.ts'
import { StoreError } from './store/store.ts'

type Seen = ReadonlyMap<string, UpNode | SilentNode>

/** A look at every node: for showing, and for what no decision rests on. */
export async function observeOnce(parts: Parts, inquiry?: Inquiry): Promise<Cluster> {
  const records = await parts.home.records.nodes()
  return completeCluster(parts, records, await observeNodes(parts, [...records.values()], inquiry))
}

/** A look at these nodes. What seems to run twice is looked at again: a healthy migration can look like that once (rule 5). */
export async function observeNodes(
  parts: Parts,
  records: readonly NodeRecord[],
  inquiry?: Inquiry,
): Promise<ReadonlyMap<string, Node>> {
  const inquiries = new Map(inquiry === undefined ? [] : records.map(({ name }) => [name, inquiry]))
  const look = async () => joinNodes(parts, records, (await parts.nodes.look(records, inquiries)).seen)
  const nodes = await look()
  const sound = presentTwice({ nodes }).every(({ migrating }) => migrating)
  const seen = sound ? nodes : await look()
  const complete = records.length === (await parts.home.records.nodes()).size
  return lapse(parts, { nodes: seen }, complete ? reconciledNodes({ nodes: seen }) : [])
}

/** The cluster of one look at all nodes. Definitions, records and ledgers are read after it. */
export async function clusterOf(
  parts: Parts,
  records: ReadonlyMap<string, NodeRecord>,
  seen: Look['seen'],
): Promise<Cluster> {
  const nodes = await joinNodes(parts, [...records.values()], seen)
  return completeCluster(parts, records, await lapse(parts, { nodes }, reconciledNodes({ nodes })))
}

/**
 * Whoever was called down and answers is not down: nothing may rely on that any more, and once it is among `reconciled` it is
 * forgotten. The store may fail here without harm: what was seen holds for this look, and the next one tries again.
 */
async function lapse(
  parts: Parts,
  { nodes }: Observed,
  reconciled: readonly string[],
): Promise<ReadonlyMap<string, Node>> {
  const answering = [...nodes.values()].filter(
    node => (node.ledger.down && node.seen.state !== 'unreachable') || gonePassed(node).length > 0,
  )
  const changed = new Map(nodes)
  for (const node of answering) {
    const gone = gonePassed(node)
    // What somebody wrote down since this look is not what it saw.
    const isGone = (each: Passed) =>
      gone.some(({ uuid, since, by }) => each.uuid === uuid && each.since === since && each.by === by)
    const lapsed = (ledger: Ledger) => withoutPassed(withoutDown(ledger, reconciled.includes(node.name)), isGone)
    const written = parts.home.records.changeLedger(node.name, lapsed).then(() => parts.claims.unpark(node.name))
    await written.catch(error => (error instanceof StoreError ? undefined : Promise.reject(error)))
    const ledger = lapsed(node.ledger)
    const { down } = node.ledger
    changed.set(node.name, { ...node, ledger, ...(down && !ledger.down ? { lapsed: down } : {}) })
  }
  return changed
}

/** Domains that were started past the node while it was silent, and of which it answers now that nothing is left. */
function gonePassed({ ledger: { passed = [] }, seen }: Node): Passed[] {
  if (passed.length === 0 || seen.state !== 'up' || seen.processes !== true) return []
  return passed.filter(({ uuid }) => !seen.domains.some(each => isPresent(each) && each.uuid === uuid))
}

/** The ledger without those of them; what is left of others still has to go. */
export function withoutPassed({ passed = [], ...rest }: Ledger, isGone: (each: Passed) => boolean): Ledger {
  const left = passed.filter(each => !isGone(each))
  return left.length === 0 ? rest : { ...rest, passed: left }
}

function withoutDown({ down, ...rest }: Ledger, entirely: boolean): Ledger {
  return entirely || down === undefined ? rest : { ...rest, down: { ...down, answered: true } }
}

async function joinNodes(parts: Parts, records: readonly NodeRecord[], seen: Seen): Promise<Map<string, Node>> {
  const nodes = records.map(async record => {
    const answer = seen.get(record.name)
    const ledger = await liveLedger(parts, record.name)
    return answer === undefined ? [] : [[record.name, { name: record.name, record, ledger, seen: answer }] as const]
  })
  return new Map((await Promise.all(nodes)).flat())
}

/** The ledger without reservations that are over: they are left to whoever writes it next. */
async function liveLedger(parts: Parts, node: string): Promise<Ledger> {
  const ledger = await parts.home.records.ledger(node)
  if (ledger.reservations.length === 0) return ledger
  return { ...ledger, reservations: await heldReservations(parts, node, ledger) }
}

/** The reservations whose domains may still arrive. */
export async function heldReservations(
  parts: Parts,
  node: string,
  { reservations }: Ledger,
): Promise<Ledger['reservations']> {
  const held = await Promise.all(reservations.map(each => parts.claims.mayArrive(each, node)))
  return reservations.filter((_, at) => held[at])
}

async function completeCluster(
  parts: Parts,
  records: ReadonlyMap<string, NodeRecord>,
  nodes: ReadonlyMap<string, Node>,
): Promise<Cluster> {
  const [definitions, domains] = await Promise.all([parts.home.definitions.all(), parts.home.records.domains()])
  const here = hereAmong(records, parts.hereId)
  return { nodes, definitions, records: domains, config: parts.home.config, ...(here === undefined ? {} : { here }) }
}

/** The name of the node that this machine is. */
export function hereAmong(records: ReadonlyMap<string, NodeRecord>, hereId: string | undefined): string | undefined {
  return [...records.values()].find(({ id }) => id === hereId)?.name
}
