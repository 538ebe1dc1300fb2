/** Schedules: what happens when, as plain data, made from a seed. Taking one item away leaves the luck of all others as it was. */

import { type Random, subStream } from '../core/random.ts'
import type { Action } from './actions.ts'
import { makePlot, type PlotName } from './plots.ts'
import type { LeaseSetting } from './sanlock.ts'
import type { DomainSpec, Setting } from './world.ts'

/** One item; `id` keeps its luck when others are taken away. */
export interface Item {
  readonly id: number
  readonly atMs: number
  readonly action: Action
}

export interface Schedule {
  readonly seed: number
  readonly setting: Setting
  readonly items: readonly Item[]
  /** When all faults end. */
  readonly endMs: number
}

const UUIDS = {
  web: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01',
  mail: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a02',
  copy: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a03',
  db: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a04',
} as const

/** About 50 things that happen in a few minutes on 3 to 5 nodes; with `plot`, half of them are about that. */
export function makeSchedule(seed: number, plot?: PlotName): Schedule {
  const random = subStream(seed, -3)
  // Whether there are leases, and what happens about them, has a stream of its own: it changes nothing where there are none.
  const chance = subStream(seed, -5)
  const plain = makeSetting(random)
  const setting =
    plot === 'silentNode' || chance.chance(1 / 8) ? { ...plain, leases: makeLeases(chance, plain.nodes) } : plain
  const temper = { ...makeTemper(random), ...(plot === undefined ? {} : { plots: 0.5 }) }
  const count = 40 + random.below(20)
  const items: Item[] = []
  let atMs = 0
  const add = (afterMs: number, action: Action) =>
    items.push({ id: items.length, atMs: Math.round(atMs + afterMs), action: inWholeMs(action) })
  while (items.length < count) {
    atMs += random.chance(temper.haste) ? random.between(0, 300) : random.between(300, 9000)
    if (random.chance(temper.plots)) {
      const scenes = makePlot(random, setting, knownDomain(random, setting, temper), plot)
      for (const { afterMs, action } of scenes) add(afterMs, action)
      // It takes minutes, and comes to nothing where another begins meanwhile.
      if (plot === 'silentNode') atMs += Math.max(...scenes.map(({ afterMs }) => afterMs))
      continue
    }
    const action = makeAction(random, setting, temper)
    add(0, action)
    for (const { afterMs, action: next } of followers(random, setting, temper, action)) add(afterMs, next)
  }
  if (setting.leases !== undefined)
    for (const each of leaseScenes(chance, setting, atMs)) add(each.afterMs - atMs, each.action)
  return { seed, setting, items, endMs: Math.round(Math.max(...items.map(item => item.atMs)) + 5000) }
}

/** As a script says it: nobody writes fractions of a millisecond. */
function inWholeMs(action: Action): Action {
  const whole = ([key, value]: [string, unknown]) => [key, key.endsWith('Ms') ? Math.round(Number(value)) : value]
  return Object.fromEntries(Object.entries(action).map(each => whole(each))) as unknown as Action
}

/** How wild a seed is: most have a few kinds of trouble only, so that things also succeed. */
interface Temper {
  readonly faults: number
  readonly persons: number
  readonly kills: number
  /** The domain that most commands are about, so that they meet. */
  readonly favourite: string
  readonly crowd: number
  readonly haste: number
  /** How often something happens right in the middle of a command. */
  readonly malice: number
  /** How often something is aimed at a moment when most could go wrong. */
  readonly plots: number
}

function makeTemper(random: Random): Temper {
  return {
    faults: random.pick([0.05, 0.15, 0.15, 0.3, 0.45]),
    persons: random.pick([0, 0, 0, 0.05, 0.15]),
    kills: random.pick([0, 0.15, 0.35]),
    favourite: random.pick(['web', 'web', 'mail', 'copy', 'db']),
    crowd: random.pick([0.3, 0.6, 0.9]),
    haste: random.pick([0.1, 0.35]),
    malice: random.pick([0, 0.1, 0.3]),
    plots: random.pick([0, 0.15, 0.3, 0.5]),
  }
}

