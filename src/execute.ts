/**
 * Carries out steps one after the other: written into the claim before it is sent, its precondition looked at again, its end seen.
 * The first that fails ends the run; what follows is "not executed", and what was interrupted is "unknown" until somebody looks.
 */
import type { Cluster } from './core/cluster.ts'
import type { End } from './core/migration.ts'
import type { NodeRecord } from './core/node.ts'
import { describeStep, type Step, type StepArgs, type StepName } from './core/step.ts'
import { awaitHostDead, forget, takeBack } from './execute/lease.ts'
import { lockRefusals } from './execute/lock-refusals.ts'
import { abortMigration, migrate } from './execute/migration.ts'
import {
  ask,
  endOn,
  failed,
  hasComeToRest,
  interrupted,
  isUnknown,
  lostLibvirtd,
  NotSentError,
  type Outcome,
  POLL_MS,
  raise,
  recordOf,
  said,
  send,
  type Work,
} from './execute/work.ts'
import { guardMeaning } from './nodes/guard.ts'
import type { Exit } from './nodes/process.ts'
import type { Parts } from './operate.ts'
import { type ExitStatus, exitStatus, failure, type Message, refusalMessage, type StepResult } from './report.ts'
import { type Claim, ClaimLostError } from './store/claim.ts'
import { StoreError } from './store/store.ts'

/** Ctrl-C, as the pipeline hears it. A door decides what it asks the person. */
export interface Interrupt {
  /** Calls `handler` when the person wants to stop; gives back how to stop listening. */
  onInterrupt(handler: () => void): () => void
  /** Asks whether the migration is to be ended; true without asking where nobody can answer, false when `moot` fires first. */
  confirmAbort(question: string, moot: AbortSignal): Promise<boolean>
  /** True once the person wants to stop and nobody else took it: no further step is begun. */
  requested(): boolean
}

export interface Execution {
  readonly exit: ExitStatus
  readonly results: readonly StepResult[]
  readonly messages: readonly Message[]
}

type Executors = { [S in StepName]: (work: Work, args: StepArgs[S], one: Step) => Promise<Outcome> }

/** Runs the steps under the claim. Rejects only with ClaimLostError or a failing store. */
export async function executeSteps(
  parts: Parts,
  claim: Claim,
  cluster: Cluster,
  steps: readonly Step[],
): Promise<Execution> {
  const records = new Map([...cluster.nodes].map(([name, { record }]) => [name, record]))
  const results: StepResult[] = []
  const messages: Message[] = []
  let twice = false
  let refused = false
  for (const [at, one] of steps.entries()) {
    if (parts.interrupt.requested() || results.some(({ outcome }) => outcome !== 'done')) {
      results.push({ ...nameOf(one), outcome: 'not executed' })
      continue
    }
    const work = workOf(parts, claim, records, steps.slice(at + 1))
    const outcome = await Promise.race([executeStep(work, one), claim.lost]).catch(brokenOff)
    const refusals = outcome.outcome === 'failed' ? await lockRefusals(work, one, outcome.detail ?? '') : []
    refused ||= refusals.length > 0
    messages.push(...refusals.map(refusalMessage))
    twice ||= outcome.twice === true
    messages.push(...(outcome.messages ?? []))
    results.push({
      ...nameOf(one),
      outcome: outcome.outcome,
      ...(outcome.detail === undefined ? {} : { detail: outcome.detail }),
    })
  }
  await takeBackUnstarted(workOf(parts, claim, records, []), steps, results)
  const exit = exitOf(results)
  // Nothing was done, and a lock manager said no: that is a refusal like any other.
  const status = refused && exit === exitStatus.failed ? exitStatus.refused : exit
  return { exit: twice ? exitStatus.twice : status, results, messages }
}

/** Past a node that was waited for, and then certainly not started: the mark there goes again. Of an unknown end it stays. */
async function takeBackUnstarted(work: Work, steps: readonly Step[], results: readonly StepResult[]): Promise<void> {
  const waited = steps.some((one, at) => one.step === 'awaitHostDead' && results[at]?.outcome === 'done')
  const create = steps.findIndex(one => one.step === 'createDomain')
  const outcome = results[create]?.outcome
  const one = steps[create]
  if (!waited || one?.step !== 'createDomain' || (outcome !== 'failed' && outcome !== 'not executed')) return
  await takeBack(work, one).catch(error => {
    if (!(error instanceof StoreError)) throw error
  })
}

function nameOf(one: Step) {
  return { step: one.step, domain: one.domain, uuid: one.uuid, text: describeStep(one) }
}

/** What the executors of one claim work with; `after` are the steps that are still to come. */
export function workOf(
  parts: Parts,
  claim: Claim,
  records: ReadonlyMap<string, NodeRecord>,
  after: readonly Step[],
): Work {
  const { uri } = parts.home.config.libvirt
  const work: Work = {
    parts,
    claim,
    records,
    uri,
    notBegun: after.map(describeStep),
    perform: one => executeStep(work, one),
  }
  return work
}

