/** How nodes get leases and lose them: what stands in the way, who gets which host id, and what the commands do to real files. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type NodeAct, pasteableLine } from '../../../src/core/command.ts'
import { MAX_HOST_ID, type NodeLeases } from '../../../src/core/lease.ts'
import {
  disableActs,
  enableActs,
  folderProblem,
  type Ground,
  type HostIdBook,
  joinSeconds,
  KEPT_SUFFIX,
  type LeaseSetup,
  setupRefusals,
  withHostIds,
} from '../../../src/core/plan/lease-setup.ts'
import { LEASES_SCRIPT, parseLeases } from '../../../src/nodes/leases.ts'
import { aCluster, aNode, aSilentNode } from '../builders.ts'
import {
  aFreshNode,
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
  NO_SETTINGS,
  sanlockSettings,
} from '../lease-builders.ts'

const WEB = '/srv/web.img'
const SOUND: Ground = { missingOn: [], elsewhere: [], unwritable: [], indirect: new Map() }

/** sanlock in /srv/leases on node1 to node3, with host ids 1 to 3. */
const aSetup = (more: Partial<LeaseSetup> = {}): LeaseSetup => ({
  manager: 'sanlock',
  folder: LEASES,
  ioTimeoutSeconds: 10,
  nodes: ['node1', 'node2', 'node3'],
  hostIds: new Map([1, 2, 3].map(id => [`node${id}`, id])),
  ...more,
})
const LOCKD = aSetup({ manager: 'lockd', hostIds: new Map() })

/** Its sanlock runs, and is in no lockspace. */
const IN_NO_SPACE = aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: undefined }) })

const fresh = (...names: readonly string[]) => new Map(names.map(name => [name, aFreshNode()]))

function refused(parts: FactParts, setup: Partial<LeaseSetup> = {}, ground: Partial<Ground> = {}) {
  const facts = leaseFactsOf({ nodes: fresh('node1', 'node2', 'node3'), hosts: new Map(), ...parts })
  return setupRefusals(facts, aSetup(setup), { ...SOUND, ...ground })
}