function makeSetting(random: Random): Setting {
  const nodes = 3 + random.below(3)
  const where = () => (random.chance(0.6) ? { runsOn: random.below(nodes) } : {})
  const shared = random.chance(0.7) ? '/dev/mapper/mpatha' : '/dev/disk/by-id/wwn-0x5001'
  const domains: DomainSpec[] = [
    { name: 'web', uuid: UUIDS.web, disk: { file: '/srv/disks/web.qcow2' }, ...kept(random, where()) },
    { name: 'mail', uuid: UUIDS.mail, disk: { block: '/dev/disk/by-id/wwn-0x5001' }, ...where() },
    { name: 'copy', uuid: UUIDS.copy, disk: { block: shared } },
    { name: 'db', uuid: UUIDS.db, disk: { rbd: 'pool/db' }, ...where() },
    // The same uuid under another name.
    { name: 'web-old', uuid: UUIDS.web, disk: { file: '/srv/disks/web-old.qcow2' } },
  ]
  const sizes = random.pick([[1024], [1024], [1024, 6144, 9000], [6144]])
  return {
    nodes,
    domains: domains.slice(0, 3 + random.below(3)).map(each => ({ ...each, memoryMiB: random.pick(sizes) })),
    lateness: random.pick([0, 0, 0.3, 0.6]),
    clocks: makeClocks(random, nodes),
  }
}

/** Most allow to go past a silent node; some have nodes without a watchdog. */
function makeLeases(random: Random, nodes: number): LeaseSetting {
  const all = Array.from({ length: nodes }, (_, at) => at)
  const some = () => all.filter(() => random.chance(0.5))
  return {
    passUnreachable: random.chance(0.8),
    passWithoutWatchdog: random.chance(0.5),
    noWatchdog: random.pick([() => [], () => all, some])(),
  }
}

/** What happens about leases at any time until then. */
function leaseScenes(random: Random, setting: Setting, untilMs: number): Follower[] {
  const nodes = Array.from({ length: setting.nodes }, (_, at) => `node${at + 1}`)
  const typed = (...words: string[]): Action => ({ kind: 'havirt', host: random.pick([...nodes, 'desk']), words })
  const any = (action: Action): Follower => ({ afterMs: random.between(0, untilMs), action })
  const kill = () => any({ kind: 'killSanlock', node: random.pick(nodes), forMs: random.between(1000, 90_000) })
  // In the middle of everything it comes to little.
  const beginsMs = random.chance(0.3) ? random.between(0, untilMs / 2) : untilMs + 60_000
  const plot = makePlot(random, setting, random.pick(setting.domains.slice(0, 3)).name, 'silentNode')
  return [
    any(typed('lease', 'status')),
    any(typed('lease', 'reconcile')),
    any(typed('node', 'scan')),
    ...(random.chance(0.5) ? [kill()] : []),
    ...plot.map(({ afterMs, action }) => ({ afterMs: beginsMs + afterMs, action })),
  ]
}

/** Half of all clusters have clocks that nobody sets. */
function makeClocks(random: Random, nodes: number): Record<string, number> {
  if (random.chance(0.5)) return {}
  const names = ['desk', ...Array.from({ length: nodes }, (_, at) => `node${at + 1}`)]
  return Object.fromEntries(names.map(name => [name, Math.round(random.between(-3_600_000, 3_600_000))]))
}

/** Some are defined on their node, too, and some of those start there by themselves. */
function kept(random: Random, where: { runsOn?: number }): Partial<DomainSpec> {
  if (where.runsOn === undefined || !random.chance(0.4)) return where
  return { ...where, definedOn: where.runsOn, autostart: random.chance(0.3) }
}

