/**
 * The settings: config text -> Config, and back. One table, `configOptions`, says everything about every option;
 * the type, the defaults, the two generated files, the checks and the suggestions all follow from it. Nothing here reads a file.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml'

/** One row of the table of options. */
export interface ConfigOption {
  /** Where it stands in the file: `dryrun`, or `section.name`. */
  readonly key: string
  readonly type: 'boolean' | 'integer' | 'number' | 'text' | 'list'
  readonly default: ConfigScalar | readonly string[]
  /** Sentences for the person who edits the file. */
  readonly help: string
  /** What an integer counts, in the plural. */
  readonly unit?: string
  readonly min?: number
  readonly max?: number
  readonly choices?: readonly string[]
  /** What a text, or each entry of a list, has to match. */
  readonly pattern?: RegExp
  /** The pattern in words. */
  readonly expected?: string
  /** For a list of `Key=value`: keys that are refused, and why. */
  readonly refused?: Readonly<Record<string, string>>
  /** Active in the file made at first use; all others are comments there. */
  readonly important?: true
}

type ConfigScalar = boolean | number | string
type Value = ConfigScalar | readonly string[]

const ownedBySsh = (key: string) => `havirt sets it from ${key}`
const belongsToSshConfig = 'it belongs into ~/.ssh/config'

