/** The only place that starts processes. Arguments are always a list; no shell of this machine reads them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { Duplex } from 'node:stream'

/** How a process ended. `timedOut`: we killed it at its deadline, so what it did is unknown. */
export interface Exit {
  /** Exit status; undefined when a signal ended it or it never started. */
  readonly status: number | undefined
  readonly signal: string | undefined
  readonly stdout: string
  readonly stderr: string
  readonly timedOut: boolean
}

export interface RunOptions {
  readonly stdin?: string | undefined
  /** A file that is its standard input instead. */
  readonly stdinFile?: string | undefined
  readonly timeoutMs: number
  /** Ends the process early. What it did is unknown then, too. */
  readonly abort?: AbortSignal | undefined
  /**
   * Whose fate it shares: `own` (usual) lives on when our process group is ended, `ours` ends with it; `whole` is ended together with
   * all that it started.
   */
  readonly group?: 'own' | 'ours' | 'whole'
  /** Output beyond this is dropped; {@link MAX_OUTPUT_BYTES} unless said otherwise. */
  readonly maxOutputBytes?: number
  readonly environment?: NodeJS.ProcessEnv
}

/** Output beyond this is cut off: a node that prints without end must not fill our memory. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024
const GRACE_MS = 500

/** Runs a program to its end. Never rejects: a program that cannot be started has no status and says why in stderr. */
export function run(file: string, args: readonly string[], options: RunOptions): Promise<Exit> {
  return new Promise(resolve => {
    let child: ChildProcess
    try {
      child = start(file, args, options)
    } catch (error) {
      // Some reasons are thrown instead of told: an argument that is too long, or holds a zero byte.
      return resolve(neverStarted(error))
    }
    const stdout = collect(child.stdout, options.maxOutputBytes)
    const stderr = collect(child.stderr, options.maxOutputBytes)
    const deadline = new Deadline(child, options, () => finish(null, 'SIGKILL'))
    const finish = (status: number | null, signal: string | null, problem = '') => {
      deadline.clear()
      resolve({
        status: status ?? undefined,
        signal: signal ?? undefined,
        stdout: stdout(),
        stderr: stderr() + problem,
        timedOut: deadline.passed,
      })
    }
    child.on('error', error => finish(null, null, error.message))
    child.on('close', finish)
    // A program that ends without reading its input is no error of ours.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.stdin ?? '')
  })
}

function neverStarted(error: unknown): Exit {
  const stderr = error instanceof Error ? error.message : String(error)
  return { status: undefined, signal: undefined, stdout: '', stderr, timedOut: false }
}

/** Starts a program that nobody waits for, and whose failure is nobody's. */
export function leave(file: string, args: readonly string[]): void {
  const child = spawn(file, args, { stdio: 'ignore', detached: true })
  child.on('error', () => undefined)
  child.unref()
}

/**
 * Starts a program whose input and output are one stream, as for `virt-ssh-helper`.
 * When it ends with another status than 0, the stream ends with an error in the program's last words.
 */
export function pipe(file: string, args: readonly string[]): Duplex {
  const child = start(file, args, {})
  const said = collect(child.stderr)
  const stream = new Duplex({
    read: () => child.stdout?.resume(),
    write: (chunk, _, done) => void child.stdin?.write(chunk, () => done()),
    final: done => void child.stdin?.end(done),
    destroy: (error, done) => {
      child.kill('SIGTERM')
      done(error)
    },
  })
  child.stdin?.on('error', () => undefined)
  child.stdout?.on('data', chunk => stream.push(chunk) || child.stdout?.pause())
  child.on('error', error => stream.destroy(error))
  child.on('close', status => {
    const words = said().trim().split('\n').at(-1)
    if (status === 0) stream.push(null)
    else stream.destroy(new Error(words || `${file} ended with status ${status}`))
  })
  return stream
}

/** In a session of its own, so that Ctrl-C on the terminal reaches havirt alone, which decides what to do about it. */
function start(
  file: string,
  args: readonly string[],
  { group = 'own', environment, stdinFile }: Pick<RunOptions, 'group' | 'environment' | 'stdinFile'>,
): ChildProcess {
  const env = environment === undefined ? {} : { env: environment }
  const input = stdinFile === undefined ? 'pipe' : openSync(stdinFile, 'r')
  try {
    return spawn(file, args, { stdio: [input, 'pipe', 'pipe'], detached: group !== 'ours', ...env })
  } finally {
    if (typeof input === 'number') closeSync(input)
  }
}

function collect(stream: NodeJS.ReadableStream | null, maxBytes = MAX_OUTPUT_BYTES): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream?.on('data', (chunk: Buffer) => {
    if (size < maxBytes) chunks.push(chunk)
    size += chunk.length
  })
  return () => Buffer.concat(chunks).toString('utf8')
}

/**
 * Ends a child at its deadline or when its caller gives up: first politely, then for certain. Unless it goes as a whole, what the
 * child started is left alone, as it would be at the other end of ssh: a command behind the guard must keep its lock for as long as it runs (rule 12).
 */
class Deadline {
  passed = false
  #grace: NodeJS.Timeout | undefined
  readonly #child: ChildProcess
  readonly #timer: NodeJS.Timeout
  readonly #abort: AbortSignal | undefined
  readonly #onAbort = () => this.#end()
  readonly #whole: boolean
  readonly #giveUp: () => void

  constructor(child: ChildProcess, { timeoutMs, abort, group }: RunOptions, giveUp: () => void) {
    this.#giveUp = giveUp
    this.#child = child
    this.#whole = group === 'whole'
    this.#abort = abort
    this.#timer = setTimeout(() => this.#end(), timeoutMs)
    if (abort?.aborted) this.#end()
    else abort?.addEventListener('abort', this.#onAbort, { once: true })
  }

  clear(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#grace)
    this.#abort?.removeEventListener('abort', this.#onAbort)
  }

  #end(): void {
    this.passed = true
    this.#kill('SIGTERM')
    this.#grace = setTimeout(() => {
      this.#kill('SIGKILL')
      // What was left alone holds the output open, and we would wait for it.
      this.#child.stdout?.destroy()
      this.#child.stderr?.destroy()
      // One that waits for storage that is gone cannot even be killed.
      this.#grace = setTimeout(() => {
        this.#child.unref()
        this.#giveUp()
      }, GRACE_MS)
    }, GRACE_MS)
  }

  #kill(signal: NodeJS.Signals): void {
    const { pid } = this.#child
    if (!this.#whole || pid === undefined) this.#child.kill(signal)
    else
      try {
        process.kill(-pid, signal)
      } catch {
        // Nobody of the group is left.
      }
  }
}
