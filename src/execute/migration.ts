/** Live migration: sent, watched, and judged by what both ends show once nothing of ours can run there any more. */
import type { Command } from '../core/command.ts'
import { type End, judgeMigration, mayResume, type Verdict } from '../core/migration.ts'
import { describeStep, type Step, type StepArgs, step } from '../core/step.ts'
import { guardMeaning } from '../nodes/guard.ts'
import type { Exit } from '../nodes/process.ts'
import { failure, type Message, note, warning } from '../report.ts'
import { watchMigration } from '../watch-migration.ts'
import {
  act,
  COMMAND_TIMEOUT_MS,
  endOn,
  failed,
  interrupted,
  isUnknown,
  NotSentError,
  type Outcome,
  POLL_MS,
  raise,
  recordOf,
  said,
  send,
  type Work,
} from './work.ts'

const DAY_MS = 86_400_000
/** libvirt tidies up after a broken migration by itself, given a moment. */
const SETTLING_MS = 10_000

export async function migrate(work: Work, args: StepArgs['migrateDomain'], one: Step): Promise<Outcome> {
  const before = await endOn(work, args.from, args.uuid)
  if (before === undefined || before === 'absent') return failed(`${args.domain} is no longer active on ${args.from}`)
  const watcher = watchMigration(work.parts, recordOf(work, args.from), args, () =>
    act(work, abortCommand(work, args), undefined, COMMAND_TIMEOUT_MS, 'nolock'),
  )
  const exit = await send(work, one, undefined, DAY_MS).finally(() => watcher.stop())
  // A migration that may still be carried out is judged by nobody (rule 12).
  if (isUnknown(exit) && !(await raise(work, args.from))) return interrupted(args.from, exit)
  const keptOut = guardMeaning(exit.status)
  if (keptOut !== undefined) {
    work.claim.concluded(args.from)
    return failed(keptOut)
  }
  const ends = await atRest(work, args)
  if (ends === 'moving') return interrupted(args.from, exit)
  const outcome = await concludeMigration(work, args, exit, ends, watcher.downtimeMs)
  // Until both ends are in order the migration stays written down, so that whoever comes next goes on with it.
  if (outcome.outcome !== 'unknown') work.claim.concluded(args.from)
  return outcome
}

/**
 * Ends a migration that is under way, and waits for its end; then the source has the domain alone. Sent without the lock, which
 * the migration's own command may hold. A job that had ended before is no failure: what both ends show decides.
 */
export async function abortMigration(work: Work, args: StepArgs['abortMigration']): Promise<Outcome> {
  await sendAbort(work, args)
  const ends = await atRest(work, args)
  if (ends === 'moving') return { outcome: 'unknown', detail: `${args.domain} is still moving` }
  const outcome = await concludeMigration(work, args, ABORTED, ends, () => undefined)
  const { source, target } = await endsOf(work, args)
  if (outcome.outcome === 'done') return { ...failed(`${args.domain} moved to ${args.to} before it could be ended`) }
  const stayed = source !== undefined && source !== 'absent' && target === 'absent'
  const messages = outcome.outcome === 'failed' ? (outcome.messages ?? []) : []
  return stayed ? { outcome: 'done', detail: `${args.domain} stays on ${args.from}`, messages } : outcome
}

/** Nothing is written into the claim: ending a job brings nothing to life, and the guard keeps out what comes too late. */
async function sendAbort(work: Work, args: Moving): Promise<void> {
  await act(work, abortCommand(work, args), undefined, COMMAND_TIMEOUT_MS, 'nolock')
}

/** How the command of a migration that is to be judged ended: not by itself. */
const ABORTED: Exit = { status: 1, signal: undefined, stdout: '', stderr: 'it was ended', timedOut: false }
const LEFT: Exit = { ...ABORTED, stderr: 'whoever began it is gone' }

/** What became of a migration that somebody else began and did not see to its end. */
export type TakenUp = Outcome | { readonly moving: number | undefined } | 'silent'

/** `end`: it is not waited for, but ended. `targetIsDown`: the target does not answer, and somebody vouches that it is off. */
export interface TakeUpHow {
  /** Called when its libvirtd was asked to end it. */
  asked(): void
  /** What an earlier holder had found out when it began to put the ends right. */
  readonly judged: Verdict | undefined
  readonly untilMs: number
  readonly end: boolean
  readonly targetIsDown: boolean
}

/**
 * Takes up a migration that a dead holder of the claim left in doubt: waits for its job until `untilMs` (or ends it), makes
 * sure that nothing late can happen, and judges the ends by the table of docs/safety.md. Nothing is done while it still moves.
 */
