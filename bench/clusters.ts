/** Random clusters from a seed: unevenly filled, with room for what they hold, on nodes of equal or of different sizes. */
import { type Amount, type Layout, MIB_PER_GIB } from '../src/core/balance/layout.ts'
import { Random } from '../src/core/random.ts'

export interface ClusterShape {
  readonly nodes: number
  readonly domains: number
  /** Nodes from half to twice the size of others. */
  readonly mixed: boolean
  /** The share of all memory that domains take. */
  readonly fill: number
  readonly seed: number
}

const MAX_GIB = 32
const MAX_VCPUS = 8
const THREADS = 32
const FACTORS = [0.5, 1, 1, 1.5, 2]

/** The cluster of this shape. Throws where chance fills a node so that something finds no room: few large domains, nearly full. */
export function randomCluster(shape: ClusterShape): Layout {
  const layout = randomClusterIfAny(shape)
  if (layout === undefined) throw new Error('this cluster is too full to be filled at random')
  return layout
}

/** The same; undefined where it is too full. */
export function randomClusterIfAny({ nodes: count, domains, mixed, fill, seed }: ClusterShape): Layout | undefined {
  const random = new Random(seed * 7919 + count * 31 + domains + Number(mixed))
  const needs = Array.from({ length: domains }, () => ({
    memoryMiB: MIB_PER_GIB * (1 + random.below(MAX_GIB)),
    vcpus: 1 + random.below(MAX_VCPUS),
  }))
  const factors = Array.from({ length: count }, () => (mixed ? random.pick(FACTORS) : 1))
  const wanted = needs.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0) / fill
  const unit = wanted / factors.reduce((sum, factor) => sum + factor, 0)
  const nodes = factors.map((factor, at) => {
    const size = {
      memoryMiB: Math.ceil((unit * factor) / MIB_PER_GIB) * MIB_PER_GIB,
      vcpus: Math.round(THREADS * factor),
    }
    const room = { memoryMiB: size.memoryMiB, vcpus: size.vcpus * MAX_VCPUS }
    return { name: `node${at}`, size, room, held: { memoryMiB: 0, vcpus: 0 }, counts: true }
  })
  const at = scattered(random, needs, nodes)
  if (at === undefined) return undefined
  const places = new Uint8Array(count)
  const items = needs.map((each, index) => ({ domains: [`d${index}`], needs: each, node: at[index] ?? 0, places }))
  return { nodes, items, aparts: [] }
}

/** Some nodes are liked more than others; the largest domains are placed first. */
function scattered(
  random: Random,
  needs: readonly Amount[],
  nodes: readonly { readonly room: Amount }[],
): number[] | undefined {
  const liking = nodes.map(() => random.next() ** 2 + 0.02)
  const left = nodes.map(({ room }) => room.memoryMiB)
  const at = new Array<number>(needs.length).fill(0)
  const order = [...needs.keys()].sort((a, b) => (needs[b]?.memoryMiB ?? 0) - (needs[a]?.memoryMiB ?? 0))
  for (const index of order) {
    const memoryMiB = needs[index]?.memoryMiB ?? 0
    const fit = [...nodes.keys()].filter(node => (left[node] ?? 0) >= memoryMiB)
    if (fit.length === 0) return undefined
    const node = random.weighted(fit.map(each => [liking[each] ?? 0, each] as const))
    at[index] = node
    left[node] = (left[node] ?? 0) - memoryMiB
  }
  return at
}
