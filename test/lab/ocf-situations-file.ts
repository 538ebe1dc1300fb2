/** Situations of the domain's file. */
import { type Action, type Asked, differs, GONE, RUNS, type Run, type Situation, STAYS, same } from './ocf-answers.ts'

/** Every action that fails for want of a file, when the domain is not active. */
const NO_FILE: readonly Run[] = [
  differs('monitor', 1, 7, 'state without the file'),
  same('probe', 7),
  differs('status', 3, 7, 'what status says'),
  same('validate-all', 5, { reason: /\.xml/ }),
  same('start', { code: 5, state: 'absent' }, { reason: /\.xml/ }),
  same('migrate_to', 5, { reason: /\.xml/ }),
  same('stop', GONE),
]

const NO_FILE_BUT_RUNNING: readonly Run[] = [
  differs('monitor', 1, 0, 'state without the file'),
  differs('probe', 7, 0, 'state without the file'),
  differs('status', 3, 0, 'state without the file'),
  same('validate-all', 5, { reason: /\.xml/ }),
  differs('start', 5, STAYS, 'state without the file'),
  differs('stop', STAYS, GONE, 'stop is true'),
]

/** Another domain runs, and libvirt's number of it is the name of ours. */
const OTHER = `cp "$CONFIG" $W/ours; deaf; edit 's:<name>.*:<name>other</name>:; /<uuid>/d'; created; mv $W/ours "$CONFIG"
edit "s:<name>.*:<name>$(virsh domid other)</name>:"`

const FOREIGN = `edit "s#<domain type='qemu'#& xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'#"
edit "s#<memory #<metadata><x:note xmlns:x='urn:x'>kept</x:note></metadata>&#"
edit "s#</devices>#&<qemu:commandline><qemu:env name='LAB_NOTE' value='1'/></qemu:commandline>#"`

/** Root without the right to read everything, as on an NFS server that knows no root. */
const SQUASHED = 'setpriv --bounding-set=-dac_override,-dac_read_search'

const under = (words: string, runs: readonly Run[]): Run[] => runs.map(run => ({ ...run, under: words }))

