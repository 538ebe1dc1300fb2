/** `node iscsiscan`: targets and disks of iSCSI portals on all nodes. */
import { type Cluster, upNodes } from '../core/cluster.ts'
import { actScript, type NodeAct } from '../core/command.ts'
import type { Disk } from '../core/domain.ts'
import { type Offered, type Portal, parseOffers, portalsOf } from '../core/iscsi.ts'
import type { NodeRecord } from '../core/node.ts'
import {
  discoveryCommand,
  type IscsiFacts,
  type IscsiPlan,
  type NodeIscsi,
  planLogins,
  planRemovals,
  preparation,
} from '../core/plan/iscsi.ts'
import { type Refusal, refuseSilent } from '../core/refusal.ts'
import { ISCSI_SCRIPT, parseIscsi } from '../nodes/iscsi.ts'
import type { Exit } from '../nodes/process.ts'
import { readSecret } from '../nodes/secret.ts'
import type { Parts } from '../operate.ts'
import {
  exitStatus,
  failure,
  type Message,
  NO_NODES,
  note,
  type Report,
  refusedReport,
  silentWarnings,
  warning,
} from '../report.ts'
import { ACT_COLUMNS, type ActDone } from './node-acts.ts'
import { observeDisks } from './observations.ts'
import { type Input, type Operation, unknownAmong, words } from './operation.ts'

export const iscsiOperations: readonly Operation[] = [
  {
    name: 'node iscsiscan',
    summary: 'log nodes in to new iSCSI targets, and find new, grown and vanished disks',
    description:
      'Asks each portal of iscsi.portals, from every node, for its targets. Logs in to those that are new, there at every boot, and looks again at the disks of all sessions: new ones appear, grown ones show their size. What no portal offers any more, and disks that no node can read, are taken away only when every node was asked and no domain, mapping, mount, swap, volume group or multipath map on any node uses them, by WWID; what is kept is told with the reason. A CHAP password is read from its file, travels by standard input, and is never an argument. All of it is shown first.',
    args: [{ name: 'NODE', help: 'only on these nodes', required: false, many: true, complete: 'node' }],
    options: [],
    changes: true,
    columns: ACT_COLUMNS,
    examples: ['havirt node iscsiscan', 'havirt -y node iscsiscan node3'],
    run: scanIscsi,
  },
]

