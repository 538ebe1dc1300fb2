/** What was found of the domain on this node, and what that means to Pacemaker. */
import { type DomainState, isMigrationEnd, isPostCopy, pausedReason } from '../node.ts'
import { type OcfCode, ocf } from './exit.ts'

/** The domain as libvirt shows it while it is active. */
export interface ActiveDomain {
  readonly kind: 'active'
  readonly name: string
  readonly uuid: string
  readonly state: DomainState
  /** virDomainRunningReason and its like, by the state. */
  readonly stateReason: number
  /** Absent where libvirt did not say in time. */
  readonly vcpus?: number
  readonly maxMemoryMiB?: number
}

/** libvirt does not answer; what the machine's processes say instead. */
export interface Silence {
  readonly kind: 'silent'
  /** Why, as a sentence without its end. */
  readonly why: string
  /** False when no part of libvirt is there at all: no daemon, no client, no socket. */
  readonly installed: boolean
  /**
   * The process that runs the domain; undefined: certainly none. `unknown`: this hypervisor's processes cannot be told, or a libvirt that
   * took the question and did not answer it may be just about to start one.
   */
  readonly process: number | 'unknown' | undefined
}

/** `absent`: libvirt answered, and has no active domain of ours. */
export type Presence = ActiveDomain | { readonly kind: 'absent' } | Silence

/** True for a guest that stands still because its storage failed. */
export function isPausedByError({ state, stateReason }: ActiveDomain): boolean {
  return state === 'paused' && stateReason === pausedReason.ioError
}

/** True for either end of a live migration that waits for the other: its memory is not the whole truth. */
export function isPausedByMigration(domain: ActiveDomain): boolean {
  return isMigrationEnd(domain) || isPostCopy(domain)
}

/** True when no guest is there any more that could answer a shutdown. */
export function isBeyondShutdown({ state }: ActiveDomain): boolean {
  return state === 'paused' || state === 'crashed' || state === 'pmsuspended'
}

/** A code, and a sentence where the code needs one. */
export interface Finding {
  readonly code: OcfCode
  readonly sentence?: string
}

/** The caller of a monitor. */
export interface Asking {
  readonly recurring: boolean
  /** The definition could be read: what it says is sure to be the domain. */
  readonly configRead: boolean
  /** It knows OCF_DEGRADED. */
  readonly knowsDegraded: boolean
}

/** What a monitor answers to what was found, before it looks into the guest. */
export function findingOf(presence: Presence, name: string, asking: Asking): Finding {
  if (presence.kind === 'absent') return { code: ocf.notRunning }
  if (presence.kind === 'silent') return findingOfSilence(presence, name, asking)
  const { state } = presence
  if (state === 'crashed') return { code: ocf.generic, sentence: `${name} has crashed` }
  if (state === 'pmsuspended') return { code: ocf.generic, sentence: `the guest of ${name} has suspended itself` }
  if (!isPausedByError(presence)) return { code: ocf.success }
  const sentence = `${name} stands still since a disk failed (paused by an I/O error); when the disk is back: virsh resume ${name}`
  return { code: asking.recurring && asking.knowsDegraded ? ocf.degraded : ocf.success, sentence }
}

/** Never 5 while a process may be the domain: Pacemaker would start it elsewhere. */
function findingOfSilence({ why, installed, process }: Silence, name: string, { configRead }: Asking): Finding {
  if (process === 'unknown') return { code: ocf.generic, sentence: `whether ${name} runs is unknown: ${why}` }
  if (process !== undefined) {
    if (configRead) return { code: ocf.success, sentence: `${why}; ${name} runs all the same, as process ${process}` }
    return { code: ocf.generic, sentence: `${why}, and process ${process} seems to be ${name}` }
  }
  if (!installed) return { code: ocf.notInstalled, sentence: `${why}, and no process of ${name} runs here` }
  return { code: ocf.notRunning }
}
