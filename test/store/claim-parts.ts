/** What the tests of claims share. */
import { parse } from 'yaml'
import type { Claim } from '../../src/store/claim.ts'
import { CLAIMS, type ClaimRecord, ownerText } from '../../src/store/claim-record.ts'
import type { Acquired, ClaimRequest } from '../../src/store/claims.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import type { Store, SwapResult, Versioned } from '../../src/store/store.ts'
import { identity, UUID } from './parts.ts'

export const TTL_MS = 30_000
/** What lies between two signs of life of a holder who does nothing. */
export const BEAT_MS = TTL_MS / 6

export const claimKey = (uuid: string) => `${CLAIMS}/${uuid}`

export function wanted(name = 'web', uuid = UUID, ...paths: readonly string[]): ClaimRequest {
  return { identity: identity(name, uuid, ...paths), verb: `havirt domain start ${name}` }
}

export function taken(acquired: Acquired): Claim {
  if ('heldBy' in acquired) throw new Error(`held by ${ownerText(acquired.heldBy)}`)
  return acquired.claim
}

export function refused(acquired: Acquired): ClaimRecord {
  if ('claim' in acquired) throw new Error('expected a refusal, and got the claim')
  return acquired.heldBy
}

/** The record as it is in the store. */
export async function stored(store: Store | RoughStore, uuid = UUID): Promise<ClaimRecord> {
  const found = await (store instanceof RoughStore ? store.inner : store).read(claimKey(uuid))
  return parse(found?.text ?? '')
}

/** What comes of a swap: its result is told, or it says `unknown` after it was done or not. */
export type Fate = 'told' | 'done' | 'not done'

/** A store that a test makes fail. */
export class RoughStore implements Store {
  readonly inner = new MemoryStore()
  /** Runs before each operation, and may throw instead of it. */
  before: (operation: 'read' | 'list' | 'swap' | 'watch', key: string) => unknown = () => undefined
  fate: (key: string, text: string) => Fate = () => 'told'
  /** Runs after each swap, before its caller hears of it. */
  after: (key: string) => unknown = () => undefined
  /** What a read says instead of the truth, as caches do. */
  stale: (key: string) => Versioned | 'absent' | undefined = () => undefined
  /** Watches begun now hear of no change that comes later. */
  deaf = false

  async read(key: string): Promise<Versioned | undefined> {
    await this.before('read', key)
    const stale = this.stale(key)
    return stale === 'absent' ? undefined : (stale ?? (await this.inner.read(key)))
  }

  async list(prefix: string): Promise<string[]> {
    await this.before('list', prefix)
    return this.inner.list(prefix)
  }

  async watch(key: string, known: number, signal: AbortSignal): Promise<Versioned | undefined> {
    await this.before('watch', key)
    const now = await this.inner.read(key)
    // One look is made, even for who gives up meanwhile.
    if (now !== undefined && now.version !== known) return now
    if (!this.deaf || signal.aborted) return this.inner.watch(key, known, signal)
    return new Promise(resolve => signal.addEventListener('abort', () => resolve(undefined)))
  }

  async swap(key: string, expected: number, text: string): Promise<SwapResult> {
    await this.before('swap', key)
    const fate = this.fate(key, text)
    const result = fate === 'not done' ? undefined : await this.inner.swap(key, expected, text)
    await this.after(key)
    return fate === 'told' && result !== undefined ? result : { outcome: 'unknown', reason: 'EIO' }
  }
}
