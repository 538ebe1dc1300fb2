/** cluster.yaml of a scenario: what the simulated cluster is made of. test/scenarios/README.md explains it. */
import { parse, stringify } from 'yaml'
import type { LeaseSetting } from './sanlock.ts'
import type { DiskSpec } from './texts.ts'
import type { DomainSpec, Setting } from './world.ts'

/** A setting, and the seed that all chance is drawn from. */
export interface ClusterFile {
  readonly seed: number
  readonly setting: Setting
}

interface DomainEntry {
  readonly disk: string
  readonly uuid?: string
  readonly memoryMiB?: number
  readonly runs?: string
  readonly defined?: string
  readonly autostart?: boolean
}

interface Entries {
  readonly seed?: number
  readonly nodes: number
  readonly domains: Readonly<Record<string, DomainEntry>>
  readonly lateness?: number
  /** What wall clocks are ahead of true time, in seconds. */
  readonly clocks?: Readonly<Record<string, number>>
  readonly leases?: LeaseEntry
}

/** Leases are on. */
interface LeaseEntry {
  readonly passUnreachable?: boolean
  readonly passWithoutWatchdog?: boolean
  readonly noWatchdog?: readonly string[]
}

/** Reads the file. What it does not say is: seed 1, no late commands, clocks that agree, uuids in order. */
export function parseCluster(text: string): ClusterFile {
  const { seed = 1, nodes, domains, lateness = 0, clocks = {}, leases } = parse(text) as Entries
  const specs = Object.entries(domains).map(([name, entry], at) => domainOf(name, entry, at))
  const clocksMs = Object.entries(clocks).map(([host, seconds]) => [host, Math.round(seconds * 1000)] as const)
  const on = leases === undefined ? {} : { leases: leasesOf(leases) }
  return { seed, setting: { nodes, domains: specs, lateness, clocks: Object.fromEntries(clocksMs), ...on } }
}

/** The inverse of {@link parseCluster}. */
export function printCluster({ seed, setting: { nodes, domains, lateness, clocks, leases } }: ClusterFile): string {
  const entries: Entries = {
    ...(seed === 1 ? {} : { seed }),
    nodes,
    domains: Object.fromEntries(domains.map((spec, at) => [spec.name, entryOf(spec, at)])),
    ...(lateness === 0 ? {} : { lateness }),
    ...(Object.keys(clocks).length === 0
      ? {}
      : { clocks: Object.fromEntries(Object.entries(clocks).map(([host, ms]) => [host, ms / 1000])) }),
    ...(leases === undefined ? {} : { leases: leaseEntryOf(leases) }),
  }
  return stringify(entries)
}

function leasesOf({ passUnreachable = false, passWithoutWatchdog = false, noWatchdog = [] }: LeaseEntry): LeaseSetting {
  return { passUnreachable, passWithoutWatchdog, noWatchdog: noWatchdog.map(indexOf) }
}

function leaseEntryOf({ passUnreachable, passWithoutWatchdog, noWatchdog }: LeaseSetting): LeaseEntry {
  return {
    passUnreachable,
    ...(passWithoutWatchdog ? { passWithoutWatchdog } : {}),
    ...(noWatchdog.length === 0 ? {} : { noWatchdog: noWatchdog.map(at => `node${at + 1}`) }),
  }
}

function domainOf(
  name: string,
  { disk, uuid, memoryMiB, runs, defined, autostart }: DomainEntry,
  at: number,
): DomainSpec {
  return {
    name,
    uuid: uuid ?? uuidOf(at),
    disk: diskOf(disk),
    ...(memoryMiB === undefined ? {} : { memoryMiB }),
    ...(runs === undefined ? {} : { runsOn: indexOf(runs) }),
    ...(defined === undefined ? {} : { definedOn: indexOf(defined) }),
    ...(autostart === undefined ? {} : { autostart }),
  }
}

function entryOf({ uuid, disk, memoryMiB, runsOn, definedOn, autostart }: DomainSpec, at: number): DomainEntry {
  return {
    disk: 'file' in disk ? disk.file : 'block' in disk ? disk.block : `rbd:${disk.rbd}`,
    ...(uuid === uuidOf(at) ? {} : { uuid }),
    ...(memoryMiB === undefined ? {} : { memoryMiB }),
    ...(runsOn === undefined ? {} : { runs: `node${runsOn + 1}` }),
    ...(definedOn === undefined ? {} : { defined: `node${definedOn + 1}` }),
    ...(autostart === undefined ? {} : { autostart }),
  }
}

function uuidOf(at: number): string {
  return `3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a${String(at + 1).padStart(2, '0')}`
}

function diskOf(text: string): DiskSpec {
  if (text.startsWith('rbd:')) return { rbd: text.slice(4) }
  return text.startsWith('/dev/') ? { block: text } : { file: text }
}

function indexOf(node: string): number {
  return Number(node.replace(/^node/, '')) - 1
}
