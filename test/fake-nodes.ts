/**
 * Nodes in memory, behind the same seam as real ones: domains per node, virsh by its argv, and faults. It has a guard, and
 * writes a log of what reached it, so that a test can say in which order things happened.
 */
import type { Command } from '../src/core/command.ts'
import { parseDomain } from '../src/core/domain-xml.ts'
import type { FenceAction, FenceDevice } from '../src/core/fence.ts'
import type { End } from '../src/core/migration.ts'
import { type DomainOnNode, isMigrationEnd, type NodeRecord, type SilentNode, type UpNode } from '../src/core/node.ts'
import { type GuardTicket, guardStatus } from '../src/nodes/guard.ts'
import type { Introduction, Look, Nodes, Order, Reached } from '../src/nodes/nodes.ts'
import type { Exit } from '../src/nodes/process.ts'
import type { Inquiry } from '../src/nodes/session.ts'
import { aNode, aSilentNode } from './core/builders.ts'

/** What happens to the next changing command on a node. */
export type Fault =
  /** The connection ends before the command reached libvirt, or after it had its effect: 255 both times. */
  | 'lostBefore'
  | 'lostAfter'
  /** The same, and the node does not answer any more. */
  | 'lostAndSilent'
  /** The guard says no; or virsh ends so, with these words. */
  | { readonly status: number; readonly stderr?: string }
  /** A migration that leaves both ends so. */
  | { readonly ends: readonly [End, End]; readonly status: number }

type Ended = Pick<DomainOnNode, 'state' | 'stateReason'>

export class FakeNodes implements Nodes {
  /** Everything that was asked of nodes, in order: `look node1 node2`, `act node1 virsh ...`. */
  readonly log: string[] = []
  readonly orders: Order[] = []
  readonly #domains = new Map<string, DomainOnNode[]>()
  readonly #silent = new Set<string>()
  readonly #faults = new Map<string, Fault[]>()
  readonly #generations = new Map<string, number>()
  /** Nodes whose guard cannot be raised: a command still runs there. */
  readonly locked = new Set<string>()
  /** What the last look asked of nodes. */
  inquiries: ReadonlyMap<string, Inquiry> = new Map()
  /** What a node answers beyond its domains. */
  readonly more = new Map<string, Partial<UpNode>>()
  /** The next so many looks hear an event of a domain. */
  moves = 0
  /** Called before each look and before each changing command: what the world does meanwhile. */
  beforeLook: () => unknown = () => undefined
  beforeAct: (line: string, mode: string) => unknown = () => undefined
  /** Nodes without power, as their fence devices say. */
  readonly powerless = new Set<string>()
  /** What a node's fence device answers, instead of the truth. */
  readonly power = new Map<string, Exit>()
  /** How the next runs of a fence agent end, instead of well. */
  readonly fenceFaults: Exit[] = []
  /** What a node that answers finds when it tries another. */
  reached: (from: string, to: string) => Reached = () => ({ verdict: 'silent', said: 'no route to host' })
  /** What a node answers to a reading command, instead of the XML of a domain. */
  answer: (node: string, argv: readonly string[]) => string | undefined = () => undefined
  /** What the source says of a migration job: its type, and how much of 100 bytes is left, where that matters. */
  job: () => number | { readonly type: number; readonly left: number } | 'silent' | undefined = () => undefined

  constructor(domains: Readonly<Record<string, readonly DomainOnNode[]>>) {
    for (const [node, list] of Object.entries(domains)) this.#domains.set(node, [...list])
  }

  get acts(): string[] {
    return this.log.filter(line => line.startsWith('act '))
  }

  domainsOf(node: string): readonly DomainOnNode[] {
    return this.#domains.get(node) ?? []
  }

  set(node: string, ...domains: readonly DomainOnNode[]): void {
    this.#domains.set(node, [...domains])
  }

  silence(node: string): void {
    this.#silent.add(node)
  }

  answerAgain(node: string): void {
    this.#silent.delete(node)
  }

  fail(node: string, ...faults: readonly Fault[]): void {
    this.#faults.set(node, [...faults])
  }

  approach(): void {}

