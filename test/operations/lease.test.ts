/** The verbs of leases, from the words to the last command, on fake nodes that answer the real scripts; and what people read of them. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { printReport } from '../../src/cli/output.ts'
import type { DomainOnNode } from '../../src/core/node.ts'
import type { Input } from '../../src/operations/operation.ts'
import type { Report } from '../../src/report.ts'
import { caught, havirt } from '../cli/capture.ts'
import { aDisk, aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import {
  aFreshNode,
  aHeld,
  aLeaseFile,
  aLeaseHost,
  aLockspace,
  aNodeWithLeases,
  aNodeWithLockd,
  aSanlock,
  DAY_MS,
  holding,
  LEASES,
  md5,
  NO_SETTINGS,
  NOW_MS,
  sanlockSettings,
  seenHosts,
  sha256,
} from '../core/lease-builders.ts'
import { exit } from '../fake-nodes.ts'
import { perform, texts } from '../verbs.ts'
import { aLeaseWorld, type LeaseWorld } from './lease-world.ts'

type Words = Partial<Pick<Input, 'words' | 'options'>>

async function printed(report: Report): Promise<string> {
  const { stdout, stderr } = await caught(async () => {
    await printReport(report, { format: 'table', quiet: false })
    return report.exit
  })
  return `${stdout}--- messages\n${stderr}--- status ${report.exit}\n`
}

const guest = (name: string, number: number, paths: readonly string[], more: Partial<DomainOnNode> = {}) =>
  aDomainOnNode(
    { name, uuid: uuidOf(number), ...more },
    aDomain({
      name,
      uuid: uuidOf(number),
      disks: paths.map((path, at) => aDisk(path, { target: `vd${'abcdefgh'[at]}` })),
    }),
  )

const fresh = () => ({ node1: aFreshNode(), node2: aFreshNode(), node3: aFreshNode() })
const status = (world: LeaseWorld) => perform(world, 'lease status', { act: false })
const show = (world: LeaseWorld, name: string, input: Words = {}) =>
  perform(world, `lease ${name}`, { act: false, ...input })
const act = (world: LeaseWorld, name: string, input: Words = {}) => perform(world, `lease ${name}`, input)

/**
 * Three nodes, each lease in another way: web and db run on node1 and hold theirs, mail is paused on node2, bare runs on node2 without,
 * node3 does not renew and was the last to have cache and logs; one lease is damaged, and three belong to no disk.
 */
function aMixedWorld() {
  const seen = seenHosts({ 1: 'live', 2: 'live', 3: { state: 'fail', aliveSeconds: 950 }, 4: 'dead' })
  const spaced = (hostId: number, held: ReturnType<typeof aHeld>[]) =>
    aSanlock({ hostName: `node${hostId}`, lockspace: aLockspace({ hostId }), held, hosts: seen })
  return aLeaseWorld(
    {
      node1: aNodeWithLeases(1, {
        sanlock: spaced(1, [aHeld('/srv/web.img', 101), aHeld('/srv/db.img', 102), aHeld('/srv/db-log.img', 102)]),
        pids: new Map([
          ['web', 101],
          ['db', 102],
        ]),
      }),
      node2: aNodeWithLeases(2, {
        sanlock: { ...spaced(2, []), watchdog: false },
        pids: new Map([
          ['mail', 201],
          ['bare', 202],
        ]),
      }),
      node3: aNodeWithLeases(3, { sanlock: undefined }),
    },
    {
      node1: [
        guest('web', 1, ['/srv/web.img']),
        guest('db', 2, ['/srv/db.img', '/srv/db-log.img']),
        aDomainOnNode(
          { name: 'ceph', uuid: uuidOf(3) },
          aDomain({
            name: 'ceph',
            uuid: uuidOf(3),
            disks: [aDisk('', { source: { kind: 'network', protocol: 'rbd', name: 'p/c', hosts: [] } })],
          }),
        ),
      ],
      node2: [guest('mail', 4, ['/srv/mail.img'], { state: 'paused' }), guest('bare', 5, ['/srv/bare.img'])],
      node3: [
        guest('cache', 6, ['/srv/cache.img'], { state: 'shutoff', persistent: true }),
        guest('logs', 7, ['/srv/logs.img'], { state: 'shutoff', persistent: true }),
        guest('far', 8, ['/srv/far.img'], { state: 'shutoff', persistent: true }),
        guest('torn', 9, ['/srv/torn.img'], { state: 'shutoff', persistent: true }),
      ],
    },
    {
      hosts: [aLeaseHost(1), aLeaseHost(2), aLeaseHost(3, { generation: 3 }), aLeaseHost(4, { name: 'former' })],
      files: [
        aLeaseFile('/srv/web.img', { timestamp: 500, version: 7 }),
        aLeaseFile('/srv/db.img', { timestamp: 500 }),
        aLeaseFile('/srv/db-log.img', { timestamp: 500 }),
        aLeaseFile('/srv/mail.img', { ownerId: 2 }),
        aLeaseFile('/srv/cache.img', { ownerId: 3, ownerGeneration: 3, timestamp: 500 }),
        aLeaseFile('/srv/logs.img', { ownerId: 3, ownerGeneration: 2, timestamp: 500 }),
        aLeaseFile('/srv/far.img', { ownerId: 4, timestamp: 500 }),
        aLeaseFile('/srv/torn.img', 'damaged'),
        aLeaseFile('/srv/gone-1.img'),
        aLeaseFile('/srv/gone-2.img', { timestamp: 5, ownerId: 4 }),
        aLeaseFile('/srv/gone-3.img', {}, { writtenMs: NOW_MS - DAY_MS }),
      ],
    },
  )
}

