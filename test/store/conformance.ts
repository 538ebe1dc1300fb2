/**
 * What every store promises, as laws that run on any backend. A law is a plain function, so that a test can also show
 * that a broken store breaks it (broken-stores.test.ts).
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, it } from 'vitest'
import { type Store, StoreError, type SwapResult, type Versioned } from '../../src/store/store.ts'

/** One fresh, empty store, as several clients see it. */
export interface World {
  /** At least three. Each is a client with caches of its own; they may be one object if the backend has no clients. */
  readonly stores: readonly Store[]
  /** Ends injected failures: what is asked from now on is answered. */
  readonly calm?: () => void
  readonly close?: () => Promise<void>
}

/** Makes worlds. The seed decides whatever is random in one, so that a counterexample can be played again. */
export type MakeWorld = (seed: number) => Promise<World>

/** One promise, and the check that tells whether it is kept. */
export interface Law {
  readonly name: string
  readonly check: (make: MakeWorld, luck: Luck) => Promise<void>
}

/** How many random worlds a property sees, and, to see the same ones each time, from which seed. */
export interface Luck {
  readonly runs: number
  readonly seed?: number
}

/** Runs the whole suite. */
export function storeConformance(name: string, makeStores: MakeWorld, luck: Luck = { runs: 20 }): void {
  describe(`${name} keeps the promises of a store`, () => {
    for (const law of laws) it(law.name, () => law.check(makeStores, luck), 60_000)
  })
}

/** The promises that hold in any weather, for worlds that inject failures. */
export function storeConformanceUnderFailures(name: string, makeStores: MakeWorld, luck: Luck = { runs: 20 }): void {
  describe(`${name} keeps its promises when operations fail`, () => {
    for (const law of stormLaws) it(law.name, () => law.check(makeStores, luck), 60_000)
  })
}

const KEY = 'claims/domain/web'

