/** Situations of a migration. */
import { type Asked, differs, type Expected, GONE, RUNS, type Run, type Situation, same } from './ocf-answers.ts'
import type { Difference } from './ocf-differences.ts'

/** What virsh is told; it refuses, and that is what the agent says. */
function told(words: string, parameters: Record<string, string>, more: Asked = {}): Run {
  return same('migrate_to', toldOf(words), { parameters, ...TOLD, ...more })
}

function toldOtherwise(original: string, ours: string, why: Difference, parameters: Record<string, string>): Run {
  return differs('migrate_to', toldOf(original), toldOf(ours), why, { parameters, ...TOLD })
}

const TOLD: Asked = { harmless: true, reason: /refused by the bench/ }

/** One names the domain by its name, the other by its uuid. */
const toldOf = (words: string): Expected => ({
  code: 1,
  state: 'running',
  proof: `ran "--live ${words.replace('$VM', '($VM|$UUID)')}"`,
})

const SSH = { migration_transport: 'ssh' }
const SUFFIX = { migration_network_suffix: '-mig' }
const FAR = 'far.example.org'

const URIS: readonly (readonly [name: string, run: Run])[] = [
  ['nothing', told('$VM qemu://$TARGET/system', {})],
  ['a transport', told('$VM qemu\\+ssh://$TARGET/system', SSH)],
  ['a transport and a user', told('$VM qemu\\+ssh://bob@$TARGET/system', { ...SSH, migration_user: 'bob' })],
  [
    'a user with capitals',
    toldOtherwise('$VM qemu\\+ssh://$TARGET/system', '$VM qemu\\+ssh://Bob_x@$TARGET/system', 'user names', {
      ...SSH,
      migration_user: 'Bob_x',
    }),
  ],
  ['a suffix', told('$VM qemu://$TARGET-mig/system tcp:$TARGET-mig:[0-9]+', SUFFIX)],
  [
    'a suffix, a port and a target with a domain',
    told(
      '$VM qemu://far-mig.example.org/system tcp:far-mig.example.org:50000',
      { ...SUFFIX, migrateport: '50000' },
      {
        target: FAR,
      },
    ),
  ],
  [
    'remoteuri and a suffix',
    told('$VM qemu\\+tls://$TARGET/system tcp:$TARGET-mig:[0-9]+', { ...SUFFIX, remoteuri: 'qemu+tls://%n/system' }),
  ],
  ['migrateuri', told('$VM qemu\\+ssh://$TARGET/system tcp://$TARGET:50001', { ...SSH, migrateuri: 'tcp://%n:50001' })],
  [
    'migrateuri, a suffix and a user',
    toldOtherwise(
      '$VM qemu://bob@$TARGET-mig/system tcp://bob@$TARGET-mig:50001',
      '$VM qemu://bob@$TARGET-mig/system tcp://$TARGET:50001',
      'plain target',
      { ...SUFFIX, migration_user: 'bob', migrateuri: 'tcp://%n:50001' },
    ),
  ],
  [
    'two placeholders',
    told('$VM qemu\\+ssh://$TARGET/system\\?no_tty=1&x=$TARGET', { remoteuri: 'qemu+ssh://%n/system?no_tty=1&x=%n' }),
  ],
  [
    'options',
    told('--p2p --tunnelled +$VM qemu\\+ssh://$TARGET/system', { ...SSH, migrate_options: '--p2p --tunnelled' }),
  ],
  [
    'an URI among the options',
    told('--p2p +$VM qemu\\+ssh://$TARGET/system tcp://$TARGET:50002', {
      ...SSH,
      migrate_options: '--p2p --migrateuri=tcp://%n:50002',
    }),
  ],
  [
    'an URI among the options, in two words',
    toldOtherwise(
      '--migrateuri tcp://%n:50003 $VM qemu\\+ssh://$TARGET/system',
      '(--migrateuri tcp://$TARGET:50003 )?$VM qemu\\+ssh://$TARGET/system( tcp://$TARGET:50003)?',
      'placeholder with a space',
      { ...SSH, migrate_options: '--migrateuri tcp://%n:50003' },
    ),
  ],
  [
    'an URI among the options and migrateuri',
    told('$VM qemu\\+ssh://$TARGET/system tcp://$TARGET:50004', {
      ...SSH,
      migrate_options: '--migrateuri=tcp://%n:1',
      migrateuri: 'tcp://%n:50004',
    }),
  ],
  [
    'a local URI with a transport',
    toldOtherwise(
      '$VM qemu\\+unix\\+ssh://$TARGET/system',
      '$VM qemu\\+ssh://$TARGET/system',
      'transport named twice',
      {
        ...SSH,
        hypervisor: 'qemu+unix:///system',
      },
    ),
  ],
  [
    'a local URI with a question',
    told('$VM qemu\\+ssh://$TARGET/system\\?no_verify=1', { ...SSH, hypervisor: 'qemu:///system?no_verify=1' }),
  ],
  [
    'an URI of another host',
    differs('migrate_to', 'hangs', 6, 'local hypervisor', {
      parameters: { ...SSH, hypervisor: 'qemu+tcp://127.0.0.1:9/system' },
      timeoutMs: 4000,
      harmless: true,
      reason: /hypervisor/,
    }),
  ],
  [
    'nowhere',
    differs('migrate_to', 1, 2, 'missing target', { target: '', harmless: true, reason: /migrate_target|target/ }),
  ],
  [
    'a speed',
    same(
      'migrate_to',
      { code: 1, proof: 'ran ".*--bandwidth[ =]100.*" 2>&- || [ "$(virsh migrate-getspeed "$VM")" = 100 ]' },
      { parameters: { ...SSH, migration_speed: '100' }, ...TOLD },
    ),
  ],
]

const MOVES = { config: '$W/moving.xml', moves: true, parameters: SSH } as const

export const MIGRATIONS: readonly Situation[] = [
  ...URIS.map(([name, run]): Situation => ({ name: `migration to: ${name}`, make: 'running; recorded', runs: [run] })),
  {
    ...MOVES,
    name: 'a migration and the way back',
    make: 'running',
    runs: [
      same('migrate_to', GONE, { parameters: { migration_downtime: '500', migration_speed: '200' } }),
      same('monitor', 0, { there: true }),
      same('migrate_from', RUNS, { there: true }),
      same('probe', 7),
      same('stop', GONE),
      same('monitor', 0, { there: true }),
      same('stop', GONE, { there: true }),
    ],
  },
  {
    ...MOVES,
    name: 'a migration to a machine that does not answer',
    make: 'running',
    runs: [
      same('migrate_to', { code: 1, state: 'running' }, { target: 'nowhere', reason: /nowhere/, harmless: true }),
      same(
        'migrate_to',
        { code: 1, state: 'running' },
        { parameters: { remoteuri: 'qemu+tcp://%n:9/system' }, reason: /refused|node4/, harmless: true },
      ),
    ],
  },
  {
    ...MOVES,
    name: 'a migration that the other machine refuses',
    make: "edit \"s:<memballoon:<interface type='bridge'><source bridge='br9'/></interface>&:\"; ip link add br9 type bridge 2>/dev/null; ip link set br9 up; running",
    runs: [same('migrate_to', { code: 1, state: 'running' }, { reason: /br9/, harmless: true })],
  },
]
