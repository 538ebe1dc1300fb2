/**
 * The domain's size, told to Pacemaker as utilization attributes of the resource. Asking the CIB takes a process for each attribute, so
 * what was found there is remembered together with the state of the CIB's file: while neither changes, nothing is asked and nothing
 * is written.
 */
import { statSync } from 'node:fs'
import type { Settings } from '../core/agent/parameters.ts'
import type { ActiveDomain } from '../core/agent/presence.ts'
import { type Agent, rememberDomain } from './agent.ts'
import { leftMs } from './call.ts'

/** Where pacemaker-based keeps the CIB. It is written anew with each change of the configuration. */
const CIB_FILE = '/var/lib/pacemaker/cib/cib.xml'
/** A node without the file (pacemaker_remote) asks this seldom. */
const ASK_AGAIN_MS = 5 * 60_000
const NO_SUCH = 105
/** For each question or word to the CIB; a monitor has better things to wait for. */
const PATIENCE_MS = 5000

/** An attribute and what it should be; undefined: it should not be there. */
type Wish = readonly [name: string, value: string | undefined]

function wishes(settings: Settings, { vcpus, maxMemoryMiB }: ActiveDomain): Wish[] {
  const sizes = { cpu: vcpus, host_memory: maxMemoryMiB, hv_memory: maxMemoryMiB } as const
  return (['cpu', 'host_memory', 'hv_memory'] as const).flatMap((name): Wish[] => {
    const size = sizes[name]
    if (settings[`autoset_utilization_${name}`]) return size === undefined ? [] : [[name, String(size)]]
    return settings[`unset_utilization_${name}`] ? [[name, undefined]] : []
  })
}

/** Brings the CIB up to date. What goes wrong is logged; a monitor does not fail for it. */
export async function tellUtilization(agent: Agent, domain: ActiveDomain): Promise<void> {
  const wanted = wishes(agent.settings, domain)
  const cib = stateOfCib()
  if (wanted.length === 0 || cib === undefined) return
  const values = JSON.stringify(wanted)
  const { utilization } = agent.memory ?? {}
  if (utilization?.cib === cib && utilization.values === values) return
  for (const wish of wanted) {
    if ((await fulfil(agent, wish)) !== 'done') return
  }
  // The state from before we asked: a change since then has us ask again.
  rememberDomain(agent, domain, { utilization: { cib, values } })
}

/** Something that differs whenever the configuration may; undefined where there is no cluster. */
function stateOfCib(): string | undefined {
  const other = process.env['CIB_file'] || process.env['CIB_shadow']
  if (other) return `${other} ${performance.timeOrigin}`
  try {
    const { ino, mtimeMs, size } = statSync(CIB_FILE)
    return `${ino} ${mtimeMs} ${size}`
  } catch {
    const isCalledByCluster = process.env['OCF_RESKEY_crm_feature_set'] !== undefined
    return isCalledByCluster ? `asked ${Math.floor(Date.now() / ASK_AGAIN_MS)}` : undefined
  }
}

async function fulfil(agent: Agent, [name, value]: Wish): Promise<'noCib' | 'done' | 'failed'> {
  const found = await crmResource(agent, ['-g', name])
  if (found.status !== 0 && found.status !== NO_SUCH) return 'noCib'
  // Pacemaker 2.1 says 0 and nothing for an attribute that is not there.
  const before = (found.status === 0 && found.stdout.trim()) || undefined
  if (before === value) return 'done'
  const words = value === undefined ? ['-d', name] : ['-p', name, '-v', value]
  const exit = await crmResource(agent, words)
  if (exit.status !== 0) {
    agent.log.warn(`utilization ${name} could not be set: ${exit.stderr.trim()}`)
    return 'failed'
  }
  agent.log.info(`utilization ${name} is ${value ?? 'removed'}, was ${before ?? 'not set'}`)
  return 'done'
}

async function crmResource({ call, interrupt }: Agent, words: readonly string[]) {
  const { run } = await import('../nodes/process.ts')
  // The instance number of a clone is no part of the resource's name.
  const resource = call.instance.replace(/:\d+$/, '')
  return run('crm_resource', ['-Q', '-r', resource, '-z', ...words], {
    timeoutMs: Math.min(PATIENCE_MS, leftMs(call)),
    abort: interrupt,
    group: 'ours',
  })
}
