/**
 * The keeper: a process of its own that holds havirt's claim for the agent. The store may lie on a share that hangs, and whoever touches
 * it then cannot even be killed: so the agent never does. It lives as long as the agent speaks to it.
 */
import { assemble } from '../assemble.ts'
import { type Cluster, holdersOf, type Identity, identityOf, presencesOf, unknownNodes } from '../core/cluster.ts'
import { parseDomain } from '../core/domain-xml.ts'
import { describeRefusal, refuse } from '../core/refusal.ts'
import { observeOnce } from '../observe.ts'
import { claimRequest, type Parts } from '../operate.ts'
import { noProgress } from '../report.ts'
import type { Claim } from '../store/claim.ts'
import { ownerText } from '../store/claim-record.ts'
import { type Left, takeUp } from '../take-up.ts'
import { type Answer, lineReader, type Task, type Word } from './keeper-words.ts'

const NOBODY_ASKS = { onInterrupt: () => () => undefined, confirmAbort: async () => true, requested: () => false }

/** Reads the task from stdin, and answers on stdout until the agent has said its last word. */
async function keep(): Promise<void> {
  const words = new Words()
  const task = (await words.next()) as unknown as Task
  try {
    const parts = await assemble(task.home, noProgress, NOBODY_ASKS)
    await hold(parts, task, words)
    parts.nodes.close()
  } catch (error) {
    say({ is: 'failed', sentence: (error as Error).message })
  }
}

async function hold(parts: Parts, task: Task, words: Words): Promise<void> {
  const identity = identityIn(task)
  const request = await claimRequest(parts, identity, task.verb)
  const records = await parts.home.records.nodes()
  parts.nodes.approach([...records.values()])
  say({ is: 'open' })
  if (words.isOver) return
  const acquired = await parts.claims.acquire(request, {
    waitMs: 0,
    waiting: holder => say({ is: 'waiting', holder: `${ownerText(holder)}, ${holder.verb}, since ${holder.since}` }),
  })
  if ('heldBy' in acquired) {
    const { heldBy } = acquired
    const refusal = refuse('claimed', {
      domain: task.name,
      owner: ownerText(heldBy),
      since: heldBy.since,
      verb: heldBy.verb,
    })
    return say({ is: 'refused', sentence: describeRefusal(refusal).why })
  }
  const { claim } = acquired
  void claim.keepAlive()
  void claim.lost.catch(error => say({ is: 'lost', sentence: (error as Error).message }))
  try {
    await serve(parts, identity, claim, words)
  } finally {
    await claim.release().catch(() => undefined)
  }
}

/** A definition that cannot be read as a whole is claimed by its name and uuid. */
function identityIn({ xml, name, uuid }: Task): Identity & { readonly uuid: string } {
  try {
    return { ...identityOf(parseDomain(xml)), name, uuid }
  } catch {
    return { name, uuid, disks: [] }
  }
}

async function serve(parts: Parts, identity: Identity & { uuid: string }, claim: Claim, words: Words): Promise<void> {
  // Whoever has given us up works without a claim, or not at all any more: nothing may be taken up behind his back.
  if (words.isOver) return
  const { generation } = claim.record
  say({ is: 'claimed', generation, nodeId: parts.hereId ?? '' })
  const left = await takeUp(parts, claim, { untilMs: 0, endMigration: true })
  const cluster = await observeOnce(parts)
  const inTheWay =
    obstacle(cluster, identity) ?? underWay(left) ?? left.refusals.map(each => describeRefusal(each).why)[0]
  if (inTheWay !== undefined) return say({ is: 'refused', sentence: inTheWay })
  say({ is: 'clear', notes: [...left.messages.map(({ text }) => text), ...silentNotes(cluster)] })
  for (let word = await words.next(); word !== undefined; word = await words.next()) await obey(claim, cluster, word)
}

/** Pacemaker has fenced whom it wanted to fence: a node that does not answer is told, and refuses nothing. */
function silentNotes(cluster: Cluster): string[] {
  return unknownNodes(cluster).map(
    ({ name }) => `${name} does not answer havirt; Pacemaker is relied upon to have fenced it`,
  )
}

/** A node that answers, but on which an earlier command for the domain is still to end. */
function underWay({ unsettled }: Left): string | undefined {
  const [found] = [...unsettled].filter(([, { state }]) => state !== 'unreachable')
  return found === undefined
    ? undefined
    : `an earlier command may still be carried out on ${found[0]}: ${found[1].reason}`
}

/** Somebody else who was seen to have the domain, or one of its disks. */
function obstacle(cluster: Cluster, identity: Identity): string | undefined {
  const elsewhere = presencesOf(cluster, identity).find(({ node }) => node !== cluster.here)
  if (elsewhere !== undefined) {
    const { node, domain } = elsewhere
    return `${identity.name} is ${domain.active ? domain.state : 'saved'} on ${node}; stop it there first`
  }
  const [holder] = holdersOf(cluster, identity)
  if (holder === undefined) return undefined
  const { sighting, disk } = holder
  return `its disk ${disk.replace(/^\w+:/, '')} is in use by ${sighting.domain.name} on ${sighting.node}`
}

/** Each command is written into the claim before it is sent (rule 12). */
async function obey(claim: Claim, cluster: Cluster, word: Word): Promise<void> {
  const here = cluster.here ?? ''
  if ('settled' in word) return claim.settled(here)
  try {
    await claim.about(here, word.about)
    say({ is: 'written' })
  } catch (error) {
    say({ is: 'lost', sentence: (error as Error).message })
  }
}

function say(answer: Answer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}

/** What the agent says, in order; undefined after its last word. */
class Words {
  readonly #heard: (Word | undefined)[] = []
  #over = false
  #waiting: ((word: Word | undefined) => void) | undefined

  constructor() {
    process.stdin.setEncoding('utf8')
    process.stdin.on(
      'data',
      lineReader(line => this.#hear(JSON.parse(line) as Word)),
    )
    process.stdin.on('end', () => {
      this.#over = true
      this.#hear(undefined)
    })
  }

  /** True once the agent has said its last word. */
  get isOver(): boolean {
    return this.#over
  }

  next(): Promise<Word | undefined> {
    if (this.#over && this.#heard.length === 0) return Promise.resolve(undefined)
    if (this.#heard.length > 0) return Promise.resolve(this.#heard.shift())
    return new Promise(resolve => {
      this.#waiting = resolve
    })
  }

  #hear(word: Word | undefined): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting === undefined) this.#heard.push(word)
    else waiting(word)
  }
}

process.stdout.on('error', () => undefined)
void keep().then(() => process.exit(0))
