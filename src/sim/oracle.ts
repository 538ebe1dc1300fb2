/**
 * What must never happen, judged by the simulated machines alone: it never asks havirt what is true.
 * Two writers are looked for after every change of a QEMU, false reports when a run is over.
 */
import { parse } from 'yaml'
import type { Ledger } from '../core/ledger.ts'
import type { Step } from '../core/step.ts'
import { exitStatus, type Report, type StepResult } from '../report.ts'
import { simConfig } from './home.ts'
import type { Machine } from './machine.ts'
import { pausedReason, type Qemu, runningReason, writes } from './qemu.ts'
import type { World } from './world.ts'

/** One breach of a promise. */
export interface Problem {
  readonly atMs: number
  readonly kind:
    | 'two writers'
    | 'false report'
    | 'not live'
    | 'defect'
    | 'unseen'
    | 'overcommit'
    | 'maintenance'
    | 'wrong machine'
    | 'killed'
    | 'past a node'
    | 'left over'
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
  readonly effects: { readonly verb: string; readonly uuid: string; readonly node: string; readonly atMs: number }[]
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
  /** How often something ran on where sanlock counted its host as dead, and lease.passWithoutWatchdog was set. */
  unguarded = 0
  readonly #world: World
  readonly #spans: Span[] = []
  /** Who a person made write at once: it goes on from there wherever they are moved. */
  readonly #pairs = new Set<string>()
  readonly #open = new Map<Qemu, Span>()
  readonly #known = new WeakSet<Qemu>()

  constructor(world: World) {
    this.#world = world
  }

  /** A QEMU came to life, or its state changed. */
  changed(qemu: Qemu): void {
    if (!this.#known.has(qemu)) this.#arrived(qemu)
    this.ended(qemu)
    const { scheduler } = this.#world
    const node = qemu.machine.name
    const run = qemu.cause.run
    const span = { uuid: qemu.uuid, node, state: qemu.state, fromMs: scheduler.nowMs, toMs: Infinity, run }
    this.#spans.push(span)
    this.#open.set(qemu, span)
    this.#world.tell(() => `${node}: QEMU of ${qemu.name} ${describe(qemu)}`)
    this.writing(qemu)
    if (qemu.state === 'running') this.#world.passes?.runs(qemu)
    if (qemu.state === 'running' && qemu.reason === runningReason.booted) this.#booted(qemu)
  }

  /** A new QEMU: where havirt put it there, there must be room for it, and no maintenance (rule 8). */
  #arrived(qemu: Qemu): void {
    this.#known.add(qemu)
    const { machine, cause } = qemu
    if (cause.run === undefined || startedItself(qemu)) return
    if (cause.misled === true && cause.asked !== true)
      this.fail('wrong machine', `${qemu.name} was not sent to ${machine.name}, and arrives there`)
    if (cause.misled === true) return
    const since = this.claimedMs(qemu.uuid, cause.run)
    const left = this.#world.passes?.leftOn(machine, since)
    if (left !== undefined && left !== qemu)
      this.fail('left over', `${qemu.name} arrives on ${machine.name}, where ${left.name} is left over`)
    const ledgers = this.#ledgersSince(machine, since)
    if (ledgers.length > 0 && ledgers.every(({ maintenance }) => maintenance !== undefined))
      this.fail('maintenance', `${qemu.name} arrives on ${machine.name}, which has been in maintenance all the while`)
    this.#judgeRoom(qemu, since)
  }