describe('what people read', () => {
  test.each<[string, string, Words]>([
    ['lease-status', 'status', {}],
    ['lease-list', 'list', {}],
    ['lease-list-unused', 'list', { options: { unused: true } }],
    ['lease-explain-held', 'explain', { words: { DISK: 'db' } }],
    ['lease-explain-doubt', 'explain', { words: { DISK: '/srv/cache.img' } }],
    ['lease-explain-dead', 'explain', { words: { DISK: 'far' } }],
    ['lease-explain-old', 'explain', { words: { DISK: 'logs' } }],
    ['lease-explain-free', 'explain', { words: { DISK: 'mail' } }],
    ['lease-explain-damaged', 'explain', { words: { DISK: 'torn' } }],
    ['lease-explain-none', 'explain', { words: { DISK: '/srv/bare.img' } }],
    ['lease-explain-uncovered', 'explain', { words: { DISK: 'ceph' } }],
    ['lease-explain-file', 'explain', { words: { DISK: md5('/srv/gone-2.img') } }],
    ['lease-cleanup', 'cleanup', {}],
  ])('%s', async (file, verb, input) => {
    await expect(await printed(await show(await aMixedWorld(), verb, input))).toMatchFileSnapshot(
      `golden/${file}.golden`,
    )
  })

  test.each<[string, () => Promise<LeaseWorld>, Words]>([
    [
      'lease-enable',
      () => aLeaseWorld(fresh(), { node2: [guest('web', 1, ['/srv/web.img'])] }),
      { words: { MANAGER: 'sanlock' }, options: { dir: LEASES } },
    ],
    [
      'lease-enable-lockd',
      () => aLeaseWorld(fresh()),
      { words: { MANAGER: 'lockd', NODE: ['node2'] }, options: { dir: LEASES } },
    ],
    [
      'lease-enable-refused',
      () => aLeaseWorld({ ...fresh(), node2: aFreshNode({ installed: new Set() }), node3: aNodeWithLockd() }),
      { words: { MANAGER: 'sanlock', NODE: ['node1', 'node2'] }, options: { dir: LEASES } },
    ],
  ])('%s', async (file, make, input) => {
    await expect(await printed(await show(await make(), 'enable', input))).toMatchFileSnapshot(`golden/${file}.golden`)
  })

  test('lease-disable', async () => {
    await expect(
      await printed(await show(await aMixedWorld(), 'disable', { words: { NODE: ['node1'] } })),
    ).toMatchFileSnapshot('golden/lease-disable.golden')
  })

  test('lease-status-lockd', async () => {
    const world = await aLeaseWorld(
      {
        node1: aNodeWithLockd([sha256('/srv/web.img')]),
        node2: aNodeWithLockd([], { lockd: { held: [], newerThanLibvirt: true } }),
        node3: aNodeWithLockd([], { lockd: undefined }),
      },
      { node1: [guest('web', 1, ['/srv/web.img'])] },
    )
    await expect(await printed(await status(world))).toMatchFileSnapshot('golden/lease-status-lockd.golden')
  })

  test('lease-status-none', async () => {
    await expect(await printed(await status(await aLeaseWorld(fresh())))).toMatchFileSnapshot(
      'golden/lease-status-none.golden',
    )
  })
})

