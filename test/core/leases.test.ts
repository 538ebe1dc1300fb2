/** What leases say when all nodes are put together: how each disk's lease stands, whose it is, and who runs without. */
import { describe, expect, test } from 'vitest'
import type { Disk, DiskSource, Domain } from '../../src/core/domain.ts'
import {
  deadAfterSeconds,
  folderOf,
  isGuarded,
  isUnstable,
  leasePaths,
  lostAfterSeconds,
  type NodeLeases,
  stableNameOf,
  uncoverable,
} from '../../src/core/lease.ts'
import {
  commonFolder,
  domainOfPid,
  domainsWithDisks,
  knownPaths,
  type LeaseFacts,
  leasesOfDisks,
  managerOf,
  nodeOfHost,
  stateOfHost,
  unprotected,
} from '../../src/core/leases.ts'
import {
  aCluster,
  aDefinition,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  shutOff,
  unreadable,
  uuidOf,
} from './builders.ts'
import {
  aFreshNode,
  aHeld,
  aLeaseFile,
  aLeaseHost,
  aLockspace,
  aNodeWithLeases,
  aNodeWithLockd,
  aSanlock,
  type FactParts,
  holding,
  hostsOf,
  LEASES,
  leaseFactsOf,
  lockdSettings,
  md5,
  NO_SETTINGS,
  sanlockSettings,
  seenHosts,
  sha256,
  THREE,
  webOnNode1,
} from './lease-builders.ts'

const WEB = '/srv/web.img'

/** The lease of web's disk. */
const webIn = (parts: FactParts) => leasesOfDisks(leaseFactsOf(parts)).find(({ path }) => path === WEB)

/** node1 to node3 whose sanlocks say this of host 1. */
const saying = (...states: readonly Parameters<typeof seenHosts>[0][1][]) =>
  new Map(
    states.map((state, at) => [
      `node${at + 1}`,
      aNodeWithLeases(at + 1, {
        sanlock: aSanlock({ lockspace: aLockspace({ hostId: at + 1 }), hosts: seenHosts({ 1: state as 'live' }) }),
      }),
    ]),
  )

/** Nodes where a start is protected now. */
const guardedNodes = ({ nodes }: LeaseFacts) =>
  [...nodes].flatMap(([name, leases]) => (isGuarded(leases) ? [name] : []))

describe('how the lease of a disk stands', () => {
  const taken = [aLeaseFile(WEB, { timestamp: 500 })]

  test.each<[string, string, FactParts]>([
    ['held', 'its holder is alive', { files: taken }],
    [
      'held',
      'one node sees its holder alive, though others do not',
      { files: taken, nodes: saying('dead', 'live', 'fail') },
    ],
    ['doubt', 'its holder does not renew', { files: taken, nodes: saying('dead', 'fail', 'dead') }],
    ['doubt', 'nobody knows yet whether its holder lives', { files: taken, nodes: saying('unknown', 'dead') }],
    [
      'doubt',
      'no sanlock answers',
      { files: taken, nodes: new Map([['node1', aNodeWithLeases(1, { sanlock: undefined })]]) },
    ],
    [
      'doubt',
      'the lockspace has no record of its holder, and no sanlock has seen it',
      { files: taken, hosts: new Map(), nodes: saying() },
    ],
    ['dead', 'all who watch it count its holder as dead', { files: taken, nodes: saying('dead', 'dead') }],
    ['old', 'its holder has joined anew since', { files: taken, hosts: hostsOf(aLeaseHost(1, { generation: 2 })) }],
    ['old', 'its holder has left the lockspace', { files: taken, hosts: hostsOf(aLeaseHost(1, { timestamp: 0 })) }],
    [
      'old',
      'its holder has joined anew since, even where a node says that host is alive, or dead',
      { files: taken, hosts: hostsOf(aLeaseHost(1, { generation: 2 })), nodes: saying('dead', 'live') },
    ],
    ['free', 'it was given back', { files: [aLeaseFile(WEB)] }],
    [
      'free',
      'it was made, and never taken',
      { files: [aLeaseFile(WEB, { ownerId: 0, ownerGeneration: 0, version: 0 })] },
    ],
    ['damaged', 'its file is not whole', { files: [aLeaseFile(WEB, 'damaged')] }],
    ['none', 'it has no file', {}],
    ['none', 'only another disk has a file', { files: [aLeaseFile('/srv/mail.img', { timestamp: 5 })] }],
  ])('%s: %s', (standing, _, parts) => {
    expect(webIn(parts)?.standing).toBe(standing)
  })

  test('a host that counts as free has nothing to lose: whoever watches it better decides', () => {
    expect(stateOfHost(saying('free', 'dead'), 1)).toBe('dead')
    expect(stateOfHost(saying('free', 'live'), 1)).toBe('live')
    expect(stateOfHost(saying('free'), 1)).toBe('free')
    expect(stateOfHost(saying(), 1)).toBe('unknown')
  })

  test('a free one never stands as held by its last owner, and still names him', () => {
    expect(webIn({ files: [aLeaseFile(WEB)] })).toMatchObject({ standing: 'free', owner: { hostId: 1, node: 'node1' } })
    expect(webIn({ files: [aLeaseFile(WEB, { ownerId: 0 })] })?.owner).toBeUndefined()
  })

  test('shared, it is held though its file says that nobody has it', () => {
    const held = [aHeld(WEB, 7, { shared: true })]
    const nodes = new Map([
      ['node1', aNodeWithLeases(1)],
      [
        'node2',
        aNodeWithLeases(2, {
          sanlock: aSanlock({ lockspace: aLockspace({ hostId: 2 }), held }),
          pids: new Map([['web', 7]]),
        }),
      ],
    ])
    expect(webIn({ nodes, files: [aLeaseFile(WEB)] })).toMatchObject({
      standing: 'held',
      owner: { node: 'node2', hostId: 2, domain: 'web' },
    })
  })
})

