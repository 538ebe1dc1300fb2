/** Which names a node may have, and what counts as presence. */
import { describe, expect, test } from 'vitest'
import {
  isMigrationEnd,
  isNodeName,
  isPostCopy,
  isPresent,
  isSharedIdentity,
  load,
  localIdentity,
  overlap,
} from '../../src/core/node.ts'
import { aDomainOnNode, aNode, shutOff, uuidOf } from './builders.ts'

describe('node names', () => {
  test.each(['node1', 'a', 'node-1.example.org', 'N_2', '10.0.0.1', 'x'.repeat(63)])('%s can be one', name => {
    expect(isNodeName(name)).toBe(true)
  })

  test.each([
    '',
    '-oProxyCommand=reboot',
    '.hidden',
    'a/b',
    'a..b',
    'root@node1',
    'a b',
    'a\nb',
    'node1\n',
    'ä',
    'x'.repeat(64),
  ])('%j cannot: ssh, a path or an option would read it otherwise', name => expect(isNodeName(name)).toBe(false))
})

describe('identities', () => {
  test('a disk overlaps its partitions, and theirs, and nothing else', () => {
    const names = ['naa.6', 'naa.6-part1', 'naa.6-part10', 'naa.6-part1-part2', 'naa.60', 'naa.6-partition']
    expect(names.map(a => names.map(b => (overlap(a, b) ? 'x' : '-')).join(''))).toEqual([
      'xxxx--',
      'xx-x--',
      'x-x---',
      'xx-x--',
      '----x-',
      '-----x',
    ])
  })

  test('what holds on one node only can be told from what all can compare', () => {
    expect(isSharedIdentity(localIdentity('node1', '/srv/web.img'))).toBe(false)
    expect(isSharedIdentity('naa.6')).toBe(true)
    expect(localIdentity('node1', 'x')).not.toBe(localIdentity('node2', 'x'))
  })
})

describe('presence', () => {
  test.each(['nostate', 'running', 'blocked', 'paused', 'shutdown', 'crashed', 'pmsuspended'] as const)(
    'an active domain that is %s is present',
    state => expect(isPresent(aDomainOnNode({ state }))).toBe(true),
  )

  test('a shut off domain is absent, unless it has a saved image', () => {
    expect(isPresent(shutOff())).toBe(false)
    expect(isPresent(shutOff({ managedSave: true }))).toBe(true)
  })

  test('only what libvirt paused for a migration is an end of one', () => {
    const reasons = Array.from({ length: 20 }, (_, reason) => reason)
    expect(reasons.filter(stateReason => isMigrationEnd({ state: 'paused', stateReason }))).toEqual([2, 11])
    expect(reasons.filter(stateReason => isPostCopy({ state: 'paused', stateReason }))).toEqual([12, 13])
    expect(reasons.filter(stateReason => isMigrationEnd({ state: 'running', stateReason }))).toEqual([])
    expect(reasons.filter(stateReason => isPostCopy({ state: 'running', stateReason }))).toEqual([])
  })

  test('active domains hold memory and vCPUs, paused ones too; shut off ones hold none', () => {
    const domains = [
      aDomainOnNode({ vcpus: 2 }),
      aDomainOnNode({ uuid: uuidOf(1), state: 'paused' }),
      shutOff({ uuid: uuidOf(2) }),
    ]
    const { seen } = aNode('node1', domains)
    expect(seen.state === 'up' && load(seen)).toEqual({ memoryMiB: 2048, vcpus: 3 })
  })
})
