/** Operations on the cluster as a whole, and on claims. */
import { type Cluster, sightingsOf, unknownNodes, upNodes } from '../core/cluster.ts'
import { ledgerFields, ledgerText } from '../core/ledger.ts'
import { isConfirmedDown, load } from '../core/node.ts'
import { room } from '../core/placement.ts'
import { refuse } from '../core/refusal.ts'
import { observeOnce } from '../observe.ts'
import { acquire, claimedRefusal, claimRequest, identify, type Parts, underClaim } from '../operate.ts'
import {
  type Column,
  exitStatus,
  ledgerNotes,
  note,
  type Report,
  refusalMessage,
  refusedReport,
  silentWarnings,
  warning,
} from '../report.ts'
import type { Claim } from '../store/claim.ts'
import { type ClaimRecord, ownerText } from '../store/claim-record.ts'
import { takeUp } from '../take-up.ts'
import { networksText, sourceText, vncText } from './domain.ts'
import { type Input, type Operation, requiredWord, word } from './operation.ts'

const INFO_COLUMNS: readonly Column[] = [
  { key: 'what', title: 'WHAT', help: 'the fact' },
  { key: 'value', title: 'VALUE', help: 'what it is' },
]

const CAPACITY_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the name' },
  { key: 'state', title: 'STATE', help: 'up, busy, unreachable or down (confirmed)' },
  { key: 'domains', title: 'DOMAINS', align: 'right', help: 'active domains' },
  { key: 'vcpus', title: 'VCPUS', align: 'right', help: 'vCPUs of active domains' },
  { key: 'cpus', title: 'CPUS', align: 'right', help: 'CPU threads of the node' },
  { key: 'usedMiB', title: 'USED', align: 'right', unit: 'MiB', help: 'memory of active domains' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'memory of the node' },
  {
    key: 'leftMiB',
    title: 'LEFT',
    align: 'right',
    unit: 'MiB',
    help: 'memory left for domains, by node.memoryRatio and node.reservedMemoryMiB',
  },
  { key: 'notes', title: 'NOTES', help: 'confirmed down, or in maintenance: by whom, since when and why' },
]

const CLAIM_COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'the domain' },
  { key: 'state', title: 'STATE', help: 'held, or in doubt: released, but the end of a command was not seen' },
  { key: 'owner', title: 'OWNER', help: 'user, node or host, and process' },
  { key: 'verb', title: 'COMMAND', help: 'what it is held for' },
  { key: 'since', title: 'SINCE', help: "when it was taken, by the owner's clock" },
  {
    key: 'generation',
    title: 'GENERATION',
    align: 'right',
    help: 'grows with every holder; nodes let no lower one act',
  },
  { key: 'doubts', title: 'IN DOUBT', help: 'nodes to which a command was sent whose end nobody saw' },
]

export const clusterOperations: readonly Operation[] = [
  {
    name: 'info',
    summary: 'show the cluster, or one domain in full',
    description:
      'Without a name: every node with its load. With one: everything that the definition, the nodes and the records say of the domain.',
    args: [{ name: 'DOMAIN', help: 'the domain', required: false, complete: 'domain' }],
    options: [],
    changes: false,
    columns: CAPACITY_COLUMNS,
    examples: ['havirt info', 'havirt info web'],
    run: async (parts, input) => {
      const domain = word(input, 'DOMAIN')
      return domain === undefined ? clusterInfo(parts) : domainInfo(parts, domain)
    },
  },
  {
    name: 'claim list',
    summary: 'show who is working on which domain',
    description:
      'A claim lets one operator at a time change a domain. Shown are those that are held, and those that left a command in doubt.',
    args: [],
    options: [],
    changes: false,
    columns: CLAIM_COLUMNS,
    examples: ['havirt claim list'],
    run: async parts => claimTable(await parts.claims.list()),
  },
  {
    name: 'claim takeover',
    summary: 'take the claim of a dead command, and see what it left',
    description:
      'Waits until the claim stood still for its time to live (at once, if its process ran on this machine and is gone), takes it, raises the guard on every node where a command is in doubt, waits there for what still runs, shows where the domain is, and releases it. A holder that gives a sign of life keeps it. It always acts: there is nothing to show first.',
    args: [{ name: 'DOMAIN', help: 'the domain', required: true, complete: 'domain' }],
    options: [],
    changes: false,
    examples: ['havirt claim takeover web'],
    run: takeOver,
  },
]

