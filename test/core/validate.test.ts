/** What validation finds: a sound cluster passes every check, and each planted difference is found where it is, and nothing else. */
import { describe, expect, test } from 'vitest'
import { type Cluster, sightings } from '../../src/core/cluster.ts'
import { configOf, type OptionValue } from '../../src/core/config.ts'
import type { Disk, Domain } from '../../src/core/domain.ts'
import type { LeaseFile, LeaseHost, LeaseSettings, Lockspace, NodeLeases, Sanlock } from '../../src/core/lease.ts'
import type { DomainOnNode, UpNode } from '../../src/core/node.ts'
import { checks, standing, validate } from '../../src/core/validate/checks.ts'
import { deviations, type Facts, minority } from '../../src/core/validate/facts.ts'
import { checkIds } from '../../src/core/validate/ids.ts'
import type { Marked, Provided, Survey } from '../../src/core/validate/survey.ts'
import {
  aCluster,
  aDefinition,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  shutOff,
  uuidOf,
} from './builders.ts'
import {
  aFreshNode,
  aLeaseFile,
  aLeaseHost,
  aNodeWithLockd,
  BYTES,
  DAY_MS,
  holding,
  hostsOf,
  LEASES,
  leaseFactsOf,
  md5,
  NOW_MS,
  sanlockSettings,
  seenHosts,
  sha256,
} from './lease-builders.ts'

const NAMES = ['node1', 'node2', 'node3'] as const

const net = (name: string, more: Partial<Provided> = {}): Provided => ({
  name,
  active: true,
  autostart: true,
  what: 'bridge br0',
  ...more,
})

/** A node as all others are. */
function aSurvey(name: string): Survey {
  return {
    clockAheadMs: 3,
    clockUnsureMs: 10,
    libvirtVersion: '9.0.0',
    hypervisorVersion: 'QEMU 7.2.0',
    machineTypes: ['pc-q35-7.2', 'pc-i440fx-7.2'],
    kvm: true,
    bridges: new Map([['br0', '1500']]),
    networks: [net('lan')],
    pools: [net('data', { what: 'dir /srv/data' })],
    sessions: [{ target: 'iqn.2026-01.lab:a', portal: '10.0.0.1:3260', state: 'LOGGED_IN' }],
    disks: [{ target: 'iqn.2026-01.lab:a', lun: '1', device: 'sdb', wwid: 'naa.6001', bytes: 1 << 30 }],
    mounts: [{ source: 'nas:/srv', point: '/srv', type: 'nfs4' }],
    ownKeys: [`ssh-ed25519 KEY${name}`],
    authorizedKeys: NAMES.map(each => `ssh-ed25519 KEY${each}`),
    sshConfig: ['Host node*', 'User root'],
    libvirtGuests: false,
    maxSessions: 100,
    maxStartups: '100:30:100',
    migrationPorts: { from: 49_152, to: 49_215, taken: 0 },
    home: true,
  }
}

const WEB = aDomain({ disks: [aDisk('/dev/disk/by-id/wwn-1')], machine: 'pc-q35-7.2' })
const DB = aDomain({ name: 'db', uuid: uuidOf(2), disks: [aDisk('/srv/db.img')] })

interface Parts {
  survey: Partial<Record<(typeof NAMES)[number], Partial<Survey>>>
  up: Partial<Record<(typeof NAMES)[number], Partial<UpNode>>>
  domains: Partial<Record<(typeof NAMES)[number], readonly DomainOnNode[]>>
  conf: readonly Domain[]
  rules: readonly string[]
  config: Readonly<Record<string, boolean | number>>
  facts: Partial<Facts>
  /** What all nodes have; sanlock, unless told. */
  manager: Manager
  leases: Partial<Record<(typeof NAMES)[number], (sound: NodeLeases) => NodeLeases>>
  hosts: ReadonlyMap<number, LeaseHost>
  files: readonly LeaseFile[]
}

type Manager = 'sanlock' | 'lockd' | 'none'

const block = (identity: string) =>
  new Map([['/dev/disk/by-id/wwn-1', { exists: true, kind: 'block' as const, identity }]])

/** /srv as nodes see it: all see what all of these wrote, but for what is given. */
function markedBy(sees: Partial<Record<string, readonly string[]>>, nodes: readonly string[] = NAMES): Marked {
  return {
    folder: '/srv',
    writers: nodes,
    sees: new Map(nodes.map(node => [node, sees[node] ?? nodes.filter(each => sees[each] === undefined)])),
    missingOn: [],
  }
}

/** A node where all that runs has its leases. */
function soundLeases(cluster: Cluster, node: string, manager: Manager): NodeLeases {
  const active = sightings(cluster).filter(each => each.node === node && each.domain.active)
  const held = active.flatMap(({ domain }) => (domain.definition === undefined ? [] : [domain.definition]))
  const pathsOf = ({ disks }: Domain) => disks.flatMap(({ source }) => ('path' in source ? [source.path] : []))
  if (manager === 'none') return aFreshNode()
  if (manager === 'lockd') return aNodeWithLockd(held.flatMap(pathsOf).map(sha256))
  return holding(Number(node.slice(4)), Object.fromEntries(held.map(domain => [domain.name, pathsOf(domain)])))
}

