/** The Pacemaker agent on the nodes of the tests' cluster, called as Pacemaker calls it. */
import { begin, type Done, NODES, type Running, shell, sure } from './lab.ts'

/** An OCF root of each node's own. */
const ROOT = '/run/ocf'

/** Puts the agent onto every node of the cluster, and a definition of the domain. */
export async function installAgent(nodes: readonly string[] = NODES): Promise<void> {
  for (const node of nodes) await sure(shell(node, `mkdir -p ${ROOT} && havirt -q ocf install --root ${ROOT}`))
}

/** Gives every node the file that the resource of this name is started from. */
export async function configureResource(name: string, xml: string, nodes: readonly string[] = NODES): Promise<void> {
  for (const node of nodes) await sure(shell(node, `cat >/root/${name}.xml`, { stdin: xml }))
}

/** Parameters by their names, and what Pacemaker says of the operation as `CRM_meta_...`. */
export type Given = Readonly<Record<string, string>>

/** Begins an action of the resource `name`, in a clean environment as Pacemaker makes one. */
export function agentBegins(node: string, name: string, action: string, given: Given = {}): Running {
  const said = { config: `/root/${name}.xml`, CRM_meta_timeout: '60000', ...given }
  const words = Object.entries(said).map(([key, value]) => `OCF_RESKEY_${key}=${value}`)
  const pacemaker = [
    `OCF_ROOT=${ROOT}`,
    `OCF_RESOURCE_INSTANCE=${name}`,
    'OCF_RA_VERSION_MAJOR=1',
    'OCF_RA_VERSION_MINOR=1',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ]
  const program = `${ROOT}/resource.d/havirt/VirtualDomain`
  return begin(['exec', node, 'env', '-i', ...pacemaker, ...words, program, action])
}

export function agent(node: string, name: string, action: string, given: Given = {}): Promise<Done> {
  return agentBegins(node, name, action, given).done
}

/** The exit reasons that were given; there must never be two. */
export function reasonsOf({ stderr }: Pick<Done, 'stderr'>): string[] {
  return stderr.split('\n').flatMap(line => /^ocf-exit-reason:(.*)$/.exec(line)?.[1] ?? [])
}
