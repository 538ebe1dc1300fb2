/** Claims: one operator at a time on a domain, its name and its disks, whatever the store, the clocks and the holders do. */
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { step } from '../../src/core/step.ts'
import { type Claim, ClaimLostError } from '../../src/store/claim.ts'
import { ownerText } from '../../src/store/claim-record.ts'
import { Claims, type Patience } from '../../src/store/claims.ts'
import type { Clock } from '../../src/store/clock.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { isDead, type Owner, thisProcess } from '../../src/store/owner.ts'
import { type Store, StoreError } from '../../src/store/store.ts'
import { BEAT_MS, claimKey, RoughStore, refused, stored, TTL_MS, taken, wanted } from './claim-parts.ts'
import { aClock, type FakeClock, OTHER_UUID, stranger, UUID } from './parts.ts'

const HOUR_MS = 3_600_000
const KEY = claimKey(UUID)
const THIRD_UUID = 'cccccccc-2222-4333-8444-555555555555'

interface Hosts<S extends Store> {
  readonly store: S
  readonly time: FakeClock
  /** What this user, on a machine of their own unless an owner is given, works with. */
  of(user: string | Owner, clock?: Clock, ttlMs?: number): Claims
}

/** Users of one store, in one time. */
function hosts(): Hosts<MemoryStore>
function hosts<S extends Store>(store: S): Hosts<S>
function hosts(store: Store = new MemoryStore()): Hosts<Store> {
  const time = aClock()
  const owners = new Map<string, Owner>()
  const ownerOf = (user: string) => owners.get(user) ?? stranger(user)
  return {
    store,
    time,
    of(user, clock = time, ttlMs = TTL_MS) {
      const owner = typeof user === 'string' ? ownerOf(user) : user
      owners.set(owner.user, owner)
      // What the processes of this machine do is nothing to strangers, not even to one and the same.
      return new Claims(store, clock, owner, ttlMs, typeof user === 'string' ? async () => false : isDead)
    },
  }
}

/** The claim of a holder who renews it until the test ends. */
async function living(claims: Claims, request = wanted()): Promise<Claim> {
  const claim = taken(await claims.acquire(request))
  void claim.keepAlive()
  return claim
}

/** A clock whose host can be stopped for good, or for a while: nobody there wakes up meanwhile. */
function mortal(time: FakeClock): Clock & { freeze(): void; thaw(): void } {
  let frozen = Promise.resolve()
  let thaw = () => {}
  return {
    now: time.now,
    monotonicMs: time.monotonicMs,
    sleep: (ms, signal) => time.sleep(ms, signal).then(() => frozen),
    freeze() {
      frozen = new Promise(resolve => {
        thaw = resolve
      })
    },
    thaw: () => thaw(),
  }
}

/** Waits so long, and says for whom and how long it was told to wait. */
function patience(waitMs: number): Patience & { readonly told: [string, number][] } {
  const told: [string, number][] = []
  return { waitMs, told, waiting: (holder, seconds) => void told.push([holder.owner.user, seconds]) }
}

/** A claim's record takes so long to be written. */
function swapTakes(time: FakeClock, ms: number): RoughStore['before'] {
  return (operation, key) => {
    if (operation === 'swap' && key === KEY) time.ms += ms
  }
}

/** An owner of this very machine that ended long ago: no process has its start time. */
async function deadOwner(): Promise<Owner> {
  return { ...(await thisProcess()), startTime: '1' }
}

/** Nothing more can be done with it, and trying changes nothing. */
async function isDisplaced(claim: Claim, store: Store, key = KEY): Promise<void> {
  const before = await store.read(key)
  await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
  await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
  void claim.keepAlive()
  await expect(claim.lost).rejects.toThrow(ClaimLostError)
  await expect(claim.release()).rejects.toThrow(ClaimLostError)
  expect(await store.read(key)).toEqual(before)
}

describe('taking and releasing', () => {
  test('each new holder raises the generation by one', async () => {
    const { store, of } = hosts()
    for (const [at, user] of ['ann', 'bob', 'ann'].entries()) {
      const claim = taken(await of(user).acquire(wanted()))
      expect(claim.record).toMatchObject({ generation: at + 1, state: 'held', domain: 'web', uuid: UUID, doubts: [] })
      expect(claim.takenFrom).toBeUndefined()
      expect(await stored(store)).toEqual(claim.record)
      await claim.release()
      expect(await stored(store)).toMatchObject({ generation: at + 1, state: 'released' })
    }
  })

  test('no two holdings have the same token, though one process has both', async () => {
    const claims = hosts().of('ann')
    const first = taken(await claims.acquire(wanted()))
    await first.release()
    expect(taken(await claims.acquire(wanted())).record.token).not.toBe(first.record.token)
  })

  test('a held claim refuses with the record of its holder', async () => {
    const { of } = hosts()
    await living(of('ann'), { ...wanted(), node: 'node1', verb: 'havirt domain stop web' })
    const holder = refused(await of('bob').acquire(wanted()))
    expect(holder).toMatchObject({
      verb: 'havirt domain stop web',
      since: '2026-01-02T03:04:05.000Z',
      generation: 1,
      ttlMs: TTL_MS,
    })
    expect(ownerText(holder)).toBe('ann@node1 (pid 4711)')
    const { node: _, ...elsewhere } = holder
    expect(ownerText(elsewhere)).toBe('ann@far (pid 4711)')
  })

  test('two commands of one living process exclude each other, too', async () => {
    const claims = hosts().of(await thisProcess())
    await living(claims)
    expect(refused(await claims.acquire(wanted())).generation).toBe(1)
  })

  test('an owner that died on this machine is succeeded at once, and what it left in doubt stays', async () => {
    const { time, of } = hosts()
    const dead = taken(await of(await deadOwner()).acquire(wanted()))
    await dead.about('node2', 'virsh create')
    const claim = taken(await of(await thisProcess()).acquire(wanted()))
    expect(time.ms).toBe(0)
    expect(claim.record.generation).toBe(2)
    expect(claim.record.doubts).toMatchObject([{ node: 'node2', generation: 1, command: 'virsh create' }])
    expect(claim.takenFrom).toMatchObject({ token: dead.record.token, state: 'held' })
  })

  test.each([
    ['another boot', { bootId: 'earlier' }],
    ['another pid namespace', { pidNamespace: 'pid:[1]' }],
  ])('an owner of %s may live: it is outwaited, not succeeded', async (_name, differs) => {
    const { time, of } = hosts()
    taken(await of({ ...(await deadOwner()), ...differs }).acquire(wanted()))
    taken(await of(await thisProcess()).acquire(wanted()))
    expect(time.ms).toBe(TTL_MS)
  })

  test('the list shows what is held and what left a doubt, and nothing else', async () => {
    const { of } = hosts()
    const claims = of('ann')
    taken(await claims.acquire(wanted('held', UUID)))
    const doubtful = taken(await claims.acquire(wanted('doubtful', OTHER_UUID)))
    await doubtful.about('node1', 'virsh create')
    await doubtful.release()
    await taken(await claims.acquire(wanted('done', THIRD_UUID))).release()
    expect((await claims.list()).map(({ domain }) => domain).sort()).toEqual(['doubtful', 'held'])
  })

  test('who was overtaken by one that has ended since takes the claim instead of refusing for nobody', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    let overtaken = false
    store.before = async (operation, key) => {
      if (overtaken || operation !== 'swap' || key !== KEY) return
      overtaken = true
      await taken(await of('bob').acquire(wanted())).release()
    }
    expect(taken(await of('ann').acquire(wanted())).record).toMatchObject({ generation: 2, owner: { user: 'ann' } })
  })
})

