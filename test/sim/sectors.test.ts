/** The simulated sanlock writes what a real one wrote, byte for byte. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hostSector, leaseSector } from '../../src/sim/sectors.ts'

const recorded = (file: string) =>
  readFileSync(join(import.meta.dirname, '..', 'nodes', 'recorded', file), 'utf8').replaceAll('\n', '')

test('a host that renews', () => {
  const host = { hostId: 1, generation: 1, timestamp: 58175, name: 'node1', ioTimeoutSeconds: 2 }
  expect(hostSector(host).toString('hex')).toBe(recorded('lease-host.hex'))
})

test('a lease that was taken', () => {
  const lease = {
    name: '017f7109343e4cae1dfc8ede11ec6bac',
    ownerId: 1,
    ownerGeneration: 1,
    version: 1,
    timestamp: 58165,
  }
  expect(leaseSector(lease).toString('hex')).toBe(recorded('lease-leader.hex'))
})
