/** `cluster whatif` and `cluster reserve`, on fake nodes. */
import { expect, test } from 'vitest'
import type { Input } from '../../src/operations/operation.ts'
import { aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import { perform } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const guest = (number: number, gib: number) =>
  aDomainOnNode({}, aDomain({ name: `g${number}`, uuid: uuidOf(number), memoryMiB: gib * 1024, disks: [] }))

function ask(world: World, name: string, options: Input['options'] = {}) {
  return perform(world, name, { options })
}

const texts = ({ messages }: Awaited<ReturnType<typeof ask>>) => messages.map(({ text }) => text)

test('whatif: a place for each domain, or why there is none', async () => {
  const world = await aWorld({ node1: [guest(1, 5), guest(2, 3)], node2: [guest(3, 4)], node3: [guest(4, 4)] })
  const report = await ask(world, 'cluster whatif', { down: 'node1, node1' })
  expect(report.exit).toBe(4)
  expect(report.table?.rows).toEqual([
    { domain: 'g1', from: 'node1', memoryMiB: 5120, why: 'no node has room' },
    { domain: 'g2', from: 'node1', memoryMiB: 3072, to: 'node2' },
  ])
  expect(texts(report)).toEqual([
    '1 of 2 domains of node1 would not run again',
    'there would be room for all if other domains moved first',
  ])
  expect(await ask(world, 'cluster whatif', { down: 'node2' })).toMatchObject({ exit: 0 })
  expect(await ask(world, 'cluster whatif')).toMatchObject({ exit: 2 })
  expect(await ask(world, 'cluster whatif', { down: 'nodeX' })).toMatchObject({ exit: 3 })
  expect(world.nodes.log.filter(line => line.startsWith('act'))).toEqual([])
})

test('whatif: of an empty node nothing is lost', async () => {
  const world = await aWorld({ node1: [guest(1, 5)] })
  expect(texts(await ask(world, 'cluster whatif', { down: 'node2,node3' }))).toEqual([
    'nothing runs on node2 and node3',
  ])
  expect(texts(await ask(world, 'cluster whatif', { down: 'node1' }))).toEqual([
    'the only domain of node1 would find room elsewhere',
  ])
})

test('reserve: one line a node, and what more fits', async () => {
  const world = await aWorld({ node1: [guest(1, 2)], node2: [guest(2, 2)] })
  const report = await ask(world, 'cluster reserve')
  expect(report.exit).toBe(0)
  expect(report.table?.rows[0]).toEqual({ lost: 'node1', domains: 1, memoryMiB: 2048, placed: 1, homeless: '' })
  expect(texts(report)).toEqual([
    'any one node can be lost',
    'any two nodes can be lost',
    'of a typical domain (2048 MiB and 1 vCPU) 10 more fit, 6 so that any one node can still be lost',
  ])
  const full = await aWorld({ node1: [guest(1, 7)], node2: [guest(2, 7)], node3: [guest(3, 7)] })
  const bad = await ask(full, 'cluster reserve')
  expect(bad.exit).toBe(4)
  expect(texts(bad)[0]).toBe('3 of 3 nodes cannot be lost')
})
