/** Where a domain could run: every node, with every reason against it. */
import { type Cluster, type Sighting, sightingsOf } from '../cluster.ts'
import type { Domain } from '../domain.ts'
import type { Node } from '../node.ts'
import { candidates, objections, room } from '../placement.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { objectionsToMove } from './migrate.ts'
import { definitionOf, isRefusal } from './plan.ts'

/** One node for one domain. */
export interface Fit {
  readonly node: string
  /** `here`: it is active there; `best` and `yes`: it could go there; `no`: it could not, and `objections` say why. */
  readonly verdict: 'here' | 'best' | 'yes' | 'no'
  /** Room left for domains as things are; undefined when the node does not answer. */
  readonly left: { readonly memoryMiB: number; readonly vcpus: number } | undefined
  readonly objections: readonly Refusal[]
}

/** All nodes for the domain, in the cluster's order: where it could start, or where it could move when it is active. */
export function planWhere(cluster: Cluster, name: string): readonly Fit[] | Refusal {
  const active = sightingsOf(cluster, { name }).find(({ domain }) => domain.active)
  const subject = active === undefined ? toStart(cluster, name) : toMove(name, active)
  if (isRefusal(subject)) return subject
  const best = candidates(cluster, subject).find(node => against(cluster, subject, active, node).length === 0)
  return [...cluster.nodes.values()].map(node => fitOf(cluster, subject, active, node, best))
}

function toStart(cluster: Cluster, name: string): Domain | Refusal {
  const definition = definitionOf(cluster, name)
  return isRefusal(definition) ? definition : definition.domain
}

function toMove(name: string, { node, domain }: Sighting): Domain | Refusal {
  const problem = domain.problem ?? `${node} gave no XML of ${name}`
  return domain.definition ?? refuse('badDefinition', { domain: name, problem })
}

function fitOf(cluster: Cluster, domain: Domain, active: Sighting | undefined, node: Node, best?: string): Fit {
  const { name, seen } = node
  const left = seen.state === 'up' ? room(cluster, { ...node, seen }, domain.uuid) : undefined
  if (name === active?.node) return { node: name, verdict: 'here', left, objections: [] }
  const found = against(cluster, domain, active, name)
  const verdict = found.length > 0 ? 'no' : name === best ? 'best' : 'yes'
  return { node: name, verdict, left, objections: found }
}

function against(cluster: Cluster, domain: Domain, active: Sighting | undefined, name: string): Refusal[] {
  const node = cluster.nodes.get(name)
  if (node === undefined || name === active?.node) return []
  return active === undefined ? objections(cluster, domain, node) : objectionsToMove(cluster, active, domain, node)
}
