/** `lease explain`: whose the lease of a disk is, whether that host is alive, when it can be taken, and what to do. */
import { DEFAULT_IO_TIMEOUT_SECONDS, deadAfterSeconds, type Sanlock, uncoverable } from '../core/lease.ts'
import {
  domainsWithDisks,
  type LeaseFacts,
  type LeaseOfDisk,
  leasesOfDisks,
  managerOf,
  type Owner,
  stateOfHost,
} from '../core/leases.ts'
import { leaseFacts } from '../lease-facts.ts'
import type { Parts } from '../operate.ts'
import { exitStatus, failure, type Message, note, type Report, silentWarnings, warning } from '../report.ts'
import { diskTable } from './lease-status.ts'
import { type Input, requiredWord } from './operation.ts'

export async function explainLease(parts: Parts, input: Input): Promise<Report> {
  const asked = requiredWord(input, 'DISK')
  const facts = await leaseFacts(parts)
  const manager = managerOf(facts.nodes)
  if (manager === undefined)
    return {
      exit: exitStatus.done,
      messages: [
        ...silentWarnings(facts.cluster),
        note('no node that answers has a lock manager, so no disk has a lease'),
      ],
    }
  const found = matching(facts, asked)
  const uncovered = domainsWithDisks(facts.cluster)
    .filter(({ domain }) => domain.name === asked)
    .flatMap(({ domain }) => uncoverable(domain, manager))
  if (found.length === 0 && uncovered.length === 0)
    return {
      exit: exitStatus.failed,
      messages: [failure(`no disk, domain or lease is called '${asked}'`, 'havirt lease list shows them all')],
    }
  return {
    exit: exitStatus.done,
    table: diskTable(facts, found, true),
    messages: [
      ...silentWarnings(facts.cluster),
      ...uncovered.map(({ disk, why }) => warning(`${disk} of ${asked} has no lease: ${why}`)),
      ...found.flatMap(lease => explain(facts, lease)),
    ],
  }
}

/** A path, the name of a lease's file, or a domain, for all its disks. */
function matching(facts: LeaseFacts, asked: string): LeaseOfDisk[] {
  const all = leasesOfDisks(facts)
  const exact = all.filter(({ path, name }) => path === asked || name === asked)
  return exact.length > 0 ? exact : all.filter(({ domains }) => domains.includes(asked))
}

function explain(facts: LeaseFacts, lease: LeaseOfDisk): Message[] {
  const { standing, owner, path, name } = lease
  const what = path ?? `the lease ${name}`
  switch (standing) {
    case 'held':
      return [held(facts, lease, what)]
    case 'doubt':
      return [inDoubt(facts, owner, what)]
    case 'dead':
      return [
        note(
          `${what} was held by ${nameOf(owner)}, which sanlock counts as dead: whoever starts its domain next gets the lease`,
        ),
      ]
    case 'old':
      return [note(`${what} is free: ${nameOf(owner)} held it, and has left or started anew since`)]
    case 'free':
      return [
        note(
          `${what} is free${owner === undefined ? '' : `; ${nameOf(owner)} had it last`}. That is no proof that nobody has the disk: a paused domain holds no lease`,
        ),
      ]
    case 'none':
      return [note(`${what} has no lease yet: libvirt makes it when its domain first starts`)]
    case 'damaged':
      return [
        warning(
          `the lease of ${what} is damaged (${facts.folder}/${name}): nobody can tell whether somebody has it, and sanlock gives it to nobody`,
          `see on every node that ${usersText(lease)} runs nowhere, also not paused; then remove the file by hand, and libvirt makes it anew: rm ${facts.folder}/${name}`,
        ),
      ]
  }
}

function held({ cluster }: LeaseFacts, { owner, domains }: LeaseOfDisk, what: string): Message {
  const by = owner?.domain ?? domains.join(', ')
  const where = owner?.node === undefined ? nameOf(owner) : `${owner.node}${hostText(owner)}`
  const node = owner?.node === undefined ? undefined : cluster.nodes.get(owner.node)
  if (node !== undefined && node.seen.state !== 'up')
    return warning(
      `${what} is held by ${where}, which does not answer havirt and is alive: it renews its leases`,
      `mend the way to it (network, ssh, libvirtd); nothing takes the lease from it while it lives`,
    )
  return note(
    `${what} is held by ${by === '' ? 'a process' : by} on ${where}, which is alive; stop or move it there to have the disk elsewhere`,
  )
}

function inDoubt(facts: LeaseFacts, owner: Owner | undefined, what: string): Message {
  const left = owner === undefined ? undefined : secondsLeft(facts, owner.hostId)
  const state = owner === undefined ? 'unknown' : stateOfHost(facts.nodes, owner.hostId)
  const when =
    left === undefined
      ? 'once a node that has joined the lockspace has watched it for long enough'
      : left <= 0
        ? 'any moment now'
        : `in ${left} s at the latest, unless it renews`
  return warning(
    `${what} is held by ${nameOf(owner)}, which ${state === 'fail' ? 'does not renew its leases any more' : 'nobody has seen renew since'}: it counts as dead ${when}`,
    'wait, and look again; a start before that would block libvirt on its node until then',
  )
}

/** By the sanlock that saw it alive last: on its own clock, so that no two clocks are compared. */
function secondsLeft({ nodes, hosts }: LeaseFacts, hostId: number): number | undefined {
  const ioTimeout = hosts.get(hostId)?.ioTimeoutSeconds || DEFAULT_IO_TIMEOUT_SECONDS
  const ages = [...nodes.values()].flatMap(({ sanlock }) =>
    sanlock === undefined ? [] : (ageOf(sanlock, hostId) ?? []),
  )
  return ages.length === 0 ? undefined : deadAfterSeconds(ioTimeout) - Math.min(...ages)
}

function ageOf({ hosts, nowSeconds }: Sanlock, hostId: number): number | undefined {
  const alive = hosts.get(hostId)?.aliveSeconds ?? 0
  return alive === 0 ? undefined : nowSeconds - alive
}

function nameOf(owner: Owner | undefined): string {
  if (owner === undefined) return 'nobody known'
  return `${owner.node ?? (owner.hostName === '' ? 'a machine' : owner.hostName)}${hostText(owner)}`
}

function hostText({ hostId, generation }: Owner): string {
  return hostId === 0 ? '' : ` (host id ${hostId}, generation ${generation})`
}

function usersText({ domains, path }: LeaseOfDisk): string {
  return domains.length === 0 ? `what uses ${path ?? 'the disk'}` : domains.join(', ')
}
