/** Plans the stop of a domain: the intent is recorded before anything is sent (rule 9). */
import { type Cluster, movingEnds, type Sighting } from '../cluster.ts'
import { isMigrationEnd } from '../node.ts'
import { refuse } from '../refusal.ts'
import { type Step, step } from '../step.ts'
import { already, isRefusal, type Plan, refused, steps, whereActive } from './plan.ts'

export interface StopRequest {
  readonly domain: string
  readonly timeoutMs: number
  /** Cut its power instead of asking the guest. */
  readonly force: boolean
  readonly mode?: 'acpi' | 'agent'
}

/** The stop of `request.domain` on the one node where it is active. A migration that is under way is ended first. */
export function planStop(cluster: Cluster, request: StopRequest): Plan {
  const where = whereActive(cluster, request.domain)
  if (!isRefusal(where)) return stopOn(where, request, [])
  const moving = where.reason === 'presentTwice' ? movingEnds(cluster, request.domain) : undefined
  if (moving !== undefined) return stopOn(moving.source, request, abortSteps(moving))
  return where.reason === 'notRunning' ? already(refuse('alreadyOff', { domain: where.domain })) : refused(where)
}

function abortSteps({ source, target }: { source: Sighting; target: Sighting }): Step[] {
  const { name: domain, uuid } = source.domain
  return [step('abortMigration', { domain, uuid, from: source.node, to: target.node })]
}

/** The intent is recorded before anything is sent (rule 9). */
function stopOn({ node, domain: seen }: Sighting, request: StopRequest, first: readonly Step[]): Plan {
  const on = { domain: seen.name, uuid: seen.uuid, node }
  if (isMigrationEnd(seen)) {
    return refused(
      refuse('wrongState', { domain: seen.name, node, state: 'paused for a migration', wanted: 'running' }),
    )
  }
  const end = request.force
    ? step('destroyDomain', { ...on, graceful: false })
    : step('shutdownDomain', { ...on, ...(request.mode === undefined ? {} : { mode: request.mode }) })
  return steps([
    step('recordIntent', { domain: seen.name, uuid: seen.uuid, manual: true }),
    ...first,
    end,
    step('awaitShutOff', { ...on, timeoutMs: request.timeoutMs }),
  ])
}
