/** Checks of the leases themselves: what runs has its own, none is damaged or forgotten, and every disk can have one. */
import { quote } from '../command.ts'
import { type LeaseManager, MAX_LEASES, type Uncovered, uncoverable } from '../lease.ts'
import { domainsWithDisks, leasesOfDisks, unprotected } from '../leases.ts'
import { overdue } from '../plan/lease-cleanup.ts'
import type { Check, Finding } from './facts.ts'
import { type Leased, ofLeases } from './lease-checks.ts'

/** A paused domain holds none, as it should be (rule 13). */
const bare = ofLeases('unprotected', 'what runs has its leases', ({ leases }) =>
  unprotected(leases)
    .filter(({ node, paused }) => !paused && leases.nodes.get(node)?.settings.manager !== '')
    .map(({ domain, node, paths }) => ({
      node,
      why: `${domain} runs on ${node} without a lease for ${paths.join(', ')}`,
      fix: `move it away and back: havirt domain migrate ${domain} --auto; or stop and start it`,
    })),
)

const damaged = ofLeases('lease-files', 'leases are whole', ({ leases }) =>
  leasesOfDisks(leases)
    .filter(({ standing }) => standing === 'damaged')
    .map(({ path, name }) => ({
      why: `the lease ${leases.folder}/${name}${path === undefined ? '' : ` of ${path}`} is damaged: nothing with that disk can start, and nobody can tell whether somebody has it`,
      fix: `havirt lease explain ${quote(path ?? name)}`,
    })),
)

/** How often cleaning up may be put off before it is told. */
const TIMES_LATE = 4
const MIB = 1024 * 1024

const cleanup = ofLeases('lease-cleanup', 'leases of disks that are gone are cleaned up', facts => {
  const { leases, cluster } = facts
  const files = isWhole(facts) ? overdue(leases, TIMES_LATE * cluster.config.lease.cleanupDays) : []
  if (files.length === 0) return []
  const mib = Math.ceil(files.reduce((sum, { bytes }) => sum + bytes, 0) / MIB)
  const what = files.length === 1 ? 'lease of a disk that is gone takes' : 'leases of disks that are gone take'
  return [{ why: `${files.length} ${what} ${mib} MiB in ${leases.folder}`, fix: 'havirt lease cleanup' }]
})

/** A node that was not heard may know disks that nobody else does. */
function isWhole({ leases, cluster }: Leased): boolean {
  return [...cluster.nodes.values()].every(({ name, seen }) => seen.state === 'up' && leases.nodes.has(name))
}

const uncovered = ofLeases('uncovered', 'every disk can have a lease', ({ cluster, manager }) =>
  domainsWithDisks(cluster).flatMap(({ domain, running }): Finding[] => {
    const disks = uncoverable(domain, manager)
    if (disks.length === 0) return []
    const list = disks.map(({ disk, why }) => `${disk} (${why})`).join(', ')
    return [
      {
        ...(running === undefined ? {} : { node: running }),
        why: `no lease covers ${list} of ${domain.name}: only havirt keeps it from being written twice`,
        fix: wayOut(disks, manager),
      },
    ]
  }),
)

function wayOut(disks: readonly Uncovered[], manager: LeaseManager): string {
  const tooMany = disks.some(({ why }) => why.includes(`${MAX_LEASES} leases`))
  if (manager === 'sanlock' && tooMany) return `give it at most ${MAX_LEASES} disks that it writes: it cannot start`
  return 'name the disk by a path, of a file or a device, if it can have one; else start that domain by havirt alone'
}

export const leaseDiskChecks: readonly Check[] = [bare, damaged, cleanup, uncovered]
