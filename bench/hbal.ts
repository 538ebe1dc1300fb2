/** Ganeti's hbal on a layout: its text format, and what it made of it. The format is that of `hspace --save-cluster`. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Layout, Places } from '../src/core/balance/layout.ts'
import type { Bench } from './bench.ts'

const PACKAGE = 'ganeti-htools'
const OUTPUT_BYTES = 256 * 1024 * 1024

/** What hbal says of a cluster. */
export interface HbalResult {
  /** Its own score, before and after. */
  readonly before: number
  readonly after: number
  /** Where it put everything. */
  readonly places: Places
  readonly ms: number
}

export class Hbal {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Debian's package, which is installed if it is not there. */
  static async use(bench: Bench): Promise<Hbal> {
    if (spawnSync('hbal', ['--version']).status !== 0) {
      const { status } = spawnSync('apt-get', ['install', '-y', '--no-install-recommends', PACKAGE], {
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      })
      if (status !== 0)
        throw new Error(`${PACKAGE} is not there and could not be installed: apt-get install ${PACKAGE}`)
    }
    const folder = await mkdtemp(join(tmpdir(), 'havirt-bench-hbal-'))
    bench.atEnd(() => rm(folder, { recursive: true, force: true }))
    return new Hbal(folder)
  }

  /** Balances, or with `offline` empties a node. Undefined when it did not end within `timeoutMs`. */
  async run(
    layout: Layout,
    places: Places,
    args: readonly string[] = [],
    timeoutMs?: number,
  ): Promise<HbalResult | undefined> {
    const input = join(this.#folder, 'cluster')
    const output = join(this.#folder, 'after')
    await writeFile(input, textOf(layout, places))
    const began = performance.now()
    const said = await stdoutOf(['-t', input, '--ignore-dynu', '-S', output, ...args], timeoutMs)
    if (said === undefined) return undefined
    const ms = performance.now() - began
    const before = Number(/^Initial score: ([\d.e-]+)/m.exec(said)?.[1])
    const after = Number(/^Cluster score improved from \S+ to ([\d.e-]+)/m.exec(said)?.[1] ?? before)
    const saved = await readFile(`${output}.balanced`, 'utf8').catch(() => '')
    return { before, after, places: placesOf(layout, saved), ms }
  }

  /** Its score of an arrangement. */
  async score(layout: Layout, places: Places): Promise<number> {
    const result = await this.run(layout, places, ['--max-length=0'])
    if (result === undefined || !Number.isFinite(result.before)) throw new Error('hbal gave no score')
    return result.before
  }
}

function stdoutOf(args: readonly string[], timeoutMs?: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: OUTPUT_BYTES, ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }) }
    execFile('hbal', [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else if (error.killed === true) resolve(undefined)
      else reject(new Error(`hbal: ${stderr.trim() || stdout.trim() || error.message}`))
    })
  })
}

/** One group, all nodes and instances on shared storage (`ext`), and a policy that forbids nothing. */
function textOf({ nodes, items }: Layout, places: Places): string {
  const used = new Map<number, number>()
  for (const [index, { needs }] of items.entries()) {
    const at = places[index] ?? 0
    used.set(at, (used.get(at) ?? 0) + needs.memoryMiB)
  }
  const node = ({ name, size: { memoryMiB, vcpus } }: Layout['nodes'][number], at: number) =>
    `${name}|${memoryMiB}|0|${memoryMiB - (used.get(at) ?? 0)}|100000|100000|${vcpus}|N|group|1||N|0|1|1.0`
  const instance = ({ domains: [name], needs }: Layout['items'][number], index: number) =>
    `${name}|${needs.memoryMiB}|1024|${needs.vcpus}|running|Y|${nodes[places[index] ?? 0]?.name}||ext||1|1|N`
  const policy = '|128,1,1024,1,1,1|128,1,1024,1,1,1;1048576,128,1048576,16,8,12|ext|64.0|32.0'
  return ['all|group|preferred||', '', ...nodes.map(node), '', ...items.map(instance), '', '', policy, ''].join('\n')
}

function placesOf({ nodes, items }: Layout, saved: string): Places {
  const byName = new Map(nodes.map(({ name }, at) => [name, at]))
  const lines = saved.split('\n').map(line => line.split('|'))
  const where = new Map(lines.filter(fields => fields.length > 10).map(fields => [fields[0], fields[6] ?? '']))
  return Int32Array.from(items, ({ domains: [name], node }) => byName.get(where.get(name) ?? '') ?? node)
}
