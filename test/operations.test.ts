/** What operations ask of nodes, and what a scan makes of the answers; on fake nodes. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { DomainOnNode } from '../src/core/node.ts'
import { aDisk, aDomain, aDomainOnNode, MAIL_UUID, shutOff, uuidOf, WEB_UUID } from './core/builders.ts'
import { perform } from './verbs.ts'
import { aWorld, type World, web } from './world.ts'

const PROCESSES = { paths: [], devices: [], processes: true }
const DISKS = `
    <disk type='block' device='disk'><source dev='/dev/own'/><target dev='vda'/></disk>
    <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdb'/></disk>
    <disk type='file' device='disk'><source file='/shared.img'/><target dev='vdc'/><shareable/></disk>
    <disk type='file' device='cdrom'><source file='/cd.iso'/><target dev='sda'/></disk>
    <interface type='bridge'><source bridge='br0'/></interface>`

/** The definition of web, with these devices. */
async function defineWeb(world: World, devices: string): Promise<void> {
  const text = `<domain type='kvm'><name>web</name><uuid>${WEB_UUID}</uuid><memory>1024</memory><devices>${devices}</devices></domain>`
  await writeFile(join(world.definitionsFolder, 'web.xml'), text)
}

describe('what is asked', () => {
  test('a start asks every node for the disks that only web may write, and its target for all that it needs', async () => {
    const world = await aWorld()
    await defineWeb(world, DISKS)
    await perform(world, 'domain start', { words: { NAME: 'web', NODE: 'node2' } })
    const everywhere = { ...PROCESSES, paths: ['/dev/own'], volumes: ['p/v'], held: true }
    expect(Object.fromEntries(world.nodes.inquiries)).toEqual({
      node1: everywhere,
      node2: { ...everywhere, paths: ['/dev/own', '/shared.img', '/cd.iso'], devices: ['br0'] },
      node3: everywhere,
    })
  })

  test('a start of what has no disk with a path asks nobody for those of others', async () => {
    const world = await aWorld()
    await perform(world, 'domain start', { words: { NAME: 'web', NODE: 'node2' }, act: false })
    expect(world.nodes.inquiries.get('node1')).toEqual({ ...PROCESSES, volumes: [], held: false })
  })

  test('a resume asks every node for the disks of what is paused', async () => {
    const paused = aDomainOnNode({ state: 'paused' }, aDomain({ disks: [aDisk('/srv/web.img')] }))
    const world = await aWorld({ node2: [paused] })
    await perform(world, 'domain resume', { words: { NAME: 'web' }, act: false })
    for (const node of ['node1', 'node2', 'node3'])
      expect(world.nodes.inquiries.get(node)).toMatchObject({ paths: ['/srv/web.img'], held: true, processes: true })
  })

  test.each([
    ['domain stop', { NAME: 'web' }],
    ['domain suspend', { NAME: 'web' }],
    ['domain migrate', { NAME: 'web', NODE: 'node1' }],
    ['node scan', {}],
  ])('%s asks every node for processes', async (name, words) => {
    const world = await aWorld({ node2: [web()] })
    await perform(world, name, { words, act: false })
    for (const node of ['node1', 'node2', 'node3']) expect(world.nodes.inquiries.get(node)?.processes).toBe(true)
  })
})

