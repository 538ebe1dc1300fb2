/** The command line: help, usage errors, and what reaches an operation. */
import { describe, expect, test } from 'vitest'
import { buildProgram, type GlobalOptions, globalOptions, groups } from '../../src/cli/program.ts'
import type { Described, Input } from '../../src/operations/operation.ts'
import { operations } from '../../src/operations.ts'
import { havirt } from './capture.ts'

/** What an operation would be given, without running it. */
async function given(
  ...words: string[]
): Promise<{ name: string; input: Omit<Input, 'mode'>; options: GlobalOptions }> {
  let heard: { operation: Described; input: Omit<Input, 'mode'>; options: GlobalOptions } | undefined
  const program = buildProgram({ above: '/nowhere', version: '0' }, async (operation, input, options) => {
    heard = { operation, input, options }
  })
  await program.parseAsync(words, { from: 'user' })
  if (heard === undefined) throw new Error('no operation was run')
  return { name: heard.operation.name, input: heard.input, options: heard.options }
}

describe('help', () => {
  test.each([
    ['havirt', ['--help']],
    ['domain', ['domain', '--help']],
    ['domain-start', ['domain', 'start', '--help']],
  ])('of %s', async (name, words) => {
    const { status, stdout, stderr } = await havirt(...words)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    await expect(stdout).toMatchFileSnapshot(`golden/help-${name}.golden`)
  })

  test('is the same by help VERB', async () => {
    expect(await havirt('help', 'domain', 'start')).toEqual(await havirt('domain', 'start', '--help'))
    expect(await havirt('help')).toEqual(await havirt('--help'))
  })

  test('of each operation says what it promises, shows examples and the options that every command takes', async () => {
    for (const { name, description, examples } of operations) {
      const { status, stdout } = await havirt(...name.split(' '), '--help')
      expect(status).toBe(0)
      for (const text of [description, ...examples, '--home <FOLDER>', '--yes']) expect(stdout, name).toContain(text)
    }
  })

  test('is printed, as an error, where a verb is missing', async () => {
    for (const words of [[], ['domain'], ['node']]) {
      const { status, stdout, stderr } = await havirt(...words)
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
      expect(stderr).toContain('Commands:')
    }
  })

  test('knows the version', async () => {
    expect(await havirt('--version')).toEqual({ status: 0, stdout: 'havirt 1.2.3\n', stderr: '' })
  })
})

describe('the table of operations', () => {
  test('names each operation once, and each group', () => {
    const names = operations.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) {
      expect(name).toMatch(/^[a-z]+( [a-z-]+)?$/)
      if (name.includes(' ')) expect(groups, name).toHaveProperty(name.split(' ')[0] ?? '')
    }
  })

  test.each(operations.map(operation => [operation.name, operation] as const))('%s is described', (name, operation) => {
    expect(operation.summary).toMatch(/^[a-z].*[^.]$/)
    expect(operation.description).toMatch(/^[A-Z].*\.$/s)
    expect(operation.examples.length).toBeGreaterThan(0)
    for (const example of operation.examples) expect(example).toMatch(new RegExp(`havirt (-y )?${name}\\b`))
    for (const { help } of [...operation.args, ...operation.options, ...(operation.columns ?? [])])
      expect(help).toMatch(/^\S.{2,}[^.]$/s)
    for (const { key, title } of operation.columns ?? [])
      expect([key, title]).toEqual([expect.stringMatching(/./), title.toUpperCase()])
    const shortOrLong = [...operation.options, ...globalOptions].flatMap(({ flags }) => flags.match(/-{1,2}[a-z-]+/g))
    expect(new Set(shortOrLong).size).toBe(shortOrLong.length)
  })

  test.each(operations.flatMap(operation => operation.examples.map(example => [example, operation] as const)))(
    'the example %s is one',
    async (example, operation) => {
      const words = example.slice(example.indexOf('havirt ') + 7).split(' ')
      expect((await given(...words)).name).toBe(operation.name)
    },
  )
})

