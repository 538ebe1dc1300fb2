/** Nodes that fail, one at a time: each becomes `unreachable`, nothing else changes, and it comes back by itself. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import {
  beat,
  clean,
  configure,
  define,
  dropMasters,
  exec,
  fault,
  HOME,
  havirt,
  NODES,
  nextBeat,
  type Printed,
  pathOn,
  printed,
  processes,
  running,
  signal,
  sure,
  until,
  whereIs,
  words,
} from './lab.ts'

/** Waiting for the standard deadline of 5 s again and again proves nothing more: only the first test has it. */
let standardConfig = ''
const shortDeadlines = async () => {
  await configure('observe', 'timeoutMs: 2000')
  await configure('ssh', 'connectTimeoutSeconds: 1')
}
const configFile = () => pathOn('node1', `${HOME}/config.yaml`)

beforeAll(async () => {
  standardConfig = await readFile(await configFile(), 'utf8')
})
afterAll(async () => {
  await writeFile(await configFile(), standardConfig)
})
beforeEach(async () => {
  // Warm masters, as in daily use.
  await sure(havirt('node1', 'node', 'scan'))
})
afterEach(clean)

/** The scan's deadline, and one second. */
const SCAN_MS = 6000
/** What it takes to start a process on a node of a busy machine. */
const START_MS = 500

/** A scan that must end in time with 4: one node is silent, the others are shown as they are. */
async function scanWithout(node: string): Promise<Printed> {
  const begun = performance.now()
  const scan = await printed('node1', 'node', 'scan')
  expect(performance.now() - begun).toBeLessThan(SCAN_MS + START_MS)
  expect(scan.status).toBe(4)
  expect(scan.rows.filter(row => row['node'] === node)).toEqual([{ node, state: 'unreachable' }])
  expect(scan.rows.filter(({ state }) => state === 'unreachable')).toHaveLength(1)
  expect(words(scan)).toContain(`${node} is unreachable`)
  return scan
}

async function scanOfAll(): Promise<Printed> {
  const scan = await printed('node1', 'node', 'scan')
  expect(words(scan)).not.toContain('unreachable')
  expect(scan.status).toBe(0)
  expect(new Set(scan.rows.map(({ node }) => node))).toEqual(new Set(NODES))
  return scan
}

test("pulling a node's cable turns that node unreachable and nothing else", async () => {
  await running('web', 'node2')
  await define('other')
  await fault('cut', 'node3')
  try {
    const scan = await scanWithout('node3')
    await shortDeadlines()
    expect(scan.rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'web', state: 'running' }))
    const refused = await printed('node1', '-y', 'domain', 'start', 'other', 'node1')
    expect(refused.status).toBe(3)
    expect(words(refused)).toMatch(/node3 is unreachable and may be running anything/)
    expect(words(refused)).toMatch(/check its power, its network/)
    expect(await whereIs('other', ['node1', 'node2'])).toEqual([])
    // What runs on the nodes that answer can be worked with.
    await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
    const list = await printed('node1', 'domain', 'list')
    expect(list.rows.map(({ domain, state }) => `${domain} ${state}`)).toEqual(['other unknown', 'web paused'])
  } finally {
    await fault('heal', 'node3')
  }
  // The connection of before the cut may need a moment to be found dead.
  await until('the node is heard again', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  await scanOfAll()
  await sure(havirt('node1', '-y', 'domain', 'start', 'other', 'node1'))
})

test("a node that cannot be connected to is told in ssh's own words", async () => {
  await dropMasters('node1', 'node3')
  await fault('cut', 'node3')
  try {
    const scan = await scanWithout('node3')
    expect(words(scan)).toMatch(/ssh: connect to host node3 port 22: \w+/)
  } finally {
    await fault('heal', 'node3')
  }
  await scanOfAll()
})

test('a node that one other node does not hear is unreachable for that one alone', async () => {
  await running('web', 'node3')
  await fault('cut', 'node1', 'node3')
  try {
    await scanWithout('node3')
    expect(await printed('node2', 'node', 'scan')).toMatchObject({ status: 0 })
    expect((await havirt('node1', '-y', 'domain', 'stop', 'web')).status).toBe(3)
    expect(await whereIs('web')).toEqual(['node3'])
  } finally {
    await fault('heal', 'node1', 'node3')
  }
  await until('the node is heard again', async () => (await havirt('node1', 'node', 'scan')).status === 0)
})

