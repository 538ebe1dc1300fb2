// Bundles the simulator (src/sim/) with the real pipeline into one file, optionally with edits of the source (broken variants).
import { readFile } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import { build } from 'esbuild'

const root = resolve(import.meta.dirname, '..')

/** An edit is `{ file, find, replace }`, the file below src/. Throws when `find` does not occur exactly once. */
export async function bundleSimulator(outfile, entry = 'src/sim/main.ts', edits = []) {
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    logLevel: 'warning',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    inject: ['src/sim/quick-abort.ts'],
    plugins: [quick, edited(edits)],
  })
}

/** The pipeline's records are read by a quicker reader, and its tokens are counted. */
const quick = {
  name: 'quick',
  setup({ onResolve }) {
    const sim = file => ({ path: resolve(root, 'src/sim', file) })
    onResolve({ filter: /^yaml$/ }, ({ importer }) =>
      /src\/(store\/records|sim\/oracle)\.ts$/.test(importer) ? sim('quick-yaml.ts') : undefined,
    )
    onResolve({ filter: /store\/owner\.ts$/ }, ({ importer }) =>
      importer.endsWith('src/operations/marks.ts') ? sim('owner.ts') : undefined,
    )
    onResolve({ filter: /^node:crypto$/ }, ({ importer }) =>
      importer.endsWith('src/store/claims.ts') ? sim('quick-crypto.ts') : undefined,
    )
  },
}

function edited(edits) {
  return {
    name: 'edited',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
        const file = relative(resolve(root, 'src'), path)
        const mine = edits.filter(edit => edit.file === file)
        if (mine.length === 0) return undefined
        return { contents: mine.reduce(apply, await readFile(path, 'utf8')), loader: 'ts' }
      })
    },
  }
}

function apply(text, { file, find, replace }) {
  const parts = text.split(find)
  if (parts.length !== 2) throw new Error(`${file}: an edit's text occurs ${parts.length - 1} times: ${find}`)
  return parts.join(replace)
}
