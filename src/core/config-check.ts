/** Config text to Config: reading it without trust, the checks, and what is said about the rest, with suggestions. */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml'
import {
  type Config,
  type ConfigKey,
  type ConfigOption,
  configOf,
  configOptions,
  expectedOf,
  nameOf,
  namesIn,
  type OptionValue,
  optionByKey,
  sectionOf,
  sections,
} from './config.ts'

/** One thing that is wrong with the text. `message` is what comes after `file:line: `. */
export interface ConfigProblem {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly key?: string
  readonly message: string
  readonly level: 'error'
}

/** `config.yaml:3: unknown key ...`, as a person reads it. */
export function describeProblem(problem: ConfigProblem): string {
  return `${problem.file}:${problem.line}: ${problem.message}`
}

/** One text on its way to a config: what was found in it so far. */
export interface Reading {
  readonly file: string
  readonly text: string
  readonly lines: LineCounter
  readonly problems: ConfigProblem[]
  readonly values: Map<string, OptionValue>
  /** Where each key stands, for duplicates and for problems between two keys. */
  readonly places: Map<string, number>
}

/** Reads the text of a config file. All problems are collected; an option with a problem keeps its default. */
export function parseConfig(text: string, fileName: string): { config: Config; problems: ConfigProblem[] } {
  const reading = startReading(text, fileName)
  const contents = readDocument(reading)?.contents
  if (isMap(contents)) {
    readMap(reading, contents.items, '')
    checkTogether(reading)
  } else if (contents && !isEmpty(contents)) {
    report(reading, startOf(contents), 'expected keys and values such as dryrun: true at the top of the file')
  }
  return { config: configOf(reading.values), problems: reading.problems }
}

/** A reading in which nothing was found yet; a byte order mark is no part of its text. */
export function startReading(text: string, file: string): Reading {
  const withoutMark = text.startsWith('\ufeff') ? text.slice(1) : text
  return { file, text: withoutMark, lines: new LineCounter(), problems: [], values: new Map(), places: new Map() }
}

function report(reading: Reading, offset: number, message: string, key?: string): void {
  const { line, col } = reading.lines.linePos(offset)
  reading.problems.push(problemAt(reading.file, Math.max(line, 1), Math.max(col, 1), message, key))
}

function problemAt(file: string, line: number, column: number, message: string, key?: string): ConfigProblem {
  return { file, line, column, ...(key === undefined ? {} : { key }), message, level: 'error' }
}

/** The document, or nothing when the text is not YAML that can be read; then a problem says why. */
export function readDocument(reading: Reading): Document.Parsed | undefined {
  const unreadable = refuseUnreadable(reading)
  if (unreadable) {
    reading.problems.push(unreadable)
    return undefined
  }
  const document = parseYaml(reading.text, reading.lines)
  reportSyntax(reading, [...document.errors, ...document.warnings])
  return reading.problems.length === 0 ? document : undefined
}

/** No schema but YAML 1.2's own: no merge keys, no YAML 1.1 booleans. We look for duplicate keys ourselves, in linear time. */
export function parseYaml(text: string, lineCounter: LineCounter): Document.Parsed {
  return parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: false, schema: 'core', merge: false })
}

const maxLength = 1 << 20
const maxLineLength = 1000
const maxNesting = 100
/** After so many problems nobody reads on: later syntax errors and suggestions are left out. */
const manyProblems = 100

