/** The table of parameters: a resource changes its provider and nothing else, and a wrong value is told and never fatal to the reader. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  listOf,
  type ParameterName,
  parameterRows,
  parameters,
  type ReadParameters,
  readParameters,
  type Settings,
} from '../../../src/core/agent/parameters.ts'

/** Name, type, default of ocf:heartbeat:VirtualDomain 4.12, in its order. */
const ORIGINAL: [name: string, type: string, standard: string | undefined][] = [
  ['config', 'string', ''],
  ['hypervisor', 'string', undefined],
  ['force_stop', 'boolean', '0'],
  ['migration_transport', 'string', ''],
  ['migration_user', 'string', undefined],
  ['migration_downtime', 'integer', '0'],
  ['migration_speed', 'integer', '0'],
  ['migration_network_suffix', 'string', ''],
  ['migrateuri', 'string', undefined],
  ['migrate_options', 'string', undefined],
  ['monitor_scripts', 'string', ''],
  ['autoset_utilization_cpu', 'boolean', 'true'],
  ['autoset_utilization_host_memory', 'boolean', 'true'],
  ['autoset_utilization_hv_memory', 'boolean', 'true'],
  ['unset_utilization_cpu', 'boolean', 'false'],
  ['unset_utilization_host_memory', 'boolean', 'false'],
  ['unset_utilization_hv_memory', 'boolean', 'false'],
  ['migrateport', 'integer', undefined],
  ['remoteuri', 'string', undefined],
  ['save_config_on_stop', 'boolean', undefined],
  ['sync_config_on_stop', 'boolean', undefined],
  ['snapshot', 'string', ''],
  ['backingfile', 'string', ''],
  ['stateless', 'boolean', 'false'],
  ['copyindirs', 'string', ''],
  ['shutdown_mode', 'string', ''],
  ['start_resources', 'boolean', 'false'],
]

/** What a running domain cannot take over: who it is, where it runs, what its disk is made of. */
const NEEDS_RESTART = ['config', 'hypervisor', 'backingfile', 'stateless', 'copyindirs']

type Given = Partial<Record<ParameterName, string>>
const CONFIG = '/srv/web.xml'

function read(given: Given = {}): ReadParameters {
  const all: Given = { config: CONFIG, ...given }
  return readParameters(name => all[name])
}

const sentences = ({ problems }: ReadParameters) => problems.map(({ sentence }) => sentence)

describe('the table', () => {
  test("has the original's names, types and defaults, in its order", () => {
    expect(parameterRows.map(([name, row]) => [name, row.type, row.default])).toEqual(ORIGINAL)
  })

  test('has 27 names, each once', () => {
    expect(new Set(parameterRows.map(([name]) => name)).size).toBe(27)
    expect(Object.keys(parameters)).toHaveLength(27)
  })

  test('requires config alone, which is unique', () => {
    expect(parameterRows.filter(([, row]) => row.required).map(([name]) => name)).toEqual(['config'])
    expect(parameterRows.filter(([, row]) => row.unique).map(([name]) => name)).toEqual(['config'])
  })

  test('marks as reloadable all that a running domain can take over', () => {
    expect(parameterRows.filter(([, row]) => !row.reloadable).map(([name]) => name)).toEqual(NEEDS_RESTART)
  })

  test('explains each parameter, briefly and at length', () => {
    for (const [name, { short, long }] of parameterRows) {
      expect(short, name).toMatch(/^[A-Z][^.\n]{5,60}$/)
      expect(long, name).toMatch(/^[A-Z][^\n]{30,}\.$/)
    }
  })

  test('has defaults that are right themselves', () => {
    for (const [name, row] of parameterRows) if (row.default) expect(row.expected?.(row.default), name).toBeUndefined()
  })
})

describe('with nothing but config', () => {
  test('everything has its default, and nothing is wrong', () => {
    expect(read()).toEqual({
      problems: [],
      settings: {
        config: CONFIG,
        hypervisor: '',
        force_stop: false,
        migration_transport: '',
        migration_user: '',
        migration_downtime: 0,
        migration_speed: 0,
        migration_network_suffix: '',
        migrateuri: '',
        migrate_options: '',
        monitor_scripts: '',
        autoset_utilization_cpu: true,
        autoset_utilization_host_memory: true,
        autoset_utilization_hv_memory: true,
        unset_utilization_cpu: false,
        unset_utilization_host_memory: false,
        unset_utilization_hv_memory: false,
        migrateport: undefined,
        remoteuri: '',
        save_config_on_stop: false,
        sync_config_on_stop: false,
        snapshot: '',
        backingfile: '',
        stateless: false,
        copyindirs: '',
        shutdown_mode: '',
        start_resources: false,
      } satisfies Settings,
    })
  })

  test('an empty value is as good as none', () => {
    const empty = Object.fromEntries(parameterRows.map(([name]) => [name, name === 'config' ? CONFIG : '']))
    expect(read(empty)).toEqual(read())
  })
})