  async look(records: readonly NodeRecord[], inquiries: ReadonlyMap<string, Inquiry> = new Map()): Promise<Look> {
    await this.beforeLook()
    this.inquiries = inquiries
    this.log.push(`look ${records.map(({ name }) => name).join(' ')}`)
    const seen = new Map(records.map(({ name }) => [name, this.#see(name)]))
    const moved = this.moves-- > 0
    return { seen, movedSince: () => moved }
  }

  async domainState({ name }: NodeRecord, uuid: string): Promise<End | undefined> {
    if (this.#silent.has(name)) return undefined
    const found = this.domainsOf(name).find(domain => domain.uuid === uuid)
    return found?.active ? { state: found.state, stateReason: found.stateReason } : 'absent'
  }

  async jobStats({ name }: NodeRecord) {
    if (this.#silent.has(name)) return 'silent' as const
    const job = this.job()
    if (job === undefined || job === 'silent') return job
    if (typeof job === 'number') return { type: job, params: { downtime: 12 } }
    return { type: job.type, params: { memory_total: 100, memory_remaining: job.left } }
  }

  async act({ name }: NodeRecord, ticket: GuardTicket, order: Order, mode: 'lock' | 'nolock' = 'lock'): Promise<Exit> {
    const line = order.command.argv.slice(3).join(' ')
    await this.beforeAct(line, mode)
    this.log.push(`act ${name} ${line}${mode === 'lock' ? '' : ' (nolock)'}`)
    this.orders.push(order)
    if (this.#silent.has(name)) return exit(255, 'ssh: no route to host')
    const fault = mode === 'lock' ? this.#faults.get(name)?.shift() : undefined
    if (fault === 'lostBefore') return exit(255, 'Connection closed')
    if (typeof fault === 'object' && !('ends' in fault)) return exit(fault.status, fault.stderr ?? 'havirt guard: no')
    if (ticket.generation < this.#generationOf(name, ticket)) return exit(97, 'havirt guard: displaced')
    this.#generations.set(`${name} ${ticket.uuid}`, ticket.generation)
    const here = this.domainsOf(name).find(({ uuid }) => uuid === ticket.uuid)
    if (ticket.waits !== undefined && (here === undefined || !isMigrationEnd(here)))
      return exit(guardStatus.noLongerWaits, 'havirt guard: the domain waits no longer')
    const done = this.#virsh(name, order, typeof fault === 'object' ? fault : undefined)
    if (fault === 'lostAndSilent') this.silence(name)
    return fault === 'lostAfter' || fault === 'lostAndSilent' ? exit(255, 'Connection closed') : done
  }

  async ask({ name }: NodeRecord, { command }: { command: Command }): Promise<Exit> {
    this.log.push(`ask ${name} ${command.argv.slice(3).join(' ')}`)
    const answer = this.answer(name, command.argv)
    if (answer !== undefined) return exit(0, '', answer)
    return exit(0, '', xmlOf(this.domainsOf(name).find(({ uuid }) => uuid === command.argv.at(-1))))
  }

  async raise({ name }: NodeRecord, ticket: GuardTicket): Promise<Exit> {
    this.log.push(`raise ${name} ${ticket.generation}`)
    if (this.#silent.has(name)) return exit(255, 'ssh: no route to host')
    if (this.locked.has(name)) return exit(96, 'havirt guard: another command for this domain still runs here')
    if (ticket.generation < this.#generationOf(name, ticket)) return exit(97, 'havirt guard: displaced')
    this.#generations.set(`${name} ${ticket.uuid}`, ticket.generation)
    return exit(0)
  }

  async reaches(from: NodeRecord | 'this machine', to: NodeRecord): Promise<Reached> {
    const by = from === 'this machine' ? from : from.name
    this.log.push(`reaches ${to.name} from ${by}`)
    if (this.#silent.has(by)) return { verdict: 'unknown', said: 'ssh: no route to host' }
    return this.reached(by, to.name)
  }

  async fence({ node, agent }: FenceDevice, action: FenceAction): Promise<Exit> {
    this.log.push(`${agent} ${action} ${node}`)
    const fault = this.power.get(node) ?? this.fenceFaults.shift()
    if (fault !== undefined) return fault
    if (action === 'off') this.powerless.add(node)
    if (action === 'off') return exit(0, '', 'Success: Powered OFF\n')
    return this.powerless.has(node) ? exit(2, '', 'Status: OFF\n') : exit(0, '', 'Status: ON\n')
  }

  introduce(): Promise<Introduction> {
    throw new Error('nobody is introduced here')
  }

  async forget(): Promise<void> {}

  close(): void {}

  #generationOf(node: string, { uuid }: GuardTicket): number {
    return this.#generations.get(`${node} ${uuid}`) ?? 0
  }

  #see(name: string): UpNode | SilentNode {
    return (this.#silent.has(name) ? aSilentNode(name) : aNode(name, this.domainsOf(name), this.more.get(name))).seen
  }

  /** The few verbs of virsh that matter. */
  #virsh(node: string, { command, stdin = '' }: Order, fault: Exclude<Fault, string> | undefined): Exit {
    const [verb, ...args] = command.argv.slice(3)
    if (verb === 'create') return this.#create(node, stdin)
    if (verb === 'migrate') return this.#migrate(node, args, fault)
    const uuid = verb === 'migrate-setmaxdowntime' ? args[0] : args.find(arg => /^[0-9a-f-]{36}$/.test(arg))
    const found = this.domainsOf(node).find(domain => domain.uuid === uuid)
    if (found === undefined) return exit(1, 'error: failed to get domain')
    const others = this.domainsOf(node).filter(domain => domain !== found)
    const to = (more: Partial<DomainOnNode>) => this.set(node, ...others, { ...found, ...more })
    if (verb === 'shutdown' || verb === 'destroy') this.set(node, ...others)
    if (verb === 'suspend') to({ state: 'paused', stateReason: 1 })
    if (verb === 'resume') to({ state: 'running', stateReason: 5 })
    if (verb === 'undefine' && found.active) to({ persistent: false })
    if (verb === 'undefine' && !found.active) this.set(node, ...others)
    return exit(0)
  }

  #create(node: string, xml: string): Exit {
    const definition = parseDomain(xml)
    const { name, uuid, vcpus, memoryMiB } = definition
    const running = { state: 'running', stateReason: 1, active: true } as const
    const flags = { persistent: false, autostart: false, managedSave: false, snapshots: false }
    this.set(node, ...this.domainsOf(node), { name, uuid, vcpus, memoryMiB, definition, ...running, ...flags })
    return exit(0)
  }

  #migrate(from: string, args: readonly string[], fault: Exclude<Fault, string> | undefined): Exit {
    const uuid = args.at(-2)
    const to = new URL(args.at(-1) ?? '').hostname
    const moving = this.domainsOf(from).find(domain => domain.uuid === uuid)
    if (moving === undefined) return exit(1, 'error: failed to get domain')
    const [source, target]: readonly [End, End] =
      fault !== undefined && 'ends' in fault ? fault.ends : ['absent', { state: 'running', stateReason: 5 }]
    const end = (node: string, ended: End) => {
      const others = this.domainsOf(node).filter(domain => domain.uuid !== uuid)
      this.set(node, ...others, ...(ended === 'absent' ? [] : [{ ...moving, ...(ended as Ended), active: true }]))
    }
    end(from, source)
    end(to, target)
    return fault === undefined
      ? exit(0)
      : exit(fault.status, fault.status === 0 ? '' : 'error: operation failed: broke')
  }
}

export function exit(status: number, stderr = '', stdout = ''): Exit {
  return { status, signal: undefined, stdout, stderr, timedOut: false }
}

function xmlOf(domain: DomainOnNode | undefined): string {
  return domain === undefined ? '' : definitionXml(domain.name, domain.uuid)
}

/** A definition that the domain parser takes, with one disk of its own. */
export function definitionXml(name: string, uuid: string): string {
  return `<domain type='kvm'>
  <name>${name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>1024</memory>
  <vcpu>1</vcpu>
  <devices>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='pool/${name}'/>
      <target dev='vda'/>
    </disk>
  </devices>
</domain>
`
}
