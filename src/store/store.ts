/**
 * The store: the cluster's memory behind one small interface, with one conformance suite over every backend
 * (test/store/conformance.ts). Nothing here knows what a record means.
 */

/** A key is a path of one or more segments, `claims/domain/web`. Each segment matches {@link KEY_SEGMENT}. */
export type Key = string

/** A key segment as every backend can hold it: no slash, no leading dot, at most 200 bytes. */
export const KEY_SEGMENT = /^[A-Za-z0-9_@%+=:,-][A-Za-z0-9._@%+=:,-]{0,199}$/

/** A record's text with the version that a later compare-and-swap must name. Versions of one key only ever grow. */
export interface Versioned {
  /** 1 for the first record of a key; each successful swap gives a higher number. */
  readonly version: number
  readonly text: string
}

/**
 * Throws {@link StoreError} for a key that some backend cannot hold. `5.yaml` and `tmp.x` are refused as segments too,
 * because a shared folder keeps its own files under such names, and a key must mean the same in every backend.
 */
export function checkKey(key: Key): void {
  const bad = key.split('/').find(segment => !KEY_SEGMENT.test(segment) || /^\d+\.yaml$|^tmp\./.test(segment))
  if (bad === undefined) return
  throw new StoreError(
    `The store cannot hold the key ${JSON.stringify(key)}: ${JSON.stringify(bad)} is not a name it allows.`,
    'Use letters, digits and . _ @ % + = : , - only, at most 200 of them, and no leading dot.',
  )
}

/**
 * What a compare-and-swap did. It is not idempotent: repeated after it won, the same call is `lost`, because its
 * `expected` is old by then. A call that threw {@link StoreError} changed nothing.
 */
export type SwapResult =
  /** Ours became the newest record, under this version. It may be followed by another's at any moment. */
  | { readonly outcome: 'won'; readonly version: number }
  /** Somebody else was first, or the caller's version was old; nothing of ours holds. */
  | { readonly outcome: 'lost' }
  /**
   * Ours may or may not hold: the store failed in the middle, or another record already follows ours. The caller must
   * read before it believes either; a read by the same store object that then does not show ours proves that it never
   * will.
   */
  | { readonly outcome: 'unknown'; readonly reason: string }

/** The cluster's memory. Every method rejects with {@link StoreError} when the store cannot be used. */
export interface Store {
  /**
   * The newest record of the key, or undefined when the key was never written. Never proves that a claim still holds:
   * it may be as old as a network file system's caches (a minute), but never older than this store object's own swaps.
   * `fresh` reads past every cache, at the cost of a write: for a record that allows something.
   */
  read(key: Key, how?: 'fresh'): Promise<Versioned | undefined>
  /**
   * Names directly below a prefix (one segment each, sorted), whether records or further folders; `''` is the top. Empty
   * when there are none. A listed name can still read as undefined: its first writer may have failed, or be writing now.
   * Caches and `fresh` as with `read`.
   */
  list(prefix: Key, how?: 'fresh'): Promise<string[]>
  /** Writes `text` as the successor of `expected` (0: the key has no record yet). Exactly one of many callers wins. */
  swap(key: Key, expected: number, text: string): Promise<SwapResult>
  /** Resolves with the newest record once it differs from `known` (a version, 0 for none), or undefined when `signal` fires. */
  watch(key: Key, known: number, signal: AbortSignal): Promise<Versioned | undefined>
}

/** The store cannot be read or written: full, read-only, gone, or damaged. `hint` says what to do next. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly hint: string
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super(message, options)
    this.hint = hint
  }
}
