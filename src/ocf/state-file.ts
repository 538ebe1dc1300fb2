/**
 * snapshot: the memory of the guest, saved at a stop and restored at the next start. An image that is restored a second time, or after
 * the disks were written by somebody else, brings old memory onto changed disks: so it is taken out of the way before it is restored,
 * and what the disks were like is kept beside it.
 */
import { existsSync, readFileSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { ActiveDomain, Finding } from '../core/agent/presence.ts'
import { type Agent, failed, look, success } from './agent.ts'
import { leftMs } from './call.ts'
import type { Cover } from './claim.ts'
import { diskPathsOf, toDefinition } from './definition.ts'
import { replaceFile } from './files.ts'
import { saidBy, virsh } from './virsh.ts'

/** DIR/NAME.state, as ocf:heartbeat:VirtualDomain has it. */
export function stateFileOf({ settings }: Agent, name: string): string {
  return join(settings.snapshot, `${name}.state`)
}

/**
 * What an earlier life of the domain left there is older than the disks are now, and must never be restored. A fresh image takes its place,
 * or none.
 */
export function retireState(agent: Agent, name: string): void {
  const { log } = agent
  const file = stateFileOf(agent, name)
  if (!existsSync(file)) return
  try {
    renameSync(file, `${file}.stale`)
    log.warn(`${file} was of an earlier life of ${name}, and is now ${file}.stale`)
  } catch (error) {
    log.error(
      `${file} is of an earlier life of ${name} and must not be restored; remove it: ${(error as Error).message}`,
    )
  }
}

/** True when the memory was saved and the domain is gone. When it cannot be saved, the guest is shut down instead. */
export async function saveState(agent: Agent, domain: ActiveDomain, untilMs: number): Promise<boolean> {
  const file = stateFileOf(agent, domain.name)
  const xml = await agent.hypervisor.liveXml(domain, leftMs(agent.call)).catch(() => undefined)
  const exit = await virsh(agent, ['save', domain.uuid, file], { timeoutMs: Math.max(1, untilMs - performance.now()) })
  const now = await agent.hypervisor.look({ names: [], uuids: [domain.uuid] }, leftMs(agent.call))
  if (exit.status === 0 && now.kind === 'absent') {
    noteDisks(agent, file, xml)
    return true
  }
  agent.log.error(
    `the memory of ${domain.name} could not be saved to ${file}, so the guest is shut down: ${saidBy(exit)}`,
  )
  if (exit.timedOut) await virsh(agent, ['domjobabort', domain.uuid], { timeoutMs: 2000 })
  return false
}

/** What the disks are like right after the domain has ended. */
function noteDisks({ log }: Agent, file: string, xml: string | undefined): void {
  try {
    if (xml !== undefined)
      replaceFile(`${file}.disks`, JSON.stringify(stampsOf(diskPathsOf(toDefinition(file, xml)))), 0o600)
  } catch (error) {
    log.warn(`what the disks were like could not be written to ${file}.disks: ${(error as Error).message}`)
  }
}

/** Size and time of change of each file; devices have none, and say nothing. */
function stampsOf(paths: readonly string[]): Record<string, string> {
  const stamps = paths.flatMap(path => {
    const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
    return stat?.isFile() ? [[path, `${stat.size} ${stat.mtimeNs}`]] : []
  })
  return Object.fromEntries(stamps)
}

/** True when a start is to go on from a saved state. */
export function hasState(agent: Agent, name: string): boolean {
  if (agent.settings.snapshot === '') return false
  const file = stateFileOf(agent, name)
  if (existsSync(`${file}.restoring`))
    agent.log.warn(
      `${file}.restoring is left of a start that was killed; the guest may have gone on from it, so it is not used again`,
    )
  return existsSync(file)
}

/** Restores the saved state. When that fails, the file is where it was, and nothing is booted from the disks instead. */
export async function restoreState(agent: Agent, name: string, cover: Cover): Promise<Finding> {
  const file = stateFileOf(agent, name)
  const changed = changedSince(file)
  if (changed !== undefined)
    return failed(
      `${file} is not restored: the disk ${changed} has changed since the memory was saved, so ${name} has run elsewhere meanwhile; remove the file to boot from the disks`,
    )
  // If we are killed now, the next start must not find it: nobody would know whether the guest has gone on already.
  const taken = `${file}.restoring`
  renameSync(file, taken)
  const exit = await cover.virsh(['restore', taken])
  const now = await look(agent)
  if (now.kind === 'active' && exit.status === 0) {
    unlinkSync(taken)
    if (existsSync(`${file}.disks`)) unlinkSync(`${file}.disks`)
    return success
  }
  // Killed in the middle, nobody knows whether the guest has gone on already.
  if (now.kind === 'absent' && !exit.timedOut) renameSync(taken, file)
  return failed(`${name} could not be restored from ${existsSync(file) ? file : taken}: ${saidBy(exit)}`)
}

/** The first disk that is not as it was when the state was saved. */
function changedSince(file: string): string | undefined {
  try {
    const then = JSON.parse(readFileSync(`${file}.disks`, 'utf8')) as Record<string, string>
    const now = stampsOf(Object.keys(then))
    return Object.keys(then).find(path => now[path] !== undefined && now[path] !== then[path])
  } catch {
    // Saved by another agent, or by hand: nothing is known.
    return undefined
  }
}
