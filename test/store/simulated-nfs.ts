/**
 * An NFS server in memory with several clients, each as treacherous as NFS allows: name and listing caches lag up to a
 * minute, requests are repeated after a lost reply, a request can be carried out after its caller was told that it
 * failed, and anything can fail before or after its effect. Which client is served next is drawn from a seed.
 */
import { dirname } from 'node:path'
import type { DirectoryStore } from '../../src/store/directory.ts'
import type { Entry, Files } from '../../src/store/files.ts'
import type { World } from './conformance.ts'

/** What can happen to one operation. */
export type Fault =
  /** It fails and does nothing. */
  | { readonly when: 'before'; readonly code: string }
  /** It is done, and the caller is told that it failed. */
  | { readonly when: 'after'; readonly code: string }
  /** The caller is told that it failed; it is done some time later, if it is still possible then. */
  | { readonly when: 'late'; readonly code: string }
  /** It is done, its reply is lost, and it is done again: EEXIST or ENOENT for what cannot be done twice. */
  | { readonly when: 'repeated' }

/** One operation as a hook sees it. */
export interface Call {
  readonly client: string
  readonly operation: keyof Files
  readonly path: string
}

/** Decides about an operation before it runs; a pending promise holds it back. */
export type Hook = (call: Call) => Fault | undefined | Promise<Fault | undefined>

/** How rough the weather is. All rates are probabilities for one operation. */
export interface Weather {
  readonly seed: number
  /** Lost replies, which NFS repeats by itself: normal life, no caller sees an error except a wrong EEXIST or ENOENT. */
  readonly repeats?: number
  /** Operations that fail outright. */
  readonly failures?: number
  /** A client that stands still while the others do many operations. */
  readonly stalls?: number
}

type Node = { readonly kind: 'file'; readonly bytes: Buffer } | { readonly kind: 'folder' }

interface Waiting {
  readonly client: string
  readonly go: () => void
}

const CODES = ['ENOSPC', 'EROFS', 'EIO', 'ESTALE', 'EACCES']

/** The server, its clock and its scheduler. */
export class SimulatedNfs {
  /** Virtual milliseconds. */
  now = 0
  /** How many operations were asked for so far. */
  operations = 0
  /** Replaces the random faults while it is set. */
  hook: Hook | undefined
  readonly nodes = new Map<string, Node>([['/var', { kind: 'folder' }]])
  readonly random: () => number
  #weather: Weather
  #waiting: Waiting[] = []
  #stalled = new Map<string, number>()
  /** A failure seldom comes alone: so many more operations of this client are likely to fail. */
  readonly #troubled = new Map<string, number>()
  #running = false

  constructor(weather: Weather) {
    this.#weather = weather
    this.random = generator(weather.seed)
  }

  /** From now on nothing fails; replies still get lost, and caches still lag. */
  calm(): void {
    this.#weather = { ...this.#weather, failures: 0 }
  }

  /** A host that mounted the share, with caches of its own. */
  client(name: string): Files {
    return new NfsClient(this, name).files()
  }

  /** Waits until the scheduler serves this client, and says what is to happen to the operation. */
  async turn(call: Call): Promise<Fault | undefined> {
    this.operations++
    await new Promise<void>(go => {
      this.#waiting.push({ client: call.client, go })
      this.#run()
    })
    return this.hook === undefined ? this.#randomFault(call.client) : await this.hook(call)
  }

  #randomFault(client: string): Fault | undefined {
    const { failures = 0, repeats = 0 } = this.#weather
    const trouble = failures > 0 ? (this.#troubled.get(client) ?? 0) : 0
    this.#troubled.set(client, trouble - 1)
    if (this.random() < (trouble > 0 ? 0.4 : failures)) {
      if (trouble <= 0) this.#troubled.set(client, 12)
      const code = CODES[Math.floor(this.random() * CODES.length)] ?? 'EIO'
      return { when: (['before', 'after', 'late'] as const)[Math.floor(this.random() * 3)] ?? 'late', code }
    }
    return this.random() < repeats ? { when: 'repeated' } : undefined
  }

