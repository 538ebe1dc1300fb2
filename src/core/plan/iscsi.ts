/** Plans what an iSCSI scan does on nodes: log in to what is new, look again at what is there, take away what vanished everywhere. */
import { type Cluster, namesOfDisks, sightings, unknownNodes, upNodes } from '../cluster.ts'
import type { Command, NodeAct } from '../command.ts'
import type { Chap, Offered, Portal } from '../iscsi.ts'
import { isPresent } from '../node.ts'
import type { IscsiDisk, IscsiSession } from '../validate/survey.ts'

/** A disk of a session as its node has it. */
export interface SeenDisk extends IscsiDisk {
  /** What uses it there, in words: a mount, swap, a volume group, a mapping. */
  readonly uses: readonly string[]
  /** Whether its first bytes could be read. */
  readonly reads: boolean
}

/** iSCSI on one node. */
export interface NodeIscsi {
  readonly sessions: readonly IscsiSession[]
  readonly disks: readonly SeenDisk[]
  /** What each portal offers, by its address; a text: why it could not be asked. */
  readonly offers: ReadonlyMap<string, readonly Offered[] | string>
}

export interface IscsiFacts {
  readonly cluster: Cluster
  /** Of every node that answered. */
  readonly nodes: ReadonlyMap<string, NodeIscsi>
  readonly portals: readonly Portal[]
  /** The nodes on which something may be done. */
  readonly wanted: readonly string[]
}

/** `kept`: what has vanished and is not taken away, and why. */
export interface IscsiPlan {
  readonly acts: readonly NodeAct[]
  readonly kept: readonly { readonly node: string; readonly what: string; readonly why: string }[]
}

const act = (node: string, why: string, argv: readonly string[], stdin?: string): NodeAct => ({
  node,
  why,
  command: { node, argv, ...(stdin === undefined ? {} : { stdin }) },
})

/**
 * Writes user and password into records of open-iscsi, whose own command would take them as arguments. The password comes by
 * standard input, and printf is the shell's own, so that no process has it among its words.
 */
export const CHAP_SCRIPT = `umask 077; IFS= read -r secret || [ -n "$secret" ] || exit 1
prefix=$1 user=$2; shift 2; found=1
for file in "$@"; do
  [ -f "$file" ] || continue
  found=0
  while IFS= read -r line; do
    case $line in
      "$prefix.auth.authmethod = "*|"$prefix.auth.username = "*|"$prefix.auth.password = "*) ;;
      '# END RECORD') printf '%s\\n' "$prefix.auth.authmethod = CHAP" "$prefix.auth.username = $user" "$prefix.auth.password = $secret" "$line" ;;
      *) printf '%s\\n' "$line" ;;
    esac
  done <"$file" >"$file.havirt" && mv "$file.havirt" "$file" || exit 1
done
exit $found`

/**
 * Asks once more, right before: the device still is that disk, and nothing there uses it. A name like sdb may mean another disk by now,
 * and somebody may have mounted it since it was looked at.
 */
const STILL_UNUSED = `still_unused() {
  disk=/sys/block/$1
  [ "$(cat "$disk/device/wwid" 2>/dev/null)" = "$2" ] || { echo "$1 is another disk by now" >&2; return 1; }
  for part in "$disk" "$disk/$1"*; do
    [ -r "$part/dev" ] || continue
    for holder in "$part"/holders/*; do [ ! -e "$holder" ] || { echo "$1 is in use by \${holder##*/}" >&2; return 1; }; done
    number=$(cat "$part/dev") name=/dev/\${part##*/}
    if awk -v n="$number" -v d="$name" '$3 == n || $0 ~ (" " d " ") { f = 1 } END { exit !f }' /proc/self/mountinfo ||
      awk -v d="$name" '$1 == d { f = 1 } END { exit !f }' /proc/swaps; then
      echo "$1 is mounted, or is swap" >&2; return 1
    fi
  done
}`

/** `sh -c` with a device and its WWID: takes it off when nobody can read or use it there. */
export const TAKE_OFF_SCRIPT = `${STILL_UNUSED}
still_unused "$1" "$2" || exit 1
if timeout 10 dd if="/dev/$1" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null; then echo "$1 can be read again" >&2; exit 1; fi
echo 1 >"/sys/block/$1/device/delete"`

/** `sh -c` with a target, its portal, and device and WWID of each of its disks. */
export const LOGOUT_SCRIPT = `${STILL_UNUSED}
target=$1 portal=$2; shift 2
while [ $# -gt 1 ]; do still_unused "$1" "$2" || exit 1; shift 2; done
exec iscsiadm -m node -T "$target" -p "$portal" --logout`

