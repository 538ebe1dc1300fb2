/** Operations on nodes: update, list, scan, remove. */
import {
  type Observed,
  presentTwice,
  type SharedDisk,
  type Sighting,
  type Spread,
  sharedDisks,
  sharedUuids,
  sightings,
  spreadDomains,
  unlisted,
  upNodes,
} from '../core/cluster.ts'
import { type Command, pasteableLine } from '../core/command.ts'
import { emptyLedger, type Ledger, ledgerFields, ledgerText } from '../core/ledger.ts'
import { type DomainOnNode, isConfirmedDown, isNodeName, type Node, type NodeRecord } from '../core/node.ts'
import { describeRefusal, type Refusal, refuse, refuseSilent, unlistedFix, unlistedWords } from '../core/refusal.ts'
import { leaseFacts } from '../lease-facts.ts'
import { writeSightings } from '../lease-memory.ts'
import { powerProblem } from '../nodes/fence.ts'
import { hereAmong, observeNodes, observeOnce } from '../observe.ts'
import { claimedRefusal, type Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  failure,
  ledgerNotes,
  type Message,
  NO_NODES,
  note,
  type Report,
  refusalMessage,
  refusedReport,
  silentWarnings,
  type Table,
  twiceMessage,
  warning,
} from '../report.ts'
import type { Population } from '../store/records.ts'
import { StoreError } from '../store/store.ts'
import { leftHalfDone } from '../take-up.ts'
import { PROCESSES } from './inquiries.ts'
import { type Input, type Operation, requiredWord, unknownAmong, words } from './operation.ts'

const NODE_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the name, and the alias by which ssh reaches it' },
  { key: 'hostname', title: 'HOSTNAME', help: 'what the machine calls itself' },
  { key: 'cpuModel', title: 'CPU MODEL', help: "the host CPU by libvirt's name" },
  { key: 'cpus', title: 'CPUS', align: 'right', help: 'CPU threads' },
  { key: 'mhz', title: 'MHZ', align: 'right', help: 'CPU frequency as libvirt tells it' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'memory of the machine' },
  { key: 'libvirt', title: 'LIBVIRT', help: "libvirt's version" },
  { key: 'hypervisor', title: 'QEMU', help: "the hypervisor's version" },
  { key: 'updated', title: 'UPDATED', help: 'when node update last recorded this, by the clock of who did' },
  { key: 'notes', title: 'NOTES', help: 'confirmed down, or in maintenance: by whom, since when and why' },
]

const SCAN_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the node that shows the domain' },
  { key: 'domain', title: 'DOMAIN', help: 'the domain; - when the node has none' },
  {
    key: 'state',
    title: 'STATE',
    help: "libvirt's state of the domain, unlisted for a QEMU that libvirt does not list, or unreachable, busy or down (confirmed) for the whole node",
  },
  { key: 'vcpus', title: 'VCPUS', align: 'right', help: 'virtual CPUs' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'maximum memory' },
  {
    key: 'kind',
    title: 'DEFINED',
    help: 'transient, or persistent (defined on the node itself), with autostart, saved',
  },
  { key: 'change', title: 'SINCE LAST SCAN', help: 'new, or the state before; empty when nothing changed' },
]

export const nodeOperations: readonly Operation[] = [
  {
    name: 'node update',
    summary: 'record what nodes are, and add new ones',
    description:
      'Asks each node who it is and what it has, and records it. A node that is not known yet is added: it gets an id of its own in /var/lib/havirt/id, which later commands check. Without names, or with ALL, every known node is asked.',
    args: [
      { name: 'NODE', help: 'ssh alias of a node', required: false, many: true, complete: 'node', words: ['ALL'] },
    ],
    options: [],
    changes: false,
    columns: NODE_COLUMNS,
    examples: ['havirt node update node1 node2 node3', 'havirt node update'],
    run: updateNodes,
  },
  {
    name: 'node list',
    summary: 'list the recorded nodes',
    description: 'Prints what node update recorded, without asking the nodes.',
    args: [],
    options: [],
    changes: false,
    columns: NODE_COLUMNS,
    examples: ['havirt node list', 'havirt node list -o json'],
    run: async parts => {
      const records = await parts.home.records.nodes()
      return nodeTable(records, await ledgersOf(parts, records))
    },
  },
  {
    name: 'node scan',
    summary: 'find which domain runs on which node',
    description:
      'Asks all nodes at once, shows every domain that is not simply off, and what changed since the last scan, and records it. Warns of domains that are defined where they could come to run a second time. A node that does not answer within observe.timeoutMs is shown as unreachable (status 4), and so is a QEMU that libvirt does not list; a domain on two nodes at once, or a disk that two running domains hold, ends with status 6.',
    args: [{ name: 'NODE', help: 'only these nodes', required: false, many: true, complete: 'node' }],
    options: [{ flags: '--all', help: 'show domains that are shut off, too' }],
    changes: false,
    columns: SCAN_COLUMNS,
    examples: ['havirt node scan', '*/5 * * * * root /usr/local/bin/havirt node scan -q >/dev/null'],
    run: scanNodes,
  },
  {
    name: 'node remove',
    summary: 'take a node out of the cluster',
    description:
      'Takes an empty node out of the list and removes its id file. Refused while the node has any domain, and while it does not answer, since it could be running everything, unless it is confirmed down: then its id file stays there.',
    args: [{ name: 'NODE', help: 'the node', required: true, complete: 'node' }],
    options: [],
    changes: true,
    examples: ['havirt node remove node3', 'havirt -y node remove node3'],
    run: removeNode,
  },
]

