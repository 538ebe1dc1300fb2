/** What the rules say of the cluster: where a domain may be, what it should be beside, and which rules are broken. */
import { type Cluster, sightings } from './cluster.ts'
import { type Refusal, refuse } from './refusal.ts'
import { type Rule, rulesOf, ruleText } from './rule.ts'

/** The active domains that a rule is about, and where they are. */
export interface Member {
  readonly domain: string
  readonly node: string
}

/** The rules, each with the active domains that it is about. */
export function rulesWithMembers(cluster: Cluster): { rule: Rule; members: readonly Member[] }[] {
  const { rules, isAbout } = rulesOf(cluster.config)
  if (rules.length === 0) return []
  const active = sightings(cluster).filter(({ domain }) => domain.active)
  const members = active.map(({ domain, node }) => ({ domain: domain.name, node }))
  return rules.map(rule => ({ rule, members: members.filter(({ domain }) => isAbout(rule, domain)) }))
}

/**
 * Domains that are about to arrive on nodes: room is reserved for them. Who reserved first comes first, so that of two who want
 * what only one may have, exactly one sees the other.
 */
function arriving(cluster: Cluster, domain: string): Member[] {
  return [...cluster.nodes.values()].flatMap(({ name: node, ledger: { reservations } }) => {
    const ours = reservations.findIndex(each => each.domain === domain)
    const first = ours < 0 ? reservations : reservations.slice(0, ours)
    return first.map(each => ({ domain: each.domain, node }))
  })
}

/** Every rule that a domain would break on this node, hard or soft. `along`: domains that go there with it. */
export function rulesAgainst(
  cluster: Cluster,
  domain: string,
  node: string,
  along: readonly string[] = [],
): { rule: Rule; why: string }[] {
  const { rules, isAbout } = rulesOf(cluster.config)
  if (!rules.some(rule => isAbout(rule, domain))) return []
  const comers = arriving(cluster, domain)
  return rulesWithMembers(cluster).flatMap(({ rule, members }) => {
    if (!isAbout(rule, domain)) return []
    const all = [...members, ...comers.filter(each => isAbout(rule, each.domain))]
    const others = all.filter(each => each.domain !== domain && !along.includes(each.domain))
    const why = broken(rule, node, others)
    return why === undefined ? [] : [{ rule, why }]
  })
}

function broken({ kind, nodes }: Rule, node: string, others: readonly Member[]): string | undefined {
  if (kind === 'on' || kind === 'prefer')
    return nodes.includes(node) ? undefined : `it belongs on ${nodes.join(' or ')}`
  const stranger = others.find(other => (other.node === node) === (kind === 'apart'))
  return stranger === undefined ? undefined : `${stranger.domain} is on ${stranger.node}`
}

/** The refusals by hard rules. */
export function ruleRefusals(cluster: Cluster, domain: string, node: string, along: readonly string[] = []): Refusal[] {
  return rulesAgainst(cluster, domain, node, along)
    .filter(({ rule }) => rule.hard)
    .map(({ rule, why }) => refuse('rule', { domain, node, rule: ruleText(rule), why }))
}

/** A rule that is not met now. */
export interface BrokenRule {
  readonly rule: Rule
  /** Who is where, for people. */
  readonly why: string
}

/** Every rule that is not met as things are. */
export function brokenRules(cluster: Cluster): BrokenRule[] {
  return rulesWithMembers(cluster).flatMap(({ rule, members }) => {
    const why = brokenBy(rule, members)
    return why.length === 0 ? [] : [{ rule, why: why.join('; ') }]
  })
}

function brokenBy({ kind, nodes }: Rule, members: readonly Member[]): string[] {
  const places = [...grouped(members)]
  const wrong = places.filter(([node, here]) => {
    if (kind === 'together') return places.length > 1
    return kind === 'apart' ? here.length > 1 : !nodes.includes(node)
  })
  return wrong.map(([node, here]) => `${here.map(({ domain }) => domain).join(', ')} on ${node}`)
}

function grouped(members: readonly Member[]): Map<string, Member[]> {
  const groups = new Map<string, Member[]>()
  for (const member of members) groups.set(member.node, [...(groups.get(member.node) ?? []), member])
  return groups
}