describe('what stands in the way', () => {
  test('nothing on three fresh nodes that share a sound folder', () => {
    expect(refused({})).toEqual([])
    expect(refused({}, LOCKD)).toEqual([])
  })

  test('nothing where it is all so already, also while leases are held', () => {
    const nodes = new Map([1, 2, 3].map(id => [`node${id}`, holding(id, { web: [WEB] })]))
    expect(refused({ nodes, hosts: hostsOf(aLeaseHost(1), aLeaseHost(2), aLeaseHost(3)) })).toEqual([])
  })

  test('a silent node that is asked for', () => {
    const cluster = aCluster({ nodes: [aNode('node1'), aSilentNode('node2'), aNode('node3')] })
    expect(refused({ cluster, nodes: fresh('node1', 'node3') })).toMatchObject([
      { reason: 'unreachable', node: 'node2' },
    ])
  })

  test('not one that is not asked for', () => {
    const cluster = aCluster({ nodes: [aNode('node1'), aSilentNode('node2')] })
    expect(refused({ cluster, nodes: fresh('node1') }, { nodes: ['node1'] })).toEqual([])
  })

  test('a node that answers and cannot be asked for its leases', () => {
    expect(refused({ nodes: fresh('node1', 'node2'), unasked: new Map([['node3', 'sh: not found']]) })).toEqual([
      { reason: 'probeFailed', node: 'node3', problem: 'sh: not found' },
    ])
  })

  test.each([
    ['sanlock', 'sanlock', 'apt install sanlock ', 'dnf install sanlock '],
    ['sanlock', 'sanlock.so', 'apt install libvirt-sanlock ', 'dnf install libvirt-lock-sanlock '],
    ['lockd', 'virtlockd', 'apt install libvirt-daemon,', 'dnf install libvirt-daemon-lock '],
    ['lockd', 'lockd.so', 'apt install libvirt-daemon,', 'dnf install libvirt-daemon-plugin-lockd '],
  ] as const)('%s without %s: what to install, on both families', (manager, what, debian, fedora) => {
    const all = ['sanlock', 'sanlock.so', 'virtlockd', 'lockd.so']
    const nodes = new Map([['node1', aFreshNode({ installed: new Set(all.filter(each => each !== what)) })]])
    const refusals = refused({ nodes }, { manager, nodes: ['node1'] })
    expect(refusals).toMatchObject([{ reason: 'leaseGround', node: 'node1', problem: `node1 lacks ${what}` }])
    const [{ fix = '' } = {}] = refusals as { fix?: string }[]
    expect(`${fix} `).toContain(debian)
    expect(`${fix} `).toContain(fedora)
  })

  test('nothing is missing that only the other manager needs', () => {
    const nodes = new Map([['node1', aFreshNode({ installed: new Set(['sanlock', 'sanlock.so']) })]])
    expect(refused({ nodes }, { nodes: ['node1'] })).toEqual([])
  })

  test.each<[string, Partial<Ground>, string]>([
    ['a folder that is not there', { missingOn: ['node2'] }, '/srv/leases is not there on node2'],
    ['another folder', { elsewhere: ['node3'] }, 'another folder than on the other nodes'],
    ['a folder that root cannot write', { unwritable: ['node1'] }, 'root on node1 cannot write into /srv/leases'],
    [
      'a filesystem without direct I/O',
      { indirect: new Map([['node2', 'dd: Invalid argument']]) },
      'past the page cache, as sanlock does: dd: Invalid argument',
    ],
  ])('%s', (_, ground, text) => {
    const refusals = refused({}, {}, ground)
    expect(refusals).toMatchObject([{ reason: 'leaseGround', problem: expect.stringContaining(text) }])
  })

  test('virtlockd needs no direct I/O, and a folder all the same', () => {
    expect(refused({}, LOCKD, { indirect: new Map([['node2', 'no']]) })).toEqual([])
    expect(refused({}, LOCKD, { missingOn: ['node2'] })).toHaveLength(1)
  })

  test.each([
    ['rw,nolock,hard', 'nolock'],
    ['rw,local_lock=all', 'local_lock=all'],
    ['local_lock=posix,rw', 'local_lock=posix'],
  ])('virtlockd on a mount that keeps locks to itself: %s', (options, word) => {
    const folder = { path: LEASES, exists: true, filesystem: 'nfs', source: 'nas:/leases', options }
    const nodes = new Map([['node1', aFreshNode({ folder })]])
    expect(refused({ nodes }, { ...LOCKD, nodes: ['node1'] })).toMatchObject([
      { reason: 'leaseGround', problem: expect.stringContaining(`with ${word}, so that no lock leaves the node`) },
    ])
    expect(refused({ nodes }, { nodes: ['node1'] })).toEqual([])
  })

  test.each(['rw,local_lock=none', 'rw,local_lock=flock', 'rw,nolocking', ''])(
    'a mount that hands locks on is sound: %s',
    options => {
      const folder = { path: LEASES, exists: true, filesystem: 'nfs', source: 'nas:/leases', options }
      const nodes = new Map([['node1', aFreshNode({ folder })]])
      expect(refused({ nodes }, { ...LOCKD, nodes: ['node1'] })).toEqual([])
    },
  )

  test('how another folder is mounted does not matter', () => {
    const folder = { path: '/other', exists: true, filesystem: 'nfs', source: 'nas:/other', options: 'nolock' }
    expect(refused({ nodes: new Map([['node1', aFreshNode({ folder })]]) }, { ...LOCKD, nodes: ['node1'] })).toEqual([])
  })

  test('another node has the other manager, and is not asked for', () => {
    const nodes = new Map([
      ['node1', aFreshNode()],
      ['node2', aNodeWithLockd()],
    ])
    expect(refused({ nodes }, { nodes: ['node1'] })).toEqual([
      { reason: 'leaseMixed', node: 'node2', manager: 'lockd', wanted: 'sanlock' },
    ])
    expect(refused({ nodes }, { nodes: ['node1', 'node2'] })).toEqual([])
  })

  describe('leases that are held now', () => {
    const change = (leases: NodeLeases, setup: Partial<LeaseSetup>) =>
      refused({ nodes: new Map([['node1', leases]]) }, { nodes: ['node1'], ...setup })

    test('of the other manager', () => {
      expect(change(holding(1, { web: [WEB], mail: ['/srv/mail.img'] }), { ...LOCKD, nodes: ['node1'] })).toEqual([
        { reason: 'leasesInUse', node: 'node1', domains: ['mail', 'web'], change: 'it used sanlock' },
      ])
      const lockd = aNodeWithLockd([WEB], { pids: new Map([['web', 7]]) })
      expect(change(lockd, {})).toEqual([
        { reason: 'leasesInUse', node: 'node1', domains: ['web'], change: 'it used lockd' },
      ])
    })

    test('in another folder', () => {
      expect(change(holding(1, { web: [WEB] }), { folder: '/srv/new' })).toMatchObject([
        { reason: 'leasesInUse', node: 'node1', domains: ['web'], change: 'the folder was /srv/leases' },
        { reason: 'leaseGround' },
      ])
    })

    test('by a process that is no domain', () => {
      expect(change(holding(1, { web: [WEB] }, { pids: new Map() }), { folder: '/srv/new' })).toMatchObject([
        { domains: ['process 101'] },
        { reason: 'leaseGround' },
      ])
    })

    test('nobody holds any: it can change', () => {
      expect(change(IN_NO_SPACE, { folder: '/srv/new' })).toEqual([])
      expect(change(aNodeWithLockd(), {})).toEqual([])
    })
  })

  describe('a lockspace that was joined: libvirt does not leave it when its settings change', () => {
    const joined = (space: Parameters<typeof aLockspace>[0], setup: Partial<LeaseSetup> = {}) =>
      refused(
        { nodes: new Map([['node1', aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace(space) }) })]]) },
        { nodes: ['node1'], ...setup },
      )

    test.each<[string, Partial<LeaseSetup>, string]>([
      ['of another folder', { folder: '/srv/new' }, 'in /srv/leases/__LIBVIRT__DISKS__'],
      ['under another host id', { hostIds: new Map([['node1', 4]]) }, 'with host id 1 instead of 4'],
      ['with another time-out', { ioTimeoutSeconds: 20 }, 'with io_timeout 10'],
    ])('%s', (_, setup, text) => {
      const [refusal, ...others] = joined({}, setup)
      expect(others).toEqual([])
      expect(refusal).toMatchObject({
        reason: 'leaseGround',
        node: 'node1',
        problem: `node1 has joined the lockspace ${text}, and does not leave it by itself`,
        fix: expect.stringContaining('rem_lockspace -s __LIBVIRT__DISKS__:1:/srv/leases/__LIBVIRT__DISKS__:0;'),
      })
    })

    test('and is the right one', () => {
      expect(joined({})).toEqual([])
      expect(joined({ ioTimeoutSeconds: 2 }, { ioTimeoutSeconds: 2 })).toEqual([])
    })

    test('does not matter to virtlockd', () => {
      expect(joined({ path: '/srv/old/__LIBVIRT__DISKS__' }, { ...LOCKD, nodes: ['node1'] })).toEqual([])
    })
  })

  describe('a host id', () => {
    const taken = (nodes: FactParts['nodes'], hosts: FactParts['hosts'] = new Map(), more: FactParts = {}) =>
      refused({ ...(nodes === undefined ? {} : { nodes }), hosts, ...more }, { nodes: ['node1'] })

    test('that another node has joined with', () => {
      const twin = aNodeWithLeases(1, { settings: NO_SETTINGS })
      expect(
        taken(
          new Map([
            ['node1', aFreshNode()],
            ['node2', twin],
          ]),
        ),
      ).toEqual([{ reason: 'hostIdTaken', node: 'node1', hostId: 1, by: 'node2' }])
    })

    test('that a machine outside of the cluster has', () => {
      expect(taken(fresh('node1'), hostsOf(aLeaseHost(1, { name: 'other' })))).toEqual([
        { reason: 'hostIdTaken', node: 'node1', hostId: 1, by: 'the machine that joined the lockspace as other' },
      ])
    })

    test.each<[string, FactParts['nodes'], FactParts['hosts'], FactParts]>([
      ['that nobody has', fresh('node1'), new Map(), {}],
      ['that a machine had which left', fresh('node1'), hostsOf(aLeaseHost(1, { name: 'other', timestamp: 0 })), {}],
      ['that it had itself before it crashed, by its name', fresh('node1'), hostsOf(aLeaseHost(1)), {}],
      [
        'under the name that its settings give it',
        new Map([['node1', aFreshNode({ settings: { ...NO_SETTINGS, hostName: 'n1' } })]]),
        hostsOf(aLeaseHost(1, { name: 'n1' })),
        {},
      ],
      [
        'under the name that its sanlock made up',
        new Map([['node1', aFreshNode({ sanlock: aSanlock({ hostName: 'uuid-1', lockspace: undefined }) })]]),
        hostsOf(aLeaseHost(1, { name: 'uuid-1' })),
        {},
      ],
      [
        'with which it has joined, under whatever name',
        new Map([['node1', aNodeWithLeases(1)]]),
        hostsOf(aLeaseHost(1, { name: 'before' })),
        {},
      ],
      [
        'that somebody has in the lockspace of another folder',
        fresh('node1'),
        hostsOf(aLeaseHost(1, { name: 'other' })),
        { folder: '/srv/old' },
      ],
    ])('%s is free for it', (_, nodes, hosts, more) => {
      expect(taken(nodes, hosts, more)).toEqual([])
    })

    test('does not matter to virtlockd', () => {
      const nodes = new Map([
        ['node1', aFreshNode()],
        ['node2', aNodeWithLeases(1, { settings: NO_SETTINGS })],
      ])
      expect(refused({ nodes }, { ...LOCKD, nodes: ['node1'], hostIds: new Map([['node1', 1]]) })).toEqual([])
    })
  })

  test('all of it is said at once', () => {
    const nodes = new Map([
      ['node1', aFreshNode({ installed: new Set() })],
      ['node2', aNodeWithLockd()],
    ])
    const cluster = aCluster({ nodes: [aNode('node1'), aNode('node2'), aSilentNode('node3')] })
    const all = refused({ nodes, cluster }, { nodes: ['node1', 'node3'] }, { missingOn: ['node1'] })
    expect(all.map(({ reason }) => reason)).toEqual([
      'unreachable',
      'leaseGround',
      'leaseGround',
      'leaseGround',
      'leaseMixed',
    ])
  })
})