/** A sound cluster of three nodes with web and db, and what a test changes of it. */
function factsOf({
  survey = {},
  up = {},
  domains = {},
  conf = [WEB, DB],
  rules = [],
  config = {},
  facts = {},
  manager = 'sanlock',
  leases = {},
  ...lockspace
}: Partial<Parts> = {}): Facts {
  const nodes = NAMES.map(name => {
    const guests =
      domains[name] ?? (name === 'node1' ? [aDomainOnNode({}, WEB)] : name === 'node2' ? [aDomainOnNode({}, DB)] : [])
    return aNode(name, guests, { paths: block('naa.6001'), ...up[name] })
  })
  const cluster = aCluster({
    nodes,
    definitions: conf.map(each => aDefinition(each)),
    config: configOf(new Map<string, OptionValue>([['placement.rules', rules], ...Object.entries(config)])),
  })
  const leasesOf = (node: (typeof NAMES)[number]) =>
    (leases[node] ?? (sound => sound))(soundLeases(cluster, node, manager))
  const pairs = NAMES.flatMap(from =>
    NAMES.filter(to => to !== from).map(to => ({ from, to, id: `id-of-${to}`, said: '' })),
  )
  return {
    cluster,
    surveys: new Map(NAMES.map(name => [name, { ...aSurvey(name), ...survey[name] }])),
    unasked: new Map(),
    logins: pairs,
    marks: [markedBy({})],
    devices: new Map(
      NAMES.map(name => [name, new Map([['/dev/disk/by-id/wwn-1', { bytes: 1 << 30, firstMiB: 'abc' }]])]),
    ),
    leases: leaseFactsOf({ ...lockspace, cluster, nodes: new Map(NAMES.map(name => [name, leasesOf(name)])) }),
    ...facts,
  }
}

/** `check: node: why` of everything that was found. */
function found(parts: Partial<Parts>): string[] {
  return validate(factsOf(parts)).flatMap(({ title, findings }) =>
    findings.map(({ node = 'cluster', why }) => `${title}: ${node}: ${why}`),
  )
}

test('every check has a short name of its own, in the order of the list of names', () => {
  expect(checks.map(({ id }) => id)).toEqual(checkIds)
})

test('a sound cluster passes every check', () => {
  expect(found({})).toEqual([])
  expect(checks.length).toBeGreaterThan(30)
})

const node2 = (survey: Partial<Survey>): Partial<Parts> => ({ survey: { node2: survey } })

