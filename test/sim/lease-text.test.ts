/** What a simulated machine says of its leases is read as what it is. */
import { expect, test, vi } from 'vitest'
import { leaseName } from '../../src/nodes/lease-name.ts'
import { parseLeases } from '../../src/nodes/leases.ts'
import { parseCluster } from '../../src/sim/cluster-file.ts'
import { leasesText } from '../../src/sim/lease-text.ts'
import { World } from '../../src/sim/world.ts'

vi.mock('../../src/store/owner.ts', async original => ({
  ...(await original<object>()),
  thisProcess: (await import('../../src/sim/owner.ts')).thisProcess,
}))

const DISK = '/srv/disks/web.qcow2'
const CLUSTER = `
nodes: 2
domains:
  web: { disk: ${DISK}, runs: node1 }
leases: { passUnreachable: true, noWatchdog: [node2] }
`

/** What a node says after so long; node1 lost its power at 10 s. */
function heard(node: number, afterMs: number) {
  const world = new World(parseCluster(CLUSTER).setting)
  world.scheduler.after(10_000, undefined, () => world.machines[0]?.powerOff())
  world.scheduler.run(afterMs)
  const machine = world.machines[node - 1]
  if (machine === undefined) throw new Error('no such node')
  return parseLeases(leasesText(machine, ['hosts', 'files=*']))
}

test('who runs with a lease holds it, in its own name on the storage', () => {
  const { leases, hosts, files } = heard(1, 9000) ?? {}
  expect(leases?.settings.manager).toBe('sanlock')
  expect(leases?.sanlock?.lockspace).toMatchObject({ hostId: 1, generation: 1, state: 'joined', ioTimeoutSeconds: 2 })
  expect(leases?.sanlock?.held).toEqual([
    { name: leaseName('sanlock', DISK), pid: leases?.pids.get('web'), shared: false },
  ])
  expect([...(hosts?.values() ?? [])].map(({ name }) => name)).toEqual(['node1', 'node2'])
  expect(files?.map(({ name, record }) => [name, record?.ownerId])).toEqual([[leaseName('sanlock', DISK), 1]])
  expect([leases?.wdmd, heard(2, 9000)?.leases.wdmd]).toEqual([true, false])
})

test.each([
  [9000, 'live'],
  [30_000, 'fail'],
  [90_000, 'dead'],
] as const)('after %i ms a node that lost its power at 10 s is %s to the other', (afterMs, state) => {
  expect(heard(2, afterMs)?.leases.sanlock?.hosts.get(1)?.state).toBe(state)
})

test('only the files that were asked for are told', () => {
  const world = new World(parseCluster(CLUSTER).setting)
  const [machine] = world.machines
  if (machine === undefined) throw new Error('no node')
  const start = leaseName('sanlock', DISK).slice(0, 2)
  const asked = (glob: string) => parseLeases(leasesText(machine, [`files=${glob}`]))?.files.length
  expect([asked(`00* ${start}*`), asked('0000*')]).toEqual([1, 0])
})
