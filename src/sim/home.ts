/** The home folder in memory: one configuration, the simulated store, and the definitions as texts. */
import { type Config, defaultConfig } from '../core/config.ts'
import type { Definitions, DefinitionText } from '../store/definitions.ts'
import type { Home } from '../store/home.ts'
import { Records } from '../store/records.ts'
import { StoreError } from '../store/store.ts'
import type { LeaseSetting } from './sanlock.ts'
import type { Share, SimStore } from './store.ts'
import { definitionText } from './texts.ts'

export const HOME = '/srv/havirt'

/** How the simulated cluster is configured. */
export const simConfig: Config = {
  ...defaultConfig,
  dryrun: false,
  fence: { ...defaultConfig.fence, devices: fences() },
}

function fences(): string[] {
  return [1, 2, 3, 4, 5].map(each => `node${each} fence_ipmilan ip=10.0.0.${each} username=admin`)
}

/** The same where leases are on. */
export function configWith(leases: LeaseSetting | undefined): Config {
  if (leases === undefined) return simConfig
  const { passUnreachable, passWithoutWatchdog } = leases
  return { ...simConfig, lease: { ...simConfig.lease, passUnreachable, passWithoutWatchdog } }
}

/** conf/, which everybody sees alike. */
export class SimDefinitions implements Definitions {
  #files: ReadonlyMap<string, DefinitionText>

  constructor(texts: ReadonlyMap<string, string>) {
    this.#files = new Map([...texts].map(([name, text]) => [name, definitionText(name, pathOf(name), text)]))
  }

  path(name: string): string {
    return pathOf(name)
  }

  async names(): Promise<string[]> {
    return [...this.#files.keys()].sort()
  }

  all(): Promise<Map<string, DefinitionText>> {
    return Promise.resolve(this.#files as Map<string, DefinitionText>)
  }

  read(name: string): Promise<DefinitionText | undefined> {
    return Promise.resolve(this.#files.get(name))
  }

  async write(name: string, text: string, replacesSha256: string | undefined): Promise<void> {
    if (this.#files.get(name)?.sha256 !== replacesSha256)
      throw new StoreError(`${pathOf(name)} was changed by somebody else in the meantime`, 'nothing was written')
    this.#files = new Map(this.#files).set(name, definitionText(name, pathOf(name), text))
  }
}

function pathOf(name: string): string {
  return `${HOME}/conf/${name}.xml`
}

/** conf/ as one process reads and writes it: through the share, when something ails that. */
class FeltDefinitions implements Definitions {
  readonly #all: Definitions
  readonly #store: SimStore

  constructor(all: Definitions, store: SimStore) {
    this.#all = all
    this.#store = store
  }

  path(name: string): string {
    return this.#all.path(name)
  }

  names(): Promise<string[]> {
    return this.#store.pass(() => this.#all.names())
  }

  all(): Promise<Map<string, DefinitionText>> {
    return this.#store.pass(() => this.#all.all())
  }

  read(name: string): Promise<DefinitionText | undefined> {
    return this.#store.pass(() => this.#all.read(name))
  }

  write(name: string, text: string, replacesSha256: string | undefined): Promise<void> {
    return this.#store.pass(() => this.#all.write(name, text, replacesSha256), true)
  }
}

/** The records, whose reading costs nothing while the share is well and nobody writes. */
class SimRecords extends Records {
  readonly #share: Share
  readonly #store: SimStore

  constructor(share: Share, store: SimStore) {
    super(store)
    this.#share = share
    this.#store = store
  }

  override nodes(how?: 'fresh') {
    return this.#cheap('nodes', () => super.nodes(how))
  }

  override ledger(node: string) {
    return this.#cheap(`ledger/${node}`, () => super.ledger(node))
  }

  override domains() {
    return this.#cheap('domains', () => super.domains())
  }

  override population(node: string) {
    return this.#cheap(`population/${node}`, () => super.population(node))
  }

  #cheap<T>(what: string, read: () => Promise<T>): Promise<T> {
    return this.#store.isFine() ? this.#share.answer(what, read) : read()
  }
}

/** The home folder as one process has it open. */
export function simHome(share: Share, store: SimStore, definitions: Definitions, config: Config): Home {
  return {
    path: HOME,
    config,
    store,
    records: new SimRecords(share, store),
    definitions: new FeltDefinitions(definitions, store),
    clusterId: 'c1',
    editConfig: () => Promise.reject(new StoreError('the simulated configuration cannot be changed', 'nothing')),
  }
}
