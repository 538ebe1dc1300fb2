/**
 * The conformance suite must catch a store that is broken on purpose. Each variant is the real source with one edit, so
 * that a variant which no longer applies to the source fails here instead of passing for the wrong reason.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { DirectoryStore } from '../../src/store/directory.ts'
import { laws, stormLaws } from './conformance.ts'
import { worldOnNfs } from './simulated-nfs.ts'

interface Variant {
  readonly name: string
  readonly from: string
  readonly to: string
}

const variants: readonly Variant[] = [
  {
    name: "a store that trusts link's answer",
    from: 'let holder = await this.#holder(folder, version, draft.nonce)',
    to: "let holder: Holder = answer === undefined ? 'ours' : 'other'",
  },
  {
    name: 'a store that renames over the next number instead of linking it',
    from: 'const answer = await this.#files.link(',
    to: 'await this.#remove(numbered(folder, version))\n    const answer = await this.#files.link(',
  },
  {
    name: 'a store that does not list the folder again after the link',
    from: 'const result = judge(version, holder, highest(entries))',
    to: 'const result = judge(version, holder, version)',
  },
  {
    name: 'a store that calls a record lost when another already follows it',
    from: "return { outcome: 'unknown', reason: `written as",
    to: "return { outcome: 'lost' }\n  return { outcome: 'unknown', reason: `written as",
  },
  {
    name: 'a store that reads without ending its doubt',
    from: 'await this.#settle(folder)\n',
    to: '',
  },
  {
    name: 'a store that takes a failed unlink for done',
    from: "if (errorCode(error) !== 'ENOENT') throw error\n    })",
    to: '})',
  },
  {
    name: 'a store that believes a negative lookup',
    from: "if (holder === 'absent') return neverLinked(folder, answer)",
    to: "if (holder === 'absent') return { outcome: 'lost' }",
  },
  {
    name: 'a store that links whatever number its caller names',
    from: 'if (seen < expected && highest(await this.#entries(folder)) !== expected) return await this.#withdraw(draft)',
    to: '',
  },
]

let tmp: string
beforeAll(async () => {
  tmp = await mkdtemp(join(tmpdir(), 'havirt-broken-'))
})
afterAll(() => rm(tmp, { recursive: true }))

it.each(variants)(
  '$name is caught',
  async variant => {
    const law = await brokenLaw(await build(variant))
    expect(law, `${variant.name} broke no law`).toBeDefined()
  },
  60_000,
)

it('and the store itself breaks no law in the same worlds', async () => {
  expect(await brokenLaw(await build({ name: 'itself', from: '', to: '' }))).toBeUndefined()
}, 60_000)

async function build({ name, from, to }: Variant): Promise<typeof DirectoryStore> {
  const folder = resolve(import.meta.dirname, '../../src/store')
  const source = await readFile(join(folder, 'directory.ts'), 'utf8')
  expect(source, `the edit for ${name} no longer applies`).toContain(from)
  const broken = source.replace(from, () => to).replace(/'\.\/(\w+\.ts)'/g, (_, file) => `'${join(folder, file)}'`)
  const path = join(tmp, `${name.replaceAll(' ', '-')}.ts`)
  await writeFile(path, broken)
  return (await import(/* @vite-ignore */ path)).DirectoryStore
}

/** The first law that it breaks. The worlds are the same each time, so that a variant is caught always or never. */
async function brokenLaw(Directory: typeof DirectoryStore): Promise<string | undefined> {
  const luck = { runs: 200, seed: 1 }
  const calm = { repeats: 0.1, stalls: 0.02 }
  const storm = { ...calm, failures: 0.05 }
  const inCalm = laws.map(law => ({ ...law, weather: calm }))
  const inStorm = stormLaws.map(law => ({ ...law, weather: storm }))
  for (const { name, check, weather } of [...inStorm, ...inCalm]) {
    try {
      await check(async seed => worldOnNfs(Directory, { seed, ...weather }), luck)
    } catch {
      return name
    }
  }
  return undefined
}
