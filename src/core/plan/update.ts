/** Plans fetching a definition into conf/ from the node that has the domain. */
import { type Cluster, sightingsOf } from '../cluster.ts'
import { refuse } from '../refusal.ts'
import { step } from '../step.ts'
import { type Plan, refused, silentRefusals, steps } from './plan.ts'

export interface UpdateRequest {
  readonly domain: string
  readonly path: string
  /** Replace a definition that is there. */
  readonly force: boolean
  /** The node to take it from. */
  readonly node?: string
}

/** One step, or the reason why no node can give the definition. */
export function planUpdate(cluster: Cluster, { domain, path, force, node }: UpdateRequest): Plan {
  const sighting = sightingsOf(cluster, { name: domain }).find(each => each.node === node)
  if (sighting === undefined) {
    const silent = silentRefusals(cluster)
    const known = [...cluster.definitions.keys()].sort()
    return refused(...(silent.length > 0 ? silent : [refuse('unknownDomain', { domain, known })]))
  }
  const before = cluster.definitions.get(domain)
  if (before !== undefined && !force) return steps([])
  const on = { domain, uuid: sighting.domain.uuid, node: sighting.node }
  return steps([
    step('saveDefinition', {
      ...on,
      definition: path,
      ...(before === undefined ? {} : { replacesSha256: before.sha256 }),
    }),
  ])
}
