/** The guard's real script, run by sh, with its two folders moved to a place of the test's own. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import { quote } from '../../src/core/command.ts'
import { type GuardTicket, guardComment, guarded, guardMeaning, guardStatus, raising } from '../../src/nodes/guard.ts'
import { type Exit, run } from '../../src/nodes/process.ts'
import { temporaryFolder } from '../store/parts.ts'

const TICKET: GuardTicket = { uuid: '11111111-2222-4333-8444-555555555555', generation: 3, nodeId: 'node.id-1' }
const generation = (number: number): GuardTicket => ({ ...TICKET, generation: number })

let node = ''
const at = (...path: string[]) => join(node, ...path)
const generationFile = () => at('run', 'guard', `${TICKET.uuid}.generation`)
const recorded = async () => (await readFile(generationFile(), 'utf8')).trim()
const written = () => readFile(at('out'), 'utf8').catch(() => '')

beforeEach(async () => {
  node = await temporaryFolder()
  await mkdir(at('lib'))
  await writeFile(at('lib', 'id'), `node: ${TICKET.nodeId}\ncluster: c1\n`)
})

/** The line as this test's node would run it. */
function onNode(line: string): string {
  return line
    .replaceAll('/run/havirt', at('run'))
    .replaceAll('/var/lib/havirt', at('lib'))
    .replaceAll('flock -w 30', 'flock -w 5')
}

function runs(line: string, stdin?: string): Promise<Exit> {
  return run('sh', ['-c', onNode(line)], { timeoutMs: 10_000, stdin })
}

/** A command that adds a word to a file, so that the file tells what ran, and in which order. */
const says = (word: string) => `sh -c ${quote(`echo ${word} >>${at('out')}`)}`
/** One that first says it began, and then waits until the file `go` is there. */
const waits = (word: string) =>
  `sh -c ${quote(`echo ${word} begins >>${at('out')}; until [ -e ${at('go')} ]; do sleep 0.02; done; echo ${word} ends >>${at('out')}`)}`

async function until(what: () => Promise<boolean>): Promise<void> {
  while (!(await what())) await delay(10)
}

describe('a command runs', () => {
  test('when nothing was recorded, and its generation then is, for nobody else to read', async () => {
    expect(await runs(guarded(TICKET, says('ran')))).toMatchObject({ status: 0, stderr: '' })
    expect(await written()).toBe('ran\n')
    expect(await recorded()).toBe('3')
    expect((await stat(at('run'))).mode & 0o777).toBe(0o700)
    expect((await stat(generationFile())).mode & 0o777).toBe(0o600)
    expect((await readdir(at('run', 'guard'))).sort()).toEqual([`${TICKET.uuid}.generation`, `${TICKET.uuid}.lock`])
  })

  test.each([3, 4, 1000])('when 3 is recorded and it has %s', async number => {
    await runs(raising(TICKET))
    expect(await runs(guarded(generation(number), says('ran')))).toMatchObject({ status: 0 })
    expect(await written()).toBe('ran\n')
    expect(await recorded()).toBe(String(number))
  })

  test.each([0, 1, 42, 93, 125, 255])('and its status %s is the status of all', async status => {
    expect(await runs(guarded(TICKET, `sh -c ${quote(`exit ${status}`)}`))).toMatchObject({ status })
  })

  test('with its standard input, byte for byte', async () => {
    const definition = `<domain>\n\t'"$(id)" \\n größe\n${'x'.repeat(200_000)}</domain>`
    const exit = await runs(`cat | ${guarded(TICKET, 'cat /dev/stdin')}`, definition)
    expect(exit).toMatchObject({ status: 0, stdout: definition })
  })

  test('with its arguments as they were', async () => {
    const hostile = [
      'a b',
      '$(touch x)',
      '`id`',
      "it's",
      '"',
      '\\',
      '*',
      '',
      '-n',
      'two\nlines',
      '~',
      ';',
      '&',
      'größe',
    ]
    const exit = await runs(guarded(TICKET, ['printf', '<%s>', ...hostile].map(quote).join(' ')))
    expect(exit.stdout).toBe(hostile.map(word => `<${word}>`).join(''))
  })

  test('and domains do not wait for each other', async () => {
    const slow = runs(guarded(TICKET, waits('slow')))
    await until(async () => (await written()) !== '')
    await runs(guarded({ ...TICKET, uuid: '22222222-2222-4333-8444-555555555555' }, says('other')))
    expect(await written()).toBe('slow begins\nother\n')
    await writeFile(at('go'), '')
    await slow
  })
})

