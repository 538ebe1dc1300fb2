/**
 * Carries out steps one after the other: written into the claim before it is sent, its precondition looked at again, its end seen.
 * The first that fails ends the run; what follows is "not executed", and what was interrupted is "unknown" until somebody looks.
 */
import type { Cluster } from './core/cluster.ts'
import { type Command, commandOf, remoteLine } from './core/command.ts'
import { type End, judgeMigration, mayResume, type Verdict } from './core/migration.ts'
import type { NodeRecord } from './core/node.ts'
import { describeStep, type Step, type StepArgs, type StepName, step } from './core/step.ts'
import { guardMeaning } from './nodes/guard.ts'
import type { Exit } from './nodes/process.ts'
import type { Parts } from './operate.ts'
import { type ExitStatus, exitStatus, failure, type Message, note, type StepResult, warning } from './report.ts'
import { type Claim, ClaimLostError } from './store/claims.ts'
import { StoreError } from './store/store.ts'
import { watchMigration } from './watch-migration.ts'

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

/** What one step came to. */
interface Outcome {
  readonly outcome: StepResult['outcome']
  readonly detail?: string
  readonly messages?: readonly Message[]
  /** Overrides the exit status that follows from the outcomes: a domain was found running twice. */
  readonly twice?: boolean
}

/** What an executor works with. */
interface Work {
  readonly parts: Parts
  readonly claim: Claim
  readonly cluster: Cluster
}

type Executors = { [S in StepName]: (work: Work, args: StepArgs[S], one: Step) => Promise<Outcome> }

/** The longest that any virsh command but a migration may take: a start of a large domain with huge pages takes a minute. */
const COMMAND_TIMEOUT_MS = 180_000
const DAY_MS = 86_400_000
const POLL_MS = 200
/** libvirt tidies up after a broken migration by itself, given a moment. */
const SETTLING_MS = 10_000

/** Runs the steps under the claim. Rejects only with ClaimLostError or a failing store. */
export async function executeSteps(
  parts: Parts,
  claim: Claim,
  cluster: Cluster,
  steps: readonly Step[],
): Promise<Execution> {
  const work: Work = { parts, claim, cluster }
  const lost = new Promise<never>((_, reject) => claim.keepAlive(reject))
  lost.catch(() => undefined)
  const results: StepResult[] = []
  const messages: Message[] = []
  let twice = false
  for (const one of steps) {
    if (parts.interrupt.requested() || results.some(({ outcome }) => outcome !== 'done')) {
      results.push({ step: one.step, text: describeStep(one), outcome: 'not executed' })
      continue
    }
    const outcome = await Promise.race([executeStep(work, one), lost]).catch(brokenOff)
    twice ||= outcome.twice === true
    messages.push(...(outcome.messages ?? []))
    results.push({
      step: one.step,
      text: describeStep(one),
      outcome: outcome.outcome,
      ...(outcome.detail === undefined ? {} : { detail: outcome.detail }),
    })
  }
  return { exit: twice ? exitStatus.twice : exitOf(results), results, messages }
}

/** The claim or the store went away while a step was under way. What the step did is unknown, and no other is begun. */
function brokenOff(error: unknown): Outcome {
  if (!(error instanceof ClaimLostError) && !(error instanceof StoreError)) throw error
  const next = 'havirt started nothing more; look what is true now: havirt node scan'
  return { outcome: 'unknown', detail: error.message, messages: [failure(error.message, next)] }
}

function exitOf(results: readonly StepResult[]): ExitStatus {
  if (results.every(({ outcome }) => outcome === 'done')) return exitStatus.done
  if (results.some(({ outcome }) => outcome === 'unknown')) return exitStatus.unknown
  const acted = results.some(({ outcome, step: name }) => outcome === 'done' && name !== 'recordIntent')
  return acted ? exitStatus.partly : exitStatus.failed
}

function executeStep(work: Work, one: Step): Promise<Outcome> {
  const execute = executors[one.step] as (work: Work, args: Step, one: Step) => Promise<Outcome>
  return execute(work, one, one)
}

