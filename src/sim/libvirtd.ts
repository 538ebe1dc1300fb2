/** What virsh's verbs do on a machine: time passes, QEMUs change, and an end is told to whoever still listens. */

import type { Random } from '../core/random.ts'
import { type Call, DISCONNECTED, type Machine } from './machine.ts'
import { MigrationJob } from './migration-job.ts'
import { type Cause, type Defined, pausedReason, type Qemu, runningReason } from './qemu.ts'
import { definitionOf } from './texts.ts'
import type { World } from './world.ts'

/** One virsh. */
export interface Virsh {
  readonly machine: Machine
  /** Verb and arguments, without `virsh -c URI`. */
  readonly words: readonly string[]
  readonly stdin: string
  readonly cause: Cause
  readonly random: Random
}

type Verb = (libvirt: Libvirt, virsh: Virsh, call: Call) => void

const NO_DOMAIN = 'error: failed to get domain'
const NOT_RUNNING = 'error: Requested operation is not valid: domain is not running'
const ACTIVE = 'error: operation failed: domain is already active'

export class Libvirt {
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  /** Runs one virsh; `end` hears its exit status and its words. */
  virsh(virsh: Virsh, end: Call['end']): void {
    const verb = VERBS[virsh.words[0] ?? '']
    if (verb === undefined) return end(1, `error: unknown command: '${virsh.words[0]}'`)
    virsh.machine.call(end, call => verb(this, virsh, call))
  }

  /** A domain set to autostart, when its machine has booted. */
  autostart(machine: Machine, defined: Defined): void {
    if (machine.qemu(defined.uuid) !== undefined) return
    const cause = { ...defined.cause, decidedMs: this.#world.scheduler.nowMs }
    this.#boot(machine, defined.xml, cause, 100)
  }

  /** virsh create. */
  create({ machine, stdin, cause, random }: Virsh, call: Call): void {
    const { uuid, name } = definitionOf(stdin)
    const clash = [...machine.defined.values()].find(each => (each.name === name) !== (each.uuid === uuid))
    // Before there is a QEMU, hooks run and disks are labelled.
    const [least, most] = random.chance(0.15) ? [300, 5000] : [10, 80]
    this.#later(machine, random, least, most, () => {
      if (machine.qemu(uuid) !== undefined) return call.end(1, ACTIVE)
      if (clash !== undefined) return call.end(1, 'error: operation failed: domain already exists with another uuid')
      this.#boot(machine, stdin, cause, random.between(50, 1500), call)
    })
  }

  /** virsh start, of what is defined there; a saved image is restored. */
  start(virsh: Virsh, call: Call): void {
    const { machine, cause, random } = virsh
    const defined = this.#defined(virsh)
    if (defined === undefined) return call.end(1, NO_DOMAIN)
    this.#later(machine, random, 10, 80, () => {
      if (machine.qemu(defined.uuid) !== undefined) return call.end(1, ACTIVE)
      defined.managedSave = false
      this.#boot(machine, defined.xml, cause, random.between(50, 1500), call)
    })
  }

  #boot(machine: Machine, xml: string, cause: Cause, delayMs: number, call?: Call): void {
    const qemu = machine.spawn(xml, cause)
    this.#world.scheduler.after(delayMs, machine.daemon, () => {
      const refusal = machine.go(qemu, runningReason.booted, cause)
      if (refusal !== undefined) machine.end(qemu)
      call?.end(refusal === undefined ? 0 : 1, refusal)
    })
  }

  /** virsh shutdown: the guest is asked, and may not listen. */
  shutdown(virsh: Virsh, call: Call): void {
    this.#onActive(virsh, call, qemu => {
      const { machine, random } = virsh
      if (random.chance(0.93))
        this.#world.scheduler.after(random.between(100, 2500), machine.boot, () => {
          if (qemu.state === 'running') machine.end(qemu)
        })
      call.end(0)
    })
  }

  /** virsh destroy. */
  destroy(virsh: Virsh, call: Call): void {
    this.#onActive(virsh, call, qemu => {
      virsh.machine.end(qemu)
      call.end(0)
    })
  }

  /** virsh suspend. */
  suspend(virsh: Virsh, call: Call): void {
    this.#onActive(virsh, call, qemu => {
      if (qemu.state !== 'running') return call.end(1, 'error: Requested operation is not valid: domain is not running')
      virsh.machine.pause(qemu, pausedReason.user)
      call.end(0)
    })
  }

  /** virsh resume: refused while a migration has the domain. */
  resume(virsh: Virsh, call: Call): void {
    this.#onActive(virsh, call, qemu => {
      if (virsh.machine.jobs.has(qemu.uuid) || qemu.incoming)
        return call.end(1, 'error: Timed out during operation: cannot acquire state change lock')
      const { machine, cause } = virsh
      const refusal = qemu.state === 'running' ? undefined : machine.go(qemu, runningReason.unpaused, cause)
      call.end(refusal === undefined ? 0 : 1, refusal)
    })
  }

  /** virsh managedsave. */
  managedsave(virsh: Virsh, call: Call): void {
    const { machine, cause } = virsh
    this.#onActive(virsh, call, qemu => {
      const defined = machine.defined.get(qemu.uuid)
      if (defined === undefined || machine.jobs.has(qemu.uuid) || qemu.state !== 'running')
        return call.end(1, 'error: Requested operation is not valid: cannot do managed save for transient domain')
      defined.managedSave = true
      defined.savedMs = this.#world.scheduler.nowMs
      defined.cause = cause
      machine.end(qemu)
      call.end(0)
    })
  }

  /** virsh define, of the text on standard input. */
  define({ machine, stdin, cause }: Virsh, call: Call): void {
    const domain = definitionOf(stdin)
    const { name, uuid } = domain
    const before = machine.defined.get(uuid)
    const kept = {
      autostart: before?.autostart ?? false,
      managedSave: before?.managedSave ?? false,
      savedMs: before?.savedMs ?? 0,
    }
    machine.defined.set(uuid, { name, uuid, domain, xml: stdin, ...kept, cause })
    machine.changed({ name, uuid })
    call.end(0)
  }

  /** virsh autostart. */
  setAutostart(virsh: Virsh, call: Call): void {
    const defined = this.#defined(virsh)
    if (defined === undefined) return call.end(1, NO_DOMAIN)
    defined.autostart = !virsh.words.includes('--disable')
    defined.cause = virsh.cause
    virsh.machine.changed(defined)
    call.end(0)
  }

  /** virsh undefine. */
  undefine(virsh: Virsh, call: Call): void {
    const defined = this.#defined(virsh)
    if (defined === undefined) return call.end(1, NO_DOMAIN)
    virsh.machine.defined.delete(defined.uuid)
    virsh.machine.changed(defined)
    call.end(0)
  }

  /** virsh dumpxml. */
  dumpxml(virsh: Virsh, call: Call): void {
    const text = this.#defined(virsh)?.xml ?? this.#qemu(virsh)?.xml
    if (text === undefined) return call.end(1, NO_DOMAIN)
    call.end(0, '', text)
  }

  /** virsh migrate --p2p. */
  migrate(virsh: Virsh, call: Call): void {
    const { machine, words, random, cause } = virsh
    const { hostname } = new URL(words.at(-1) ?? '')
    const target = this.#world.machineOf(hostname)
    const qemu = machine.qemu(words.at(-2) ?? '') ?? this.#qemu(virsh)
    if (qemu === undefined) return call.end(1, NO_DOMAIN)
    if (machine.jobs.has(qemu.uuid) || qemu.state !== 'running')
      return call.end(1, 'error: Requested operation is not valid: domain is not running')
    const wish = {
      persistent: words.includes('--persistent'),
      undefineSource: words.includes('--undefinesource'),
      postCopy: words.includes('--postcopy'),
    }
    if (target === undefined || target === machine) return call.end(1, 'error: unable to resolve the target')
    const misled = target.name === hostname ? {} : { misled: true as const }
    new MigrationJob(machine, target, qemu, wish, random, { ...cause, ...misled }, call)
  }

  /** virsh domjobabort. */
  abort(virsh: Virsh, call: Call): void {
    const qemu = this.#qemu(virsh)
    const aborted = qemu !== undefined && virsh.machine.jobs.get(qemu.uuid)?.abort() === true
    call.end(aborted ? 0 : 1, aborted ? '' : 'error: Requested operation is not valid: no job is active on the domain')
  }

  /** A verb that changes nothing here: the domain must run. */
  nothing(virsh: Virsh, call: Call): void {
    this.#onActive(virsh, call, () => call.end(0))
  }

  #onActive(virsh: Virsh, call: Call, work: (qemu: Qemu) => void): void {
    this.#later(virsh.machine, virsh.random, 5, 60, () => {
      const qemu = this.#qemu(virsh)
      if (qemu === undefined) call.end(1, this.#defined(virsh) === undefined ? NO_DOMAIN : NOT_RUNNING)
      else work(qemu)
    })
  }

  #later(machine: Machine, random: Random, leastMs: number, mostMs: number, work: () => void): void {
    this.#world.scheduler.after(random.between(leastMs, mostMs), machine.daemon, work)
  }

  #qemu({ machine, words }: Virsh): Qemu | undefined {
    return machine.qemus.find(each => each.listed && (words.includes(each.uuid) || words.includes(each.name)))
  }

  #defined({ machine, words }: Virsh): Defined | undefined {
    return [...machine.defined.values()].find(each => words.includes(each.uuid) || words.includes(each.name))
  }
}

