/**
 * The Pacemaker agent beside the one that it stands in for, ocf:heartbeat:VirtualDomain of Debian's resource-agents: on one node, for
 * guests that run there, with what Pacemaker puts into the environment and nothing else.
 */
import type { Benchmark } from './bench.ts'
import type { Bar, Figure } from './figure.ts'
import { Lab } from './lab.ts'
import type { ProcessCommand, Taken } from './timed-processes.ts'
import { median } from './timing.ts'

const ROUNDS = 25
const CHANGE_ROUNDS = 5
const MANY = 100
const MANY_ROUNDS = 3
/** So many operations Pacemaker runs at once on a node of two cores (node-action-limit: twice the cores). */
const AT_ONCE = 4
const INTERVAL_MS = 10_000
const TIMEOUT_MS = 60_000
const PEAK_MB = 70
const MS_PER_S = 1000

const ROOT = '/usr/lib/ocf'
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const GUEST = 'web'
const DISK = `/media/images/${GUEST}.img`

const AGENTS = ['original', 'ours'] as const
type Agent = (typeof AGENTS)[number]
const PROVIDERS: Readonly<Record<Agent, string>> = { original: 'heartbeat', ours: 'havirt' }

const half: Bar = { kind: 'ratio', limit: 0.5 }
const twoFifths: Bar = { kind: 'ratio', limit: 0.4 }
const small: Bar = { kind: 'value', limit: PEAK_MB }

export const ocf: Benchmark = async function* (bench) {
  const lab = await Lab.withPacemaker(bench)
  await lab.on('node1', 'havirt -q ocf install')
  const xml = await lab.command('guest', GUEST, '--disk', 'file')
  await lab.on('node1', `cat >${configOf(GUEST)} && virsh -q create ${configOf(GUEST)}`, xml)
  await configure(lab, [GUEST])
  yield* monitor(lab, 'monitor', { wall: half, cpu: twoFifths, peak: small })
  yield* executed(lab)
  yield* others(lab)
  yield* changes(lab)
  yield* many(lab)
  // What was remembered goes with it: where there is no cluster, each monitor asks for one again.
  await lab.on('node1', 'systemctl stop pacemaker corosync && rm -r /run/resource-agents/havirt')
  yield* monitor(lab, 'monitor, no cluster')
}

// ---- one resource -------------------------------------------------------------------------------------------------------

async function* monitor(
  lab: Lab,
  name: string,
  bars: { wall?: Bar; cpu?: Bar; peak?: Bar } = {},
): AsyncGenerator<Figure> {
  const { ours, original } = await inTurn(lab, 'monitor')
  yield against(`ocf ${name} / the original`, 'ms', ours, original, 'ms', bars.wall)
  yield against(`ocf ${name}, CPU / the original's`, 'ms', ours, original, 'cpuMs', bars.cpu)
  yield against(`ocf ${name}, peak resident memory`, 'MB', ours, original, 'peakMB', bars.peak)
}

/** Programs that one monitor executes, the agent itself among them. Only where strace is installed. */
async function* executed(lab: Lab): AsyncGenerator<Figure> {
  if ((await lab.on('node1', 'command -v strace || true')) === '') return
  const count = async (agent: Agent) => {
    const { argv, environment } = call(agent, 'monitor', GUEST)
    const words = Object.entries(environment).map(([name, value]) => `'${name}=${value}'`)
    const trace = 'strace -f -qq -e trace=execve -e status=successful -o /tmp/executed'
    const line = `env -i ${words.join(' ')} ${trace} ${argv.join(' ')} && grep -c execve /tmp/executed`
    return Number(await lab.on('node1', line))
  }
  const [theirs, ours] = [await count('original'), await count('ours')]
  yield { name: 'ocf monitor, programs executed / the original', unit: 'of', ours, theirs }
}

async function* others(lab: Lab): AsyncGenerator<Figure> {
  const status = await inTurn(lab, 'status')
  yield against('ocf status / the original', 'ms', status.ours, status.original, 'ms', { kind: 'ratio', limit: 2 })
  const validate = await inTurn(lab, 'validate-all')
  const threefold = { kind: 'ratio', limit: 3 } as const
  yield against('ocf validate-all / the original', 'ms', validate.ours, validate.original, 'ms', threefold)
  const empty = { argv: ['/usr/bin/env', lab.node, '-e', '0'], environment: { PATH } }
  const metaData = await inTurn(lab, 'meta-data', { empty: [empty] })
  const beyond = { kind: 'beyond', limit: 15 } as const
  yield against('ocf meta-data / node -e 0', 'ms', metaData.ours, metaData['empty'] ?? [], 'ms', beyond)
  yield against('ocf meta-data / the original', 'ms', metaData.ours, metaData.original, 'ms')
}