describe('a holder who lives', () => {
  test('refuses after one sign of life', async () => {
    const { time, of } = hosts()
    await living(of('ann'))
    expect(refused(await of('bob').acquire(wanted())).owner.user).toBe('ann')
    expect(time.ms).toBe(BEAT_MS)
  })

  test('a step is a sign of life, too', async () => {
    const { time, of } = hosts()
    const holder = taken(await of('ann').acquire(wanted()))
    const asked = of('bob').acquire(wanted())
    await time.sleep(TTL_MS - 1)
    await holder.about('node1', 'virsh suspend')
    expect(refused(await asked)).toMatchObject({ owner: { user: 'ann' }, doubts: [{ node: 'node1' }] })
    expect(time.ms).toBe(TTL_MS - 1)
  })

  test('is waited for with patience, and the claim is taken when he lets go', async () => {
    const { time, of } = hosts()
    const holder = await living(of('ann'))
    const waits = patience(120_000)
    const asked = of('bob').acquire(wanted(), waits)
    await time.sleep(61_000)
    await holder.release()
    const claim = taken(await asked)
    expect(time.ms).toBe(61_000)
    expect(claim.record).toMatchObject({ generation: 2, owner: { user: 'bob' } })
    expect(claim.takenFrom).toBeUndefined()
    expect(waits.told[0]).toEqual(['ann', TTL_MS / 1000])
    expect(new Set(waits.told.map(([user]) => user))).toEqual(new Set(['ann']))
  })

  test('outlives patience: the next sign of life after it refuses', async () => {
    const { time, of } = hosts()
    await living(of('ann'))
    expect(refused(await of('bob').acquire(wanted(), patience(BEAT_MS * 2 + 1))).owner.user).toBe('ann')
    expect(time.ms).toBe(BEAT_MS * 3)
  })

  test('who comes after another is waited for in his turn, within the same patience', async () => {
    const { time, of } = hosts()
    const holder = await living(of('ann'))
    const asked = of('bob').acquire(wanted(), patience(60_000))
    await time.sleep(20_000)
    await holder.release()
    const second = await living(of('cid'))
    expect(refused(await asked).owner.user).toBe('cid')
    expect(time.ms).toBeGreaterThanOrEqual(60_000)
    expect(time.ms).toBeLessThan(60_000 + 2 * BEAT_MS)
    await second.release()
  })

  test('and dies while somebody waits is taken over a time to live after his last sign of life', async () => {
    const { time, of } = hosts()
    const host = mortal(time)
    const holder = await living(of('ann', host))
    const asked = of('bob').acquire(wanted(), patience(600_000))
    await time.sleep(22_000)
    host.freeze()
    const claim = taken(await asked)
    expect(time.ms).toBe(20_000 + TTL_MS)
    expect(claim.takenFrom).toMatchObject({ token: holder.record.token, beat: 4 })
  })

  test('renews a sixth of his time to live apart, and no more once he let go', async () => {
    const { store, time, of } = hosts()
    const holder = await living(of('ann'))
    await time.sleep(TTL_MS + 1)
    expect((await stored(store)).beat).toBe(6)
    await holder.release()
    const { beat } = await stored(store)
    await time.sleep(TTL_MS)
    expect((await stored(store)).beat).toBe(beat)
    expect(await Promise.race([holder.lost, 'kept'])).toBe('kept')
  })
})

