/**
 * Rule 13, judged by the simulated machines alone: who was started past a machine that was not heard, whether that machine was dead
 * to sanlock then, and what is left there of those domains.
 */
import type { Domain } from '../core/domain.ts'
import type { Errand } from './channel.ts'
import type { Machine } from './machine.ts'
import { startedItself } from './oracle.ts'
import type { Qemu } from './qemu.ts'
import { type LeaseSetting, leaseNames } from './sanlock.ts'
import { definitionOf } from './texts.ts'
import type { World } from './world.ts'

/** A domain was started although this machine was not heard. */
interface Pass {
  readonly uuid: string
  readonly machine: Machine
  readonly atMs: number
  /** It came to be: the domain ran elsewhere since. */
  ran: boolean
}

export class Passes {
  readonly #world: World
  readonly #setting: LeaseSetting
  readonly #passes: Pass[] = []
  /** When each run of havirt last had a whole answer of each machine. */
  readonly #heard = new Map<number, Map<Machine, number>>()

  constructor(world: World, setting: LeaseSetting) {
    this.#world = world
    this.#setting = setting
  }

  /** How many there were. */
  get count(): number {
    return this.#passes.length
  }

  /** A machine said everything to a run of havirt. */
  heard(run: number, machine: Machine): void {
    const heard = this.#heard.get(run) ?? new Map<Machine, number>()
    this.#heard.set(run, heard.set(machine, this.#world.scheduler.nowMs))
  }

  /** A run of havirt sends a command: a start may be past machines. */
  sent(run: number, node: string, { argv, stdin }: Errand): void {
    if (argv[0] !== 'virsh' || argv[3] !== 'create') return
    const target = this.#world.machines.find(({ name }) => name === node)
    const domain = definitionOf(stdin)
    const sinceMs = this.#world.oracle.claimedMs(domain.uuid, run)
    for (const machine of this.#world.machines)
      if (machine !== target && this.#isPassed(run, machine, domain.uuid, sinceMs))
        this.#judge(machine, target, domain, sinceMs)
  }

  /** It was not heard, or havirt has written down that it does without. Who was called down is no matter of leases. */
  #isPassed(run: number, machine: Machine, uuid: string, sinceMs: number): boolean {
    if (this.#isWritten(run, machine, uuid)) return true
    const heardMs = this.#heard.get(run)?.get(machine) ?? -1
    return heardMs < sinceMs && !this.#world.oracle.vouched(machine, sinceMs, 'any')
  }

  #isWritten(run: number, { name }: Machine, uuid: string): boolean {
    return this.#world.oracle.passedOn(name).some(each => each.uuid === uuid && each.by.includes(`(pid ${run})`))
  }

  #judge(machine: Machine, target: Machine | undefined, domain: Domain, sinceMs: number): void {
    this.#passes.push({ uuid: domain.uuid, machine, atMs: this.#world.scheduler.nowMs, ran: false })
    const { passUnreachable, passWithoutWatchdog } = this.#setting
    const { sanlock } = machine
    if (sanlock === undefined) return
    const { hostId, lockspace, watchdog } = sanlock
    const names = leaseNames({ domain })
    const theirs = names.length > 0 && names.every(name => lockspace.wasHeld(name, hostId, sinceMs))
    const wrong = [
      ...(passUnreachable ? [] : ['nobody allowed that']),
      ...(watchdog || passWithoutWatchdog ? [] : ['it has no watchdog']),
      ...(target?.sanlock?.countedDead(hostId, sinceMs) === true ? [] : [`it is not dead to ${target?.name}`]),
      ...(theirs ? [] : ['the lease of its disk is not in its name']),
    ]
    if (wrong.length > 0)
      this.#world.oracle.fail(
        'past a node',
        `${domain.name} is started on ${target?.name} although ${machine.name} was not heard: ${wrong.join(', ')}`,
      )
  }

  /** A QEMU runs. */
  runs({ uuid, machine, firstBornMs }: Qemu): void {
    for (const pass of this.#passes)
      if (pass.uuid === uuid && pass.machine !== machine && firstBornMs >= pass.atMs) pass.ran = true
  }

  /** True when the domain was started past this machine. */
  has(uuid: string, machine: Machine): boolean {
    return this.#passes.some(each => each.uuid === uuid && each.machine === machine)
  }

  /** Without a watchdog what runs may have lost its leases, or its host count as dead. */
  excuses(one: Qemu, other: Qemu): boolean {
    return [this.#isLeft(one, other), this.#isLeft(other, one), wakes(one, other), wakes(other, one)].includes(true)
  }

  /** Who allowed to go past a node without a watchdog took it upon himself that what is left there runs on. */
  #isLeft(old: Qemu, { uuid, firstBornMs }: Qemu): boolean {
    const places = [old.machine, ...old.before]
    if (!this.#setting.passWithoutWatchdog) return false
    return this.#passes.some(
      pass =>
        pass.uuid === uuid &&
        pass.machine.sanlock?.watchdog === false &&
        places.includes(pass.machine) &&
        old.firstBornMs < pass.atMs &&
        firstBornMs >= pass.atMs,
    )
  }

  /** What is left on a machine of a domain that was started past it before then. */
  leftOn(machine: Machine, beforeMs: number): Qemu | undefined {
    return machine.qemus.find(({ uuid, firstBornMs }) =>
      this.#passes.some(
        pass =>
          pass.ran && pass.uuid === uuid && pass.machine === machine && firstBornMs < pass.atMs && pass.atMs < beforeMs,
      ),
    )
  }
}

/** A machine that booted starts something by itself: nothing but its lease keeps it from that, and the other has lost its own. */
function wakes(one: Qemu, other: Qemu): boolean {
  const { sanlock } = other.machine
  return (
    startedItself(one) && sanlock?.watchdog === false && !leaseNames(other).every(name => sanlock.holds(name, other))
  )
}