// ---- host ids --------------------------------------------------------------------------------------------------------------

describe('host ids', () => {
  const give = (book: HostIdBook, ids: readonly string[], hosts: readonly number[] = [], configured?: number) =>
    withHostIds(
      book,
      ids.map(nodeId => ({ node: `name-of-${nodeId}`, nodeId, configured })),
      hostsOf(...hosts.map(id => aLeaseHost(id))),
    )

  test('the lowest that nobody has, in the order of the nodes', () => {
    expect(give({}, ['a', 'b'])).toEqual({
      a: { node: 'name-of-a', hostId: 1 },
      b: { node: 'name-of-b', hostId: 2 },
    })
  })

  test('what a node has stays, also under another name', () => {
    const book = { a: { node: 'before', hostId: 7 } }
    expect(give(book, ['a'], [], 3)).toBe(book)
  })

  test('what its configuration says is taken over, where the book has given it to nobody', () => {
    expect(give({}, ['a'], [], 5)['a']?.hostId).toBe(5)
    expect(give({}, ['a'], [5], 5)['a']?.hostId).toBe(5)
    expect(give({ b: { node: 'b', hostId: 5 } }, ['a'], [], 5)['a']?.hostId).toBe(1)
    expect(give({}, ['a', 'b'], [], 5)).toMatchObject({ a: { hostId: 5 }, b: { hostId: 1 } })
  })

  test.each([0, -1, 2001, 1.5, Number.NaN])('a configuration of %s is none', configured => {
    expect(give({}, ['a'], [], configured)['a']?.hostId).toBe(1)
  })

  test('none that stands in the lockspace, also of a machine that left, nor of a node that was removed', () => {
    expect(give({ gone: { node: 'gone', hostId: 1 } }, ['a'], [2, 3])['a']?.hostId).toBe(4)
  })

  const ids = fc.integer({ min: 1, max: 12 })
  const newcomer = fc.record({
    nodeId: fc.constantFrom(...'abcdefghijklmnop'),
    configured: fc.option(fc.oneof(ids, fc.constantFrom(0, -3, MAX_HOST_ID, MAX_HOST_ID + 1)), { nil: undefined }),
  })

  test('any additions in any order: all ids differ, what was given stays, and nothing of the lockspace is given anew', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.array(newcomer), fc.uniqueArray(ids)), { maxLength: 6 }), rounds => {
        let book: HostIdBook = {}
        for (const [some, inSpace] of rounds) {
          const hosts = hostsOf(...inSpace.map(id => aLeaseHost(id)))
          const after = withHostIds(
            book,
            some.map(each => ({ node: each.nodeId, ...each })),
            hosts,
          )
          expect(after).toMatchObject(book)
          for (const { nodeId } of some) expect(after[nodeId]).toBeDefined()
          const given = Object.values(after).map(({ hostId }) => hostId)
          expect(new Set(given).size).toBe(given.length)
          expect(given.every(id => Number.isInteger(id) && id >= 1 && id <= MAX_HOST_ID)).toBe(true)
          for (const [nodeId, { hostId }] of Object.entries(after))
            if (book[nodeId] === undefined && hosts.has(hostId))
              expect(some.some(each => each.nodeId === nodeId && each.configured === hostId)).toBe(true)
          book = after
        }
      }),
    )
  })
})