describe('one difference is found where it is, once', () => {
  test.each([
    [
      'a node that could not be asked',
      { facts: { unasked: new Map([['node2', 'ssh said no']]) } },
      'every node answers: node2: node2 could not be asked: ssh said no',
    ],
    ['a network that is missing', node2({ networks: [] }), 'the same networks: node2: node2 lacks the network lan'],
    [
      'a network that is not started',
      node2({ networks: [net('lan', { active: false })] }),
      'the same networks: node2: node2 has not started the network lan',
    ],
    [
      'a network of one node',
      node2({ networks: [net('lan'), net('extra')] }),
      'the same networks: node2: only node2 has the network extra',
    ],
    [
      'a network over another bridge',
      node2({ networks: [net('lan', { what: 'bridge br1' })] }),
      "the same networks: node2: the network lan of node2 is 'bridge br1', and 'bridge br0' elsewhere",
    ],
    [
      'a network that is gone after a boot',
      node2({ networks: [net('lan', { autostart: false })] }),
      'the same networks: node2: the network lan of node2 is not there any more when node2 boots',
    ],
    ['a bridge that is missing', node2({ bridges: new Map() }), 'the same bridges: node2: node2 lacks the bridge br0'],
    [
      'a bridge with another MTU',
      node2({ bridges: new Map([['br0', '9000']]) }),
      'the same bridges: node2: the bridge br0 of node2 has an MTU of 9000, and 1500 elsewhere',
    ],
    [
      'an iSCSI session that is missing',
      node2({ sessions: [] }),
      'the same iSCSI sessions: node2: node2 is not logged in to iqn.2026-01.lab:a at 10.0.0.1:3260',
    ],
    [
      'an iSCSI session that broke',
      node2({ sessions: [{ target: 'iqn.2026-01.lab:a', portal: '10.0.0.1:3260', state: 'FAILED' }] }),
      'the same iSCSI sessions: node2: the iSCSI session of node2 to iqn.2026-01.lab:a at 10.0.0.1:3260 is FAILED',
    ],
    [
      'a disk that is missing',
      node2({ disks: [] }),
      'the same iSCSI disks by WWID: node2: node2 does not see the disk naa.6001',
    ],
    [
      'a disk without a WWID',
      node2({
        disks: [
          { target: 't', lun: '1', device: 'sdb', wwid: 'naa.6001', bytes: 1 << 30 },
          { target: 't', lun: '2', device: 'sdc', wwid: '', bytes: 5 },
        ],
      }),
      'the same iSCSI disks by WWID: node2: LUN 2 of t (sdc on node2) has no WWID',
    ],
    [
      'a disk whose growth was not seen',
      node2({ disks: [{ target: 't', lun: '1', device: 'sdb', wwid: 'naa.6001', bytes: 5 }] }),
      'the same iSCSI disks by WWID: node2: the disk naa.6001 has 5 bytes on node2, and 1073741824 elsewhere',
    ],
    [
      'a key that may not log in',
      node2({ authorizedKeys: ['ssh-ed25519 KEYnode1', 'ssh-ed25519 KEYnode2'] }),
      "every node has the others' ssh keys: node2: node2 does not let root of node3 log in",
    ],
    [
      'a node without a key',
      node2({ ownKeys: [] }),
      "every node has the others' ssh keys: node2: root on node2 has no ssh key",
    ],
    [
      'another ssh configuration',
      node2({ sshConfig: ['Host node*', 'User root', 'Port 2222'] }),
      'the same ssh configuration: node2: ~/.ssh/config of node2 alone has: Port 2222',
    ],
    [
      'another libvirt',
      node2({ libvirtVersion: '11.3.0' }),
      'the same libvirt: node2: node2 has libvirt 11.3.0, and others 9.0.0',
    ],
    [
      'another QEMU',
      node2({ hypervisorVersion: 'QEMU 10.0.0' }),
      'the same QEMU: node2: node2 has QEMU 10.0.0, and others QEMU 7.2.0',
    ],
    ['a node without KVM', node2({ kvm: false }), 'KVM: node2: node2 has no KVM, and others KVM'],
    [
      'a machine type that is missing',
      node2({ machineTypes: ['pc-i440fx-7.2'] }),
      'machine types that the definitions need: node2: QEMU on node2 has no machine type pc-q35-7.2, which web needs',
    ],
    [
      'another CPU',
      { up: { node2: { hostCpu: '<cpu><model>Haswell</model></cpu>', cpuModel: 'Haswell' } } },
      'the same host CPU: node2: node2 has another CPU than most (Haswell)',
    ],
    ['a clock that is ahead', node2({ clockAheadMs: 5000 }), 'clocks: node2: the clock of node2 is 5.0 s ahead'],
    [
      'a pool with another target',
      node2({ pools: [net('data', { what: 'dir /data' })] }),
      "the same storage pools: node2: the storage pool data of node2 is 'dir /data', and 'dir /srv/data' elsewhere",
    ],
    [
      'a mount that is missing',
      node2({ mounts: [] }),
      'the same shared mounts: node2: node2 does not mount nas:/srv on /srv (nfs4)',
    ],
    [
      'a folder that is another',
      { facts: { marks: [markedBy({ node2: ['node2'] })] } },
      'shared folders are one folder: node2: /srv on node2 is another folder than on most nodes',
    ],
    [
      'a folder that is missing',
      { facts: { marks: [{ ...markedBy({}, ['node1', 'node3']), missingOn: ['node2'] }] } },
      'shared folders are one folder: node2: /srv is not there on node2',
    ],
    [
      "havirt's home that is missing",
      node2({ home: false }),
      "havirt's home is mounted: node2: havirt's home is not there on node2",
    ],
    [
      'libvirt-guests',
      node2({ libvirtGuests: true }),
      'libvirt-guests is off: node2: libvirt-guests is enabled on node2',
    ],
    [
      'few sessions',
      node2({ maxSessions: 2 }),
      "sshd's MaxSessions and MaxStartups: node2: sshd on node2 allows 2 sessions a connection",
    ],
    [
      'few startups',
      node2({ maxStartups: '3:30:10' }),
      "sshd's MaxSessions and MaxStartups: node2: sshd on node2 drops connections from 3 at once on",
    ],
    [
      'few ports',
      node2({ migrationPorts: { from: 49_152, to: 49_152, taken: 0 } }),
      'free ports for migrations: node2: node2 has 1 free ports for migrations',
    ],
    [
      'a definition on a node',
      { domains: { node3: [shutOff({}, aDomain({ name: 'own', uuid: uuidOf(8), disks: [] }))] } },
      'no node defines a domain itself: node3: own is defined on node3',
    ],
    [
      'autostart',
      { domains: { node3: [shutOff({ autostart: true }, aDomain({ name: 'own', uuid: uuidOf(8), disks: [] }))] } },
      'no node defines a domain itself: node3: own is set to autostart on node3',
    ],
    [
      'a QEMU that is not listed',
      {
        domains: { node3: [aDomainOnNode({ unlistedPid: 77 }, aDomain({ name: 'own', uuid: uuidOf(8), disks: [] }))] },
        conf: [WEB, DB, aDomain({ name: 'own', uuid: uuidOf(8), disks: [] })],
      },
      'every QEMU is listed: node3: own runs on node3 as process 77',
    ],
    [
      'one uuid in two definitions',
      { conf: [WEB, DB, aDomain({ name: 'twin', uuid: uuidOf(2), disks: [] })] },
      'no domain is defined twice: cluster: conf/db.xml and conf/twin.xml have one uuid',
    ],
    [
      'one disk in two definitions',
      { conf: [WEB, DB, aDomain({ name: 'twin', uuid: uuidOf(9), disks: [aDisk('/srv/db.img')] })] },
      'no disk is in two definitions: cluster: conf/db.xml and conf/twin.xml have one disk',
    ],
    [
      'what runs otherwise than it is defined',
      { conf: [WEB, { ...DB, memoryMiB: 4096 }] },
      'what runs is what conf/ says: node2: db runs on node2 otherwise than conf/db.xml says: memory 4096 MiB there, 1024 MiB here',
    ],
    [
      'what runs without a definition',
      { conf: [WEB] },
      'what runs is what conf/ says: node2: conf/ has no definition of db',
    ],
    [
      'a disk that is missing on a node',
      { up: { node2: { paths: new Map([['/srv/db.img', { exists: false, kind: 'missing' as const }]]) } } },
      'every disk is on every node: node2: the disk /srv/db.img of db does not exist on node2',
    ],
    [
      'a path that leads to another disk',
      { up: { node2: { paths: block('naa.6002') } } },
      'every disk is the same everywhere: node2: /dev/disk/by-id/wwn-1 on node2 is naa.6002, and elsewhere naa.6001',
    ],
    [
      'a rule that is broken',
      { rules: ['together web db'] },
      "rules are kept: cluster: the rule 'together web db' is not kept: web on node1; db on node2",
    ],
  ] as [string, Partial<Parts>, string][])('%s', (_, parts, expected) => {
    const all = found(parts)
    expect(all).toHaveLength(1)
    expect(all[0]).toContain(expected)
  })

  test('a login that fails, and one that leads elsewhere', () => {
    const logins = [
      { from: 'node2', to: 'node3', id: undefined, said: 'Permission denied (publickey).' },
      { from: 'node3', to: 'node1', id: 'id-of-node2', said: '' },
    ]
    expect(found({ facts: { logins } })).toEqual([
      'every node can log in to the others: node2: root on node2 cannot log in to node3: Permission denied (publickey).',
      'every node can log in to the others: node3: on node3 the name node1 leads to another machine',
    ])
  })

  test('where root may not write, one network mount on all nodes is proof enough', () => {
    const mute = { ...markedBy({}), writers: [], sees: new Map(NAMES.map(node => [node, []])) }
    expect(found({ facts: { marks: [mute] } })).toEqual([])
    expect(found({ facts: { marks: [{ ...mute, folder: '/local' }] } })).toEqual([
      'shared folders are one folder: cluster: no node could write into /local, and it is not one network mount on all: nobody knows whether it is one folder',
    ])
  })

  test('a silent node is named, and what is known of the others is compared all the same', () => {
    const facts = factsOf(node2({ bridges: new Map() }))
    const nodes = new Map([...facts.cluster.nodes, ['node4', aSilentNode('node4')]])
    const results = validate({ ...facts, cluster: { ...facts.cluster, nodes } })
    expect(results.flatMap(({ findings }) => findings.map(({ node }) => node))).toEqual(['node4', 'node2'])
  })

  test('a disk that a running domain writes may begin otherwise from one look to the next; one that nobody uses may not', () => {
    const devices = new Map([
      ['node1', new Map([['/dev/disk/by-id/wwn-1', { bytes: 5, firstMiB: 'abc' }]])],
      ['node2', new Map([['/dev/disk/by-id/wwn-1', { bytes: 5, firstMiB: 'abd' }]])],
      ['node3', new Map([['/dev/disk/by-id/wwn-1', { bytes: 5, firstMiB: 'abc' }]])],
    ])
    expect(found({ facts: { devices } })).toEqual([])
    expect(found({ facts: { devices }, domains: { node1: [] } })).toEqual([
      expect.stringContaining('begins with other bytes on node2'),
    ])
  })
})

