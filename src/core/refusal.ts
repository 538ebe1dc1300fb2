/**
 * The closed list of reasons to say no. A refusal is a value, not an exception: it is a correct answer.
 * Each has one sentence that says what stands in the way, and one that says what to do next.
 */
import type { SilentNode } from './node.ts'

/** Reason -> what its sentence needs, none of it called `reason`. The compiler names every place to extend. */
export interface RefusalFacts {
  unknownNode: { node: string; known: readonly string[] }
  unknownDomain: { domain: string; known: readonly string[] }
  noDefinition: { domain: string }
  badDefinition: { domain: string; problem: string }
  nameMismatch: { domain: string; path: string; found: string }
  present: { domain: string; node: string; state: string }
  sameUuid: { domain: string; other: string; node: string; uuid: string }
  otherDefinition: { domain: string; node: string; other: string; uuid: string }
  diskHeld: { domain: string; disk: string; holder: string; node: string }
  unreadable: { domain: string; other: string; node: string; problem: string }
  unlisted: { domain: string; other: string; node: string; pid: number }
  presentTwice: { domain: string; nodes: readonly string[]; migrating: boolean }
  changing: { domain: string }
  unreachable: { node: string; state: 'unreachable' | 'busy'; problem: string; hint: string }
  autostart: { domain: string; node: string }
  autostartLater: { domain: string; node: string; how: 'fence' | 'word' }
  managedSave: { domain: string; node: string; runsOn?: string }
  snapshots: { domain: string; node: string }
  notRunning: { domain: string }
  alreadyOff: { domain: string }
  wrongState: { domain: string; node: string; state: string; wanted: string }
  alreadyThere: { domain: string; node: string }
  notHere: Record<never, never>
  memory: { domain: string; node: string; neededMiB: number; freeMiB: number; reserved: readonly string[] }
  vcpus: { domain: string; node: string; needed: number; free: number; reserved: readonly string[] }
  maintenance: { node: string; by: string; since: string }
  returned: { node: string; by: string; since: string }
  validation: { node: string; checks: readonly string[]; since: string }
  fenceLapsed: { node: string; said: string }
  migrating: { domain: string; from: string; to: string; percent: number | undefined }
  diskMissing: { domain: string; node: string; path: string }
  poolMissing: { domain: string; node: string; pool: string }
  networkMissing: { domain: string; node: string; network: string }
  bridgeMissing: { domain: string; node: string; bridge: string }
  cpuModel: { domain: string; node: string; model: string }
  cpuUnknown: { domain: string; node: string; problem: string }
  diskNotShared: { domain: string; path: string; why: string }
  nodeBound: { domain: string; kind: 'nvram' | 'tpm' | 'hostdev'; what: string; node: string }
  hugePages: { domain: string; node: string }
  planStale: { changes: readonly string[] }
  rule: { domain: string; node: string; rule: string; why: string }
  probeFailed: { node: string; problem: string }
  claimed: { domain: string; owner: string; since: string; verb: string }
  inDoubt: { domain: string; other: string; node: string; command: string }
  notPersistent: { domain: string; node: string }
  nodeNotEmpty: { node: string; domains: readonly string[] }
  nobodyFits: { domain: string }
  noRoom: { domain: string; node: string; neededMiB: number; vcpus: number }
  cannotLeave: { node: string; domains: readonly string[] }
  noWayBack: { domain: string; node: string }
  nodeIdentity: { node: string; problem: string }
  nodeAnswers: { node: string; state: 'up' | 'busy' }
  nodeReached: { node: string; by: string; said: string }
  noFenceDevice: { node: string }
  notOff: { node: string; problem: string }
  leaseGround: { node: string; problem: string; fix: string }
  leaseMixed: { node: string; manager: string; wanted: string }
  leasesInUse: { node: string; domains: readonly string[]; change: string }
  lockManagers: { domain: string; from: string; has: string; node: string; other: string }
  hostIdTaken: { node: string; hostId: number; by: string }
  notPassable: { domain: string; node: string; why: string }
  leaseHeld: { domain: string; node: string; disk: string; holder: string }
  leaseUnable: { domain: string; node: string; problem: string; fix: string }
  leftUnknown: { domain: string; node: string; why: string }
  copyLeft: { node: string; domains: readonly string[] }
}

export type RefusalReason = keyof RefusalFacts
/** One refusal: the reason, and its facts. */
export type Refusal = { [R in RefusalReason]: { readonly reason: R } & Readonly<RefusalFacts[R]> }[RefusalReason]