/** Every option there is, in the order of the file. */
export const configOptions = [
  {
    key: 'dryrun',
    type: 'boolean',
    default: true,
    help: 'Only show what would be done, as a shell script. Change it to false once you trust what you see; -y on the command line acts for one command.',
    important: true,
  },
  {
    key: 'observe.timeoutMs',
    type: 'integer',
    default: 5000,
    help: 'How long a node may take to answer before it counts as unreachable.',
    unit: 'milliseconds',
    min: 500,
    max: 60_000,
  },
  {
    key: 'observe.concurrency',
    type: 'integer',
    default: 64,
    help: 'How many nodes are asked at the same time.',
    unit: 'nodes',
    min: 1,
    max: 1024,
  },
  {
    key: 'claim.ttlMs',
    type: 'integer',
    default: 30_000,
    help: 'How long a claim on a domain lasts when its holder stops renewing it. It must be longer than ssh needs to notice a silent node: ssh.aliveIntervalSeconds times ssh.aliveCountMax.',
    unit: 'milliseconds',
    min: 3000,
    max: 600_000,
  },
  {
    key: 'ssh.aliveIntervalSeconds',
    type: 'integer',
    default: 5,
    help: 'How long a connection may be silent before ssh asks the node whether it is still there (ServerAliveInterval).',
    unit: 'seconds',
    min: 1,
    max: 60,
  },
  {
    key: 'ssh.aliveCountMax',
    type: 'integer',
    default: 2,
    help: 'How many such questions may stay without an answer before ssh gives up (ServerAliveCountMax).',
    unit: 'questions',
    min: 1,
    max: 10,
  },
  {
    key: 'ssh.persistSeconds',
    type: 'integer',
    default: 600,
    help: 'How long a connection stays open after its last use, ready for the next command (ControlPersist).',
    unit: 'seconds',
    min: 1,
    max: 86_400,
  },
  {
    key: 'ssh.connectTimeoutSeconds',
    type: 'integer',
    default: 4,
    help: 'How long ssh tries to connect (ConnectTimeout).',
    unit: 'seconds',
    min: 1,
    max: 60,
  },
  {
    key: 'ssh.options',
    type: 'list',
    default: [],
    help: 'More options for ssh, each given to it with -o.',
    pattern: /^[A-Za-z]+=[^\p{C}\p{Zl}\p{Zp}\ufffd]+$/u,
    expected: "ssh options such as 'User=admin'",
    refused: {
      ProxyCommand: belongsToSshConfig,
      LocalCommand: belongsToSshConfig,
      PermitLocalCommand: belongsToSshConfig,
      ControlPath: 'havirt keeps its own control sockets',
      ControlMaster: 'havirt keeps its own control sockets',
      ControlPersist: ownedBySsh('ssh.persistSeconds'),
      ConnectTimeout: ownedBySsh('ssh.connectTimeoutSeconds'),
      ServerAliveInterval: ownedBySsh('ssh.aliveIntervalSeconds'),
      ServerAliveCountMax: ownedBySsh('ssh.aliveCountMax'),
    },
  },
  {
    key: 'libvirt.uri',
    type: 'text',
    default: 'qemu:///system',
    help: 'The libvirt connection to use on every node.',
    pattern: /^[a-z]+:\/\/\/(system|session)$/,
    expected: "a local libvirt URI such as 'qemu:///system' or 'qemu:///session'",
  },
  {
    key: 'node.reservedMemoryMiB',
    type: 'integer',
    default: 512,
    help: 'Memory of each node that is kept back for the node itself and never given to domains.',
    unit: 'MiB',
    min: 0,
    max: 1_048_576,
  },
  {
    key: 'node.memoryRatio',
    type: 'number',
    default: 1,
    help: 'How much memory domains may have per memory of the node. Above 1.0 the node is overcommitted, and may run out.',
    min: 0.1,
    max: 10,
  },
  {
    key: 'node.vcpuRatio',
    type: 'number',
    default: 4,
    help: 'How many vCPUs domains may have per CPU thread of the node.',
    min: 0.1,
    max: 64,
  },
  {
    key: 'stop.timeoutSeconds',
    type: 'integer',
    default: 120,
    help: 'How long a domain may take to shut down before stopping it counts as failed.',
    unit: 'seconds',
    min: 1,
    max: 86_400,
  },
  {
    key: 'migrate.timeoutSeconds',
    type: 'integer',
    default: 0,
    help: 'How long a live migration may take before it is given up; 0 is without limit.',
    unit: 'seconds',
    min: 0,
    max: 604_800,
  },
  {
    key: 'migrate.bandwidthMiBps',
    type: 'integer',
    default: 0,
    help: 'How much of the network one migration may use; 0 is without limit.',
    unit: 'MiB per second',
    min: 0,
    max: 1_048_576,
  },
  {
    key: 'migrate.maxDowntimeMs',
    type: 'integer',
    default: 0,
    help: 'How long a domain may pause at the end of a live migration; 0 leaves it to libvirt.',
    unit: 'milliseconds',
    min: 0,
    max: 2_000_000,
  },
  {
    key: 'migrate.autoConverge',
    type: 'boolean',
    default: false,
    help: 'Slow a domain down when it changes its memory faster than the network can carry.',
  },
  {
    key: 'migrate.postCopy',
    type: 'boolean',
    default: false,
    help: 'Allow a domain to run on the target node before all its memory is there. If the network fails meanwhile, the domain is lost.',
  },
  {
    key: 'migrate.unsafe',
    type: 'boolean',
    default: false,
    help: 'Migrate even where libvirt says that it can corrupt a disk, for example because of its cache mode.',
  },
  {
    key: 'migrate.uri',
    type: 'text',
    default: '',
    help: "The address that migration data goes to, such as 'tcp://%n-mig'; %n is the name of the target node. When it is empty, libvirt chooses.",
    pattern: /^([a-z]+:\/\/[\x21-\x7e]*%n[\x21-\x7e]*)?$/,
    expected: "empty ('') or a URI with %n for the target node, such as 'tcp://%n-mig'",
  },
  {
    key: 'output.format',
    type: 'text',
    default: 'auto',
    help: 'How lists are printed; auto is a table on a terminal and tab-separated in a pipe.',
    choices: ['auto', 'table', 'tsv', 'json', 'yaml'],
  },
] as const satisfies readonly ConfigOption[]

type Row = (typeof configOptions)[number]
type ValueOf<R extends Row> = R extends { type: 'boolean' }
  ? boolean
  : R extends { type: 'integer' | 'number' }
    ? number
    : R extends { type: 'list' }
      ? readonly string[]
      : R extends { choices: readonly (infer C)[] }
        ? C
        : string
type Section = Row['key'] extends infer K ? (K extends `${infer S}.${string}` ? S : never) : never

/** The full key of an option. */
export type ConfigKey = Row['key']

