/**
 * Says what the agent does, where the cluster wants it: as the shell library of other agents does, by logger(1) with HA_LOGFACILITY, in
 * HA_LOGFILE, or else on stderr, which Pacemaker logs. One line each. And the one exit reason.
 */
import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Call } from './call.ts'

type Level = 'debug' | 'info' | 'warning' | 'err'

/** A text beyond this is cut: a program that prints without end must not fill the cluster's logs. */
const MAX_LINE = 1000

export class Log {
  readonly #environment: NodeJS.ProcessEnv
  readonly #tag: string
  readonly #trace: string | undefined
  /** For logger(1), which is started once, at the end. */
  readonly #kept: [Level, string][] = []
  #gave = false

  constructor({ instance, action }: Pick<Call, 'instance' | 'action'>, environment: NodeJS.ProcessEnv) {
    this.#environment = environment
    this.#tag = `VirtualDomain(${oneLine(instance)})[${process.pid}]`
    this.#trace = traceFile(instance, action, environment)
  }

  debug(text: string): void {
    if (this.#environment['HA_debug'] && this.#environment['HA_debug'] !== '0') this.#say('debug', text)
    else this.#note('debug', text)
  }
  info(text: string): void {
    this.#say('info', text)
  }
  warn(text: string): void {
    this.#say('warning', text)
  }
  error(text: string): void {
    this.#say('err', text)
  }

  /** The exit reason. Pacemaker keeps the last one that it hears, so a second one would hide the first: it is dropped. */
  reason(text: string): void {
    if (this.#gave) return
    this.#gave = true
    const prefix = this.#environment['OCF_EXIT_REASON_PREFIX'] ?? 'ocf-exit-reason:'
    // A program's words in the reason must not begin another one.
    const sentence = oneLine(text).replaceAll(prefix, prefix.replace(':', ' '))
    process.stderr.write(`${prefix}${sentence}\n`)
    // Pacemaker logs the reason from stderr by itself.
    if (this.#facility !== undefined || this.#environment['HA_LOGFILE']) this.#say('err', text)
    else this.#note('err', text)
  }

  /** Hands over what is to go by logger(1). It is not waited for: syslog may hang, and the operation must not. */
  async flush(): Promise<void> {
    const facility = this.#facility
    if (facility === undefined || this.#kept.length === 0) return
    const { leave } = await import('../nodes/process.ts')
    for (const [level, text] of this.#kept.splice(0))
      leave('logger', ['-t', this.#tag, '-p', `${facility}.${level}`, '--', text])
  }

  get #facility(): string | undefined {
    const facility = this.#environment['HA_LOGFACILITY']
    return facility === undefined || facility === '' || facility === 'none' ? undefined : facility
  }

  #say(level: Level, text: string): void {
    const line = oneLine(text)
    const file = this.#environment['HA_LOGFILE']
    if (this.#facility !== undefined) this.#kept.push([level, line])
    if (file) append(file, `${this.#tag}: ${stamp()} ${level.toUpperCase()}: ${line}\n`)
    if (this.#facility === undefined && !file) process.stderr.write(`${this.#tag}: ${level.toUpperCase()}: ${line}\n`)
    this.#note(level, line)
  }

  #note(level: Level, text: string): void {
    if (this.#trace !== undefined) append(this.#trace, `${stamp()} ${level}: ${oneLine(text)}\n`)
  }
}

/** A text as one line that may go to any log: control characters are spaces, and it has an end. */
export function oneLine(text: string): string {
  const line = text.replace(/\p{Cc}+/gu, ' ').trim()
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}...` : line
}

/** Where trace_ra wants to have everything, a file for each action. */
function traceFile(instance: string, action: string, environment: NodeJS.ProcessEnv): string | undefined {
  const wanted = environment['OCF_RESKEY_trace_ra'] || environment['OCF_TRACE_RA']
  if (!wanted || !/^(yes|true|1|ja|on)$/i.test(wanted)) return undefined
  const folder = environment['OCF_RESKEY_trace_dir'] || '/var/lib/heartbeat/trace_ra'
  const name = `${encodeURIComponent(instance)}.${encodeURIComponent(action)}.${stamp().replaceAll(':', '')}`
  try {
    mkdirSync(join(folder, 'VirtualDomain'), { recursive: true })
  } catch {
    return undefined
  }
  return join(folder, 'VirtualDomain', name)
}

function stamp(): string {
  return new Date().toISOString().slice(0, 19)
}

/** A log that cannot be written to ends no operation. */
function append(file: string, line: string): void {
  try {
    appendFileSync(file, line, { mode: 0o640 })
  } catch {}
}
