/** One machine, as it truly is: power, libvirtd, the guard's state, its definitions and its QEMU processes. */
import type { DomainOnNode } from '../core/node.ts'
import type { Random } from '../core/random.ts'
import { SimGuard } from './guard.ts'
import type { MigrationJob } from './migration-job.ts'
import { type Cause, type Defined, pausedReason, type Qemu, runningReason } from './qemu.ts'
import type { Sanlock } from './sanlock.ts'
import { Host, Life } from './scheduler.ts'
import { definitionOf } from './texts.ts'
import type { World } from './world.ts'

/** A lifecycle event of libvirt. */
export interface LifecycleEvent {
  readonly atMs: number
  readonly name: string
  readonly uuid: string
}

/** A call that libvirtd is working on, for a virsh that waits. */
export interface Call {
  /** The virsh gets this end; only the first counts. */
  readonly end: (status: number, stderr?: string, stdout?: string) => void
}

/** What virsh says when libvirtd goes away under it. */
export const DISCONNECTED = 'error: Disconnected from qemu:///system due to end of file'

export class Machine extends Host {
  readonly world: World
  readonly hostUuid: string
  readonly memoryMiB: number
  /** What /var/lib/havirt/id says. */
  readonly nodeId: string
  readonly guard: SimGuard
  powered = true
  /** When it was last given power. */
  bootedMs = 0
  boot: Life = new Life(this)
  libvirtd: 'up' | 'hung' | 'down' = 'up'
  daemon: Life = new Life(this)
  readonly defined = new Map<string, Defined>()
  readonly qemus: Qemu[] = []
  readonly events: LifecycleEvent[] = []
  readonly jobs = new Map<string, MigrationJob>()
  readonly calls = new Set<Call>()
  /** Calls that wait while libvirtd hangs. */
  readonly #queue: (() => void)[] = []
  /** Domains of definitions and QEMUs as libvirt lists them, until something changes. */
  #listed: DomainOnNode[] | undefined
  /** Its fence device does not do what it is told. */
  fenceBroken = false
  /** Its fence device answers `off` with an error when there is no power to cut. */
  fenceSulks = false
  /** Where leases are on. */
  sanlock: Sanlock | undefined

  constructor(world: World, name: string, index: number, memoryMiB: number) {
    super(name, index)
    this.world = world
    this.hostUuid = `host-${name}`
    this.nodeId = `id-of-${name}`
    this.memoryMiB = memoryMiB
    this.guard = new SimGuard(world.scheduler)
  }

  /** True when it takes part in anything. */
  get works(): boolean {
    return this.powered && !this.frozen
  }

  /** True when its libvirtd answers somebody who asks which host this is, and it is that one. */
  answersAs(hostUuid: string): boolean {
    return this.works && this.libvirtd === 'up' && this.hostUuid === hostUuid
  }

  /** The QEMU of a domain that libvirt knows. */
  qemu(uuid: string): Qemu | undefined {
    return this.qemus.find(each => each.uuid === uuid && each.listed)
  }

  /** A new QEMU, paused as it is before its first instruction. */
  spawn(xml: string, cause: Cause, from?: Qemu): Qemu {
    const { world } = this
    const domain = definitionOf(xml)
    const incoming = from !== undefined
    const qemu: Qemu = {
      pid: world.nextPid(),
      name: domain.name,
      uuid: domain.uuid,
      domain,
      xml,
      disks: world.trueDisks(domain),
      machine: this,
      state: 'paused',
      reason: incoming ? pausedReason.migration : pausedReason.startingUp,
      listed: true,
      incoming,
      ended: false,
      cause,
      first: from?.first ?? cause,
      before: from === undefined ? [] : [...from.before, from.machine],
      firstBornMs: from?.firstBornMs ?? world.scheduler.nowMs,
      bornMs: world.scheduler.nowMs,
      sinceMs: world.scheduler.nowMs,
    }
    this.qemus.push(qemu)
    this.sanlock?.register(qemu)
    this.changed(qemu)
    world.oracle.changed(qemu)
    return qemu
  }

