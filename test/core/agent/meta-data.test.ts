/** What the agent says of itself: 1.0 by the document type that ocf-tester checks, 1.1 by the rules of the OCF resource agent API 1.1. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type ApiVersion, metaData } from '../../../src/core/agent/meta-data.ts'
import { parameterRows } from '../../../src/core/agent/parameters.ts'
import { all, attr, child, parseXml, textOf, type XmlElement } from '../../../src/core/xml.ts'

const VERSIONS: ApiVersion[] = ['1.0', '1.1']
const DTD = '/usr/share/resource-agents/ra-api-1.dtd'
const DOCTYPE = '<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">\n'

/** Our own reader takes no document type, not even a harmless one. */
function root(version: ApiVersion, program = '1.2.3'): XmlElement {
  return parseXml(metaData(version, program).replace(DOCTYPE, ''))
}

const attributesOf = (element: XmlElement) =>
  Object.fromEntries([...element.attributes].map(([name, { value }]) => [name, value]))
const parametersIn = (version: ApiVersion) => all(root(version), 'parameters', 'parameter')
const actionsIn = (version: ApiVersion) => all(root(version), 'actions', 'action').map(attributesOf)

/** Element -> its attributes, the required ones with `!`, and its children in their order. */
interface Shape {
  readonly attributes: Readonly<Record<string, RegExp>>
  readonly required: readonly string[]
  readonly children: readonly string[]
}

const ANY = /^[^\n]*$/
const BIT = /^[01]$/
const SECONDS = /^\d+s$/
const DESCRIPTION: Shape = { attributes: { lang: /^en$/ }, required: ['lang'], children: [] }

function shapes(version: ApiVersion): Readonly<Record<string, Shape>> {
  const more: Record<string, RegExp> = version === '1.0' ? {} : { 'unique-group': /^\w+$/, reloadable: BIT }
  return {
    'resource-agent': {
      attributes: { name: /^VirtualDomain$/, version: ANY },
      required: ['name'],
      children: ['version', 'longdesc', 'shortdesc', 'parameters', 'actions'],
    },
    version: { attributes: {}, required: [], children: [] },
    longdesc: DESCRIPTION,
    shortdesc: DESCRIPTION,
    parameters: { attributes: {}, required: [], children: Array(27).fill('parameter') },
    parameter: {
      attributes: { name: /^[a-z_]+$/, unique: BIT, required: BIT, ...more },
      required: ['name'],
      children: ['longdesc', 'shortdesc', 'content'],
    },
    // 1.1 adds `select`; of all its types these three are known to every Pacemaker.
    content: { attributes: { type: /^(string|integer|boolean)$/, default: ANY }, required: ['type'], children: [] },
    actions: { attributes: {}, required: [], children: Array(version === '1.0' ? 8 : 9).fill('action') },
    action: {
      attributes: { name: ANY, timeout: SECONDS, interval: SECONDS, depth: /^\d+$/ },
      required: ['name', 'timeout'],
      children: [],
    },
  }
}

/** Everything in which the element is not as the table wants it. */
function flaws(element: XmlElement, table: Readonly<Record<string, Shape>>): string[] {
  const shape = table[element.name]
  if (shape === undefined) return [`<${element.name}> is not known`]
  const { attributes, required, children } = shape
  return [
    ...[...element.attributes].flatMap(([name, { value }]) =>
      attributes[name]?.test(value) ? [] : [`<${element.name} ${name}="${value}">`],
    ),
    ...required.filter(name => !element.attributes.has(name)).map(name => `<${element.name}> without ${name}`),
    ...(element.children.map(({ name }) => name).join() === children.join() ? [] : [`children of <${element.name}>`]),
    ...element.children.flatMap(each => flaws(each, table)),
  ]
}