async function clusterInfo(parts: Parts): Promise<Report> {
  const cluster = await observeOnce(parts)
  const rows = [...cluster.nodes.values()].map(node => {
    const written = { notes: ledgerText(node.ledger), ...ledgerFields(node.ledger) }
    if (node.seen.state !== 'up') {
      const { cpus, memoryMiB } = node.record
      const state = isConfirmedDown(node) ? 'down' : node.seen.state
      return { node: node.name, state, cpus, memoryMiB, ...written }
    }
    const held = load(node.seen)
    return {
      node: node.name,
      state: 'up',
      domains: node.seen.domains.filter(domain => domain.active).length,
      vcpus: held.vcpus,
      cpus: node.seen.cpus,
      usedMiB: held.memoryMiB,
      memoryMiB: node.seen.memoryMiB,
      leftMiB: room(cluster, { ...node, seen: node.seen }).memoryMiB,
      ...written,
    }
  })
  const silent = silentWarnings(cluster)
  const held = (await parts.claims.list()).length
  const summary = [
    `home ${parts.home.path}, cluster ${parts.home.clusterId}`,
    `${upNodes(cluster).length} of ${cluster.nodes.size} nodes up, ${cluster.definitions.size} definitions in conf/, ${held} claims`,
    parts.home.config.dryrun
      ? 'changes are shown, not made; -y makes them (dryrun: true in config.yaml)'
      : 'changes are made at once (dryrun: false in config.yaml)',
  ]
  return {
    exit: silent.length > 0 ? exitStatus.partly : exitStatus.done,
    table: { columns: CAPACITY_COLUMNS, rows },
    messages: [...summary.map(note), ...silent, ...ledgerNotes(cluster)],
  }
}

async function domainInfo(parts: Parts, name: string): Promise<Report> {
  const cluster = await observeOnce(parts)
  const rows = [
    ...definitionRows(cluster, name),
    ...sightingRows(cluster, name),
    ...claimRows(await parts.claims.list(), name),
  ]
  if (rows.length === 0)
    return refusedReport([refuse('unknownDomain', { domain: name, known: [...cluster.definitions.keys()].sort() })])
  const silent = unknownNodes(cluster).map(({ name: node, seen }) =>
    warning(`${node} is ${seen.state} and may be running it: ${seen.reason}`, seen.hint),
  )
  return {
    exit: silent.length > 0 ? exitStatus.partly : exitStatus.done,
    table: { columns: INFO_COLUMNS, rows },
    messages: [...silent, ...ledgerNotes(cluster)],
  }
}

interface Fact {
  readonly [column: string]: string
  readonly what: string
  readonly value: string
}

function definitionRows(cluster: Cluster, name: string): Fact[] {
  const definition = cluster.definitions.get(name)
  if (definition === undefined) return []
  const { domain } = definition
  if (domain === undefined) return [{ what: 'definition', value: definition.problem ?? definition.path }]
  const optional = [
    ['VNC', vncText(domain)],
    ['networks', networksText(domain)],
    ['CPU', domain.cpu?.model ?? domain.cpu?.mode],
    ['machine', domain.machine],
  ] as const
  return [
    { what: 'definition', value: definition.path },
    { what: 'uuid', value: domain.uuid },
    { what: 'vCPUs', value: String(domain.vcpus) },
    { what: 'memory', value: `${domain.memoryMiB} MiB` },
    ...optional.flatMap(([what, value]) =>
      value === undefined || value === '' ? [] : [{ what, value: String(value) }],
    ),
    ...domain.disks.flatMap(disk =>
      disk.source.kind === 'none' ? [] : [{ what: `disk ${disk.target}`, value: sourceText(disk.source) }],
    ),
    ...domain.nodeBound.map(({ kind, what }) => ({ what: `stays on its node: ${kind}`, value: what })),
    { what: 'intent', value: cluster.records.get(name)?.manual ? 'manual: an operator stopped it' : 'may run' },
  ]
}

