/** The sectors that sanlock writes: a host's record in the lockspace, and who has a lease (src/nodes/lease-sector.ts reads them). */
import { LOCKSPACE } from '../core/lease.ts'
import { crc32c, SECTOR_BYTES } from '../nodes/lease-sector.ts'

/** A host's record in the lockspace. */
export interface HostSector {
  readonly hostId: number
  readonly generation: number
  readonly timestamp: number
  readonly name: string
  readonly ioTimeoutSeconds: number
}

/** Who has a lease. */
export interface LeaseSector {
  readonly name: string
  readonly ownerId: number
  readonly ownerGeneration: number
  readonly version: number
  readonly timestamp: number
}

const MINOR = 4
/** Of 512-byte sectors. */
const FLAGS = 0x10
const MAX_HOSTS = 2000
const CHECKSUM_AT = 168

export function hostSector({ hostId, generation, timestamp, name, ioTimeoutSeconds }: HostSector): Buffer {
  const bytes = leader(0x12212010, 3, [0, 1, hostId, generation, 0], name, timestamp)
  bytes.writeUInt16LE(ioTimeoutSeconds, 174)
  return summed(bytes)
}

export function leaseSector({ name, ownerId, ownerGeneration, version, timestamp }: LeaseSector): Buffer {
  const bytes = leader(0x06152010, 6, [MAX_HOSTS, MAX_HOSTS, ownerId, ownerGeneration, version], name, timestamp)
  for (const [at, value] of [ownerId, ownerGeneration, timestamp].entries())
    bytes.writeBigUInt64LE(BigInt(value), 176 + 8 * at)
  return summed(bytes)
}

function leader(magic: number, major: number, numbers: readonly number[], name: string, timestamp: number): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt16LE(MINOR, 4)
  bytes.writeUInt16LE(major, 6)
  bytes.writeUInt32LE(FLAGS, 8)
  bytes.writeUInt32LE(SECTOR_BYTES, 12)
  for (const [at, value] of numbers.entries()) bytes.writeBigUInt64LE(BigInt(value), 16 + 8 * at)
  bytes.write(LOCKSPACE, 56, 'latin1')
  bytes.write(name, 104, 'latin1')
  bytes.writeBigUInt64LE(BigInt(timestamp), 152)
  return bytes
}

function summed(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, CHECKSUM_AT)), CHECKSUM_AT)
  return bytes
}
