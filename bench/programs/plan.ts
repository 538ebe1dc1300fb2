/** Plans how to even out a random cluster, once, in a process that has planned nothing before. Argument: its shape as JSON. */
import { effortFor, FREE, improve } from '../../src/core/balance/search.ts'
import { sequence } from '../../src/core/balance/sequence.ts'
import { type ClusterShape, randomCluster } from '../clusters.ts'

/** What planning took. */
export interface PlanCost {
  readonly ms: number
  readonly moves: number
  readonly peakMB: number
}

const [shape = '{}'] = process.argv.slice(2)
const layout = randomCluster(JSON.parse(shape) as ClusterShape)
const began = performance.now()
const budget = { moves: layout.items.length / 4, movedMiB: Number.POSITIVE_INFINITY, proposals: effortFor(layout) }
const { hops } = sequence(layout, improve(layout, budget, FREE), { keepReserve: true })
const ms = performance.now() - began
const cost: PlanCost = { ms, moves: hops.length, peakMB: process.resourceUsage().maxRSS / 1024 }
process.stdout.write(JSON.stringify(cost))
