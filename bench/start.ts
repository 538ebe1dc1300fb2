/** Starting: what every command pays before it does anything. */
import { join } from 'node:path'
import type { Benchmark } from './bench.ts'
import { median, of, timeInTurn } from './timing.ts'

const ROUNDS = 30

export const start: Benchmark = async function* ({ root, node }) {
  const samples = await timeInTurn({
    rounds: ROUNDS,
    commands: {
      empty: { argv: [node, '-e', '0'] },
      version: { argv: [join(root, 'bin/havirt'), '--version'] },
    },
  })
  yield {
    name: 'havirt --version / node -e 0',
    unit: 'ms',
    ours: median(of(samples, 'version')),
    theirs: median(of(samples, 'empty')),
    bar: { kind: 'ratio', limit: 2 },
  }
}