describe('scan', () => {
  async function scan(domains: Readonly<Record<string, readonly DomainOnNode[]>>, world?: World) {
    const on = world ?? (await aWorld(domains))
    const { exit, messages, table } = await perform(on, 'node scan')
    const words = messages.map(({ kind, text, next }) => `${kind}: ${text}${next === undefined ? '' : ` -> ${next}`}`)
    return { exit, words, rows: table?.rows ?? [] }
  }

  test('what is sound is said without a word', async () => {
    expect(await scan({ node1: [aDomainOnNode()] })).toMatchObject({ exit: 0, words: [] })
  })

  test('a QEMU that libvirt does not list is shown, with what mends it', async () => {
    const world = await aWorld({ node2: [aDomainOnNode({ unlistedPid: 4711 })] })
    const { exit, words, rows } = await scan({}, world)
    expect(exit).toBe(4)
    expect(rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'web', state: 'unlisted' }))
    expect(words).toEqual([
      expect.stringMatching(/^warning: web runs on node2 as process 4711, .* -> restart libvirtd .* kill 4711$/),
    ])
    world.nodes.set('node2', aDomainOnNode())
    expect((await scan({}, world)).rows).toContainEqual(expect.objectContaining({ change: 'was unlisted' }))
  })

  test('beside another copy it is a domain that is present twice', async () => {
    const stray = aDomainOnNode({ unlistedPid: 4711 })
    expect(await scan({ node1: [aDomainOnNode()], node2: [stray] })).toMatchObject({ exit: 6 })
    expect(await scan({ node1: [aDomainOnNode(), stray] })).toMatchObject({ exit: 6 })
  })

  test('a node that could not be asked for them is named', async () => {
    const world = await aWorld()
    world.nodes.more.set('node3', { inquiryProblem: 'ssh: gone' })
    const { exit, words } = await scan({}, world)
    expect(exit).toBe(4)
    expect(words).toEqual([expect.stringMatching(/^warning: node3 could not be asked .*: ssh: gone/)])
  })

  test.each<[string, Readonly<Record<string, readonly DomainOnNode[]>>, RegExp]>([
    [
      'a definition beside a running domain',
      { node1: [aDomainOnNode()], node2: [shutOff()] },
      /^warning: web runs on node1 and is also defined on node2.*virsh undefine web/,
    ],
    [
      'autostart beside a running domain',
      { node1: [aDomainOnNode()], node2: [shutOff({ autostart: true })] },
      /^warning: web RUNS ON node1 AND HAS AUTOSTART ON node2.*autostart --disable web/,
    ],
    [
      'a saved image beside a running domain',
      { node1: [aDomainOnNode()], node2: [shutOff({ managedSave: true })] },
      /^warning: web RUNS ON node1 AND HAS A SAVED IMAGE ON node2.*managedsave-remove web/,
    ],
    ['two definitions', { node1: [shutOff()], node2: [shutOff()] }, /^note: web is defined on node1 and node2$/],
    [
      'two that start by themselves',
      { node1: [shutOff({ autostart: true })], node2: [shutOff({ autostart: true })] },
      /^warning: web is set to autostart on node1 and node2/,
    ],
    [
      'one uuid under two names',
      {
        node1: [aDomainOnNode(), shutOff({ name: 'mail', uuid: MAIL_UUID })],
        node2: [shutOff({ name: 'x', uuid: MAIL_UUID })],
      },
      /^warning: one uuid, .*: mail on node1, x on node2 -> /,
    ],
  ])('%s is told, and is no failure', async (_, domains, message) => {
    const { exit, words } = await scan(domains)
    expect(words).toContainEqual(expect.stringMatching(message))
    expect(exit).toBe(0)
  })

  test('a disk that two running domains hold ends with 6, and both are named', async () => {
    const other = aDomain({ name: 'mail', uuid: uuidOf(7), disks: [aDisk('/srv/web.img')] })
    const { exit, words } = await scan({ node1: [aDomainOnNode()], node2: [aDomainOnNode({}, other)] })
    expect(exit).toBe(6)
    expect(words).toEqual([
      expect.stringMatching(/^error: web on node1 AND mail on node2 HOLD ONE DISK, file:\/srv\/web.img/),
    ])
    const saved = shutOff({ managedSave: true }, other)
    const later = await scan({ node1: [aDomainOnNode()], node2: [saved] })
    expect(later.exit).toBe(4)
    expect(later.words).toEqual([expect.stringMatching(/^warning: web on node1 and mail on node2 hold one disk/)])
  })
})

test('a node with a QEMU that nobody lists is not empty, and one that cannot be asked may have one', async () => {
  const world = await aWorld({ node3: [aDomainOnNode({ unlistedPid: 7 })] })
  expect(await perform(world, 'node remove', { words: { NODE: 'node3' } })).toMatchObject({ exit: 3 })
  world.nodes.set('node3')
  world.nodes.more.set('node3', { inquiryProblem: 'ssh: gone' })
  expect(await perform(world, 'node remove', { words: { NODE: 'node3' } })).toMatchObject({ exit: 3 })
})