describe('config', () => {
  test.each([undefined, ''])('that is %j is missing, and that is all', config => {
    const { settings, problems } = readParameters(name => (name === 'config' ? config : undefined))
    expect(settings.config).toBe('')
    expect(problems).toEqual([{ code: 6, sentence: expect.stringMatching(/^config is not set; expected /) }])
  })

  test.each(['web.xml', './web.xml', '~/web.xml', ' /srv/web.xml'])(
    '%j is no absolute path, and stands all the same: nothing else says what the domain is',
    config => {
      const { settings, problems } = read({ config })
      expect(settings.config).toBe(config)
      expect(problems).toEqual([
        { code: 6, sentence: `config is ${JSON.stringify(config)}; expected an absolute path` },
      ])
    },
  )

  test.each(['/srv/my web.xml', "/srv/it's.xml", '/x', '/srv/web', '//srv/../web.xml'])('%j is one', config => {
    expect(read({ config })).toMatchObject({ problems: [], settings: { config } })
  })
})

const WRONG: [ParameterName, string[], expected: RegExp][] = [
  [
    'hypervisor',
    ['system', 'qemu:/system', 'qemu://a b/system', 'QEMU:///system', '-c', 'qemu+:///x'],
    /URI of libvirt/,
  ],
  ['migration_transport', ['+ssh', 'SSH', 'ssh x', '-x', 's/h', 'ssh\n'], /transport such as ssh/],
  ['migration_user', ['1bob', 'bob smith', '-bob', 'bob@x', 'bob:pw', 'bôb', '.bob'], /user name/],
  [
    'migration_downtime',
    ['-1', '1.5', '100ms', ' 1', '0x10', '1e3', '2000001', '9'.repeat(400)],
    /whole number from 0 to 2000000/,
  ],
  ['migration_speed', ['-1', 'fast', '10 ', '+5', '٣', '9007199254740993'], /whole number from 0 to/],
  ['migration_network_suffix', ['-mig net', '-mig/', '-mig\n', '$(id)', 'a:1'], /letters, digits, dots and dashes/],
  ['migrateuri', ['-x', ' tcp://%n', 'tcp://%n --unsafe', 'tcp:\t%n', '--copy-storage-all'], /URI without white space/],
  ['migrate_options', ['live', '-x', 'tcp://%n --p2p', '  p2p'], /options of virsh migrate, beginning with --/],
  ['migrateport', ['0', '65536', 'ssh', '-1', '49152-49215', '4.9e4'], /whole number from 1 to 65535/],
  ['remoteuri', ['--desturi', 'qemu+ssh://%n/system x', 'qemu://\n'], /URI without white space/],
  ['snapshot', ['snapshots', './x', '~', 'file:///x'], /absolute path/],
  ['backingfile', ['base.img', 'nbd://x/y', ' /base.img'], /absolute path/],
  [
    'shutdown_mode',
    ['ACPI', 'power', 'acpi agent', 'acpi,', ',', 'acpi;agent', 'acpi, agent'],
    /acpi, agent, initctl, signal, paravirt/,
  ],
]

describe('a wrong value', () => {
  test.each(WRONG.flatMap(([name, values, expected]) => values.map(value => [name, value, expected] as const)))(
    'of %s, %j, is told with its name and what is expected, and the default stands in its place',
    (name, value, expected) => {
      const { settings, problems } = read({ [name]: value })
      expect(problems).toHaveLength(1)
      const [{ code, sentence } = { code: 0, sentence: '' }] = problems
      expect(code).toBe(6)
      expect(sentence).toMatch(new RegExp(`^${name} is .*; expected [^\\n]+$`))
      expect(sentence).toMatch(expected)
      expect(sentence).not.toMatch(/[\n\t]/)
      expect(settings[name]).toEqual(read().settings[name])
    },
  )

  test('without end is cut in the sentence', () => {
    expect(sentences(read({ migrateport: 'x'.repeat(1_000_000) })).join().length).toBeLessThan(400)
  })

  test('is told for each parameter, in the order of the table', () => {
    const given: Given = { shutdown_mode: 'x', migrateport: 'x', config: 'x', snapshot: 'x', force_stop: 'x' }
    expect(sentences(read(given)).map(each => each.split(' ', 1).join())).toEqual([
      'config',
      'force_stop',
      'migrateport',
      'snapshot',
      'shutdown_mode',
    ])
  })
})