describe('a command that goes on to a peer', () => {
  const HOST = 'aaaaaaaa-2222-4333-8444-555555555555'
  const PEER: GuardTicket = { ...TICKET, peer: { uri: 'qemu+ssh://node2/system', hostUuid: HOST } }

  /** What the node's virsh says when it is asked there, and how it ends. */
  async function peerSays(text: string, status = 0): Promise<Exit> {
    await mkdir(at('bin'))
    const asked = `echo "$*" >>${at('asked')}; [ "$(cat)" = '' ] || exit 7`
    await writeFile(at('bin', 'virsh'), `#!/bin/sh\n${asked}\necho ${quote(text)}\nexit ${status}\n`, { mode: 0o755 })
    return runs(`PATH=${at('bin')}:$PATH; ${guarded(PEER, says('ran'))}`, 'input')
  }

  test('runs when the recorded host answers there', async () => {
    expect(await peerSays(`<capabilities><host><uuid>${HOST}</uuid></host></capabilities>`)).toMatchObject({
      status: 0,
    })
    expect(await written()).toBe('ran\n')
    expect(await readFile(at('asked'), 'utf8')).toBe('-c qemu+ssh://node2/system capabilities\n')
  })

  test.each([
    ['another host answers', `<host><uuid>${TICKET.uuid}</uuid></host>`, 0],
    ['nobody answers', '', 1],
    ['it answers, and virsh fails all the same', `<uuid>${HOST}</uuid>`, 1],
  ])('does not run when %s', async (_when, text, status) => {
    expect(await peerSays(text, status)).toMatchObject({ status: guardStatus.otherPeer })
    expect(await written()).toBe('')
  })
})

describe('a command for what waits for a migration', () => {
  const WAITS: GuardTicket = { ...TICKET, waits: { uri: 'qemu:///system' } }

  /** What the node's virsh says of the domain, and how it ends. */
  async function stateIs(text: string, status = 0): Promise<Exit> {
    await mkdir(at('bin'))
    const asked = `echo "$*" >>${at('asked')}; [ "$(cat)" = '' ] || exit 7`
    await writeFile(at('bin', 'virsh'), `#!/bin/sh\n${asked}\necho ${quote(text)}\nexit ${status}\n`, { mode: 0o755 })
    return runs(`PATH=${at('bin')}:$PATH; ${guarded(WAITS, says('ran'))}`, 'input')
  }

  test.each(['paused (migrating)', 'paused (starting up)'])('runs while it is %s', async text => {
    expect(await stateIs(text)).toMatchObject({ status: 0 })
    expect(await written()).toBe('ran\n')
    expect(await readFile(at('asked'), 'utf8')).toBe(`-c qemu:///system domstate --reason ${TICKET.uuid}\n`)
  })

  test.each([
    ['it runs', 'running (migrated)', 0],
    ['a person paused it', 'paused (user)', 0],
    ['it is gone', '', 1],
    ['virsh fails', 'paused (migrating)', 1],
  ])('does not run when %s', async (_when, text, status) => {
    expect(await stateIs(text, status)).toMatchObject({ status: guardStatus.noLongerWaits })
    expect(await written()).toBe('')
  })
})

describe('a command does not run', () => {
  async function refused(line: string): Promise<number | undefined> {
    const exit = await runs(line)
    expect(await written()).toBe('')
    expect(exit.stderr).toContain('havirt guard: ')
    return exit.status
  }

  test('once a higher generation was there: a displaced holder that is late', async () => {
    await runs(raising(generation(4)))
    expect(await refused(guarded(TICKET, says('late')))).toBe(guardStatus.displaced)
    expect(await refused(guarded(TICKET, says('late'), 'nolock'))).toBe(guardStatus.displaced)
    expect(await refused(raising(generation(2)))).toBe(guardStatus.displaced)
    expect(await recorded()).toBe('4')
  })

  test('10 is higher than 9', async () => {
    await runs(raising(generation(10)))
    expect(await refused(guarded(generation(9), says('late')))).toBe(guardStatus.displaced)
  })

  test('on another node', async () => {
    for (const nodeId of ['node.id-2', 'node.id', 'node.id-11', '', 'nodexid-1', '.*', 'c1'])
      expect(await refused(guarded({ ...TICKET, nodeId }, says('ran')))).toBe(guardStatus.otherNode)
  })

  test('on a machine without an id', async () => {
    await writeFile(at('lib', 'id'), '')
    expect(await refused(guarded(TICKET, says('ran')))).toBe(guardStatus.otherNode)
  })

  test.each(['', '\n', 'many', '-', '3x', '3 4', '3\n4', '99999999999999999999999'])(
    'when the recorded generation is %j',
    async text => {
      await runs(raising(TICKET))
      await writeFile(generationFile(), text)
      for (const mode of ['lock', 'nolock'] as const) {
        expect(Object.values(guardStatus)).toContain(await refused(guarded(TICKET, says('ran'), mode)))
      }
      expect(await readFile(generationFile(), 'utf8')).toBe(text)
    },
  )

  test('when the recorded generation cannot be read', async () => {
    await mkdir(generationFile(), { recursive: true })
    expect(await refused(guarded(TICKET, says('ran')))).toBe(guardStatus.unusable)
  })

  test('when the guard has no folder to work in', async () => {
    await writeFile(at('run'), 'a file in the way')
    expect(await refused(guarded(TICKET, says('ran')))).toBe(guardStatus.unusable)
  })

  test('when another one does not end in time', async () => {
    const slow = runs(guarded(TICKET, waits('slow')))
    await until(async () => (await written()) !== '')
    const late = guarded(TICKET, says('late')).replace('flock -w 30', 'flock -w 0.1')
    expect((await runs(late)).status).toBe(guardStatus.locked)
    expect(await written()).toBe('slow begins\n')
    await writeFile(at('go'), '')
    await slow
  })
})

