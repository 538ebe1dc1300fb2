/** What every executor works with: the claim, and one way to send a command, behind the guard and written down before it goes. */
import { type Command, commandOf, remoteLine } from '../core/command.ts'
import type { End } from '../core/migration.ts'
import type { NodeRecord } from '../core/node.ts'
import type { Step } from '../core/step.ts'
import type { GuardTicket } from '../nodes/guard.ts'
import type { Exit } from '../nodes/process.ts'
import type { Parts } from '../operate.ts'
import { type Message, type StepResult, warning } from '../report.ts'
import type { Claim } from '../store/claim.ts'

/** What one step came to. */
export interface Outcome {
  readonly outcome: StepResult['outcome']
  readonly detail?: string
  readonly messages?: readonly Message[]
  /** Overrides the exit status that follows from the outcomes: a domain was found running twice. */
  readonly twice?: boolean
}

/** What an executor works with. */
export interface Work {
  readonly parts: Parts
  readonly claim: Claim
  readonly records: ReadonlyMap<string, NodeRecord>
  /** The libvirt URI on each node. */
  readonly uri: string
  /** The steps that follow the one under way, in words, for whoever finds the claim of a dead holder. */
  readonly notBegun: readonly string[]
  /** Carries out one more step, to put right what another left behind. */
  perform(one: Step): Promise<Outcome>
}

/** The store or the claim failed before a command was sent: it was certainly not carried out. */
export class NotSentError extends Error {
  override readonly name = 'NotSentError'
}

/** The longest that any virsh command but a migration may take: a start of a large domain with huge pages takes a minute. */
export const COMMAND_TIMEOUT_MS = 180_000
/** Between two questions of a wait. */
export const POLL_MS = 200

export function failed(detail: string): Outcome {
  return { outcome: 'failed', detail }
}

export function recordOf(work: Work, node: string): NodeRecord {
  const record = work.records.get(node)
  if (record === undefined) throw new Error(`a step names ${node}, which is no node`)
  return record
}

export function endOn(work: Work, node: string, uuid: string): Promise<End | undefined> {
  return work.parts.nodes.domainState(recordOf(work, node), uuid)
}

/** Sends a step's command behind the guard, written into the claim first. */
export async function send(work: Work, one: Step, stdin?: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<Exit> {
  const command = commandFor(work, one)
  await writtenDown(work, command, one)
  return act(work, command, stdin, timeoutMs, 'lock', questionsOf(work, one))
}

/** Rule 12: what is about to be sent stands in the claim first; if it does not get there, nothing is sent. */
async function writtenDown({ claim, notBegun }: Work, command: Command, one: Step): Promise<void> {
  try {
    await claim.about(command.node, remoteLine(command), { step: one, notBegun })
  } catch (error) {
    throw new NotSentError((error as Error).message, { cause: error })
  }
}

/** What the guard finds out on the node right before the command. */
type Questions = Pick<GuardTicket, 'peer' | 'waits'>

/**
 * Rule 7 for a migration: the source's way to the target may be another than ours. And what waits for a migration may begin to run
 * at any moment, by a word of its source that was long on the way.
 */
function questionsOf(work: Work, one: Step): Questions {
  if (one.step === 'migrateDomain')
    return { peer: { uri: one.options.desturi, hostUuid: recordOf(work, one.to).hostUuid } }
  return one.step === 'destroyDomain' && one.waits === true ? { waits: { uri: work.uri } } : {}
}

export function act(
  work: Work,
  command: Command,
  stdin: string | undefined,
  timeoutMs: number,
  mode: 'lock' | 'nolock' = 'lock',
  questions: Questions = {},
): Promise<Exit> {
  const record = recordOf(work, command.node)
  const { uuid, generation } = work.claim.record
  const ticket = { uuid, generation, nodeId: record.id, ...questions }
  return work.parts.nodes.act(record, ticket, { command, timeoutMs, ...(stdin === undefined ? {} : { stdin }) }, mode)
}

export async function ask(work: Work, one: Step): Promise<Exit> {
  const command = commandFor(work, one)
  return work.parts.nodes.ask(recordOf(work, command.node), { command, timeoutMs: COMMAND_TIMEOUT_MS })
}

export function commandFor(work: Work, one: Step): Command {
  const command = commandOf(one, work.uri)
  if (command === undefined) throw new Error(`${one.step} has no command`)
  return command
}

/** Whether the command ran, or to what end, nobody here knows: ssh broke, or the command was killed or lost its libvirtd. */
export function isUnknown(exit: Exit): boolean {
  return exit.status === undefined || exit.status === 255 || exit.timedOut || lostLibvirtd(exit)
}

/** A shell's status for a command that a signal ended begins here; 255 is ssh's own. */
const FIRST_KILLED = 128
/** What virsh says when libvirtd went away under it. It has no status of its own for that. */
const LOST_LIBVIRTD =
  /disconnected from|end of file while reading|keepalive|connection reset|client socket is closed|cannot recv data/i

/** virsh itself was cut off. The guard's lock is free then, although libvirtd may go on with what was asked: it proves nothing. */
export function lostLibvirtd({ status, stderr }: Exit): boolean {
  return (
    status !== undefined && status !== 0 && status !== 255 && (status >= FIRST_KILLED || LOST_LIBVIRTD.test(stderr))
  )
}

export function said(exit: Exit): string {
  const text = (exit.stderr.trim() || exit.stdout.trim())
    .replace(/^error: /gm, '')
    .split('\n')
    .filter(line => line.trim() !== '')
  return text.join('; ') || `the command ended with status ${exit.status ?? 'unknown'}`
}

export function interrupted(node: string, exit: Exit): Outcome {
  return {
    outcome: 'unknown',
    detail: `${said(exit)}`,
    messages: [
      warning(
        `what ${node} did is not known: the connection ended before the command did`,
        'when the node answers again, look: havirt node scan',
      ),
    ],
  }
}

/** How long libvirtd may take from being asked for a domain to showing it: the first start on a node probes its QEMU for some seconds. */
const LIBVIRTD_MS = 10_000

/**
 * A virsh that somebody killed let go of the guard's lock, and its libvirtd goes on with what was asked. A domain shows as soon as
 * libvirtd has begun with it, so a node that answers for a while and does not show it has nothing of the kind at hand. False when
 * the node does not answer.
 */
export async function hasComeToRest(
  { clock, nodes }: Pick<Parts, 'clock' | 'nodes'>,
  record: NodeRecord,
  asked: Step | undefined,
): Promise<boolean> {
  if (asked?.step !== 'createDomain') return true
  const startedMs = clock.monotonicMs()
  for (;;) {
    const end = await nodes.domainState(record, asked.uuid)
    if (end === undefined) return false
    if (end !== 'absent' || clock.monotonicMs() - startedMs > LIBVIRTD_MS) return true
    await clock.sleep(POLL_MS)
  }
}

/**
 * Raises the guard where a command got lost: it waits for the command, and afterwards nothing late can happen there. If the
 * command was our own, the claim takes a higher generation first: with the present one it would still pass.
 */
export async function raise(work: Work, node: string): Promise<boolean> {
  const { doubts, generation: present } = work.claim.record
  if (doubts.some(doubt => doubt.node === node && doubt.generation === present)) await work.claim.advance()
  const record = recordOf(work, node)
  const { uuid, generation } = work.claim.record
  return (await work.parts.nodes.raise(record, { uuid, generation, nodeId: record.id })).status === 0
}
