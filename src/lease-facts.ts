/** Asks all nodes for their leases at once, one command a node; the files of the folder are read by all of them together. */
import type { Cluster } from './core/cluster.ts'
import type { LeaseManager } from './core/lease.ts'
import { commonFolder, knownPaths, type LeaseFacts, managerOf } from './core/leases.ts'
import type { NodeRecord } from './core/node.ts'
import { leaseName } from './nodes/lease-name.ts'
import { LEASES_SCRIPT, type LeaseAnswer, parseLeases, shareOf } from './nodes/leases.ts'
import { observeOnce } from './observe.ts'
import type { Parts } from './operate.ts'

const TIMEOUT_MS = 30_000

/** What one node said, or why it did not. */
type Answer = LeaseAnswer | string

/** Everything there is to know about leases now; `known`: the cluster, where it was looked at already. */
export async function leaseFacts(parts: Parts, known?: Cluster): Promise<LeaseFacts> {
  const records = [...(await parts.home.records.nodes()).values()]
  const { cluster, answers } = await askAll(parts, records, known)
  const nodes = new Map(
    records.flatMap(({ name }) => {
      const answer = answers.get(name)
      return answer === undefined || typeof answer === 'string' ? [] : [[name, answer.leases] as const]
    }),
  )
  const folder = commonFolder(nodes)
  const read = await readWhole(parts, records, answers, folder)
  const manager = managerOf(nodes) ?? 'sanlock'
  return {
    cluster,
    nodes,
    unasked: new Map([...answers].flatMap(([name, answer]) => (typeof answer === 'string' ? [[name, answer]] : []))),
    hosts: new Map(read.flatMap(({ hosts }) => [...hosts])),
    files: new Map(read.flatMap(({ files }) => files.map(file => [file.name, file]))),
    names: leaseNames(cluster, manager),
    folder,
  }
}

/** How the lease of every disk is called that a definition or a domain names. */
export function leaseNames(cluster: Cluster, manager: LeaseManager): Map<string, string> {
  return new Map([...knownPaths(cluster)].sort().map(path => [path, leaseName(manager, path)]))
}

/** Leases and the cluster at once. Whoever is silent to libvirt is not waited for any longer: a frozen node would hold all others up. */
async function askAll(parts: Parts, records: readonly NodeRecord[], known: Cluster | undefined) {
  parts.nodes.approach(records)
  const over = new Map(records.map(({ name }) => [name, new AbortController()]))
  const asked = records.map(async (record, at) => {
    if (known?.nodes.get(record.name)?.seen.state === 'unreachable') return [record.name, 'it does not answer'] as const
    const share = [shareOf(at, records.length), ...(at === 0 ? ['hosts'] : [])]
    return [record.name, await askLeases(parts, record, share, over.get(record.name)?.signal)] as const
  })
  const cluster = known ?? (await observeOnce(parts))
  for (const { name, seen } of cluster.nodes.values()) if (seen.state !== 'up') over.get(name)?.abort()
  return { cluster, answers: new Map<string, Answer>(await Promise.all(asked)) }
}

/** Asks one node, and reads these words of the folder there. */
export async function askLeases(
  parts: Parts,
  record: NodeRecord,
  wanted: readonly string[],
  abort?: AbortSignal,
): Promise<Answer> {
  const command = { node: record.name, argv: ['sh', '-c', LEASES_SCRIPT, 'havirt', ...wanted] }
  const exit = await parts.nodes.ask(record, {
    command,
    timeoutMs: TIMEOUT_MS,
    ...(abort === undefined ? {} : { abort }),
  })
  const answer = parseLeases(exit.stdout)
  if (answer !== undefined) return answer
  return exit.timedOut
    ? 'it did not answer in time'
    : exit.stderr.trim().split('\n').at(-1) || 'it gave no whole answer'
}

/** The shares of nodes that are silent, or have another folder, are read by one that has the right one. */
async function readWhole(
  parts: Parts,
  records: readonly NodeRecord[],
  answers: ReadonlyMap<string, Answer>,
  folder: string,
): Promise<LeaseAnswer[]> {
  const hasFolder = ({ name }: NodeRecord) => {
    const answer = answers.get(name)
    return typeof answer === 'object' && answer.leases.folder.path === folder && answer.leases.folder.exists
  }
  const good = records.flatMap(record => {
    const answer = answers.get(record.name)
    return hasFolder(record) && typeof answer === 'object' ? [answer] : []
  })
  const [reader] = records.filter(hasFolder)
  const missing = records.flatMap((record, at) => (hasFolder(record) ? [] : [shareOf(at, records.length)]))
  if (reader === undefined || missing.length === 0) return good
  const rest = await askLeases(parts, reader, [...missing, 'hosts'])
  return typeof rest === 'string' ? good : [...good, rest]
}