type Ledgers = ReadonlyMap<string, Ledger>

async function ledgersOf(parts: Parts, records: ReadonlyMap<string, NodeRecord>): Promise<Ledgers> {
  const names = [...records.keys()]
  return new Map(await Promise.all(names.map(async name => [name, await parts.home.records.ledger(name)] as const)))
}

function nodeTable(records: ReadonlyMap<string, NodeRecord>, ledgers: Ledgers): Report {
  const rows = [...records.values()].map(record => ({
    node: record.name,
    hostname: record.hostname,
    cpuModel: record.cpuModel,
    cpus: record.cpus,
    mhz: record.mhz,
    memoryMiB: record.memoryMiB,
    libvirt: record.libvirtVersion,
    hypervisor: record.hypervisorVersion,
    updated: record.updated.replace(/\.\d+Z$/, 'Z'),
    notes: ledgerText(ledgers.get(record.name) ?? emptyLedger),
    ...ledgerFields(ledgers.get(record.name) ?? emptyLedger),
  }))
  const hint = records.size === 0 ? [NO_NODES] : []
  return { exit: exitStatus.done, table: { columns: NODE_COLUMNS, rows }, messages: hint }
}

async function updateNodes(parts: Parts, input: Input): Promise<Report> {
  const known = await parts.home.records.nodes()
  const asked = words(input, 'NODE')
  const names = asked.length === 0 || asked.includes('ALL') ? [...known.keys()] : [...new Set(asked)]
  const messages = await Promise.all(names.map(name => updateNode(parts, known, name)))
  const records = selected(await parts.home.records.nodes(), names)
  const report = nodeTable(records, await ledgersOf(parts, records))
  const failures = messages.filter(message => message !== undefined)
  const exit =
    failures.length === 0
      ? exitStatus.done
      : failures.length < names.length
        ? exitStatus.partly
        : failures.every(({ kind }) => kind === 'refused')
          ? exitStatus.refused
          : exitStatus.failed
  return { ...report, exit, messages: [...(names.length === 0 ? report.messages : []), ...failures] }
}

function selected(records: ReadonlyMap<string, NodeRecord>, names: readonly string[]): Map<string, NodeRecord> {
  return new Map([...records].filter(([name]) => names.includes(name)))
}

async function updateNode(
  parts: Parts,
  known: ReadonlyMap<string, NodeRecord>,
  name: string,
): Promise<Message | undefined> {
  if (!isNodeName(name))
    return failure(
      `'${name}' cannot be a node's name`,
      'a name has letters, digits, dots, dashes and underscores, and begins with a letter or digit',
    )
  const before = known.get(name)
  try {
    const { identity, record } = await parts.nodes.introduce(
      name,
      before === undefined ? parts.home.clusterId : undefined,
    )
    const refusal = strangeness(parts, known, name, { ...record, id: identity.node ?? '' }, identity.cluster)
    if (refusal !== undefined) return refusalMessage(refusal)
    await parts.home.records.writeNode({
      ...record,
      name,
      id: identity.node ?? '',
      updated: new Date(parts.clock.now()).toISOString(),
    })
    return undefined
  } catch (error) {
    return failure(
      `${name} cannot be reached: ${error instanceof Error ? error.message : String(error)}`,
      `check by hand: ssh ${name} virsh -c ${parts.home.config.libvirt.uri} list`,
    )
  }
}