/** Where open-iscsi keeps its records: Debian's place, and that of newer versions. */
const RECORDS = ['/etc/iscsi', '/var/lib/iscsi'] as const

function chapCommand(prefix: string, { username, passwordFile }: Chap, places: readonly string[]): [string[], string] {
  // The shell has to find the records' names, so what it runs is one text, and each word in it stands between quotes.
  const globs = RECORDS.flatMap(root => places.map(place => `${root}/${place}`))
  return [
    ['sh', '-c', `set -- ${[prefix, username].map(quoted).join(' ')} ${globs.map(globbed).join(' ')}\n${CHAP_SCRIPT}`],
    passwordFile,
  ]
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** Quotes all but the stars. */
function globbed(path: string): string {
  return path
    .split('*')
    .map(part => (part === '' ? '' : quoted(part)))
    .join('*')
}

/** How a portal is asked for its targets: it only prints them. */
export function discoveryCommand(node: string, { address, chap }: Portal): Command {
  const argv =
    chap === undefined
      ? ['iscsiadm', '-m', 'discovery', '-t', 'sendtargets', '-p', address, '-o', 'nonpersistent']
      : ['iscsiadm', '-m', 'discoverydb', '-t', 'sendtargets', '-p', address, '-o', 'nonpersistent', '--discover']
  return { node, argv }
}

/** Before a portal that wants CHAP can be asked, open-iscsi must know the password. */
export function preparation(node: string, { address, chap }: Portal): NodeAct[] {
  if (chap === undefined) return []
  const [argv, stdin] = chapCommand('discovery.sendtargets', chap, [
    `send_targets/${address.replace(/:(\d+)$/, ',$1')}/st_config`,
  ])
  return [
    act(node, `let ${node} know the portal ${address}`, [
      'iscsiadm',
      '-m',
      'discoverydb',
      '-t',
      'sendtargets',
      '-p',
      address,
      '-o',
      'new',
    ]),
    act(node, `let ${node} know the user and the password of ${address}`, argv, stdin),
  ]
}

/** New targets, and a new look at those that are there. */
export function planLogins(facts: IscsiFacts): NodeAct[] {
  return facts.wanted.flatMap(node => {
    const seen = facts.nodes.get(node)
    if (seen === undefined) return []
    const fresh = facts.portals.flatMap(portal =>
      newTargets(seen, portal).flatMap(offer => loginActs(node, portal, offer)),
    )
    const again =
      seen.sessions.length === 0
        ? []
        : [act(node, `look for new and grown disks on ${node}`, ['iscsiadm', '-m', 'session', '--rescan'])]
    return [...fresh, ...again]
  })
}

function newTargets({ sessions, offers }: NodeIscsi, { address }: Portal): Offered[] {
  const offered = offers.get(address)
  if (offered === undefined || typeof offered === 'string') return []
  return offered.filter(
    ({ target, portal }) => !sessions.some(each => each.target === target && each.portal === portal),
  )
}

function loginActs(node: string, { chap }: Portal, { target, portal }: Offered): NodeAct[] {
  const record = ['iscsiadm', '-m', 'node', '-T', target, '-p', portal]
  const password =
    chap === undefined
      ? []
      : [
          act(
            node,
            `let ${node} know the user and the password of ${target}`,
            ...chapCommand('node.session', chap, [`nodes/${target}/*/default`, `nodes/${target}/*`]),
          ),
        ]
  return [
    act(node, `let ${node} know ${target} at ${portal}`, [...record, '-o', 'new']),
    ...password,
    act(node, `log ${node} in to it at every boot`, [
      ...record,
      '-o',
      'update',
      '-n',
      'node.startup',
      '-v',
      'automatic',
    ]),
    act(node, `log ${node} in to ${target} at ${portal}`, [...record, '--login']),
  ]
}

/** What is gone for good: taken away only where every node was asked, and nobody anywhere uses it. */
export function planRemovals(facts: IscsiFacts): IscsiPlan {
  const acts: NodeAct[] = []
  const kept: { node: string; what: string; why: string }[] = []
  const unheard = unheardOf(facts)
  const judge = (node: string, what: string, disks: readonly SeenDisk[], take: () => NodeAct[]) => {
    const why = unheard ?? disks.flatMap(disk => usesOf(facts, disk))[0]
    if (why !== undefined) kept.push({ node, what, why })
    else if (facts.wanted.includes(node)) acts.push(...take())
  }
  for (const [node, { sessions, disks }] of facts.nodes) {
    const gone = sessions.filter(session => isGone(facts, session))
    for (const { target, portal } of gone) {
      const own = disks.filter(disk => disk.target === target)
      judge(node, `the target ${target} at ${portal}, which is no longer offered`, own, () =>
        logout(node, target, portal, own),
      )
    }
    const lost = disks.filter(disk => !gone.some(({ target }) => target === disk.target) && isLost(facts, disk))
    for (const disk of lost)
      judge(node, `the disk ${disk.wwid} (${disk.device}), which cannot be read any more`, [disk], () => [
        act(node, `take ${disk.wwid} (${disk.device}) off ${node}`, [
          'sh',
          '-c',
          TAKE_OFF_SCRIPT,
          'havirt',
          disk.device,
          disk.wwid,
        ]),
      ])
  }
  return { acts, kept }
}

/** Why not everything is known that might use a disk, if so. */
function unheardOf({ cluster, nodes }: IscsiFacts): string | undefined {
  const [silent] = unknownNodes(cluster)
  if (silent !== undefined) return `${silent.name} is ${silent.seen.state} and may use it`
  const up = upNodes(cluster)
  const missing = up.find(({ name, seen }) => !nodes.has(name) || seen.inquiryProblem !== undefined)
  if (missing !== undefined) return `${missing.name} could not be asked`
  const opaque = sightings(cluster).find(({ domain }) => isPresent(domain) && domain.definition === undefined)
  if (opaque !== undefined) return `nobody could read which disks ${opaque.domain.name} has on ${opaque.node}`
  const unreadable = [...cluster.definitions.values()].find(({ domain }) => domain === undefined)
  return unreadable === undefined ? undefined : `${unreadable.path} cannot be read`
}

function logout(node: string, target: string, portal: string, disks: readonly SeenDisk[]): NodeAct[] {
  const record = ['iscsiadm', '-m', 'node', '-T', target, '-p', portal]
  const words = disks.flatMap(({ device, wwid }) => [device, wwid])
  return [
    act(node, `log ${node} out of ${target} at ${portal}`, [
      'sh',
      '-c',
      LOGOUT_SCRIPT,
      'havirt',
      target,
      portal,
      ...words,
    ]),
    act(node, `let ${node} forget ${target} at ${portal}`, [...record, '-o', 'delete']),
  ]
}

/** The kernel writes addresses of IPv6 without brackets. */
function bare(address: string): string {
  return address.replace(/[[\]]/g, '')
}

/** No portal of the configuration offers it, and every one of them told every node what it offers. */
function isGone({ nodes, portals }: IscsiFacts, { target, portal }: IscsiSession): boolean {
  const host = (address: string) => bare(address).replace(/:\d+$/, '')
  if (!portals.some(({ address }) => host(address) === host(portal))) return false
  return [...nodes.values()].every(({ offers }) =>
    portals.every(({ address }) => {
      const offered = offers.get(address)
      return offered !== undefined && typeof offered !== 'string' && !offered.some(each => each.target === target)
    }),
  )
}

/** Its session stands on every node that has it, and none can read it: the target gives it no more. */
function isLost({ nodes }: IscsiFacts, { wwid }: SeenDisk): boolean {
  if (wwid === '') return false
  return [...nodes.values()].every(({ disks, sessions }) =>
    disks
      .filter(disk => disk.wwid === wwid)
      .every(
        disk => !disk.reads && sessions.some(({ target, state }) => target === disk.target && state === 'LOGGED_IN'),
      ),
  )
}

/** Who uses a disk anywhere, by its WWID; a disk without one is not known to be unused. */
function usesOf({ nodes, cluster }: IscsiFacts, disk: SeenDisk): string[] {
  if (disk.wwid === '') return [`${disk.device} has no WWID, so nobody knows who uses it`]
  const there = [...nodes].flatMap(([node, { disks }]) =>
    disks.filter(({ wwid }) => wwid === disk.wwid).flatMap(({ uses }) => uses.map(use => `${node} uses it: ${use}`)),
  )
  const running = sightings(cluster).flatMap(({ domain }) => domain.definition ?? [])
  const defined = [...cluster.definitions.values()].flatMap(({ domain }) => domain ?? [])
  const users = [...running, ...defined].filter(({ disks }) =>
    namesOfDisks(cluster, disks).some(names => names.some(name => mayBe(name, disk))),
  )
  return [...there, ...[...new Set(users.map(({ name }) => name))].map(name => `the domain ${name} has it`)]
}

/** A name of a domain's disk that may mean this one, by its WWID, its target or its device: rather once too often. */
function mayBe(name: string, { wwid, target, device }: SeenDisk): boolean {
  const spelled = plain(name)
  return [wwid.replace(/^(?:naa|eui|t10)\./, ''), target, `/dev/${device}`].some(word => spelled.includes(plain(word)))
}

/** A WWID is written with blanks, underscores or dots in different places. */
function plain(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]/g, '')
}