  #judgeRoom({ machine, name }: Qemu, sinceMs: number): void {
    const { reservedMemoryMiB, memoryRatio } = simConfig.node
    const capacity = Math.floor((machine.memoryMiB - reservedMemoryMiB) * memoryRatio)
    const listed = machine.qemus.filter(each => each.listed)
    const held = listed.reduce((sum, { domain }) => sum + domain.memoryMiB, 0)
    // Whoever came without havirt while it decided could not be seen.
    const unseen = listed.some(({ cause, bornMs }) => cause.run === undefined && bornMs > 0 && bornMs >= sinceMs)
    if (held > capacity && !unseen)
      this.fail('overcommit', `${name} arrives on ${machine.name}, where domains then hold ${held} of ${capacity} MiB`)
  }

  /** When this run last took the domain's claim; when it began, where it did not. */
  claimedMs(uuid: string, run: number): number {
    const versions = this.#world.share.records.get(`claims/uuid/${uuid}`) ?? []
    const ours = versions.filter(({ text }) => {
      const { owner, beat, state } = JSON.parse(text) as { owner: { pid: number }; beat: number; state: string }
      return owner.pid === run && beat === 0 && state === 'held'
    })
    return ours.at(-1)?.atMs ?? this.runs.get(run)?.startedMs ?? 0
  }

  /** What was written down about a machine at any moment since then. */
  #ledgersSince({ name }: Machine, sinceMs: number): Ledger[] {
    const versions = this.#world.share.records.get(`ledger/${name}`) ?? []
    const first = versions.findLastIndex(({ atMs }) => atMs <= sinceMs)
    const nothing: Ledger[] = first < 0 ? [{ reservations: [] }] : []
    return [...nothing, ...versions.slice(Math.max(0, first)).map(({ text }) => parse(text) as Ledger)]
  }

  /** What is written down of domains that were started past a node. */
  passedOn(node: string): NonNullable<Ledger['passed']> {
    const text = this.#world.share.newest(`ledger/${node}`)?.text
    return text === undefined ? [] : ((parse(text) as Ledger).passed ?? [])
  }

  /** True when somebody vouched for the machine at some moment since then, and it had not answered: by word, or in either way. */
  vouched(machine: Machine, sinceMs: number, how: 'word' | 'any'): boolean {
    return this.#ledgersSince(machine, sinceMs).some(
      ({ down }) => down !== undefined && down.answered !== true && (how === 'any' || down.how === how),
    )
  }

  /** A start of ours beside what was there before it was decided: paused, saved, anything (rule 1). */
  #booted(qemu: Qemu): void {
    const { person, decidedMs } = qemu.cause
    // What a machine starts by itself as it boots nobody decides then; whether it writes beside another is asked elsewhere.
    if (person || decidedMs === 0 || startedItself(qemu)) return
    for (const machine of this.#world.machines) {
      const rival = machine.qemus.find(other => other !== qemu && other.bornMs < decidedMs && shares(qemu, other))
      const saved = [...machine.defined.values()].find(
        each => each.uuid === qemu.uuid && each.managedSave && each.savedMs < decidedMs,
      )
      if (rival !== undefined && (this.#pairs.has(pairOf(qemu, rival)) || this.#wokeUp(qemu, rival))) continue
      if (rival !== undefined && this.#world.passes?.excuses(qemu, rival)) continue
      // Nobody can see what is saved on a machine that is off, or is said to be.
      const vouched = this.vouched(machine, decidedMs, rival === undefined ? 'any' : 'word')
      if ((rival !== undefined || saved !== undefined) && !vouched && rival?.incoming !== true)
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
        if (other === qemu || !writes(other) || !shares(qemu, other)) continue
        if (qemu.bornMs >= other.bornMs) this.#two(qemu, other)
        else this.#two(other, qemu)
      }
    }
  }

  #two(newer: Qemu, older: Qemu): void {
    const pair = pairOf(newer, older)
    if (this.#pairs.has(pair) || this.#excused(newer, older)) {
      this.#pairs.add(pair)
      this.excused++
      this.#world.tell(() => `(a person's doing: ${seat(newer)} and ${seat(older)} write the same disk now)`)
      return
    }
    if (this.#world.passes?.excuses(newer, older)) {
      this.unguarded++
      this.#world.tell(() => `(without a watchdog: ${seat(newer)} and ${seat(older)} write the same disk now)`)
      return
    }
    const where = `${newer.name} on ${newer.machine.name} and ${older.name} on ${older.machine.name}`
    this.fail('two writers', `${where} write ${newer.disks.find(disk => older.disks.includes(disk)) ?? 'as one uuid'}`)
  }

  /** A person's plain virsh made it so, where the command that decided could not have seen it: nothing ran when it began. */
  #excused(newer: Qemu, older: Qemu): boolean {
    // Neither was havirt's doing: a person, and a node that starts what is set to autostart.
    if (isNobodys(newer, older) && isNobodys(older, newer)) return true
    // Moved since, it is still what a person started beside the other.
    if (newer.first.person && older.bornMs < newer.first.decidedMs) return true
    if (newer.cause.person || this.#reliedOnWord(newer, older) || this.#reliedOnWord(older, newer)) return true
    if (this.#wokeUp(newer, older) || this.#wokeUp(older, newer)) return true
    if (older.first.person && older.firstBornMs > newer.cause.decidedMs) return true
    return older.cause.person && (older.firstBornMs > newer.cause.decidedMs || wasWokenSince(older, newer))
  }

  /** A person vouched for the other's machine, or one that it came from, which was not off or did not stay so. */
  #reliedOnWord({ cause }: Qemu, { machine, before }: Qemu): boolean {
    const wrong = [machine, ...before].some(each => this.vouched(each, cause.decidedMs, 'word'))
    return cause.run !== undefined && wrong
  }

  /** A machine that was off when the other was started got power since, and started by itself what nobody could see there. */
  #wokeUp(one: Qemu, other: Qemu): boolean {
    const { machine } = one
    // Moved since, it is still where nobody could see what would wake up when it was started.
    const since = Math.min(other.cause.decidedMs, other.first.decidedMs)
    const unforeseen = !this.#ledgersSince(machine, since).some(({ down }) => foretells(down, one.uuid))
    return startedItself(one) && machine.bootedMs > since && unforeseen && this.vouched(machine, since, 'any')
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
    const heard = this.#world.machines.filter(machine => !this.vouched(machine, run.startedMs, 'any'))
    const running = heard.flatMap(({ qemus }) => qemus).filter(each => writes(each) && each.listed)
    const steady = running.filter(({ sinceMs }) => sinceMs < run.startedMs)
    const twice = steady.find(one => steady.some(other => other !== one && other.uuid === one.uuid))
    if (twice !== undefined)
      this.fail('unseen', `node scan ended with 0 although ${twice.name} ran twice all the while`)
  }

  /** A command of a run has reached virsh. Only who asked for a stop ends what runs. */
  carriedOut(pid: number, machine: Machine, words: readonly string[]): void {
    const run = this.runs.get(pid)
    const [verb = '', uuid = ''] = words
    run?.effects.push({ verb, uuid, node: machine.name, atMs: this.#world.scheduler.nowMs })
    const isAsked = run?.words[1] === 'stop' || (run?.words[0] === 'lease' && this.#world.passes?.has(uuid, machine))
    const victim = verb === 'destroy' && !isAsked ? machine.qemu(uuid) : undefined
    if (victim?.state === 'running') this.fail('killed', `${seat(victim)} ran, and nobody had asked to stop it`)
  }

  /** When all is over: what every report said, held against what was. */
  judgeReports(): void {
    for (const run of this.runs.values()) if (run.report !== undefined) this.#judge(run, run.report)
  }

  #judge(run: Run, report: Report): void {
    const effect = run.effects.find(
      each => each.verb !== 'dumpxml' && !isTold(report, each) && !isReported(report, each),
    )
    if (report.exit === exitStatus.refused && effect !== undefined)
      this.#false(run, `refused, but ${effect.verb} was carried out on ${effect.node}`)
    for (const result of report.results ?? []) this.#judgeStep(run, result)
  }

  #judgeStep(run: Run, result: StepResult): void {
    const { step, outcome, detail, uuid, text } = result
    const verb = VERBS[step]
    if (verb === undefined) return
    // A start's definition travels by stdin, so that only its verb is in the command.
    const starts = run.report?.results?.filter(each => each.step === 'createDomain').length
    const isIt = (each: Run['effects'][number]) =>
      (each.uuid === uuid || (verb === 'create' && starts === 1)) && text.includes(` ${each.node}`)
    if (outcome === 'not executed' && run.effects.some(each => each.verb === verb && isIt(each)))
      this.#false(run, `${step} was not executed, it said, but it was`)
    if (outcome === 'done') this.#judgeDone(run, result)
    if (step === 'createDomain' && outcome === 'failed' && detail?.includes('ended at once') !== true)
      this.#judgeFailedStart(run)
  }

  #judgeDone(run: Run, { step, uuid, text }: StepResult): void {
    const wanted = DONE[step]
    if (wanted === undefined) return
    const node = step === 'migrateDomain' ? / to (\S+) while/.exec(text)?.[1] : / on (\S+?)(?:[;, ]|$)/.exec(text)?.[1]
    const was = this.#spans.some(
      span =>
        span.uuid === uuid &&
        (node === undefined || span.node === node) &&
        (wanted === 'any' || span.state === wanted) &&
        span.fromMs <= run.endedMs &&
        span.toMs >= run.startedMs,
    )
    if (!was) this.#false(run, `${step} was done, it said, but ${node} never had it ${wanted}`)
  }

  #judgeFailedStart(run: Run): void {
    const alive = this.#spans.find(span => span.run === run.id && span.toMs > run.endedMs)
    if (alive !== undefined) this.#false(run, `createDomain failed, it said, but its QEMU is on ${alive.node}`)
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
  destroyCopy: 'destroy',
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