/** The type of one option's value. */
export type ConfigValue<K extends ConfigKey> = ValueOf<Extract<Row, { key: K }>>

/** All settings, complete: what the file does not say has its default. */
export type Config = {
  readonly [R in Row as R['key'] extends `${string}.${string}` ? never : R['key']]: ValueOf<R>
} & {
  readonly [S in Section]: {
    readonly [R in Row as R['key'] extends `${S}.${infer N}` ? N : never]: ValueOf<R>
  }
}

/** One thing that is wrong with the text. `message` is what comes after `file:line: `. */
export interface ConfigProblem {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly key?: string
  readonly message: string
  readonly level: 'error'
}

/** An edit that would not give a config that says what was asked for; nothing was changed. */
export class ConfigEditError extends Error {
  override readonly name = 'ConfigEditError'
}

const options: readonly ConfigOption[] = configOptions
const optionByKey = new Map(options.map(option => [option.key, option]))
const sectionOf = (key: string) => key.slice(0, Math.max(0, key.indexOf('.')))
const nameOf = (key: string) => key.slice(key.indexOf('.') + 1)
const topOrder = [...new Set(options.map(option => sectionOf(option.key) || option.key))]
const sections = new Set(options.map(option => sectionOf(option.key)).filter(Boolean))
const namesIn = (section: string) => options.filter(o => sectionOf(o.key) === section).map(o => nameOf(o.key))

/** The value that `config` has for `key`. */
export function configValue<K extends ConfigKey>(config: Config, key: K): ConfigValue<K> {
  const section = sectionOf(key)
  const map = section ? config[section as Section] : config
  return (map as unknown as Record<string, ConfigValue<K>>)[nameOf(key)] as ConfigValue<K>
}

function nest(values: ReadonlyMap<string, Value>): Config {
  const config: Record<string, unknown> = {}
  for (const section of sections) config[section] = valuesIn(section, values)
  return { ...valuesIn('', values), ...config } as unknown as Config
}

function valuesIn(section: string, values: ReadonlyMap<string, Value>): Record<string, Value> {
  const members = options.filter(option => sectionOf(option.key) === section)
  return Object.fromEntries(members.map(({ key, default: preset }) => [nameOf(key), values.get(key) ?? preset]))
}

/** What holds without a config file. */
export const defaultConfig: Config = nest(new Map())

/** `config.yaml:3: unknown key ...`, as a person reads it. */
export function describeProblem(problem: ConfigProblem): string {
  return `${problem.file}:${problem.line}: ${problem.message}`
}

// ---- the generated files -----------------------------------------------------------------------------------------

/** The config.yaml made at first use: the important options, and every other one as a comment with its default. */
export function initialConfigText(): string {
  return render(
    'The settings of havirt. A key behind a # has the default that stands there; take the # away to change it.',
    option => option.important === true,
  )
}

/** config.sample.yaml: every option, active, with its default and its help. */
export function sampleConfigText(): string {
  return render(
    'Every setting of havirt with its default. havirt never reads this file; it reads config.yaml.',
    () => true,
  )
}

function render(title: string, active: (option: ConfigOption) => boolean): string {
  const lines = [...comment(title, '')]
  let section = ''
  for (const option of options) {
    const indent = sectionOf(option.key) ? '  ' : ''
    lines.push('')
    if (sectionOf(option.key) !== section) lines.push(`${sectionOf(option.key)}:`)
    section = sectionOf(option.key)
    lines.push(...comment(option.help, indent), ...comment(sentence(expectedOf(option)), indent))
    lines.push(`${indent}${active(option) ? '' : '#'}${nameOf(option.key)}: ${valueText(option, option.default)}`)
  }
  return `${lines.join('\n')}\n`
}

const sentence = (words: string) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`

function comment(words: string, indent: string): string[] {
  const lines = ['']
  for (const word of words.split(' ')) {
    const line = lines[lines.length - 1] ?? ''
    if (line.length + word.length < 96) lines[lines.length - 1] = line ? `${line} ${word}` : word
    else lines.push(word)
  }
  return lines.map(line => `${indent}# ${line}`)
}