/**
 * The claim or the store went away while a step was under way, and no other is begun. What did not get into the claim was
 * not sent; of anything else nobody knows.
 */
function brokenOff(error: unknown): Outcome {
  const next = 'havirt started nothing more; look what is true now: havirt node scan'
  if (error instanceof NotSentError) return { ...failed(error.message), messages: [failure(error.message, next)] }
  if (!(error instanceof ClaimLostError) && !(error instanceof StoreError)) throw error
  return { outcome: 'unknown', detail: error.message, messages: [failure(error.message, next)] }
}

function exitOf(results: readonly StepResult[]): ExitStatus {
  if (results.every(({ outcome }) => outcome === 'done')) return exitStatus.done
  if (results.some(({ outcome }) => outcome === 'unknown')) return exitStatus.unknown
  const acted = results.some(({ outcome, step: name }) => outcome === 'done' && !ONLY_RECORDS.has(name))
  return acted ? exitStatus.partly : exitStatus.failed
}

/** Steps that change no node. */
const ONLY_RECORDS: ReadonlySet<StepName> = new Set(['recordIntent', 'awaitHostDead'])

function executeStep(work: Work, one: Step): Promise<Outcome> {
  const execute = executors[one.step] as (work: Work, args: Step, one: Step) => Promise<Outcome>
  return execute(work, one, one)
}

const executors: Executors = {
  createDomain: (work, args, one) => create(work, args, one),
  shutdownDomain: (work, args, one) => onActive(work, args, one),
  awaitShutOff: async (work, args) => awaitShutOff(work, args),
  awaitHostDead: (work, args) => awaitHostDead(work, args),
  destroyCopy: async (work, args, one) => {
    const end = await endOn(work, args.node, args.uuid)
    if (end === undefined) return failed(`${args.node} no longer answers`)
    // libvirt's word alone: a look that includes the processes there forgets the mark.
    if (end === 'absent') return { outcome: 'done', detail: 'it was gone already' }
    const outcome = await outcomeOf(work, args.node, one, await send(work, one))
    if (outcome.outcome === 'done') await forget(work, args)
    return outcome
  },
  acquitCopy: async (work, args) => {
    await forget(work, args)
    return { outcome: 'done' }
  },
  destroyDomain: (work, args, one) => onActive(work, args, one),
  rebootDomain: (work, args, one) => onActive(work, args, one),
  resetDomain: (work, args, one) => onActive(work, args, one),
  suspendDomain: (work, args, one) => onActive(work, args, one),
  resumeDomain: (work, args, one) => onActive(work, args, one),
  setMaxDowntime: (work, args, one) => onActive(work, args, one),
  disableAutostart: (work, args, one) => onActive(work, args, one),
  migrateDomain: (work, args, one) => migrate(work, args, one),
  abortMigration: (work, args) => abortMigration(work, args),
  saveDefinition: async (work, args, one) => {
    const exit = await ask(work, one)
    if (exit.status !== 0) return failed(said(exit))
    await work.parts.home.definitions.write(args.domain, exit.stdout, args.replacesSha256)
    return { outcome: 'done', detail: args.definition }
  },
  undefineDomain: async (work, args, one) => {
    // Rule 10: the node's own definition goes only when ours can be read back.
    const kept = await work.parts.home.definitions.read(args.domain)
    if (kept?.domain?.uuid !== args.uuid)
      return failed(kept?.problem ?? `conf/${args.domain}.xml does not hold this domain`)
    return outcomeOf(work, args.node, one, await send(work, one))
  },
  recordIntent: async (work, args) => {
    await work.parts.home.records.writeDomain(args.domain, { manual: args.manual })
    return { outcome: 'done' }
  },
}

async function create(work: Work, args: StepArgs['createDomain'], one: Step): Promise<Outcome> {
  const definition = await work.parts.home.definitions.read(args.domain)
  if (definition?.sha256 !== args.sha256) return failed(`${args.definition} changed after it was planned`)
  const end = await endOn(work, args.node, args.uuid)
  if (end !== 'absent')
    return failed(
      end === undefined ? `${args.node} no longer answers` : `${args.domain} is already active on ${args.node}`,
    )
  return finish(work, one, args, await send(work, one, definition.text))
}

/** A command on a domain that must be active where the plan saw it. */
async function onActive(
  work: Work,
  { node, uuid, domain }: { node: string; uuid: string; domain: string },
  one: Step,
): Promise<Outcome> {
  const end = await endOn(work, node, uuid)
  if (end === undefined) return failed(`${node} no longer answers`)
  if (end === 'absent')
    return one.step === 'shutdownDomain' || one.step === 'destroyDomain'
      ? { outcome: 'done', detail: 'it was off already' }
      : failed(`${domain} is no longer active on ${node}`)
  return outcomeOf(work, node, one, await send(work, one))
}

