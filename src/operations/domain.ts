/** Operations on domains. */
import {
  type Cluster,
  presentTwice,
  type Sighting,
  sightings,
  sightingsOf,
  silentNodes,
  unknownNodes,
} from '../core/cluster.ts'
import { commandOf } from '../core/command.ts'
import type { Domain } from '../core/domain.ts'
import { diffDefinitions } from '../core/domain-diff.ts'
import { isDomainName } from '../core/domain-xml.ts'
import { planAdopt } from '../core/plan/adopt.ts'
import { isRefusal } from '../core/plan/plan.ts'
import { type PowerVerb, planPower } from '../core/plan/power.ts'
import { planUpdate } from '../core/plan/update.ts'
import { planWhere } from '../core/plan/where.ts'
import { describeRefusal, refuse } from '../core/refusal.ts'
import { step } from '../core/step.ts'
import { observeOnce } from '../observe.ts'
import { changeDomain, type Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  failure,
  ledgerNotes,
  type Message,
  NO_NODES,
  note,
  type Report,
  refusedReport,
  silentWarnings,
  twiceMessage,
  warning,
} from '../report.ts'
import { migration, starting, stopping } from './changes.ts'
import { everywhere, hosting, inquiriesOfResume, PROCESSES } from './inquiries.ts'
import { combine, type Input, type Operation, requiredWord, word, words } from './operation.ts'

const DESPITE_RULES = { flags: '--despite-rules', help: 'even if that breaks a rule (havirt rule list)' } as const

const LIST_COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'the name' },
  {
    key: 'state',
    title: 'STATE',
    help: "libvirt's state; off when every node was heard or is confirmed down, and none has it; unknown when a node was not heard",
  },
  { key: 'node', title: 'NODE', help: 'where it is' },
  { key: 'vcpus', title: 'VCPUS', align: 'right', help: 'virtual CPUs' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'maximum memory' },
  { key: 'vnc', title: 'VNC', align: 'right', help: 'VNC port; auto when libvirt chooses it at start' },
  { key: 'disks', title: 'DISKS', align: 'right', help: 'number of disks, empty drives not counted' },
  { key: 'networks', title: 'NETWORKS', help: 'libvirt networks and bridges' },
  {
    key: 'conf',
    title: 'CONF',
    help: 'yes: conf/NAME.xml is its definition; no: there is none; bad: it cannot be read',
  },
  { key: 'intent', title: 'INTENT', help: 'manual: an operator stopped it, and nothing starts it by itself' },
]

const UPDATE_COLUMNS: readonly Column[] = [
  { key: 'domain', title: 'DOMAIN', help: 'the name' },
  { key: 'uuid', title: 'UUID', help: "libvirt's identity of the domain" },
  { key: 'vcpus', title: 'VCPUS', align: 'right', help: 'virtual CPUs' },
  { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'maximum memory' },
  { key: 'vnc', title: 'VNC', align: 'right', help: 'VNC port; auto when libvirt chooses it at start' },
  { key: 'disks', title: 'DISKS', help: 'target device and source of each disk' },
  { key: 'networks', title: 'NETWORKS', help: 'libvirt networks and bridges' },
  { key: 'cpu', title: 'CPU', help: 'CPU mode or model that the definition asks for' },
]

const NAME = { name: 'NAME', help: 'the domain', required: true, complete: 'domain' } as const
const MODE = {
  flags: '--mode MODE',
  help: 'how the guest is asked: acpi (power button) or agent',
  choices: ['acpi', 'agent'],
} as const

const WHERE_COLUMNS: readonly Column[] = [
  { key: 'node', title: 'NODE', help: 'the node' },
  {
    key: 'fits',
    title: 'FITS',
    help: 'here: it is active there; best: what --auto would choose; yes; no: it could not start or move there',
  },
  {
    key: 'memoryMiB',
    title: 'MEMORY LEFT',
    align: 'right',
    unit: 'MiB',
    help: 'for domains, by the configured ratios',
  },
  { key: 'vcpus', title: 'VCPUS LEFT', align: 'right', help: 'the same of virtual CPUs' },
  { key: 'why', title: 'WHY NOT', help: 'every reason against, in words; programs find their names in reasons' },
]

