/** The store in this process's memory, for tests and the simulator: same promises as the others, nothing outlives it. */
import { checkKey, type Key, type Store, type SwapResult, type Versioned } from './store.ts'

/** One object is one store; everybody who holds it is a client of it. It never fails and never says `unknown`. */
export class MemoryStore implements Store {
  readonly #records = new Map<Key, Versioned>()
  readonly #watchers = new Set<() => void>()

  async read(key: Key): Promise<Versioned | undefined> {
    checkKey(key)
    return this.#records.get(key)
  }

  async list(prefix: Key): Promise<string[]> {
    if (prefix !== '') checkKey(prefix)
    const start = prefix === '' ? '' : `${prefix}/`
    const below = [...this.#records.keys()].filter(key => key.startsWith(start))
    const names = below.map(key => key.slice(start.length).split('/', 1).join())
    return [...new Set(names)].sort()
  }

  async swap(key: Key, expected: number, text: string): Promise<SwapResult> {
    checkKey(key)
    const version = this.#records.get(key)?.version ?? 0
    if (version !== expected) return { outcome: 'lost' }
    this.#records.set(key, { version: version + 1, text })
    for (const wake of [...this.#watchers]) wake()
    return { outcome: 'won', version: version + 1 }
  }

  async watch(key: Key, known: number, signal: AbortSignal): Promise<Versioned | undefined> {
    checkKey(key)
    while (!signal.aborted) {
      const record = this.#records.get(key)
      if (record !== undefined && record.version !== known) return record
      await this.#change(signal)
    }
    return undefined
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        this.#watchers.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#watchers.add(wake)
      signal.addEventListener('abort', wake)
    })
  }
}
