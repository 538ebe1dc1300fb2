/**
 * A command that comes late does nothing (rule 4), and what an interrupted one left is found out, never guessed (rule 12).
 * The command is held on its node by the lock that the guard takes there, and by stopping the guard's processes.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { quote } from '../../src/core/command.ts'
import {
  begin,
  clean,
  define,
  dropMasters,
  exec,
  fault,
  HAVIRT_PROCESS,
  havirt,
  havirtBegins,
  NODES,
  nextBeat,
  pathOn,
  printed,
  processes,
  type Running,
  running,
  shell,
  signal,
  sure,
  until,
  uuidOf,
  whereIs,
  words,
} from './lab.ts'

const GUARD_FOLDER = '/run/havirt/guard'

beforeEach(async () => {
  for (const node of NODES) await sure(havirt(node, 'node', 'scan'))
})
afterEach(clean)

/** Holds the lock that the guard takes for this domain on a node. Gives back how to let go. */
async function holdLock(node: string, uuid: string): Promise<() => Promise<void>> {
  await mkdir(await pathOn(node, GUARD_FOLDER), { recursive: true, mode: 0o700 })
  const lock = `${GUARD_FOLDER}/${uuid}.lock`
  const holder = begin(['exec', node, 'flock', lock, 'sleep', '600'])
  await until('the lock is held', async () => (await exec(node, ['flock', '-n', lock, 'true'])).status !== 0)
  return async () => {
    await signal(node, 'KILL', await processes(node, '^(flock /run/havirt/guard/.* )?sleep 600'))
    await holder.done
  }
}

/** The guard of a command and all that belongs to it on its node, outermost first. */
async function guardOn(node: string): Promise<number[]> {
  const guards = await processes(node, 'havirt-guard')
  const waiting = await processes(node, '^flock -w')
  return [...guards, ...waiting]
}

/** Starts a domain from node1 on node2, where the command gets as far as the lock and no further. */
async function startHeld(uuid: string): Promise<{ started: Running; letGo(): Promise<void>; late: number[] }> {
  const letGo = await holdLock('node2', uuid)
  // In the background of a shell: the lab's entrance to the node would stand still with a command of its own that is stopped.
  const started = begin(['exec', 'node1', 'sh', '-c', 'havirt -y domain start web node2 & wait $!'])
  await until('the command is on node2', async () => (await processes('node2', '^flock -w')).length > 0)
  return { started, letGo, late: await guardOn('node2') }
}

/** The line of the late command, as node2 has it. */
async function lineOf(numbers: readonly number[]): Promise<string[]> {
  for (const number of numbers) {
    const argv = (await readFile(await pathOn('node2', `/proc/${number}/cmdline`), 'utf8')).split('\0').slice(0, -1)
    if (argv[0] === 'sh' && argv.includes('havirt-guard')) return argv
  }
  throw new Error('no process of node2 is the guard')
}

/** Waits until the late command has ended, and sees to it that meanwhile no node but `only` ever shows the domain. */
async function watchedUntilEnded(numbers: readonly number[], only: string): Promise<void> {
  await until('the late command has ended', async () => {
    expect(await whereIs('web')).toEqual([only])
    const { stdout } = await exec('node2', ['ps', '-o', 'pid=', '-p', numbers.join(',')])
    return stdout.trim() === ''
  })
  expect(await whereIs('web')).toEqual([only])
}

describe('a start whose ssh was cut on its way, and healed', () => {
  test('never passes a newer claim: it ends with 97 and creates nothing', async () => {
    const xml = await define('web')
    const uuid = uuidOf(xml)
    const { started, letGo, late } = await startHeld(uuid)
    const line = await lineOf(late)
    // The link goes, then havirt and its connections are killed; the command stays behind on node2, wherever it was.
    await fault('cut', 'node1', 'node2')
    await signal('node2', 'STOP', late)
    await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
    await dropMasters('node1', 'node2')
    await started.done
    await letGo()

    // Somebody else takes over while the link is down, and starts the domain elsewhere.
    const taken = await printed('node3', 'claim', 'takeover', 'web')
    expect(taken.status).toBe(0)
    expect(await havirt('node3', '-y', 'domain', 'start', 'web', 'node3')).toMatchObject({ status: 0 })
    expect(await whereIs('web')).toEqual(['node3'])
    const { nonce } = await nextBeat('web')

    await fault('heal', 'node1', 'node2')
    await signal('node2', 'CONT', late)
    await watchedUntilEnded(late, 'node3')
    // The very same line once more, for its exit status, which went to a connection that is no more.
    const again = await shell('node2', `cat | ${line.map(quote).join(' ')}`, { stdin: xml })
    expect(again).toMatchObject({ status: 97, stderr: expect.stringContaining('displaced') })
    expect(await whereIs('web')).toEqual(['node3'])
    expect((await nextBeat('web')).nonce).toBe(nonce)
  })

  test('does happen late when nobody came in between, and the next command sees it', async () => {
    const { started, letGo, late } = await startHeld(uuidOf(await define('web')))
    await fault('cut', 'node1', 'node2')
    await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
    await dropMasters('node1', 'node2')
    await started.done
    await fault('heal', 'node1', 'node2')
    await letGo()
    await until('the late command has ended', async () => (await guardOn('node2')).length === 0)
    expect(late.length).toBeGreaterThan(0)
    expect(await whereIs('web')).toEqual(['node2'])
    // The claim's process is gone, so node1 succeeds it by itself, and settles what it left in doubt.
    const next = await printed('node1', '-y', 'domain', 'start', 'web', 'node1')
    expect(next.status).toBe(3)
    expect(words(next)).toContain('web is present on node2')
    expect(await havirt('node1', 'claim', 'list')).toMatchObject({ status: 0, stdout: '' })
  })

  test('is told to a havirt that stood still meanwhile, and which starts nothing more', async () => {
    const { started, letGo, late } = await startHeld(uuidOf(await define('web')))
    const frozen = await processes('node1', HAVIRT_PROCESS)
    await signal('node1', 'STOP', frozen)
    await signal('node2', 'STOP', late)
    await letGo()
    const taken = await printed('node3', 'claim', 'takeover', 'web')
    expect(taken.status).toBe(0)
    expect(await havirt('node3', '-y', 'domain', 'start', 'web', 'node1')).toMatchObject({ status: 0 })
    await signal('node2', 'CONT', late)
    await watchedUntilEnded(late, 'node1')
    await signal('node1', 'CONT', frozen)
    const { status, stdout, stderr } = await started.done
    expect(stdout).not.toMatch(/^done\tstart web/m)
    expect(status).not.toBe(0)
    expect(`${stdout}${stderr}`).toMatch(/taken over by root@node3|displaced/)
    expect(await whereIs('web')).toEqual(['node1'])
  })
})