// ---- leases -------------------------------------------------------------------------------------------------------------

const on3 = (change: (sound: NodeLeases) => NodeLeases): Partial<Parts> => ({ leases: { node3: change } })
const set = (sound: NodeLeases, settings: Partial<LeaseSettings>): NodeLeases => ({
  ...sound,
  settings: { ...sound.settings, ...settings },
})
/** Settings of its lock manager, replaced or taken out. */
const setting =
  (values: Readonly<Record<string, string | undefined>>) =>
  (sound: NodeLeases): NodeLeases => {
    const manager = sound.settings.manager === 'lockd' ? 'lockd' : 'sanlock'
    const kept = Object.entries({ ...Object.fromEntries(sound.settings[manager]), ...values })
    const now = kept.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const]))
    return set(sound, { [manager]: new Map(now) })
  }
const daemon =
  (more: Partial<Sanlock>) =>
  (sound: NodeLeases): NodeLeases => ({
    ...sound,
    sanlock: sound.sanlock === undefined ? undefined : { ...sound.sanlock, ...more },
  })
const space =
  (more: Partial<Lockspace>) =>
  (sound: NodeLeases): NodeLeases =>
    daemon({
      lockspace: sound.sanlock?.lockspace === undefined ? undefined : { ...sound.sanlock.lockspace, ...more },
    })(sound)
const inOrder =
  (...changes: ((sound: NodeLeases) => NodeLeases)[]) =>
  (sound: NodeLeases): NodeLeases =>
    changes.reduce((now, change) => change(now), sound)

const OTHER = '/srv/other'
const gone = (days: number) => aLeaseFile('/srv/gone.img', {}, { writtenMs: NOW_MS - days * DAY_MS })
const inUse = aLeaseFile('/srv/db.img', {}, { writtenMs: NOW_MS })

/** `id: node` of everything that was found. */
function where(parts: Partial<Parts>): string[] {
  return validate(factsOf(parts)).flatMap(({ id, findings }) =>
    findings.map(({ node = 'cluster' }) => `${id}: ${node}`),
  )
}

