/** save_config_on_stop: changes of the running domain go back to the definition's file, whole or not at all. */
import { copyFileSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ActiveDomain } from '../core/agent/presence.ts'
import type { Agent } from './agent.ts'
import { leftMs } from './call.ts'
import { readDefinition, untagged } from './definition.ts'
import { replaceFile } from './files.ts'
import { isProgram } from './processes.ts'
import { program, saidBy } from './virsh.ts'

/** For each program that has a say in it: a stop has better things to wait for. */
const PATIENCE_MS = 5000

/** Never fails the action: what goes wrong is logged, and the file is as it was. */
export async function saveConfig(agent: Agent, domain: ActiveDomain): Promise<void> {
  const { settings, hypervisor, call, log } = agent
  try {
    const fresh = untagged(await hypervisor.inactiveXml(domain, leftMs(call)))
    const former = await readDefinition(settings.config)
    if ('hangs' in former) throw new Error(former.problem)
    if (!('problem' in former) && former.text === fresh) return
    if (!(await isValid(agent, fresh))) return
    replace(settings.config, fresh)
    log.info(`the definition of ${domain.name} was saved to ${settings.config}; the former one is beside it, .previous`)
    if (settings.sync_config_on_stop) await synchronize(agent)
  } catch (error) {
    log.warn(`the definition of ${domain.name} could not be saved to ${settings.config}: ${(error as Error).message}`)
  }
}

/** libvirt's schemas, where their checker is installed, may refuse what libvirt itself wrote: such a file is not saved. */
async function isValid(agent: Agent, text: string): Promise<boolean> {
  if (!isProgram('virt-xml-validate')) return true
  // It wants a file by name, and the text may hold secrets.
  const folder = mkdtempSync(join(agent.call.runFolder, 'havirt-'))
  try {
    writeFileSync(join(folder, 'domain.xml'), text, { mode: 0o600 })
    const exit = await program(agent, 'virt-xml-validate', [join(folder, 'domain.xml'), 'domain'], {
      timeoutMs: PATIENCE_MS,
    })
    if (exit.status === 0) return true
    agent.log.warn(`the definition is not saved, because virt-xml-validate refuses it: ${saidBy(exit)}`)
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A link stays one: what it leads to is replaced. */
function replace(config: string, text: string): void {
  const path = existing(config)
  const { mode, uid, gid } = statSync(path, { throwIfNoEntry: false }) ?? { mode: 0o600, uid: 0, gid: 0 }
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) copyFileSync(path, `${path}.previous`)
  replaceFile(path, text, mode & 0o7777, { uid, gid })
}

function existing(config: string): string {
  try {
    return realpathSync(config)
  } catch {
    return config
  }
}

async function synchronize(agent: Agent): Promise<void> {
  const exit = await program(agent, 'csync2', ['-x', agent.settings.config], { timeoutMs: PATIENCE_MS })
  if (exit.status !== 0) agent.log.warn(`csync2 could not bring the definition to the other nodes: ${saidBy(exit)}`)
}
