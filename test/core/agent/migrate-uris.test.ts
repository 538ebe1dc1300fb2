/** Where a migration goes: the rules of ocf:heartbeat:VirtualDomain as they were observed, with the places mended where it was wrong. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { migrationWay } from '../../../src/core/agent/migrate-uris.ts'
import { type ParameterName, readParameters } from '../../../src/core/agent/parameters.ts'

type Given = Partial<Record<ParameterName, string>>

const PORT = 49_200

function way(given: Given, { hypervisor = 'qemu:///system', target = 'node2' } = {}) {
  const all: Given = { config: '/srv/web.xml', ...given }
  const { settings, problems } = readParameters(name => all[name])
  expect(problems).toEqual([])
  return migrationWay(settings, { hypervisor, target, randomPort: () => PORT })
}

const uris = (...args: Parameters<typeof way>) => {
  const { remoteUri, migrateUri } = way(...args)
  return [remoteUri, migrateUri]
}

interface Row {
  readonly given?: Given
  readonly hypervisor?: string
  readonly target?: string
  readonly remote: string
  readonly memory?: string
  readonly warns?: RegExp
}

const suffix = { migration_network_suffix: '-mig' }
const ssh = { migration_transport: 'ssh' }

describe('as the original has it', () => {
  test.each<[string, Row]>([
    ['nothing set', { remote: 'qemu://node2/system' }],
    ['a transport', { given: ssh, remote: 'qemu+ssh://node2/system' }],
    ['a transport and a user', { given: { ...ssh, migration_user: 'bob' }, remote: 'qemu+ssh://bob@node2/system' }],
    ['a suffix', { given: suffix, remote: 'qemu://node2-mig/system', memory: `tcp:node2-mig:${PORT}` }],
    [
      'a suffix, a long name and a port',
      {
        given: { ...suffix, migrateport: '50000' },
        target: 'node2.example.org',
        remote: 'qemu://node2-mig.example.org/system',
        memory: 'tcp:node2-mig.example.org:50000',
      },
    ],
    [
      'a port in the hypervisor, with path, transport and suffix',
      {
        given: { ...suffix, migration_transport: 'tls' },
        hypervisor: 'qemu://foo:9999/system',
        remote: 'qemu+tls://node2-mig:9999/system',
        memory: `tcp:node2-mig:${PORT}`,
      },
    ],
    [
      'remoteuri, beside which the suffix still names the way of the memory',
      {
        given: { ...suffix, remoteuri: 'qemu+tls://%n/system' },
        remote: 'qemu+tls://node2/system',
        memory: `tcp:node2-mig:${PORT}`,
      },
    ],
    [
      'Xen with a suffix',
      { given: suffix, hypervisor: 'xen:///system', remote: 'xen://node2-mig/system', memory: 'node2-mig' },
    ],
    [
      'another hypervisor with a suffix',
      {
        given: suffix,
        hypervisor: 'lxc:///system',
        remote: 'lxc://node2-mig/system',
        warns: /no migration URI for lxc/,
      },
    ],
    [
      "the hypervisor's query",
      { given: ssh, hypervisor: 'qemu:///system?mode=direct', remote: 'qemu+ssh://node2/system?mode=direct' },
    ],
    ['a session', { given: ssh, hypervisor: 'qemu:///session', remote: 'qemu+ssh://node2/session' }],
    ['the test driver', { hypervisor: 'test:///default', remote: 'test://node2/default' }],
    [
      'a user in the hypervisor',
      { given: ssh, hypervisor: 'qemu://root@localhost/system', remote: 'qemu+ssh://node2/system' },
    ],
    ['a port without a suffix, which says nothing', { given: { migrateport: '50000' }, remote: 'qemu://node2/system' }],
  ])('%s', (_, { given = {}, hypervisor, target, remote, memory, warns }) => {
    const { remoteUri, migrateUri, warnings } = way(given, {
      ...(hypervisor === undefined ? {} : { hypervisor }),
      ...(target === undefined ? {} : { target }),
    })
    expect([remoteUri, migrateUri]).toEqual([remote, memory])
    if (warns === undefined) expect(warnings).toEqual([])
    else expect(warnings).toEqual([expect.stringMatching(warns)])
  })
})

describe('mended', () => {
  test('a hypervisor that names its transport: the one of the migration takes its place', () => {
    expect(uris(ssh, { hypervisor: 'qemu+unix:///system' })).toEqual(['qemu+ssh://node2/system', undefined])
    expect(uris({}, { hypervisor: 'qemu+unix:///system' })).toEqual(['qemu://node2/system', undefined])
  })

  test("%n is the node's plain name, whatever suffix and user are", () => {
    const given = { ...suffix, migration_user: 'bob', migrateuri: 'tcp://%n:50001' }
    expect(uris(given)).toEqual(['qemu://bob@node2-mig/system', 'tcp://node2:50001'])
  })

  test('a socket of this machine is not asked for on the other', () => {
    const at = (hypervisor: string) => uris(ssh, { hypervisor })[0]
    expect(at('qemu+unix:///system?socket=/run/x.sock')).toBe('qemu+ssh://node2/system')
    expect(at('qemu+unix:///system?socket=/run/x.sock&mode=direct')).toBe('qemu+ssh://node2/system?mode=direct')
    expect(at('qemu+unix:///system?mode=direct&socket=/run/x.sock')).toBe('qemu+ssh://node2/system?mode=direct')
  })

  test('a user as libvirt takes it', () => {
    expect(uris({ ...ssh, migration_user: 'Bob_x' })[0]).toBe('qemu+ssh://Bob_x@node2/system')
  })
})

describe('the hypervisor of this machine, however it is spelled, keeps its driver', () => {
  test.each([
    ['xen://localhost/system', 'xen://node2/system'],
    ['xen://127.0.0.1:16514/system', 'xen://node2:16514/system'],
    ['xen://[::1]/system', 'xen://node2/system'],
    ['xen://[::1]:16514/system', 'xen://node2:16514/system'],
  ])('%s', (hypervisor, remote) => {
    expect(uris({}, { hypervisor })[0]).toBe(remote)
  })
})

describe('%n', () => {
  test('may stand more than once', () => {
    const given = { remoteuri: 'qemu+ssh://%n.mig/system?x=%n', migrateuri: 'tcp://%n.%n:1' }
    expect(uris(given)).toEqual(['qemu+ssh://node2.mig/system?x=node2', 'tcp://node2.node2:1'])
  })

  test('that is missing is allowed, and said for each', () => {
    const { remoteUri, migrateUri, warnings } = way({ remoteuri: 'qemu://a/system', migrateuri: 'tcp://b' })
    expect([remoteUri, migrateUri]).toEqual(['qemu://a/system', 'tcp://b'])
    expect(warnings).toEqual([
      expect.stringMatching(/^remoteuri has no %n/),
      expect.stringMatching(/^migrateuri has no %n/),
    ])
  })

  test('that is missing in --migrateuri of migrate_options is said, too', () => {
    for (const migrate_options of ['--migrateuri=tcp://b', '--migrateuri tcp://b'])
      expect(way({ migrate_options }).warnings).toEqual([expect.stringMatching(/migrate.* has no %n/)])
  })

  test('is replaced by a long name as it is', () => {
    const at = { target: 'node2.example.org' }
    expect(uris({ ...suffix, migrateuri: 'tcp://%n' }, at)).toEqual([
      'qemu://node2-mig.example.org/system',
      'tcp://node2.example.org',
    ])
  })
})

describe('migrate_options', () => {
  test('are handed over as words', () => {
    expect(way({ migrate_options: ' --p2p\t--auto-converge  --timeout 10 ' })).toMatchObject({
      options: ['--p2p', '--auto-converge', '--timeout', '10'],
      migrateUri: undefined,
      warnings: [],
    })
    expect(way({}).options).toEqual([])
  })

  test.each([
    '--migrateuri=tcp://%n:1',
    '--migrateuri tcp://%n:1',
    '--migrateuri   tcp://%n:1',
    '--migrateuri tcp://other --migrateuri=tcp://%n:1',
    '--migrateuri=tcp://other --migrateuri tcp://%n:1',
  ])('%s becomes the URI, and stands before what the suffix would make', words => {
    const { options, migrateUri } = way({ ...suffix, migrateport: '5', migrate_options: `--p2p ${words} --unsafe` })
    expect({ options, migrateUri }).toEqual({ options: ['--p2p', '--unsafe'], migrateUri: 'tcp://node2:1' })
  })

  test('migrateuri stands before theirs, which is taken away all the same', () => {
    for (const theirs of ['--migrateuri=tcp://x', '--migrateuri tcp://x']) {
      const { options, migrateUri } = way({ migrateuri: 'tcp://%n', migrate_options: `${theirs} --p2p` })
      expect({ options, migrateUri }).toEqual({ options: ['--p2p'], migrateUri: 'tcp://node2' })
    }
  })

  test('%n elsewhere stays', () => {
    expect(way({ migrate_options: '--dname %n --listen-address %n' }).options).toEqual([
      '--dname',
      '%n',
      '--listen-address',
      '%n',
    ])
  })

  test('a --migrateuri without its value is none', () => {
    for (const migrate_options of ['--p2p --migrateuri', '--p2p --migrateuri='])
      expect(way({ ...suffix, migrate_options }), migrate_options).toMatchObject({
        options: ['--p2p'],
        migrateUri: `tcp:node2-mig:${PORT}`,
      })
  })

  test('an option that only begins like it is another', () => {
    expect(way({ migrate_options: '--migrateuri-x --migrate' }).options).toEqual(['--migrateuri-x', '--migrate'])
  })
})

test('a port is asked for only where one is needed', () => {
  const asked = (given: Given) => {
    let count = 0
    const all: Given = { config: '/x', ...given }
    const { settings } = readParameters(name => all[name])
    migrationWay(settings, { hypervisor: 'qemu:///system', target: 'n', randomPort: () => ++count })
    return count
  }
  expect(asked(suffix)).toBe(1)
  for (const given of [
    {},
    { ...suffix, migrateport: '5' },
    { ...suffix, migrateuri: 'tcp://%n' },
    { migrate_options: '--p2p' },
  ])
    expect(asked(given)).toBe(0)
})

test.each([
  ['node2', 'node2-mig'],
  ['node2.example.org', 'node2-mig.example.org'],
  ['node2.', 'node2-mig.'],
  ['10', '10-mig'],
])('the suffix goes behind the name %s, before its domain', (target, host) => {
  expect(uris(suffix, { target })).toEqual([`qemu://${host}/system`, `tcp:${host}:${PORT}`])
})

describe('for all parameters', () => {
  const optional = <T>(...values: T[]) => fc.constantFrom(undefined, ...values)
  const given = fc.record({
    migration_transport: optional('ssh', 'tls', 'tcp'),
    migration_user: optional('bob', 'Bob_x'),
    migration_network_suffix: optional('-mig', '.m'),
    migrateuri: optional('tcp://%n:1', 'tcp://fixed', 'rdma:%n%n'),
    migrate_options: optional('--p2p', '--migrateuri=tcp://%n:2 --p2p', '--p2p --migrateuri tcp://%n:3'),
    migrateport: optional('50000'),
    remoteuri: optional('qemu+ssh://%n/system', 'qemu://fixed/system'),
  })
  const hypervisors = fc.constantFrom('qemu:///system', 'qemu+unix:///system?socket=/x', 'xen:///system', 'lxc:///')
  const targets = fc.constantFrom('node2', 'node2.example.org')
  const any = fc.tuple(given, hypervisors, targets)
  const wayOf = ([some, hypervisor, target]: [Record<string, string | undefined>, string, string]) => {
    const all: Record<string, string | undefined> = { config: '/x', ...some }
    const { settings } = readParameters(name => all[name])
    return migrationWay(settings, { hypervisor, target, randomPort: () => PORT })
  }

  test('no %n, no white space and no option reaches virsh as a URI', () => {
    fc.assert(
      fc.property(any, all => {
        const { remoteUri, migrateUri = 'none' } = wayOf(all)
        for (const uri of [remoteUri, migrateUri]) expect(uri).not.toMatch(/%n|\s|^-|^$/)
        expect(remoteUri).toMatch(/^[a-z]+(\+[a-z]+)?:\/\//)
      }),
    )
  })

  test('migrateuri goes before --migrateuri, that before the suffix, and without them libvirt chooses', () => {
    fc.assert(
      fc.property(any, all => {
        const [{ migrateuri, migrate_options, migration_network_suffix }, hypervisor, target] = all
        const { migrateUri, options } = wayOf(all)
        const made = hypervisor.startsWith('lxc') ? undefined : hypervisor.startsWith('xen') ? /^node2/ : /^tcp:node2/
        if (migrateuri !== undefined) expect(migrateUri).toBe(migrateuri.replaceAll('%n', target))
        else if (migrate_options?.includes('--migrateuri')) expect(migrateUri).toMatch(`tcp://${target}:`)
        else if (migration_network_suffix === undefined || made === undefined) expect(migrateUri).toBeUndefined()
        else expect(migrateUri).toMatch(made)
        expect(options).toEqual(migrate_options === undefined ? [] : ['--p2p'])
      }),
    )
  })

  test('warnings are sentences on one line', () => {
    fc.assert(
      fc.property(any, all => {
        for (const warning of wayOf(all).warnings) expect(warning).toMatch(/^[^\n]{20,}$/)
      }),
    )
  })
})