describe('a holder who died on another machine', () => {
  test('is taken over once he stood still for the time to live that he wrote down, with what he left in doubt', async () => {
    const { time, of } = hosts()
    const holder = taken(await of('ann', time, 45_000).acquire(wanted()))
    await holder.about('node1', 'virsh create')
    const waits = patience(0)
    await time.sleep(7_000)
    const claim = taken(await of('bob', time, 1_000).acquire(wanted(), waits))
    expect(time.ms).toBe(7_000 + 45_000)
    expect(claim.record).toMatchObject({ generation: 2, ttlMs: 1_000, state: 'held', beat: 0 })
    expect(claim.record.doubts).toMatchObject([{ node: 'node1', generation: 1, command: 'virsh create' }])
    expect(claim.takenFrom).toEqual(holder.record)
    expect(waits.told).toEqual(Array.from({ length: 45 }, (_, at) => ['ann', 45 - at]))
  })

  test.each([-HOUR_MS, HOUR_MS])('a wall clock that is %i ms off, and another boot, change nothing', async offMs => {
    const { time, of } = hosts()
    const [annsClock, bobsClock] = [time.ofHost(offMs, 5_000_000), time.ofHost(0, 77)]
    const alive = await living(of('ann', annsClock))
    refused(await of('bob', bobsClock).acquire(wanted()))
    expect(time.ms).toBe(BEAT_MS)
    await alive.release()
    taken(await of('ann', annsClock).acquire(wanted()))
    taken(await of('bob', bobsClock).acquire(wanted()))
    expect(time.ms).toBe(BEAT_MS + TTL_MS)
    taken(await of('ann', annsClock).acquire(wanted()))
    expect(time.ms).toBe(BEAT_MS + 2 * TTL_MS)
  })

  test('and wakes up after another took the claim loses every swap, and never believes that he won', async () => {
    const { store, time, of } = hosts()
    const host = mortal(time)
    const asleep = await living(of('ann', host))
    await time.sleep(BEAT_MS + 1)
    host.freeze()
    const successor = await of('bob').acquire(wanted()).then(taken)
    await successor.about('node2', 'virsh create')
    host.thaw()
    await expect(asleep.lost).rejects.toThrow('the claim on web was taken over by bob@far (pid 4711)')
    await isDisplaced(asleep, store)
    await successor.about('node2', 'virsh create')
    expect((await stored(store)).owner.user).toBe('bob')
  })

  test.each([0, 1, 2])('and wakes up when he was buried after %i beats and nobody came loses, too', async beats => {
    const { store, time, of } = hosts()
    const asleep = taken(await of('ann').acquire(wanted()))
    for (let beat = 0; beat < beats; beat++) await asleep.about(`node${beat}`, 'virsh suspend')
    expect(await of('bob').isAlive(UUID, asleep.record.token)).toBe(false)
    expect(time.ms).toBe(TTL_MS)
    expect(await stored(store)).toMatchObject({ state: 'released', generation: 1, doubts: asleep.record.doubts })
    await isDisplaced(asleep, store)
  })

  test.each(['done', 'not done'] as const)(
    'and wakes up to a store that does not know (%s) does not take his burial or his successor for himself',
    async fate => {
      const store = new RoughStore()
      const { of } = hosts(store)
      const asleep = taken(await of('ann').acquire(wanted()))
      const other = taken(await of('ann').acquire(wanted('db', OTHER_UUID)))
      expect(await of('bob').isAlive(UUID, asleep.record.token)).toBe(false)
      await taken(await of('bob').acquire(wanted('db', OTHER_UUID))).about('node1', 'virsh create')
      store.fate = () => fate
      await isDisplaced(asleep, store)
      await isDisplaced(other, store, claimKey(OTHER_UUID))
    },
  )

  test('a watcher frozen for an hour while it watches does not bury a holder who lived all the time', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const host = mortal(time)
    const bobs = of('bob', host)
    const holder = await living(of('ann'))
    store.deaf = true
    const asked = bobs.acquire(wanted())
    await time.sleep(1_500)
    host.freeze()
    await time.sleep(HOUR_MS)
    store.deaf = false
    host.thaw()
    expect(refused(await asked).owner.user).toBe('ann')
    await holder.about('node1', 'virsh suspend')
    expect((await stored(store)).generation).toBe(1)
  })

  test('several who watch a dead claim: exactly one gets it, and knows whose it was; the others are refused', async () => {
    for (const users of [
      ['bob', 'cid'],
      ['bob', 'cid', 'dot', 'eve', 'fay'],
    ]) {
      const { store, time, of } = hosts()
      const dead = taken(await of('ann').acquire(wanted()))
      const asked = users.map(async (user, at) => {
        await time.sleep(at * 10)
        const acquired = await of(user).acquire(wanted())
        if ('claim' in acquired) void acquired.claim.keepAlive()
        return acquired
      })
      const answers = await Promise.all(asked)
      const [winner, ...more] = answers.flatMap(each => ('claim' in each ? [each.claim] : []))
      expect(more).toEqual([])
      expect(winner?.record.generation).toBe(2)
      expect(winner?.takenFrom).toEqual(dead.record)
      const holders = answers.flatMap(each => ('heldBy' in each ? [each.heldBy.token] : []))
      expect(new Set(holders)).toEqual(new Set([winner?.record.token]))
      expect(await stored(store)).toMatchObject({ token: winner?.record.token })
      time.stop()
    }
  })

  test('who takes what another watcher buried knows whose it was, and forgets it with the next holder', async () => {
    const { time, of } = hosts()
    const dead = taken(await of('ann').acquire(wanted()))
    const [bob, cid] = [of('bob'), of('cid')]
    expect(await Promise.all([bob, cid].map(each => each.isAlive(UUID, dead.record.token)))).toEqual([false, false])
    const second = taken(await cid.acquire(wanted()))
    expect(second.takenFrom).toEqual(dead.record)
    expect(time.ms).toBe(TTL_MS)
    await second.release()
    expect(taken(await bob.acquire(wanted())).takenFrom).toBeUndefined()
  })

  test('an old answer of the store is no sign of life: the watch begins with what is true now', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const holder = taken(await of('ann').acquire(wanted()))
    const old = await store.inner.read(KEY)
    await holder.about('node1', 'virsh create')
    store.stale = key => (key === KEY ? old : undefined)
    const asked = of('bob').acquire(wanted())
    await time.sleep(TTL_MS / 2)
    store.stale = () => undefined
    expect(taken(await asked).record).toMatchObject({ generation: 2, doubts: [{ node: 'node1' }] })
    expect(time.ms).toBe(TTL_MS)
  })
})