export const FILES: readonly Situation[] = [
  { name: 'no parameter config', config: null, make: 'running', runs: noConfig({}) },
  { name: 'an empty parameter config', config: null, make: 'running', runs: noConfig({ config: '' }) },
  { name: 'a missing file', make: 'rm "$CONFIG"', runs: NO_FILE },
  { name: 'a missing file of a domain that runs', make: 'running; rm "$CONFIG"', runs: NO_FILE_BUT_RUNNING },
  {
    name: 'a missing file of a domain that migrates',
    make: 'running; rm "$CONFIG"; recorded',
    runs: [
      differs(
        'migrate_to',
        5,
        { code: 1, proof: 'ran "--live $UUID qemu://$TARGET/system"' },
        'state without the file',
        {
          reason: /refused by the bench/,
          harmless: true,
        },
      ),
    ],
  },
  { name: 'a file that nobody may read', make: 'chmod 0 "$CONFIG"; chown 1 "$CONFIG"', runs: under(SQUASHED, NO_FILE) },
  {
    name: 'a file that nobody may read, of a domain that runs',
    make: 'running; chmod 0 "$CONFIG"; chown 1 "$CONFIG"',
    runs: under(SQUASHED, NO_FILE_BUT_RUNNING),
  },
  { name: 'a folder in place of the file', make: 'rm "$CONFIG"; mkdir "$CONFIG"', runs: NO_FILE },
  { name: 'a file that is not XML', make: 'echo nothing >"$CONFIG"', runs: NO_FILE },
  {
    name: 'a file that is not XML, of a domain that runs',
    make: 'running; echo nothing >"$CONFIG"',
    runs: NO_FILE_BUT_RUNNING,
  },
  { name: 'an empty file', make: ': >"$CONFIG"', runs: NO_FILE },
  {
    name: 'XML that breaks off',
    make: "edit '/<devices>/,$d'",
    runs: [
      differs('validate-all', 0, 5, 'broken file found early', { reason: /\.xml/ }),
      same('probe', 7),
      differs('start', { code: 1, state: 'absent' }, { code: 5, state: 'absent' }, 'broken file found early', {
        reason: /\.xml/,
      }),
    ],
  },
  {
    name: 'XML without a name',
    make: "edit '/<name>/d'",
    runs: [same('validate-all', 5, { reason: /name/ }), same('start', 5, { reason: /name/ }), same('probe', 7)],
  },
  {
    name: 'XML in one line',
    make: `tr -d '\\n' <"$CONFIG" >$W/line; mv $W/line "$CONFIG"`,
    runs: [
      differs('validate-all', 5, 0, 'read as XML'),
      differs('start', 5, RUNS, 'read as XML'),
      differs('monitor', 1, 0, 'read as XML'),
      differs('stop', STAYS, GONE, 'read as XML', { before: 'virsh domstate "$VM" >/dev/null 2>&1 || created' }),
    ],
  },
  {
    name: 'XML with the line ends of another system',
    make: "edit 's/$/\\r/'",
    runs: [same('start', RUNS), same('monitor', 0), same('stop', GONE)],
  },
  {
    name: 'XML with a byte order mark',
    make: `printf '\\357\\273\\277' >$W/marked; cat "$CONFIG" >>$W/marked; mv $W/marked "$CONFIG"`,
    runs: [same('validate-all', 0), same('start', RUNS), same('monitor', 0), same('stop', GONE)],
  },
  {
    name: 'XML in an encoding that is declared',
    make: `edit "1i <?xml version='1.0' encoding='ISO-8859-1'?>"`,
    runs: [same('validate-all', 0), same('start', RUNS), same('monitor', 0), same('stop', GONE)],
  },
  {
    name: 'XML with metadata and words of QEMU',
    make: FOREIGN,
    runs: [
      same('start', {
        ...RUNS,
        proof: 'virsh dumpxml "$VM" | grep ">kept</x:note>" && virsh dumpxml "$VM" | grep LAB_NOTE',
      }),
      same('monitor', 0),
      same('stop', GONE),
    ],
  },
  {
    name: 'XML without a uuid',
    make: "edit '/<uuid>/d'",
    runs: [same('start', RUNS), same('monitor', 0), same('stop', GONE)],
  },
  {
    name: 'a name with an entity',
    make: "edit 's:<name>.*:<name>salt\\&amp;pepper</name>:'",
    runs: [
      same('probe', 7),
      differs('start', 'hangs', RUNS, 'read as XML', { timeoutMs: 4000 }),
      differs('monitor', 7, 0, 'read as XML'),
      differs('stop', STAYS, GONE, 'read as XML'),
    ],
  },
  {
    name: 'a name with a space',
    make: "edit 's:<name>.*:<name>salt pepper</name>:'",
    runs: [
      differs('probe', 1, 7, 'read as XML'),
      differs('start', 'hangs', RUNS, 'read as XML', { timeoutMs: 4000 }),
      differs('monitor', 1, 0, 'read as XML'),
    ],
  },
  {
    name: 'a name with a quotation mark',
    make: `edit "s:<name>.*:<name>o'neill</name>:"`,
    runs: [same('start', RUNS), same('monitor', 0), same('stop', GONE)],
  },
  {
    name: 'a name that looks like an option',
    make: "edit 's:<name>.*:<name>--reason</name>:'",
    runs: [
      differs('probe', 1, 7, 'asked by uuid'),
      differs('start', 'hangs', RUNS, 'asked by uuid', { timeoutMs: 4000 }),
      differs('monitor', 1, 0, 'asked by uuid'),
      differs('stop', { code: 1, state: 'running' }, GONE, 'asked by uuid'),
    ],
  },
  {
    name: "a name that is libvirt's number of another domain",
    make: OTHER,
    runs: [
      differs('probe', 0, 7, 'asked by uuid'),
      differs('start', GONE, RUNS, 'asked by uuid'),
      differs(
        'stop',
        { code: 0, state: 'absent', proof: '! virsh domstate other 2>&-' },
        { code: 0, state: 'absent', proof: 'virsh domstate other' },
        'asked by uuid',
      ),
    ],
  },
  {
    name: 'an old name in a comment',
    make: "edit 's:<uuid>:<!--\\n<name>old</name>\\n-->&:'",
    runs: [
      differs('start', 'hangs', RUNS, 'read as XML', { timeoutMs: 4000 }),
      differs('monitor', 1, 0, 'read as XML'),
    ],
  },
  {
    name: 'a relative path',
    config: 'root/side-by-side/$VM.xml',
    make: 'cp "$GUEST" "/$CONFIG"; CONFIG=/$CONFIG; running',
    runs: [
      differs('validate-all', 0, 6, 'checked path', { reason: /absolute/ }),
      same('monitor', 0),
      differs('migrate_from', 0, 6, 'checked path', { reason: /absolute/ }),
      same('stop', GONE),
    ],
  },
  ...['with a space', "with 'quotes' \" and $HOME `id`", 'with\na line end', 'with * and ?'].map(
    (path): Situation => ({
      name: `a path ${path.replace('\n', '\\n')}`,
      config: `$W/${path}/vm.xml`,
      runs: [
        differs('validate-all', 5, 0, 'any path'),
        differs('start', 5, RUNS, 'any path'),
        differs('monitor', 1, 0, 'any path'),
      ],
    }),
  ),
]

function noConfig(parameters: Record<string, string>): Run[] {
  const asked: Asked = { parameters, reason: /config/ }
  const actions: Action[] = [
    'monitor',
    'probe',
    'status',
    'validate-all',
    'start',
    'migrate_to',
    'migrate_from',
    'stop',
  ]
  return actions.map(action => same(action, 6, { ...asked, harmless: true }))
}
