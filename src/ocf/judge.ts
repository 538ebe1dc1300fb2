/** What became of a migration whose command failed: both ends are looked at, and put right by the table of docs/safety.md. */
import { hostname } from 'node:os'
import type { ActiveDomain, Finding } from '../core/agent/presence.ts'
import { type End, judgeMigration, mayResume, type Verdict } from '../core/migration.ts'
import { type DomainState, pausedReason } from '../core/node.ts'
import { type Agent, failed, rest, success } from './agent.ts'
import { isOver, leftMs } from './call.ts'
import { saidBy, virsh } from './virsh.ts'

export interface Broken {
  readonly target: string
  readonly remoteUri: string
  /** Why the command failed, in libvirt's words. */
  readonly said: string
}

const REST_MS = 250
/** The target may be the reason why it broke. */
const TARGET_MS = 10_000

export async function judge(agent: Agent, domain: ActiveDomain, broken: Broken): Promise<Finding> {
  await jobEnd(agent, domain)
  if (await leadsBack(agent, broken))
    return failed(
      `${domain.name} could not be migrated to ${broken.target}: ${broken.remoteUri} leads back to this node`,
    )
  const source = await sourceEnd(agent, domain)
  const target = await targetEnd(agent, domain, broken)
  const why = `${domain.name} could not be migrated to ${broken.target}: ${broken.said}`
  if (source === undefined || target === undefined) return unjudged(agent, domain, broken, source, why)
  return act(agent, domain, broken, judgeMigration(source, target), why)
}

/** Seen from here and from there would be the same copy, which would look like two. */
async function leadsBack(agent: Agent, { remoteUri: uri }: Broken): Promise<boolean> {
  const exit = await virsh(agent, ['hostname'], { uri, timeoutMs: TARGET_MS, always: true })
  return exit.status === 0 && exit.stdout.trim() === hostname()
}

/** While a job goes on, neither end says anything final. */
async function jobEnd(agent: Agent, domain: ActiveDomain): Promise<void> {
  const hasJob = () => agent.hypervisor.hasJob(domain, leftMs(agent.call)).catch(() => false)
  while ((await hasJob()) && !isOver(agent.call.deadlineMs - REST_MS)) await rest(agent, REST_MS)
}

async function sourceEnd({ hypervisor, call }: Agent, { uuid }: ActiveDomain): Promise<End | undefined> {
  const now = await hypervisor.look({ names: [], uuids: [uuid] }, leftMs(call))
  if (now.kind === 'silent') return undefined
  return now.kind === 'absent' ? 'absent' : { state: now.state, stateReason: now.stateReason }
}

/** Words of `virsh domstate --reason` (tools/virsh-domain-monitor.c) that the table tells apart. Any other is not understood. */
const TARGET_STATES: Readonly<Record<string, { state: DomainState; stateReason: number }>> = {
  running: { state: 'running', stateReason: 0 },
  idle: { state: 'blocked', stateReason: 0 },
  'in shutdown': { state: 'shutdown', stateReason: 0 },
  'paused (migrating)': { state: 'paused', stateReason: pausedReason.migration },
  'paused (starting up)': { state: 'paused', stateReason: pausedReason.startingUp },
  'paused (post-copy)': { state: 'paused', stateReason: pausedReason.postCopy },
  'paused (post-copy failed)': { state: 'paused', stateReason: pausedReason.postCopyFailed },
  'paused (user)': { state: 'paused', stateReason: pausedReason.user },
}

/** The other end by virsh, over the connection of the migration; undefined when it does not say. Absent only by a whole list without it. */
async function targetEnd(agent: Agent, { uuid }: ActiveDomain, { remoteUri: uri }: Broken): Promise<End | undefined> {
  const order = { uri, timeoutMs: TARGET_MS, always: true } as const
  const list = await virsh(agent, ['list', '--uuid'], order)
  if (list.status !== 0) return undefined
  if (!list.stdout.split('\n').some(line => line.trim() === uuid)) return 'absent'
  const state = await virsh(agent, ['domstate', '--reason', uuid], order)
  if (state.status !== 0) return undefined
  const words = state.stdout.trim()
  return TARGET_STATES[words] ?? TARGET_STATES[words.replace(/ \(.*/, '')]
}

/** One end does not answer: nothing is touched. Where the guest runs here, Pacemaker goes on with it here. */
function unjudged(
  agent: Agent,
  { name }: ActiveDomain,
  { target }: Broken,
  source: End | undefined,
  why: string,
): Finding {
  const silent = source === undefined ? 'libvirt here' : target
  agent.log.error(`${silent} does not say what it has of ${name}; nothing was touched at either end`)
  return failed(why)
}

async function act(
  agent: Agent,
  domain: ActiveDomain,
  broken: Broken,
  verdict: Verdict,
  why: string,
): Promise<Finding> {
  const { name } = domain
  switch (verdict) {
    case 'moved':
      agent.log.warn(`${name} runs on ${broken.target} although virsh failed: ${broken.said}`)
      return success
    case 'destroySource':
      return destroySource(agent, domain, broken)
    case 'stayed':
      return failed(why)
    case 'destroyTarget':
      await destroyTarget(agent, domain, broken)
      return failed(why)
    case 'destroyTargetResumeSource':
      return (await destroyTarget(agent, domain, broken)) ? resume(agent, domain, broken, why) : failed(why)
    case 'off':
      return failed(`${name} ended while it was migrated to ${broken.target}: ${broken.said}`)
    case 'twice':
      return failed(
        `${name} RUNS TWICE, here and on ${broken.target}; nothing was touched, a person must decide which one stays`,
      )
    case 'unclear':
      return failed(
        `${why}; neither end can be told to be the right one, and nothing was touched: look with virsh domstate --reason ${name} at both`,
      )
  }
}

async function destroySource(agent: Agent, domain: ActiveDomain, broken: Broken): Promise<Finding> {
  const exit = await virsh(agent, ['destroy', domain.uuid], { always: true })
  if (exit.status === 0 || (await sourceEnd(agent, domain)) === 'absent') return success
  return failed(
    `${domain.name} runs on ${broken.target}, but what is left of it here could not be destroyed: ${saidBy(exit)}`,
  )
}

/** True when nothing is left there. */
async function destroyTarget(agent: Agent, domain: ActiveDomain, broken: Broken): Promise<boolean> {
  const exit = await virsh(agent, ['destroy', domain.uuid], {
    uri: broken.remoteUri,
    timeoutMs: TARGET_MS,
    always: true,
  })
  const gone = (await targetEnd(agent, domain, broken)) === 'absent'
  if (!gone)
    agent.log.error(`what waits on ${broken.target} for ${domain.name} could not be destroyed: ${saidBy(exit)}`)
  return gone
}

async function resume(agent: Agent, domain: ActiveDomain, broken: Broken, why: string): Promise<Finding> {
  const source = await sourceEnd(agent, domain)
  const target = await targetEnd(agent, domain, broken)
  if (source !== undefined && target !== undefined && mayResume(source, target))
    await virsh(agent, ['resume', domain.uuid], { always: true })
  return failed(why)
}
