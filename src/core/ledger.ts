/**
 * A node's ledger: what people and commands have written down about it beside what it is. One compare-and-swapped record a
 * node (rule 8), so that two who write at once cannot both have the last room, nor start something on a node that is being emptied.
 */

/** Who wrote something down, and why: for people. */
export interface Mark {
  readonly by: string
  /** ISO 8601, by the clock of whoever wrote it; never compared. */
  readonly since: string
  readonly reason?: string
}

/** A node that somebody vouches is off (docs/safety.md, "Confirmed down"). It lapses when the node answers. */
export interface Down extends Mark {
  /** `fence`: its fence device said off, and is asked again before anything relies on it; `word`: a person typed the node's name. */
  readonly how: 'fence' | 'word'
  /** It has answered since, so nothing may rely on this any more; it stays until what runs there is known to run nowhere else. */
  readonly answered?: true
  /**
   * What the last scan saw set to autostart there: libvirt starts it as soon as the node has power again. Absent also where the
   * person who vouched took that upon themselves.
   */
  readonly autostarts?: readonly { readonly uuid: string; readonly domain: string }[]
}

/** Room that a command under a claim has taken on a node for a domain that is about to arrive there. */
export interface Reservation {
  /** The claim's token: the reservation holds as long as that claim does, or a command that was sent under it is in doubt. */
  readonly token: string
  /** The claim's generation when it reserved: a record of a later one tells that it is over, an earlier one only that a cache is old. */
  readonly generation: number
  readonly uuid: string
  readonly domain: string
  readonly memoryMiB: number
  readonly vcpus: number
  readonly by: string
}

/** A domain that a drain has taken, or is about to take, away from where it was. */
export interface Drained {
  readonly uuid: string
  readonly domain: string
  /** Where it was: the node that was to be empty, or another whose domains made room. */
  readonly from: string
  /** It was shut down, not moved. */
  readonly stopped?: true
}

/** What the last validation found wrong on the node. */
export interface Invalid extends Mark {
  /** The checks that failed, by their short names. */
  readonly checks: readonly string[]
}

/** A domain that was started elsewhere although this node did not answer, since sanlock counted it as dead. */
export interface Passed extends Mark {
  readonly uuid: string
  readonly domain: string
  /** Where it was started. */
  readonly to: string
  /** The host id that the silent node had, in whose name its leases were then. */
  readonly hostId: number
  /** Its leases by name, and how often each had been taken by then. */
  readonly taken: Readonly<Record<string, number>>
}

export interface Ledger {
  /** Nothing is started on the node or moved there. */
  readonly maintenance?: Mark
  /** What the last drain of the node took away, until it is back: for people who want it so, and no evidence of where it is now. */
  readonly drained?: readonly Drained[]
  readonly down?: Down
  /** Until the node answers and nothing is left there of them: before that it receives nothing. */
  readonly passed?: readonly Passed[]
  /** Absent once everything is as it should be. */
  readonly invalid?: Invalid
  readonly reservations: readonly Reservation[]
}

/** Nothing was written down. */
export const emptyLedger: Ledger = { reservations: [] }

/** `fenced by root@node1 (pid 7) since 2026-01-01T00:00:00Z (power supply burnt)`: for people. */
export function downText(down: Down): string {
  return `${down.how === 'fence' ? 'fenced' : 'confirmed'} ${markText(down)}`
}

/** `by root@node1 (pid 7) since 2026-01-01T00:00:00Z (new memory)`: for people. */
export function markText({ by, since, reason }: Mark): string {
  return `by ${by} since ${since.replace(/\.\d+Z$/, 'Z')}${reason === undefined ? '' : ` (${reason})`}`
}

/** What a list says of a node's ledger in one cell; empty when there is nothing to say. */
export function ledgerText({ down, maintenance }: Ledger): string {
  return [
    ...(down === undefined ? [] : [`down: ${downText(down)}`]),
    ...(maintenance === undefined ? [] : [`maintenance: ${markText(maintenance)}`]),
  ].join('; ')
}

/** The same as fields of a row, for programs: who, when, why, and how. Those of what was not written down are left out. */
export function ledgerFields({ down, maintenance }: Ledger): Readonly<Record<string, string>> {
  return {
    ...(down === undefined ? {} : { downHow: down.how, ...markFields('down', down) }),
    ...(maintenance === undefined ? {} : markFields('maintenance', maintenance)),
  }
}

function markFields(what: string, { by, since, reason }: Mark): Record<string, string> {
  return { [`${what}By`]: by, [`${what}Since`]: since, ...(reason === undefined ? {} : { [`${what}Reason`]: reason }) }
}
