/** A command line as the table of operations reads it: words in, an operation and its input out (src/cli/program.ts for people). */
import type { Input, Operation } from '../operations/operation.ts'
import { operations } from '../operations.ts'

export interface Parsed {
  readonly operation: Operation
  readonly input: Input
}

const known = new Map<string, Parsed>()
const GLOBAL: Readonly<Record<string, string>> = {
  '-y': 'yes',
  '--yes': 'yes',
  '--ensure': 'ensure',
  '--dryrun': 'dryrun',
}

/** Reads one command, without the `havirt` before it. Throws for what the table does not have. */
export function parseWords(words: readonly string[]): Parsed {
  const line = words.join(' ')
  const found = known.get(line) ?? parse(words, line)
  known.set(line, found)
  return found
}

/** True when the table has such an operation. */
export function isOperation(name: string): boolean {
  return operations.some(operation => operation.name === name)
}

/** What a person types for these words: whatever changes something is only shown without `-y`. */
export function typedWords(words: readonly string[]): string {
  const shown = words.includes('--dryrun')
  const plain = words.filter(word => word !== '--dryrun' && word !== '-y')
  const flag = operationOf(plain)?.changes === true && !shown ? ['-y'] : []
  return ['havirt', ...flag, ...plain].join(' ')
}

/** The inverse of {@link typedWords}. */
export function wordsTyped(line: string): readonly string[] {
  const words = line.split(/\s+/).slice(1)
  const plain = words.filter(word => word !== '-y')
  return operationOf(plain)?.changes === true && plain.length === words.length ? [...plain, '--dryrun'] : plain
}

function operationOf(words: readonly string[]): Operation | undefined {
  return operations.find(({ name }) => `${words.join(' ')} `.startsWith(`${name} `))
}

function parse(words: readonly string[], line: string): Parsed {
  const operation = operations.find(
    ({ name }) =>
      line === name ||
      line.replace(/^(-y |--yes )/, '').startsWith(`${name} `) ||
      line.replace(/^(-y |--yes )/, '') === name,
  )
  if (operation === undefined) throw new Error(`no operation: ${line}`)
  const { plain, options } = split(operation, words)
  const given = plain.slice(operation.name.split(' ').length)
  const named = operation.args.map(({ name, many }, at) => [name, many ? given.slice(at) : given[at]] as const)
  const spelled = ['havirt', operation.name, ...given].join(' ')
  const mode = {
    act: options['dryrun'] !== true,
    ensure: options['ensure'] === true,
    waitMs: Number(options['wait'] ?? 0) * 1000,
  }
  return { operation, input: { words: Object.fromEntries(named), options, mode, spelled } }
}

function split(operation: Operation, words: readonly string[]) {
  const plain: string[] = []
  const options: Record<string, string | number | boolean> = {}
  for (let at = 0; at < words.length; at++) {
    const each = words[at] ?? ''
    const option = operation.options.find(({ flags }) => flags.split(/[ ,]+/).includes(each))
    if (each === '--wait') options['wait'] = Number(words[++at])
    else if (GLOBAL[each] !== undefined && option === undefined) options[GLOBAL[each]] = true
    else if (option === undefined) plain.push(each)
    else if (/ [A-Z]+$/.test(option.flags))
      options[keyOf(option.flags)] = typed(words[++at] ?? '', option.range !== undefined)
    else options[keyOf(option.flags)] = true
  }
  return { plain, options }
}

function keyOf(flags: string): string {
  const long = /--([a-z-]+)/.exec(flags)?.[1] ?? ''
  return long.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

function typed(text: string, isNumber: boolean): string | number {
  return isNumber ? Number(text) : text
}
