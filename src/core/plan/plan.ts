/** What a planner answers, and the checks that several planners share. Pure, like all planners. */
import {
  type Cluster,
  holdersOf,
  identityOf,
  presencesOf,
  presentTwice,
  type Sighting,
  sightingsOf,
  unknownNodes,
  unreadableRivals,
  upNodes,
} from '../cluster.ts'
import type { Domain } from '../domain.ts'
import { isMigrationEnd, isPostCopy } from '../node.ts'
import { type Refusal, refuse, refuseSilent } from '../refusal.ts'
import type { Step } from '../step.ts'

/** A planner's answer. `already`: nothing to do, which `--ensure` takes for success and everybody else for a refusal. */
export type Plan =
  | { readonly kind: 'steps'; readonly steps: readonly Step[]; readonly notes: readonly string[] }
  | { readonly kind: 'refused'; readonly refusals: readonly Refusal[] }
  | { readonly kind: 'already'; readonly refusal: Refusal }

export function steps(list: readonly Step[], notes: readonly string[] = []): Plan {
  return { kind: 'steps', steps: list, notes }
}

export function refused(...refusals: Refusal[]): Plan {
  return { kind: 'refused', refusals }
}

export function already(refusal: Refusal): Plan {
  return { kind: 'already', refusal }
}

/** One refusal for each node that may be running anything (rule 2). */
export function silentRefusals(cluster: Cluster): Refusal[] {
  return unknownNodes(cluster).map(({ name, seen }) => refuseSilent(name, seen))
}

/** One refusal for each present domain that holds one of the domain's disks, or whose disks nobody could read. */
export function diskRefusals(cluster: Cluster, domain: Domain): Refusal[] {
  const identity = identityOf(domain)
  const held = holdersOf(cluster, identity).map(({ sighting, disk }) =>
    refuse('diskHeld', { domain: domain.name, disk, holder: sighting.domain.name, node: sighting.node }),
  )
  const unreadable = unreadableRivals(cluster, identity).map(
    sighting => unlistedRefusal(domain.name, sighting) ?? refuseUnreadable(domain.name, sighting),
  )
  return [...held, ...unreadable]
}

function refuseUnreadable(domain: string, { node, domain: { name: other, problem = 'it gave no XML' } }: Sighting) {
  return refuse('unreadable', { domain, other, node, problem })
}

/** A refusal when only a process shows what stands in the way: no virsh reaches it, so nothing can be done to it by one. */
export function unlistedRefusal(domain: string, { node, domain: seen }: Sighting): Refusal | undefined {
  const { name: other, unlistedPid: pid } = seen
  return pid === undefined ? undefined : refuse('unlisted', { domain, other, node, pid })
}

/** A refusal when this may be what is left of a domain that was started past its node: its memory is old, and it must not go on. */
export function leftOverRefusal(cluster: Cluster, { node, domain: { uuid, name } }: Sighting): Refusal | undefined {
  const passed = cluster.nodes.get(node)?.ledger.passed?.some(each => each.uuid === uuid)
  return passed === true ? refuse('copyLeft', { node, domains: [name] }) : undefined
}

/** One refusal for each node that answers, but not what it was asked beyond the list: a QEMU may run there unseen (rule 2). */
export function unaskedRefusals(cluster: Cluster): Refusal[] {
  return upNodes(cluster).flatMap(({ name: node, seen: { inquiryProblem: problem } }) =>
    problem === undefined ? [] : [refuse('probeFailed', { node, problem })],
  )
}

/** The definition of a domain, or why there is none to use. */
export function definitionOf(
  cluster: Cluster,
  name: string,
): { domain: Domain; path: string; sha256: string } | Refusal {
  const definition = cluster.definitions.get(name)
  if (definition === undefined) {
    const seen = sightingsOf(cluster, { name }).length > 0
    return seen ? refuse('noDefinition', { domain: name }) : unknownDomain(cluster, name)
  }
  const { domain, path, sha256 } = definition
  if (domain === undefined)
    return refuse('badDefinition', { domain: name, problem: definition.problem ?? `${path} cannot be read` })
  if (domain.name !== name) return refuse('nameMismatch', { domain: name, path, found: domain.name })
  return { domain, path, sha256 }
}

function unknownDomain(cluster: Cluster, name: string): Refusal {
  return refuse('unknownDomain', { domain: name, known: [...cluster.definitions.keys()].sort() })
}

/** The one node where the domain is active, or why that cannot be said. */
export function whereActive(cluster: Cluster, name: string): Sighting | Refusal {
  const identity = identityFor(cluster, name)
  const actives = presencesOf(cluster, identity).filter(({ domain }) => domain.active)
  // What runs may have another uuid than what is defined, and be twice by that one.
  const known = [identity, ...actives.map(({ domain }) => domain)]
  const twice = presentTwice(cluster).find(each => known.some(one => one.name === each.name || one.uuid === each.uuid))
  if (twice !== undefined)
    return refuse('presentTwice', { domain: name, nodes: twice.nodes, migrating: twice.migrating })
  // Asked for by one name, nothing is done to a domain that has another.
  const other = actives.find(({ domain }) => domain.name !== name)
  if (other !== undefined) {
    const { node, domain } = other
    return refuse('sameUuid', { domain: name, other: domain.name, node, uuid: domain.uuid })
  }
  const [active] = actives
  if (active !== undefined) return unlistedRefusal(name, active) ?? active
  const [silent] = [...silentRefusals(cluster), ...unaskedRefusals(cluster)]
  if (silent !== undefined) return silent
  const exists = cluster.definitions.has(name) || sightingsOf(cluster, identity).length > 0
  return exists ? refuse('notRunning', { domain: name }) : unknownDomain(cluster, name)
}

/** True when a value is a refusal and not what was asked for. */
export function isRefusal(value: object): value is Refusal {
  return 'reason' in value
}

/** Name and, when a definition or a sighting tells it, uuid. */
function identityFor(cluster: Cluster, name: string): { name: string; uuid?: string } {
  const defined = cluster.definitions.get(name)?.domain
  if (defined !== undefined && defined.name === name) return { name, uuid: defined.uuid }
  const seen = sightingsOf(cluster, { name })[0]
  return seen === undefined ? { name } : { name, uuid: seen.domain.uuid }
}

/** A refusal unless the domain is in one of the wanted states; an end of a migration, broken or not, is in none. */
export function wrongState({ node, domain }: Sighting, ...wanted: string[]): Refusal | undefined {
  if (isMigrationEnd(domain) || isPostCopy(domain)) {
    return refuse('wrongState', {
      domain: domain.name,
      node,
      state: 'paused for a migration',
      wanted: wanted.join(' or '),
    })
  }
  return wanted.includes(domain.state)
    ? undefined
    : refuse('wrongState', { domain: domain.name, node, state: domain.state, wanted: wanted.join(' or ') })
}

/** One line for each shut off definition of the domain on a node: harmless now, worth knowing. */
export function definedElsewhere(
  cluster: Cluster,
  identity: { name: string; uuid?: string },
  except: readonly string[],
): string[] {
  return sightingsOf(cluster, identity)
    .filter(({ node, domain }) => domain.persistent && !domain.active && !except.includes(node))
    .map(({ node, domain }) => `${domain.name} is also defined on ${node} (shut off); plain virsh could start it there`)
}

/** Each refusal once, although two checks may come to the same one. */
export function unique(refusals: readonly Refusal[]): Refusal[] {
  const texts = refusals.map(each => JSON.stringify(each))
  return refusals.filter((_, at) => texts.indexOf(texts[at] ?? '') === at)
}
