/**
 * The home folder: config.yaml, conf/ and var/. Opening it makes what is missing, but never in a folder that belongs to another
 * cluster, nor in an empty one where this machine remembers a cluster: an unmounted share must not become a new cluster (rule 10).
 */
import { randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../core/config.ts'
import { describeProblem, parseConfig } from '../core/config-check.ts'
import { initialConfigText, sampleConfigText } from '../core/config-text.ts'
import { DefinitionFolder, type Definitions } from './definitions.ts'
import { DirectoryStore } from './directory.ts'
import { Records } from './records.ts'
import { type Store, StoreError } from './store.ts'

/** What this machine's id file says; both are absent on a machine that is no node. */
export interface LocalIdentity {
  readonly node?: string
  readonly cluster?: string
}

export interface Home {
  readonly path: string
  readonly config: Config
  readonly store: Store
  readonly records: Records
  readonly definitions: Definitions
  readonly clusterId: string
  /** Replaces config.yaml by what `edit` makes of its text, whole or not at all. */
  editConfig(edit: (text: string) => string): Promise<void>
}

/** The config file cannot be used. Each problem is a sentence with file and line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

/** Opens the home folder at `path`. Rejects with {@link StoreError} or {@link ConfigError}; then nothing was changed. */
export async function openHome(path: string, local: LocalIdentity): Promise<Home> {
  await checkFolder(path)
  const store = new DirectoryStore(join(path, 'var'))
  const records = new Records(store)
  const known = (await isThere(join(path, 'var', 'cluster'))) ? await records.cluster() : undefined
  refuseStranger(path, known?.id, local)
  const config = await readConfig(path)
  await makeFolders(path)
  const { id } = known ?? (await records.createCluster({ id: randomUUID(), created: new Date().toISOString() }))
  return {
    path,
    config,
    store,
    records,
    definitions: new DefinitionFolder(path),
    clusterId: id,
    editConfig: edit => editConfig(path, edit),
  }
}

async function checkFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (found !== undefined && !found.isDirectory())
    throw new StoreError(`${path} is no folder`, 'name the home folder with --home or HAVIRT_HOME')
  if (found === undefined)
    throw new StoreError(
      `the home folder ${path} does not exist`,
      'mount the share, or make the folder, or name another with --home or HAVIRT_HOME',
    )
}

/** Looked for by hand, since the store needs var/, which is not made before we know that the folder is ours. */
async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}

/** Before anything is made: `known` is the cluster that the folder holds, if it holds one. */
export function refuseStranger(path: string, known: string | undefined, local: LocalIdentity): void {
  if (local.cluster === undefined || local.cluster === known) return
  if (known !== undefined) {
    throw new StoreError(
      `${path} belongs to another cluster (${known}) than this machine (${local.cluster})`,
      'name the right home folder with --home or HAVIRT_HOME, or mount the right share',
    )
  }
  throw new StoreError(
    `${path} holds no cluster, but this machine belongs to one (${local.cluster}, in /var/lib/havirt/id)`,
    'mount the share that holds it; if that cluster is gone for good, remove /var/lib/havirt/id on every node first',
  )
}

async function readConfig(path: string): Promise<Config> {
  const file = join(path, 'config.yaml')
  const bytes = await readFile(file).catch(error =>
    error.code === 'ENOENT' ? undefined : Promise.reject(unreadable(file, error)),
  )
  if (bytes === undefined) return createConfig(path, file)
  const { config, problems } = parseConfig(bytes.toString('utf8'), file)
  if (problems.length > 0) throw new ConfigError(problems.map(describeProblem))
  return config
}

function unreadable(file: string, error: Error): StoreError {
  return new StoreError(`${file} cannot be read: ${error.message}`, 'check its owner and mode')
}

async function createConfig(path: string, file: string): Promise<Config> {
  const text = initialConfigText()
  // First, since a config.yaml that is there is never followed by a sample.
  await createOnce(join(path, 'config.sample.yaml'), sampleConfigText())
  await createOnce(file, text)
  return parseConfig(text, file).config
}

async function editConfig(path: string, edit: (text: string) => string): Promise<void> {
  const file = join(path, 'config.yaml')
  const { mode } = await stat(file)
  const fresh = `${file}.${randomUUID()}.new`
  const text = edit(await readFile(file, 'utf8'))
  try {
    await writeFile(fresh, text, { flag: 'wx', mode, flush: true })
    await rename(fresh, file)
  } finally {
    await unlink(fresh).catch(() => undefined)
  }
}

/** Makes a file whole or not at all, and never over one that is there. */
async function createOnce(file: string, text: string): Promise<void> {
  const fresh = `${file}.${randomUUID()}.new`
  try {
    await writeFile(fresh, text, { flag: 'wx', mode: 0o644 })
    await link(fresh, file).catch(error => (error.code === 'EEXIST' ? undefined : Promise.reject(error)))
  } catch (error) {
    throw new StoreError(
      `${file} could not be made: ${(error as Error).message}`,
      'check that the home folder has room and can be written',
    )
  } finally {
    await unlink(fresh).catch(() => undefined)
  }
}

async function makeFolders(path: string): Promise<void> {
  for (const folder of ['conf', 'var']) {
    await mkdir(join(path, folder), { mode: 0o700 }).catch(async error => {
      if (error.code !== 'EEXIST' || !(await stat(join(path, folder))).isDirectory()) {
        throw new StoreError(
          `${join(path, folder)} could not be made: ${error.message}`,
          'check that the home folder can be written',
        )
      }
    })
  }
}
