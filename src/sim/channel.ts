/**
 * A command on its way through ssh: sent, run on the node behind the guard, answered. The client may give up or die at any
 * moment; what it sent goes on, and may arrive late.
 */
import { isMigrationEnd } from '../core/node.ts'
import { guardStatus } from '../nodes/guard.ts'
import { LEASES_SCRIPT } from '../nodes/leases.ts'
import type { Order } from '../nodes/nodes.ts'
import type { Exit } from '../nodes/process.ts'
import type { Pass } from './guard.ts'
import { leasesText } from './lease-text.ts'
import type { Machine } from './machine.ts'
import type { SimProcess } from './process.ts'
import type { Life, Timer } from './scheduler.ts'
import type { World } from './world.ts'

/** ServerAliveInterval x ServerAliveCountMax, and one interval. */
const ALIVE_MS = 10_000
const CONNECT_MS = 4000

/** What runs at the far end. */
export interface Errand {
  /** Absent: without the guard. */
  readonly pass?: Pass
  /** virsh's words or another program's; `true` does nothing. */
  readonly argv: readonly string[]
  readonly stdin: string
  readonly timeoutMs: number
}

export class Channel {
  readonly #world: World
  readonly #process: SimProcess
  readonly machine: Machine
  readonly #errand: Errand
  readonly #settle: (exit: Exit) => void
  readonly #deadline: Timer
  /** The connection ends with the boot of the machine that it was made to. */
  readonly #boot: Life
  #ended = false

  constructor(world: World, process: SimProcess, machine: Machine, errand: Errand, settle: (exit: Exit) => void) {
    this.#world = world
    this.#process = process
    this.machine = machine
    this.#errand = errand
    this.#settle = settle
    this.#boot = machine.boot
    this.#deadline = process.after(errand.timeoutMs, () => this.#end(undefined, 'killed at its deadline', '', true))
    world.channels.add(this)
    this.#send()
  }

  get client(): SimProcess {
    return this.#process
  }

  /** Something broke on the way: ssh notices after a while, unless it is whole again by then. */
  suspect(): void {
    const delayMs = ALIVE_MS + this.#process.random.between(0, ALIVE_MS / 2)
    this.#process.after(delayMs, () => {
      if (!this.#whole()) this.#end(255, 'Timeout, server not responding.')
    })
  }

  #whole(): boolean {
    return this.machine.works && !this.#boot.ended && this.#world.network.both(this.#process.host, this.machine)
  }

  #send(): void {
    const { network } = this.#world
    const { random, host } = this.#process
    if (!this.#whole()) {
      // Without a master nothing is ever sent; with one it waits in TCP.
      if (random.chance(0.5))
        return void this.#process.after(CONNECT_MS, () => this.#end(255, 'ssh: connect: timed out'))
      this.suspect()
    }
    const arrive = () => network.send(host, this.machine, random, () => this.#arrive())
    // A node under heavy load reads what it was sent much later.
    if (random.chance(this.#world.lateness))
      this.#world.scheduler.after(random.between(1000, 50_000), undefined, arrive)
    else arrive()
  }

  #arrive(): void {
    const { machine } = this
    if (!machine.powered) return
    if (machine.boot !== this.#boot) {
      this.#world.tell(
        () => `${machine.name}: a command of pid ${this.#process.pid} arrives after a reboot: not carried out`,
      )
      return void this.#process.after(1, () => this.#end(255, 'Connection reset by peer'))
    }
    // A frozen machine takes it up when it thaws; rebooted, never.
    this.#world.scheduler.after(2, machine.boot, () => this.#guard(machine.boot))
  }

  #guard(boot: Life): void {
    const { machine } = this
    const { pass } = this.#errand
    if (pass === undefined) return this.#run(() => undefined)
    machine.guard.pass(
      boot,
      machine.nodeId,
      pass,
      release => this.#askPeer(boot, pass, release),
      status => this.#keepOut(pass, status),
    )
  }

  /** The guard asks from here where a migration's way leads; virsh makes a connection of its own afterwards. */
  #askPeer(boot: Life, pass: Pass, release: () => void): void {
    const { peer, uuid, waits } = pass
    const here = this.machine.qemus.find(qemu => qemu.uuid === uuid && qemu.listed)
    if (
      waits !== undefined &&
      (here === undefined || !isMigrationEnd({ state: here.state, stateReason: here.reason }))
    ) {
      release()
      return this.#keepOut(pass, guardStatus.noLongerWaits)
    }
    if (peer === undefined) return this.#run(release)
    const there = this.#world.machineOf(new URL(peer.uri).hostname)
    this.#world.scheduler.after(this.#process.random.between(50, 300), boot, () => {
      if (there?.answersAs(peer.hostUuid) && this.#world.network.both(this.machine, there))
        return this.#run(release, true)
      release()
      this.#keepOut(pass, guardStatus.otherPeer)
    })
  }

  #keepOut(pass: Pass, status: number): void {
    this.#world.tell(() => `${this.machine.name}: ${guardText(status, this.machine, pass, this.#process.pid)}`)
    this.#reply(status, 'havirt guard')
  }

  #run(release: () => void, asked = false): void {
    const { argv, stdin } = this.#errand
    const { machine } = this
    const { random } = this.#process
    const end = (status: number, stderr = '', stdout = '') => {
      release()
      this.#reply(status, stderr, stdout)
    }
    if (argv[2] === LEASES_SCRIPT) return end(0, '', leasesText(machine, argv.slice(4)))
    if (argv[0] !== 'virsh') return end(0)
    const cause = asked ? { ...this.#process.cause, asked } : this.#process.cause
    const words = argv.slice(3)
    this.#world.carryOut(this.#process, { machine, words, stdin, cause, random }, end)
  }

  #reply(status: number, stderr = '', stdout = ''): void {
    const { network } = this.#world
    network.send(this.machine, this.#process.host, this.#process.random, () =>
      this.#process.after(0, () => this.#end(status, stderr, stdout)),
    )
  }

  #end(status: number | undefined, stderr: string, stdout = '', timedOut = false): void {
    if (this.#ended) return
    this.#ended = true
    this.#world.channels.delete(this)
    this.#world.scheduler.cancel(this.#deadline)
    this.#settle({ status, signal: undefined, stdout, stderr, timedOut })
  }
}

/** What the guard says of a command that it does not let pass. */
function guardText(status: number, machine: Machine, { uuid, generation }: Pass, pid: number): string {
  const why =
    status === guardStatus.displaced
      ? `its generation is ${generation}, and ${machine.guard.generation(uuid)} is recorded here`
      : status === guardStatus.locked
        ? 'another command still runs'
        : status === guardStatus.otherPeer
          ? 'its way to the target leads to nobody, or somewhere else'
          : status === guardStatus.noLongerWaits
            ? 'the domain waits here no longer'
            : 'it is meant for another machine'
  return `the guard keeps out a command of pid ${pid}: ${why}`
}

/** An order of the pipeline as an errand. */
export function errandOf({ command, stdin, timeoutMs }: Order, pass?: Pass): Errand {
  return { argv: command.argv, stdin: stdin ?? '', timeoutMs, ...(pass === undefined ? {} : { pass }) }
}