export const domainOperations: readonly Operation[] = [
  {
    name: 'domain list',
    summary: 'list domains, their state and their node',
    description: 'Asks all nodes and joins what they show with the definitions in conf/.',
    args: [{ name: 'NAME', help: 'only these domains', required: false, many: true, complete: 'domain' }],
    options: [],
    changes: false,
    columns: LIST_COLUMNS,
    examples: ['havirt domain list', 'havirt domain list web mail'],
    run: listDomains,
  },
  {
    name: 'domain where',
    summary: 'show for each node whether a domain could run there, and why not',
    description:
      'Asks every node what the domain needs (memory, vCPUs, CPU model, networks, bridges, disks, UEFI variables), and shows every reason against each: for a start when it is off, for a live migration when it is active. Changes nothing. What stands against any start, such as a node that is silent, domain start says.',
    args: [NAME],
    options: [],
    changes: false,
    columns: WHERE_COLUMNS,
    examples: ['havirt domain where web'],
    run: whereDomain,
  },
  {
    name: 'domain update',
    summary: 'read definitions, and fetch those that are missing',
    description:
      'Reads conf/NAME.xml of each domain and shows what it says. Where there is none, the definition is fetched from the node that has the domain (inactive, with its secrets). --force fetches it although there is one: what would differ is shown first, and the old version is kept in var/definitions/.',
    args: [
      {
        name: 'NAME',
        help: 'domains; ALL is every one that is defined or seen, RUNNING every one that runs',
        required: true,
        many: true,
        complete: 'domain',
        words: ['ALL', 'RUNNING'],
      },
    ],
    options: [{ flags: '--force', help: 'fetch definitions that conf/ already has, too' }],
    changes: true,
    columns: UPDATE_COLUMNS,
    examples: ['havirt domain update RUNNING', 'havirt -y domain update web --force'],
    run: updateDomains,
  },
  {
    name: 'domain adopt',
    summary: "take a node's own definitions over, without stopping anything",
    description:
      'Keeps the definition of a persistent domain in conf/, then undefines it on its node (UEFI variables stay). A running domain runs on as a transient one. Refused while the domain has snapshots or a saved image there.',
    args: [
      {
        name: 'NAME',
        help: 'domains; ALL is every one that a node defines',
        required: true,
        many: true,
        complete: 'domain',
        words: ['ALL'],
      },
    ],
    options: [{ flags: '--node NODE', help: 'take it from this node, when several define it' }],
    changes: true,
    examples: ['havirt domain adopt ALL', 'havirt -y domain adopt web'],
    run: adoptDomains,
  },
  {
    name: 'domain start',
    summary: 'start a domain that runs nowhere',
    description:
      'Looks at every node twice, checks that the domain is present on none and that the node can host it, and starts it there from conf/NAME.xml. The node is the one named, else the one that havirt runs on, else with --auto the best one. Refused while any node does not answer: it could be running the domain.',
    args: [NAME, { name: 'NODE', help: 'where; default: this node', required: false, complete: 'node' }],
    options: [{ flags: '--auto', help: 'choose the node: rules first, then the most memory left' }, DESPITE_RULES],
    changes: true,
    examples: ['havirt domain start web node2', 'havirt -y domain start web --auto'],
    run: startDomain,
  },
  {
    name: 'domain stop',
    summary: 'shut a domain down and wait until it is off',
    description:
      'Records that it was stopped on purpose, asks the guest to shut down, and waits. --force cuts its power instead. Nothing starts it again by itself until domain start.',
    args: [NAME],
    options: [
      { flags: '--force', help: 'cut its power instead of asking' },
      {
        flags: '--timeout SECONDS',
        help: 'how long to wait; default stop.timeoutSeconds',
        range: { min: 1, max: 86_400 },
      },
      MODE,
    ],
    changes: true,
    examples: ['havirt domain stop web', 'havirt -y domain stop web --timeout 30'],
    run: stopDomain,
  },
  ...(['reboot', 'reset', 'suspend', 'resume'] as const).map(powerOperation),
  {
    name: 'domain migrate',
    summary: 'move a running domain to another node',
    description:
      'Live migration, peer to peer. Refused when the target cannot host the domain (memory, vCPUs, CPU model, networks, bridges, disks), when a disk is not shared, or when UEFI variables, TPM state or a host device would stay behind. Where it runs afterwards is verified on both nodes. Ctrl-C offers to end the migration; the domain then keeps running where it was.',
    args: [NAME, { name: 'NODE', help: 'the target', required: true, complete: 'node' }],
    options: [
      { flags: '--bandwidth MIBPS', help: 'at most so many MiB/s', range: { min: 1, max: 1_000_000 } },
      { flags: '--max-downtime MS', help: 'let it stand still for at most so long', range: { min: 1, max: 2_000_000 } },
      { flags: '--auto-converge', help: 'slow the guest down if it writes faster than it moves' },
      {
        flags: '--post-copy',
        help: 'after one pass, run on the target and fetch the rest (not undone if a node dies meanwhile)',
      },
      {
        flags: '--timeout SECONDS',
        help: 'pause the guest (with --post-copy: switch over) after so long',
        range: { min: 1, max: 86_400 },
      },
      { flags: '--migrate-uri URI', help: 'where the memory goes, such as tcp://%n-mig; %n is the target' },
      { flags: '--unsafe', help: 'move it although libvirt cannot tell that its disks are shared' },
      DESPITE_RULES,
    ],
    changes: true,
    examples: ['havirt domain migrate web node3', 'havirt -y domain migrate web node3 --bandwidth 200'],
    run: migrateDomain,
  },
]

