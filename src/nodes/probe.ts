/**
 * What libvirt cannot tell of a node, asked by one read-only script over ssh: what lies behind paths and volumes, whether network
 * devices exist, which QEMUs run, which machine this is. The script only collects, with few processes however many paths there are;
 * what it means is worked out here.
 */
import { quote } from '../core/command.ts'
import { managerIn } from '../core/lease.ts'
import type { PathFacts } from '../core/node.ts'
import { deviceIdentity, fileIdentity, type Mount, parseMounts } from './identity.ts'
import { parseProcesses, type QemuProcess } from './qemu-process.ts'

/** What the script is asked. */
export interface ProbeQuestion {
  /** Told apart by their text; none may hold a line break. */
  readonly paths: readonly string[]
  readonly devices: readonly string[]
  /** `pool/volume`. */
  readonly volumes: readonly string[]
  readonly processes: boolean
}

/**
 * Paths come by standard input, since an argument has an end. readlink -m gives one answer for each path, even for one that is
 * missing; with -z no link can break the lines. grep must not find itself, so its pattern does not match its own argument.
 */
const SCRIPT = `LC_ALL=C; export LC_ALL
uri=$1; shift
IFS='
'
set -f
block() {
  for file in dm/uuid wwid device/wwid loop/backing_file partition ../dm/uuid ../wwid ../device/wwid ../loop/backing_file ../dev; do
    text=; [ -r "/sys/dev/block/$1/$file" ] && IFS= read -r text <"/sys/dev/block/$1/$file"
    [ -n "$text" ] && printf 'block\\t%s\\t%s\\t%s\\n' "$1" "$file" "$text"
  done
}
processes() {
  sed -n 's/^[ \\t]*lock_manager[ \\t]*=[ \\t]*"\\([^"]*\\)".*/lock\\t\\1/p' /etc/libvirt/qemu.conf | head -n 1
  set +f
  for file in /run/libvirt/qemu/*.pid; do pid=; read -r pid <"$file"; [ -n "$pid" ] && printf 'pid\\t%s\\n' "$pid"; done
  found=$(grep -lzsx -e '-uui[d]' /proc/[0-9]*/cmdline)
  set -f
  [ -z "$found" ] || grep -zaHsE -A1 --no-group-separator -e '^-(uuid|name|m|smp|blockdev|drive)$' $found | tr '\\0\\n' '\\n '
}
volumes= paths=
for word in "$@"; do
  name=\${word#*=}
  case $word in
    device=*) found=no; [ -e "/sys/class/net/$name" ] && found=yes; printf 'device\\t%s\\t%s\\n' "$name" "$found" ;;
    volumes=*) volumes=$(virsh -r -c "$uri" "$name") ;;
    processes) processes ;;
    paths) paths=$(cat) ;;
  esac
done 2>/dev/null
more=
for line in $volumes; do
  printf 'volume\\t%s\\n' "$line"
  case $line in /*) more=$more$line$IFS ;; esac
done
set -- $paths $more
if [ $# -gt 0 ]; then
  facts=$(stat -L -c 'path	%t	%T	%F	%n' -- "$@" 2>/dev/null)
  [ -z "$facts" ] || printf '%s\\n' "$facts"
  stat -L -f -c 'filesystem	%T	%n' -- "$@" 2>/dev/null
  printf 'canonical\\t'; readlink -mz -- "$@"; echo
  sed 's/^/mount	/' /proc/self/mountinfo
  for line in $facts; do
    case $line in *'	block special file	'*) ;; *) continue ;; esac
    line=\${line#*	} major=\${line%%	*} line=\${line#*	} minor=\${line%%	*}
    block "$((0x$major)):$((0x$minor))"
  done 2>/dev/null
fi
echo end`

