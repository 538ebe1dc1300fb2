/** The benchmarks' own labs: three nodes, or one with Pacemaker; brought up when first needed and taken down at the end. */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { type ProcessPlan, type TakenInTurn, TIMER } from './timed-processes.ts'
import type { Samples, TimingPlan } from './timing.ts'

const NAME = 'bench'
const PACEMAKER_NAME = 'benchocf'
const OUTPUT_BYTES = 16 * 1024 * 1024
/** The repository's build as the nodes see it; also havirt's home there. */
const HOME = '/media/shared/havirt'

export class Lab {
  readonly #bench: Bench
  readonly #name: string

  private constructor(bench: Bench, name: string) {
    this.#bench = bench
    this.#name = name
  }

  static #up: Promise<Lab> | undefined

  /** The lab, with its nodes recorded and havirt's masters warm on node1. */
  static use(bench: Bench): Promise<Lab> {
    Lab.#up ??= Lab.#withRecords(bench)
    return Lab.#up
  }

  /** A lab of its own with one node, which is a cluster of Pacemaker's and none of havirt's. */
  static withPacemaker(bench: Bench): Promise<Lab> {
    return Lab.#bringUp(bench, PACEMAKER_NAME, '--nodes', '1', '--pacemaker')
  }

  static async #withRecords(bench: Bench): Promise<Lab> {
    const lab = await Lab.#bringUp(bench, NAME, '--nodes', '3')
    await lab.on('node1', 'havirt node update node1 node2 node3 && havirt node scan')
    return lab
  }

  static async #bringUp(bench: Bench, name: string, ...options: string[]): Promise<Lab> {
    const lab = new Lab(bench, name)
    bench.atEnd(() => {
      spawnSync(lab.#program, ['--name', name, 'down'], { stdio: ['ignore', 'ignore', 'inherit'] })
    })
    // One that a kill left behind would bring its state along.
    await lab.command('down')
    await lab.command('up', ...options)
    return lab
  }

  /** The node that bin/havirt runs there. */
  get node(): string {
    return existsSync(join(this.#bench.root, '.tools/node/bin/node')) ? `${HOME}/.tools/node/bin/node` : 'node'
  }

  get #program(): string {
    return join(this.#bench.root, 'lab/lab')
  }

  /** Runs the lab's own command and gives back what it printed. */
  command(...args: string[]): Promise<string> {
    return this.#run(args)
  }

  /** Runs a line in a node's shell. */
  on(node: string, line: string, stdin = ''): Promise<string> {
    return this.#run(['exec', node, 'sh', '-c', line], stdin)
  }

  /** Times commands on node1. */
  async time(plan: TimingPlan): Promise<Samples> {
    const timer = await readFile(join(this.#bench.programs, 'timer.mjs'), 'utf8')
    const program = ['exec', 'node1', this.node, '--input-type=module', '-', JSON.stringify(plan)]
    return JSON.parse(await this.#run(program, timer))
  }

  /** Times processes and all that they start, on node1. */
  async account(plan: ProcessPlan): Promise<TakenInTurn> {
    return JSON.parse(await this.#run(['exec', 'node1', 'python3', '-c', TIMER], JSON.stringify(plan)))
  }

  #run(args: readonly string[], stdin = ''): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = { maxBuffer: OUTPUT_BYTES }
      const child = execFile(this.#program, ['--name', this.#name, ...args], options, (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(new Error(`lab ${args[0]}: ${stderr.trim() || error.message}`))
      })
      child.stdin?.on('error', () => undefined)
      child.stdin?.end(stdin)
    })
  }
}

/** ssh through havirt's own master for a node. */
export function throughMaster(node: string, line: string): string {
  return `ssh -S /run/havirt/ssh/${node}/current/c ${node} '${line}'`
}

/** The file of a domain's one definition, as node1 sees it. */
export function definitionFile(domain: string): string {
  return `${HOME}/conf/${domain}.xml`
}
