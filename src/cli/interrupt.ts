/** Ctrl-C and SIGTERM. A read ends at once; a change ends its step, or asks, and a second Ctrl-C leaves at once. */
import { createInterface } from 'node:readline/promises'
import type { Interrupt } from '../execute.ts'
import { exitStatus } from '../report.ts'

const INTERRUPTED = 130

/** `changes`: the command may be changing something, so it must not simply vanish. */
export function terminalInterrupt(changes: boolean): Interrupt {
  const handlers: (() => void)[] = []
  let requested = false
  const hear = () => {
    if (!changes) process.exit(INTERRUPTED)
    const handler = handlers.at(-1)
    if (handler !== undefined && !requested) return handler()
    if (requested) process.exit(exitStatus.unknown)
    requested = true
    process.stderr.write(
      '\nhavirt: the step under way is finished first; Ctrl-C again leaves at once, and the next command sees what was left\n',
    )
  }
  process.on('SIGINT', hear)
  process.on('SIGTERM', hear)
  return {
    onInterrupt: handler => {
      handlers.push(handler)
      return () => {
        handlers.splice(handlers.indexOf(handler), 1)
      }
    },
    confirmAbort,
    requested: () => requested,
  }
}

async function confirmAbort(question: string, moot: AbortSignal): Promise<boolean> {
  if (!isSomebodyThere()) return true
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question(`\n${question} [y/N] `, { signal: moot })).trim())
  } catch {
    process.stderr.write('it has ended by itself\n')
    return false
  } finally {
    terminal.close()
  }
}

/** Has the person at the terminal type a line; undefined after Ctrl-C or Ctrl-D. */
export function askPerson(question: string): Promise<string | undefined> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  return new Promise(resolve => {
    terminal.on('SIGINT', () => terminal.close())
    terminal.on('close', () => resolve(undefined))
    void terminal.question(`${question} `).then(answer => {
      resolve(answer.trim())
      terminal.close()
    })
  })
}

/** True when there is somebody to ask. */
export function isSomebodyThere(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true
}
