/** Operations that write down that a node is down, by its fence device or a person's word. */
import { type FenceAction, type FenceDevice, fenceDeviceOf, fenceLine, fenceStatus } from '../core/fence.ts'
import { type Down, downText, type Ledger } from '../core/ledger.ts'
import type { NodeRecord } from '../core/node.ts'
import { type Refusal, refuse } from '../core/refusal.ts'
import { fenceWords } from '../nodes/fence.ts'
import type { Reached } from '../nodes/nodes.ts'
import type { Exit } from '../nodes/process.ts'
import { hereAmong } from '../observe.ts'
import type { Parts } from '../operate.ts'
import { exitStatus, failure, type Message, note, type Report, refusedReport, warning } from '../report.ts'
import { mark, oneLine, REASON, recording } from './marks.ts'
import { type Input, type Operation, requiredWord } from './operation.ts'

const NODE = { name: 'NODE', help: 'the node', required: true, complete: 'node' } as const
const DESPITE = {
  flags: '--despite-autostart',
  help: 'it cannot boot unattended: what autostarts there may be started elsewhere, too',
} as const

export const nodeDownOperations: readonly Operation[] = [
  {
    name: 'node fence',
    summary: "cut a silent node's power, and record that it is down",
    description:
      'Runs the fence agent that fence.devices names for the node: off, and then its status must say off. Refused while the node answers, and while any other node gets an answer of any kind from it. Its domains may then be started elsewhere. It holds until the node answers again.',
    args: [NODE],
    options: [REASON, DESPITE],
    changes: true,
    examples: ['havirt node fence node3', 'havirt -y node fence node3 --reason storm'],
    run: fenceNode,
  },
  {
    name: 'node confirm-down',
    summary: 'vouch that a silent node is off',
    description:
      "Records that you have seen that the node is off: its domains may then be started elsewhere, and a domain runs twice if you are wrong. Refused while the node answers, and while any other node gets an answer of any kind from it. The node's name is to be typed once more, on the terminal or behind --confirm. It holds until the node answers again, or until --cancel.",
    args: [NODE],
    options: [
      REASON,
      DESPITE,
      { flags: '--confirm NODE', help: "the node's name once more, where nobody can be asked" },
      { flags: '--cancel', help: 'take it back: the node may be running anything again' },
    ],
    changes: true,
    examples: [
      'havirt -y node confirm-down node3 --reason burnt',
      'havirt -y node confirm-down node3 --confirm node3',
      'havirt -y node confirm-down --cancel node3',
    ],
    run: (parts, input) => (input.options['cancel'] === true ? cancelDown(parts, input) : confirmDown(parts, input)),
  },
]

/** A node that no answer came from: who tried, and what is to be said of that. */
interface Silence {
  readonly lines: readonly string[]
  readonly warnings: readonly Message[]
}

type Records = ReadonlyMap<string, NodeRecord>

async function fenceNode(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const record = records.get(requiredWord(input, 'NODE'))
  if (record === undefined) return unknown(input, records)
  const device = fenceDeviceOf(parts.home.config, record.name)
  if (device === undefined) return refusedReport([refuse('noFenceDevice', { node: record.name })])
  const silence = await silenceOf(parts, records, record)
  if ('reason' in silence) return refusedReport([silence])
  if (!input.mode.act) return { ...shown(silence, [...fenceScript(device), recording(record.name, 'down')]) }
  const problem = await cutPower(parts, device)
  if (problem !== undefined) return { ...problem, messages: [...silence.warnings, ...problem.messages] }
  return recordDown(parts, input, record.name, 'fence', silence)
}

async function confirmDown(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const record = records.get(requiredWord(input, 'NODE'))
  if (record === undefined) return unknown(input, records)
  const { down } = await parts.home.records.ledger(record.name)
  const isMore = input.options['despiteAutostart'] === true && down?.autostarts !== undefined
  if (down !== undefined && !isMore && (await answerOf(parts, record)) === undefined)
    return done([note(`nothing to do: ${record.name} is down already, ${downText(down)}`)])
  const unconfirmed = input.mode.act ? confirmationProblem(input, record.name) : undefined
  if (unconfirmed !== undefined) return unconfirmed
  const silence = await silenceOf(parts, records, record)
  if ('reason' in silence) return refusedReport([silence])
  if (!input.mode.act) return shown(silence, [recording(record.name, 'down')])
  return confirmedBy(parts, input, records, record, silence)
}

