/** Setting one option in config text so that every other line stays as it is. */
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, type Pair } from 'yaml'
import {
  type ConfigKey,
  type ConfigOption,
  type ConfigValue,
  configOptions,
  configValue,
  nameOf,
  namesIn,
  type OptionValue,
  optionByKey,
  sectionOf,
} from './config.ts'
import {
  accepted,
  describeProblem,
  faultsOf,
  inQuotes,
  isEmpty,
  parseConfig,
  parseYaml,
  rawValue,
  readDocument,
  startOf,
  startReading,
  unknownKey,
} from './config-check.ts'
import { valueText } from './config-text.ts'

/** An edit that would not give a config that says what was asked for; nothing was changed. */
export class ConfigEditError extends Error {
  override readonly name = 'ConfigEditError'
}

const topOrder = [...new Set(configOptions.map(option => sectionOf(option.key) || option.key))]

interface Edit {
  readonly from: number
  readonly to: number
  readonly text: string
}

/** A block of keys in the text: the whole file, or what stands below a section's key. */
interface Block {
  readonly text: string
  readonly pairs: readonly Pair[]
  readonly order: readonly string[]
  readonly from: number
  readonly to: number
  /** Where a key without a successor goes. */
  readonly end: number
  readonly indent: string
  /** How far a commented-out key may be indented to belong here. */
  readonly belongs: (indent: number) => boolean
}

/**
 * Sets one option in the text of a config file and keeps every other line as it is: replaces the value where the key
 * stands, else takes the # off the commented-out default, else adds the key. Throws ConfigEditError, with a sentence
 * for the user, when the text is not YAML or would have a new problem afterwards.
 */
export function setConfigValue<K extends ConfigKey>(
  text: string,
  key: K,
  value: ConfigValue<K>,
  fileName = 'config.yaml',
): string {
  const option = optionByKey.get(key)
  if (!option) throw new ConfigEditError(unknownKey(sectionOf(key), nameOf(key)))
  const fault = faultsOf(option, value, inQuotes(String(value)))[0]
  if (fault) throw new ConfigEditError(fault.message)
  const reading = startReading(text, fileName)
  const document = readDocument(reading)
  if (!document) throw new ConfigEditError(reading.problems.map(describeProblem).join('\n'))
  const edits = editsFor(reading.text, document, option, valueText(option, value))
  const edited = text.slice(0, text.length - reading.text.length) + applyEdits(reading.text, edits)
  refuseSurprise(text, edited, option, accepted(option, value), fileName)
  return edited
}

/** An edit is right when the option has its value, every other option its old one, and no problem is new. */
function refuseSurprise(
  before: string,
  after: string,
  option: ConfigOption,
  value: OptionValue,
  fileName: string,
): void {
  const [was, is] = [parseConfig(before, fileName), parseConfig(after, fileName)]
  const known = new Set(was.problems.filter(problem => problem.key !== option.key).map(problem => problem.message))
  const surprise = is.problems.find(problem => !known.has(problem.message))
  if (surprise) throw new ConfigEditError(describeProblem(surprise))
  for (const { key } of configOptions) {
    const expected = key === option.key ? value : configValue(was.config, key)
    if (JSON.stringify(configValue(is.config, key)) === JSON.stringify(expected)) continue
    throw new ConfigEditError(`${fileName}: cannot set ${option.key} here without changing more; edit the file by hand`)
  }
}

function applyEdits(text: string, edits: readonly Edit[]): string {
  const backwards = [...edits].sort((a, b) => b.from - a.from)
  return backwards.reduce((result, edit) => result.slice(0, edit.from) + edit.text + result.slice(edit.to), text)
}