describe('name, uuid and disks', () => {
  test.each([
    ['the uuid under another name', wanted('web', UUID), wanted('web2', UUID)],
    ['the name under another uuid', wanted('web', UUID), wanted('web', OTHER_UUID)],
    ['a disk', wanted('web', UUID, '/d/a', '/d/b'), wanted('db', OTHER_UUID, '/d/b')],
    ['a disk spelled in another way', wanted('web', UUID, '/d//a'), wanted('db', OTHER_UUID, '/d/./a')],
  ])('%s excludes while it is held, and no longer', async (_name, first, second) => {
    const { time, of } = hosts()
    const claim = await living(of('ann'), first)
    expect(refused(await of('bob').acquire(second)).owner.user).toBe('ann')
    await claim.release()
    const before = time.ms
    await living(of('bob'), second)
    expect(time.ms).toBe(before)
    expect(refused(await of('ann').acquire(first)).owner.user).toBe('bob')
  })

  test('domains that share nothing do not hinder each other', async () => {
    const { time, of } = hosts()
    taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
    taken(await of('ann').acquire(wanted('db', OTHER_UUID, '/d/b')))
    expect(time.ms).toBe(0)
  })

  test('who does not get a disk leaves nothing held', async () => {
    const { of } = hosts()
    await living(of('ann'), wanted('web', UUID, '/d/b'))
    refused(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a', '/d/b')))
    expect((await of('bob').list()).map(({ domain }) => domain)).toEqual(['web'])
    taken(await of('bob').acquire(wanted('third', THIRD_UUID, '/d/a')))
  })

  test('patience waits for the disk of another domain, too, and holds nothing meanwhile', async () => {
    const { time, of } = hosts()
    const holder = await living(of('ann'), wanted('web', UUID, '/d/b'))
    const asked = of('bob').acquire(wanted('db', OTHER_UUID, '/d/a', '/d/b'), patience(60_000))
    await time.sleep(12_000)
    expect((await of('bob').list()).map(({ domain }) => domain)).toEqual(['web'])
    await holder.release()
    expect(taken(await asked).record).toMatchObject({ domain: 'db', state: 'held' })
    expect(time.ms).toBe(12_000)
  })

  test.each([
    ['name', wanted('web', OTHER_UUID)],
    ['disk', wanted('db', OTHER_UUID, '/d/a')],
  ])(
    'the %s of a dead claim of another domain is outwaited, the claim buried, and it is taken',
    async (_what, wants) => {
      const { store, time, of } = hosts()
      const dead = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
      const claim = taken(await of('bob').acquire(wants))
      expect(time.ms).toBe(TTL_MS)
      expect(claim.takenFrom).toBeUndefined()
      expect(await stored(store)).toMatchObject({ state: 'released', generation: 1 })
      await isDisplaced(dead, store)
      await claim.about('node1', 'virsh create')
      void claim.keepAlive()
      expect(refused(await of('ann').acquire(wanted('web', UUID, '/d/a'))).owner.user).toBe('bob')
    },
  )

  test('the disk of a dead claim that left doubts is not given: its record, buried, says why', async () => {
    const { store, time, of } = hosts()
    const dead = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
    await dead.about('node1', 'virsh create')
    const wants = wanted('db', OTHER_UUID, '/d/a')
    expect(refused(await of('bob').acquire(wants, patience(HOUR_MS)))).toMatchObject({
      state: 'released',
      domain: 'web',
      doubts: [{ node: 'node1' }],
    })
    expect(time.ms).toBe(TTL_MS)
    expect((await stored(store, OTHER_UUID)).state).toBe('released')
    await isDisplaced(dead, store)
    const heir = taken(await of('cid').acquire(wanted('web', UUID, '/d/a')))
    heir.settled('node1')
    await heir.release()
    taken(await of('bob').acquire(wants))
  })

  test('a dead owner on this machine keeps its name and disks from others no longer than its doubts', async () => {
    const { time, of } = hosts()
    const us = of(await thisProcess())
    const dead = taken(await of(await deadOwner()).acquire(wanted('web', UUID, '/d/a')))
    await taken(await us.acquire(wanted('db', OTHER_UUID, '/d/a'))).release()
    expect(time.ms).toBe(0)
    await dead.about('node1', 'virsh create')
    expect(refused(await us.acquire(wanted('web', THIRD_UUID)))).toMatchObject({ state: 'released', domain: 'web' })
  })

  test('a released claim with a command in doubt keeps its disks from other domains, and not from its own', async () => {
    const { time, of } = hosts()
    const claims = of('ann')
    const claim = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    await claim.release()
    expect(refused(await claims.acquire(wanted('db', OTHER_UUID, '/d/a')))).toMatchObject({ domain: 'web' })
    const again = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    again.settled('node1')
    await again.release()
    taken(await claims.acquire(wanted('db', OTHER_UUID, '/d/a')))
    expect(time.ms).toBe(0)
  })

  test('a doubt keeps the disks of its command from other domains, whatever disks the next holder of its claim has', async () => {
    const { of } = hosts()
    const claims = of('ann')
    const claim = taken(await claims.acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    await claim.release()
    await taken(await claims.acquire(wanted('web', UUID, '/d/other'))).release()
    expect(refused(await claims.acquire(wanted('db', OTHER_UUID, '/d/a'))).domain).toBe('web')
  })

  test('a disk that its claim no longer covers is free, though that claim is held', async () => {
    const { time, of } = hosts()
    await taken(await of('ann').acquire(wanted('web', UUID, '/d/a'))).release()
    await living(of('ann'), wanted('web', UUID, '/d/other'))
    taken(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a')))
    expect(time.ms).toBe(0)
  })

  test('parked doubts keep nothing from anybody, but are handed on; one that is not parked still does', async () => {
    const { store, of } = hosts()
    const claim = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    await claim.about('node2', 'virsh destroy')
    claim.parked('node1')
    await claim.release()
    expect((await stored(store)).doubts).toMatchObject([{ node: 'node1', parked: true }, { node: 'node2' }])
    expect((await stored(store)).doubts[1]).not.toHaveProperty('parked')
    refused(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a')))
    const heir = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
    heir.parked('node2')
    await heir.release()
    await taken(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a'))).release()
    const back = taken(await of('ann').acquire(wanted('web', UUID)))
    expect(back.record.doubts).toMatchObject([{ node: 'node1', generation: 1 }, { node: 'node2' }])
    expect((await of('bob').list()).map(({ domain }) => domain)).toEqual(['web'])
  })

  test('who is overtaken at a disk by one that has ended since takes it; by one who holds it, is refused', async () => {
    for (const ends of [true, false]) {
      const store = new RoughStore()
      const { of } = hosts(store)
      let overtaken = false
      store.before = async (operation, key) => {
        if (overtaken || operation !== 'swap' || !key.startsWith('claims/disk/')) return
        overtaken = true
        const fast = await living(of('bob'), wanted('db', OTHER_UUID, '/d/a'))
        if (ends) await fast.release()
      }
      const acquired = await of('ann').acquire(wanted('web', UUID, '/d/a'))
      if (ends) expect(taken(acquired).record.owner.user).toBe('ann')
      else expect(refused(acquired).owner.user).toBe('bob')
    }
  })

  test.each(['released', 'held without it'])(
    'a disk whose claim is %s by the time that its holder is watched is not waited for',
    async by => {
      const store = new RoughStore()
      const { time, of } = hosts(store)
      const first = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
      let looks = 0
      store.before = async (operation, key) => {
        // The first look says who has the disk.
        if (operation !== 'watch' || key !== KEY || ++looks !== 2) return
        await first.release()
        if (by !== 'released') await living(of('ann'), wanted('web', UUID, '/d/other'))
      }
      taken(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a')))
      expect(time.ms).toBe(0)
    },
  )

  test('who is overtaken at a disk while it looks at its last holder is refused by the one who holds it now', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    await taken(await of('ann').acquire(wanted('web', UUID, '/d/a'))).release()
    let overtaken = false
    store.before = async (operation, key) => {
      if (overtaken || operation !== 'watch' || key !== KEY) return
      overtaken = true
      await living(of('bob'), wanted('db', OTHER_UUID, '/d/a'))
    }
    expect(refused(await of('cid').acquire(wanted('third', THIRD_UUID, '/d/a'))).owner.user).toBe('bob')
  })

  test.each(['released', 'absent', 'without a doubt'])(
    'a cache that shows the claim of a name and a disk as it was before, %s, gives them to nobody',
    async before => {
      const store = new RoughStore()
      const { of } = hosts(store)
      const wants = wanted('web', UUID, '/d/a')
      if (before === 'released') await taken(await of('ann').acquire(wants)).release()
      let old = await store.inner.read(KEY)
      const holder = await living(of('ann'), wants)
      if (before === 'without a doubt') {
        await holder.release()
        old = await store.inner.read(KEY)
        const again = taken(await of('ann').acquire(wants))
        await again.about('node1', 'virsh create')
        await again.release()
      }
      store.stale = key => (key === KEY ? (old ?? 'absent') : undefined)
      for (const others of [wanted('web', OTHER_UUID), wanted('db', OTHER_UUID, '/d/a')])
        expect(refused(await of('bob').acquire(others)).owner.user).toBe('ann')
    },
  )

  test('mayArrive and isAlive do not believe a cache', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const first = taken(await of('ann').acquire(wanted()))
    const old = await store.inner.read(KEY)
    await first.release()
    const second = await living(of('ann'))
    store.stale = key => (key === KEY ? old : undefined)
    for (const [claim, lives] of [
      [first, false],
      [second, true],
    ] as const) {
      expect(await of('bob').mayArrive(claim.record, 'node1')).toBe(lives)
      expect(await of('bob').isAlive(UUID, claim.record.token)).toBe(lives)
    }
  })

  test('a claim that could not be read in time is not taken for one that is not there', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    await living(of('ann'))
    store.watch = (_key, _known, signal) =>
      new Promise(resolve => signal.addEventListener('abort', () => resolve(undefined)))
    await expect(of('bob').acquire(wanted('web', OTHER_UUID))).rejects.toThrow(StoreError)
    expect((await stored(store, OTHER_UUID)).state).toBe('released')
  })

  test('a pointer to a claim that is not there any more holds nothing', async () => {
    const { store, of } = hosts()
    await store.swap('claims/name/web', 0, JSON.stringify({ claim: claimKey(OTHER_UUID), token: 'gone' }))
    taken(await of('ann').acquire(wanted()))
  })

  test('a name and a disk that no key can hold are taken under other spellings', async () => {
    const { of } = hosts()
    const odd = wanted('..größe/ .x', UUID, `/d/${'x'.repeat(4000)}`)
    await living(of('ann'), odd)
    refused(await of('bob').acquire({ ...odd, identity: { ...odd.identity, uuid: OTHER_UUID } }))
  })
})

describe('asking after a holder', () => {
  test('one that is over is known without a watch, which writes to the share; what an old cache shows is looked at', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const first = taken(await of('ann').acquire(wanted()))
    const old = await store.inner.read(KEY)
    await first.release()
    const second = await living(of('ann'))
    const watch = store.watch.bind(store)
    let watches = 0
    store.watch = (...args) => {
      watches++
      return watch(...args)
    }
    expect(await of('bob').mayArrive(first.record, 'node1')).toBe(false)
    expect(watches).toBe(0)
    store.stale = key => (key === KEY ? old : undefined)
    expect(await of('bob').mayArrive(second.record, 'node1')).toBe(true)
    expect(watches).toBe(1)
  })

  test('mayArrive says whether this very holding goes on', async () => {
    const { of } = hosts()
    const bob = of('bob')
    expect(await bob.mayArrive({ uuid: UUID, token: 'nobody', generation: 1 }, 'node1')).toBe(false)
    const claim = taken(await of('ann').acquire(wanted()))
    const { record } = claim
    expect(await bob.mayArrive(record, 'node1')).toBe(true)
    expect(await bob.mayArrive({ ...record, token: 'another' }, 'node1')).toBe(false)
    expect(await bob.mayArrive({ ...record, uuid: OTHER_UUID }, 'node1')).toBe(false)
    await claim.release()
    expect(await bob.mayArrive(record, 'node1')).toBe(false)
    const dead = taken(await of(await deadOwner()).acquire(wanted()))
    expect(await bob.mayArrive(dead.record, 'node1'), 'nobody there can tell').toBe(true)
    expect(await of(await thisProcess()).mayArrive(dead.record, 'node1')).toBe(false)
  })

  test('a command in doubt keeps room on the node where its domain would arrive, and nowhere else, until it is concluded', async () => {
    const { of } = hosts()
    const claim = taken(await of('ann').acquire(wanted()))
    const step = {
      step: 'createDomain',
      domain: 'web',
      uuid: UUID,
      node: 'node1',
      definition: '<domain/>',
      sha256: '0',
    } as const
    await claim.about('node1', 'virsh create', { step, notBegun: [] })
    await claim.release()
    const bob = of('bob')
    expect(await bob.mayArrive(claim.record, 'node1')).toBe(true)
    expect(await bob.mayArrive(claim.record, 'node2')).toBe(false)
    const next = taken(await bob.acquire(wanted()))
    next.settled('node1')
    next.concluded('node1')
    await next.release()
    expect(await of('carl').mayArrive(claim.record, 'node1')).toBe(false)
  })

  test('isAlive is true at the first sign of life, however much patience there is', async () => {
    const { time, of } = hosts()
    const claim = await living(of('ann'))
    const waits = patience(HOUR_MS)
    expect(await of('bob').isAlive(UUID, claim.record.token, waits)).toBe(true)
    expect(time.ms).toBe(BEAT_MS)
    expect(waits.told[0]).toEqual(['ann', TTL_MS / 1000])
  })

  test('isAlive is false when there is none, when it is released meanwhile, and when it stands still', async () => {
    const { store, time, of } = hosts()
    const bob = of('bob')
    expect(await bob.isAlive(OTHER_UUID, 'nobody')).toBe(false)
    const claim = taken(await of('ann').acquire(wanted()))
    let before = time.ms
    expect(await bob.isAlive(UUID, 'another')).toBe(false)
    expect(time.ms - before).toBe(0)
    const asked = bob.isAlive(UUID, claim.record.token)
    await time.sleep(1_000)
    await claim.release()
    expect(await asked).toBe(false)
    expect(await bob.isAlive(UUID, claim.record.token)).toBe(false)
    expect(time.ms - before).toBe(1_000)
    const still = taken(await of('ann').acquire(wanted()))
    before = time.ms
    expect(await bob.isAlive(UUID, still.record.token)).toBe(false)
    expect(time.ms - before).toBe(TTL_MS)
    expect((await stored(store)).state).toBe('released')
  })

  test('isAlive is false at once for who died on this machine, and when another holds the claim by then', async () => {
    const { time, of } = hosts()
    const dead = taken(await of(await deadOwner()).acquire(wanted()))
    expect(await of(await thisProcess()).isAlive(UUID, dead.record.token)).toBe(false)
    expect(time.ms).toBe(0)
    const store = new RoughStore()
    const others = hosts(store)
    const first = taken(await others.of('ann').acquire(wanted()))
    store.deaf = true
    const asked = others.of('bob').isAlive(UUID, first.record.token)
    await others.time.sleep(1_000)
    await first.release()
    await living(others.of('cid'))
    store.deaf = false
    expect(await asked).toBe(false)
  })

  test('isAlive is false when the first thing it sees is that another holds the claim', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const first = taken(await of('ann').acquire(wanted()))
    store.watch = async (key, known, signal) => {
      if (known > 0) await time.sleep(1_000)
      return store.inner.watch(key, known, signal)
    }
    const asked = of('bob').isAlive(UUID, first.record.token)
    await time.sleep(500)
    await first.release()
    await living(of('cid'))
    expect(await asked).toBe(false)
    expect(time.ms).toBe(1_000)
  })

  test('isAlive is true for a holder who lived on while we were frozen: our burial was lost', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const host = mortal(time)
    const claim = await living(of('ann'))
    store.deaf = true
    const asked = of('bob', host).isAlive(UUID, claim.record.token)
    host.freeze()
    await time.sleep(HOUR_MS)
    store.deaf = false
    host.thaw()
    expect(await asked).toBe(true)
  })
})