function makeAction(random: Random, setting: Setting, temper: Temper): Action {
  const nodes = Array.from({ length: setting.nodes }, (_, at) => `node${at + 1}`)
  const luck = random.next()
  if (luck < temper.faults) return makeFault(random, nodes)
  const known = knownDomain(random, setting, temper)
  if (luck < temper.faults + temper.persons) return personsAction(random, nodes, known)
  const host = random.pick([...nodes, 'desk'])
  const words = havirtWords(random, nodes, known, setting)
  const killAfter = random.chance(temper.kills)
    ? { killAfter: random.chance(0.7) ? 5 + random.below(8) : 1 + random.below(24) }
    : {}
  return { kind: 'havirt', host, words, ...killAfter }
}

/** The favourite, or another that this cluster has. */
function knownDomain(random: Random, { domains }: Setting, { crowd, favourite }: Temper): string {
  const domain = random.chance(crowd) ? favourite : random.pick(domains).name
  return domains.some(({ name }) => name === domain) ? domain : 'web'
}

function havirtWords(random: Random, nodes: readonly string[], domain: string, setting: Setting): readonly string[] {
  const node = random.pick(nodes)
  const target = random.pick([[node], ['--auto'], [node, '--ensure'], ['--auto', '--ensure'], [node, '--wait', '30']])
  return random.weighted<readonly string[]>([
    [26, ['domain', 'start', domain, ...target]],
    [6, ['domain', 'start', random.pick(setting.domains).name, '--auto']],
    [8, ['domain', 'stop', domain, '--timeout', '10']],
    [9, ['domain', 'stop', domain, '--force', '--timeout', '10']],
    [24, ['domain', 'migrate', domain, node]],
    [2, ['domain', 'migrate', domain, node, '--post-copy']],
    [4, ['domain', 'suspend', domain]],
    [5, ['domain', 'resume', domain]],
    [8, ['node', 'scan']],
    [4, ['claim', 'takeover', domain]],
    [2, ['node', 'update']],
    [3, ['domain', 'adopt', domain]],
    [2, ['node', 'fence', node]],
    [2, ['node', 'confirm-down', node, '--confirm', node]],
    [1, ['node', 'confirm-down', '--cancel', node]],
    [1, ['node', 'maintenanceon', node, '--flag-only']],
    [1, ['node', 'maintenanceon', node, random.pick(['--skip', '--shutdown'])]],
    [2, ['node', 'maintenanceoff', node]],
    [1, ['node', 'maintenanceoff', node, '--return']],
  ])
}

function personsAction(random: Random, nodes: readonly string[], domain: string): Action {
  const node = random.pick(nodes)
  const uri = `qemu+ssh://${random.pick(nodes)}/system`
  const words = random.weighted<readonly string[]>([
    [4, ['define', domain]],
    [4, ['start', domain]],
    [4, ['destroy', domain]],
    [3, ['suspend', domain]],
    [3, ['resume', domain]],
    [2, ['managedsave', domain]],
    [1, ['autostart', domain]],
    [4, ['migrate', '--live', '--p2p', domain, uri]],
  ])
  return { kind: 'virsh', node, words }
}

interface Follower {
  readonly afterMs: number
  readonly action: Action
}

/** What happens right in the middle of a command, or right after it was killed. */
function followers(random: Random, setting: Setting, temper: Temper, action: Action): Follower[] {
  const nodes = Array.from({ length: setting.nodes }, (_, at) => `node${at + 1}`)
  if (action.kind === 'virsh' && action.words[0] === 'migrate')
    return [rival(random, nodes, action.words[3] ?? 'web', 'desk')]
  if (action.kind !== 'havirt' || action.words[0] !== 'domain') return []
  const domain = action.words[2] ?? 'web'
  if (action.killAfter !== undefined && random.chance(0.6)) return [successor(random, nodes, action)]
  if (!random.chance(temper.malice)) return []
  return [
    random.chance(0.3)
      ? rival(random, nodes, rivalOf(random, domain), random.pick(nodes))
      : blow(random, nodes, action),
  ]
}

/** Who killed it tries again elsewhere: on the same machine at once, since there it is known to be dead. */
function successor(
  random: Random,
  nodes: readonly string[],
  { host, words }: Extract<Action, { kind: 'havirt' }>,
): Follower {
  const elsewhere = nodes.filter(node => node !== words[3])
  return rival(random, elsewhere, words[2] ?? 'web', random.chance(0.7) ? host : random.pick(nodes))
}

