/** Plans the start of a domain: absent everywhere, every node heard, and a node that can host it. */
import { type Cluster, type Sighting, sightingsOf } from '../cluster.ts'
import type { Domain } from '../domain.ts'
import { passages } from '../lease-pass.ts'
import { isConfirmedDown, isPresent } from '../node.ts'
import { candidates, objections, type RulesWaived } from '../placement.ts'
import { type Refusal, refuse } from '../refusal.ts'
import { step } from '../step.ts'
import {
  already,
  definedElsewhere,
  definitionOf,
  diskRefusals,
  isRefusal,
  type Plan,
  refused,
  silentRefusals,
  steps,
  unaskedRefusals,
  unique,
  unlistedRefusal,
} from './plan.ts'

export interface StartRequest {
  readonly domain: string
  /** The node asked for; absent means the node that havirt runs on. */
  readonly node?: string
  /** Choose the best node instead. */
  readonly auto: boolean
  /** Rules do not count. */
  readonly despiteRules?: boolean
}

/** The start of `request.domain`, or every reason against it at once. */
export function planStart(cluster: Cluster, request: StartRequest): Plan {
  const definition = definitionOf(cluster, request.domain)
  if (isRefusal(definition)) return refused(definition)
  const { domain, path, sha256 } = definition
  const running = alreadyRunning(cluster, domain, request)
  if (running !== undefined) return already(running)
  const target = chooseTarget(cluster, domain, request)
  const past = target.node === undefined ? undefined : passages(cluster, domain, target.node)
  const silent = past?.refusals.length === 0 ? [] : [...silentRefusals(cluster), ...(past?.refusals ?? [])]
  const unknown = [...silent, ...unaskedRefusals(cluster)]
  const refusals = [...presenceRefusals(cluster, domain), ...unknown, ...target.refusals]
  if (refusals.length > 0 || target.node === undefined) return refused(...unique(refusals))
  const on = { domain: domain.name, uuid: domain.uuid, node: target.node }
  return steps(
    [
      step('recordIntent', { domain: domain.name, uuid: domain.uuid, manual: false }),
      ...(past?.ways ?? []).map(way => step('awaitHostDead', { ...on, ...way })),
      step('createDomain', { ...on, definition: path, sha256 }),
    ],
    definedElsewhere(cluster, domain, []),
  )
}

/** Running where it was asked to run: a refusal to most, success to `--ensure`. Paused or saved is not running. */
function alreadyRunning(cluster: Cluster, domain: Domain, request: StartRequest): Refusal | undefined {
  const active = sightingsOf(cluster, domain).filter(sighting => sighting.domain.active)
  const [only] = active
  if (only === undefined || active.length > 1 || only.domain.state !== 'running') return undefined
  if (only.domain.unlistedPid !== undefined) return undefined
  const wanted = request.auto ? only.node : (request.node ?? only.node)
  return only.node === wanted && only.domain.uuid === domain.uuid && only.domain.name === domain.name
    ? refuse('present', { domain: domain.name, node: only.node, state: only.domain.state })
    : undefined
}

/** Everything that is or could come to be the domain on some node: presence, autostart, a shared uuid, a held disk. */
function presenceRefusals(cluster: Cluster, domain: Domain): Refusal[] {
  const seen = sightingsOf(cluster, domain).flatMap(sighting => sightingRefusals(domain, sighting))
  return [...seen, ...laterRefusals(cluster, domain), ...diskRefusals(cluster, domain)]
}

/** A node that is called down cannot be asked what it will start by itself when it boots; what it was last seen to is kept. */
function laterRefusals(cluster: Cluster, { uuid, name }: Domain): Refusal[] {
  return [...cluster.nodes.values()]
    .filter(isConfirmedDown)
    .flatMap(({ name: node, ledger: { down } }) =>
      down?.autostarts?.some(each => each.uuid === uuid) === true
        ? [refuse('autostartLater', { domain: name, node, how: down.how })]
        : [],
    )
}

function sightingRefusals(domain: Domain, { node, domain: seen }: Sighting): Refusal[] {
  const unlisted = unlistedRefusal(domain.name, { node, domain: seen })
  const refusals: Refusal[] = unlisted === undefined ? [] : [unlisted]
  const otherName = seen.name !== domain.name
  if (otherName && isPresent(seen)) {
    refusals.push(refuse('sameUuid', { domain: domain.name, other: seen.name, node, uuid: domain.uuid }))
  } else if (seen.active && unlisted === undefined) {
    refusals.push(refuse('present', { domain: domain.name, node, state: seen.state }))
  }
  if (seen.managedSave) refusals.push(refuse('managedSave', { domain: seen.name, node }))
  if (seen.autostart && !seen.active) refusals.push(refuse('autostart', { domain: seen.name, node }))
  return refusals
}

function chooseTarget(cluster: Cluster, domain: Domain, request: StartRequest): { node?: string; refusals: Refusal[] } {
  if (request.auto) return bestNode(cluster, domain, waivedBy(request))
  const name = request.node ?? cluster.here
  if (name === undefined) return { refusals: [refuse('notHere', {})] }
  const node = cluster.nodes.get(name)
  if (node === undefined) return { refusals: [refuse('unknownNode', { node: name, known: [...cluster.nodes.keys()] })] }
  return { node: name, refusals: objections(cluster, domain, node, waivedBy(request)) }
}

function waivedBy({ despiteRules }: StartRequest): RulesWaived {
  return despiteRules === true ? 'all' : { along: [] }
}

function bestNode(cluster: Cluster, domain: Domain, waived: RulesWaived): { node?: string; refusals: Refusal[] } {
  const [node] = candidates(cluster, domain, waived)
  if (node !== undefined) return { node, refusals: [] }
  const against = [...cluster.nodes.values()].flatMap(each => objections(cluster, domain, each, waived))
  return { refusals: [...against, refuse('nobodyFits', { domain: domain.name })] }
}