/** The YAML library recurses: text nested some hundred levels deep can end the process, so such text never reaches it. */
function refuseUnreadable({ file, text }: Reading): ConfigProblem | undefined {
  if (text.length > maxLength) return problemAt(file, 1, 1, 'this file is larger than 1 MiB; a config file is not')
  let brackets = 0
  for (const [index, line] of text.split('\n').entries()) {
    const binary = line.search(/[^\t\r\x20-\ufffc\ufffe\uffff]/)
    if (binary >= 0) return problemAt(file, index + 1, binary + 1, 'this line is not text (UTF-8)')
    if (/^\s*#/.test(line)) continue
    if (line.length > maxLineLength)
      return problemAt(file, index + 1, 1, `this line is longer than ${maxLineLength} characters`)
    brackets += line.match(/[[{]/g)?.length ?? 0
    const nesting = Math.max(brackets, line.match(/^[\s?:-]*/)?.[0].length ?? 0)
    if (nesting > maxNesting) return problemAt(file, index + 1, 1, 'this line is nested too deeply for a config file')
  }
  return undefined
}

const syntaxSentences: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'YAML does not allow tabs for indentation; use spaces',
  MULTIPLE_DOCS: 'a second YAML document starts here; a config file holds only one',
  BLOCK_AS_IMPLICIT_KEY: 'not valid YAML here; check the indentation, and put a value that holds ": " in quotes',
  BAD_INDENT: 'not valid YAML here; check the indentation, and that every bracket is closed',
  MULTILINE_IMPLICIT_KEY: 'not valid YAML here; expected a key and a value such as dryrun: true',
}

/** The first problem of each line; what the library says after it is mostly a consequence. */
function reportSyntax(
  reading: Reading,
  faults: readonly { code: string; message: string; pos: [number, number] }[],
): void {
  const seen = new Set<number>()
  for (const { code, message, pos } of faults) {
    const { line } = reading.lines.linePos(pos[0])
    if (seen.has(line) || seen.size >= manyProblems) continue
    seen.add(line)
    report(reading, pos[0], syntaxSentences[code] ?? `not valid YAML: ${message}`)
  }
}

function readMap(reading: Reading, pairs: readonly Pair[], section: string): void {
  for (const pair of pairs) {
    const key = pair.key
    if (isScalar(key) && typeof key.value === 'string') readPair(reading, pair, section, key.value, startOf(key))
    else report(reading, startOf(key), `a key must be a plain word, not ${shown(reading, key)}`)
  }
}

function readPair(reading: Reading, pair: Pair, section: string, name: string, at: number): void {
  const key = section ? `${section}.${name}` : name
  const first = reading.places.get(key)
  if (first !== undefined) {
    const { line } = reading.lines.linePos(first)
    return report(reading, at, `${inQuotes(key)} is set a second time; it stands on line ${line} already`, key)
  }
  reading.places.set(key, at)
  const option = section || !name.includes('.') ? optionByKey.get(key) : undefined
  if (option) readOption(reading, option, pair.value as Node | null, at)
  else if (!section && sections.has(name)) readSection(reading, name, pair.value as Node | null, at)
  else report(reading, at, unknownKey(section, name, reading.problems.length < manyProblems), key)
}

function readSection(reading: Reading, section: string, value: Node | null, at: number): void {
  if (isMap(value)) return readMap(reading, value.items, section)
  if (isEmpty(value)) return
  const keys = `keys such as ${namesIn(section)[0]} on indented lines below it`
  report(reading, at, `${section} is ${shown(reading, value)}; expected ${keys}`, section)
}

function readOption(reading: Reading, option: ConfigOption, node: Node | null, at: number): void {
  const raw = rawValue(node)
  const faults = isAlias(node) ? [] : faultsOf(option, raw, isEmpty(node) ? undefined : shown(reading, node))
  if (isAlias(node)) report(reading, startOf(node), `${option.key} is an alias; write the value itself`, option.key)
  for (const { message, item } of faults) {
    const place = isSeq(node) && item !== undefined ? node.items[item] : node
    report(reading, isEmpty(node) ? at : startOf(place), message, option.key)
  }
  if (!isAlias(node) && faults.length === 0) reading.values.set(option.key, accepted(option, raw))
}

/** The value as plain data. Anything that no option takes, an alias or a nested map, becomes undefined. */
export function rawValue(node: Node | null): unknown {
  if (isScalar(node)) return node.value
  return isSeq(node) ? node.items.map(item => (isScalar(item) ? item.value : undefined)) : undefined
}

/** Nothing stands behind the key, or a null. */
export const isEmpty = (node: Node | null) => node === null || (isScalar(node) && node.value === null)

/** Where a node starts in the text. */
export const startOf = (node: unknown) => (node as Node | null)?.range?.[0] ?? 0

/** What stands in the file, in quotes and on one line, cut when it is long. */
function shown(reading: Reading, node: unknown): string {
  const range = (node as Node | null)?.range
  return range ? inQuotes(reading.text.slice(range[0], range[1])) : 'empty'
}

/** On one line, cut when it is long. */
export function inQuotes(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, ' ')
  return `'${line.length > 40 ? `${line.slice(0, 40)}...` : line}'`
}

// ---- checking ----------------------------------------------------------------------------------------------------

/** One thing that is wrong with a value. */
export interface Fault {
  readonly message: string
  /** Which entry of a list is meant. */
  readonly item?: number
}

/** Everything that is wrong with `raw` as the value of `option`; `text` is how it was written, undefined when it was left empty. */
export function faultsOf(option: ConfigOption, raw: unknown, text: string | undefined): Fault[] {
  if (option.type === 'list' && Array.isArray(raw))
    return raw.flatMap((item, index) => entryFaults(option, item, index, raw))
  if (fits(option, raw)) return []
  const is = text === undefined ? 'has no value' : `is ${option.problemOf ? 'no list' : text}`
  return [{ message: `${option.key} ${is}; expected ${expectedOf(option)}${hint(option, raw)}` }]
}

function entryFaults(option: ConfigOption, entry: unknown, item: number, list: readonly unknown[]): Fault[] {
  if (option.problemOf !== undefined) return checkedEntry(option, entry, item, list)
  const holds = `${option.key} holds ${typeof entry === 'string' ? inQuotes(entry) : 'an entry that is not a text'}`
  if (typeof entry !== 'string' || !option.pattern?.test(entry)) {
    return [{ message: `${holds}; expected ${option.expected}`, item }]
  }
  const key = entry.slice(0, entry.indexOf('=')).toLowerCase()
  const refused = Object.entries(option.refused ?? {}).find(([name]) => name.toLowerCase() === key)
  return refused ? [{ message: `${holds}, which is not allowed here: ${refused[1]}`, item }] : []
}

function checkedEntry(option: ConfigOption, entry: unknown, item: number, list: readonly unknown[]): Fault[] {
  const before = list.slice(0, item).filter(each => typeof each === 'string')
  const problem = typeof entry === 'string' ? option.problemOf?.(entry, before) : 'an entry is not a text'
  return problem === undefined ? [] : [{ message: `${option.key}: ${problem}`, item }]
}

function fits(option: ConfigOption, raw: unknown): boolean {
  switch (option.type) {
    case 'boolean':
      return typeof raw === 'boolean' || raw === 0 || raw === 1
    case 'integer':
      return Number.isInteger(raw) && inRange(option, raw as number)
    case 'number':
      return typeof raw === 'number' && inRange(option, raw)
    case 'text':
      return typeof raw === 'string' && (option.choices?.includes(raw) ?? option.pattern?.test(raw) ?? true)
    case 'list':
      return false
  }
}

const inRange = ({ min, max }: ConfigOption, value: number) =>
  value >= (min ?? Number.MIN_SAFE_INTEGER) && value <= (max ?? Number.MAX_SAFE_INTEGER)

/** What counts for a value without a fault. */
export const accepted = (option: ConfigOption, raw: unknown) =>
  (option.type === 'boolean' ? Boolean(raw) : raw) as OptionValue

/** `; write true` for what was probably meant. */
function hint(option: ConfigOption, raw: unknown): string {
  if (typeof raw !== 'string') return ''
  if (option.type === 'boolean') {
    const meant = /^(yes|y|on|true|1)$/i.test(raw) ? true : /^(no|n|off|false|0)$/i.test(raw) ? false : undefined
    return meant === undefined ? '' : `; write ${meant}`
  }
  const away = (choice: string) => distance(plain(raw.slice(0, 40)), choice)
  const near = [...(option.choices ?? [])].sort((a, b) => away(a) - away(b))[0]
  return near && away(near) <= 2 ? `; did you mean ${inQuotes(near)}?` : ''
}

/** Rules between options. An option that has a problem of its own is not judged again. */
function checkTogether(reading: Reading): void {
  const keys: ConfigKey[] = ['claim.ttlMs', 'ssh.aliveIntervalSeconds', 'ssh.aliveCountMax']
  const place = keys.map(key => reading.places.get(key)).find(at => at !== undefined)
  if (place === undefined || reading.problems.some(problem => keys.some(key => key === problem.key))) return
  const { claim, ssh } = configOf(reading.values)
  const noticedAfter = ssh.aliveIntervalSeconds * ssh.aliveCountMax * 1000
  if (claim.ttlMs > noticedAfter) return
  const because = 'the time until ssh notices a silent node (ssh.aliveIntervalSeconds times ssh.aliveCountMax)'
  report(
    reading,
    place,
    `claim.ttlMs is ${claim.ttlMs}; expected more than ${noticedAfter} milliseconds, ${because}`,
    'claim.ttlMs',
  )
}

// ---- suggestions -------------------------------------------------------------------------------------------------

/** `unknown key 'x'; did you mean 'y'?` */
export function unknownKey(section: string, name: string, suggest = true): string {
  const key = section ? `${section}.${name}` : name
  const unknown = `unknown key ${inQuotes(key)}`
  if (name === '<<') return `${unknown}; merge keys are not read here, write the keys themselves`
  if (!section && optionByKey.has(name))
    return `${unknown}; write '${nameOf(name)}:' indented below '${sectionOf(name)}:'`
  const near = suggest ? nearestKeys(section, name) : []
  return near.length > 0 ? `${unknown}; did you mean ${near.map(inQuotes).join(' or ')}?` : unknown
}

/** The keys that were probably meant: the nearest ones, those of the same section before those of others. */
function nearestKeys(section: string, name: string): string[] {
  if (name.length > 40) return []
  const candidates = [...configOptions.map(option => option.key), ...(section ? [] : sections)]
  const scored = candidates.map(key => ({ key, score: 2 * likeness(name, key) + (sectionOf(key) === section ? 0 : 1) }))
  const best = Math.min(...scored.map(({ score }) => score))
  const limit = 2 * Math.max(1, Math.floor(plain(name).length / 3)) + 1
  return best > limit ? [] : scored.filter(({ score }) => score === best).map(({ key }) => key)
}

/** How many edits `name` is away from `key`, with or without its section; a good beginning of it counts as one. */
function likeness(name: string, key: string): number {
  const given = plain(name)
  const begins = given.length >= 4 && plain(nameOf(key)).startsWith(given)
  return Math.min(distance(given, plain(key)), distance(given, plain(nameOf(key))), begins ? 1 : 99)
}

const plain = (name: string) => name.toLowerCase().replaceAll(/[-_. ]/g, '')

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
