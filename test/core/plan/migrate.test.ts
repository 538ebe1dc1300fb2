/** When a live migration is planned, and every reason for which it is refused. */
import { describe, expect, test } from 'vitest'
import type { Domain } from '../../../src/core/domain.ts'
import type { DomainOnNode, PathFacts, UpNode } from '../../../src/core/node.ts'
import { type MigrateRequest, planMigrate } from '../../../src/core/plan/migrate.ts'
import {
  A_CPU,
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  cpuSays,
  onPath,
  shutOff,
  unreadable,
} from '../builders.ts'
import { checkRows, type Row, stepsOf } from './answer.ts'

const PLAIN = { autoConverge: false, postCopy: false, unsafe: false }
const SHARED = onPath('/srv/web.img')

function migrate(parts: ClusterParts, request: Partial<MigrateRequest> = {}) {
  return () => planMigrate(aCluster(parts), { domain: 'web', node: 'node2', options: PLAIN, ...request })
}

/** web on node1, and its target node2. */
function pair(web: DomainOnNode = aDomainOnNode(), to: Partial<UpNode> = {}, there: DomainOnNode[] = []): ClusterParts {
  return { nodes: [aNode('node1', [web], { paths: SHARED }), aNode('node2', there, { paths: SHARED, ...to })] }
}

function defined(more: Partial<Domain>, to: Partial<UpNode> = {}): ClusterParts {
  return pair(aDomainOnNode({}, aDomain(more)), to)
}

/** web with one disk, as the two nodes know its path. */
function disk(path: string, here: Partial<PathFacts> | undefined, there: Partial<PathFacts> | undefined): ClusterParts {
  const web = aDomainOnNode({}, aDomain({ disks: [aDisk(path)] }))
  const paths = (facts: Partial<PathFacts> | undefined) => ({ paths: facts ? onPath(path, facts) : new Map() })
  return { nodes: [aNode('node1', [web], paths(here)), aNode('node2', [], paths(there))] }
}

/** The same with a volume. */
function volume(here: Partial<PathFacts> | undefined, there: Partial<PathFacts> | undefined): ClusterParts {
  const web = aDomainOnNode(
    {},
    aDomain({ disks: [aDisk('', { source: { kind: 'volume', pool: 'default', volume: 'v' } })] }),
  )
  const paths = (facts: Partial<PathFacts> | undefined) => ({
    paths: facts ? onPath('volume:default/v', facts) : new Map(),
  })
  return { nodes: [aNode('node1', [web], paths(here)), aNode('node2', [], paths(there))] }
}

const BLOCK = { kind: 'block' } as const
const MOVED = ['migrateDomain node1 node2']

