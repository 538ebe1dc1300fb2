/**
 * What claims promise over any store, as laws: of situations, and of whatever order, weather and clocks a seed gives. Time is
 * virtual, and stands still while a store works.
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, it } from 'vitest'
import type { Disk } from '../../src/core/domain.ts'
import { type Claim, ClaimLostError } from '../../src/store/claim.ts'
import type { ClaimRecord } from '../../src/store/claim-record.ts'
import { type ClaimRequest, Claims } from '../../src/store/claims.ts'
import type { Clock } from '../../src/store/clock.ts'
import { type Store, StoreError, type SwapResult, type Versioned } from '../../src/store/store.ts'
import { BEAT_MS, claimKey, refused, TTL_MS, taken, wanted } from './claim-parts.ts'
import type { Luck, MakeWorld } from './conformance.ts'
import { FakeClock, OTHER_UUID, stranger, UUID } from './parts.ts'
import { generator } from './simulated-nfs.ts'

/** How often a store's watch looks, in virtual time. */
const LOOK_MS = 500
const HOUR_MS = 3_600_000

interface Host {
  readonly store: Store
  readonly claims: Claims
  readonly clock: HostClock
}

interface Hosts {
  readonly time: FakeClock
  readonly hosts: readonly [Host, Host, Host, ...Host[]]
  readonly random: () => number
  readonly calm: () => void
}

type Law = { readonly name: string; readonly run: (world: Hosts) => Promise<void> }

/** Every law, in worlds where no operation fails. */
export function claimLaws(name: string, make: MakeWorld, luck: Luck): void {
  describe(`claims over ${name}`, () => {
    for (const law of [...laws, ...stormLaws]) it(law.name, () => check(law, make, luck), 120_000)
  })
}

/** The laws that hold in any weather. */
export function claimLawsUnderFailures(name: string, make: MakeWorld, luck: Luck): void {
  describe(`claims over ${name}, whose operations fail`, () => {
    for (const law of stormLaws) it(law.name, () => check(law, make, luck), 120_000)
  })
}

function check({ run }: Law, make: MakeWorld, { runs: numRuns, ...luck }: Luck): Promise<void> {
  const property = fc.asyncProperty(fc.nat(), async seed => {
    const world = await make(seed)
    const time = new FakeClock()
    try {
      const random = generator(seed)
      const [first, second, third, ...more] = world.stores.map((store, at) => aHost(time, store, at, random))
      assert.ok(first && second && third, 'a world has three clients')
      await run({ time, random, hosts: [first, second, third, ...more], calm: () => world.calm?.() })
    } finally {
      time.stop()
      do await new Promise(resolve => setImmediate(resolve))
      while (time.busy())
      await world.close?.()
    }
  })
  return fc.assert(property, { numRuns, ...luck, endOnFailure: true })
}

/** A host's wall clock is an hour or more away from the next one's, and each was booted at another moment. */
function aHost(time: FakeClock, inner: Store, at: number, random: () => number): Host {
  const clock = new HostClock(time, (at % 2 === 0 ? at : -at) * HOUR_MS, random() * 1e9)
  const store = new PacedStore(inner, time, clock)
  return { store, clock, claims: new Claims(store, clock, stranger(`user${at}`), TTL_MS, async () => false) }
}

/** A host can stand still: nothing wakes up there meanwhile, while its clock goes on. */
class HostClock implements Clock {
  readonly #time: FakeClock
  readonly #offsetMs: number
  readonly #bootMs: number
  #frozen: Promise<void> | undefined
  #thaw = () => {}

  constructor(time: FakeClock, offsetMs: number, bootMs: number) {
    this.#time = time
    this.#offsetMs = offsetMs
    this.#bootMs = bootMs
  }

  now = () => this.#time.now() + this.#offsetMs
  monotonicMs = () => this.#time.ms + this.#bootMs
  sleep = async (ms: number, signal?: AbortSignal) => {
    await this.#time.sleep(ms, signal)
    while (this.#frozen !== undefined) await this.#frozen
  }

  freeze(): void {
    this.#frozen ??= new Promise(resolve => {
      this.#thaw = resolve
    })
  }

  thaw(): void {
    this.#frozen = undefined
    this.#thaw()
  }
}

/** Lets no time pass while an operation is under way, and looks for changes in virtual time. */
class PacedStore implements Store {
  readonly #inner: Store
  readonly #clock: Clock
  #working = 0

  constructor(inner: Store, time: FakeClock, clock: Clock) {
    this.#inner = inner
    this.#clock = clock
    const others = time.busy
    time.busy = () => others() || this.#working > 0
  }

  read = (key: string) => this.#work(() => this.#inner.read(key))
  list = (prefix: string, how?: 'fresh') => this.#work(() => this.#inner.list(prefix, how))
  swap = (key: string, expected: number, text: string): Promise<SwapResult> =>
    this.#work(() => this.#inner.swap(key, expected, text))