// ---- acts ------------------------------------------------------------------------------------------------------------------

const printed = (acts: readonly NodeAct[]) =>
  `${acts.flatMap(({ why, command }) => [`# ${why}`, pasteableLine(command, 'here')]).join('\n')}\n`
const programs = (acts: readonly NodeAct[]) => acts.map(({ command: { argv } }) => argv.slice(0, 3).join(' '))

describe('what enabling does', () => {
  test.each<[string, NodeLeases, LeaseSetup]>([
    ['lease-enable-sanlock', aFreshNode(), aSetup()],
    ['lease-enable-lockd', aFreshNode(), LOCKD],
    [
      'lease-enable-other-values',
      aNodeWithLeases(1, {
        settings: {
          ...sanlockSettings(1, { disk_lease_dir: '/srv/old', user: 'root', io_timeout: '5' }),
          hostName: '',
        },
        service: 'virtqemud',
      }),
      aSetup({ ioTimeoutSeconds: 20 }),
    ],
    ['lease-enable-from-lockd', aNodeWithLockd([], { user: 'root' }), aSetup()],
  ])('%s', async (file, leases, setup) => {
    await expect(printed(enableActs('node1', leases, setup))).toMatchFileSnapshot(`golden/${file}.golden`)
  })

  test('nothing on a node where all is so already', () => {
    expect(enableActs('node1', aNodeWithLeases(1), aSetup())).toEqual([])
    expect(enableActs('node1', aNodeWithLockd(), LOCKD)).toEqual([])
  })

  test('nothing while it joins: a restart would only begin that anew', () => {
    const joining = aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: aLockspace({ state: 'joining' }) }) })
    expect(enableActs('node1', joining, aSetup())).toEqual([])
  })

  test.each<[string, NodeLeases, LeaseSetup, string[]]>([
    [
      'sanlock does not run',
      aNodeWithLeases(1, { sanlock: undefined }),
      aSetup(),
      ['systemctl enable --now', 'systemctl restart libvirtd'],
    ],
    [
      'it has not joined',
      aNodeWithLeases(1, { sanlock: aSanlock({ lockspace: undefined }) }),
      aSetup(),
      ['systemctl restart libvirtd'],
    ],
    [
      'virtlockd does not run',
      aNodeWithLockd([], { lockd: undefined }),
      LOCKD,
      ['systemctl enable --now', 'systemctl restart libvirtd'],
    ],
    [
      'virtlockd is newer',
      aNodeWithLockd([], { lockd: { held: [], newerThanLibvirt: true } }),
      LOCKD,
      ['systemctl restart libvirtd'],
    ],
  ])('only what is not so, where %s', (_, leases, setup, words) => {
    expect(programs(enableActs('node1', leases, setup))).toEqual(words)
  })

  test('a sanlock without a name gets one: at once when it is idle, and else when it next starts', () => {
    const settings = { ...sanlockSettings(1), hostName: '' }
    const named = (sanlock: NodeLeases['sanlock']) =>
      programs(enableActs('node1', aNodeWithLeases(1, { settings, sanlock }), aSetup()))
    expect(named(aSanlock({ lockspace: undefined }))).toContain('systemctl restart sanlock')
    expect(named(aSanlock())).not.toContain('systemctl restart sanlock')
    expect(named(undefined)).not.toContain('systemctl restart sanlock')
    expect(named(aSanlock())[0]).toMatch(/^sh -c mkdir/)
  })

  test('every node writes its own host id', () => {
    const lines = ['node1', 'node3'].map(node => printed(enableActs(node, aFreshNode(), aSetup())))
    expect(lines[0]).toContain("host_id = 1'")
    expect(lines[1]).toContain("host_id = 3'")
    expect(lines[1]).toContain('our_host_name = node3')
  })

  test('the time-out is written where it is not the usual, or stands there already', () => {
    const text = (leases: NodeLeases, ioTimeoutSeconds: number) =>
      printed(enableActs('node1', leases, aSetup({ ioTimeoutSeconds })))
    expect(text(aFreshNode(), 10)).not.toContain('io_timeout')
    expect(text(aFreshNode(), 20)).toContain('io_timeout = 20')
    expect(text(aNodeWithLeases(1, { settings: sanlockSettings(1, { io_timeout: '20' }) }), 10)).toContain(
      'io_timeout = 10',
    )
    expect(text(aNodeWithLeases(1, { settings: sanlockSettings(1, { io_timeout: '10' }) }), 10)).toBe('\n')
  })

  test('files are on the disk before libvirt reads them', () => {
    const acts = programs(enableActs('node1', aFreshNode(), aSetup()))
    expect(acts.slice(-2)).toEqual([
      'sync /etc/libvirt/qemu-sanlock.conf /etc/libvirt/qemu.conf',
      'systemctl restart libvirtd',
    ])
  })
})

