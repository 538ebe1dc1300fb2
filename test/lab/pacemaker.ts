/** A cluster of Pacemaker's as the tests use it: its own commands, and what they show. Every wait is for a condition. */
import { closeSync, openSync, readSync } from 'node:fs'
import { DOMParser, type Element } from '@xmldom/xmldom'
import { onTestFinished } from 'vitest'
import { WriterSequence } from './disk-witness.ts'
import {
  type Beat,
  begin,
  type Done,
  diskOf,
  guest,
  nextBeat,
  type Running,
  shell,
  sure,
  toBeat,
  until,
} from './lab.ts'

/** The nodes of the cluster. */
export const MEMBERS = ['node1', 'node2'] as const
export type Member = (typeof MEMBERS)[number]

/** The agent as a program on every node. */
export const AGENT = '/usr/lib/ocf/resource.d/havirt/VirtualDomain'

/** Runs a line of Pacemaker's commands on a node: it must work. */
export function crm(line: string, node: Member = 'node1'): Promise<string> {
  return sure(shell(node, line))
}

/**
 * `crm_resource --wait` would do, but it asks every two seconds only. That the controller is idle must be so before and after; and since
 * every node has a copy of the CIB, one a moment later than the other, the copies must be the same.
 */
const IDLE = 'dc=$(crmadmin -q -D) && [ "$(crmadmin -q -S "$dc")" = S_IDLE ]'
const LOOK = `${IDLE} && cib=$(cibadmin -Q) && echo "$cib" | head -n 1 && echo "$cib" | crm_simulate -S --xml-pipe && ${IDLE}`

/** A plan without actions; pseudo actions only mark what others wait for. */
const IDLE_PLAN = /\nExecuting Cluster Transition:\n( {2}\* Pseudo action: .*\n)*\n/

/** Waits until the cluster has nothing more to do. All nodes must be in it. */
export async function settled(): Promise<void> {
  let looks: Done[] = []
  const isSettled = async () => {
    looks = await Promise.all(MEMBERS.map(node => shell(node, LOOK)))
    const isIdle = ({ status, stdout }: Done) => status === 0 && IDLE_PLAN.test(stdout)
    return looks.every(isIdle) && new Set(looks.map(({ stdout }) => versionOf(stdout))).size === 1
  }
  await until('the cluster has nothing to do', isSettled).catch(error => {
    throw new Error(`${error.message}\n${looks.map(({ stdout, stderr }) => `${stdout}${stderr}`).join('\n')}`)
  })
}

/** Which CIB it is. When it was written, each node says by its own clock. */
function versionOf(cib: string): string {
  return ['admin_epoch', 'epoch', 'num_updates'].map(name => new RegExp(` ${name}="(\\d+)"`).exec(cib)?.[1]).join('.')
}

/**
 * Gives the cluster its switches, and works them until it is ended. Should both nodes want to fence the other one, node1 is quicker: its
 * own end is delayed.
 */
export async function fencing(): Promise<Running> {
  const power = begin(['power'])
  await createResource(`<primitive id="power" class="stonith" type="fence_lab">
    <instance_attributes id="power-is">${pairs('power-is', { password: 'lab', pcmk_delay_base: 'node1:4s;node2:0s' })}</instance_attributes>
  </primitive>`)
  return power
}

export interface Domain {
  readonly provider?: 'havirt' | 'heartbeat'
  readonly parameters?: Readonly<Record<string, string>>
  readonly meta?: Readonly<Record<string, string>>
}

/** Gives every node the file that the resource of this name is started from. */
export async function putConfig(name: string, nodes: readonly Member[] = MEMBERS): Promise<void> {
  const xml = await guest(name)
  for (const node of nodes) await sure(shell(node, `cat >/root/${name}.xml`, { stdin: xml }))
}

/** Makes a domain and its resource. It is on no node yet when this returns. */
export async function createDomain(
  name: string,
  { provider = 'havirt', parameters, meta }: Domain = {},
): Promise<void> {
  await putConfig(name)
  const given = { config: `/root/${name}.xml`, hypervisor: 'qemu:///system', migration_transport: 'ssh', ...parameters }
  const kept = { 'allow-migrate': 'true', 'resource-stickiness': '100', ...meta }
  await createResource(`<primitive id="${name}" class="ocf" provider="${provider}" type="VirtualDomain">
    <instance_attributes id="${name}-is">${pairs(`${name}-is`, given)}</instance_attributes>
    <meta_attributes id="${name}-meta">${pairs(`${name}-meta`, kept)}</meta_attributes>
    <operations>
      <op id="${name}-start" name="start" interval="0" timeout="60s"/>
      <op id="${name}-stop" name="stop" interval="0" timeout="60s"/>
      <op id="${name}-monitor" name="monitor" interval="2s" timeout="30s"/>
    </operations>
  </primitive>`)
}

