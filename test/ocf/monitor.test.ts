/** Programs that look into the guest: the first that fails decides, and none can hold the monitor up or fill its memory. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import type { ActiveDomain } from '../../src/core/agent/presence.ts'
import { examine } from '../../src/ocf/monitor.ts'
import { temporaryFolder } from '../store/parts.ts'
import { type Environment, openedAgent, UUID, writeProgram } from './builders.ts'

const WEB: ActiveDomain = { kind: 'active', name: 'web', uuid: UUID, state: 'running', stateReason: 1 }
const QUIET = {
  config: '/nowhere/web.xml',
  autoset_utilization_cpu: '0',
  autoset_utilization_host_memory: '0',
  autoset_utilization_hv_memory: '0',
}

async function examined(
  folder: string,
  scripts: string[],
  { timeoutMs = 20_000, presence = WEB as Parameters<typeof examine>[1], more = {} as Environment } = {},
) {
  const environment = { OCF_RESKEY_CRM_meta_timeout: String(timeoutMs), ...more }
  const parameters = { ...QUIET, monitor_scripts: scripts.join(' ') }
  const agent = await openedAgent(folder, 'monitor', parameters, environment)
  const begun = performance.now()
  const finding = await examine(agent, presence)
  return { ...finding, ms: performance.now() - begun }
}

describe('monitor scripts', () => {
  test('that all end well change nothing', async () => {
    const folder = await temporaryFolder()
    const scripts = ['a', 'b'].map(name =>
      writeProgram(folder, name, `echo ${name} >>'${folder}/ran'`, 'echo talks; echo too >&2'),
    )
    expect(await examined(folder, scripts)).toMatchObject({ code: 0 })
    expect(readFileSync(join(folder, 'ran'), 'utf8')).toBe('a\nb\n')
  })

  test('are run without arguments and without input', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', `[ $# = 0 ] && [ -z "$(cat)" ]`)
    expect(await examined(folder, [script])).toMatchObject({ code: 0 })
  })

  test('the first that fails decides, with its status and its words on one line; no other is run', async () => {
    const folder = await temporaryFolder()
    const bad = writeProgram(folder, 'bad', 'echo "no  answer"; echo "from port 80" >&2; exit 42')
    const next = writeProgram(folder, 'next', `touch '${folder}/ran'`)
    expect(await examined(folder, [bad, next])).toMatchObject({
      code: 1,
      sentence: `the monitor script ${bad} of web exited with 42: no answer from port 80`,
    })
    expect(existsSync(join(folder, 'ran'))).toBe(false)
  })

  test.each([2, 5, 6, 7, 190])('that exits with %d is an error all the same', async status => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', `exit ${status}`)
    expect(await examined(folder, [script])).toMatchObject({
      code: 1,
      sentence: `the monitor script ${script} of web exited with ${status}`,
    })
  })

  test('that dies is an error with its signal', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', 'echo last words; kill -SEGV $$')
    expect(await examined(folder, [script])).toMatchObject({
      code: 1,
      sentence: `the monitor script ${script} of web was ended by SIGSEGV: last words`,
    })
  })

  test.each(['/nowhere/script', 'havirt-test-no-such-program', '/etc'])(
    '%s cannot be started, and that is said',
    async script => {
      const { code, sentence } = await examined(await temporaryFolder(), [script])
      expect({ code, sentence }).toEqual({
        code: 1,
        sentence: expect.stringMatching(
          new RegExp(`^the monitor script ${script} of web exited with 12[67]: [^\\n]*(not found|ermission denied)`),
        ),
      })
    },
  )

  test('that hangs is killed with all that it started, in time', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', `sleep 600 & echo $! >'${folder}/pid'; echo begun; wait`)
    const { code, sentence, ms } = await examined(folder, [script], { timeoutMs: 1000 })
    expect({ code, sentence }).toEqual({
      code: 1,
      sentence: `the monitor script ${script} of web did not end in time and was killed: begun`,
    })
    expect(ms).toBeLessThan(2500)
    const pid = readFileSync(join(folder, 'pid'), 'utf8').trim()
    const isGone = () => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
    await vi.waitFor(() => expect(isGone()).toBe(true), 5000)
  })

  test('that hangs and will not hear is killed all the same', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', `trap '' TERM; while :; do sleep 0.05; done`)
    const { code, ms } = await examined(folder, [script], { timeoutMs: 1000 })
    expect(code).toBe(1)
    expect(ms).toBeLessThan(4000)
  })

  test('that prints without end fills neither memory nor sentence', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', 'head -c 50000000 /dev/zero | tr "\\0" "x"; exit 3')
    const { code, sentence = '' } = await examined(folder, [script])
    expect(code).toBe(1)
    expect(sentence).toMatch(/exited with 3: x+\.\.\.$/)
    expect(sentence.length).toBeLessThan(600)
  })

  test('are not run where there is no guest to look into', async () => {
    const folder = await temporaryFolder()
    const script = writeProgram(folder, 'script', `touch '${folder}/ran'`)
    const silent = { kind: 'silent', why: 'it is silent', installed: true, process: undefined } as const
    expect(await examined(folder, [script], { presence: { kind: 'absent' } })).toMatchObject({ code: 7 })
    expect(await examined(folder, [script], { presence: silent })).toMatchObject({ code: 7 })
    expect(await examined(folder, [script], { presence: { ...WEB, state: 'crashed' } })).toMatchObject({ code: 1 })
    expect(existsSync(join(folder, 'ran'))).toBe(false)
  })

  test('are no shell: nothing in a word is special', async () => {
    const folder = await temporaryFolder()
    const { code } = await examined(folder, [`/bin/true;touch`, `${folder}/ran`])
    expect(code).toBe(1)
    expect(existsSync(join(folder, 'ran'))).toBe(false)
  })
})

test('a domain that was found is remembered', async () => {
  const folder = await temporaryFolder()
  await examined(folder, [])
  expect(JSON.parse(readFileSync(join(folder, 'havirt', 'VirtualDomain-web.json'), 'utf8'))).toEqual({
    config: QUIET.config,
    name: 'web',
    uuid: UUID,
  })
})

test('a guest that stands still since its disk failed is degraded to whoever knows the word', async () => {
  const folder = await temporaryFolder()
  const presence = { ...WEB, state: 'paused', stateReason: 5 } as const
  const recurring = { OCF_RESKEY_CRM_meta_interval: '10000' }
  const knows = { OCF_RA_VERSION_MAJOR: '1', OCF_RA_VERSION_MINOR: '1' }
  expect(await examined(folder, [], { presence, more: { ...recurring, ...knows } })).toMatchObject({ code: 190 })
  expect(await examined(folder, [], { presence, more: recurring })).toMatchObject({ code: 0 })
  expect(await examined(folder, [], { presence, more: knows })).toMatchObject({ code: 0 })
  expect(readFileSync(join(folder, 'log'), 'utf8')).toMatch(/WARNING: .*I\/O error/)
})

test('what is configured badly is no matter of a monitor', async () => {
  const folder = await temporaryFolder()
  const parameters = { ...QUIET, migrateport: 'x', shutdown_mode: 'x' }
  expect(await examine(await openedAgent(folder, 'monitor', parameters), WEB)).toMatchObject({ code: 0 })
})
