/** Situations of the parameters: wrong ones, and what each right one does. */
import { type Code, DESTROYED, differs, GONE, GRACEFUL, RUNS, type Situation, STAYS, same } from './ocf-answers.ts'

/** A value that cannot be meant: what the validation answers, by the original and by ours. */
const WRONG: readonly (readonly [name: string, value: string, original: Code])[] = [
  ['migration_downtime', 'abc', 6],
  ['migration_downtime', '-1', 6],
  ['migration_speed', '1.5', 6],
  ['migration_speed', '100M', 6],
  ['migrateport', 'abc', 0],
  ['migrateport', '0', 0],
  ['migrateport', '65536', 0],
  ['force_stop', 'maybe', 0],
  ['stateless', '2', 0],
  ['save_config_on_stop', 'always', 0],
  ['sync_config_on_stop', 'ture', 0],
  ['start_resources', 'y', 0],
  ['autoset_utilization_cpu', 'nope', 0],
  ['autoset_utilization_host_memory', '-', 0],
  ['autoset_utilization_hv_memory', 'null', 0],
  ['unset_utilization_cpu', 'yess', 0],
  ['unset_utilization_host_memory', '10', 0],
  ['unset_utilization_hv_memory', ' ', 0],
  ['migration_transport', 'ssh;reboot', 0],
  ['migration_transport', '+ssh', 0],
  ['migration_user', 'a b', 0],
  ['migration_user', '-oProxyCommand=x', 0],
  ['migration_network_suffix', '/x', 0],
  ['migrateuri', '--p2p', 0],
  ['migrateuri', 'tcp://%n --unsafe', 0],
  ['remoteuri', '-x', 0],
  ['remoteuri', 'qemu+ssh://%n/system x', 0],
  ['migrate_options', 'unsafe', 0],
  ['snapshot', 'states', 0],
  ['backingfile', 'base.img', 0],
  ['shutdown_mode', 'politely', 0],
  ['shutdown_mode', 'acpi,politely', 0],
  ['hypervisor', 'qemu+ssh://node4/system', 0],
  ['hypervisor', 'qemu://node4/system', 0],
  ['hypervisor', 'nonsense', 0],
]

