/**
 * What must never happen, judged by the simulated machines alone: it never asks havirt what is true.
 * Two writers are looked for after every change of a QEMU, false reports when a run is over.
 */
import type { Step } from '../core/step.ts'
import { exitStatus, type Report, type StepResult } from '../report.ts'
import { type Qemu, runningReason, writes } from './qemu.ts'
import type { World } from './world.ts'

/** One breach of a promise. */
export interface Problem {
  readonly atMs: number
  readonly kind: 'two writers' | 'false report' | 'not live' | 'defect' | 'unseen'
  readonly text: string
}

/** One run of havirt, and what came of it. */
export interface Run {
  readonly id: number
  readonly words: readonly string[]
  readonly startedMs: number
  endedMs: number
  killed: boolean
  report: Report | undefined
  /** Commands of this run that reached a virsh, ever. */
  readonly effects: { readonly verb: string; readonly node: string; readonly atMs: number }[]
}

/** A QEMU was in a state for a while. */
interface Span {
  readonly uuid: string
  readonly node: string
  readonly state: Qemu['state']
  readonly fromMs: number
  toMs: number
  readonly run: number | undefined
}

export class Oracle {
  readonly problems: Problem[] = []
  readonly runs = new Map<number, Run>()
  /** How often a person's plain virsh made a domain run twice. */
  excused = 0
  readonly #world: World
  readonly #spans: Span[] = []
  /** Who a person made write at once: it goes on from there wherever they are moved. */
  readonly #pairs = new Set<string>()
  readonly #open = new Map<Qemu, Span>()

  constructor(world: World) {
    this.#world = world
  }

  /** A QEMU came to life, or its state changed. */
  changed(qemu: Qemu): void {
    this.ended(qemu)
    const { scheduler } = this.#world
    const node = qemu.machine.name
    const run = qemu.cause.run
    const span = { uuid: qemu.uuid, node, state: qemu.state, fromMs: scheduler.nowMs, toMs: Infinity, run }
    this.#spans.push(span)
    this.#open.set(qemu, span)
    this.#world.tell(() => `${node}: QEMU of ${qemu.name} ${describe(qemu)}`)
    this.writing(qemu)
    if (qemu.state === 'running' && qemu.reason === runningReason.booted) this.#booted(qemu)
  }