/** The line for the node's shell, and what it reads. */
export function probeLine(question: ProbeQuestion, uri: string): { line: string; stdin: string } {
  const words = [
    uri,
    ...question.devices.map(device => `device=${device}`),
    ...(question.volumes.length > 0 ? [`volumes=${volumeCommands(question.volumes)}`] : []),
    ...(question.processes ? ['processes'] : []),
    ...(question.paths.length > 0 ? ['paths'] : []),
  ]
  const stdin = unique(question.paths).map(path => `${path}\n`)
  return { line: `sh -c ${quote(SCRIPT)} havirt-probe ${words.map(quote).join(' ')}`, stdin: stdin.join('') }
}

/** One virsh for all of them; a number before each answer, since one that it does not know has none. */
function volumeCommands(volumes: readonly string[]): string {
  return volumes
    .map((each, at) => {
      const slash = each.indexOf('/')
      return `echo =${at}; vol-path --pool ${word(each.slice(0, slash))} --vol ${word(each.slice(slash + 1))}`
    })
    .join('; ')
}

/** In virsh's own quotes. */
function word(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)]
}

export interface ProbeAnswer {
  /** By the path that was asked for, or `volume:POOL/VOLUME`. */
  readonly paths: ReadonlyMap<string, PathFacts>
  readonly devices: ReadonlyMap<string, boolean>
  /** Every QEMU that has a uuid, whoever started it. */
  readonly processes: readonly QemuProcess[]
  /** libvirt's lock manager there by qemu.conf; empty where it has none. */
  readonly lockManager: string
  /** The processes that libvirt wrote down as its own. */
  readonly pids: ReadonlySet<number>
}

/** Reads the script's answer; undefined when it did not come to its end. `node` names what holds on one node only. */
export function parseProbe(output: string, question: ProbeQuestion, node: string): ProbeAnswer | undefined {
  const lines = output.split('\n').filter(line => line !== '')
  if (lines.pop() !== 'end') return undefined
  const answer = new Answer(lines)
  const volumes = volumePaths(answer.of('volume').flat(), question.volumes)
  const order = [...unique(question.paths), ...volumes.map(([, path]) => path)]
  const facts = new Map(factsOf(answer, order, node))
  const named = [...unique(question.paths).map(path => [path, path] as const), ...volumes]
  return {
    paths: new Map(named.map(([name, path]) => [name, facts.get(path) ?? MISSING])),
    devices: new Map(answer.of('device').map(([name = '', found]) => [name, found === 'yes'])),
    processes: parseProcesses(lines.filter(line => line.startsWith('/'))),
    lockManager: managerIn(answer.of('lock')[0]?.[0]),
    pids: new Set(answer.of('pid').map(([pid]) => Number(pid))),
  }
}

const MISSING: PathFacts = { exists: false, kind: 'missing' }

/** Lines by their first word. */
class Answer {
  readonly #rows = new Map<string, string[][]>()

  constructor(lines: readonly string[]) {
    for (const [tag = '', ...rest] of lines.map(line => line.split('\t'))) {
      const rows = this.#rows.get(tag)
      if (rows === undefined) this.#rows.set(tag, [rest])
      else rows.push(rest)
    }
  }

  of(tag: string): readonly (readonly string[])[] {
    return this.#rows.get(tag) ?? []
  }
}

/** Volumes that have a path on the node, with it. A volume of a network pool has a name there that is none. */
function volumePaths(lines: readonly string[], asked: readonly string[]): (readonly [string, string])[] {
  let name: string | undefined
  return lines.flatMap(line => {
    if (line.startsWith('=')) name = asked[Number(line.slice(1))]
    return line.startsWith('/') && name !== undefined ? [[`volume:${name}`, line] as const] : []
  })
}

