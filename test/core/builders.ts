/** Small builders for clusters in tests: a sound default for everything, and only what a test is about in its text. */
import type { Cluster, Definition, DomainRecord } from '../../src/core/cluster.ts'
import { type Config, defaultConfig } from '../../src/core/config.ts'
import type { Disk, Domain } from '../../src/core/domain.ts'
import { emptyLedger } from '../../src/core/ledger.ts'
import {
  type CpuVerdict,
  cpuKey,
  cpuQuestionOf,
  type DomainOnNode,
  type Node,
  type NodeRecord,
  type PathFacts,
  type SilentNode,
  type UpNode,
} from '../../src/core/node.ts'

export const WEB_UUID = '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01'
export const MAIL_UUID = '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a02'

/** Another uuid for each number. */
export function uuidOf(number: number): string {
  return `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
}

export function aDisk(path: string, more: Partial<Disk> = {}): Disk {
  return {
    target: 'vda',
    device: 'disk',
    source: { kind: path.startsWith('/dev/') ? 'block' : 'file', path },
    readOnly: false,
    shareable: false,
    transient: false,
    ...more,
  }
}

/** What a definition says: `web`, 1024 MiB, 1 vCPU, one disk /srv/web.img. */
export function aDomain(more: Partial<Domain> = {}): Domain {
  const name = more.name ?? 'web'
  return {
    name,
    uuid: name === 'mail' ? MAIL_UUID : WEB_UUID,
    type: 'kvm',
    vcpus: 1,
    memoryMiB: 1024,
    disks: [aDisk(`/srv/${name}.img`)],
    interfaces: [],
    nodeBound: [],
    hugePages: false,
    ...more,
  }
}

/** A domain as a node shows it: running and transient, with its definition. */
export function aDomainOnNode(more: Partial<DomainOnNode> = {}, definition: Domain = aDomain(named(more))) {
  return onNode(definition, more)
}

function named({ name, uuid }: Partial<DomainOnNode>): Partial<Domain> {
  return { ...(name === undefined ? {} : { name }), ...(uuid === undefined ? {} : { uuid }) }
}

function onNode(definition: Domain, more: Partial<DomainOnNode>): DomainOnNode {
  const state = more.state ?? 'running'
  return {
    name: definition.name,
    uuid: definition.uuid,
    state,
    stateReason: 1,
    active: state !== 'shutoff',
    persistent: false,
    autostart: false,
    managedSave: false,
    snapshots: false,
    vcpus: definition.vcpus,
    memoryMiB: definition.memoryMiB,
    definition,
    ...more,
  }
}

/** Defined on its node and shut off. */
export function shutOff(more: Partial<DomainOnNode> = {}, definition?: Domain): DomainOnNode {
  return aDomainOnNode({ state: 'shutoff', persistent: true, ...more }, definition)
}

/** The same, without a definition: nobody could read its XML. */
export function unreadable(more: Partial<DomainOnNode> = {}): DomainOnNode {
  const { definition: _, ...rest } = aDomainOnNode(more)
  return { ...rest, problem: 'line 3: expected a name' }
}

/** A CPU that libvirt can compare, and nodes' answers to whether web with it could run there. */
export const A_CPU = { mode: 'custom', model: 'EPYC-Milan', xml: "<cpu mode='custom'><model>EPYC-Milan</model></cpu>" }

export function cpuSays(verdict: CpuVerdict): Pick<UpNode, 'cpuVerdicts'> {
  const question = cpuQuestionOf(aDomain({ cpu: A_CPU }))
  return { cpuVerdicts: new Map(question === undefined ? [] : [[cpuKey(question), verdict]]) }
}

export function aRecord(name: string): NodeRecord {
  return {
    name,
    id: `id-of-${name}`,
    hostUuid: `host-${name}`,
    hostname: name,
    cpuModel: 'EPYC',
    cpus: 4,
    memoryMiB: 8704,
    sockets: 1,
    coresPerSocket: 4,
    threadsPerCore: 1,
    mhz: 2000,
    libvirtVersion: '9.0.0',
    hypervisorVersion: '7.2.0',
    updated: '2026-01-01T00:00:00.000Z',
  }
}

/** A node that answers: 8704 MiB (8192 for domains) and 4 CPUs (16 vCPUs), with what is given. */
export function aNode(name: string, domains: readonly DomainOnNode[] = [], more: Partial<UpNode> = {}): Node {
  const seen: UpNode = {
    state: 'up',
    hostUuid: `host-${name}`,
    cpuModel: 'EPYC',
    cpus: 4,
    memoryMiB: 8704,
    freeMemoryMiB: 8000,
    domains,
    networks: ['default'],
    pools: ['default'],
    paths: new Map(),
    devices: new Map(),
    hostCpu: '<cpu><model>EPYC</model></cpu>',
    ...more,
  }
  return { name, record: aRecord(name), ledger: emptyLedger, seen }
}

/** The same, known to have answered. */
export function upNode(...args: Parameters<typeof aNode>): Node & { seen: UpNode } {
  const node = aNode(...args)
  if (node.seen.state !== 'up') throw new Error('it is up')
  return { ...node, seen: node.seen }
}

export function aSilentNode(name: string, state: SilentNode['state'] = 'unreachable'): Node {
  const seen = { state, reason: 'no answer within 5 s', hint: 'check its power' }
  return { name, record: aRecord(name), ledger: emptyLedger, seen }
}

/** The file conf/NAME.xml as it was read. */
export function aDefinition(domain: Domain = aDomain(), more: Partial<Definition> = {}): Definition {
  return { name: domain.name, path: `conf/${domain.name}.xml`, sha256: `sha-of-${domain.name}`, domain, ...more }
}

export interface ClusterParts {
  readonly nodes?: readonly Node[]
  readonly definitions?: readonly Definition[]
  readonly records?: Readonly<Record<string, DomainRecord>>
  readonly here?: string
  readonly config?: Config
}

/** A cluster of the given nodes; without any, node1 to node3, and always the definition of `web`. */
export function aCluster({ nodes, definitions, records = {}, here, config = defaultConfig }: ClusterParts = {}) {
  const cluster: Cluster = {
    nodes: new Map((nodes ?? [aNode('node1'), aNode('node2'), aNode('node3')]).map(node => [node.name, node])),
    definitions: new Map((definitions ?? [aDefinition()]).map(definition => [definition.name, definition])),
    records: new Map(Object.entries(records)),
    config,
    ...(here === undefined ? {} : { here }),
  }
  return cluster
}

/** Facts on one path, for UpNode.paths. */
export function onPath(path: string, facts: Partial<PathFacts> = {}): ReadonlyMap<string, PathFacts> {
  return new Map([[path, { exists: true, kind: 'file', filesystem: 'nfs', ...facts }]])
}