async function scanIscsi(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  if (records.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const asked = words(input, 'NODE')
  const unknown = unknownAmong(asked, records)
  if (unknown !== undefined) return unknown
  const portals = portalsOf(parts.home.config.iscsi.portals)
  const wanted = asked.length === 0 ? [...records.keys()] : [...new Set(asked)]
  const scan: Scan = { parts, records, portals, wanted }
  return input.mode.act ? carryOut(scan, asked) : show(scan, asked)
}

interface Scan {
  readonly parts: Parts
  readonly records: ReadonlyMap<string, NodeRecord>
  readonly portals: readonly Portal[]
  readonly wanted: readonly string[]
}

/** Silent nodes that were named are refused; of all nodes, those that answer are scanned. */
function silentAmong({ nodes }: Cluster, asked: readonly string[]): Refusal[] {
  return asked.flatMap(name => {
    const seen = nodes.get(name)?.seen
    return seen === undefined || seen.state === 'up' ? [] : [refuseSilent(name, seen)]
  })
}

async function show(scan: Scan, asked: readonly string[]): Promise<Report> {
  const facts = await factsOf(scan)
  const refusals = silentAmong(facts.cluster, asked)
  if (refusals.length > 0) return refusedReport(refusals)
  const { acts, kept } = planRemovals(facts)
  const all = [...preparations(scan, facts), ...planLogins(facts), ...acts]
  const script = actScript(all, facts.cluster.here)
  const exit = isComplete(scan.wanted, facts) ? exitStatus.done : exitStatus.partly
  return { exit, script, messages: messagesOf(scan, facts, kept, all.length === 0) }
}

function preparations({ portals, wanted }: Scan, { nodes }: IscsiFacts): NodeAct[] {
  return wanted.filter(name => nodes.has(name)).flatMap(node => portals.flatMap(portal => preparation(node, portal)))
}

function messagesOf({ portals, wanted }: Scan, facts: IscsiFacts, kept: IscsiPlan['kept'], idle: boolean): Message[] {
  const silent = [...facts.nodes].flatMap(([node, { offers }]) =>
    [...offers].flatMap(([address, offered]) =>
      typeof offered === 'string'
        ? [
            warning(
              `${node} could not ask ${address} for its targets: ${offered}`,
              `try by hand: ssh ${node} iscsiadm -m discovery -t sendtargets -p ${address}`,
            ),
          ]
        : [],
    ),
  )
  return [
    ...(portals.length === 0
      ? [note('config.yaml names no portal (iscsi.portals): only the sessions that are there are looked at')]
      : []),
    ...silentWarnings(facts.cluster),
    ...unscanned(wanted, facts).map(node =>
      warning(`${node} could not be asked for its sessions and disks`, `try by hand: ssh ${node} iscsiadm -m session`),
    ),
    ...silent,
    ...kept.map(({ node, what, why }) => note(`${node} keeps ${what}: ${why}`)),
    ...(idle && isComplete(wanted, facts)
      ? [note('nothing to do: every target is logged in to, and nothing vanished')]
      : []),
  ]
}

/** Nodes that answer, but not this. */
function unscanned(wanted: readonly string[], { cluster, nodes }: IscsiFacts): string[] {
  return wanted.filter(name => cluster.nodes.get(name)?.seen.state === 'up' && !nodes.has(name))
}

/** Everything that was wanted is known: every node, and every portal from there. */
function isComplete(wanted: readonly string[], { nodes }: IscsiFacts): boolean {
  return wanted.every(name =>
    [...(nodes.get(name)?.offers.values() ?? ['nobody'])].every(each => typeof each !== 'string'),
  )
}

// ---- asking -------------------------------------------------------------------------------------------------------------

const TIMEOUT_MS = 30_000

async function factsOf(scan: Scan): Promise<IscsiFacts> {
  const { parts, records, portals, wanted } = scan
  const cluster = await observeDisks(parts, disksOf)
  const answering = upNodes(cluster).flatMap(({ name }) => records.get(name) ?? [])
  const found = await Promise.all(
    answering.map(async record => [record.name, await iscsiOf(parts, record, portals)] as const),
  )
  const nodes = new Map(found.flatMap(([name, seen]) => (seen === undefined ? [] : [[name, seen] as const])))
  return { cluster, nodes, portals, wanted }
}

/** Of every domain, whether it runs or not. */
function disksOf(cluster: Cluster): Disk[] {
  const defined = [...cluster.definitions.values()].flatMap(({ domain }) => domain?.disks ?? [])
  const seen = upNodes(cluster).flatMap(({ seen }) => seen.domains.flatMap(({ definition }) => definition?.disks ?? []))
  return [...defined, ...seen]
}

async function iscsiOf(parts: Parts, record: NodeRecord, portals: readonly Portal[]): Promise<NodeIscsi | undefined> {
  const command = { node: record.name, argv: ['sh', '-c', ISCSI_SCRIPT] }
  const [exit, ...offers] = await Promise.all([
    parts.nodes.ask(record, { command, timeoutMs: TIMEOUT_MS }),
    ...portals.map(async portal => [portal.address, await offersOf(parts, record, portal)] as const),
  ])
  const seen = parseIscsi(exit.stdout)
  return seen === undefined ? undefined : { ...seen, offers: new Map(offers) }
}

/** iscsiadm's statuses (iscsiadm(8)): a portal that offers nothing, and a database without a record of it. */
const NO_OBJECTS_FOUND = 21

async function offersOf(parts: Parts, record: NodeRecord, portal: Portal): Promise<readonly Offered[] | string> {
  const exit = await parts.nodes.ask(record, { command: discoveryCommand(record.name, portal), timeoutMs: TIMEOUT_MS })
  if (exit.status === 0) return parseOffers(exit.stdout)
  if (exit.status === NO_OBJECTS_FOUND) return portal.chap === undefined ? [] : 'it does not know the password so far'
  return said(exit)
}

function said({ stderr, timedOut, status }: Exit): string {
  if (timedOut) return 'it did not answer in time'
  return stderr.trim().split('\n').at(-1) || `iscsiadm ended with ${status}`
}

// ---- doing --------------------------------------------------------------------------------------------------------------

async function carryOut(scan: Scan, asked: readonly string[]): Promise<Report> {
  const before = await factsOf(scan)
  const refusals = silentAmong(before.cluster, asked)
  if (refusals.length > 0) return refusedReport(refusals)
  const prepared = await perform(scan, preparations(scan, before))
  const known = prepared.length === 0 ? before : await factsOf(scan)
  const logged = await perform(scan, planLogins(known))
  // What has vanished shows only now that everybody has looked again.
  const after = await factsOf(scan)
  const { acts, kept } = planRemovals(after)
  const removed = await perform(scan, acts)
  const rows = [...prepared, ...logged, ...removed]
  const failed = rows.filter(({ outcome }) => outcome !== 'done')
  const complete = isComplete(scan.wanted, after)
  const exit =
    failed.length === 0 && complete
      ? exitStatus.done
      : failed.length === rows.length && rows.length > 0
        ? exitStatus.failed
        : exitStatus.partly
  const errors = failed.map(({ node, what, outcome }) =>
    failure(`${node}: ${what}: ${outcome}`, 'havirt node iscsiscan goes on'),
  )
  return {
    exit,
    table: { columns: ACT_COLUMNS, rows: rows.map(row => ({ ...row })) },
    messages: [...messagesOf(scan, after, kept, rows.length === 0), ...errors],
  }
}

/** On every node one after the other, on all nodes at once; what fails on a node ends its turn there. */
async function perform({ parts, records }: Scan, acts: readonly NodeAct[]): Promise<ActDone[]> {
  const nodes = [...new Set(acts.map(({ node }) => node))]
  const done = await Promise.all(
    nodes.map(async node => {
      const record = records.get(node)
      const rows: ActDone[] = []
      for (const { why, command } of acts.filter(each => each.node === node)) {
        const outcome = record === undefined ? 'there is no such node' : await run(parts, record, command)
        rows.push({ node, what: why, outcome })
        if (outcome !== 'done') break
      }
      return rows
    }),
  )
  return done.flat()
}

/** What is there already is no failure: a record, or a session (iscsiadm(8), statuses 15 and 6). */
const ALREADY = new Set([15, 6])

async function run(parts: Parts, record: NodeRecord, command: NodeAct['command']): Promise<string> {
  let stdin: string | undefined
  try {
    stdin = command.stdin === undefined ? undefined : `${await readSecret(command.stdin)}\n`
  } catch (error) {
    return `the password in ${command.stdin} cannot be used: ${error instanceof Error ? error.message : String(error)}`
  }
  const order = { command, timeoutMs: TIMEOUT_MS, ...(stdin === undefined ? {} : { stdin }) }
  const exit = await parts.nodes.ask(record, order)
  return exit.status === 0 || ALREADY.has(exit.status ?? -1) ? 'done' : said(exit)
}
