/** Calling a node down, by its fence device or by word; maintenance; and what lists say of both. On fake nodes and a fake clock. */
import { describe, expect, test } from 'vitest'
import { configOf, configOptions } from '../../src/core/config.ts'
import type { Ledger } from '../../src/core/ledger.ts'
import type { Input } from '../../src/operations/operation.ts'
import { operations } from '../../src/operations.ts'
import type { Report } from '../../src/report.ts'
import { WEB_UUID } from '../core/builders.ts'
import { exit } from '../fake-nodes.ts'
import { perform } from '../verbs.ts'
import { aWorld, type World, web } from '../world.ts'

type Typed = Partial<Pick<Input, 'options' | 'ask'>> & { readonly show?: true }

/** A silent node can be flagged, not drained. */
const FLAG = { options: { flagOnly: true } }

/** Runs an operation as a door would. */
function run(
  world: World,
  name: string,
  node: string | undefined,
  { show, options = {}, ask }: Typed = {},
): Promise<Report> {
  const argument = operations.find(each => each.name === name)?.args[0]
  const value = node === undefined || argument === undefined ? undefined : argument.many ? [node] : node
  return perform(world, name, {
    words: argument === undefined ? {} : { [argument.name]: value },
    options,
    act: show !== true,
    spelled: `havirt ${name} ${node}`,
    ...(ask === undefined ? {} : { ask }),
  })
}

/** node1 to node3, the last of them silent, each with a fence device; havirt runs on node1. */
async function aSilentWorld(domains: Parameters<typeof aWorld>[0] = {}): Promise<World> {
  const world = await aWorld(domains)
  world.nodes.silence('node3')
  return withDevices(world, 'node3 fence_lamp plug=3 password=@/etc/havirt/node3.secret')
}

function withDevices(world: World, ...devices: string[]): World {
  expect(configOptions.map(({ key }) => key)).toContain('fence.devices')
  const config = configOf(new Map([['fence.devices', devices]]))
  return { ...world, home: { ...world.home, config }, hereId: 'id-of-node1' }
}

const ledger = (world: World): Promise<Ledger> => world.home.records.ledger('node3')
const words = ({ messages }: Report) => messages.map(({ text, next = '' }) => `${text}\n${next}`).join('\n')
const BY = expect.stringMatching(/^\S+@node1 \(pid \d+\)$/)
const SINCE = '2026-01-01T00:00:00.000Z'

