/** The check of how disks are named: a lease is named by the text of the path, so each disk should have one path, and that should stay. */
import { type Cluster, namesOfDisks, sightings, upNodes } from '../cluster.ts'
import type { Disk, Domain } from '../domain.ts'
import { isUnstable, leasable, stableNameOf } from '../lease.ts'
import { managerOf } from '../leases.ts'
import type { Check, Facts, Finding } from './facts.ts'

/** A disk that a domain writes, as its definition names it. */
interface Naming {
  readonly domain: string
  readonly path: string
  readonly disk: Disk
  /** The node whose own definition, or running domain, names it so; absent where conf/ does. */
  readonly node?: string
  /** Where the domain runs. */
  readonly running: readonly string[]
}

const paths: Check = {
  id: 'disk-paths',
  title: 'disks by stable paths',
  run: facts => {
    const all = namings(facts.cluster)
    const unstable = all.filter(({ path }) => isUnstable(path)).map(each => unstableFinding(facts, each))
    if (facts.leases === undefined || managerOf(facts.leases.nodes) === undefined) return unstable
    const groups = twoPaths(facts.cluster, all)
    const told = new Set(groups.flatMap(group => group.map(({ path }) => path)))
    const others = all.filter(({ path }) => !told.has(path))
    return [...unstable, ...groups.map(twoPathsFinding), ...linkFindings(facts.cluster, others)]
  },
}

function namings(cluster: Cluster): Naming[] {
  const runningAt = new Map<string, string[]>()
  for (const { node, domain } of sightings(cluster))
    if (domain.active) runningAt.set(domain.name, [...(runningAt.get(domain.name) ?? []), node])
  const of = (domain: Domain, node?: string): Naming[] =>
    leasable(domain).flatMap(disk => {
      if (!('path' in disk.source)) return []
      const common = { domain: domain.name, path: disk.source.path, disk, running: runningAt.get(domain.name) ?? [] }
      return [node === undefined ? common : { ...common, node }]
    })
  const defined = [...cluster.definitions.values()].flatMap(({ domain }) => (domain === undefined ? [] : of(domain)))
  const known = new Set(defined.map(keyOf))
  const shown = sightings(cluster).flatMap(({ node, domain }) =>
    domain.definition === undefined ? [] : of(domain.definition, node),
  )
  return [...defined, ...shown.filter(each => !known.has(keyOf(each)))]
}

function keyOf({ domain, path }: Naming): string {
  return `${domain} ${path}`
}

function placeOf({ domain, node }: Naming): string {
  return node === undefined ? `conf/${domain}.xml` : `the definition of ${domain}`
}

/** Where the finding stands in the table. */
function at({ node }: Naming): Pick<Finding, 'node'> {
  return node === undefined ? {} : { node }
}

// ---- names that change --------------------------------------------------------------------------------------------------

function unstableFinding(facts: Facts, naming: Naming): Finding {
  const { domain, path, node } = naming
  return {
    ...at(naming),
    why: `${domain}${node === undefined ? '' : ` on ${node}`} writes ${path}, a name that may mean another disk after the next boot`,
    fix: stableWords(facts, naming),
  }
}

/** The same name may be another disk on each node, so those count where the domain runs, and else all that know it must agree. */
function stableWords({ leases }: Facts, naming: Naming): string {
  const { path, running } = naming
  const nodes = [...(leases?.nodes ?? [])].filter(([node]) => running.length === 0 || running.includes(node))
  const whose = new Map<string, string>()
  for (const [node, its] of nodes) {
    const name = stableNameOf(its, path)
    if (name !== undefined && !whose.has(name)) whose.set(name, node)
  }
  const [only, ...others] = whose.keys()
  if (only === undefined) return `write its name below /dev/disk/by-id into ${placeOf(naming)}`
  if (others.length === 0) return `write ${only} into ${placeOf(naming)}`
  const list = [...whose].map(([name, node]) => `${name} on ${node}`).join(', ')
  return `see which disk is meant (${path} is ${list}), and write that name into ${placeOf(naming)}`
}

