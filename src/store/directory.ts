/**
 * The store in a shared folder, NFS included. A key is a folder of numbered files, `nodes/node1/7.yaml`, of which the
 * highest number is the state; nothing is ever overwritten. The algorithm is that of docs/safety.md.
 *
 * A record of format 1 is one comment line and then the text, byte for byte:
 *
 *     # havirt record 1 <nonce> <first 32 digits of the text's sha256>
 *
 * The nonce tells which call wrote the file, because on NFS the answer of link() does not. The hash tells a whole file
 * from one that was cut, zeroed or edited.
 */
import { createHash, randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { type Entry, errorCode, type Files, realFiles, thisWriter, type Writer } from './files.ts'
import { checkKey, KEY_SEGMENT, type Key, type Store, StoreError, type SwapResult, type Versioned } from './store.ts'

/**
 * So many of a key's newest versions stay, for people and for slow readers. A number at or below `highest - KEPT` means
 * nothing: it may be removed by anyone at any time, and a call that is so late that it links such a number once more
 * finds the higher ones in its listing. So what it left behind does no harm, and the next winner prunes it.
 */
const KEPT = 8

/** Above so many temporary files of other hosts, all go. A writer that loses its own reports `unknown`: slow, but safe. */
const FOREIGN_DRAFTS = 64

/** Each retry of a read means that {@link KEPT} swaps went by in between, so more than a few never happen. */
const READ_TRIES = 8

/** What a {@link DirectoryStore} can be given instead of the real world. */
export interface DirectoryOptions {
  readonly files?: Files
  readonly writer?: Writer
  /** How often `watch` looks. Default 500. */
  readonly watchIntervalMs?: number
}

/** A record on its way: written under a name of its own, not yet under a number. */
interface Draft {
  readonly path: string
  readonly nonce: string
}

/** Whose record a numbered file is. `absent`: there is none, or a cache says so. */
type Holder = 'ours' | 'other' | 'absent'

/**
 * A store in the folder `root`, which must exist: it is never made here, because a share that is not mounted would then
 * become a new, empty cluster. A read costs one listing and one file; a swap seven operations, a hopeless swap one.
 */
export class DirectoryStore implements Store {
  readonly #root: string
  readonly #files: Files
  readonly #writer: Writer
  readonly #watchIntervalMs: number
  /** Drafts of swaps that ended in doubt. While such a file exists, a link() that was sent may still be carried out. */
  readonly #doubts = new Map<string, string[]>()

  constructor(root: string, options: DirectoryOptions = {}) {
    this.#root = root
    this.#files = options.files ?? realFiles
    this.#writer = options.writer ?? thisWriter()
    this.#watchIntervalMs = options.watchIntervalMs ?? 500
  }

  async read(key: Key, how?: 'fresh'): Promise<Versioned | undefined> {
    const folder = this.#folder(key)
    return await explained('read', folder, async () => {
      if (how === 'fresh') await this.#refresh(folder)
      await this.#settle(folder)
      return await this.#newest(folder)
    })
  }

  async list(prefix: Key, how?: 'fresh'): Promise<string[]> {
    const folder = prefix === '' ? this.#root : this.#folder(prefix)
    const entries = await explained('list', folder, async () => {
      if (how === 'fresh') await this.#refresh(folder)
      return this.#entries(folder)
    })
    return entries
      .filter(({ name, isFolder }) => isFolder && KEY_SEGMENT.test(name))
      .map(entry => entry.name)
      .sort()
  }

  async swap(key: Key, expected: number, text: string): Promise<SwapResult> {
    const folder = this.#folder(key)
    return await explained('write', folder, async () => {
      // A higher number, even in an old listing, is proof enough. The opposite proves nothing before we wrote here.
      const seen = highest(await this.#entries(folder))
      if (seen > expected) return { outcome: 'lost' }
      const draft = await this.#draft(folder, text)
      if (seen < expected && highest(await this.#entries(folder)) !== expected) return await this.#withdraw(draft)
      return await this.#publish(folder, expected + 1, draft)
    })
  }

  async watch(key: Key, known: number, signal: AbortSignal): Promise<Versioned | undefined> {
    const folder = this.#folder(key)
    while (!signal.aborted) {
      const record = await explained('watch', folder, async () => {
        await this.#refresh(folder)
        return await this.#newest(folder, known)
      })
      if (record !== undefined) return record
      await setTimeout(this.#watchIntervalMs, undefined, { signal }).catch(() => undefined)
    }
    return undefined
  }

  #folder(key: Key): string {
    checkKey(key)
    return join(this.#root, key)
  }

  /** The newest record, unless its version is `known`. */
  async #newest(folder: string, known = 0): Promise<Versioned | undefined> {
    for (let attempt = 0; attempt < READ_TRIES; attempt++) {
      if (attempt > 0) await this.#refresh(folder)
      const version = highest(await this.#entries(folder))
      if (version === 0 || version === known) return undefined
      const record = await this.#open(folder, version)
      if (record !== undefined) return { version, text: record.text }
    }
    throw new StoreError(`${folder} changes faster than it can be read.`, 'Try again; see who writes there.')
  }

  /** One numbered file, or undefined if it is not there (pruned meanwhile, or the listing was an old one). */
  async #open(folder: string, version: number): Promise<RecordFile | undefined> {
    try {
      const path = numbered(folder, version)
      return parseRecord(path, await this.#files.read(path))
    } catch (error) {
      if (['ENOENT', 'ESTALE'].includes(errorCode(error))) return undefined
      throw error
    }
  }

  /** What is in the folder; nothing if there is no folder yet. A missing root is an error: the share is not mounted. */
  async #entries(folder: string): Promise<Entry[]> {
    try {
      return await this.#files.list(folder)
    } catch (error) {
      if (errorCode(error) !== 'ENOENT' || folder === this.#root) throw error
      await explained('read', this.#root, () => this.#files.list(this.#root))
      return []
    }
  }

  /** Makes this host's caches forget the folder: name and attribute caches live up to a minute, but not past our own change. */
  async #refresh(folder: string): Promise<void> {
    const probe = join(folder, this.#temporaryName())
    try {
      await this.#files.write(probe, '', 'fleeting')
    } catch (error) {
      if (errorCode(error) !== 'ENOENT' || folder === this.#root) throw error
      return await this.#refresh(dirname(folder))
    }
    await this.#remove(probe)
  }

  /** Ends the doubt about earlier swaps: when the draft is gone, its link() can no longer happen, and reading tells. */
  async #settle(folder: string): Promise<void> {
    const doubts = this.#doubtsOf(folder)
    if (doubts.length === 0) return
    for (const draft of doubts) await this.#remove(draft)
    await this.#refresh(folder)
    this.#doubts.set(
      folder,
      this.#doubtsOf(folder).filter(draft => !doubts.includes(draft)),
    )
  }

  async #draft(folder: string, text: string): Promise<Draft> {
    const nonce = randomUUID()
    const path = join(folder, this.#temporaryName(nonce))
    const write = () => this.#files.write(path, formatRecord(nonce, text), 'durable')
    try {
      await write().catch(async error => {
        if (errorCode(error) !== 'ENOENT') throw error
        await this.#makeFolders(folder)
        await write()
      })
    } catch (error) {
      await this.#remove(path).catch(() => undefined)
      throw error
    }
    return { path, nonce }
  }

  async #makeFolders(folder: string): Promise<void> {
    if (folder === this.#root) return
    await this.#makeFolders(dirname(folder))
    await this.#files.makeFolder(folder)
    await this.#files.sync(dirname(folder))
  }

  async #withdraw(draft: Draft): Promise<SwapResult> {
    await this.#remove(draft.path)
    return { outcome: 'lost' }
  }

  /** From here on the record may hold, so that a failure is no longer an error but a doubt. */
  async #publish(folder: string, version: number, draft: Draft): Promise<SwapResult> {
    const result = await this.#verdict(folder, version, draft).catch(unknown)
    if (result instanceof StoreError) throw result
    if (result.outcome === 'unknown') this.#doubt(folder, draft)
    return result
  }

  /** Did we win? What link() answered is not asked: a repeated request says EEXIST although the first one won. */
  async #verdict(folder: string, version: number, draft: Draft): Promise<SwapResult | StoreError> {
    const answer = await this.#files.link(draft.path, numbered(folder, version)).catch(error => error)
    let holder = await this.#holder(folder, version, draft.nonce)
    await this.#remove(draft.path)
    // A cache may have said that there is no such file. Since the removal, which was ours, it cannot.
    if (holder === 'absent') holder = await this.#holder(folder, version, draft.nonce)
    if (holder === 'absent') return neverLinked(folder, answer)
    const entries = await this.#entriesWith(folder, version)
    const result = judge(version, holder, highest(entries))
    if (result.outcome !== 'won') return result
    await this.#files.sync(folder)
    await this.#tidy(folder, version, entries)
    return result
  }

  async #holder(folder: string, version: number, nonce: string): Promise<Holder> {
    const record = await this.#open(folder, version)
    if (record === undefined) return 'absent'
    return record.nonce === nonce ? 'ours' : 'other'
  }

  /** A listing that is no older than the file of this version, which was just seen. */
  async #entriesWith(folder: string, version: number): Promise<Entry[]> {
    const entries = await this.#entries(folder)
    if (highest(entries) >= version) return entries
    await this.#refresh(folder)
    return await this.#entries(folder)
  }

  /** Removes what means nothing any more. It may fail: the next winner does it. */
  async #tidy(folder: string, newest: number, entries: readonly Entry[]): Promise<void> {
    const files = entries.filter(entry => !entry.isFolder).map(entry => entry.name)
    const old = files.filter(name => versionOf(name) > 0 && versionOf(name) <= newest - KEPT)
    const drafts = files.filter(name => name.startsWith('tmp.'))
    const foreign = drafts.filter(name => !this.#isOurs(name))
    const dead = drafts.filter(name => this.#isOurs(name) && !this.#writer.isAlive(this.#pidOf(name)))
    const gone = [...old, ...dead, ...(foreign.length > FOREIGN_DRAFTS ? foreign : [])]
    await Promise.allSettled(gone.map(name => this.#files.unlink(join(folder, name))))
  }

  #temporaryName(unique: string = randomUUID()): string {
    return `tmp.${this.#writer.label}.${this.#writer.pid}.${unique}`
  }

  #isOurs(name: string): boolean {
    return name.startsWith(`tmp.${this.#writer.label}.`)
  }

  #pidOf(name: string): number {
    return Number.parseInt(name.slice(`tmp.${this.#writer.label}.`.length), 10)
  }

  async #remove(path: string): Promise<void> {
    await this.#files.unlink(path).catch(error => {
      if (errorCode(error) !== 'ENOENT') throw error
    })
  }

  #doubt(folder: string, draft: Draft): void {
    this.#doubts.set(folder, [...this.#doubtsOf(folder), draft.path])
  }

  #doubtsOf(folder: string): string[] {
    return this.#doubts.get(folder) ?? []
  }
}

