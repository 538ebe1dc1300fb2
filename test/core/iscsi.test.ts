/** Portals as the configuration writes them, and what an iSCSI scan plans from what nodes see. */
import { describe, expect, test } from 'vitest'
import { parseOffers, parsePortal, portalProblem } from '../../src/core/iscsi.ts'
import {
  discoveryCommand,
  type IscsiFacts,
  LOGOUT_SCRIPT,
  type NodeIscsi,
  planLogins,
  planRemovals,
  preparation,
  type SeenDisk,
  TAKE_OFF_SCRIPT,
} from '../../src/core/plan/iscsi.ts'
import { aCluster, aDefinition, aDisk, aDomain, aNode, aSilentNode, type ClusterParts, unreadable } from './builders.ts'

describe('a portal', () => {
  test.each([
    ['10.0.0.1', { address: '10.0.0.1:3260' }],
    ['nas.example:860', { address: 'nas.example:860' }],
    ['[fd00::1]', { address: '[fd00::1]:3260' }],
    [
      '10.0.0.1 username=havirt password=@/etc/x',
      { address: '10.0.0.1:3260', chap: { username: 'havirt', passwordFile: '/etc/x' } },
    ],
  ])('%s', (text, portal) => expect(parsePortal(text)).toEqual(portal))

  test.each([
    ['', 'does not begin with an address'],
    ['-p', 'does not begin with an address'],
    ['10.0.0.1:0', 'does not begin with an address'],
    ['10.0.0.1 username=a', 'CHAP needs both'],
    ['10.0.0.1 username=a password=geheim', 'a password in clear'],
    ['10.0.0.1 user=a', 'takes username=NAME and password=@FILE'],
    ['10.0.0.1 username=a username=b password=@/x', 'each once'],
  ])('%s is none: %s', (text, why) => {
    expect(parsePortal(text)).toContain(why)
    expect(parsePortal(text)).not.toContain('geheim')
  })

  test('may stand there once', () => {
    expect(portalProblem('10.0.0.1:3260', ['10.0.0.1'])).toContain('is there twice')
  })
})

test('what a portal offers, in the words of iscsiadm', () => {
  const text =
    '10.0.0.1:3260,1 iqn.2003-01.org.linux-iscsi.nas:sn.1\n[fd00::1]:3260,2 iqn.2003-01.org:b\n10.0.0.9:3260,-1 eui.0123\n\nodd line\n'
  expect(parseOffers(text)).toEqual([
    { portal: '10.0.0.1:3260', target: 'iqn.2003-01.org.linux-iscsi.nas:sn.1' },
    { portal: '[fd00::1]:3260', target: 'iqn.2003-01.org:b' },
    { portal: '10.0.0.9:3260', target: 'eui.0123' },
  ])
})

const P = '10.0.0.1:3260'
const A = 'iqn.2003-01.org:a'
const session = { target: A, portal: P, state: 'LOGGED_IN' }
const disk = (more: Partial<SeenDisk> = {}): SeenDisk => ({
  target: A,
  lun: '1',
  device: 'sdb',
  wwid: 'naa.6001',
  bytes: 5,
  uses: [],
  reads: true,
  ...more,
})
const seen = (more: Partial<NodeIscsi> = {}): NodeIscsi => ({
  sessions: [session],
  disks: [disk()],
  offers: new Map([[P, [{ target: A, portal: P }]]]),
  ...more,
})

function factsOf(node1: NodeIscsi, node2 = node1, parts: ClusterParts = {}, wanted = ['node1', 'node2']): IscsiFacts {
  const cluster = aCluster({ nodes: [aNode('node1'), aNode('node2')], definitions: [], ...parts })
  return {
    cluster,
    nodes: new Map([
      ['node1', node1],
      ['node2', node2],
    ]),
    portals: [{ address: P }],
    wanted,
  }
}

/** The commands; of those that look once more first, the words behind their script. */
const lines = (acts: readonly { command: { node: string; argv: readonly string[] } }[]) =>
  acts.map(({ command: { node, argv } }) => {
    const script = argv[2] === TAKE_OFF_SCRIPT ? 'take off' : argv[2] === LOGOUT_SCRIPT ? 'log out' : undefined
    return `${node}: ${script === undefined ? argv.join(' ') : `${script} ${argv.slice(4).join(' ')}`}`
  })

describe('logins', () => {
  test('a new target is learnt, set to come back at boot, and logged in to, where it is new', () => {
    const facts = factsOf(seen({ sessions: [], disks: [] }), seen())
    const record = `iscsiadm -m node -T ${A} -p ${P}`
    expect(lines(planLogins(facts))).toEqual([
      `node1: ${record} -o new`,
      `node1: ${record} -o update -n node.startup -v automatic`,
      `node1: ${record} --login`,
      'node2: iscsiadm -m session --rescan',
    ])
  })

  test('only on the nodes that were asked for', () => {
    expect(lines(planLogins(factsOf(seen(), seen(), {}, ['node2'])))).toEqual(['node2: iscsiadm -m session --rescan'])
  })

  test('with CHAP no password is an argument, neither for a portal nor for a target', () => {
    const portal = { address: P, chap: { username: 'u', passwordFile: '/etc/x' } }
    const facts = { ...factsOf(seen({ sessions: [] })), portals: [portal] }
    const all = [...preparation('node1', portal), ...planLogins(facts)]
    expect(all.filter(({ command }) => command.stdin === '/etc/x')).toHaveLength(3)
    expect(lines(all).join('\n')).not.toMatch(/-n \S*password/)
    expect(discoveryCommand('node1', portal).argv).toContain('discoverydb')
  })
})