/** Somebody else who wants the same domain, or its disk, elsewhere. */
function rival(random: Random, nodes: readonly string[], domain: string, host: string): Follower {
  const words = ['domain', 'start', domain, random.pick(nodes)]
  return { afterMs: random.between(20, random.chance(0.5) ? 600 : 6000), action: { kind: 'havirt', host, words } }
}

function rivalOf(random: Random, domain: string): string {
  const other = { mail: 'copy', copy: 'mail', web: 'web', db: 'db' }[domain]
  return other !== undefined && random.chance(0.7) ? other : domain
}

/** A fault at the node that the command names, or between it and another. */
function blow(
  random: Random,
  nodes: readonly string[],
  { host, words }: Extract<Action, { kind: 'havirt' }>,
): Follower {
  const named = words[3] !== undefined && nodes.includes(words[3]) ? words[3] : random.pick(nodes)
  const forMs = Math.round(random.between(100, 45_000))
  const other = otherThan(random, named, [...nodes, host])
  const kinds: readonly (readonly [number, () => Action])[] = [
    [4, () => ({ kind: 'cut', from: named, to: other, both: random.chance(0.6), forMs })],
    [1, () => ({ kind: 'cut', from: other, to: named, both: false, forMs })],
    [3, () => ({ kind: 'restartLibvirtd', node: random.chance(0.7) ? named : random.pick(nodes), forgets: false })],
    [2, () => ({ kind: 'killVirsh', node: random.chance(0.5) ? named : random.pick(nodes) })],
    [1, () => ({ kind: 'crash', node: named, forMs })],
    [1, () => ({ kind: 'freeze', host: random.chance(0.5) ? named : host, forMs, suspended: random.chance(0.5) })],
  ]
  return { afterMs: random.between(20, random.chance(0.6) ? 1200 : 5000), action: random.weighted(kinds)() }
}

function makeFault(random: Random, nodes: readonly string[]): Action {
  const node = random.pick(nodes)
  const host = random.pick([...nodes, 'desk'])
  const forMs = Math.round(random.chance(0.6) ? random.between(50, 12_000) : random.between(12_000, 90_000))
  const kinds: readonly (readonly [number, () => Action])[] = [
    [
      10,
      () => ({
        kind: 'cut',
        from: host,
        to: otherThan(random, host, [...nodes, 'nas']),
        both: random.chance(0.6),
        forMs,
      }),
    ],
    [5, () => ({ kind: 'crash', node, forMs })],
    [4, () => ({ kind: 'freeze', host, forMs, suspended: random.chance(0.4) })],
    [5, () => ({ kind: 'restartLibvirtd', node, forgets: random.chance(0.2) })],
    [3, () => ({ kind: 'hangLibvirtd', node, forMs })],
    [2, () => ({ kind: 'killVirsh', node })],
    [5, () => ({ kind: 'store', host, weather: makeWeather(random), forMs })],
    [2, () => ({ kind: 'clock', host, offsetMs: Math.round(random.between(-3_600_000, 3_600_000)) })],
    [2, () => ({ kind: 'alias', node, leadsTo: random.pick(nodes), forMs })],
    [1, () => ({ kind: 'isolate', node, forMs })],
    [1, () => ({ kind: 'breakFence', node, forMs })],
    [1, () => ({ kind: 'powerOn', node })],
    [2, () => ({ kind: 'interrupt', host })],
  ]
  return random.weighted(kinds)()
}

function otherThan(random: Random, host: string, hosts: readonly string[]): string {
  return random.pick(hosts.filter(each => each !== host))
}

function makeWeather(random: Random) {
  return random.pick([
    { staleMs: 60_000 },
    { staleMs: 5000 },
    { slowMs: 3000 },
    { slowMs: 20_000 },
    { unknown: 0.4 },
    { full: true },
    { soft: true },
    { staleMs: 20_000, unknown: 0.2 },
  ])
}