describe('a claim that is held', () => {
  test('what is about to be sent is written down first, and goes when its end was seen', async () => {
    const { store, time, of } = hosts()
    const claim = taken(await of('ann').acquire(wanted()))
    await time.sleep(1_000)
    const notBegun = ['start web on node2']
    const what = {
      step: step('destroyDomain', { domain: 'web', uuid: UUID, node: 'node1', graceful: false }),
      notBegun,
    }
    await claim.about('node1', 'virsh shutdown', what)
    await claim.about('node2', 'virsh create')
    expect((await stored(store)).doubts).toEqual([
      { node: 'node1', generation: 1, command: 'virsh shutdown', since: '2026-01-02T03:04:06.000Z', ...what },
      { node: 'node2', generation: 1, command: 'virsh create', since: '2026-01-02T03:04:06.000Z' },
    ])
    claim.settled('node1')
    expect(claim.record.doubts.map(({ node }) => node)).toEqual(['node2'])
    expect((await stored(store)).doubts).toHaveLength(2)
    await claim.release()
    expect((await stored(store)).doubts.map(({ node }) => node)).toEqual(['node2'])
  })

  test('what is settled or parked while a renewal is under way stays so', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    for (const node of ['node1', 'node2', 'node3']) await claim.about(node, 'virsh shutdown')
    store.before = async operation => {
      if (operation !== 'swap') return
      await Promise.resolve()
      claim.settled('node1')
      claim.parked('node2')
      claim.parked('node3')
      claim.settled('node3')
      store.before = () => undefined
    }
    await claim.about('node4', 'virsh create')
    const left = [{ node: 'node2', parked: true }, { node: 'node4' }]
    expect(claim.record.doubts).toMatchObject(left)
    await claim.release()
    expect((await stored(store)).doubts).toMatchObject(left)
  })

  test('what is about to be sent is not settled by what was seen before it was', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    await claim.about('node1', 'virsh shutdown')
    store.before = () => claim.settled('node1')
    await claim.about('node1', 'virsh create')
    expect(claim.record.doubts.map(({ command }) => command)).toEqual(['virsh create'])
  })

  test('renewals, steps and the release take turns', async () => {
    const { store, of } = hosts()
    const claim = taken(await of('ann').acquire(wanted()))
    const steps = Array.from({ length: 10 }, (_, at) => claim.about(`node${at}`, 'virsh'))
    await Promise.all([...steps, claim.release()])
    expect(await stored(store)).toMatchObject({ state: 'released', beat: 11 })
    expect((await stored(store)).doubts).toHaveLength(10)
  })

  test('once released, nothing can be sent under it', async () => {
    const { store, of } = hosts()
    const claim = taken(await of('ann').acquire(wanted()))
    await claim.release()
    const before = await store.read(KEY)
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    await expect(claim.release()).rejects.toThrow(ClaimLostError)
    expect(await store.read(KEY)).toEqual(before)
  })

  test('a store that answers only after half of the time to live makes the step refuse', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    store.before = swapTakes(time, TTL_MS / 2)
    await claim.about('node1', 'virsh create')
    store.before = swapTakes(time, TTL_MS / 2 + 1)
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    expect((await stored(store)).doubts, 'it may have been sent for all that others know').toHaveLength(2)
  })

  test('life is counted from before the claim was asked for, too', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    store.before = swapTakes(time, TTL_MS / 2 + 1)
    const claim = taken(await of('ann').acquire(wanted()))
    store.before = operation => {
      if (operation === 'swap') throw new StoreError('disk full', 'free some')
    }
    void claim.keepAlive()
    await expect(claim.lost).rejects.toThrow('the claim could not be renewed: disk full')
    expect(time.ms).toBe(TTL_MS / 2 + 1 + BEAT_MS)
  })

  test('a renewal that fails is tried again, and the claim is lost when none held for half of its time to live', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const claim = await living(of('ann'))
    const full = (operation: string) => {
      if (operation === 'swap') throw new StoreError('disk full', 'free some')
    }
    await time.sleep(1)
    store.before = full
    await time.sleep(2 * BEAT_MS)
    store.before = () => undefined
    await time.sleep(BEAT_MS)
    expect((await stored(store)).state).toBe('held')
    await claim.about('node1', 'virsh suspend')
    const lastMs = time.ms
    store.before = full
    await expect(claim.lost).rejects.toThrow(ClaimLostError)
    await expect(claim.lost).rejects.toThrow('the claim could not be renewed: disk full')
    expect(time.ms - lastMs).toBeGreaterThan(TTL_MS / 2)
    expect(time.ms - lastMs).toBeLessThanOrEqual(TTL_MS / 2 + BEAT_MS)
  })

  test('a store that does not answer at all ends the claim in time, too', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const claim = await living(of('ann'))
    await time.sleep(BEAT_MS + 1)
    store.before = operation => (operation === 'swap' ? new Promise(() => undefined) : undefined)
    await expect(claim.lost).rejects.toThrow('the store does not answer')
    expect(time.ms).toBe(BEAT_MS + TTL_MS / 2)
  })

  test('who stood still for longer than that, and was not displaced, goes on, though the store takes a moment', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const host = mortal(time)
    const claim = await living(of('ann', host))
    host.freeze()
    await time.sleep(HOUR_MS)
    store.before = operation => (operation === 'swap' ? time.sleep(100) : undefined)
    host.thaw()
    await time.sleep(TTL_MS)
    expect(await Promise.race([claim.lost, 'kept'])).toBe('kept')
    expect((await stored(store)).beat).toBeGreaterThan(3)
  })

  test('once released, nobody sleeps for it any more: the process can end', async () => {
    const { time, of } = hosts()
    const claim = await living(of('ann'))
    await time.sleep(2 * BEAT_MS + 1)
    await claim.release()
    for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve))
    expect(time.ms).toBe(2 * BEAT_MS + 1)
  })

  test('nobody needs to wait for the loss: who does not hear of it with the next swap', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    onTestFinished(() => void process.off('unhandledRejection', unhandled))
    const { time, of } = hosts()
    const host = mortal(time)
    const claim = await living(of('ann', host))
    host.freeze()
    taken(await of('bob').acquire(wanted()))
    host.thaw()
    await time.sleep(TTL_MS)
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    await new Promise(resolve => setImmediate(resolve))
    expect(unhandled).not.toHaveBeenCalled()
  })
})