/** What holds while nothing fails. */
export const laws: readonly Law[] = [
  once('a key that was never written is absent, and has nothing below it', async ({ stores: [store] }) => {
    assert.equal(await store.read(KEY), undefined)
    assert.deepEqual(await store.list(KEY), [])
    assert.deepEqual(await store.list(''), [])
  }),

  once('the first swap expects 0, the next one what it then reads, and versions grow', async ({ stores: [store] }) => {
    let version = 0
    for (const text of ['a', 'b\n', 'c'.repeat(100_000), '', ...Array.from({ length: 30 }, (_, n) => `n: ${n}\n`)]) {
      const next = won(await store.swap(KEY, version, text))
      assert.ok(next > version, 'versions grow')
      assert.deepEqual(await store.read(KEY), { version: next, text })
      version = next
    }
  }),

  once('a swap that expects an old version is lost and changes nothing', async ({ stores: [store, other] }) => {
    const first = won(await store.swap(KEY, 0, 'first'))
    const second = won(await store.swap(KEY, first, 'second'))
    for (const late of [store, other]) {
      for (const expected of [0, first]) assert.equal((await late.swap(KEY, expected, 'late')).outcome, 'lost')
    }
    assert.deepEqual(await store.read(KEY), { version: second, text: 'second' })
  }),

  once(
    'a swap that expects a version still to come is lost and changes nothing',
    async ({ stores: [store, other] }) => {
      assert.equal((await other.swap(KEY, 1, 'early')).outcome, 'lost')
      const first = won(await store.swap(KEY, 0, 'first'))
      assert.equal((await other.swap(KEY, first + 3, 'early')).outcome, 'lost')
      assert.deepEqual(await store.read(KEY), { version: first, text: 'first' })
    },
  ),

  once('a swap that won is lost when it is repeated', async ({ stores: [store] }) => {
    const version = won(await store.swap(KEY, 0, 'same'))
    assert.equal((await store.swap(KEY, 0, 'same')).outcome, 'lost')
    assert.deepEqual(await store.read(KEY), { version, text: 'same' })
  }),

  once('a swap that expects a version long pruned is lost', async ({ stores: [store, other] }) => {
    let version = 0
    for (let n = 0; n < 40; n++) version = won(await store.swap(KEY, version, `${n}`))
    for (const expected of [0, 1, 5, 30]) assert.equal((await other.swap(KEY, expected, 'late')).outcome, 'lost')
    assert.deepEqual(await store.read(KEY), { version, text: '39' })
  }),

  once('a loser that reads again sees a newer version', async ({ stores: [store, other] }) => {
    assert.equal(await other.read(KEY), undefined)
    const version = won(await store.swap(KEY, 0, 'first'))
    assert.equal((await other.swap(KEY, 0, 'late')).outcome, 'lost')
    assert.deepEqual(await other.read(KEY), { version, text: 'first' })
  }),

  once('a record and records below it live side by side, and are listed sorted', async ({ stores: [store] }) => {
    for (const key of ['b/y', 'a', 'b/x', 'b', 'c/d/e']) won(await store.swap(key, 0, key))
    assert.deepEqual(await store.list(''), ['a', 'b', 'c'])
    assert.deepEqual(await store.list('b'), ['x', 'y'])
    assert.deepEqual(await store.list('a'), [])
    assert.equal((await store.read('b'))?.text, 'b')
    assert.equal(await store.read('c/d'), undefined)
  }),

  once('a fresh read and a fresh list show what others wrote before them', async ({ stores: [store, other] }) => {
    let version = 0
    for (let n = 0; n < 12; n++) {
      // What is read here fills the caches.
      await other.read('b/known')
      await other.list('b')
      version = won(await store.swap('b/known', version, `${n}`))
      won(await store.swap(`b/new${n}`, 0, 'x'))
      assert.equal((await other.read('b/known', 'fresh'))?.text, `${n}`)
      assert.equal((await other.list('b', 'fresh')).length, n + 2)
    }
  }),

  once('one key knows nothing of another', async ({ stores: [store] }) => {
    won(await store.swap('a', 0, 'a'))
    assert.equal(await store.read('b'), undefined)
    won(await store.swap('b', 0, 'b'))
    assert.equal((await store.read('a'))?.text, 'a')
  }),

  once('a watcher is told what another client writes, again and again', async ({ stores: [store, , watcher] }) => {
    const signal = AbortSignal.timeout(30_000)
    let known = 0
    for (const text of ['one', 'two', 'three']) {
      const seen = watcher.watch(KEY, known, signal)
      const version = won(await store.swap(KEY, known, text))
      assert.deepEqual(await seen, { version, text })
      known = version
    }
  }),

  once('a watcher that knows less is told at once, and one whose signal fired is let go', async ({ stores }) => {
    const [store, watcher] = stores
    const version = won(await store.swap(KEY, 0, 'x'))
    assert.deepEqual(await watcher.watch(KEY, 0, AbortSignal.timeout(30_000)), { version, text: 'x' })
    assert.equal(await watcher.watch(KEY, version, AbortSignal.timeout(30)), undefined)
    assert.equal(await watcher.watch(KEY, 0, AbortSignal.abort()), undefined)
  }),

  once('a key with a segment that no backend can hold is refused by every method', async ({ stores: [store] }) => {
    const signal = AbortSignal.timeout(1000)
    for (const key of [
      '',
      '/',
      'a//b',
      '../x',
      'a/..',
      '.',
      'a b',
      '/a',
      'a/',
      '.x',
      'a/5.yaml',
      'tmp.x',
      'é',
      'x\0',
    ]) {
      await assert.rejects(store.read(key), StoreError)
      await assert.rejects(store.swap(key, 0, ''), StoreError)
      await assert.rejects(store.watch(key, 0, signal), StoreError)
      if (key !== '') await assert.rejects(store.list(key), StoreError)
    }
  }),

  {
    name: 'any text comes back as it was written',
    check: (make, { runs: numRuns, ...seed }) =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 12 }), texts =>
          inWorld(make, 1, async ({ stores: [store] }) => {
            let version = 0
            for (const text of texts) {
              version = won(await store.swap(KEY, version, text))
              assert.equal((await store.read(KEY))?.text, text)
            }
          }),
        ),
        { numRuns, ...seed },
      ),
  },

  property('of many that race for one version exactly one wins, and the others lose', async world => {
    let expected = 0
    for (let round = 0; round < 4; round++) {
      const racers = [...world.stores, ...world.stores]
      const results = await Promise.all(racers.map((store, n) => store.swap(KEY, expected, `${round}-${n}`)))
      const winner = results.findIndex(result => result.outcome === 'won')
      assert.deepEqual(
        results.map(result => result.outcome),
        results.map((_, n) => (n === winner ? 'won' : 'lost')),
      )
      const record = await world.stores[0].watch(KEY, expected, AbortSignal.timeout(30_000))
      assert.equal(record?.text, `${round}-${winner}`)
      expected = won(results[winner])
    }
  }),

  property('read, add, swap: nothing that won is missing, nothing that lost is there', async world => {
    const logs = await Promise.all(world.stores.map((store, n) => appendOften(store, `${n}`, 12)))
    await consistent(world, logs.flat())
  }),
]

/** What holds even while operations fail. */
export const stormLaws: readonly Law[] = [
  property('what won is there, what lost or threw is not, and a read ends the doubt about the unknown', async world => {
    const logs = await Promise.all(world.stores.map((store, n) => appendOften(store, `${n}`, 12)))
    world.calm?.()
    await consistent(world, logs.flat())
  }),

  property('of many that race for one version at most one holds', async world => {
    for (let expected = 0, round = 0; round < 4; round++) {
      const racers = [...world.stores, ...world.stores]
      const held = await Promise.all(racers.map((store, n) => tryToHold(store, expected, `${round}-${n}`)))
      const holders = held.filter(version => version !== undefined)
      assert.ok(holders.length <= 1, `${holders.length} holders of one version`)
      expected = holders[0] ?? expected
    }
  }),
]