describe('who has it', () => {
  const taken = [aLeaseFile(WEB, { ownerId: 2, ownerGeneration: 4, timestamp: 5 })]
  const hosts = hostsOf(aLeaseHost(2, { generation: 4, name: 'host-two' }))
  const withNode2 = (node: NodeLeases | undefined) =>
    new Map([['node1', aNodeWithLeases(1)] as const, ...(node === undefined ? [] : ([['node2', node]] as const))])

  test('the node that joined with its host id, and the domain whose process it is', () => {
    expect(webIn({ files: taken, hosts, nodes: withNode2(holding(2, { other: [], web: [WEB] })) })?.owner).toEqual({
      hostId: 2,
      generation: 4,
      node: 'node2',
      hostName: 'host-two',
      domain: 'web',
    })
  })

  test('the node that is set up with the id, where its sanlock does not run', () => {
    expect(
      webIn({ files: taken, hosts, nodes: withNode2(aNodeWithLeases(2, { sanlock: undefined })) })?.owner,
    ).toMatchObject({
      node: 'node2',
      domain: undefined,
    })
  })

  test('who joined with an id goes before who is only set up with it', () => {
    const nodes = new Map([
      ['node1', aNodeWithLeases(2, { sanlock: undefined })],
      ['node2', aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ hostId: 2 }) }) })],
    ])
    expect(nodeOfHost(nodes, 2)).toBe('node2')
    expect(nodeOfHost(nodes, 3)).toBeUndefined()
  })

  test('a machine that is no node, by the name that it gave itself; or by none', () => {
    expect(webIn({ files: taken, hosts, nodes: withNode2(undefined) })?.owner).toMatchObject({
      node: undefined,
      hostName: 'host-two',
    })
    expect(webIn({ files: taken, hosts: new Map(), nodes: withNode2(undefined) })?.owner?.hostName).toBe('')
  })

  test('a node that does not answer, by the name that havirt gave its sanlock; not one that answers with another id', () => {
    const named = hostsOf(aLeaseHost(2, { generation: 4, name: 'node3' }))
    expect(webIn({ files: taken, hosts: named, nodes: withNode2(undefined) })?.owner?.node).toBe('node3')
    const nodes = new Map([['node3', aNodeWithLeases(3)]])
    expect(webIn({ files: taken, hosts: named, nodes })?.owner?.node).toBeUndefined()
  })

  test('a process that is no domain', () => {
    const nodes = withNode2(holding(2, { web: [WEB] }, { pids: new Map() }))
    expect(webIn({ files: taken, hosts, nodes })?.owner?.domain).toBeUndefined()
    expect(domainOfPid(aNodeWithLeases(1, { pids: new Map([['web', 4]]) }), aHeld(WEB, 4))).toBe('web')
    expect(domainOfPid(aNodeWithLeases(1), { name: 'x', pid: undefined, shared: false })).toBeUndefined()
  })
})

