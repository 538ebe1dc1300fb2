/**
 * When the machine shuts down, Pacemaker must have stopped its resources before libvirt and its machines end. Agents say so to systemd
 * by drop-ins for resource-agents-deps.target, which Pacemaker's unit comes after.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Agent } from './agent.ts'
import { replaceFile } from './files.ts'
import { program } from './virsh.ts'

const SYSTEMD = '/run/systemd/system'
const FOLDER = `${SYSTEMD}/resource-agents-deps.target.d`

const PATIENCE_MS = 10_000

/** Nothing where systemd does not run. That it fails is logged: the domain is worth more than the order of a shutdown. */
export async function orderShutdown(agent: Agent): Promise<void> {
  if (!existsSync(SYSTEMD)) return
  try {
    const news = [
      write('99-VirtualDomain-libvirt.conf', `After=${libvirtUnits().join(' ')}`),
      write('99-VirtualDomain-machines.conf', 'Wants=virt-guest-shutdown.target'),
    ]
    if (news.includes(true)) await program(agent, 'systemctl', ['daemon-reload'], { timeoutMs: PATIENCE_MS })
    await program(agent, 'systemctl', ['start', 'virt-guest-shutdown.target'], { timeoutMs: PATIENCE_MS })
  } catch (error) {
    agent.log.warn(`systemd could not be told to stop libvirt after the domains: ${(error as Error).message}`)
  }
}

/** Where the daemons are split, libvirtd.service may be installed and never run. Both are named: one that is not there does not matter. */
function libvirtUnits(): string[] {
  return ['libvirtd.service', 'virtqemud.service']
}

/** True when that is news. */
function write(name: string, line: string): boolean {
  const file = join(FOLDER, name)
  const text = `[Unit]\n${line}\n`
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return false
  mkdirSync(FOLDER, { recursive: true })
  replaceFile(file, text, 0o644)
  return true
}