// ---- several names ------------------------------------------------------------------------------------------------------

/** Disks that are named by several texts, each with one naming of every text. */
function twoPaths(cluster: Cluster, all: readonly Naming[]): Naming[][] {
  const groups = new Map<string, Map<string, Naming>>()
  for (const naming of all)
    for (const name of namesOf(cluster, naming)) {
      const group = groups.get(name) ?? new Map<string, Naming>()
      if (!group.has(naming.path)) group.set(naming.path, naming)
      groups.set(name, group)
    }
  const several = [...groups.values()].filter(({ size }) => size > 1).map(group => [...group.values()])
  const texts = several.map(group =>
    group
      .map(({ path }) => path)
      .sort()
      .join('\n'),
  )
  return several.filter((_, index) => texts.indexOf(texts[index] ?? '') === index)
}

/** By the node where the domain runs; another may have another disk under that path. */
function namesOf(cluster: Cluster, { disk, running }: Naming): readonly string[] {
  const nodes =
    running.length === 0 ? cluster.nodes : new Map([...cluster.nodes].filter(([name]) => running.includes(name)))
  return namesOfDisks({ ...cluster, nodes }, [disk])[0] ?? []
}

function twoPathsFinding(group: readonly Naming[]): Finding {
  const list = group.map(({ path, domain, node }) => `${path} (${domain}${node === undefined ? '' : ` on ${node}`})`)
  const best =
    group.find(({ path }) => path.startsWith('/dev/disk/by-id/')) ?? group.find(({ path }) => !isUnstable(path))
  return {
    why: `${list.join(' and ')} are one disk, and have two leases: neither keeps the other out`,
    fix: `write one path wherever that disk is meant${best === undefined ? '' : `: ${best.path}`}`,
  }
}

// ---- links --------------------------------------------------------------------------------------------------------------

/** Where every node that has the file finds it at one other place; udev's and LVM's links below /dev are names that stay. */
function canonicalOf(cluster: Cluster, path: string): string | undefined {
  if (path.startsWith('/dev/')) return undefined
  const found = new Set(upNodes(cluster).flatMap(({ seen }) => seen.paths.get(path)?.canonical ?? []))
  const [canonical] = found
  return found.size === 1 && canonical !== path ? canonical : undefined
}

interface Linked {
  readonly naming: Naming
  readonly canonical: string
}

/** A link of a folder is told once, however many disks lie behind it. */
function linkFindings(cluster: Cluster, all: readonly Naming[]): Finding[] {
  const groups = new Map<string, Linked[]>()
  for (const naming of all) {
    const canonical = canonicalOf(cluster, naming.path)
    if (canonical === undefined) continue
    const key = differing(naming.path, canonical).join(' ')
    groups.set(key, [...(groups.get(key) ?? []), { naming, canonical }])
  }
  return [...groups.values()].flatMap(([first, ...more]) => (first === undefined ? [] : [linkFinding(first, more)]))
}

function linkFinding({ naming, canonical }: Linked, more: readonly Linked[]): Finding {
  const [from = '', to = ''] = differing(naming.path, canonical)
  const others = more.length === 0 ? '' : ` (and ${more.length} more below ${from})`
  return {
    ...(more.length === 0 ? at(naming) : {}),
    why: `${naming.path} of ${naming.domain}${others} is really ${canonical}: another spelling of it would be another lease`,
    fix:
      more.length === 0
        ? `write ${canonical} into ${placeOf(naming)}`
        : `write ${to} instead of ${from} in the definitions of those domains`,
  }
}

/** What is left of two paths without the end that they have in common. */
function differing(path: string, canonical: string): [string, string] {
  const [one, other] = [path.split('/'), canonical.split('/')]
  while (one.length > 2 && other.length > 2 && one.at(-1) === other.at(-1)) {
    one.pop()
    other.pop()
  }
  return [one.join('/'), other.join('/')]
}

export const diskPathChecks: readonly Check[] = [paths]