  /** A start of ours beside what was there before it was decided: paused, saved, anything (rule 1). */
  #booted(qemu: Qemu): void {
    const { person, decidedMs } = qemu.cause
    if (person || decidedMs === 0) return
    for (const machine of this.#world.machines) {
      const rival = machine.qemus.find(other => other !== qemu && other.bornMs < decidedMs && shares(qemu, other))
      const saved = [...machine.defined.values()].find(
        each => each.uuid === qemu.uuid && each.managedSave && each.savedMs < decidedMs,
      )
      const vouched = machine.wronglyVouched || rival?.incoming === true
      if ((rival !== undefined || saved !== undefined) && !vouched)
        this.fail(
          'two writers',
          `${qemu.name} starts on ${qemu.machine.name} although ${machine.name} has ${rival === undefined ? 'its saved image' : `${rival.name} (${rival.state})`}`,
        )
    }
  }

  /** A QEMU ended, or is about to change. */
  ended(qemu: Qemu): void {
    const span = this.#open.get(qemu)
    if (span === undefined) return
    span.toMs = this.#world.scheduler.nowMs
    this.#open.delete(qemu)
    if (qemu.ended) this.#world.tell(() => `${qemu.machine.name}: QEMU of ${qemu.name} ends`)
  }

  /** It may write now: nobody else may write the same disks, or be the same domain. */
  writing(qemu: Qemu): void {
    if (!writes(qemu)) return
    for (const { qemus } of this.#world.machines) {
      for (const other of qemus) {
        if (other !== qemu && writes(other) && shares(qemu, other)) this.#two(qemu, other)
      }
    }
  }

  #two(newer: Qemu, older: Qemu): void {
    const pair = [newer.uuid, older.uuid].sort().join()
    if (this.#pairs.has(pair) || this.#excused(newer, older)) {
      this.#pairs.add(pair)
      this.excused++
      this.#world.tell(() => `(a person's virsh: ${newer.name} and ${older.name} write the same disk)`)
      return
    }
    const where = `${newer.name} on ${newer.machine.name} and ${older.name} on ${older.machine.name}`
    this.fail('two writers', `${where} write ${newer.disks.find(disk => older.disks.includes(disk)) ?? 'as one uuid'}`)
  }

  /** A person's plain virsh made it so, where the command that decided could not have seen it: nothing ran when it began. */
  #excused(newer: Qemu, older: Qemu): boolean {
    // Neither was havirt's doing: a person, and a node that starts what is set to autostart.
    if (newer.cause.run === undefined && older.cause.run === undefined) return true
    if (newer.cause.person || newer.machine.wronglyVouched || older.machine.wronglyVouched) return true
    return older.cause.person && !this.#ranThroughout(older, newer.cause.decidedMs)
  }

  /** True when this domain ran somewhere at every moment since then, as it does while it is moved. */
  #ranThroughout({ uuid }: Qemu, sinceMs: number): boolean {
    const ran = this.#spans.filter(span => span.uuid === uuid && span.toMs >= sinceMs)
    let toMs = sinceMs
    for (const span of ran.sort((a, b) => a.fromMs - b.fromMs))
      if (span.fromMs <= toMs) toMs = Math.max(toMs, span.toMs)
    return toMs === Infinity
  }

  /** Notes a breach. */
  fail(kind: Problem['kind'], text: string): void {
    this.problems.push({ atMs: this.#world.scheduler.nowMs, kind, text })
    this.#world.tell(() => `*** ${kind}: ${text}`)
  }

  // --- Reports

  /** A run of havirt gave its report. What it says of this moment is looked at now. */
  reported(run: Run): void {
    const { report } = run
    if (report === undefined) return
    const defect = report.messages.find(({ next }) => next?.includes('this is a defect of havirt'))
    if (defect !== undefined) this.fail('defect', `${run.words.join(' ')}: ${defect.text}`)
    if (run.words.join(' ') === 'node scan') this.#scanned(run, report)
  }

  /** A full scan that heard every node must have seen what ran twice all along. */
  #scanned(run: Run, report: Report): void {
    if (report.exit !== exitStatus.done) return
    const running = this.#world.machines.flatMap(({ qemus }) => qemus).filter(each => writes(each) && each.listed)
    const steady = running.filter(({ sinceMs }) => sinceMs < run.startedMs)
    const twice = steady.find(one => steady.some(other => other !== one && other.uuid === one.uuid))
    if (twice !== undefined)
      this.fail('unseen', `node scan ended with 0 although ${twice.name} ran twice all the while`)
  }

  /** When all is over: what every report said, held against what was. */
  judgeReports(): void {
    for (const run of this.runs.values()) if (run.report !== undefined) this.#judge(run, run.report)
  }

  #judge(run: Run, report: Report): void {
    if (report.exit === exitStatus.refused && run.effects.some(effect => !isTold(report, effect)))
      this.#false(run, `refused, but ${run.effects[0]?.verb} was carried out on ${run.effects[0]?.node}`)
    for (const result of report.results ?? []) this.#judgeStep(run, result)
  }

  #judgeStep(run: Run, { step, outcome, detail }: StepResult): void {
    const verb = VERBS[step]
    if (verb === undefined) return
    if (outcome === 'not executed' && this.#did(run, verb))
      this.#false(run, `${step} was not executed, it said, but it was`)
    if (outcome === 'done') this.#judgeDone(run, step)
    if (step === 'createDomain' && outcome === 'failed' && detail?.includes('ended at once') !== true)
      this.#judgeFailedStart(run)
  }

  #judgeDone(run: Run, step: Step['step']): void {
    const wanted = DONE[step]
    const where = this.#targetOf(run, step)
    if (wanted === undefined || where === undefined) return
    const was = this.#spans.some(
      span =>
        span.uuid === where.uuid &&
        (where.node === undefined || span.node === where.node) &&
        (wanted === 'any' || span.state === wanted) &&
        span.fromMs <= run.endedMs &&
        span.toMs >= run.startedMs,
    )
    if (!was) this.#false(run, `${step} was done, it said, but ${where.node} never had it ${wanted}`)
  }

  /** What a run was about: its domain's uuid, and the node that its report names. */
  #targetOf(run: Run, step: Step['step']): { uuid: string; node: string | undefined } | undefined {
    const name = run.words.find(each => this.#world.texts.has(each))
    const uuid = name === undefined ? undefined : this.#world.uuidOf(name)
    const text = run.report?.results?.find(each => each.step === step)?.text ?? ''
    const node = step === 'migrateDomain' ? / to (\S+) while/.exec(text)?.[1] : / on (\S+?)(?:[;, ]|$)/.exec(text)?.[1]
    return uuid === undefined ? undefined : { uuid, node }
  }

  #judgeFailedStart(run: Run): void {
    const alive = this.#spans.find(span => span.run === run.id && span.toMs > run.endedMs)
    if (alive !== undefined) this.#false(run, `createDomain failed, it said, but its QEMU is on ${alive.node}`)
  }

  #did(run: Run, verb: string): boolean {
    return run.effects.some(effect => effect.verb === verb)
  }

  #false(run: Run, text: string): void {
    this.fail(
      'false report',
      `havirt ${run.words.join(' ')} (begun at ${(run.startedMs / 1000).toFixed(2)} s): ${text}`,
    )
  }
}

const VERBS: Readonly<Partial<Record<Step['step'], string>>> = {
  createDomain: 'create',
  shutdownDomain: 'shutdown',
  destroyDomain: 'destroy',
  suspendDomain: 'suspend',
  resumeDomain: 'resume',
  migrateDomain: 'migrate',
}

/** In which state a QEMU was at some moment of a run that says it has done this. */
const DONE: Readonly<Partial<Record<Step['step'], Qemu['state'] | 'any'>>> = {
  createDomain: 'any',
  suspendDomain: 'paused',
  resumeDomain: 'running',
  migrateDomain: 'running',
}

function shares(one: Qemu, other: Qemu): boolean {
  return one.uuid === other.uuid || one.disks.some(disk => other.disks.includes(disk))
}

/** What a command put right of an earlier one before it was refused itself stands among its notes. */
function isTold({ messages }: Report, { node }: Run['effects'][number]): boolean {
  return messages.some(({ text }) => text.includes(` on ${node}`) && /: (done|asked|failed|unknown)/.test(text))
}

function describe({ state, reason, incoming }: Qemu): string {
  if (state === 'running') return 'runs'
  return incoming ? 'waits for a migration' : `is paused (reason ${reason})`
}
