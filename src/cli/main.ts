/** The program's entry: one command line in, its exit status out. Run by start.ts, from compiled code where there is some. */
import { join } from 'node:path'
import { runCommand } from './program.ts'

/** Runs a command. `version` is the build's. */
export async function run(argv: readonly string[], version: string): Promise<number> {
  // A reader that went away, as in `havirt domain list | head -1`, is no error.
  process.stdout.on('error', error => process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1))
  // The folder above bin/, symbolic links resolved: where the program is and, unless something else is named, its home.
  const above = process.env['HAVIRT_ABOVE'] ?? join(__dirname, '..')
  return runCommand(argv, { above, version })
}