describe('a store that does not know', () => {
  test('a swap that held after all is found by reading, and the claim goes on', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    store.fate = () => 'done'
    const claim = taken(await of('ann').acquire(wanted('web', UUID, '/d/a')))
    await claim.about('node1', 'virsh create')
    claim.settled('node1')
    await claim.release()
    expect(await stored(store)).toMatchObject({ state: 'released', generation: 1, doubts: [] })
  })

  test('a swap that did not hold is none: no claim, no name, no disk, no step, no release', async () => {
    for (const place of ['claims/uuid/', 'claims/name/', 'claims/disk/']) {
      const store = new RoughStore()
      const { time, of } = hosts(store)
      for (const before of ['never taken', 'released']) {
        store.fate = key => (key.startsWith(place) ? 'not done' : 'told')
        await expect(of('ann').acquire(wanted('web', UUID, '/d/a')), before).rejects.toThrow(StoreError)
        store.fate = () => 'told'
        await taken(await of('ann').acquire(wanted('web', UUID, '/d/a'))).release()
      }
      expect(time.ms).toBe(0)
      const claim = taken(await of('bob').acquire(wanted('web', UUID, '/d/a')))
      const before = await stored(store)
      store.fate = () => 'not done'
      await expect(claim.about('node1', 'virsh create')).rejects.toThrow(StoreError)
      await expect(claim.release()).rejects.toThrow(StoreError)
      expect(await stored(store)).toEqual(before)
      store.fate = () => 'told'
      await claim.about('node1', 'virsh create')
    }
  })

  test('a name that is not given although nobody has it, not even its last holder, is an error', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    await taken(await of('ann').acquire(wanted())).release()
    store.fate = key => (key.startsWith('claims/name/') ? 'not done' : 'told')
    for (const wants of [wanted(), wanted('web', OTHER_UUID)])
      await expect(of('bob').acquire(wants)).rejects.toThrow('the claim claims/name/web could not be taken')
    expect((await of('bob').list()).map(({ domain }) => domain)).toEqual([])
  })

  test('a renewal of which nobody knows is tried again while life lasts', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const claim = await living(of('ann'))
    store.fate = () => 'not done'
    await time.sleep(BEAT_MS + 1)
    store.fate = () => 'told'
    await time.sleep(TTL_MS)
    expect(await Promise.race([claim.lost, 'kept'])).toBe('kept')
  })

  test('a swap that held, but was followed by another, is lost', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    store.fate = () => 'done'
    store.after = async key => {
      const { version = 0 } = (await store.inner.read(key)) ?? {}
      const record = { ...claim.record, token: 'another', generation: 2, owner: stranger('bob') }
      await store.inner.swap(key, version, JSON.stringify(record))
    }
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow('taken over by bob')
  })

  test('an earlier record of ours that held unseen is not taken for the step that follows it', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    const claim = await living(of('ann'))
    store.fate = () => 'done'
    store.before = operation => {
      if (operation === 'read') throw new StoreError('no answer', 'try again')
    }
    await time.sleep(BEAT_MS + 1)
    store.fate = () => 'told'
    store.before = () => undefined
    await claim.about('node1', 'virsh create')
    expect((await stored(store)).doubts).toMatchObject([{ node: 'node1', command: 'virsh create' }])
  })

  test('a release that held unseen ends the claim: nothing is sent under it any more', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    store.fate = () => 'done'
    store.before = operation => {
      if (operation === 'read') throw new StoreError('no answer', 'try again')
    }
    await expect(claim.release()).rejects.toThrow(StoreError)
    store.fate = () => 'told'
    store.before = () => undefined
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
    expect((await stored(store)).state).toBe('released')
    await claim.release()
  })

  test.each(['done', 'not done'] as const)('a burial of which nobody knows (%s) takes no living holder', async fate => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    taken(await of('ann').acquire(wanted()))
    store.fate = (_, text) => (text.includes('"released"') ? fate : 'told')
    const asked = of('bob').acquire(wanted())
    await time.sleep(TTL_MS + 1)
    store.fate = () => 'told'
    expect(taken(await asked).takenFrom?.owner.user).toBe('ann')
    expect(time.ms).toBe(fate === 'done' ? TTL_MS + 1 : 2 * TTL_MS)
  })

  test('a store that fails while disks are taken leaves no claim behind', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    store.before = (operation, key) => {
      if (operation === 'swap' && key.startsWith('claims/disk/')) throw new StoreError('disk full', 'free some')
    }
    await expect(of('ann').acquire(wanted('web', UUID, '/d/a'))).rejects.toThrow('disk full')
    expect((await stored(store)).state).toBe('released')
  })

  test('who could neither take a disk nor let go again still says who has it, and runs out', async () => {
    const store = new RoughStore()
    const { time, of } = hosts(store)
    await living(of('ann'), wanted('web', UUID, '/d/a'))
    store.fate = (key, text) => (key === claimKey(OTHER_UUID) && text.includes('"released"') ? 'not done' : 'told')
    expect(refused(await of('bob').acquire(wanted('db', OTHER_UUID, '/d/a'))).owner.user).toBe('ann')
    store.fate = () => 'told'
    const before = time.ms
    taken(await of('cid').acquire(wanted('db', OTHER_UUID)))
    expect(time.ms - before).toBe(TTL_MS)
  })

  test('a step that the store refused was not sent: it leaves no doubt', async () => {
    const store = new RoughStore()
    const { of } = hosts(store)
    const claim = taken(await of('ann').acquire(wanted()))
    store.before = operation => {
      if (operation === 'swap') throw new StoreError('disk full', 'free some')
    }
    await expect(claim.about('node1', 'virsh create')).rejects.toThrow(StoreError)
    store.before = () => undefined
    await claim.release()
    expect((await stored(store)).doubts).toEqual([])
  })
})