describe('leases', () => {
  test.each(['sanlock', 'lockd', 'none'] as const)('a sound cluster with %s passes every check', manager => {
    expect(found({ manager })).toEqual([])
  })

  test.each([
    ['leases', 'no manager', on3(() => aFreshNode()), 'node3 has no lock manager, and others have sanlock'],
    [
      'leases',
      'another manager',
      on3(() => aNodeWithLockd()),
      'node3 has the lock manager lockd, and others sanlock: neither sees the leases of the other',
    ],
    [
      'leases',
      'no automatic leases',
      on3(setting({ auto_disk_leases: undefined })),
      'sanlock on node3 takes no lease for a disk: auto_disk_leases is off',
    ],
    [
      'leases',
      'none with virtlockd',
      { manager: 'lockd', ...on3(setting({ auto_disk_leases: '0' })) },
      'lockd on node3 takes no lease for a disk: auto_disk_leases is off',
    ],
    [
      'leases',
      'another setting',
      on3(setting({ require_lease_for_disks: undefined })),
      'require_lease_for_disks is 0 on node3, and 1 elsewhere',
    ],
    [
      'leases',
      'another setting of virtlockd',
      { manager: 'lockd', ...on3(setting({ lvm_lockspace_dir: OTHER })) },
      `lvm_lockspace_dir is ${OTHER} on node3, and not set elsewhere`,
    ],
    [
      'lease-folder',
      'another folder',
      on3(inOrder(setting({ disk_lease_dir: OTHER }), space({ path: `${OTHER}/__LIBVIRT__DISKS__` }))),
      `node3 has its leases in ${OTHER}, and others have theirs in ${LEASES}`,
    ],
    [
      'lease-folder',
      'no folder with virtlockd',
      { manager: 'lockd', ...on3(setting({ file_lockspace_dir: undefined })) },
      `node3 has no folder for leases, and others have theirs in ${LEASES}`,
    ],
    [
      'lease-folder',
      'a folder that is missing',
      on3(sound => ({ ...sound, folder: { ...sound.folder, exists: false } })),
      `the folder for leases, ${LEASES}, is not there on node3`,
    ],
    [
      'lease-folder',
      'joined elsewhere',
      on3(space({ path: `${OTHER}/__LIBVIRT__DISKS__` })),
      `sanlock on node3 has joined ${OTHER}/__LIBVIRT__DISKS__, and its settings say ${LEASES}/__LIBVIRT__DISKS__`,
    ],
    ...['rw,nolock', 'local_lock=all,rw', 'rw,local_lock=posix,hard'].map(options => [
      'lease-folder',
      `mounted with ${options}`,
      { manager: 'lockd', ...on3(sound => ({ ...sound, folder: { ...sound.folder, options } })) },
      `${LEASES} is mounted on node3 with ${/nolock|local_lock=\w+/.exec(options)?.[0]}: no lock there is seen`,
    ]),
    ...['0', '2001', 'x', undefined].map(id => [
      'host-ids',
      `the host id ${id}`,
      on3(setting({ host_id: id })),
      'node3 has no host id for sanlock',
    ]),
    [
      'host-ids',
      'a host id that another has',
      on3(inOrder(setting({ host_id: '1' }), space({ hostId: 1 }))),
      'node3 and node1 have the same host id for sanlock, 1',
    ],
    [
      'host-ids',
      'joined with another host id',
      on3(setting({ host_id: '7' })),
      'node3 has joined with the host id 3, and its settings say 7',
    ],
    ['lease-daemon', 'no sanlock', on3(sound => ({ ...sound, sanlock: undefined })), 'sanlock does not run on node3'],
    [
      'lease-daemon',
      'not joined',
      on3(daemon({ lockspace: undefined })),
      'node3 has not joined the lockspace: starts there fail with "No space left on device"',
    ],
    [
      'lease-daemon',
      'sanlock may come after libvirt at boot',
      on3(sound => ({ ...sound, ordered: false })),
      'libvirt on node3 may start before sanlock when it boots',
    ],
    ['lease-daemon', 'joining', on3(space({ state: 'joining' })), 'node3 is joining the lockspace'],
    ['lease-daemon', 'leaving', on3(space({ state: 'leaving' })), 'node3 is leaving the lockspace'],
    [
      'lease-daemon',
      'lost',
      on3(space({ state: 'lost' })),
      'node3 has lost the lockspace, and its domains are being killed',
    ],
    [
      'lease-daemon',
      'no virtlockd',
      { manager: 'lockd', ...on3(sound => ({ ...sound, lockd: undefined })) },
      'virtlockd does not run on node3',
    ],
    [
      'lease-daemon',
      'a newer virtlockd',
      { manager: 'lockd', ...on3(sound => ({ ...sound, lockd: { held: [], newerThanLibvirt: true } })) },
      'virtlockd on node3 was started after libvirtd',
    ],
    [
      'lease-timeouts',
      'another time-out',
      on3(inOrder(setting({ io_timeout: '20' }), space({ ioTimeoutSeconds: 20 }))),
      'the io_timeout of node3 is 20 s, and 10 s elsewhere',
    ],
    [
      'lease-timeouts',
      'joined with another time-out',
      on3(space({ ioTimeoutSeconds: 20 })),
      'node3 has joined with an io_timeout of 20 s, and its settings say 10 s',
    ],
    [
      'watchdog',
      'sanlock without its watchdog',
      on3(daemon({ watchdog: false })),
      'no watchdog guards node3 (sanlock runs without it)',
    ],
    [
      'watchdog',
      'no wdmd',
      on3(sound => ({ ...sound, wdmd: false })),
      'no watchdog guards node3 (wdmd does not run, or has no device)',
    ],
    [
      'lease-names',
      'no name',
      on3(sound => set(sound, { hostName: '' })),
      'sanlock on node3 has another name each time it starts',
    ],
    [
      'lease-names',
      'the name of another',
      on3(sound => set(sound, { hostName: 'node1' })),
      'sanlock on node3 and on node1 have one name, node1',
    ],
  ] as [string, string, Partial<Parts>, string][])('%s: %s', (id, _, parts, expected) => {
    expect(where(parts)).toEqual([`${id}: node3`])
    expect(found(parts)[0]).toContain(expected)
  })

  test("what differs nowhere although it is written otherwise: 0 is libvirt's word for the usual time-out", () => {
    expect(found(on3(setting({ io_timeout: '0' })))).toEqual([])
    expect(found({ manager: 'lockd', ...on3(setting({ auto_disk_leases: undefined })) })).toEqual([])
  })

  test('where one node of three has a lock manager, the others are to get it', () => {
    const fresh = () => aFreshNode()
    expect(where({ leases: { node2: fresh, node3: fresh } })).toEqual(['leases: node2', 'leases: node3'])
  })

  test('whoever has joined with a host id has it, whoever comes first', () => {
    const parts = {
      leases: {
        node1: daemon({ lockspace: undefined }),
        node3: inOrder(setting({ host_id: '1' }), space({ hostId: 1 })),
      },
    }
    expect(where(parts)).toEqual(['host-ids: node1', 'lease-daemon: node1'])
  })

  test('another machine in the lockspace with the host id of a node, unless it is dead or has left', () => {
    const hosts = (more: Partial<LeaseHost>) =>
      hostsOf(aLeaseHost(1), aLeaseHost(2), aLeaseHost(3, { name: 'alien', ...more }))
    const out = on3(daemon({ lockspace: undefined }))
    expect(found({ ...out, hosts: hosts({}) })[0]).toContain(
      'the host id of node3, 3, is that of another machine, which joined the lockspace as alien',
    )
    expect(where({ ...out, hosts: hosts({}) })).toEqual(['host-ids: node3', 'lease-daemon: node3'])
    const daemonOnly = ['lease-daemon: node3']
    expect(where({ ...out, hosts: hosts({ timestamp: 0 }) })).toEqual(daemonOnly)
    expect(where({ ...out, hosts: hosts({ name: 'node3' }) })).toEqual(daemonOnly)
    const dead = daemon({ hosts: seenHosts({ 3: 'dead' }) })
    const all = { node1: dead, node2: dead, node3: inOrder(dead, daemon({ lockspace: undefined })) }
    expect(where({ leases: all, hosts: hosts({}) })).toEqual(daemonOnly)
    // What has joined with its own id has it by now, whatever name it had before.
    expect(where({ hosts: hosts({}) })).toEqual([])
  })

  test('no word of a watchdog where the administrator has said that he knows', () => {
    const parts = on3(daemon({ watchdog: false }))
    expect(where({ ...parts, config: { 'lease.passWithoutWatchdog': true } })).toEqual([])
  })

  test.each([
    ['sanlock', daemon({ held: [] })],
    ['lockd', (sound: NodeLeases) => ({ ...sound, lockd: { held: [], newerThanLibvirt: false } })],
  ] as const)(
    '%s: what runs without its lease, but not what is paused, nor on a node without leases',
    (manager, without) => {
      const parts: Partial<Parts> = { manager, leases: { node2: without } }
      expect(found(parts)).toEqual([
        'what runs has its leases: node2: db runs on node2 without a lease for /srv/db.img',
      ])
      const paused = aDomainOnNode({ state: 'paused' }, DB)
      expect(found({ ...parts, domains: { node2: [paused] } })).toEqual([])
      expect(where({ manager, leases: { node2: () => aFreshNode() } })).toEqual(['leases: node2'])
    },
  )

  test('a sanlock that died leaves what runs without protection', () => {
    expect(where({ leases: { node2: sound => ({ ...sound, sanlock: undefined }) } })).toEqual([
      'lease-daemon: node2',
      'unprotected: node2',
    ])
  })

  test('leases that are damaged, of disks that are known and of others', () => {
    const files = [
      aLeaseFile('/srv/db.img', 'damaged'),
      aLeaseFile('/srv/gone.img', 'damaged'),
      aLeaseFile('/srv/x.img'),
    ]
    expect(found({ files })).toEqual([
      expect.stringContaining(
        `leases are whole: cluster: the lease ${LEASES}/${md5('/srv/db.img')} of /srv/db.img is damaged`,
      ),
      expect.stringContaining(`leases are whole: cluster: the lease ${LEASES}/${md5('/srv/gone.img')} is damaged`),
    ])
  })

  test('leases that nobody cleaned up for four times as long as they need to wait, where every node was heard', () => {
    const old = { ...gone(29), bytes: 3 * BYTES - 1 }
    const files = [inUse, old, aLeaseFile('/srv/gone2.img', {}, { writtenMs: NOW_MS - 30 * DAY_MS })]
    expect(found({ files })).toEqual([
      `leases of disks that are gone are cleaned up: cluster: 2 leases of disks that are gone take 4 MiB in ${LEASES}`,
    ])
    expect(found({ files: [inUse, gone(27)] })).toEqual([])
    expect(where({ files: [inUse, gone(27)], config: { 'lease.cleanupDays': 6 } })).toEqual(['lease-cleanup: cluster'])
    const facts = factsOf({ files })
    const nodes = new Map([...facts.cluster.nodes, ['node4', aSilentNode('node4')]])
    const results = validate({ ...facts, cluster: { ...facts.cluster, nodes } })
    expect(results.flatMap(({ id, findings }) => findings.map(() => id))).toEqual(['answers'])
  })

  test('virtlockd without a folder, and disks that are devices', () => {
    const all = setting({ file_lockspace_dir: undefined })
    const parts: Partial<Parts> = {
      manager: 'lockd',
      leases: { node1: all, node2: all, node3: all },
    }
    const facts = (conf: readonly Domain[]) => {
      const { leases, ...rest } = factsOf({ ...parts, conf, domains: { node1: [], node2: [] } })
      return { ...rest, leases: leases && { ...leases, folder: '' } }
    }
    const ids = (conf: readonly Domain[]) =>
      validate(facts(conf)).flatMap(({ id, findings }) => findings.map(({ node }) => `${id}: ${node}`))
    expect(ids([WEB, DB])).toEqual(NAMES.map(node => `lease-folder: ${node}`))
    expect(ids([DB])).toEqual([])
  })

  test('facts that nobody could give find nothing', () => {
    expect(found({ facts: { leases: undefined } })).toEqual([])
  })
})