describe('a claim', () => {
  test('of a process that lives is not taken over, and not by a process of another node that cannot know', async () => {
    const { started, letGo } = await startHeld(uuidOf(await define('web')))
    const refused = await printed('node3', 'claim', 'takeover', 'web')
    expect(refused.status).toBe(3)
    expect(words(refused)).toMatch(/web is claimed by root@node1 \(pid \d+\)/)
    expect((await havirt('node2', '-y', 'domain', 'start', 'web')).status).toBe(3)
    await letGo()
    expect(await started.done).toMatchObject({ status: 0 })
    expect(await whereIs('web')).toEqual(['node2'])
  })

  test('of a process that died on another node is taken over once it stood still, and what it left is told', async () => {
    const { started, letGo } = await startHeld(uuidOf(await define('web')))
    await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
    await started.done
    await letGo()
    const next = await havirt('node3', '-y', 'domain', 'start', 'web', 'node3')
    expect(next.stderr).toMatch(/took over the claim of root@node1 \(pid \d+\), which gave no sign of life/)
    expect(next.stderr).toContain('left half done on node2: start web on node2')
    // The dead one's command was carried out, or kept out by the guard; either way it runs once, and the answer is true.
    expect(await whereIs('web')).toEqual(next.status === 0 ? ['node3'] : ['node2'])
    if (next.status !== 0)
      expect(next).toMatchObject({ status: 3, stderr: expect.stringContaining('present on node2') })
    expect((await printed('node1', 'claim', 'list')).rows).toEqual([])
  })
})

describe('havirt is killed', () => {
  test('while it starts a domain: the next command there settles it and starts it once', async () => {
    const { started, letGo } = await startHeld(uuidOf(await define('web')))
    await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
    await started.done
    const next = havirtBegins('node1', '-y', 'domain', 'start', 'web', 'node1')
    // It waits on node2 for what may still run there.
    await until('both wait at the lock', async () => (await processes('node2', '^flock -w')).length === 2)
    expect(await whereIs('web')).toEqual([])
    await letGo()
    const { status, stderr } = await next.done
    const where = await whereIs('web')
    // Whichever of the two gets the lock first, the domain runs once, and the answer is true.
    if (status === 0) expect(where).toEqual(['node1'])
    else {
      expect({ status, stderr }).toEqual({ status: 3, stderr: expect.stringContaining('web is present on node2') })
      expect(where).toEqual(['node2'])
    }
  })

  test('while it waits for a guest to shut down: the next command stops it', async () => {
    await running('deaf', 'node2', { disk: 'none' })
    const stopping = havirtBegins('node1', '-y', 'domain', 'stop', 'deaf')
    await until('it waits', () => stopping.said().includes('deaf shuts down'))
    await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
    await stopping.done
    const list = await printed('node1', 'domain', 'list', 'deaf')
    expect(list.rows).toEqual([expect.objectContaining({ state: 'running', node: 'node2', intent: 'manual' })])
    expect(await havirt('node1', '-y', 'domain', 'stop', 'deaf', '--force')).toMatchObject({ status: 0 })
    expect(await whereIs('deaf')).toEqual([])
  })

  test.each([
    ['havirt alone', HAVIRT_PROCESS],
    ['havirt and its virsh', `${HAVIRT_PROCESS}|virsh .*migrate|havirt-guard`],
  ])('(%s) while a domain moves: the next command says where it is, and it runs once', async (_what, pattern) => {
    await running('big', 'node1', { memoryMiB: 2048 })
    const { nonce } = await nextBeat('big')
    const moving = havirtBegins('node1', '-y', 'domain', 'migrate', 'big', 'node2', '--bandwidth', '1')
    await until('it moves', () => /[1-9]0%/.test(moving.said()))
    await signal('node1', 'KILL', await processes('node1', pattern))
    await moving.done
    // Started where it was, it would run twice.
    const next = await printed('node1', '-y', 'domain', 'start', 'big', 'node3')
    expect(next.status).toBe(3)
    await until('the migration is over', async () => (await whereIs('big')).length === 1)
    const [where = ''] = await whereIs('big')
    const list = await printed('node3', 'domain', 'list', 'big')
    expect(list.rows).toEqual([expect.objectContaining({ state: 'running', node: where })])
    expect((await nextBeat('big')).nonce).toBe(nonce)
    expect(await havirt('node1', '-y', 'domain', 'stop', 'big', '--force')).toMatchObject({ status: 0 })
    expect(await whereIs('big')).toEqual([])
  })
})
