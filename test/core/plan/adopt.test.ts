/** Taking over a node's own definition, and fetching one: nothing is lost, nothing is stopped. */
import { describe, expect, test } from 'vitest'
import { type AdoptRequest, planAdopt } from '../../../src/core/plan/adopt.ts'
import { planUpdate, type UpdateRequest } from '../../../src/core/plan/update.ts'
import { aCluster, aDomain, aDomainOnNode, aNode, aSilentNode, type ClusterParts, shutOff } from '../builders.ts'
import { checkRows, type Row, stepsOf } from './answer.ts'

function adopt(parts: ClusterParts, request: Partial<AdoptRequest> = {}) {
  return () => planAdopt(aCluster(parts), { domain: 'web', path: 'conf/web.xml', ...request })
}

function update(parts: ClusterParts, request: Partial<UpdateRequest> = {}) {
  return () =>
    planUpdate(aCluster(parts), { domain: 'web', path: 'conf/web.xml', force: false, node: 'node2', ...request })
}

const on = (...domains: Parameters<typeof aNode>[1] & object): ClusterParts => ({
  nodes: [aNode('node1'), aNode('node2', domains)],
})
const ADOPTED = ['saveDefinition node2', 'undefineDomain node2']

const ADOPT: readonly Row[] = [
  [
    'adopt keeps the definition of a running domain before it is undefined',
    adopt(on(aDomainOnNode({ persistent: true }))),
    ...ADOPTED,
  ],
  ['adopt takes a shut off domain, too', adopt(on(shutOff())), ...ADOPTED],
  [
    'adopt takes it from where it runs, when several nodes define it',
    adopt({ nodes: [aNode('node1', [shutOff()]), aNode('node2', [aDomainOnNode({ persistent: true })])] }),
    ...ADOPTED,
  ],
  [
    'adopt takes it from the node that was named',
    adopt(
      { nodes: [aNode('node1', [aDomainOnNode({ persistent: true })]), aNode('node2', [shutOff()])] },
      { node: 'node2' },
    ),
    ...ADOPTED,
  ],
  [
    'adopt refuses what is off by libvirt and runs all the same',
    adopt(on(aDomainOnNode({ persistent: true, unlistedPid: 7 }))),
    'refused: unlisted',
  ],
  ['adopt of a transient domain has nothing to do', adopt(on(aDomainOnNode())), 'already: notPersistent'],
  ['adopt of a domain that is only in conf/ has nothing to do', adopt({}), 'already: notPersistent'],
  [
    'adopt from a node that does not define it has nothing to do',
    adopt(on(shutOff()), { node: 'node1' }),
    'already: notPersistent',
  ],
  ['adopt refuses a domain with snapshots', adopt(on(shutOff({ snapshots: true }))), 'refused: snapshots'],
  [
    'adopt refuses a running domain with snapshots',
    adopt(on(aDomainOnNode({ persistent: true, snapshots: true }))),
    'refused: snapshots',
  ],
  ['adopt refuses a domain with a saved image', adopt(on(shutOff({ managedSave: true }))), 'refused: managedSave'],
  ['adopt refuses a domain that nobody knows', adopt({}, { domain: 'other' }), 'refused: unknownDomain'],
  [
    'adopt refuses a domain that nobody shows while a node is silent',
    adopt({ nodes: [aNode('node1'), aSilentNode('node2')] }),
    'refused: unreachable',
  ],
  [
    'adopt refuses a shut off definition while the domain may run on a silent node',
    adopt({ nodes: [aSilentNode('node1'), aNode('node2', [shutOff()])] }),
    'refused: unreachable',
  ],
  [
    'adopt takes over a running domain although another node is silent',
    adopt({ nodes: [aSilentNode('node1'), aNode('node2', [aDomainOnNode({ persistent: true })])] }),
    ...ADOPTED,
  ],
]

const UPDATE: readonly Row[] = [
  [
    'update fetches a definition that conf/ does not have',
    update({ ...on(shutOff()), definitions: [] }),
    'saveDefinition node2',
  ],
  ['update leaves a definition that is there', update(on(shutOff()))],
  ['update replaces it when told to', update(on(shutOff()), { force: true }), 'saveDefinition node2'],
  ['update refuses a domain that no node shows', update({}, { node: 'node1' }), 'refused: unknownDomain'],
  [
    'update refuses a domain that only a silent node could have',
    update({ nodes: [aNode('node1'), aSilentNode('node2')] }),
    'refused: unreachable',
  ],
]

describe('adopt and update', () => {
  checkRows([...ADOPT, ...UPDATE])

  test('the definition that is replaced is named by its hash, and a first one replaces nothing', () => {
    expect(stepsOf(adopt(on(shutOff()))())).toMatchObject([{ replacesSha256: 'sha-of-web' }, {}])
    expect(stepsOf(update(on(shutOff()), { force: true })())).toMatchObject([{ replacesSha256: 'sha-of-web' }])
    const [first] = stepsOf(adopt({ ...on(shutOff()), definitions: [] })())
    expect(first).not.toHaveProperty('replacesSha256')
  })

  test('the TPM of a domain that has one is kept', () => {
    const withTpm = aDomain({ nodeBound: [{ kind: 'tpm', what: '/var/lib/libvirt/swtpm' }] })
    expect(stepsOf(adopt(on(shutOff({}, withTpm)))())).toMatchObject([{}, { keepTpm: true }])
    expect(stepsOf(adopt(on(shutOff()))())).toMatchObject([{}, { keepTpm: false }])
  })
})