function powerOperation(verb: PowerVerb): Operation {
  const texts = {
    reboot: ['ask a running domain to reboot', 'Asks the guest, as its power button or agent would.'],
    reset: [
      'reset a domain, as by its reset button',
      'At once; the guest is not asked, and what it had not written is lost.',
    ],
    suspend: [
      'pause a domain in memory',
      'It stays present on its node, holds its disks and its memory, and does not run.',
    ],
    resume: [
      'let a paused domain run on',
      'Guarded like a start: every node must answer, since a paused domain holds no disk lease.',
    ],
  } as const
  const [summary, description] = texts[verb]
  return {
    name: `domain ${verb}`,
    summary,
    description,
    args: [NAME],
    options: verb === 'reboot' ? [MODE] : [],
    changes: true,
    examples: [`havirt domain ${verb} web`],
    run: (parts, input) => {
      const domain = requiredWord(input, 'NAME')
      return changeDomain(
        parts,
        {
          domain,
          verb: input.spelled,
          plan: cluster => planPower(cluster, { domain, verb, ...modeOf(input) }),
          inquire: cluster => (verb === 'resume' ? inquiriesOfResume(cluster, domain) : everywhere(cluster, PROCESSES)),
        },
        input.mode,
      )
    },
  }
}

function modeOf(input: Input): { mode?: 'acpi' | 'agent' } {
  const { mode } = input.options
  return mode === 'acpi' || mode === 'agent' ? { mode } : {}
}

async function startDomain(parts: Parts, input: Input): Promise<Report> {
  const domain = requiredWord(input, 'NAME')
  const node = word(input, 'NODE')
  const auto = input.options['auto'] === true
  if (auto && node !== undefined)
    return {
      exit: exitStatus.usage,
      messages: [failure(`--auto chooses the node, and ${node} was named`, 'give one of them')],
    }
  return changeDomain(parts, starting(input, domain, node, auto), input.mode)
}

async function stopDomain(parts: Parts, input: Input): Promise<Report> {
  const domain = requiredWord(input, 'NAME')
  const seconds = Number(input.options['timeout'] ?? parts.home.config.stop.timeoutSeconds)
  const how = { timeoutMs: seconds * 1000, force: input.options['force'] === true, ...modeOf(input) }
  return changeDomain(parts, stopping(input, domain, how), input.mode)
}

async function migrateDomain(parts: Parts, input: Input): Promise<Report> {
  return changeDomain(
    parts,
    migration(parts, input, requiredWord(input, 'NAME'), requiredWord(input, 'NODE')),
    input.mode,
  )
}

