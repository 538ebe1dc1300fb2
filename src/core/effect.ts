/** What a step is meant to change: the cluster after it, if all goes well. The checker and the simulator believe this, nobody else. */
import type { Cluster } from './cluster.ts'
import type { DomainOnNode, Node } from './node.ts'
import type { Step } from './step.ts'

/** The cluster as it is meant to be after the step. Never a record of what happened. */
export function applyStep(cluster: Cluster, one: Step): Cluster {
  switch (one.step) {
    case 'createDomain':
      return withDomain(cluster, one.node, one.uuid, before => started(cluster, one.domain, one.uuid, before))
    case 'destroyDomain':
    case 'destroyCopy':
    case 'awaitShutOff':
      return withDomain(cluster, one.node, one.uuid, ended)
    case 'suspendDomain':
      return withDomain(cluster, one.node, one.uuid, before => before && { ...before, state: 'paused', stateReason: 1 })
    case 'resumeDomain':
      return withDomain(
        cluster,
        one.node,
        one.uuid,
        before => before && { ...before, state: 'running', stateReason: 0 },
      )
    case 'disableAutostart':
      return withDomain(cluster, one.node, one.uuid, before => before && { ...before, autostart: false })
    case 'migrateDomain':
      return migrated(cluster, one)
    case 'abortMigration':
      return withDomain(cluster, one.to, one.uuid, ended)
    case 'undefineDomain':
      return withDomain(cluster, one.node, one.uuid, before =>
        before?.active ? { ...before, persistent: false } : undefined,
      )
    case 'recordIntent':
      return { ...cluster, records: new Map(cluster.records).set(one.domain, { manual: one.manual }) }
    // Asking a guest is no proof that it did anything, and the rest changes no presence.
    case 'shutdownDomain':
    case 'rebootDomain':
    case 'resetDomain':
    case 'setMaxDowntime':
    case 'saveDefinition':
    case 'awaitHostDead':
    case 'acquitCopy':
      return cluster
  }
}

function started(cluster: Cluster, name: string, uuid: string, before: DomainOnNode | undefined): DomainOnNode {
  const definition = cluster.definitions.get(name)?.domain
  return {
    name,
    uuid,
    state: 'running',
    stateReason: 1,
    active: true,
    persistent: before?.persistent ?? false,
    autostart: before?.autostart ?? false,
    managedSave: before?.managedSave ?? false,
    snapshots: before?.snapshots ?? false,
    vcpus: definition?.vcpus ?? 0,
    memoryMiB: definition?.memoryMiB ?? 0,
    ...(definition === undefined ? {} : { definition }),
  }
}

function ended(before: DomainOnNode | undefined): DomainOnNode | undefined {
  return before?.persistent ? { ...before, active: false, state: 'shutoff', stateReason: 1 } : undefined
}

function migrated(cluster: Cluster, { uuid, from, to, options }: Extract<Step, { step: 'migrateDomain' }>): Cluster {
  const moving = domainOn(cluster, from, uuid)
  if (moving === undefined) return cluster
  const gone = withDomain(cluster, from, uuid, before => (options.persistent ? undefined : ended(before)))
  return withDomain(gone, to, uuid, before => ({
    ...moving,
    persistent: options.persistent || (before?.persistent ?? false),
  }))
}

function domainOn(cluster: Cluster, node: string, uuid: string): DomainOnNode | undefined {
  const seen = cluster.nodes.get(node)?.seen
  return seen?.state === 'up' ? seen.domains.find(domain => domain.uuid === uuid) : undefined
}

/** The cluster with one domain of one node replaced, added, or (undefined) removed. A silent node stays as it is. */
function withDomain(
  cluster: Cluster,
  nodeName: string,
  uuid: string,
  change: (before: DomainOnNode | undefined) => DomainOnNode | undefined,
): Cluster {
  const node = cluster.nodes.get(nodeName)
  if (node?.seen.state !== 'up') return cluster
  const after = change(node.seen.domains.find(domain => domain.uuid === uuid))
  const others = node.seen.domains.filter(domain => domain.uuid !== uuid)
  const changed: Node = { ...node, seen: { ...node.seen, domains: after === undefined ? others : [...others, after] } }
  return { ...cluster, nodes: new Map(cluster.nodes).set(nodeName, changed) }
}