export async function takeUpMigration(work: Work, args: Moving, how: TakeUpHow): Promise<TakenUp> {
  const { untilMs, end, targetIsDown } = how
  const { clock, interrupt } = work.parts
  for (let asked = false; ; ) {
    const job = await jobOf(work, args)
    if (job === 'silent') return 'silent'
    if (job === 'over') break
    if (end && !asked) {
      how.asked()
      await sendAbort(work, args)
    }
    asked = true
    const isOver = !end && clock.monotonicMs() >= untilMs
    if (isOver || interrupt.requested()) return { moving: await progressOf(work, args) }
    await clock.sleep(POLL_MS)
  }
  if (!(await raise(work, args.from))) return 'silent'
  // A command that came late may have begun it anew before the guard was raised.
  const ends = await atRest(work, args)
  if (ends === 'moving' || ends.source === undefined) return 'silent'
  const target = ends.target ?? (targetIsDown ? 'absent' : undefined)
  if (target === undefined) return 'silent'
  return concludeMigration(work, args, LEFT, { source: ends.source, target }, () => undefined, how.judged)
}

/** Per cent of the memory that has been sent; undefined when the source does not tell. */
async function progressOf(work: Work, { from, domain, uuid }: Moving): Promise<number | undefined> {
  const job = await work.parts.nodes.jobStats(recordOf(work, from), { name: domain, uuid })
  const total = job === undefined || job === 'silent' ? 0 : Number(job.params['memory_total'] ?? 0)
  if (job === undefined || job === 'silent' || total === 0) return undefined
  return Math.floor((100 * (total - Number(job.params['memory_remaining'] ?? 0))) / total)
}

/** What a migration moves, and between which nodes. */
type Moving = Pick<StepArgs['migrateDomain'], 'domain' | 'uuid' | 'from' | 'to'>

function abortCommand(work: Work, { from, uuid }: Moving): Command {
  return { node: from, argv: ['virsh', '-c', work.uri, 'domjobabort', uuid] }
}

interface Ends {
  readonly source: End | undefined
  readonly target: End | undefined
}

/**
 * The two ends once libvirt has tidied up, or as they are when it does not. libvirtd goes on with a migration whose virsh is
 * gone, so a job that is still there is waited for; `moving` when the person does not want to wait.
 */
async function atRest(work: Work, args: Moving): Promise<Ends | 'moving'> {
  const { clock, interrupt } = work.parts
  let startedMs = clock.monotonicMs()
  for (;;) {
    for (let job = await jobOf(work, args); job !== 'over'; job = await jobOf(work, args)) {
      if (job === 'silent') return { source: undefined, target: await endOn(work, args.to, args.uuid) }
      if (interrupt.requested()) return 'moving'
      await clock.sleep(POLL_MS)
      startedMs = clock.monotonicMs()
    }
    const { source, target } = await endsOf(work, args)
    const settled = (source === 'absent') !== (target === 'absent') && source !== undefined && target !== undefined
    if (settled || clock.monotonicMs() - startedMs > SETTLING_MS) return { source, target }
    await clock.sleep(POLL_MS)
  }
}

async function endsOf(work: Work, { from, to, uuid }: Moving): Promise<Ends> {
  const [source, target] = await Promise.all([endOn(work, from, uuid), endOn(work, to, uuid)])
  return { source, target }
}

/** virDomainJobType BOUNDED and UNBOUNDED: the source is still sending. */
const UNDER_WAY = new Set([1, 2])

/**
 * Whether a libvirtd is still at it; `silent` when the source does not say, which is no "no". The target is asked, too: somebody
 * may be moving it on from there, and what waits for that must not be taken for what we left.
 */
async function jobOf(work: Work, { domain, uuid, from, to }: Moving): Promise<'under way' | 'over' | 'silent'> {
  const of = (node: string) => work.parts.nodes.jobStats(recordOf(work, node), { name: domain, uuid })
  const [there, onward] = await Promise.all([of(from), of(to)])
  if (there === 'silent') return 'silent'
  const isUnderWay = (job: typeof onward) => job !== undefined && job !== 'silent' && UNDER_WAY.has(job.type)
  return isUnderWay(there) || isUnderWay(onward) ? 'under way' : 'over'
}

async function concludeMigration(
  work: Work,
  args: Moving,
  exit: Exit,
  { source, target }: Ends,
  downtimeMs: () => number | undefined,
  judged?: Verdict,
): Promise<Outcome> {
  if (source === undefined || target === undefined) {
    const silent = source === undefined ? args.from : args.to
    return {
      outcome: 'unknown',
      detail: `${silent} does not answer`,
      messages: [
        warning(
          `where ${args.domain} runs is not known while ${silent} does not answer`,
          'when it does: havirt node scan',
        ),
      ],
    }
  }
  // What waited on the target was seen to wait, and is destroyed by now: the source alone would not tell.
  const wasBegun = judged === 'destroyTargetResumeSource' && mayResume(source, target)
  const verdict = wasBegun ? judged : judgeMigration(source, target)
  const reason = exit.status === 0 ? undefined : said(exit)
  if (verdict === 'moved') return { outcome: 'done', detail: downtimeText(downtimeMs()) }
  if (verdict === 'off')
    return reason === undefined ? vanished(args) : failed(`${reason}; ${args.domain} is off on both nodes`)
  if (verdict === 'stayed')
    return failed(`${reason ?? 'libvirt said it moved, but it did not'}; ${args.domain} still runs on ${args.from}`)
  return repair(work, args, verdict, reason ?? 'the migration broke', wasBegun)
}

