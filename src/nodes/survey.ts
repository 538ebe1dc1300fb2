/**
 * Asks a node how it is set up, by one read-only script over ssh. It prints lines of words with tabs between them, and what they mean
 * is read here. Nothing on the node is changed.
 */
import type { IscsiDisk, IscsiSession, Provided, SharedMount, Survey } from '../core/validate/survey.ts'
import { attr, child, parseXml, type XmlElement } from '../core/xml.ts'

/** Prints its arguments as one line, and what the first line of a file says. */
export const SAY = `say() { printf '%s' "$1"; shift; for word in "$@"; do printf '\\t%s' "$word"; done; echo; }
first() { text=; [ -r "$1" ] && IFS= read -r text <"$1"; printf %s "$text"; }`

/** Prints the iSCSI sessions and their disks, as the kernel has them. */
export const ISCSI_LINES = `for session in /sys/class/iscsi_session/session*; do
  [ -d "$session" ] || continue
  target=$(first "$session/targetname")
  number=\${session##*/session}
  for connection in /sys/class/iscsi_connection/connection"$number":*; do
    say session "$target" "$(first "$connection/persistent_address"):$(first "$connection/persistent_port")" "$(first "$session/state")"
  done
  for disk in "$session"/device/target*/*/block/*; do
    [ -d "$disk" ] || continue
    lun=\${disk%/block/*} lun=\${lun##*:}
    say lun "$target" "$lun" "\${disk##*/}" "$(first "$disk/device/wwid")" "$(first "$disk/size")"
  done
done`

/** `sh -c` with the libvirt URI and the home folder. */
export const SURVEY_SCRIPT = `LC_ALL=C; export LC_ALL
uri=$1 home=$2
${SAY}
lines() { while IFS= read -r line || [ -n "$line" ]; do say "$1" "$line"; done; }
say clock "$(date +%s.%N)"
virsh -r -c "$uri" version | lines version
virsh -r -c "$uri" capabilities | sed -n 's/.*<machine[^>]*>\\([^<]*\\)<.*/\\1/p' | sort -u | lines machine
[ -e /dev/kvm ] && say kvm
for bridge in /sys/class/net/*/bridge; do
  [ -d "$bridge" ] && say bridge "$(basename "\${bridge%/bridge}")" "$(first "\${bridge%/bridge}/mtu")"
done
command -v ovs-vsctl >/dev/null && ovs-vsctl list-br | while read -r name; do say bridge "$name" "$(first "/sys/class/net/$name/mtu")"; done
provided() {
  for state in --name '--inactive --name' '--autostart --all --name'; do
    virsh -q -r -c "$uri" "$1-list" $state | sed '/^ *$/d' | while read -r name; do say "$1-list" "$state" "$name"; done
  done
  virsh -q -r -c "$uri" "$1-list" --all --name | sed '/^ *$/d' | while read -r name; do
    say "$1-xml" "$name" "$(virsh -q -r -c "$uri" "$1-dumpxml" "$name" | tr '\\n\\t' '  ')"
  done
}
provided net
provided pool
${ISCSI_LINES}
while read -r source point type rest; do say mount "$source" "$point" "$type"; done </proc/self/mounts
cat ~/.ssh/*.pub | lines ownkey
cat ~/.ssh/authorized_keys ~/.ssh/authorized_keys2 | lines authorized
sed 's/#.*//;s/^[ \\t]*//;s/[ \\t]*$//;/^$/d' ~/.ssh/config | lines sshconfig
if [ -d /run/systemd/system ]; then
  for link in /etc/systemd/system/*.wants/libvirt-guests.service /run/systemd/system/*.wants/libvirt-guests.service; do [ -e "$link" ] || [ -L "$link" ] && say guests; done
fi
sed -n 's/^[ \\t]*\\(migration_port_min\\|migration_port_max\\)[ \\t]*=[ \\t]*"\\{0,1\\}\\([^"]*\\)"\\{0,1\\}.*/\\1 \\2/p' /etc/libvirt/qemu.conf |
  while read -r key value; do say qemu "$key" "$value"; done
PATH=$PATH:/usr/sbin:/sbin
sshd -T | sed -n 's/^\\(maxsessions\\|maxstartups\\) /\\1 /p' | while read -r key value; do say sshd "$key" "$value"; done
ss -Hltn | while read -r state received sent local rest; do say port "\${local##*:}"; done
[ -e "$home/config.yaml" ] && say home
say end`

/** When a question was asked and answered, by our own clock in milliseconds since 1970. */
export interface Asked {
  readonly fromMs: number
  readonly toMs: number
}

