/** backingfile: the domain's disk is a qcow2 file on top of an image that stays as it is. */
import { existsSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { ocf, type Problem } from '../core/agent/exit.ts'
import { listOf } from '../core/agent/parameters.ts'
import type { Finding } from '../core/agent/presence.ts'
import { type Agent, failed, success } from './agent.ts'
import { diskPathsOf } from './definition.ts'
import { program, saidBy } from './virsh.ts'

/** Beside the definition, and named after it: /srv/web.qcow2 for /srv/web.xml. */
export function overlayOf(config: string): string {
  return join(dirname(config), `${basename(config).replace(/\..*$/, '')}.qcow2`)
}

/** What hinders a start from a backing file. */
export function problemOfOverlay({ settings, definition }: Agent): Problem | undefined {
  if (settings.backingfile === '' || 'problem' in definition) return undefined
  if (!existsSync(settings.backingfile))
    return { code: ocf.notInstalled, sentence: `the backingfile ${settings.backingfile} does not exist` }
  const overlay = overlayOf(settings.config)
  if (diskPathsOf(definition).includes(overlay)) return undefined
  return {
    code: ocf.notConfigured,
    sentence: `backingfile is set, but no disk of ${settings.config} is ${overlay}, the file that would be made on top of it`,
  }
}

/** Makes the file where it is missing, or always if the domain is stateless: whole, or not at all. */
export async function prepareOverlay(agent: Agent): Promise<Finding> {
  const { settings } = agent
  const overlay = overlayOf(settings.config)
  const size = statSync(overlay, { throwIfNoEntry: false })?.size ?? 0
  if (size > 0 && !settings.stateless) return success
  const fresh = `${overlay}.${process.pid}.new`
  const finding = await make(agent, fresh)
  if (finding.code === ocf.success) renameSync(fresh, overlay)
  else if (existsSync(fresh)) unlinkSync(fresh)
  return finding
}

async function make(agent: Agent, fresh: string): Promise<Finding> {
  const { backingfile, copyindirs } = agent.settings
  const info = await program(agent, 'qemu-img', ['info', '-U', '--output=json', backingfile])
  const format = info.status === 0 ? (JSON.parse(info.stdout) as { format?: string }).format : undefined
  if (format === undefined) return failed(`the format of the backingfile ${backingfile} is not known: ${saidBy(info)}`)
  // QEMU refuses a backing file without its format from 6.1 on.
  const made = await program(agent, 'qemu-img', ['create', '-q', '-f', 'qcow2', '-F', format, '-b', backingfile, fresh])
  if (made.status !== 0) return failed(`the image on top of ${backingfile} could not be made: ${saidBy(made)}`)
  const folders = listOf(copyindirs)
  if (folders.length === 0) return success
  const copied = await program(agent, 'virt-copy-in', ['--format=qcow2', '-a', fresh, ...folders, '/'])
  return copied.status === 0 ? success : failed(`copyindirs could not be put into the image: ${saidBy(copied)}`)
}