describe('disks by paths that stay', () => {
  const webOn = (...disks: Disk[]) => ({ ...WEB, disks })
  const paths = (facts: Readonly<Record<string, { identity?: string; canonical?: string }>>) =>
    new Map(Object.entries(facts).map(([path, more]) => [path, { exists: true, kind: 'file' as const, ...more }]))
  /** web with these disks in conf/ and, unless told, also where it runs; every node knows these paths. */
  const parts = (web: Domain, known: Parameters<typeof paths>[0] = {}, more: Partial<Parts> = {}): Partial<Parts> => ({
    conf: [web, DB],
    domains: { node1: [aDomainOnNode({}, web)] },
    up: Object.fromEntries(NAMES.map(name => [name, { paths: paths(known) }])),
    ...more,
  })
  const fixes = (of: Partial<Parts>) => validate(factsOf(of)).flatMap(({ findings }) => findings.map(({ fix }) => fix))
  const stable = (names: Readonly<Record<string, readonly string[]>>) => (sound: NodeLeases) => ({
    ...sound,
    stableNames: new Map(Object.entries(names)),
  })

  test.each(['sanlock', 'lockd', 'none'] as const)('a kernel name, whatever the lock manager (%s)', manager => {
    const of = parts(webOn(aDisk('/dev/sdb')), {}, { manager })
    expect(found(of)).toEqual([
      'disks by stable paths: cluster: web writes /dev/sdb, a name that may mean another disk after the next boot',
    ])
    expect(fixes(of)).toEqual(['write its name below /dev/disk/by-id into conf/web.xml'])
  })

  test('what is only read has any name', () => {
    expect(found(parts(webOn(aDisk('/dev/sdb', { readOnly: true }))))).toEqual([])
  })

  test('only the node where it runs says which name stays; else all that know it must agree', () => {
    const leases = { node1: stable({ sdb: ['scsi-1', 'wwn-1'] }), node2: stable({ sdb: ['wwn-2'] }) }
    const of = parts(webOn(aDisk('/dev/sdb')), {}, { leases })
    expect(fixes(of)).toEqual(['write /dev/disk/by-id/wwn-1 into conf/web.xml'])
    expect(fixes({ ...of, domains: { node1: [] } })).toEqual([
      'see which disk is meant (/dev/sdb is /dev/disk/by-id/wwn-1 on node1, /dev/disk/by-id/wwn-2 on node2), and write that name into conf/web.xml',
    ])
    const agreed = { node1: stable({ sdb: ['wwn-2'] }), node2: stable({ sdb: ['wwn-2'] }) }
    expect(fixes({ ...of, domains: { node1: [] }, leases: agreed })).toEqual([
      'write /dev/disk/by-id/wwn-2 into conf/web.xml',
    ])
  })

  test('what only a node names so is found there: its own definition, and what runs otherwise than conf/ says', () => {
    const own = aDomain({ name: 'own', uuid: uuidOf(8), disks: [aDisk('/dev/vdb')] })
    expect(where({ domains: { node3: [shutOff({}, own)] } })).toEqual(['disk-paths: node3', 'own-definitions: node3'])
    expect(where({ domains: { node1: [aDomainOnNode({}, webOn(aDisk('/dev/dm-3')))] } })).toEqual([
      'disk-paths: node1',
      'differences: node1',
    ])
  })

  const TWO = {
    '/dev/disk/by-id/wwn-1': { identity: 'naa.6001' },
    '/dev/mapper/web': { identity: 'naa.6001' },
  }
  const twin = aDomain({ name: 'twin', uuid: uuidOf(9), disks: [aDisk('/dev/mapper/web', { shareable: true })] })

  test.each([
    ['one WWID', TWO, '/dev/mapper/web'],
    [
      'one file',
      { '/srv/a/web.img': { canonical: '/srv/web.img' }, '/srv/web.img': { canonical: '/srv/web.img' } },
      '',
    ],
  ] as const)('two paths for one disk of two domains: %s', (_, known, path) => {
    const [one = '', other = ''] = Object.keys(known)
    const share = (at: string) => aDisk(at, { shareable: true })
    const conf = [webOn(share(one)), { ...twin, disks: [share(other)] }, DB]
    const of = parts(webOn(share(one)), known, { conf })
    expect(found(of)).toEqual([
      `disks by stable paths: cluster: ${one} (web) and ${other} (twin) are one disk, and have two leases: neither keeps the other out`,
    ])
    expect(fixes(of)).toEqual([
      `write one path wherever that disk is meant: ${path === '' ? one : '/dev/disk/by-id/wwn-1'}`,
    ])
    expect(found({ ...of, manager: 'none' })).toEqual([])
  })

  test('two paths for one disk of one domain: in conf/, and where it runs', () => {
    const running = aDomainOnNode({}, webOn(aDisk('/dev/mapper/web')))
    const all = found(parts(WEB, TWO, { domains: { node1: [running] } }))
    expect(all[0]).toBe(
      'disks by stable paths: cluster: /dev/disk/by-id/wwn-1 (web) and /dev/mapper/web (web on node1) are one disk, and have two leases: neither keeps the other out',
    )
  })

  test('two spellings of one path', () => {
    const conf = [
      webOn(aDisk('/srv//web.img', { shareable: true })),
      { ...twin, disks: [aDisk('/srv/web.img', { shareable: true })] },
      DB,
    ]
    expect(found(parts(conf[0] as Domain, {}, { conf }))[0]).toContain(
      '/srv//web.img (web) and /srv/web.img (twin) are one disk',
    )
  })

  test('a name that another node gives to another disk is no second path for it', () => {
    const web = webOn(aDisk('/dev/sdb'))
    const of = parts(
      web,
      { '/dev/sdb': { identity: 'naa.6002' }, '/dev/mapper/web': { identity: 'naa.6001' } },
      {
        conf: [web, twin, DB],
      },
    )
    const up = { ...of.up, node2: { paths: paths({ '/dev/sdb': { identity: 'naa.6001' } }) } }
    expect(where({ ...of, up }).filter(each => each.startsWith('disk-paths'))).toEqual(['disk-paths: cluster'])
    expect(found({ ...of, up })[0]).toContain('web writes /dev/sdb')
  })

  test('a link on the way is told once for a folder, and not where nodes find different files behind it', () => {
    const web = webOn(aDisk('/srv/web.img'))
    const known = { '/srv/web.img': { canonical: '/media/a/web.img' } }
    expect(found(parts(web, known))).toEqual([
      'disks by stable paths: cluster: /srv/web.img of web is really /media/a/web.img: another spelling of it would be another lease',
    ])
    expect(fixes(parts(web, known))).toEqual(['write /media/a/web.img into conf/web.xml'])
    expect(found(parts(web, known, { manager: 'none' }))).toEqual([])
    const both = parts(web, { ...known, '/srv/db.img': { canonical: '/media/a/db.img' } })
    expect(found(both)).toEqual([
      expect.stringContaining('/srv/web.img of web (and 1 more below /srv) is really /media/a/web.img'),
    ])
    expect(fixes(both)).toEqual(['write /media/a instead of /srv in the definitions of those domains'])
    const other = { node2: { paths: paths({ '/srv/web.img': { canonical: '/media/b/web.img' } }) } }
    expect(found({ ...both, up: { ...parts(web, known).up, ...other } })).toEqual([])
  })

  test('names of udev and LVM are links, and stay', () => {
    for (const path of ['/dev/disk/by-path/pci-1', '/dev/mapper/web', '/dev/vg/web'])
      expect(found(parts(webOn(aDisk(path)), { [path]: { canonical: '/dev/dm-1' } }))).toEqual([])
  })
})