/** Whose is the newest record, when `holder` has this version and `newest` is the highest number of a later listing? */
function judge(version: number, holder: 'ours' | 'other', newest: number): SwapResult {
  if (newest >= version + KEPT) {
    // The number may have been another's, pruned, and then ours; or ours, pruned, and then another's.
    return {
      outcome: 'unknown',
      reason: `version ${newest} is there, too far past ${version} to tell who had that one`,
    }
  }
  if (holder === 'other') return { outcome: 'lost' }
  if (newest === version) return { outcome: 'won', version }
  // Ours did hold, but not any more. "Lost" would make the caller do it again, and "won" would make it go on.
  return { outcome: 'unknown', reason: `written as version ${version}, but version ${newest} already follows it` }
}

/** Without hard links nothing can have happened, and no retry will help. Any other failed link is a doubt. */
function neverLinked(folder: string, answer: unknown): SwapResult | StoreError {
  if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(errorCode(answer))) {
    return unknown(answer ?? 'the new record vanished')
  }
  return new StoreError(
    `The file system of ${folder} has no hard links, which the store needs: ${message(answer)}`,
    'Put the cluster folder on NFS, ext4, XFS or another file system with hard links.',
    { cause: answer },
  )
}

function unknown(reason: unknown): SwapResult {
  return { outcome: 'unknown', reason: message(reason) }
}