describe('what disabling does', () => {
  test.each<[string, NodeLeases]>([
    ['lease-disable-sanlock', aNodeWithLeases(1, { settings: sanlockSettings(1, { io_timeout: '20' }) })],
    ['lease-disable-lockd', aNodeWithLockd([], { service: 'virtqemud' })],
  ])('%s', async (file, leases) => {
    await expect(printed(disableActs('node1', leases))).toMatchFileSnapshot(`golden/${file}.golden`)
  })

  test('nothing where there is no manager, or one that is not ours', () => {
    expect(disableActs('node1', aFreshNode())).toEqual([])
    expect(disableActs('node1', aFreshNode({ settings: { ...NO_SETTINGS, manager: 'other' } }))).toEqual([])
  })

  test('stops no daemon: what runs is registered with it', () => {
    expect(
      programs(disableActs('node1', holding(1, { web: [WEB] }))).filter(
        line => line.includes('sanlock') && line.startsWith('systemctl'),
      ),
    ).toEqual([])
  })

  test('without settings in its own file, only the manager goes', () => {
    const acts = disableActs('node1', aNodeWithLeases(1, { settings: { ...sanlockSettings(1), sanlock: new Map() } }))
    expect(acts.filter(({ command }) => command.argv[0] === 'sed')).toHaveLength(1)
  })
})

