/** monitor and status: what runs here, and whether the guest is well. */
import { ocf } from '../core/agent/exit.ts'
import { listOf } from '../core/agent/parameters.ts'
import { type ActiveDomain, type Finding, findingOf, type Presence } from '../core/agent/presence.ts'
import { type Agent, look, nameOf, rememberDomain, rest, success } from './agent.ts'
import { isOver, leftMs } from './call.ts'

/** How often libvirt is asked again while it is silent. */
const REST_MS = 500

export async function monitor(agent: Agent): Promise<Finding> {
  return examine(agent, await look(agent))
}

/** Everything that a monitor does with what was found; start and migrate_from wait until it is content. */
export async function examine(agent: Agent, presence: Presence): Promise<Finding> {
  const finding = findingOf(presence, nameOf(agent), asking(agent))
  if (finding.code === ocf.success && finding.sentence !== undefined) agent.log.warn(finding.sentence)
  if (presence.kind === 'active') rememberDomain(agent, presence)
  const scripts = finding.code === ocf.success ? await runScripts(agent) : success
  // A start asks again and again until the guest is well; only then is there news for the CIB.
  if (presence.kind === 'active' && (scripts.code === ocf.success || agent.call.action === 'monitor'))
    await lookAfter(agent, presence)
  return scripts.code === ocf.success ? finding : scripts
}

function asking({ call, definition }: Agent) {
  return { recurring: call.recurring, configRead: !('problem' in definition), knowsDegraded: call.knowsDegraded }
}

/** What goes along with a monitor, and never decides what it answers. */
async function lookAfter(agent: Agent, domain: ActiveDomain): Promise<void> {
  const { tellUtilization } = await import('./utilization.ts')
  await tellUtilization(agent, domain)
  if (!agent.settings.save_config_on_stop) return
  const { saveConfig } = await import('./save.ts')
  await saveConfig(agent, domain)
}

/** The raw state. While libvirt is silent, it is waited for: this action has no word for "perhaps". */
export async function status(agent: Agent): Promise<Finding> {
  const first = await look(agent)
  // No process is an answer, too.
  const isSure = first.kind !== 'silent' || first.process === undefined
  const presence = isSure ? first : await lookUntilHeard(agent, agent.call.deadlineMs)
  const finding = findingOf(presence, nameOf(agent), asking(agent))
  if (presence.kind !== 'silent' || finding.code !== ocf.success) return finding
  return { code: ocf.generic, sentence: presence.why }
}

/** Looks until libvirt answers, or until `untilMs`. Where nothing of libvirt is installed, there is nothing to wait for. */
export async function lookUntilHeard(agent: Agent, untilMs: number): Promise<Presence> {
  for (;;) {
    const presence = await look(agent, Math.max(1, untilMs - performance.now()))
    const isFinal = presence.kind !== 'silent' || !presence.installed
    if (isFinal || agent.interrupt.aborted || isOver(untilMs - REST_MS)) return presence
    await rest(agent, REST_MS)
  }
}

/** The programs that look into the guest, one after the other; the first that fails decides. */
async function runScripts(agent: Agent): Promise<Finding> {
  const scripts = listOf(agent.settings.monitor_scripts)
  if (scripts.length === 0) return success
  const { run } = await import('../nodes/process.ts')
  for (const script of scripts) {
    // Behind a shell: to begin a program on a share that hangs would hang the agent, and not only its child.
    const exit = await run('sh', ['-c', 'exec "$0"', script], {
      timeoutMs: leftMs(agent.call),
      abort: agent.interrupt,
      group: 'whole',
      maxOutputBytes: 64 * 1024,
    })
    if (exit.status === 0 && !exit.timedOut) continue
    return { code: ocf.generic, sentence: `the monitor script ${script} of ${nameOf(agent)} ${endOf(exit)}` }
  }
  return success
}

/** Room for the first words of a script in a sentence. */
const MAX_WORDS = 300

function endOf(exit: {
  status: number | undefined
  signal: string | undefined
  timedOut: boolean
  stdout: string
  stderr: string
}): string {
  const words = `${exit.stdout} ${exit.stderr}`.replace(/\s+/g, ' ').trim()
  const said = words === '' ? '' : `: ${words.length > MAX_WORDS ? `${words.slice(0, MAX_WORDS)}...` : words}`
  if (exit.timedOut) return `did not end in time and was killed${said}`
  if (exit.signal !== undefined) return `was ended by ${exit.signal}${said}`
  return exit.status === undefined ? `could not be started${said}` : `exited with ${exit.status}${said}`
}
