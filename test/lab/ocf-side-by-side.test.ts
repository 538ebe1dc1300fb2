/**
 * Our resource agent and the original, in the same situations on the same nodes: each answers what the table of ocf-situations.ts says, and
 * ours says why. The situations are made on several nodes at once; HAVIRT_AGENTS=original measures only that one.
 */
import { beforeAll, describe, test } from 'vitest'
import { ASKS, type Expected, type Run, type Situation } from './ocf-answers.ts'
import { type Agent, type Bench, furnish, type Outcome, perform, prepare } from './ocf-bench.ts'
import { SITUATIONS } from './ocf-situations.ts'

const AGENTS = (process.env['HAVIRT_AGENTS']?.split(',') ?? ['original', 'ours']) as Agent[]

/** Nodes that nobody uses just now. */
const free: Bench[] = []
const waiting: ((bench: Bench) => void)[] = []
/** One after the other migrates: there is one node to migrate to. */
let migrating = Promise.resolve()

beforeAll(async () => {
  free.push(...(await furnish(['node1', 'node2', 'node3'], AGENTS)))
})

function borrow(): Promise<Bench> {
  const bench = free.shift()
  return bench === undefined ? new Promise(resolve => waiting.push(resolve)) : Promise.resolve(bench)
}

function giveBack(bench: Bench): void {
  const next = waiting.shift()
  if (next === undefined) free.push(bench)
  else next(bench)
}

async function onABench<T>(work: (bench: Bench) => Promise<T>): Promise<T> {
  const bench = await borrow()
  try {
    return await work(bench)
  } finally {
    giveBack(bench)
  }
}

function alone<T>(work: () => Promise<T>): Promise<T> {
  const mine = migrating.then(work)
  migrating = mine.then(
    () => undefined,
    () => undefined,
  )
  return mine
}

interface Row {
  readonly agent: Agent
  readonly run: Run
  readonly outcome: Outcome
}

async function rowsOf(bench: Bench, situation: Situation): Promise<Row[]> {
  const rows: Row[] = []
  for (const agent of AGENTS) {
    await prepare(bench, situation)
    for (const run of situation.runs) rows.push({ agent, run, outcome: await perform(bench, situation, run, agent) })
  }
  return rows
}

/** What an outcome must look like, and what it does look like, in the same words. */
function compared({ agent, run, outcome }: Row): [unknown, unknown] {
  const expected: Expected = run[agent]
  const head = `${agent}: ${run.action}`
  const truth = {
    head,
    ...outcome,
    ...(expected.seconds && { seconds: inTime(outcome, expected.seconds) ? expected.seconds : outcome.seconds }),
  }
  const wanted = {
    head,
    ...expected,
    ...(expected.proof && { proof: 'holds' }),
    said: outcome.said,
    reasons: reasonsWanted({ agent, run, outcome }),
  }
  return [truth, wanted]
}

function inTime({ seconds: [took] = [0, 0] }: Outcome, [from, to]: readonly [number, number]): boolean {
  return took >= from && took <= to
}

/** Ours says one thing whenever it fails, and nothing when it does not; what the original says is its own matter. */
function reasonsWanted({ agent, run, outcome }: Row): unknown {
  const { code } = run[agent]
  if (agent === 'original') return outcome.reasons
  if (code === 0) return []
  const right = outcome.reasons.length === 1 && (run.reason?.test(outcome.reasons[0] ?? '') ?? false)
  if (code === 7 && ASKS.has(run.action) && outcome.reasons.length === 0) return []
  return right ? outcome.reasons : [`one reason that matches ${run.reason}`]
}

function title({ name, runs }: Situation): string {
  return `${name}: ${runs.map(told).join(', ')}`
}

function told({ action, original, ours }: Run): string {
  const word = action === '' ? 'no action' : action
  const other = inWords(original) === inWords(ours) ? '' : ` (original: ${inWords(original)})`
  return `${word} ${inWords(ours)}${other}`
}

const inWords = ({ code, state }: Expected) => `${code}${state === undefined ? '' : ` and ${state}`}`

describe.concurrent('our agent beside the original', () => {
  test.for(SITUATIONS.map(situation => [title(situation), situation] as const))(
    '%s',
    { timeout: 240_000 },
    async ([, situation], { expect }) => {
      const work = () => onABench(bench => rowsOf(bench, situation))
      const rows = await (situation.moves ? alone(work) : work())
      for (const row of rows) {
        const [truth, wanted] = compared(row)
        expect.soft(truth).toEqual(wanted)
      }
    },
  )
})
