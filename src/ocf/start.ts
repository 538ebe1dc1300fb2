/** start: what stands in the way first, then the domain, then the wait until a monitor is content. */
import { randomUUID } from 'node:crypto'
import { ocf, type Problem } from '../core/agent/exit.ts'
import type { Finding, Presence } from '../core/agent/presence.ts'
import { type Agent, failed, firstProblem, known, nameOf, rememberDomain, rest, success } from './agent.ts'
import { isOver, leftMs } from './call.ts'
import { type Cover, withClaim } from './claim.ts'
import { type Definition, tagged } from './definition.ts'
import { answers } from './files.ts'
import { lockRefusal } from './lock-refusal.ts'
import { examine, lookUntilHeard } from './monitor.ts'
import { prepareOverlay, problemOfOverlay } from './overlay.ts'
import { isProgram } from './processes.ts'
import { startResources } from './resources.ts'
import { hasState, restoreState } from './state-file.ts'
import { orderShutdown } from './systemd.ts'
import { undefine } from './undefine.ts'
import { saidBy } from './virsh.ts'

const REST_MS = 500
/** What libvirt may take of the time that is left. */
const CREATE_SHARE = 0.95

export async function start(agent: Agent): Promise<Finding> {
  const wrong = agent.problems[0]
  if (wrong !== undefined) return wrong
  const presence = await settled(agent)
  if (presence.kind === 'active') return alreadyActive(agent, presence)
  if (presence.kind === 'silent') return unknown(agent, presence)
  const problem = startProblem(agent)
  if (problem !== undefined) return problem
  const { definition } = agent
  if ('problem' in definition) return failed(definition.problem)
  await orderShutdown(agent)
  return withClaim(agent, identityOf(definition), cover => startNow(agent, definition, cover))
}

function identityOf({ name, uuid, text }: Definition) {
  return { name, uuid: uuid ?? randomUUID(), xml: text, verb: 'ocf start' }
}

/** What hinders a start, once the domain is certainly not active: only then may the answer be "not installed". */
export function startProblem(agent: Agent): Problem | undefined {
  const { settings } = agent
  const missing = (what: string, why: string): Problem => ({
    code: ocf.notInstalled,
    sentence: `${what} is not installed, ${why}`,
  })
  if (!isProgram('virsh')) return missing('virsh', 'and the agent acts by it (Debian: libvirt-clients)')
  if (settings.sync_config_on_stop && !isProgram('csync2'))
    return missing('csync2', 'but sync_config_on_stop is set (Debian: csync2)')
  return firstProblem(agent) ?? problemOfOverlay(agent)
}

/** A domain that is shutting down is waited for: taken for running, it would be gone a moment later. */
async function settled(agent: Agent): Promise<Presence> {
  for (;;) {
    const presence = await lookUntilHeard(agent, agent.call.deadlineMs)
    const isEnding = presence.kind === 'active' && presence.state === 'shutdown'
    if (!isEnding || agent.interrupt.aborted || isOver(agent.call.deadlineMs - REST_MS)) return presence
    await rest(agent, REST_MS)
  }
}

function alreadyActive(agent: Agent, presence: Presence & { kind: 'active' }): Finding {
  if (presence.state === 'crashed' || presence.state === 'pmsuspended')
    return failed(`${presence.name} is ${presence.state} here; it must be stopped before it can start`)
  agent.log.info(`${presence.name} is active already (${presence.state})`)
  rememberDomain(agent, presence)
  return success
}

function unknown(agent: Agent, presence: Presence & { kind: 'silent' }): Finding {
  const name = nameOf(agent)
  if (!presence.installed && presence.process === undefined)
    return { code: ocf.notInstalled, sentence: `${name} cannot start: ${presence.why}` }
  return failed(`${name} cannot start: ${presence.why}`)
}

async function startNow(agent: Agent, definition: Definition, cover: Cover): Promise<Finding> {
  const { snapshot } = agent.settings
  if (snapshot !== '' && !(await answers(snapshot)))
    return failed(
      `${definition.name} cannot start: the share of ${snapshot}, which may hold its memory, does not answer`,
    )
  const kept = await agent.hypervisor.kept(known(agent), leftMs(agent.call))
  if (kept?.managedSave)
    return failed(
      `${definition.name} has a managed save image on this node, and starting it afresh would leave that memory to be restored onto changed disks; go on from it (virsh start ${definition.name}) or discard it (virsh managedsave-remove ${definition.name})`,
    )
  rememberDomain(agent, { name: definition.name, uuid: definition.uuid ?? cover.uuid })
  const born = hasState(agent, definition.name)
    ? await restoreState(agent, definition.name, cover)
    : await create(agent, definition, cover, kept)
  return born.code === ocf.success ? untilContent(agent) : born
}

async function create(
  agent: Agent,
  definition: Definition,
  cover: Cover,
  kept: { name: string; uuid: string; xml: string } | undefined,
): Promise<Finding> {
  if (kept !== undefined) await undefine(agent, kept)
  const resources = agent.settings.start_resources
    ? await startResources(agent, definition, agent.hypervisor.uri)
    : success
  if (resources.code !== ocf.success) return resources
  const overlay = agent.settings.backingfile === '' ? success : await prepareOverlay(agent)
  if (overlay.code !== ocf.success) return overlay
  const { text } = tagged(definition, agent.call.instance, () => cover.uuid)
  const exit = await cover.virsh(['create', '/dev/stdin'], {
    stdin: text,
    timeoutMs: leftMs(agent.call) * CREATE_SHARE,
  })
  if (exit.status === 0) return success
  if (exit.timedOut) return failed(`libvirt did not start ${definition.name} in time; it may still do so`)
  const said = saidBy(exit)
  return failed(`${definition.name} could not be started: ${(await lockRefusal(said, definition)) ?? said}`)
}

/** The operation is over when the guest is well: monitor scripts and all. */
export async function untilContent(agent: Agent): Promise<Finding> {
  for (let earlier: string | undefined; ; ) {
    const finding = await examine(agent, await lookUntilHeard(agent, agent.call.deadlineMs))
    if (finding.code === ocf.success || finding.code === ocf.degraded) return success
    if (agent.interrupt.aborted || isOver(agent.call.deadlineMs - REST_MS))
      return failed(cutShort(agent, finding, earlier) ?? `${nameOf(agent)} was started, but is not active any more`)
    earlier = finding.sentence
    await rest(agent, REST_MS)
  }
}

/** A look that only the end of the time has ended says less than the one before it. */
function cutShort({ call }: Agent, { sentence }: Finding, earlier: string | undefined): string | undefined {
  return isOver(call.deadlineMs) ? (earlier ?? sentence) : sentence
}
