/** Situations of the domain, of libvirt and of the clock, and words that are no action. */
import {
  type Asked,
  DESTROYED,
  differs,
  GONE,
  GRACEFUL,
  NOT_ACTIVE,
  RUNS,
  type Situation,
  STAYS,
  same,
} from './ocf-answers.ts'

export const STATES: readonly Situation[] = [
  {
    name: 'a domain that is not there',
    runs: [
      same('monitor', 7),
      same('probe', 7),
      same('status', 7),
      same('validate-all', 0),
      same('migrate_to', { code: 1, state: 'absent' }, { reason: NOT_ACTIVE }),
      same('stop', GONE),
      same('stop', GONE),
    ],
  },
  {
    name: 'a domain that does not arrive',
    runs: [
      differs('migrate_from', 'hangs', { code: 1, seconds: [9, 13] }, 'own deadline', {
        timeoutMs: 13_000,
        reason: NOT_ACTIVE,
      }),
    ],
  },
  {
    name: 'the life of a domain',
    runs: [
      same('start', RUNS, { before: 'forget' }),
      same('start', RUNS),
      same('monitor', 0),
      same('status', 0),
      same('stop', GRACEFUL, { before: 'wait_for booted' }),
      same('monitor', 7),
      same('stop', GONE),
    ],
  },
  {
    name: 'a domain that runs',
    make: 'running',
    runs: [
      same('monitor', 0),
      same('monitor', 0, { environment: { OCF_CHECK_LEVEL: '10' } }),
      same('probe', 0),
      same('status', 0),
      same('validate-all', 0),
      same('start', RUNS),
      same('migrate_from', RUNS),
      same('stop', GRACEFUL),
    ],
  },
  {
    name: 'a domain that runs and is defined',
    make: 'defined; virsh -q start "$VM"; wait_for booted',
    runs: [same('monitor', 0), same('start', RUNS), same('stop', { code: 0, state: 'shut off' })],
  },
  {
    name: 'a domain that is defined and shut off',
    make: 'defined',
    runs: [
      same('monitor', 7),
      same('probe', 7),
      same('status', 7),
      same('migrate_to', 1, { reason: NOT_ACTIVE }),
      same('stop', { code: 0, state: 'shut off' }),
      same('start', { ...RUNS, proof: '! virsh -q list --all --name --persistent | grep "$VM" && [ -f "$CONFIG" ]' }),
    ],
  },
  {
    name: 'a definition of that name with another uuid',
    make: 'sed "s/$UUID/11111111-2222-3333-4444-555555555555/" "$CONFIG" >$W/other.xml; virsh -q define $W/other.xml',
    runs: [same('probe', 7), same('start', RUNS), same('monitor', 0)],
  },
  {
    name: "a file that is libvirt's own definition",
    config: '/etc/libvirt/qemu/$VM.xml',
    make: 'rm "$CONFIG"; virsh -q define "$GUEST"',
    runs: [same('start', { ...RUNS, proof: '[ -s "$CONFIG" ]' }), same('stop', GONE)],
  },
  {
    name: 'a domain that is paused',
    make: 'paused',
    runs: [same('monitor', 0), same('probe', 0), same('status', 0), same('start', { code: 0, state: 'paused' })],
  },
  {
    name: 'a domain that is paused is stopped',
    make: 'paused',
    runs: [
      differs('stop', { ...DESTROYED, seconds: [4, 9] }, { ...DESTROYED, seconds: [0, 3] }, 'paused is destroyed', {
        timeoutMs: 10_000,
      }),
    ],
  },
  {
    name: 'a domain that crashed',
    make: 'crashed',
    runs: [
      same('monitor', 1, { reason: /crashed/ }),
      same('probe', 1, { reason: /crashed/ }),
      same('status', 1, { reason: /crashed/ }),
      same('start', { code: 1, state: 'crashed' }, { reason: /crashed/ }),
      same('stop', { ...GONE, seconds: [0, 6] }),
    ],
  },
  {
    name: 'a domain that sleeps',
    make: 'asleep',
    runs: [
      same('monitor', 1, { reason: /pmsuspended|suspended|asleep|sleep/ }),
      same('status', 1, { reason: /pmsuspended|suspended|asleep|sleep/ }),
      same('stop', { ...GONE, seconds: [0, 6] }),
    ],
  },
  {
    name: 'a domain that QEMU paused because its disk is full',
    make: 'disk_full',
    runs: [
      differs('monitor', 0, { code: 190, state: 'paused' }, 'disk error degrades', { reason: /I\/O|disk/i }),
      same('monitor', 0, { environment: { OCF_RA_VERSION_MAJOR: '1', OCF_RA_VERSION_MINOR: '0' } }),
      same('probe', 0),
    ],
  },
  {
    name: 'a domain whose QEMU was killed',
    make: `running; kill_qemu; wait_for '! virsh domstate "$VM"'`,
    runs: [same('monitor', 7), same('probe', 7), same('status', 7), same('stop', GONE), same('start', RUNS)],
  },
  {
    name: 'a run folder that is not there',
    make: 'rm -r "$RUN"',
    runs: [same('start', RUNS), same('monitor', 0, { before: 'rm -rf "$RUN"' }), same('stop', GONE)],
  },
  {
    name: 'a managed-save image',
    make: 'defined; virsh -q start "$VM"; wait_for booted; virsh -q managedsave "$VM"',
    runs: [
      same('monitor', 7),
      differs('start', RUNS, { code: 1, state: 'shut off' }, 'gone while saved', { reason: /managed.?save/i }),
    ],
  },
  {
    name: 'a file whose name was changed while the domain runs',
    runs: [
      same('start', RUNS),
      differs('monitor', 7, 0, 'domain followed', { before: 'edit "s:<name>.*</name>:<name>renamed</name>:"' }),
      differs('stop', STAYS, GONE, 'domain followed'),
    ],
  },
]