function numbered(folder: string, version: number): string {
  return join(folder, `${version}.yaml`)
}

/** The version that a file name stands for, 0 if none. `07.yaml` is none: one version has one name. */
function versionOf(name: string): number {
  const match = /^([1-9]\d{0,14})\.yaml$/.exec(name)
  return match === null ? 0 : Number(match[1])
}

function highest(entries: readonly Entry[]): number {
  return entries.reduce((max, entry) => Math.max(max, entry.isFolder ? 0 : versionOf(entry.name)), 0)
}

/** A record as its file holds it. */
interface RecordFile {
  readonly nonce: string
  readonly text: string
}

function formatRecord(nonce: string, text: string): string {
  return `# havirt record 1 ${nonce} ${checksum(Buffer.from(text))}\n${text}`
}

function parseRecord(path: string, bytes: Buffer): RecordFile {
  const end = bytes.indexOf('\n')
  const header = /^# havirt record (\d+)(?: (\S+) (\S+))?/.exec(bytes.toString('latin1', 0, Math.max(end, 0)))
  if (header === null) throw damaged(path)
  const [, format, nonce, hash] = header
  if (format !== '1') throw newerFormat(path, format)
  const body = bytes.subarray(end + 1)
  if (nonce === undefined || checksum(body) !== hash) throw damaged(path)
  return { nonce, text: body.toString('utf8') }
}

