/** The agent as Pacemaker runs it: a process, an exit code, and at most one reason. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ParameterName, parameterRows } from '../../src/core/agent/parameters.ts'
import type { ServedDomain } from '../libvirt/server.ts'
import { temporaryFolder } from '../store/parts.ts'
import { type Environment, environmentOf, startLibvirt, uriAt } from './builders.ts'

const NO_SIZES = {
  autoset_utilization_cpu: '0',
  autoset_utilization_host_memory: '0',
  autoset_utilization_hv_memory: '0',
}
const LOOKING = ['monitor', 'status', 'stop']
const JUDGING = ['validate-all', 'start', 'migrate_to', 'migrate_from', 'reload-agent']

let program: string
let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'havirt-main-'))
  program = join(folder, 'agent.cjs')
  const entryPoints = [join(import.meta.dirname, '../../src/ocf/main.ts')]
  await build({ entryPoints, bundle: true, platform: 'node', format: 'cjs', target: 'node20', outfile: program })
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Ended {
  readonly code: number | null
  readonly reasons: string[]
  readonly stdout: string
}

function ended(action: string, environment: Environment): Promise<Ended> {
  const env = {
    PATH: process.env['PATH'],
    HA_LOGFILE: '/dev/null',
    OCF_RESKEY_CRM_meta_timeout: '4000',
    ...environment,
  }
  return new Promise(resolve => {
    const child = execFile(process.execPath, [program, action], { env }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, reasons: stderr.split('\n').filter(line => line !== '') }),
    )
  })
}

interface Situation {
  readonly domains?: readonly ServedDomain[]
  readonly definition?: string
  readonly parameters?: Partial<Record<ParameterName, string>>
}

/** A libvirt, a definition, and a resource of it. */
async function situation({ domains = [], definition, parameters = {} }: Situation) {
  const own = await temporaryFolder()
  const server = await startLibvirt(own, { domains })
  const config = join(own, 'web.xml')
  if (definition !== undefined) writeFileSync(config, definition)
  const all = { config, hypervisor: uriAt(server.path), ...NO_SIZES, ...parameters }
  return {
    server,
    own,
    run: (action: string, more: Environment = {}) => ended(action, environmentOf(all, { HA_RSCTMP: own, ...more })),
  }
}

function domain(more: Partial<ServedDomain> = {}): ServedDomain {
  const name = `havirt-test-${randomUUID()}`
  return { name, uuid: randomUUID(), xml: `<domain><name>${name}</name></domain>`, state: 'running', ...more }
}

const definitionOf = ({ name, uuid }: ServedDomain) => `<domain><name>${name}</name><uuid>${uuid}</uuid></domain>`
const oneReason = [expect.stringMatching(/^ocf-exit-reason:\S[^\n]*$/)]

describe('an action that is none', () => {
  test.each([
    '',
    'usage',
    'methods',
    'promote',
    'Monitor',
    '--help',
    'constructor',
    'toString',
    '__proto__',
    'hasOwnProperty',
  ])('%j is not implemented, with one reason', async action => {
    const { code, reasons, stdout } = await ended(action, {})
    expect({ code, reasons, stdout }).toEqual({ code: 3, reasons: oneReason, stdout: '' })
  })
})

describe('without config', () => {
  test.each([...LOOKING, ...JUDGING])('%s is 6 with one reason', async action => {
    expect(await ended(action, { OCF_RESOURCE_INSTANCE: 'web', HA_RSCTMP: folder })).toEqual({
      code: 6,
      reasons: ['ocf-exit-reason:config is not set; expected the absolute path of the definition of the domain'],
      stdout: '',
    })
  })
})

describe('a domain that libvirt shows', () => {
  test('as running is well: monitor, probe, status and start; and is remembered', async () => {
    const web = domain()
    const { run, own } = await situation({ domains: [web], definition: definitionOf(web) })
    for (const action of ['monitor', 'status', 'start', 'validate-all', 'reload-agent', 'migrate_from'])
      expect(await run(action), action).toEqual({ code: 0, reasons: [], stdout: '' })
    expect(JSON.parse(readFileSync(join(own, 'havirt', 'VirtualDomain-web.json'), 'utf8'))).toMatchObject({
      name: web.name,
      uuid: web.uuid,
    })
  })

  test('nowhere is not running, needs no reason, and is stopped', async () => {
    const { run } = await situation({ definition: definitionOf(domain()) })
    expect(await run('monitor')).toEqual({ code: 7, reasons: [], stdout: '' })
    expect(await run('status')).toEqual({ code: 7, reasons: [], stdout: '' })
    expect(await run('stop')).toEqual({ code: 0, reasons: [], stdout: '' })
  })

  test('as crashed is an error with one reason', async () => {
    const web = domain({ state: 'crashed' })
    const { run } = await situation({ domains: [web], definition: definitionOf(web) })
    for (const action of ['monitor', 'status']) expect(await run(action)).toMatchObject({ code: 1, reasons: oneReason })
  })

  test('as paused by an I/O error is degraded for a recurring monitor of OCF 1.1', async () => {
    const web = domain({ state: 'paused', reason: 5 })
    const { run } = await situation({ domains: [web], definition: definitionOf(web) })
    const v11 = { OCF_RA_VERSION_MAJOR: '1', OCF_RA_VERSION_MINOR: '1' }
    const recurring = { OCF_RESKEY_CRM_meta_interval: '10000' }
    expect(await run('monitor', { ...v11, ...recurring })).toMatchObject({ code: 190, reasons: oneReason })
    for (const more of [{}, v11, recurring]) expect(await run('monitor', more)).toMatchObject({ code: 0 })
  })
})

