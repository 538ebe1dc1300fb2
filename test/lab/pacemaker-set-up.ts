/** Builds havirt and brings up two nodes that are a cluster of Pacemaker's, with the agent on both; takes them down at the end. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { begin, havirt, LAB, sure } from './lab.ts'
import { MEMBERS } from './pacemaker.ts'

const ROOT = join(import.meta.dirname, '..', '..')

export async function setup(): Promise<() => Promise<void>> {
  if (process.getuid?.() !== 0)
    throw new Error('the tests of the lab need root: run them with sudo, or only the others')
  if (process.env['HAVIRT_BUILT'] === undefined)
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], { stdio: 'inherit' })
  // What a run that was killed left behind.
  await sure(begin(['down']).done)
  const up = begin(['up', '--nodes', String(MEMBERS.length), '--pacemaker'])
  // The switch keeps the pipes; what counts is that the command itself has ended.
  const status = await new Promise(resolve => up.child.once('exit', resolve))
  if (status !== 0) throw new Error(`lab '${LAB}' did not come up: ${up.said()}`)
  for (const node of MEMBERS) await sure(havirt(node, '-q', 'ocf', 'install'))
  return async () => {
    await begin(['down']).done
  }
}