/** libvirt moved it, and the target does not have it: it ended there, or it was moved to somebody else. */
function vanished({ domain, from, to }: Moving): Outcome {
  const why = `libvirt on ${from} says that ${domain} moved, but ${to} does not show it`
  const next = `it ended as soon as it was there, or ${to} is another machine for ${from}: havirt node scan, and compare what the name ${to} means on ${from}`
  return { outcome: 'unknown', detail: `${domain} is off on both nodes`, messages: [warning(why, next)] }
}

function downtimeText(downtimeMs: number | undefined): string {
  return downtimeMs === undefined
    ? 'verified on both nodes'
    : `verified on both nodes; it stood still for ${downtimeMs} ms`
}

/** The table of docs/safety.md: what may be put right is, by steps that are shown; the rest is named and left alone. */
async function repair(
  work: Work,
  args: Moving,
  verdict: Exclude<Verdict, 'moved' | 'stayed' | 'off'>,
  reason: string,
  wasBegun: boolean,
): Promise<Outcome> {
  const on = { domain: args.domain, uuid: args.uuid }
  if (verdict === 'twice') {
    return {
      outcome: 'unknown',
      twice: true,
      detail: reason,
      messages: [
        failure(
          `${args.domain} runs on ${args.from} and on ${args.to}`,
          'havirt touches neither: destroy the wrong copy by hand with virsh',
        ),
      ],
    }
  }
  if (verdict === 'unclear') {
    const next = `look at both by hand: virsh -c qemu+ssh://${args.from}/system domstate ${args.uuid} --reason, and the same on ${args.to}`
    return {
      outcome: 'unknown',
      detail: reason,
      messages: [failure(`nobody can say whether ${args.domain} belongs to ${args.from} or to ${args.to}`, next)],
    }
  }
  const mending: Step[] =
    verdict === 'destroySource'
      ? [step('destroyDomain', { ...on, node: args.from, graceful: false })]
      : [
          ...(wasBegun ? [] : [step('destroyDomain', { ...on, node: args.to, graceful: false, waits: true })]),
          ...(verdict === 'destroyTargetResumeSource' ? [step('resumeDomain', { ...on, node: args.from })] : []),
        ]
  work.claim.judged(args.from, verdict)
  return mend(work, args, mending, verdict, reason)
}

/** The ends are looked at again before each step that puts them right: a target that has begun to run must not be destroyed. */
async function stillSo(work: Work, args: Moving, one: Step, verdict: Verdict): Promise<boolean> {
  const { source, target } = await endsOf(work, args)
  if (source === undefined || target === undefined) return false
  return one.step === 'resumeDomain' ? mayResume(source, target) : judgeMigration(source, target) === verdict
}

/**
 * What was judged to wait was not destroyed, so it may have run since: whoever comes next must not take its absence for our doing,
 * and let the source run on.
 */
function misjudged(work: Work, args: Moving, one: Step): void {
  if (one.step === 'destroyDomain') work.claim.judged(args.from, undefined)
}

function notSent(error: unknown): Outcome {
  if (!(error instanceof NotSentError)) throw error
  return failed(error.message)
}

async function mend(
  work: Work,
  args: Moving,
  mending: readonly Step[],
  verdict: Verdict,
  reason: string,
): Promise<Outcome> {
  const messages: Message[] = []
  for (const one of mending) {
    if (!(await stillSo(work, args, one, verdict))) {
      misjudged(work, args, one)
      return { outcome: 'unknown', detail: `${reason}; it changed while it was put right`, messages }
    }
    const outcome = await work.perform(one).catch(notSent)
    if (outcome.outcome === 'failed') misjudged(work, args, one)
    messages.push(
      note(`${describeStep(one)}: ${outcome.outcome}${outcome.detail === undefined ? '' : ` (${outcome.detail})`}`),
    )
    if (outcome.outcome !== 'done') return { outcome: 'unknown', detail: reason, messages }
  }
  return verdict === 'destroySource'
    ? { outcome: 'done', detail: 'after tidying up', messages }
    : { outcome: 'failed', detail: `${reason}; ${args.domain} runs on ${args.from}`, messages }
}
