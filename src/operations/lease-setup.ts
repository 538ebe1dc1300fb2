/** `lease enable` and `lease disable`: one node after the other, each step shown first. */
import { randomUUID } from 'node:crypto'
import { upNodes } from '../core/cluster.ts'
import { actScript, type NodeAct } from '../core/command.ts'
import {
  DEFAULT_IO_TIMEOUT_SECONDS,
  isGuarded,
  type LeaseManager,
  leaseManagers,
  type NodeLeases,
} from '../core/lease.ts'
import { commonFolder, type LeaseFacts, unprotected } from '../core/leases.ts'
import type { NodeRecord } from '../core/node.ts'
import {
  disableActs,
  enableActs,
  folderProblem,
  type Ground,
  type HostIdBook,
  joinSeconds,
  type LeaseSetup,
  setupRefusals,
  unheardRefusals,
  withHostIds,
} from '../core/plan/lease-setup.ts'
import { type Refusal, refuse } from '../core/refusal.ts'
import { askLeases, leaseFacts } from '../lease-facts.ts'
import { DIRECT_SCRIPT } from '../nodes/lease-folder.ts'
import type { Exit } from '../nodes/process.ts'
import { claimedRefusal, type Parts } from '../operate.ts'
import { exitStatus, failure, type Message, NO_NODES, note, type Report, refusedReport, warning } from '../report.ts'
import { unguardedMessages } from './lease-status.ts'
import { ACT_COLUMNS, type ActDone } from './node-acts.ts'
import { type Input, requiredWord, unknownAmong, words } from './operation.ts'
import { askShell, markAll } from './shared-folders.ts'

/** What a node is asked in turn once its part is done, and how long that may take. */
interface Turn {
  readonly node: string
  readonly acts: readonly NodeAct[]
  /** The daemon is to be ready before the next node's turn. */
  readonly await: 'ready' | 'answers'
}

export async function enableLeases(parts: Parts, input: Input): Promise<Report> {
  const manager = requiredWord(input, 'MANAGER')
  if (!isManager(manager))
    return wrong(`there is no lock manager '${manager}'`, `expected one of ${leaseManagers.join(', ')}`)
  const asked = await askedNodes(parts, input)
  if ('exit' in asked) return asked
  const busy = input.mode.act ? await busyRefusals(parts) : []
  if (busy.length > 0) return refusedReport(busy)
  const asIs = await leaseFacts(parts)
  const folder = String(input.options['dir'] ?? commonFolder(asIs.nodes))
  const problem =
    folder === '' ? 'expected --dir FOLDER, a folder on storage that all nodes share' : folderProblem(folder)
  if (problem !== undefined)
    return wrong(`'${folder}' cannot be the folder for leases: ${problem}`, 'havirt help lease enable')
  const facts = manager === 'sanlock' ? await withHostsIn(parts, asIs, folder, asked) : asIs
  const book = bookFor(facts, asked, await parts.home.records.hostIds())
  const setup = setupOf(facts, input, { manager, folder, asked, book })
  const ground = await groundOf(parts, facts, setup, asked)
  const refusals = setupRefusals(facts, setup, ground)
  if (refusals.length > 0) return refusedReport(refusals)
  const turns = setup.nodes.map((node): Turn => {
    return { node, acts: enableActs(node, facts.nodes.get(node) as NodeLeases, setup), await: 'ready' }
  })
  const notes = notesOf(facts, setup)
  if (!input.mode.act) return shown(facts, turns, notes, hostIdLines(setup))
  if (manager === 'sanlock') {
    // Somebody may have given out ids since: the book is the judge, and what it says now must be what was planned.
    const given = await parts.home.records.changeHostIds(before => bookFor(facts, asked, before))
    const other = asked.find(({ id, name }) => given[id]?.hostId !== setup.hostIds.get(name))
    if (other !== undefined)
      return refusedReport([
        refuse('hostIdTaken', {
          node: other.name,
          hostId: setup.hostIds.get(other.name) ?? 0,
          by: 'another node by now',
        }),
      ])
  }
  return carryOut(parts, asked, turns, setup, notes)
}

/** A folder that nobody here uses may be in use by others: their host ids are taken. */
async function withHostsIn(
  parts: Parts,
  facts: LeaseFacts,
  folder: string,
  asked: readonly NodeRecord[],
): Promise<LeaseFacts> {
  const [reader] = asked.filter(({ name }) => facts.nodes.has(name))
  if (folder === facts.folder || reader === undefined) return facts
  const answer = await askLeases(parts, reader, [`dir=${folder}`, 'hosts'])
  return typeof answer === 'string' ? facts : { ...facts, hosts: answer.hosts, folder, files: new Map() }
}