  #run(): void {
    if (this.#running) return
    this.#running = true
    // Every client that can run gets to its next operation before one of them is drawn, so that the seed decides all.
    setImmediate(() => {
      this.#running = false
      this.#serveOne()
      if (this.#waiting.length > 0) this.#run()
    })
  }

  #serveOne(): void {
    this.now += this.random() < 0.01 ? this.random() * 20_000 : this.random() * 5
    const ready = this.#waiting.filter(({ client }) => (this.#stalled.get(client) ?? 0) <= this.operations)
    const candidates = ready.length > 0 ? ready : this.#waiting
    const chosen = candidates[Math.floor(this.random() * candidates.length)]
    if (chosen === undefined) return
    this.#waiting.splice(this.#waiting.indexOf(chosen), 1)
    if (this.random() < (this.#weather.stalls ?? 0)) this.#stalled.set(chosen.client, this.operations + 150)
    chosen.go()
  }
}

/** One host's view: what it believes to be there, and until when it believes it without asking. */
class NfsClient {
  readonly #server: SimulatedNfs
  readonly #name: string
  readonly #listings = new Map<string, { readonly entries: Entry[]; readonly until: number }>()
  readonly #missing = new Map<string, number>()

  constructor(server: SimulatedNfs, name: string) {
    this.#server = server
    this.#name = name
  }

  files(): Files {
    return {
      write: (path, text) =>
        this.#do('write', path, () => this.#create(path, { kind: 'file', bytes: Buffer.from(text) })),
      link: (from, to) => this.#do('link', to, () => this.#create(to, this.#lookup(from))),
      unlink: path => this.#do('unlink', path, () => this.#unlink(path)),
      makeFolder: path => this.#do('makeFolder', path, () => this.#makeFolder(path)),
      sync: folder => this.#do('sync', folder, () => void this.#lookup(folder)),
      read: path => this.#do('read', path, () => this.#read(path)),
      list: folder => this.#do('list', folder, () => this.#list(folder)),
    }
  }

  async #do<T>(operation: keyof Files, path: string, act: () => T): Promise<T> {
    const fault = await this.#server.turn({ client: this.#name, operation, path })
    if (fault === undefined) return act()
    if (fault.when === 'repeated') return this.#repeat(operation, act)
    if (fault.when === 'after') this.#unnoticed(act)
    if (fault.when === 'late') void this.#later(act)
    throw failure(fault.code, operation, path)
  }

  /** Only what changes names fails when repeated. An exclusive create carries a verifier, so that one does not. */
  #repeat<T>(operation: keyof Files, act: () => T): T {
    if (operation !== 'link' && operation !== 'unlink') return act()
    this.#unnoticed(act)
    return act()
  }

  /** The worst case: it is done at the server, but no good reply tells this client, whose caches stay as they were. */
  #unnoticed(act: () => unknown): void {
    const listings = new Map(this.#listings)
    const missing = new Map(this.#missing)
    try {
      act()
    } catch {
      // Nobody waits for the answer.
    }
    for (const [folder, listing] of listings) this.#listings.set(folder, listing)
    for (const [path, until] of missing) this.#missing.set(path, until)
  }

  async #later(act: () => unknown): Promise<void> {
    const turns = Math.floor(this.#server.random() * 60)
    for (let turn = 0; turn < turns; turn++) {
      await new Promise(resolve => setImmediate(resolve))
    }
    this.#unnoticed(act)
  }

  #create(path: string, node: Node): void {
    this.#lookup(dirname(path))
    if (this.#server.nodes.has(path)) throw failure('EEXIST', 'create', path)
    this.#server.nodes.set(path, node)
    this.#changed(dirname(path))
  }

  #makeFolder(path: string): void {
    this.#missing.delete(path)
    if (this.#server.nodes.get(path)?.kind === 'folder') return
    this.#create(path, { kind: 'folder' })
  }

  #unlink(path: string): void {
    this.#lookup(dirname(path))
    if (!this.#server.nodes.delete(path)) throw failure('ENOENT', 'unlink', path)
    this.#changed(dirname(path))
  }

  #read(path: string): Buffer {
    const node = this.#lookup(path)
    if (node.kind === 'folder') throw failure('EISDIR', 'read', path)
    return node.bytes
  }

  #list(folder: string): Entry[] {
    const cached = this.#listings.get(folder)
    if (cached !== undefined && cached.until > this.#server.now) return cached.entries
    if (this.#lookup(folder).kind !== 'folder') throw failure('ENOTDIR', 'list', folder)
    const entries = [...this.#server.nodes]
      .filter(([path]) => dirname(path) === folder)
      .map(([path, node]) => ({ name: path.slice(folder.length + 1), isFolder: node.kind === 'folder' }))
    this.#listings.set(folder, { entries, until: this.#lag() })
    return entries
  }

  /** Opens a path, component by component; a component that was missing lately is believed to be missing still. */
  #lookup(path: string): Node {
    if (path !== '/var') this.#lookup(dirname(path))
    if ((this.#missing.get(path) ?? 0) > this.#server.now) throw failure('ENOENT', 'open', path)
    const node = this.#server.nodes.get(path)
    if (node !== undefined) return node
    this.#missing.set(path, this.#lag())
    throw failure('ENOENT', 'open', path)
  }

  #lag(): number {
    return this.#server.now + this.#server.random() * 60_000
  }

  /** This client changed the folder itself, so that it asks anew about everything in it. */
  #changed(folder: string): void {
    this.#listings.delete(folder)
    for (const path of this.#missing.keys()) if (dirname(path) === folder) this.#missing.delete(path)
  }
}

function failure(code: string, operation: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${operation} '${path}'`), { code })
}

/** A world for the conformance suite: four hosts that mounted one share. `Directory` may be a broken variant. */
export function worldOnNfs(Directory: typeof DirectoryStore, weather: Weather): World {
  const nfs = new SimulatedNfs(weather)
  const stores = ['node1', 'node2', 'node3', 'node4'].map(name => storeOnNfs(Directory, nfs, name))
  return { stores, calm: () => nfs.calm() }
}

/** One host's store on the simulated share. */
export function storeOnNfs(Directory: typeof DirectoryStore, nfs: SimulatedNfs, name: string): DirectoryStore {
  const writer = { label: name, pid: 1, isAlive: () => true }
  return new Directory('/var', { files: nfs.client(name), writer, watchIntervalMs: 1 })
}

/** Random numbers in [0, 1) from a seed (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
