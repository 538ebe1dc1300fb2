/** Sectors that a real sanlock 3.8.5 wrote, and everything else that may stand in their place. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { crc32c, readHost, readLease, SECTOR_BYTES } from '../../src/nodes/lease-sector.ts'

/** The MD5 of /media/images/fil.img, which is what libvirt calls the lease. */
const NAME = '017f7109343e4cae1dfc8ede11ec6bac'

const recorded = (file: string) =>
  Buffer.from(readFileSync(join(import.meta.dirname, 'recorded', file), 'utf8').replaceAll('\n', ''), 'hex')
const leader = recorded('lease-leader.hex')
const host = recorded('lease-host.hex')

/** The same with some bytes changed, and the checksum that they then have. */
function changed(sector: Buffer, change: (bytes: Buffer) => unknown): Buffer {
  const bytes = Buffer.from(sector)
  change(bytes)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 168)), 168)
  return bytes
}

describe('what sanlock wrote', () => {
  test('is whole as it was recorded', () => {
    expect([leader.length, host.length]).toEqual([SECTOR_BYTES, SECTOR_BYTES])
  })

  test('a lease that was taken: by whom, and when by the clock of that machine', () => {
    expect(readLease(leader, NAME)).toEqual({ ownerId: 1, ownerGeneration: 1, version: 1, timestamp: 58165 })
  })

  test('a host that renews', () => {
    expect(readHost(host)).toEqual({ hostId: 1, generation: 1, timestamp: 58175, name: 'node1', ioTimeoutSeconds: 2 })
  })

  test('a lease is no host, and a host is no lease', () => {
    expect(readHost(leader)).toBeUndefined()
    expect(readLease(host, 'node1')).toBeUndefined()
  })

  test('what stands behind the sector does not matter', () => {
    expect(readLease(Buffer.concat([leader, Buffer.alloc(512, 7)]), NAME)).toEqual(readLease(leader, NAME))
  })
})

test('numbers of 64 bits are read whole', () => {
  const sector = changed(leader, bytes => {
    bytes.writeBigUInt64LE(2000n, 32)
    bytes.writeBigUInt64LE(0x1_0000_0001n, 40)
    bytes.writeBigUInt64LE(0x2_0000_0002n, 48)
    bytes.writeBigUInt64LE(0n, 152)
  })
  expect(readLease(sector, NAME)).toEqual({
    ownerId: 2000,
    ownerGeneration: 0x1_0000_0001,
    version: 0x2_0000_0002,
    timestamp: 0,
  })
})

test('a name that takes all its 48 bytes ends there', () => {
  const name = 'n'.repeat(48)
  expect(readHost(changed(host, bytes => bytes.write(name, 104)))?.name).toBe(name)
})

/** That nobody can tell is `undefined`; a lease that reads as free by mistake would let a disk be written twice. */
describe('what is not whole is never a lease', () => {
  test('any flipped bit of what the checksum covers, or of the checksum', () => {
    for (let at = 0; at < 172; at++)
      for (let bit = 0; bit < 8; bit++) {
        const lease = Buffer.from(leader)
        lease[at] = (lease[at] ?? 0) ^ (1 << bit)
        expect(readLease(lease, NAME), `byte ${at}, bit ${bit}`).toBeUndefined()
        const other = Buffer.from(host)
        other[at] = (other[at] ?? 0) ^ (1 << bit)
        expect(readHost(other), `byte ${at}, bit ${bit}`).toBeUndefined()
      }
  })

  test('other bytes in any places there', () => {
    const changes = fc.array(fc.tuple(fc.integer({ min: 0, max: 171 }), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    })
    fc.assert(
      fc.property(changes, list => {
        const lease = Buffer.from(leader)
        for (const [at, mask] of list) lease[at] = (lease[at] ?? 0) ^ mask
        fc.pre(!lease.equals(leader))
        expect(readLease(lease, NAME)).toBeUndefined()
      }),
    )
  })

  test('cut off anywhere', () => {
    for (let length = 0; length < SECTOR_BYTES; length++) {
      expect(readLease(leader.subarray(0, length), NAME)).toBeUndefined()
      expect(readHost(host.subarray(0, length))).toBeUndefined()
    }
  })

  test('the first half of it written, and the rest still zero', () => {
    for (let kept = 0; kept < 172; kept++) {
      const torn = Buffer.concat([leader.subarray(0, kept), Buffer.alloc(SECTOR_BYTES - kept)])
      expect(readLease(torn, NAME)).toBeUndefined()
    }
  })

  test.each([
    ['zeroes', Buffer.alloc(SECTOR_BYTES)],
    ['ones', Buffer.alloc(SECTOR_BYTES, 0xff)],
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.alloc(SECTOR_BYTES, 'no lease\n')],
  ])('%s', (_, bytes) => {
    expect(readLease(bytes, NAME)).toBeUndefined()
    expect(readLease(bytes, '')).toBeUndefined()
    expect(readHost(bytes)).toBeUndefined()
  })

  test('any bytes at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 1024 }), bytes => {
        expect(readLease(Buffer.from(bytes), NAME)).toBeUndefined()
        expect(readHost(Buffer.from(bytes))).toBeUndefined()
      }),
    )
  })

  test('the lease of another name: a copy, or a file that was renamed', () => {
    for (const name of ['4e15cfb1040450d0f83b6142d16b7776', '', NAME.slice(1), `${NAME}0`, NAME.toUpperCase()])
      expect(readLease(leader, name)).toBeUndefined()
  })

  test.each<[string, (bytes: Buffer) => unknown]>([
    ['of another lockspace', bytes => bytes.write('OTHER', 56)],
    ['whose lockspace only begins so', bytes => bytes.write('__LIBVIRT__DISKS__2', 56)],
    ['of another major version', bytes => bytes.writeUInt16LE(7, 6)],
    ['of a lease that was wiped (sanlock direct clear)', bytes => bytes.writeUInt32LE(0x11282016, 0)],
    ['of big-endian numbers', bytes => bytes.subarray(0, 4).reverse()],
  ])('a sector %s, with a checksum that is right', (_, change) => {
    expect(readLease(changed(leader, change), NAME)).toBeUndefined()
    expect(readHost(changed(host, change))).toBeUndefined()
  })

  test('a newer minor version is read: what is read of it stays where it is', () => {
    expect(
      readLease(
        changed(leader, bytes => bytes.writeUInt16LE(9, 4)),
        NAME,
      ),
    ).toBeDefined()
  })
})

test("the checksum is Castagnoli's, as sanlock begins and ends it", () => {
  expect(crc32c(leader.subarray(0, 168))).toBe(0xcef7b580)
  expect(crc32c(Buffer.alloc(0))).toBe(0xfffffffe)
})