  async watch(key: string, known: number, signal: AbortSignal): Promise<Versioned | undefined> {
    while (!signal.aborted) {
      const once = new AbortController()
      const changed = await this.#work(() => {
        const looking = this.#inner.watch(key, known, once.signal)
        once.abort()
        return looking
      })
      if (changed !== undefined) return changed
      await this.#clock.sleep(LOOK_MS, signal)
    }
    return undefined
  }

  async #work<T>(operation: () => Promise<T>): Promise<T> {
    this.#working++
    try {
      return await operation()
    } finally {
      this.#working--
    }
  }
}

async function living(claims: Claims, request?: ClaimRequest): Promise<Claim> {
  const claim = taken(await claims.acquire(request ?? wanted()))
  void claim.keepAlive()
  return claim
}

async function lost(act: Promise<unknown>): Promise<void> {
  await assert.rejects(act, ClaimLostError)
}

function near(ms: number, expectedMs: number): void {
  assert.ok(ms >= expectedMs && ms <= expectedMs + 2 * LOOK_MS, `${ms} ms, expected ${expectedMs}`)
}

const laws: readonly Law[] = [
  {
    name: 'a holder who lives refuses after one sign of life, and is never lost',
    async run({ time, hosts: [ann, bob, cid] }) {
      const claim = await living(ann.claims)
      for (const { claims } of [bob, cid]) {
        const askedMs = time.ms
        assert.equal(refused(await claims.acquire(wanted())).token, claim.record.token)
        assert.ok(time.ms - askedMs <= BEAT_MS + 2 * LOOK_MS, `${time.ms - askedMs} ms`)
      }
      await time.sleep(10 * TTL_MS)
      await claim.about('node1', 'virsh suspend')
      await claim.release()
      taken(await bob.claims.acquire(wanted()))
    },
  },
  {
    name: 'a dead holder is taken over after his time to live, with his doubts, and loses when he wakes up',
    async run({ time, hosts: [ann, bob] }) {
      const dead = await living(ann.claims, wanted('web', UUID, '/d/a'))
      await dead.about('node1', 'virsh create')
      ann.clock.freeze()
      const askedMs = time.ms
      const heir = taken(await bob.claims.acquire(wanted('web', UUID, '/d/b')))
      near(time.ms - askedMs, TTL_MS)
      assert.equal(heir.record.generation, 2)
      assert.deepEqual(heir.record.doubts, dead.record.doubts)
      assert.equal(heir.takenFrom?.token, dead.record.token)
      ann.clock.thaw()
      await lost(dead.lost)
      await lost(dead.about('node1', 'virsh create'))
      await lost(dead.release())
      await heir.about('node2', 'virsh create')
    },
  },
  {
    name: 'of several who watch a dead claim exactly one gets it, and the others are refused by him',
    async run({ hosts, random, time }) {
      const [dead, ...watchers] = hosts
      taken(await dead.claims.acquire(wanted()))
      const asked = watchers.map(async ({ claims }) => {
        await time.sleep(random() * 3000)
        const acquired = await claims.acquire(wanted())
        if ('claim' in acquired) void acquired.claim.keepAlive()
        return acquired
      })
      const answers = await Promise.all(asked)
      const winners = answers.flatMap(each => ('claim' in each ? [each.claim.record.token] : []))
      assert.equal(winners.length, 1)
      for (const each of answers) if ('heldBy' in each) assert.equal(each.heldBy.token, winners[0])
    },
  },
  {
    name: 'the name and the disks of a dead claim of another domain are outwaited; in doubt they are not given',
    async run({ time, hosts: [ann, bob, cid] }) {
      const dead = taken(await ann.claims.acquire(wanted('web', UUID, '/d/a')))
      const heir = taken(await bob.claims.acquire(wanted('db', OTHER_UUID, '/d/a')))
      near(time.ms, TTL_MS)
      await lost(dead.about('node1', 'virsh create'))
      await heir.about('node1', 'virsh create')
      const startedMs = time.ms
      const held = refused(await cid.claims.acquire(wanted('web', UUID, '/d/a')))
      near(time.ms - startedMs, TTL_MS)
      assert.deepEqual([held.state, held.domain, held.doubts.length], ['released', 'db', 1])
    },
  },
  {
    name: 'patience gets the claim when the holder lets go',
    async run({ time, hosts: [ann, bob] }) {
      const holder = await living(ann.claims)
      const asked = bob.claims.acquire(wanted(), { waitMs: HOUR_MS, waiting: () => undefined })
      await time.sleep(2 * TTL_MS)
      await holder.release()
      const releasedMs = time.ms
      assert.equal(taken(await asked).record.generation, 2)
      near(time.ms, releasedMs)
    },
  },
  {
    name: 'a watcher that stood still for longer than a time to live does not bury a holder who lived',
    async run({ time, hosts: [ann, bob] }) {
      const holder = await living(ann.claims)
      const asked = bob.claims.acquire(wanted())
      await time.sleep(100)
      bob.clock.freeze()
      await time.sleep(3 * TTL_MS)
      bob.clock.thaw()
      assert.equal(refused(await asked).token, holder.record.token)
      await holder.about('node1', 'virsh suspend')
    },
  },
]

