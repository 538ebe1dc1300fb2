/** Claims: one operator at a time on a domain, its name and its disks, whatever the store and the holders do. */
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { parse, stringify } from 'yaml'
import {
  type Acquired,
  type Claim,
  ClaimLostError,
  type ClaimRecord,
  Claims,
  ownerText,
} from '../../src/store/claims.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { type Owner, thisProcess } from '../../src/store/owner.ts'
import { type Store, StoreError, type SwapResult } from '../../src/store/store.ts'
import { type disk, FakeClock, identity, OTHER_UUID, stranger, UUID } from './parts.ts'

const TTL_MS = 120
const KEY = `claims/uuid/${UUID}`

function claimsOf(store: Store, us: Owner = stranger('ann'), clock = new FakeClock(), ttlMs = TTL_MS): Claims {
  return new Claims(store, clock, us, ttlMs)
}

const wanted = (name = 'web', uuid = UUID, ...paths: readonly string[]) => ({
  identity: identity(name, uuid, ...paths),
  verb: 'havirt domain start web',
})

function taken(acquired: Acquired): Claim {
  if ('heldBy' in acquired) throw new Error(`held by ${ownerText(acquired.heldBy)}`)
  return acquired.claim
}

function refused(acquired: Acquired): ClaimRecord {
  if ('claim' in acquired) throw new Error('expected a refusal, and got the claim')
  return acquired.heldBy
}

async function stored(store: Store, key = KEY): Promise<ClaimRecord> {
  return parse((await store.read(key))?.text ?? '')
}

/** An owner of this very machine that ended long ago: no process has its start time. */
async function deadOwner(): Promise<Owner> {
  return { ...(await thisProcess()), startTime: '1' }
}

/** A store whose answers a test may turn into others. */
class TamperedStore implements Store {
  readonly inner = new MemoryStore()
  beforeSwap: (key: string, text: string) => Promise<void> | void = () => undefined
  answer: (result: SwapResult, key: string) => SwapResult = result => result
  read = (key: string) => this.inner.read(key)
  list = (prefix: string) => this.inner.list(prefix)
  watch = (key: string, known: number, signal: AbortSignal) => this.inner.watch(key, known, signal)
  async swap(key: string, expected: number, text: string): Promise<SwapResult> {
    await this.beforeSwap(key, text)
    return this.answer(await this.inner.swap(key, expected, text), key)
  }
}

describe('taking and releasing', () => {
  test('each new holder raises the generation by one', async () => {
    const store = new MemoryStore()
    for (const [at, user] of ['ann', 'bob', 'ann'].entries()) {
      const claim = taken(await claimsOf(store, stranger(user)).acquire(wanted()))
      expect(claim.record).toMatchObject({ generation: at + 1, state: 'held', domain: 'web', uuid: UUID, doubts: [] })
      await claim.release()
      expect(await stored(store)).toMatchObject({ generation: at + 1, state: 'released' })
    }
  })

  test('a held claim refuses with the record of its holder', async () => {
    const store = new MemoryStore()
    const request = { ...wanted(), node: 'node1', verb: 'havirt domain stop web' }
    taken(await claimsOf(store, stranger('ann')).acquire(request))
    const holder = refused(await claimsOf(store, stranger('bob')).acquire(wanted()))
    expect(holder).toMatchObject({ verb: 'havirt domain stop web', since: '2026-01-02T03:04:05.000Z', generation: 1 })
    expect(ownerText(holder)).toBe('ann@node1 (pid 4711)')
    expect(ownerText({ ...holder, node: undefined } as unknown as ClaimRecord)).toBe('ann@far (pid 4711)')
  })

  test('two commands of one living process exclude each other, too', async () => {
    const claims = claimsOf(new MemoryStore(), await thisProcess())
    taken(await claims.acquire(wanted()))
    expect(refused(await claims.acquire(wanted())).generation).toBe(1)
  })

  test('an owner that died on this machine is succeeded at once, and what it left in doubt stays', async () => {
    const store = new MemoryStore()
    const dead = taken(await claimsOf(store, await deadOwner()).acquire(wanted()))
    await dead.about('node2', 'virsh create')
    const claim = taken(await claimsOf(store, await thisProcess()).acquire(wanted()))
    expect(claim.record.generation).toBe(2)
    expect(claim.record.doubts).toMatchObject([{ node: 'node2', generation: 1, command: 'virsh create' }])
  })

  test.each([
    ['another boot', { bootId: 'earlier' }],
    ['another pid namespace', { pidNamespace: 'pid:[1]' }],
  ])('an owner of %s may live: it is not succeeded', async (_name, differs) => {
    const store = new MemoryStore()
    taken(await claimsOf(store, { ...(await deadOwner()), ...differs }).acquire(wanted()))
    refused(await claimsOf(store, await thisProcess()).acquire(wanted()))
  })

  test('the list shows what is held and what left a doubt, and nothing else', async () => {
    const store = new MemoryStore()
    const claims = claimsOf(store)
    taken(await claims.acquire(wanted('held', UUID)))
    const uuids = ['aaaaaaaa-2222-4333-8444-555555555555', 'bbbbbbbb-2222-4333-8444-555555555555'] as const
    const doubtful = taken(await claims.acquire(wanted('doubtful', uuids[0])))
    await doubtful.about('node1', 'virsh create')
    await doubtful.release()
    await taken(await claims.acquire(wanted('done', uuids[1]))).release()
    expect((await claims.list()).map(({ domain }) => domain).sort()).toEqual(['doubtful', 'held'])
  })
})

