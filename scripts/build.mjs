// Bundles src/cli/main.ts into dist/: small chunks that are loaded when they are needed, since unread code costs start-up time.
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { build } from 'esbuild'

const out = new URL('../dist/', import.meta.url).pathname
const fresh = await build({
  entryPoints: { havirt: 'src/cli/main.ts' },
  outdir: out,
  bundle: true,
  splitting: true,
  minify: false,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  outExtension: { '.js': '.mjs' },
  chunkNames: '[name]-[hash]',
  // CommonJS libraries call require for Node's own modules.
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
  logLevel: 'warning',
  metafile: true,
  define: { HAVIRT_VERSION: JSON.stringify(JSON.parse(await readFile('package.json', 'utf8')).version) },
})
// The folder itself stays: a lab has it mounted. Chunks of older builds go.
await mkdir(out, { recursive: true })
const written = new Set(Object.keys(fresh.metafile.outputs).map(path => path.split('/').at(-1)))
for (const file of await readdir(out)) if (!written.has(file)) await rm(`${out}${file}`, { recursive: true })
