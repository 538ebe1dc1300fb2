/** Evening out and emptying nodes, against Ganeti's hbal on the same random clusters; hbal scores both ends. */
import { execFileSync } from 'node:child_process'
import { Arrangement } from '../src/core/balance/arrangement.ts'
import { effortToEmpty, evacuate } from '../src/core/balance/evacuate.ts'
import { type Layout, type Places, placesNow } from '../src/core/balance/layout.ts'
import { effortFor, improve } from '../src/core/balance/search.ts'
import { sequence } from '../src/core/balance/sequence.ts'
import type { Bench, Benchmark } from './bench.ts'
import { randomCluster, randomClusterIfAny } from './clusters.ts'
import type { Figure } from './figure.ts'
import { Hbal } from './hbal.ts'
import { programFile } from './program.ts'
import type { PlanCost } from './programs/plan.ts'

const SIZES = [
  [4, 40],
  [8, 80],
  [10, 100],
  [20, 200],
] as const
const SEEDS = 10
const FILL = 0.65
/** nodes, domains, seconds. */
const TIMES = [
  [10, 100, 0.05],
  [40, 800, 0.5],
  [100, 2000, 3],
  [200, 10_000, 30],
] as const
/** hbal needs minutes above this, and does not end within 20 on the largest. */
const HBAL_DOMAINS = 200
const FILLS = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
const DRAIN_SEEDS = 8
/** nodes, domains: so few that every way can be tried. */
const SMALL = [
  [3, 9],
  [4, 7],
] as const
const SMALL_SEEDS = 40
const MS_PER_S = 1000

export const balance: Benchmark = async function* (bench) {
  const hbal = await Hbal.use(bench)
  for (const [nodes, domains] of SIZES) for (const mixed of [false, true]) yield* quality(hbal, nodes, domains, mixed)
  for (const [nodes, domains, seconds] of TIMES) yield* planning(bench, hbal, nodes, domains, seconds)
  for (const [nodes, domains] of SMALL) yield smallDrains(nodes, domains)
  for (const [nodes, domains] of SIZES) yield* drains(hbal, nodes, domains)
}

/** End scores at hbal's own number of moved domains, and at that and its moved GiB. */
async function* quality(hbal: Hbal, nodes: number, domains: number, mixed: boolean): AsyncGenerator<Figure> {
  const rows: { theirs: number; free: number; bound: number; moved: number }[] = []
  for (let seed = 1; seed <= SEEDS; seed++) {
    const layout = randomCluster({ nodes, domains, mixed, fill: FILL, seed })
    const result = await hbal.run(layout, placesNow(layout))
    if (result === undefined) throw new Error('hbal did not end')
    const { moved, movedMiB } = arranged(layout, result.places)
    const limits = { moves: moved, proposals: effortFor(layout) }
    rows.push({
      theirs: await hbal.score(layout, result.places),
      free: await hbal.score(layout, legal(layout, improve(layout, { ...limits, movedMiB: Number.POSITIVE_INFINITY }))),
      bound: await hbal.score(layout, legal(layout, improve(layout, { ...limits, movedMiB }))),
      moved,
    })
  }
  const mean = (of: (row: (typeof rows)[number]) => number) => rows.reduce((sum, row) => sum + of(row), 0) / SEEDS
  const worst = (of: (row: (typeof rows)[number]) => number) => Math.max(...rows.map(row => of(row) / row.theirs))
  const sort = mixed ? 'unequal nodes' : 'equal nodes'
  const name = (what: string) => `balance ${nodes}x${domains}, ${sort}, ${what}`
  const theirs = mean(row => row.theirs)
  const moves = mean(row => row.moved).toFixed(1)
  yield figure(
    name(`hbal's ${moves} moves: end score`),
    mean(row => row.free),
    theirs,
    0.7,
  )
  yield figure(
    name('and its GiB: end score'),
    mean(row => row.bound),
    theirs,
    0.8,
  )
  yield figure(
    name('worst of 10'),
    Math.max(
      worst(row => row.free),
      worst(row => row.bound),
    ),
    1,
    1,
  )
}

function figure(name: string, ours: number, theirs: number, limit: number): Figure {
  return { name, unit: 'score', ours, theirs, bar: { kind: 'ratio', limit } }
}

function arranged(layout: Layout, places: Places): Arrangement {
  const arrangement = new Arrangement(layout, placesNow(layout))
  for (const [item, node] of places.entries()) arrangement.put(item, node)
  return arrangement
}