/** What was not typed along is asked for now; that takes a person a while, so that the node is tried once more behind it. */
async function confirmedBy(
  parts: Parts,
  input: Input,
  records: Records,
  record: NodeRecord,
  before: Silence,
): Promise<Report> {
  const { name } = record
  if (input.options['confirm'] !== undefined) return recordDown(parts, input, name, 'word', before)
  const heard = [...before.lines, `If ${name} is not off, domains will run twice. Type its name if you are certain:`]
  const typed = await input.ask?.(heard.join('\n'))
  if (typed !== name)
    return failed(exitStatus.refused, `${name} was not confirmed: its name was not typed`, 'nothing was recorded')
  const after = await silenceOf(parts, records, record)
  return 'reason' in after ? refusedReport([after]) : recordDown(parts, input, name, 'word', after)
}

function confirmationProblem({ options, ask }: Input, name: string): Report | undefined {
  const confirm = options['confirm']
  if (confirm === undefined && ask === undefined)
    return failed(exitStatus.usage, `there is nobody to ask for the name of ${name}`, `add: --confirm ${name}`)
  if (confirm === undefined || confirm === name) return undefined
  return failed(exitStatus.usage, `--confirm names ${confirm}, and the node is ${name}`, 'give the same name twice')
}

async function cancelDown(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const name = requiredWord(input, 'NODE')
  if (!records.has(name)) return unknown(input, records)
  const { down } = await parts.home.records.ledger(name)
  if (down === undefined) return done([note(`nothing to do: ${name} is not confirmed down`)])
  if (!input.mode.act) return { exit: exitStatus.done, script: [recording(name, 'no longer down')], messages: [] }
  await parts.home.records.changeLedger(name, withoutDown)
  return done([
    note(`${name} is no longer confirmed down (${downText(down)}); until it answers, it may be running anything`),
  ])
}

// ---- is it silent? ---------------------------------------------------------------------------------------------------

/** The node is asked itself, and tried through every other node and from here: one answer of any kind is enough to refuse. */
async function silenceOf(parts: Parts, records: Records, record: NodeRecord): Promise<Silence | Refusal> {
  const bar = parts.progress.begin(`trying ${record.name} from everywhere`)
  try {
    const answer = isHere(parts, record) ?? (await answerOf(parts, record))
    if (answer !== undefined) return answer
    const tried = await tries(parts, records, record)
    const heard = tried.find(({ reached }) => reached.verdict === 'answers')
    if (heard === undefined) return silence(record.name, tried)
    return refuse('nodeReached', { node: record.name, by: heard.by, said: heard.reached.said })
  } finally {
    bar.end('done')
  }
}

/** Cut off from all others, the machine that havirt runs on would look as dead to them as they to it. */
function isHere({ hereId }: Parts, { id, name }: NodeRecord): Refusal | undefined {
  return id === hereId ? refuse('nodeReached', { node: name, by: name, said: 'havirt itself runs there' }) : undefined
}

async function answerOf(parts: Parts, record: NodeRecord): Promise<Refusal | undefined> {
  const seen = (await parts.nodes.look([record])).seen.get(record.name)
  if (seen === undefined || seen.state === 'unreachable') return undefined
  return refuse('nodeAnswers', { node: record.name, state: seen.state })
}

interface Try {
  readonly by: string
  readonly reached: Reached
}

/** Nodes whose libvirt is silent try, too: their ssh may work. A machine that is no node tries beside them. */
async function tries(parts: Parts, records: Records, record: NodeRecord): Promise<Try[]> {
  const others = [...records.values()].filter(({ name }) => name !== record.name)
  const outsider = hereAmong(records, parts.hereId) === undefined ? (['this machine'] as const) : []
  return Promise.all(
    [...others, ...outsider].map(async from => ({
      by: from === 'this machine' ? from : from.name,
      reached: await parts.nodes.reaches(from, record),
    })),
  )
}

function silence(node: string, tried: readonly Try[]): Silence {
  const unable = tried.filter(({ reached }) => reached.verdict === 'unknown')
  const lines = tried.map(({ by, reached: { verdict, said } }) =>
    oneLine(verdict === 'silent' ? `${by} gets no answer from ${node}: ${said}` : `${by} cannot try ${node}: ${said}`),
  )
  const nobody = warning(
    `no other node could try whether ${node} answers`,
    'make certain by other means that it is off: its power, its console',
  )
  const some = unable.map(({ by, reached }) => warning(`${by} could not try whether ${node} answers: ${reached.said}`))
  return { lines, warnings: unable.length === tried.length ? [nobody] : some }
}

// ---- the fence device ------------------------------------------------------------------------------------------------

/** How often its status is asked, and how long in between: some devices take their time to see that the power is gone. */
const STATUS_ATTEMPTS = 10
const STATUS_REST_MS = 2000