const RIGHT: [ParameterName, string[]][] = [
  [
    'hypervisor',
    [
      'qemu:///system',
      'qemu:///session',
      'qemu+unix:///system?socket=/run/x',
      'test:///default',
      'lxc:///system',
      'xen:///system',
    ],
  ],
  ['migration_transport', ['ssh', 'tls', 'tcp', 'libssh2', 'ext']],
  ['migration_user', ['bob', 'Bob_x', '_b', 'b.o-b1']],
  ['migration_network_suffix', ['-mig', '.mig', '_x', '10G']],
  ['migrateuri', ['tcp://%n:50001', 'tcp:%n', 'rdma://%n', 'unix:///x', '%n']],
  ['migrate_options', ['--p2p', '--migrateuri tcp://%n --p2p', '  --p2p', '--', "--comp-methods 'xbzrle'"]],
  ['monitor_scripts', ['/a /b', 'ping', '-x']],
  ['remoteuri', ['qemu+tls://%n/system', 'qemu+ssh://root@%n:22/system?keyfile=/x']],
  ['snapshot', ['/var/lib/x', '/a b']],
  ['backingfile', ['/base.img']],
  [
    'shutdown_mode',
    ['acpi', 'agent', 'initctl', 'signal', 'paravirt', 'agent,acpi', 'acpi,agent,initctl,signal,paravirt'],
  ],
]

test.each(RIGHT.flatMap(([name, values]) => values.map(value => [name, value] as const)))(
  '%s may be %j, and is read as it stands',
  (name, value) => {
    expect(read({ [name]: value })).toMatchObject({ problems: [], settings: { [name]: value } })
  },
)

test.each<[ParameterName, string, number]>([
  ['migration_downtime', '0', 0],
  ['migration_downtime', '2000000', 2_000_000],
  ['migration_speed', '007', 7],
  ['migration_speed', '8796093022207', 8_796_093_022_207],
  ['migrateport', '1', 1],
  ['migrateport', '65535', 65_535],
])('%s %j is the number %d', (name, text, value) => {
  expect(read({ [name]: text })).toMatchObject({ problems: [], settings: { [name]: value } })
})

describe('a boolean', () => {
  const names = parameterRows.filter(([, { type }]) => type === 'boolean').map(([name]) => name)
  const inAnyCase = (words: string[]) =>
    words.flatMap(word => [word, word.toUpperCase(), `${word[0]?.toUpperCase()}${word.slice(1)}`])

  test('there are eleven of them', () => {
    expect(names).toHaveLength(11)
  })

  test.each(inAnyCase(['yes', 'true', '1', 'ja', 'on', 'yEs']))('%j is yes', word => {
    for (const name of names) expect(read({ [name]: word }).settings[name], name).toBe(true)
  })

  test.each(inAnyCase(['no', 'false', '0', 'nein', 'off', 'nO']))('%j is no', word => {
    for (const name of names) {
      const { settings, problems } = read({ [name]: word })
      expect([settings[name], problems], name).toEqual([false, []])
    }
  })

  test('that is empty has its default', () => {
    for (const name of names) expect(read({ [name]: '' }).settings[name], name).toBe(read().settings[name])
  })

  test.each(['ture', 'y', 'n', '2', '00', ' true', 'true ', 'on\n', 'ＯＮ', 'none'])(
    '%j is neither: it is told, and the default stands',
    word => {
      for (const name of names) {
        const { settings, problems } = read({ [name]: word })
        expect(settings[name], name).toBe(read().settings[name])
        expect(problems).toEqual([
          {
            code: 6,
            sentence: `${name} is ${JSON.stringify(word)}; expected yes, true, 1 or on, or no, false, 0 or off`,
          },
        ])
      }
    },
  )
})

