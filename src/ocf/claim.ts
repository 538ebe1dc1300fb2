/**
 * On a node that also belongs to a havirt cluster, a start or a migration takes the domain's claim, by its keeper. Pacemaker is not kept
 * waiting for it: a store that is silent is done without, and so is a machine that no cluster knows.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { Finding } from '../core/agent/presence.ts'
import { remoteLine } from '../core/command.ts'
import { guarded, guardMeaning } from '../nodes/guard.ts'
import { IDENTITY_FILE } from '../nodes/probe.ts'
import { type Exit, pipe } from '../nodes/process.ts'
import { type Agent, failed } from './agent.ts'
import { leftMs } from './call.ts'
import { type Answer, lineReader, type Task, type Word } from './keeper-words.ts'
import type { Log } from './log.ts'
import { type Order, program, virsh } from './virsh.ts'

/** For how long the store may be silent. */
const STORE_MS = 3000
/** For how long the other nodes may keep us: one that does not answer counts for nothing here. */
const LOOK_MS = 20_000
/** For how long its release is waited for. */
const RELEASE_MS = 1000

/** Who the domain is, to claim it. */
export interface Subject {
  readonly name: string
  readonly uuid: string
  readonly xml: string
  readonly verb: string
}

/** Under what commands are sent: a claim, or nothing. */
export interface Cover {
  readonly uuid: string
  /** Runs a command of virsh; under a claim behind the guard, and written down before. */
  virsh(words: readonly string[], order?: Order): Promise<Exit>
}

/** Runs `work` under the claim, where there is one to take; refuses where somebody stands in the way. */
export async function withClaim(
  agent: Agent,
  subject: Subject,
  work: (cover: Cover) => Promise<Finding>,
): Promise<Finding> {
  const home = homeOf()
  const bare: Cover = { uuid: subject.uuid, virsh: (words, order) => virsh(agent, words, order) }
  if (home === undefined) return work(bare)
  const keeper = new Keeper(agent, { home, ...subject, patienceMs: leftMs(agent.call) })
  try {
    const answer = await keeper.permission()
    if ('refused' in answer) return failed(answer.refused)
    if ('without' in answer) {
      agent.log.warn(`goes on without havirt's claim on ${subject.name}: ${answer.without}`)
      return await work(bare)
    }
    const { generation, nodeId } = answer
    return await work({
      uuid: subject.uuid,
      virsh: (words, order) => keeper.cover(agent, { uuid: subject.uuid, generation, nodeId }, words, order),
    })
  } finally {
    await keeper.end()
  }
}

/** The home folder that `havirt ocf install` found, on a machine that is a node of its cluster. */
function homeOf(): string | undefined {
  const file = join(__dirname, 'cluster.json')
  if (!existsSync(file) || !existsSync(IDENTITY_FILE)) return undefined
  try {
    const { home } = JSON.parse(readFileSync(file, 'utf8')) as { home?: unknown }
    return typeof home === 'string' ? home : undefined
  } catch {
    return undefined
  }
}

type Permission =
  | { readonly refused: string }
  | { readonly without: string }
  | { readonly generation: number; readonly nodeId: string }

class Keeper {
  readonly #stream: Duplex
  readonly #heard: Answer[] = []
  #wake: () => void = () => undefined
  #ended = false
  readonly #deadlineMs: number
  readonly #log: Log

  constructor(agent: Agent, task: Task) {
    this.#log = agent.log
    this.#deadlineMs = agent.call.deadlineMs
    this.#stream = pipe(process.execPath, [join(__dirname, 'keeper.cjs')])
    this.#stream.setEncoding('utf8')
    this.#stream.on(
      'data',
      lineReader(line => this.#hear(JSON.parse(line) as Answer)),
    )
    const ended = () => {
      this.#ended = true
      this.#wake()
    }
    for (const event of ['error', 'end', 'close']) this.#stream.on(event, ended)
    this.#say(task)
  }