/** Cuts the power; undefined when the device says that it is off. An `off` that failed is no matter then: it may have been off. */
async function cutPower(parts: Parts, device: FenceDevice): Promise<Report | undefined> {
  const bar = parts.progress.begin(`cutting the power of ${device.node}`)
  try {
    const off = await parts.nodes.fence(device, 'off')
    if (neverRan(off)) return stillOn(device, 'off', off)
    let status = await parts.nodes.fence(device, 'status')
    for (let attempt = 1; status.status !== fenceStatus.off && attempt < STATUS_ATTEMPTS; attempt++) {
      if (parts.interrupt.requested()) return interrupted(device)
      bar.update(0, 'waiting until its fence device says off')
      await parts.clock.sleep(STATUS_REST_MS)
      status = await parts.nodes.fence(device, 'status')
    }
    if (status.status === fenceStatus.off) return undefined
    return off.status === 0 ? stillOn(device, 'status', status) : stillOn(device, 'off', off)
  } finally {
    bar.end('done')
  }
}

function neverRan({ status, signal, timedOut }: Exit): boolean {
  return status === undefined && signal === undefined && !timedOut
}

function stillOn({ node, agent }: FenceDevice, action: FenceAction, exit: Exit): Report {
  const said = `${agent} (${action}): ${fenceWords(exit)}`
  return failed(
    exitStatus.failed,
    `${node} may still have power, and nothing was recorded; ${said}`,
    `see that its fence device answers, or cut its power by hand and say so: havirt node confirm-down ${node}`,
  )
}

function interrupted({ node }: FenceDevice): Report {
  return failed(
    exitStatus.unknown,
    `interrupted: the power of ${node} was to be cut, nobody saw that it is, and nothing was recorded`,
    `do it again: havirt -y node fence ${node}`,
  )
}

function fenceScript(device: FenceDevice): string[] {
  return [
    `# cut the power of ${device.node}, on this machine`,
    fenceLine(device, 'off'),
    '# it must say that the power is off (status 2); it is asked until it does, for 20 s',
    fenceLine(device, 'status'),
  ]
}

// ---- writing it down -------------------------------------------------------------------------------------------------

async function recordDown(
  parts: Parts,
  input: Input,
  node: string,
  how: Down['how'],
  { warnings }: Silence,
): Promise<Report> {
  const autostarts = await autostartsOn(parts, node)
  const kept = autostarts.length === 0 || input.options['despiteAutostart'] === true ? {} : { autostarts }
  const down: Down = { how, ...(await mark(parts, input)), ...kept }
  await parts.home.records.changeLedger(node, ledger => ({ ...ledger, down }))
  return done([
    ...warnings,
    note(`${node} is down, ${downText(down)}: its domains may be started elsewhere; this lapses when it answers`),
    ...autostartWarnings(node, down),
  ])
}

/** What the last scan saw set to autostart there. Nothing proves that it is all. */
async function autostartsOn(parts: Parts, node: string): Promise<NonNullable<Down['autostarts']>> {
  const population = (await parts.home.records.population(node)) ?? {}
  return Object.entries(population).flatMap(([uuid, { name, autostart }]) =>
    autostart === true ? [{ uuid, domain: name }] : [],
  )
}

function autostartWarnings(node: string, { how, autostarts }: Down): Message[] {
  if (autostarts === undefined) return []
  const verb = how === 'fence' ? 'fence' : 'confirm-down'
  const domains = autostarts.map(({ domain }) => domain).join(', ')
  const why = `set to autostart on ${node}, and so not to be started elsewhere while it may boot by itself: ${domains}`
  return [warning(why, `when it cannot: havirt node ${verb} ${node} --despite-autostart`)]
}

/** The ledger of a node of which nobody says any more that it is down. */
export function withoutDown({ down: _, ...ledger }: Ledger): Ledger {
  return ledger
}

// ---- reports -----------------------------------------------------------------------------------------------------------

function shown({ lines, warnings }: Silence, script: readonly string[]): Report {
  return { exit: exitStatus.done, script: [...lines.map(line => `# ${line}`), ...script], messages: warnings }
}

function done(messages: readonly Message[]): Report {
  return { exit: exitStatus.done, messages }
}

function failed(exit: Report['exit'], text: string, next: string): Report {
  return { exit, messages: [exit === exitStatus.refused ? { kind: 'refused', text, next } : failure(text, next)] }
}

function unknown(input: Input, records: Records): Report {
  return refusedReport([refuse('unknownNode', { node: requiredWord(input, 'NODE'), known: [...records.keys()] })])
}
