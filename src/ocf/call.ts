/** How the agent was called: what Pacemaker says in the environment (OCF resource agent API 1.1, and Pacemaker's CRM_meta_*). */
import { marginOf, timeoutOf } from '../core/agent/deadline.ts'
import type { ParameterName } from '../core/agent/parameters.ts'

export interface Call {
  readonly action: string
  /** The resource's name; a clone's instance number is part of it. */
  readonly instance: string
  given(parameter: ParameterName): string | undefined
  /** A monitor that Pacemaker repeats; otherwise it is a probe, which asks whether the resource runs here at all. */
  readonly recurring: boolean
  /** The caller announced OCF 1.1 or later, and so knows what "degraded" is. */
  readonly knowsDegraded: boolean
  readonly timeoutMs: number
  /** When the operation must have ended, on the clock of `performance.now()`, which began with this process. */
  readonly deadlineMs: number
  readonly migrateTarget: string | undefined
  readonly migrateSource: string | undefined
  /** A number: the deeper, the more is looked at. */
  readonly checkLevel: number
  /** A folder of this boot for what agents remember. */
  readonly runFolder: string
}

type Environment = Readonly<Record<string, string | undefined>>

export function readCall(action: string, environment: Environment): Call {
  const meta = (name: string) => environment[`OCF_RESKEY_CRM_meta_${name}`] || undefined
  const timeoutMs = timeoutOf(action, meta('timeout'))
  return {
    action,
    instance: environment['OCF_RESOURCE_INSTANCE'] || 'default',
    given: parameter => environment[`OCF_RESKEY_${parameter}`],
    recurring: action === 'monitor' && Number(meta('interval') ?? 0) > 0,
    knowsDegraded: isAtLeast11(environment),
    timeoutMs,
    deadlineMs: timeoutMs - marginOf(timeoutMs),
    migrateTarget: meta('migrate_target'),
    migrateSource: meta('migrate_source'),
    checkLevel: Number(environment['OCF_CHECK_LEVEL'] ?? 0) || 0,
    runFolder: environment['HA_RSCTMP'] || '/run/resource-agents',
  }
}

function isAtLeast11(environment: Environment): boolean {
  const [major, minor] = ['MAJOR', 'MINOR'].map(part => Number(environment[`OCF_RA_VERSION_${part}`] ?? 0))
  return major !== undefined && minor !== undefined && (major > 1 || (major === 1 && minor >= 1))
}

/** A timer of Node.js that is to wait longer does not wait at all. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** What is left of the operation's time, at least 1 ms. */
export function leftMs({ deadlineMs }: Pick<Call, 'deadlineMs'>): number {
  return Math.min(MAX_TIMER_MS, Math.max(1, Math.ceil(deadlineMs - performance.now())))
}

export function isOver(atMs: number): boolean {
  return performance.now() >= atMs
}
