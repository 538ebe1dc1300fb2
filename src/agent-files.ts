/** The agent's files on one machine: where they come from, where they go, and the few lines of sh that Pacemaker runs. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { quote } from './core/command.ts'
import { IDENTITY_FILE } from './nodes/probe.ts'

/** Programs and texts that the agent needs beside it, made by the build in dist/ocf. */
const PARTS = ['agent.cjs', 'keeper.cjs', 'meta-data-1.0.xml', 'meta-data-1.1.xml'] as const
/** Where a system has its programs: a Node.js there stays where it is, while every other may be on a share, or gone with its folder. */
const SYSTEM = /^\/(usr|opt|bin)\//

export interface AgentFiles {
  /** The file that Pacemaker runs. */
  readonly agent: string
  /** The folder of everything else. */
  readonly folder: string
  /** The Node.js that the agent will run by. */
  readonly node: string
  readonly copiesNode: boolean
  /** The home folder of the cluster that this machine is a node of, if it is one. */
  readonly home: string | undefined
  /** Paths of files to copy, by where they go. */
  readonly copies: ReadonlyMap<string, string>
  /** Texts to write, by where they go. */
  readonly texts: ReadonlyMap<string, string>
}

function placesIn(root: string): { agent: string; folder: string } {
  return { agent: join(root, 'resource.d', 'havirt', 'VirtualDomain'), folder: join(root, 'lib', 'havirt') }
}

/** What an installation would make. */
export function agentFiles(machine: { above: string; home: string; version: string }, root: string): AgentFiles {
  const { agent, folder } = placesIn(root)
  const copiesNode = !SYSTEM.test(process.execPath) || process.execPath.startsWith(`${machine.above}/`)
  const node = copiesNode ? join(folder, 'node') : process.execPath
  const home = isHomeOfNode(machine.home) ? machine.home : undefined
  const source = join(machine.above, 'dist', 'ocf')
  const copies = new Map<string, string>(PARTS.map(name => [join(folder, name), join(source, name)]))
  if (copiesNode) copies.set(node, process.execPath)
  const about = { version: machine.version, node, ...(home === undefined ? {} : { home }) }
  const texts = new Map([
    [join(folder, 'cluster.json'), `${JSON.stringify(about)}\n`],
    [agent, launcher(machine.version, folder, node)],
  ])
  return { agent, folder, node, copiesNode, home, copies, texts }
}

/** Only a node of a cluster takes claims, and only in a home folder that holds one. */
function isHomeOfNode(home: string): boolean {
  return existsSync(IDENTITY_FILE) && existsSync(join(home, 'var', 'cluster'))
}

/**
 * What Pacemaker runs. It answers meta-data by itself, as anybody and without Node.js. A Node.js that is missing is an error of its own
 * (1), never "not installed" (5): the domain may run. Settings for other programs of Node.js do not reach the agent.
 */
function launcher(version: string, folder: string, node: string): string {
  return `#!/bin/sh
# ocf:havirt:VirtualDomain of havirt ${version}: a resource agent for libvirt domains, put here by "havirt ocf install".
lib=${quote(folder)}
node=${quote(node)}
if [ "\${1-}" = meta-data ]; then
  case "\${OCF_RA_VERSION_MAJOR-}.\${OCF_RA_VERSION_MINOR-}" in
    1.[1-9]* | [2-9].* | [1-9][0-9]*.*) api=1.1 ;;
    *) api=1.0 ;;
  esac
  exec cat "$lib/meta-data-$api.xml"
fi
if [ ! -x "$node" ] || [ ! -r "$lib/agent.cjs" ]; then
  echo "\${OCF_EXIT_REASON_PREFIX-ocf-exit-reason:}the agent is damaged: $node or $lib/agent.cjs is missing; run: havirt ocf install" >&2
  exit 1
fi
unset NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_V8_COVERAGE NODE_COMPILE_CACHE
exec "$node" --no-warnings "$lib/agent.cjs" "$@"
`
}

/** The same as shell commands. */
export function installScript({ agent, folder, copies, texts }: AgentFiles): string[] {
  return [
    `install -d -m 755 ${quote(folder)} ${quote(dirname(agent))}`,
    ...[...copies].map(([to, from]) => `install -m ${modeOf(to, agent)} ${quote(from)} ${quote(to)}`),
    ...[...texts].flatMap(([to, text]) => [
      `cat >${quote(to)} <<'END_OF_FILE'`,
      ...text.trimEnd().split('\n'),
      'END_OF_FILE',
      `chmod ${modeOf(to, agent)} ${quote(to)}`,
    ]),
  ]
}

/** Puts every file in its place, whole: an agent that runs meanwhile has the old ones or the new ones. The program itself comes last. */
export function installAgent({ agent, folder, copies, texts }: AgentFiles): void {
  for (const path of [folder, dirname(agent)]) {
    mkdirSync(path, { recursive: true })
    // The cluster asks for meta-data as a user of its own, whatever the umask of whoever installs.
    chmodSync(path, 0o755)
  }
  for (const [to, from] of copies) put(to, agent, fresh => copyFileSync(from, fresh))
  for (const [to, text] of texts) put(to, agent, fresh => writeFileSync(fresh, text))
}

function put(to: string, agent: string, make: (fresh: string) => void): void {
  const fresh = `${to}.${process.pid}.new`
  try {
    make(fresh)
    chmodSync(fresh, Number.parseInt(modeOf(to, agent), 8))
    renameSync(fresh, to)
  } finally {
    rmSync(fresh, { force: true })
  }
}

function modeOf(path: string, agent: string): string {
  return path === agent || path.endsWith('/node') ? '755' : '644'
}

export interface InstalledAgent {
  readonly agent: string
  readonly version: string
  readonly node: string
  readonly home: string
}

/** What is installed below this root; undefined when nothing is. */
export function installedAgent(root: string): InstalledAgent | undefined {
  const { agent, folder } = placesIn(root)
  if (!existsSync(agent)) return undefined
  try {
    const { version, node, home = '' } = JSON.parse(readFileSync(join(folder, 'cluster.json'), 'utf8'))
    return { agent, version: String(version), node: String(node), home: String(home) }
  } catch {
    return { agent, version: 'unknown', node: '', home: '' }
  }
}

/** Removes it, or only says what that would remove. The program goes first: without the rest it could not run. */
export function removeAgent(root: string, act: boolean): string[] {
  const { agent, folder } = placesIn(root)
  const there = [agent, folder].filter(path => existsSync(path))
  if (!act) return there.map(quote)
  for (const path of there) rmSync(path, { recursive: true, force: true })
  try {
    rmdirSync(dirname(agent))
  } catch {
    // Somebody else has put something there.
  }
  return there
}