describe.each(VERSIONS)('version %s', version => {
  test('has the elements and attributes of its API, in their order, and no others', () => {
    expect(flaws(root(version), shapes(version))).toEqual([])
  })

  test('says which API it is of, and which program', () => {
    expect(textOf(child(root(version), 'version'))).toBe(version)
    expect(attr(root(version), 'version')).toBe('1.2.3')
  })

  test('lists the parameters of the table in its order, with type and default', () => {
    const found = parametersIn(version).map(each => {
      const content = child(each, 'content')
      return [attr(each, 'name'), attr(content, 'type'), attr(content, 'default')]
    })
    expect(found).toEqual(parameterRows.map(([name, row]) => [name, row.type, row.default]))
  })

  test('requires config, which is unique, and nothing else', () => {
    const marked = (mark: string) =>
      parametersIn(version)
        .filter(each => attr(each, mark) === '1')
        .map(each => attr(each, 'name'))
    expect([marked('required'), marked('unique')]).toEqual([['config'], ['config']])
  })

  test('describes everything: no description is empty', () => {
    const described = [root(version), ...parametersIn(version)]
    for (const each of described) {
      expect(textOf(child(each, 'longdesc'))).toMatch(/\S{3}/)
      expect(textOf(child(each, 'shortdesc'))).toMatch(/^[^\n]{5,80}$/)
    }
  })

  test('survives any name of the program', () => {
    for (const program of ['1.0-rc.1+a<b>&c', '', '0.1.0'])
      expect(attr(root(version, program), 'version')).toBe(program)
  })

  test('begins with its declaration and ends with a line end', () => {
    expect(metaData(version, '1')).toMatch(/^<\?xml version="1\.0"\?>\n[\s\S]*<\/resource-agent>\n$/)
  })
})

const ADVISED = [
  { name: 'start', timeout: '90s' },
  { name: 'stop', timeout: '90s' },
  { name: 'status', timeout: '30s', depth: '0', interval: '10s' },
  { name: 'monitor', timeout: '30s', depth: '0', interval: '10s' },
  { name: 'migrate_from', timeout: '60s' },
  { name: 'migrate_to', timeout: '120s' },
]
const LAST = [
  { name: 'meta-data', timeout: '5s' },
  { name: 'validate-all', timeout: '5s' },
]

describe('the actions', () => {
  test("of 1.0 are the original's, with its advice", () => {
    expect(actionsIn('1.0')).toEqual([...ADVISED, ...LAST])
  })

  test('of 1.1 are the same and reload-agent, which 1.0 does not know', () => {
    expect(actionsIn('1.1')).toEqual([...ADVISED, { name: 'reload-agent', timeout: '20s' }, ...LAST])
  })
})

test('1.1 marks what a running domain takes over without a restart, and 1.0 marks nothing so', () => {
  const reloadable = (version: ApiVersion) =>
    parametersIn(version)
      .filter(each => each.attributes.has('reloadable'))
      .map(each => attr(each, 'name'))
  expect(reloadable('1.1')).toEqual(parameterRows.filter(([, row]) => row.reloadable).map(([name]) => name))
  expect(reloadable('1.0')).toEqual([])
})

test('a document type stands in 1.0 only', () => {
  expect(metaData('1.0', '1')).toContain(DOCTYPE)
  expect(metaData('1.1', '1')).not.toContain('<!')
})

test('both describe the same parameters in the same words', () => {
  const words = (version: ApiVersion) =>
    parametersIn(version).map(each => ['longdesc', 'shortdesc'].map(name => textOf(child(each, name))))
  expect(words('1.1')).toEqual(words('1.0'))
})

test.skipIf(!existsSync(DTD) || !hasXmllint())('1.0 is valid by the document type that ocf-tester takes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'havirt-meta-'))
  try {
    const file = join(folder, 'meta-data.xml')
    writeFileSync(file, metaData('1.0', '1.2.3'))
    execFileSync('xmllint', ['--noout', '--dtdvalid', DTD, '--nonet', '--path', '/usr/share/resource-agents', file])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

function hasXmllint(): boolean {
  try {
    execFileSync('xmllint', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