// ---- sed, on files ----------------------------------------------------------------------------------------------------------

/** Files with the shape of Debian's: all of it comments, with an example of each key among them. */
const DEBIAN = {
  'qemu.conf': `# Use of TLS requires that x509 certificates be issued.
#
#vnc_tls = 1

user = "libvirt-qemu"
  # lock_manager = "nop", an example with blanks before it
#lock_manager = "lockd"

# tabs\tand trailing blanks  \n#max_files = 32768
security_driver = "none"\n\n\n`,
  'qemu-sanlock.conf': `#
# The unique ID for this host.
# host_id = 1 is what the first one has
#host_id = 1

#disk_lease_dir = "/var/lib/libvirt/sanlock"
#auto_disk_leases = 1
# user_name = "a key that only begins so"
#user = "root"
#group = "root"
`,
  'qemu-lockd.conf': `#auto_disk_leases = 0
#require_lease_for_disks = 1
#file_lockspace_dir = "/var/lib/libvirt/lockd/files"
#lvm_lockspace_dir = "/var/lib/libvirt/lockd/lvmvolumes"
`,
  'sanlock.conf': '# our_host_name = an example\n',
} as const

type Files = Readonly<Record<string, string>>

/** A node's files in a folder of ours, on which the acts are really carried out, and which the real script reads. */
function onFiles(files: Files = DEBIAN) {
  const folder = mkdtempSync(join(tmpdir(), 'havirt-setup-'))
  onTestFinished(() => {
    for (const each of [folder, `${folder}.systemd`]) rmSync(each, { recursive: true, force: true })
  })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  const here = (word: string) =>
    word
      .replaceAll('/etc/libvirt/', `${folder}/`)
      .replaceAll('/etc/sanlock', folder)
      .replaceAll('/etc/systemd', `${folder}.systemd`)
      .replaceAll('systemctl daemon-reload', 'true')
  return {
    names: () => readdirSync(folder).sort(),
    read: (name: string) => readFileSync(join(folder, name), 'utf8'),
    write: (name: string, text: string) => writeFileSync(join(folder, name), text),
    all: () => Object.fromEntries(Object.keys(files).map(name => [name, readFileSync(join(folder, name), 'utf8')])),
    settings: () => {
      const places = here(LEASES_SCRIPT).replaceAll('/dev/disk', '/none').replaceAll('/proc/', '/none/')
      const { stdout } = spawnSync('sh', ['-c', places, 'havirt'], { encoding: 'utf8' })
      const settings = parseLeases(stdout)?.leases.settings
      if (settings === undefined) throw new Error('expected a whole answer')
      return settings
    },
    /** All but what is for systemd. */
    carryOut: (acts: readonly NodeAct[]) => {
      for (const { command } of acts) {
        const [program = '', ...args] = command.argv.map(here)
        if (program === 'systemctl') continue
        expect(spawnSync(program, args, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' })
      }
    },
  }
}

const SANLOCK_KEYS = {
  auto_disk_leases: '1',
  disk_lease_dir: LEASES,
  host_id: '1',
  require_lease_for_disks: '1',
  user: 'sanlock',
  group: 'sanlock',
}

describe('the commands, carried out on files', () => {
  test('enabled, libvirt would read what was meant, and every byte that was there stands where it stood', () => {
    const node = onFiles()
    node.carryOut(enableActs('node1', aFreshNode(), aSetup()))
    const settings = node.settings()
    expect(settings).toMatchObject({ manager: 'sanlock', hostName: 'node1' })
    expect(Object.fromEntries(settings.sanlock)).toEqual(SANLOCK_KEYS)
    for (const [name, text] of Object.entries(node.all()))
      expect(text.startsWith(DEBIAN[name as 'qemu.conf'])).toBe(true)
    expect(node.read('qemu-lockd.conf')).toBe(DEBIAN['qemu-lockd.conf'])
  })

  test('so it is with virtlockd', () => {
    const node = onFiles()
    node.carryOut(enableActs('node1', aFreshNode(), LOCKD))
    const settings = node.settings()
    expect(settings.manager).toBe('lockd')
    expect(Object.fromEntries(settings.lockd)).toEqual({
      auto_disk_leases: '1',
      require_lease_for_disks: '1',
      file_lockspace_dir: LEASES,
    })
    expect(node.read('qemu-sanlock.conf')).toBe(DEBIAN['qemu-sanlock.conf'])
  })

  test('what was there before is kept beside it', () => {
    const node = onFiles()
    node.carryOut(enableActs('node1', aFreshNode(), aSetup()))
    for (const name of ['qemu.conf', 'qemu-sanlock.conf'] as const)
      expect(node.read(`${name}${KEPT_SUFFIX}`)).toBe(DEBIAN[name])
    expect(node.names()).toEqual(
      [...Object.keys(DEBIAN), `qemu.conf${KEPT_SUFFIX}`, `qemu-sanlock.conf${KEPT_SUFFIX}`].sort(),
    )
  })

  test.each(['sanlock', 'lockd'] as const)(
    "%s enabled and disabled, libvirt's files are the same, byte by byte",
    manager => {
      const node = onFiles()
      const setup = manager === 'sanlock' ? aSetup({ ioTimeoutSeconds: 20 }) : LOCKD
      node.carryOut(enableActs('node1', aFreshNode(), setup))
      node.carryOut(disableActs('node1', aFreshNode({ settings: node.settings() })))
      const { 'sanlock.conf': ours, ...others } = node.all()
      const { 'sanlock.conf': theirs, ...before } = DEBIAN
      expect(others).toEqual(before)
      expect(ours).toBe(manager === 'sanlock' ? `${theirs}our_host_name = node1\n` : theirs)
    },
  )

  test('enabled once more, there is nothing to do', () => {
    const node = onFiles()
    node.carryOut(enableActs('node1', aFreshNode(), aSetup()))
    expect(enableActs('node1', aNodeWithLeases(1, { settings: node.settings() }), aSetup())).toEqual([])
  })

  test('other values are changed where they stand, and their neighbours are not', () => {
    const node = onFiles({
      ...DEBIAN,
      'qemu.conf': '# top\nlock_manager="lockd" # for now\nuser = "root"\n# end\n',
      'qemu-sanlock.conf':
        '#host_id = 1\n\thost_id\t=  9\nuser_name = "x"\n   disk_lease_dir = "/a b/c"  # old\nuser = "root"\n#end\n',
    })
    node.carryOut(enableActs('node1', aNodeWithLeases(1, { settings: node.settings() }), aSetup()))
    expect(node.read('qemu.conf')).toBe('# top\nlock_manager = "sanlock"\nuser = "root"\n# end\n')
    expect(node.read('qemu-sanlock.conf').split('\n').slice(0, 6)).toEqual([
      '#host_id = 1',
      'host_id = 1',
      'user_name = "x"',
      `disk_lease_dir = "${LEASES}"`,
      'user = "sanlock"',
      '#end',
    ])
    expect(Object.fromEntries(node.settings().sanlock)).toEqual({ ...SANLOCK_KEYS, user_name: 'x' })
  })

  test('of two lines of one key both say the same then, and both go', () => {
    const node = onFiles({ ...DEBIAN, 'qemu-sanlock.conf': 'host_id = 7\n# between\nhost_id = 8\n' })
    node.carryOut(enableActs('node1', aFreshNode({ settings: node.settings() }), aSetup()))
    expect(node.read('qemu-sanlock.conf')).toMatch(/^host_id = 1\n# between\nhost_id = 1\n/)
    node.carryOut(disableActs('node1', aFreshNode({ settings: node.settings() })))
    expect(node.read('qemu-sanlock.conf')).toBe('# between\n')
  })

  test('a line that says that there is no manager is changed: a second one behind it would not be read', () => {
    const node = onFiles({ ...DEBIAN, 'qemu.conf': '# a\nlock_manager = "nop"\n' })
    node.carryOut(enableActs('node1', aFreshNode({ settings: node.settings() }), aSetup()))
    expect(node.read('qemu.conf')).toBe('# a\nlock_manager = "sanlock"\n')
    expect(node.settings().manager).toBe('sanlock')
  })

  test('a last line without an end gets one, and nothing is written into it', () => {
    const node = onFiles({ ...DEBIAN, 'qemu.conf': 'user = "root"' })
    node.carryOut(enableActs('node1', aFreshNode({ settings: node.settings() }), aSetup()))
    expect(node.read('qemu.conf')).toBe('user = "root"\nlock_manager = "sanlock"\n')
  })

  test('a file that is not there makes its command fail', () => {
    const { 'qemu.conf': _, ...rest } = DEBIAN
    const node = onFiles(rest)
    expect(() => node.carryOut(enableActs('node1', aFreshNode(), aSetup()))).toThrow(/status: 1/)
  })

  test('a last line that is changed keeps none of the others away', () => {
    const node = onFiles({ ...DEBIAN, 'qemu-sanlock.conf': '# a\nauto_disk_leases = 0\n' })
    node.carryOut(enableActs('node1', aFreshNode({ settings: node.settings() }), aSetup()))
    expect(node.read('qemu-sanlock.conf').startsWith('# a\nauto_disk_leases = 1\n')).toBe(true)
    expect(Object.fromEntries(node.settings().sanlock)).toEqual(SANLOCK_KEYS)
  })

  test('whatever lines a file has: enabled, the settings are read as meant; and every other line stays as it was', () => {
    const line = fc.oneof(
      fc.constantFrom(
        '',
        '#',
        '# a comment',
        '#host_id = 3',
        ' host_id = 4',
        'host_id=5#x',
        'user = "a"',
        'user_name = 1',
        'lock_manager = "lockd"',
        'disk_lease_dir="/x"  # y',
        '$a',
        '\\',
        'a = "/c b"',
      ),
      fc.stringMatching(/^[ -~\t]{0,30}$/).map(text => `#${text}`),
    )
    const ours = /^[ \t]*(?:auto_disk_leases|disk_lease_dir|host_id|require_lease_for_disks|user|group)[ \t]*=/
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 8 }), lines => {
        const text = `${lines.join('\n')}\n`
        const node = onFiles({ ...DEBIAN, 'qemu-sanlock.conf': text })
        node.carryOut(enableActs('node1', aFreshNode({ settings: node.settings() }), aSetup()))
        expect(Object.fromEntries(node.settings().sanlock)).toMatchObject(SANLOCK_KEYS)
        const after = node.read('qemu-sanlock.conf').split('\n')
        for (const [at, before] of lines.entries()) if (!ours.test(before)) expect(after[at]).toBe(before)
      }),
      { numRuns: 25 },
    )
  })

  test('the files that are changed are those that libvirt reads', () => {
    const files = enableActs('node1', aFreshNode(), aSetup()).flatMap(({ command: { argv } }) =>
      argv[0] === 'sed' ? [argv.at(-1) ?? ''] : [],
    )
    expect(files.map(file => basename(file))).toEqual(['qemu-sanlock.conf', 'qemu.conf'])
  })
})