function editsFor(text: string, document: Document.Parsed, option: ConfigOption, value: string): Edit[] {
  const [section, name] = [sectionOf(option.key), nameOf(option.key)]
  const contents = document.contents
  if (isMap(contents) && contents.flow) return flowEdits(text, contents, section || name, section ? name : '', value)
  const top = topBlock(text, isMap(contents) ? contents.items : [])
  if (!section) return blockEdits(top, option, value)
  const header = findPair(top.pairs, section)
  if (!header) return [newSection(top, section, `${name}: ${value}`)]
  if (isMap(header.value) && header.value.flow) return flowEdits(text, header.value, name, '', value)
  const empty = isEmpty(header.value as Node | null)
  if (!empty && !isMap(header.value)) throw new ConfigEditError(`${section} is not a section with keys in this file`)
  return [...(empty ? dropValue(header) : []), ...blockEdits(sectionBlock(top, header, section), option, value)]
}

function topBlock(text: string, pairs: readonly Pair[]): Block {
  const marker = text.search(/^\.\.\.(?=\s|$)/m)
  const end = marker < 0 ? text.length : marker
  const column = columnOf(text, startOf(pairs[0]?.key))
  const belongs = (indent: number) => indent === column
  return { text, pairs, order: topOrder, from: 0, to: end, end, indent: ' '.repeat(column), belongs }
}

function sectionBlock(top: Block, header: Pair, section: string): Block {
  const { text } = top
  const pairs = isMap(header.value) ? header.value.items : []
  const next = top.pairs[top.pairs.indexOf(header) + 1]
  const [from, to] = [lineEnd(text, endOf(header.key, text)), next ? startOf(next.key) : top.end]
  const [outer, last] = [top.indent.length, pairs.at(-1)]
  const column = pairs[0] ? columnOf(text, startOf(pairs[0].key)) : outer + 2
  const end = last ? lineEnd(text, endOf(last, text)) : from
  return { text, pairs, order: namesIn(section), from, to, end, indent: ' '.repeat(column), belongs: i => i > outer }
}

function blockEdits(block: Block, option: ConfigOption, value: string): Edit[] {
  const name = nameOf(option.key)
  const pair = findPair(block.pairs, name)
  if (pair) return replaceValue(block.text, pair, value)
  return [activate(block, option, value) ?? addLines(block, name, [`${name}: ${value}`])]
}

/** `#timeoutMs: 5000` becomes `timeoutMs: 7000`; a comment behind it stays. Only a line that would be valid counts. */
function activate(block: Block, option: ConfigOption, value: string): Edit | undefined {
  const line = new RegExp(`^( *)# ?(${nameOf(option.key)}:[ \\t][^\\r\\n]*)`, 'gm')
  for (const match of block.text.slice(block.from, block.to).matchAll(line)) {
    const [whole, indent = '', key = ''] = match
    const from = block.from + match.index
    if (!block.belongs(indent.length)) continue
    const active = withValue(key, option, value)
    if (active)
      return { from, to: from + whole.length, text: (block.pairs.length > 0 ? block.indent : indent) + active }
  }
  return undefined
}

function withValue(line: string, option: ConfigOption, value: string): string | undefined {
  const document = parseYaml(line, new LineCounter())
  const pair = isMap(document.contents) && document.errors.length === 0 ? document.contents.items[0] : undefined
  if (!pair || faultsOf(option, rawValue(pair.value as Node | null), '').length > 0) return undefined
  return applyEdits(line, replaceValue(line, pair, value))
}

/** Before the next key of the table that is there, above the comments on it; at the end when there is none. */
function addLines({ text, pairs, order, end, indent }: Block, name: string, lines: readonly string[]): Edit {
  const later = new Set(order.slice(order.indexOf(name) + 1))
  const next = pairs.find(({ key }) => isScalar(key) && later.has(String(key.value)))
  const at = next ? commentStart(text, startOf(next.key)) : end
  const eol = lineBreak(text)
  const open = at > 0 && text[at - 1] !== '\n' ? eol : ''
  return { from: at, to: at, text: open + lines.map(line => (line ? indent + line : '') + eol).join('') }
}

