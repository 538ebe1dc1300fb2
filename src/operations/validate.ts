import { dirname } from 'node:path'
import { type Cluster, sightings, upNodes } from '../core/cluster.ts'
import type { Disk, Domain } from '../core/domain.ts'
import { exclusiveDisks, placeOf } from '../core/domain-xml.ts'
import type { LeaseFacts } from '../core/leases.ts'
import type { Invalid, Ledger } from '../core/ledger.ts'
import type { NodeRecord } from '../core/node.ts'
import { placesOf } from '../core/placement.ts'
import { type Result, standing, validate } from '../core/validate/checks.ts'
import type { Facts } from '../core/validate/facts.ts'
import { checkIds } from '../core/validate/ids.ts'
import type { DeviceFacts, Login, Survey } from '../core/validate/survey.ts'
import { leaseFacts } from '../lease-facts.ts'
import { DEVICE_SCRIPT, isWhole, LOGIN_SCRIPT, parseDevices, parseLogins } from '../nodes/cross-check.ts'
import { parseSurvey, SURVEY_SCRIPT } from '../nodes/survey.ts'
import type { Parts } from '../operate.ts'
import { type Column, exitStatus, failure, type Message, NO_NODES, note, type Report, warning } from '../report.ts'
import { StoreError } from '../store/store.ts'
import { mark } from './marks.ts'
import { observeDisks } from './observations.ts'
import type { Operation } from './operation.ts'
import { askShell, markAll } from './shared-folders.ts'

const CHECK: Column = { key: 'check', title: 'CHECK', help: 'what is compared; then one column a node: ok, or FAILS' }
/** Where nodes are too many for columns. */
const WIDE: readonly Column[] = [
  CHECK,
  { key: 'ok', title: 'OK', align: 'right', help: 'on how many nodes it is as it should be' },
  { key: 'fails', title: 'FAILS', help: 'on which nodes it is not, where there are more than 8' },
]
const MOST_COLUMNS = 8

export const validateOperations: readonly Operation[] = [
  {
    name: 'cluster validate',
    summary: 'compare all nodes, and say what is not as it should be',
    description:
      'Asks every node how it is set up, holds the answers against each other and against conf/, and prints one table, check by node, and below it for each failure the command that mends it: networks and bridges, iSCSI sessions and disks by WWID, ssh keys and whether every node can really log in to the others (all pairs up to 12 nodes, above that a few for each), ssh configuration, versions, machine types, CPUs, clocks, storage pools and mounts, whether shared folders are one folder (by an empty file that is written on one node, looked for on the others, and removed), whether block devices are one disk (by WWID, size, and a checksum of the first MiB; they are never written), what nodes define or autostart themselves, libvirt-guests, domains or disks in two definitions, what runs otherwise than conf/ says, QEMUs that libvirt does not list, leases (one lock manager and one folder, host ids, time-outs, daemons that have joined, a watchdog, domains that run without theirs, damaged and forgotten ones, disks that no lease covers), disks by paths that stay, limits of sshd, free ports for migrations, and rules. Ends with 4 when anything fails.',
    args: [],
    options: [],
    changes: false,
    columns: WIDE,
    examples: ['havirt cluster validate', 'havirt cluster validate -o json'],
    run: async parts => validateCluster(parts),
  },
]

async function validateCluster(parts: Parts): Promise<Report> {
  const records = await parts.home.records.nodes()
  if (records.size === 0) return { exit: exitStatus.done, messages: [NO_NODES] }
  const bar = parts.progress.begin('validate', STAGES)
  const facts = await gather(parts, records, (stage, what) => bar.update(stage, what)).finally(() => bar.end('asked'))
  const results = validate(facts)
  const unrecorded = await recordAll(parts, facts, results)
  const said = shown(results, [...records.keys()])
  return {
    exit: failed(results) ? exitStatus.partly : exitStatus.done,
    ...said,
    messages: [...said.messages, ...unrecorded],
  }
}