describe('what vanished', () => {
  const noOffers = new Map([[P, []]])
  const lost = seen({ disks: [disk({ reads: false })] })
  const taken = (facts: IscsiFacts) => lines(planRemovals(facts).acts)
  const kept = (facts: IscsiFacts) => planRemovals(facts).kept.map(({ node, why }) => `${node}: ${why}`)

  test('a target that no portal offers any more is logged out of and forgotten on every node', () => {
    const record = `iscsiadm -m node -T ${A} -p ${P}`
    expect(taken(factsOf(seen({ offers: noOffers })))).toEqual(
      ['node1', 'node2'].flatMap(node => [`${node}: log out ${A} ${P} sdb naa.6001`, `${node}: ${record} -o delete`]),
    )
  })

  test('a disk that nobody can read although its sessions stand is taken off', () => {
    expect(taken(factsOf(lost))).toEqual(['node1', 'node2'].map(node => `${node}: take off sdb naa.6001`))
  })

  test('what is there is left alone', () => {
    expect(planRemovals(factsOf(seen()))).toEqual({ acts: [], kept: [] })
  })

  test.each([
    ['one node still is offered it', factsOf(seen({ offers: noOffers }), seen())],
    [
      'one node could not ask the portal',
      factsOf(seen({ offers: noOffers }), seen({ offers: new Map([[P, 'no route']]) })),
    ],
    [
      'it comes from a portal that the configuration does not name',
      factsOf(seen({ sessions: [{ ...session, portal: '10.9.9.9:3260' }], offers: noOffers })),
    ],
    ['one node can read it', factsOf(lost, seen())],
    [
      'its session is broken on a node: that says nothing of the target',
      factsOf(lost, seen({ sessions: [{ ...session, state: 'FAILED' }], disks: [disk({ reads: false })] })),
    ],
  ])('nothing is taken away when %s', (_, facts) => {
    expect(taken(facts)).toEqual([])
  })

  test.each([
    [
      'a node is silent',
      factsOf(lost, lost, { nodes: [aNode('node1'), aNode('node2'), aSilentNode('node3')] }),
      'node1: node3 is unreachable and may use it',
    ],
    [
      'a node could not be asked',
      factsOf(lost, lost, { nodes: [aNode('node1'), aNode('node2'), aNode('node3')] }),
      'node1: node3 could not be asked',
    ],
    [
      'another node has it mounted',
      factsOf(lost, seen({ disks: [disk({ reads: false, uses: ['it is mounted on /srv'] })] })),
      'node1: node2 uses it: it is mounted on /srv',
    ],
    [
      'a definition has it by its WWID',
      factsOf(lost, lost, { definitions: [aDefinition(aDomain({ disks: [aDisk('/dev/disk/by-id/wwn-0x6001')] }))] }),
      'node1: the domain web has it',
    ],
    [
      'a definition has it by its target',
      factsOf(lost, lost, {
        definitions: [aDefinition(aDomain({ disks: [aDisk(`/dev/disk/by-path/ip-${P}-iscsi-${A}-lun-1`)] }))],
      }),
      'node1: the domain web has it',
    ],
    [
      'a running domain could not be read',
      factsOf(lost, lost, { nodes: [aNode('node1', [unreadable()]), aNode('node2')] }),
      'node1: nobody could read which disks web has on node1',
    ],
    [
      'a definition cannot be read',
      factsOf(lost, lost, { definitions: [{ name: 'odd', path: 'conf/odd.xml', sha256: '', problem: 'line 1' }] }),
      'node1: conf/odd.xml cannot be read',
    ],
    [
      'a node did not say what lies behind its paths',
      factsOf(lost, lost, { nodes: [aNode('node1', [], { inquiryProblem: 'no' }), aNode('node2')] }),
      'node1: node1 could not be asked',
    ],
    [
      'a definition has it by a WWID that is written otherwise',
      factsOf(
        seen({ offers: noOffers, disks: [disk({ wwid: 't10.IET     00010001' })] }),
        seen({ offers: noOffers, disks: [disk({ wwid: 't10.IET     00010001' })] }),
        { definitions: [aDefinition(aDomain({ disks: [aDisk('/dev/disk/by-id/scsi-1IET_00010001')] }))] },
      ),
      'node1: the domain web has it',
    ],
    [
      'it has no WWID',
      factsOf(seen({ offers: noOffers, disks: [disk({ wwid: '' })] })),
      'node1: sdb has no WWID, so nobody knows who uses it',
    ],
  ])('it is kept, and told why, when %s', (_, facts, why) => {
    expect(taken(facts)).toEqual([])
    expect(kept(facts)[0]).toBe(why)
  })
})
