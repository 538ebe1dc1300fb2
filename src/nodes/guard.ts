/**
 * The guard: a few lines of sh that go with every changing command and run it on the node under a lock, unless a newer
 * claim has been there (rule 4). No agent is installed on a node; this is all there is.
 */
import { quote } from '../core/command.ts'

/** Under which claim a command runs, and on which machine it expects to be. */
export interface GuardTicket {
  readonly uuid: string
  readonly generation: number
  /** The node's id from its record; the guard compares it with /var/lib/havirt/id (rule 7). */
  readonly nodeId: string
  /** Of a migration: where it goes. The guard asks there, from the source, whether it is the recorded machine (rule 7). */
  readonly peer?: Peer
  /** Only while the domain waits on this node for a migration: its libvirt there is asked. */
  readonly waits?: { readonly uri: string }
}

/** A node's libvirt as another node reaches it, and which host is expected to answer. */
export interface Peer {
  readonly uri: string
  readonly hostUuid: string
}

/** Where the guard keeps its locks and generations on a node, gone after a reboot. */
export const GUARD_FOLDER = '/run/havirt/guard'

/** How long the guard waits for a command of the same domain that still runs on its node. */
const LOCK_WAIT_SECONDS = 30

/** The guard's own exit statuses: no command ran. Above 90 and below 125, where neither virsh nor a shell has any. */
export const guardStatus = {
  unusable: 94,
  otherNode: 95,
  locked: 96,
  displaced: 97,
  otherPeer: 98,
  noLongerWaits: 99,
} as const

/** How long the guard waits for a peer to tell its uuid; it makes its own ssh connection. */
const PEER_WAIT_SECONDS = 20

/**
 * Arguments: uuid, generation, node id, `lock`, `nolock` or `raise`, the peer's URI and host uuid or two empty words, the URI at which
 * the domain must be found waiting or an empty word, then the command. With `nolock` only the generation counts:
 * that is for ending a command which holds the lock, such as a migration. It records nothing, because without the lock it
 * could put its own generation over a newer one. `raise` records it on disk, too, where it outlives a reboot: a holder that was
 * suspended with its machine right before it sent a command may send it to a node that has started anew since.
 *
 * The lock's descriptor is inherited by the command, so that the lock outlives this shell if somebody kills it. So the command
 * must not be the last line, which a shell runs in its own place: whoever ends the guard would end the command with it, and
 * libvirt would carry out what virsh asked of it without the lock.
 * A generation file that holds no number fails the comparison, and the command does not run.
 */
const GUARD = `uuid=$1 generation=$2 node=$3 mode=$4 peer=$5 host=$6 waits=$7; shift 7
fail() { echo "havirt guard: $1" >&2; exit "$2"; }
umask 077; LC_ALL=C; export LC_ALL
folder=${GUARD_FOLDER} kept=/var/lib/havirt/guard
[ -d "$folder" ] || mkdir -p "$folder" || fail "cannot make $folder" 94
grep -qxF "node: $node" /var/lib/havirt/id 2>/dev/null || fail "this machine is not the node that was recorded" 95
exec 9>>"$folder/$uuid.lock" || fail "cannot open the lock" 94
[ "$mode" = nolock ] || flock -w ${LOCK_WAIT_SECONDS} 9 || fail "another command for this domain still runs here" 96
for file in "$folder/$uuid.generation" "$kept/$uuid.generation"; do
  [ -e "$file" ] || continue
  seen=$(cat "$file") || fail "cannot read the generation" 94
  [ "$generation" -ge "$seen" ] || fail "generation $generation has been displaced by $seen" 97
done
record() {
  echo "$generation" >"$1/$uuid.new.$$" && { [ "$1" = "$folder" ] || sync "$1/$uuid.new.$$"; } &&
    mv "$1/$uuid.new.$$" "$1/$uuid.generation" || fail "cannot record the generation in $1" 94
}
[ "$mode" = nolock ] || record "$folder"
[ "$mode" != raise ] || { mkdir -p "$kept" && record "$kept" && sync "$kept"; } || fail "cannot record the generation in $kept" 94
if [ -n "$peer" ]; then
  there=$(timeout ${PEER_WAIT_SECONDS} virsh -c "$peer" capabilities </dev/null) || fail "cannot ask $peer which host it is" 98
  case $there in *"<uuid>$host</uuid>"*) ;; *) fail "$peer leads to another host than the recorded one" 98 ;; esac
fi
if [ -n "$waits" ]; then
  state=$(timeout ${PEER_WAIT_SECONDS} virsh -c "$waits" domstate --reason "$uuid" </dev/null) || fail "cannot tell whether the domain still waits" 99
  case $state in "paused (migrating)"* | "paused (starting up)"*) ;; *) fail "the domain waits no longer: $state" 99 ;; esac
fi
"$@"
exit $?`

const NOBODY: Peer = { uri: '', hostUuid: '' }

/** The line for the node's shell that runs `remote` (a line itself, see core/command.ts) behind the guard. */
export function guarded(ticket: GuardTicket, remote: string, mode: 'lock' | 'nolock' | 'raise' = 'lock'): string {
  const { uuid, generation, nodeId, peer = NOBODY, waits } = ticket
  const words = [uuid, String(generation), nodeId, mode, peer.uri, peer.hostUuid, waits?.uri ?? ''].map(quote).join(' ')
  return `sh -c ${quote(GUARD)} havirt-guard ${words} ${remote}`
}

/** The line that only raises the generation, for good, waiting for a command that still runs there: the first act of a take-over. */
export function raising(ticket: GuardTicket): string {
  return guarded(ticket, 'true', 'raise')
}

/** The guard as a dry run explains it, once, in comments. */
export function guardComment(): string[] {
  return [
    '# havirt runs each command below on its node behind a guard: under a lock of the domain there,',
    '# and only if the machine is the recorded node and no newer claim has been there. A migration also asks',
    '# its target, from the source, whether it is the recorded node.',
  ]
}

/** What a guard's status means, or undefined when the status is the command's own. */
export function guardMeaning(status: number | undefined): string | undefined {
  if (status === guardStatus.displaced) return 'a newer claim has displaced this one, and the command did nothing'
  if (status === guardStatus.locked)
    return 'another command for this domain still runs on the node, and this one did nothing'
  if (status === guardStatus.otherNode)
    return 'the machine that answered is not the recorded node, and the command did nothing'
  if (status === guardStatus.otherPeer)
    return 'the source cannot tell that its way to the target leads to the recorded node, and the command did nothing'
  if (status === guardStatus.noLongerWaits)
    return 'the domain no longer waits for its migration there, and the command did nothing'
  if (status === guardStatus.unusable) return 'the guard could not work on the node, and the command did nothing'
  return undefined
}
