/** QEMU processes: what really runs, and writes. They exist whether libvirtd knows of them or not. */
import type { Domain } from '../core/domain.ts'
import type { DomainState } from '../core/node.ts'
import type { Machine } from './machine.ts'

/** On whose behalf something happens to a QEMU. */
export interface Cause {
  /** A person's plain virsh, or what it left behind. */
  readonly person: boolean
  /** When the command began that decided it: a person's act after that could not be seen by it. */
  readonly decidedMs: number
  /** The run of havirt, by its number. */
  readonly run?: number
  /** The guard asked where its target's name leads; what becomes of the name after that, nobody can see. */
  readonly asked?: true
  /** When virsh connected, the name of its target led to another machine. */
  readonly misled?: true
}

/** virDomainPausedReason, as far as it matters. */
export const pausedReason = { user: 1, migration: 2, startingUp: 11, postCopy: 12, postCopyFailed: 13 } as const
/** virDomainRunningReason. */
export const runningReason = { booted: 1, migrated: 2, restored: 3, unpaused: 5, postCopy: 10 } as const

/** One QEMU process. */
export interface Qemu {
  readonly pid: number
  readonly name: string
  readonly uuid: string
  readonly domain: Domain
  readonly xml: string
  /** True identities of the disks that only one may write. */
  readonly disks: readonly string[]
  readonly machine: Machine
  state: Extract<DomainState, 'running' | 'paused'>
  reason: number
  /** libvirtd knows it. */
  listed: boolean
  /** It waits for a migration to come in and has never run. */
  incoming: boolean
  ended: boolean
  cause: Cause
  /** Who started what was moved here since. */
  readonly first: Cause
  /** When that was started. */
  readonly firstBornMs: number
  /** The machines that it was on before. */
  readonly before: readonly Machine[]
  readonly bornMs: number
  /** Since when it is in its state. */
  sinceMs: number
}

/** True when it may write its disks now. */
export function writes(qemu: Qemu): boolean {
  return !qemu.ended && qemu.state === 'running' && qemu.machine.powered && !qemu.machine.frozen
}

/** True when libvirt there would restore or start it by itself or on a person's word: a definition kept on a node. */
export interface Defined {
  readonly name: string
  readonly uuid: string
  readonly domain: Domain
  readonly xml: string
  autostart: boolean
  managedSave: boolean
  /** Since when there is a saved image. */
  savedMs: number
  /** Who set it so. */
  cause: Cause
}
