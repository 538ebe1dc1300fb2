/** Situations of what the agent needs besides libvirt: pools, networks, scripts, the cluster, virsh. */
import { type Asked, type Code, differs, GONE, RUNS, type Run, type Situation, STAYS, same } from './ocf-answers.ts'

const NETWORK = `<network><name>net</name><forward mode="bridge"/><bridge name="br0"/></network>`
const RESOURCES = `mkdir $W/pool; cp "$DISK" $W/pool/disk; virsh -q pool-define-as pool dir --target $W/pool
echo '${NETWORK}' >$W/net; virsh -q net-define $W/net
edit "s:<disk type='file':<disk type='volume':; s:<source file=.*:<source pool='pool' volume='disk'/>:"
edit "s:<memballoon:<interface type='network'><source network='net'/></interface>&:"`
const ACTIVE = "virsh pool-info pool | grep -q running && virsh net-info net | grep -q 'Active: *yes'"

/** Every program but virsh. */
const ONLY: Asked = { under: '$W/bin/hidden' }

function scripts(names: string, code: Code, reason?: RegExp): Run {
  const paths = names.split(' ').map(name => `$W/bin/${name}`)
  return same('monitor', code, { parameters: { monitor_scripts: paths.join(' ') }, ...(reason && { reason }) })
}

/** A monitor beside a file that stands for the cluster's configuration. */
function sized(parameters: Record<string, string>, proof: string): Run {
  return same('monitor', { code: 0, proof }, { parameters, before: 'cluster', environment: { CIB_file: '$W/cib.xml' } })
}

export const EFFECTS: readonly Situation[] = [
  {
    name: 'pool and network are stopped',
    make: RESOURCES,
    runs: [
      same('start', { code: 1, state: 'absent' }, { reason: /pool/ }),
      same('start', { ...RUNS, proof: ACTIVE }, { parameters: { start_resources: 'true' } }),
      same('stop', GONE, { parameters: { start_resources: 'true' }, timeoutMs: 8000 }),
      same('start', { ...RUNS, proof: ACTIVE }, { parameters: { start_resources: 'true' } }),
    ],
  },
  {
    name: 'a pool that cannot start',
    make: `${RESOURCES}; rm -r $W/pool`,
    parameters: { start_resources: 'true' },
    runs: [same('start', { code: 1, state: 'absent' }, { reason: /pool/ })],
  },
  {
    name: 'a disk that is not there',
    make: 'edit "s:$DISK:$W/nothing.img:"',
    runs: [same('start', { code: 1, state: 'absent' }, { reason: /nothing\.img/ })],
  },
  {
    name: 'an emulator that is not there',
    make: "edit 's:<emulator>.*:<emulator>/usr/bin/nothing</emulator>:'",
    runs: [same('start', { code: 1, state: 'absent' }, { reason: /\/usr\/bin\/nothing/ })],
  },
  {
    name: "libvirt's test driver",
    make: 'edit "s:<name>.*:<name>test</name>:; /<uuid>/d"',
    parameters: { hypervisor: 'test:///default' },
    runs: [same('validate-all', 0), same('monitor', 0), same('probe', 0), same('status', 0)],
  },
  {
    name: "libvirt's test driver without the domain",
    parameters: { hypervisor: 'test:///default' },
    runs: [same('monitor', 7), same('probe', 7), same('status', 7), same('stop', 0)],
  },
  {
    name: 'monitor_scripts',
    make: `running
program good 'echo well'; program bad 'echo no answer from the database; exit 3'; program killed 'kill -9 $$'
program loud 'head -c 3000000 /dev/zero | tr "\\0" x; exit 4'; program loud-and-well 'head -c 3000000 /dev/zero | tr "\\0" x'
program endless 'sleep 60'; echo 'echo well' >$W/bin/text`,
    runs: [
      scripts('good', 0),
      scripts('good loud-and-well', 0),
      scripts('bad', 1, /bad.*3.*no answer from the database/),
      scripts('good bad', 1, /bad.*3/),
      scripts('missing', 1, /missing/),
      scripts('text', 1, /text/),
      same('monitor', 1, { parameters: { monitor_scripts: '$W/bin/good --argument' }, reason: /--argument/ }),
      scripts('killed', 1, /killed.*(signal|KILL|137)/),
      scripts('loud', 1, /loud.*4.{0,2000}$/),
      differs('monitor', 'hangs', 1, 'own deadline', {
        parameters: { monitor_scripts: '$W/bin/endless' },
        timeoutMs: 3000,
        reason: /endless/,
      }),
    ],
  },
  {
    name: 'monitor_scripts of a domain that does not run',
    make: `program bad 'exit 3'`,
    parameters: { monitor_scripts: '$W/bin/bad' },
    runs: [same('monitor', 7), same('probe', 7)],
  },
  {
    name: 'monitor_scripts that fail at first',
    make: `program warm 'echo >>"$0.asked"; [ "$(wc -l <"$0.asked")" -ge 3 ]'`,
    parameters: { monitor_scripts: '$W/bin/warm' },
    runs: [same('start', { ...RUNS, proof: '[ "$(wc -l <$W/bin/warm.asked)" -ge 3 ]' })],
  },
  {
    name: 'monitor_scripts that fail for ever',
    make: `program bad 'echo not yet; exit 3'`,
    parameters: { monitor_scripts: '$W/bin/bad' },
    runs: [differs('start', 'hangs', 1, 'own deadline', { timeoutMs: 5000, reason: /bad.*3.*not yet/ })],
  },
  {
    name: 'utilization without a cluster',
    make: 'running',
    parameters: { unset_utilization_hv_memory: 'yes', autoset_utilization_hv_memory: 'false' },
    runs: [same('monitor', 0)],
  },
  {
    name: 'utilization',
    make: 'running; cluster',
    runs: [
      sized({}, 'utilization cpu 1 && utilization host_memory 32 && utilization hv_memory 32'),
      sized(
        { autoset_utilization_cpu: 'false', unset_utilization_cpu: 'true', autoset_utilization_hv_memory: 'no' },
        '! grep -q "name=.cpu" $W/cib.xml && utilization hv_memory 7 && utilization host_memory 32',
      ),
      sized({ autoset_utilization_cpu: '0', autoset_utilization_host_memory: '0' }, 'utilization cpu 7'),
    ],
  },
  {
    name: 'virsh is not there and the domain runs',
    make: 'running; hide virsh',
    runs: [
      differs('monitor', 1, 0, 'state without virsh', ONLY),
      differs('probe', 7, 0, 'state without virsh', ONLY),
      same('status', 0, ONLY),
      same('validate-all', 5, { ...ONLY, reason: /virsh/ }),
      differs('migrate_to', 5, 1, 'stop is true', { ...ONLY, reason: /virsh/, harmless: true }),
      differs('stop', STAYS, { code: 1, state: 'running' }, 'stop is true', {
        ...ONLY,
        timeoutMs: 5000,
        reason: /virsh/,
      }),
    ],
  },
  {
    name: 'virsh is not there, nor the domain',
    make: 'hide virsh',
    runs: [
      differs('monitor', 1, 7, 'state without virsh', ONLY),
      same('probe', 7, ONLY),
      differs('status', 0, 7, 'what status says', ONLY),
      same('start', { code: 5, state: 'absent' }, { ...ONLY, reason: /virsh/, harmless: true }),
      same('migrate_to', 5, { ...ONLY, reason: /virsh/, harmless: true }),
      same('stop', GONE, ONLY),
    ],
  },
]
