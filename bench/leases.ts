/** Leases: what many of them cost havirt itself, beside sanlock's own program on the same files. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NodeRecord } from '../src/core/node.ts'
import { REMOVE_SCRIPT } from '../src/nodes/lease-folder.ts'
import { LEASES_SCRIPT } from '../src/nodes/leases.ts'
import { openHome } from '../src/store/home.ts'
import type { Bench, Benchmark } from './bench.ts'
import type { Figure } from './figure.ts'
import { Lab } from './lab.ts'
import { guestsOf, type LeaseShape, nodeName, writeAnswers } from './lease-answers.ts'
import { programFile } from './program.ts'
import type { LeaseCost } from './programs/leases.ts'
import { median, of } from './timing.ts'

/** 1,000 disks, and 20 leases a node. */
const SHAPE: LeaseShape = { nodes: 50, domainsPerNode: 10, unused: 0 }
const DISKS = 1000
const FEW = 1000
const MANY = 10_000
const ROUNDS = 7
const SCRIPT_ROUNDS = 5
/** So many are dumped, and the time is scaled: all of 10,000 would take minutes. */
const DUMPED = 50
const REMOVED = 200
const REMOVE_ROUNDS = 3
const MS_PER_S = 1000
const SHARED = '/media/leases'
const SETTINGS = '/etc/libvirt/qemu-sanlock.conf'

export const leases: Benchmark = async function* (bench) {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-bench-leases-'))
  bench.atEnd(() => rm(folder, { recursive: true, force: true }))
  yield* status(bench, folder)
  yield* cleanup(bench, folder)
  if (process.getuid?.() !== 0) {
    process.stderr.write('bench: leases on real files need root and the lab: not measured\n')
    return
  }
  const lab = await Lab.use(bench)
  const writer = await readFile(programFile(bench, 'lease-files'), 'utf8')
  const write = (where: string, count: number) =>
    lab.on('node1', `${lab.node} --input-type=module - ${where} ${count}`, writer)
  for (const count of [FEW, MANY]) yield await reading(lab, write, count)
  yield await removing(lab, write)
}

type Write = (where: string, count: number) => Promise<string>

// ---- nodes that answer from files ---------------------------------------------------------------------------------------

async function* status(bench: Bench, folder: string): AsyncGenerator<Figure> {
  const home = await aHome(join(folder, 'status'), SHAPE)
  const costs = await costsOf(bench, 'status', home, SHAPE)
  const about = `lease status, ${inWords(DISKS)} disks on ${SHAPE.nodes} nodes`
  yield {
    name: about,
    unit: 's',
    ours: median(costs.map(({ ms }) => ms)) / MS_PER_S,
    bar: { kind: 'value', limit: 1 },
  }
  yield {
    name: `${about}: commands / nodes`,
    unit: 'of',
    ours: Math.max(...costs.map(({ asked }) => asked)),
    theirs: SHAPE.nodes,
    bar: { kind: 'ratio', limit: 1 },
  }
}

async function* cleanup(bench: Bench, folder: string): AsyncGenerator<Figure> {
  const costs = new Map<number, LeaseCost[]>()
  for (const unused of [FEW, MANY]) {
    const shape = { ...SHAPE, unused }
    const home = await aHome(join(folder, `cleanup${unused}`), shape)
    costs.set(unused, await costsOf(bench, 'cleanup', home, shape))
  }
  const [few = [], many = []] = [costs.get(FEW), costs.get(MANY)]
  yield {
    name: `lease cleanup planned, ${inWords(MANY)} unused files`,
    unit: 's',
    ours: median(many.map(({ ms }) => ms)) / MS_PER_S,
    bar: { kind: 'value', limit: 5 },
  }
  yield {
    name: `lease cleanup planned, peak resident memory: ${inWords(MANY)} files / ${inWords(FEW)}`,
    unit: 'MB',
    ours: median(many.map(({ peakMB }) => peakMB)),
    theirs: median(few.map(({ peakMB }) => peakMB)),
    bar: { kind: 'ratio', limit: 1.25 },
  }
}

/** A home folder with the nodes, the definitions of all that runs there, and each node's answer. */
async function aHome(path: string, shape: LeaseShape): Promise<string> {
  mkdirSync(path)
  const home = await openHome(path, {})
  for (let at = 0; at < shape.nodes; at++) {
    await home.records.writeNode(recordOf(nodeName(at)))
    for (const { name, xml } of guestsOf(shape, at)) writeFileSync(join(path, 'conf', `${name}.xml`), xml)
  }
  await writeAnswers(shape, join(path, 'answers'))
  return path
}