/** Rule 7: why the machine that answered may not be recorded under this name. */
function strangeness(
  parts: Parts,
  known: ReadonlyMap<string, NodeRecord>,
  name: string,
  now: Pick<NodeRecord, 'id' | 'hostUuid' | 'sshHostKey'>,
  cluster: string | undefined,
): Refusal | undefined {
  if (cluster !== parts.home.clusterId || now.id === '') {
    return refuse('nodeIdentity', {
      node: name,
      problem: cluster === undefined ? 'it has lost /var/lib/havirt/id' : `it belongs to another cluster (${cluster})`,
    })
  }
  const before = known.get(name)
  const twin = [...known.values()].find(
    other => other.name !== name && (other.id === now.id || other.hostUuid === now.hostUuid),
  )
  if (twin !== undefined)
    return refuse('nodeIdentity', { node: name, problem: `it is the machine that is already known as ${twin.name}` })
  const changed =
    before === undefined
      ? []
      : CHANGES.filter(({ key }) => before[key] !== undefined && now[key] !== undefined && before[key] !== now[key])
  return changed.length === 0
    ? undefined
    : refuse('nodeIdentity', { node: name, problem: `${changed.map(({ text }) => text).join(' and ')} changed` })
}

const CHANGES = [
  { key: 'id', text: 'its id' },
  { key: 'hostUuid', text: 'its host uuid' },
  { key: 'sshHostKey', text: 'its ssh host key' },
] as const

async function scanNodes(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const asked = words(input, 'NODE')
  const unknown = unknownAmong(asked, records)
  if (unknown !== undefined) return unknown
  if (records.size === 0)
    return {
      exit: exitStatus.done,
      messages: [NO_NODES],
    }
  const wanted = asked.length === 0 ? [...records.values()] : asked.flatMap(name => records.get(name) ?? [])
  const [nodes, before] = await Promise.all([
    observeNodes(parts, wanted, PROCESSES),
    Promise.all(wanted.map(async ({ name }) => [name, await parts.home.records.population(name)] as const)),
  ])
  const observed = { nodes }
  const seen = scanReport(observed, new Map(before), input.options['all'] === true)
  const report = { ...seen, messages: [...seen.messages, ...leftHalfDone(await parts.claims.list())] }
  return recorded(report, async () => {
    await recordPopulations(parts, observed)
    if (parts.home.config.lease.passUnreachable)
      await writeSightings(parts, await leaseFacts(parts), new Set(nodes.keys()))
  })
}

/** A store that is full or read-only must not hide what was seen: that is when it is needed most. */
async function recorded(report: Report, record: () => Promise<void>): Promise<Report> {
  try {
    await record()
    return report
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    const unrecorded = warning(`what was seen could not be recorded: ${error.message}`, error.hint)
    return {
      ...report,
      exit: report.exit === exitStatus.done ? exitStatus.partly : report.exit,
      messages: [...report.messages, unrecorded],
    }
  }
}

async function recordPopulations(parts: Parts, cluster: Observed): Promise<void> {
  const up = [...cluster.nodes.values()].flatMap(({ name, seen }) => (seen.state === 'up' ? [{ name, seen }] : []))
  await Promise.all(up.map(({ name, seen }) => parts.home.records.writePopulation(name, populationOf(seen.domains))))
}

function populationOf(domains: readonly DomainOnNode[]): Population {
  const sorted = [...domains].sort((a, b) => (a.uuid < b.uuid ? -1 : 1))
  return Object.fromEntries(
    sorted.map(domain => {
      const autostart = domain.autostart ? ({ autostart: true } as const) : {}
      return [domain.uuid, { name: domain.name, state: stateOf(domain), ...autostart }]
    }),
  )
}

function stateOf({ state, unlistedPid }: DomainOnNode): string {
  return unlistedPid === undefined ? state : 'unlisted'
}

function scanReport(cluster: Observed, before: ReadonlyMap<string, Population | undefined>, all: boolean): Report {
  const rows = [...cluster.nodes.values()].flatMap(node => {
    const { name, seen, ledger } = node
    const state = isConfirmedDown(node) ? 'down' : seen.state
    if (seen.state !== 'up') return [{ node: name, state, ...ledgerFields(ledger) }]
    const shown = seen.domains
      .filter(domain => all || domain.active || domain.managedSave || domain.autostart)
      .sort((a, b) => (a.name < b.name ? -1 : 1))
    return shown.length === 0
      ? [{ node: name, ...ledgerFields(ledger) }]
      : shown.map(domain => ({ ...scanRow(name, domain, before.get(name)), ...ledgerFields(ledger) }))
  })
  const gone = [...before].flatMap(([node, population]) => goneFrom(cluster, node, population))
  const unknown = [...silentWarnings(cluster), ...unaskedWarnings(cluster), ...unlisted(cluster).map(unlistedWarning)]
  const twice = presentTwice(cluster)
  const disks = sharedDisks(cluster)
  const table: Table = { columns: SCAN_COLUMNS, rows }
  const messages = [
    ...gone,
    ...unknown,
    ...ledgerNotes(cluster),
    ...spreadDomains(cluster).flatMap(spreadMessages),
    ...sharedUuids(cluster).map(sharedUuidWarning),
    ...disks.map(sharedDiskMessage),
    ...twice.map(each => twiceMessage(each, cluster)),
  ]
  if (twice.some(({ migrating }) => !migrating) || disks.some(({ active }) => active))
    return { exit: exitStatus.twice, table, messages }
  const partly = unknown.length > 0 || disks.length > 0
  return { exit: partly ? exitStatus.partly : exitStatus.done, table, messages }
}