/** Reads what the script printed; undefined when it did not come to its end. */
export function parseSurvey(text: string, asked: Asked): Survey | undefined {
  const rows = text.split('\n').map(line => line.split('\t'))
  if (!rows.some(([key]) => key === 'end')) return undefined
  const of = (key: string) => rows.filter(row => row[0] === key).map(row => row.slice(1))
  const words = (key: string) => of(key).map(([word = '']) => word)
  const version = (what: string) =>
    words('version')
      .find(line => line.startsWith(what))
      ?.slice(what.length)
      .trim() ?? ''
  const qemu = new Map(of('qemu').map(([key = '', value = '']) => [key, value]))
  const sshd = new Map(of('sshd').map(([key = '', value = '']) => [key, value]))
  const maxSessions = Number(sshd.get('maxsessions'))
  return {
    ...clockOf(Number(words('clock')[0]) * 1000, asked),
    libvirtVersion: version('Using library: libvirt'),
    hypervisorVersion: version('Running hypervisor:'),
    machineTypes: words('machine'),
    kvm: of('kvm').length > 0,
    bridges: new Map(of('bridge').map(([name = '', mtu = '']) => [name, mtu])),
    networks: providedOf(of('net-list'), of('net-xml'), networkWords),
    pools: providedOf(of('pool-list'), of('pool-xml'), poolWords),
    sessions: iscsiSessions(of('session')),
    disks: iscsiDisks(of('lun')),
    mounts: of('mount')
      .map(
        ([source = '', point = '', type = '']): SharedMount => ({
          source: unescaped(source),
          point: unescaped(point),
          type,
        }),
      )
      .filter(({ type }) => NETWORK_MOUNT.test(type)),
    ownKeys: words('ownkey').flatMap(keyIn),
    authorizedKeys: words('authorized').flatMap(keyIn),
    sshConfig: words('sshconfig'),
    libvirtGuests: of('guests').length > 0,
    maxSessions: Number.isFinite(maxSessions) ? maxSessions : undefined,
    maxStartups: sshd.get('maxstartups'),
    migrationPorts: portsOf(qemu, words('port').map(Number)),
    home: of('home').length > 0,
  }
}

/** Filesystems that several machines mount, as /proc/mounts names them. */
const NETWORK_MOUNT =
  /^(nfs4?|cifs|smb3|gfs2|ocfs2|ceph|lustre|afs|beegfs|fuse\.(glusterfs|ceph|quobyte|beegfs|sshfs))$/

export function iscsiSessions(rows: readonly string[][]): IscsiSession[] {
  return rows.map(([target = '', portal = '', state = '']) => ({ target, portal, state }))
}

export function iscsiDisks(rows: readonly string[][]): IscsiDisk[] {
  return rows.map(([target = '', lun = '', device = '', wwid = '', sectors = '']) => ({
    target,
    lun,
    device,
    wwid,
    bytes: Number(sectors) * SECTOR_BYTES,
  }))
}

/** The size files of sysfs count in these, whatever the device's own sectors are. */
const SECTOR_BYTES = 512

/** The node's clock was read at some moment between the question and the answer. */
function clockOf(clockMs: number, { fromMs, toMs }: Asked): Pick<Survey, 'clockAheadMs' | 'clockUnsureMs'> {
  return { clockAheadMs: Math.round(clockMs - (fromMs + toMs) / 2), clockUnsureMs: Math.ceil((toMs - fromMs) / 2) }
}

function providedOf(
  lists: readonly string[][],
  texts: readonly string[][],
  wordsOf: (root: XmlElement) => string,
): Provided[] {
  const named = (option: string) => new Set(lists.filter(([each]) => each === option).map(([, name]) => name))
  const [active, autostart] = [named('--name'), named('--autostart --all --name')]
  return texts.map(([name = '', xml = '']) => ({
    name,
    active: active.has(name),
    autostart: autostart.has(name),
    what: readXml(xml, wordsOf),
  }))
}

function readXml(xml: string, wordsOf: (root: XmlElement) => string): string {
  try {
    return wordsOf(parseXml(xml))
  } catch {
    return 'unreadable'
  }
}

/** What of a network must be the same: how it leaves the node, and over which bridge. Addresses of a NAT network may well differ. */
function networkWords(root: XmlElement): string {
  const forward = child(root, 'forward')
  const mode = forward === undefined ? 'isolated' : (attr(forward, 'mode') ?? 'nat')
  const bridge = child(root, 'bridge')
  const name = bridge === undefined ? '' : (attr(bridge, 'name') ?? '')
  // A bridge that libvirt makes for itself has a name of its own on every node.
  return mode === 'bridge' ? `${mode} ${name}` : mode
}

function poolWords(root: XmlElement): string {
  const target = child(root, 'target')
  const path = target === undefined ? undefined : child(target, 'path')
  return `${attr(root, 'type') ?? ''} ${path?.text.trim() ?? ''}`.trim()
}

/** The type and the key itself, whatever options stand before it and whatever comment behind. */
function keyIn(line: string): string[] {
  const found = /(?:^|\s)((?:ssh|ecdsa|sk-[a-z]+)-[a-z0-9@.-]+\s+[A-Za-z0-9+/]+=*)/.exec(line)
  return found === null || /^\s*#/.test(line) ? [] : [(found[1] ?? '').replace(/\s+/, ' ')]
}

/** libvirt's defaults (qemu.conf). */
const MIGRATION_PORTS = { from: 49_152, to: 49_215 } as const

function portsOf(qemu: ReadonlyMap<string, string>, listening: readonly number[]): Survey['migrationPorts'] {
  const from = Number(qemu.get('migration_port_min') ?? MIGRATION_PORTS.from)
  const to = Number(qemu.get('migration_port_max') ?? MIGRATION_PORTS.to)
  return { from, to, taken: new Set(listening.filter(port => port >= from && port <= to)).size }
}

/** The kernel writes blanks in mount points as octal numbers (proc(5)). */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
