/** Builds havirt and brings up a lab whose nodes are no cluster of havirt: what is compared are two agents on a machine. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { begin, LAB, sure } from './lab.ts'

const ROOT = join(import.meta.dirname, '..', '..')

const ORIGINAL = '/usr/lib/ocf/resource.d/heartbeat/VirtualDomain'

async function comesUp(...options: string[]): Promise<void> {
  const up = begin(['up', ...options])
  // The switch keeps the pipes; what counts is that the command itself has ended.
  const status = await new Promise(resolve => up.child.once('exit', resolve))
  if (status !== 0) throw new Error(`lab '${LAB}' did not come up: ${up.said()}`)
}

export async function setup(): Promise<() => Promise<void>> {
  if (process.getuid?.() !== 0)
    throw new Error('the tests of the lab need root: run them with sudo, or only the others')
  if (process.env['HAVIRT_BUILT'] === undefined)
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], { stdio: 'inherit' })
  // What a run that was killed left behind.
  await sure(begin(['down']).done)
  if (!existsSync(ORIGINAL)) {
    // It comes with the packages of a lab that has Pacemaker, which would get in the way here.
    await comesUp('--nodes', '1', '--pacemaker')
    await sure(begin(['down']).done)
  }
  await comesUp('--nodes', '4')
  return async () => {
    await begin(['down']).done
  }
}
