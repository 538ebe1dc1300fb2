/**
 * A live migration as libvirtd does it peer to peer, whether or not the virsh that asked for it still lives: the target prepares
 * a QEMU that waits, memory is copied, the source is paused, the target is told to run, the source is told that it did.
 * The source stands still before the target may run, so that there is one writer at every moment, whatever breaks.
 */

import type { Random } from '../core/random.ts'
import type { Call, Machine } from './machine.ts'
import { type Cause, pausedReason, type Qemu, runningReason } from './qemu.ts'

const KEEPALIVE_MS = 30_000
const LOST = 'error: operation failed: Lost connection to destination host'

export interface MigrationWish {
  readonly persistent: boolean
  readonly undefineSource: boolean
  readonly postCopy: boolean
}

export class MigrationJob {
  phase: 'prepare' | 'copy' | 'switch' | 'ran' | 'post-copy' | 'over' = 'prepare'
  readonly #source: Machine
  readonly #target: Machine
  readonly #qemu: Qemu
  readonly #wish: MigrationWish
  readonly #random: Random
  readonly #cause: Cause
  readonly #call: Call
  #incoming: Qemu | undefined
  #finishSent = false
  /** The target has seen the end of the connection. */
  #closed = false

  constructor(
    source: Machine,
    target: Machine,
    qemu: Qemu,
    wish: MigrationWish,
    random: Random,
    cause: Cause,
    call: Call,
  ) {
    this.#source = source
    this.#target = target
    this.#qemu = qemu
    this.#wish = wish
    this.#random = random
    this.#cause = cause
    this.#call = call
    source.jobs.set(qemu.uuid, this)
    this.#onSource(random.between(30, 200), () => this.#prepare())
  }

  // --- What the source does

  #prepare(): void {
    if (!this.#connected()) return void this.#onSource(this.#random.between(4000, 15_000), () => this.#fail(LOST))
    if (this.#target.libvirtd === 'down') return this.#fail('error: failed to connect to the hypervisor')
    if (this.#target.qemu(this.#qemu.uuid) !== undefined)
      return this.#fail(`error: operation failed: domain is already active`)
    this.#incoming = this.#target.spawn(this.#qemu.xml, this.#cause, this.#qemu)
    this.phase = 'copy'
    const copying = this.#random.chance(0.05) ? this.#random.between(5000, 25_000) : this.#random.between(200, 2500)
    this.#onSource(copying, () => this.#copied(this.#source.world.scheduler.nowMs))
  }

  #copied(sinceMs: number): void {
    if (this.phase !== 'copy') return
    const { world } = this.#source
    if (this.#incoming?.ended !== false)
      return this.#fail('error: operation failed: migration out job: unexpectedly failed')
    if (this.#connected()) return this.#wish.postCopy ? this.#postCopy() : this.#switch()
    if (world.scheduler.nowMs - sinceMs > KEEPALIVE_MS) return this.#fail(LOST)
    this.#onSource(1000, () => this.#copied(sinceMs))
  }

  #switch(): void {
    this.phase = 'switch'
    this.#source.pause(this.#qemu, pausedReason.migration)
    this.#onSource(this.#random.between(5, 150), () => this.#sendFinish())
    this.#onSource(KEEPALIVE_MS, () => this.#lost())
  }

  #sendFinish(): void {
    const { world } = this.#source
    this.#finishSent = true
    world.network.send(this.#source, this.#target, this.#random, () =>
      world.scheduler.after(this.#random.between(1, 60), this.#target.boot, () => this.#finish()),
    )
  }

  /** The source was told that the target runs. */
  #confirm(): void {
    if (this.phase === 'over') return
    this.#over()
    this.#source.end(this.#qemu)
    const left = this.#source.defined.get(this.#qemu.uuid)
    if (this.#wish.undefineSource) this.#source.defined.delete(this.#qemu.uuid)
    // What a person leaves behind may start there again by itself.
    else if (left !== undefined && this.#cause.person) left.cause = this.#cause
    this.#source.changed(this.#qemu)
    this.#call.end(0)
  }

  /** The target said that it could not run it. */
  #refused(): void {
    if (this.phase !== 'switch') return
    this.#over()
    this.#source.go(this.#qemu, runningReason.unpaused, this.#qemu.cause)
    this.#call.end(1, 'error: operation failed: the target could not run the domain')
  }

  /** Nobody knows whether the target runs: the source stays paused. */
  #lost(): void {
    if (this.phase !== 'switch' && this.phase !== 'ran') return
    this.#over()
    this.#dropIncoming()
    this.#call.end(1, LOST)
  }

  #fail(text: string): void {
    if (this.phase === 'over') return
    this.#over()
    this.#dropIncoming()
    this.#call.end(1, text)
  }