describe('lease status', () => {
  test('a silent node makes it 4, and its leases are known from the disk and from the others', async () => {
    const world = await aMixedWorld()
    world.nodes.silence('node1')
    const report = await status(world)
    expect(report.exit).toBe(4)
    expect(report.table?.rows.find(({ node }) => node === 'node1')).toEqual({ node: 'node1', manager: 'unreachable' })
    expect(report.also?.table.rows).toContainEqual(
      expect.objectContaining({ file: md5('/srv/db.img'), state: 'held', hostId: 1 }),
    )
    expect(texts(report)).toContain('node1 is unreachable')
  })

  test('every file is read, whoever is silent', async () => {
    for (const silent of ['node1', 'node2', 'node3']) {
      const world = await aMixedWorld()
      world.nodes.silence(silent)
      const found = (await status(world)).also?.table.rows.map(({ file }) => file)
      for (const name of world.files.keys()) expect(found, silent).toContain(name)
    }
  })

  test('a node that answers libvirt but not the script is said so, and makes it 4', async () => {
    const world = await aMixedWorld()
    world.fault = line => (line.startsWith('node2 sh -c LC_ALL') ? exit(127, 'sh: not found\n') : undefined)
    const report = await status(world)
    expect(report.exit).toBe(4)
    expect(report.table?.rows.find(({ node }) => node === 'node2')).toEqual({ node: 'node2', manager: 'unknown' })
    expect(texts(report)).toContain('node2 could not be asked for its leases: sh: not found')
  })

  test.each<[string, Parameters<typeof aNodeWithLeases>[1], string]>([
    ['sanlock does not run', { sanlock: undefined }, 'sanlock on node1 does not run'],
    ['it has not joined', { sanlock: aSanlock({ lockspace: undefined }) }, 'node1 has not joined the lockspace'],
    [
      'it lost the lockspace',
      { sanlock: aSanlock({ lockspace: aLockspace({ state: 'lost' }) }) },
      'node1 has lost the lockspace, and its domains are being killed',
    ],
    ['no watchdog', { sanlock: aSanlock({ watchdog: false }) }, 'no watchdog guards node1'],
  ])('%s: it is said', async (_, more, text) => {
    const world = await aLeaseWorld({
      node1: aNodeWithLeases(1, more),
      node2: aNodeWithLeases(2),
      node3: aNodeWithLeases(3),
    })
    expect(texts(await status(world))).toContain(text)
  })

  test('without nodes there is nothing to show', async () => {
    const world = await aLeaseWorld({})
    for (const name of ['node1', 'node2', 'node3']) await world.home.records.removeNode(name)
    for (const verb of ['status', 'list', 'cleanup', 'disable'])
      expect(await show(world, verb)).toMatchObject({
        exit: 0,
        messages: [{ text: expect.stringContaining('there is no node yet') }],
      })
  })
})

describe('lease list', () => {
  test('only what belongs to no disk', async () => {
    const report = await show(await aMixedWorld(), 'list', { options: { unused: true } })
    expect(report.table?.rows.map(({ file }) => file).sort()).toEqual(
      ['/srv/gone-1.img', '/srv/gone-2.img', '/srv/gone-3.img'].map(md5).sort(),
    )
  })

  test('and a word where there is none', async () => {
    const world = await aLeaseWorld({ node1: aNodeWithLeases(1), node2: aNodeWithLeases(2), node3: aNodeWithLeases(3) })
    expect(texts(await show(world, 'list', { options: { unused: true } }))).toContain(
      'every lease belongs to a disk that is in use',
    )
  })
})

