/** What a lock manager refused, with the name of whoever holds the lease: from its own record on the storage, which needs nobody to answer. */
import { join } from 'node:path'
import { LOCKSPACE, lockRefusalIn } from '../core/lease.ts'
import { leaseName } from '../nodes/lease-name.ts'
import { readHost, readLease, SECTOR_BYTES } from '../nodes/lease-sector.ts'
import { run } from '../nodes/process.ts'
import { type Definition, diskPathsOf } from './definition.ts'
import { readText } from './files.ts'

const SETTINGS = '/etc/libvirt/qemu-sanlock.conf'
const DEFAULT_FOLDER = '/var/lib/libvirt/sanlock'
/** The storage of leases may hang as any other. */
const PATIENCE_MS = 3000

/** The end of a sentence; undefined when libvirt's words are about something else. */
export async function lockRefusal(said: string, definition: Definition): Promise<string | undefined> {
  switch (lockRefusalIn(said)) {
    case 'held':
      return `the lease of ${await holder(definition)}`
    case 'notJoined':
      return `this node has not joined the lockspace of its leases; restart libvirtd (libvirt says: ${said})`
    case 'noDaemon':
      return `sanlock does not run on this node (libvirt says: ${said})`
    case 'noLockspace':
      return `virtlockd was started after libvirtd and knows no lockspace; restart libvirtd (libvirt says: ${said})`
    case 'damaged':
      return `the lease of one of its disks is damaged (libvirt says: ${said})`
    case 'tooMany':
      return `it writes more disks than sanlock gives leases to one domain (libvirt says: ${said})`
    case undefined:
      return undefined
  }
}

/** Disks whose leases somebody has, and who, in words. */
async function holder(definition: Definition): Promise<string> {
  const settings = await readText(SETTINGS)
  const folder =
    ('text' in settings ? /^\s*disk_lease_dir\s*=\s*"([^"]+)"/m.exec(settings.text)?.[1] : undefined) ?? DEFAULT_FOLDER
  const held: string[] = []
  for (const path of diskPathsOf(definition)) {
    const name = leaseName('sanlock', path)
    const lease = readLease(await sector(join(folder, name), 0), name)
    if (lease === undefined || lease.timestamp === 0) continue
    const host = readHost(await sector(join(folder, LOCKSPACE), lease.ownerId - 1))
    held.push(
      `its disk ${path} is held by ${host === undefined ? `host id ${lease.ownerId}` : `${host.name} (host id ${host.hostId})`}`,
    )
  }
  return held.length === 0 ? 'one of its disks is held by another host' : held.join(', ')
}

/** Read past the cache, as sanlock writes it, and by another process, which may be left behind. */
async function sector(file: string, number: number): Promise<Buffer> {
  const words = [`if=${file}`, `bs=${SECTOR_BYTES}`, `skip=${number}`, 'count=1', 'iflag=direct', 'status=none']
  const exit = await run('sh', ['-c', 'dd "$@" | base64 -w0', 'dd', ...words], { timeoutMs: PATIENCE_MS })
  return Buffer.from(exit.stdout, 'base64')
}