  /** Lets a QEMU run. Where it gets no lease for a disk it does not, and what libvirt says then is given back. */
  go(qemu: Qemu, reason: number, cause: Cause): string | undefined {
    if (qemu.ended) return undefined
    const refusal = this.sanlock?.take(qemu)
    if (refusal !== undefined) {
      this.world.tell(() => `${this.name}: QEMU of ${qemu.name} gets no lease`)
      return refusal
    }
    qemu.cause = cause
    qemu.incoming = false
    this.#set(qemu, 'running', reason)
    return undefined
  }

  /** Stops a QEMU's processors; it stays. */
  pause(qemu: Qemu, reason: number): void {
    if (qemu.ended) return
    this.sanlock?.release(qemu)
    this.#set(qemu, 'paused', reason)
  }

  /** A QEMU ends, however. */
  end(qemu: Qemu): void {
    if (qemu.ended) return
    qemu.ended = true
    this.sanlock?.release(qemu)
    this.qemus.splice(this.qemus.indexOf(qemu), 1)
    this.changed(qemu)
    this.world.oracle.ended(qemu)
    this.jobs.get(qemu.uuid)?.sourceEnded()
  }

  #set(qemu: Qemu, state: Qemu['state'], reason: number): void {
    qemu.state = state
    qemu.reason = reason
    qemu.sinceMs = this.world.scheduler.nowMs
    this.changed(qemu)
    this.world.oracle.changed(qemu)
  }

  /** Something that libvirt shows has changed. */
  changed(what: { readonly name: string; readonly uuid: string }): void {
    this.#listed = undefined
    if (this.powered) this.events.push({ atMs: this.world.scheduler.nowMs, name: what.name, uuid: what.uuid })
  }

  /** What libvirt lists now. */
  domains(): readonly DomainOnNode[] {
    this.#listed ??= this.#list()
    return this.#listed
  }

  #list(): DomainOnNode[] {
    const active = this.qemus.filter(({ listed }) => listed).map(qemu => this.#active(qemu))
    const off = [...this.defined.values()].filter(each => this.qemu(each.uuid) === undefined).map(shutOff)
    return [...active, ...off]
  }

  #active(qemu: Qemu): DomainOnNode {
    const defined = this.defined.get(qemu.uuid)
    return {
      ...common(qemu),
      state: qemu.state,
      stateReason: qemu.reason,
      active: true,
      persistent: defined !== undefined,
      autostart: defined?.autostart ?? false,
      managedSave: defined?.managedSave ?? false,
    }
  }

  /** QEMUs that libvirt does not list, as a look at the processes shows them. */
  unlisted(): DomainOnNode[] {
    return this.qemus.filter(({ listed }) => !listed).map(unlistedOnNode)
  }

  // --- libvirtd

  /** Gives a call to libvirtd: at once, when it stops hanging, or not at all. */
  call(end: Call['end'], work: (call: Call) => void): void {
    if (this.libvirtd === 'down') return end(1, 'error: failed to connect to the hypervisor')
    const call: Call = {
      end: (...how) => {
        if (this.calls.delete(call)) end(...how)
      },
    }
    this.calls.add(call)
    if (this.libvirtd === 'hung') this.#queue.push(() => this.calls.has(call) && work(call))
    else work(call)
  }

  /** libvirtd answers nothing until {@link unhang}. */
  hang(): void {
    if (this.libvirtd === 'up') this.libvirtd = 'hung'
  }

  unhang(): void {
    if (this.libvirtd !== 'hung') return
    this.libvirtd = 'up'
    for (const work of this.#queue.splice(0)) work()
  }

  /** libvirtd ends, and comes back after a while: it finds its QEMUs again, but may forget one. */
  restartLibvirtd(random: Random, forgets: boolean): void {
    if (!this.powered || this.libvirtd === 'down') return
    this.#endDaemon(random)
    const forgotten = forgets ? this.qemus.filter(each => !each.incoming).slice(0, 1) : []
    this.world.scheduler.after(random.between(300, 4000), this.boot, () =>
      this.#joined('rejoin', () => {
        this.libvirtd = 'up'
        for (const qemu of forgotten) {
          qemu.listed = false
          this.changed(qemu)
        }
      }),
    )
  }

  #endDaemon(random: Random): void {
    this.libvirtd = 'down'
    this.daemon.ended = true
    this.daemon = new Life(this)
    this.#queue.length = 0
    for (const job of [...this.jobs.values()]) job.sourceDaemonGone()
    for (const call of [...this.calls]) call.end(1, DISCONNECTED)
    for (const qemu of [...this.qemus]) this.#reconnect(qemu, random)
  }

  /** What becomes of a QEMU that was not yet running when libvirtd went away. */
  #reconnect(qemu: Qemu, random: Random): void {
    if (qemu.incoming) return this.end(qemu)
    if (qemu.state !== 'paused' || qemu.reason !== pausedReason.startingUp) return
    // "Go on" may have been sent already: then it comes to life although nobody at the other end knows.
    if (random.chance(0.5)) return this.end(qemu)
    this.world.scheduler.after(random.between(0, 2000), this.boot, () => {
      if (this.go(qemu, runningReason.booted, qemu.cause) !== undefined) this.end(qemu)
    })
  }

  // --- Power

  /** Its power is cut, or it crashes. */
  powerOff(): void {
    if (!this.powered) return
    this.powered = false
    this.sanlock?.kill()
    this.boot.ended = true
    this.daemon.ended = true
    this.held.length = 0
    this.libvirtd = 'down'
    this.#queue.length = 0
    this.calls.clear()
    for (const job of [...this.jobs.values()]) job.sourceGone()
    for (const qemu of [...this.qemus]) this.end(qemu)
    this.guard.reboot()
    if (this.frozen) this.world.scheduler.thaw(this)
    this.world.machineGone(this)
  }

  /** It boots; domains set to autostart start by themselves. */
  powerOn(random: Random): void {
    if (this.powered) return
    this.powered = true
    this.bootedMs = this.world.scheduler.nowMs
    this.boot = new Life(this)
    this.daemon = new Life(this)
    this.world.scheduler.after(random.between(100, 5000), this.boot, () =>
      this.#joined('boot', () => {
        this.libvirtd = 'up'
        for (const each of this.defined.values()) if (each.autostart) this.world.libvirt.autostart(this, each)
      }),
    )
  }

  /** libvirtd joins the lockspace, where there is one, before it does anything else. */
  #joined(how: 'boot' | 'rejoin', done: () => void): void {
    if (this.sanlock === undefined) done()
    else this.sanlock[how](done)
  }
}

function common({ name, uuid, domain }: { name: string; uuid: string; domain: Qemu['domain'] }) {
  const { vcpus, memoryMiB } = domain
  return { name, uuid, snapshots: false, vcpus, memoryMiB, definition: domain }
}

function shutOff(each: Defined): DomainOnNode {
  const { autostart, managedSave } = each
  return {
    ...common(each),
    state: 'shutoff',
    stateReason: 1,
    active: false,
    persistent: true,
    autostart,
    managedSave,
  }
}

function unlistedOnNode({ name, uuid, pid }: Qemu): DomainOnNode {
  return {
    name,
    uuid,
    state: 'nostate',
    stateReason: 0,
    active: true,
    persistent: false,
    autostart: false,
    managedSave: false,
    snapshots: false,
    vcpus: 0,
    memoryMiB: 0,
    problem: 'libvirt does not list it',
    unlistedPid: pid,
  }
}
