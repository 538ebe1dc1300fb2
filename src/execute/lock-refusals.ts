/** What a lock manager below libvirt refused, in our words: who holds which disk, or what is wrong on the node. */
import { sightingsOf } from '../core/cluster.ts'
import type { Domain } from '../core/domain.ts'
import { type LockRefusal, leasePaths, lockRefusalIn, MAX_LEASES } from '../core/lease.ts'
import { type LeaseFacts, type LeaseOfDisk, leasesOfDisks } from '../core/leases.ts'
import { type Refusal, refuse } from '../core/refusal.ts'
import { nodesOf, type Step } from '../core/step.ts'
import { leaseFacts } from '../lease-facts.ts'
import type { Work } from './work.ts'

/** The refusals behind what libvirt said when it failed; none where it was about something else. The leases are asked for only here. */
export async function lockRefusals({ parts }: Work, one: Step, said: string): Promise<Refusal[]> {
  const what = lockRefusalIn(said)
  const node = nodesOf(one).at(-1)
  if (what === undefined || node === undefined) return []
  const on = { domain: one.domain, node }
  if (what !== 'held') return [unable(on, what)]
  const facts = await leaseFacts(parts)
  const held = heldByOthers(facts, one, node)
  if (held.length === 0)
    return [refuse('leaseHeld', { ...on, disk: 'one of its disks', holder: 'a host that nobody here knows' })]
  return held.map(lease => refuse('leaseHeld', { ...on, disk: lease.path ?? lease.name, holder: holderOf(lease) }))
}

type On = { readonly domain: string; readonly node: string }

function unable(on: On, what: Exclude<LockRefusal, 'held'>): Refusal {
  const { node } = on
  const say = (problem: string, fix: string) => refuse('leaseUnable', { ...on, problem, fix })
  switch (what) {
    case 'notJoined':
      return say(
        `${node} has not joined the lockspace, so that it can take no lease (libvirt says "No space left on device")`,
        `ssh ${node} systemctl restart libvirtd, and see: havirt lease status`,
      )
    case 'noDaemon':
      return say(
        `sanlock does not run there`,
        `ssh ${node} systemctl start sanlock, then: ssh ${node} systemctl restart libvirtd`,
      )
    case 'noLockspace':
      return say(
        `virtlockd there is newer than libvirtd and knows no lockspace`,
        `ssh ${node} systemctl restart libvirtd`,
      )
    case 'damaged':
      return say(
        'the lease of one of its disks is damaged, and sanlock gives it to nobody',
        `havirt lease explain ${on.domain} says which, and what to do`,
      )
    case 'tooMany':
      return say(
        `it writes more than ${MAX_LEASES} disks, and sanlock gives a domain no more leases`,
        'join some of its disks, or use virtlockd',
      )
  }
}

/** Its disks, as it runs or is defined, whose leases others have. */
function heldByOthers(facts: LeaseFacts, one: Step, node: string): LeaseOfDisk[] {
  const paths = new Set(domainsOf(facts, one).flatMap(leasePaths))
  return leasesOfDisks(facts).filter(
    ({ path, standing, owner }) =>
      path !== undefined && paths.has(path) && ['held', 'doubt', 'dead'].includes(standing) && owner?.node !== node,
  )
}

function domainsOf({ cluster }: LeaseFacts, { domain, uuid }: Step): Domain[] {
  const shown = sightingsOf(cluster, { name: domain, uuid }).flatMap(each => each.domain.definition ?? [])
  const defined = cluster.definitions.get(domain)?.domain
  return defined === undefined ? shown : [...shown, defined]
}

function holderOf({ owner, standing }: LeaseOfDisk): string {
  if (owner === undefined) return 'somebody'
  const { domain, node, hostName, hostId } = owner
  const where = `${node ?? hostName}${hostId === 0 ? '' : ` (host id ${hostId})`}`
  const state = standing === 'held' ? '' : standing === 'doubt' ? ', which does not renew it now' : ', which is dead'
  return `${domain === undefined ? '' : `${domain} on `}${where}${state}`
}
