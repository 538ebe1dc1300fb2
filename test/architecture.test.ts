/** The levels of the source, kept by reading its import lines: docs/architecture.md says what each may know. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../src/', import.meta.url))
const FILES = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .sort()
const MAX_LINES = 900

/** Comments and texts hold words that are no code. */
function codeOf(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|[\s;{}(])\/\/.*$/gm, '$1')
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''")
}

function textOf(file: string): string {
  return readFileSync(join(SRC, file), 'utf8')
}

/** What a file imports: paths below src/, or names of modules. Exports from elsewhere and imports in the middle count, too. */
function importsOf(file: string): string[] {
  const found = textOf(file).matchAll(
    /^(?:import|export)\b[^'"]*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm,
  )
  return [...found].map(([, from, bare, late]) => {
    const name = from ?? bare ?? late ?? ''
    return name.startsWith('.') ? relative(SRC, join(SRC, dirname(file), name)) : name
  })
}

const levelOf = (path: string) => (path.includes('/') ? `${path.split('/', 1).join()}/` : path)
const isOurs = (path: string) => path.endsWith('.ts')

/** Level -> what below src/ it may import. What is not listed may import everything but the doors. */
const LEVELS: Readonly<Record<string, readonly string[]>> = {
  'core/': ['core/'],
  'libvirt/': ['libvirt/'],
  'store/': ['core/', 'store/'],
  'nodes/': ['core/', 'libvirt/', 'nodes/'],
}
const DOORS = ['cli/', 'serve/', 'ocf/', 'web/']
const YAML_READERS = ['core/config-check.ts', 'core/config-edit.ts']

const violationsOf = (broken: (file: string, imported: string) => boolean) =>
  FILES.flatMap(file =>
    importsOf(file)
      .filter(each => broken(file, each))
      .map(each => `${file} imports ${each}`),
  )

describe('architecture', () => {
  test('the import lines are read at all', () => {
    expect(importsOf('operate.ts')).toContain('core/cluster.ts')
    expect(importsOf('core/plan/start.ts')).toContain('core/cluster.ts')
    expect(importsOf('store/claims.ts')).toContain('node:crypto')
  })

  test.each(Object.entries(LEVELS))('%s imports only %j', (level, allowed) => {
    const broken = (file: string, imported: string) =>
      levelOf(file) === level && isOurs(imported) && !allowed.includes(levelOf(imported))
    expect(violationsOf(broken)).toEqual([])
  })

  test('core needs no library and nothing of Node.js; only the config is read by a YAML library', () => {
    const broken = (file: string, imported: string) =>
      file.startsWith('core/') && !isOurs(imported) && !(YAML_READERS.includes(file) && imported === 'yaml')
    expect(violationsOf(broken)).toEqual([])
  })

  test('nothing imports a door but the door itself', () => {
    const broken = (file: string, imported: string) =>
      DOORS.includes(levelOf(imported)) && isOurs(imported) && levelOf(file) !== levelOf(imported)
    expect(violationsOf(broken)).toEqual([])
  })

  test('only one file starts processes', () => {
    expect(violationsOf((_, imported) => /^(node:)?child_process$/.test(imported))).toEqual([
      'nodes/process.ts imports node:child_process',
    ])
  })

  test('the checker does not import what it checks, not even by way of another file', () => {
    const seen = new Set<string>()
    const visit = (file: string) => {
      if (seen.has(file)) return
      seen.add(file)
      for (const each of importsOf(file).filter(isOurs)) visit(each)
    }
    visit('core/invariants.ts')
    expect([...seen].filter(file => file.startsWith('core/plan/'))).toEqual([])
    expect(seen.size).toBeGreaterThan(3)
  })

  test('only assemble.ts chooses what is real', () => {
    const broken = (file: string, imported: string) =>
      ['operate.ts', 'execute.ts'].includes(file) &&
      /^(nodes\/(ssh|reach|session)|store\/directory)\.ts$/.test(imported)
    const values = violationsOf(broken).filter(each => !isTypeOnly(each))
    expect(values).toEqual([])
  })

  test('core is pure: no clock, no luck, no environment, nothing that waits or prints', () => {
    const impure =
      /\b(Date\.now|new Date\(|Math\.random|performance\.|process\.|console\.|globalThis\.|await\b|async\b|Promise\b|setTimeout|setInterval|setImmediate|fetch\()/
    const found = FILES.filter(file => file.startsWith('core/')).flatMap(file =>
      codeOf(textOf(file))
        .split('\n')
        .filter(line => impure.test(line))
        .map(line => `${file}: ${line.trim()}`),
    )
    expect(found).toEqual([])
  })

  test(`no file has more than ${MAX_LINES} lines`, () => {
    expect(FILES.filter(file => textOf(file).split('\n').length > MAX_LINES)).toEqual([])
  })
})

/** `import type` brings nothing along at run time. */
function isTypeOnly(violation: string): boolean {
  const [file = '', imported = ''] = violation.split(' imports ')
  const name = imported.split('/').at(-1) ?? ''
  return new RegExp(`^import type [^\\n]*/${name.replace('.', '\\.')}'`, 'm').test(textOf(file))
}