async function createResource(xml: string): Promise<void> {
  await sure(shell('node1', 'cibadmin --create --scope resources --xml-pipe', { stdin: xml }))
}

function pairs(id: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `<nvpair id="${id}-${name}" name="${name}" value="${value}"/>`)
    .join('')
}

/** Stops a domain and forgets its resource, with its history. */
export async function removeDomain(name: string): Promise<void> {
  await setMeta(name, 'target-role', 'Stopped')
  await settled()
  await crm(`cibadmin --delete --xml-text '<primitive id="${name}"/>'`)
  await settled()
}

export async function setParameter(name: string, parameter: string, value: string): Promise<void> {
  await crm(`crm_resource -r ${name} -p ${parameter} -v '${value}'`)
}

export async function setMeta(name: string, attribute: string, value: string): Promise<void> {
  await crm(`crm_resource -r ${name} --meta -p ${attribute} -v '${value}'`)
}

/** Changes who is to manage the domain, and nothing else. */
export async function setProvider(name: string, provider: 'havirt' | 'heartbeat'): Promise<void> {
  await crm(`cibadmin --modify --xml-text '<primitive id="${name}" provider="${provider}"/>'`)
}

/** Moves a domain by the command that people use, and takes back what that left behind. */
export async function move(name: string, node: Member): Promise<void> {
  await crm(`crm_resource -r ${name} --move --node ${node}`)
  await runsOn(name, node)
  await crm(`crm_resource -r ${name} --clear`)
  await settled()
}

/** What crm_mon shows. */
export interface View {
  /** The nodes that are in the cluster. */
  readonly online: readonly string[]
  /** Where each resource runs. */
  readonly nodesOf: Readonly<Record<string, readonly string[]>>
  /** The agent of each resource, as `ocf:havirt:VirtualDomain`. */
  readonly agentOf: Readonly<Record<string, string>>
  /** Operations that failed and were not cleaned up, in words: `web monitor on node2: not running`. */
  readonly failures: readonly string[]
  /** What the nodes did last, in words: `web migrate_from on node2: ok`. */
  readonly history: readonly string[]
}

export async function view(): Promise<View> {
  const root = rootOf(await crm('crm_mon -1 -r --output-as xml'))
  const resources = all(root, 'resource')
  return {
    online: all(root, 'node').flatMap(node => (node.getAttribute('online') === 'true' ? [named(node)] : [])),
    nodesOf: Object.fromEntries(resources.map(each => [id(each), all(each, 'node').map(named)])),
    agentOf: Object.fromEntries(resources.map(each => [id(each), each.getAttribute('resource_agent') ?? ''])),
    failures: all(root, 'failure').map(failureInWords),
    history: all(root, 'node_history').flatMap(history => all(history, 'node').flatMap(historyInWords)),
  }
}

function rootOf(text: string): Element {
  const root = new DOMParser().parseFromString(text, 'text/xml').documentElement
  if (root === null) throw new Error(`this is no XML: ${text}`)
  return root
}

function all(element: Element, tag: string): Element[] {
  return Array.from(element.getElementsByTagName(tag))
}

const named = (element: Element) => element.getAttribute('name') ?? ''
const id = (element: Element) => element.getAttribute('id') ?? ''

function failureInWords(failure: Element): string {
  const [key, node, status] = ['op_key', 'node', 'exitstatus'].map(name => failure.getAttribute(name) ?? '')
  return `${key?.replace(/_(\w+)_\d+$/, ' $1')} on ${node}: ${status}`
}

function historyInWords(node: Element): string[] {
  return all(node, 'resource_history').flatMap(resource =>
    all(resource, 'operation_history').map(
      operation =>
        `${id(resource)} ${operation.getAttribute('task')} on ${named(node)}: ${operation.getAttribute('rc_text')}`,
    ),
  )
}