describe('name, uuid and disks', () => {
  test.each([
    ['the uuid under another name', wanted('web', UUID), wanted('web2', UUID)],
    ['the name under another uuid', wanted('web', UUID), wanted('web', OTHER_UUID)],
    ['a disk', wanted('web', UUID, '/d/a', '/d/b'), wanted('db', OTHER_UUID, '/d/b')],
    ['a disk spelled in another way', wanted('web', UUID, '/d//a'), wanted('db', OTHER_UUID, '/d/./a')],
  ])('%s excludes while it is held, and no longer', async (_name, first, second) => {
    const store = new MemoryStore()
    const claim = taken(await claimsOf(store, stranger('ann')).acquire(first))
    const others = claimsOf(store, stranger('bob'))
    expect(refused(await others.acquire(second)).owner.user).toBe('ann')
    await claim.release()
    taken(await others.acquire(second))
    expect(refused(await claimsOf(store, stranger('ann')).acquire(first)).owner.user).toBe('bob')
  })

  test('domains that share nothing do not hinder each other', async () => {
    const claims = claimsOf(new MemoryStore())
    taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    taken(await claims.acquire(wanted('db', OTHER_UUID, '/d/b')))
  })

  test('who does not get a disk leaves nothing held', async () => {
    const store = new MemoryStore()
    taken(await claimsOf(store, stranger('ann')).acquire(wanted('web', UUID, '/d/b')))
    const others = claimsOf(store, stranger('bob'))
    refused(await others.acquire(wanted('db', OTHER_UUID, '/d/a', '/d/b')))
    expect((await others.list()).map(({ domain }) => domain)).toEqual(['web'])
    taken(await others.acquire(wanted('third', 'cccccccc-2222-4333-8444-555555555555', '/d/a')))
  })

  test('a released claim with a command in doubt keeps its disks from other domains, and not from its own', async () => {
    const store = new MemoryStore()
    const claims = claimsOf(store)
    const claim = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    await claim.release()
    expect(refused(await claims.acquire(wanted('db', OTHER_UUID, '/d/a'))).domain).toBe('web')
    const again = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    again.settled('node1')
    await again.release()
    taken(await claims.acquire(wanted('db', OTHER_UUID, '/d/a')))
  })

  test('a doubt keeps the disks of its command from other domains, whatever disks the next holder of its claim has', async () => {
    const store = new MemoryStore()
    const claims = claimsOf(store)
    const claim = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    await claim.release()
    await taken(await claims.acquire(wanted('web', UUID, '/d/other'))).release()
    expect(refused(await claims.acquire(wanted('db', OTHER_UUID, '/d/a'))).domain).toBe('web')
  })

  test('a name and a disk that no key can hold are taken under other spellings', async () => {
    const store = new MemoryStore()
    const odd = wanted('..größe/ .x', UUID, `/d/${'x'.repeat(4000)}`)
    taken(await claimsOf(store, stranger('ann')).acquire(odd))
    refused(await claimsOf(store, stranger('bob')).acquire({ ...odd, identity: { ...odd.identity, uuid: OTHER_UUID } }))
  })
})

