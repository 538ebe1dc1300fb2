/** The command line's first lines: what is needed for every start, and no more, since code that is read costs time. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

declare const HAVIRT_VERSION: string | undefined

/** The folder above bin/, symbolic links resolved: where the program is and, unless something else is named, its home. */
const above = process.env['HAVIRT_ABOVE'] ?? join(import.meta.dirname, '..')

async function main(argv: readonly string[]): Promise<number> {
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    process.stdout.write(`havirt ${version()}\n`)
    return 0
  }
  const { runCommand } = await import('./program.ts')
  return runCommand(argv, { above, version: version() })
}

/** The build puts the version into the bundle; a source tree reads its package.json. */
function version(): string {
  if (typeof HAVIRT_VERSION === 'string') return HAVIRT_VERSION
  return String(JSON.parse(readFileSync(join(above, 'package.json'), 'utf8')).version)
}

// A reader that went away, as in `havirt domain list | head -1`, is no error.
process.stdout.on('error', error => process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1))
// Said outright: an ssh that lingers must not keep the command. Writes to files, pipes and terminals are done by now.
process.exit(await main(process.argv.slice(2)))
