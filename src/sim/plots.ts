/** Plots: a few things that happen one after the other, aimed at the moments when most could go wrong. Plain data, like schedules. */

import type { Random } from '../core/random.ts'
import type { Action } from './actions.ts'
import type { Setting } from './world.ts'

/** An action, and how long after the plot began. */
export interface Scene {
  readonly afterMs: number
  readonly action: Action
}

/** What a plot is made from: where it happens, and what it is about. */
interface Cast {
  readonly random: Random
  readonly setting: Setting
  readonly nodes: readonly string[]
  /** The nodes in any order, and a node on which the domain runs when the run begins, first. */
  readonly stage: readonly [string, string, string]
  readonly domain: string
}

type Plot = (cast: Cast) => readonly Scene[]

/** One plot, by chance, or this one. */
export function makePlot(random: Random, setting: Setting, domain: string, only?: PlotName): readonly Scene[] {
  const nodes = Array.from({ length: setting.nodes }, (_, at) => `node${at + 1}`)
  const home = setting.domains.find(({ name }) => name === domain)?.runsOn
  const [one, two, three] = shuffled(random, nodes, home === undefined ? undefined : nodes[home])
  const stage = [one ?? 'node1', two ?? 'node2', three ?? 'node3'] as const
  const plot = only === undefined ? random.weighted<Plot>(Object.values(PLOTS)) : PLOTS[only][1]
  return plot({ random, setting, nodes, stage, domain })
}

function shuffled(random: Random, nodes: readonly string[], first: string | undefined): string[] {
  const left = nodes.filter(node => node !== first)
  const mixed = first === undefined ? [] : [first]
  while (left.length > 0) mixed.push(...left.splice(random.below(left.length), 1))
  return mixed
}

const havirt = (afterMs: number, host: string, line: string): Scene => ({
  afterMs,
  action: { kind: 'havirt', host, words: line.split(' ') },
})
const at = (afterMs: number, action: Action): Scene => ({ afterMs, action })
const person = (afterMs: number, node: string, line: string): Scene => ({
  afterMs,
  action: { kind: 'virsh', node, words: line.split(' ') },
})

/** Wherever it was, it runs there then, as a rule. */
function brought(domain: string, node: string): Scene[] {
  return [havirt(0, 'desk', `domain start ${domain} ${node}`), havirt(4000, 'desk', `domain migrate ${domain} ${node}`)]
}

/** Several operators want the same domain, or its disk or uuid, at one moment. */
const sameMoment: Plot = ({ random, nodes, domain }) => {
  const withinMs = random.pick([1, 5, 30, 300])
  const verb = (name: string, node: string) =>
    random.chance(0.75) ? `domain start ${name} ${node}` : `domain migrate ${name} ${node}`
  return nodes
    .slice(0, 2 + random.below(3))
    .map(node => havirt(random.between(0, withinMs), random.pick(nodes), verb(twinOf(random, domain), node)))
}

function twinOf(random: Random, domain: string): string {
  const twin = { mail: 'copy', copy: 'mail', web: 'web-old', 'web-old': 'web' }[domain]
  return twin !== undefined && random.chance(0.4) ? twin : domain
}

/** Different domains arrive on one node at one moment. */
const lastRoom: Plot = ({ random, setting, nodes, stage: [, two] }) => {
  const withinMs = random.pick([2, 30, 200, 1500])
  return setting.domains.map(({ name }) =>
    havirt(
      random.between(0, withinMs),
      random.pick([...nodes, 'desk']),
      random.chance(0.8) ? `domain start ${name} ${two}` : `domain migrate ${name} ${two}`,
    ),
  )
}

