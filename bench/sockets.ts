/** Observing many nodes at once: what one costs in CPU of ours, when there are 10, 100 or 500. Servers run elsewhere. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Benchmark } from './bench.ts'
import { Program } from './program.ts'
import type { Cost } from './programs/many.ts'
import { median } from './timing.ts'

const SIZES = [10, 100, 500]
const ROUNDS = 5
/** So many nodes are observed per sample, at every size, so that all samples are equally long. */
const OBSERVED = 500
const US_PER_MS = 1000

export const sockets: Benchmark = async function* (bench) {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-bench-sockets-'))
  bench.atEnd(() => rm(folder, { recursive: true, force: true }))
  const largest = Math.max(...SIZES)
  const server = await Program.start(bench, 'server', folder, String(largest))
  const observer = await Program.start(bench, 'many', folder)
  const costs = new Map<number, Cost[]>(SIZES.map(size => [size, []]))
  for (let round = -1; round < ROUNDS; round++) {
    for (const size of SIZES) {
      const cost = (await observer.ask({ nodes: size, times: OBSERVED / size })) as Cost
      if (round >= 0) costs.get(size)?.push(cost)
    }
  }
  for (const program of [observer, server]) program.stop()
  const cpu = (size: number) => median((costs.get(size) ?? []).map(({ cpuMs }) => cpuMs)) / size
  const base = cpu(SIZES[0] ?? 0)
  for (const size of SIZES) {
    const wall = median((costs.get(size) ?? []).map(({ wallMs }) => wallMs))
    yield {
      name: `${size} nodes of 50 domains at once: CPU per node / at ${SIZES[0]} (wall ${Math.round(wall)} ms)`,
      unit: 'us',
      ours: cpu(size) * US_PER_MS,
      theirs: base * US_PER_MS,
      bar: { kind: 'ratio', limit: 1.5 },
    }
  }
}