describe('lease explain', () => {
  const explain = async (disk: string, world?: LeaseWorld) =>
    show(world ?? (await aMixedWorld()), 'explain', { words: { DISK: disk } })

  test('what nobody knows', async () => {
    expect(await explain('nothing')).toMatchObject({
      exit: 1,
      messages: [{ text: "no disk, domain or lease is called 'nothing'" }],
    })
  })

  test('without a lock manager there are no leases', async () => {
    expect(texts(await explain('web', await aLeaseWorld(fresh())))).toContain('no node that answers has a lock manager')
  })

  test('a holder that does not answer havirt and renews its leases is alive', async () => {
    const world = await aMixedWorld()
    world.nodes.silence('node1')
    // What runs on node1 nobody says now; the file is there all the same.
    const report = await explain(md5('/srv/db.img'), world)
    expect(texts(report)).toContain(
      'is held by node1 (host id 1, generation 1), which does not answer havirt and is alive: it renews its leases: mend the way to it',
    )
  })

  test('how long a holder that does not renew is waited for, on the clock of the sanlock that saw it last', async () => {
    // 140 s from second 950; now it is 1000.
    expect(texts(await explain('cache'))).toContain('it counts as dead in 90 s at the latest, unless it renews')
  })

  test('a node whose sanlock does not run is no judge', async () => {
    expect(texts(await explain('cache'))).toContain('node3 (host id 3, generation 3)')
  })
})

// ---- enable -------------------------------------------------------------------------------------------------------------------

const SANLOCK = { words: { MANAGER: 'sanlock' }, options: { dir: LEASES } }

