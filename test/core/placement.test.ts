/** Room, needs and the order of candidates; the objections one by one are in plan/start.test.ts and plan/migrate.test.ts. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { upNodes } from '../../src/core/cluster.ts'
import { defaultConfig } from '../../src/core/config.ts'
import type { Ledger } from '../../src/core/ledger.ts'
import { candidates, needsOf, objections, room } from '../../src/core/placement.ts'
import {
  aCluster,
  aDisk,
  aDomain,
  aDomainOnNode,
  aNode,
  aSilentNode,
  MAIL_UUID,
  shutOff,
  upNode,
  uuidOf,
} from './builders.ts'

describe('placement', () => {
  test('needs are the paths of disks and the devices of bridges, each once', () => {
    const domain = aDomain({
      disks: [
        aDisk('/a'),
        aDisk('/a'),
        aDisk('/dev/b'),
        aDisk('', { source: { kind: 'volume', pool: 'default', volume: 'c' } }),
        aDisk('', { source: { kind: 'none' }, device: 'cdrom' }),
      ],
      interfaces: [
        { kind: 'bridge', source: 'br0' },
        { kind: 'bridge', source: 'br0' },
        { kind: 'direct', source: 'eno1' },
        { kind: 'network', source: 'default' },
        { kind: 'bridge' },
      ],
    })
    expect(needsOf(domain)).toEqual({ paths: ['/a', '/dev/b'], volumes: ['default/c'], devices: ['br0', 'eno1'] })
  })

  test('room is capacity by the configured ratios, less what active domains hold', () => {
    const node = { ...defaultConfig.node, reservedMemoryMiB: 704, memoryRatio: 1.5, vcpuRatio: 2 }
    const cluster = aCluster({ config: { ...defaultConfig, node } })
    expect(room(cluster, upNode('node1', [aDomainOnNode()]))).toEqual({ memoryMiB: 12_000 - 1024, vcpus: 7 })
  })

  test('what is reserved for others is no room, until they are there', () => {
    const reservation = {
      token: 't',
      generation: 1,
      uuid: MAIL_UUID,
      domain: 'mail',
      memoryMiB: 2048,
      vcpus: 2,
      by: 'ops@node2 (pid 7)',
    }
    const cluster = aCluster()
    const node = upNode('node1')
    const free = room(cluster, node)
    const reserved = { ...node, ledger: { reservations: [reservation] } }
    expect(room(cluster, reserved)).toEqual({ memoryMiB: free.memoryMiB - 2048, vcpus: free.vcpus - 2 })
    expect(room(cluster, reserved, MAIL_UUID)).toEqual(free)
    const mail = aDomainOnNode({ name: 'mail', uuid: MAIL_UUID, memoryMiB: 1024 })
    const arrived = { ...upNode('node1', [mail]), ledger: { reservations: [reservation] } }
    expect(room(cluster, arrived).memoryMiB).toBe(free.memoryMiB - 1024)
    const [refusal] = objections(cluster, aDomain({ memoryMiB: free.memoryMiB }), reserved)
    expect(refusal).toMatchObject({ reason: 'memory', reserved: ['2048 MiB for mail by ops@node2 (pid 7)'] })
  })

  test('a node that defines another domain with its name or its uuid is no place for it, and another one is', () => {
    const reasons = (there: ReturnType<typeof shutOff>) =>
      objections(aCluster(), aDomain(), aNode('node1', [there])).map(({ reason }) => reason)
    expect(reasons(shutOff({ name: 'old' }))).toEqual(['otherDefinition'])
    expect(reasons(shutOff({ uuid: MAIL_UUID }))).toEqual(['otherDefinition'])
    expect(reasons(shutOff())).toEqual([])
    expect(reasons(shutOff({ name: 'mail', uuid: MAIL_UUID }))).toEqual([])
    const nodes = [
      aNode('node1', [shutOff({ name: 'old' })]),
      aNode('node2', [aDomainOnNode({ name: 'big', uuid: uuidOf(9) })]),
    ]
    expect(candidates(aCluster({ nodes }), aDomain())).toEqual(['node2'])
  })

  test('nobody has to make room for those who reserved later', () => {
    const mail = {
      token: 't',
      generation: 1,
      uuid: MAIL_UUID,
      domain: 'mail',
      memoryMiB: 2048,
      vcpus: 2,
      by: 'ops@node2 (pid 7)',
    }
    const ours = { ...mail, uuid: aDomain().uuid, domain: 'web' }
    const free = room(aCluster(), upNode('node1')).memoryMiB
    const left = (...reservations: Ledger['reservations']) =>
      room(aCluster(), { ...upNode('node1'), ledger: { reservations } }, aDomain().uuid).memoryMiB
    expect(left(ours, mail)).toBe(free)
    expect(left(mail, ours)).toBe(free - 2048)
    expect(left(mail)).toBe(free - 2048)
  })

  test('a node in maintenance receives nothing, nor one that came back and is not reconciled', () => {
    const mark = { by: 'ops@node2 (pid 7)', since: '2026-11-21T10:00:00.000Z' }
    const reasons = (ledger: Ledger) =>
      objections(aCluster(), aDomain(), { ...upNode('node1'), ledger }).map(({ reason }) => reason)
    expect(reasons({ reservations: [], maintenance: mark })).toEqual(['maintenance'])
    expect(reasons({ reservations: [], down: { ...mark, how: 'word', answered: true } })).toEqual(['returned'])
  })

  test('candidates are exactly the nodes without objection, the one with most room first', () => {
    const node = fc.tuple(fc.integer({ min: 0, max: 12_000 }), fc.integer({ min: 1, max: 8 }), fc.boolean())
    fc.assert(
      fc.property(fc.array(node, { maxLength: 6 }), specs => {
        const nodes = specs.map(([memoryMiB, cpus, up], at) =>
          up
            ? aNode(`node${at}`, [aDomainOnNode({ name: 'x', uuid: uuidOf(at) })], { memoryMiB, cpus })
            : aSilentNode(`node${at}`),
        )
        const cluster = aCluster({ nodes })
        const found = candidates(cluster, aDomain())
        const fit = nodes.filter(each => objections(cluster, aDomain(), each).length === 0)
        expect([...found].sort()).toEqual(fit.map(({ name }) => name).sort())
        const left = found.map(name => {
          const node = upNodes(cluster).find(each => each.name === name)
          return node === undefined ? -1 : room(cluster, node).memoryMiB
        })
        expect(left).toEqual([...left].sort((a, b) => b - a))
        expect(left.every(memoryMiB => memoryMiB >= 1024)).toBe(true)
      }),
    )
  })
})
