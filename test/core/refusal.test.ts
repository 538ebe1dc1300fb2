/** Every reason to say no has two sentences that fit together and stand on one line each. */
import { expect, test } from 'vitest'
import { describeRefusal, type RefusalFacts, type RefusalReason, refuse } from '../../src/core/refusal.ts'

const on = { domain: 'web', node: 'node2' }

/** The compiler asks for each reason here. */
const EXAMPLES: { [R in RefusalReason]: readonly RefusalFacts[R][] } = {
  unknownNode: [
    { node: 'node9', known: ['node1', 'node2'] },
    { node: 'node9', known: [] },
  ],
  unknownDomain: [
    { domain: 'wbe', known: ['mail', 'web'] },
    { domain: 'wbe', known: [] },
  ],
  noDefinition: [{ domain: 'web' }],
  badDefinition: [{ domain: 'web', problem: 'conf/web.xml:3:1: expected a name' }],
  nameMismatch: [{ domain: 'web', path: 'conf/web.xml', found: 'mail' }],
  present: [{ ...on, state: 'paused' }],
  otherDefinition: [{ ...on, node: 'node1', other: 'old-web', uuid: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01' }],
  sameUuid: [{ ...on, other: 'old-web', uuid: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01' }],
  diskHeld: [{ ...on, disk: 'file:/srv/web.img', holder: 'mail' }],
  unreadable: [{ ...on, other: 'odd', problem: '3:1: expected a name' }],
  unlisted: [
    { ...on, other: 'web', pid: 4711 },
    { ...on, other: 'odd', pid: 4711 },
  ],
  presentTwice: [
    { domain: 'web', nodes: ['node1', 'node2'], migrating: false },
    { domain: 'web', nodes: ['node1', 'node2'], migrating: true },
  ],
  changing: [{ domain: 'web' }],
  unreachable: [
    { node: 'node2', state: 'unreachable', problem: 'no answer within 5 s', hint: 'check its power' },
    { node: 'node2', state: 'busy', problem: 'no answer within 5 s', hint: 'look there for a hung domain' },
  ],
  autostart: [on],
  autostartLater: [
    { ...on, how: 'fence' },
    { ...on, how: 'word' },
  ],
  managedSave: [on, { ...on, runsOn: 'node1' }],
  snapshots: [on],
  notRunning: [{ domain: 'web' }],
  wrongState: [{ ...on, state: 'paused', wanted: 'running' }],
  alreadyOff: [{ domain: 'web' }],
  alreadyThere: [on],
  notHere: [{}],
  memory: [
    { ...on, neededMiB: 2048, freeMiB: 2047, reserved: [] },
    { ...on, neededMiB: 2048, freeMiB: 2047, reserved: ['512 MiB for mail by ops@node2 (pid 7)'] },
  ],
  vcpus: [{ ...on, needed: 4, free: 3, reserved: [] }],
  maintenance: [{ node: 'node1', by: 'ops@node2 (pid 7)', since: '2026-11-21T10:00:00.000Z' }],
  returned: [{ node: 'node1', by: 'ops@node2 (pid 7)', since: '2026-11-21T10:00:00.000Z' }],
  validation: [{ node: 'node2', checks: ['networks', 'ssh-keys'], since: '2026-01-01T00:00:00.000Z' }],
  fenceLapsed: [{ node: 'node1', said: 'Status: ON' }],
  inDoubt: [{ domain: 'web', other: 'old', node: 'node1', command: 'virsh create /dev/stdin' }],
  migrating: [
    { domain: 'web', from: 'node1', to: 'node2', percent: 40 },
    { domain: 'web', from: 'node1', to: 'node2', percent: undefined },
  ],
  diskMissing: [{ ...on, path: '/srv/web.img' }],
  poolMissing: [{ ...on, pool: 'fast' }],
  networkMissing: [{ ...on, network: 'dmz' }],
  bridgeMissing: [{ ...on, bridge: 'br0' }],
  cpuModel: [{ ...on, model: 'EPYC' }],
  cpuUnknown: [{ ...on, problem: 'unknown CPU model' }],
  diskNotShared: [{ domain: 'web', path: '/srv/web.img', why: 'it lies on ext2/ext3, which one host mounts' }],
  nodeBound: [
    { ...on, kind: 'nvram', what: '/var/lib/libvirt/qemu/nvram/web_VARS.fd' },
    { ...on, kind: 'tpm', what: '/var/lib/libvirt/swtpm/web' },
    { ...on, kind: 'hostdev', what: 'pci 0000:03:00.0' },
  ],
  hugePages: [on],
  probeFailed: [{ node: 'node2', problem: 'it gave no whole answer' }],
  claimed: [
    { domain: 'web', owner: 'root@node1 (pid 7)', since: '2026-01-01T00:00:00.000Z', verb: 'domain start web' },
  ],
  notPersistent: [on],
  nodeNotEmpty: [{ node: 'node2', domains: ['mail', 'web'] }],
  nobodyFits: [{ domain: 'web' }],
  planStale: [{ changes: ['web was on node1, and is on node2'] }],
  rule: [{ ...on, rule: 'apart web mail', why: 'mail is on node2' }],
  noRoom: [{ ...on, neededMiB: 2048, vcpus: 2 }],
  cannotLeave: [
    { node: 'node2', domains: ['mail', 'web'] },
    { node: 'node2', domains: ['web'] },
  ],
  noWayBack: [on],
  nodeIdentity: [{ node: 'node2', problem: 'another machine answered' }],
  nodeAnswers: [
    { node: 'node2', state: 'up' },
    { node: 'node2', state: 'busy' },
  ],
  nodeReached: [{ node: 'node2', by: 'node1', said: 'it answered ping' }],
  noFenceDevice: [{ node: 'node2' }],
  notOff: [{ node: 'node2', problem: 'the power is on' }],
  leaseGround: [{ node: 'node2', problem: 'node2 lacks sanlock', fix: 'ssh node2 apt install sanlock' }],
  leaseMixed: [{ node: 'node2', manager: 'lockd', wanted: 'sanlock' }],
  leasesInUse: [
    { node: 'node2', domains: ['web'], change: 'it used lockd' },
    { node: 'node2', domains: ['mail', 'web'], change: 'the folder was /srv/old' },
  ],
  lockManagers: [
    { domain: 'web', from: 'node1', has: 'sanlock', node: 'node2', other: 'lockd' },
    { domain: 'web', from: 'node1', has: 'sanlock', node: 'node2', other: '' },
  ],
  hostIdTaken: [{ node: 'node2', hostId: 7, by: 'node1' }],
  notPassable: [{ ...on, why: 'sanlock counts it as alive' }],
  leaseHeld: [{ ...on, disk: '/dev/disk/by-id/wwn-0x5000c500a1b2c3d4', holder: 'web on node1 (host id 1)' }],
  leaseUnable: [{ ...on, problem: 'node2 has not joined the lockspace', fix: 'ssh node2 systemctl restart libvirtd' }],
  leftUnknown: [{ ...on, why: 'its leases cannot be read' }],
  copyLeft: [
    { node: 'node2', domains: ['web'] },
    { node: 'node2', domains: ['mail', 'web'] },
  ],
}

const REFUSALS = Object.entries(EXAMPLES).flatMap(([reason, examples]) =>
  (examples as readonly object[]).map(facts => [reason, refuse(reason as RefusalReason, facts as never)] as const),
)

test('the two sentences of every refusal', async () => {
  const text = REFUSALS.map(([reason, refusal]) => {
    const { why, next } = describeRefusal(refusal)
    return `${reason}\n  ${why}\n  ${next}\n`
  })
  await expect(text.join('\n')).toMatchFileSnapshot('plan/golden/refusals.golden')
})

test.each(REFUSALS)(
  '%s says why and what to do next, each on one line, with every fact in its place',
  (reason, refusal) => {
    expect(refusal.reason).toBe(reason)
    for (const text of Object.values(describeRefusal(refusal))) {
      expect(text).not.toMatch(/undefined|\[object|\n|\.$/)
      expect(text.length).toBeGreaterThan(10)
    }
  },
)
