/** The plain way to even out: again and again the one move that gains most, as long as one gains. Quick in small clusters, and never astray. */
import { Arrangement } from './arrangement.ts'
import { type Layout, MIB_PER_GIB, type Places, placesNow } from './layout.ts'
import type { Budget, Prices } from './search.ts'

/** So many single moves are weighed at most; above that annealing alone is better use of the time. */
const MOST_WEIGHED = 100_000

/** Where single moves lead; undefined where rules speak, which make moves depend on one another, or where there are too many. */
export function descend(layout: Layout, budget: Budget, prices: Prices): Places | undefined {
  const arrangement = new Arrangement(layout, placesNow(layout))
  const items = [...layout.items.keys()]
  const each = items.length * layout.nodes.length
  if (!items.every(item => arrangement.isFree(item))) return undefined
  let weighed = 0
  for (;;) {
    weighed += each
    if (weighed > MOST_WEIGHED) return undefined
    const best = bestMove(arrangement, items, budget, prices)
    if (best === undefined) return arrangement.at
    arrangement.put(best.item, best.to)
  }
}

function bestMove(
  arrangement: Arrangement,
  items: readonly number[],
  budget: Budget,
  prices: Prices,
): { readonly item: number; readonly to: number } | undefined {
  let best: { item: number; to: number } | undefined
  let most = 1e-9
  for (const item of items) {
    const from = arrangement.at[item] as number
    const memoryMiB = arrangement.memoryOf(item)
    // What has moved once stays: a way back would free budget, but single moves hardly ever gain by one.
    if (from !== arrangement.layout.items[item]?.node) continue
    if (arrangement.moved + arrangement.domainsOf(item) > budget.moves) continue
    if (arrangement.movedMiB + memoryMiB > budget.movedMiB) continue
    const price = arrangement.domainsOf(item) * prices.move + (memoryMiB / MIB_PER_GIB) * prices.gib
    for (const to of arrangement.layout.nodes.keys()) {
      if (to === from || !arrangement.fits(item, to)) continue
      const after = arrangement.imbalanceAfter(from, to, memoryMiB, arrangement.vcpusOf(item))
      const gain = arrangement.imbalance - after - price
      if (gain <= most) continue
      most = gain
      best = { item, to }
    }
  }
  return best
}
