/** Operations on config.yaml. */
import { type ConfigKey, configOptions, configValue, optionByKey } from '../core/config.ts'
import { setConfigValue } from '../core/config-edit.ts'
import type { Parts } from '../operate.ts'
import { type Column, exitStatus, failure, note, type Report } from '../report.ts'
import { type Input, type Operation, requiredWord } from './operation.ts'

const COLUMNS: readonly Column[] = [
  { key: 'key', title: 'KEY', help: 'the option, as sections and dots' },
  { key: 'value', title: 'VALUE', help: 'what holds now' },
  { key: 'default', title: 'DEFAULT', help: 'what holds when config.yaml says nothing' },
  { key: 'help', title: 'MEANING', help: 'what it does' },
]

const KEYS = configOptions.map(({ key }) => key)

export const configOperations: readonly Operation[] = [
  {
    name: 'config list',
    summary: 'show every option, its value and its meaning',
    description: 'What config.yaml says, and the default where it says nothing.',
    args: [],
    options: [],
    changes: false,
    columns: COLUMNS,
    examples: ['havirt config list'],
    run: async parts => listConfig(parts),
  },
  {
    name: 'config set',
    summary: 'change one option in config.yaml',
    description:
      'Changes that one value, or adds it, and leaves every other byte of config.yaml as it is, comments and order included. Lists are written with commas.',
    args: [
      { name: 'KEY', help: 'the option', required: true, words: KEYS },
      { name: 'VALUE', help: 'its new value', required: true },
    ],
    options: [],
    changes: false,
    examples: ['havirt config set dryrun false', 'havirt config set stop.timeoutSeconds 300'],
    run: setConfig,
  },
]

function listConfig(parts: Parts): Report {
  const rows = configOptions.map(option => ({
    key: option.key,
    value: shown(configValue(parts.home.config, option.key)),
    default: shown(option.default),
    help: option.help,
  }))
  return { exit: exitStatus.done, table: { columns: COLUMNS, rows }, messages: [] }
}

function shown(value: unknown): string {
  return Array.isArray(value) ? value.join(',') : String(value)
}

async function setConfig(parts: Parts, input: Input): Promise<Report> {
  const key = KEYS.find(each => each === requiredWord(input, 'KEY'))
  if (key === undefined)
    return {
      exit: exitStatus.usage,
      messages: [failure(`there is no option '${requiredWord(input, 'KEY')}'`, 'havirt config list shows all of them')],
    }
  const value = typed(key, requiredWord(input, 'VALUE'))
  try {
    await parts.home.editConfig(text => setConfigValue(text, key, value))
  } catch (error) {
    return { exit: exitStatus.usage, messages: [failure(error instanceof Error ? error.message : String(error))] }
  }
  return { exit: exitStatus.done, messages: [note(`${key} is ${shown(value)} now`)] }
}

/** A word as the option's type wants it; what does not fit is left as it is, for the option's own check to say so. */
function typed<K extends ConfigKey>(key: K, word: string): never {
  const option = optionByKey.get(key)
  return convert(option?.type ?? 'text', word, option?.separator ?? ',') as never
}

function convert(type: string, word: string, separator: string | RegExp): unknown {
  if (type === 'list') return word === '' ? [] : word.split(separator)
  if (type === 'boolean')
    return word === 'true' || word === '1' ? true : word === 'false' || word === '0' ? false : word
  return (type === 'integer' || type === 'number') && /^-?\d+(\.\d+)?$/.test(word) ? Number(word) : word
}
