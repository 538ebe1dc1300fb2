/** `havirt node scan` on three nodes with warm masters, against ssh and virsh by hand. All run on node1. */
import type { Benchmark } from './bench.ts'
import { Lab, throughMaster } from './lab.ts'
import { beyond, median } from './timing.ts'

const ROUNDS = 15
const LOOK = 'virsh nodeinfo; virsh list --all'

export const scan: Benchmark = async function* (bench) {
  const lab = await Lab.use(bench)
  const one = ['node1', 'node2', 'node3'].map(node => `ssh ${node} '${LOOK}'`)
  // node1 is the machine itself: havirt has no master for it, and neither does who types this.
  const all = [`{ ${LOOK}; }`, throughMaster('node2', LOOK), throughMaster('node3', LOOK)]
  const samples = await lab.time({
    rounds: ROUNDS,
    commands: {
      node: { argv: [lab.node, '-e', '0'] },
      shell: { argv: ['sh', '-c', ':'] },
      scan: { argv: ['havirt', 'node', 'scan'] },
      parallel: { argv: ['sh', '-c', `${all.join(' & ')} & wait`] },
      inTurn: { argv: ['sh', '-c', one.join('; ')] },
    },
  })
  const ours = median(beyond(samples, 'scan', 'node'))
  yield {
    name: 'node scan - node -e 0 / three ssh + virsh, one after the other',
    unit: 'ms',
    ours,
    theirs: median(beyond(samples, 'inTurn', 'shell')),
    bar: { kind: 'ratio', limit: 1 / 8 },
  }
  yield {
    name: 'node scan - node -e 0 / three virsh at once, same warm masters',
    unit: 'ms',
    ours,
    theirs: median(beyond(samples, 'parallel', 'shell')),
    bar: { kind: 'ratio', limit: 1 },
  }
}