function valueText(option: ConfigOption, value: Value): string {
  if (typeof value === 'object') return `[${value.map(textText).join(', ')}]`
  if (typeof value === 'string') return textText(value)
  return option.type === 'number' && Number.isInteger(value) ? `${value}.0` : String(value)
}

/** Plain where every YAML reader takes it for a text, else in single quotes. */
function textText(text: string): string {
  const plain = /^[a-z][\w./-]*(:\/[\w./-]+)?$/i.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)
  return plain ? text : `'${text.replaceAll("'", "''")}'`
}

// ---- reading -----------------------------------------------------------------------------------------------------

interface Reading {
  readonly file: string
  readonly text: string
  readonly lines: LineCounter
  readonly problems: ConfigProblem[]
  readonly values: Map<string, Value>
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
  return { config: nest(reading.values), problems: reading.problems }
}

function startReading(text: string, file: string): Reading {
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
function readDocument(reading: Reading): Document.Parsed | undefined {
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
function parseYaml(text: string, lineCounter: LineCounter): Document.Parsed {
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
function rawValue(node: Node | null): unknown {
  if (isScalar(node)) return node.value
  return isSeq(node) ? node.items.map(item => (isScalar(item) ? item.value : undefined)) : undefined
}

const isEmpty = (node: Node | null) => node === null || (isScalar(node) && node.value === null)

const startOf = (node: unknown) => (node as Node | null)?.range?.[0] ?? 0

/** What stands in the file, in quotes and on one line, cut when it is long. */
function shown(reading: Reading, node: unknown): string {
  const range = (node as Node | null)?.range
  return range ? inQuotes(reading.text.slice(range[0], range[1])) : 'empty'
}

function inQuotes(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, ' ')
  return `'${line.length > 40 ? `${line.slice(0, 40)}...` : line}'`
}

// ---- checking ----------------------------------------------------------------------------------------------------

interface Fault {
  readonly message: string
  /** Which entry of a list is meant. */
  readonly item?: number
}

/** Everything that is wrong with `raw` as the value of `option`; `text` is how it was written, undefined when it was left empty. */
function faultsOf(option: ConfigOption, raw: unknown, text: string | undefined): Fault[] {
  if (option.type === 'list' && Array.isArray(raw))
    return raw.flatMap((item, index) => entryFaults(option, item, index))
  if (fits(option, raw)) return []
  const is = text === undefined ? 'has no value' : `is ${text}`
  return [{ message: `${option.key} ${is}; expected ${expectedOf(option)}${hint(option, raw)}` }]
}

function entryFaults(option: ConfigOption, entry: unknown, item: number): Fault[] {
  const holds = `${option.key} holds ${typeof entry === 'string' ? inQuotes(entry) : 'an entry that is not a text'}`
  if (typeof entry !== 'string' || !option.pattern?.test(entry)) {
    return [{ message: `${holds}; expected ${option.expected}`, item }]
  }
  const key = entry.slice(0, entry.indexOf('=')).toLowerCase()
  const refused = Object.entries(option.refused ?? {}).find(([name]) => name.toLowerCase() === key)
  return refused ? [{ message: `${holds}, which is not allowed here: ${refused[1]}`, item }] : []
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

const accepted = (option: ConfigOption, raw: unknown) => (option.type === 'boolean' ? Boolean(raw) : raw) as Value

/** What an option takes, in words. */
function expectedOf(option: ConfigOption): string {
  switch (option.type) {
    case 'boolean':
      return 'true or false'
    case 'integer':
      return `a whole number of ${option.unit} from ${option.min} to ${option.max}`
    case 'number':
      return `a number from ${option.min} to ${option.max}`
    case 'text':
      return option.choices ? `one of ${option.choices.join(', ')}` : `${option.expected}`
    case 'list':
      return `a list in brackets of ${option.expected}`
  }
}

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
  const { claim, ssh } = nest(reading.values)
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

function unknownKey(section: string, name: string, suggest = true): string {
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
  const candidates = [...options.map(option => option.key), ...(section ? [] : sections)]
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

// ---- editing -----------------------------------------------------------------------------------------------------

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
function refuseSurprise(before: string, after: string, option: ConfigOption, value: Value, fileName: string): void {
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