describe('lease enable', () => {
  test('shown, it changes nothing and records no host id', async () => {
    const world = await aLeaseWorld(fresh())
    const report = await show(world, 'enable', SANLOCK)
    expect(report.exit).toBe(0)
    expect(world.done).toEqual([])
    expect(await world.home.records.hostIds()).toEqual({})
  })

  test('carried out, it does what it showed, node by node, and finds nothing to do then', async () => {
    const world = await aLeaseWorld(fresh())
    const shown = (await show(world, 'enable', SANLOCK)).script ?? []
    const report = await act(world, 'enable', SANLOCK)
    expect(report.exit).toBe(0)
    expect(new Set(report.table?.rows.map(({ outcome }) => outcome))).toEqual(new Set(['done']))
    const nodes = world.done.map(line => line.split(' ')[0])
    expect(nodes).toEqual([...nodes].sort())
    expect(world.done).toHaveLength(shown.filter(line => !line.startsWith('#')).length)
    expect(await world.home.records.hostIds()).toEqual({
      'id-of-node1': { node: 'node1', hostId: 1 },
      'id-of-node2': { node: 'node2', hostId: 2 },
      'id-of-node3': { node: 'node3', hostId: 3 },
    })
    expect([...world.leases.values()].map(({ settings }) => settings.sanlock.get('host_id'))).toEqual(['1', '2', '3'])
    for (const report of [
      await show(world, 'enable', { words: { MANAGER: 'sanlock' } }),
      await act(world, 'enable', { words: { MANAGER: 'sanlock' } }),
    ])
      expect(texts(report)).toContain('nothing to do: every node is so already')
    expect(world.done).toHaveLength(nodes.length)
  })

  test('virtlockd records no host ids', async () => {
    const world = await aLeaseWorld(fresh())
    expect(await act(world, 'enable', { words: { MANAGER: 'lockd' }, options: { dir: LEASES } })).toMatchObject({
      exit: 0,
    })
    expect(await world.home.records.hostIds()).toEqual({})
    expect([...world.leases.values()].map(({ settings }) => settings.manager)).toEqual(['lockd', 'lockd', 'lockd'])
  })

  test('it stops at the first node that fails, and says which were not come to', async () => {
    const world = await aLeaseWorld(fresh())
    world.fault = line =>
      line.startsWith('node2 sync') ? exit(1, 'sync: error syncing: Input/output error\n') : undefined
    const report = await act(world, 'enable', SANLOCK)
    expect(report.exit).toBe(4)
    expect(report.table?.rows.at(-1)).toMatchObject({
      node: 'node2',
      outcome: 'sync: error syncing: Input/output error',
    })
    expect(report.table?.rows.some(({ node }) => node === 'node3')).toBe(false)
    expect(texts(report)).toContain('nothing was done on node3')
    expect(world.done.some(line => line.startsWith('node3'))).toBe(false)
    expect(world.done).not.toContain('node2 systemctl restart libvirtd')
  })

  test('the same command goes on where it ended', async () => {
    const world = await aLeaseWorld(fresh())
    world.fault = line => (line.startsWith('node2 systemctl restart') ? exit(1, 'no') : undefined)
    await act(world, 'enable', SANLOCK)
    world.fault = () => undefined
    const before = world.done.length
    expect(await act(world, 'enable', SANLOCK)).toMatchObject({ exit: 0 })
    expect(world.done.slice(before).some(line => line.startsWith('node1'))).toBe(false)
    expect(world.done.slice(before)).toContain('node2 systemctl restart libvirtd')
  })

  test('nothing done at all is 1', async () => {
    const world = await aLeaseWorld(fresh())
    world.fault = line => (line.startsWith('node1 sh -c mkdir') ? exit(1, 'Read-only file system') : undefined)
    expect(await act(world, 'enable', SANLOCK)).toMatchObject({ exit: 1 })
  })

  test('a node that does not join in time is where it ends', async () => {
    const world = await aLeaseWorld(fresh())
    world.joins = false
    const report = await act(world, 'enable', SANLOCK)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('wait until node1 can give leases: it has not joined the lockspace')
    expect(texts(report)).toContain('nothing was done on node2, node3')
    expect(world.clock.ms).toBeGreaterThanOrEqual(140_000)
  })

  test('only the named nodes are set up', async () => {
    const world = await aLeaseWorld(fresh())
    await act(world, 'enable', { ...SANLOCK, words: { MANAGER: 'sanlock', NODE: ['node2'] } })
    expect(new Set(world.done.map(line => line.split(' ')[0]))).toEqual(new Set(['node2']))
    expect(await world.home.records.hostIds()).toEqual({ 'id-of-node2': { node: 'node2', hostId: 1 } })
  })

  test('a node that comes later gets another id, and the folder and the time-out of the others', async () => {
    const two = (hostId: number) =>
      aNodeWithLeases(hostId, {
        settings: sanlockSettings(hostId, { io_timeout: '5' }),
        sanlock: aSanlock({ lockspace: aLockspace({ hostId, ioTimeoutSeconds: 5 }) }),
      })
    const world = await aLeaseWorld(
      { node1: two(1), node2: two(2), node3: aFreshNode() },
      {},
      { hosts: [aLeaseHost(1), aLeaseHost(2), aLeaseHost(3, { name: 'former', timestamp: 0 })] },
    )
    const { script = [] } = await show(world, 'enable', { words: { MANAGER: 'sanlock', NODE: ['node3'] } })
    const text = script.join('\n')
    expect(text).toContain('node3 4')
    for (const line of ['host_id = 4', `disk_lease_dir = "${LEASES}"`, 'io_timeout = 5']) expect(text).toContain(line)
  })

  test('an id of a machine that was removed is given to nobody', async () => {
    const world = await aLeaseWorld(fresh())
    await act(world, 'enable', SANLOCK)
    await world.home.records.changeHostIds(before => {
      const { 'id-of-node1': first, ...rest } = before
      return { ...rest, 'id-of-a-former-node1': first ?? { node: 'node1', hostId: 1 } }
    })
    const [fresh1] = Object.values(fresh())
    world.leases.set('node1', fresh1 as never)
    await act(world, 'enable', SANLOCK)
    expect((await world.home.records.hostIds())['id-of-node1']?.hostId).toBe(4)
  })

  test('somebody who gave out the id meanwhile is noticed before anything is done', async () => {
    const world = await aLeaseWorld(fresh())
    const { changeHostIds } = world.home.records
    world.home.records.changeHostIds = async change => {
      world.home.records.changeHostIds = changeHostIds
      await world.home.records.changeHostIds(() => ({ other: { node: 'node9', hostId: 1 } }))
      return world.home.records.changeHostIds(change)
    }
    expect(await act(world, 'enable', SANLOCK)).toMatchObject({
      exit: 3,
      refusals: [{ reason: 'hostIdTaken', hostId: 1 }],
    })
    expect(world.done).toEqual([])
  })

  test.each<[string, (world: LeaseWorld) => unknown, string, string]>([
    [
      'a folder that is not one folder',
      world => world.ground.elsewhere.push('node3'),
      'leaseGround',
      'is another folder than on the other nodes',
    ],
    ['a folder that is not there', world => world.ground.missing.push('node2'), 'leaseGround', 'is not there on node2'],
    [
      'a folder that cannot be written',
      world => world.ground.unwritable.push('node2'),
      'leaseGround',
      'cannot write into',
    ],
    [
      'a filesystem without direct I/O',
      world => world.ground.indirect.push('node1'),
      'leaseGround',
      'Invalid argument',
    ],
    ['a silent node', world => world.nodes.silence('node2'), 'unreachable', 'node2'],
  ])('%s is refused, and nothing is done', async (_, spoil, reason, text) => {
    const world = await aLeaseWorld(fresh())
    spoil(world)
    const report = await act(world, 'enable', SANLOCK)
    expect(report.exit).toBe(3)
    expect(new Set(report.refusals?.map(each => each.reason))).toEqual(new Set([reason]))
    expect(texts(report)).toContain(text)
    expect(world.done).toEqual([])
    expect(await world.home.records.hostIds()).toEqual({})
  })

  test('Ctrl-C leaves the nodes that were not come to as they are', async () => {
    const world = await aLeaseWorld(fresh())
    world.fault = line => {
      if (line.startsWith('node1 systemctl restart libvirtd')) world.interrupt.stopped = true
      return undefined
    }
    const report = await act(world, 'enable', SANLOCK)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('nothing was done on node2, node3')
  })

  test('what runs without leases is named, with what gives it some', async () => {
    const world = await aLeaseWorld(fresh(), {
      node2: [guest('web', 1, ['/srv/web.img']), guest('db', 2, ['/srv/db.img'])],
    })
    expect(texts(await show(world, 'enable', SANLOCK))).toContain(
      'web, db on node2 run on without leases until moved or started anew: empty the node and refill it: havirt node drain node2',
    )
  })
})