describe('parameters together', () => {
  test('force_stop and snapshot exclude each other', () => {
    const both = read({ force_stop: '1', snapshot: '/x' })
    expect(both.problems).toEqual([{ code: 6, sentence: expect.stringMatching(/force_stop and snapshot .*expected/) }])
    expect(both.settings).toMatchObject({ force_stop: true, snapshot: '/x' })
    expect(read({ force_stop: 'no', snapshot: '/x' }).problems).toEqual([])
    expect(read({ force_stop: 'yes', snapshot: '' }).problems).toEqual([])
  })

  test('stateless needs backingfile', () => {
    expect(read({ stateless: '1' }).problems).toEqual([
      { code: 6, sentence: expect.stringMatching(/stateless .*without backingfile; expected/) },
    ])
    expect(read({ stateless: '1', backingfile: '/base.img' }).problems).toEqual([])
    expect(read({ stateless: '0' }).problems).toEqual([])
  })

  test('a value that is wrong makes no contradiction', () => {
    expect(sentences(read({ force_stop: '1', snapshot: 'x' }))).toEqual([expect.stringMatching(/^snapshot is "x"/)])
    expect(sentences(read({ force_stop: 'x', snapshot: '/x' }))).toEqual([expect.stringMatching(/^force_stop is "x"/)])
  })

  test('sync_config_on_stop implies save_config_on_stop, whatever that says', () => {
    for (const save_config_on_stop of ['', 'no', '0', 'yes', 'nonsense'])
      expect(read({ sync_config_on_stop: 'yes', save_config_on_stop }).settings).toMatchObject({
        save_config_on_stop: true,
        sync_config_on_stop: true,
      })
    expect(read({ save_config_on_stop: 'yes' }).settings.sync_config_on_stop).toBe(false)
  })
})

describe('for any texts at all', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      '',
      'true',
      'no',
      '0',
      '17',
      '/x',
      '--p2p',
      'acpi',
      'qemu:///system',
      '-1',
      '__proto__',
      '\n',
      '%n',
    ),
  )
  const anything = fc.dictionary(fc.constantFrom(...parameterRows.map(([name]) => name)), text)

  test('reading never throws, and each setting has the right type', () => {
    fc.assert(
      fc.property(anything, given => {
        const { settings } = readParameters(name => given[name])
        for (const [name, { type }] of parameterRows) {
          const value = settings[name]
          if (type === 'boolean') expect(typeof value).toBe('boolean')
          else if (type === 'string') expect(typeof value).toBe('string')
          else expect(value === undefined || (Number.isSafeInteger(value) && Number(value) >= 0)).toBe(true)
        }
      }),
    )
  })

  test('each problem is 6, with one sentence on one line that names the parameter and what is expected', () => {
    fc.assert(
      fc.property(anything, given => {
        for (const { code, sentence } of readParameters(name => given[name]).problems) {
          expect(code).toBe(6)
          expect(sentence).toMatch(/^[a-z_]+ [^\n\r]*; expected [^\n\r]+$/)
          expect(Object.keys(parameters)).toContain(sentence.split(' ', 1).join())
        }
      }),
    )
  })

  test('a value that is told as wrong leaves the setting as if it were not given, except for config', () => {
    fc.assert(
      fc.property(anything, all => {
        const given: Given = { ...all, config: CONFIG }
        const { settings, problems } = readParameters(name => given[name])
        const told = new Set(
          problems
            .filter(({ sentence }) => / is "/.test(sentence))
            .map(({ sentence }) => sentence.split(' ', 1).join()),
        )
        const others = readParameters(name => (told.has(name) ? undefined : given[name]))
        expect(settings).toEqual(others.settings)
      }),
    )
  })

  test('what stands in the settings of URIs and words never looks like an option or holds white space', () => {
    fc.assert(
      fc.property(anything, given => {
        const { settings } = readParameters(name => given[name])
        for (const name of [
          'migrateuri',
          'remoteuri',
          'migration_transport',
          'migration_user',
          'shutdown_mode',
        ] as const)
          expect(settings[name]).not.toMatch(/^-|\s/)
      }),
    )
  })
})

test.each<[string, string[]]>([
  ['', []],
  [' \t\n', []],
  ['a', ['a']],
  ['  /a/b\t-c\n"d e" ', ['/a/b', '-c', '"d', 'e"']],
  ['$(id) *', ['$(id)', '*']],
])('the words of %j are %j', (text, words) => {
  expect(listOf(text)).toEqual(words)
})
