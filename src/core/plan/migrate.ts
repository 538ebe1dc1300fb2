/** Plans a live migration: running once, a target that can host it, shared disks, nothing that stays behind. */
import { type Cluster, type Sighting, sightingsOf } from '../cluster.ts'
import type { Domain } from '../domain.ts'
import type { Node, UpNode } from '../node.ts'
import { objections, type RulesWaived, staysBehind, unsharedDisks } from '../placement.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { type MigrateOptions, type Step, step } from '../step.ts'
import {
  already,
  definedElsewhere,
  isRefusal,
  leftOverRefusal,
  type Plan,
  refused,
  steps,
  unique,
  whereActive,
  wrongState,
} from './plan.ts'

export interface MigrateRequest {
  readonly domain: string
  readonly node: string
  readonly options: Omit<MigrateOptions, 'persistent' | 'desturi'>
  /** What of the rules does not count. */
  readonly waived?: RulesWaived
}

/** The migration of `request.domain` to `request.node`, or every reason against it at once. */
export function planMigrate(cluster: Cluster, request: MigrateRequest): Plan {
  const target = cluster.nodes.get(request.node)
  if (target === undefined)
    return refused(refuse('unknownNode', { node: request.node, known: [...cluster.nodes.keys()] }))
  const where = whereActive(cluster, request.domain)
  if (isRefusal(where)) return refused(where)
  if (where.node === request.node)
    return already(refuse('alreadyThere', { domain: where.domain.name, node: where.node }))
  const domain = where.domain.definition
  if (domain === undefined) {
    return refused(
      refuse('badDefinition', {
        domain: request.domain,
        problem: where.domain.problem ?? `${where.node} gave no XML of ${request.domain}`,
      }),
    )
  }
  const refusals = [
    ...[leftOverRefusal(cluster, where), wrongState(where, 'running')].filter(each => each !== undefined),
    ...objectionsToMove(cluster, where, domain, target, request.options.unsafe, (...about) =>
      objections(...about, request.waived),
    ),
  ]
  if (refusals.length > 0) return refused(...unique(refusals))
  return steps(migrationSteps(cluster, where, request), definedElsewhere(cluster, domain, [where.node, request.node]))
}

/**
 * Every reason why a domain cannot move to this node from where it is; empty when it can. `unsafe`: disks need not be seen to be
 * shared. `against`: what stands against the node itself; with {@link obstacles} its room and rules do not count.
 */
export function objectionsToMove(
  cluster: Cluster,
  where: Sighting,
  domain: Domain,
  target: Node,
  unsafe = false,
  against: (cluster: Cluster, domain: Domain, node: Node) => Refusal[] = objections,
): Refusal[] {
  const { seen } = target
  return [
    ...otherClaims(cluster, domain, target.name),
    ...against(cluster, domain, target),
    ...(seen.state === 'up' ? cannotFollow(cluster, domain, where, { name: target.name, seen }, unsafe) : []),
  ]
}

/** A saved image or an autostart definition on the target would make it run a second time, later. */
function otherClaims(cluster: Cluster, domain: Domain, target: string): Refusal[] {
  const runsOn = sightingsOf(cluster, domain).find(each => each.domain.active)?.node
  return sightingsOf(cluster, domain)
    .filter(({ node, domain: seen }) => node === target && !seen.active)
    .flatMap(({ node, domain: seen }) => [
      ...(seen.managedSave
        ? [refuse('managedSave', { domain: seen.name, node, ...(runsOn === undefined ? {} : { runsOn }) })]
        : []),
      ...(seen.autostart ? [refuse('autostart', { domain: seen.name, node })] : []),
    ])
}

function cannotFollow(
  cluster: Cluster,
  domain: Domain,
  where: Sighting,
  { name, seen: to }: { name: string; seen: UpNode },
  unsafe: boolean,
): Refusal[] {
  const from = cluster.nodes.get(where.node)?.seen
  if (from?.state !== 'up') return []
  return [
    ...(unsafe ? [] : unsharedDisks(domain, from, to)),
    ...staysBehind(domain, where.node, from, to),
    ...differentHostCpu(domain, from, to, name),
    ...leasesLost(domain, where.node, from, name, to),
  ]
}

/** From a node that takes no leases to one that does, a domain gets them: that is how a cluster comes to have them. */
function leasesLost(domain: Domain, source: string, from: UpNode, node: string, to: UpNode): Refusal[] {
  const [has, other] = [from.lockManager ?? '', to.lockManager ?? '']
  if (has === '' || has === other) return []
  return [refuse('lockManagers', { domain: domain.name, from: source, has, node, other })]
}

/** host-passthrough shows the guest the host's own CPU: only the same one can take it over. */
function differentHostCpu(domain: Domain, from: UpNode, to: UpNode, node: string): Refusal[] {
  if (domain.cpu?.mode !== 'host-passthrough' || from.hostCpu === to.hostCpu) return []
  return [refuse('cpuModel', { domain: domain.name, node, model: 'host-passthrough' })]
}

function migrationSteps(cluster: Cluster, { node, domain }: Sighting, request: MigrateRequest): Step[] {
  const on = { domain: domain.name, uuid: domain.uuid }
  const options: MigrateOptions = {
    ...request.options,
    desturi: destinationUri(cluster, request.node),
    persistent: domain.persistent,
  }
  const { maxDowntimeMs } = options
  return [
    // libvirt does not take the setting along, and a definition that a break leaves behind must not wake up with its node.
    ...(domain.autostart ? [step('disableAutostart', { ...on, node })] : []),
    ...(maxDowntimeMs === undefined ? [] : [step('setMaxDowntime', { ...on, node, downtimeMs: maxDowntimeMs })]),
    step('migrateDomain', { ...on, from: node, to: request.node, options }),
  ]
}

/** The target's libvirt as the source's libvirtd reaches it: by root's ssh, with the alias that all nodes have. */
function destinationUri(cluster: Cluster, node: string): string {
  const [driver, rest] = cluster.config.libvirt.uri.split(':///')
  return `${driver}+ssh://${node}/${rest}`
}