export const PARAMETERS: readonly Situation[] = [
  ...WRONG.map(([name, value, original]): Situation => {
    const asked = { parameters: { [name]: value }, reason: new RegExp(name) }
    return {
      name: `${name}='${value}'`,
      runs: [
        original === 6
          ? same('validate-all', 6, asked)
          : differs('validate-all', original, 6, 'checked parameters', asked),
      ],
    }
  }),
  {
    name: 'values that are empty',
    runs: [
      same('validate-all', 0, {
        parameters: { force_stop: '', migrateport: '', migration_user: '', snapshot: '', shutdown_mode: '' },
      }),
      differs('validate-all', 6, 0, 'empty is unset', { parameters: { migration_speed: '' } }),
      differs('validate-all', 6, 0, 'empty is unset', { parameters: { migration_downtime: '' } }),
    ],
  },
  {
    name: 'parameters that exclude each other',
    runs: [
      same('validate-all', 6, { parameters: { force_stop: 'yes', snapshot: '$W' }, reason: /force_stop.*snapshot/ }),
      same('validate-all', 6, { parameters: { stateless: 'true' }, reason: /stateless.*backing|backing.*stateless/ }),
      same('start', 6, {
        parameters: { force_stop: 'yes', snapshot: '$W' },
        reason: /force_stop.*snapshot/,
        harmless: true,
      }),
    ],
  },
  ...(
    [
      ['force_stop and snapshot', { force_stop: 'yes', snapshot: '$W' }],
      ['migration_speed=fast', { migration_speed: 'fast' }],
      ['migration_downtime=1s', { migration_downtime: '1s' }],
      ['stateless without a backing file', { stateless: 'true' }],
    ] as const
  ).map(
    ([name, parameters]): Situation => ({
      name: `a domain runs and its parameters are wrong: ${name}`,
      make: 'running',
      parameters,
      runs: [
        differs('monitor', 1, 0, 'state without parameters'),
        differs('probe', 7, 0, 'state without parameters'),
        differs('stop', STAYS, GONE, 'stop is true'),
      ],
    }),
  ),
  {
    name: 'force_stop',
    make: 'running',
    parameters: { force_stop: 'YES' },
    runs: [same('stop', { ...DESTROYED, seconds: [0, 5] })],
  },
  {
    name: 'shutdown_mode',
    make: 'recorded; running',
    parameters: { shutdown_mode: 'acpi' },
    runs: [
      differs(
        'stop',
        { ...GRACEFUL, proof: 'ran "$VM *"' },
        { ...GRACEFUL, proof: 'ran ".*--mode acpi.*"' },
        'shutdown_mode works',
      ),
    ],
  },
  {
    name: 'snapshot',
    make: 'mkdir $W/states; running; nonce >$W/nonce',
    parameters: { snapshot: '$W/states' },
    runs: [
      same('stop', { ...GONE, proof: '[ -s "$W/states/$VM.state" ]' }),
      same('start', { ...RUNS, proof: '[ ! -e "$W/states/$VM.state" ] && nonce | cmp - $W/nonce' }),
      same('monitor', 0),
    ],
  },
  {
    name: 'snapshot without its folder',
    make: 'running',
    parameters: { snapshot: '$W/nowhere' },
    runs: [same('stop', GRACEFUL)],
  },
  {
    name: 'snapshot with a broken file',
    make: 'mkdir $W/states; echo nothing >"$W/states/$VM.state"',
    parameters: { snapshot: '$W/states' },
    runs: [same('start', { code: 1, state: 'absent', proof: '[ -s "$W/states/$VM.state" ]' }, { reason: /\.state/ })],
  },
  {
    name: 'save_config_on_stop',
    make: 'running; virsh -q desc "$VM" --live --new-desc changed',
    parameters: { save_config_on_stop: 'true' },
    runs: [
      same('monitor', { code: 0, proof: 'grep -q "<description>changed" "$CONFIG"' }),
      same(
        'stop',
        { ...GONE, proof: 'grep -q "<description>again" "$CONFIG" && ! grep -q havirt "$CONFIG"' },
        {
          before: 'virsh -q desc "$VM" --live --new-desc again',
        },
      ),
    ],
  },
  {
    name: 'save_config_on_stop of a domain that the agent started',
    parameters: { save_config_on_stop: 'true' },
    runs: [
      same('start', RUNS),
      same(
        'stop',
        { ...GONE, proof: 'grep -q "<description>changed" "$CONFIG" && ! grep -q havirt "$CONFIG"' },
        {
          before: 'virsh -q desc "$VM" --live --new-desc changed',
        },
      ),
      same('start', RUNS),
    ],
  },
  {
    name: 'save_config_on_stop through a link, to a file of somebody',
    make: `mv "$CONFIG" $W/file; ln -s $W/file "$CONFIG"; chown 1:2 $W/file; chmod 640 $W/file
running; virsh -q desc "$VM" --live --new-desc changed`,
    parameters: { save_config_on_stop: 'true' },
    runs: [
      same('monitor', {
        code: 0,
        proof:
          '[ -L "$CONFIG" ] && grep -q "<description>changed" $W/file && [ "$(stat -c %u:%g:%a $W/file)" = 1:2:640 ]',
      }),
    ],
  },
  {
    name: 'a configuration that nobody asked to save',
    make: 'running; virsh -q desc "$VM" --live --new-desc changed',
    runs: [same('stop', { ...GONE, proof: 'cmp "$GUEST" "$CONFIG"' })],
  },
  {
    name: 'sync_config_on_stop without csync2',
    make: '',
    parameters: { sync_config_on_stop: 'true' },
    runs: [
      same('validate-all', 5, { reason: /csync2/ }),
      same('start', { code: 5, state: 'absent' }, { reason: /csync2/ }),
    ],
  },
  {
    name: 'sync_config_on_stop without csync2, and the domain runs',
    make: 'running',
    parameters: { sync_config_on_stop: 'true' },
    runs: [differs('stop', { code: 5, state: 'running' }, GONE, 'stop is true')],
  },
  {
    name: 'sync_config_on_stop',
    make: `program csync2 'echo "$*" >$(dirname "$0")/../synced'; running`,
    parameters: { sync_config_on_stop: 'true' },
    runs: [same('stop', { ...GONE, proof: `[ "$(cat $W/synced)" = "-x $CONFIG" ]` })],
  },
  {
    name: 'backingfile',
    make: 'overlay "$W/$VM.qcow2"',
    parameters: { backingfile: '/media/twins/$VM.img' },
    runs: [differs('start', { code: 1, state: 'absent' }, RUNS, 'backing format'), same('stop', GONE)],
  },
  {
    name: 'backingfile with its overlay',
    make: 'overlay "$W/$VM.qcow2"; qemu-img create -q -f qcow2 -F raw -b "$DISK" "$W/$VM.qcow2"',
    parameters: { backingfile: '/media/twins/$VM.img' },
    runs: [
      same('start', RUNS),
      differs('stop', { code: 0, state: 'shut off' }, GONE, 'nothing defined', {
        before: `wait_for '[ "$(stat -c %s "$W/$VM.qcow2")" -gt 262144 ]'`,
      }),
    ],
  },
  {
    name: 'stateless',
    make: 'overlay "$W/$VM.qcow2"; qemu-img create -q -f qcow2 "$W/$VM.qcow2" 5M',
    parameters: { backingfile: '/media/twins/$VM.img', stateless: 'yes' },
    runs: [
      differs(
        'start',
        { code: 1, state: 'absent' },
        { ...RUNS, proof: 'qemu-img info -U "$W/$VM.qcow2" | grep "backing file: $DISK"' },
        'backing format',
      ),
    ],
  },
  {
    name: 'copyindirs without virt-copy-in',
    make: 'overlay "$W/$VM.qcow2"',
    parameters: { backingfile: '/media/twins/$VM.img', stateless: 'yes', copyindirs: '/etc/hostname' },
    runs: [same('start', { code: 1, state: 'absent' }, { reason: /virt-copy-in/ })],
  },
  {
    name: 'backingfile, and the domain uses another disk',
    parameters: { backingfile: '/media/twins/$VM.img' },
    runs: [
      differs('start', { code: 1, state: 'absent' }, { code: 6, state: 'absent' }, 'overlay in use', {
        reason: /qcow2/,
      }),
    ],
  },
]
