/**
 * stop: 0 only when the domain was looked for and is certainly not active. The guest is asked first, and in time there is an end to
 * asking: what is kept of the timeout is for the forced step.
 */
import { reserveOf } from '../core/agent/deadline.ts'
import { ocf } from '../core/agent/exit.ts'
import {
  type ActiveDomain,
  type Finding,
  findingOf,
  isBeyondShutdown,
  isPausedByMigration,
  type Presence,
} from '../core/agent/presence.ts'
import { type Agent, failed, known, look, nameOf, rest, success } from './agent.ts'
import { isOver, leftMs } from './call.ts'
import { answers } from './files.ts'
import { isGuardHeld } from './guard-lock.ts'
import { forget } from './memory.ts'
import { saveConfig } from './save.ts'
import { retireState, saveState } from './state-file.ts'
import { saidBy, virsh } from './virsh.ts'

/** How often it is asked whether the domain has ended. */
const REST_MS = 250
/** For how long a libvirt that says nothing is waited for before the processes of the machine are believed. */
const SILENCE_MS = 3000
/** libvirt may take as long as the storage does to take note of a shutdown. */
const SHUTDOWN_MS = 15_000

export async function stop(agent: Agent): Promise<Finding> {
  for (const { sentence } of agent.problems) agent.log.warn(`stops all the same: ${sentence}`)
  const presence = await lookToStop(agent)
  if (presence.kind === 'silent') return endOfSilence(agent, presence)
  return presence.kind === 'absent' ? whenQuiet(agent) : end(agent, presence)
}

/** libvirt is waited for; where no process can be the domain, not for long. */
async function lookToStop(agent: Agent): Promise<Presence> {
  for (;;) {
    const presence = await look(agent)
    if (presence.kind !== 'silent') return presence
    const isGone = presence.process === undefined && (!presence.installed || isOver(SILENCE_MS))
    if (isGone || agent.interrupt.aborted || isOver(agent.call.deadlineMs - REST_MS)) return presence
    await rest(agent, REST_MS)
  }
}

function endOfSilence(agent: Agent, presence: Presence): Finding {
  const { code, sentence } = findingOf(presence, nameOf(agent), {
    recurring: false,
    configRead: false,
    knowsDegraded: false,
  })
  if (code === ocf.notRunning || code === ocf.notInstalled) return ended(agent)
  return failed(`${nameOf(agent)} cannot be stopped: ${sentence}`)
}

/**
 * A start that was killed may have left its command behind, which holds the guard's lock for as long as it runs: only when nobody holds it
 * the domain does not come any more.
 */
async function whenQuiet(agent: Agent): Promise<Finding> {
  for (;;) {
    const isBusy = await isGuardHeld(known(agent).uuids)
    // Whatever the command was, it has its effect before it lets go.
    const now = await look(agent)
    if (now.kind === 'active') return end(agent, now)
    if (now.kind === 'absent' && !isBusy) return ended(agent)
    if (agent.interrupt.aborted || isOver(agent.call.deadlineMs - REST_MS))
      return failed(`${nameOf(agent)} is not active, but an earlier command for it still runs on this node`)
    await rest(agent, REST_MS)
  }
}

/** It has ended by our doing: the one that was found. Another one that the resource may be, too, has to go as well. */
async function wholly(agent: Agent): Promise<Finding> {
  const now = await look(agent)
  return now.kind === 'active' ? end(agent, now) : ended(agent)
}

function ended(agent: Agent): Finding {
  forget(agent.call)
  return success
}

async function end(agent: Agent, domain: ActiveDomain): Promise<Finding> {
  await abortJob(agent, domain)
  if (!agent.settings.force_stop) {
    if (await endsByItself(agent, domain)) return wholly(agent)
    if (agent.interrupt.aborted) return failed(`the stop of ${domain.name} was interrupted`)
  }
  return destroy(agent, domain)
}

/** A migration under way must not take the domain elsewhere while it is stopped here. */
async function abortJob(agent: Agent, domain: ActiveDomain): Promise<void> {
  const hasJob = () => agent.hypervisor.hasJob(domain, leftMs(agent.call)).catch(() => false)
  if (!(await hasJob())) return
  const exit = await virsh(agent, ['domjobabort', domain.uuid], { timeoutMs: untilForce(agent) })
  if (exit.status !== 0) agent.log.warn(`the job of ${domain.name} could not be aborted: ${saidBy(exit)}`)
  while ((await hasJob()) && !isOver(forceAt(agent))) await rest(agent, REST_MS)
}

