/** Starting, moving and killing a guest, against the same virsh through the same master. All run on node1. */
import type { Benchmark } from './bench.ts'
import { definitionFile, Lab, throughMaster } from './lab.ts'
import { median, of } from './timing.ts'

const ROUNDS = 6
const GUEST = 'web'
const VIRSH = 'virsh -c qemu:///system'

export const changes: Benchmark = async function* (bench) {
  const lab = await Lab.use(bench)
  const xml = await lab.command('guest', GUEST)
  await lab.on('node1', `cat >${definitionFile(GUEST)} && havirt domain update ${GUEST}`, xml)
  const havirt = (...words: string[]) => ({ argv: ['havirt', '-y', 'domain', ...words] })
  const virsh = (node: string, line: string) => ({ argv: ['sh', '-c', throughMaster(node, `${VIRSH} ${line}`)] })
  const create = throughMaster('node2', `${VIRSH} create /dev/stdin`)
  const samples = await lab.time({
    rounds: ROUNDS,
    commands: {
      start: havirt('start', GUEST, 'node2'),
      migrate: havirt('migrate', GUEST, 'node3'),
      stop: havirt('stop', '--force', GUEST),
      virshStart: { argv: ['sh', '-c', `${create} <${definitionFile(GUEST)}`] },
      virshMigrate: virsh('node2', `migrate --live --p2p ${GUEST} qemu+ssh://node3/system`),
      virshStop: virsh('node3', `destroy ${GUEST}`),
    },
  })
  const against = (ours: string, theirs: string) => ({
    unit: 'ms' as const,
    ours: median(of(samples, ours)),
    theirs: median(of(samples, theirs)),
  })
  yield {
    name: 'domain start / virsh create, same master',
    ...against('start', 'virshStart'),
    bar: { kind: 'beyond', limit: 150 },
  }
  yield { name: 'domain migrate / virsh migrate, same master', ...against('migrate', 'virshMigrate') }
  yield { name: 'domain stop --force / virsh destroy, same master', ...against('stop', 'virshStop') }
}
