/**
 * What libvirt cannot tell of a node, asked by one read-only script over ssh: whether paths and network devices exist, what a
 * block device is, which machine this is. The answer is lines of tab-separated words, so that nothing has to be guessed.
 */
import { quote } from '../core/command.ts'
import type { PathFacts } from '../core/node.ts'

/** Paths are given as arguments behind `path`, devices behind `device`; a path with a line break is never sent. */
const SCRIPT = `LC_ALL=C; export LC_ALL
identity() {
  block=/sys/dev/block/$(printf '%d:%d' "0x$1" "0x$2")
  for file in "$block/dm/uuid" "$block/device/wwid" "$block/wwid" "$block/../device/wwid"; do
    [ -r "$file" ] || continue
    id=$(tr -s ' \\t' __ <"$file")
    [ -n "$id" ] && { printf %s "$id"; return; }
  done
  [ "$1" = 93 ] && printf 'drbd:%d' "0x$2"
}
for word in "$@"; do
  kind=\${word%%=*} name=\${word#*=}
  if [ "$kind" = device ]; then
    found=no; [ -e "/sys/class/net/$name" ] && found=yes
    printf 'device\\t%s\\t%s\\n' "$name" "$found"
  elif facts=$(stat -L -c '%F	%t	%T' -- "$name" 2>/dev/null); then
    type=\${facts%%	*} numbers=\${facts#*	}
    id=; [ "$type" = "block special file" ] && id=$(identity "\${numbers%%	*}" "\${numbers#*	}")
    printf 'path\\t%s\\t%s\\t%s\\t%s\\n' "$name" "$type" "$(stat -L -f -c %T -- "$name")" "$id"
  else
    printf 'path\\t%s\\tmissing\\t\\t\\n' "$name"
  fi
done
echo end`

/** The line for the node's shell that asks for these paths and devices. */
export function probeLine(paths: readonly string[], devices: readonly string[]): string {
  const words = [...paths.map(path => `path=${path}`), ...devices.map(device => `device=${device}`)]
  return `sh -c ${quote(SCRIPT)} havirt-probe ${words.map(quote).join(' ')}`
}

export interface ProbeAnswer {
  readonly paths: ReadonlyMap<string, PathFacts>
  readonly devices: ReadonlyMap<string, boolean>
}

/** Reads the script's answer; undefined when it did not come to its end. */
export function parseProbe(output: string): ProbeAnswer | undefined {
  const lines = output.split('\n').filter(line => line !== '')
  if (lines.pop() !== 'end') return undefined
  const paths = new Map<string, PathFacts>()
  const devices = new Map<string, boolean>()
  for (const line of lines) {
    const [what, name = '', ...facts] = line.split('\t')
    if (what === 'device') devices.set(name, facts[0] === 'yes')
    if (what === 'path') paths.set(name, pathFacts(facts))
  }
  return { paths, devices }
}

function pathFacts([type = '', filesystem = '', identity = '']: readonly string[]): PathFacts {
  return {
    exists: type !== 'missing',
    kind: KINDS[type] ?? 'other',
    ...(filesystem === '' ? {} : { filesystem }),
    ...(identity === '' ? {} : { identity }),
  }
}

const KINDS: Record<string, PathFacts['kind']> = {
  'regular file': 'file',
  'regular empty file': 'file',
  'block special file': 'block',
  directory: 'folder',
  missing: 'missing',
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