async function adoptDomains(parts: Parts, input: Input): Promise<Report> {
  const cluster = await observeOnce(parts)
  const asked = words(input, 'NAME')
  const node = input.options['node'] === undefined ? {} : { node: String(input.options['node']) }
  const names = asked.includes('ALL') ? definedOnNodes(cluster, node.node) : asked
  if (names.length === 0 && cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const reports: Report[] = []
  for (const domain of names)
    reports.push(await checked(domain, () => adoptDomain(parts, input, cluster, domain, node)))
  const combined = unlessSilent(cluster, asked, combine(reports))
  const none = names.length === 0 && combined.exit === exitStatus.done
  return none ? { ...combined, messages: [note('no node defines a domain: there is nothing to adopt')] } : combined
}

/** "All" of what answered is not all: a node that was not heard may have more (rule 2). */
function unlessSilent(cluster: Cluster, asked: readonly string[], report: Report): Report {
  const silent = silentNodes(cluster)
  if (silent.length === 0 || !asked.some(name => name === 'ALL' || name === 'RUNNING')) return report
  const warnings = silent.map(({ name, seen }) =>
    warning(`${name} is ${seen.state} and may have more: ${seen.reason}`, seen.hint),
  )
  return {
    ...report,
    exit: report.exit === exitStatus.done ? exitStatus.partly : report.exit,
    messages: [...report.messages, ...warnings],
  }
}

async function adoptDomain(
  parts: Parts,
  input: Input,
  cluster: Cluster,
  domain: string,
  node: { node?: string },
): Promise<Report> {
  const request = { domain, path: parts.home.definitions.path(domain), ...node }
  const differences = await differencesOfAdoption(parts, cluster, domain, node.node)
  const report = await changeDomain(
    parts,
    { domain, verb: input.spelled, plan: now => planAdopt(now, request) },
    input.mode,
  )
  return { ...report, messages: [...differences, ...report.messages] }
}

/** What adopting would change in a definition that conf/ already has. */
async function differencesOfAdoption(
  parts: Parts,
  cluster: Cluster,
  domain: string,
  node: string | undefined,
): Promise<Message[]> {
  const known = await parts.home.definitions.read(domain)
  const defined = sightingsOf(cluster, { name: domain }).filter(
    each => each.domain.persistent && (node === undefined || each.node === node),
  )
  const source = defined.find(each => each.domain.active) ?? defined[0]
  if (known === undefined || source === undefined) return []
  const differences = await differencesTo(parts, cluster, source, known.text)
  if (differences === 'same') return [note(`conf/${domain}.xml is what ${source.node} has`)]
  const kept = warning(
    `conf/${domain}.xml is replaced by what ${source.node} has; the version before it is kept in var/definitions/`,
  )
  return [kept, ...differences.map(note)]
}

function definedOnNodes(cluster: Cluster, node: string | undefined): string[] {
  const defined = sightings(cluster).filter(
    sighting => sighting.domain.persistent && (node === undefined || sighting.node === node),
  )
  return [...new Set(defined.map(({ domain }) => domain.name))].sort()
}

/** A name becomes a file's name, so it is checked before anything else is done with it. */
function checked(domain: string, work: () => Promise<Report>): Promise<Report> {
  return isDomainName(domain)
    ? work()
    : Promise.resolve(refusedReport([refuse('unknownDomain', { domain, known: [] })]))
}

async function updateDomains(parts: Parts, input: Input): Promise<Report> {
  const cluster = await observeOnce(parts)
  const names = namesToUpdate(cluster, words(input, 'NAME'))
  if (names.length === 0 && cluster.nodes.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const force = input.options['force'] === true
  const reports: Report[] = []
  for (const domain of names)
    reports.push(await checked(domain, () => updateDomain(parts, input, cluster, domain, force)))
  const combined = combine(reports)
  const definitions = await parts.home.definitions.all()
  const rows = names.flatMap(name => {
    const domain = definitions.get(name)?.domain
    return domain === undefined ? [] : [definitionRow(domain)]
  })
  return { ...unlessSilent(cluster, words(input, 'NAME'), combined), table: { columns: UPDATE_COLUMNS, rows } }
}

function namesToUpdate(cluster: Cluster, asked: readonly string[]): string[] {
  const seen = sightings(cluster)
  const names = asked.flatMap(name => {
    if (name === 'ALL') return [...cluster.definitions.keys(), ...seen.map(({ domain }) => domain.name)]
    return name === 'RUNNING' ? seen.filter(({ domain }) => domain.active).map(({ domain }) => domain.name) : [name]
  })
  return [...new Set(names)].sort()
}

async function updateDomain(
  parts: Parts,
  input: Input,
  cluster: Cluster,
  domain: string,
  force: boolean,
): Promise<Report> {
  const known = await parts.home.definitions.read(domain)
  if (known !== undefined && !force) {
    return known.domain === undefined
      ? refusedReport([refuse('badDefinition', { domain, problem: known.problem ?? '' })])
      : { exit: exitStatus.done, messages: [] }
  }
  const where = bestSource(cluster, domain)
  const differences =
    known === undefined || where === undefined ? [] : await differencesTo(parts, cluster, where, known.text)
  if (differences === 'same')
    return { exit: exitStatus.done, messages: [note(`conf/${domain}.xml is what ${where?.node} has`)] }
  const request = {
    domain,
    path: parts.home.definitions.path(domain),
    force,
    ...(where === undefined ? {} : { node: where.node }),
  }
  const report = await changeDomain(
    parts,
    { domain, verb: input.spelled, plan: now => planUpdate(now, request) },
    input.mode,
  )
  return { ...report, messages: [...differences.map(note), ...report.messages] }
}

function bestSource(cluster: Cluster, domain: string): Sighting | undefined {
  const seen = sightingsOf(cluster, { name: domain })
  return seen.find(sighting => sighting.domain.active) ?? seen[0]
}

async function differencesTo(
  parts: Parts,
  cluster: Cluster,
  { node, domain }: Sighting,
  text: string,
): Promise<string[] | 'same'> {
  const record = cluster.nodes.get(node)?.record
  const command = commandOf(
    step('saveDefinition', { domain: domain.name, uuid: domain.uuid, node, definition: '' }),
    cluster.config.libvirt.uri,
  )
  if (record === undefined || command === undefined) return []
  const exit = await parts.nodes.ask(record, { command, timeoutMs: 30_000 })
  if (exit.status !== 0) return [`the definition of ${domain.name} on ${node} cannot be read: ${exit.stderr.trim()}`]
  const differences = diffDefinitions(text, exit.stdout)
  return differences.length === 0 ? 'same' : differences.map(difference => `${domain.name}: ${difference}`)
}

function definitionRow(domain: Domain) {
  return {
    domain: domain.name,
    uuid: domain.uuid,
    vcpus: domain.vcpus,
    memoryMiB: domain.memoryMiB,
    vnc: vncText(domain),
    disks: domain.disks
      .flatMap(disk => (disk.source.kind === 'none' ? [] : [`${disk.target}=${sourceText(disk.source)}`]))
      .join(' '),
    networks: networksText(domain),
    cpu: domain.cpu?.model ?? domain.cpu?.mode ?? '',
  }
}

export function sourceText(source: Domain['disks'][number]['source']): string {
  if ('path' in source) return source.path
  if (source.kind === 'volume') return `${source.pool}/${source.volume}`
  return source.kind === 'network' ? `${source.protocol}:${source.name}` : source.kind === 'other' ? source.type : ''
}

export function vncText(domain: Domain | undefined): string | number | undefined {
  return domain?.vncPort === -1 ? 'auto' : domain?.vncPort
}

export function networksText(domain: Domain): string {
  return domain.interfaces.map(({ kind, source }) => source ?? kind).join(' ')
}

/** What the domain needs is known only once it was seen, so that nodes are asked for it in a second look. */
async function whereDomain(parts: Parts, input: Input): Promise<Report> {
  const name = requiredWord(input, 'NAME')
  const first = await observeOnce(parts)
  const known = subjectOf(first, name)
  const cluster = known === undefined ? first : await observeOnce(parts, hosting(known, PROCESSES))
  const fits = planWhere(cluster, name)
  if (isRefusal(fits)) return refusedReport([fits])
  const rows = fits.map(({ node, verdict, left, objections }) => ({
    node,
    fits: verdict,
    memoryMiB: left?.memoryMiB,
    vcpus: left?.vcpus,
    why: objections.map(each => describeRefusal(each).why).join('; '),
    reasons: objections.map(({ reason }) => reason).join(','),
  }))
  const messages = [...silentWarnings(cluster), ...ledgerNotes(cluster), ...(rows.length === 0 ? [NO_NODES] : [])]
  return { exit: exitStatus.done, table: { columns: WHERE_COLUMNS, rows }, messages }
}

/** What runs says what it needs, not what is defined. */
function subjectOf(cluster: Cluster, name: string): Domain | undefined {
  const active = sightingsOf(cluster, { name }).find(({ domain }) => domain.active)?.domain.definition
  return active ?? cluster.definitions.get(name)?.domain
}

async function listDomains(parts: Parts, input: Input): Promise<Report> {
  const cluster = await observeOnce(parts)
  const asked = words(input, 'NAME')
  const names = asked.length > 0 ? [...asked] : allNames(cluster)
  const known = new Set(allNames(cluster))
  const unknown = names
    .filter(name => !known.has(name))
    .map(name => refuse('unknownDomain', { domain: name, known: [...known].sort() }))
  const rows = names.filter(name => known.has(name)).flatMap(name => domainRows(cluster, name))
  const silent = silentWarnings(cluster)
  const problems = [...cluster.definitions.values()].flatMap(({ name, problem }) =>
    problem === undefined || !names.includes(name) ? [] : [warning(problem)],
  )
  const twice = presentTwice(cluster).filter(({ name }) => names.includes(name))
  const messages: Message[] = [
    ...refusedReport(unknown).messages,
    ...silent,
    ...ledgerNotes(cluster),
    ...problems,
    ...twice.map(each => twiceMessage(each, cluster)),
  ]
  const hint =
    rows.length === 0 && messages.length === 0
      ? [
          cluster.nodes.size === 0
            ? NO_NODES
            : note('there is no domain yet: put a definition into conf/NAME.xml, or run: havirt domain update RUNNING'),
        ]
      : []
  const seen = twice.some(({ migrating }) => !migrating)
    ? exitStatus.twice
    : silent.length > 0
      ? exitStatus.partly
      : exitStatus.done
  const exit = seen !== exitStatus.twice && unknown.length > 0 ? exitStatus.refused : seen
  return { exit, table: { columns: LIST_COLUMNS, rows }, messages: [...messages, ...hint] }
}

function allNames(cluster: Cluster): string[] {
  return [...new Set([...cluster.definitions.keys(), ...sightings(cluster).map(({ domain }) => domain.name)])].sort()
}

/** One row for each node where it is present, or one row when it is nowhere. */
function domainRows(cluster: Cluster, name: string) {
  const present = sightingsOf(cluster, { name }).filter(({ domain }) => domain.active || domain.managedSave)
  if (present.length === 0) {
    const state = unknownNodes(cluster).length > 0 ? 'unknown' : 'off'
    return [{ domain: name, state, ...definitionCells(cluster, name, undefined) }]
  }
  return present.map(({ node, domain }) => ({
    domain: name,
    state: domain.active ? domain.state : 'saved',
    node,
    ...definitionCells(cluster, name, domain.definition),
  }))
}

function definitionCells(cluster: Cluster, name: string, live: Domain | undefined) {
  const definition = cluster.definitions.get(name)
  const domain = live ?? definition?.domain
  return {
    vcpus: domain?.vcpus,
    memoryMiB: domain?.memoryMiB,
    vnc: vncText(domain),
    disks: domain?.disks.filter(({ source }) => source.kind !== 'none').length,
    networks: domain === undefined ? '' : networksText(domain),
    conf: definition === undefined ? 'no' : definition.domain === undefined ? 'bad' : 'yes',
    intent: cluster.records.get(name)?.manual ? 'manual' : '',
  }
}
