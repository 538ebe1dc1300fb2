/** Writes lease files that were given back, as sanlock keeps them: 1 MiB each, and all but their first sector a hole. Arguments: folder, count. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freeSector, unusedNames } from '../lease-answers.ts'

const BYTES = 1024 * 1024

const [folder = '', count = ''] = process.argv.slice(2)
mkdirSync(folder, { recursive: true })
for (const name of unusedNames(Number(count))) {
  const file = join(folder, name)
  writeFileSync(file, freeSector(name), { mode: 0o600 })
  truncateSync(file, BYTES)
}
