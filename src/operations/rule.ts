/** Rules: which domains are to be together, apart, or on certain nodes. */

import { parseConfig } from '../core/config-check.ts'
import { setConfigValue } from '../core/config-edit.ts'
import { parseRule, type Rule, ruleKinds, rulesOf, ruleText } from '../core/rule.ts'
import { brokenRules } from '../core/rules.ts'
import { observeOnce } from '../observe.ts'
import type { Parts } from '../operate.ts'
import {
  type Column,
  exitStatus,
  failure,
  type Message,
  note,
  type Report,
  silentWarnings,
  warning,
} from '../report.ts'
import { type Input, type Operation, requiredWord, words } from './operation.ts'

const COLUMNS: readonly Column[] = [
  { key: 'rule', title: 'RULE', help: 'as config.yaml has it' },
  { key: 'hard', title: 'HARD', help: 'hard: never broken by havirt; soft: met where that is possible' },
  { key: 'state', title: 'STATE', help: 'kept, or broken, as domains run now' },
  { key: 'why', title: 'WHERE', help: 'who is where, when it is broken' },
]

export const ruleOperations: readonly Operation[] = [
  {
    name: 'rule list',
    summary: 'show the rules, and whether they are kept',
    description:
      'Every rule of placement.rules in config.yaml, and whether it is kept as domains run now. What is broken, havirt cluster balance mends. Ends with 4 when a hard rule is broken.',
    args: [],
    options: [],
    changes: false,
    columns: COLUMNS,
    examples: ['havirt rule list'],
    run: listRules,
  },
  {
    name: 'rule add',
    summary: 'add a rule',
    description:
      'Adds a rule to placement.rules in config.yaml: domains that are to be together, apart, on certain nodes only, or rather on certain nodes. A hard rule refuses starts and migrations that would break it, and no drain or balance breaks it; a soft one is met where that is possible. Domains are named, also with * for any letters, or by a tag of placement.tags.',
    args: [
      {
        name: 'KIND',
        help: 'together, apart, on (these nodes only) or prefer (these nodes)',
        required: true,
        words: ruleKinds,
      },
      { name: 'DOMAIN', help: 'domains, names with *, or tag:TAG', required: true, many: true, complete: 'domain' },
    ],
    options: [
      { flags: '--nodes NODES', help: 'the nodes of on and prefer, with commas between them' },
      { flags: '--soft', help: 'it may be broken where there is no other way' },
    ],
    changes: false,
    examples: [
      'havirt rule add apart web1 web2',
      'havirt rule add on db --nodes node1,node2',
      'havirt rule add together app tag:cache --soft',
    ],
    run: addRule,
  },
  {
    name: 'rule remove',
    summary: 'remove a rule',
    description: 'Removes a rule from placement.rules in config.yaml. It is named as havirt rule list shows it.',
    args: [{ name: 'RULE', help: 'the rule, as rule list shows it', required: true, many: true }],
    options: [],
    changes: false,
    examples: ['havirt rule remove apart web1 web2'],
    run: removeRule,
  },
]

async function listRules(parts: Parts): Promise<Report> {
  const { rules } = rulesOf(parts.home.config)
  if (rules.length === 0)
    return { exit: exitStatus.done, messages: [note('there is no rule; add one with: havirt rule add')] }
  const cluster = await observeOnce(parts)
  const broken = new Map(brokenRules(cluster).map(({ rule, why }) => [rule, why]))
  const rows = rules.map(rule => ({
    rule: ruleText(rule),
    hard: rule.hard ? 'hard' : 'soft',
    state: broken.has(rule) ? 'broken' : 'kept',
    why: broken.get(rule),
  }))
  const hard = rules.some(rule => rule.hard && broken.has(rule))
  const hint = broken.size === 0 ? [] : [note('mend what is broken: havirt cluster balance')]
  return {
    exit: hard ? exitStatus.partly : exitStatus.done,
    table: { columns: COLUMNS, rows },
    messages: [...silentWarnings(cluster), ...hint],
  }
}

async function addRule(parts: Parts, input: Input): Promise<Report> {
  const nodes = String(input.options['nodes'] ?? '')
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '')
  const quoted = words(input, 'DOMAIN').map(each => (/[\s,]/.test(each) ? `"${each}"` : each))
  const said = [
    ...(input.options['soft'] === true ? ['soft'] : []),
    requiredWord(input, 'KIND'),
    ...quoted,
    ...(nodes.length === 0 ? [] : [':', ...nodes]),
  ].join(' ')
  const rule = parseRule(said)
  if (typeof rule === 'string') return usage(rule)
  const text = ruleText(rule)
  const saved = await save(parts, rules => [...rules, text])
  if (saved !== undefined) return saved
  const strangers = await unknownIn(parts, rule)
  return { exit: exitStatus.done, messages: [note(`the rule '${text}' holds from now on`), ...strangers] }
}

function usage(problem: string): Report {
  return {
    exit: exitStatus.usage,
    messages: [
      failure(problem, 'for example: havirt rule add apart web1 web2, or havirt rule add on db --nodes node1,node2'),
    ],
  }
}

/** Undefined when it was written. `change` gets what the file says now: somebody else may have changed it since it was read. */
async function save(
  parts: Parts,
  change: (rules: readonly string[]) => readonly string[],
): Promise<Report | undefined> {
  try {
    await parts.home.editConfig(text =>
      setConfigValue(text, 'placement.rules', change(parseConfig(text, 'config.yaml').config.placement.rules)),
    )
    return undefined
  } catch (error) {
    return { exit: exitStatus.usage, messages: [failure(error instanceof Error ? error.message : String(error))] }
  }
}

/** A slip in a name makes a rule that says nothing. */
async function unknownIn(parts: Parts, rule: Rule): Promise<Message[]> {
  const [nodes, domains] = await Promise.all([parts.home.records.nodes(), parts.home.definitions.names()])
  const plain = rule.domains.filter(each => !/\*|^tag:/.test(each) && !domains.includes(each))
  const tags = parts.home.config.placement.tags
  const untagged = rule.domains.filter(
    each => each.startsWith('tag:') && !tags.some(tag => tag.startsWith(`${each.slice(4)}:`)),
  )
  return [
    ...plain.map(name => warning(`conf/ has no domain ${name} so far`)),
    ...untagged.map(tag =>
      warning(`placement.tags has no ${tag.slice(4)} so far`, 'havirt config list shows how to add it'),
    ),
    ...rule.nodes.filter(name => !nodes.has(name)).map(name => warning(`there is no node ${name} so far`)),
  ]
}

async function removeRule(parts: Parts, input: Input): Promise<Report> {
  const said = words(input, 'RULE').join(' ')
  const wanted = parseRule(said)
  const before = parts.home.config.placement.rules
  const isIt = (text: string) => {
    const rule = parseRule(text)
    return (
      text === said || (typeof rule !== 'string' && typeof wanted !== 'string' && ruleText(rule) === ruleText(wanted))
    )
  }
  const kept = before.filter(text => !isIt(text))
  if (kept.length === before.length)
    return {
      exit: exitStatus.refused,
      messages: [
        {
          kind: 'refused',
          text: `there is no rule '${said}'`,
          next: before.length === 0 ? 'there is none at all' : `the rules are: ${before.join('; ')}`,
        },
      ],
    }
  return (
    (await save(parts, rules => rules.filter(text => !isIt(text)))) ?? {
      exit: exitStatus.done,
      messages: [note(`the rule '${said}' is gone`)],
    }
  )
}
