/** A scan while one node hears nobody: it must end soon after the observe deadline. */
import type { Benchmark } from './bench.ts'
import { Lab } from './lab.ts'
import { of } from './timing.ts'

/** observe.timeoutMs as delivered, and one second. */
const LIMIT_S = 5 + 1
/** What scan says when a node does not answer. */
const PARTLY = 4

export const cutOff: Benchmark = async function* (bench) {
  const lab = await Lab.use(bench)
  const scanning = { rounds: 1, warmUps: 0, commands: { scan: { argv: ['havirt', 'node', 'scan'], status: PARTLY } } }
  await lab.command('fault', 'cut', 'node3')
  const warm = Math.max(...of(await lab.time(scanning), 'scan'))
  yield { name: 'node scan, node3 cut off, its master warm', ...heldTo(warm) }
  await lab.on('node1', 'rm -r /run/havirt/ssh/node3')
  const cold = Math.max(...of(await lab.time(scanning), 'scan'))
  yield { name: 'node scan, node3 cut off, no master', ...heldTo(cold) }
  await lab.command('fault', 'heal', 'node3')
}

function heldTo(ms: number) {
  return { unit: 's', ours: ms / 1000, bar: { kind: 'value', limit: LIMIT_S } } as const
}