describe('the lock', () => {
  test('a second command begins when the first has ended, and so does raising', async () => {
    const first = runs(guarded(TICKET, waits('first')))
    await until(async () => (await written()) !== '')
    const second = runs(guarded(TICKET, says('second')))
    const raised = runs(`${raising(generation(3))} && ${says('raised')}`)
    await delay(50)
    await writeFile(at('go'), '')
    expect((await Promise.all([first, second, raised])).map(({ status }) => status)).toEqual([0, 0, 0])
    const words = (await written()).trim().split('\n')
    expect(words.slice(0, 2)).toEqual(['first begins', 'first ends'])
    expect(words.slice(2).sort()).toEqual(['raised', 'second'])
  })

  test('a command that ends the one which holds the lock does not wait for it', async () => {
    const migration = runs(guarded(TICKET, waits('migration')))
    await until(async () => (await written()) !== '')
    expect(await runs(guarded(TICKET, says('abort'), 'nolock'))).toMatchObject({ status: 0 })
    expect(await written()).toBe('migration begins\nabort\n')
    await writeFile(at('go'), '')
    await migration
  })

  test('without the lock nothing is recorded, since it could put an old generation over a newer one', async () => {
    await runs(raising(TICKET))
    await runs(guarded(generation(5), says('abort'), 'nolock'))
    expect(await written()).toBe('abort\n')
    expect(await recorded()).toBe('3')
  })

  // bash, which is sh on many nodes, runs a script's last command in its own place unless something follows it.
  const shells = ['sh', 'bash'].filter(shell => spawnSync('sh', ['-c', `command -v ${shell}`]).status === 0)
  const endings = shells.flatMap(shell => ['SIGTERM', 'SIGKILL', 'SIGHUP'].map(signal => [shell, signal] as const))

  test.each(endings)('stays as long as the command lives, although the guard (%s) got a %s', async (shell, signal) => {
    const line = onNode(guarded(TICKET, waits('first'))).replace(/^sh/, shell)
    // exec: the shell that a test can kill is the guard itself.
    const guard = spawn('sh', ['-c', `exec ${line}`], { stdio: 'ignore', detached: true })
    await until(async () => (await written()) !== '')
    guard.kill(signal as NodeJS.Signals)
    await once(guard, 'close')
    const raised = runs(`${raising(generation(4))} && ${says('raised')}`)
    await delay(100)
    expect(await written()).toBe('first begins\n')
    await writeFile(at('go'), '')
    expect((await raised).status).toBe(0)
    expect(await written()).toBe('first begins\nfirst ends\nraised\n')
  })
})

test('the late command: sent, displaced by a take-over that raised the generation, and carried out after it', async () => {
  const late = guarded(generation(1), says('late start'))
  await runs(guarded(generation(1), says('holder')))
  // The take-over: generation 2 is raised first, and then the new holder acts.
  expect((await runs(raising(generation(2)))).status).toBe(0)
  expect((await runs(guarded(generation(2), says('new holder')))).status).toBe(0)
  const exit = await runs(late)
  expect(guardMeaning(exit.status)).toBe('a newer claim has displaced this one, and the command did nothing')
  expect(await written()).toBe('holder\nnew holder\n')
})

describe('a node that started anew since', () => {
  const reboot = () => rm(at('run'), { recursive: true })

  test('still keeps out what a take-over displaced', async () => {
    await runs(raising(generation(2)))
    await reboot()
    expect((await runs(guarded(generation(1), says('late start')))).status).toBe(guardStatus.displaced)
    expect((await runs(guarded(generation(1), says('late abort'), 'nolock'))).status).toBe(guardStatus.displaced)
    expect(await written()).toBe('')
    expect((await runs(guarded(generation(2), says('new holder')))).status).toBe(0)
  })

  test('an ordinary command costs no write to the disk', async () => {
    await runs(guarded(TICKET, says('ran')))
    expect(await readdir(at('lib'))).toEqual(['id'])
  })

  test('raising says so when it cannot be kept', async () => {
    await writeFile(at('lib', 'guard'), 'a file in the way')
    expect((await runs(raising(TICKET))).status).toBe(guardStatus.unusable)
  })

  test('what was kept and is no number lets nothing pass', async () => {
    await mkdir(at('lib', 'guard'))
    await writeFile(at('lib', 'guard', `${TICKET.uuid}.generation`), 'damaged')
    expect((await runs(guarded(TICKET, says('ran')))).status).toBe(guardStatus.displaced)
    expect(await written()).toBe('')
  })
})

test('each status of the guard has a meaning, and no other has', () => {
  for (const status of Object.values(guardStatus)) expect(guardMeaning(status)).toMatch(/did nothing$/)
  for (const status of [undefined, 0, 1, 2, 93, 100, 124, 127, 137, 255]) expect(guardMeaning(status)).toBeUndefined()
})

test('a dry run explains it in comments', () => {
  for (const line of guardComment()) expect(line).toMatch(/^# /)
})
