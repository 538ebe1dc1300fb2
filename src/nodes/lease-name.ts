/** How the lock managers name the lease of a disk. The path counts as it is written: another spelling is another lease. */
import { createHash } from 'node:crypto'
import type { LeaseManager } from '../core/lease.ts'

/** sanlock's name is the path's MD5 (libvirt's lock_driver_sanlock.c), virtlockd's in a file lockspace its SHA-256 (lock_driver_lockd.c). */
export function leaseName(manager: LeaseManager, path: string): string {
  return createHash(manager === 'sanlock' ? 'md5' : 'sha256')
    .update(path)
    .digest('hex')
}