/** One attempt of {@link appendOften}: what the swap said, and, if it was in doubt, whether a read then showed it. */
interface Attempt {
  readonly id: string
  readonly outcome: SwapResult['outcome'] | 'threw'
  readonly version?: number
  readonly settled?: boolean
}

/** Reads the record, a list of ids, and swaps in one id more: so a record holds its whole history. */
async function appendOften(store: Store, who: string, times: number): Promise<Attempt[]> {
  const attempts: Attempt[] = []
  for (let n = 0; n < times; n++) {
    const id = `${who}.${n}`
    const before = await readThrough(store)
    const text = [...idsOf(before), id].join('\n')
    attempts.push(await settled(store, id, await swapOrThrow(store, before?.version ?? 0, text)))
  }
  return attempts
}

async function settled(store: Store, id: string, result: SwapResult | 'threw'): Promise<Attempt> {
  if (result === 'threw') return { id, outcome: 'threw' }
  if (result.outcome !== 'unknown') return { id, ...result }
  return { id, outcome: 'unknown', settled: idsOf(await readThrough(store)).includes(id) }
}

/** The version under which it is held, as a careful caller finds out. */
async function tryToHold(store: Store, expected: number, text: string): Promise<number | undefined> {
  const result = await swapOrThrow(store, expected, text)
  if (result === 'threw' || result.outcome === 'lost') return undefined
  if (result.outcome === 'won') return result.version
  const record = await readThrough(store)
  return record?.text === text ? record.version : undefined
}

/** The history that the newest record tells against what each client was told. */
async function consistent(world: FirstThree, attempts: readonly Attempt[]): Promise<void> {
  const newest = await freshest(world)
  const there = idsOf(newest)
  assert.equal(new Set(there).size, there.length, 'nothing is there twice')
  for (const { id, outcome, settled } of attempts) {
    const is = there.includes(id)
    if (outcome === 'won') assert.ok(is, `${id} won and is not there`)
    if (outcome === 'lost' || outcome === 'threw') assert.ok(!is, `${id} ${outcome} and is there`)
    if (outcome === 'unknown') assert.equal(is, settled, `${id} was in doubt, and a read settled it wrongly`)
  }
  const versions = attempts.flatMap(({ version }) => version ?? [])
  assert.equal(new Set(versions).size, versions.length, 'two won one version')
  assert.ok(
    versions.every(version => version <= (newest?.version ?? 0)),
    'a winner is newer than the newest',
  )
  const order = attempts.filter(a => a.version !== undefined).sort((a, b) => (a.version ?? 0) - (b.version ?? 0))
  assert.deepEqual(
    order.map(({ id }) => id),
    there.filter(id => order.some(attempt => attempt.id === id)),
    'versions grow in the order of history',
  )
}

/** The newest record, past every cache. */
async function freshest({ stores: [store] }: FirstThree): Promise<Versioned | undefined> {
  return await store.watch(KEY, -1, AbortSignal.timeout(1000))
}

function idsOf(record: Versioned | undefined): string[] {
  return record === undefined || record.text === '' ? [] : record.text.split('\n')
}

/** Reads until it works: a failure is no answer. */
async function readThrough(store: Store): Promise<Versioned | undefined> {
  for (;;) {
    try {
      return await store.read(KEY)
    } catch (error) {
      assert.ok(error instanceof StoreError, `a store throws StoreError only, not ${error}`)
    }
  }
}

async function swapOrThrow(store: Store, expected: number, text: string): Promise<SwapResult | 'threw'> {
  try {
    return await store.swap(KEY, expected, text)
  } catch (error) {
    assert.ok(error instanceof StoreError, `a store throws StoreError only, not ${error}`)
    return 'threw'
  }
}

function won(result: SwapResult | undefined): number {
  assert.equal(result?.outcome, 'won', JSON.stringify(result))
  return result.version
}

/** A world in which a law need not ask whether there are three clients. */
type FirstThree = World & { readonly stores: readonly [Store, Store, Store, ...Store[]] }

function once(name: string, run: (world: FirstThree) => Promise<void>): Law {
  return { name, check: make => inWorld(make, 1, run) }
}

function property(name: string, run: (world: FirstThree) => Promise<void>): Law {
  const check = (make: MakeWorld, { runs: numRuns, ...seed }: Luck) =>
    fc.assert(
      fc.asyncProperty(fc.nat(), seed => inWorld(make, seed, run)),
      { numRuns, ...seed, endOnFailure: true },
    )
  return { name, check }
}

async function inWorld(make: MakeWorld, seed: number, run: (world: FirstThree) => Promise<void>): Promise<void> {
  const world = await make(seed)
  try {
    const [first, second, third, ...more] = world.stores
    assert.ok(first && second && third, 'a world has three clients')
    await run({ ...world, stores: [first, second, third, ...more] })
  } finally {
    await world.close?.()
  }
}
