/**
 * Starts, stops and migrations that meet a fault at a moment of chance. Whatever happens to havirt, its connections and the
 * nodes, two never have the disk; afterwards the records are what libvirt is, and the next command does what it says.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { chance, FIRST_RUN, KILL_RUNS, SEED, Tally, tell, timeoutFor } from './counts.ts'
import { witness } from './disk-witness.ts'
import {
  type Beat,
  beat,
  clean,
  configure,
  define,
  everywhere,
  fault,
  HOME,
  havirt,
  havirtBegins,
  killOn,
  NODES,
  nextBeat,
  type Printed,
  pathOn,
  printed,
  sure,
  until,
  whereIs,
  words,
} from './lab.ts'

/** A domain of its own: a claim that a failed run leaves behind must not fail other tests. */
const DOMAIN = 'hunted'

type Verb = 'start' | 'stop' | 'migrate'
type Node = (typeof NODES)[number]

/** All that chance decides of one run. */
interface Run {
  readonly verb: Verb
  readonly kind: keyof typeof strikes
  /** Where havirt runs, and where it runs next. */
  readonly operator: Node
  readonly nextOperator: Node
  /** Where the domain is before (for a stop and a migration), and where it is to be. */
  readonly source: Node
  readonly target: Node
  /** Whom the fault meets, and another one, for what lies between two. */
  readonly victim: Node
  readonly other: Node
  /** When the fault comes, as a share of what such a command takes without one. */
  readonly moment: number
  /** How long a fault lasts that heals. */
  readonly lastsMs: number
}

const VERBS: readonly Verb[] = ['start', 'stop', 'migrate']
const LONGEST_FAULT_MS = 3000

/** What goes wrong; gives back what mends it, where something must be mended. */
const strikes = {
  'havirt killed': async ({ operator }: Run) => {
    await killOn(operator, /(^|\/)node\0.*dist\/havirt\./)
    return undefined
  },
  'ssh killed': async ({ operator, other }: Run) => {
    await killOn(operator, new RegExp(String.raw`^ssh\0.*\0${other}(\0|$)`))
    return undefined
  },
  'libvirtd killed': async ({ victim }: Run) => {
    await killOn(victim, /^libvirtd\0-d/)
    return () => fault('libvirtd', victim, 'start')
  },
  'cable pulled': async ({ victim }: Run) => {
    await fault('cut', victim)
    return () => fault('heal', victim)
  },
  'link cut': async ({ operator, other }: Run) => {
    await fault('cut', operator, other)
    return () => fault('heal', operator, other)
  },
}
const KINDS = Object.keys(strikes) as (keyof typeof strikes)[]

/** Every kind meets every verb in turn; the rest is chance. */
function runOf(turn: number): Run {
  const random = chance(SEED, turn)
  const pick = <T>(of: readonly T[]) => of[Math.floor(random() * of.length)] as T
  const operator = pick(NODES)
  const source = pick(NODES)
  return {
    verb: VERBS[turn % VERBS.length] as Verb,
    kind: KINDS[turn % KINDS.length] as keyof typeof strikes,
    operator,
    nextOperator: pick(NODES),
    source,
    target: pick(NODES.filter(node => node !== source)),
    victim: pick(NODES),
    other: pick(NODES.filter(node => node !== operator)),
    moment: random(),
    lastsMs: Math.round(random() * LONGEST_FAULT_MS),
  }
}

function argumentsOf({ verb, target }: Pick<Run, 'verb' | 'target'>): string[] {
  return ['-y', 'domain', verb, DOMAIN, ...(verb === 'stop' ? ['--timeout', '10'] : [target])]
}

let standardConfig = ''
/** What each command takes without a fault. */
const usualMs: Record<Verb, number> = { start: 0, stop: 0, migrate: 0 }

beforeAll(async () => {
  standardConfig = await readFile(await pathOn('node1', `${HOME}/config.yaml`), 'utf8')
  await configure('observe', 'timeoutMs: 2000')
  await configure('ssh', 'connectTimeoutSeconds: 1')
  await define(DOMAIN)
  for (const node of NODES) await sure(havirt(node, 'node', 'scan'))
  for (const verb of ['start', 'migrate', 'stop'] as const) usualMs[verb] = await timed(verb)
})
afterAll(async () => {
  await writeFile(await pathOn('node1', `${HOME}/config.yaml`), standardConfig)
  await clean()
})

async function timed(verb: Verb): Promise<number> {
  const begunMs = performance.now()
  await sure(havirt('node1', ...argumentsOf({ verb, target: verb === 'start' ? 'node2' : 'node3' })))
  const tookMs = performance.now() - begunMs
  if (verb === 'start') await nextBeat(DOMAIN)
  return tookMs
}

/** The domain is where the run wants it, and its guest has booted. */
async function prepare({ verb, source }: Run): Promise<void> {
  if (verb === 'start') return
  const before = await beat(DOMAIN)
  await sure(havirt(source, '-q', '-y', 'domain', 'start', DOMAIN, source))
  await bootedSince(before)
}

function bootedSince(before: Beat | undefined): Promise<unknown> {
  return until('the new boot writes', async () => {
    const now = await beat(DOMAIN)
    return now !== undefined && now.nonce !== before?.nonce
  })
}

/** How a run's command ended. */
interface Struck {
  /** 137 if it was killed. */
  readonly status: number
  /** The fault came before the end. */
  readonly met: boolean
}

/** Begins the command, strikes, mends, and waits until all is over. */
async function struck(run: Run): Promise<Struck> {
  const command = havirtBegins(run.operator, ...argumentsOf(run))
  await setTimeout(run.moment * usualMs[run.verb])
  const met = command.child.exitCode === null
  const mend = await strikes[run.kind](run)
  if (mend !== undefined) await setTimeout(run.lastsMs).then(mend)
  return { status: (await command.done).status, met }
}

