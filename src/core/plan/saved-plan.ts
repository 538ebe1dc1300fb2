/** A plan of several moves as text that is carried out later, if the cluster still is what it was made for. */
import { type Cluster, upNodes } from '../cluster.ts'
import type { Move } from './moves.ts'

/** What is kept: the moves, and what they were planned for. */
export interface SavedPlan {
  readonly version: 1
  readonly moves: readonly Move[]
  /** Every node that answered, and what ran there and how large it was. */
  readonly nodes: Readonly<Record<string, NodeState>>
}

/** Memory of the node, and `uuid: name memoryMiB vcpus` of what runs there, or that it is in maintenance. */
interface NodeState {
  readonly memoryMiB: number
  readonly maintenance: boolean
  readonly domains: Readonly<Record<string, string>>
}

/** The plan for what this cluster is now. */
export function savedPlan(cluster: Cluster, moves: readonly Move[]): SavedPlan {
  return { version: 1, moves, nodes: nodesOf(cluster) }
}

function nodesOf(cluster: Cluster): SavedPlan['nodes'] {
  return Object.fromEntries(
    upNodes(cluster).map(({ name, seen, ledger }) => {
      const active = seen.domains.filter(each => each.active).sort((a, b) => (a.uuid < b.uuid ? -1 : 1))
      const domains = active.map(each => [each.uuid, `${each.name} ${each.memoryMiB} MiB ${each.vcpus} vCPUs`] as const)
      return [
        name,
        {
          memoryMiB: seen.memoryMiB,
          maintenance: ledger.maintenance !== undefined,
          domains: Object.fromEntries(domains),
        },
      ]
    }),
  )
}

/** What has changed since then, for people; empty when nothing that matters to the plan has. */
export function changesSince({ nodes: before }: SavedPlan, cluster: Cluster): string[] {
  const now = nodesOf(cluster)
  return [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .sort()
    .flatMap(node => changesOn(node, before[node], now[node]))
}

function changesOn(node: string, before: NodeState | undefined, now: NodeState | undefined): string[] {
  if (before === undefined) return [`${node} has come`]
  if (now === undefined) return [`${node} does not answer`]
  const gone = Object.entries(before.domains).filter(([uuid]) => now.domains[uuid] === undefined)
  const come = Object.entries(now.domains).filter(([uuid]) => before.domains[uuid] === undefined)
  const changed = Object.entries(before.domains).filter(([uuid, text]) => (now.domains[uuid] ?? text) !== text)
  return [
    ...(before.memoryMiB === now.memoryMiB ? [] : [`${node} has ${now.memoryMiB} MiB, and had ${before.memoryMiB}`]),
    ...(before.maintenance === now.maintenance
      ? []
      : [`${node} is ${now.maintenance ? '' : 'no longer '}in maintenance`]),
    ...gone.map(([, text]) => `${nameIn(text)} no longer runs on ${node}`),
    ...come.map(([, text]) => `${nameIn(text)} runs on ${node} now`),
    ...changed.map(([uuid, text]) => `${nameIn(text)} on ${node} is another: ${now.domains[uuid]}`),
  ]
}

function nameIn(text: string): string {
  return text.replace(/ \d+ MiB \d+ vCPUs$/, '')
}

/** The plan in this text; undefined when there is none. A whole answer of `-o json` holds one. */
export function parsePlan(text: string): SavedPlan | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const plan = isObject(value) && isObject(value['plan']) ? value['plan'] : value
    return isPlan(plan) ? plan : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isPlan(value: unknown): value is SavedPlan {
  return (
    isObject(value) &&
    value['version'] === 1 &&
    areMoves(value['moves']) &&
    isObject(value['nodes']) &&
    Object.values(value['nodes']).every(isNode)
  )
}

function areMoves(value: unknown): boolean {
  const texts = ['domain', 'from', 'to', 'why'] as const
  return (
    Array.isArray(value) &&
    value.every(
      each =>
        isObject(each) &&
        texts.every(key => typeof each[key] === 'string') &&
        typeof each['memoryMiB'] === 'number' &&
        isNames(each['along'] ?? []),
    )
  )
}

function isNames(value: unknown): boolean {
  return Array.isArray(value) && value.every(each => typeof each === 'string')
}

function isNode(value: unknown): boolean {
  return (
    isObject(value) &&
    typeof value['memoryMiB'] === 'number' &&
    typeof value['maintenance'] === 'boolean' &&
    isObject(value['domains']) &&
    Object.values(value['domains']).every(each => typeof each === 'string')
  )
}
