/** Plans the verbs that act on a running domain where it is: reboot, reset, suspend, resume. */
import { type Cluster, type Sighting, sightingsOf } from '../cluster.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { step } from '../step.ts'
import {
  already,
  diskRefusals,
  isRefusal,
  leftOverRefusal,
  type Plan,
  refused,
  silentRefusals,
  steps,
  unaskedRefusals,
  whereActive,
  wrongState,
} from './plan.ts'

export type PowerVerb = 'reboot' | 'reset' | 'suspend' | 'resume'

export interface PowerRequest {
  readonly domain: string
  readonly verb: PowerVerb
  readonly mode?: 'acpi' | 'agent'
}

const WANTED = {
  reboot: ['running'],
  reset: ['running', 'paused', 'crashed'],
  suspend: ['running'],
  resume: ['paused'],
} as const

/** One step on the node where the domain is active. */
export function planPower(cluster: Cluster, request: PowerRequest): Plan {
  const where = whereActive(cluster, request.domain)
  if (isRefusal(where)) return refused(where)
  const { node, domain: seen } = where
  const left = request.verb === 'suspend' ? undefined : leftOverRefusal(cluster, where)
  if (left !== undefined) return refused(left)
  const reached = { suspend: 'paused', resume: 'running', reboot: undefined, reset: undefined }[request.verb]
  const unfit = wrongState(where, ...WANTED[request.verb])
  if (unfit !== undefined) {
    return seen.state === reached
      ? already(
          refuse('wrongState', {
            domain: seen.name,
            node,
            state: seen.state,
            wanted: WANTED[request.verb].join(' or '),
          }),
        )
      : refused(unfit)
  }
  // A paused domain holds no lease, so letting it run is as dangerous as a start: nobody else may be it or hold its disks.
  const unknown = [...silentRefusals(cluster), ...unaskedRefusals(cluster)]
  const rivals = request.verb === 'resume' ? [...otherPresences(cluster, where), ...unknown] : []
  if (rivals.length > 0) return refused(...rivals)
  return steps([powerStep(request, { domain: seen.name, uuid: seen.uuid, node })])
}

/** What could run beside the domain if it ran on: a saved image on any node, and whoever holds or may hold its disks. */
function otherPresences(cluster: Cluster, { node, domain: seen }: Sighting): Refusal[] {
  const saved = sightingsOf(cluster, seen)
    .filter(({ domain }) => domain.managedSave)
    .map(each => refuse('managedSave', { domain: each.domain.name, node: each.node, runsOn: node }))
  const domain = seen.definition
  if (domain === undefined)
    return [...saved, refuse('unreadable', { domain: seen.name, other: seen.name, node, problem: seen.problem ?? '' })]
  return [...saved, ...diskRefusals(cluster, domain)]
}

function powerStep({ verb, mode }: PowerRequest, on: { domain: string; uuid: string; node: string }) {
  if (verb === 'reboot') return step('rebootDomain', { ...on, ...(mode === undefined ? {} : { mode }) })
  if (verb === 'reset') return step('resetDomain', on)
  return verb === 'suspend' ? step('suspendDomain', on) : step('resumeDomain', on)
}