const ROWS: readonly Row[] = [
  ['a running domain moves to a node that can host it', migrate(pair()), ...MOVED],
  ['a node that nobody knows is refused', migrate(pair(), { node: 'nodeX' }), 'refused: unknownNode'],
  ['a domain that nobody knows is refused', migrate(pair(), { domain: 'other' }), 'refused: unknownDomain'],
  ['a domain that is off is refused', migrate(pair(shutOff())), 'refused: notRunning'],
  [
    'a domain that may run on a silent node is refused',
    migrate({ nodes: [aSilentNode('node1'), aNode('node2')] }),
    'refused: unreachable',
  ],
  [
    'a domain that runs twice is refused',
    migrate(pair(aDomainOnNode(), {}, [aDomainOnNode()])),
    'refused: presentTwice',
  ],
  [
    'a domain that libvirt does not list is refused',
    migrate(pair(aDomainOnNode({ unlistedPid: 7 }))),
    'refused: unlisted',
  ],
  [
    'a domain of which the target runs a copy that libvirt does not list is refused',
    migrate(pair(aDomainOnNode(), {}, [aDomainOnNode({ unlistedPid: 7 })])),
    'refused: presentTwice',
  ],
  ['to the node where it runs is already so', migrate(pair(), { node: 'node1' }), 'already: alreadyThere'],
  ['a paused domain is refused', migrate(pair(aDomainOnNode({ state: 'paused' }))), 'refused: wrongState'],
  [
    'the waiting end of a migration is refused',
    migrate(pair(aDomainOnNode({ state: 'paused', stateReason: 2 }))),
    'refused: wrongState',
  ],
  ['a domain whose XML nobody could read is refused', migrate(pair(unreadable())), 'refused: badDefinition'],
  [
    'a silent target is refused',
    migrate({ nodes: [aNode('node1', [aDomainOnNode()]), aSilentNode('node2')] }),
    'refused: unreachable',
  ],
  [
    'a saved image on the target is refused',
    migrate(pair(aDomainOnNode(), {}, [shutOff({ managedSave: true })])),
    'refused: managedSave',
  ],
  [
    'autostart on the target is refused: it would start a second time later',
    migrate(pair(aDomainOnNode(), {}, [shutOff({ autostart: true })])),
    'refused: autostart',
  ],

  // The target must be able to host it, exactly to the edge
  ['memory that fits to the last MiB is given', migrate(defined({ memoryMiB: 8192 })), ...MOVED],
  ['one MiB too little is refused', migrate(defined({ memoryMiB: 8193 })), 'refused: memory'],
  ['vCPUs that fit to the last one are given', migrate(defined({ vcpus: 16 })), ...MOVED],
  ['one vCPU too few is refused', migrate(defined({ vcpus: 17 })), 'refused: vcpus'],
  [
    'a CPU that the target cannot run is refused',
    migrate(pair(aDomainOnNode({}, aDomain({ cpu: A_CPU })), cpuSays('cannot'))),
    'refused: cpuModel',
  ],
  [
    'a CPU that could not be compared is refused',
    migrate(pair(aDomainOnNode({}, aDomain({ cpu: A_CPU })), cpuSays({ unknown: 'no' }))),
    'refused: cpuUnknown',
  ],
  ['huge pages are refused', migrate(defined({ hugePages: true })), 'refused: hugePages'],
  [
    'a missing network is refused',
    migrate(defined({ interfaces: [{ kind: 'network', source: 'dmz' }] })),
    'refused: networkMissing',
  ],
  [
    'a missing bridge is refused',
    migrate(defined({ interfaces: [{ kind: 'bridge', source: 'br0' }] }, { devices: new Map([['br0', false]]) })),
    'refused: bridgeMissing',
  ],
  [
    'a missing disk is refused, once',
    migrate(disk('/srv/web.img', {}, { exists: false, kind: 'missing' })),
    'refused: diskMissing',
  ],
  [
    'a target that could not be asked is refused',
    migrate(pair(aDomainOnNode(), { inquiryProblem: 'timeout' })),
    'refused: probeFailed',
  ],

  // Shared disks
  ['a file on NFS is shared', migrate(disk('/srv/web.img', {}, {})), ...MOVED],
  [
    'a file on two shares that have the same path is refused',
    migrate(disk('/srv/web.img', { identity: 'nfs:nas/a/web.img' }, { identity: 'nfs:nas/b/web.img' })),
    'refused: diskNotShared',
  ],
  [
    'a file on one share is shared',
    migrate(disk('/srv/web.img', { identity: 'nfs:nas/a/web.img' }, { identity: 'nfs:nas/a/web.img' })),
    ...MOVED,
  ],
  [
    'a volume on a filesystem that one host mounts is refused',
    migrate(volume({ filesystem: 'xfs' }, { filesystem: 'xfs' })),
    'refused: diskNotShared',
  ],
  ['a volume that the target does not have is refused', migrate(volume({}, { exists: false })), 'refused: diskMissing'],
  ['a volume on NFS is shared', migrate(volume({}, {})), ...MOVED],
  ['a volume that has no path on any node is left to libvirt', migrate(volume(undefined, undefined)), ...MOVED],
  [
    'a device that each node only knows for itself is refused',
    migrate(disk('/dev/sdb', { ...BLOCK, identity: 'local:node1:x' }, { ...BLOCK, identity: 'local:node1:x' })),
    'refused: diskNotShared',
  ],
  [
    'a file on ext4 is refused',
    migrate(disk('/srv/web.img', { filesystem: 'ext2/ext3' }, { filesystem: 'ext2/ext3' })),
    'refused: diskNotShared',
  ],
  [
    'a file on NFS here, with the share not mounted there, is refused',
    migrate(disk('/srv/web.img', {}, { filesystem: 'ext2/ext3' })),
    'refused: diskNotShared',
  ],
  [
    'a file on no known filesystem is refused',
    () =>
      migrate({
        nodes: [
          aNode('node1', [aDomainOnNode()], { paths: new Map([['/srv/web.img', { exists: true, kind: 'file' }]]) }),
          aNode('node2', [], { paths: SHARED }),
        ],
      })(),
    'refused: diskNotShared',
  ],
  [
    'a block device with one WWID on both nodes is shared',
    migrate(disk('/dev/sdb', { ...BLOCK, identity: 'wwn-1' }, { ...BLOCK, identity: 'wwn-1' })),
    ...MOVED,
  ],
  [
    'a block device with different WWIDs is refused',
    migrate(disk('/dev/sdb', { ...BLOCK, identity: 'wwn-1' }, { ...BLOCK, identity: 'wwn-2' })),
    'refused: diskNotShared',
  ],
  ['a block device without identity is refused', migrate(disk('/dev/sdb', BLOCK, BLOCK)), 'refused: diskNotShared'],
  [
    'a block device without identity on the target is refused',
    migrate(disk('/dev/sdb', { ...BLOCK, identity: 'wwn-1' }, BLOCK)),
    'refused: diskNotShared',
  ],
  [
    'a disk that the source could not be asked about is refused',
    migrate(disk('/srv/web.img', undefined, {})),
    'refused: diskNotShared',
  ],
  [
    '--unsafe overrules that a disk is not shared',
    migrate(disk('/srv/web.img', { filesystem: 'ext2/ext3' }, {}), { options: { ...PLAIN, unsafe: true } }),
    ...MOVED,
  ],
  [
    '--unsafe does not overrule that a disk is missing',
    migrate(disk('/srv/web.img', {}, { exists: false }), { options: { ...PLAIN, unsafe: true } }),
    'refused: diskMissing',
  ],

  // What stays behind
  ...(['nvram', 'tpm', 'hostdev'] as const).map(
    (kind): Row => [
      `a domain whose ${kind} would stay behind is refused`,
      migrate(defined({ nodeBound: [{ kind, what: 'it' }] })),
      'refused: nodeBound',
    ],
  ),
  [
    'host-passthrough to another CPU is refused',
    migrate(
      defined({ cpu: { mode: 'host-passthrough', xml: '<cpu/>' } }, { hostCpu: '<cpu><model>Xeon</model></cpu>' }),
    ),
    'refused: cpuModel',
  ],
  [
    'host-passthrough to the same CPU is given',
    migrate(defined({ cpu: { mode: 'host-passthrough', xml: '<cpu/>' } })),
    ...MOVED,
  ],
  [
    'a third node that is silent does not stand in the way: nothing begins to run that did not run',
    migrate({ nodes: [...(pair().nodes ?? []), aSilentNode('node3')] }),
    ...MOVED,
  ],
  ...(
    [
      ['from sanlock to virtlockd is refused', 'sanlock', 'lockd', 'refused: lockManagers'],
      ['from sanlock to a node without a lock manager is refused', 'sanlock', '', 'refused: lockManagers'],
      ['from sanlock to sanlock is given', 'sanlock', 'sanlock', ...MOVED],
      ['from a node without to one with sanlock is given: so it gets its leases', '', 'sanlock', ...MOVED],
      ['where the target did not say, it is refused', 'sanlock', undefined, 'refused: lockManagers'],
    ] as const
  ).map(([what, here, there, ...expected]): Row => {
    const paths = { paths: SHARED }
    const target = there === undefined ? paths : { ...paths, lockManager: there }
    const nodes = [aNode('node1', [aDomainOnNode()], { ...paths, lockManager: here }), aNode('node2', [], target)]
    return [what, migrate({ nodes }), ...expected]
  }),
  [
    'the downtime is set first, where it was asked for',
    migrate(pair(), { options: { ...PLAIN, maxDowntimeMs: 50 } }),
    'setMaxDowntime node1',
    ...MOVED,
  ],
]

describe('migrate', () => {
  checkRows(ROWS)

  test('a domain that is defined on the source takes its definition along', () => {
    const plan = migrate(pair(aDomainOnNode({ persistent: true })))()
    expect(stepsOf(plan)).toMatchObject([{ options: { persistent: true, desturi: 'qemu+ssh://node2/system' } }])
    expect(stepsOf(migrate(pair())())).toMatchObject([{ options: { persistent: false } }])
  })
})
