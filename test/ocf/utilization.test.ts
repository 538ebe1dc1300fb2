/** Sizes told to Pacemaker: written when they differ, and not asked about while nothing changes. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { ParameterName } from '../../src/core/agent/parameters.ts'
import type { ActiveDomain } from '../../src/core/agent/presence.ts'
import { tellUtilization } from '../../src/ocf/utilization.ts'
import { temporaryFolder } from '../store/parts.ts'
import { openedAgent, UUID, writeProgram } from './builders.ts'

const WEB: ActiveDomain = {
  kind: 'active',
  name: 'web',
  uuid: UUID,
  state: 'running',
  stateReason: 1,
  vcpus: 2,
  maxMemoryMiB: 2048,
}

/** A crm_resource that keeps each attribute in a file, and a cluster that calls. */
async function cluster() {
  const folder = await temporaryFolder()
  const calls = join(folder, 'calls')
  writeProgram(
    folder,
    'crm_resource',
    `cd '${folder}' || exit 1`,
    'echo "$*" >>calls',
    'if [ -e broken ]; then echo "connection refused" >&2; exit "$(cat broken)"; fi',
    '[ "$1 $2 $4" = "-Q -r -z" ] || exit 64',
    'shift 4',
    'case "$1" in',
    '  -g) if [ -e "a-$2" ]; then cat "a-$2"; else echo "no such attribute" >&2; exit 105; fi ;;',
    '  -p) [ ! -e readonly ] && [ "$3" = -v ] && echo "$4" >"a-$2" ;;',
    '  -d) rm "a-$2" ;;',
    '  *) exit 64 ;;',
    'esac',
  )
  vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`)
  // With a CIB of its own nothing depends on the machine's.
  vi.stubEnv('CIB_file', join(folder, 'cib.xml'))
  onTestFinished(() => void vi.unstubAllEnvs())
  return {
    folder,
    set: (name: string, value: string) => writeFileSync(join(folder, `a-${name}`), `${value}\n`),
    get: (name: string) => {
      const file = join(folder, `a-${name}`)
      return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined
    },
    breakIt: (file: 'broken' | 'readonly', text = '') => writeFileSync(join(folder, file), text),
    mend: (file: 'broken' | 'readonly') => rmSync(join(folder, file)),
    /** Calls since this was last asked, without the words that all have. */
    calls: () => {
      const text = existsSync(calls) ? readFileSync(calls, 'utf8') : ''
      rmSync(calls, { force: true })
      return text
        .split('\n')
        .filter(line => line !== '')
        .map(line => line.replace('-Q -r web -z ', ''))
    },
    tell: async (domain = WEB, parameters: Partial<Record<ParameterName, string>> = {}, instance = 'web') => {
      const agent = await openedAgent(
        folder,
        'monitor',
        { config: '/nowhere/web.xml', ...parameters },
        { OCF_RESOURCE_INSTANCE: instance },
      )
      await tellUtilization(agent, domain)
    },
    log: () => (existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8') : ''),
  }
}

const ALL_ASKED = ['-g cpu', '-g host_memory', '-g hv_memory']

test('all three are written where none is, and nothing is asked again while nothing changes', async () => {
  const { tell, calls, get } = await cluster()
  await tell()
  expect(calls()).toEqual([
    '-g cpu',
    '-p cpu -v 2',
    '-g host_memory',
    '-p host_memory -v 2048',
    '-g hv_memory',
    '-p hv_memory -v 2048',
  ])
  expect([get('cpu'), get('host_memory'), get('hv_memory')]).toEqual(['2', '2048', '2048'])
  await tell()
  await tell()
  expect(calls()).toEqual([])
})

test('what is right already is not written', async () => {
  const { tell, calls, set } = await cluster()
  for (const [name, value] of [
    ['cpu', '2'],
    ['host_memory', '2048'],
    ['hv_memory', '2048'],
  ] as const)
    set(name, value)
  await tell()
  expect(calls()).toEqual(ALL_ASKED)
})

test('what has changed is written, and that alone', async () => {
  const { tell, calls, get, log } = await cluster()
  await tell()
  calls()
  await tell({ ...WEB, vcpus: 4 })
  expect(calls()).toEqual(['-g cpu', '-p cpu -v 4', '-g host_memory', '-g hv_memory'])
  expect(get('cpu')).toBe('4')
  expect(log()).toMatch(/utilization cpu is 4, was 2/)
})

test('another CIB is asked anew', async () => {
  const { tell, calls, folder } = await cluster()
  await tell()
  calls()
  vi.stubEnv('CIB_file', join(folder, 'other.xml'))
  await tell()
  expect(calls()).toEqual(ALL_ASKED)
})

test('what is not to be set is not asked about', async () => {
  const { tell, calls } = await cluster()
  await tell(WEB, { autoset_utilization_cpu: 'no', autoset_utilization_hv_memory: '0' })
  expect(calls()).toEqual(['-g host_memory', '-p host_memory -v 2048'])
  await tell(WEB, {
    autoset_utilization_cpu: '0',
    autoset_utilization_hv_memory: '0',
    autoset_utilization_host_memory: '0',
  })
  expect(calls()).toEqual([])
})

test('what is to be unset is removed where it is there, and only where it is not set by itself', async () => {
  const { tell, calls, set, get } = await cluster()
  set('cpu', '9')
  const unset = {
    unset_utilization_cpu: 'yes',
    unset_utilization_host_memory: 'yes',
    autoset_utilization_hv_memory: '0',
  }
  await tell(WEB, { ...unset, autoset_utilization_cpu: '0', autoset_utilization_host_memory: '0' })
  expect(calls()).toEqual(['-g cpu', '-d cpu', '-g host_memory'])
  expect(get('cpu')).toBeUndefined()
  await tell(WEB, unset)
  expect([get('cpu'), get('host_memory')]).toEqual(['2', '2048'])
})

test('a size that libvirt did not say is left as it is', async () => {
  const { tell, calls, set } = await cluster()
  set('cpu', '9')
  const { vcpus: _, maxMemoryMiB: __, ...sizeless } = WEB
  await tell(sizeless)
  expect(calls()).toEqual([])
})

test.each(['102', '1', '124'])(
  'a cluster that does not answer (status %s) is not written to, and asked again next time',
  async status => {
    const { tell, calls, breakIt, mend, get } = await cluster()
    breakIt('broken', status)
    await tell()
    expect(calls()).toEqual(['-g cpu'])
    mend('broken')
    await tell()
    expect(get('cpu')).toBe('2')
  },
)

test('a write that failed is told, and tried again next time', async () => {
  const { tell, calls, breakIt, mend, get, log } = await cluster()
  breakIt('readonly')
  await tell()
  expect(log()).toMatch(/WARNING: utilization cpu could not be set/)
  mend('readonly')
  calls()
  await tell()
  expect(get('cpu')).toBe('2')
})

test("a clone's number is no part of the resource's name", async () => {
  const { tell, calls } = await cluster()
  await tell(WEB, { autoset_utilization_host_memory: '0', autoset_utilization_hv_memory: '0' }, 'web:3')
  expect(calls()).toEqual(['-g cpu', '-p cpu -v 2'])
})

test('without crm_resource nothing is told, and nothing fails', async () => {
  const { tell, folder } = await cluster()
  rmSync(join(folder, 'crm_resource'))
  vi.stubEnv('PATH', folder)
  await tell()
})
