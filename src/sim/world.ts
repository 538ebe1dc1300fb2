/** One simulated cluster: machines, cables, the share, operators' processes, and the oracle that watches them. */
import type { Config } from '../core/config.ts'
import type { Domain } from '../core/domain.ts'
import { diskIdentity, exclusiveDisks } from '../core/domain-xml.ts'
import type { NodeRecord, PathFacts } from '../core/node.ts'
import type { Random } from '../core/random.ts'
import type { Parts } from '../operate.ts'
import { exitStatus, failure, noProgress, type Report } from '../report.ts'
import { Claims } from '../store/claims.ts'
import { refuseStranger } from '../store/home.ts'
import type { Owner } from '../store/owner.ts'
import { StoreError } from '../store/store.ts'
import type { Channel } from './channel.ts'
import { configWith, HOME, SimDefinitions, simConfig, simHome } from './home.ts'
import { Libvirt, type Virsh } from './libvirtd.ts'
import { type Call, Machine } from './machine.ts'
import { Network } from './network.ts'
import { SimNodes } from './nodes.ts'
import { Oracle, type Run } from './oracle.ts'
import { begins, ownerOf } from './owner.ts'
import { Passes } from './passes.ts'
import { SimProcess } from './process.ts'
import { beginAnew } from './quick-crypto.ts'
import { reportText } from './report-text.ts'
import { type LeaseSetting, Lockspace, Sanlock } from './sanlock.ts'
import { Host, Scheduler } from './scheduler.ts'
import { Share, SimStore } from './store.ts'
import { type DiskSpec, definitionOf, definitionXml } from './texts.ts'
import { parseWords, typedWords } from './words.ts'

/** A domain of the simulated cluster. */
export interface DomainSpec {
  readonly name: string
  readonly uuid: string
  readonly disk: DiskSpec
  /** 1024 when absent. */
  readonly memoryMiB?: number
  /** Node on which libvirt itself defines it. */
  readonly definedOn?: number
  readonly autostart?: boolean
  /** Node on which it runs when the run begins. */
  readonly runsOn?: number
}

/** What a cluster is made of. */
export interface Setting {
  readonly nodes: number
  readonly domains: readonly DomainSpec[]
  /** How often a command reaches its node late. */
  readonly lateness: number
  /** What the wall clock of each host is off, by name. */
  readonly clocks: Readonly<Record<string, number>>
  /** Absent: libvirt takes no leases. */
  readonly leases?: LeaseSetting
}

/** True identities of path names: two names of one LUN. */
const SAME_DISK: Readonly<Record<string, string>> = {
  '/dev/disk/by-id/wwn-0x5001': 'wwn-0x5001',
  '/dev/mapper/mpatha': 'wwn-0x5001',
}
const MEMORY_MIB = 16_384
/** A line that goes on stands below its own text. */
const CONTINUED = `\n${' '.repeat(14)}`
const NO_PERSON = { person: false, decidedMs: 0 }

export class World {
  readonly scheduler = new Scheduler()
  readonly network: Network
  readonly machines: readonly Machine[]
  /** Every host by name: the nodes, and `desk`, which is no node. */
  readonly hosts = new Map<string, Host>()
  readonly share: Share
  readonly libvirt: Libvirt
  readonly oracle: Oracle
  /** Who was started past whom; where leases are on. */
  readonly passes: Passes | undefined
  readonly #config: Config
  readonly channels = new Set<Channel>()
  readonly #lateness: number
  /** Nothing breaks any more. */
  isMended = false
  /** How many reasons there are for heavy load. */
  load = 0
  /** Definitions in conf/ by name, as they were at first. */
  readonly texts = new Map<string, string>()
  readonly definitions: SimDefinitions
  /** Where aliases lead that do not lead to their machine. */
  readonly aliases = new Map<string, Machine>()
  readonly processes = new Set<SimProcess>()
  /** Nodes that see an empty home folder. */
  readonly unmounted = new Set<Host>()
  #pid = 1000
  readonly #facts = new Map<string, ReadonlyMap<string, PathFacts>>()
  #log: ((line: string) => void) | undefined