/** Done, failed, or, when the end was not seen, whatever the node shows once nothing of ours can run there any more. */
async function outcomeOf(work: Work, node: string, one: Step, exit: Exit): Promise<Outcome> {
  if (isUnknown(exit)) return (await raise(work, node)) ? judge(work, node, one, exit) : interrupted(node, exit)
  work.claim.settled(node)
  return exit.status === 0 ? { outcome: 'done' } : failed(guardMeaning(exit.status) ?? said(exit))
}

/** What a step leaves behind when it was done; a step that leaves nothing to see stays unknown when its end was not seen. */
const LEAVES: Partial<Record<StepName, (end: End) => boolean>> = {
  destroyDomain: end => end === 'absent',
  destroyCopy: end => end === 'absent',
  suspendDomain: end => end !== 'absent' && end.state === 'paused',
  resumeDomain: end => end !== 'absent' && end.state === 'running',
}

async function judge(work: Work, node: string, one: Step, exit: Exit): Promise<Outcome> {
  const leaves = LEAVES[one.step]
  const end = 'uuid' in one ? await endOn(work, node, one.uuid) : undefined
  const happened = leaves !== undefined && end !== undefined && leaves(end)
  // A virsh that was cut off proves nothing: its libvirtd may still be at it, and the doubt stays written.
  if (happened || !lostLibvirtd(exit)) work.claim.settled(node)
  if (leaves === undefined || end === undefined || (!happened && lostLibvirtd(exit))) return interrupted(node, exit)
  return happened
    ? { outcome: 'done', detail: 'the connection was lost, but it happened' }
    : failed(`${said(exit)}; it did not happen`)
}

/** Nothing of the lost command runs on the node any more, or can. */
async function isOver(work: Work, node: string, one: Step): Promise<boolean> {
  return (await raise(work, node)) && hasComeToRest(work.parts, recordOf(work, node), one)
}

/** The outcome of a start: libvirt's word, and then what the node shows. */
async function finish(
  work: Work,
  one: Step,
  { node, uuid, domain }: { node: string; uuid: string; domain: string },
  exit: Exit,
): Promise<Outcome> {
  if (isUnknown(exit) && !(await isOver(work, node, one))) return interrupted(node, exit)
  // The doubt stays written while libvirtd may still be at it: whoever comes next raises the guard and looks again.
  if (!lostLibvirtd(exit)) work.claim.settled(node)
  // What the guard kept out did nothing: a domain that is there now is somebody else's start.
  const keptOut = guardMeaning(exit.status)
  if (keptOut !== undefined) return failed(keptOut)
  const end = await endOn(work, node, uuid)
  if (end !== undefined && end !== 'absent')
    return { outcome: 'done', ...(end.state === 'running' ? {} : { detail: `it is ${end.state}` }) }
  if (end === undefined) return { outcome: 'unknown', detail: `${node} no longer answers` }
  if (lostLibvirtd(exit))
    return { ...interrupted(node, exit), detail: `${said(exit)}; ${domain} does not run on ${node} so far` }
  return failed(exit.status === 0 ? `${domain} was started on ${node} and ended at once` : said(exit))
}

async function awaitShutOff(work: Work, { node, uuid, domain, timeoutMs }: StepArgs['awaitShutOff']): Promise<Outcome> {
  const { clock, progress } = work.parts
  const startedMs = clock.monotonicMs()
  const bar = progress.begin(`${domain} shuts down`, timeoutMs / 1000)
  for (;;) {
    const end = await endOn(work, node, uuid)
    const waitedMs = clock.monotonicMs() - startedMs
    if (end === 'absent') {
      bar.end('off')
      return { outcome: 'done', detail: `after ${(waitedMs / 1000).toFixed(1)} s` }
    }
    if (work.parts.interrupt.requested()) {
      bar.end('interrupted')
      return { outcome: 'unknown', detail: `interrupted; ${domain} was asked and may still shut down` }
    }
    if (waitedMs > timeoutMs) {
      bar.end('still on')
      return end === undefined
        ? { outcome: 'unknown', detail: `${node} no longer answers` }
        : {
            ...failed(`still on after ${timeoutMs / 1000} s`),
            messages: [
              failure(
                `${domain} did not shut down within ${timeoutMs / 1000} s`,
                `its guest may not listen; havirt domain stop ${domain} --force cuts its power`,
              ),
            ],
          }
    }
    bar.update(waitedMs / 1000, `${Math.round(waitedMs / 1000)} s of at most ${timeoutMs / 1000}`)
    await clock.sleep(POLL_MS)
  }
}