/** The guest is waited for between start and stop: until it has booted it does not hear that it should shut down. */
async function* changes(lab: Lab): AsyncGenerator<Figure> {
  const forget = `dd if=/dev/zero of=${DISK} bs=512 seek=1 count=1 conv=notrunc,fsync status=none`
  const booted = `until dd if=${DISK} bs=512 skip=1 count=1 status=none | grep -qa HVRT; do sleep 0.05; done`
  const start = (agent: Agent) => [{ ...call(agent, 'start', GUEST), before: ['sh', '-c', forget] }]
  const stop = (agent: Agent) => [{ ...call(agent, 'stop', GUEST), before: ['sh', '-c', booted] }]
  await lab.on('node1', `virsh -q destroy ${GUEST}`)
  const {
    originalStart,
    originalStop,
    start: oursStart,
    stop: oursStop,
  } = await lab.account({
    ...PLAN,
    rounds: CHANGE_ROUNDS,
    turns: {
      originalStart: start('original'),
      originalStop: stop('original'),
      start: start('ours'),
      stop: stop('ours'),
    },
  })
  yield against('ocf start / the original', 'ms', oursStart, originalStart, 'ms')
  yield against('ocf stop / the original', 'ms', oursStop, originalStop, 'ms')
  yield against('ocf start, peak resident memory', 'MB', oursStart, originalStart, 'peakMB', small)
  await lab.on('node1', `virsh -q create ${configOf(GUEST)}`)
}

// ---- many resources -----------------------------------------------------------------------------------------------------

/** What it costs a node, in ten seconds, to monitor each of its resources once, together with the daemons that are asked. */
async function* many(lab: Lab): AsyncGenerator<Figure> {
  const names = Array.from({ length: MANY }, (_, at) => `many${at + 1}`)
  await lab.on('node1', haltedGuests(names))
  await configure(lab, names)
  const round = (agent: Agent) => names.map(name => call(agent, 'monitor', name))
  const { ours = [], original = [] } = await lab.account({
    rounds: MANY_ROUNDS,
    warmUps: 1,
    atOnce: AT_ONCE,
    daemons: ['libvirtd', 'pacemaker-based'],
    turns: { original: round('original'), ours: round('ours') },
  })
  const about = `ocf monitor of ${MANY} resources, CPU`
  const seconds = (name: string, of: (taken: Taken) => number, bar?: Bar): Figure => ({
    name,
    unit: 's',
    ours: median(ours.map(of)) / MS_PER_S,
    theirs: median(original.map(of)) / MS_PER_S,
    ...(bar && { bar }),
  })
  yield seconds(`${about} of the agents / the original's`, ({ cpuMs }) => cpuMs, twoFifths)
  yield seconds(`${about} of libvirtd`, ({ daemonsMs }) => daemonsMs['libvirtd'] ?? 0)
  yield seconds(`${about} of pacemaker-based`, ({ daemonsMs }) => daemonsMs['pacemaker-based'] ?? 0)
  yield seconds(`${about} of all of these`, all, twoFifths)
  yield seconds(`ocf monitor of ${MANY} resources, ${AT_ONCE} at once: until the last has ended`, ({ ms }) => ms)
  await lab.on('node1', names.map(name => `virsh -q destroy ${name}`).join('\n'))
}

function all({ cpuMs, daemonsMs }: Taken): number {
  return Object.values(daemonsMs).reduce((sum, ms) => sum + ms, cpuMs)
}