  constructor(setting: Setting, log?: (line: string) => void) {
    beginAnew()
    bootCount = 0
    this.#lateness = setting.lateness
    this.oracle = new Oracle(this)
    this.passes = setting.leases === undefined ? undefined : new Passes(this, setting.leases)
    this.#config = configWith(setting.leases)
    this.libvirt = new Libvirt(this)
    this.network = new Network(this.scheduler, setting.nodes + 2)
    this.machines = Array.from({ length: setting.nodes }, (_, at) => new Machine(this, `node${at + 1}`, at, MEMORY_MIB))
    if (setting.leases !== undefined) this.#setUp(setting.leases)
    const desk = new Host('desk', setting.nodes)
    for (const host of [...this.machines, desk]) this.hosts.set(host.name, host)
    this.share = new Share(new Host('nas', setting.nodes + 1), this.network, this.scheduler)
    this.hosts.set('nas', this.share.server)
    for (const { name, uuid, disk, memoryMiB } of setting.domains)
      this.texts.set(name, definitionXml(name, uuid, disk, memoryMiB))
    this.definitions = new SimDefinitions(this.texts)
    for (const machine of this.machines)
      this.share.put(`nodes/${machine.name}`, 0, JSON.stringify(this.recordOf(machine)))
    for (const each of setting.domains) this.#populate(each)
    for (const [name, host] of this.hosts) host.clockOffsetMs = setting.clocks[name] ?? 0
    this.#log = log
    for (const machine of this.machines)
      for (const { name } of machine.qemus) this.tell(() => `${machine.name}: QEMU of ${name} runs`)
  }

