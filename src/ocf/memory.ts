/**
 * What the agent remembers of its domain, in the run folder of this boot, as long as the domain does: by which name and uuid it was last
 * seen. So a stop still knows what to stop when the definition is gone.
 */
import { mkdirSync, readdirSync, readFileSync, unlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Call } from './call.ts'
import { replaceFile } from './files.ts'

export interface Memory {
  /** The path of the definition that it was found by. */
  readonly config: string
  readonly name: string
  /** Empty: not known yet. */
  readonly uuid: string
  /** What Pacemaker was last seen to know of its size, and by which state of the CIB; see utilization.ts. */
  readonly utilization?: { readonly cib: string; readonly values: string }
}

function fileOf({ runFolder, instance }: Call): string {
  return join(runFolder, 'havirt', `VirtualDomain-${encodeURIComponent(instance)}.json`)
}

/** Undefined when there is none, or none that can be read: then the domain is known by other means. */
export function recall(call: Call): Memory | undefined {
  return read(fileOf(call))
}

function read(file: string): Memory | undefined {
  try {
    const memory = JSON.parse(readFileSync(file, 'utf8')) as Partial<Memory>
    const { config, name, uuid } = memory
    return typeof config === 'string' && typeof name === 'string' && typeof uuid === 'string'
      ? { ...memory, config, name, uuid }
      : undefined
  } catch {
    return undefined
  }
}

/** The uuids of the domains that other resources remember. */
export function othersRemembered(call: Call): Set<string> {
  const own = fileOf(call)
  try {
    const files = readdirSync(dirname(own)).map(name => join(dirname(own), name))
    return new Set(files.flatMap(file => (file === own ? [] : (read(file)?.uuid ?? []))))
  } catch {
    return new Set()
  }
}

/** Throws when the run folder cannot be written. */
export function remember(call: Call, memory: Memory): void {
  const file = fileOf(call)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  replaceFile(file, JSON.stringify(memory), 0o600)
}

/** It has ended. */
export function forget(call: Call): void {
  try {
    unlinkSync(fileOf(call))
  } catch {}
}
