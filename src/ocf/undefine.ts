/**
 * A persistent definition of the same name stands in the way of a start from the file, and could bring the domain up without the cluster.
 * It is taken away, as ocf:heartbeat:VirtualDomain does, but a copy is kept, and so is what belongs to the domain: UEFI variables and TPM state.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Agent } from './agent.ts'
import type { Definition } from './definition.ts'
import { replaceFile } from './files.ts'
import { saidBy, virsh } from './virsh.ts'

const KEPT = '/var/lib/havirt/ocf'

/** What cannot be undefined stays: libvirt then starts the file's definition in its place, or says why not. */
export async function undefine(agent: Agent, kept: { name: string; uuid: string; xml: string }): Promise<void> {
  const copy = keepCopy(agent, kept)
  if (copy === undefined) return
  // libvirt knows --keep-tpm from 8.9 on, where the state would go with the definition; before, it stays.
  const flags = [...(kept.xml.includes('<tpm') ? ['--keep-tpm'] : []), '--keep-nvram']
  const exit = await virsh(agent, ['undefine', kept.uuid, ...flags])
  if (exit.status === 0) agent.log.info(`the persistent definition of ${kept.name} was taken away; a copy is ${copy}`)
  else agent.log.warn(`the persistent definition of ${kept.name} could not be taken away: ${saidBy(exit)}`)
  if (!('problem' in agent.definition)) restoreFile(agent, agent.definition)
}

function keepCopy({ log }: Agent, { name, xml }: { name: string; xml: string }): string | undefined {
  const file = join(KEPT, `${encodeURIComponent(name)}.xml`)
  try {
    mkdirSync(KEPT, { recursive: true, mode: 0o700 })
    replaceFile(file, xml, 0o600)
    return file
  } catch (error) {
    log.warn(
      `the persistent definition of ${name} stays, since no copy could be written to ${file}: ${(error as Error).message}`,
    )
    return undefined
  }
}

/** libvirt deletes its own file of the definition, which may be the very file that the resource names. */
function restoreFile({ log }: Agent, { path, text }: Definition): void {
  if (existsSync(path)) return
  replaceFile(path, text, 0o600)
  log.info(`${path} was libvirt's own file of the definition, and was written anew`)
}
