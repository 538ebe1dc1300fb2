/** Several moves as one: shown with all their commands, and carried out several at a time. Each is a `domain migrate` of its own. */
import type { Cluster } from '../core/cluster.ts'
import { script } from '../core/command.ts'
import { applyStep } from '../core/effect.ts'
import { violations } from '../core/invariants.ts'
import type { Move } from '../core/plan/moves.ts'
import { type Limits, nextTurn, type Standing } from '../core/plan/turns.ts'
import type { Step } from '../core/step.ts'
import type { Interrupt } from '../execute.ts'
import { guardComment } from '../nodes/guard.ts'
import { brokenPlan, changeDomain, type DomainChange, type Mode, type Parts } from '../operate.ts'
import { exitStatus, failure, type ProgressBar, type Report, refusedReport } from '../report.ts'
import { StoreError } from '../store/store.ts'

/** One of several changes, and what the dry run says above its commands. */
export interface Task {
  readonly change: DomainChange
  readonly why: string
}

/** The commands of all changes, each planned in the cluster as those before it leave it. */
export function scriptOf(parts: Parts, cluster: Cluster, tasks: readonly Task[]): Report {
  const steps: Step[] = []
  const lines: string[] = []
  let now = cluster
  for (const [at, { change, why }] of tasks.entries()) {
    const plan = change.plan(now)
    if (plan.kind === 'refused') return refusedReport(plan.refusals)
    if (plan.kind !== 'steps') continue
    steps.push(...plan.steps)
    lines.push(`# ${at + 1} of ${tasks.length}, ${why}`)
    lines.push(...script(plan.steps, parts.home.config.libvirt.uri, cluster.here))
    now = plan.steps.reduce(applyStep, now)
  }
  const wrong = violations(cluster, steps)
  if (wrong.length > 0) return brokenPlan(wrong)
  return { exit: exitStatus.done, script: [...(steps.length > 0 ? guardComment() : []), ...lines], messages: [] }
}

/** How several moves are made. */
export interface Way {
  readonly mode: Mode
  readonly limits: Limits
  /** None is begun after one that failed. */
  readonly untilFailure?: boolean
}

/** What became of several moves. */
export interface Carried {
  readonly reports: readonly Report[]
  readonly failed: readonly Move[]
  /** Moves that were never begun, since another failed that they need, or the person wanted to stop. */
  readonly notBegun: readonly Move[]
  /** The person wants no more to begin. */
  readonly stopped: boolean
}

/**
 * Makes the moves, several at a time, with a bar for all. One that fails keeps those from beginning that need the room it would have
 * left, and no others. Ctrl-C begins no more, and asks once whether those under way are to end.
 */
export async function carryOut(
  parts: Parts,
  label: string,
  moves: readonly Move[],
  changeOf: (move: Move) => DomainChange,
  { mode, limits, untilFailure = false }: Way,
): Promise<Carried> {
  const standings: Standing[] = moves.map(() => 'waiting')
  const reports: Report[] = []
  const underWay = new Map<number, Promise<void>>()
  let storeFailed = false
  const overall = new OverallBar(parts, label, moves.length)
  const gathered = new GatheredInterrupt(parts.interrupt, overall, () => underWay.size)
  const begin = async (at: number): Promise<void> => {
    standings[at] = 'moving'
    const change = changeOf(moves[at] as Move)
    const report = await whateverHappens(() => changeDomain({ ...parts, interrupt: gathered.ofMove() }, change, mode))
    storeFailed ||= report.storeFailed === true
    reports.push(report)
    standings[at] = report.exit === exitStatus.done ? 'done' : 'failed'
    underWay.delete(at)
  }
  try {
    for (;;) {
      const isOver = gathered.stopped || storeFailed || (untilFailure && standings.includes('failed'))
      const at = isOver ? undefined : nextTurn(moves, standings, limits)
      overall.show(standings.filter(each => each === 'done').length, progressOf(moves, standings))
      if (at !== undefined) underWay.set(at, begin(at))
      else if (underWay.size > 0) await Promise.race(underWay.values())
      else break
    }
  } finally {
    gathered.close()
    overall.end(`${standings.filter(each => each === 'done').length} of ${moves.length}`)
  }
  const those = (standing: Standing) => moves.filter((_, at) => standings[at] === standing)
  return { reports, failed: those('failed'), notBegun: those('waiting'), stopped: gathered.stopped }
}

