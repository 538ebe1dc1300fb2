/** Room, needs and the order of candidates; the objections one by one are in plan/start.test.ts and plan/migrate.test.ts. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { defaultConfig } from '../../src/core/config.ts'
import { candidates, needsOf, objections, room } from '../../src/core/placement.ts'
import { aCluster, aDisk, aDomain, aDomainOnNode, aNode, aSilentNode, uuidOf } from './builders.ts'

describe('placement', () => {
  test('needs are the paths of disks and the devices of bridges, each once', () => {
    const domain = aDomain({
      disks: [aDisk('/a'), aDisk('/a'), aDisk('/dev/b'), aDisk('', { source: { kind: 'none' }, device: 'cdrom' })],
      interfaces: [
        { kind: 'bridge', source: 'br0' },
        { kind: 'bridge', source: 'br0' },
        { kind: 'direct', source: 'eno1' },
        { kind: 'network', source: 'default' },
        { kind: 'bridge' },
      ],
    })
    expect(needsOf(domain)).toEqual({ paths: ['/a', '/dev/b'], devices: ['br0', 'eno1'] })
  })

  test('room is capacity by the configured ratios, less what active domains hold', () => {
    const node = { ...defaultConfig.node, reservedMemoryMiB: 704, memoryRatio: 1.5, vcpuRatio: 2 }
    const cluster = aCluster({ config: { ...defaultConfig, node } })
    const { seen } = aNode('node1', [aDomainOnNode()])
    expect(seen.state === 'up' && room(cluster, seen)).toEqual({ memoryMiB: 12_000 - 1024, vcpus: 7 })
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
          const seen = cluster.nodes.get(name)?.seen
          return seen?.state === 'up' ? room(cluster, seen).memoryMiB : -1
        })
        expect(left).toEqual([...left].sort((a, b) => b - a))
        expect(left.every(memoryMiB => memoryMiB >= 1024)).toBe(true)
      }),
    )
  })
})