/** libvirt is restarted, which breaks a migration and leaves a start in doubt: not while somebody is at it. */
async function busyRefusals(parts: Parts): Promise<Refusal[]> {
  const held = (await parts.claims.list()).filter(({ state }) => state === 'held')
  const alive = await Promise.all(held.map(({ uuid, token }) => parts.claims.isAlive(uuid, token)))
  return held.filter((_, at) => alive[at]).map(each => claimedRefusal(each.domain, each))
}

export async function disableLeases(parts: Parts, input: Input): Promise<Report> {
  const asked = await askedNodes(parts, input)
  if ('exit' in asked) return asked
  const busy = input.mode.act ? await busyRefusals(parts) : []
  if (busy.length > 0) return refusedReport(busy)
  const facts = await leaseFacts(parts)
  const refusals = unheardRefusals(
    facts,
    asked.map(({ name }) => name),
  )
  if (refusals.length > 0) return refusedReport(refusals)
  const turns = asked.map(({ name }): Turn => {
    return { node: name, acts: disableActs(name, facts.nodes.get(name) as NodeLeases), await: 'answers' }
  })
  const still = asked.flatMap(({ name }) => ((facts.nodes.get(name)?.sanlock?.held.length ?? 0) > 0 ? [name] : []))
  const notes = still.map(name =>
    note(`what runs on ${name} keeps its leases until it stops or moves; sanlock runs on there`),
  )
  return input.mode.act ? carryOut(parts, asked, turns, undefined, notes) : shown(facts, turns, notes, [])
}

// ---- what is asked ------------------------------------------------------------------------------------------------------

