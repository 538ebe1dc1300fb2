/** What validation finds: a sound cluster passes every check, and each planted difference is found where it is, and nothing else. */
import { describe, expect, test } from 'vitest'
import { configOf } from '../../src/core/config.ts'
import type { Domain } from '../../src/core/domain.ts'
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
    lockManager: 'sanlock',
    lockSettings: new Map([
      ['host_id', name.slice(4)],
      ['auto_disk_leases', '1'],
    ]),
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
  facts: Partial<Facts>
}

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

/** A sound cluster of three nodes with web and db, and what a test changes of it. */
function factsOf({
  survey = {},
  up = {},
  domains = {},
  conf = [WEB, DB],
  rules = [],
  facts = {},
}: Partial<Parts> = {}): Facts {
  const nodes = NAMES.map(name => {
    const guests =
      domains[name] ?? (name === 'node1' ? [aDomainOnNode({}, WEB)] : name === 'node2' ? [aDomainOnNode({}, DB)] : [])
    return aNode(name, guests, { paths: block('naa.6001'), ...up[name] })
  })
  const cluster = aCluster({
    nodes,
    definitions: conf.map(each => aDefinition(each)),
    config: configOf(new Map([['placement.rules', rules]])),
  })
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
      'another lock manager',
      node2({ lockManager: 'lockd', lockSettings: aSurvey('node2').lockSettings }),
      'lease settings: node2: node2 has the lock manager lockd, and others sanlock',
    ],
    [
      'a host id that is there twice',
      node2({
        lockSettings: new Map([
          ['host_id', '1'],
          ['auto_disk_leases', '1'],
        ]),
      }),
      'lease settings: node2: node2 and node1 have the same host id for sanlock, 1',
    ],
    [
      'a host id that is missing',
      node2({ lockSettings: new Map([['auto_disk_leases', '1']]) }),
      'lease settings: node2: node2 has no host id for sanlock',
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