/**
 * No havirt brought it to life. Moved since while it ran, it writes no more than it did; but what wakes up on a node that it came
 * from, havirt left there.
 */
function isNobodys({ cause, first, reason, before }: Qemu, other: Qemu): boolean {
  if (cause.run === undefined) return true
  return first.run === undefined && reason === runningReason.migrated && !before.includes(other.machine)
}

/** What stood still when the other was decided runs on because a person said so. */
function wasWokenSince({ cause, reason }: Qemu, other: Qemu): boolean {
  return reason === runningReason.unpaused && cause.decidedMs > other.cause.decidedMs
}

/** Its machine booted, and it is set to autostart there: nobody had decided anything before. */
export function startedItself({ cause, bornMs }: Qemu): boolean {
  return bornMs > 0 && cause.decidedMs >= bornMs
}

/** Whoever called the node down knew that it starts this by itself. */
function foretells(down: Ledger['down'], uuid: string): boolean {
  return down?.autostarts?.some(each => each.uuid === uuid) === true
}

function pairOf(one: Qemu, other: Qemu): string {
  return [one.uuid, other.uuid].sort().join()
}

function seat({ name, machine }: Qemu): string {
  return `${name} on ${machine.name}`
}

function shares(one: Qemu, other: Qemu): boolean {
  return one.uuid === other.uuid || one.disks.some(disk => other.disks.includes(disk))
}

/** What a command put right of an earlier one before it was refused itself stands among its notes. */
function isTold({ messages }: Report, { node }: Run['effects'][number]): boolean {
  return messages.some(({ text }) => text.includes(` on ${node}`) && /: (done|asked|failed|unknown)/.test(text))
}

/** A lock manager's no, below libvirt, is a refusal although libvirt was asked. */
function isReported({ results = [] }: Report, { verb, node }: Run['effects'][number]): boolean {
  return results.some(
    ({ step, outcome, text }) => outcome === 'failed' && VERBS[step] === verb && text.includes(` ${node}`),
  )
}

const PAUSED: Readonly<Record<number, string>> = {
  [pausedReason.user]: 'is paused',
  [pausedReason.migration]: 'stands still for its migration',
  [pausedReason.startingUp]: 'is being started',
  [pausedReason.postCopy]: 'stands still for its post-copy migration',
  [pausedReason.postCopyFailed]: 'is paused: its post-copy migration broke',
}

function describe({ state, reason, incoming }: Qemu): string {
  if (state === 'running') return 'runs'
  return incoming ? 'waits for its migration' : (PAUSED[reason] ?? `is paused (reason ${reason})`)
}