const VERBS: Readonly<Record<string, Verb>> = {
  create: (libvirt, virsh, call) => libvirt.create(virsh, call),
  start: (libvirt, virsh, call) => libvirt.start(virsh, call),
  shutdown: (libvirt, virsh, call) => libvirt.shutdown(virsh, call),
  destroy: (libvirt, virsh, call) => libvirt.destroy(virsh, call),
  suspend: (libvirt, virsh, call) => libvirt.suspend(virsh, call),
  resume: (libvirt, virsh, call) => libvirt.resume(virsh, call),
  managedsave: (libvirt, virsh, call) => libvirt.managedsave(virsh, call),
  define: (libvirt, virsh, call) => libvirt.define(virsh, call),
  autostart: (libvirt, virsh, call) => libvirt.setAutostart(virsh, call),
  undefine: (libvirt, virsh, call) => libvirt.undefine(virsh, call),
  dumpxml: (libvirt, virsh, call) => libvirt.dumpxml(virsh, call),
  migrate: (libvirt, virsh, call) => libvirt.migrate(virsh, call),
  domjobabort: (libvirt, virsh, call) => libvirt.abort(virsh, call),
  reboot: (libvirt, virsh, call) => libvirt.nothing(virsh, call),
  reset: (libvirt, virsh, call) => libvirt.nothing(virsh, call),
  'migrate-setmaxdowntime': (libvirt, virsh, call) => libvirt.nothing(virsh, call),
}

/** What virsh says when somebody kills it: nothing; its libvirtd goes on. */
export function killVirsh(machine: Machine): void {
  for (const call of [...machine.calls]) call.end(137, '')
}

export { DISCONNECTED }