const executors: Executors = {
  createDomain: async (work, args, one) => {
    const definition = await work.parts.home.definitions.read(args.domain)
    if (definition?.sha256 !== args.sha256) return failed(`${args.definition} changed after it was planned`)
    const end = await endOn(work, args.node, args.uuid)
    if (end !== 'absent')
      return failed(
        end === undefined ? `${args.node} no longer answers` : `${args.domain} is already active on ${args.node}`,
      )
    return finish(work, args, await send(work, one, definition.text), 'running')
  },
  shutdownDomain: (work, args, one) => onActive(work, args, one),
  awaitShutOff: async (work, args) => awaitShutOff(work, args),
  destroyDomain: (work, args, one) => onActive(work, args, one),
  rebootDomain: (work, args, one) => onActive(work, args, one),
  resetDomain: (work, args, one) => onActive(work, args, one),
  suspendDomain: (work, args, one) => onActive(work, args, one),
  resumeDomain: (work, args, one) => onActive(work, args, one),
  setMaxDowntime: (work, args, one) => onActive(work, args, one),
  migrateDomain: (work, args, one) => migrate(work, args, one),
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

function failed(detail: string): Outcome {
  return { outcome: 'failed', detail }
}

function recordOf(work: Work, node: string): NodeRecord {
  const record = work.cluster.nodes.get(node)?.record
  if (record === undefined) throw new Error(`a step names ${node}, which is no node`)
  return record
}

function endOn(work: Work, node: string, uuid: string): Promise<End | undefined> {
  return work.parts.nodes.domainState(recordOf(work, node), uuid)
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

/** Sends a step's command behind the guard, written into the claim first. */
async function send(work: Work, one: Step, stdin?: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<Exit> {
  const command = commandFor(work, one)
  await work.claim.about(command.node, remoteLine(command))
  return act(work, command, stdin, timeoutMs)
}

function act(
  work: Work,
  command: Command,
  stdin: string | undefined,
  timeoutMs: number,
  mode?: 'nolock',
): Promise<Exit> {
  const record = recordOf(work, command.node)
  const ticket = { uuid: work.claim.record.uuid, generation: work.claim.record.generation, nodeId: record.id }
  return work.parts.nodes.act(record, ticket, { command, timeoutMs, ...(stdin === undefined ? {} : { stdin }) }, mode)
}

async function ask(work: Work, one: Step): Promise<Exit> {
  const command = commandFor(work, one)
  return work.parts.nodes.ask(recordOf(work, command.node), { command, timeoutMs: COMMAND_TIMEOUT_MS })
}

function commandFor(work: Work, one: Step): Command {
  const command = commandOf(one, work.cluster.config.libvirt.uri)
  if (command === undefined) throw new Error(`${one.step} has no command`)
  return command
}

/** Whether the command ran, or to what end, nobody here knows: ssh broke, or the command was killed or lost its libvirtd. */
function isUnknown(exit: Exit): boolean {
  return exit.status === undefined || exit.status === 255 || exit.timedOut || lostLibvirtd(exit)
}

/** A shell's status for a command that a signal ended begins here; 255 is ssh's own. */
const FIRST_KILLED = 128
/** What virsh says when libvirtd went away under it. It has no status of its own for that. */
const LOST_LIBVIRTD =
  /disconnected from|end of file while reading|keepalive|connection reset|client socket is closed|cannot recv data/i

/** virsh itself was cut off. The guard's lock is free then, although libvirtd may go on with what was asked: it proves nothing. */
function lostLibvirtd({ status, stderr }: Exit): boolean {
  return (
    status !== undefined && status !== 0 && status !== 255 && (status >= FIRST_KILLED || LOST_LIBVIRTD.test(stderr))
  )
}

function said(exit: Exit): string {
  const text = (exit.stderr.trim() || exit.stdout.trim())
    .replace(/^error: /gm, '')
    .split('\n')
    .filter(line => line.trim() !== '')
  return text.join('; ') || `the command ended with status ${exit.status ?? 'unknown'}`
}

/** Done, failed, or, when the end was not seen, whatever the node shows once nothing of ours can run there any more. */
async function outcomeOf(work: Work, node: string, one: Step, exit: Exit): Promise<Outcome> {
  if (isUnknown(exit)) return (await settle(work, node)) ? judge(work, node, one, exit) : interrupted(node, exit)
  work.claim.settled(node)
  return exit.status === 0 ? { outcome: 'done' } : failed(guardMeaning(exit.status) ?? said(exit))
}

/** What a step leaves behind when it was done; a step that leaves nothing to see stays unknown when its end was not seen. */
const LEAVES: Partial<Record<StepName, (end: End) => boolean>> = {
  destroyDomain: end => end === 'absent',
  suspendDomain: end => end !== 'absent' && end.state === 'paused',
  resumeDomain: end => end !== 'absent' && end.state === 'running',
}

async function judge(work: Work, node: string, one: Step, exit: Exit): Promise<Outcome> {
  const leaves = LEAVES[one.step]
  const end = 'uuid' in one ? await endOn(work, node, one.uuid) : undefined
  if (leaves === undefined || end === undefined) return interrupted(node, exit)
  return leaves(end)
    ? { outcome: 'done', detail: 'the connection was lost, but it happened' }
    : failed(`${said(exit)}; it did not happen`)
}

function interrupted(node: string, exit: Exit): Outcome {
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

/** Raises the guard where a command got lost: it waits for the command, and afterwards nothing late can happen there. */
async function raise(work: Work, node: string): Promise<boolean> {
  const record = recordOf(work, node)
  const { uuid, generation } = work.claim.record
  return (await work.parts.nodes.raise(record, { uuid, generation, nodeId: record.id })).status === 0
}

/** The same, and with that the command's end was seen. */
async function settle(work: Work, node: string): Promise<boolean> {
  const raised = await raise(work, node)
  if (raised) work.claim.settled(node)
  return raised
}

/** The outcome of a start: libvirt's word, and then what the node shows. */
async function finish(
  work: Work,
  { node, uuid, domain }: { node: string; uuid: string; domain: string },
  exit: Exit,
  wanted: string,
): Promise<Outcome> {
  if (isUnknown(exit) && !(await raise(work, node))) return interrupted(node, exit)
  // The doubt stays written while libvirtd may still be at it: whoever comes next raises the guard and looks again.
  if (!lostLibvirtd(exit)) work.claim.settled(node)
  // What the guard kept out did nothing: a domain that is there now is somebody else's start.
  const keptOut = guardMeaning(exit.status)
  if (keptOut !== undefined) return failed(keptOut)
  const end = await endOn(work, node, uuid)
  if (end !== undefined && end !== 'absent')
    return { outcome: 'done', ...(end.state === wanted ? {} : { detail: `it is ${end.state}` }) }
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

async function migrate(work: Work, args: StepArgs['migrateDomain'], one: Step): Promise<Outcome> {
  const before = await endOn(work, args.from, args.uuid)
  if (before === undefined || before === 'absent') return failed(`${args.domain} is no longer active on ${args.from}`)
  const watcher = watchMigration(work.parts, recordOf(work, args.from), args, () =>
    act(work, abortCommand(work, args), undefined, COMMAND_TIMEOUT_MS, 'nolock'),
  )
  const exit = await send(work, one, undefined, DAY_MS).finally(() => watcher.stop())
  // A migration that may still be carried out is judged by nobody (rule 12).
  if (isUnknown(exit) && !(await settle(work, args.from))) return interrupted(args.from, exit)
  if (!isUnknown(exit)) work.claim.settled(args.from)
  const keptOut = guardMeaning(exit.status)
  if (keptOut !== undefined) return failed(keptOut)
  const ends = await atRest(work, args)
  if (ends === 'moving') return interrupted(args.from, exit)
  return concludeMigration(work, args, exit, ends, watcher.downtimeMs)
}

function abortCommand(work: Work, { from, uuid }: StepArgs['migrateDomain']): Command {
  return { node: from, argv: ['virsh', '-c', work.cluster.config.libvirt.uri, 'domjobabort', uuid] }
}

interface Ends {
  readonly source: End | undefined
  readonly target: End | undefined
}

/**
 * The two ends once libvirt has tidied up, or as they are when it does not. libvirtd goes on with a migration whose virsh is
 * gone, so a job that is still there is waited for; `moving` when the person does not want to wait.
 */
async function atRest(work: Work, args: StepArgs['migrateDomain']): Promise<Ends | 'moving'> {
  const { clock, interrupt } = work.parts
  const { from, to, uuid } = args
  let startedMs = clock.monotonicMs()
  for (;;) {
    for (let job = await jobOf(work, args); job !== 'over'; job = await jobOf(work, args)) {
      if (job === 'silent') return { source: undefined, target: await endOn(work, to, uuid) }
      if (interrupt.requested()) return 'moving'
      await clock.sleep(POLL_MS)
      startedMs = clock.monotonicMs()
    }
    const [source, target] = await Promise.all([endOn(work, from, uuid), endOn(work, to, uuid)])
    const settled = (source === 'absent') !== (target === 'absent') && source !== undefined && target !== undefined
    if (settled || clock.monotonicMs() - startedMs > SETTLING_MS) return { source, target }
    await clock.sleep(POLL_MS)
  }
}

/** virDomainJobType BOUNDED and UNBOUNDED: the source is still sending. */
const UNDER_WAY = new Set([1, 2])

/** Whether libvirtd is still at it; `silent` when the source does not say, which is no "no". */
async function jobOf(
  work: Work,
  { domain, uuid, from }: StepArgs['migrateDomain'],
): Promise<'under way' | 'over' | 'silent'> {
  const job = await work.parts.nodes.jobStats(recordOf(work, from), { name: domain, uuid })
  if (job === 'silent') return 'silent'
  return job !== undefined && UNDER_WAY.has(job.type) ? 'under way' : 'over'
}

async function concludeMigration(
  work: Work,
  args: StepArgs['migrateDomain'],
  exit: Exit,
  { source, target }: Ends,
  downtimeMs: () => number | undefined,
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
  const verdict = judgeMigration(source, target)
  const reason = exit.status === 0 ? undefined : said(exit)
  if (verdict === 'moved') return { outcome: 'done', detail: downtimeText(downtimeMs()) }
  if (verdict === 'stayed')
    return failed(`${reason ?? 'libvirt said it moved, but it did not'}; ${args.domain} still runs on ${args.from}`)
  return repair(work, args, verdict, reason ?? 'the migration broke')
}

function downtimeText(downtimeMs: number | undefined): string {
  return downtimeMs === undefined
    ? 'verified on both nodes'
    : `verified on both nodes; it stood still for ${downtimeMs} ms`
}

/** The table of docs/safety.md: what may be put right is, by steps that are shown; the rest is named and left alone. */
async function repair(
  work: Work,
  args: StepArgs['migrateDomain'],
  verdict: Exclude<Verdict, 'moved' | 'stayed'>,
  reason: string,
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
          step('destroyDomain', { ...on, node: args.to, graceful: false }),
          ...(verdict === 'destroyTargetResumeSource' ? [step('resumeDomain', { ...on, node: args.from })] : []),
        ]
  return mend(work, args, mending, verdict, reason)
}

/** The ends are looked at again before each step that puts them right: a target that has begun to run must not be destroyed. */
async function stillSo(
  work: Work,
  { from, to, uuid }: StepArgs['migrateDomain'],
  one: Step,
  verdict: Verdict,
): Promise<boolean> {
  const [source, target] = await Promise.all([endOn(work, from, uuid), endOn(work, to, uuid)])
  if (source === undefined || target === undefined) return false
  return one.step === 'resumeDomain' ? mayResume(source, target) : judgeMigration(source, target) === verdict
}

async function mend(
  work: Work,
  args: StepArgs['migrateDomain'],
  mending: readonly Step[],
  verdict: Verdict,
  reason: string,
): Promise<Outcome> {
  const messages: Message[] = []
  for (const one of mending) {
    if (!(await stillSo(work, args, one, verdict)))
      return { outcome: 'unknown', detail: `${reason}; it changed while it was put right`, messages }
    const outcome = await executeStep(work, one)
    messages.push(
      note(`${describeStep(one)}: ${outcome.outcome}${outcome.detail === undefined ? '' : ` (${outcome.detail})`}`),
    )
    if (outcome.outcome !== 'done') return { outcome: 'unknown', detail: reason, messages }
  }
  return verdict === 'destroySource'
    ? { outcome: 'done', detail: 'after tidying up', messages }
    : { outcome: 'failed', detail: `${reason}; ${args.domain} runs on ${args.from}`, messages }
}
