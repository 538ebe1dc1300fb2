/** Acting: virsh, as a person would type it, with its connection named. It ends when the agent does. */
import { mkdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quote } from '../core/command.ts'
import { type Exit, run } from '../nodes/process.ts'
import type { Agent } from './agent.ts'
import { leftMs } from './call.ts'

export interface Order {
  readonly stdin?: string
  /** Less than what is left of the operation. */
  readonly timeoutMs?: number
  /** Goes on although somebody wants the operation to end. */
  readonly always?: true
  /** Another connection than the agent's. */
  readonly uri?: string
  /** How the log calls the command, where what is run around it would hide it. */
  readonly shown?: string
}

/** Environment in which programs print what can be read anywhere. */
const PLAIN = { LC_ALL: 'C', LANG: 'C' }

/** Runs one command of virsh to its end, or to the end of the operation. */
export function virsh(agent: Agent, words: readonly string[], order: Order = {}): Promise<Exit> {
  const uri = order.uri ?? agent.hypervisor.uri
  return program(agent, 'virsh', ['-q', '-c', uri, ...words], order)
}

/** Runs any program in the same way. */
export function program(
  agent: Agent,
  file: string,
  words: readonly string[],
  order: Omit<Order, 'uri'> = {},
): Promise<Exit> {
  const line = [file, ...words].map(quote).join(' ')
  agent.log.info(`runs: ${order.shown ?? line}`)
  const input = order.stdin === undefined ? undefined : inputFile(agent, order.stdin)
  const running = run(file, words, {
    stdinFile: input,
    timeoutMs: Math.min(order.timeoutMs ?? Number.POSITIVE_INFINITY, leftMs(agent.call)),
    ...(order.always ? {} : { abort: agent.interrupt }),
    group: 'ours',
    environment: { ...process.env, ...PLAIN },
  })
  // It is open by now, and nobody else needs its name.
  if (input !== undefined) unlinkSync(input)
  return running
}

/**
 * A text as a file of its own. Node.js gives a child a socket for its input, which cannot be opened as /dev/stdin; and a shell with a pipe
 * would stay in between, so that the program lived on when it is ended, and a start happened after its operation had failed.
 */
function inputFile({ call }: Agent, text: string): string {
  const folder = join(call.runFolder, 'havirt')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, `.input.${process.pid}.${++inputs}`)
  writeFileSync(file, text, { mode: 0o600, flag: 'wx' })
  return file
}

let inputs = 0

/** What a program said when it failed, as the end of a sentence: libvirt's own words, without "error:" and on one line. */
export function saidBy({ stderr, stdout, status, signal, timedOut }: Exit): string {
  if (timedOut) return 'it did not end in time'
  const lines = `${stderr}\n${stdout}`
    .split('\n')
    .map(line => line.replace(/^\s*(error|warning):\s*/i, '').trim())
    .filter(line => line !== '')
  if (lines.length > 0) return lines.join('; ')
  return signal === undefined ? `it ended with status ${status}` : `it was ended by ${signal}`
}
