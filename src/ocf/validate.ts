/** validate-all and reload-agent: is the resource configured rightly? The domain is looked for only where the answer could be "not installed". */
import { ocf } from '../core/agent/exit.ts'
import { type Finding, findingOf } from '../core/agent/presence.ts'
import { type Agent, failed, look, nameOf, success } from './agent.ts'
import { startProblem } from './start.ts'

/** From this OCF_CHECK_LEVEL on libvirt is asked, too. */
const DEEP = 10

export async function validateAll(agent: Agent): Promise<Finding> {
  warnOfUris(agent)
  const problem = agent.problems[0] ?? startProblem(agent)
  if (problem !== undefined) return problem
  if (agent.call.checkLevel < DEEP) return success
  const presence = await look(agent)
  if (presence.kind !== 'silent') return success
  const { code } = findingOf(presence, nameOf(agent), { recurring: false, configRead: true, knowsDegraded: false })
  return { code: code === ocf.notInstalled ? code : ocf.generic, sentence: presence.why }
}

/** The new values are read by whatever action comes next; here it is only told whether they are right. */
export async function reloadAgent(agent: Agent): Promise<Finding> {
  const [wrong] = agent.problems
  if (wrong !== undefined) return wrong
  const presence = await look(agent)
  if (presence.kind === 'silent' && presence.process === 'unknown') return failed(presence.why)
  agent.log.info(`the parameters of ${nameOf(agent)} have been read anew`)
  return success
}

function warnOfUris({ settings, log }: Agent): void {
  for (const [name, value] of Object.entries({ remoteuri: settings.remoteuri, migrateuri: settings.migrateuri })) {
    if (value !== '' && !value.includes('%n'))
      log.warn(`${name} has no %n, which stands for the target node: it leads to the same host whatever the target is`)
  }
}
