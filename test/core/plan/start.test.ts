/** When a start is planned, and every reason for which it is refused. */
import { describe, expect, test } from 'vitest'
import { defaultConfig } from '../../../src/core/config.ts'
import { planStart, type StartRequest } from '../../../src/core/plan/start.ts'
import {
  A_CPU,
  aCluster,
  aDefinition,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  type ClusterParts,
  cpuSays,
  MAIL_UUID,
  onPath,
  shutOff,
  unreadable,
  WEB_UUID,
} from '../builders.ts'
import { checkRows, type Row } from './answer.ts'

const STARTED = ['recordIntent may run', 'createDomain node1']

function start(parts: ClusterParts, request: Partial<StartRequest> = {}) {
  return () => planStart(aCluster(parts), { domain: 'web', node: 'node1', auto: false, ...request })
}

/** node1 and node2, and on node2 this. */
function beside(...domains: Parameters<typeof aNode>[1] & object): ClusterParts {
  return { nodes: [aNode('node1'), aNode('node2', domains)] }
}

/** node2 is called down, and was seen to autostart this; where it answers all the same, it shows that it has nothing. */
function asleep(uuid: string, answers = false): ClusterParts {
  const down = { how: 'word', by: 'ann', since: '2026-01-01T00:00:00Z', autostarts: [{ uuid, domain: 'x' }] } as const
  const node2 = answers ? aNode('node2') : aSilentNode('node2', 'unreachable')
  return { nodes: [aNode('node1'), { ...node2, ledger: { reservations: [], down } }] }
}

/** node1 with these answers, and the definition of web with these wishes. */
function wanting(domain: Parameters<typeof aDomain>[0], node: Parameters<typeof aNode>[2] = {}): ClusterParts {
  return { nodes: [aNode('node1', [], node)], definitions: [aDefinition(aDomain(domain))] }
}

function over(memoryMiB: number, vcpus = 1): ClusterParts {
  const holder = aDomain({ name: 'mail', memoryMiB, vcpus })
  return { nodes: [aNode('node1', [aDomainOnNode({}, holder)])] }
}

const VARIABLES = '/var/lib/libvirt/qemu/nvram/web_VARS.fd'

/** A domain with UEFI variables, and what each node has of them. */
function withVariables(onNode1: boolean, onNode2: boolean): ClusterParts {
  const has = (exists: boolean) => ({ paths: onPath(VARIABLES, { exists, kind: exists ? 'file' : 'missing' }) })
  return {
    nodes: [aNode('node1', [], has(onNode1)), aNode('node2', [], has(onNode2))],
    definitions: [aDefinition(aDomain({ nodeBound: [{ kind: 'nvram', what: VARIABLES }] }))],
  }
}

const heldDisk = aDomain({ name: 'mail', disks: [aDisk('/srv/./web.img', { target: 'vdb' })] })

/** web may run on node1, mail runs on node2; one has /dev/one and the other /dev/two, which the nodes know as these. */
function twoNames(asked: 'web' | 'mail', one: string, two: string): ClusterParts {
  const [ours, theirs] = asked === 'web' ? ['/dev/one', '/dev/two'] : ['/dev/two', '/dev/one']
  const block = (path: string) => onPath(path, { kind: 'block', identity: path === '/dev/one' ? one : two })
  const mail = aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk(theirs)] }))
  return {
    nodes: [aNode('node1', [], { paths: block(ours) }), aNode('node2', [mail], { paths: block(theirs) })],
    definitions: [aDefinition(aDomain({ disks: [aDisk(ours)] }))],
  }
}

const aVolume = aDisk('', { source: { kind: 'volume', pool: 'default', volume: 'web' } })

/** A QEMU that libvirt does not list. */
function aStray(more: Parameters<typeof aDomainOnNode>[0] = {}) {
  return aDomainOnNode({ unlistedPid: 4711, ...more })
}

