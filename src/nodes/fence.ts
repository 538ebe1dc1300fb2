/**
 * Runs fence agents. All that an agent is told goes by its standard input, so that no secret is in a process list or an
 * environment; and what it says is believed only as far as a mistake cannot look the same (docs/decisions/0011).
 */
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { Config } from '../core/config.ts'
import { type FenceAction, type FenceDevice, fenceDeviceOf, fenceInput, fenceStatus } from '../core/fence.ts'
import { type Exit, run } from './process.ts'
import { readSecret } from './secret.ts'

/** An agent that waits for the power to go may take long; one that takes longer hangs. */
const TIMEOUT_MS = 60_000
/** Where Debian installs the agents: a cron job's PATH may not have it. */
const AGENT_FOLDERS = ['/usr/sbin', '/usr/local/sbin']

/**
 * Runs the device's agent on this machine, to its end or for a minute. Never rejects: where the agent could not be asked there is
 * no status, and stderr says why. `status` ends with {@link fenceStatus}, and with `off` only if the agent said so in words. The
 * output holds no secret.
 */
export async function runFenceAgent(device: FenceDevice, action: FenceAction, timeoutMs = TIMEOUT_MS): Promise<Exit> {
  const secrets = await readSecrets(device.secrets)
  if (typeof secrets === 'string') return notAsked(secrets)
  const program = await findAgent(device.agent)
  if (program === undefined)
    return notAsked(`${device.agent} is not installed on this machine: apt-get install fence-agents`)
  const exit = await run(program, [], { stdin: fenceInput(device, action, secrets), timeoutMs })
  return withoutSecrets(action === 'status' ? believed(exit) : exit, Object.values(secrets))
}

function notAsked(stderr: string): Exit {
  return { status: undefined, signal: undefined, stdout: '', stderr, timedOut: false }
}

/**
 * "Off" is status 2, but shells and Python end with 2, too, when they cannot read the agent itself; and an agent that did not
 * understand a parameter may have looked at another outlet. So the word must be there, and no complaint.
 */
function believed(exit: Exit): Exit {
  if (exit.status !== fenceStatus.off) return exit
  const problem = exit.timedOut
    ? 'it was ended before it was done'
    : /ignoring unknown option/i.test(exit.stderr)
      ? 'it does not know a parameter of fence.devices'
      : /\bstatus: *off\b/i.test(exit.stdout)
        ? undefined
        : 'it ended as if the node were off, but did not say so'
  return problem === undefined
    ? exit
    : { ...exit, status: 1, stderr: `${exit.stderr.trimEnd()}\n${problem}`.trimStart() }
}

/** The values by parameter, or why one cannot be had: a sentence that names the file. */
async function readSecrets(files: FenceDevice['secrets']): Promise<Record<string, string> | string> {
  const values: Record<string, string> = {}
  for (const [name, file] of Object.entries(files)) {
    try {
      values[name] = await readSecret(file)
    } catch (error) {
      return `the ${name} in ${file} cannot be used: ${error instanceof Error ? error.message : String(error)}`
    }
  }
  return values
}

async function findAgent(agent: string): Promise<string | undefined> {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter).filter(folder => folder.startsWith('/')),
    ...AGENT_FOLDERS,
  ]
  for (const folder of folders) {
    const program = join(folder, agent)
    if (
      await access(program, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return program
  }
  return undefined
}

/** Agents repeat a parameter that they do not know, its value included. */
function withoutSecrets(exit: Exit, secrets: readonly string[]): Exit {
  const written = secrets.flatMap(secret => [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)])
  const longestFirst = [...new Set(written)].sort((a, b) => b.length - a.length)
  const hide = (text: string) => longestFirst.reduce((hidden, secret) => hidden.replaceAll(secret, '***'), text)
  return { ...exit, stdout: hide(exit.stdout), stderr: hide(exit.stderr) }
}

/** What an agent's end means, in words: the last it said, or how it ended. */
export function fenceWords({ status, signal, stdout, stderr, timedOut }: Exit): string {
  if (timedOut) return 'it did not end in time'
  if (status === fenceStatus.on && /status: *on/i.test(stdout)) return 'the power is on'
  const lines = `${stdout}\n${stderr}`.split('\n').map(line => line.trim())
  const last = lines.filter(line => line !== '').at(-1)
  return last ?? (signal === undefined ? `it ended with status ${status}` : `it was ended by ${signal}`)
}

/** Asks a node's fence device whether it is off; undefined when it says so, else why it cannot be relied on. */
export async function powerProblem(
  nodes: { fence(device: FenceDevice, action: FenceAction): Promise<Exit> },
  config: Config,
  node: string,
): Promise<string | undefined> {
  const device = fenceDeviceOf(config, node)
  if (device === undefined) return 'config.yaml names none any more'
  const exit = await nodes.fence(device, 'status')
  return exit.status === fenceStatus.off ? undefined : fenceWords(exit)
}