/** A QEMU that nobody could look for may be there. */
function unaskedWarnings(cluster: Observed): Message[] {
  return upNodes(cluster).flatMap(({ name: node, seen: { inquiryProblem: problem } }) => {
    if (problem === undefined) return []
    const { why, next } = describeRefusal(refuse('probeFailed', { node, problem }))
    return [warning(why, next)]
  })
}

function unlistedWarning({ node, domain, pid }: Sighting & { pid: number }): Message {
  return warning(unlistedWords(domain.name, node, pid), unlistedFix(node, pid))
}

/** A definition beside a running domain only takes a slip; autostart and a saved image need less. */
function spreadMessages({ name, active, off }: Spread): Message[] {
  const runs = active.map(({ node }) => node).join(' and ')
  if (active.length === 0) return definedOnSeveral(name, off)
  return off.map(({ node, domain }) => {
    const what = domain.managedSave ? 'a saved image' : domain.autostart ? 'autostart' : undefined
    if (what === undefined)
      return warning(
        `${name} runs on ${runs} and is also defined on ${node}, where plain virsh could start it`,
        `ssh ${node} virsh undefine ${domain.name} --keep-nvram, once nobody needs that definition`,
      )
    return warning(
      `${name} RUNS ON ${runs} AND HAS ${what.toUpperCase()} ON ${node}, which would bring it to life a second time`,
      domain.managedSave
        ? `discard it: ssh ${node} virsh managedsave-remove ${domain.name}`
        : `turn it off: ssh ${node} virsh autostart --disable ${domain.name}`,
    )
  })
}

function definedOnSeveral(name: string, off: readonly Sighting[]): Message[] {
  const where = off.map(({ node }) => node).join(' and ')
  const starts = off.filter(({ domain }) => domain.autostart).map(({ node }) => node)
  if (starts.length < 2) return [note(`${name} is defined on ${where}`)]
  return [
    warning(
      `${name} is set to autostart on ${starts.join(' and ')}: both would start it`,
      `havirt domain adopt ${name} takes their definitions over`,
    ),
  ]
}

function sharedUuidWarning({ uuid, sightings: all }: { uuid: string; sightings: readonly Sighting[] }): Message {
  const names = all.map(({ node, domain }) => `${domain.name} on ${node}`).join(', ')
  return warning(
    `one uuid, ${uuid}, under several names: ${names}`,
    'they are one domain to libvirt, and only one of them may run: give the other a uuid of its own, or undefine it',
  )
}

function sharedDiskMessage({ disk, holders, active }: SharedDisk): Message {
  const [one, other] = holders.map(({ node, domain }) => `${domain.name} on ${node}`)
  return active
    ? failure(
        `${one} AND ${other} HOLD ONE DISK, ${disk}`,
        'it is being destroyed: stop one of them now; if both may really write it, mark the disk <shareable/> in both definitions',
      )
    : warning(
        `${one} and ${other} hold one disk, ${disk}; what is saved of one of them does not fit it any more`,
        'discard the saved image: virsh managedsave-remove',
      )
}

function scanRow(node: string, domain: DomainOnNode, before: Population | undefined) {
  const old = before?.[domain.uuid]
  const state = stateOf(domain)
  return {
    node,
    domain: domain.name,
    state,
    vcpus: domain.vcpus,
    memoryMiB: domain.memoryMiB,
    kind: [
      domain.persistent ? 'persistent' : 'transient',
      domain.autostart ? 'autostart' : '',
      domain.managedSave ? 'saved' : '',
    ]
      .filter(each => each !== '')
      .join(', '),
    change: before === undefined ? '' : old === undefined ? 'new' : old.state === state ? '' : `was ${old.state}`,
  }
}

