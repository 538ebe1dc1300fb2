/**
 * The settings: one table, `configOptions`, says everything about every option; the type, the defaults, the two
 * generated files, the checks and the suggestions all follow from it.
 */
import { FENCE_EXAMPLE, fenceDeviceProblem } from './fence.ts'
import { PORTAL_EXAMPLE, portalProblem } from './iscsi.ts'
import { RULE_EXAMPLE, ruleProblem, TAG_EXAMPLE, tagProblem } from './rule.ts'
import { requiredProblem } from './validate/ids.ts'

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
  /** What is wrong with an entry of a list, given those before it. Such entries may hold secrets, so no message repeats them. */
  readonly problemOf?: (entry: string, before: readonly string[]) => string | undefined
  /** What parts the entries of a list in one word of a command line, where a comma may be part of an entry. */
  readonly separator?: RegExp
  /** Active in the file made at first use; all others are comments there. */
  readonly important?: true
}

type ConfigScalar = boolean | number | string

/** What any option may have as its value. */
export type OptionValue = ConfigScalar | readonly string[]

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
    key: 'migrate.together',
    type: 'integer',
    default: 4,
    help: 'How many domains move at the same time, over all nodes, when a node is drained: as many as the network for migrations carries.',
    unit: 'migrations',
    min: 1,
    max: 256,
  },
  {
    key: 'migrate.togetherPerNode',
    type: 'integer',
    default: 2,
    help: 'How many of them one node sends or receives.',
    unit: 'migrations',
    min: 1,
    max: 64,
  },
  {
    key: 'placement.rules',
    type: 'list',
    default: [],
    help: 'Which domains are to be together, apart, or on certain nodes. A rule is hard, and never broken by havirt, unless soft stands before it; prefer is always soft. Domains are named, also with * for any letters, or by a tag: together web db; soft apart tag:frontend; on db : node1 node2; prefer batch-* : node3.',
    expected: `rules such as '${RULE_EXAMPLE}'`,
    problemOf: ruleProblem,
  },
  {
    key: 'placement.tags',
    type: 'list',
    default: [],
    help: 'Words for groups of domains, for rules: a tag, and its domains by name, also with * for any letters.',
    expected: `tags with their domains such as '${TAG_EXAMPLE}'`,
    problemOf: tagProblem,
  },
  {
    key: 'validate.required',
    type: 'list',
    default: [],
    help: 'Checks of havirt cluster validate that a node must have passed when they were last made: where one failed, nothing is started and nothing is moved to until it is mended and validate has looked again.',
    expected: "checks by their short names (-o json shows them) such as 'networks'",
    problemOf: requiredProblem,
    separator: /,/,
  },
  {
    key: 'fence.devices',
    type: 'list',
    default: [],
    help: "How to cut a node's power, for havirt node fence: a node, its fence agent (Debian's fence-agents), and the agent's own parameters. A parameter written as name=@FILE has the first line of FILE as its value; passwords must be written so, and only root may be able to read FILE. A value with spaces goes in double quotes.",
    expected: `entries such as '${FENCE_EXAMPLE}'`,
    problemOf: fenceDeviceProblem,
    separator: /,\s*(?=[^\s,=]+\s+fence_)/,
  },
  {
    key: 'iscsi.portals',
    type: 'list',
    default: [],
    help: 'Where iSCSI targets are offered, for havirt node iscsiscan: an address, perhaps with its port, and, where the target asks for it, CHAP with username=NAME and password=@FILE. The password is the first line of FILE, which only root may read.',
    expected: `portals such as '${PORTAL_EXAMPLE}'`,
    problemOf: portalProblem,
  },
  {
    key: 'lease.cleanupDays',
    type: 'integer',
    default: 7,
    help: 'For how long nobody must have taken a lease before havirt lease cleanup removes its file.',
    unit: 'days',
    min: 0,
    max: 3650,
  },
  {
    key: 'lease.passUnreachable',
    type: 'boolean',
    default: false,
    help: 'Let a domain start although the node where it ran does not answer, once sanlock counts that node dead: only where a watchdog guarded it, the domain ran there when it was last seen, and had a lease for each disk that it writes. docs/leases.md says what that rests on.',
  },
  {
    key: 'lease.passWithoutWatchdog',
    type: 'boolean',
    default: false,
    help: 'Do so, too, where no watchdog guarded the node. Should sanlock have died there before the node did, a domain runs twice. Every plan that relies on this says so.',
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

const options: readonly ConfigOption[] = configOptions

/** The row of an option by its full key. */
export const optionByKey = new Map(options.map(option => [option.key, option]))

/** The section of a full key; empty for a key at the top of the file. */
export const sectionOf = (key: string) => key.slice(0, Math.max(0, key.indexOf('.')))

/** What stands before the colon in the file: the full key without its section. */
export const nameOf = (key: string) => key.slice(key.indexOf('.') + 1)

/** Every section there is. */
export const sections = new Set(options.map(option => sectionOf(option.key)).filter(Boolean))

/** The keys of one section, in the order of the file. */
export const namesIn = (section: string) => options.filter(o => sectionOf(o.key) === section).map(o => nameOf(o.key))

/** The value that `config` has for `key`. */
export function configValue<K extends ConfigKey>(config: Config, key: K): ConfigValue<K> {
  const section = sectionOf(key)
  const map = section ? config[section as Section] : config
  return (map as unknown as Record<string, ConfigValue<K>>)[nameOf(key)] as ConfigValue<K>
}

/** The settings that `values` says by full key, with the default of every other option. */
export function configOf(values: ReadonlyMap<string, OptionValue>): Config {
  const config: Record<string, unknown> = {}
  for (const section of sections) config[section] = valuesIn(section, values)
  return { ...valuesIn('', values), ...config } as unknown as Config
}

function valuesIn(section: string, values: ReadonlyMap<string, OptionValue>): Record<string, OptionValue> {
  const members = options.filter(option => sectionOf(option.key) === section)
  return Object.fromEntries(members.map(({ key, default: preset }) => [nameOf(key), values.get(key) ?? preset]))
}

/** What holds without a config file. */
export const defaultConfig: Config = configOf(new Map())

/** What an option takes, in words. */
export function expectedOf(option: ConfigOption): string {
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