  /** Waits until nothing stands in the way, something does, or it has been silent for too long. */
  async permission(): Promise<Permission> {
    let claimed: { generation: number; nodeId: string } | undefined
    for (;;) {
      const answer = await this.#next(claimed === undefined ? STORE_MS : LOOK_MS)
      if (answer === undefined) return this.#silence(claimed)
      if (answer.is === 'claimed') claimed = answer
      if (answer.is === 'clear' && claimed !== undefined) return this.#told(answer.notes, claimed)
      if (answer.is === 'refused' || answer.is === 'lost') return { refused: answer.sentence }
      if (answer.is === 'failed') return { without: answer.sentence }
      if (answer.is === 'waiting' && performance.now() + 1500 > this.#deadlineMs)
        return { refused: `the claim is held by ${answer.holder}, who may be alive` }
    }
  }

  #told(notes: readonly string[], claimed: { generation: number; nodeId: string }): Permission {
    for (const each of notes) this.#log.warn(each)
    return claimed
  }

  /** A claim that was taken counts, however long the other nodes take to answer. */
  #silence(claimed: { generation: number; nodeId: string } | undefined): Permission {
    if (claimed !== undefined && !this.#ended) return claimed
    return { without: this.#ended ? 'its keeper ended' : `the store did not answer within ${STORE_MS / 1000} s` }
  }

  async cover(
    agent: Agent,
    ticket: { uuid: string; generation: number; nodeId: string },
    words: readonly string[],
    order: Order = {},
  ): Promise<Exit> {
    const line = remoteLine({ node: '', argv: ['virsh', '-q', '-c', agent.hypervisor.uri, ...words] })
    this.#say({ about: line })
    const refused = await this.#refusal()
    if (refused !== undefined) return refusedExit(refused)
    // The lock is its own for as long as it runs, so it is not ended by our deadline; a stop finds the lock taken (stop.ts).
    const exit = await program(agent, 'sh', ['-c', guarded(ticket, line)], { ...order, shown: line })
    // Only an end that was seen settles it.
    if (!exit.timedOut && exit.status !== undefined) this.#say({ settled: true })
    const meaning = guardMeaning(exit.status)
    return meaning === undefined ? exit : { ...exit, stderr: meaning }
  }

  /** Why a command may not be sent; undefined when it was written down, or the store is silent. What was said before is not the answer. */
  async #refusal(): Promise<string | undefined> {
    for (;;) {
      const answer = await this.#next(STORE_MS)
      if (answer === undefined || answer.is === 'written') return undefined
      if (answer.is === 'lost' || answer.is === 'refused') return answer.sentence
    }
  }

  /**
   * Lets the claim go, and waits a moment for that: the next operation may follow at once. A keeper that hangs is left behind: it ends
   * when its share returns, and its claim by standing still.
   */
  async end(): Promise<void> {
    this.#stream.end()
    const untilMs = Math.min(performance.now() + RELEASE_MS, this.#deadlineMs)
    while (!this.#ended && performance.now() < untilMs) await this.#news(untilMs - performance.now())
  }

  #say(word: Task | Word): void {
    this.#stream.write(`${JSON.stringify(word)}\n`)
  }

  #hear(answer: Answer): void {
    this.#heard.push(answer)
    this.#wake()
  }

  /** The next answer; undefined when none comes in time, or none can come any more. */
  async #next(withinMs: number): Promise<Answer | undefined> {
    const untilMs = Math.min(performance.now() + withinMs, this.#deadlineMs)
    while (this.#heard.length === 0 && !this.#ended) {
      const left = untilMs - performance.now()
      if (left <= 0) return undefined
      await this.#news(left)
    }
    return this.#heard.shift()
  }

  /** Until something happens, at most so long. */
  #news(withinMs: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, withinMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

function refusedExit(sentence: string): Exit {
  return { status: 1, signal: undefined, stdout: '', stderr: sentence, timedOut: false }
}
