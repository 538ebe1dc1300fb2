/**
 * The words of the tables that compare two resource agents: what they are asked, in which situation, what each answers, and how it is
 * written down.
 */
import type { Difference } from './ocf-differences.ts'

/** What an agent may be asked; a probe is a monitor that does not recur, '' is no word at all. */
export type Action =
  | 'start'
  | 'stop'
  | 'monitor'
  | 'probe'
  | 'status'
  | 'migrate_to'
  | 'migrate_from'
  | 'validate-all'
  | 'meta-data'
  | 'reload-agent'
  | 'reload'
  | 'notify'
  | 'promote'
  | 'usage'
  | 'methods'
  | 'nonsense'
  | ''

/** What leaves the situation as it was. */
export const HARMLESS: ReadonlySet<Action> = new Set<Action>([
  'monitor',
  'probe',
  'status',
  'validate-all',
  'meta-data',
  'reload-agent',
  'reload',
  'notify',
  'promote',
  'usage',
  'methods',
  'nonsense',
  '',
])

/** What answers 7 without being asked for a reason. */
export const ASKS: ReadonlySet<Action> = new Set<Action>(['monitor', 'probe', 'status'])

/** An exit code, or `hangs`: it is still at it when Pacemaker's time-out ends it. */
export type Code = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 190 | 'hangs'

/** libvirt's word; `alive` and `dead` are QEMU's process while libvirt does not answer. */
export type State = 'running' | 'paused' | 'crashed' | 'pmsuspended' | 'shut off' | 'absent' | 'alive' | 'dead'

export interface Expected {
  readonly code: Code
  /** What is true afterwards. */
  readonly state?: State
  /** How long it takes, from and to. */
  readonly seconds?: readonly [number, number]
  /** A line for a shell that succeeds afterwards. */
  readonly proof?: string
}

export interface Asked {
  /** Beside those of the situation. */
  readonly parameters?: Readonly<Record<string, string>>
  readonly environment?: Readonly<Record<string, string>>
  /** Pacemaker's, 20 s unless it is told. */
  readonly timeoutMs?: number
  /** A line for a shell, before the agent runs. */
  readonly before?: string
  /** What our agent says when it fails. */
  readonly reason?: RegExp
  /** No environment at all. */
  readonly bare?: boolean
  /** No CRM_meta variable at all. */
  readonly noMeta?: boolean
  /** Words in front of the agent. */
  readonly under?: string
  /** Where it shall migrate to; '' for nowhere. */
  readonly target?: string
  /** On the node that it migrates to. */
  readonly there?: boolean
  /** Leaves the situation as it was, although it acts. */
  readonly harmless?: boolean
}

export interface Run extends Asked {
  readonly action: Action
  readonly original: Expected
  readonly ours: Expected
  /** Where they differ. */
  readonly why?: Difference
}

export interface Situation {
  readonly name: string
  /** Lines for a shell; nothing runs and the file is there unless they change it. */
  readonly make?: string
  /** The path of the file, `$W/$VM.xml` unless it is told; null: the parameter is not set. */
  readonly config?: string | null
  readonly parameters?: Readonly<Record<string, string>>
  /** The domain that can migrate, and the other node. */
  readonly moves?: boolean
  readonly runs: readonly Run[]
}

type Loose = Expected | Code

const toExpected = (loose: Loose): Expected => (typeof loose === 'object' ? loose : { code: loose })

export function same(action: Action, expected: Loose, asked: Asked = {}): Run {
  return { ...asked, action, original: toExpected(expected), ours: toExpected(expected) }
}

export function differs(action: Action, original: Loose, ours: Loose, why: Difference, asked: Asked = {}): Run {
  return { ...asked, action, original: toExpected(original), ours: toExpected(ours), why }
}

export const RUNS: Expected = { code: 0, state: 'running' }
export const GONE: Expected = { code: 0, state: 'absent' }
export const STAYS: Expected = { code: 0, state: 'running' }
export const GRACEFUL: Expected = { ...GONE, proof: 'ended shutdown' }
export const DESTROYED: Expected = { ...GONE, proof: 'ended destroyed' }

export const NOT_ACTIVE = /not (active|running)/i