/** Written down for those that must have passed (`validate.required`). A store that cannot be written hides nothing that was found. */
async function recordAll(parts: Parts, { surveys }: Facts, results: readonly Result[]): Promise<Message[]> {
  const by = await mark(parts, { options: {} })
  try {
    await Promise.all(
      [...surveys.keys()].map(async node => {
        const checks = results.filter(result => standing(result, node) === 'FAILS').map(({ id }) => id)
        await parts.home.records.changeLedger(node, ledger => withInvalid(ledger, { ...by, checks }))
      }),
    )
    return []
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    return [warning(`what was found could not be recorded: ${error.message}`, error.hint)]
  }
}

/** Who found it first stays; what is well again is forgotten. */
function withInvalid({ invalid, ...rest }: Ledger, found: Invalid): Ledger {
  // What was not asked may still be as it was.
  const before = found.checks.includes('answers') ? (invalid?.checks ?? []) : []
  const checks = checkIds.filter(id => before.includes(id) || found.checks.includes(id))
  if (checks.length === 0) return rest
  return { ...rest, invalid: invalid?.checks.join() === checks.join() ? invalid : { ...found, checks } }
}

function failed(results: readonly Result[]): boolean {
  return results.some(({ findings }) => findings.length > 0)
}

// ---- gathering ----------------------------------------------------------------------------------------------------------

const STAGES = 4

async function gather(
  parts: Parts,
  records: ReadonlyMap<string, NodeRecord>,
  tell: (stage: number, what: string) => void,
): Promise<Facts> {
  tell(0, 'looking at every node')
  const cluster = await observeDisks(parts, shownDisks)
  const up = upNodes(cluster).flatMap(({ name }) => records.get(name) ?? [])
  tell(1, 'asking how they are set up')
  const [surveys, leases] = await Promise.all([surveyAll(parts, up), leaseFacts(parts, cluster)])
  for (const { name } of up) {
    const why = leases.unasked.get(name)
    if (why !== undefined && !surveys.unasked.has(name)) surveys.unasked.set(name, `its leases: ${why}`)
  }
  tell(2, 'letting them log in to each other')
  const answering = up.filter(({ name }) => surveys.found.has(name))
  const logins = await loginAll(parts, answering)
  tell(3, 'comparing folders and disks')
  const [marks, devices] = await Promise.all([
    markAll(parts, answering, foldersOf(parts, cluster, surveys.found, leases), surveys.unasked),
    devicesOf(parts, answering, cluster, surveys.unasked),
  ])
  const known = leases.nodes.size === 0 ? undefined : leases
  return { cluster, surveys: surveys.found, unasked: surveys.unasked, logins, marks, devices, leases: known }
}

/** Of every definition, those of nodes included: whoever has a disk under another name has another lease for it. */
function shownDisks(cluster: Cluster): Disk[] {
  const shown = sightings(cluster).flatMap(({ domain }) => domain.definition?.disks ?? [])
  return [...disksOf(cluster), ...shown]
}

/** Of every definition in conf/, and of all that runs. */
function disksOf(cluster: Cluster): Disk[] {
  return domainsOf(cluster).flatMap(({ disks }) => disks)
}

function domainsOf(cluster: Cluster): Domain[] {
  const running = sightings(cluster).flatMap(({ domain }) => (domain.active ? (domain.definition ?? []) : []))
  return [...[...cluster.definitions.values()].flatMap(({ domain }) => domain ?? []), ...running]
}

async function surveyAll(parts: Parts, records: readonly NodeRecord[]) {
  const found = new Map<string, Survey>()
  const unasked = new Map<string, string>()
  const { config, path } = parts.home
  await Promise.all(
    records.map(async record => {
      const fromMs = parts.clock.now()
      const exit = await askShell(parts, record, SURVEY_SCRIPT, [config.libvirt.uri, path])
      const survey = parseSurvey(exit.stdout, { fromMs, toMs: parts.clock.now() })
      if (survey !== undefined) found.set(record.name, survey)
      else unasked.set(record.name, exit.timedOut ? 'it did not answer in time' : lastLine(exit.stderr))
    }),
  )
  return { found: inOrder(records, found), unasked }
}

function inOrder<T>(records: readonly NodeRecord[], map: ReadonlyMap<string, T>): Map<string, T> {
  return new Map(records.flatMap(({ name }) => (map.has(name) ? [[name, map.get(name) as T] as const] : [])))
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) || 'it gave no whole answer'
}

