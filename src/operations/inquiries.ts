/** What operations ask of nodes beyond the list of their domains. */
import { type Cluster, sightingsOf } from '../core/cluster.ts'
import type { Domain } from '../core/domain.ts'
import { exclusiveDisks } from '../core/domain-xml.ts'
import { cpuQuestionOf } from '../core/node.ts'
import { needsOf, placesOf } from '../core/placement.ts'
import type { Inquiry } from '../nodes/session.ts'

/** Every node may run what libvirt there does not list. */
export const PROCESSES: Inquiry = { paths: [], devices: [], processes: true }

export function everywhere(cluster: Cluster, inquiry: Inquiry): Map<string, Inquiry> {
  return new Map([...cluster.nodes.keys()].map(node => [node, inquiry]))
}

/**
 * What tells on a node whether anybody there holds a disk of the domain: its disks, since each node may know them by other names,
 * and the disks of those that are present there. A domain whose disks have no path is compared by their text alone.
 */
export function rivalry(domain: Domain): Inquiry {
  const own = placesOf(exclusiveDisks(domain))
  return { ...PROCESSES, ...own, held: own.paths.length + own.volumes.length > 0 }
}

/** What runs says which disks it will write, not what is defined. */
export function inquiriesOfResume(cluster: Cluster, domain: string): Map<string, Inquiry> {
  const seen = sightingsOf(cluster, { name: domain }).find(sighting => sighting.domain.active)?.domain
  return everywhere(cluster, seen?.definition === undefined ? PROCESSES : rivalry(seen.definition))
}

/** What to ask of every node, and beyond that of those that may host the domain. */
export function inquiries(
  cluster: Cluster,
  domain: Domain,
  hosts: readonly string[],
  ofAll: Inquiry,
): Map<string, Inquiry> {
  const asHost = hosting(domain, ofAll)
  return new Map([...everywhere(cluster, ofAll), ...hosts.map(node => [node, asHost] as const)])
}

/** What tells whether a node can host the domain, beside `also`. */
export function hosting(domain: Domain, also: Inquiry): Inquiry {
  const needs = needsOf(domain)
  const cpu = cpuQuestionOf(domain)
  return {
    ...also,
    devices: needs.devices,
    paths: [...new Set([...also.paths, ...needs.paths])],
    volumes: [...new Set([...(also.volumes ?? []), ...needs.volumes])],
    ...(cpu === undefined ? {} : { cpus: [cpu] }),
  }
}