async function askedNodes(parts: Parts, input: Input): Promise<NodeRecord[] | Report> {
  const records = await parts.home.records.nodes()
  if (records.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const named = words(input, 'NODE')
  const unknown = unknownAmong(named, records)
  if (unknown !== undefined) return unknown
  const wanted = new Set(named.length === 0 ? [...records.keys()] : named)
  return [...records.values()].filter(({ name }) => wanted.has(name))
}

function isManager(word: string): word is LeaseManager {
  return (leaseManagers as readonly string[]).includes(word)
}

function wrong(text: string, next: string): Report {
  return { exit: exitStatus.usage, messages: [failure(text, next)] }
}

function bookFor(facts: LeaseFacts, asked: readonly NodeRecord[], before: HostIdBook): HostIdBook {
  const newcomers = asked.map(({ name, id }) => {
    const configured = Number(facts.nodes.get(name)?.settings.sanlock.get('host_id') ?? 0)
    const isOthers = [...facts.nodes].some(([other, each]) => other !== name && hasHostId(each, configured))
    return { node: name, nodeId: id, configured: configured === 0 || isOthers ? undefined : configured }
  })
  return withHostIds(before, newcomers, facts.hosts)
}

function hasHostId({ settings, sanlock }: NodeLeases, hostId: number): boolean {
  return Number(settings.sanlock.get('host_id') ?? 0) === hostId || sanlock?.lockspace?.hostId === hostId
}

function setupOf(
  facts: LeaseFacts,
  input: Input,
  {
    manager,
    folder,
    asked,
    book,
  }: { manager: LeaseManager; folder: string; asked: readonly NodeRecord[]; book: HostIdBook },
): LeaseSetup {
  const hostIds = new Map(
    asked.flatMap(({ name, id }) => (book[id] === undefined ? [] : [[name, book[id].hostId] as const])),
  )
  const ioTimeoutSeconds = Number(input.options['ioTimeout'] ?? ioTimeoutIn(facts))
  return { manager, folder, ioTimeoutSeconds, nodes: asked.map(({ name }) => name), hostIds }
}

/** What most have: time-outs must be the same on all. */
function ioTimeoutIn({ nodes }: LeaseFacts): number {
  const using = [...nodes.values()].filter(({ settings }) => settings.manager === 'sanlock')
  const set = using.map(({ settings }) => Number(settings.sanlock.get('io_timeout') ?? 0) || DEFAULT_IO_TIMEOUT_SECONDS)
  const times = (seconds: number) => set.filter(each => each === seconds).length
  const [most] = [...new Set(set)].sort((a, b) => times(b) - times(a))
  return most ?? DEFAULT_IO_TIMEOUT_SECONDS
}

/** Every node that answers is tried, not only those that are asked for: a folder that only some of them share protects from nobody else. */
async function groundOf(
  parts: Parts,
  facts: LeaseFacts,
  setup: LeaseSetup,
  asked: readonly NodeRecord[],
): Promise<Ground> {
  const records = await parts.home.records.nodes()
  const using = upNodes(facts.cluster).flatMap(({ name }) => {
    const uses = facts.nodes.get(name)?.settings.manager === setup.manager
    return uses || setup.nodes.includes(name) ? (records.get(name) ?? []) : []
  })
  const slow = new Map<string, string>()
  const [marked] = await markAll(parts, using, [setup.folder], slow)
  const direct = asked.filter(({ name }) => marked?.writers.includes(name) === true)
  const tried = await Promise.all(
    direct.map(
      async record =>
        [record.name, await askShell(parts, record, DIRECT_SCRIPT, [setup.folder, `.havirt-${randomUUID()}`])] as const,
    ),
  )
  const missingOn = marked?.missingOn ?? []
  return {
    missingOn,
    elsewhere: elsewhere(marked?.writers ?? [], marked?.sees ?? new Map()),
    unwritable: using.flatMap(({ name }) => (missingOn.includes(name) || marked?.writers.includes(name) ? [] : [name])),
    indirect: new Map(
      tried.flatMap(([node, exit]) => (exit.stdout.includes('end') ? [] : [[node, said(exit)] as const])),
    ),
  }
}

/** Nodes that do not see what the first of them wrote. */
function elsewhere(writers: readonly string[], sees: ReadonlyMap<string, readonly string[]>): string[] {
  return [...sees].flatMap(([node, seen]) => (writers.every(writer => seen.includes(writer)) ? [] : [node]))
}

function said({ stderr, timedOut, status }: Exit): string {
  if (timedOut) return 'it did not answer in time'
  return stderr.trim().split('\n').at(-1) || `it ended with ${status}`
}

// ---- showing ------------------------------------------------------------------------------------------------------------

function hostIdLines({ manager, hostIds }: LeaseSetup): string[] {
  if (manager !== 'sanlock') return []
  const given = [...hostIds].map(([node, hostId]) => `${node} ${hostId}`).join(', ')
  return [`# (havirt itself: record the host ids, which no other machine ever gets: ${given})`]
}

function shown(
  facts: LeaseFacts,
  turns: readonly Turn[],
  notes: readonly Message[],
  before: readonly string[],
): Report {
  const busy = turns.filter(({ acts }) => acts.length > 0)
  if (busy.length === 0)
    return { exit: exitStatus.done, messages: [...notes, note('nothing to do: every node is so already')] }
  const script = busy.flatMap(({ node, acts, await: wait }) => [
    ...actScript(acts, facts.cluster.here),
    `# (havirt itself: wait until ${waitText(node, wait)}, before the next node)`,
  ])
  return { exit: exitStatus.done, script: [...before, ...script], messages: notes }
}

function waitText(node: string, wait: Turn['await']): string {
  return wait === 'ready' ? `${node} can give leases` : `libvirt on ${node} answers`
}

/** What a person has to know before this, and to do after it. */
function notesOf(facts: LeaseFacts, { nodes, manager }: LeaseSetup): Message[] {
  const bare = unprotected(facts).filter(({ node }) => nodes.includes(node))
  const byNode = nodes.flatMap(node => {
    const names = bare.flatMap(each => (each.node === node && !each.paused ? [each.domain] : []))
    return names.length === 0 ? [] : [{ node, names }]
  })
  const unguarded = manager === 'sanlock' ? nodes.filter(node => facts.nodes.get(node)?.wdmd !== true) : []
  return [
    ...byNode.map(({ node, names }) =>
      warning(
        `${names.join(', ')} on ${node} ${names.length === 1 ? 'runs' : 'run'} on without leases until moved or started anew`,
        `empty the node and refill it: havirt node drain ${node}, then havirt node maintenanceoff ${node} --return`,
      ),
    ),
    ...unguardedMessages(unguarded),
  ]
}

// ---- doing --------------------------------------------------------------------------------------------------------------

const ACT_TIMEOUT_MS = 200_000

/** One node after the other: what goes wrong on one must not go wrong on all. */
async function carryOut(
  parts: Parts,
  asked: readonly NodeRecord[],
  turns: readonly Turn[],
  setup: LeaseSetup | undefined,
  notes: readonly Message[],
): Promise<Report> {
  const busy = turns.filter(({ acts }) => acts.length > 0)
  const rows: ActDone[] = []
  const bar = parts.progress.begin('leases', busy.length)
  for (const [at, turn] of busy.entries()) {
    if (parts.interrupt.requested()) break
    const record = asked.find(({ name }) => name === turn.node) as NodeRecord
    bar.update(at, turn.node)
    const done = await takeTurn(parts, record, turn, setup)
    rows.push(...done)
    if (done.some(({ outcome }) => outcome !== 'done')) break
  }
  bar.end('done')
  const failed = rows.find(({ outcome }) => outcome !== 'done')
  const left = busy.filter(({ node }) => !rows.some(each => each.node === node)).map(({ node }) => node)
  const complete = failed === undefined && left.length === 0
  return {
    exit: complete
      ? exitStatus.done
      : rows.some(({ outcome }) => outcome === 'done')
        ? exitStatus.partly
        : exitStatus.failed,
    table: { columns: ACT_COLUMNS, rows: rows.map(row => ({ ...row })) },
    messages: [
      ...notes,
      ...(busy.length === 0 ? [note('nothing to do: every node is so already')] : []),
      ...(failed === undefined
        ? []
        : [
            failure(
              `${failed.node}: ${failed.what}: ${failed.outcome}`,
              `look there: ssh ${failed.node} journalctl -eu libvirtd -u sanlock; the same command goes on where it ended`,
            ),
          ]),
      ...(left.length === 0
        ? []
        : [warning(`nothing was done on ${left.join(', ')}`, 'the same command goes on there')]),
    ],
  }
}

async function takeTurn(
  parts: Parts,
  record: NodeRecord,
  turn: Turn,
  setup: LeaseSetup | undefined,
): Promise<ActDone[]> {
  const rows: ActDone[] = []
  for (const { why, command } of turn.acts) {
    const exit = await parts.nodes.ask(record, { command, timeoutMs: ACT_TIMEOUT_MS })
    rows.push({ node: turn.node, what: why, outcome: exit.status === 0 ? 'done' : said(exit) })
    if (exit.status !== 0) return rows
  }
  const problem = await untilReady(parts, record, turn, setup)
  return [
    ...rows,
    { node: turn.node, what: `wait until ${waitText(turn.node, turn.await)}`, outcome: problem ?? 'done' },
  ]
}

const POLL_MS = 500
/** Without a lockspace to join, libvirt answers as soon as it has found its domains again. */
const ANSWER_SECONDS = 60

async function untilReady(
  parts: Parts,
  record: NodeRecord,
  turn: Turn,
  setup: LeaseSetup | undefined,
): Promise<string | undefined> {
  const seconds = setup === undefined ? ANSWER_SECONDS : joinSeconds(setup.ioTimeoutSeconds)
  const untilMs = parts.clock.monotonicMs() + seconds * 1000
  const bar = parts.progress.begin(`${turn.node} ${turn.await === 'ready' ? 'joins' : 'answers'}`, seconds)
  try {
    for (;;) {
      const problem = await readyProblem(parts, record, turn, setup)
      const leftMs = untilMs - parts.clock.monotonicMs()
      if (problem === undefined) return undefined
      if (leftMs <= 0 || parts.interrupt.requested()) return problem
      bar.update(seconds - leftMs / 1000, problem)
      await parts.clock.sleep(POLL_MS)
    }
  } finally {
    bar.end('done')
  }
}

async function readyProblem(
  parts: Parts,
  record: NodeRecord,
  turn: Turn,
  setup: LeaseSetup | undefined,
): Promise<string | undefined> {
  const seen = (await parts.nodes.look([record])).seen.get(record.name)
  if (seen?.state !== 'up') return `libvirt does not answer: ${seen?.reason ?? 'nobody was asked'}`
  if (turn.await === 'answers' || setup === undefined) return undefined
  const answer = await askLeases(parts, record, [])
  if (typeof answer === 'string') return answer
  const { sanlock, lockd } = answer.leases
  if (setup.manager === 'lockd') return lockd === undefined ? 'virtlockd does not run' : undefined
  if (sanlock === undefined) return 'sanlock does not run'
  if (isGuarded(answer.leases)) return undefined
  const { state, path } = sanlock.lockspace ?? {}
  return `it has not joined the lockspace${state === undefined ? '' : ` (${state} ${path})`}`
}
