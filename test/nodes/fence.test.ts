/** Fence agents: scripts that really run, and write down what reached them. */
import { chmod, chown, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { quote } from '../../src/core/command.ts'
import { defaultConfig } from '../../src/core/config.ts'
import type { FenceDevice } from '../../src/core/fence.ts'
import { fenceWords, powerProblem, runFenceAgent } from '../../src/nodes/fence.ts'
import type { Exit } from '../../src/nodes/process.ts'
import { exit } from '../fake-nodes.ts'
import { temporaryFolder } from '../store/parts.ts'

const SECRET = `top+secret/"100%'`

let folder = ''
let device: FenceDevice
const at = (name: string) => join(folder, name)
const path = process.env['PATH']

beforeEach(async () => {
  folder = await temporaryFolder()
  await mkdir(at('bin'))
  await writeFile(at('secret'), `${SECRET}\nsecond line\n`, { mode: 0o600 })
  process.env['PATH'] = `${at('bin')}:${path}`
  device = {
    node: 'node1',
    agent: 'fence_lamp',
    parameters: { ip: '10.0.0.11', plug: 'a b;$(id)' },
    secrets: { password: at('secret') },
  }
  await agent('echo "Status: OFF"; exit 2')
})
afterEach(() => {
  process.env['PATH'] = path
})

/** An agent that first writes down its arguments, its environment and its input. */
async function agent(ending: string): Promise<void> {
  const record = `tr '\\0' '\\n' </proc/$$/cmdline >${at('argv')}; tr '\\0' '\\n' </proc/$$/environ >${at('environ')}; cat >${at('stdin')}`
  await writeFile(at('bin/fence_lamp'), `#!/bin/sh\n${record}\n${ending}\n`, { mode: 0o755 })
}

const recorded = (name: string) => readFile(at(name), 'utf8')

describe('an agent is told', () => {
  test.each(['off', 'status'] as const)(
    '%s and everything else by its standard input, and nothing in another way',
    async action => {
      expect(await runFenceAgent(device, action)).toMatchObject({ status: 2, stdout: 'Status: OFF\n', timedOut: false })
      expect(await recorded('stdin')).toBe(`action=${action}\nip=10.0.0.11\nplug=a b;$(id)\npassword=${SECRET}\n`)
      expect((await recorded('argv')).split('\n')).toEqual(['/bin/sh', at('bin/fence_lamp'), ''])
      expect(await recorded('environ')).not.toContain('secret/')
      expect(await recorded('environ')).not.toContain('10.0.0.11')
    },
  )
})

describe('what it says', () => {
  test('never holds the secret, however it is written', async () => {
    const uri = encodeURIComponent(SECRET)
    await agent(`cat ${at('stdin')}; cat ${at('stdin')} >&2; echo ${quote(uri)}; exit 1`)
    const { stdout, stderr } = await runFenceAgent(device, 'off')
    expect(stderr).toContain('password=***\n')
    expect(stdout).toContain('ip=10.0.0.11')
    for (const text of [stdout, stderr]) {
      expect(text).not.toContain(SECRET)
      expect(text).not.toContain(uri)
    }
  })

  test('is off only with status 2', async () => {
    await agent('echo "Status: ON"')
    expect(await runFenceAgent(device, 'status')).toMatchObject({ status: 0, stdout: 'Status: ON\n' })
    await agent('echo "Status: OFF"; exit 1')
    expect(await runFenceAgent(device, 'status')).toMatchObject({ status: 1 })
  })

  test.each([
    ['a shell that cannot read the agent ends so', 'if', 'it ended as if the node were off, but did not say so'],
    ['it says nothing', 'exit 2', 'it ended as if the node were off, but did not say so'],
    ['it says on', 'echo "Status: ON"; exit 2', 'it ended as if the node were off, but did not say so'],
    [
      'it did not know a parameter, and may have looked elsewhere',
      `echo "WARNING:root:Parse error: Ignoring unknown option 'plgu=3'" >&2; echo "Status: OFF"; exit 2`,
      'it does not know a parameter of fence.devices',
    ],
  ])('status 2 is not off when %s', async (_, ending, words) => {
    await agent(ending)
    const ended = await runFenceAgent(device, 'status')
    expect(ended).toMatchObject({ status: 1, stderr: expect.stringContaining(words) })
    expect(fenceWords(ended)).toBe(words)
  })

  test('of `off` is left as it is', async () => {
    await agent('exit 2')
    expect(await runFenceAgent(device, 'off')).toMatchObject({ status: 2, stderr: '' })
  })

  test('that it hangs: it is ended, and is not off', async () => {
    await agent('echo "Status: OFF"; trap "exit 2" TERM; sleep 5 & wait')
    const ended = await runFenceAgent(device, 'status', 300)
    expect(ended).toMatchObject({ status: 1, timedOut: true })
    expect(fenceWords(ended)).toBe('it did not end in time')
  })
})

describe('not asked at all', () => {
  const never = (words: string) => ({ status: undefined, signal: undefined, stderr: expect.stringContaining(words) })

  test('an agent that is not there: the package is named', async () => {
    const ended = await runFenceAgent({ ...device, agent: 'fence_nowhere' }, 'off')
    expect(ended).toMatchObject(never('fence_nowhere is not installed on this machine: apt-get install fence-agents'))
  })

  test.each([0o640, 0o604, 0o620, 0o666])('a secret that others may read or write (%o)', async mode => {
    await chmod(at('secret'), mode)
    const ended = await runFenceAgent(device, 'off')
    expect(ended).toMatchObject(never(`the password in ${at('secret')} cannot be used: others may read or write it`))
    await expect(recorded('stdin')).rejects.toThrow()
  })

  test.skipIf(process.getuid?.() !== 0)('a secret that belongs to somebody else', async () => {
    await chown(at('secret'), 65534, 65534)
    expect(await runFenceAgent(device, 'off')).toMatchObject(never('it belongs to another user'))
  })

  test.each([
    ['is empty', ''],
    ['begins with an empty line', '\nx\n'],
    ['ends with a carriage return', 'x\r\n'],
    ['has a space at its end', 'x \n'],
    ['is no text', Buffer.from([0xff, 0xfe, 0x0a])],
  ])('a secret that %s', async (_, bytes) => {
    await writeFile(at('secret'), bytes)
    expect(await runFenceAgent(device, 'off')).toMatchObject(
      never(`the password in ${at('secret')} cannot be used: its first line`),
    )
  })

  test('a secret that is missing, or no file', async () => {
    const other = (file: string) => runFenceAgent({ ...device, secrets: { password: file } }, 'off')
    expect(await other(at('nowhere'))).toMatchObject(never('ENOENT'))
    expect(await other(folder)).toMatchObject(never('it is no regular file'))
    await symlink(at('secret'), at('link'))
    expect(await other(at('link'))).toMatchObject({ status: 2 })
  })
})

describe('what a real agent said: fence_dummy of Debian 12 (fence-agents 4.12.1)', () => {
  /** Status and output as recorded; `type=file` keeps the power of a node in a file. */
  const RECORDED: readonly (readonly [string, Exit, string])[] = [
    ['status, on', exit(0, '', 'Status: ON\n'), 'the power is on'],
    ['status, off', exit(2, '', 'Status: OFF\n'), 'Status: OFF'],
    ['off', exit(0, '', 'Success: Powered OFF\n'), 'Success: Powered OFF'],
    ['off, already off', exit(0, '', 'Success: Already OFF\n'), 'Success: Already OFF'],
    [
      'status, unknown',
      exit(
        1,
        '2026-01-01 11:23:35,212 ERROR: Failed: Unable to obtain correct plug status or plug is not available\n\n\n',
      ),
      '2026-01-01 11:23:35,212 ERROR: Failed: Unable to obtain correct plug status or plug is not available',
    ],
  ]

  test.each(RECORDED)('%s', async (_, { status, stdout, stderr }, words) => {
    await writeFile(at('out'), stdout)
    await writeFile(at('err'), stderr)
    await agent(`cat ${at('out')}; cat ${at('err')} >&2; exit ${status}`)
    const ended = await runFenceAgent(device, 'status')
    expect([ended.status, fenceWords(ended)]).toEqual([status, words])
  })

  test('an unknown option is repeated with its value, and off is said of something else: neither is believed nor shown', async () => {
    await agent(
      `echo "WARNING:root:Parse error: Ignoring unknown option '$(grep password ${at('stdin')})'" >&2; echo "Status: OFF"; exit 2`,
    )
    const ended = await runFenceAgent(device, 'status')
    expect(ended.status).toBe(1)
    expect(ended.stderr).toContain("Ignoring unknown option 'password=***'")
  })
})

test('powerProblem: nothing when the device says off, else why it cannot be relied on', async () => {
  const config = { ...defaultConfig, fence: { devices: ['node1 fence_lamp'] } }
  const nodes = (ended: Exit) => ({ fence: async () => ended })
  expect(await powerProblem(nodes(exit(2, '', 'Status: OFF\n')), config, 'node1')).toBeUndefined()
  expect(await powerProblem(nodes(exit(0, '', 'Status: ON\n')), config, 'node1')).toBe('the power is on')
  expect(await powerProblem(nodes(exit(2)), config, 'node2')).toBe('config.yaml names none any more')
})
