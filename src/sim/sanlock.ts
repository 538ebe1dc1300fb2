/**
 * sanlock below libvirt: one lockspace on storage that every machine reaches by a network of its own, so that a cut cable stops
 * nobody's renewals; a daemon on each machine, and a watchdog where there is one. Its times are sanlock's own (sanlock(8)).
 */
import { deadAfterSeconds, leasePaths, lostAfterSeconds, type HostState as State } from '../core/lease.ts'
import { subStream } from '../core/random.ts'
import { leaseName } from '../nodes/lease-name.ts'
import type { Machine } from './machine.ts'
import type { Qemu } from './qemu.ts'
import { Life } from './scheduler.ts'

export const IO_TIMEOUT_SECONDS = 2
const RENEWAL_MS = 2 * IO_TIMEOUT_SECONDS * 1000
const LOST_MS = lostAfterSeconds(IO_TIMEOUT_SECONDS) * 1000
const DEAD_MS = deadAfterSeconds(IO_TIMEOUT_SECONDS) * 1000
/** A watchdog that nobody feeds any more fires within a minute: as late as may be. */
const RESET_MS = LOST_MS + 55_000
const JOIN_MS = 5000
/** From SIGTERM to the end of a QEMU. */
const KILL_MS = 200
const REBOOT_MS = 3000

const NO_DAEMON = 'error: internal error: Failed to open socket to sanlock daemon: Connection refused'
const NOT_JOINED = 'error: internal error: Failed to acquire lock: No space left on device'
const HELD = 'error: internal error: Failed to acquire lock: Lease is held by another host'
const HELD_HERE = 'error: internal error: Failed to acquire lock: File exists'

/** How a cluster has its leases. */
export interface LeaseSetting {
  /** `lease.passUnreachable`. */
  readonly passUnreachable: boolean
  /** `lease.passWithoutWatchdog`. */
  readonly passWithoutWatchdog: boolean
  /** Nodes without a watchdog, by their place. */
  readonly noWatchdog: readonly number[]
}

/** A host's record on the storage. */
export interface HostRecord {
  readonly name: string
  generation: number
  timestamp: number
}

/** A lease on the storage. */
export interface Lease {
  ownerId: number
  ownerGeneration: number
  version: number
  timestamp: number
  writtenMs: number
  /** Who had it when, for whoever judges. */
  readonly spans: { readonly hostId: number; readonly fromMs: number; toMs: number }[]
}

/** The lockspace, and the leases in it. */
export class Lockspace {
  readonly hosts = new Map<number, HostRecord>()
  readonly leases = new Map<string, Lease>()

  /** True when this host had it at some moment since then. */
  wasHeld(name: string, hostId: number, sinceMs: number): boolean {
    return this.leases.get(name)?.spans.some(each => each.hostId === hostId && each.toMs >= sinceMs) === true
  }
}

/** What a daemon has seen of another host. */
interface Seen {
  generation: number
  timestamp: number
  /** When that changed last. */
  liveMs: number
}

/** One run of sanlock. */
export class Daemon extends Life {
  space: 'none' | 'joining' | 'joined' = 'none'
  generation = 0
  renewedMs = 0
  readonly registered = new Set<Qemu>()
  readonly held = new Map<string, Qemu>()
  readonly seen = new Map<number, Seen>()
}

const names = new Map<string, string>()

/** What sanlock calls the leases of a domain's disks. */
export function leaseNames(qemu: Pick<Qemu, 'domain'>): string[] {
  return leasePaths(qemu.domain).map(path => {
    const name = names.get(path) ?? leaseName('sanlock', path)
    names.set(path, name)
    return name
  })
}

/** sanlock on one machine. */
export class Sanlock {
  readonly hostId: number
  readonly watchdog: boolean
  readonly lockspace: Lockspace
  daemon: Daemon | undefined
  readonly #machine: Machine
  /** The daemon that a QEMU has spoken to; one that is gone knows nothing of it any more. */
  readonly #spokenTo = new WeakMap<Qemu, Daemon>()
  /** When each host last counted as dead, where it came to life again. */
  readonly #deadUntilMs = new Map<number, number>()

  /** It has run for long when the run begins. */
  constructor(machine: Machine, lockspace: Lockspace, watchdog: boolean) {
    this.hostId = machine.index + 1
    this.#machine = machine
    this.lockspace = lockspace
    this.watchdog = watchdog
    lockspace.hosts.set(this.hostId, { name: machine.name, generation: 0, timestamp: 0 })
    this.#joined(this.#begun())
  }

