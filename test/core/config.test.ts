/** The settings: what is accepted, what is said about the rest, and edits that touch one line. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type ConfigKey,
  type ConfigOption,
  type ConfigValue,
  configOptions,
  configValue,
  defaultConfig,
} from '../../src/core/config.ts'
import { describeProblem, parseConfig } from '../../src/core/config-check.ts'
import { ConfigEditError, setConfigValue } from '../../src/core/config-edit.ts'
import { initialConfigText, sampleConfigText } from '../../src/core/config-text.ts'
import { parseFenceDevice } from '../../src/core/fence.ts'
import { portalProblem } from '../../src/core/iscsi.ts'
import { ruleProblem, tagProblem } from '../../src/core/rule.ts'
import { checkIds } from '../../src/core/validate/ids.ts'

const parse = (text: string) => parseConfig(text, 'config.yaml')
const sentences = (text: string) => parse(text).problems.map(describeProblem)

/** Setting a key and value that the compiler cannot know, as a property does. */
const set = (text: string, key: ConfigKey, value: unknown) =>
  setConfigValue(text, key, value as ConfigValue<typeof key>)

/** Values that an option takes, far enough from the rule between claim.ttlMs and ssh. */
function valuesOf(option: ConfigOption): fc.Arbitrary<unknown> {
  const { min = 0, max = 0 } = option
  if (option.key === 'claim.ttlMs') return fc.integer({ min: 10_001, max })
  if (option.key === 'ssh.aliveIntervalSeconds') return fc.integer({ min, max: 14 })
  if (option.key === 'ssh.aliveCountMax') return fc.integer({ min, max: 5 })
  if (option.key === 'libvirt.uri') return fc.stringMatching(/^[a-z]{1,9}:\/\/\/(system|session)$/)
  if (option.key === 'migrate.uri') {
    const uri = fc.stringMatching(/^[a-z]{1,9}:\/\/[\x21-\x7e]{0,9}%n[\x21-\x7e]{0,9}$/)
    return fc.oneof(fc.constant(''), uri)
  }
  if (option.key === 'iscsi.portals')
    return fc
      .uniqueArray(
        fc.stringMatching(/^10\.0\.0\.[1-9](:326[0-9])?( username=[a-zä ]{1,5} password=@\/[a-z#']{1,5})?$/),
        {
          maxLength: 3,
          comparator: (a, b) => portalProblem(a, [b]) !== undefined,
        },
      )
      .filter(portals => portals.every(portal => portalProblem(portal, []) === undefined))
  if (option.key === 'validate.required') return fc.uniqueArray(fc.constantFrom(...checkIds), { maxLength: 4 })
  if (option.key === 'placement.rules')
    return fc
      .uniqueArray(fc.stringMatching(/^(soft )?(apart|together) [a-z]{1,5} ([b-z]{2,5}|"x, y"|tag:[a-z]{1,4}|ä\*)$/), {
        maxLength: 3,
        comparator: (a, b) => ruleProblem(a, [b]) !== undefined,
      })
      .filter(rules => rules.every(rule => ruleProblem(rule, []) === undefined))
  if (option.key === 'placement.tags')
    return fc
      .uniqueArray(fc.stringMatching(/^[a-z]{1,5}: [a-z]{1,5}( [ä-ü*'#]{1,4}){0,2}$/), {
        maxLength: 3,
        comparator: (a, b) => tagProblem(a, [b]) !== undefined,
      })
      .filter(tags => tags.every(tag => tagProblem(tag, []) === undefined))
  if (option.key === 'fence.devices') {
    const entry = fc.stringMatching(/^node[1-9] fence_[a-z]{1,9}( ip=[\x20-\x21\x23-\x26\x28-\x3f\u00e4]{1,9}){0,1}$/)
    return fc.uniqueArray(
      entry.filter(text => typeof parseFenceDevice(text) !== 'string'),
      {
        maxLength: 4,
        selector: text => text.split(' ')[0],
      },
    )
  }
  if (option.choices) return fc.constantFrom(...option.choices)
  if (option.type === 'boolean') return fc.boolean()
  if (option.type === 'integer') return fc.integer({ min, max })
  if (option.type === 'number') return fc.double({ min, max, noNaN: true })
  return fc.array(fc.stringMatching(/^(User|Port|SetEnv)=[\x20-\x7e\u00e4\u{1f600}]{1,20}$/u), { maxLength: 4 })
}

const settings = fc
  .constantFrom<ConfigOption[]>(...configOptions)
  .chain(option => valuesOf(option).map(value => ({ key: option.key as ConfigKey, value })))

describe('the generated files', () => {
  test('initial config.yaml: dryrun is active, every other key is a comment', async () => {
    await expect(initialConfigText()).toMatchFileSnapshot('config/initial.golden')
    const active = initialConfigText().match(/^ *\w+: .*$/gm)
    expect(active).toEqual(['dryrun: true'])
  })

  test('config.sample.yaml: every key is active', async () => {
    await expect(sampleConfigText()).toMatchFileSnapshot('config/sample.golden')
  })

  test.each([
    ['initial', initialConfigText()],
    ['sample', sampleConfigText()],
    ['initial with every # before a key taken away', initialConfigText().replaceAll(/#(?=\S)/g, '')],
  ])('%s text: gives exactly the defaults', (_name, text) => {
    expect(parse(text)).toEqual({ config: defaultConfig, problems: [] })
  })

  test('every option has its default where its key says', () => {
    for (const option of configOptions) expect(configValue(defaultConfig, option.key)).toEqual(option.default)
  })
})

describe('accepted', () => {
  test.each([
    ['an empty file', ''],
    ['comments only', '# nothing\n\n  # here\n'],
    ['a document marker only', '---\n'],
    ['sections without keys', 'observe:\nclaim: ~\nssh:\n  # options: []\n'],
    ['a byte order mark alone', '\ufeff'],
  ])('%s: all defaults', (_name, text) => {
    expect(parse(text)).toEqual({ config: defaultConfig, problems: [] })
  })

  test.each([
    ['false', false],
    ['0', false],
    ['1', true],
    ['True', true],
  ])('dryrun: %s is %s', (written, value) => {
    const { config, problems } = parse(`dryrun: ${written}\n`)
    expect(problems).toEqual([])
    expect(config.dryrun).toBe(value)
  })

  test('a byte order mark and CRLF: read as usual', () => {
    const { config, problems } = parse('\ufeffdryrun: false\r\nobserve:\r\n  timeoutMs: 700\r\n')
    expect(problems).toEqual([])
    expect([config.dryrun, config.observe.timeoutMs]).toEqual([false, 700])
  })

  test('flow style, quotes, and lists in both styles: read as usual', () => {
    const { config, problems } = parse('{"dryrun": false, ssh: {options: [User=a]}, libvirt: {uri: "qemu:///session"}}')
    expect(problems).toEqual([])
    expect([config.dryrun, config.ssh.options, config.libvirt.uri]).toEqual([false, ['User=a'], 'qemu:///session'])
    expect(parse('ssh:\n  options:\n  - User=a\n  - Port=23\n').config.ssh.options).toEqual(['User=a', 'Port=23'])
  })
})

describe('refused, with line and reason', () => {
  const milliseconds = 'expected a whole number of milliseconds from 500 to 60000'
  const seconds = 'ssh notices a silent node (ssh.aliveIntervalSeconds times ssh.aliveCountMax)'
  test.each([
    ['a misspelt key', '# one\n\ndry_run: false', "3: unknown key 'dry_run'; did you mean 'dryrun'?"],
    ['a key without its section', 'timeoutMs: 9', "1: unknown key 'timeoutMs'; did you mean 'observe.timeoutMs'?"],
    [
      'a key of two sections',
      'timeoutSeconds: 9',
      "1: unknown key 'timeoutSeconds'; did you mean 'stop.timeoutSeconds' or 'migrate.timeoutSeconds'?",
    ],
    [
      'the beginning of a key',
      'stop:\n  timeout: 9',
      "2: unknown key 'stop.timeout'; did you mean 'stop.timeoutSeconds'?",
    ],
    ['a key in the wrong section', 'ssh:\n  dryrun: false', "2: unknown key 'ssh.dryrun'; did you mean 'dryrun'?"],
    ['a misspelt section', 'observ:\n  timeoutMs: 900', "1: unknown key 'observ'; did you mean 'observe'?"],
    [
      'a key with a dot',
      'observe.timeoutMs: 900',
      "1: unknown key 'observe.timeoutMs'; write 'timeoutMs:' indented below 'observe:'",
    ],
    ['a key like no other', 'zzz: 1', "1: unknown key 'zzz'"],
    ['the name of a builtin', '__proto__: {a: 1}', "1: unknown key '__proto__'"],
    [
      'a merge key',
      'ssh:\n  <<: {}',
      "2: unknown key 'ssh.<<'; merge keys are not read here, write the keys themselves",
    ],
    ['a key that is a number', '1: 2', "1: a key must be a plain word, not '1'"],
    ['a key that is a list', '? [a]\n: 1', "1: a key must be a plain word, not '[a]'"],
    ['a unit behind a number', 'observe:\n  timeoutMs: 5 s', `2: observe.timeoutMs is '5 s'; ${milliseconds}`],
    ['a number in quotes', 'observe:\n  timeoutMs: "900"', `2: observe.timeoutMs is '"900"'; ${milliseconds}`],
    ['a fraction', 'observe:\n  timeoutMs: 900.5', `2: observe.timeoutMs is '900.5'; ${milliseconds}`],
    ['too little', 'observe:\n  timeoutMs: 499', `2: observe.timeoutMs is '499'; ${milliseconds}`],
    ['too much', 'observe:\n  timeoutMs: 60001', `2: observe.timeoutMs is '60001'; ${milliseconds}`],
    ['no value', 'observe:\n  timeoutMs:\n', `2: observe.timeoutMs has no value; ${milliseconds}`],
    ['infinity', 'node:\n  vcpuRatio: .inf', "2: node.vcpuRatio is '.inf'; expected a number from 0.1 to 64"],
    ['not a number', 'node:\n  vcpuRatio: .nan', "2: node.vcpuRatio is '.nan'; expected a number from 0.1 to 64"],
    ['yes', 'dryrun: yes', "1: dryrun is 'yes'; expected true or false; write true"],
    ['off', 'dryrun: off', "1: dryrun is 'off'; expected true or false; write false"],
    ['yes in YAML 1.1', '%YAML 1.1\n---\ndryrun: no', "3: dryrun is 'no'; expected true or false; write false"],
    ['2 as a boolean', 'dryrun: 2', "1: dryrun is '2'; expected true or false"],
    [
      'a misspelt choice',
      'output:\n  format: jsn',
      "2: output.format is 'jsn'; expected one of auto, table, tsv, json, yaml; did you mean 'json'?",
    ],
    [
      'a remote libvirt URI',
      'libvirt:\n  uri: qemu+ssh://a/system',
      "2: libvirt.uri is 'qemu+ssh://a/system'; expected a local libvirt URI such as 'qemu:///system' or 'qemu:///session'",
    ],
    [
      'one migration address for all nodes',
      'migrate:\n  uri: tcp://a',
      "2: migrate.uri is 'tcp://a'; expected empty ('') or a URI with %n for the target node, such as 'tcp://%n-mig'",
    ],
    [
      'a section with a value',
      'ssh: 5',
      "1: ssh is '5'; expected keys such as aliveIntervalSeconds on indented lines below it",
    ],
    ['a tab', 'observe:\n\ttimeoutMs: 900', '2: YAML does not allow tabs for indentation; use spaces'],
    ['a key twice', 'dryrun: true\n\ndryrun: false', "3: 'dryrun' is set a second time; it stands on line 1 already"],
    ['a list at the top', '- dryrun', '1: expected keys and values such as dryrun: true at the top of the file'],
    ['a word at the top', '\ndryrun', '2: expected keys and values such as dryrun: true at the top of the file'],
    ['two documents', 'dryrun: true\n---\n', '2: a second YAML document starts here; a config file holds only one'],
    ['NUL', 'dryrun: true\n\0', '2: this line is not text (UTF-8)'],
    ['not UTF-8', '# M\ufffdller\n', '1: this line is not text (UTF-8)'],
    ['over 1 MiB', '#'.repeat(2 ** 20 + 1), '1: this file is larger than 1 MiB; a config file is not'],
    ['an alias', 'dryrun: &a false\nmigrate:\n  unsafe: *a', '3: migrate.unsafe is an alias; write the value itself'],
    ['an unknown tag', 'dryrun: !no true', '1: not valid YAML: Unresolved tag: !no'],
    ['an open quote', 'dryrun: "', '1: not valid YAML: Missing closing "quote'],
    [
      'a claim too short for ssh',
      'claim:\n  ttlMs: 10000',
      `2: claim.ttlMs is 10000; expected more than 10000 milliseconds, the time until ${seconds}`,
    ],
    [
      'ssh too slow for a claim',
      'ssh:\n  aliveCountMax: 6',
      `2: claim.ttlMs is 30000; expected more than 30000 milliseconds, the time until ${seconds}`,
    ],
    [
      'ssh options as a word',
      'ssh:\n  options: a',
      "2: ssh.options is 'a'; expected a list in brackets of ssh options such as 'User=admin'",
    ],
  ])('%s', (_name, text, sentence) => {
    expect(sentences(text)).toEqual([`config.yaml:${sentence}`])
    expect(parse(text).config.dryrun).toBe(!text.startsWith('dryrun: &a false'))
  })

  test('several problems: all are told, in the order of the file, and the good keys count', () => {
    const text = 'dryrun: maybe\nstop:\n  timeoutSeconds: 9\n  x: 1\nssh:\n  options: [ok=1, PROXYCOMMAND=x, no, 5]\n'
    expect(sentences(text)).toEqual([
      "config.yaml:1: dryrun is 'maybe'; expected true or false",
      "config.yaml:4: unknown key 'stop.x'",
      "config.yaml:6: ssh.options holds 'PROXYCOMMAND=x', which is not allowed here: it belongs into ~/.ssh/config",
      "config.yaml:6: ssh.options holds 'no'; expected ssh options such as 'User=admin'",
      "config.yaml:6: ssh.options holds an entry that is not a text; expected ssh options such as 'User=admin'",
    ])
    const { config, problems } = parse(text)
    expect([config.dryrun, config.stop.timeoutSeconds, config.ssh.options]).toEqual([true, 9, []])
    expect(problems[2]).toMatchObject({ file: 'config.yaml', line: 6, column: 19, key: 'ssh.options', level: 'error' })
  })

  test.each([
    ['brackets', '['.repeat(20_000)],
    ['brackets on many lines', '[\n'.repeat(20_000)],
    ['lists in lists', '- '.repeat(20_000)],
    ['maps in maps', Array.from({ length: 1000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
    ['aliases of aliases', Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [*a${i - 1}, *a${i - 1}]`).join('\n')],
  ])('a bomb of %s: a problem, soon', (_name, text) => {
    expect(parse(text).problems.length).toBeGreaterThan(0)
  })

  test('any text: problems or a config, never an exception', () => {
    const pieces = [
      'dryrun',
      'observe',
      ': ',
      ':\n',
      '\n',
      '  ',
      '\t',
      '- ',
      '? ',
      '[',
      ']',
      '{',
      '}',
      ',',
      '"',
      "'",
      '|\n',
    ]
    const yamlLike = fc.array(
      fc.oneof(
        fc.constantFrom(...pieces, '&a ', '*a', '!!str ', '!', '%YAML 1.1\n', '---\n', '...\n', '#', '<<', '\r\n'),
        fc.string(),
      ),
    )
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      yamlLike.map(parts => parts.join('')),
    )
    fc.assert(
      fc.property(text, written => {
        const { config, problems } = parse(written)
        expect(Object.keys(config)).toEqual(Object.keys(defaultConfig))
        for (const { line, column } of problems) expect(Math.min(line, column)).toBeGreaterThan(0)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('setConfigValue', () => {
  test.each<[string, string, ConfigKey, unknown, string]>([
    ['a value that is there', 'dryrun: true # wait\n', 'dryrun', false, 'dryrun: false # wait\n'],
    ['a file without final line break', 'dryrun: true', 'dryrun', false, 'dryrun: false'],
    ['CRLF', '\ufeffstop:\r\n', 'stop.timeoutSeconds', 9, '\ufeffstop:\r\n  timeoutSeconds: 9\r\n'],
    ['an empty file', '', 'stop.timeoutSeconds', 9, 'stop:\n  timeoutSeconds: 9\n'],
    ['a file of comments', '# c', 'dryrun', false, '# c\ndryrun: false\n'],
    ['no dryrun', '# mine\n\n# ssh\nssh:\n', 'dryrun', false, '# mine\n\ndryrun: false\n# ssh\nssh:\n'],
    ['no section, last', 'dryrun: true\n', 'output.format', 'json', 'dryrun: true\n\noutput:\n  format: json\n'],
    [
      'no section, between others',
      'dryrun: true\n\n# how\noutput:\n',
      'stop.timeoutSeconds',
      9,
      'dryrun: true\n\nstop:\n  timeoutSeconds: 9\n\n# how\noutput:\n',
    ],
    [
      'before the end marker',
      '---\nssh:\n...\n',
      'stop.timeoutSeconds',
      9,
      '---\nssh:\n\nstop:\n  timeoutSeconds: 9\n...\n',
    ],
    [
      'a commented-out default with a comment behind it',
      'ssh:\n  # slow?\n  #aliveCountMax: 2 # two\n  #persistSeconds: 600\n',
      'ssh.aliveCountMax',
      3,
      'ssh:\n  # slow?\n  aliveCountMax: 3 # two\n  #persistSeconds: 600\n',
    ],
    [
      'a comment that only looks like the key',
      'stop:\n  # timeoutSeconds: how long\nmigrate:\n  #timeoutSeconds: 0\n',
      'stop.timeoutSeconds',
      9,
      'stop:\n  timeoutSeconds: 9\n  # timeoutSeconds: how long\nmigrate:\n  #timeoutSeconds: 0\n',
    ],
    [
      'a commented-out default beside keys with four spaces',
      'ssh:\n    aliveCountMax: 1\n  #persistSeconds: 600\n',
      'ssh.persistSeconds',
      9,
      'ssh:\n    aliveCountMax: 1\n    persistSeconds: 9\n',
    ],
    [
      'a key without value',
      'stop:\n  timeoutSeconds: # todo\n',
      'stop.timeoutSeconds',
      9,
      'stop:\n  timeoutSeconds: 9 # todo\n',
    ],
    ['a key with a wrong value', 'dryrun: maybe\nx: 1\n', 'dryrun', true, 'dryrun: true\nx: 1\n'],
    ['a section that is ~', 'stop: ~ # c\n', 'stop.timeoutSeconds', 9, 'stop:  # c\n  timeoutSeconds: 9\n'],
    ['a key in braces', '{stop: {timeoutSeconds: 5 }}', 'stop.timeoutSeconds', 9, '{stop: {timeoutSeconds: 9 }}'],
    ['a new key in braces', '{dryrun: true}', 'stop.timeoutSeconds', 9, '{stop: {timeoutSeconds: 9}, dryrun: true}'],
    ['a section in braces', 'stop: {}\n', 'stop.timeoutSeconds', 9, 'stop: {timeoutSeconds: 9}\n'],
    [
      'a list over several lines',
      'ssh:\n  options: # mine\n  - User=a\n  - User=b # b\n  # end\n  aliveCountMax: 1\n',
      'ssh.options',
      ['User=c', 'SetEnv=A=1, 2'],
      "ssh:\n  options: ['User=c', 'SetEnv=A=1, 2'] # mine\n  # end\n  aliveCountMax: 1\n",
    ],
  ])('%s', (_name, text, key, value, result) => {
    expect(set(text, key, value)).toBe(result)
  })

  test.each<[string, string, ConfigKey, unknown, string]>([
    [
      'a wrong value',
      '',
      'observe.timeoutMs',
      1,
      "observe.timeoutMs is '1'; expected a whole number of milliseconds from 500 to 60000",
    ],
    ['an unknown key', '', 'dry_run' as ConfigKey, true, "unknown key 'dry_run'; did you mean 'dryrun'?"],
    [
      'text that is not YAML',
      'a:\n\tb: 1',
      'dryrun',
      true,
      'config.yaml:2: YAML does not allow tabs for indentation; use spaces',
    ],
    ['a list instead of a config', '- a\n', 'dryrun', true, 'config.yaml:2: not valid YAML'],
    ['a section that is none', 'ssh: 5\n', 'ssh.aliveCountMax', 1, 'ssh is not a section with keys in this file'],
    [
      'a value that breaks a rule with another',
      '',
      'ssh.aliveCountMax',
      9,
      'config.yaml:2: claim.ttlMs is 30000; expected more than 45000',
    ],
  ])('%s: says so and changes nothing', (_name, text, key, value, message) => {
    expect(() => set(text, key, value)).toThrow(ConfigEditError)
    expect(() => set(text, key, value)).toThrow(message)
  })

  test.each([
    ['initial', initialConfigText()],
    ['sample', sampleConfigText()],
    ['initial with CRLF', initialConfigText().replaceAll('\n', '\r\n')],
  ])('%s text, any value: one line changes, and it is read back', (_name, text) => {
    fc.assert(
      fc.property(settings, ({ key, value }) => {
        const edited = set(text, key, value)
        const { config, problems } = parse(edited)
        expect(problems).toEqual([])
        expect(configValue(config, key)).toEqual(value)
        const [before, after] = [text.split('\n'), edited.split('\n')]
        expect(after.length).toBe(before.length)
        expect(after.filter((line, index) => line !== before[index]).length).toBeLessThanOrEqual(1)
      }),
      { numRuns: 300 },
    )
  })

  test('any settings one after the other, from nothing: all are read back, and no other line changes', () => {
    const ruled: readonly string[] = ['claim.ttlMs', 'ssh.aliveCountMax']
    const free = settings.filter(({ key }) => !ruled.includes(key))
    fc.assert(
      fc.property(fc.array(free, { maxLength: 12 }), list => {
        const expected = new Map<ConfigKey, unknown>()
        let text = '# mine\n'
        for (const { key, value } of list) {
          const others = text.split('\n').filter(line => !line.includes(`${key.split('.').at(-1)}:`))
          text = set(text, key, value)
          expected.set(key, value)
          expect(text.split('\n')).toEqual(expect.arrayContaining(others))
        }
        const { config, problems } = parse(text)
        expect(problems).toEqual([])
        for (const [key, value] of expected) expect(configValue(config, key)).toEqual(value)
      }),
    )
  })
})