  #over(): void {
    this.phase = 'over'
    if (this.#source.jobs.get(this.#qemu.uuid) === this) this.#source.jobs.delete(this.#qemu.uuid)
  }

  // --- Post-copy

  #postCopy(): void {
    this.phase = 'post-copy'
    this.#source.pause(this.#qemu, pausedReason.postCopy)
    const refusal =
      this.#incoming === undefined ? undefined : this.#target.go(this.#incoming, runningReason.postCopy, this.#cause)
    if (refusal !== undefined) return this.#breakPostCopy()
    this.#keepDefinition()
    this.#onSource(this.#random.between(300, 4000), () => this.#postCopied())
  }

  #postCopied(): void {
    if (this.phase !== 'post-copy') return
    if (!this.#connected() || this.#incoming?.ended !== false) return this.#breakPostCopy()
    this.#target.go(this.#incoming, runningReason.migrated, this.#cause)
    this.#confirm()
  }

  #breakPostCopy(): void {
    this.#over()
    if (this.#incoming !== undefined) this.#target.pause(this.#incoming, pausedReason.postCopyFailed)
    this.#source.pause(this.#qemu, pausedReason.postCopyFailed)
    this.#call.end(1, LOST)
  }

  // --- What the target does

  #finish(): void {
    const incoming = this.#incoming
    if (incoming === undefined || this.#closed || this.#target.libvirtd === 'hung') return
    const { world } = this.#source
    const refused = () =>
      world.network.send(this.#target, this.#source, this.#random, () => this.#answer(() => this.#refused()))
    if (incoming.ended || this.#target.libvirtd === 'down') return refused()
    const before = this.phase
    if (before === 'switch') this.phase = 'ran'
    if (this.#target.go(incoming, runningReason.migrated, this.#cause) !== undefined) {
      if (this.phase === 'ran') this.phase = before
      this.#target.end(incoming)
      return refused()
    }
    this.#keepDefinition()
    world.network.send(this.#target, this.#source, this.#random, () => this.#answer(() => this.#confirm()))
  }

  #keepDefinition(): void {
    const { domain, name, uuid, xml } = this.#qemu
    if (!this.#wish.persistent) return
    const before = this.#target.defined.get(uuid)
    const kept = {
      autostart: before?.autostart ?? false,
      managedSave: before?.managedSave ?? false,
      savedMs: before?.savedMs ?? 0,
    }
    // Who set it to autostart there answers for what that starts.
    const cause = before?.autostart === true ? before.cause : this.#cause
    this.#target.defined.set(uuid, { name, uuid, domain, xml, ...kept, cause })
    this.#target.changed(this.#qemu)
  }

  #answer(hear: () => void): void {
    this.#onSource(0, hear)
  }

  /** The target destroys what waits there once it sees the connection end; where the cable is cut, later. */
  #dropIncoming(): void {
    const { world } = this.#source
    const drop = () => {
      if (this.#finishSent && !this.#closed && this.#incoming?.incoming !== true) return
      this.#closed = true
      if (this.#incoming?.incoming === true) this.#target.end(this.#incoming)
    }
    const seen = this.#connected() && this.#source.powered
    const delayMs = seen ? this.#random.between(5, 300) : this.#random.between(20_000, KEEPALIVE_MS)
    world.scheduler.after(delayMs, this.#target.boot, drop)
  }

  // --- What happens to it

  /** `virsh domjobabort`: true when it ended the job. */
  abort(): boolean {
    if (this.phase !== 'prepare' && this.phase !== 'copy') return false
    this.#fail('error: operation aborted: migration out job: canceled by client')
    return true
  }

  /** The source's libvirtd ended. Before the hand-over it cancels; after that it cannot know, and leaves the source paused. */
  sourceDaemonGone(): void {
    const { phase } = this
    this.#over()
    if (phase === 'prepare' || phase === 'copy' || (phase === 'switch' && !this.#finishSent)) this.#dropIncoming()
  }

  /** The source machine is gone. */
  sourceGone(): void {
    const { phase } = this
    this.#over()
    if (phase === 'post-copy' && this.#incoming !== undefined)
      this.#target.pause(this.#incoming, pausedReason.postCopyFailed)
    else this.#dropIncoming()
  }

  /** The source QEMU ended by somebody else's hand. */
  sourceEnded(): void {
    if (this.phase === 'prepare' || this.phase === 'copy') this.#fail('error: operation failed: domain is not running')
    if (this.phase === 'post-copy') this.#breakPostCopy()
  }

  #connected(): boolean {
    const { network } = this.#source.world
    return this.#target.works && network.both(this.#source, this.#target)
  }

  #onSource(delayMs: number, work: () => void): void {
    this.#source.world.scheduler.after(delayMs, this.#source.daemon, work)
  }
}
