/** The documents say what the table of operations says, name only files that are there, and name nothing that is not ours. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { parameterRows } from '../src/core/agent/parameters.ts'
import { verbs } from '../src/operations.ts'
import type { Expected } from './lab/ocf-answers.ts'
import { differences } from './lab/ocf-situations.ts'
import { covered, variants } from './sim/variants.ts'

const ROOT = join(import.meta.dirname, '..')
const MARKER = '<!-- columns: made from the table of operations; HAVIRT_RENEW_DOCS=1 make unit renews them -->'

/** The columns of every table, as formats.md shows them. */
function columnsText(): string {
  const withTables = verbs.filter(({ columns }) => columns !== undefined)
  return withTables
    .map(({ name, columns = [] }) =>
      [
        `### ${name}`,
        '',
        '| title | key | meaning |',
        '| --- | --- | --- |',
        ...columns.map(
          ({ title, key, help, unit }) =>
            `| ${title} | \`${key}\` | ${help}${unit === undefined ? '' : ` (${unit})`} |`,
        ),
        '',
      ].join('\n'),
    )
    .join('\n')
}

test('formats.md explains every column of every table', () => {
  const file = join(ROOT, 'docs/formats.md')
  const text = readFileSync(file, 'utf8')
  const [before = '', rest = ''] = text.split(MARKER)
  const after = rest.slice(rest.indexOf('## The home folder'))
  const wanted = `${before}${MARKER}\n\n${columnsText()}\n${after}`
  if (process.env['HAVIRT_RENEW_DOCS'] !== undefined) writeFileSync(file, wanted)
  expect(readFileSync(file, 'utf8')).toBe(wanted)
})

/** Replaces, or compares, what stands between two comments of a document. */
function expectMade(file: string, what: string, made: string): void {
  const path = join(ROOT, file)
  const text = readFileSync(path, 'utf8')
  const end = `<!-- end of ${what} -->`
  const start = text.indexOf('-->', text.indexOf(`<!-- ${what}: made from`)) + '-->'.length
  const wanted = `${text.slice(0, start)}\n\n${made}\n\n${text.slice(text.indexOf(end))}`
  if (process.env['HAVIRT_RENEW_DOCS'] !== undefined) writeFileSync(path, wanted)
  expect(readFileSync(path, 'utf8')).toBe(wanted)
}

test('ocf.md explains every parameter of the agent', () => {
  const rows = parameterRows.map(
    ([name, { type, default: standard = '', long }]) =>
      `| \`${name}\` | ${type}${standard === '' ? '' : `, ${standard}`} | ${long.replaceAll('|', '\\|')} |`,
  )
  expectMade(
    'docs/ocf.md',
    'parameters',
    ['| parameter | type, default | meaning |', '| --- | --- | --- |', ...rows].join('\n'),
  )
})

test('ocf.md tells every difference to the original, with its reason', () => {
  const reasons = new Map<string, string[]>()
  for (const { situation, run, sentence } of differences()) {
    const row = `| ${situation} | ${run.action || 'none'} | ${told(run.original)} | ${told(run.ours)} |`
    reasons.set(sentence, [...(reasons.get(sentence) ?? []), row])
  }
  const tables = [...reasons].map(([sentence, rows]) =>
    [`**${sentence}**`, '', '| situation | action | original | ours |', '| --- | --- | --- | --- |', ...rows].join(
      '\n',
    ),
  )
  expectMade('docs/ocf.md', 'differences', tables.join('\n\n'))
})

/** The code, and what is true afterwards. */
function told({ code, state }: Expected): string {
  return state === undefined ? `${code}` : `${code}, ${state}`
}

test('every file that a document links to is there', () => {
  const documents = [
    'README.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map(file => `docs/${file}`),
  ]
  const broken = documents
    .filter(file => file.endsWith('.md'))
    .flatMap(file => {
      const links = [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\]\((?!https?:)([^)#]+)/g)].map(
        ([, target = '']) => target,
      )
      return links.filter(target => !existsSync(join(ROOT, dirname(file), target))).map(target => `${file}: ${target}`)
    })
  expect(broken).toEqual([])
})

test('every test file that safety.md names is there', () => {
  const named = [...readFileSync(join(ROOT, 'docs/safety.md'), 'utf8').matchAll(/`(test\/[^`]+\.ts)`/g)].map(
    ([, file = '']) => file,
  )
  expect(named.length).toBeGreaterThan(10)
  expect(named.filter(file => !existsSync(join(ROOT, file)))).toEqual([])
})

test('safety.md names every scenario and every broken variant, and none that is not there', () => {
  const text = readFileSync(join(ROOT, 'docs/safety.md'), 'utf8').replace(/\s+/g, ' ')
  const proof = text.slice(text.indexOf('## What proves it'))
  const scenarios = readdirSync(join(ROOT, 'test/scenarios'), { withFileTypes: true }).filter(each =>
    each.isDirectory(),
  )
  const named = [...proof.matchAll(/\*Scenario:\* (.*?)\. \*Variant/g)].flatMap(
    ([, list = '']) => list.match(/[\w-]+/g) ?? [],
  )
  expect([...new Set(named.filter(name => name !== 'none'))].sort()).toEqual(scenarios.map(({ name }) => name).sort())
  const quoted = [...proof.matchAll(/"([^"]+)"/g)].map(([, why = '']) => why)
  expect([...new Set(quoted)].sort()).toEqual([...variants, ...covered].map(({ why }) => why).sort())
})