const ROWS: readonly Row[] = [
  [
    'a domain whose UEFI variables another node has, and this one lacks, is refused',
    start(withVariables(false, true)),
    'refused: nodeBound',
  ],
  ['a domain whose UEFI variables no node has starts with new ones', start(withVariables(false, false)), ...STARTED],
  ['a domain starts where its UEFI variables are', start(withVariables(true, false)), ...STARTED],
  [
    'with --auto a domain starts where its UEFI variables are',
    start(withVariables(false, true), { auto: true, node: undefined as never }),
    'recordIntent may run',
    'createDomain node2',
  ],
  ['a domain that is nowhere starts on the node that was named', start({}), ...STARTED],
  [
    'without a node it starts on the node that havirt runs on',
    start({ here: 'node3' }, { node: undefined as never }),
    'recordIntent may run',
    'createDomain node3',
  ],
  [
    'without a node, and on a machine that is none, it is refused',
    () => planStart(aCluster(), { domain: 'web', auto: false }),
    'refused: notHere',
  ],
  ['a node that nobody knows is refused', start({}, { node: 'nodeX' }), 'refused: unknownNode'],
  ['a domain that nobody knows is refused', start({}, { domain: 'other' }), 'refused: unknownDomain'],
  [
    'a domain that a node shows but nothing in conf/ defines is refused',
    start({ ...beside(shutOff()), definitions: [] }),
    'refused: noDefinition',
  ],
  [
    'a definition that cannot be read is refused',
    start({ definitions: [{ name: 'web', path: 'conf/web.xml', sha256: 'x', problem: 'conf/web.xml:3: no' }] }),
    'refused: badDefinition',
  ],
  [
    'a definition that gives no reason for being unreadable is refused all the same',
    start({ definitions: [{ name: 'web', path: 'conf/web.xml', sha256: '' }] }),
    'refused: badDefinition',
  ],
  [
    'a definition of another name than its file is refused',
    start({ definitions: [aDefinition(aDomain({ name: 'mail' }), { name: 'web', path: 'conf/web.xml' })] }),
    'refused: nameMismatch',
  ],

  // Rule 1: every form of presence
  ...(['running', 'blocked', 'paused', 'shutdown', 'crashed', 'pmsuspended', 'nostate'] as const).map(
    (state): Row => [
      `a domain that is ${state} on another node is refused`,
      start(beside(aDomainOnNode({ state }))),
      'refused: present',
    ],
  ),
  [
    'the waiting end of a migration counts as present',
    start(beside(aDomainOnNode({ state: 'paused', stateReason: 2 }))),
    'refused: present',
  ],
  [
    'a domain that runs where it is asked to run is already so',
    () => planStart(aCluster(beside(aDomainOnNode())), { domain: 'web', node: 'node2', auto: false }),
    'already: present',
  ],
  [
    'with --auto, running anywhere is already so',
    start(beside(aDomainOnNode()), { node: 'node2', auto: true }),
    'already: present',
  ],
  [
    'a domain that is paused where it is asked to run is not "already so"',
    () =>
      planStart(aCluster(beside(aDomainOnNode({ state: 'paused' }))), { domain: 'web', node: 'node2', auto: false }),
    'refused: present',
  ],
  [
    'a domain that runs on two nodes is refused, naming both',
    start({ nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode()])] }),
    'refused: present',
    'refused: present',
  ],
  [
    'another domain with the same uuid is refused while it is present',
    start(beside(aDomainOnNode({ name: 'old-web', uuid: WEB_UUID }))),
    'refused: sameUuid',
  ],
  [
    'another domain with the same uuid that runs where web was asked for is not "already so"',
    () =>
      planStart(aCluster(beside(aDomainOnNode({ name: 'old-web', uuid: WEB_UUID }))), {
        domain: 'web',
        node: 'node2',
        auto: false,
      }),
    'refused: sameUuid',
  ],
  [
    'another domain with the same uuid that is shut off does not stand in the way',
    start(beside(shutOff({ name: 'old-web', uuid: WEB_UUID }))),
    ...STARTED,
  ],
  [
    'a domain of the same name and another uuid is refused while it is present',
    start(beside(aDomainOnNode({ uuid: MAIL_UUID }))),
    'refused: present',
  ],
  [
    'a domain of the same name and another uuid that runs where web was asked for is not "already so"',
    () =>
      planStart(aCluster(beside(aDomainOnNode({ uuid: MAIL_UUID }))), { domain: 'web', node: 'node2', auto: false }),
    'refused: present',
  ],
  ['a saved image on another node is refused', start(beside(shutOff({ managedSave: true }))), 'refused: managedSave'],
  [
    'a saved image on the target itself is refused: create would run past it',
    start({ nodes: [aNode('node1', [shutOff({ managedSave: true })]), aNode('node2')] }),
    'refused: managedSave',
  ],
  [
    'a saved image under another name with the same uuid is refused',
    start(beside(shutOff({ name: 'old-web', uuid: WEB_UUID, managedSave: true }))),
    'refused: sameUuid',
    'refused: managedSave',
  ],
  ['autostart on another node is refused', start(beside(shutOff({ autostart: true }))), 'refused: autostart'],
  [
    'what a node that is called down was seen to autostart is refused',
    start(asleep(WEB_UUID)),
    'refused: autostartLater',
  ],
  [
    'another domain that a node which is called down autostarts does not stand in the way',
    start(asleep(MAIL_UUID)),
    ...STARTED,
  ],
  ['a node that answers tells itself what it autostarts', start(asleep(WEB_UUID, true)), ...STARTED],
  ['a shut off definition elsewhere does not stand in the way, and is told of', start(beside(shutOff())), ...STARTED],

  // Disks
  [
    'a disk that another running domain holds is refused, under another spelling of its path, too',
    start(beside(aDomainOnNode({}, heldDisk))),
    'refused: diskHeld',
  ],
  ...(['web', 'mail'] as const).flatMap((asked): Row[] => [
    [
      `a disk under two names is one disk, whichever of them ${asked} has`,
      start(twoNames(asked, 'naa.6001', 'naa.6001')),
      'refused: diskHeld',
    ],
    [
      `a disk whose partition ${asked === 'web' ? 'another domain' : 'web'} has is held`,
      start(twoNames(asked, 'naa.6001', 'naa.6001-part2')),
      'refused: diskHeld',
    ],
    [
      `two partitions of one disk are two disks, whichever ${asked} has`,
      start(twoNames(asked, 'naa.6001-part1', 'naa.6001-part12')),
      ...STARTED,
    ],
    [
      `a device that only its node can tell is another one there, whichever ${asked} has`,
      start(twoNames(asked, 'local:node1:device 8:16', 'local:node2:device 8:16')),
      ...STARTED,
    ],
  ]),
  [
    'a link to a file that another domain holds is that file, on whatever node it leads there',
    start({
      nodes: [
        aNode('node1', [], { paths: onPath('/srv/web.img', { canonical: '/data/1.img', identity: 'local:node1:/1' }) }),
        aNode('node2', [aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk('/data/1.img')] }))]),
      ],
    }),
    'refused: diskHeld',
  ],
  [
    'a volume is the file that it is',
    start({
      nodes: [
        aNode('node1', [aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk('/images/web')] }))], {
          paths: new Map([
            ...onPath('volume:default/web', { identity: 'local:node1:8:1/images/web' }),
            ...onPath('/images/web', { identity: 'local:node1:8:1/images/web' }),
          ]),
        }),
      ],
      definitions: [aDefinition(aDomain({ disks: [aVolume] }))],
    }),
    'refused: diskHeld',
  ],

  // What libvirt does not list
  ['a domain that runs where libvirt does not list it is refused', start(beside(aStray())), 'refused: unlisted'],
  [
    'and is not "already so" where it was asked for',
    () => planStart(aCluster(beside(aStray())), { domain: 'web', node: 'node2', auto: false }),
    'refused: unlisted',
  ],
  [
    'its uuid under another name is refused for both reasons',
    start(beside(aStray({ name: 'old', uuid: WEB_UUID }))),
    'refused: unlisted',
    'refused: sameUuid',
  ],
  [
    'a disk that it holds is refused',
    start(beside({ ...aDomainOnNode({}, heldDisk), unlistedPid: 7 })),
    'refused: diskHeld',
  ],
  [
    'one whose disks are not known may hold any',
    start(beside({ ...unreadable({ name: 'mail', uuid: MAIL_UUID }), unlistedPid: 7 })),
    'refused: unlisted',
  ],
  [
    'a node that could not be asked for them is refused, wherever the start is',
    start({ nodes: [aNode('node1'), aNode('node2', [], { inquiryProblem: 'ssh: gone' })] }),
    'refused: probeFailed',
  ],
  [
    'a disk that a paused domain holds is refused: it holds no lease',
    start(beside(aDomainOnNode({ state: 'paused' }, heldDisk))),
    'refused: diskHeld',
  ],
  [
    'a disk that a saved image will write again is refused',
    start(beside(shutOff({ managedSave: true }, heldDisk))),
    'refused: diskHeld',
  ],
  ['a disk of a shut off domain is free', start(beside(shutOff({}, heldDisk))), ...STARTED],
  [
    'a shareable disk may be held by others',
    start(beside(aDomainOnNode({}, aDomain({ name: 'mail', disks: [aDisk('/srv/web.img', { shareable: true })] })))),
    ...STARTED,
  ],
  [
    'a running domain whose definition cannot be read may hold the disk, and is refused',
    start(beside(unreadable({ name: 'mail' }))),
    'refused: unreadable',
  ],
  [
    'a domain without disks does not care what others hold',
    start({ ...beside(unreadable({ name: 'mail' })), definitions: [aDefinition(aDomain({ disks: [] }))] }),
    ...STARTED,
  ],
  [
    'a shut off domain whose definition cannot be read holds nothing',
    start(beside({ ...unreadable({ name: 'mail' }), active: false, state: 'shutoff' })),
    ...STARTED,
  ],

  // Rule 2
  [
    'an unreachable node is refused, although another was asked for',
    start({ nodes: [aNode('node1'), aSilentNode('node2')] }),
    'refused: unreachable',
  ],
  ['a busy node is refused', start({ nodes: [aNode('node1'), aSilentNode('node2', 'busy')] }), 'refused: unreachable'],
  [
    'a silent target is named once, although two checks object to it',
    start({ nodes: [aSilentNode('node1'), aNode('node2')] }),
    'refused: unreachable',
  ],
  [
    'with --auto, silent nodes are named and nobody fits is not said of the others',
    start({ nodes: [aNode('node1'), aSilentNode('node2'), aSilentNode('node3')] }, { auto: true }),
    'refused: unreachable',
    'refused: unreachable',
  ],
  [
    'all that stands in the way is said at once',
    start({ nodes: [aNode('node1', [], { pools: [] }), aSilentNode('node2'), aNode('node3', [aDomainOnNode()])] }),
    'refused: present',
    'refused: unreachable',
  ],

  // Rule 8, exactly at the edge: 8192 MiB and 16 vCPUs
  ['memory that fits to the last MiB is given', start(over(8192 - 1024)), ...STARTED],
  ['one MiB too little is refused', start(over(8192 - 1023)), 'refused: memory'],
  ['vCPUs that fit to the last one are given', start(over(0, 15)), ...STARTED],
  ['one vCPU too few is refused', start(over(0, 16)), 'refused: vcpus'],
  [
    'the ratio of memory counts, rounded down',
    start({
      ...over(8192 / 2 - 1023),
      config: { ...defaultConfig, node: { ...defaultConfig.node, memoryRatio: 0.5 } },
    }),
    'refused: memory',
  ],
  [
    'a shut off domain holds no memory',
    start({ nodes: [aNode('node1', [shutOff({}, aDomain({ name: 'mail', memoryMiB: 8000 }))])] }),
    ...STARTED,
  ],

  // What the node must have
  [
    'a disk that is not there is refused',
    start(wanting({}, { paths: onPath('/srv/web.img', { exists: false }) })),
    'refused: diskMissing',
  ],
  [
    'a pool that is not active is refused',
    start(wanting({ disks: [aDisk('', { source: { kind: 'volume', pool: 'fast', volume: 'web' } })] })),
    'refused: poolMissing',
  ],
  [
    'a network that is not active is refused',
    start(wanting({ interfaces: [{ kind: 'network', source: 'dmz' }] })),
    'refused: networkMissing',
  ],
  [
    'a bridge that is not there is refused',
    start(wanting({ interfaces: [{ kind: 'bridge', source: 'br0' }] }, { devices: new Map([['br0', false]]) })),
    'refused: bridgeMissing',
  ],
  [
    'a device of a direct interface that is not there is refused',
    start(wanting({ interfaces: [{ kind: 'direct', source: 'eno1' }] }, { devices: new Map([['eno1', false]]) })),
    'refused: bridgeMissing',
  ],
  [
    'network, bridge, pool and disk that are there do not stand in the way',
    start(
      wanting(
        {
          cpu: A_CPU,
          interfaces: [{ kind: 'network', source: 'default' }, { kind: 'bridge', source: 'br0' }, { kind: 'user' }],
          disks: [aDisk('/srv/web.img'), aDisk('', { source: { kind: 'volume', pool: 'default', volume: 'web' } })],
        },
        { devices: new Map([['br0', true]]), paths: onPath('/srv/web.img'), ...cpuSays('runs') },
      ),
    ),
    ...STARTED,
  ],
  ['a CPU that the node cannot run is refused', start(wanting({ cpu: A_CPU }, cpuSays('cannot'))), 'refused: cpuModel'],
  [
    'a CPU that could not be compared is refused',
    start(wanting({ cpu: A_CPU }, cpuSays({ unknown: 'no' }))),
    'refused: cpuUnknown',
  ],
  ['huge pages are refused', start(wanting({ hugePages: true })), 'refused: hugePages'],
  [
    'a node that could not be asked is refused',
    start(wanting({}, { inquiryProblem: 'timeout' })),
    'refused: probeFailed',
  ],

  // --auto
  [
    '--auto takes the node with the most memory left',
    start(
      {
        nodes: [
          aNode('node1', [aDomainOnNode({ name: 'a', uuid: MAIL_UUID })]),
          aNode('node2'),
          aNode('node3', [], { memoryMiB: 8703 }),
        ],
      },
      { auto: true },
    ),
    'recordIntent may run',
    'createDomain node2',
  ],
  [
    '--auto takes, of two with the same memory, the one with more vCPUs left',
    start({ nodes: [aNode('node1'), aNode('node2', [], { cpus: 8 })] }, { auto: true }),
    'recordIntent may run',
    'createDomain node2',
  ],
  [
    '--auto passes over a node that has more memory and lacks the network',
    start(
      {
        nodes: [aNode('node1', [], { memoryMiB: 64_000, networks: [] }), aNode('node2')],
        definitions: [aDefinition(aDomain({ interfaces: [{ kind: 'network', source: 'default' }] }))],
      },
      { auto: true },
    ),
    'recordIntent may run',
    'createDomain node2',
  ],
  [
    '--auto with no node that can says why for each, and that nobody fits',
    start(
      {
        definitions: [aDefinition(aDomain({ cpu: A_CPU }))],
        nodes: [aNode('node1', [], cpuSays('cannot')), aNode('node2', [], { inquiryProblem: 'no' })],
      },
      { auto: true },
    ),
    'refused: probeFailed',
    'refused: cpuModel',
    'refused: nobodyFits',
  ],
]

describe('start', () => {
  checkRows(ROWS)

  test('the definition that was read is the one that is started: its path and hash are in the step', () => {
    const plan = start({})()
    expect(plan).toMatchObject({
      steps: [{ manual: false }, { definition: 'conf/web.xml', sha256: 'sha-of-web', uuid: WEB_UUID, node: 'node1' }],
    })
  })

  test('a shut off definition elsewhere is worth a note', () => {
    expect(start(beside(shutOff()))()).toMatchObject({ notes: [expect.stringContaining('also defined on node2')] })
  })
})