const DOMAINS = [
  wanted('web', UUID, '/d/a'),
  wanted('web2', UUID, '/d/b'),
  wanted('db', OTHER_UUID, '/d/a', '/d/b'),
  wanted('web', 'cccccccc-2222-4333-8444-555555555555', '/d/c'),
]

const source = (disk: Disk) => JSON.stringify(disk.source)

function excludes({ identity: a }: ClaimRequest, { identity: b }: ClaimRequest): boolean {
  const shared = a.disks.some(one => b.disks.some(other => source(one) === source(other)))
  return a.uuid === b.uuid || a.name === b.name || shared
}

/** A claim that somebody got. */
interface Holding {
  readonly request: ClaimRequest
  readonly record: ClaimRecord
  ended: boolean
}

/** Commands that were sent: written down, as far as their sender knows. */
interface Sent {
  readonly request: ClaimRequest
  readonly command: string
  settled: boolean
}

/** What everybody together knows, and no rule of theirs may rest on. */
class Referee {
  readonly #holdings: Holding[] = []
  readonly #sent: Sent[] = []
  #commands = 0

  /** Somebody got the claim: from now on nobody whom it excludes may send anything, and it knows what may still happen. */
  acquired(request: ClaimRequest, record: ClaimRecord): Holding {
    for (const other of this.#holdings) if (excludes(request, other.request)) other.ended = true
    const same = this.#holdings.filter(each => each.request.identity.uuid === request.identity.uuid)
    for (const { record: before } of same)
      assert.ok(record.generation > before.generation, `generation ${record.generation} after ${before.generation}`)
    for (const each of this.#sent.filter(({ settled, request: theirs }) => !settled && excludes(request, theirs))) {
      const isKnown = record.doubts.some(({ command }) => command === each.command)
      const says = `${request.identity.name} was given although ${each.command} may still happen`
      assert.ok(each.request.identity.uuid === request.identity.uuid && isKnown, says)
    }
    const holding = { request, record, ended: false }
    this.#holdings.push(holding)
    return holding
  }

  /** Sends a command under the claim; nobody may who is displaced. Gives back what tells that its end was seen. */
  async send(claim: Claim, holding: Holding): Promise<Sent> {
    const displaced = holding.ended
    const command = `command ${++this.#commands}`
    await claim.about(`node of ${command}`, command)
    assert.ok(!displaced, `${holding.request.identity.name}: a displaced holder sent ${command}`)
    const sent = { request: holding.request, command, settled: false }
    this.#sent.push(sent)
    return sent
  }

  /** In the end, whatever may still happen is written down. */
  async written(read: (uuid: string) => Promise<ClaimRecord | undefined>): Promise<void> {
    for (const { request, command } of this.#sent.filter(({ settled }) => !settled)) {
      const record = await read(request.identity.uuid)
      assert.ok(
        record?.doubts.some(each => each.command === command),
        `${command} is not written down any more`,
      )
    }
  }
}

const stormLaws: readonly Law[] = [
  {
    name: 'whoever comes, stands still or dies: nobody acts beside another, generations grow, and no doubt gets lost',
    async run({ time, hosts, random, calm }) {
      const referee = new Referee()
      const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
      const contend = async (host: Host) => {
        for (let round = 0; round < 3; round++) {
          await host.clock.sleep(random() * TTL_MS)
          const request = pick(DOMAINS)
          const waitMs = pick([0, 0, TTL_MS])
          const acquired = await through(() => host.claims.acquire(request, { waitMs, waiting: () => undefined }))
          if (acquired === undefined || 'heldBy' in acquired) continue
          await work(host, acquired.claim, referee.acquired(request, acquired.claim.record))
        }
      }
      const work = async ({ clock }: Host, claim: Claim, holding: Holding) => {
        const dies = random() < 0.2
        if (!dies) void claim.keepAlive()
        for (let steps = Math.floor(random() * 3); steps > 0; steps--) {
          if (random() < 0.15) await standStill(clock)
          const sent = await through(() => referee.send(claim, holding))
          if (sent === undefined || random() < 0.3) continue
          sent.settled = true
          claim.settled(`node of ${sent.command}`)
        }
        if (dies) return
        holding.ended = true
        await through(() => claim.release())
      }
      const standStill = async (clock: HostClock) => {
        clock.freeze()
        await time.sleep(random() * 2 * TTL_MS)
        clock.thaw()
      }
      await Promise.all([...hosts, ...hosts].map(contend))
      calm()
      const [{ store }] = hosts
      await referee.written(async uuid => {
        const found = await store.watch(claimKey(uuid), 0, new AbortController().signal)
        return found === undefined ? undefined : JSON.parse(found.text)
      })
    },
  },
]

/** Undefined when the store failed or the claim was lost, which is all that may go wrong. */
async function through<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act()
  } catch (error) {
    if (error instanceof StoreError || error instanceof ClaimLostError) return undefined
    throw error
  }
}
