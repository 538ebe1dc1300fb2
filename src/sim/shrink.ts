/** From a schedule that fails to the shortest that still does, in the same way: fewer items first, then rounder times. */
import { runSchedule } from './run.ts'
import type { Item, Schedule } from './schedule.ts'

/** What makes two failures the same one. */
function failure(schedule: Schedule): string | undefined {
  return runSchedule(schedule).problems[0]?.kind
}

/** Must be called outside of any continuation, see drain.ts. A schedule that does not fail is given back as it is. */
export function shrink(schedule: Schedule): Schedule {
  const wanted = failure(schedule)
  if (wanted === undefined) return schedule
  const fails = (items: readonly Item[]) => failure({ ...schedule, items }) === wanted
  const few = fewest(schedule.items, fails)
  const calm = simplest(few, fails)
  const sooner = earlier({ ...schedule, items: calm }, each => failure(each) === wanted)
  return sooner
}

/** Delta debugging: takes away ever smaller parts, as long as it still fails without them. */
function fewest(items: readonly Item[], fails: (items: readonly Item[]) => boolean): readonly Item[] {
  let left = items
  for (let size = Math.ceil(left.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < left.length; ) {
      const without = [...left.slice(0, at), ...left.slice(at + size)]
      if (without.length < left.length && fails(without)) left = without
      else at += size
    }
  }
  return left
}

/** Times on whole seconds, or tenths, where that makes no difference. */
function simplest(items: readonly Item[], fails: (items: readonly Item[]) => boolean): readonly Item[] {
  let left = items
  for (const unit of [1000, 100]) {
    for (const at of left.keys()) {
      const rounded = left.map((each, index) =>
        index === at ? { ...each, atMs: Math.round(each.atMs / unit) * unit } : each,
      )
      if (rounded[at]?.atMs !== left[at]?.atMs && fails(rounded)) left = rounded
    }
  }
  return left
}

/** The idle time before the first item, and the end right after what failed. */
function earlier(schedule: Schedule, fails: (schedule: Schedule) => boolean): Schedule {
  const first = Math.min(...schedule.items.map(({ atMs }) => atMs))
  const moved = {
    ...schedule,
    items: schedule.items.map(each => ({ ...each, atMs: each.atMs - first })),
    endMs: schedule.endMs - first,
  }
  return Number.isFinite(first) && first > 0 && fails(moved) ? moved : schedule
}
