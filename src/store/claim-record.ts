/** What the store holds of a claim: its record, the pointers to it, and how both are written. */
import type { Identity } from '../core/cluster.ts'
import { diskIdentity } from '../core/domain-xml.ts'
import type { Verdict } from '../core/migration.ts'
import { arrivalOf, type Step } from '../core/step.ts'
import { keySegment } from './key.ts'
import type { Owner } from './owner.ts'
import { type Key, StoreError } from './store.ts'

/** A command that was sent and whose end nobody saw (rule 12). It stays until its node's guard has been raised above it. */
export interface Doubt {
  readonly node: string
  readonly generation: number
  readonly command: string
  readonly since: string
  /** What the command was for, so that whoever comes next can tell what became of it. */
  readonly step?: Step
  /** The steps that were to follow, in words: what an interrupted holder left undone. */
  readonly notBegun?: readonly string[]
  /** Of a migration: what was found out about its ends before they were put right. Whoever goes on with that needs it. */
  readonly judged?: Verdict
  /** Its node is confirmed down: nothing runs there, but the guard is still to be raised when it comes back. */
  readonly parked?: true
}

/** A claim as the store holds it. */
export interface ClaimRecord {
  readonly state: 'held' | 'released'
  /** Grows with every new holder, and whenever one lost sight of a command. The guard on the node lets no lower one pass. */
  readonly generation: number
  /** This one holding: two holdings never have the same. */
  readonly token: string
  /** Grows with every renewal and step, so that a watcher sees life. */
  readonly beat: number
  readonly ttlMs: number
  readonly domain: string
  readonly uuid: string
  readonly node?: string
  readonly verb: string
  readonly since: string
  readonly owner: Owner
  readonly doubts: readonly Doubt[]
}

/** A key that belongs to a claim: `claims/name/web` says by which record it is held. */
export interface Pointer {
  readonly claim: Key
  readonly token: string
  /** Of a disk: the keys of its other names, as nodes once showed them. Whoever claims it by one name claims it by all. */
  readonly also?: readonly Key[]
}

/** Below this, one record for each domain that was ever claimed, by uuid. */
export const CLAIMS = 'claims/uuid'

/** "root@node2 (pid 4711)": who holds a claim, for people. */
export function ownerText({ owner, node }: Pick<ClaimRecord, 'owner' | 'node'>): string {
  return `${owner.user}@${node ?? owner.host} (pid ${owner.pid})`
}

/** True while a command under the claim may still be carried out somewhere. */
export function isInDoubt({ doubts }: ClaimRecord): boolean {
  return doubts.some(({ parked }) => parked !== true)
}

/** True when a command in doubt may still bring the domain to the node. */
export function arrivesLate({ doubts }: ClaimRecord, node: string): boolean {
  return doubts.some(({ step }) => step !== undefined && arrivalOf(step) === node)
}

/** The keys of the name and of each disk that has an identity, in sorted order, so that one of two rivals wins. */
export function pointerKeys(identity: Identity): Key[] {
  const disks = identity.disks.flatMap(disk => diskIdentity(disk.source) ?? [])
  return [`claims/name/${keySegment(identity.name)}`, ...disks.map(diskKey)].sort()
}

/** The key of a disk by one of its names. */
export function diskKey(name: string): Key {
  return `claims/disk/${keySegment(name)}`
}

/** JSON, which is YAML too, one field a line: claims change with every step, and are read by many who wait. */
export function toText(record: ClaimRecord | Pointer): string {
  return `${JSON.stringify(record, undefined, 1)}\n`
}

/** Throws {@link StoreError} for what is no claim. Nobody changes what it gives: the same text gives the same record. */
export function toRecord(key: Key, text: string): ClaimRecord {
  const known = lately.get(text)
  if (known !== undefined) return known
  const record = readRecord(key, text)
  if (lately.size >= LATELY) lately.clear()
  lately.set(text, record)
  return record
}

/** A record is read several times on its way through one command, and by everybody who waits for it. */
const lately = new Map<string, ClaimRecord>()
const LATELY = 100

function readRecord(key: Key, text: string): ClaimRecord {
  const value = parsed(key, text)
  const { state, owner, doubts } = value
  const known = state === 'held' || state === 'released'
  const whole =
    hasCounts(value, 'generation', 'beat', 'ttlMs') &&
    value['ttlMs'] !== 0 &&
    hasTexts(value, 'token', 'domain', 'uuid', 'verb', 'since')
  if (!known || !whole || !isOwner(owner) || !Array.isArray(doubts) || !doubts.every(isDoubt)) throw unreadable(key)
  return value as unknown as ClaimRecord
}

function isOwner(value: unknown): boolean {
  return (
    isObject(value) && hasCounts(value, 'pid') && hasTexts(value, 'host', 'user', 'bootId', 'pidNamespace', 'startTime')
  )
}

function isDoubt(value: unknown): boolean {
  if (!isObject(value)) return false
  const { step = {}, notBegun = [] } = value
  const whole = hasCounts(value, 'generation') && hasTexts(value, 'node', 'command', 'since')
  return whole && isObject(step) && Array.isArray(notBegun) && notBegun.every(text => typeof text === 'string')
}

function hasCounts(value: Record<string, unknown>, ...fields: readonly string[]): boolean {
  return fields.every(field => Number.isSafeInteger(value[field]) && Number(value[field]) >= 0)
}

function hasTexts(value: Record<string, unknown>, ...fields: readonly string[]): boolean {
  return fields.every(field => typeof value[field] === 'string')
}

export function toPointer(key: Key, text: string): Pointer {
  const value = parsed(key, text)
  const { also = [] } = value
  const areKeys = Array.isArray(also) && also.every(each => typeof each === 'string' && each.startsWith('claims/disk/'))
  if (!hasTexts(value, 'claim', 'token') || !areKeys) throw unreadable(key)
  return value as unknown as Pointer
}

function parsed(key: Key, text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw unreadable(key)
  }
  if (!isObject(value)) throw unreadable(key)
  return value
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unreadable(key: Key): StoreError {
  return new StoreError(
    `the claim var/${key} cannot be read`,
    'it may be of a newer havirt; do not remove it while anything runs under it',
  )
}
