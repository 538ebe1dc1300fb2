/** Plans taking over what a node defines itself: definition kept in conf/, then removed from the node. Nothing is stopped. */
import { type Cluster, type Sighting, sightingsOf } from '../cluster.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { type Step, step } from '../step.ts'
import {
  already,
  definedElsewhere,
  isRefusal,
  type Plan,
  refused,
  silentRefusals,
  steps,
  unlistedRefusal,
  whereActive,
} from './plan.ts'

export interface AdoptRequest {
  readonly domain: string
  /** Take it from this node; absent means where it runs, or the only node that defines it. */
  readonly node?: string
  /** Where the definition is kept. */
  readonly path: string
}

/** The adoption of one domain from one node. */
export function planAdopt(cluster: Cluster, request: AdoptRequest): Plan {
  const found = whereDefined(cluster, request)
  if (isRefusal(found)) return found.reason === 'notPersistent' ? already(found) : refused(found)
  const refusals = [...hindrances(found), ...(found.domain.active ? [] : silentRefusals(cluster))]
  if (refusals.length > 0) return refused(...refusals)
  return steps(adoptSteps(cluster, found, request), definedElsewhere(cluster, found.domain, [found.node]))
}

function whereDefined(cluster: Cluster, { domain, node }: AdoptRequest): Sighting | Refusal {
  const defined = sightingsOf(cluster, { name: domain }).filter(
    sighting => sighting.domain.persistent && (node === undefined || sighting.node === node),
  )
  const best = defined.find(sighting => sighting.domain.active) ?? defined[0]
  if (best !== undefined) return best
  const where = whereActive(cluster, domain)
  return isRefusal(where) && where.reason !== 'notRunning'
    ? where
    : refuse('notPersistent', { domain, node: node ?? 'any node' })
}

/** What undefining would lose (rule 10); and what runs where virsh would say that it is off. */
function hindrances({ node, domain }: Sighting): Refusal[] {
  return [
    ...[unlistedRefusal(domain.name, { node, domain })].filter(each => each !== undefined),
    ...(domain.managedSave ? [refuse('managedSave', { domain: domain.name, node })] : []),
    ...(domain.snapshots ? [refuse('snapshots', { domain: domain.name, node })] : []),
  ]
}

function adoptSteps(cluster: Cluster, { node, domain }: Sighting, { path }: AdoptRequest): Step[] {
  const on = { domain: domain.name, uuid: domain.uuid, node }
  const before = cluster.definitions.get(domain.name)?.sha256
  const keepTpm = domain.definition?.nodeBound.some(({ kind }) => kind === 'tpm') ?? false
  return [
    step('saveDefinition', { ...on, definition: path, ...(before === undefined ? {} : { replacesSha256: before }) }),
    step('undefineDomain', { ...on, keepTpm }),
  ]
}