/** Up to so many nodes, everybody tries everybody. */
const ALL_PAIRS = 12
/** Above that, everybody tries so many neighbours in a ring, and so is tried by as many. */
const NEIGHBOURS = 3

async function loginAll(parts: Parts, records: readonly NodeRecord[]): Promise<Login[]> {
  const names = records.map(({ name }) => name)
  const tried = await Promise.all(
    records.map(async (record, at) => {
      const targets = targetsOf(names, at)
      if (targets.length === 0) return []
      const { stdout } = await askShell(parts, record, LOGIN_SCRIPT, targets)
      return parseLogins(record.name, targets, stdout)
    }),
  )
  return tried.flat()
}

function targetsOf(names: readonly string[], at: number): string[] {
  if (names.length <= ALL_PAIRS) return names.filter((_, other) => other !== at)
  return Array.from({ length: NEIGHBOURS }, (_, step) => names[(at + step + 1) % names.length] ?? '')
}

/** Folders that should be the same everywhere: those in which disks lie, of pools that are folders, of leases, and havirt's home. */
function foldersOf(parts: Parts, cluster: Cluster, surveys: ReadonlyMap<string, Survey>, leases: LeaseFacts): string[] {
  const files = domainsOf(cluster)
    .flatMap(exclusiveDisks)
    .flatMap(({ source }) => (source.kind === 'file' ? (placeOf(source) ?? []) : []))
  const pools = [...surveys.values()].flatMap(({ pools: all }) =>
    all.flatMap(({ what, active }) => (active ? (/^(?:dir|netfs) (\/.*)$/.exec(what)?.[1] ?? []) : [])),
  )
  return [...new Set([parts.home.path, leases.folder, ...files.map(path => dirname(path)), ...pools])]
    .filter(path => path.startsWith('/'))
    .sort()
}

async function devicesOf(
  parts: Parts,
  records: readonly NodeRecord[],
  cluster: Cluster,
  slow: Map<string, string>,
): Promise<Map<string, ReadonlyMap<string, DeviceFacts>>> {
  const { paths } = placesOf(disksOf(cluster))
  const blocks = paths.filter(path => upNodes(cluster).some(({ seen }) => seen.paths.get(path)?.kind === 'block'))
  if (blocks.length === 0) return new Map()
  const found = await Promise.all(
    records.map(async record => {
      const { stdout } = await askShell(parts, record, DEVICE_SCRIPT, blocks)
      if (!isWhole(stdout)) slow.set(record.name, 'it did not read every disk in time')
      return [record.name, parseDevices(stdout)] as const
    }),
  )
  return new Map(found)
}

// ---- showing ------------------------------------------------------------------------------------------------------------

function shown(results: readonly Result[], nodes: readonly string[]): Pick<Report, 'table' | 'messages'> {
  const rows = results.map(result => {
    const states = nodes.map(node => [node, standing(result, node)] as const)
    const fails = states.flatMap(([node, state]) => (state === 'FAILS' ? [node] : []))
    const cluster = result.findings.some(({ node }) => node === undefined)
    return {
      id: result.id,
      check: result.title,
      ...Object.fromEntries(states),
      ...(cluster ? { cluster: 'FAILS' } : {}),
      ok: nodes.length - fails.length,
      fails: [...fails, ...(cluster ? ['the cluster'] : [])].join(', '),
    }
  })
  const aboutAll = rows.some(row => 'cluster' in row)
  const columns = nodes.length > MOST_COLUMNS ? WIDE : [CHECK, ...nodes.map(nodeColumn), ...(aboutAll ? [CLUSTER] : [])]
  return { table: { columns, rows }, messages: messagesOf(results) }
}

const CLUSTER: Column = { key: 'cluster', title: 'CLUSTER', help: 'what is about no node alone' }

function nodeColumn(name: string): Column {
  return { key: name, title: name, help: 'ok, or FAILS' }
}

function messagesOf(results: readonly Result[]): Message[] {
  const found = results.flatMap(({ findings }) => findings)
  if (found.length === 0) return [note(`all ${results.length} checks passed`)]
  return [
    ...found.map(({ why, fix }) => failure(why, fix)),
    note(`${found.length} ${found.length === 1 ? 'thing is' : 'things are'} not as they should be`),
  ]
}