describe('which disks there are', () => {
  test('of definitions, of what runs and of what is only defined on a node, each with all its domains', () => {
    const cluster = aCluster({
      nodes: [
        aNode('node1', [
          aDomainOnNode(
            { name: 'db', uuid: uuidOf(3) },
            aDomain({ name: 'db', disks: [aDisk('/srv/db.img'), aDisk(WEB, { target: 'vdb' })] }),
          ),
        ]),
        aNode('node2', [
          shutOff({ name: 'idle', uuid: uuidOf(4) }, aDomain({ name: 'idle', disks: [aDisk('/dev/vg/idle')] })),
        ]),
      ],
    })
    expect(leasesOfDisks(leaseFactsOf({ cluster })).map(({ path, domains }) => [path, domains])).toEqual([
      ['/dev/vg/idle', ['idle']],
      ['/srv/db.img', ['db']],
      [WEB, ['db', 'web']],
    ])
    expect([...knownPaths(cluster)].sort()).toEqual(['/dev/vg/idle', '/srv/db.img', WEB])
  })

  test('what a running domain has now, and not what its definition says, is shown of it; other paths are known all the same', () => {
    const running = aDomain({ disks: [aDisk('/srv/old.img')] })
    const cluster = aCluster({ nodes: [aNode('node1', [aDomainOnNode({}, running)])] })
    expect(domainsWithDisks(cluster)).toEqual([{ domain: running, running: 'node1' }])
    expect([...knownPaths(cluster)].sort()).toEqual(['/srv/old.img', WEB])
  })

  test('a domain that does not run is shown by its definition', () => {
    expect(domainsWithDisks(aCluster())).toEqual([{ domain: aDomain(), running: undefined }])
    expect(domainsWithDisks(aCluster({ nodes: [aNode('node1', [unreadable()])] }))).toMatchObject([
      { running: undefined },
    ])
  })

  test('a file that belongs to none of them is listed with the others', () => {
    const stray = aLeaseFile('/srv/gone.img')
    expect(leasesOfDisks(leaseFactsOf({ files: [aLeaseFile(WEB), stray] })).at(-1)).toMatchObject({
      path: undefined,
      domains: [],
      name: stray.name,
      standing: 'free',
    })
  })

  test('only what is written: no CD, no read-only disk, no empty drive, and nothing without a path', () => {
    const disks = [
      aDisk('/iso/debian.iso', { device: 'cdrom', readOnly: true }),
      aDisk('/srv/base.img', { readOnly: true }),
      aDisk('', { source: { kind: 'none' } }),
      aDisk('', { source: { kind: 'volume', pool: 'p', volume: 'v' } }),
      aDisk('/srv/shared.img', { shareable: true }),
      aDisk('/dev/vg/a'),
    ]
    expect(leasePaths(aDomain({ disks }))).toEqual(['/srv/shared.img', '/dev/vg/a'])
  })
})

describe('with virtlockd', () => {
  test('who holds a lock says so himself; files tell nothing', () => {
    const nodes = new Map([
      ['node1', aNodeWithLockd([sha256(WEB)])],
      ['node2', aNodeWithLockd()],
    ])
    expect(webIn({ cluster: webOnNode1(), nodes })).toMatchObject({
      name: sha256(WEB),
      standing: 'held',
      owner: { node: 'node1', domain: 'web', hostId: 0 },
    })
  })

  test('without a lockspace the disks themselves are locked', () => {
    const nodes = new Map([['node2', aNodeWithLockd([WEB])]])
    expect(webIn({ nodes })).toMatchObject({ standing: 'held', owner: { node: 'node2', domain: undefined } })
  })

  test('what nobody holds is free', () => {
    expect(webIn({ nodes: new Map([['node1', aNodeWithLockd([sha256('/srv/mail.img')])]]) })).toMatchObject({
      standing: 'free',
      owner: undefined,
    })
  })
})