function checksum(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32)
}

/** Says how to go on by hand without ever going back in versions: the one before is copied to the number after. */
function damaged(path: string): StoreError {
  const version = versionOf(path.slice(path.lastIndexOf('/') + 1))
  const [before, after] = [version - 1, version + 1].map(number => numbered(dirname(path), number))
  const hint =
    version === 1
      ? 'It is the first version, so there is none before it: look at it, then move it away.'
      : `The version before it is ${before}. To go on from that one: cp -n ${quoted(before)} ${quoted(after)}`
  return new StoreError(`${path} is damaged: it was cut or changed after it was written. It was left alone.`, hint)
}

/** As a shell must read it: the hint is there to be copied. */
function quoted(path = ''): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}

function newerFormat(path: string, format: string | undefined): StoreError {
  return new StoreError(
    `${path} has record format ${format}, and this havirt knows format 1 only.`,
    'Upgrade havirt on this host to the version that the other hosts have.',
  )
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'Free some space on the file system that holds it.',
  EDQUOT: 'Free some space, or raise the quota.',
  EROFS: 'It is mounted read-only: see the log of the host and of the file server, then mount it read-write.',
  EIO: 'The storage failed: see the log of the host and of the file server.',
  ESTALE: 'The file server replaced the share: mount it again.',
  EACCES: "Run havirt as the folder's owner; on NFS, look for root_squash.",
  EPERM: "Run havirt as the folder's owner; on NFS, look for root_squash.",
  ENOENT: 'Is the share mounted? If this is to be a new cluster, run havirt init.',
  ENOTDIR: 'Something that is not a folder is in the way: look at it, then move it away.',
}

/** Runs it, and turns a failed system call into a {@link StoreError} that says what was tried, why not, and what to do. */
async function explained<T>(doing: string, folder: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof StoreError) throw error
    const hint = HINTS[errorCode(error)] ?? 'See the log of the host and of the file server.'
    throw new StoreError(`Cannot ${doing} ${folder}: ${message(error)}`, hint, { cause: error })
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
