// Bundles src/ into dist/: the program, named by its content, and the few lines that load it (src/cli/start.ts).
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { build } from 'esbuild'

const out = new URL('../dist/', import.meta.url).pathname
const { version } = JSON.parse(await readFile('package.json', 'utf8'))
const common = { bundle: true, write: false, platform: 'node', format: 'cjs', target: 'node20.19', logLevel: 'warning' }

const program = await bundle({ entryPoints: ['src/cli/main.ts'] })
const name = `program-${createHash('sha256').update(program).digest('hex').slice(0, 16)}.cjs`
const define = { HAVIRT_VERSION: JSON.stringify(version), HAVIRT_PROGRAM: JSON.stringify(name) }
const entry = await bundle({ entryPoints: ['src/cli/start.ts'], define })

await mkdir(out, { recursive: true })
// The folder itself stays, since a lab has it mounted, and the entry comes last: it always names a program that is there.
await writeFile(`${out}${name}`, program)
await writeFile(`${out}havirt.cjs.new`, entry)
await rename(`${out}havirt.cjs.new`, `${out}havirt.cjs`)
for (const file of await readdir(out)) {
  if (![name, 'havirt.cjs', 'havirt.1', 'ocf'].includes(file))
    await rm(`${out}${file}`, { recursive: true, force: true })
}

// The Pacemaker agent, which is copied from here to the local disk of each node.
await mkdir(`${out}ocf`, { recursive: true })
for (const part of ['agent', 'keeper']) {
  const entryPoint = part === 'agent' ? 'src/ocf/main.ts' : 'src/ocf/keeper.ts'
  await put(`ocf/${part}.cjs`, await bundle({ entryPoints: [entryPoint], minifySyntax: true, minifyWhitespace: true }))
}
const { metaData } = await evaluate('src/core/agent/meta-data.ts')
for (const api of ['1.0', '1.1']) await put(`ocf/meta-data-${api}.xml`, metaData(api, version))

async function put(file, text) {
  await writeFile(`${out}${file}.new`, text)
  await rename(`${out}${file}.new`, `${out}${file}`)
}

async function evaluate(entryPoint) {
  const text = await bundle({ entryPoints: [entryPoint], format: 'esm' })
  return import(`data:text/javascript;base64,${Buffer.from(text).toString('base64')}`)
}

async function bundle(options) {
  const { outputFiles } = await build({ ...common, ...options })
  return outputFiles[0].text
}