describe('disks that no lease covers', () => {
  const rbd: Disk = {
    ...aDisk('x'),
    target: 'vdb',
    source: { kind: 'network', protocol: 'rbd', name: 'p/x', hosts: [] },
  }
  const web = { ...WEB, disks: [...WEB.disks, rbd] }

  test('where it runs, or in conf/, once a domain; nothing without a lock manager', () => {
    const parts = { conf: [web, DB], domains: { node1: [aDomainOnNode({}, web)] } }
    for (const manager of ['sanlock', 'lockd'] as const)
      expect(found({ ...parts, manager })).toEqual([
        'every disk can have a lease: node1: no lease covers vdb (libvirt takes no lease for rbd disks) of web: only havirt keeps it from being written twice',
      ])
    expect(where({ conf: [web, DB], domains: { node1: [] } })).toEqual(['uncovered: cluster'])
    expect(found({ ...parts, manager: 'none' })).toEqual([])
  })

  test('more than eight with sanlock', () => {
    const many = { ...WEB, disks: Array.from({ length: 9 }, (_, at) => aDisk(`/srv/${at}.img`, { target: `vd${at}` })) }
    const parts = { conf: [many, DB], domains: { node1: [] } }
    expect(found(parts)[0]).toContain('no lease covers vd8 (sanlock gives a domain 8 leases at most) of web')
    expect(found({ ...parts, manager: 'lockd' })).toEqual([])
  })
})