test.each([
  ['/srv/leases', undefined],
  ['/srv/a.b/c_d-e+f@g-h', undefined],
  ['/srv/gemeinsame-ablage/ämter', undefined],
  ['/srv/..leases', undefined],
  ['/srv/.leases', undefined],
  ['srv/leases', 'beginning with /'],
  ['', 'beginning with /'],
  ['~/leases', 'beginning with /'],
  ['/srv/my leases', 'letters, digits'],
  ['/srv/lea"ses', 'letters, digits'],
  ['/srv/$HOME', 'letters, digits'],
  ['/srv/a\nb', 'letters, digits'],
  ['/srv/a\\b', 'letters, digits'],
  ["/srv/a'b", 'letters, digits'],
  ['/srv/a;b', 'letters, digits'],
  ['/srv/*', 'letters, digits'],
  ['/', 'without //'],
  ['/srv/', 'without //'],
  ['/srv//leases', 'without //'],
  ['/srv/./leases', 'without //'],
  ['/srv/../leases', 'without //'],
  ['/srv/..', 'without //'],
  ['/..', 'without //'],
])('the folder %j: %s', (folder, problem) => {
  if (problem === undefined) expect(folderProblem(folder)).toBeUndefined()
  else expect(folderProblem(folder)).toContain(problem)
})

test('a node that crashed is waited for until it counts as dead, and joins then', () => {
  expect(joinSeconds(10)).toBeGreaterThan(140)
  expect(joinSeconds(2)).toBeLessThan(joinSeconds(10))
})
