/** QEMUs that libvirt does not list, beside what it does. */
import type { DomainOnNode } from '../core/node.ts'
import { asDomain, type QemuProcess } from './qemu-process.ts'

/** What libvirt says is active. */
export function activeAmong(domains: readonly DomainOnNode[]): Set<string> {
  return new Set(domains.filter(({ active }) => active).map(({ uuid }) => uuid))
}

/** A stray takes the place of what libvirt shows as off under its uuid; beside what libvirt shows as running it is one more. */
export function withStrays(listed: readonly DomainOnNode[], strays: readonly QemuProcess[]): DomainOnNode[] {
  const active = activeAmong(listed)
  const replaced = new Set(strays.map(({ uuid }) => uuid).filter(uuid => !active.has(uuid)))
  const known = new Map(listed.map(domain => [domain.uuid, domain]))
  return [
    ...listed.filter(({ uuid }) => !replaced.has(uuid)),
    ...strays.map(stray => strayDomain(stray, replaced.has(stray.uuid) ? known.get(stray.uuid) : undefined)),
  ]
}

/** Its disks are those that it opened, not those of a definition that may have changed since. */
function strayDomain(stray: QemuProcess, off: DomainOnNode | undefined): DomainOnNode {
  const { pid, name, uuid, vcpus, memoryMiB, problem } = stray
  const definition = asDomain(stray)
  return {
    name,
    uuid,
    state: 'running',
    stateReason: 0,
    active: true,
    persistent: off?.persistent ?? false,
    autostart: off?.autostart ?? false,
    managedSave: off?.managedSave ?? false,
    snapshots: off?.snapshots ?? false,
    vcpus,
    memoryMiB,
    ...(definition === undefined ? { problem: problem ?? 'its disks are not known' } : { definition }),
    unlistedPid: pid,
  }
}