  get #nowMs(): number {
    return this.#machine.world.scheduler.nowMs
  }

  /** By the machine's own clock, which stands still while it is suspended. */
  get #ownMs(): number {
    return this.#nowMs - this.#machine.stoodStillMs
  }

  /** As it is written to the storage: seconds, never the same twice. */
  get stamp(): number {
    return 1000 + Math.floor(this.#nowMs / 1000)
  }

  // --- The daemon

  /** The machine boots: sanlock begins, and libvirt joins the lockspace before it does anything else. */
  boot(done: () => void): void {
    this.start()
    this.rejoin(done)
  }

  /** libvirt begins anew: it joins where it is not joined, and does without where it cannot. */
  rejoin(done: () => void): void {
    const { daemon } = this
    if (daemon === undefined || daemon.space !== 'none') done()
    else this.#join(daemon, done)
  }

  /** The daemon ends without a word. */
  kill(): void {
    if (this.daemon !== undefined) this.daemon.ended = true
    this.daemon = undefined
  }

  /** Somebody starts it again. */
  start(): void {
    if (this.daemon === undefined && this.#machine.powered) this.#begun()
  }

  #begun(): Daemon {
    this.daemon = new Daemon(this.#machine)
    return this.daemon
  }

  #join(daemon: Daemon, done: () => void): void {
    daemon.space = 'joining'
    // libvirt begins all the same where that comes to nothing.
    this.#machine.world.scheduler.after(JOIN_MS, this.#machine.boot, () => {
      if (!daemon.ended) this.#joined(daemon)
      done()
    })
  }

  #joined(daemon: Daemon): void {
    const record = this.#record
    record.generation++
    daemon.space = 'joined'
    daemon.generation = record.generation
    daemon.renewedMs = this.#ownMs
    this.#renew(daemon)
    if (this.watchdog) this.#feed(daemon, this.#machine.boot)
  }

  get #record(): HostRecord {
    const record = this.lockspace.hosts.get(this.hostId)
    if (record === undefined) throw new Error(`there is no host ${this.hostId}`)
    return record
  }

  /** Only a machine that stood still is late. */
  #renew(daemon: Daemon): void {
    if (this.#ownMs - daemon.renewedMs >= LOST_MS) return this.#lose(daemon)
    daemon.renewedMs = this.#ownMs
    this.#record.timestamp = this.stamp
    this.#watch(daemon)
    const { scheduler } = this.#machine.world
    // Nobody renews at the same moment as another.
    const delayMs = scheduler.nowMs === 0 ? 700 * this.hostId : RENEWAL_MS
    scheduler.after(delayMs, daemon, () => this.#renew(daemon))
  }

  /** What holds leases is killed. The watchdog need not fire then. */
  #lose(daemon: Daemon): void {
    this.#machine.world.tell(() => `${this.#machine.name}: sanlock could not renew, and kills what holds leases`)
    daemon.space = 'none'
    const doomed = [...new Set(daemon.held.values())]
    daemon.held.clear()
    this.#machine.world.scheduler.after(KILL_MS, this.#machine.boot, () => {
      for (const qemu of doomed) this.#machine.end(qemu)
    })
  }

  /** The watchdog of a boot fires when the daemon that fed it does so no more, even if another one runs by then. */
  #feed(daemon: Daemon, boot: Life): void {
    const { scheduler } = this.#machine.world
    const leftMs = RESET_MS - (this.#nowMs - this.#machine.stoodStillMs - daemon.renewedMs)
    scheduler.after(Math.max(leftMs, 1), undefined, () => {
      if (boot.ended || daemon.space === 'none') return
      const sinceMs = this.#ownMs - daemon.renewedMs
      if (sinceMs < RESET_MS) return this.#feed(daemon, boot)
      this.#reset()
    })
  }

  #reset(): void {
    const machine = this.#machine
    machine.world.tell(() => `${machine.name}: its watchdog resets it`)
    machine.powerOff()
    machine.world.scheduler.after(REBOOT_MS, undefined, () => {
      if (!machine.powered) machine.world.tell(() => `${machine.name}: power on`)
      machine.powerOn(subStream(machine.world.scheduler.nowMs, this.hostId))
    })
  }

  // --- Others

  #watch(daemon: Daemon): void {
    for (const [hostId, { generation, timestamp }] of this.lockspace.hosts) {
      const seen = daemon.seen.get(hostId)
      if (seen !== undefined && seen.generation === generation && seen.timestamp === timestamp) continue
      if (seen !== undefined && this.stateOf(hostId) === 'dead') this.#deadUntilMs.set(hostId, this.#nowMs)
      daemon.seen.set(hostId, { generation, timestamp, liveMs: this.#ownMs })
    }
  }

  /** What it makes of a host. */
  stateOf(hostId: number): State {
    const seen = this.daemon?.seen.get(hostId)
    if (seen === undefined) return 'unknown'
    if (hostId === this.hostId) return 'live'
    if (seen.timestamp === 0) return 'free'
    const ageMs = this.#ownMs - seen.liveMs
    return ageMs < LOST_MS ? 'live' : ageMs < DEAD_MS ? 'fail' : 'dead'
  }

  /** True when it counted the host as dead at some moment since then. */
  countedDead(hostId: number, sinceMs: number): boolean {
    return this.stateOf(hostId) === 'dead' || (this.#deadUntilMs.get(hostId) ?? -1) >= sinceMs
  }

  // --- Leases

  /** A new QEMU makes itself known, if it can. */
  register(qemu: Qemu): void {
    if (this.daemon === undefined) return
    this.daemon.registered.add(qemu)
    this.#spokenTo.set(qemu, this.daemon)
  }

  /** Takes the leases of a QEMU that is about to run; what libvirt says where it cannot. */
  take(qemu: Qemu): string | undefined {
    const wanted = leaseNames(qemu)
    const daemon = this.#spokenTo.get(qemu)
    if (wanted.length === 0) return undefined
    if (daemon === undefined) return NO_DAEMON
    // As libvirt has it: what ran when its daemon went away runs on, and is let run again, without.
    if (daemon.ended) return undefined
    if (daemon.space !== 'joined') return NOT_JOINED
    const missing = wanted.filter(name => daemon.held.get(name) !== qemu)
    const refusal = missing.map(name => this.#against(daemon, name)).find(each => each !== undefined)
    if (refusal !== undefined) return refusal
    for (const name of missing) this.#write(daemon, name, qemu)
    return undefined
  }

  /** True when it knows the QEMU to have this lease. */
  holds(name: string, qemu: Qemu): boolean {
    return this.daemon?.held.get(name) === qemu
  }

  #against(daemon: Daemon, name: string): string | undefined {
    const lease = this.lockspace.leases.get(name)
    if (daemon.held.has(name)) return HELD_HERE
    if (lease === undefined || lease.timestamp === 0) return undefined
    if (lease.ownerId === this.hostId) return undefined
    const owner = this.lockspace.hosts.get(lease.ownerId)
    const seen = daemon.seen.get(lease.ownerId)
    if (owner?.generation !== lease.ownerGeneration) return undefined
    // The owner's own record is read once more: who renewed since it was last looked at lives.
    const isDead = this.stateOf(lease.ownerId) === 'dead' && seen?.timestamp === owner.timestamp
    return isDead ? undefined : HELD
  }

  #write(daemon: Daemon, name: string, qemu: Qemu): void {
    const before = this.lockspace.leases.get(name)
    const spans = before?.spans ?? []
    const last = spans.at(-1)
    if (last !== undefined) last.toMs = Math.min(last.toMs, this.#nowMs)
    spans.push({ hostId: this.hostId, fromMs: this.#nowMs, toMs: Infinity })
    this.lockspace.leases.set(name, {
      ownerId: this.hostId,
      ownerGeneration: daemon.generation,
      version: (before?.version ?? 0) + 1,
      timestamp: this.stamp,
      writtenMs: this.#nowMs,
      spans,
    })
    daemon.held.set(name, qemu)
  }

  /** A QEMU stands still, or has ended: what it holds is given back. */
  release(qemu: Qemu): void {
    const daemon = this.#spokenTo.get(qemu)
    if (daemon === undefined || daemon.ended) return
    if (qemu.ended) daemon.registered.delete(qemu)
    for (const [name, holder] of [...daemon.held]) {
      if (holder !== qemu) continue
      daemon.held.delete(name)
      const lease = this.lockspace.leases.get(name)
      // Somebody else may have taken it since, while this machine counted as dead.
      if (lease?.ownerId !== this.hostId || lease.ownerGeneration !== daemon.generation) continue
      lease.timestamp = 0
      lease.writtenMs = this.#nowMs
      const span = lease.spans.at(-1)
      if (span !== undefined) span.toMs = this.#nowMs
    }
  }
}
