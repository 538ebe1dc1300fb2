/** Fence devices: what cuts a node's power, as the configuration names it, and how its agent is told (docs/decisions/0011). */
import { quote } from './command.ts'
import type { Config } from './config.ts'
import { isNodeName } from './node.ts'
import { wordsOf } from './words.ts'

/** How one node's power is cut: an agent of Debian's fence-agents, and what it is told on its standard input. */
export interface FenceDevice {
  readonly node: string
  /** The agent's program, `fence_ipmilan`. */
  readonly agent: string
  /** Parameters by the agent's own names: `ip`, `username`, `plug`. */
  readonly parameters: Readonly<Record<string, string>>
  /** Parameters whose value is the first line of a file: `password` -> `/etc/havirt/node1.secret`. Never shown, never an argument. */
  readonly secrets: Readonly<Record<string, string>>
}

/** What a fence agent is asked. `off`, never `reboot`: a node that comes back by itself proves nothing. */
export type FenceAction = 'off' | 'status'

/** The status of an agent that says that the node has power, and that it has none (fence agents' own convention). */
export const fenceStatus = { on: 0, off: 2 } as const

/** What an entry of `fence.devices` looks like, for messages and the sample. */
export const FENCE_EXAMPLE =
  'node1 fence_ipmilan ip=10.0.0.11 username=admin password=@/etc/havirt/node1.secret lanplus=1'

/** Agents that cut something else than the node's power, or nothing: the domains of a node that they have "fenced" run on. */
const NO_POWER = new Set(
  'ack_manual brocade cisco_mds compute evacuate heuristics_ping ifmib kdump mpath sanbox2 sanlock scsi'
    .split(' ')
    .map(name => `fence_${name}`),
)

/** Parameters that are havirt's own, or would undo what it promises. By the names of fence-agents, with underscores. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ...['action', 'option', 'o'].map(name => [name, 'havirt itself says what is to be done'] as const),
  ...['verbose', 'verbose_level', 'debug', 'debug_file'].map(
    name => [name, 'the agent would write the password down'] as const,
  ),
  ['missing_as_off', 'a device that does not know the node would count as off'],
])

/** Parameters that hold a secret, unless the name says that it is where to find one. */
const SECRET = /passw|passphrase|secret|token|community|api_?key|auth_?key|private_?key/
const PLACE_OF_SECRET = /_(script|file|path)$/

/** Reads one entry of `fence.devices`. What is wrong with it comes as the rest of a sentence, and never holds a value. */
export function parseFenceDevice(text: string): FenceDevice | string {
  if (/[\p{C}\p{Zl}\p{Zp}\ufffd]/u.test(text)) return 'an entry holds a line break or another character that is no text'
  const [node = '', agent = '', ...pairs] = wordsOf(text) ?? []
  if (node === '') return `an entry is empty or has a quote without an end; expected '${FENCE_EXAMPLE}'`
  if (!isNodeName(node)) return `an entry does not begin with a node's name; expected '${FENCE_EXAMPLE}'`
  const problem = agentProblem(agent)
  return problem === undefined ? withParameters({ node, agent }, pairs) : `the entry of ${node} ${problem}`
}

function agentProblem(agent: string): string | undefined {
  if (!/^fence_[a-z0-9_]+$/.test(agent))
    return "names no fence agent behind the node; expected one such as 'fence_ipmilan'"
  return NO_POWER.has(agent)
    ? `names ${agent}, which does not cut the node's power, so that its domains would run on`
    : undefined
}

function withParameters(device: Pick<FenceDevice, 'node' | 'agent'>, pairs: readonly string[]): FenceDevice | string {
  const parameters: Record<string, string> = {}
  const secrets: Record<string, string> = {}
  for (const pair of pairs) {
    const [, name = '', value = ''] = /^([A-Za-z][A-Za-z0-9_-]*)=(.*)$/.exec(pair) ?? []
    const problem = name === '' ? 'has a word that is no name=value' : parameterProblem(name, value)
    if (problem !== undefined) return `the entry of ${device.node} ${problem}`
    if (Object.hasOwn({ ...parameters, ...secrets }, name)) return `the entry of ${device.node} has ${name} twice`
    if (value.startsWith('@')) secrets[name] = value.slice(1)
    else parameters[name] = value
  }
  return { ...device, parameters, secrets }
}

function parameterProblem(name: string, value: string): string | undefined {
  const plain = name.toLowerCase().replaceAll('-', '_')
  const refused = REFUSED.get(plain)
  if (refused !== undefined) return `has ${name}, which is not allowed here: ${refused}`
  if (value.startsWith('@'))
    return value.startsWith('@/') ? undefined : `has ${name}=@..., expected the absolute path of a file behind the @`
  return SECRET.test(plain) && !PLACE_OF_SECRET.test(plain)
    ? `has ${name} in clear; put it into a file that only root can read, and write ${name}=@/path/of/the/file`
    : undefined
}

/** What is wrong with an entry of `fence.devices`, given those before it. */
export function fenceDeviceProblem(entry: string, before: readonly string[]): string | undefined {
  const device = parseFenceDevice(entry)
  if (typeof device === 'string') return device
  const twin = before.map(parseFenceDevice).some(other => typeof other !== 'string' && other.node === device.node)
  return twin ? `${device.node} has a device already, in an entry above; a node has one` : undefined
}

/** The fence device of a node, if the configuration names one. */
export function fenceDeviceOf(config: Config, node: string): FenceDevice | undefined {
  return config.fence.devices
    .map(parseFenceDevice)
    .find((device): device is FenceDevice => typeof device !== 'string' && device.node === node)
}

/** What the agent reads on its standard input, a line each: the only place where a secret is written. */
export function fenceInput(
  { parameters, secrets }: FenceDevice,
  action: FenceAction,
  values: Readonly<Record<string, string>>,
): string {
  const hidden = Object.keys(secrets).map(name => `${name}=${values[name] ?? ''}\n`)
  return `${openLines(parameters, action).join('\n')}\n${hidden.join('')}`
}

/** The same as a line to paste into a shell: secrets are read from their files by the shell itself, and no process has one as an argument. */
export function fenceLine({ agent, parameters, secrets }: FenceDevice, action: FenceAction): string {
  const open = `printf '%s\\n' ${openLines(parameters, action).map(quote).join(' ')}`
  const hidden = Object.entries(secrets).map(([name, file]) => `printf '${name}=%s\\n' "$(head -n1 ${quote(file)})"`)
  return hidden.length === 0 ? `${open} | ${agent}` : `{ ${[open, ...hidden].join('; ')}; } | ${agent}`
}

function openLines(parameters: FenceDevice['parameters'], action: FenceAction): string[] {
  return [`action=${action}`, ...Object.entries(parameters).map(([name, value]) => `${name}=${value}`)]
}