/** Guests whose boot sector only halts: they run, and need no CPU for it. One disk for all of them, which nobody writes. */
function haltedGuests(names: readonly string[]): string {
  const xml = (name: string) =>
    // The original wants the name on a line of its own.
    `<domain type="qemu">\n<name>${name}</name>\n<memory unit="MiB">16</memory><vcpu>1</vcpu>
    <os><type arch="x86_64" machine="pc">hvm</type><boot dev="hd"/></os><features><acpi/></features>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type="usb" model="none"/>
    <disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="/root/halted.img"/>
    <target dev="vda" bus="virtio"/><readonly/></disk><memballoon model="none"/></devices></domain>`
  return [
    // cli; hlt; jmp to it
    String.raw`{ printf '\372\364\353\375'; head -c 506 /dev/zero; printf '\125\252'; } >/root/halted.img`,
    'truncate -s 1M /root/halted.img',
    ...names.map(name => `echo '${xml(name)}' >${configOf(name)} && virsh -q create ${configOf(name)} || exit`),
  ].join('\n')
}

// ---- as Pacemaker does --------------------------------------------------------------------------------------------------

const PLAN = { rounds: ROUNDS, warmUps: 2, atOnce: 1, daemons: [] } as const

type InTurn = Readonly<Record<Agent, readonly Taken[]>> & Readonly<Record<string, readonly Taken[]>>

/** One action of the one resource, by both agents and perhaps beside something else. */
async function inTurn(lab: Lab, action: string, beside: Record<string, ProcessCommand[]> = {}): Promise<InTurn> {
  const agents = Object.fromEntries(AGENTS.map(agent => [agent, [call(agent, action, GUEST)]]))
  return (await lab.account({ ...PLAN, turns: { ...agents, ...beside } })) as InTurn
}

function call(agent: Agent, action: string, resource: string): ProcessCommand {
  const provider = PROVIDERS[agent]
  return {
    argv: [`${ROOT}/resource.d/${provider}/VirtualDomain`, action],
    environment: {
      PATH,
      LC_ALL: 'C',
      OCF_ROOT: ROOT,
      OCF_RA_VERSION_MAJOR: '1',
      OCF_RA_VERSION_MINOR: '1',
      OCF_RESOURCE_INSTANCE: resource,
      OCF_RESOURCE_TYPE: 'VirtualDomain',
      OCF_RESOURCE_PROVIDER: provider,
      OCF_EXIT_REASON_PREFIX: 'ocf-exit-reason:',
      HA_logfacility: 'none',
      PCMK_logfacility: 'none',
      OCF_RESKEY_crm_feature_set: '3.16.2',
      OCF_RESKEY_config: configOf(resource),
      OCF_RESKEY_hypervisor: 'qemu:///system',
      OCF_RESKEY_CRM_meta_name: action,
      OCF_RESKEY_CRM_meta_timeout: String(TIMEOUT_MS),
      OCF_RESKEY_CRM_meta_on_node: 'node1',
      ...(action === 'monitor' && { OCF_RESKEY_CRM_meta_interval: String(INTERVAL_MS) }),
    },
  }
}

/** Resources of these names, which the cluster leaves alone: it is we who call the agents. */
async function configure(lab: Lab, names: readonly string[]): Promise<void> {
  const resources = names.map(
    name => `<primitive id="${name}" class="ocf" provider="heartbeat" type="VirtualDomain">
      <meta_attributes id="${name}-meta"><nvpair id="${name}-managed" name="is-managed" value="false"/></meta_attributes>
      <instance_attributes id="${name}-given"><nvpair id="${name}-config" name="config" value="${configOf(name)}"/></instance_attributes>
    </primitive>`,
  )
  await lab.on(
    'node1',
    'cibadmin --replace --scope resources --xml-pipe',
    `<resources>${resources.join('')}</resources>`,
  )
  // The cluster looks once at each by itself, slowly where the machine is busy; while it does, nothing is measured.
  const looked = `cibadmin --query --scope status | grep -c 'operation="monitor".*rc-code="0"'`
  const isOver = `[ "$(${looked})" -ge ${names.length} ]`
  await lab.on('node1', `for turn in $(seq 1200); do ${isOver} && exit; sleep 0.5; done; echo 'no probes' >&2; exit 1`)
}

function configOf(resource: string): string {
  return `/root/${resource}.xml`
}

function against(
  name: string,
  unit: Figure['unit'],
  ours: readonly Taken[] | undefined,
  theirs: readonly Taken[] | undefined,
  key: 'ms' | 'cpuMs' | 'peakMB',
  bar?: Bar,
): Figure {
  const of = (taken: readonly Taken[] = []) => median(taken.map(each => each[key]))
  return { name, unit, ours: of(ours), theirs: of(theirs), ...(bar && { bar }) }
}
