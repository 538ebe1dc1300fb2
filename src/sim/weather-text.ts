/** What is wrong with the share, in words and back. */
import type { StoreWeather } from './store.ts'

/** `60 s stale, full`: the words of {@link weatherOf}. */
export function weatherText({ staleMs, slowMs, full, unknown, soft }: Partial<StoreWeather>): string {
  return [
    ...(staleMs === undefined ? [] : [`${staleMs / 1000} s stale`]),
    ...(slowMs === undefined ? [] : [`${slowMs / 1000} s slow`]),
    ...(full === true ? ['full'] : []),
    ...(unknown === undefined ? [] : [`${unknown * 100} % unsure`]),
    ...(soft === true ? ['mounted soft'] : []),
  ].join(', ')
}

/** The inverse of {@link weatherText}. Throws for other words. */
export function weatherOf(text: string): Partial<StoreWeather> {
  return Object.assign({}, ...text.split(/, */).map(ill)) as Partial<StoreWeather>
}

function ill(words: string): Partial<StoreWeather> {
  const [, amount, kind] = /^([\d.]+) (?:s|%) (stale|slow|unsure)$/.exec(words) ?? []
  if (words === 'full') return { full: true }
  if (words === 'mounted soft') return { soft: true }
  if (kind === 'stale') return { staleMs: Number(amount) * 1000 }
  if (kind === 'slow') return { slowMs: Number(amount) * 1000 }
  if (kind === 'unsure') return { unknown: Number(amount) / 100 }
  throw new Error(
    `the share cannot be '${words}'; expected one of: N s stale, N s slow, full, N % unsure, mounted soft`,
  )
}