/** Facts on what exists. `order` is that of the script's words, which is all that tells whose canonical path is whose. */
function factsOf(answer: Answer, order: readonly string[], node: string): [string, PathFacts][] {
  const canonical = answer.of('canonical')[0]?.join('\t').split('\0') ?? []
  const whole = canonical.length === order.length + 1
  const behind = new Map(order.map((path, at) => [path, whole ? (canonical[at] ?? path) : path]))
  const filesystems = new Map(answer.of('filesystem').map(([type = '', path = '']) => [path, type]))
  const place: Place = { node, mounts: parseMounts(answer.of('mount').flat()), devices: devicesOf(answer) }
  return answer.of('path').map(([major = '', minor = '', type = '', path = '']) => {
    const device = `${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}`
    const found = { kind: KINDS[type] ?? 'other', device, canonical: behind.get(path) ?? path } as const
    return [path, pathFacts(found, filesystems.get(path), place)]
  })
}

/** What one node needs to tell what its paths are. */
interface Place {
  readonly node: string
  readonly mounts: readonly Mount[]
  readonly devices: ReadonlyMap<string, ReadonlyMap<string, string>>
}

function pathFacts(
  { kind, device, canonical }: { kind: PathFacts['kind']; device: string; canonical: string },
  filesystem: string | undefined,
  { node, mounts, devices }: Place,
): PathFacts {
  const onFile = (path: string) => fileIdentity(path, mounts, node)
  const facts = { exists: true, kind, ...(filesystem === undefined ? {} : { filesystem }) }
  if (kind === 'block')
    return { ...facts, identity: deviceIdentity(device, devices.get(device) ?? new Map(), node, onFile) }
  return kind === 'other' ? facts : { ...facts, canonical, identity: onFile(canonical) }
}

/** What sysfs says of each block device, by the file's name. */
function devicesOf(answer: Answer): Map<string, Map<string, string>> {
  const devices = new Map<string, Map<string, string>>()
  for (const [device = '', file = '', ...text] of answer.of('block'))
    devices.set(device, (devices.get(device) ?? new Map<string, string>()).set(file, text.join('\t')))
  return devices
}

const KINDS: Record<string, PathFacts['kind']> = {
  'regular file': 'file',
  'regular empty file': 'file',
  'block special file': 'block',
  directory: 'folder',
}

/** The file on each node that says which node it is, and of which cluster (rules 7 and 10). */
export const IDENTITY_FILE = '/var/lib/havirt/id'

/** What a node says of itself. */
export interface NodeIdentity {
  readonly node?: string
  readonly cluster?: string
  readonly hostname: string
}

/** Reads the identity file; with `claim`, first makes one there if there is none, and never changes one that is. */
export function identityLine(claim?: { node: string; cluster: string }): string {
  const make =
    claim === undefined
      ? ''
      : `if ! [ -e ${IDENTITY_FILE} ]; then umask 022; mkdir -p /var/lib/havirt && printf 'node: %s\\ncluster: %s\\n' "$1" "$2" >${IDENTITY_FILE}.new.$$ && ln ${IDENTITY_FILE}.new.$$ ${IDENTITY_FILE}; rm -f ${IDENTITY_FILE}.new.$$; fi; `
  const script = `${make}echo "hostname: $(uname -n)"; cat ${IDENTITY_FILE} 2>/dev/null; echo; echo end:`
  const words = claim === undefined ? '' : ` ${quote(claim.node)} ${quote(claim.cluster)}`
  return `sh -c ${quote(script)} havirt-identity${words}`
}

/** Reads what {@link identityLine} prints, or the text of an identity file; undefined when the answer is not whole. */
export function parseIdentity(output: string): NodeIdentity | undefined {
  const fields = new Map(output.split('\n').map(line => splitAt(line, ':')))
  const hostname = fields.get('hostname')
  if (hostname === undefined || !fields.has('end')) return undefined
  const node = fields.get('node')
  const cluster = fields.get('cluster')
  return { hostname, ...(node === undefined ? {} : { node }), ...(cluster === undefined ? {} : { cluster }) }
}

function splitAt(line: string, separator: string): [string, string] {
  const at = line.indexOf(separator)
  return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()]
}
