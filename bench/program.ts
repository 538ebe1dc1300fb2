/** A bundled program as a child process that is asked one thing at a time; it ends with us. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Bench } from './bench.ts'

export class Program {
  readonly #child: ChildProcess
  readonly #ended: Promise<never>

  private constructor(child: ChildProcess, name: string) {
    this.#child = child
    this.#ended = once(child, 'exit').then(() => {
      throw new Error(`${name} ended`)
    })
    this.#ended.catch(() => undefined)
  }

  /** Resolves when the program says 'ready'. */
  static async start(bench: Bench, name: string, ...args: string[]): Promise<Program> {
    const child = fork(programFile(bench, name), args, { execPath: bench.node })
    const program = new Program(child, name)
    bench.atEnd(() => program.stop())
    await program.#message()
    return program
  }

  async ask(question: unknown): Promise<unknown> {
    this.#child.send(question as string)
    return this.#message()
  }

  stop(): void {
    this.#child.kill()
  }

  async #message(): Promise<unknown> {
    const [message] = await Promise.race([once(this.#child, 'message'), this.#ended])
    return message
  }
}

export function programFile({ programs }: Bench, name: string): string {
  return join(programs, `${name}.mjs`)
}
