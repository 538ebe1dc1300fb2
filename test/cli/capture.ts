/** Runs a command line in this process and catches what it prints. */
import { join } from 'node:path'
import { vi } from 'vitest'
import { runCommand } from '../../src/cli/program.ts'

export interface Caught {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

const ABOVE = join(import.meta.dirname, '..', '..')

/** What `work` writes to the two outputs. */
export async function caught(work: () => Promise<number>): Promise<Caught> {
  const written = { stdout: '', stderr: '' }
  const spies = (['stdout', 'stderr'] as const).map(name =>
    vi.spyOn(process[name], 'write').mockImplementation((chunk: string | Uint8Array) => {
      written[name] += String(chunk)
      return true
    }),
  )
  try {
    return { status: await work(), ...written }
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}

/** `havirt WORDS`. Nothing that reaches the operations may be given: they would reach real nodes. */
export function havirt(...words: readonly string[]): Promise<Caught> {
  return caught(() => runCommand(words, { above: ABOVE, version: '1.2.3' }))
}
