/**
 * The folder conf/: the one definition of each domain, NAME.xml, readable for nobody else since definitions hold secrets.
 * People edit these files, too, so a file is what it says at the moment, and a write names the text that it replaces.
 */
import { createHash, randomUUID } from 'node:crypto'
import { link, mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Definition } from '../core/cluster.ts'
import { isDomainName, parseDomain } from '../core/domain-xml.ts'
import { MAX_XML_BYTES } from '../core/xml.ts'
import { keySegment } from './key.ts'
import { StoreError } from './store.ts'

const SUFFIX = '.xml'
/** Previous versions that are kept of each definition. */
const KEPT = 8

/** A definition with its text. */
export interface DefinitionText extends Definition {
  readonly text: string
}

/** The definitions as the pipeline sees them: files of conf/ here, texts in memory in the simulator. */
export interface Definitions {
  /** Where a domain's definition is, or would be. Throws {@link StoreError} for a name that no file may have. */
  path(name: string): string
  /** Names of all definitions, sorted. */
  names(): Promise<string[]>
  /** All definitions by name. A file that is no definition is among them, with its problem. */
  all(): Promise<Map<string, DefinitionText>>
  /** One definition, undefined when there is no file. */
  read(name: string): Promise<DefinitionText | undefined>
  /**
   * Replaces a definition durably: at every moment the file holds the old text or the new one, and the old is kept.
   * Rejects with {@link StoreError} when the file is no longer the one with `replacesSha256` (undefined: there was none).
   */
  write(name: string, text: string, replacesSha256: string | undefined): Promise<void>
}

export class DefinitionFolder implements Definitions {
  readonly #folder: string
  readonly #history: string

  /** `home` is the home folder; previous versions go below its var/definitions/. */
  constructor(home: string) {
    this.#folder = join(home, 'conf')
    this.#history = join(home, 'var', 'definitions')
  }

  path(name: string): string {
    if (!isDomainName(name)) {
      throw new StoreError(
        `'${name}' cannot be a domain's name`,
        'a name has letters, digits and . _ + - @ : ~, and does not begin with a dot or dash',
      )
    }
    return join(this.#folder, `${name}${SUFFIX}`)
  }

  async names(): Promise<string[]> {
    const files = await readdir(this.#folder).catch(error => (error.code === 'ENOENT' ? [] : Promise.reject(error)))
    return files
      .filter(file => file.endsWith(SUFFIX))
      .map(file => file.slice(0, -SUFFIX.length))
      .filter(isDomainName)
      .sort()
  }

  async all(): Promise<Map<string, DefinitionText>> {
    const names = await this.names()
    const read = await Promise.all(names.map(name => this.read(name)))
    return new Map(read.filter(each => each !== undefined).map(each => [each.name, each]))
  }

  async read(name: string): Promise<DefinitionText | undefined> {
    const path = this.path(name)
    try {
      const found = await stat(path)
      // Reading a pipe would wait for ever.
      if (!found.isFile()) return { ...unusable(name, path), problem: `${path} is not a file` }
      const { size } = found
      if (size > MAX_XML_BYTES)
        return {
          ...unusable(name, path),
          problem: `${path} has ${size} bytes; a definition has at most ${MAX_XML_BYTES}`,
        }
      return described(name, path, await readFile(path))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      return { ...unusable(name, path), problem: `${path} cannot be read: ${(error as Error).message}` }
    }
  }

  async write(name: string, text: string, replacesSha256: string | undefined): Promise<void> {
    const path = this.path(name)
    const before = await this.read(name)
    if (before?.sha256 !== replacesSha256) {
      throw new StoreError(
        `${path} was changed by somebody else in the meantime`,
        'nothing was written; look at the file and run the command again',
      )
    }
    if (before?.sha256 === '') {
      throw new StoreError(`${before.problem}`, 'nothing was written; mend the file or move it away')
    }
    const fresh = `${path}.${randomUUID()}.new`
    try {
      if (before !== undefined) await this.#keep(name, path)
      await writeDurably(fresh, text)
      // A first definition must not replace a file that appeared since we looked: a link never does.
      if (before === undefined) await link(fresh, path)
      else await rename(fresh, path)
      await syncFolder(this.#folder)
    } catch (error) {
      throw new StoreError(
        `${path} could not be written: ${(error as Error).message}`,
        'check that the home folder has room and can be written',
      )
    } finally {
      await unlink(fresh).catch(() => undefined)
    }
  }

  /** Keeps the file's very bytes: its text would lose whatever is not UTF-8. */
  async #keep(name: string, path: string): Promise<void> {
    const folder = join(this.#history, keySegment(name))
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const numbers = (await readdir(folder))
      .filter(file => /^[1-9]\d{0,14}\.xml$/.test(file))
      .map(file => Number.parseInt(file, 10))
      .sort((a, b) => a - b)
    await writeDurably(join(folder, `${(numbers.at(-1) ?? 0) + 1}${SUFFIX}`), await readFile(path))
    await Promise.all(
      numbers
        .slice(0, Math.max(0, numbers.length + 1 - KEPT))
        .map(number => unlink(join(folder, `${number}${SUFFIX}`))),
    )
  }
}

/** Hexadecimal SHA-256 of a definition's bytes. */
export function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function described(name: string, path: string, bytes: Buffer): DefinitionText {
  const common = { name, path, sha256: sha256(bytes), text: bytes.toString('utf8') }
  try {
    return { ...common, domain: parseDomain(common.text) }
  } catch (error) {
    return { ...common, problem: `${path}: ${error instanceof Error ? error.message : String(error)}` }
  }
}

function unusable(name: string, path: string): DefinitionText {
  return { name, path, sha256: '', text: '' }
}

async function writeDurably(path: string, content: string | Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** So that the new name survives a crash, too. Some network filesystems cannot do it, and then do not need it. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().catch(() => undefined)
  await folder.close()
}
