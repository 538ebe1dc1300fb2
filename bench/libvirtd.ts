/** Observing one real libvirtd that has 1,000 running domains: list, state and XML of each, against virsh. */
import { execFile } from 'node:child_process'
import { openConnection, procedures, unixSocket } from '../src/libvirt/index.ts'
import { type PrivateLibvirtd, startLibvirtd, whyNoLibvirtd } from '../test/libvirt/libvirtd.ts'
import type { Bench, Benchmark } from './bench.ts'
import { guestXml } from './guest-xml.ts'
import { Program, programFile } from './program.ts'
import { median, timeOnce } from './timing.ts'

const DOMAINS = 1000
const ROUNDS = 11
const WARM_UPS = 3
const URI = 'test:///default'
const MEMORY_LIMIT_MB = 150
const TIMEOUT_MS = 60_000

export const libvirtd: Benchmark = async function* (bench) {
  const reason = whyNoLibvirtd()
  if (reason !== undefined) throw new Error(`no private libvirtd: ${reason}`)
  const daemon = await startLibvirtd()
  bench.atEnd(() => daemon.stop())
  const names = await populate(daemon)
  const virsh = ['virsh', '-r', '-c', `test+unix:///default?socket=${daemon.readOnlySocket}`]
  const domstats = [...virsh, 'domstats']
  // The same facts by virsh, in one process: list, states and every XML.
  const everything = [...virsh, ['list --all', 'domstats --state', ...names.map(name => `dumpxml ${name}`)].join('; ')]

  // One process with one connection that looks again and again, as `havirt serve` does.
  const running = await Program.start(bench, 'observe', daemon.folder, String(DOMAINS))
  const times = {
    process: [] as number[],
    running: [] as number[],
    domstats: [] as number[],
    everything: [] as number[],
  }
  let peakMb = 0
  for (let round = -WARM_UPS; round < ROUNDS; round++) {
    const whole = await wholeProcess(bench, daemon)
    const sample = {
      process: whole.ms,
      running: Number(await running.ask('look')),
      domstats: await timeOnce({ argv: domstats }),
      everything: await timeOnce({ argv: everything }),
    }
    if (round < 0) continue
    peakMb = Math.max(peakMb, whole.peakMb)
    for (const key of ['process', 'running', 'domstats', 'everything'] as const) times[key].push(sample[key])
  }
  running.stop()
  const half = { kind: 'ratio', limit: 0.5 } as const
  const inProcess = { unit: 'ms', ours: median(times.process) } as const
  const inRunning = { unit: 'ms', ours: median(times.running) } as const
  yield {
    name: '1,000 domains, whole process / virsh domstats',
    ...inProcess,
    theirs: median(times.domstats),
    bar: half,
  }
  yield {
    name: '1,000 domains, open connection / virsh domstats',
    ...inRunning,
    theirs: median(times.domstats),
    bar: half,
  }
  yield {
    name: '1,000 domains, whole process / one virsh: list, domstats, dumpxml',
    ...inProcess,
    theirs: median(times.everything),
  }
  yield {
    name: '1,000 domains, open connection / one virsh: list, domstats, dumpxml',
    ...inRunning,
    theirs: median(times.everything),
  }
  yield {
    name: '1,000 domains, peak resident memory',
    unit: 'MB',
    ours: peakMb,
    bar: { kind: 'value', limit: MEMORY_LIMIT_MB },
  }
}

/** Defines and starts the domains. The connection stays open until the daemon ends: with the last one, the test driver forgets all. */
async function populate(daemon: PrivateLibvirtd): Promise<string[]> {
  const options = { uri: URI, access: 'readWrite', timeoutMs: TIMEOUT_MS } as const
  const connection = await openConnection(unixSocket(daemon.socket), options)
  // The test driver has one domain from the beginning.
  const names = ['test']
  for (let id = 2; id <= DOMAINS; id++) {
    const xml = guestXml('test', `vm${id}`, id)
    const { domain } = await connection.call(procedures.domainDefineXMLFlags, { xml, flags: 0 })
    await connection.call(procedures.domainCreateWithFlags, { domain, flags: 0 })
    names.push(domain.name)
  }
  return names
}

/** One observation as a process of its own: start, connect, look, exit. */
async function wholeProcess(bench: Bench, daemon: PrivateLibvirtd): Promise<{ ms: number; peakMb: number }> {
  const argv = [programFile(bench, 'observe'), daemon.folder, String(DOMAINS)]
  const began = performance.now()
  return new Promise((resolve, reject) => {
    execFile(bench.node, argv, (error, stdout) => {
      if (error !== null) reject(error)
      else resolve({ ms: performance.now() - began, peakMb: Number(stdout) })
    })
  })
}
