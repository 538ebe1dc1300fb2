/** A cluster for tests of the pipeline: fake nodes, a store in memory, a clock that only moves when told, definitions in a folder. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { parse } from 'yaml'
import { defaultConfig } from '../src/core/config.ts'
import { parseDomain } from '../src/core/domain-xml.ts'
import type { DomainOnNode } from '../src/core/node.ts'
import type { Interrupt } from '../src/execute.ts'
import type { Parts } from '../src/operate.ts'
import { noProgress } from '../src/report.ts'
import type { Claim } from '../src/store/claim.ts'
import type { ClaimRecord } from '../src/store/claim-record.ts'
import { type ClaimRequest, Claims } from '../src/store/claims.ts'
import type { Clock } from '../src/store/clock.ts'
import { DefinitionFolder } from '../src/store/definitions.ts'
import { MemoryStore } from '../src/store/memory.ts'
import type { Owner } from '../src/store/owner.ts'
import { Records } from '../src/store/records.ts'
import { aDomainOnNode, aRecord, WEB_UUID } from './core/builders.ts'
import { definitionXml, FakeNodes } from './fake-nodes.ts'

/** Time passes only while everybody sleeps or waits, and then at once; whoever wakes first wakes first. */
export class FakeClock implements Clock {
  ms = 0
  readonly #sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>()
  #running = false
  now = () => Date.UTC(2026, 0, 1) + this.ms
  monotonicMs = () => this.ms
  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise(resolve => {
      const wake = () => {
        this.#sleepers.delete(sleeper)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      const sleeper = { untilMs: this.ms + ms, wake }
      this.#sleepers.add(sleeper)
      if (signal?.aborted) wake()
      signal?.addEventListener('abort', wake)
      void this.#run()
    })

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    for (;;) {
      await quiet()
      const [next] = [...this.#sleepers].sort((a, b) => a.untilMs - b.untilMs)
      if (next === undefined) break
      this.ms = Math.max(this.ms, next.untilMs)
      next.wake()
    }
    this.#running = false
  }
}

/** Once nobody works: what is read from files takes no time either. */
async function quiet(): Promise<void> {
  do await new Promise(resolve => setImmediate(resolve))
  while (process.getActiveResourcesInfo().some(each => /^(FSReq|CloseReq)/.test(each)))
}

/** Ctrl-C by hand. */
export class FakeInterrupt implements Interrupt {
  stopped = false
  readonly questions: string[] = []
  answer = true
  readonly #handlers = new Set<() => void>()
  onInterrupt(handler: () => void): () => void {
    this.#handlers.add(handler)
    return () => this.#handlers.delete(handler)
  }
  async confirmAbort(question: string): Promise<boolean> {
    this.questions.push(question)
    return this.answer
  }
  requested(): boolean {
    return this.stopped
  }
  press(): void {
    for (const handler of this.#handlers) handler()
  }
}

/** Owners on machines of their own: whether one lives cannot be told from the other. */
export function anOwner(user: string): Owner {
  return { host: 'far', user, pid: 7, bootId: `boot of ${user}`, pidNamespace: 'pid:[1]', startTime: '1' }
}

/** Somebody who holds the claim on web: gives signs of life until the test ends, unless it is dead. */
export async function holdClaim(
  world: World,
  { user = 'ann', verb = 'domain migrate web node2', dead = false, identity = WEB } = {},
): Promise<Claim> {
  const theirs = claimsOf(world.store, world.clock, user)
  const acquired = await theirs.acquire({ identity, verb, node: 'node9' })
  if ('heldBy' in acquired) throw new Error('expected the claim to be free')
  if (!dead) {
    void acquired.claim.keepAlive()
    onTestFinished(() => acquired.claim.release().catch(() => undefined))
  }
  return acquired.claim
}

/** The claims as somebody sees them for whom everybody lives, unless they are silent for 30 s. */
export function claimsOf(store: MemoryStore, clock: Clock, user: string): Claims {
  return new Claims(store, clock, anOwner(user), 30_000, async () => false)
}

const WEB: ClaimRequest['identity'] = { name: 'web', uuid: WEB_UUID, disks: [] }

export interface World extends Parts {
  readonly nodes: FakeNodes
  readonly store: MemoryStore
  readonly clock: FakeClock
  readonly interrupt: FakeInterrupt
  readonly definitionsFolder: string
  /** The claim of `web`, or of another uuid, as the store has it. */
  claim(uuid?: string): Promise<ClaimRecord | undefined>
}

/** The definition of `web` in conf/, nodes node1 to node3, and on them these domains. */
export async function aWorld(domains: Readonly<Record<string, readonly DomainOnNode[]>> = {}): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-world-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  await mkdir(join(folder, 'conf'))
  await writeFile(join(folder, 'conf', 'web.xml'), definitionXml('web', WEB_UUID))
  const store = new MemoryStore()
  const records = new Records(store)
  const names = [...new Set(['node1', 'node2', 'node3', ...Object.keys(domains)])]
  for (const name of names) await records.writeNode(aRecord(name))
  const clock = new FakeClock()
  const editConfig = () => Promise.reject(new Error('nobody edits the config here'))
  const home = {
    editConfig,
    path: folder,
    config: defaultConfig,
    store,
    records,
    definitions: new DefinitionFolder(folder),
    clusterId: 'c',
  }
  return {
    home,
    nodes: new FakeNodes(domains),
    claims: claimsOf(store, clock, 'us'),
    clock,
    progress: noProgress,
    interrupt: new FakeInterrupt(),
    store,
    definitionsFolder: join(folder, 'conf'),
    claim: async (uuid = WEB_UUID) => {
      const found = await store.read(`claims/uuid/${uuid}`)
      return found === undefined ? undefined : (parse(found.text) as ClaimRecord)
    },
  }
}

/** web as a node shows it once it was started from its definition. */
export function web(more: Partial<DomainOnNode> = {}): DomainOnNode {
  return aDomainOnNode(more, parseDomain(definitionXml('web', WEB_UUID)))
}