/** When the forced step begins. */
function forceAt({ call }: Agent): number {
  return call.deadlineMs - reserveOf(call.timeoutMs)
}

function untilForce(agent: Agent): number {
  return Math.max(1, forceAt(agent) - performance.now())
}

/** True when it has ended without force: its memory was saved, or the guest shut down. */
async function endsByItself(agent: Agent, domain: ActiveDomain): Promise<boolean> {
  if (agent.settings.save_config_on_stop) await saveConfig(agent, domain)
  const saves = agent.settings.snapshot !== '' && (await canSave(agent))
  if (saves) retireState(agent, domain.name)
  const before = await agent.hypervisor.look(idOf(domain), leftMs(agent.call))
  const isWhole = before.kind === 'active' && !isPausedByMigration(before)
  if (saves && isWhole && (await saveState(agent, domain, forceAt(agent)))) return true
  const now = await agent.hypervisor.look(idOf(domain), leftMs(agent.call))
  if (now.kind === 'absent') return true
  if (now.kind === 'active' && isBeyondShutdown(now) && !isPausedByMigration(now)) {
    agent.log.info(`${domain.name} is ${now.state}, and no guest can answer a shutdown: it is destroyed`)
    return false
  }
  return shutDown(agent, domain)
}

async function canSave({ settings, log }: Agent): Promise<boolean> {
  if (await answers(settings.snapshot)) return true
  log.error(`the memory is not saved, and the guest is shut down: the share of ${settings.snapshot} does not answer`)
  return false
}

/** A guest that still boots does not hear the first word, so it is said again. */
async function shutDown(agent: Agent, domain: ActiveDomain): Promise<boolean> {
  const mode = agent.settings.shutdown_mode === '' ? [] : ['--mode', agent.settings.shutdown_mode]
  const untilMs = forceAt(agent)
  const againMs = Math.max(5000, (untilMs - performance.now()) / 3)
  while (!isOver(untilMs) && !agent.interrupt.aborted) {
    const timeoutMs = Math.min(SHUTDOWN_MS, Math.max(1, untilMs - performance.now()))
    const exit = await virsh(agent, ['shutdown', domain.uuid, ...mode], { timeoutMs })
    if (exit.status !== 0) agent.log.warn(`${domain.name} could not be asked to shut down: ${saidBy(exit)}`)
    if (await isGoneBy(agent, domain, Math.min(untilMs, performance.now() + againMs))) return true
  }
  return false
}

/** Only libvirt's own word counts: that it fell silent is no end. */
async function isGoneBy(agent: Agent, domain: ActiveDomain, latestMs: number): Promise<boolean> {
  const untilMs = Math.min(latestMs, agent.call.deadlineMs - REST_MS)
  for (;;) {
    const now = await agent.hypervisor.look(idOf(domain), leftMs(agent.call))
    if (now.kind === 'absent') return true
    if (isOver(untilMs) || agent.interrupt.aborted) return false
    if (now.kind === 'active' && now.state === 'crashed') return false
    await rest(agent, REST_MS)
  }
}

async function destroy(agent: Agent, domain: ActiveDomain): Promise<Finding> {
  let said = ''
  do {
    const exit = await virsh(agent, ['destroy', domain.uuid])
    said = exit.status === 0 ? '' : saidBy(exit)
    // That libvirt gave up waiting, or that it was gone already, is told by looking.
    if (await isGoneBy(agent, domain, performance.now() + (exit.status === 0 ? 5000 : 1000))) return wholly(agent)
  } while (!isOver(agent.call.deadlineMs - REST_MS) && !agent.interrupt.aborted)
  const silent = await agent.hypervisor.look(known(agent), Math.min(1000, leftMs(agent.call)))
  const why = said || (silent.kind === 'silent' ? silent.why : 'libvirt still shows it')
  return failed(
    `${domain.name} did not end within ${Math.round(agent.call.timeoutMs / 1000)} s, not even by force: ${why}`,
  )
}

function idOf({ uuid }: ActiveDomain) {
  return { names: [], uuids: [uuid] }
}
