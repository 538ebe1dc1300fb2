/** Looks at the whole cluster that ask for what its domains use: a first look finds the domains, a second asks every node for it. */
import { type Cluster, upNodes } from '../core/cluster.ts'
import type { Disk } from '../core/domain.ts'
import { cpuQuestionOf } from '../core/node.ts'
import { needsOf, placesOf } from '../core/placement.ts'
import { observeOnce } from '../observe.ts'
import type { Parts } from '../operate.ts'
import { PROCESSES } from './inquiries.ts'

/** Every node is asked for the disks, the bridges and the CPU of every active domain. */
export async function observeForMoves(parts: Parts): Promise<Cluster> {
  const first = await observeOnce(parts)
  if (first.nodes.size === 0) return first
  const running = upNodes(first).flatMap(({ seen }) =>
    seen.domains.flatMap(({ active, definition }) => (active ? (definition ?? []) : [])),
  )
  const needs = running.map(needsOf)
  const all = (what: 'paths' | 'volumes' | 'devices') => [...new Set(needs.flatMap(each => each[what]))]
  const cpus = running.flatMap(domain => cpuQuestionOf(domain) ?? [])
  return observeOnce(parts, {
    ...PROCESSES,
    paths: all('paths'),
    volumes: all('volumes'),
    devices: all('devices'),
    cpus,
  })
}

/** Every node is asked for these disks, by all names that they have there. */
export async function observeDisks(parts: Parts, disksOf: (first: Cluster) => readonly Disk[]): Promise<Cluster> {
  const first = await observeOnce(parts, PROCESSES)
  return observeOnce(parts, { ...PROCESSES, ...placesOf(disksOf(first)) })
}