/** Whoever starts it dies in the middle, and others take over at once, while something fails there. */
const handOver: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const host = random.pick([...nodes, 'desk'])
  const killAfter = 5 + random.below(9)
  const begun: Action = { kind: 'havirt', host, words: ['domain', 'start', domain, one], killAfter }
  const beginsMs = 3000
  const forMs = random.pick([500, 5000, 45_000])
  const trouble = random.pick<Action>([
    { kind: 'cut', from: random.pick([host, three]), to: one, both: random.chance(0.5), forMs },
    { kind: 'restartLibvirtd', node: one, forgets: false },
    { kind: 'killVirsh', node: one },
    { kind: 'hangLibvirtd', node: one, forMs },
    { kind: 'breakFence', node: one, forMs },
  ])
  return [
    havirt(0, host, `domain stop ${domain} --force --timeout 10`),
    ...(random.chance(0.4) ? [at(beginsMs - 1, { kind: 'load', forMs: random.between(200, 2000) })] : []),
    at(beginsMs, begun),
    ...(random.chance(0.5) ? [at(beginsMs + random.between(5, 1500), trouble)] : []),
    havirt(beginsMs + random.between(500, 3000), host, `domain start ${twinOf(random, domain)} ${two}`),
    havirt(beginsMs + random.between(20, 6000), random.pick([host, three]), `domain start ${domain} ${three}`),
    havirt(beginsMs + random.between(6000, 12_000), two, `domain start ${domain} ${two}`),
  ]
}

/** Whoever starts it dies while the command is on its way, and who takes over cannot reach that node for a moment. */
const deafRaise: Plot = ({ random, nodes, stage: [one, two], domain }) => {
  const host = random.pick([...nodes, 'desk'].filter(name => name !== one))
  const killAfter = 6 + random.below(8)
  return [
    havirt(0, host, `domain stop ${domain} --force --timeout 10`),
    at(2999, { kind: 'load', forMs: 1500 }),
    at(3000, { kind: 'havirt', host, words: ['domain', 'start', domain, one], killAfter }),
    at(4500, { kind: 'cut', from: host, to: one, both: random.chance(0.7), forMs: random.between(4100, 9000) }),
    havirt(4600, host, `domain start ${domain} ${two}`),
    havirt(random.between(9000, 16_000), host, `domain start ${domain} ${two}`),
  ]
}

/** Whoever starts it sleeps right before the command goes out, past a take-over and a reboot of the node. */
const longSleep: Plot = ({ random, stage: [one, two, three], domain }) => {
  const killAfter = 5 + random.below(9)
  const suspendedForMs = random.between(60_000, 90_000)
  const begun: Action = {
    kind: 'havirt',
    host: three,
    words: ['domain', 'start', domain, one],
    killAfter,
    suspendedForMs,
  }
  return [
    havirt(0, two, `domain stop ${domain} --force --timeout 10`),
    at(3000, begun),
    havirt(5000, two, `domain start ${domain} ${two}`),
    at(random.between(45_000, 55_000), { kind: 'crash', node: one, forMs: 1000 }),
    havirt(62_000, two, `domain start ${domain} ${two}`),
  ]
}

/** A node is fenced; its domains are started elsewhere; somebody gives it power again, unseen by the others. */
const fencedAndBack: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const forMs = 200_000
  const gone: Action = random.chance(0.5) ? { kind: 'isolate', node: one, forMs } : { kind: 'crash', node: one, forMs }
  const backMs = 25_000
  const begins = random.pick([backMs - 3000, backMs + 9000, backMs + 14_000])
  return [
    person(0, one, `define ${domain}`),
    person(100, one, `autostart ${domain}`),
    at(1000, gone),
    havirt(2000, two, `node fence ${one}`),
    at(backMs - 10, { kind: 'isolate', node: one, forMs: 60_000 }),
    at(backMs, { kind: 'powerOn', node: one }),
    person(backMs + 8000, one, `start ${domain}`),
    havirt(begins, random.pick([two, three]), `domain start ${domain} ${random.pick(nodes)}`),
    havirt(begins + 14_000, 'desk', `domain start ${domain} --auto`),
    havirt(backMs + 90_000, two, 'node scan'),
  ]
}

/** A person vouches for a node that only stood still; it answers badly, and is cut off again. */
const wrongWord: Plot = ({ random, stage: [one, two, three], domain }) => {
  const still = random.between(16_000, 24_000)
  return [
    at(0, { kind: 'freeze', host: one, forMs: still, suspended: false }),
    havirt(1000, two, `node confirm-down ${one} --confirm ${one}`),
    at(still - 1, { kind: 'hangLibvirtd', node: one, forMs: 120_000 }),
    havirt(still + random.between(100, 2000), three, 'node scan'),
    at(still + 9000, { kind: 'isolate', node: one, forMs: 100_000 }),
    havirt(still + 10_000, two, `domain start ${domain} ${random.pick([two, three])}`),
    havirt(still + 24_000, three, `domain start ${domain} ${three}`),
  ]
}

