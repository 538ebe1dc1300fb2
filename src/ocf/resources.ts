/** start_resources: storage pools and networks that the domain needs, on this node or on the target of a migration. */
import { ocf } from '../core/agent/exit.ts'
import type { Finding } from '../core/agent/presence.ts'
import { type Agent, failed, success } from './agent.ts'
import { type Definition, resourcesOf } from './definition.ts'
import { saidBy, virsh } from './virsh.ts'

export async function startResources(agent: Agent, definition: Definition, uri: string): Promise<Finding> {
  const { pools, networks } = resourcesOf(definition)
  const first = await startAll(agent, uri, 'pool', pools)
  return first.code === ocf.success ? startAll(agent, uri, 'net', networks) : first
}

/** By name and never as an option, whatever the name begins with. */
const OPTION = { pool: '--pool', net: '--network' } as const
const WHAT = { pool: 'storage pool', net: 'network' } as const

async function startAll(agent: Agent, uri: string, kind: 'pool' | 'net', names: readonly string[]): Promise<Finding> {
  if (names.length === 0) return success
  const list = await virsh(agent, [`${kind}-list`, '--name'], { uri })
  if (list.status !== 0) return failed(`the ${WHAT[kind]}s at ${uri} could not be listed: ${saidBy(list)}`)
  const active = list.stdout.split('\n').map(line => line.trim())
  for (const name of names) {
    const isActive = active.includes(name)
    // What a running pool holds may have changed; a network has nothing to look for.
    if (isActive && kind === 'net') continue
    const exit = await virsh(agent, [`${kind}-${isActive ? 'refresh' : 'start'}`, OPTION[kind], name], { uri })
    if (exit.status !== 0 && !isActive)
      return failed(`the ${WHAT[kind]} ${name} could not be started at ${uri}: ${saidBy(exit)}`)
  }
  return success
}