/** A store that fails under one change must not leave the others alone: that is a report like any other. */
export async function whateverHappens(work: () => Promise<Report>): Promise<Report & { readonly storeFailed?: true }> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    return { exit: exitStatus.unknown, messages: [failure(error.message, error.hint)], storeFailed: true }
  }
}

function progressOf(moves: readonly Move[], standings: readonly Standing[]): string {
  const done = standings.filter(each => each === 'done').length
  const moving = moves.filter((_, at) => standings[at] === 'moving').map(({ domain }) => domain)
  return `${done} of ${moves.length}${moving.length === 0 ? '' : `, moving ${moving.join(', ')}`}`
}

/** The bar for all moves. It makes way for a question, which it would write over. */
class OverallBar {
  readonly #parts: Parts
  readonly #label: string
  readonly #total: number
  #bar: ProgressBar | undefined
  #shown: readonly [number, string] = [0, '']

  constructor(parts: Parts, label: string, total: number) {
    this.#parts = parts
    this.#label = label
    this.#total = total
    this.resume()
  }

  show(done: number, detail: string): void {
    this.#shown = [done, detail]
    this.#bar?.update(done, detail)
  }

  pause(): void {
    this.#bar?.end('asked')
    this.#bar = undefined
  }

  resume(): void {
    this.#bar = this.#parts.progress.begin(this.#label, this.#total)
    this.#bar.update(...this.#shown)
  }

  end(outcome: string): void {
    this.#bar?.end(outcome)
    this.#bar = undefined
  }
}

/** Ctrl-C while several migrations are under way: one question for all of them. */
class GatheredInterrupt {
  #stopped = false
  #isClosed = false
  readonly #outer: Interrupt
  readonly #bar: OverallBar
  readonly #underWay: () => number
  readonly #handlers = new Set<() => void>()
  readonly #deafen: () => void
  #over = new AbortController()
  #answer: Promise<boolean> | undefined

  constructor(outer: Interrupt, bar: OverallBar, underWay: () => number) {
    this.#outer = outer
    this.#bar = bar
    this.#underWay = underWay
    this.#deafen = outer.onInterrupt(() => this.#hear())
  }

  /** The person wants no more to begin. */
  get stopped(): boolean {
    return this.#stopped || this.#outer.requested()
  }

  /** For one move: what has not begun to migrate does not, and what has is asked about. */
  ofMove(): Interrupt {
    let migrating = false
    return {
      onInterrupt: handler => {
        migrating = true
        this.#handlers.add(handler)
        return () => {
          this.#handlers.delete(handler)
          if (this.#handlers.size === 0) this.#over.abort()
        }
      },
      // All get the one answer.
      confirmAbort: async () => this.#answer ?? false,
      requested: () => this.#outer.requested() || (this.#stopped && !migrating),
    }
  }

  close(): void {
    this.#isClosed = true
    this.#over.abort()
    this.#deafen()
  }

  #hear(): void {
    this.#stopped = true
    if (this.#answer !== undefined) return
    // Nothing to ask about: the next Ctrl-C is the program's own again.
    if (this.#handlers.size === 0) return this.#deafen()
    this.#over = new AbortController()
    let answered: (wanted: boolean) => void = () => undefined
    this.#answer = new Promise(resolve => {
      answered = resolve
    })
    // Each takes its bar away, and waits for the answer: only then is there a place for the question.
    this.#bar.pause()
    for (const handler of [...this.#handlers]) handler()
    void this.#outer.confirmAbort(questionAbout(this.#underWay()), this.#over.signal).then(wanted => {
      this.#answer = undefined
      if (!this.#isClosed) this.#bar.resume()
      answered(wanted)
    })
  }
}

function questionAbout(count: number): string {
  return count === 1
    ? 'No other move is begun. End the migration under way? Its domain keeps running where it is.'
    : `No other move is begun. End the ${count} migrations under way? Their domains keep running where they are.`
}