/** A node dies for good; somebody says so; what ran there starts elsewhere, more or less at the same moment. */
const trueWord: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const vouch = random.chance(0.5) ? `node fence ${one}` : `node confirm-down ${one} --confirm ${one}`
  return [
    at(0, { kind: 'crash', node: one, forMs: random.between(30_000, 90_000) }),
    havirt(random.between(500, 4000), two, vouch),
    havirt(random.between(15_000, 22_000), random.pick(nodes), `domain start ${domain} ${two}`),
    havirt(random.between(15_000, 22_000), three, `domain start ${domain} ${three}`),
    havirt(random.between(24_000, 60_000), 'desk', `node confirm-down --cancel ${one}`),
    at(random.between(24_000, 60_000), { kind: 'powerOn', node: one }),
  ]
}

/** A migration breaks in the middle, by whatever happens to its source, its target or the way between. */
const brokenMove: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const brief = random.between(1000, 9000)
  const named = random.pick([one, one, two])
  const blow = random.pick<Action>([
    { kind: 'crash', node: named, forMs: brief },
    { kind: 'restartLibvirtd', node: named, forgets: false },
    { kind: 'cut', from: one, to: two, both: random.chance(0.5), forMs: random.between(1000, 60_000) },
    { kind: 'freeze', host: named, forMs: brief, suspended: false },
    { kind: 'killVirsh', node: one },
  ])
  const host = random.pick([...nodes, 'desk'])
  const killed = random.chance(0.3) ? { killAfter: 8 + random.below(20) } : {}
  const after = random.pick([`domain start ${domain} ${three}`, `domain migrate ${domain} ${three}`])
  const kept = [person(7000, one, `define ${domain}`), person(7200, one, `autostart ${domain}`)]
  return [
    ...brought(domain, one),
    ...(random.chance(0.4) ? kept : []),
    at(8000, { kind: 'havirt', host, words: ['domain', 'migrate', domain, two], ...killed }),
    at(random.between(8300, 11_200), blow),
    havirt(random.between(8200, 48_000), random.pick([host, three]), after),
    havirt(random.between(8200, 68_000), random.pick(nodes), `domain resume ${domain}`),
  ]
}

/** A person moves the domain by plain virsh while others start it and hear one of its nodes late. */
const personMoves: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const host = random.pick([...nodes, 'desk'].filter(name => name !== one && name !== two))
  const late = random.pick([one, one, two])
  const moves = `migrate --live --p2p ${domain} qemu+ssh://${two}/system`
  return [
    ...brought(domain, one),
    at(8000, { kind: 'cut', from: host, to: late, both: true, forMs: random.between(1500, 5500) }),
    havirt(8050, host, `domain start ${domain} ${three}`),
    person(random.between(8100, 11_000), one, moves),
    havirt(random.between(8000, 12_000), host, `domain start ${domain} ${three}`),
  ]
}

/** A person saves the domain to a file of its node, where only that node can see it. */
const savedAway: Plot = ({ random, nodes, stage: [one, two, three], domain }) => [
  ...brought(domain, one),
  person(7000, one, `define ${domain}`),
  person(7200, one, `managedsave ${domain}`),
  havirt(random.between(7100, 10_000), random.pick(nodes), `domain start ${domain} ${two}`),
  havirt(random.between(11_000, 16_000), random.pick(nodes), `domain start ${domain} ${three}`),
  ...(random.chance(0.7) ? [person(random.between(17_000, 27_000), one, `start ${domain}`)] : []),
]

/** A node goes into maintenance while domains are on their way to it. */
const maintenance: Plot = ({ random, nodes, stage: [, two], domain }) => [
  havirt(0, random.pick([...nodes, 'desk']), `node maintenanceon ${two} --flag-only`),
  havirt(random.between(0, 400), random.pick(nodes), `domain start ${domain} ${two}`),
  havirt(random.between(100, 4000), random.pick(nodes), `domain migrate ${domain} ${two}`),
  havirt(random.between(5000, 60_000), random.pick(nodes), `node maintenanceoff ${two}`),
]