/** Waits until the resource runs on this node and the cluster is content. */
export async function runsOn(name: string, node: Member, seconds?: number): Promise<void> {
  await until(`${name} runs on ${node}`, async () => String((await view()).nodesOf[name]) === node, seconds)
  await settled()
}

/** Waits until all nodes are in the cluster again and nothing is left to do. */
export async function together(): Promise<void> {
  await until('all nodes are in the cluster', async () => (await view()).online.length === MEMBERS.length, 30)
  await settled()
}

/** What Pacemaker would do, were the CIB like this: the actions on resources, as `Restart web`. Without a CIB: the one it has. */
export async function plans(edit?: (cib: string) => string): Promise<string[]> {
  const cib = await crm('cibadmin -Q')
  const printed = await sure(shell('node1', 'crm_simulate -S --xml-pipe', { stdin: edit?.(cib) ?? cib }))
  const summary = /Transition Summary:\n(.*?)\n\n/s.exec(printed)?.[1] ?? ''
  return summary.split('\n').flatMap(line => {
    const match = /^ {2}\* (\w+)\s+(\S+)/.exec(line)
    return match === null ? [] : [`${match[1]} ${match[2]}`]
  })
}

/** What the agent said on a node about a domain, in the order in which it said it. */
export async function saidBy(node: Member, name: string): Promise<string[]> {
  const log = await crm('cat /var/log/pacemaker/pacemaker.log', node)
  return log.split('\n').filter(line => line.startsWith(`VirtualDomain(${name})[`))
}

/** All operations on domains that Pacemaker saw end on a node other than well, in words. A probe that finds nothing is well. */
export async function unhappyOperations(node: Member): Promise<string[]> {
  const log = await crm('cat /var/log/pacemaker/pacemaker.log', node)
  const ends = [...log.matchAll(/Result of (\S+) operation for (\S+) on \S+: (.*?) \| .* key=/g)]
  return ends.flatMap(([, operation = '', resource = '', result = '']) => {
    const isWell = ['ok', 'Cancelled'].includes(result) || (operation === 'probe' && result === 'not running')
    return isWell || resource === 'power' ? [] : [`${resource} ${operation} on ${node}: ${result}`]
  })
}

/** Whose agents did what the CIB remembers of a resource, each once. */
export async function providersInHistory(name: string): Promise<string[]> {
  const root = rootOf(await crm('cibadmin -Q --scope status'))
  const found = all(root, 'lrm_resource').filter(each => id(each) === name)
  return [...new Set(found.map(each => each.getAttribute('provider') ?? ''))]
}

/** Utilization attributes of a resource, as the CIB has them. */
export async function utilizationOf(name: string): Promise<Record<string, string>> {
  const [xml] = all(rootOf(await crm(`cibadmin -Q --xpath '//primitive[@id="${name}"]'`)), 'utilization')
  const found = xml === undefined ? [] : all(xml, 'nvpair')
  return Object.fromEntries(found.map(pair => [named(pair), pair.getAttribute('value') ?? '']))
}

/** How much a node has of something, for the placement of resources. */
export async function setCapacity(node: Member, attribute: string, value: number): Promise<void> {
  await crm(`crm_attribute --node ${node} --utilization --name ${attribute} --update ${value}`)
}

const SAMPLE_MS = 20
const SECTOR = 512

/** Watches who writes to a guest's disk until the test ends, nodes switched off or not: it asks the disk alone. */
export function watchDisk(name: string): WriterSequence {
  const disk = openSync(diskOf(name), 'r')
  const writers = new WriterSequence()
  const timer = setInterval(() => {
    const beat = readBeat(disk)
    if (beat !== undefined) writers.add(beat)
  }, SAMPLE_MS)
  onTestFinished(() => {
    clearInterval(timer)
    closeSync(disk)
  })
  return writers
}

/** Undefined too while a record is being written: two reads must agree. */
function readBeat(disk: number): Beat | undefined {
  const [one, two] = [Buffer.alloc(SECTOR), Buffer.alloc(SECTOR)]
  for (const buffer of [one, two]) readSync(disk, buffer, 0, SECTOR, SECTOR)
  return one.equals(two) ? toBeat(one) : undefined
}

/** The guest has gone on without a new boot, and still goes on. */
export async function wentOn(name: string, before: Beat): Promise<boolean> {
  const now = await nextBeat(name, await nextBeat(name, before))
  return now.nonce === before.nonce && now.counter > before.counter
}
