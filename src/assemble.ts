/** Config -> parts. The only place that chooses what is real. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Interrupt } from './execute.ts'
import { RealNodes } from './nodes/nodes.ts'
import { IDENTITY_FILE, parseIdentity } from './nodes/probe.ts'
import { runtimeFolder } from './nodes/runtime-folder.ts'
import { privateFolder, Ssh } from './nodes/ssh.ts'
import type { Parts } from './operate.ts'
import type { Progress } from './report.ts'
import { Claims } from './store/claims.ts'
import { systemClock } from './store/clock.ts'
import { type Home, type LocalIdentity, openHome } from './store/home.ts'
import { thisProcess } from './store/owner.ts'
import { StoreError } from './store/store.ts'

/** Opens the home folder and connects everything to the real world. Rejects with StoreError, ConfigError or SshError. */
export async function assemble(homePath: string, progress: Progress, interrupt: Interrupt): Promise<Parts> {
  const local = await localIdentity()
  const home = await openHome(homePath, local)
  return { ...(await realParts(home, local)), home, progress, interrupt }
}

async function realParts(home: Home, local: LocalIdentity) {
  const { config } = home
  const ssh = new Ssh(await privateFolder(runtimeFolder()), config.ssh)
  const here = { hostname: hostname(), ...(local.node === undefined ? {} : { id: local.node }) }
  const nodes = new RealNodes(ssh, here, { uri: config.libvirt.uri, ...config.observe })
  const claims = new Claims(home.store, systemClock, await thisProcess(), config.claim.ttlMs)
  return { nodes, claims, clock: systemClock, ...(local.node === undefined ? {} : { hereId: local.node }) }
}

/** What this machine's id file says; nothing on a machine that is no node. Rejects when the file says neither node nor cluster. */
async function localIdentity(): Promise<LocalIdentity> {
  const text = await readFile(IDENTITY_FILE, 'utf8').catch(error =>
    error.code === 'ENOENT' ? undefined : Promise.reject(error),
  )
  if (text === undefined) return {}
  const identity = parseIdentity(`hostname: ${hostname()}\n${text}\nend:`)
  if (identity?.node === undefined || identity.cluster === undefined) {
    throw new StoreError(
      `${IDENTITY_FILE} is damaged: it does not name a node and a cluster`,
      'restore it; var/nodes/ in the home folder has the id of every node, var/cluster/ that of the cluster',
    )
  }
  return identity
}