describe('wrong words', () => {
  test.each<[string, string, Words, string]>([
    [
      'a manager that there is not',
      'enable',
      { words: { MANAGER: 'dlm' }, options: { dir: LEASES } },
      "there is no lock manager 'dlm'",
    ],
    [
      'no folder',
      'enable',
      { words: { MANAGER: 'sanlock' } },
      "'' cannot be the folder for leases: expected --dir FOLDER",
    ],
    [
      'a folder that is no path',
      'enable',
      { words: { MANAGER: 'sanlock' }, options: { dir: 'leases' } },
      'expected the whole path of a folder',
    ],
    [
      'a folder with quotes',
      'enable',
      { words: { MANAGER: 'sanlock' }, options: { dir: '/srv/"x"' } },
      'expected letters, digits',
    ],
    [
      'a folder that ends with /',
      'enable',
      { words: { MANAGER: 'sanlock' }, options: { dir: '/srv/' } },
      'without / at its end',
    ],
  ])('%s: 2 and one sentence', async (_, verb, input, text) => {
    const world = await aLeaseWorld(fresh())
    const report = await act(world, verb, input)
    expect(report.exit).toBe(2)
    expect(report.messages).toHaveLength(1)
    expect(texts(report)).toContain(text)
    expect(world.done).toEqual([])
  })

  test.each([
    ['enable', { MANAGER: 'sanlock', NODE: ['nodeX'] }],
    ['disable', { NODE: ['nodeX'] }],
  ] as const)('a node that there is not, for %s', async (verb, words) => {
    const report = await act(await aLeaseWorld(fresh()), verb, { words, options: { dir: LEASES } })
    expect(report).toMatchObject({ messages: [{ text: expect.stringContaining('nodeX') }] })
    expect(report.exit).toBe(3)
  })

  test.each([
    [['lease', 'enable']],
    [['lease', 'enable', 'sanlock', '--io-timeout', '0']],
    [['lease', 'enable', 'sanlock', '--io-timeout', '61']],
    [['lease', 'enable', 'sanlock', '--io-timeout', 'soon']],
    [['lease', 'explain']],
    [['lease', 'cleanup', '--older-than', '-1']],
    [['lease', 'cleanup', '--older-than', '3651']],
    [['lease', 'cleanup', 'everything']],
    [['lease', 'list', '--used']],
    [['lease', 'force']],
  ])('havirt %j ends with 2', async words => {
    const { status, stdout, stderr } = await havirt(...words)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).not.toBe('')
  })
})