  /** sanlock runs on all of them, and has joined. */
  #setUp({ noWatchdog }: LeaseSetting): void {
    const lockspace = new Lockspace()
    for (const machine of this.machines)
      machine.sanlock = new Sanlock(machine, lockspace, !noWatchdog.includes(machine.index))
  }

  #populate({ name, uuid, autostart, definedOn, runsOn }: DomainSpec): void {
    const xml = this.texts.get(name) ?? ''
    const domain = definitionOf(xml)
    const kept = {
      name,
      uuid,
      domain,
      xml,
      autostart: autostart ?? false,
      managedSave: false,
      savedMs: 0,
      cause: NO_PERSON,
    }
    if (definedOn !== undefined) this.machines[definedOn]?.defined.set(uuid, kept)
    const machine = runsOn === undefined ? undefined : this.machines[runsOn]
    if (machine !== undefined) machine.go(machine.spawn(xml, NO_PERSON), 1, NO_PERSON)
  }

  // --- What it knows

  /** Says a line where somebody listens; nothing is put together where nobody does. */
  tell(line: () => string): void {
    this.#log?.(`${(this.scheduler.nowMs / 1000).toFixed(2).padStart(8)} s  ${line().replaceAll('\n', CONTINUED)}`)
  }

  /** How often a command reaches its node late. */
  get lateness(): number {
    if (this.isMended) return 0
    return this.load > 0 ? 0.9 : this.#lateness
  }

  nextPid(): number {
    return ++this.#pid
  }

  /** Where an alias leads. */
  machineOf(name: string): Machine | undefined {
    return this.aliases.get(name) ?? this.machines.find(machine => machine.name === name)
  }

  /** The machine that a process reaches for a node: itself, without ssh, when it is the node. */
  reached(from: Host, { name, id }: NodeRecord): Machine {
    const found = from instanceof Machine && from.nodeId === id ? from : this.machineOf(name)
    if (found === undefined) throw new Error(`there is no machine ${name}`)
    return found
  }

  recordOf({ name, nodeId, hostUuid, memoryMiB }: Machine): NodeRecord {
    return {
      name,
      id: nodeId,
      hostUuid,
      hostname: name,
      cpuModel: 'EPYC',
      cpus: 16,
      memoryMiB,
      sockets: 1,
      coresPerSocket: 16,
      threadsPerCore: 1,
      mhz: 2000,
      libvirtVersion: '9.0.0',
      hypervisorVersion: '7.2.0',
      updated: '2026-01-01T00:00:00.000Z',
    }
  }

  uuidOf(name: string): string | undefined {
    const text = this.texts.get(name)
    return text === undefined ? undefined : definitionOf(text).uuid
  }

  domainOf(name: string): Domain | undefined {
    const text = this.texts.get(name)
    return text === undefined ? undefined : definitionOf(text)
  }

  /** Claims that were ended by somebody else than their holder: a held record followed by one with another token. */
  takeOvers(): number {
    const claims = [...this.share.records].filter(([key]) => key.startsWith('claims/uuid/'))
    const tokens = claims.map(([, versions]) =>
      versions.map(({ text }) => /"state": "(\w+)"[\s\S]*?"token": "([^"]*)"/.exec(text)),
    )
    return tokens.reduce(
      (sum, list) =>
        sum +
        list.filter((one, at) => one?.[1] === 'held' && list[at + 1] !== undefined && list[at + 1]?.[2] !== one[2])
          .length,
      0,
    )
  }

  /** What backs the disks that only one may write, whatever they are called. */
  trueDisks(domain: Domain): string[] {
    return exclusiveDisks(domain).map(({ source }) => {
      const path = 'path' in source ? source.path : ''
      return SAME_DISK[path] ?? diskIdentity(source) ?? ''
    })
  }

  /** All paths exist everywhere: files on NFS, block devices with their WWID. */
  pathFacts(paths: readonly string[]): ReadonlyMap<string, PathFacts> {
    const key = paths.join('\n')
    const known = this.#facts.get(key) ?? new Map(paths.map(path => [path, factsOf(path)]))
    this.#facts.set(key, known)
    return known
  }

  /** A machine lost its power: whoever talks to it notices after a while. */
  machineGone(machine: Machine): void {
    this.tell(() => `${machine.name}: power off`)
    for (const process of this.processes) if (process.host === machine) this.#finish(process)
    this.suspect(machine)
  }

  /** Channels to and from this host may be broken. */
  suspect(host: Host): void {
    for (const channel of this.channels) {
      if (channel.machine === host || channel.client.host === host) channel.suspect()
    }
  }

  // --- What happens in it

  /** Cuts a cable, in one direction or both. */
  cut(one: Host, other: Host, both: boolean): void {
    this.network.cut(one, other)
    if (both) this.network.cut(other, one)
    this.suspect(one)
    this.suspect(other)
  }

  /** Mends it again. */
  mend(one: Host, other: Host, both: boolean): void {
    this.network.heal(one, other)
    if (both) this.network.heal(other, one)
    this.share.mended()
  }

  /** A frozen host goes on, and what runs on it writes again. */
  thaw(host: Host): void {
    this.tell(() => `${host.name}: goes on`)
    this.scheduler.thaw(host)
    if (host instanceof Machine) for (const qemu of [...host.qemus]) this.oracle.writing(qemu)
  }

  /** All faults end: every cable is whole, every machine runs, the share is calm. */
  heal(random: Random): void {
    this.isMended = true
    this.tell(() => 'everything is mended')
    this.network.healAll()
    this.share.weather.clear()
    this.share.mended()
    this.aliases.clear()
    for (const host of this.hosts.values()) if (host.frozen) this.thaw(host)
    for (const machine of this.machines) {
      machine.fenceBroken = false
      machine.powerOn(random)
      machine.unhang()
      machine.sanlock?.start()
      if (machine.libvirtd === 'up') machine.sanlock?.rejoin(() => undefined)
    }
  }

  /** A command of a process has reached its node's virsh. */
  carryOut(process: SimProcess, virsh: Virsh, end: Call['end']): void {
    const { machine, words } = virsh
    this.tell(() => `${machine.name}: virsh ${words.join(' ')} (of pid ${process.pid})`)
    this.oracle.carriedOut(process.pid, machine, words)
    this.libvirt.virsh(virsh, end)
  }

  /** Somebody types `havirt WORDS` on a host; `ended` hears when it is over, however. `instead` of being killed it meets that. */
  havirt(
    host: Host,
    words: readonly string[],
    random: Random,
    killAfter = 0,
    ended: (run: Run) => void = () => undefined,
    instead?: () => void,
  ): void {
    if (host instanceof Machine && !host.powered) return
    const pid = this.nextPid()
    const run: Run = {
      id: pid,
      words,
      startedMs: this.scheduler.nowMs,
      endedMs: Infinity,
      killed: false,
      report: undefined,
      effects: [],
    }
    const kill = () => {
      run.killed = true
      this.tell(() => `${host.name}: pid ${pid} is killed`)
      this.#finish(process)
      ended(run)
    }
    const process = new SimProcess(this.scheduler, host, pid, random, killAfter, instead ?? kill)
    this.oracle.runs.set(pid, run)
    this.processes.add(process)
    this.tell(() => `ops@${host.name}$ ${typedWords(words)}   (pid ${pid})`)
    process.after(0, () => this.#perform(process, run, ended))
  }

  #perform(process: SimProcess, run: Run, ended: (run: Run) => void): void {
    const { operation, input } = parseWords(run.words)
    this.scheduler.resolved = true
    begins(process)
    this.#opened(process)
      .then(parts => operation.run(parts, input))
      .catch(error => this.#errorReport(run, error))
      .then(report => {
        run.report = report
        this.tell(() => `ops@${process.host.name}: pid ${process.pid} ends with ${reportText(report)}`)
        this.#finish(process)
        this.oracle.reported(run)
        ended(run)
      })
  }

  #errorReport(run: Run, error: unknown): Report {
    if (!(error instanceof StoreError))
      this.oracle.fail(
        'defect',
        `havirt ${run.words.join(' ')}: ${error instanceof Error ? error.stack : String(error)}`,
      )
    const hint = error instanceof StoreError ? error.hint : undefined
    return {
      exit: exitStatus.failed,
      messages: [failure(error instanceof Error ? error.message : String(error), hint)],
    }
  }

  /** A node whose share is not mounted finds no cluster in the home folder (src/store/home.ts). */
  async #opened(process: SimProcess): Promise<Parts> {
    if (this.unmounted.has(process.host)) refuseStranger(HOME, undefined, { cluster: 'c1' })
    return this.#parts(process)
  }

  #finish(process: SimProcess): void {
    process.ended = true
    this.processes.delete(process)
    const run = this.oracle.runs.get(process.pid)
    if (run !== undefined) run.endedMs = this.scheduler.nowMs
  }

  #parts(process: SimProcess): Parts {
    const store = new SimStore(this.share, process)
    const home = simHome(this.share, store, this.definitions, this.#config)
    const { host } = process
    return {
      home,
      nodes: new SimNodes(this, process),
      claims: new Claims(store, process, this.#owner(process), simConfig.claim.ttlMs, owner =>
        this.#isDead(owner, process),
      ),
      clock: process,
      ...(host instanceof Machine ? { hereId: host.nodeId } : {}),
      progress: noProgress,
      interrupt: interruptOf(process),
    }
  }

  #owner({ host, pid }: SimProcess): Owner {
    return { ...ownerOf({ host, pid }), bootId: bootOf(host) }
  }

  #isDead(owner: Owner, us: SimProcess): Promise<boolean> {
    const here = owner.host === us.host.name && owner.bootId === bootOf(us.host)
    return Promise.resolve(here && this.oracle.runs.get(owner.pid)?.endedMs !== Infinity)
  }
}

const boots = new WeakMap<object, string>()
let bootCount = 0

function bootOf(host: Host): string {
  if (!(host instanceof Machine)) return 'boot of desk'
  const known = boots.get(host.boot) ?? `boot ${++bootCount}`
  boots.set(host.boot, known)
  return known
}

/** Nobody is at the terminal to be asked. */
function interruptOf(process: SimProcess): Parts['interrupt'] {
  const { interruptHandlers } = process
  return {
    onInterrupt: handler => {
      interruptHandlers.push(handler)
      return () => void interruptHandlers.splice(interruptHandlers.indexOf(handler), 1)
    },
    confirmAbort: () => Promise.resolve(true),
    requested: () => process.interrupted,
  }
}

function factsOf(path: string): PathFacts {
  if (!path.startsWith('/dev/')) return { exists: true, kind: 'file', filesystem: 'nfs4' }
  return { exists: true, kind: 'block', identity: SAME_DISK[path] ?? path }
}