/** As far as an order of moves leads there in which each is possible. */
function legal(layout: Layout, goal: Places): Places {
  return sequence(layout, goal, { keepReserve: true }).places
}

async function* planning(
  bench: Bench,
  hbal: Hbal,
  nodes: number,
  domains: number,
  seconds: number,
): AsyncGenerator<Figure> {
  const shape = { nodes, domains, mixed: false, fill: FILL, seed: 1 }
  const layout = randomCluster(shape)
  const theirs = domains <= HBAL_DOMAINS ? await hbal.run(layout, placesNow(layout)) : undefined
  const argv = [programFile(bench, 'plan'), JSON.stringify(shape)]
  const { ms, moves, peakMB } = JSON.parse(execFileSync(bench.node, argv, { encoding: 'utf8' })) as PlanCost
  yield {
    name: `balance ${nodes}x${domains}: planning (${moves} moves)`,
    unit: 's',
    ours: ms / MS_PER_S,
    ...(theirs === undefined ? {} : { theirs: theirs.ms / MS_PER_S }),
    bar: { kind: 'value', limit: seconds },
  }
  if (domains === TIMES.at(-1)?.[1])
    yield {
      name: `balance ${nodes}x${domains}: peak resident memory`,
      unit: 'MB',
      ours: peakMB,
      bar: { kind: 'value', limit: 1000 },
    }
}

/** Drains that succeed, order of moves included, beside those that the sum of sizes allows, and beside hbal's. */
async function* drains(hbal: Hbal, nodes: number, domains: number): AsyncGenerator<Figure> {
  const count = { possible: 0, ours: 0, theirs: 0 }
  for (const fill of FILLS) {
    for (let seed = 1; seed <= DRAIN_SEEDS; seed++) {
      const layout = leaving(randomCluster({ nodes, domains, mixed: seed % 2 === 0, fill, seed: seed + SEEDS }))
      if (!sumFits(layout)) continue
      count.possible++
      const goal = evacuate(layout, [0], effortToEmpty(layout))
      if (goal !== undefined && sequence(layout, goal, { keepReserve: false }).left.length === 0) count.ours++
      const result = await hbal.run(layout, placesNow(layout), ['--offline=node0', '--evac-mode'])
      if (result !== undefined && !result.places.includes(0)) count.theirs++
    }
  }
  const { possible, ours, theirs } = count
  const name = `drain ${nodes}x${domains}, 65 to 95 % full: done of ${possible} that the sizes allow`
  yield { name, unit: 'of', ours, theirs, bar: { kind: 'least', limit: Math.ceil(possible * 0.99) } }
}

/** Drains that succeed on small clusters, beside those that a search of every way finds possible. */
function smallDrains(nodes: number, domains: number): Figure {
  let ours = 0
  let possible = 0
  for (const fill of FILLS) {
    for (let seed = 1; seed <= SMALL_SEEDS; seed++) {
      const cluster = randomClusterIfAny({ nodes, domains, mixed: seed % 2 === 0, fill, seed })
      const layout = cluster === undefined ? undefined : leaving(cluster)
      if (layout === undefined || !canBeEmptied(layout)) continue
      possible++
      const goal = evacuate(layout, [0], effortToEmpty(layout))
      if (goal !== undefined && sequence(layout, goal, { keepReserve: false }).left.length === 0) ours++
    }
  }
  const name = `drain ${nodes}x${domains}: done of ${possible} that an exact search finds possible`
  return { name, unit: 'of', ours, bar: { kind: 'least', limit: possible } }
}

/** Tries every order of every move, one domain at a time, until the first node is empty. */
function canBeEmptied(layout: Layout): boolean {
  const start = placesNow(layout)
  const seen = new Set([start.join()])
  const queue = [start]
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (!at.includes(0)) return true
    const arrangement = new Arrangement(layout, at)
    for (const item of layout.items.keys()) {
      for (let node = 1; node < layout.nodes.length; node++) {
        if (node === at[item] || !arrangement.fits(item, node)) continue
        const next = Int32Array.from(at)
        next[item] = node
        if (seen.has(next.join())) continue
        seen.add(next.join())
        queue.push(next)
      }
    }
  }
  return false
}

function leaving(layout: Layout): Layout {
  return { ...layout, nodes: layout.nodes.map((node, at) => (at === 0 ? { ...node, counts: false } : node)) }
}

function sumFits({ nodes, items }: Layout): boolean {
  const needed = items.reduce((sum, { needs }) => sum + needs.memoryMiB, 0)
  return needed <= nodes.slice(1).reduce((sum, { room }) => sum + room.memoryMiB, 0)
}
