/** Plans which files of leases can go: those of disks that nobody has, held by nobody, and last taken long ago. */
import { sightings, upNodes } from '../cluster.ts'
import { isGuarded, type LeaseFile, leasable } from '../lease.ts'
import { domainsWithDisks, type LeaseFacts, managerOf } from '../leases.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { unheardRefusals } from './lease-setup.ts'

export interface LeaseCleanup {
  readonly remove: readonly LeaseFile[]
  /** Files that belong to no disk and stay all the same, and why. */
  readonly keep: readonly { readonly file: LeaseFile; readonly why: string }[]
  /** The node that removes them: it has joined the lockspace, so that it can hold each while it goes. */
  readonly by: string | undefined
}

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * What can go. Refused while anything is not known that might use a disk: a node that was not heard, even one that is confirmed down,
 * since its own definitions may name disks; a domain or definition that nobody could read.
 */
export function planCleanup(facts: LeaseFacts, nowMs: number, days: number): LeaseCleanup | readonly Refusal[] {
  const refusals = unheard(facts)
  if (refusals.length > 0) return refusals
  const used = new Set(facts.names.values())
  const unused = [...facts.files.values()].filter(({ name }) => !used.has(name))
  const judged = unused.map(file => ({ file, why: reasonToKeep(facts, file, nowMs, days) }))
  return {
    remove: judged.flatMap(({ file, why }) => (why === undefined ? [file] : [])),
    keep: judged.flatMap(({ file, why }) => (why === undefined ? [] : [{ file, why }])),
    by: remover(facts),
  }
}

function unheard(facts: LeaseFacts): Refusal[] {
  const { cluster, nodes, folder } = facts
  const opaque = sightings(cluster).flatMap(({ node, domain }) =>
    domain.definition === undefined
      ? [
          refuse('unreadable', {
            domain: 'a lease',
            other: domain.name,
            node,
            problem: domain.problem ?? 'it gave no XML',
          }),
        ]
      : [],
  )
  const unreadable = [...cluster.definitions.values()].flatMap(({ name, domain, path, problem }) =>
    domain === undefined
      ? [refuse('badDefinition', { domain: name, problem: problem ?? `${path} cannot be read` })]
      : [],
  )
  const elsewhere = upNodes(cluster).flatMap(({ name }) => {
    const path = nodes.get(name)?.folder.path
    const manager = nodes.get(name)?.settings.manager
    return manager !== 'sanlock' || path === folder
      ? []
      : [
          refuse('leaseGround', {
            node: name,
            problem: `${name} has its leases in ${path}, and others in ${folder}`,
            fix: 'havirt lease enable sanlock makes them the same',
          }),
        ]
  })
  const volumes = domainsWithDisks(cluster).flatMap(({ domain }) =>
    leasable(domain).flatMap(({ target, source }) =>
      source.kind === 'volume'
        ? [
            refuse('leaseGround', {
              node: '',
              problem: `${target} of ${domain.name} is a volume of the pool ${source.pool}: which lease it has is known to its node only`,
              fix: `write its path (virsh vol-path) into the definition of ${domain.name} instead`,
            }),
          ]
        : [],
    ),
  )
  return [...unheardRefusals(facts, [...cluster.nodes.keys()]), ...opaque, ...unreadable, ...elsewhere, ...volumes]
}

function reasonToKeep(
  { hosts }: LeaseFacts,
  { record, writtenMs }: LeaseFile,
  nowMs: number,
  days: number,
): string | undefined {
  if (record === undefined) return 'it is damaged, and nobody can tell whether somebody has it'
  const host = hosts.get(record.ownerId)
  const isOld = host !== undefined && (host.generation !== record.ownerGeneration || host.timestamp === 0)
  if (record.timestamp !== 0 && !isOld)
    return `somebody has it: host id ${record.ownerId}${host === undefined ? '' : ` (${host.name})`}`
  const age = (nowMs - writtenMs) / DAY_MS
  return age >= days ? undefined : `it was taken or given back ${age < 1 ? 'today' : `${Math.floor(age)} days ago`}`
}

function remover({ nodes, cluster, folder }: LeaseFacts): string | undefined {
  const able = [...nodes].flatMap(([name, leases]) =>
    isGuarded(leases) && leases.sanlock !== undefined && leases.folder.path === folder ? [name] : [],
  )
  return able.find(name => name === cluster.here) ?? able[0]
}

/** Whether anything waits to be cleaned up, and how much: what validation asks. Old by the newest file's own clock. */
export function overdue(facts: LeaseFacts, days: number): LeaseFile[] {
  if (managerOf(facts.nodes) !== 'sanlock') return []
  const used = new Set(facts.names.values())
  const newest = Math.max(0, ...[...facts.files.values()].map(({ writtenMs }) => writtenMs))
  return [...facts.files.values()].filter(
    ({ name, writtenMs }) => !used.has(name) && newest - writtenMs > days * DAY_MS,
  )
}