function sightingRows(cluster: Cluster, name: string): Fact[] {
  const uuid = cluster.definitions.get(name)?.domain?.uuid
  return sightingsOf(cluster, { name, ...(uuid === undefined ? {} : { uuid }) }).map(({ node, domain }) => {
    const traits = [
      domain.state,
      domain.persistent ? 'defined there' : 'transient',
      domain.autostart ? 'autostart' : '',
      domain.managedSave ? 'saved image' : '',
      domain.snapshots ? 'snapshots' : '',
    ]
    return { what: `on ${node}`, value: traits.filter(trait => trait !== '').join(', ') }
  })
}

function claimRows(claims: readonly ClaimRecord[], name: string): Fact[] {
  return claims
    .filter(claim => claim.domain === name)
    .map(claim => ({ what: 'claim', value: `${ownerText(claim)} since ${claim.since}: ${claim.verb}` }))
}

function claimTable(claims: readonly ClaimRecord[]): Report {
  const rows = claims.map(claim => ({
    domain: claim.domain,
    state: claim.state === 'held' ? 'held' : 'in doubt',
    owner: ownerText(claim),
    verb: claim.verb,
    since: claim.since,
    generation: claim.generation,
    doubts: [...new Set(claim.doubts.map(({ node }) => node))].join(' '),
  }))
  return {
    exit: exitStatus.done,
    table: { columns: CLAIM_COLUMNS, rows },
    messages: rows.length === 0 ? [note('nobody is working on a domain')] : [],
  }
}

async function takeOver(parts: Parts, input: Input): Promise<Report> {
  const name = requiredWord(input, 'DOMAIN')
  const identity = (await identify(parts, name)) ?? (await claimedIdentity(parts, name))
  if (identity === undefined) return refusedReport([refuse('unknownDomain', { domain: name, known: [] })])
  const before = (await parts.claims.list()).find(({ uuid }) => uuid === identity.uuid)
  if (before === undefined)
    return { exit: exitStatus.done, messages: [note(`nobody is working on ${name}: there is nothing to take over`)] }
  const request = await claimRequest(parts, identity, input.spelled)
  const acquired = await acquire(parts, request, parts.clock.monotonicMs() + input.mode.waitMs)
  if ('heldBy' in acquired) return refusedReport([claimedRefusal(name, acquired.heldBy)])
  return underClaim(acquired.claim, claim => showLeft(parts, claim, name, input.mode.waitMs))
}

/** Finds out what the old holder left, puts right what may be, and shows where the domain is now. */
async function showLeft(parts: Parts, claim: Claim, name: string, waitMs: number): Promise<Report> {
  const untilMs = parts.clock.monotonicMs() + waitMs
  const left = await takeUp(parts, claim, { untilMs, endMigration: false })
  const info = await domainInfo(parts, name)
  const unsettled = [...left.unsettled.values()].map(({ reason }) =>
    warning(reason, 'havirt refuses to start the domain until that node answers'),
  )
  const rows = info.table?.rows.filter(({ what }) => what !== 'claim') ?? []
  return {
    ...info,
    ...(info.table === undefined ? {} : { table: { ...info.table, rows } }),
    exit: left.exit ?? (unsettled.length + left.refusals.length > 0 ? exitStatus.partly : info.exit),
    messages: [...left.messages, ...left.refusals.map(refusalMessage), ...unsettled, ...info.messages],
  }
}

/** A domain that nobody shows and nothing defines may still have a claim: its record knows the uuid. */
async function claimedIdentity(parts: Parts, name: string) {
  const claim = (await parts.claims.list()).find(({ domain }) => domain === name)
  return claim === undefined ? undefined : { name, uuid: claim.uuid, disks: [] }
}
