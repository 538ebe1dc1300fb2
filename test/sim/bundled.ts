/** The simulator as tests run it: bundled, in a process of its own, with the real source or a broken variant of it. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Edit } from './variants.ts'

interface Bundler {
  bundleSimulator(outfile: string, entry?: string, edits?: readonly Edit[]): Promise<void>
}

/** What a run of many seeds came to. */
export interface Outcome {
  readonly status: number | null
  readonly text: string
}

/** Runs seeds until one fails. Rejects when an edit does not fit the source. */
export async function simulate(words: readonly string[], edits: readonly Edit[] = []): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-simulator-'))
  try {
    const script = '../../scripts/bundle-simulator.mjs'
    const { bundleSimulator } = (await import(/* @vite-ignore */ script)) as Bundler
    await bundleSimulator(join(folder, 'simulator.mjs'), 'src/sim/main.ts', edits)
    return await run([join(folder, 'simulator.mjs'), ...words])
  } finally {
    await rm(folder, { recursive: true })
  }
}

function run(args: readonly string[]): Promise<Outcome> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    child.stdout.on('data', chunk => {
      text += chunk
    })
    child.stderr.on('data', chunk => {
      text += chunk
    })
    child.on('close', status => resolve({ status, text }))
  })
}