test('killing libvirtd turns its node unreachable, its domain unknown, and starts nothing', async () => {
  await running('web', 'node2')
  const first = await nextBeat('web')
  await fault('libvirtd', 'node2', 'kill')
  try {
    await scanWithout('node2')
    const list = await printed('node1', 'domain', 'list', 'web')
    expect(list).toMatchObject({ status: 4, rows: [expect.objectContaining({ state: 'unknown' })] })
    for (const target of [['node1'], ['node2'], ['--auto']]) {
      const refused = await printed('node1', '-y', 'domain', 'start', 'web', ...target)
      expect(refused.status).toBe(3)
      expect(words(refused)).toContain('node2 is unreachable')
    }
    expect((await havirt('node1', '-y', 'domain', 'stop', 'web')).status).toBe(3)
    expect((await nextBeat('web', first)).nonce).toBe(first.nonce)
    expect(await whereIs('web', ['node1', 'node3'])).toEqual([])
  } finally {
    await fault('libvirtd', 'node2', 'start')
  }
  const scan = await scanOfAll()
  expect(scan.rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'web', state: 'running' }))
  expect((await nextBeat('web', await beat('web'))).nonce).toBe(first.nonce)
})

test('a libvirtd that stands still makes its node silent, and its domains unknown', async () => {
  await running('web', 'node2')
  const daemon = await processes('node2', '^libvirtd -d')
  expect(daemon).toHaveLength(1)
  await signal('node2', 'STOP', daemon)
  try {
    await scanWithout('node2')
    const refused = await printed('node1', '-y', 'domain', 'start', 'web', 'node1')
    expect([refused.status, words(refused)]).toEqual([3, expect.stringContaining('node2 is ')])
  } finally {
    await signal('node2', 'CONT', daemon)
  }
  await scanOfAll()
})

test('a frozen node is silent, and thawed it is as it was', async () => {
  await running('web', 'node3')
  const first = await nextBeat('web')
  await fault('freeze', 'node3')
  try {
    await scanWithout('node3')
  } finally {
    await fault('thaw', 'node3')
  }
  await until('the node is heard again', async () => (await havirt('node1', 'node', 'scan')).status === 0)
  expect((await nextBeat('web', await nextBeat('web', first))).nonce).toBe(first.nonce)
  expect((await printed('node1', 'node', 'scan')).rows).toContainEqual(
    expect.objectContaining({ node: 'node3', domain: 'web', state: 'running' }),
  )
})

test('a node that lost its power is silent; back again, what ran there is reported as gone, and starts elsewhere', async () => {
  await running('web', 'node3')
  await sure(havirt('node1', 'node', 'scan'))
  await fault('off', 'node3')
  try {
    await scanWithout('node3')
    expect((await havirt('node1', '-y', 'domain', 'start', 'web', 'node1')).status).toBe(3)
  } finally {
    await fault('on', 'node3')
  }
  // The scan that first hears it again says what is gone; those before it record nothing of the node.
  const heard = await until('the node is heard again', async () => {
    const scan = await printed('node1', 'node', 'scan')
    return scan.status === 0 ? scan : undefined
  })
  expect(words(heard)).toContain('web no longer runs on node3')
  await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node1'))
  expect(await whereIs('web')).toEqual(['node1'])
})

test('sshd that ended does no harm while the master lives; afterwards the node is unreachable', async () => {
  await running('web', 'node2')
  // By its number: `lab fault sshd stop` waits for the sessions, too.
  const [listener = 0] = await processes('node2', '^sshd: .*\\[listener\\]')
  await signal('node2', 'TERM', [listener])
  await until('nobody listens', async () => (await processes('node2', '^sshd: .*\\[listener\\]')).length === 0)
  try {
    await scanOfAll()
    await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
    await Promise.all(NODES.map(node => dropMasters(node, 'node2')))
    const scan = await scanWithout('node2')
    expect(words(scan)).toContain('ssh: connect to host node2 port 22: Connection refused')
    // On the node itself nobody needs sshd.
    const local = await printed('node2', 'node', 'scan', 'node2')
    expect(local.rows).toEqual([expect.objectContaining({ domain: 'web', state: 'paused' })])
  } finally {
    await sure(exec('node2', ['/usr/sbin/sshd', '-E', '/run/sshd.log']))
  }
  await scanOfAll()
})

test('masters that were killed are replaced by the next command, which simply works', async () => {
  await running('web', 'node2')
  await dropMasters('node1')
  expect(await processes('node1', '^ssh -M')).toEqual([])
  await scanOfAll()
  await dropMasters('node1')
  await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
  await dropMasters('node1', 'node2')
  await sure(havirt('node1', '-y', 'domain', 'stop', 'web', '--force'))
})
