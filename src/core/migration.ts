/** What has become of a migration that broke or was interrupted: the table of docs/safety.md, as a pure function. */
import { type DomainState, isMigrationEnd, isPostCopy, pausedReason } from './node.ts'

/** One end of a migration as its node shows it; `absent` also when the node knows the domain only as shut off. */
export type End = { readonly state: DomainState; readonly stateReason: number } | 'absent'

/** What the two ends say, and so what may be done. */
export type Verdict =
  /** It runs on the target, and the source has let go. */
  | 'moved'
  /** It runs on the source; the target has nothing. */
  | 'stayed'
  /** It runs on the source; what waits on the target never ran and must go. */
  | 'destroyTarget'
  /** Both wait and the target never ran: the target goes, the source runs on. */
  | 'destroyTargetResumeSource'
  /** It runs on the target, and the source still holds a paused copy that must never run again. */
  | 'destroySource'
  /** Neither has it: it ended while it moved. */
  | 'off'
  /** It runs on both. Nobody touches anything. */
  | 'twice'
  /** Nobody can say which copy is the right one. Nobody touches anything. */
  | 'unclear'

/** The verdict on the two ends, once no job is under way. Safety rule table "Broken or interrupted migration". */
export function judgeMigration(source: End, target: End): Verdict {
  if (source === 'absent' && target === 'absent') return 'off'
  if (brokenInPostCopy(source) || brokenInPostCopy(target)) return 'unclear'
  if (isRunning(target)) return afterTargetRan(source)
  if (isRunning(source)) return waitsUnrun(target) ? 'destroyTarget' : target === 'absent' ? 'stayed' : 'unclear'
  return pausedForIt(source) && waitsUnrun(target) ? 'destroyTargetResumeSource' : 'unclear'
}

/** True when the source may run on after what waited on the target is gone: it is paused for this migration, and alone. */
export function mayResume(source: End, target: End): boolean {
  return target === 'absent' && pausedForIt(source)
}

function afterTargetRan(source: End): Verdict {
  if (source === 'absent') return 'moved'
  if (isRunning(source)) return 'twice'
  return pausedForIt(source) ? 'destroySource' : 'unclear'
}

function isRunning(end: End): boolean {
  return end !== 'absent' && (end.state === 'running' || end.state === 'blocked' || end.state === 'shutdown')
}

function pausedForIt(end: End): boolean {
  return end !== 'absent' && end.state === 'paused' && end.stateReason === pausedReason.migration
}

function waitsUnrun(end: End): boolean {
  return end !== 'absent' && isMigrationEnd(end)
}

function brokenInPostCopy(end: End): boolean {
  return end !== 'absent' && isPostCopy(end)
}