describe('domains that run without leases', () => {
  const bare = (nodes: FactParts['nodes'], domain = aDomainOnNode()) =>
    unprotected(
      leaseFactsOf({
        cluster: aCluster({ nodes: [aNode('node1', [domain]), aNode('node2'), aSilentNode('node3')] }),
        ...(nodes === undefined ? {} : { nodes }),
      }),
    )
  const node1 = (leases: NodeLeases) => new Map([['node1', leases]])

  test('none, where its own process holds the lease of each disk', () => {
    expect(bare(node1(holding(1, { web: [WEB] })))).toEqual([])
  })

  test.each<[string, NodeLeases]>([
    ['sanlock holds nothing', aNodeWithLeases(1, { pids: new Map([['web', 101]]) })],
    ["the lease is another process's", holding(1, { mail: [WEB], web: [] })],
    ['its process is not known', holding(1, { web: [WEB] }, { pids: new Map() })],
    ['sanlock does not run', aNodeWithLeases(1, { sanlock: undefined, pids: new Map([['web', 101]]) })],
    ['nothing is set up', aFreshNode()],
    ['virtlockd holds no lock of it', aNodeWithLockd([sha256('/srv/mail.img')])],
    ['virtlockd does not run', aNodeWithLeases(1, { settings: lockdSettings(), sanlock: undefined })],
  ])('%s', (_, leases) => {
    expect(bare(node1(leases))).toEqual([{ domain: 'web', node: 'node1', paths: [WEB], paused: false }])
  })

  test('of several disks, those that lack one', () => {
    const two = aDomain({ disks: [aDisk(WEB), aDisk('/srv/data.img', { target: 'vdb' })] })
    expect(bare(node1(holding(1, { web: [WEB] })), aDomainOnNode({}, two))).toMatchObject([
      { paths: ['/srv/data.img'] },
    ])
  })

  test('paused, it holds none, as it should', () => {
    expect(bare(node1(aNodeWithLeases(1)), aDomainOnNode({ state: 'paused' }))).toMatchObject([
      { domain: 'web', paused: true },
    ])
  })

  test('one that does not run, that writes nothing, or that nobody could read is not among them', () => {
    expect(bare(node1(aNodeWithLeases(1)), shutOff())).toEqual([])
    expect(bare(node1(aNodeWithLeases(1)), aDomainOnNode({}, aDomain({ disks: [] })))).toEqual([])
    expect(bare(node1(aNodeWithLeases(1)), unreadable())).toEqual([])
  })

  test('nor one on a node that could not be asked', () => {
    expect(bare(new Map())).toEqual([])
  })

  test('virtlockd that holds the lock protects it', () => {
    expect(bare(node1(aNodeWithLockd([sha256(WEB)])))).toEqual([])
    expect(bare(node1(aNodeWithLockd([WEB])))).toEqual([])
  })
})

