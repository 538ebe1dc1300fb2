/** Where what belongs to this machine and this boot lives: never on the share, and short, since a unix socket's path ends at 108 bytes. */
import { homedir } from 'node:os'
import { join } from 'node:path'

/** /run/havirt for root; below the user's own runtime folder, or home, for anybody else. It need not exist. */
export function runtimeFolder(): string {
  if (process.getuid?.() === 0) return '/run/havirt'
  const runtime = process.env['XDG_RUNTIME_DIR']
  return runtime === undefined ? join(homedir(), '.havirt') : join(runtime, 'havirt')
}