function recordOf(name: string): NodeRecord {
  const text = {
    cpuModel: 'EPYC',
    libvirtVersion: '9.0.0',
    hypervisorVersion: '7.2.0',
    updated: '2026-01-01T00:00:00Z',
  }
  const numbers = { cpus: 64, memoryMiB: 262_144, sockets: 1, coresPerSocket: 32, threadsPerCore: 2, mhz: 2000 }
  return { name, id: `id-of-${name}`, hostUuid: `host-${name}`, hostname: name, ...text, ...numbers }
}

/** Each in a process of its own, as a person runs it; the first one does not count. */
async function costsOf(bench: Bench, verb: string, home: string, shape: LeaseShape): Promise<LeaseCost[]> {
  const costs: LeaseCost[] = []
  const costFile = join(home, 'cost.json')
  for (let round = -1; round < ROUNDS; round++) {
    const argv = [programFile(bench, 'leases'), verb, home, JSON.stringify(shape), costFile]
    execFileSync(bench.node, argv, { stdio: 'ignore' })
    if (round >= 0) costs.push(JSON.parse(await readFile(costFile, 'utf8')))
  }
  return costs
}

// ---- real files ---------------------------------------------------------------------------------------------------------

/** The script that a node is sent, reading every lease of a folder; and sanlock's own program, which is told one file at a time. */
async function reading(lab: Lab, write: Write, count: number): Promise<Figure> {
  const folder = `${SHARED}/bench${count}`
  await write(folder, count)
  await lab.on('node1', `cp ${SETTINGS} /tmp/kept && echo 'disk_lease_dir = "${folder}"' >>${SETTINGS}`)
  const read = ['sh', '-c', LEASES_SCRIPT, 'havirt', 'hosts', 'files=*']
  const answer = await lab.on('node1', `${shellWords(read)} | grep -c '^file'`)
  if (Number(answer) !== count) throw new Error(`the script listed ${answer.trim()} of ${count} leases`)
  const dump = `for file in $(ls ${folder} | head -n ${DUMPED}); do sanlock direct dump ${folder}/$file || exit; done`
  const samples = await lab.time({
    rounds: SCRIPT_ROUNDS,
    commands: { read: { argv: read }, dump: { argv: ['sh', '-c', dump] } },
  })
  await lab.on('node1', `mv /tmp/kept ${SETTINGS} && rm -r ${folder}`)
  return {
    name: `reading ${inWords(count)} leases by one script / sanlock direct dump of each`,
    unit: 's',
    ours: median(of(samples, 'read')) / MS_PER_S,
    theirs: (median(of(samples, 'dump')) * (count / DUMPED)) / MS_PER_S,
  }
}

/** What `lease cleanup` sends, against nothing but the command in a loop; real sanlock, and as many files for each. */
async function removing(lab: Lab, write: Write): Promise<Figure> {
  await lab.on('node1', `havirt -q -y lease enable sanlock node1 --dir ${SHARED} --io-timeout 2`)
  const one = `sanlock client command -r "__LIBVIRT__DISKS__:$name:${SHARED}/$name:0" -c /bin/rm -f "${SHARED}/$name"`
  const ours = ['sh', '-c', 'sh -c "$1" havirt "$2" <"$3"', 'sh', REMOVE_SCRIPT, SHARED, '/tmp/ours']
  const theirs = ['sh', '-c', `while IFS= read -r name; do ${one}; done </tmp/theirs`]
  const ms = { ours: [] as number[], theirs: [] as number[] }
  for (let round = -1; round < REMOVE_ROUNDS; round++) {
    await write(SHARED, 2 * REMOVED)
    const names = `ls ${SHARED} | grep -xE '[0-9a-f]{32}'`
    await lab.on('node1', `${names} | head -n ${REMOVED} >/tmp/ours; ${names} | tail -n ${REMOVED} >/tmp/theirs`)
    const commands = { ours: { argv: ours }, theirs: { argv: theirs } }
    const samples = await lab.time({ rounds: 1, warmUps: 0, commands })
    const left = Number(await lab.on('node1', `${names} | wc -l`))
    if (left !== 0) throw new Error(`${left} of ${2 * REMOVED} leases were not removed`)
    if (round >= 0) for (const key of ['ours', 'theirs'] as const) ms[key].push(...of(samples, key))
  }
  await lab.on('node1', 'havirt -q -y lease disable node1')
  return {
    name: `lease cleanup, removing ${REMOVED} files / sanlock's command alone in a loop`,
    unit: 's',
    ours: median(ms.ours) / MS_PER_S,
    theirs: median(ms.theirs) / MS_PER_S,
    // At least 0.8 of its rate.
    bar: { kind: 'ratio', limit: 1 / 0.8 },
  }
}

/** 10,000, as the documents write it. */
function inWords(count: number): string {
  return count.toLocaleString('en')
}

function shellWords(words: readonly string[]): string {
  return words.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
}
