/** Rules: which domains people want together, apart, or on certain nodes; as the configuration writes them. */
import type { Config } from './config.ts'
import { isNodeName } from './node.ts'
import { wordsOf } from './words.ts'

/** `on`: these nodes only; `prefer`: these rather than others. */
export const ruleKinds = ['together', 'apart', 'on', 'prefer'] as const
export type RuleKind = (typeof ruleKinds)[number]

/** One rule. A hard one is never broken by a plan; a soft one is met where that is possible. */
export interface Rule {
  readonly kind: RuleKind
  readonly hard: boolean
  /** Names, names with `*` for any letters, and `tag:TAG`. */
  readonly domains: readonly string[]
  /** Of `on` and `prefer`. */
  readonly nodes: readonly string[]
}

const NO_TEXT = /[\p{C}\p{Zl}\p{Zp}\ufffd]/u

export const RULE_EXAMPLE = 'apart tag:frontend'
export const TAG_EXAMPLE = 'frontend: web1 web2 cache-*'

/** Reads one entry of `placement.rules`. What is wrong with it comes as the rest of a sentence. */
export function parseRule(text: string): Rule | string {
  const words = wordsOf(text.replace(/[,:](?=\s|$)/g, each => (each === ':' ? ' : ' : ' ')))
  if (words === undefined || words.length === 0)
    return `a rule is empty or has a quote without an end; expected one such as '${RULE_EXAMPLE}'`
  const [first = '', ...others] = words
  const spoken = first === 'soft' || first === 'hard'
  const [kind = '', ...rest] = spoken ? others : words
  if (!isKind(kind))
    return `'${kind}' is no kind of rule; expected ${ruleKinds.join(', ')}, with soft before it if it may be broken`
  if (kind === 'prefer' && first === 'hard') return "'prefer' is soft by its nature; 'on' is the hard one"
  return checked({ kind, hard: first !== 'soft' && kind !== 'prefer', ...sides(rest) }, rest)
}

function isKind(word: string): word is RuleKind {
  return (ruleKinds as readonly string[]).includes(word)
}

function sides(words: readonly string[]): Pick<Rule, 'domains' | 'nodes'> {
  const colon = words.indexOf(':')
  if (colon < 0) return { domains: [...new Set(words)], nodes: [] }
  return { domains: [...new Set(words.slice(0, colon))], nodes: [...new Set(words.slice(colon + 1))] }
}

function checked(rule: Rule, words: readonly string[]): Rule | string {
  const { kind, domains, nodes } = rule
  const group = kind === 'together' || kind === 'apart'
  if (domains.length === 0) return `'${kind}' names no domain`
  if (group && words.includes(':')) return `'${kind}' takes domains alone, and no nodes behind a colon`
  if (!group && nodes.length === 0) return `'${kind}' names no node; expected '${kind} DOMAIN... : NODE...'`
  const stranger = nodes.find(node => !isNodeName(node))
  if (stranger !== undefined) return `'${stranger}' cannot be a node's name`
  const single = group && domains.length === 1 && !/\*|^tag:/.test(domains[0] ?? '')
  return single ? `'${kind}' names one domain only, which is together with itself anyway` : rule
}

/** The rule as it is written. */
export function ruleText({ kind, hard, domains, nodes }: Rule): string {
  const soft = hard || kind === 'prefer' ? '' : 'soft '
  const quoted = domains.map(each => (/[\s,]/.test(each) ? `"${each}"` : each))
  return `${soft}${kind} ${quoted.join(' ')}${nodes.length === 0 ? '' : ` : ${nodes.join(' ')}`}`
}

/** What is wrong with an entry of `placement.rules`, given those before it. */
export function ruleProblem(entry: string, before: readonly string[]): string | undefined {
  if (NO_TEXT.test(entry)) return 'an entry holds a line break or another character that is no text'
  const rule = parseRule(entry)
  if (typeof rule === 'string') return rule
  const text = ruleText(rule)
  const known = before.map(parseRule).some(other => typeof other !== 'string' && ruleText(other) === text)
  return known ? `'${text}' is there twice` : undefined
}

/** What is wrong with an entry of `placement.tags`, given those before it. */
export function tagProblem(entry: string, before: readonly string[]): string | undefined {
  if (NO_TEXT.test(entry)) return 'an entry holds a line break or another character that is no text'
  const tag = parseTag(entry)
  if (tag === undefined) return `'${entry}' is no tag with its domains; expected '${TAG_EXAMPLE}'`
  const known = before.some(other => parseTag(other)?.tag === tag.tag)
  return known ? `the tag ${tag.tag} is there twice; name all its domains in one entry` : undefined
}

function parseTag(text: string): { tag: string; domains: readonly string[] } | undefined {
  const [, tag, rest = ''] = /^([A-Za-z0-9][A-Za-z0-9_.-]*):\s+(.*)$/s.exec(text) ?? []
  const domains = wordsOf(rest.replaceAll(',', ' ')) ?? []
  return tag === undefined || domains.length === 0 ? undefined : { tag, domains }
}

/** The rules and tags of a configuration, read once for it. */
export interface Rules {
  readonly rules: readonly Rule[]
  /** Whether the rule is about the domain of this name. */
  isAbout(rule: Rule, domain: string): boolean
}

const known = new WeakMap<Config['placement'], Rules>()

export function rulesOf({ placement }: Pick<Config, 'placement'>): Rules {
  const found = known.get(placement) ?? readRules(placement)
  known.set(placement, found)
  return found
}

function readRules(placement: Config['placement']): Rules {
  const tags = new Map<string, readonly string[]>(
    placement.tags.flatMap(text => {
      const tag = parseTag(text)
      return tag === undefined ? [] : [[`tag:${tag.tag}`, tag.domains] as const]
    }),
  )
  const rules = placement.rules.map(parseRule).filter(rule => typeof rule !== 'string')
  const patterns = new Map(rules.map(rule => [rule, patternOf(rule.domains.flatMap(each => tags.get(each) ?? each))]))
  return { rules, isAbout: (rule, domain) => patterns.get(rule)?.test(domain) === true }
}

/** Any of these names; `*` stands for any letters. */
function patternOf(names: readonly string[]): RegExp {
  const each = names.map(name => name.split('*').map(escaped).join('.*'))
  return new RegExp(`^(?:${each.join('|')})$`, 'su')
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
