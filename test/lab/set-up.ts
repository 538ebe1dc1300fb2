/** Builds havirt and brings up the one lab that all tests of this folder share; takes it down at the end. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { begin, configure, havirt, LAB, NODES, sure } from './lab.ts'

const ROOT = join(import.meta.dirname, '..', '..')

export async function setup(): Promise<() => Promise<void>> {
  if (process.getuid?.() !== 0)
    throw new Error('the tests of the lab need root: run them with sudo, or only the others')
  // Two labs that are brought up at once would both write dist/.
  if (process.env['HAVIRT_BUILT'] === undefined)
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.mjs')], { stdio: 'inherit' })
  // What a run that was killed left behind.
  await sure(begin(['down']).done)
  const up = begin(['up', '--nodes', '4'])
  // The switch keeps the pipes; what counts is that the command itself has ended.
  const status = await new Promise(resolve => up.child.once('exit', resolve))
  if (status !== 0) throw new Error(`lab '${LAB}' did not come up: ${up.said()}`)
  await sure(havirt('node1', '-q', 'node', 'update', ...NODES))
  // A dead command's claim is waited for at least so long.
  await configure('claim', 'ttlMs: 3000')
  await configure('ssh', 'aliveIntervalSeconds: 1')
  return async () => {
    await begin(['down']).done
  }
}