test('every finding about leases says what mends it, in one line', () => {
  const broken: Partial<Parts>[] = [
    {
      leases: {
        node1: () => aFreshNode(),
        node2: sound => ({ ...sound, sanlock: undefined }),
        node3: setting({ host_id: '1', io_timeout: '20', disk_lease_dir: OTHER, require_lease_for_disks: '0' }),
      },
    },
    {
      leases: {
        node1: daemon({ lockspace: undefined, watchdog: false, held: [] }),
        node2: space({ state: 'lost' }),
        node3: sound => set(sound, sanlockSettings(1)),
      },
      files: [inUse, gone(99), aLeaseFile('/srv/x', 'damaged')],
    },
    {
      manager: 'lockd',
      leases: {
        node1: sound => ({ ...sound, lockd: undefined }),
        node2: sound => ({
          ...sound,
          lockd: { held: [], newerThanLibvirt: true },
          folder: { ...sound.folder, exists: false, options: 'nolock' },
        }),
      },
    },
  ]
  for (const parts of broken) {
    const all = validate(factsOf(parts)).flatMap(({ findings }) => findings)
    expect(all.length).toBeGreaterThan(4)
    for (const { fix, why } of all) {
      expect(fix).toMatch(/^\S.{5,}$/)
      expect(fix).not.toMatch(/undefined|NaN/)
      expect(why).toMatch(/^\S.{5,}[^.]$/)
    }
  }
})

test('every finding says what mends it, in one line', () => {
  const all = validate(
    factsOf({ survey: { node2: { networks: [], bridges: new Map(), ownKeys: [], home: false } }, conf: [] }),
  )
  for (const { fix, why } of all.flatMap(({ findings }) => findings)) {
    expect(fix).toMatch(/^\S.{5,}$/)
    expect(why).toMatch(/^\S.{5,}[^.]$/)
  }
})

test('a check fails on the nodes of its findings, and is well on the others', () => {
  const result = { id: 'clocks' as const, title: 't', findings: [{ node: 'node2', why: 'w', fix: 'f' }] }
  expect(NAMES.map(name => standing(result, name))).toEqual(['ok', 'FAILS', 'ok'])
})

test('what half of the nodes have is expected; what fewer have is too much', () => {
  const sets = new Map([
    ['a', ['x', 'y']],
    ['b', ['x']],
    ['c', ['x']],
    ['d', ['z', 'x']],
  ])
  expect(deviations(sets)).toEqual([
    { node: 'a', item: 'y', kind: 'extra' },
    { node: 'd', item: 'z', kind: 'extra' },
  ])
  expect(
    deviations(
      new Map([
        ['a', ['x']],
        ['b', []],
      ]),
    ),
  ).toEqual([{ node: 'b', item: 'x', kind: 'missing' }])
  expect(
    minority(
      new Map([
        ['a', '1'],
        ['b', '2'],
        ['c', '2'],
      ]),
    ),
  ).toEqual([{ node: 'a', value: '1', usual: '2' }])
})
