/** The guard's lock of a domain on this node (nodes/guard.ts): whoever holds it has a command under way. */
import { existsSync } from 'node:fs'
import { GUARD_FOLDER } from '../nodes/guard.ts'
import { run } from '../nodes/process.ts'

const PATIENCE_MS = 2000

/** True while a command for one of these domains runs behind the guard here. Local: no store is asked. */
export async function isGuardHeld(uuids: readonly string[]): Promise<boolean> {
  for (const uuid of uuids) {
    const lock = `${GUARD_FOLDER}/${uuid}.lock`
    if (!existsSync(lock)) continue
    const exit = await run('flock', ['-n', lock, 'true'], { timeoutMs: PATIENCE_MS, group: 'ours' })
    if (exit.status === 1) return true
  }
  return false
}