describe('managers', () => {
  const mix = (...all: readonly NodeLeases[]) => new Map(all.map((leases, at) => [`node${at + 1}`, leases]))

  test.each([
    ['none', mix(aFreshNode(), aFreshNode()), undefined],
    ['none of no node', mix(), undefined],
    ['that of one node', mix(aFreshNode(), aNodeWithLockd()), 'lockd'],
    ['that of most nodes', mix(aNodeWithLockd(), aNodeWithLeases(2), aNodeWithLockd()), 'lockd'],
    ['sanlock, of equally many', mix(aNodeWithLockd(), aNodeWithLeases(2)), 'sanlock'],
  ] as const)('%s', (_, nodes, manager) => {
    expect(managerOf(nodes)).toBe(manager)
  })

  test.each([
    [
      'of most nodes',
      mix(
        aNodeWithLeases(1, { settings: sanlockSettings(1, { disk_lease_dir: '/a' }) }),
        aNodeWithLeases(2),
        aNodeWithLeases(3),
      ),
      LEASES,
    ],
    [
      "libvirt's own, where none is set",
      mix(aNodeWithLeases(1, { settings: { ...sanlockSettings(1), sanlock: new Map() } })),
      '/var/lib/libvirt/sanlock',
    ],
    [
      'none without a manager, whatever else is set',
      mix(aNodeWithLeases(1, { settings: { ...sanlockSettings(1), manager: '' } })),
      '',
    ],
    [
      'none for virtlockd that locks the disks themselves',
      mix(aNodeWithLockd([], { settings: { ...lockdSettings(), lockd: new Map() } })),
      '',
    ],
    ['none of no node', mix(), ''],
  ])('the folder: %s', (_, nodes, folder) => {
    expect(commonFolder(nodes)).toBe(folder)
  })

  test('the folder is that of the manager', () => {
    const both = { ...sanlockSettings(1), lockd: new Map([['file_lockspace_dir', '/locks']]) }
    expect(folderOf(both)).toBe(LEASES)
    expect(folderOf({ ...both, manager: 'lockd' })).toBe('/locks')
    expect(folderOf(NO_SETTINGS)).toBe('/var/lib/libvirt/sanlock')
  })

  test.each<[string, boolean, NodeLeases]>([
    ['sanlock that has joined', true, aNodeWithLeases(1)],
    [
      'sanlock that is joining',
      false,
      aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ state: 'joining' }) }) }),
    ],
    [
      'sanlock that lost the lockspace',
      false,
      aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ state: 'lost' }) }) }),
    ],
    [
      'sanlock that is leaving',
      false,
      aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ state: 'leaving' }) }) }),
    ],
    ['sanlock in no lockspace', false, aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: undefined }) })],
    [
      'sanlock in the lockspace of another folder than libvirt has its leases in',
      false,
      aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ path: '/srv/old/__LIBVIRT__DISKS__' }) }) }),
    ],
    ['no sanlock', false, aNodeWithLeases(1, { sanlock: undefined })],
    ['sanlock that libvirt does not use', false, aNodeWithLeases(1, { settings: NO_SETTINGS })],
    ['virtlockd', true, aNodeWithLockd()],
    [
      'virtlockd that is newer than libvirt',
      false,
      aNodeWithLockd([], { lockd: { held: [], newerThanLibvirt: true } }),
    ],
    ['no virtlockd', false, aNodeWithLockd([], { lockd: undefined })],
  ])('a start is protected by %s: %s', (_, guarded, leases) => {
    expect(isGuarded(leases)).toBe(guarded)
    expect(guardedNodes(leaseFactsOf({ nodes: mix(leases) }))).toEqual(guarded ? ['node1'] : [])
  })

  test('sanlock gives up after 8 time-outs, and is dead a minute later', () => {
    expect([lostAfterSeconds(10), deadAfterSeconds(10), deadAfterSeconds(2)]).toEqual([80, 140, 76])
  })

  test('three nodes that are set up share one folder and one manager', () => {
    expect([managerOf(THREE()), commonFolder(THREE()), guardedNodes(leaseFactsOf())]).toEqual([
      'sanlock',
      LEASES,
      ['node1', 'node2', 'node3'],
    ])
  })
})

describe('what no lease covers', () => {
  const on = (target: string, source: DiskSource, more: Partial<Disk> = {}) => aDisk('', { target, source, ...more })
  const domain = (...disks: readonly Disk[]): Domain => aDomain({ disks })
  const network: DiskSource = { kind: 'network', protocol: 'rbd', name: 'pool/a', hosts: [] }

  test.each<[string, Disk, string]>([
    ['a network disk', on('vda', network), 'libvirt takes no lease for rbd disks'],
    ['an NVMe disk', on('vda', { kind: 'other', type: 'nvme' }), 'libvirt takes no lease for nvme disks'],
    ['vhost-user', on('vda', { kind: 'other', type: 'vhostuser' }), 'libvirt takes no lease for vhostuser disks'],
    [
      'a volume',
      on('vda', { kind: 'volume', pool: 'p', volume: 'v' }),
      'a volume of a pool has its path on its node only',
    ],
  ])('%s', (_, disk, why) => {
    for (const manager of ['sanlock', 'lockd'] as const)
      expect(uncoverable(domain(disk, aDisk('/dev/vg/b', { target: 'vdb' })), manager)).toEqual([{ disk: 'vda', why }])
  })

  test('none of them when it is only read', () => {
    expect(uncoverable(domain(on('vda', network, { readOnly: true })), 'sanlock')).toEqual([])
  })

  const disks = (count: number) =>
    Array.from({ length: count }, (_, at) => aDisk(`/dev/vg/${at}`, { target: `vd${'abcdefghijk'[at]}` }))

  test('of nine disks the ninth, with sanlock only', () => {
    expect(uncoverable(domain(...disks(8)), 'sanlock')).toEqual([])
    expect(uncoverable(domain(...disks(9)), 'sanlock')).toEqual([
      { disk: 'vdi', why: 'sanlock gives a domain 8 leases at most' },
    ])
    expect(uncoverable(domain(...disks(9)), 'lockd')).toEqual([])
  })

  test('disks without a lease of their own do not count among the eight', () => {
    const found = uncoverable(domain(on('vdx', network), ...disks(8)), 'sanlock')
    expect(found.map(({ disk }) => disk)).toEqual(['vdx'])
  })

  test('the ninth is named, whatever stands before it', () => {
    const found = uncoverable(domain(on('vdx', network), ...disks(9)), 'sanlock')
    expect(found.map(({ disk }) => disk)).toEqual(['vdx', 'vdi'])
  })
})