function newSection(top: Block, section: string, line: string): Edit {
  const lines = [`${section}:`, `  ${line}`]
  const edit = addLines(top, section, lines)
  if (edit.from < top.end) return addLines(top, section, [...lines, ''])
  return top.text.trim() ? addLines(top, section, ['', ...lines]) : edit
}

/** In `{ ... }` a new key goes first; `inner` is the key inside a section that may not be there yet. */
function flowEdits(
  text: string,
  map: { items: Pair[]; range?: Node['range'] },
  name: string,
  inner: string,
  value: string,
): Edit[] {
  const pair = findPair(map.items, name)
  if (pair && inner && isMap(pair.value)) return flowEdits(text, pair.value, inner, '', value)
  const whole = inner ? `{${inner}: ${value}}` : value
  if (pair) return replaceValue(text, pair, whole)
  const at = (map.range?.[0] ?? 0) + 1
  return [{ from: at, to: at, text: `${name}: ${whole}${map.items.length > 0 ? ', ' : ''}` }]
}

function replaceValue(text: string, pair: Pair, value: string): Edit[] {
  const node = pair.value as Node | null
  const keyEnd = endOf(pair.key, text)
  if (node === null) return [{ from: keyEnd, to: keyEnd, text: `: ${value}` }]
  if ((isSeq(node) || isMap(node)) && !node.flow) return replaceBlock(text, node, text.indexOf(':', keyEnd) + 1, value)
  const [from, to] = [startOf(node), endOf(node, text)]
  if (to > from) return [{ from, to, text: text[from - 1] === ':' ? ` ${value}` : value }]
  const colon = text.indexOf(':', keyEnd) + 1
  return [{ from: colon, to: colon, text: ` ${value}` }]
}

/** The value goes behind the colon, and the lines of the old one go. */
function replaceBlock(text: string, node: Node, colon: number, value: string): Edit[] {
  const from = text.lastIndexOf('\n', startOf(node)) + 1
  return [
    { from: colon, to: colon, text: ` ${value}` },
    { from, to: lineEnd(text, endOf(node, text)), text: '' },
  ]
}

/** Takes away the `~` of a section that was written as `observe: ~`. */
function dropValue(header: Pair): Edit[] {
  const range = (header.value as Node | null)?.range
  return range && range[1] > range[0] ? [{ from: range[0], to: range[1], text: '' }] : []
}

const findPair = (pairs: readonly Pair[], name: string) => pairs.find(({ key }) => isScalar(key) && key.value === name)

/** Where a node or a pair ends, without the line break and the comments after it. */
function endOf(node: unknown, text: string): number {
  if (node && typeof node === 'object' && 'key' in node) {
    const pair = node as Pair
    return Math.max(endOf(pair.key, text), pair.value ? endOf(pair.value, text) : 0)
  }
  if ((isSeq(node) || isMap(node)) && !node.flow && node.items.length > 0) return endOf(node.items.at(-1), text)
  let end = (node as Node | null)?.range?.[1] ?? 0
  while (end > startOf(node) && /[\r\n]/.test(text.charAt(end - 1))) end--
  return end
}

const columnOf = (text: string, offset: number) => (offset > 0 ? offset - (text.lastIndexOf('\n', offset - 1) + 1) : 0)

/** Where the line after `offset` starts. */
function lineEnd(text: string, offset: number): number {
  const newline = text.indexOf('\n', offset)
  return newline < 0 ? text.length : newline + 1
}

/** Where the comment lines directly above the line of `offset` start, or that line when there are none. */
function commentStart(text: string, offset: number): number {
  let start = offset - columnOf(text, offset)
  while (start > 0) {
    const above = start - 1 - columnOf(text, start - 1)
    if (!/^[ \t]*#/.test(text.slice(above, start))) break
    start = above
  }
  return start
}

const lineBreak = (text: string) => (text.includes('\r\n') ? '\r\n' : '\n')
