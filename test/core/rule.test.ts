/** Rules as people write them, and what they say of a cluster. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { configOf } from '../../src/core/config.ts'
import { isDomainName } from '../../src/core/domain-xml.ts'
import { parseRule, ruleProblem, rulesOf, ruleText, tagProblem } from '../../src/core/rule.ts'
import { brokenRules, ruleRefusals, rulesAgainst } from '../../src/core/rules.ts'
import { aCluster, aDomain, aDomainOnNode, aNode, shutOff, uuidOf } from './builders.ts'

describe('a rule', () => {
  test.each([
    ['together web db', { kind: 'together', hard: true, domains: ['web', 'db'], nodes: [] }],
    ['soft apart tag:frontend', { kind: 'apart', hard: false, domains: ['tag:frontend'], nodes: [] }],
    ['on db : node1, node2', { kind: 'on', hard: true, domains: ['db'], nodes: ['node1', 'node2'] }],
    ['hard on db: node1', { kind: 'on', hard: true, domains: ['db'], nodes: ['node1'] }],
    ['prefer batch-* : node3', { kind: 'prefer', hard: false, domains: ['batch-*'], nodes: ['node3'] }],
    ['together "my web" db', { kind: 'together', hard: true, domains: ['my web', 'db'], nodes: [] }],
  ])('%s', (text, rule) => expect(parseRule(text)).toEqual(rule))

  test.each([
    ['', 'a rule is empty'],
    ['together "web', 'has a quote without an end'],
    ['beside web db', "'beside' is no kind of rule; expected together, apart, on, prefer"],
    ['hard prefer web : node1', "'prefer' is soft by its nature"],
    ['together web', 'names one domain only'],
    ['apart', "'apart' names no domain"],
    ['apart web db : node1', 'takes domains alone'],
    ['on web', "'on' names no node"],
    ['on web : -node', "'-node' cannot be a node's name"],
  ])('%s is none: %s', (text, why) => expect(parseRule(text)).toContain(why))

  test('written again means the same', () => {
    for (const text of ['together web db', 'soft apart "my web" x', 'on db : node1 node2', 'prefer a : node3'])
      expect(ruleText(parseRule(text) as never)).toBe(text)
  })

  test('may stand there once, and so may a tag', () => {
    expect(ruleProblem('apart  a, b', ['apart a b'])).toContain('is there twice')
    expect(ruleProblem('apart a c', ['apart a b'])).toBeUndefined()
    expect(tagProblem('front: web1', [])).toBeUndefined()
    expect(tagProblem('front: web2', ['front: web1'])).toContain('is there twice')
    expect(tagProblem('front web1', [])).toContain('is no tag with its domains')
  })
})

const guest = (name: string, number: number) => aDomainOnNode({}, aDomain({ name, uuid: uuidOf(number), disks: [] }))

function withRules(rules: string[], tags: string[] = []) {
  const config = configOf(
    new Map([
      ['placement.rules', rules],
      ['placement.tags', tags],
    ]),
  )
  const nodes = [
    aNode('node1', [guest('web1', 1), guest('db', 2)]),
    aNode('node2', [guest('web2', 3), shutOff({}, aDomain({ name: 'web3', uuid: uuidOf(9) }))]),
    aNode('node3'),
  ]
  return aCluster({ nodes, config })
}

describe('a domain on a node', () => {
  const reasons = (rules: string[], domain: string, node: string, tags?: string[]) =>
    ruleRefusals(withRules(rules, tags), domain, node).map(each => (each.reason === 'rule' ? each.why : ''))

  test('apart: not beside another that is active there', () => {
    expect(reasons(['apart web1 web2'], 'web1', 'node2')).toEqual(['web2 is on node2'])
    expect(reasons(['apart web1 web2'], 'web1', 'node3')).toEqual([])
    expect(reasons(['apart web1 web3'], 'web1', 'node2')).toEqual([])
    expect(reasons(['apart web1 web2'], 'db', 'node2')).toEqual([])
  })

  test('together: not without the others, unless they come along', () => {
    expect(reasons(['together web1 db'], 'web1', 'node3')).toEqual(['db is on node1'])
    expect(reasons(['together web1 db'], 'web1', 'node1')).toEqual([])
    expect(ruleRefusals(withRules(['together web1 db']), 'web1', 'node3', ['db'])).toEqual([])
  })

  test('on: nowhere else', () => {
    expect(reasons(['on db : node1 node2'], 'db', 'node3')).toEqual(['it belongs on node1 or node2'])
    expect(reasons(['on db : node1 node2'], 'db', 'node2')).toEqual([])
  })

  test('by tag and by * as by name; a dot is a dot', () => {
    expect(reasons(['apart tag:front'], 'web1', 'node2', ['front: web*'])).toEqual(['web2 is on node2'])
    expect(reasons(['apart web*'], 'web1', 'node2')).toEqual(['web2 is on node2'])
    expect(reasons(['apart web.', 'apart w.b1 w.b2'], 'web1', 'node2')).toEqual([])
  })

  test('apart: not beside one that is about to arrive there, if that was first', () => {
    const cluster = withRules(['apart web1 web2'])
    const node3 = cluster.nodes.get('node3')
    if (node3 === undefined) throw new Error('it is there')
    const room = (domain: string, number: number) => ({
      token: 't',
      generation: 1,
      uuid: uuidOf(number),
      domain,
      memoryMiB: 1,
      vcpus: 1,
      by: 'ann',
    })
    const withRoom = (...reservations: ReturnType<typeof room>[]) => ({
      ...cluster,
      nodes: new Map([...cluster.nodes, ['node3', { ...node3, ledger: { reservations } }]]),
    })
    expect(ruleRefusals(withRoom(room('web2', 3), room('web1', 1)), 'web1', 'node3')).toHaveLength(1)
    expect(ruleRefusals(withRoom(room('web1', 1), room('web2', 3)), 'web1', 'node3')).toEqual([])
  })

  test('any name that a domain can have is itself in a rule, and nothing else', () => {
    const names = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9._+:@~(){}[\]|^$?-]{0,12}$/).filter(isDomainName)
    fc.assert(
      fc.property(names, names, (one, other) => {
        const config = configOf(new Map([['placement.rules', [`on "${one}" : node1`]]]))
        const { rules, isAbout } = rulesOf(config)
        const [rule] = rules
        if (rule === undefined) throw new Error('it is a rule')
        expect([isAbout(rule, one), isAbout(rule, other)]).toEqual([true, one === other])
      }),
    )
  })

  test('soft rules refuse nothing, and are known', () => {
    expect(reasons(['soft apart web1 web2', 'prefer web1 : node1'], 'web1', 'node2')).toEqual([])
    expect(rulesAgainst(withRules(['soft apart web1 web2', 'prefer web1 : node1']), 'web1', 'node2')).toHaveLength(2)
  })
})

test('what is broken as things are is told with who is where', () => {
  const rules = ['apart web1 db', 'together web1 web2', 'on db : node2', 'prefer web2 : node2', 'apart web1 web2']
  expect(brokenRules(withRules(rules)).map(({ rule, why }) => [ruleText(rule), why])).toEqual([
    ['apart web1 db', 'web1, db on node1'],
    ['together web1 web2', 'web1 on node1; web2 on node2'],
    ['on db : node2', 'db on node1'],
  ])
})
