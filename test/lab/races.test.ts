/** Thirty processes on three nodes want the same domain at once: one gets it, the others are told who did. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { RACE_ROUNDS, Tally, tell, timeoutFor } from './counts.ts'
import { witness } from './disk-witness.ts'
import {
  type Beat,
  clean,
  define,
  exec,
  guest,
  havirt,
  NODES,
  nextBeat,
  putDefinition,
  shell,
  sure,
  uuidOf,
  whereIs,
} from './lab.ts'

// Thirty at once on two cores are slow, and nobody dies here: a claim may live as long as it does everywhere but in tests.
beforeAll(async () => void (await sure(havirt('node1', 'config', 'set', 'claim.ttlMs', '30000'))))
afterAll(async () => void (await sure(havirt('node1', 'config', 'set', 'claim.ttlMs', '3000'))))

afterEach(clean)

const STARTS_A_NODE = 10
const STARTS = STARTS_A_NODE * NODES.length

/** How one of the starts ended: its status, and all it said in one line. */
interface End {
  readonly status: number
  readonly said: string
}

/** Ten processes of one node start the domain there, all at once. Each prints one line at its end. */
async function startsOn(node: string): Promise<End[]> {
  const start = `said=$(havirt -y domain start web ${node} 2>&1); printf '%s %s\\n' $? "$(echo "$said" | tr '\\n' ' ')"`
  const lines = await sure(shell(node, `for start in $(seq ${STARTS_A_NODE}); do { ${start}; } & done; wait`))
  return lines
    .trimEnd()
    .split('\n')
    .map(line => ({ status: Number.parseInt(line, 10), said: line }))
}

/** QEMUs of all nodes. */
async function qemus(): Promise<number> {
  const counts = await Promise.all(NODES.map(async node => (await exec(node, ['pgrep', '-c', 'qemu'])).stdout))
  return counts.map(Number).reduce((a, b) => a + b)
}

/** How many QEMUs libvirt ever started for the domain, by its own logs: even one that lived for a moment is there. */
async function startsInLogs(): Promise<number> {
  const count = "cat /var/log/libvirt/qemu/web.log | grep -c 'starting up libvirt'"
  const counts = await Promise.all(NODES.map(async node => Number((await shell(node, count)).stdout)))
  return counts.reduce((a, b) => a + b)
}

/** A refusal that names who holds the claim, or where the domain runs. */
const refusedBy = (runsOn: string) =>
  new RegExp(
    String.raw`web is (claimed by \S+@node\d \(pid \d+\) since \S+ \(havirt domain start web node\d\)|present on ${runsOn}\b)`,
  )

test('of thirty starts at once exactly one happens, and the others name who holds the claim or where it runs', {
  ...timeoutFor(RACE_ROUNDS, 60),
}, async context => {
  const tally = new Tally()
  await define('web')
  const watch = await witness('web')
  const startsBefore = await startsInLogs()
  let last: Beat | undefined
  for (let round = 1; round <= RACE_ROUNDS; round++) {
    const ends = (await Promise.all(NODES.map(startsOn))).flat()
    const text = `round ${round}\n${ends.map(({ said }) => said).join('\n')}`
    expect(ends.map(({ status }) => status).sort(), text).toEqual([0, ...Array(STARTS - 1).fill(3)])
    const where = await whereIs('web')
    expect(where, text).toHaveLength(1)
    for (const { status, said } of ends) if (status === 3) expect(said).toMatch(refusedBy(`${where[0]}`))
    expect(await qemus()).toBe(1)
    last = await nextBeat('web', last)
    tally.count('rounds')
    tally.count('starts at once', STARTS)
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'web', '--force'))
  }
  const { overlaps, writers, boots, samples, longestGapMs } = watch.evidence()
  expect(overlaps).toEqual([])
  expect([writers, boots, (await startsInLogs()) - startsBefore]).toEqual([RACE_ROUNDS, RACE_ROUNDS, RACE_ROUNDS])
  tally.count('overlaps', overlaps.length)
  tell(context, `races: ${tally} (${samples} samples of the disk, at most ${longestGapMs} ms apart)`)
})

test('of two domains with one disk, started at once on two nodes, exactly one runs', async () => {
  const xml = await define('web')
  const other = uuidOf(await guest('other', { disk: 'none' }))
  await putDefinition('other', xml.replace('<name>web<', '<name>other<').replace(uuidOf(xml), other))
  for (let round = 1; round <= 2; round++) {
    const ends = await Promise.all([
      havirt('node1', '-y', 'domain', 'start', 'web', 'node1'),
      havirt('node2', '-y', 'domain', 'start', 'other', 'node2'),
    ])
    expect(ends.map(({ status }) => status).sort()).toEqual([0, 3])
    expect([...(await whereIs('web')), ...(await whereIs('other'))]).toHaveLength(1)
    for (const name of ['web', 'other']) await havirt('node3', '-q', '-y', 'domain', 'stop', name, '--force')
  }
})