/** What a person reads: `why` says what stands in the way, `next` what to do. */
export interface RefusalText {
  readonly why: string
  readonly next: string
}

type Texts = { [R in RefusalReason]: (facts: RefusalFacts[R]) => RefusalText }

/** Builds a refusal; the compiler checks that its facts are those of its reason. */
export function refuse<R extends RefusalReason>(reason: R, facts: RefusalFacts[R]): Refusal {
  return { reason, ...facts } as unknown as Refusal
}

/** The refusal because of a node that was not heard (rule 2). */
export function refuseSilent(node: string, { state, reason, hint }: SilentNode): Refusal {
  return refuse('unreachable', { node, state, problem: reason, hint })
}

/** The two sentences of a refusal. */
export function describeRefusal(refusal: Refusal): RefusalText {
  const describe = texts[refusal.reason] as (facts: Refusal) => RefusalText
  return describe(refusal)
}

/** What is said of a QEMU that libvirt does not list. */
export function unlistedWords(domain: string, node: string, pid: number): string {
  return `${domain} runs on ${node} as process ${pid}, which libvirt there does not list`
}

/** libvirtd finds its own QEMUs again when it starts; one that it does not find has nobody who could shut it down. */
export function unlistedFix(node: string, pid: number): string {
  return `restart libvirtd there and look again: ssh ${node} systemctl restart libvirtd; if it stays so, end it from within, or: ssh ${node} kill ${pid}`
}

/** What to do with a saved image. What runs somewhere else must never be restored from it: it would run twice. */
export function savedFix(domain: string, node: string, runsOn: string | undefined): string {
  const discard = `discard it by name (virsh managedsave-remove ${domain} on ${node})`
  return runsOn === undefined
    ? `if ${domain} runs nowhere, restore it there (virsh start ${domain} on ${node}), or else ${discard}`
    : `${domain} runs on ${runsOn}: ${discard}`
}