// ---- disable --------------------------------------------------------------------------------------------------------------------

describe('lease disable', () => {
  test('shown, it changes nothing; carried out, the settings are gone, and the host ids stay recorded', async () => {
    const world = await aLeaseWorld(fresh())
    await act(world, 'enable', SANLOCK)
    const before = world.done.length
    const ids = await world.home.records.hostIds()
    await show(world, 'disable')
    expect(world.done).toHaveLength(before)
    expect(await act(world, 'disable')).toMatchObject({ exit: 0 })
    for (const { settings, sanlock } of world.leases.values()) {
      expect(settings).toMatchObject({ manager: '', sanlock: new Map() })
      expect(sanlock).toBeDefined()
    }
    expect(await world.home.records.hostIds()).toEqual(ids)
    expect(texts(await act(world, 'disable'))).toContain('nothing to do')
  })

  test('what runs keeps its leases, and that is said', async () => {
    const world = await aLeaseWorld({
      node1: holding(1, { web: ['/srv/web.img'] }),
      node2: aNodeWithLeases(2),
      node3: aNodeWithLeases(3),
    })
    expect(texts(await show(world, 'disable'))).toContain('what runs on node1 keeps its leases until it stops or moves')
  })

  test('a silent node is refused by name', async () => {
    const world = await aMixedWorld()
    world.nodes.silence('node2')
    expect(await act(world, 'disable')).toMatchObject({ exit: 3, refusals: [{ reason: 'unreachable', node: 'node2' }] })
    expect(world.done).toEqual([])
  })

  test('it stops at the first node that fails', async () => {
    const world = await aLeaseWorld({
      node1: aNodeWithLeases(1),
      node2: aNodeWithLockd(),
      node3: aNodeWithLeases(3, { settings: NO_SETTINGS }),
    })
    world.fault = line => (line.startsWith('node1 sed') ? exit(4, 'sed: cannot rename') : undefined)
    const report = await act(world, 'disable')
    expect(report.exit).toBe(1)
    expect(texts(report)).toContain('nothing was done on node2')
    expect(texts(report)).not.toContain('node3')
  })
})

// ---- cleanup --------------------------------------------------------------------------------------------------------------------

