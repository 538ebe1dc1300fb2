/**
 * Whether one node answers another: asked of the other by a few lines of sh, before anybody calls the first one down. Whatever
 * comes back is an answer, be it a refusal: only silence speaks for a node without power.
 */
import { quote } from '../core/command.ts'

/** What another node found when it tried one: `answers` if anything came back, whatever it was; `unknown` if it could not try. */
export interface Reached {
  readonly verdict: 'answers' | 'silent' | 'unknown'
  /** In words: `answered ping`, `ssh: no route to host`. */
  readonly said: string
}

/** How long the node that tries is given in all: the tries end after 4 s, and it may have to be connected to first. */
export const REACH_TIMEOUT_MS = 12_000

/**
 * Tries the node whose name is the only argument by ping and by ssh, at once and as ssh there is configured, and prints what both
 * said, each line with the program's name before it. ssh takes a fresh connection, changes no file, and of its own words only the
 * lines that tell of an answer are let through. Nothing that a program said is read by the shell.
 */
const SCRIPT = `LC_ALL=C; export LC_ALL
name=$1; tab=$(printf '\\t')
host=$(timeout 2 ssh -G -- "$name" 2>/dev/null </dev/null | sed -n 's/^hostname //p')
case "$host" in ''|-*) host=$name;; esac
by() { { head -c 1500; echo; } | sed "s/^/$1$tab/"; }
{
  if command -v ping >/dev/null; then timeout 4 ping -n -c 3 -W 2 -w 3 "$host" </dev/null; else echo 'it is not installed'; fi
} 2>&1 | by ping &
timeout 4 ssh -v -n -T -a -x -o BatchMode=yes -o ConnectTimeout=2 -o ConnectionAttempts=1 -o ControlMaster=no -o ControlPath=none \\
  -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o PermitLocalCommand=no -o ClearAllForwardings=yes -o RemoteCommand=none \\
  -- "$name" true 2>&1 </dev/null |
  sed -n '/^debug1: \\(Connecting to\\|connect to address\\|Connection established\\|Remote protocol version\\)/p; /^debug/d; /^OpenSSH_/d; /^Transferred: /d; /^Bytes per second: /d; p' | by ssh &
wait
echo end`

/** The line for the shell of the node that tries. */
export function reachLine(node: string): string {
  return `sh -c ${quote(SCRIPT)} havirt-reach ${quote(node)}`
}

/** Judges what {@link reachLine} printed; undefined when it did not come to its end. */
export function parseReach(output: string): Reached | undefined {
  const lines = output.split('\n').filter(line => line !== '')
  if (lines.pop() !== 'end') return undefined
  const said = (program: string) => {
    const own = lines.filter(line => line.startsWith(`${program}\t`))
    return own.map(line => line.slice(program.length + 1).trim()).filter(line => line !== '')
  }
  const tries = [judgePing(said('ping')), judgeSsh(said('ssh'))]
  const verdict = (['answers', 'silent'] as const).find(each => tries.some(one => one.verdict === each)) ?? 'unknown'
  const told = tries.filter(one => one.verdict === verdict).map(one => one.said)
  return { verdict, said: told.join(', ') }
}

/** A reply counts, and so does any other word of the pinged address itself, such as that a port is closed. */
function judgePing(lines: readonly string[]): Reached {
  const text = lines.join('\n')
  if (/^\d+ bytes from /m.test(text)) return { verdict: 'answers', said: 'it answered ping' }
  const address = /^PING \S+ ?\(([^)]+)\)/m.exec(text)?.[1]
  const senders = [...text.matchAll(/^From (\S+?):? /gm)].map(([, sender]) => sender)
  if (address !== undefined && senders.includes(address))
    return { verdict: 'answers', said: 'it answered ping with an error' }
  if (/\b0 (packets )?received/.test(text) || (address !== undefined && senders.length > 0))
    return { verdict: 'silent', said: 'no answer to ping' }
  return { verdict: 'unknown', said: `ping: ${lastOf(lines)}` }
}

/** OpenSSH's words that only an answer can bring about. Behind a jump host, its connection is not ours: the version line is. */
const ANSWERS =
  /Connection refused|Permission denied|Host key verification failed|HOST IDENTIFICATION HAS CHANGED|Connection reset|Connection closed by|Received disconnect|Unable to negotiate|Too many authentication failures/
const ANSWERED = /^debug1: (Connection established|Remote protocol version)/m
const SILENT = /timed out|No route to host|Host is down/
/** What a jump host says of the node behind it when that is silent; ssh itself then only says that the connection was closed. */
const SILENT_BEHIND =
  /open failed: (connect failed: )?.*(timed out|No route to host|Host is down)|stdio forwarding failed/

function judgeSsh(lines: readonly string[]): Reached {
  const text = lines.join('\n')
  const words = lines.filter(line => !line.startsWith('debug1:'))
  const last = lastOf(words)
  if (/^Authenticated to /m.test(text)) return { verdict: 'answers', said: 'ssh logs in' }
  if (ANSWERED.test(text))
    return { verdict: 'answers', said: `it answered ssh${words.length === 0 ? '' : ` (${last})`}` }
  const refused = /open failed: (connect failed: )?Connection refused/.test(text)
  if (!refused && SILENT_BEHIND.test(text)) {
    const reason = words.find(line => SILENT.test(line))
    return reason === undefined ? { verdict: 'unknown', said: `ssh: ${last}` } : { verdict: 'silent', said: reason }
  }
  if (ANSWERS.test(text)) return { verdict: 'answers', said: `it answered ssh (${last})` }
  const ended = words.length === 0 && /^debug1: Connecting to /m.test(text)
  if (ended) return { verdict: 'silent', said: 'ssh: no connection within 4 s' }
  return SILENT.test(text)
    ? { verdict: 'silent', said: last }
    : { verdict: 'unknown', said: last === '' ? 'ssh said nothing' : last }
}

function lastOf(lines: readonly string[]): string {
  return lines.at(-1) ?? ''
}
