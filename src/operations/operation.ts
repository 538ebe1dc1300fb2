/** What one row of the table of operations is. CLI, completion and man page (later HTTP) read nothing else. */
import { refuse } from '../core/refusal.ts'
import type { Mode, Parts } from '../operate.ts'
import { type Column, type ExitStatus, exitStatus, type Report, refusedReport } from '../report.ts'

/** A positional argument. */
export interface Argument {
  /** As usage shows it: `NODE`. */
  readonly name: string
  readonly help: string
  readonly required: boolean
  /** It takes all words that are left. */
  readonly many?: boolean
  /** What a shell offers for it. */
  readonly complete?: 'node' | 'domain'
  /** Words with a meaning of their own, offered, too. */
  readonly words?: readonly string[]
}

/** An option, with at most one value. */
export interface Option {
  /** `--auto`, or `--timeout SECONDS` when it takes a value. */
  readonly flags: string
  readonly help: string
  /** A value is text unless this says a whole number from `min` to `max`. */
  readonly range?: { readonly min: number; readonly max: number }
  readonly choices?: readonly string[]
}

/** What a door hands to an operation, checked against the table. Names are those of the table, without dashes. */
export interface Input {
  readonly words: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly options: Readonly<Record<string, string | number | boolean | undefined>>
  readonly mode: Mode
  /** The command in words, for claims and logs. */
  readonly spelled: string
  /** Has the person type an answer; undefined when they do not want to. Absent where nobody can answer. */
  readonly ask?: (question: string) => Promise<string | undefined>
}

/** How a verb is called, and what it is for. */
export interface Described {
  /** `domain start`. */
  readonly name: string
  /** Other names of the same verb: `node drain`. */
  readonly aliases?: readonly string[]
  /** One line. */
  readonly summary: string
  /** What it promises, refuses and leaves alone. */
  readonly description: string
  readonly args: readonly Argument[]
  readonly options: readonly Option[]
  /** True when it changes nodes or conf/, and so shows first. */
  readonly changes: boolean
  /** Columns of its table, if it prints one. */
  readonly columns?: readonly Column[]
  readonly examples: readonly string[]
}

/** A verb of the cluster. */
export interface Operation extends Described {
  run(parts: Parts, input: Input): Promise<Report>
}

/** Where havirt is on the machine that it runs on. */
export interface Machine {
  /** The folder above bin/. */
  readonly above: string
  /** The home folder that is meant; it need not be there. */
  readonly home: string
  readonly version: string
}

/** A verb of this machine alone, which needs no home folder. It acts at once: only a dry run that is asked for shows instead. */
export interface MachineOperation extends Described {
  here(machine: Machine, input: Input): Promise<Report>
}

/** One word of the input. */
export function word(input: Input, name: string): string | undefined {
  const value = input.words[name]
  return typeof value === 'string' ? value : undefined
}

/** A required word. The doors have checked that it is there. */
export function requiredWord(input: Input, name: string): string {
  const value = word(input, name)
  if (value === undefined) throw new TypeError(`${name} is missing`)
  return value
}

/** All words of a `many` argument. */
export function words(input: Input, name: string): readonly string[] {
  const value = input.words[name]
  return Array.isArray(value) ? value : []
}

/** Reports of several domains as one: its status is theirs when they agree, and "partly" when some were done and some not. */
export function combine(reports: readonly Report[]): Report {
  const statuses = new Set(reports.map(({ exit }) => exit))
  const [only = exitStatus.done] = statuses
  return {
    exit: statuses.size <= 1 ? only : worst(statuses),
    messages: reports.flatMap(({ messages }) => messages),
    ...(reports.some(({ script }) => script !== undefined)
      ? { script: uniqueComments(reports.flatMap(({ script }) => script ?? [])) }
      : {}),
    ...(reports.some(({ results }) => results !== undefined)
      ? { results: reports.flatMap(({ results }) => results ?? []) }
      : {}),
  }
}

function worst(statuses: ReadonlySet<ExitStatus>): ExitStatus {
  return [exitStatus.twice, exitStatus.unknown].find(status => statuses.has(status)) ?? exitStatus.partly
}

/** The guard is explained once, however many domains follow. */
function uniqueComments(lines: readonly string[]): string[] {
  const guard = /^# (havirt runs each|and only if)/
  return lines.filter((line, at) => !guard.test(line) || lines.indexOf(line) === at)
}

/** Refused when a name is no node of the cluster. */
export function unknownAmong(names: readonly string[], records: ReadonlyMap<string, unknown>): Report | undefined {
  const unknown = names.find(name => !records.has(name))
  if (unknown === undefined) return undefined
  return refusedReport([refuse('unknownNode', { node: unknown, known: [...records.keys()] })])
}