describe('lease cleanup', () => {
  const cleanup = (world: LeaseWorld, carryOut: boolean, olderThan?: number) =>
    perform(world, 'lease cleanup', {
      act: carryOut,
      options: olderThan === undefined ? {} : { olderThan: String(olderThan) },
    })
  const outcomes = ({ table }: Report) =>
    Object.fromEntries((table?.rows ?? []).map(({ file, outcome }) => [file, outcome]))

  test('shown, nothing goes; carried out, what nobody has goes, and is said with what it freed', async () => {
    const world = await aMixedWorld()
    const shown = await cleanup(world, false)
    expect(shown.script?.join('\n')).toContain(md5('/srv/gone-1.img'))
    expect(world.files.size).toBe(11)
    const report = await cleanup(world, true)
    expect(report.exit).toBe(0)
    expect(outcomes(report)).toMatchObject({ [md5('/srv/gone-1.img')]: 'removed' })
    expect(world.files.has(md5('/srv/gone-1.img'))).toBe(false)
    expect(world.files.size).toBe(10)
    expect(texts(report)).toContain('freed 1.0 MiB in 1 file')
  })

  test('what somebody took since it was looked at stays, and it is 4', async () => {
    const world = await aMixedWorld()
    world.files.set(md5('/srv/gone-4.img'), aLeaseFile('/srv/gone-4.img'))
    const ask = world.nodes.ask
    world.nodes.ask = (record, order) => {
      if (
        order.command.argv.includes(LEASES) &&
        'stdin' in order &&
        String(order.stdin).includes(md5('/srv/gone-4.img'))
      )
        world.files.set(md5('/srv/gone-4.img'), aLeaseFile('/srv/gone-4.img', { timestamp: 999 }))
      return ask(record, order)
    }
    const report = await cleanup(world, true)
    expect(report.exit).toBe(4)
    expect(outcomes(report)).toMatchObject({
      [md5('/srv/gone-1.img')]: 'removed',
      [md5('/srv/gone-4.img')]: 'stays: acquire error -243',
    })
  })

  test('many go in several commands', async () => {
    const world = await aMixedWorld()
    for (let at = 0; at < 300; at++) world.files.set(md5(`x${at}`), aLeaseFile(`x${at}`))
    const report = await cleanup(world, true)
    expect(report.exit).toBe(0)
    expect(texts(report)).toContain('freed 301.0 MiB in 301 files')
    expect(world.files.size).toBe(10)
  })

  test('cut off in between, what was not come to is said, and the same command goes on', async () => {
    const world = await aMixedWorld()
    for (let at = 0; at < 300; at++) world.files.set(md5(`x${at}`), aLeaseFile(`x${at}`))
    let calls = 0
    world.fault = line =>
      line.includes('while IFS= read -r name') && calls++ > 0 ? exit(255, 'Connection closed') : undefined
    const report = await cleanup(world, true)
    expect(report.exit).toBe(4)
    expect(texts(report)).toContain('101 were not come to: the same command goes on with them')
    world.fault = () => undefined
    expect(await cleanup(world, true)).toMatchObject({ exit: 0 })
    expect(world.files.size).toBe(10)
  })

  test('younger ones go where that is asked for', async () => {
    const world = await aMixedWorld()
    await cleanup(world, true, 0)
    expect([...world.files.keys()]).not.toContain(md5('/srv/gone-3.img'))
    expect([...world.files.keys()]).toContain(md5('/srv/gone-2.img'))
  })

  test('a definition in conf/ keeps its lease', async () => {
    const world = await aMixedWorld()
    await writeFile(
      join(world.definitionsFolder, 'later.xml'),
      `<domain type='kvm'><name>later</name><uuid>${uuidOf(77)}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu><devices><disk type='file' device='disk'><source file='/srv/gone-1.img'/><target dev='vda'/></disk></devices></domain>`,
    )
    expect(texts(await cleanup(world, true))).toContain('nothing to remove')
    expect(world.files.size).toBe(11)
  })

  test.each<[string, (world: LeaseWorld) => unknown, string]>([
    ['a silent node', world => world.nodes.silence('node2'), 'unreachable'],
    [
      'a node that could not be asked',
      world => {
        world.fault = line => (line.startsWith('node2 sh -c LC_ALL') ? exit(1, 'x') : undefined)
      },
      'probeFailed',
    ],
    [
      'a definition that cannot be read',
      world => writeFile(join(world.definitionsFolder, 'bad.xml'), '<domain'),
      'badDefinition',
    ],
  ])('%s is refused, and nothing goes', async (_, spoil, reason) => {
    const world = await aMixedWorld()
    await spoil(world)
    const report = await cleanup(world, true)
    expect(report).toMatchObject({ exit: 3, refusals: [{ reason }] })
    expect(world.files.size).toBe(11)
  })

  test('where nobody has joined the lockspace nothing can be held, and so nothing goes', async () => {
    const world = await aMixedWorld()
    for (const [name, leases] of world.leases) world.leases.set(name, { ...leases, sanlock: undefined })
    const report = await cleanup(world, true)
    expect(report.exit).toBe(1)
    expect(texts(report)).toContain('no node that answers has joined the lockspace')
    expect(world.files.size).toBe(11)
  })

  test('with virtlockd there is nothing to do', async () => {
    const world = await aLeaseWorld({ node1: aNodeWithLockd(), node2: aNodeWithLockd(), node3: aNodeWithLockd() })
    expect(texts(await cleanup(world, true))).toContain('nothing to do: only sanlock leaves files behind')
  })
})