describe('a definition that is gone', () => {
  test('while the domain runs: it is seen, and is not started anew', async () => {
    const web = domain()
    const { run, own } = await situation({ domains: [web], definition: definitionOf(web) })
    expect(await run('monitor')).toMatchObject({ code: 0 })
    rmSync(join(own, 'web.xml'))
    for (const action of ['monitor', 'status', 'start']) expect(await run(action), action).toMatchObject({ code: 0 })
    expect(await run('validate-all')).toMatchObject({ code: 5, reasons: oneReason })
  })

  test('while it does not: not installed for a start, not running for a look, stopped', async () => {
    const { run } = await situation({})
    for (const action of ['start', 'validate-all'])
      expect(await run(action), action).toMatchObject({ code: 5, reasons: oneReason })
    expect([(await run('monitor')).code, (await run('stop')).code]).toEqual([7, 0])
  })
})

describe('a wrong parameter', () => {
  test('is 6 for whoever judges it, and the truth for whoever looks', async () => {
    const web = domain()
    const { run } = await situation({ domains: [web], definition: definitionOf(web), parameters: { migrateport: 'x' } })
    for (const action of JUDGING) expect(await run(action), action).toMatchObject({ code: 6, reasons: oneReason })
    for (const action of ['monitor', 'status'])
      expect(await run(action), action).toMatchObject({ code: 0, reasons: [] })
  })

  test('a relative config is 6 for whoever judges, and for whoever looks it is the truth about the domain', async () => {
    const web = domain()
    const { run } = await situation({ domains: [web], definition: definitionOf(web) })
    expect(await run('monitor')).toMatchObject({ code: 0 })
    const relative = { OCF_RESKEY_config: 'web.xml' }
    for (const action of JUDGING) expect(await run(action, relative), action).toMatchObject({ code: 6 })
    for (const action of ['monitor', 'status']) expect(await run(action, relative), action).toMatchObject({ code: 0 })
  })

  test('a hypervisor elsewhere is 6', async () => {
    const { run } = await situation({
      definition: definitionOf(domain()),
      parameters: { hypervisor: 'qemu://foo/system' },
    })
    for (const action of ['validate-all', 'reload-agent', 'start'])
      expect(await run(action), action).toMatchObject({ code: 6, reasons: oneReason })
  })

  test('a socket that cannot be decoded is 6 for whoever judges', async () => {
    const { run } = await situation({
      definition: definitionOf(domain()),
      parameters: { hypervisor: 'qemu:///system?socket=/run/100%' },
    })
    expect(await run('validate-all')).toMatchObject({ code: 6, reasons: oneReason })
  })
})

test('migrate_to without a target is 2', async () => {
  const web = domain()
  const { run } = await situation({ domains: [web], definition: definitionOf(web) })
  expect(await run('migrate_to')).toMatchObject({ code: 2, reasons: oneReason })
})

test('a libvirt that is gone, and no process of the domain: not running for a monitor, an error for status, in time', async () => {
  const { run, server } = await situation({ definition: definitionOf(domain()) })
  await server.close()
  const begun = performance.now()
  const [monitor, status] = await Promise.all([run('monitor'), run('status')])
  expect(performance.now() - begun).toBeLessThan(8000)
  expect(monitor).toMatchObject({ code: 7, reasons: [] })
  expect([1, 7]).toContain(status.code)
})

test('each parameter, wrong in its own way, gives one reason that names it', async () => {
  const web = domain()
  const { run } = await situation({ domains: [web], definition: definitionOf(web) })
  const checked = parameterRows.filter(
    ([name, row]) => row.type === 'boolean' || ('expected' in row && name !== 'config'),
  )
  for (const [name] of checked) {
    const { code, reasons } = await run('validate-all', { [`OCF_RESKEY_${name}`]: '- x' })
    expect({ code, reasons }, name).toEqual({
      code: 6,
      reasons: [expect.stringMatching(new RegExp(`:${name} is "- x"; expected`))],
    })
  }
})
