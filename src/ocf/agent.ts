/** One resource as one call of the agent sees it: its settings, its definition, its domain. What every action stands on. */
import { basename } from 'node:path'
import { ocf, type Problem } from '../core/agent/exit.ts'
import { readParameters, type Settings } from '../core/agent/parameters.ts'
import type { ActiveDomain, Finding, Presence } from '../core/agent/presence.ts'
import { type Call, leftMs } from './call.ts'
import { type Definition, readDefinition } from './definition.ts'
import type { Unreadable } from './files.ts'
import { defaultUri, Hypervisor, localUri } from './hypervisor.ts'
import type { Log } from './log.ts'
import { type Memory, othersRemembered, recall, remember } from './memory.ts'
import type { Known } from './processes.ts'

export interface Agent {
  readonly call: Call
  readonly log: Log
  readonly settings: Settings
  /** What is wrong with the parameters, the definition left aside. */
  readonly problems: readonly Problem[]
  readonly hypervisor: Hypervisor
  /** Why nobody can say what or where the domain is: wrong on every node, for every action. */
  readonly unknowable: Problem | undefined
  /** The definition, or why it cannot be used. */
  readonly definition: Definition | Unreadable
  readonly memory: Memory | undefined
  /** Aborted when somebody wants the operation to end now. */
  readonly interrupt: AbortSignal
}

/** Reads everything that an action needs to know first. Rejects never: what is wrong is among the problems. */
export async function openAgent(call: Call, log: Log, interrupt: AbortSignal): Promise<Agent> {
  const { settings, problems } = readParameters(call.given)
  const uri = settings.hypervisor || defaultUri(process.env)
  const local = localUri(uri)
  const definition =
    settings.config === '' ? { problem: 'config names no definition' } : await readDefinition(settings.config)
  const remote = local === undefined ? [remoteHypervisor(uri)] : []
  const memory = recall(call)
  return {
    call,
    log,
    settings,
    problems: [...problems, ...remote],
    hypervisor: local === undefined ? new Hypervisor('qemu:///system', QEMU) : new Hypervisor(uri, local),
    definition,
    // What a resource of this name had by another definition counts only where nothing else is known.
    memory: memory?.config === settings.config || 'problem' in definition ? memory : undefined,
    unknowable: [...problems.filter(() => settings.config === ''), ...remote][0],
    interrupt,
  }
}

const QEMU = { driver: 'qemu', name: 'qemu:///system', socket: undefined }

function remoteHypervisor(uri: string): Problem {
  const sentence = `hypervisor is ${JSON.stringify(uri)}; expected the libvirt of this node, such as qemu:///system, since the agent manages what runs here`
  return { code: ocf.notConfigured, sentence }
}

/** How people call the domain. */
export function nameOf({ definition, memory, settings, call }: Agent): string {
  if (!('problem' in definition)) return definition.name
  return memory?.name ?? (settings.config === '' ? call.instance : baseName(settings.config))
}

function baseName(config: string): string {
  return basename(config).replace(/\.xml$/, '')
}

/** By what the domain may be known. What is remembered counts, too: the definition may have been changed while it runs. */
export function known({ definition, memory }: Agent): Known {
  const own = 'problem' in definition ? [] : [definition.name]
  const written = 'problem' in definition || definition.uuid === undefined ? [] : [definition.uuid]
  const remembered = memory === undefined || memory.uuid === '' ? [] : [memory.uuid]
  // A domain that was started but not seen yet has no uuid in our memory.
  const byName = own.length === 0 && memory !== undefined ? [memory.name] : own
  return { names: byName, uuids: [...new Set([...written, ...remembered])] }
}

/**
 * What there is of the domain here and now. Without a definition it is found by what is remembered, then by its tag, then by the base
 * name of the file.
 */
export async function look(agent: Agent, withinMs = leftMs(agent.call)): Promise<Presence> {
  const { definition, hypervisor, call } = agent
  const by = known(agent)
  if (!('problem' in definition)) return hypervisor.look(by, withinMs)
  const remembered = isKnown(by) ? await hypervisor.look(by, withinMs) : ABSENT
  if (remembered.kind !== 'absent') return remembered
  const tagged = await hypervisor.lookForTag(call.instance, lastResort(agent), withinMs)
  return tagged.kind === 'active' ? tagged : byBaseName(agent, tagged, withinMs)
}

const ABSENT: Presence = { kind: 'absent' }

function lastResort({ settings }: Agent): Known {
  return { names: settings.config === '' ? [] : [baseName(settings.config)], uuids: [] }
}

/** The weakest hint: it may be the name of somebody else's domain, and the domain may have another one. */
async function byBaseName(agent: Agent, tagged: Presence, withinMs: number): Promise<Presence> {
  const { hypervisor, call } = agent
  const presence = tagged.kind === 'silent' ? tagged : await hypervisor.look(lastResort(agent), withinMs)
  const others = othersRemembered(call)
  if (presence.kind === 'silent' && presence.process === undefined && hypervisor.hasOthers(others))
    return { ...presence, process: 'unknown' }
  if (presence.kind !== 'active') return presence
  const tag = await hypervisor.tagOf(presence, withinMs)
  return others.has(presence.uuid) || (tag !== undefined && tag !== call.instance) ? ABSENT : presence
}

function isKnown({ names, uuids }: Known): boolean {
  return names.length + uuids.length > 0
}

/** Writes down who the domain is, if that is news. That it cannot is no error of the operation. */
export function rememberDomain(
  agent: Agent,
  { name, uuid }: Pick<ActiveDomain, 'name' | 'uuid'>,
  more: Partial<Memory> = {},
): void {
  const { memory, settings, call, log } = agent
  const fresh = { ...(memory?.uuid === uuid ? memory : {}), config: settings.config, name, uuid, ...more }
  if (JSON.stringify(memory) === JSON.stringify(fresh)) return
  try {
    remember(call, fresh)
  } catch (error) {
    log.warn(`cannot write down in ${call.runFolder} which domain this is: ${(error as Error).message}`)
  }
}

/** The first thing that is wrong with how the resource is configured, the definition included. */
export function firstProblem({ problems, definition }: Agent): Problem | undefined {
  const unusable = 'problem' in definition ? [{ code: ocf.notInstalled, sentence: definition.problem }] : []
  return [...problems, ...unusable][0]
}

export function failed(sentence: string): Finding {
  return { code: ocf.generic, sentence }
}

export const success: Finding = { code: ocf.success }

/** Waits a moment; less when somebody wants the operation to end. */
export function rest({ interrupt }: Pick<Agent, 'interrupt'>, ms: number): Promise<void> {
  return new Promise(resolve => {
    if (interrupt.aborted) return resolve()
    const end = () => {
      clearTimeout(timer)
      interrupt.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    interrupt.addEventListener('abort', end)
  })
}