describe('wrong usage ends with status 2 and one sentence', () => {
  test.each([
    [['domian', 'list'], "havirt: unknown command 'domian'\n(Did you mean domain?)"],
    [['domain', 'strat', 'web'], "havirt: unknown command 'strat'\n(Did you mean start?)"],
    [['--hom', 'x', 'info'], "havirt: unknown option '--hom'\n(Did you mean --home?)"],
    [['domain', 'stop', 'web', '--forse'], "havirt: unknown option '--forse'\n(Did you mean --force?)"],
    [['domain', 'start'], "havirt: missing required argument 'NAME'"],
    [['domain', 'migrate', 'web'], "havirt: missing required argument 'NODE'"],
    [['domain', 'start', 'a', 'b', 'c'], "havirt: too many arguments for 'start'. Expected 2 arguments but got 3."],
    [['completion', 'tcsh'], 'Allowed choices are bash, zsh, fish.'],
    [['-o', 'xml', 'info'], 'Allowed choices are table, tsv, json, yaml.'],
    [['domain', 'stop', 'web', '--mode', 'loud'], 'Allowed choices are acpi, agent.'],
    [['domain', 'stop', 'web', '--timeout'], "havirt: option '--timeout <SECONDS>' argument missing"],
    [['info', '-y', '--dryrun'], 'error: --yes and --dryrun contradict each other'],
  ])('%j', async (words, sentence) => {
    const { status, stdout, stderr } = await havirt(...words)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(sentence)
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3)
  })

  const ranged = operations.flatMap(operation =>
    operation.options.flatMap(option =>
      option.range === undefined ? [] : [{ operation, option, range: option.range }],
    ),
  )
  test.each(ranged.map(each => [`${each.operation.name} ${each.option.flags}`, each] as const))(
    '%s outside its range',
    async (_name, { operation, option, range: { min, max } }) => {
      const flag = option.flags.split(' ')[0] ?? ''
      const args = operation.args.map(() => 'x')
      for (const value of [String(min - 1), String(max + 1), '', ' ', 'x', '1.5', '1e3', '0x10', '-1', '１']) {
        const { status, stderr } = await havirt(...operation.name.split(' '), ...args, `${flag}=${value}`)
        expect(status, value).toBe(2)
        expect(stderr).toContain(`Expected a whole number from ${min} to ${max}.`)
      }
      for (const value of [min, max]) {
        const { input } = await given(...operation.name.split(' '), ...args, flag, String(value))
        expect(Object.values(input.options)).toEqual([value])
      }
    },
  )
})

describe('what reaches an operation', () => {
  test('its words and options, by the names of the table', async () => {
    const { name, input } = await given('domain', 'migrate', 'web', 'node3', '--bandwidth', '200', '--post-copy')
    expect(name).toBe('domain migrate')
    expect(input).toEqual({
      words: { NAME: 'web', NODE: 'node3' },
      options: { bandwidth: 200, postCopy: true },
      spelled: 'havirt domain migrate web node3',
    })
  })

  test('many words as a list, and none as an empty one', async () => {
    expect((await given('node', 'scan', 'a', 'b')).input.words).toEqual({ NODE: ['a', 'b'] })
    expect((await given('node', 'scan')).input.words['NODE'] ?? []).toEqual([])
  })

  test.each([
    [['-y', 'domain', 'start', 'web'], { yes: true }],
    [['domain', '-y', 'start', 'web'], { yes: true }],
    [['domain', 'start', 'web', '--yes'], { yes: true }],
    [['domain', 'start', '--dryrun', 'web'], { dryrun: true }],
    [['domain', 'start', '--no-dryrun', 'web'], { dryrun: false }],
    [['domain', 'start', 'web'], {}],
    [
      ['domain', 'start', 'web', '-o', 'json', '-q', '--ensure', '--home', '/x'],
      { output: 'json', quiet: true, ensure: true, home: '/x' },
    ],
  ])('%j: the options of every command may stand anywhere', async (words, options) => {
    const heard = await given(...words)
    expect(heard.options).toEqual(options)
    expect(heard.input.words['NAME']).toBe('web')
  })

  test('a word that looks like an option, behind --', async () => {
    expect((await given('node', 'update', '--', '-oProxyCommand=x')).input.words).toEqual({
      NODE: ['-oProxyCommand=x'],
    })
  })
})
