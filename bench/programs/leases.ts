/**
 * Runs one verb of `lease` on a home folder whose nodes answer from files, and prints it as a person would get it; what that cost goes to
 * the file of the last argument. Arguments: `status` or `cleanup`, the folder of the home and the answers, the shape as JSON, that file.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printReport } from '../../src/cli/output.ts'
import { parseDomain } from '../../src/core/domain-xml.ts'
import type { DomainOnNode, NodeRecord, UpNode } from '../../src/core/node.ts'
import { LEASES_SCRIPT } from '../../src/nodes/leases.ts'
import type { Nodes, Order } from '../../src/nodes/nodes.ts'
import type { Exit } from '../../src/nodes/process.ts'
import type { Parts } from '../../src/operate.ts'
import { leaseOperations } from '../../src/operations/lease.ts'
import { noProgress } from '../../src/report.ts'
import { Claims } from '../../src/store/claims.ts'
import { systemClock } from '../../src/store/clock.ts'
import { openHome } from '../../src/store/home.ts'
import { thisProcess } from '../../src/store/owner.ts'
import { type BenchGuest, guestsOf, type LeaseShape } from '../lease-answers.ts'

/** What it took, from opening the home folder until the last byte was printed. */
export interface LeaseCost {
  readonly ms: number
  /** Commands that nodes were sent, all together. */
  readonly asked: number
  readonly peakMB: number
}

const TTL_MS = 30_000
const RECORD = { cpus: 64, memoryMiB: 262_144, hostCpu: '<cpu><model>EPYC</model></cpu>' }

/** Nodes that answer from files, as ssh would hand it over; whatever else they are told, they do not know. */
class RecordedNodes {
  asked = 0
  readonly #folder: string
  readonly #seen: ReadonlyMap<string, UpNode>

  constructor(folder: string, seen: ReadonlyMap<string, UpNode>) {
    this.#folder = folder
    this.#seen = seen
  }

  approach(): void {}

  async look(records: readonly NodeRecord[]) {
    const seen = new Map(records.flatMap(({ name }) => [...this.#seen].filter(([each]) => each === name)))
    return { seen, movedSince: () => false }
  }

  async ask({ name }: NodeRecord, { command }: Order): Promise<Exit> {
    this.asked++
    if (command.argv[2] !== LEASES_SCRIPT) throw new Error(`${name} was asked: ${command.argv.join(' ')}`)
    const stdout = await readFile(join(this.#folder, 'answers', `${name}.txt`), 'utf8')
    return { status: 0, signal: undefined, stdout, stderr: '', timedOut: false }
  }

  close(): void {}
}

function shown({ name, uuid, xml }: BenchGuest): DomainOnNode {
  const definition = parseDomain(xml)
  const state = { state: 'running', stateReason: 1, active: true } as const
  const flags = { persistent: false, autostart: false, managedSave: false, snapshots: false }
  return { name, uuid, vcpus: definition.vcpus, memoryMiB: definition.memoryMiB, definition, ...state, ...flags }
}

function seenOf(shape: LeaseShape, records: ReadonlyMap<string, NodeRecord>): Map<string, UpNode> {
  const none = { networks: [], pools: [], paths: new Map(), devices: new Map() }
  return new Map(
    [...records.values()].map(({ name, hostUuid, cpuModel }, at) => {
      const domains = guestsOf(shape, at).map(shown)
      const node = { state: 'up', hostUuid, cpuModel, freeMemoryMiB: RECORD.memoryMiB, domains, ...none } as const
      return [name, { ...node, ...RECORD }]
    }),
  )
}

const [verb = '', folder = '', shapeText = '{}', costFile = ''] = process.argv.slice(2)
const shape = JSON.parse(shapeText) as LeaseShape
const operation = leaseOperations.find(({ name }) => name === `lease ${verb}`)
if (operation === undefined) throw new Error(`there is no lease ${verb}`)
// What libvirt would say is no work of these verbs: it is made ready before the clock runs.
const ready = await openHome(folder, {})
const nodes = new RecordedNodes(folder, seenOf(shape, await ready.records.nodes()))
const owner = await thisProcess()
const began = performance.now()
const home = await openHome(folder, {})
const parts: Parts = {
  home,
  nodes: nodes as unknown as Nodes,
  claims: new Claims(home.store, systemClock, owner, TTL_MS),
  clock: systemClock,
  progress: noProgress,
  interrupt: { onInterrupt: () => () => undefined, confirmAbort: async () => true, requested: () => false },
}
const mode = { act: false, ensure: false, waitMs: 0 }
const report = await operation.run(parts, { words: {}, options: {}, mode, spelled: `lease ${verb}` })
await printReport(report, { format: 'table', quiet: false })
const ms = performance.now() - began
const cost: LeaseCost = {
  ms,
  asked: nodes.asked,
  peakMB: process.resourceUsage().maxRSS / 1024,
}
await writeFile(costFile, JSON.stringify(cost))