describe('names that may mean another disk tomorrow', () => {
  test.each([
    '/dev/sda',
    '/dev/sdaa',
    '/dev/sdb1',
    '/dev/vda',
    '/dev/xvda2',
    '/dev/hdc',
    '/dev/nvme0n1',
    '/dev/nvme1n2p3',
    '/dev/dm-0',
    '/dev/dm-12',
    '/dev/md0',
    '/dev/md127',
    '/dev/loop3',
    '/dev/sr0',
  ])('%s', path => {
    expect(isUnstable(path)).toBe(true)
  })

  test.each([
    '/dev/disk/by-id/wwn-0x5000',
    '/dev/disk/by-path/pci-0000',
    '/dev/mapper/vg-lv',
    '/dev/vg/sda',
    '/srv/sda',
    '/dev/sd',
    '/dev/sdA',
    '/dev/sda.img',
    '/dev/mdadm',
    '/dev/dm-',
    '/srv/dev/sda',
    '/dev/drbd0',
  ])('not %s', path => {
    expect(isUnstable(path)).toBe(false)
  })

  test.each<[string, readonly string[], string | undefined]>([
    ['the WWN goes first', ['scsi-3600', 'wwn-0x600', 'lvm-pv-uuid-a'], 'wwn-0x600'],
    ['then the UUID of multipath', ['scsi-3600', 'dm-uuid-mpath-3600', 'dm-name-mpatha'], 'dm-uuid-mpath-3600'],
    ['then SCSI', ['ata-DISK_1', 'scsi-3600', 'nvme-eui.1'], 'scsi-3600'],
    ['then NVMe', ['lvm-a', 'nvme-eui.1'], 'nvme-eui.1'],
    ['of equals the first by the alphabet', ['wwn-0x7', 'wwn-0x6'], 'wwn-0x6'],
    ['any other is better than none', ['virtio-serial'], 'virtio-serial'],
    ['none', [], undefined],
  ])('what to write instead: %s', (_, names, best) => {
    const leases = aNodeWithLeases(1, { stableNames: new Map([['sdb', names]]) })
    expect(stableNameOf(leases, '/dev/sdb')).toBe(best === undefined ? undefined : `/dev/disk/by-id/${best}`)
  })

  test('of a disk that has no link there is none', () => {
    expect(stableNameOf(aNodeWithLeases(), '/dev/sdb')).toBeUndefined()
  })
})

test('two ways to write one path are two leases', () => {
  const cluster = aCluster({
    definitions: [
      aDefinition(),
      aDefinition(aDomain({ name: 'twin', uuid: uuidOf(9), disks: [aDisk('/srv//web.img')] })),
    ],
  })
  const found = leasesOfDisks(leaseFactsOf({ cluster, files: [aLeaseFile(WEB, { timestamp: 5 })] }))
  expect(found.map(({ path, name, standing }) => [path, name, standing])).toEqual([
    ['/srv//web.img', md5('/srv//web.img'), 'none'],
    [WEB, md5(WEB), 'held'],
  ])
})
