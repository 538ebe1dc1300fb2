// Builds havirt, bundles the benchmarks into a temporary folder, and runs them there in a clean environment: `make bench`.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'

process.chdir(new URL('..', import.meta.url).pathname)
const { PATH, HOME } = process.env
for (const name of Object.keys(process.env)) delete process.env[name]
Object.assign(process.env, { PATH, HOME })

const folder = mkdtempSync(join(tmpdir(), 'havirt-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
await import('../scripts/build.mjs')
await build({
  entryPoints: ['bench/main.ts', 'bench/programs/*.ts'],
  outbase: 'bench',
  outdir: folder,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  outExtension: { '.js': '.mjs' },
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
  logLevel: 'warning',
})
const { main } = await import(join(folder, 'main.mjs'))
process.exit(await main(process.argv.slice(2), process.cwd()))