/** What can happen to an operation; a read that is in doubt is simply done. */
const FATES = ['throws', 'done', 'not done'] as const

/** A store whose operations of these numbers meet these fates. */
function faulty(store: RoughStore, faults: ReadonlyMap<number, (typeof FATES)[number]>): () => number {
  let count = 0
  store.before = () => {
    const fault = faults.get(++count)
    if (fault === 'throws') throw new StoreError('no answer', 'try again')
    store.fate = () => (fault === undefined ? 'told' : fault)
  }
  return () => count
}

test('taking a claim that must outwait two dead ones, with a fault at each place: it is ours, or an error, and the next one gets it', async () => {
  const whole = wanted('web', UUID, '/d/a', '/d/b')
  let places = 1
  for (let place = 1; place <= places; place++) {
    for (const fate of FATES) {
      const store = new RoughStore()
      const { time, of } = hosts(store)
      taken(await of('ann').acquire(wanted('web', UUID)))
      taken(await of('ann').acquire(wanted('db', OTHER_UUID, '/d/b')))
      const count = faulty(store, new Map([[place, fate]]))
      const acquired = await of('bob')
        .acquire(whole)
        .catch(error => {
          expect(error, `${fate} at ${place}`).toBeInstanceOf(StoreError)
          return undefined
        })
      places = Math.max(places, count())
      faulty(store, new Map())
      if (acquired !== undefined) await taken(acquired).about('node1', 'virsh suspend')
      const next = taken(await of('cid').acquire(whole))
      expect(next.record.doubts, `${fate} at ${place}`).toHaveLength(acquired === undefined ? 0 : 1)
      if (acquired !== undefined) await isDisplaced(taken(acquired), store)
      time.stop()
    }
  }
  expect(places).toBeGreaterThan(15)
})