const texts: Texts = {
  unknownNode: ({ node, known }) => ({
    why: `there is no node '${node}' in this cluster`,
    next:
      known.length > 0
        ? `known nodes: ${known.join(', ')}; add one with: havirt node update ${node}`
        : `add it with: havirt node update ${node}`,
  }),
  unknownDomain: ({ domain, known }) => ({
    why: `there is no domain '${domain}': no definition in conf/, and no node shows it`,
    next:
      known.length > 0
        ? `known domains: ${known.join(', ')}`
        : 'put its XML into conf/, or run: havirt domain update RUNNING',
  }),
  noDefinition: ({ domain }) => ({
    why: `there is no definition conf/${domain}.xml`,
    next: `fetch it from the node that has the domain: havirt domain update ${domain}`,
  }),
  badDefinition: ({ problem }) => ({
    why: problem,
    next: 'mend the file; havirt leaves what it cannot read alone',
  }),
  nameMismatch: ({ domain, path, found }) => ({
    why: `${path} defines the domain '${found}', expected '${domain}'`,
    next: `rename the file to conf/${found}.xml, or correct <name>`,
  }),
  present: ({ domain, node, state }) => ({
    why: `${domain} is present on ${node} (${state})`,
    next: `stop it there first: havirt domain stop ${domain}, or move it: havirt domain migrate ${domain} NODE`,
  }),
  sameUuid: ({ domain, other, node, uuid }) => ({
    why: `the domain ${other} on ${node} has the uuid of ${domain} (${uuid})`,
    next: `two names for one uuid are one domain to libvirt: stop ${other}, or give ${domain} a uuid of its own`,
  }),
  otherDefinition: ({ domain, node, other, uuid }) => ({
    why: `${node} defines ${other} with the uuid ${uuid}: libvirt there takes no ${domain} beside it`,
    next: `ssh ${node} virsh undefine ${other} --keep-nvram, or give one of the two a name and a uuid of its own`,
  }),
  diskHeld: ({ domain, disk, holder, node }) => ({
    why: `${holder}, present on ${node}, holds the disk ${disk} of ${domain}`,
    next: `stop ${holder} first; if both may really write it, mark the disk <shareable/> in both definitions`,
  }),
  unreadable: ({ domain, other, node, problem }) => ({
    why: `${other}, present on ${node}, cannot be read and may hold a disk of ${domain}: ${problem}`,
    next: `look at it by hand: virsh -c qemu+ssh://${node}/system dumpxml ${other}; stop it, or try again when it can be read`,
  }),
  unlisted: ({ domain, other, node, pid }) => ({
    why: `${unlistedWords(other, node, pid)}${domain === other ? '' : ` and may be ${domain} or hold a disk of it`}`,
    next: unlistedFix(node, pid),
  }),
  presentTwice: ({ domain, nodes, migrating }) => ({
    why: migrating
      ? `${domain} is on ${nodes.join(' and ')}: a migration is under way, or one broke`
      : `${domain} is present on ${nodes.join(' and ')} at once`,
    next: migrating
      ? `wait for it to end; if nobody moves it, look at each by hand before anything is done: virsh domstate ${domain} --reason`
      : 'havirt touches neither: find out which copy is the right one, and destroy the other by hand with virsh',
  }),
  changing: ({ domain }) => ({
    why: `${domain} kept changing while it was looked for`,
    next: 'somebody is starting, stopping or moving it now: try again in a moment',
  }),
  unreachable: ({ node, state, problem, hint }) => ({
    why: `${node} is ${state} and may be running anything: ${problem}`,
    next:
      state === 'busy' ? hint : `${hint}; if it is off: havirt node fence ${node}, or havirt node confirm-down ${node}`,
  }),
  autostartLater: ({ domain, node, how }) => ({
    why: `${domain} was set to autostart on ${node} when it was last seen, and would start there by itself as soon as ${node} has power`,
    next: `see that ${node} cannot boot unattended (pull its power or its network), then say so: havirt node ${how === 'fence' ? 'fence' : 'confirm-down'} ${node} --despite-autostart`,
  }),
  autostart: ({ domain, node }) => ({
    why: `${domain} is set to autostart on ${node} and would start there by itself`,
    next: `turn that off: virsh -c qemu+ssh://${node}/system autostart --disable ${domain}, or take it over: havirt domain adopt ${domain}`,
  }),
  managedSave: ({ domain, node, runsOn }) => ({
    why: `${node} holds a saved image of ${domain}; started elsewhere, it would come back with old memory on a changed disk`,
    next: savedFix(domain, node, runsOn),
  }),
  snapshots: ({ domain, node }) => ({
    why: `${domain} has snapshots on ${node}, which undefining it would lose`,
    next: `delete them there first: virsh snapshot-list ${domain}, virsh snapshot-delete`,
  }),
  notRunning: ({ domain }) => ({
    why: `${domain} does not run on any node`,
    next: `start it: havirt domain start ${domain}`,
  }),
  wrongState: ({ domain, node, state, wanted }) => ({
    why: `${domain} is ${state} on ${node}, expected ${wanted}`,
    next: `look again: havirt domain list ${domain}`,
  }),
  alreadyOff: ({ domain }) => ({
    why: `${domain} does not run on any node`,
    next: 'it is off already; --ensure accepts that',
  }),
  alreadyThere: ({ domain, node }) => ({
    why: `${domain} already runs on ${node}`,
    next: 'name another node, or add --ensure to accept it',
  }),
  notHere: () => ({
    why: 'this machine is not a node of the cluster, so no node is the default',
    next: 'name the node, or use --auto',
  }),
  memory: ({ domain, node, neededMiB, freeMiB, reserved }) => ({
    why: `${domain} needs ${neededMiB} MiB, and ${node} has ${freeMiB} MiB left for domains${reservedText(reserved)}`,
    next: 'choose another node (--auto finds one), move something away, or change node.memoryRatio or node.reservedMemoryMiB',
  }),
  vcpus: ({ domain, node, needed, free, reserved }) => ({
    why: `${domain} needs ${needed} vCPUs, and ${node} has ${free} left${reservedText(reserved)}`,
    next: 'choose another node (--auto finds one), or raise node.vcpuRatio in config.yaml',
  }),
  maintenance: ({ node, by, since }) => ({
    why: `${node} is in maintenance since ${since}, by ${by}`,
    next: `choose another node, or end it: havirt node maintenanceoff ${node}`,
  }),
  returned: ({ node, by, since }) => ({
    why: `${node} answers again, but ${by} confirmed it down at ${since} and what runs there now runs elsewhere, too`,
    next: `look at it: havirt node scan; once nothing runs twice, ${node} can be used again`,
  }),
  validation: ({ node, checks, since }) => ({
    why: `${node} failed at ${since} what validate.required asks for: ${checks.join(', ')}`,
    next: `mend it (havirt cluster validate says how), then let that look again`,
  }),
  fenceLapsed: ({ node, said }) => ({
    why: `${node} was fenced, but its fence device does not say off any more: ${said}`,
    next: `it counts as unknown again: fence it anew with havirt node fence ${node}, or wait until it answers`,
  }),
  migrating: ({ domain, from, to, percent }) => ({
    why: `${domain} is still moving from ${from} to ${to}${percent === undefined ? '' : ` (${percent} %)`}, although whoever began it is gone`,
    next: `wait for its end (--wait SECONDS does), or end it with: havirt domain stop ${domain}`,
  }),
  diskMissing: ({ domain, node, path }) => ({
    why: `the disk ${path} of ${domain} does not exist on ${node}`,
    next: `mount or log in to its storage on ${node}, and check the path`,
  }),
  poolMissing: ({ domain, node, pool }) => ({
    why: `the storage pool '${pool}' of ${domain} is not active on ${node}`,
    next: `on ${node}: virsh pool-start ${pool}`,
  }),
  networkMissing: ({ domain, node, network }) => ({
    why: `the network '${network}' of ${domain} is not active on ${node}`,
    next: `on ${node}: virsh net-start ${network}`,
  }),
  bridgeMissing: ({ domain, node, bridge }) => ({
    why: `the bridge or device '${bridge}' of ${domain} does not exist on ${node}`,
    next: `create it on ${node}, or choose another node`,
  }),
  cpuModel: ({ domain, node, model }) => ({
    why: `${node} cannot run the CPU of ${domain} (${model}), by libvirt's own comparison`,
    next: 'choose another node, or give the domain a CPU model that all nodes have',
  }),
  cpuUnknown: ({ domain, node, problem }) => ({
    why: `libvirt on ${node} could not compare the CPU of ${domain}: ${problem}`,
    next: `check the <cpu> element of conf/${domain}.xml`,
  }),
  diskNotShared: ({ domain, path, why }) => ({
    why: `the disk ${path} of ${domain} is not shared: ${why}`,
    next: 'put it on shared storage; --unsafe overrules this when you know that it is shared',
  }),
  nodeBound: ({ domain, kind, what, node }) => ({
    why: `${domain} has ${NODE_BOUND[kind]} (${what}), which would stay behind on ${node}`,
    next:
      kind === 'hostdev'
        ? 'detach the device first'
        : 'put that file on shared storage, or stop the domain and copy it',
  }),
  hugePages: ({ domain, node }) => ({
    why: `${domain} needs huge pages or NUMA cells of ${node}, which havirt does not place yet`,
    next: `start it by hand on ${node}, or take <memoryBacking> and <numatune> out of its definition`,
  }),
  planStale: ({ changes }) => ({
    why: `the cluster is not as it was when the plan was made: ${changes.join('; ')}`,
    next: 'make a new one: havirt cluster balance -o json > FILE',
  }),
  rule: ({ domain, node, rule, why }) => ({
    why: `${domain} on ${node} would break the rule '${rule}': ${why}`,
    next: 'choose another node, change the rule (havirt rule list), or overrule it with --despite-rules',
  }),
  probeFailed: ({ node, problem }) => ({
    why: `${node} could not be asked for disks, bridges and processes: ${problem}`,
    next: `try by hand: ssh ${node} true`,
  }),
  claimed: ({ domain, owner, since, verb }) => ({
    why: `${domain} is claimed by ${owner} since ${since} (${verb})`,
    next: `it gives signs of life: wait for its end (--wait SECONDS does); all claims: havirt claim list`,
  }),
  inDoubt: ({ domain, other, node, command }) => ({
    why: `a command for ${other}, which shares its name or a disk with ${domain}, may still be carried out on ${node}: ${command}`,
    next: `find out what became of it: havirt claim takeover ${other}`,
  }),
  notPersistent: ({ domain, node }) => ({
    why: `${domain} is not defined on ${node}, so there is nothing to adopt`,
    next: `fetch its definition: havirt domain update ${domain}`,
  }),
  nodeNotEmpty: ({ node, domains }) => ({
    why: `${node} has domains: ${domains.join(', ')}`,
    next: 'move or stop them first',
  }),
  nobodyFits: ({ domain }) => ({ why: `no node can take ${domain}`, next: 'the reasons, node by node, are above' }),
  noRoom: ({ domain, node, neededMiB, vcpus }) => ({
    why: `${domain} (${neededMiB} MiB, ${vcpus} vCPUs) cannot leave ${node}: no other node has room for it, even if others moved`,
    next: `stop something, add a node, or look what keeps nodes from taking it: havirt domain where ${domain}`,
  }),
  cannotLeave: ({ node, domains }) => ({
    why: `${node} would not be empty, and nothing was done: ${domains.join(', ')} cannot be moved while running`,
    next: `choose: --shutdown shuts ${domains.length === 1 ? 'it' : 'them'} down, --skip leaves ${domains.length === 1 ? 'it' : 'them'} running there`,
  }),
  noWayBack: ({ domain, node }) => ({
    why: `${domain} stays on ${node}: where it was there is no room for it now`,
    next: 'make room there, then do this again',
  }),
  nodeIdentity: ({ node, problem }) => ({
    why: `${node} is not who it was: ${problem}`,
    next: 'check where the alias leads; if the machine was replaced: havirt node remove, then node update',
  }),
  nodeAnswers: ({ node, state }) => ({
    why: `${node} is ${state}: it answers, so it is not down`,
    next:
      state === 'up'
        ? `see what runs there: havirt node scan ${node}; to start nothing more there: havirt node maintenanceon ${node}`
        : `look on ${node} for a hung domain or storage; if it cannot be mended, cut its power by hand, then try again`,
  }),
  nodeReached: ({ node, by, said }) => ({
    why: `${node} is not down: tried from ${by}, ${said}`,
    next: `mend the way to it (network, ssh, libvirtd), or cut its power by hand, then try again`,
  }),
  noFenceDevice: ({ node }) => ({
    why: `config.yaml names no fence device for ${node}`,
    next: `add one to fence.devices (config.sample.yaml shows how), or cut its power by hand and say so: havirt node confirm-down ${node}`,
  }),
  notOff: ({ node, problem }) => ({
    why: `the fence device of ${node} does not say that it is off: ${problem}`,
    next: `look at the machine; fence it again: havirt node fence ${node}, or take the confirmation back: havirt node confirm-down --cancel ${node}`,
  }),
  leaseGround: ({ problem, fix }) => ({ why: problem, next: fix }),
  leaseMixed: ({ node, manager, wanted }) => ({
    why: `${node} uses ${manager}: libvirt does not notice when source and target of a migration have different lock managers, and neither keeps the other from a disk`,
    next: `havirt lease disable ${node}, and then havirt lease enable ${wanted} for all nodes`,
  }),
  leasesInUse: ({ node, domains, change }) => ({
    why: `${domains.join(', ')} on ${node} ${domains.length === 1 ? 'holds' : 'hold'} leases now, and would hold none of the new ones: ${change}`,
    next: `empty the node first: havirt node drain ${node}`,
  }),
  lockManagers: ({ domain, from, has, node, other }) => ({
    why: `${domain} has its leases from ${has} on ${from}, and ${node} has ${other === '' ? 'no lock manager' : other}: it would lose them on the way, and libvirt would not notice`,
    next: `havirt lease enable ${has} ${node}, or havirt lease disable for all nodes`,
  }),
  hostIdTaken: ({ node, hostId, by }) => ({
    why: `${node} has the host id ${hostId}, which ${by} has`,
    next: `give ${node} another: take host_id out of /etc/libvirt/qemu-sanlock.conf there, and enable again`,
  }),
  notPassable: ({ domain, node, why }) => ({
    why: `${domain} cannot start past ${node} by its leases: ${why}`,
    next: `mend the way to ${node}; or, if it is off: havirt node fence ${node}, or havirt node confirm-down ${node}`,
  }),
  leaseHeld: ({ domain, node, disk, holder }) => ({
    why: `${domain} cannot run on ${node}: the lease of its disk ${disk} is held by ${holder}`,
    next: `havirt lease explain ${domain} says whether it is alive and when the lease can be had`,
  }),
  leaseUnable: ({ domain, node, problem, fix }) => ({ why: `${domain} cannot run on ${node}: ${problem}`, next: fix }),
  leftUnknown: ({ domain, node, why }) => ({
    why: `nobody can tell whether ${domain} on ${node} is the domain itself or what is left of it: ${why}`,
    next: `mend that and do this again; or find out by hand where its disks were written last, and end it if it is old: virsh -c qemu+ssh://${node}/system destroy ${domain}`,
  }),
  copyLeft: ({ node, domains }) => ({
    why: `${domains.join(', ')} ${domains.length === 1 ? 'was' : 'were'} started elsewhere while ${node} was dead to sanlock, and what is left of ${domains.length === 1 ? 'it' : 'them'} there must go before ${node} receives anything`,
    next: `havirt lease reconcile ${node}`,
  }),
}

function reservedText(reserved: readonly string[]): string {
  return reserved.length === 0 ? '' : ` (reserved: ${reserved.join(', ')})`
}

const NODE_BOUND = { nvram: 'UEFI variables', tpm: 'TPM state', hostdev: 'a device of the host' } as const
