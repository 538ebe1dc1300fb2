/** Chance, drawn from a seed: the same seed gives the same numbers on every machine. */

/** One stream of numbers (mulberry32). */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** From 0 to below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** A number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.next() * (most - least)
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** One of the list. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }

  /** One of the list, each as often as its weight says. */
  weighted<T>(list: readonly (readonly [number, T])[]): T {
    let left = this.next() * list.reduce((sum, [weight]) => sum + weight, 0)
    const found = list.find(([weight]) => {
      left -= weight
      return left < 0
    })
    return (found ?? (list[0] as readonly [number, T]))[1]
  }
}

/** A stream of its own for `key`: taking one key away leaves the numbers of all others as they were. */
export function subStream(seed: number, key: number): Random {
  return new Random(mix(mix(seed | 0) ^ Math.imul(key + 1, 0x9e3779b1)))
}

function mix(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
