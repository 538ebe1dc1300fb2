/**
 * THE TABLE of the agent's parameters. Names, types, defaults and order are those of ocf:heartbeat:VirtualDomain (resource-agents 4.12),
 * so that a resource changes its provider and nothing else. Meta-data, validation, documentation and the agent itself read this table.
 */
import { ocf, type Problem } from './exit.ts'

export type ParameterType = 'string' | 'integer' | 'boolean'

interface Row {
  readonly type: ParameterType
  /** As meta-data shows it; absent: none. */
  readonly default?: string
  readonly required?: true
  readonly unique?: true
  /** A change of it needs no restart of the domain: the next action that reads it goes by the new value. */
  readonly reloadable?: true
  /** A wrong value is better than none, since nothing else says what the domain is. */
  readonly kept?: true
  readonly short: string
  readonly long: string
  /** What is expected, where the value is not that; undefined: the value is right. An empty value is never asked about. */
  readonly expected?: (value: string) => string | undefined
}

const matching = (pattern: RegExp, expected: string) => (value: string) => (pattern.test(value) ? undefined : expected)
const absolute = matching(/^\//, 'expected an absolute path')
const between = (min: number, max: number) => (value: string) =>
  /^\d{1,15}$/.test(value) && Number(value) >= min && Number(value) <= max
    ? undefined
    : `expected a whole number from ${min} to ${max}`
const uri = matching(/^[^-\s]\S*$/, 'expected a URI without white space')
/** The words of virsh(1), `shutdown --mode`. */
const SHUTDOWN_MODES = ['acpi', 'agent', 'initctl', 'signal', 'paravirt']
const shutdownMode = (value: string) =>
  value.split(',').every(mode => SHUTDOWN_MODES.includes(mode))
    ? undefined
    : `expected one of ${SHUTDOWN_MODES.join(', ')}, or several with commas between them`
/** A driver, a transport, a host, a path (libvirt: docs/uri.html). Whether it ends on this machine, only the machine can say. */
const DRIVER_URI = /^[a-z]+(\+[a-z0-9]+)?:\/\/[^\s]*$/

export const parameters = {
  config: {
    type: 'string',
    default: '',
    required: true,
    unique: true,
    kept: true,
    short: 'Definition of the domain',
    long: 'Absolute path of the file with the libvirt XML of this domain. The domain is started from it, and is known by the name and the uuid in it.',
    expected: absolute,
  },
  hypervisor: {
    type: 'string',
    short: 'Hypervisor URI',
    long: 'URI of the libvirt connection on this node. The default is what libvirt itself would take: LIBVIRT_DEFAULT_URI, else uri_default of libvirt.conf, else qemu:///system (xen:///system on a Xen host).',
    expected: matching(DRIVER_URI, 'expected a URI of libvirt, such as qemu:///system'),
  },
  force_stop: {
    type: 'boolean',
    default: '0',
    reloadable: true,
    short: 'Never ask the guest to shut down',
    long: 'Destroy the domain at once when it is stopped, without asking the guest. Set it only for guests that cannot shut down by themselves. It excludes snapshot.',
  },
  migration_transport: {
    type: 'string',
    default: '',
    reloadable: true,
    short: 'Transport to the other libvirt',
    long: 'Transport of the connection to the libvirt of the target during a live migration, such as ssh, tls or tcp. Without it libvirt takes its own default for remote connections. It carries the control of the migration only; the memory goes the way that migrateuri says.',
    expected: matching(/^[a-z0-9]+$/, 'expected a transport such as ssh, tls or tcp'),
  },
  migration_user: {
    type: 'string',
    reloadable: true,
    short: 'User at the other libvirt',
    long: 'User name in the connection to the libvirt of the target; root without one. remoteuri takes its place.',
    expected: matching(/^[A-Za-z_][A-Za-z0-9._-]*$/, 'expected a user name'),
  },
  migration_downtime: {
    type: 'integer',
    default: '0',
    reloadable: true,
    short: 'Longest pause of a live migration',
    long: 'For how many milliseconds the guest may stand still at the end of a live migration. 0 leaves it to libvirt. It is set as soon as the migration has begun.',
    expected: between(0, 2_000_000),
  },
  migration_speed: {
    type: 'integer',
    default: '0',
    reloadable: true,
    short: 'Bandwidth of a live migration',
    long: 'Most MiB a second that a live migration of this domain may take. 0 leaves it to libvirt.',
    expected: between(0, 8_796_093_022_207),
  },
  migration_network_suffix: {
    type: 'string',
    default: '',
    reloadable: true,
    short: 'Suffix of host names in the migration network',
    long: 'Has live migrations go through a network of their own: the suffix is put behind the name of the target node, before the first dot where the name has one, in the connection URI and in the migration URI (QEMU and Xen). The names that come of it must be resolvable on every node.',
    expected: matching(/^[A-Za-z0-9._-]+$/, 'expected letters, digits, dots and dashes'),
  },
  migrateuri: {
    type: 'string',
    reloadable: true,
    short: 'Migration URI',
    long: 'Where the memory of the guest goes in a live migration. %n stands for the name of the target node. It takes the place of migration_network_suffix, migrateport and of --migrateuri in migrate_options.',
    expected: uri,
  },
  migrate_options: {
    type: 'string',
    reloadable: true,
    short: 'More options of virsh migrate',
    long: 'Words that are handed to "virsh migrate --live" as they stand, divided by white space. %n in the value of --migrateuri stands for the name of the target node; with it migration_network_suffix and migrateport have no say in the migration URI.',
    expected: matching(/^\s*--/, 'expected options of virsh migrate, beginning with --'),
  },
  monitor_scripts: {
    type: 'string',
    default: '',
    reloadable: true,
    short: 'Programs that look after the guest',
    long: 'Programs, divided by white space and run without arguments, that a monitor runs after it found the domain active; each must exit with 0. start and migrate_from wait until all of them do, so give these operations the time that the guest needs to come up.',
  },
  autoset_utilization_cpu: {
    type: 'boolean',
    default: 'true',
    reloadable: true,
    short: 'Tell Pacemaker the number of vCPUs',
    long: 'Write the number of vCPUs to the utilization attribute cpu of the resource whenever a monitor finds that it has changed.',
  },
  autoset_utilization_host_memory: {
    type: 'boolean',
    default: 'true',
    reloadable: true,
    short: 'Tell Pacemaker the memory, as host_memory',
    long: 'Write the maximum memory in MiB to the utilization attribute host_memory of the resource whenever a monitor finds that it has changed.',
  },
  autoset_utilization_hv_memory: {
    type: 'boolean',
    default: 'true',
    reloadable: true,
    short: 'Tell Pacemaker the memory, as hv_memory',
    long: 'Write the maximum memory in MiB to the utilization attribute hv_memory of the resource whenever a monitor finds that it has changed.',
  },
  unset_utilization_cpu: {
    type: 'boolean',
    default: 'false',
    reloadable: true,
    short: 'Remove the attribute cpu',
    long: 'Remove the utilization attribute cpu of the resource when it is monitored. Only asked where autoset_utilization_cpu is false.',
  },
  unset_utilization_host_memory: {
    type: 'boolean',
    default: 'false',
    reloadable: true,
    short: 'Remove the attribute host_memory',
    long: 'Remove the utilization attribute host_memory of the resource when it is monitored. Only asked where autoset_utilization_host_memory is false.',
  },
  unset_utilization_hv_memory: {
    type: 'boolean',
    default: 'false',
    reloadable: true,
    short: 'Remove the attribute hv_memory',
    long: 'Remove the utilization attribute hv_memory of the resource when it is monitored. Only asked where autoset_utilization_hv_memory is false.',
  },
  migrateport: {
    type: 'integer',
    reloadable: true,
    short: 'Port of the migration URI',
    long: 'TCP port in the migration URI that is made with migration_network_suffix (QEMU). Without it a port from 49152 to 49215 is taken at random.',
    expected: between(1, 65_535),
  },
  remoteuri: {
    type: 'string',
    reloadable: true,
    short: 'URI of the other libvirt',
    long: 'URI of the connection to the libvirt of the target. %n stands for the name of the target node. It takes the place of migration_transport and migration_user, and of migration_network_suffix in the connection URI.',
    expected: uri,
  },
  save_config_on_stop: {
    type: 'boolean',
    reloadable: true,
    short: 'Keep changes of the running domain',
    long: 'Write what was changed in the definition of the running domain back to the file of config: at every monitor, before a stop, and at both ends of a live migration. The former file stays beside it, with .previous behind its name.',
  },
  sync_config_on_stop: {
    type: 'boolean',
    reloadable: true,
    short: 'Bring saved changes to the other nodes',
    long: 'Run "csync2 -x" on the file of config whenever it was saved. csync2 must be set up for it. Implies save_config_on_stop.',
  },
  snapshot: {
    type: 'string',
    default: '',
    reloadable: true,
    short: 'Folder for saved memory',
    long: 'Absolute path of a folder, on storage that all nodes share. A stop saves the memory of the guest there, in NAME.state, instead of shutting it down, and the next start goes on from it. It excludes force_stop.',
    expected: absolute,
  },
  backingfile: {
    type: 'string',
    default: '',
    short: 'Backing file',
    long: 'Absolute path of an image that the domain shall start from without changing it. The disk of the domain is a qcow2 file on top of it, beside the file of config and named after it (/srv/web.qcow2 for /srv/web.xml), which the definition must name as a disk. It is made at the first start.',
    expected: absolute,
  },
  stateless: {
    type: 'boolean',
    default: 'false',
    short: 'Forget the disk at every start',
    long: 'Make the file on top of backingfile anew at every start.',
  },
  copyindirs: {
    type: 'string',
    default: '',
    short: 'Folders to put into the image',
    long: 'Files and folders, divided by white space, that virt-copy-in puts into the root folder of an image that was just made on top of backingfile.',
    expected: matching(/^(\s*[^-\s]\S*)+\s*$/, 'expected paths, none of them beginning with -'),
  },
  shutdown_mode: {
    type: 'string',
    default: '',
    reloadable: true,
    short: 'How the guest is asked to shut down',
    long: 'Handed to "virsh shutdown --mode": acpi, agent, initctl, signal, paravirt, or several of them with commas. Without it libvirt chooses.',
    expected: shutdownMode,
  },
  start_resources: {
    type: 'boolean',
    default: 'false',
    reloadable: true,
    short: 'Start pools and networks first',
    long: 'Before a start, and before a live migration on the target, start the storage pools and virtual networks that the definition names. Pools that run are refreshed.',
  },
} as const satisfies Readonly<Record<string, Row>>

export type ParameterName = keyof typeof parameters
type NameOf<T extends ParameterType> = {
  [K in ParameterName]: (typeof parameters)[K]['type'] extends T ? K : never
}[ParameterName]

/** The parameters of one resource: texts as given (empty: not given), booleans, and numbers (absent: not given). */
export type Settings = { readonly [K in NameOf<'string'>]: string } & {
  readonly [K in NameOf<'boolean'>]: boolean
} & { readonly [K in NameOf<'integer'>]: number | undefined }

/** Every row, for those who walk over the table. */
export const parameterRows: readonly (readonly [ParameterName, Row])[] = Object.entries(parameters) as never

/**
 * The words for yes and no. They are those of the shell library that agents share, in any case; it takes every other word for no,
 * and so a mistyped "ture".
 */
const TRUE = new Set(['yes', 'true', '1', 'ja', 'on'])
const FALSE = new Set(['no', 'false', '0', 'nein', 'off', ''])

export interface ReadParameters {
  readonly settings: Settings
  /** One for each parameter that is wrong, in the order of the table; where one is, its default stands in the settings. */
  readonly problems: readonly Problem[]
}

/** Reads the parameters as they were given, by name. Never throws: what is wrong is told, so that a stop can go on. */
export function readParameters(given: (name: ParameterName) => string | undefined): ReadParameters {
  const problems: Problem[] = []
  const settings: Record<string, string | boolean | number | undefined> = {}
  for (const [name, row] of parameterRows) {
    const value = given(name) ?? ''
    const expected = value === '' ? undefined : wrong(row, value)
    if (expected !== undefined) problems.push(misconfigured(`${name} is ${shown(value)}; ${expected}`))
    const unusable = value === '' || (expected !== undefined && row.kept !== true)
    settings[name] = toValue(row, unusable ? (row.default ?? '') : value)
  }
  const read = settings as unknown as Settings
  return { settings: withSaving(read), problems: [...missing(read, given), ...problems, ...contradictions(read)] }
}

function wrong({ type, expected }: Row, value: string): string | undefined {
  if (type !== 'boolean') return expected?.(value)
  const word = value.toLowerCase()
  return TRUE.has(word) || FALSE.has(word) ? undefined : 'expected yes, true, 1 or on, or no, false, 0 or off'
}

function toValue({ type }: Row, value: string): string | boolean | number | undefined {
  if (type === 'boolean') return TRUE.has(value.toLowerCase())
  if (type === 'integer') return value === '' ? undefined : Number(value)
  return value
}

function withSaving(settings: Settings): Settings {
  return settings.sync_config_on_stop ? { ...settings, save_config_on_stop: true } : settings
}

/** One whose value is wrong is not missing. */
function missing({ config }: Settings, given: (name: ParameterName) => string | undefined): Problem[] {
  return config === '' && !given('config')
    ? [misconfigured('config is not set; expected the absolute path of the definition of the domain')]
    : []
}

function contradictions({ force_stop, snapshot, stateless, backingfile }: Settings): Problem[] {
  return [
    ...(force_stop && snapshot !== ''
      ? [misconfigured('force_stop and snapshot exclude each other; expected one of them')]
      : []),
    ...(stateless && backingfile === ''
      ? [misconfigured('stateless is set without backingfile; expected the image to start from')]
      : []),
  ]
}

function misconfigured(sentence: string): Problem {
  return { code: ocf.notConfigured, sentence }
}

/** A value in a sentence, on one line and not without end. */
function shown(value: string): string {
  return JSON.stringify(value.length > 200 ? `${value.slice(0, 200)}...` : value)
}

/** The words of a list of programs or options: white space divides them, and nothing in them is special. */
export function listOf(text: string): string[] {
  return text.split(/\s+/).filter(word => word !== '')
}