describe('node fence', () => {
  test('a silent node: off, its status says off, and that is recorded with who, when and why', async () => {
    const world = await aSilentWorld()
    const report = await run(world, 'node fence', 'node3', { options: { reason: 'storm' } })
    expect(report.exit).toBe(0)
    expect(words(report)).toMatch(
      /node3 is down, fenced by \S+@node1 \(pid \d+\) since 2026-01-01T00:00:00Z \(storm\): its domains may be/,
    )
    expect(world.nodes.log).toEqual([
      'look node3',
      'reaches node3 from node1',
      'reaches node3 from node2',
      'fence_lamp off node3',
      'fence_lamp status node3',
    ])
    expect(await ledger(world)).toEqual({
      down: { how: 'fence', by: BY, since: SINCE, reason: 'storm' },
      reservations: [],
    })
  })

  test('it keeps what else is written down', async () => {
    const world = await aSilentWorld()
    await run(world, 'node maintenanceon', 'node3', { options: { reason: 'memory', flagOnly: true } })
    await run(world, 'node fence', 'node3')
    expect(await ledger(world)).toMatchObject({ maintenance: { reason: 'memory' }, down: { how: 'fence' } })
  })

  test('a dry run shows who gets no answer, and the very lines, and does nothing', async () => {
    const world = await aSilentWorld()
    const report = await run(world, 'node fence', 'node3', { show: true })
    expect(report).toMatchObject({ exit: 0, messages: [] })
    expect(report.script).toEqual([
      '# node1 gets no answer from node3: no route to host',
      '# node2 gets no answer from node3: no route to host',
      '# cut the power of node3, on this machine',
      `{ printf '%s\\n' action=off plug=3; printf 'password=%s\\n' "$(head -n1 /etc/havirt/node3.secret)"; } | fence_lamp`,
      '# it must say that the power is off (status 2); it is asked until it does, for 20 s',
      `{ printf '%s\\n' action=status plug=3; printf 'password=%s\\n' "$(head -n1 /etc/havirt/node3.secret)"; } | fence_lamp`,
      '# (havirt itself: record that node3 is down)',
    ])
    expect(world.nodes.log.filter(line => line.startsWith('fence_'))).toEqual([])
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('what a node says while it tries cannot become a command of the dry run', async () => {
    const world = await aSilentWorld()
    world.nodes.reached = () => ({ verdict: 'silent', said: 'ssh: \nrm -rf /\u2028x' })
    const { script = [] } = await run(world, 'node confirm-down', 'node3', { show: true })
    expect(script.every(line => /^# [^\n\r]*$/.test(line))).toBe(true)
  })

  test('an `off` that fails is no matter when the status says off', async () => {
    const world = await aSilentWorld()
    world.nodes.fenceFaults.push(exit(1, 'Failed: it is off'))
    world.nodes.powerless.add('node3')
    expect(await run(world, 'node fence', 'node3')).toMatchObject({ exit: 0 })
    expect(await ledger(world)).toMatchObject({ down: { how: 'fence' } })
  })

  test('a device that takes its time is asked again, for 20 s at most', async () => {
    const world = await aSilentWorld()
    world.nodes.fenceFaults.push(exit(0), exit(0, '', 'Status: ON\n'), exit(1, 'busy'), exit(2, '', 'Status: OFF\n'))
    expect(await run(world, 'node fence', 'node3')).toMatchObject({ exit: 0 })
    expect(world.clock.ms).toBe(4000)
    expect(await ledger(world)).toMatchObject({ down: { how: 'fence' } })
  })

  test('a device that never says off: failed, with its words, and nothing is recorded', async () => {
    const world = await aSilentWorld()
    world.nodes.fenceFaults.push(exit(0), ...Array.from({ length: 50 }, () => exit(0, '', 'Status: ON\n')))
    const report = await run(world, 'node fence', 'node3')
    expect(report.exit).toBe(1)
    expect(words(report)).toContain(
      'node3 may still have power, and nothing was recorded; fence_lamp (status): the power is on',
    )
    expect(words(report)).toContain('havirt node confirm-down node3')
    expect(world.clock.ms).toBeLessThanOrEqual(20_000)
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('an agent that cannot be run: failed at once, in its words', async () => {
    const world = await aSilentWorld()
    const never = {
      status: undefined,
      signal: undefined,
      stdout: '',
      stderr: 'fence_lamp is not installed',
      timedOut: false,
    }
    world.nodes.fenceFaults.push(never, never)
    world.nodes.powerless.add('node3')
    const report = await run(world, 'node fence', 'node3')
    expect([report.exit, words(report)]).toEqual([
      1,
      expect.stringContaining('fence_lamp (off): fence_lamp is not installed'),
    ])
    expect(world.nodes.log.at(-1)).toBe('fence_lamp off node3')
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('Ctrl-C while it is waited for: unknown, and nothing is recorded', async () => {
    const world = await aSilentWorld()
    world.nodes.fenceFaults.push(exit(0), exit(0, '', 'Status: ON\n'))
    world.interrupt.stopped = true
    const report = await run(world, 'node fence', 'node3')
    expect(report.exit).toBe(5)
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('refused without a device, and the other way is named', async () => {
    const world = withDevices(await aSilentWorld())
    const report = await run(world, 'node fence', 'node3')
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining('havirt node confirm-down node3')])
  })
})

describe.each(['node fence', 'node confirm-down'])('%s is refused', name => {
  const confirmed = { options: { confirm: 'node3' } }
  const nothingDone = async (world: World) => {
    expect(world.nodes.log.filter(line => line.startsWith('fence_'))).toEqual([])
    expect(await ledger(world)).toEqual({ reservations: [] })
  }

  test('while the node answers', async () => {
    const world = await aSilentWorld()
    world.nodes.answerAgain('node3')
    const report = await run(world, name, 'node3', confirmed)
    expect([report.exit, words(report)]).toEqual([
      3,
      expect.stringContaining('node3 is up: it answers, so it is not down'),
    ])
    await nothingDone(world)
  })

  test.each(['node1', 'node2'])('while %s gets an answer from it, whatever it is', async by => {
    const world = await aSilentWorld()
    world.nodes.reached = from =>
      from === by ? { verdict: 'answers', said: 'it answered ping' } : { verdict: 'silent', said: '' }
    const report = await run(world, name, 'node3', confirmed)
    expect([report.exit, words(report)]).toEqual([
      3,
      expect.stringContaining(`node3 is not down: tried from ${by}, it answered ping`),
    ])
    await nothingDone(world)
  })

  test('while this machine, no node itself, gets an answer from it', async () => {
    const { hereId: _, ...world } = await aSilentWorld()
    world.nodes.reached = from =>
      from === 'this machine' ? { verdict: 'answers', said: 'ssh logs in' } : { verdict: 'silent', said: '' }
    const report = await run(world, name, 'node3', confirmed)
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining('tried from this machine, ssh logs in')])
    await nothingDone(world)
  })

  test('for the machine that havirt runs on, however silent it is', async () => {
    const world = { ...(await aSilentWorld()), hereId: 'id-of-node3' }
    const report = await run(world, name, 'node3', confirmed)
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining('havirt itself runs there')])
    await nothingDone(world)
  })

  test('for a node that nobody knows', async () => {
    const report = await run(await aSilentWorld(), name, 'node9', { options: { confirm: 'node9' } })
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining("there is no node 'node9'")])
  })
})

describe('who could not try', () => {
  test('is named, and the others count', async () => {
    const world = await aSilentWorld()
    world.nodes.silence('node2')
    const report = await run(world, 'node fence', 'node3')
    expect(report.messages[0]).toMatchObject({
      kind: 'warning',
      text: expect.stringContaining('node2 could not try whether node3 answers'),
    })
    expect(report.exit).toBe(0)
  })

  test('when it is everybody, that is said, and what to make certain of', async () => {
    const world = await aSilentWorld()
    world.nodes.reached = () => ({ verdict: 'unknown', said: 'ssh: Could not resolve hostname' })
    const report = await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    expect(report.messages[0]).toMatchObject({ kind: 'warning', text: 'no other node could try whether node3 answers' })
    expect(report.exit).toBe(0)
  })
})

describe('node confirm-down', () => {
  test('the name behind --confirm: recorded as a word, and no agent is run', async () => {
    const world = await aSilentWorld()
    const report = await run(world, 'node confirm-down', 'node3', {
      options: { confirm: 'node3', reason: 'burnt\nout' },
    })
    expect(report.exit).toBe(0)
    expect(await ledger(world)).toEqual({
      down: { how: 'word', by: BY, since: SINCE, reason: 'burnt out' },
      reservations: [],
    })
    expect(world.nodes.log.filter(line => line.startsWith('fence_'))).toEqual([])
  })

  test('what the last scan saw set to autostart there is kept with it, unless the person takes that upon themselves', async () => {
    const world = await aSilentWorld()
    await world.home.records.writePopulation('node3', {
      [WEB_UUID]: { name: 'web', state: 'running', autostart: true },
      '11111111-2222-4333-8444-666666666666': { name: 'mail', state: 'running' },
    })
    const report = await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    expect(await ledger(world)).toMatchObject({ down: { autostarts: [{ uuid: WEB_UUID, domain: 'web' }] } })
    expect(words(report)).toMatch(/autostart on node3, .*: web\n.*confirm-down node3 --despite-autostart/)
    const again = { options: { confirm: 'node3', despiteAutostart: true } }
    expect(await run(world, 'node confirm-down', 'node3', again)).toMatchObject({ exit: 0 })
    expect((await ledger(world)).down).toEqual({ how: 'word', by: BY, since: SINCE })
    expect(words(await run(world, 'node confirm-down', 'node3', again))).toContain('nothing to do')
  })

  test('another name behind --confirm, or nobody to ask: wrong usage, and nobody is tried', async () => {
    const world = await aSilentWorld()
    expect(await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node2' } })).toMatchObject({ exit: 2 })
    const report = await run(world, 'node confirm-down', 'node3')
    expect([report.exit, words(report)]).toEqual([2, expect.stringContaining('add: --confirm node3')])
    expect(world.nodes.log).toEqual([])
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('on a terminal the name is asked for, after it was seen who gets no answer', async () => {
    const world = await aSilentWorld()
    const questions: string[] = []
    const ask = async (question: string) => {
      questions.push(question)
      return 'node3'
    }
    expect(await run(world, 'node confirm-down', 'node3', { ask })).toMatchObject({ exit: 0 })
    expect(questions).toEqual([expect.stringContaining('node2 gets no answer from node3')])
    expect(await ledger(world)).toMatchObject({ down: { how: 'word' } })
  })

  test.each([undefined, '', 'y', 'yes', 'node2', 'NODE3'])(
    'typing %j instead of the name records nothing',
    async typed => {
      const world = await aSilentWorld()
      expect(await run(world, 'node confirm-down', 'node3', { ask: async () => typed })).toMatchObject({ exit: 3 })
      expect(await ledger(world)).toEqual({ reservations: [] })
    },
  )

  test('a node that came back while somebody typed is not called down', async () => {
    const world = await aSilentWorld()
    const ask = async () => {
      world.nodes.answerAgain('node3')
      return 'node3'
    }
    const report = await run(world, 'node confirm-down', 'node3', { ask })
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining('node3 is up')])
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('a second time there is nothing to do', async () => {
    const world = await aSilentWorld()
    await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    const before = await ledger(world)
    const report = await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    expect([report.exit, words(report)]).toEqual([0, expect.stringContaining('node3 is down already')])
    expect(await ledger(world)).toEqual(before)
  })

  test('--cancel takes it back, shown first; and says when there is nothing', async () => {
    const world = await aSilentWorld()
    await run(world, 'node fence', 'node3')
    await run(world, 'node maintenanceon', 'node3', FLAG)
    const cancel = { options: { cancel: true } }
    const shown = await run(world, 'node confirm-down', 'node3', { ...cancel, show: true })
    expect(shown.script).toEqual(['# (havirt itself: record that node3 is no longer down)'])
    expect(await ledger(world)).toHaveProperty('down')
    expect(await run(world, 'node confirm-down', 'node3', cancel)).toMatchObject({ exit: 0 })
    expect(await ledger(world)).not.toHaveProperty('down')
    expect(await ledger(world)).toHaveProperty('maintenance')
    expect(words(await run(world, 'node confirm-down', 'node3', cancel))).toContain('nothing to do')
  })
})

describe('maintenance', () => {
  test('on, with who, when and why; off again; and both once more', async () => {
    const world = await aSilentWorld()
    const shown = await run(world, 'node maintenanceon', 'node3', { ...FLAG, show: true })
    expect(shown.script).toEqual(['# (havirt itself: record that node3 is in maintenance)'])
    expect(await ledger(world)).toEqual({ reservations: [] })
    expect(
      await run(world, 'node maintenanceon', 'node3', { options: { reason: 'memory', flagOnly: true } }),
    ).toMatchObject({
      exit: 0,
    })
    expect(await ledger(world)).toEqual({ maintenance: { by: BY, since: SINCE, reason: 'memory' }, reservations: [] })
    const again = await run(world, 'node maintenanceon', 'node3', FLAG)
    expect([again.exit, words(again)]).toEqual([
      0,
      expect.stringMatching(/nothing to do: node3 is in maintenance by .* \(memory\)/),
    ])
    expect(await run(world, 'node maintenanceoff', 'node3')).toMatchObject({ exit: 0 })
    expect(await ledger(world)).toEqual({ reservations: [] })
    expect(words(await run(world, 'node maintenanceoff', 'node3'))).toContain('nothing to do')
  })

  test.each(['node maintenanceon', 'node maintenanceoff'])('%s of a node that nobody knows is refused', async name => {
    expect(await run(await aSilentWorld(), name, 'node9')).toMatchObject({ exit: 3 })
  })
})

describe('lists', () => {
  async function downAndMaintained(): Promise<World> {
    const world = await aSilentWorld({ node1: [web()] })
    await run(world, 'node fence', 'node3', { options: { reason: 'storm' } })
    await world.home.records.changeLedger('node2', before => ({
      ...before,
      maintenance: { by: 'ann@node2 (pid 7)', since: SINCE },
    }))
    return world
  }
  const DOWN = /node3 is down, fenced by \S+@node1 \(pid \d+\) since 2026-01-01T00:00:00Z \(storm\)/
  const MAINTAINED = 'node2 is in maintenance by ann@node2 (pid 7) since 2026-01-01T00:00:00Z'
  const FIELDS = { downHow: 'fence', downBy: BY, downSince: SINCE, downReason: 'storm' }

  test.each(['node scan', 'domain list', 'info'])(
    '%s says who is down and who is in maintenance, and is complete without them',
    async name => {
      const report = await run(await downAndMaintained(), name, undefined)
      expect(words(report)).toMatch(DOWN)
      expect(words(report)).toContain(MAINTAINED)
      expect(report.messages.filter(({ kind }) => kind !== 'note')).toEqual([])
      expect(report.exit).toBe(0)
    },
  )

  test('info of one domain does, too, and does not call it possible there', async () => {
    const report = await run(await downAndMaintained(), 'info', 'web')
    expect(words(report)).toMatch(DOWN)
    expect(words(report)).not.toContain('may be running it')
    expect(report.exit).toBe(0)
  })

  test.each(['node scan', 'info', 'node list'])('the rows of %s have it for programs', async name => {
    const rows = (await run(await downAndMaintained(), name, undefined)).table?.rows ?? []
    const row = (node: string) => rows.find(each => each['node'] === node)
    expect(row('node3')).toMatchObject(FIELDS)
    if (name !== 'node list') expect(row('node3')).toMatchObject({ state: 'down' })
    expect(row('node2')).toMatchObject({ maintenanceBy: 'ann@node2 (pid 7)', maintenanceSince: SINCE })
    expect(row('node2')).not.toHaveProperty('maintenanceReason')
    expect(row('node1')).not.toHaveProperty('downHow')
    if (name !== 'node scan') {
      expect(row('node3')?.['notes']).toMatch(/^down: fenced by .* \(storm\)$/)
      expect(row('node2')?.['notes']).toBe('maintenance: by ann@node2 (pid 7) since 2026-01-01T00:00:00Z')
    }
  })

  test('a domain that nobody shows is off, and not unknown, when all who are silent are down', async () => {
    const world = await downAndMaintained()
    world.nodes.set('node1')
    expect((await run(world, 'domain list', undefined)).table?.rows).toEqual([
      expect.objectContaining({ domain: 'web', state: 'off' }),
    ])
    world.nodes.silence('node2')
    expect((await run(world, 'domain list', undefined)).table?.rows).toEqual([
      expect.objectContaining({ domain: 'web', state: 'unknown' }),
    ])
  })

  test('a node that answers again is not down, whatever was written', async () => {
    const world = await downAndMaintained()
    world.nodes.answerAgain('node3')
    const report = await run(world, 'node scan', undefined)
    expect(words(report)).toContain('node3 answers again; it was down, fenced by')
    expect(report.table?.rows).not.toContainEqual(expect.objectContaining({ state: 'down' }))
  })
})

describe('node remove', () => {
  test('a silent node is refused, and the ways out are named', async () => {
    const world = await aSilentWorld()
    const report = await run(world, 'node remove', 'node3')
    expect(report.exit).toBe(3)
    expect(words(report)).toContain('havirt node fence node3, or havirt node confirm-down node3')
    expect([...(await world.home.records.nodes()).keys()]).toContain('node3')
  })

  test('one that was fenced goes once its device says off again; its id stays there, which is said', async () => {
    const world = await aSilentWorld()
    await run(world, 'node fence', 'node3')
    const shown = await run(world, 'node remove', 'node3', { show: true })
    expect(shown.script).toEqual(['# (havirt itself: take node3 out of the list of nodes)'])
    const report = await run(world, 'node remove', 'node3')
    expect([report.exit, words(report)]).toEqual([0, expect.stringContaining('its machine still has its id')])
    expect([...(await world.home.records.nodes()).keys()]).toEqual(['node1', 'node2'])
    expect(world.nodes.acts).toEqual([])
    // Another machine may get the name.
    expect(await ledger(world)).toEqual({ reservations: [] })
  })

  test('one whose device says on again stays', async () => {
    const world = await aSilentWorld()
    await run(world, 'node fence', 'node3')
    world.nodes.powerless.delete('node3')
    const report = await run(world, 'node remove', 'node3')
    expect([report.exit, words(report)]).toEqual([
      3,
      expect.stringContaining('does not say that it is off: the power is on'),
    ])
    expect([...(await world.home.records.nodes()).keys()]).toContain('node3')
  })

  test("one that was confirmed by a person's word goes, and no agent is run", async () => {
    const world = await aSilentWorld()
    await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    expect(await run(world, 'node remove', 'node3')).toMatchObject({ exit: 0 })
    expect(world.nodes.log.filter(line => line.startsWith('fence_'))).toEqual([])
  })

  test('one that answers again is looked at like any other', async () => {
    const world = await aSilentWorld({ node3: [web()] })
    await run(world, 'node confirm-down', 'node3', { options: { confirm: 'node3' } })
    world.nodes.answerAgain('node3')
    const report = await run(world, 'node remove', 'node3')
    expect([report.exit, words(report)]).toEqual([3, expect.stringContaining('node3 has domains: web')])
  })
})

describe('the ledger', () => {
  test('two who write at once lose nothing of each other', async () => {
    const world = await aSilentWorld()
    await Promise.all([run(world, 'node fence', 'node3'), run(world, 'node maintenanceon', 'node3', FLAG)])
    expect(await ledger(world)).toMatchObject({ down: { how: 'fence' }, maintenance: { by: BY } })
  })
})