test('working under a claim with faults at any two places: what is sent is written down, and the next one finds it', async () => {
  let places = 2
  for (let first = 1; first <= places; first++) {
    for (let second = first + 1; second <= places + 1; second++) {
      for (const fates of FATES.flatMap(one => FATES.map(two => [one, two] as const))) {
        const store = new RoughStore()
        const { time, of } = hosts(store)
        const claim = await living(of('ann'))
        const count = faulty(
          store,
          new Map([
            [first, fates[0]],
            [second, fates[1]],
          ]),
        )
        const sent: string[] = []
        const send = async (node: string) => {
          try {
            await claim.about(node, `virsh on ${node}`)
          } catch (error) {
            const known = error instanceof StoreError || error instanceof ClaimLostError
            expect(known, `${error}`).toBe(true)
            return
          }
          sent.push(node)
          expect((await stored(store)).doubts.map(each => each.node)).toEqual(expect.arrayContaining(sent))
        }
        await send('node1')
        await time.sleep(BEAT_MS + 1)
        await send('node2')
        await claim.release().catch(() => undefined)
        places = Math.max(places, count())
        faulty(store, new Map())
        await send('node3')
        const next = taken(await of('bob').acquire(wanted()))
        const doubts = next.record.doubts.map(({ node }) => node)
        expect(doubts, `${fates} at ${first} and ${second}`).toEqual(expect.arrayContaining(sent))
        await expect(claim.about('node1', 'virsh create')).rejects.toThrow(ClaimLostError)
        time.stop()
      }
    }
  }
  expect(places).toBeGreaterThanOrEqual(4)
})
