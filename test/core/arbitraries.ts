/** Random clusters, small enough that names, uuids and disks collide often. */
import fc from 'fast-check'
import type { Cluster } from '../../src/core/cluster.ts'
import type { Domain } from '../../src/core/domain.ts'
import type { DomainOnNode, DomainState, Node } from '../../src/core/node.ts'
import { aCluster, aDefinition, aDisk, aDomain, aNode, aSilentNode, onPath, unreadable, uuidOf } from './builders.ts'

export const NAMES = ['a', 'b', 'c'] as const
export const NODES = ['node1', 'node2', 'node3', 'node4', 'node5'] as const
const DISKS = ['/srv/0.img', '/srv/1.img', '/srv/2.img', '/srv/3.img']
/** What a node says of the paths: often nothing, else one of few files, so that two paths are one file now and then. */
const pathsOf = (name: string) =>
  fc
    .tuple(...DISKS.map(() => fc.constantFrom(undefined, undefined, 'nfs:nas/0', 'nfs:nas/1', `local:${name}:0`)))
    .map(
      found =>
        new Map(
          DISKS.flatMap((path, at) => [
            ...onPath(path, found[at] === undefined ? {} : { identity: found[at] as string }),
          ]),
        ),
    )
const STATES: readonly DomainState[] = [
  'running',
  'running',
  'running',
  'shutoff',
  'shutoff',
  'shutoff',
  'paused',
  'paused',
  'blocked',
  'shutdown',
  'crashed',
  'pmsuspended',
]

const disk = fc
  .tuple(fc.constantFrom(...DISKS), fc.integer({ min: 0, max: 9 }))
  .map(([path, chance]) => aDisk(path, { shareable: chance === 0, readOnly: chance === 1 }))

const domain: fc.Arbitrary<Domain> = fc
  .record({
    name: fc.constantFrom(...NAMES),
    uuid: fc.integer({ min: 1, max: 4 }).map(uuidOf),
    memoryMiB: fc.constantFrom(512, 1024, 4096, 8192),
    vcpus: fc.integer({ min: 1, max: 6 }),
    disks: fc.array(disk, { maxLength: 2 }),
  })
  .map(more => aDomain(more))

const rarely = fc.integer({ min: 0, max: 7 }).map(number => number === 0)

const onNode: fc.Arbitrary<DomainOnNode> = fc
  .record({
    domain,
    state: fc.constantFrom(...STATES),
    stateReason: fc.constantFrom(1, 1, 1, 1, 2, 11, 12),
    persistent: fc.boolean(),
    autostart: rarely,
    managedSave: rarely,
    snapshots: rarely,
    hidden: rarely,
    lost: rarely,
  })
  .map(({ domain: definition, hidden, lost, state, managedSave, persistent, ...more }) => {
    const { name, uuid, vcpus, memoryMiB } = definition
    const off = state === 'shutoff'
    const seen = {
      ...more,
      name,
      uuid,
      vcpus,
      memoryMiB,
      state,
      active: !off,
      persistent: persistent || off,
      managedSave: managedSave && off,
      ...(lost && !off ? { unlistedPid: 7 } : {}),
    }
    return { ...unreadable(seen), ...(hidden ? {} : { definition }) }
  })

/** libvirt has each name and each uuid at most once on a node. */
const domainsOfNode = fc
  .uniqueArray(onNode, { maxLength: 3, selector: ({ uuid }) => uuid })
  .map(domains => domains.filter(({ name }, at) => domains.findIndex(each => each.name === name) === at))

/** Mostly unasked, as in every look that is about no migration. */
const lockManagers = fc.constantFrom(
  {},
  {},
  {},
  { lockManager: '' },
  { lockManager: 'sanlock' },
  { lockManager: 'lockd' },
)

const node = (name: string): fc.Arbitrary<Node> =>
  fc.oneof(
    {
      weight: 9,
      arbitrary: fc
        .tuple(domainsOfNode, pathsOf(name), lockManagers)
        .map(([domains, paths, lock]) => aNode(name, domains, { paths, ...lock })),
    },
    { weight: 1, arbitrary: fc.constantFrom('unreachable', 'busy').map(state => aSilentNode(name, state as 'busy')) },
  )

/** One to five nodes with up to three domains each, and definitions for some. */
export const clusters: fc.Arbitrary<Cluster> = fc
  .record({
    nodes: fc.integer({ min: 1, max: 5 }).chain(count => fc.tuple(...NODES.slice(0, count).map(node))),
    definitions: fc.uniqueArray(domain, { maxLength: 3, selector: ({ name }) => name }),
    here: fc.constantFrom(...NODES, undefined),
  })
  .map(({ nodes, definitions, here }) => {
    const files = definitions.map(each => aDefinition(each))
    const cluster = aCluster({ nodes, definitions: files, ...(here === undefined ? {} : { here }) })
    // A counterexample is read by a person.
    return Object.defineProperty(cluster, fc.toStringMethod, { value: () => textOf(cluster), enumerable: false })
  })

function textOf({ nodes, definitions }: Cluster): string {
  const text = ({ name, uuid, memoryMiB, disks }: Domain) =>
    `${name}/${uuid.at(-1)} ${memoryMiB} MiB ${disks.map(({ source }) => ('path' in source ? source.path : '')).join()}`
  const shown = (each: DomainOnNode) => {
    const flags = (['persistent', 'managedSave', 'autostart', 'snapshots', 'unlistedPid'] as const).filter(
      flag => each[flag],
    )
    const what = each.definition === undefined ? `${each.name}/${each.uuid.at(-1)} unreadable` : text(each.definition)
    return `  ${what} ${each.state}(${each.stateReason}) ${flags.join(' ')}`
  }
  const lines = [...nodes.values()].flatMap(({ name, seen }) =>
    seen.state === 'up' ? [name, ...seen.domains.map(shown)] : [`${name} ${seen.state}`],
  )
  const files = [...definitions.values()].map(({ domain: each }) => `conf ${each === undefined ? '' : text(each)}`)
  return ['', ...lines, ...files, ''].join('\n')
}