/** What the last scan saw on a node and this one does not, said by what became of it as far as this look tells. */
function goneFrom(cluster: Observed, node: string, before: Population | undefined): Message[] {
  const seen = cluster.nodes.get(node)?.seen
  if (before === undefined || seen?.state !== 'up') return []
  const uuids = new Set(seen.domains.map(({ uuid }) => uuid))
  return Object.entries(before)
    .filter(([uuid]) => !uuids.has(uuid))
    .map(([uuid, { name, state }]) => {
      const now = sightings(cluster).find(({ domain }) => domain.uuid === uuid && domain.active)
      if (state === 'shutoff') return note(`${name} is no longer defined on ${node}`)
      return note(now === undefined ? `${name} no longer runs on ${node}` : `${name} went from ${node} to ${now.node}`)
    })
}

async function removeNode(parts: Parts, input: Input): Promise<Report> {
  const name = requiredWord(input, 'NODE')
  const cluster = await observeOnce(parts, PROCESSES)
  const node = cluster.nodes.get(name)
  if (node === undefined)
    return refusedReport([refuse('unknownNode', { node: name, known: [...cluster.nodes.keys()] })])
  const { seen, record } = node
  if (seen.state !== 'up' && !isConfirmedDown(node)) return refusedReport([refuseSilent(name, seen)])
  if (seen.state === 'up' && seen.inquiryProblem !== undefined)
    return refusedReport([refuse('probeFailed', { node: name, problem: seen.inquiryProblem })])
  if (seen.state === 'up' && seen.domains.length > 0)
    return refusedReport([refuse('nodeNotEmpty', { node: name, domains: seen.domains.map(domain => domain.name) })])
  const working = (await parts.claims.list()).find(
    ({ state, doubts }) => state === 'held' || doubts.some(doubt => doubt.node === name),
  )
  if (working !== undefined) return refusedReport([claimedRefusal(working.domain, working)])
  if (seen.state !== 'up') return removeDownNode(parts, input, node)
  const command: Command = { node: name, argv: ['rm', '-f', '/var/lib/havirt/id'] }
  if (!input.mode.act) {
    const here = hereAmong(await parts.home.records.nodes(), parts.hereId)
    return {
      exit: exitStatus.done,
      script: [`# take ${name} out of the list of nodes`, pasteableLine(command, here)],
      messages: [],
    }
  }
  return removeEmptyNode(parts, record, command)
}

/** The id goes first: without it no guard on that machine lets anything pass, so what the second look sees can only end. */
async function removeEmptyNode(parts: Parts, record: NodeRecord, command: Command): Promise<Report> {
  const { name, id } = record
  const exit = await parts.nodes.act(record, { uuid: id, generation: 1, nodeId: id }, { command, timeoutMs: 10_000 })
  if (exit.status !== 0)
    return {
      exit: exitStatus.failed,
      messages: [failure(`${name} is still a node: its id file could not be removed: ${exit.stderr.trim()}`)],
    }
  const seen = (await observeNodes(parts, [record], PROCESSES)).get(name)?.seen
  if (seen?.state !== 'up' || seen.inquiryProblem !== undefined || seen.domains.length > 0) {
    const next = `put /var/lib/havirt/id back there (node: ${id}, cluster: ${parts.home.clusterId}, a line each), look what runs there, then try again`
    return {
      exit: exitStatus.failed,
      messages: [failure(`${name} is still a node: something came to life there meanwhile`, next)],
    }
  }
  await forgetNode(parts, name)
  return { exit: exitStatus.done, messages: [note(`${name} is no longer a node of this cluster`)] }
}

/** What was written down about it goes behind it: another machine may get its name. */
async function forgetNode(parts: Parts, name: string): Promise<void> {
  await parts.home.records.removeNode(name)
  await parts.home.records.changeLedger(name, ({ reservations }) => ({ reservations }))
  await parts.nodes.forget(name)
}

/** A node that is confirmed down runs nothing (rule 7). Its machine keeps its id, and whoever switches it on must know. */
async function removeDownNode(parts: Parts, input: Input, { name, ledger }: Node): Promise<Report> {
  const problem = ledger.down?.how === 'fence' ? await powerProblem(parts.nodes, parts.home.config, name) : undefined
  if (problem !== undefined) return refusedReport([refuse('notOff', { node: name, problem })])
  if (!input.mode.act)
    return { exit: exitStatus.done, script: [`# (havirt itself: take ${name} out of the list of nodes)`], messages: [] }
  await forgetNode(parts, name)
  const left = warning(
    `${name} is no longer a node of this cluster, but its machine still has its id, and the domains that are defined there`,
    'if it is ever switched on, it may start them by itself: first cut it off from the shared storage, then there: rm /var/lib/havirt/id',
  )
  return { exit: exitStatus.done, messages: [left] }
}