describe('taking over', () => {
  test('a claim that stood still for its time to live is taken over, with its doubts', async () => {
    const store = new MemoryStore()
    const holder = taken(await claimsOf(store, stranger('ann')).acquire(wanted()))
    await holder.about('node1', 'virsh create')
    const startedMs = performance.now()
    const waiting = vi.fn()
    const claim = taken(await claimsOf(store, stranger('bob')).takeOver(wanted(), waiting))
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(TTL_MS - 5)
    expect(waiting).toHaveBeenCalledWith(1)
    expect(claim.record).toMatchObject({ generation: 2, doubts: [{ node: 'node1', generation: 1 }] })
  })

  test('it waits for the time to live that the holder wrote down, not for our own', async () => {
    const store = new MemoryStore()
    taken(await claimsOf(store, stranger('ann'), new FakeClock(), 250).acquire(wanted()))
    const startedMs = performance.now()
    taken(await claimsOf(store, stranger('bob'), new FakeClock(), 1).takeOver(wanted(), () => undefined))
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(245)
  })

  test('a renewal in between keeps the holder', async () => {
    const store = new MemoryStore()
    const holder = taken(await claimsOf(store, stranger('ann')).acquire(wanted()))
    const over = claimsOf(store, stranger('bob')).takeOver(wanted(), () => undefined)
    await delay(TTL_MS / 2)
    await holder.about('node1', 'virsh suspend')
    expect(refused(await over).owner.user).toBe('ann')
    await holder.release()
  })

  test('a holder that keeps its claim alive in the background keeps it', async () => {
    const store = new MemoryStore()
    const holder = taken(await claimsOf(store, stranger('ann')).acquire(wanted()))
    const lost = vi.fn()
    holder.keepAlive(lost)
    refused(await claimsOf(store, stranger('bob')).takeOver(wanted(), () => undefined))
    await holder.release()
    const { beat } = await stored(store)
    await delay(TTL_MS)
    expect((await stored(store)).beat).toBe(beat)
    expect(lost).not.toHaveBeenCalled()
  })

  test('a free claim, and one whose holder died here, is not waited for', async () => {
    const store = new MemoryStore()
    const waiting = vi.fn()
    const us = await thisProcess()
    await taken(await claimsOf(store, us).takeOver(wanted(), waiting)).release()
    taken(await claimsOf(store, await deadOwner()).acquire(wanted()))
    expect(taken(await claimsOf(store, us).takeOver(wanted(), waiting)).record.generation).toBe(3)
    expect(waiting).not.toHaveBeenCalled()
  })

  test('of several who take over at once, one gets it', async () => {
    const store = new MemoryStore()
    taken(await claimsOf(store, stranger('ann')).acquire(wanted()))
    const over = ['bob', 'cid', 'dot'].map(user => claimsOf(store, stranger(user)).takeOver(wanted(), () => undefined))
    const winners = (await Promise.all(over)).filter(acquired => 'claim' in acquired)
    expect(winners).toHaveLength(1)
  })

  test('a displaced holder starts nothing more, releases nothing, and is told once', async () => {
    const store = new MemoryStore()
    const displaced = taken(await claimsOf(store, stranger('ann')).acquire(wanted()))
    taken(await claimsOf(store, stranger('bob')).takeOver(wanted(), () => undefined))
    const before = await store.read(KEY)
    await expect(displaced.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    await expect(displaced.about('node1', 'virsh create')).rejects.toThrow('taken over by bob@far (pid 4711)')
    await expect(displaced.release()).rejects.toThrow(ClaimLostError)
    const lost = vi.fn()
    displaced.keepAlive(lost)
    await delay(TTL_MS)
    expect(lost.mock.calls.map(([error]) => error)).toEqual([expect.any(ClaimLostError)])
    expect(await store.read(KEY)).toEqual(before)
  })
})

describe('a claim that is held', () => {
  test('what is about to be sent is written down first, and goes when its end was seen', async () => {
    const store = new MemoryStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    await claim.about('node1', 'virsh shutdown')
    await claim.about('node2', 'virsh create')
    expect((await stored(store)).doubts.map(({ node }) => node)).toEqual(['node1', 'node2'])
    claim.settled('node1')
    expect(claim.record.doubts.map(({ node }) => node)).toEqual(['node2'])
    await claim.release()
    expect((await stored(store)).doubts.map(({ node }) => node)).toEqual(['node2'])
  })

  test('what is settled while a renewal is under way stays settled', async () => {
    const store = new TamperedStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    await claim.about('node1', 'virsh shutdown')
    store.beforeSwap = async () => {
      await Promise.resolve()
      claim.settled('node1')
    }
    await claim.about('node2', 'virsh create')
    expect(claim.record.doubts.map(({ node }) => node)).toEqual(['node2'])
    await claim.release()
    expect((await stored(store)).doubts.map(({ node }) => node)).toEqual(['node2'])
  })

  test('renewals, steps and the release take turns', async () => {
    const store = new MemoryStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    const steps = Array.from({ length: 10 }, (_, at) => claim.about(`node${at}`, 'virsh'))
    await Promise.all([...steps, claim.release()])
    expect(await stored(store)).toMatchObject({ state: 'released', beat: 11 })
    expect((await stored(store)).doubts).toHaveLength(10)
  })

  test('once released, nothing can be sent under it', async () => {
    const store = new MemoryStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    await claim.release()
    const before = await store.read(KEY)
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    await expect(claim.release()).rejects.toThrow(ClaimLostError)
    expect(await store.read(KEY)).toEqual(before)
  })

  test('a store that answers only after half of the time to live makes the step refuse', async () => {
    const store = new TamperedStore()
    const clock = new FakeClock()
    const claim = taken(await claimsOf(store, stranger('ann'), clock).acquire(wanted()))
    store.beforeSwap = () => {
      clock.ms += TTL_MS / 2
    }
    await claim.about('node1', 'virsh create')
    store.beforeSwap = () => {
      clock.ms += TTL_MS / 2 + 1
    }
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
  })
})

describe('a store that does not know', () => {
  const unknown: SwapResult = { outcome: 'unknown', reason: 'EIO' }

  test('a swap that held after all is found by reading, and the claim goes on', async () => {
    const store = new TamperedStore()
    store.answer = () => unknown
    const claim = taken(await claimsOf(store).acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    store.answer = result => result
    claim.settled('node1')
    await claim.release()
    expect(await stored(store)).toMatchObject({ state: 'released', generation: 1, beat: 2, doubts: [] })
  })

  test('a swap that did not hold is none: no claim, and no step', async () => {
    const store = new TamperedStore()
    const inner = store.inner
    const claim = taken(await claimsOf(store).acquire(wanted()))
    store.swap = async () => unknown
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    await expect(claimsOf(store).acquire(wanted('db', OTHER_UUID))).rejects.toThrow(StoreError)
    expect(await inner.read(`claims/uuid/${OTHER_UUID}`)).toBeUndefined()
  })

  test('a swap that held, but was followed by another, is lost', async () => {
    const store = new TamperedStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    store.answer = (result, key) => {
      if (result.outcome !== 'won' || key !== KEY) return result
      const record = { ...claim.record, token: 'another', generation: 2, owner: stranger('bob') }
      void store.inner.swap(KEY, result.version, stringify(record))
      return unknown
    }
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow('taken over by bob')
  })

  test('a store that fails while disks are taken leaves no claim behind', async () => {
    const store = new TamperedStore()
    store.beforeSwap = key => {
      if (key.startsWith('claims/disk/')) throw new StoreError('disk full', 'free some')
    }
    await expect(claimsOf(store).acquire(wanted('web', UUID, '/d/a'))).rejects.toThrow('disk full')
    expect((await stored(store)).state).toBe('released')
  })

  test('a step that the store refused was not sent: it leaves no doubt', async () => {
    const store = new TamperedStore()
    const claim = taken(await claimsOf(store).acquire(wanted()))
    store.beforeSwap = () => {
      throw new StoreError('disk full', 'free some')
    }
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(StoreError)
    store.beforeSwap = () => undefined
    await claim.release()
    expect((await stored(store)).doubts).toEqual([])
  })

  test.each(['', 'null\n', '[]\n', '{', 'state: held\n', 'a: *b\n', 'generation: many\n'])(
    'a record that says %j is reported and left alone',
    async text => {
      const store = new MemoryStore()
      await store.swap(KEY, 0, text)
      await expect(claimsOf(store).acquire(wanted())).rejects.toThrow(`the claim var/${KEY} cannot be read`)
      await expect(claimsOf(store).acquire(wanted())).rejects.toThrow(StoreError)
      await store.swap('claims/name/db', 0, text)
      const other = claimsOf(store).acquire(wanted('db', OTHER_UUID))
      await expect(other).rejects.toThrow('the claim var/claims/name/db cannot be read')
      expect(await store.read(KEY)).toEqual({ version: 1, text })
    },
  )
})

/** A store whose answers come in an order that the test chooses. */
class ScheduledStore implements Store {
  readonly inner: Store
  readonly scheduler: fc.Scheduler

  constructor(inner: Store, scheduler: fc.Scheduler) {
    this.inner = inner
    this.scheduler = scheduler
  }

  async read(key: string) {
    await this.scheduler.schedule(Promise.resolve(), `read ${key}`)
    return this.inner.read(key)
  }

  async list(prefix: string) {
    await this.scheduler.schedule(Promise.resolve(), `list ${prefix}`)
    return this.inner.list(prefix)
  }

  async swap(key: string, expected: number, text: string) {
    await this.scheduler.schedule(Promise.resolve(), `swap ${key}`)
    const result = await this.inner.swap(key, expected, text)
    await this.scheduler.schedule(Promise.resolve(), `swapped ${key}`)
    return result
  }

  watch = (key: string, known: number, signal: AbortSignal) => this.inner.watch(key, known, signal)
}

test('whatever the order, no two hold a domain, a name or a disk at once, and generations only grow', async () => {
  const domains = [
    identity('web', UUID, '/d/a'),
    identity('web2', UUID, '/d/b'),
    identity('db', OTHER_UUID, '/d/a', '/d/b'),
    identity('web', 'cccccccc-2222-4333-8444-555555555555', '/d/c'),
  ]
  const excludes = (a: (typeof domains)[number], b: (typeof domains)[number]) =>
    a.uuid === b.uuid || a.name === b.name || a.disks.some(one => b.disks.some(other => same(one, other)))
  const same = (a: ReturnType<typeof disk>, b: ReturnType<typeof disk>) =>
    JSON.stringify(a.source) === JSON.stringify(b.source)
  let holdings = 0
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.record({ who: fc.nat(3), domain: fc.nat(domains.length - 1), steps: fc.nat(2) }), {
        minLength: 2,
        maxLength: 8,
      }),
      async (scheduler, contenders) => {
        const inner = new MemoryStore()
        const holding = new Set<(typeof domains)[number]>()
        const generations = new Map<string, number[]>()
        const contend = async ({ who, domain, steps }: (typeof contenders)[number]) => {
          const wants = { ...(domains[domain] ?? identity('web')) }
          const store = new ScheduledStore(inner, scheduler)
          const acquired = await claimsOf(store, stranger(`user${who}`)).acquire({ identity: wants, verb: 'test' })
          if ('heldBy' in acquired) return
          for (const other of holding) expect(excludes(wants, other), `${wants.name} beside ${other.name}`).toBe(false)
          holding.add(wants)
          holdings++
          const seen = generations.get(wants.uuid) ?? []
          expect(acquired.claim.record.generation).toBeGreaterThan(seen.at(-1) ?? 0)
          generations.set(wants.uuid, [...seen, acquired.claim.record.generation])
          for (let at = 0; at < steps; at++) await acquired.claim.about('node1', `step ${at}`)
          acquired.claim.settled('node1')
          holding.delete(wants)
          await acquired.claim.release()
        }
        const all = Promise.all(contenders.map(contend))
        await scheduler.waitFor(all)
      },
    ),
    { numRuns: 150, seed: 20261121 },
  )
  expect(holdings).toBeGreaterThan(150)
})