/** What scan shows, as {@link everywhere} tells it: node -> domain -> state. */
function shown({ rows }: Printed): Record<string, Record<string, string>> {
  const domainsOf = (node: string) => rows.filter(row => row['node'] === node && row['domain'] !== undefined)
  return Object.fromEntries(
    NODES.map(node => [node, Object.fromEntries(domainsOf(node).map(row => [row['domain'], String(row['state'])]))]),
  )
}

/**
 * Waits until every node is heard and nothing moves any more (what was sent before a kill goes on), and scan shows just what
 * virsh shows, twice, with nothing new to the records the second time.
 */
async function recordsAgree(operator: Node): Promise<void> {
  let last = ''
  await until('scan and the records show what virsh shows', async () => {
    const [first, again] = [await printed(operator, 'node', 'scan'), await printed(operator, 'node', 'scan')]
    const truth = await everywhere()
    last = JSON.stringify({ first, again, truth })
    const unchanged = again.rows.every(row => !row['change'])
    return again.status === 0 && unchanged && [first, again].every(scan => isDeepStrictEqual(shown(scan), truth))
  }).catch(error => {
    throw new Error(`${error.message}\n${last}`)
  })
}

/** Whether a refusal says what is so: each of its reasons is held against virsh and the claims. */
async function expectTruthful(refused: Printed, operator: Node): Promise<void> {
  const said = words(refused)
  const where = (await whereIs(DOMAIN)).join(' ')
  const claims = JSON.stringify((await printed(operator, 'claim', 'list')).rows)
  const [, on] = /hunted is present on (node\d)/.exec(said) ?? []
  const [, owner] = /hunted is claimed by (\S+ \(pid \d+\))/.exec(said) ?? []
  const [, doubted] = /sent to (node\d) earlier may still be carried out/.exec(said) ?? []
  const off = /hunted (does not run|is off)/.test(said)
  expect([on, owner, doubted, off], said).not.toEqual([undefined, undefined, undefined, false])
  if (on !== undefined) expect(where, said).toContain(on)
  if (owner !== undefined) expect(claims, said).toContain(owner)
  if (doubted !== undefined) expect(claims, said).toContain(doubted)
  if (off) expect(where, said).toBe('')
}

/** The next command of somebody who saw where the domain is: it works, or says truly why not. */
async function nextCommand({ nextOperator, target }: Run): Promise<number> {
  const off = (await whereIs(DOMAIN)).length === 0
  const words = off ? ['start', DOMAIN, target] : ['stop', DOMAIN, '--force']
  const next = await printed(nextOperator, '-y', 'domain', ...words)
  expect([0, 3], JSON.stringify(next)).toContain(next.status)
  if (next.status === 3) await expectTruthful(next, nextOperator)
  else expect(await whereIs(DOMAIN)).toEqual(off ? [target] : [])
  return next.status
}

/** Waits until the domain is off and whatever was left of the run is settled, by havirt alone. */
async function settle(operator: Node): Promise<void> {
  let last: unknown
  await until('the domain can be stopped', async () => {
    const stopped = await printed(operator, '-y', '--ensure', 'domain', 'stop', DOMAIN, '--force')
    last = stopped
    return stopped.status === 0
  }).catch(error => {
    throw new Error(`${error.message}\n${JSON.stringify(last)}`)
  })
  expect(await whereIs(DOMAIN)).toEqual([])
}

/** Whether somebody else's claim on the domain is still held, although nobody works under it any more. */
async function leftClaimed({ operator, nextOperator }: Run): Promise<boolean> {
  const { rows } = await printed(nextOperator, 'claim', 'list')
  return operator !== nextOperator && rows.some(row => row['domain'] === DOMAIN && row['state'] === 'held')
}

test(`a command that meets a fault at any moment leaves one runner at most, true records, and a way on (HAVIRT_SEED=${SEED})`, {
  ...timeoutFor(KILL_RUNS, 90),
}, async context => {
  const tally = new Tally()
  const watch = await witness(DOMAIN)
  try {
    for (let turn = FIRST_RUN; turn < FIRST_RUN + KILL_RUNS; turn++) {
      await replayable(turn, tally)
      expect(watch.evidence().overlaps, `run ${turn}`).toEqual([])
    }
  } finally {
    const { overlaps, boots, samples, longestGapMs } = watch.evidence()
    tally.count('overlaps', overlaps.length)
    const seen = `${boots} boots, ${samples} samples of the disk, at most ${longestGapMs} ms apart`
    tell(context, `kills: ${tally} (${seen}; HAVIRT_SEED=${SEED})`)
  }
})

/** A run whose failure says how to have it again. */
async function replayable(turn: number, tally: Tally): Promise<void> {
  const run = runOf(turn)
  await oneRun(run, tally).catch(cause => {
    throw new Error(
      `HAVIRT_SEED=${SEED} HAVIRT_FIRST_RUN=${turn}: ${JSON.stringify(run)}\n${(cause as Error).message}`,
      { cause },
    )
  })
}

async function oneRun(run: Run, tally: Tally): Promise<void> {
  await prepare(run)
  const { status, met } = await struck(run)
  expect([0, 1, 3, 4, 5, ...(run.kind === 'havirt killed' ? [137] : [])]).toContain(status)
  await recordsAgree(run.nextOperator)
  const left = await leftClaimed(run)
  const next = await nextCommand(run)
  await settle(run.nextOperator)
  for (const what of ['runs', `${run.kind}`, `ended with ${status}`]) tally.count(what)
  if (met) tally.count('met before the end')
  if (left) tally.count('claims of the dead taken over')
  if (next === 3) tally.count('next commands refused truly')
}
