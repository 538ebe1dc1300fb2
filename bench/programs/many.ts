/** Observes many nodes at once when told to, and answers with what that cost. Argument: the folder of their sockets. */
import { parseConfig } from '../../src/core/config-check.ts'
import type { NodeRecord } from '../../src/core/node.ts'
import { RealNodes } from '../../src/nodes/nodes.ts'
import { Ssh } from '../../src/nodes/ssh.ts'

/** Of one observation of all nodes. */
export interface Cost {
  readonly cpuMs: number
  readonly wallMs: number
}

/** Long enough that no node is given up: what is asked here is the cost. */
const TIMEOUT_MS = 60_000
const US_PER_MS = 1000

const [folder = ''] = process.argv.slice(2)
const { config } = parseConfig('', 'config.yaml')
const ssh = new Ssh(folder, config.ssh)

/** A fresh observation, connections included. */
async function observe(records: readonly NodeRecord[]): Promise<void> {
  const settings = { uri: 'qemu:///system', timeoutMs: TIMEOUT_MS, concurrency: records.length }
  const nodes = new RealNodes(ssh, { hostname: 'elsewhere' }, settings)
  const { seen } = await nodes.look(records)
  nodes.close()
  for (const [name, answer] of seen) {
    if (answer.state !== 'up') throw new Error(`${name} is ${answer.state}: ${answer.reason}`)
  }
}

function recordOf(at: number): NodeRecord {
  const text = {
    id: '',
    hostUuid: '',
    hostname: '',
    cpuModel: '',
    libvirtVersion: '',
    hypervisorVersion: '',
    updated: '',
  }
  const numbers = { cpus: 0, memoryMiB: 0, sockets: 0, coresPerSocket: 0, threadsPerCore: 0, mhz: 0 }
  return { name: `n${at}`, ...text, id: `id${at}`, ...numbers }
}

async function costOf(nodes: number, times: number): Promise<Cost> {
  const records = Array.from({ length: nodes }, (_, at) => recordOf(at))
  const began = performance.now()
  const before = process.cpuUsage()
  for (let time = 0; time < times; time++) await observe(records)
  const { user, system } = process.cpuUsage(before)
  return { cpuMs: (user + system) / US_PER_MS / times, wallMs: (performance.now() - began) / times }
}

process.on('message', async ({ nodes, times }: { nodes: number; times: number }) =>
  process.send?.(await costOf(nodes, times)),
)
process.on('disconnect', () => process.exit())
process.send?.('ready')