/** The original asks six times for a cluster that is not there, which takes it a second. */
const UNSIZED = {
  autoset_utilization_cpu: 'no',
  autoset_utilization_host_memory: 'no',
  autoset_utilization_hv_memory: 'no',
}

export const CLOCK: readonly Situation[] = [
  {
    name: 'a domain that does not answer the power button',
    make: 'deaf; created',
    runs: [same('stop', { ...DESTROYED, seconds: [4, 10] }, { timeoutMs: 12_000 })],
  },
  {
    name: 'a time-out of 4 s, and the domain needs one to shut down',
    make: 'slow',
    runs: [differs('stop', DESTROYED, GRACEFUL, 'time to end', { timeoutMs: 4000 })],
  },
  {
    name: 'a time-out of 1 s',
    make: 'running',
    parameters: UNSIZED,
    runs: [
      same('monitor', 0, { timeoutMs: 1000 }),
      same('probe', 0, { timeoutMs: 1000 }),
      same('status', 0, { timeoutMs: 1000 }),
      same('stop', GONE, { timeoutMs: 1000 }),
    ],
  },
  {
    name: 'no variable of Pacemaker',
    runs: [
      same('monitor', 7, { noMeta: true }),
      same('start', RUNS, { noMeta: true, before: 'forget' }),
      same('monitor', 0, { noMeta: true }),
      same('validate-all', 0, { noMeta: true }),
      same('stop', GRACEFUL, { noMeta: true, before: 'wait_for booted' }),
    ],
  },
]

export const WORDS: readonly Situation[] = [
  {
    name: 'words that are no action',
    runs: [
      same('nonsense', 3, { reason: /nonsense/ }),
      same('notify', 3, { reason: /notify/ }),
      same('promote', 3, { reason: /promote/ }),
      same('reload', 3, { reason: /reload/ }),
      same('usage', 3, { reason: /./ }),
      same('methods', 3, { reason: /./ }),
      same('', 3, { reason: /action/ }),
    ],
  },
  {
    name: 'meta-data',
    runs: [
      same('meta-data', 0),
      differs('meta-data', 2, 0, 'meta-data anywhere', { bare: true }),
      same('meta-data', 0, { under: 'setpriv --reuid=65534 --regid=65534 --clear-groups' }),
    ],
  },
  {
    name: 'parameters that are changed while it runs',
    make: 'running',
    runs: [
      differs('reload-agent', 3, { code: 0, state: 'running' }, 'reload-agent'),
      differs('reload-agent', 3, 6, 'reload-agent', {
        parameters: { migration_speed: 'x' },
        reason: /migration_speed/,
      }),
    ],
  },
]

const WAITS: Asked = { timeoutMs: 4000, reason: /libvirt/ }
/** The original asks three times, once a second. */
const WAITS_LONGER: Asked = { timeoutMs: 7000, reason: /libvirt/ }

export const LIBVIRT: readonly Situation[] = [
  {
    name: 'libvirtd is down and the domain runs',
    make: 'running; libvirtd_stops',
    runs: [
      same('monitor', { code: 0, state: 'alive' }),
      same('probe', 0),
      same('validate-all', 0),
      differs('status', 'hangs', 1, 'own deadline', WAITS),
      differs('start', 'hangs', { code: 1, state: 'alive' }, 'own deadline', WAITS),
      differs('migrate_to', 'hangs', 1, 'own deadline', WAITS),
      same('stop', { code: 1, state: 'alive' }, WAITS_LONGER),
    ],
  },
  {
    name: 'libvirtd is down, QEMU is dead',
    make: 'running; libvirtd_stops; kill_qemu',
    runs: [
      same('monitor', 7),
      same('probe', 7),
      differs('status', 'hangs', 7, 'own deadline', WAITS),
      differs('start', 'hangs', 1, 'own deadline', WAITS),
      differs('stop', 1, { code: 0, state: 'dead' }, 'dead without libvirt', WAITS_LONGER),
    ],
  },
  {
    name: 'libvirtd is down, the file is missing and the domain runs',
    make: 'running; libvirtd_stops; rm "$CONFIG"',
    runs: [
      same('monitor', 1, WAITS),
      differs('probe', 7, 1, 'alive without file', WAITS),
      differs('stop', { code: 0, state: 'alive' }, { code: 1, state: 'alive' }, 'stop is true', WAITS_LONGER),
    ],
  },
  {
    name: 'libvirtd is down, the file is missing and QEMU is dead',
    make: 'running; libvirtd_stops; kill_qemu; rm "$CONFIG"',
    runs: [
      differs('monitor', 1, 7, 'state without the file', WAITS),
      same('probe', 7, WAITS),
      same('stop', { code: 0, state: 'dead' }, WAITS_LONGER),
    ],
  },
  {
    name: 'libvirtd comes back while a stop waits',
    make: 'running; libvirtd_stops',
    runs: [
      differs('stop', { code: 1, state: 'alive' }, GRACEFUL, 'libvirt comes back', {
        before: '(sleep 5; libvirtd_starts) >/dev/null 2>&1 &',
        timeoutMs: 15_000,
      }),
    ],
  },
  {
    name: 'libvirtd is frozen and the domain runs',
    make: 'running; libvirtd_freezes',
    runs: [
      differs('monitor', 'hangs', { code: 0, state: 'alive' }, 'libvirt does not answer', WAITS),
      differs('status', 'hangs', 1, 'own deadline', WAITS),
      differs('start', 'hangs', 1, 'own deadline', WAITS),
      differs('stop', 'hangs', { code: 1, state: 'alive' }, 'own deadline', WAITS),
    ],
  },
]