/** A start's command is lost on its way, and its own havirt goes on without its answer. */
const lostCommand: Plot = ({ random, nodes, stage: [one, two, three], domain }) => {
  const forMs = random.between(12_000, 30_000)
  return [
    havirt(0, three, `domain stop ${domain} --force --timeout 10`),
    havirt(4000, three, `domain ${random.pick(['start', 'start', 'migrate'])} ${domain} ${one}`),
    at(random.between(4010, 4100), { kind: 'cut', from: three, to: one, both: random.chance(0.5), forMs }),
    havirt(random.between(5000, 40_000), random.pick(nodes), `domain start ${domain} ${two}`),
    havirt(random.between(20_000, 70_000), three, `domain stop ${domain} --force --timeout 10`),
  ]
}

/** The target's name leads elsewhere right when a migration begins, as a stale cache of names on the source has it. */
const wrongTurn: Plot = ({ random, stage: [one, two, three], domain }) => [
  ...brought(domain, one),
  havirt(9000, random.pick([one, two, 'desk']), `domain migrate ${domain} ${two}`),
  at(9000 + random.between(5, 400), { kind: 'alias', node: two, leadsTo: three, forMs: 5000 }),
]

/** A node falls silent, more or less dead; what ran there is started past it by its leases; it comes back. */
const silentNode: Plot = ({ random, setting, nodes, stage: [one, two, three], domain }) => {
  const forMs = random.between(110_000, 170_000)
  const silence: Action = { kind: 'isolate', node: one, forMs }
  const killed: Action = { kind: 'killSanlock', node: one, forMs: 1e9 }
  const trouble = random.pick<readonly Scene[]>([
    [at(8000, { kind: 'crash', node: one, forMs })],
    [at(8000, { kind: 'freeze', host: one, forMs, suspended: random.chance(0.5) })],
    [at(8000, silence)],
    [at(8000, silence), at(random.between(5000, 12_000), killed)],
    [at(8000, silence), at(random.between(5000, 12_000), killed)],
    [at(8000, silence), at(random.between(9000, 60_000), { kind: 'crash', node: one, forMs: 2000 })],
  ])
  const early = random.pick<readonly Scene[]>([
    [],
    [],
    [havirt(5000, two, 'node scan')],
    [havirt(5000, two, 'lease status')],
  ])
  const standing = random.pick<readonly Scene[]>([
    [],
    [],
    [],
    [person(random.between(4000, 7500), one, `suspend ${domain}`)],
  ])
  const host = random.pick(['desk', two, three])
  const cutOff = random.chance(0.15) ? { killAfter: 60 + random.below(120) } : {}
  const other = random.pick(setting.domains).name
  return [
    ...brought(domain, one),
    ...early,
    ...standing,
    ...trouble,
    at(random.between(9000, 14_000), { kind: 'havirt', host, words: ['domain', 'start', domain, two], ...cutOff }),
    ...(random.chance(0.1) ? [at(random.between(60_000, 100_000), { kind: 'interrupt', host })] : []),
    havirt(random.between(60_000, forMs), random.pick(nodes), `domain start ${domain} ${three}`),
    havirt(forMs + random.between(8000, 20_000), 'desk', `domain start ${other} ${one}`),
    person(forMs + random.between(8000, 20_000), one, `resume ${domain}`),
    havirt(forMs + random.between(20_000, 30_000), two, random.pick(['lease reconcile', 'node scan'])),
    havirt(forMs + random.between(30_000, 40_000), three, `domain migrate ${domain} ${one}`),
    havirt(forMs + random.between(40_000, 50_000), 'desk', 'lease reconcile'),
  ]
}

const PLOTS = {
  sameMoment: [5, sameMoment],
  lastRoom: [3, lastRoom],
  handOver: [5, handOver],
  deafRaise: [4, deafRaise],
  longSleep: [3, longSleep],
  fencedAndBack: [3, fencedAndBack],
  wrongWord: [3, wrongWord],
  trueWord: [3, trueWord],
  brokenMove: [5, brokenMove],
  personMoves: [4, personMoves],
  savedAway: [2, savedAway],
  maintenance: [2, maintenance],
  lostCommand: [3, lostCommand],
  wrongTurn: [2, wrongTurn],
  // Only where leases are on, by their own chance.
  silentNode: [0, silentNode],
} as const satisfies Readonly<Record<string, readonly [number, Plot]>>

export type PlotName = keyof typeof PLOTS

/** True for the name of a plot. */
export function isPlotName(name: string): name is PlotName {
  return name in PLOTS
}
