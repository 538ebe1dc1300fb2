/** libvirt as the agent reads it: absent is what libvirt says is absent, and nothing else. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as agents from '../../src/ocf/agent.ts'
import { openAgent } from '../../src/ocf/agent.ts'
import { TAG_NAMESPACE } from '../../src/ocf/definition.ts'
import { defaultUri, Hypervisor, localUri } from '../../src/ocf/hypervisor.ts'
import { Log } from '../../src/ocf/log.ts'
import { remember } from '../../src/ocf/memory.ts'
import type { Misbehaviour, ServedDomain, ServerOptions } from '../libvirt/server.ts'
import { temporaryFolder } from '../store/parts.ts'
import { callOf, environmentOf, openedAgent, startLibvirt, uriAt } from './builders.ts'

const PATIENT_MS = 5000

/** A domain that no process of this machine is. */
function domain(more: Partial<ServedDomain> = {}): ServedDomain {
  const name = `havirt-test-${randomUUID()}`
  return { name, uuid: randomUUID(), xml: `<domain><name>${name}</name></domain>`, state: 'running', ...more }
}

function hypervisorAt(path: string): Hypervisor {
  const uri = uriAt(path)
  const local = localUri(uri)
  if (local === undefined) throw new Error(`${uri} is not local`)
  const hypervisor = new Hypervisor(uri, local)
  onTestFinished(() => hypervisor.close())
  return hypervisor
}

async function served(options: ServerOptions) {
  const server = await startLibvirt(await temporaryFolder(), options)
  return { server, hypervisor: hypervisorAt(server.path) }
}

const idOf = ({ name, uuid }: ServedDomain) => ({ names: [name], uuids: [uuid] })
/** Misbehaves at one procedure. */
const at = (name: string, how: Misbehaviour): Pick<ServerOptions, 'misbehave'> => ({
  misbehave: call => (call.name === name ? how : undefined),
})

describe('a URI that ends on this machine', () => {
  test.each([
    ['qemu:///system', { driver: 'qemu', name: 'qemu:///system' }],
    ['qemu+unix:///system', { driver: 'qemu', name: 'qemu:///system' }],
    ['qemu+unix:///system?socket=/run/x.sock', { driver: 'qemu', name: 'qemu:///system', socket: '/run/x.sock' }],
    ['qemu:///system?mode=direct&socket=/a%20b', { driver: 'qemu', name: 'qemu:///system', socket: '/a b' }],
    ['test:///default', { driver: 'test', name: 'test:///default' }],
    ['lxc:///system', { driver: 'lxc', name: 'lxc:///system' }],
    ['xen:///system', { driver: 'xen', name: 'xen:///system' }],
    ['qemu://localhost/system', { driver: 'qemu', name: 'qemu:///system' }],
    ['qemu://[::1]/system', { driver: 'qemu', name: 'qemu:///system' }],
    [`qemu://${hostname()}/system`, { driver: 'qemu', name: 'qemu:///system' }],
  ])('%s is read', (uri, parts) => {
    expect(localUri(uri)).toEqual({ socket: undefined, ...parts })
  })

  test.each([
    'qemu://foo/system',
    'qemu://foo:9999/system',
    'qemu+ssh://foo/system',
    'qemu+ssh:///system',
    'qemu+tls://localhost/system',
    'qemu+tcp://127.0.0.1/system',
    'qemu://bob@foo/system',
    'qemu://localhost.example.org/system',
    'qemu://notlocalhost/system',
    'qemu://10.0.0.1/system',
    'qemu://[fe80::1]/system',
    'esx://vcenter/x',
    'qemu:///session',
    'qemu:/system',
    'system',
    '',
  ])('%s is none', uri => {
    expect(localUri(uri)).toBeUndefined()
  })

  test('or not is told of any text, and nothing is thrown', () => {
    const uri = fc
      .tuple(fc.constantFrom('qemu:///system?socket=', 'qemu+unix://', 'qemu:///', ''), fc.string())
      .map(parts => parts.join(''))
    fc.assert(fc.property(uri, text => void localUri(text)))
    expect(() => localUri('qemu:///system?socket=/run/100%')).not.toThrow()
  })
})

describe('the default URI', () => {
  test('is what the environment names', () => {
    expect(defaultUri({ LIBVIRT_DEFAULT_URI: 'test:///default' })).toBe('test:///default')
    expect(defaultUri({ VIRSH_DEFAULT_CONNECT_URI: 'lxc:///', LIBVIRT_DEFAULT_URI: 'x' })).toBe('lxc:///')
    expect(defaultUri({ LIBVIRT_DEFAULT_URI: '' })).toMatch(/^[a-z]+:\/\/\//)
  })
})

describe('a libvirt that answers', () => {
  test('shows who the domain is, its state with the reason, and its size', async () => {
    const web = domain({ state: 'paused', reason: 5 })
    const { hypervisor } = await served({
      domains: [web, domain()],
      answers: {
        domainGetInfo: () => ({ state: 3, maxMemoryKiB: 2_097_152n, memoryKiB: 1n, vcpus: 3, cpuTimeNs: 0n }) as never,
      },
    })
    expect(await hypervisor.look(idOf(web), PATIENT_MS)).toEqual({
      kind: 'active',
      name: web.name,
      uuid: web.uuid,
      state: 'paused',
      stateReason: 5,
      vcpus: 3,
      maxMemoryMiB: 2048,
    })
  })

  test('finds it by its name alone, and by its uuid alone', async () => {
    const web = domain()
    const { hypervisor } = await served({ domains: [web] })
    const shown = { kind: 'active', name: web.name, uuid: web.uuid, state: 'running' }
    for (const known of [
      { names: [web.name], uuids: [] },
      { names: [], uuids: [web.uuid] },
      { names: ['former'], uuids: [randomUUID(), web.uuid] },
    ])
      expect(await hypervisor.look(known, PATIENT_MS)).toMatchObject(shown)
  })

  test('shows the active one of two that answer to the names', async () => {
    const [off, on] = [domain({ state: 'shutoff' }), domain()]
    const { hypervisor } = await served({ domains: [off, on] })
    const known = { names: [off.name], uuids: [on.uuid] }
    expect(await hypervisor.look(known, PATIENT_MS)).toMatchObject({ kind: 'active', uuid: on.uuid })
  })

  test.each(['running', 'blocked', 'paused', 'shutdown', 'crashed', 'pmsuspended', 'nostate'] as const)(
    'shows a domain that is %s as active',
    async state => {
      const web = domain({ state })
      const { hypervisor } = await served({ domains: [web] })
      expect(await hypervisor.look(idOf(web), PATIENT_MS)).toMatchObject({ kind: 'active', state })
    },
  )

  test('has no such domain, or one that is shut off: absent', async () => {
    const off = domain({ state: 'shutoff' })
    const { hypervisor } = await served({ domains: [off, domain()] })
    expect(await hypervisor.look(idOf(off), PATIENT_MS)).toEqual({ kind: 'absent' })
    expect(await hypervisor.look(idOf(domain()), PATIENT_MS)).toEqual({ kind: 'absent' })
    expect(await hypervisor.look({ names: [], uuids: [] }, PATIENT_MS)).toEqual({ kind: 'absent' })
  })

  test('says "no such domain" of one that ended since it was looked up: absent', async () => {
    const web = domain()
    const { hypervisor } = await served({
      domains: [web],
      ...at('domainGetState', { kind: 'refuse', error: { code: 42, message: 'Domain not found' } }),
    })
    expect(await hypervisor.look(idOf(web), PATIENT_MS)).toEqual({ kind: 'absent' })
  })

  test('does not say how large it is: the state counts all the same', async () => {
    const web = domain()
    for (const how of [{ kind: 'silence' }, { kind: 'refuse', error: { code: 68, message: 'busy' } }] as const) {
      const { hypervisor } = await served({ domains: [web], ...at('domainGetInfo', how) })
      const found = await hypervisor.look(idOf(web), PATIENT_MS)
      expect(found).toMatchObject({ kind: 'active', state: 'running' })
      expect(found).not.toHaveProperty('vcpus')
    }
  })

  test('is asked on its read-only side', async () => {
    const web = domain()
    const { server, hypervisor } = await served({ domains: [web] })
    await hypervisor.look(idOf(web), PATIENT_MS)
    const opening = server.protocol.calls.find(({ name }) => name === 'connectOpen')
    expect(opening?.payload.at(-1)).toBe(1)
  })
})

describe('a libvirt that does not answer is silent, and the domain never absent', () => {
  const PROCEDURES = ['authList', 'connectOpen', 'domainLookupByName', 'domainLookupByUUID', 'domainGetState'] as const
  const refusal = (code: number, message: string): Misbehaviour => ({ kind: 'refuse', error: { code, message } })
  const WAYS: [string, Misbehaviour][] = [
    ['refuses by code 1, in the words of an absence', refusal(1, 'Domain not found: failed to get domain')],
    ['refuses by code 38', refusal(38, 'cannot connect')],
    ['refuses by code 45', refusal(45, 'authentication failed')],
    ['refuses by code 68', refusal(68, 'cannot acquire state change lock')],
    ['refuses by code 88', refusal(88, 'access denied')],
    ['says nothing', { kind: 'silence' }],
    ['closes', { kind: 'close' }],
    ['is cut off in the middle', { kind: 'cut', afterBytes: 10 }],
    ['sends what is no protocol', { kind: 'garbage', bytes: new Uint8Array(64).fill(7) }],
  ]

  test.each(PROCEDURES.flatMap(procedure => WAYS.map(([what, how]) => [procedure, what, how] as const)))(
    'at %s it %s',
    async (procedure, what, how) => {
      const web = domain()
      const { hypervisor } = await served({ domains: [web], ...at(procedure, how) })
      // Known by a former name, so that every question is asked.
      const found = await hypervisor.look({ names: [web.name], uuids: [randomUUID()] }, 300)
      // It took the question: a start may be under way, whose process is still to come.
      const process = ['closes', 'is cut off in the middle'].includes(what) ? undefined : 'unknown'
      expect(found).toMatchObject({ kind: 'silent', installed: expect.any(Boolean), process })
      expect(found.kind === 'silent' && found.why).toMatch(/^libvirt [^\n]+$/)
    },
  )

  test('and is asked anew by the next look', async () => {
    const web = domain()
    let isWell = false
    const { hypervisor } = await served({
      domains: [web],
      misbehave: ({ name }) => (isWell || name !== 'domainLookupByName' ? undefined : { kind: 'close' }),
    })
    expect(await hypervisor.look(idOf(web), 1000)).toMatchObject({ kind: 'silent' })
    isWell = true
    expect(await hypervisor.look(idOf(web), 1000)).toMatchObject({ kind: 'active' })
  })

  test('when nobody listens, and when there is no socket', async () => {
    const folder = await temporaryFolder()
    const server = await startLibvirt(folder, { domains: [] })
    await server.close()
    for (const path of [server.path, join(folder, 'no', 'socket'), folder])
      expect(await hypervisorAt(path).look(idOf(domain()), 1000)).toMatchObject({ kind: 'silent', process: undefined })
  })

  test('and where processes do not say whose they are, nobody knows', async () => {
    const uri = `xen:///system?socket=${await temporaryFolder()}/no`
    const local = localUri(uri)
    if (local === undefined) throw new Error('not local')
    expect(await new Hypervisor(uri, local).look(idOf(domain()), 1000)).toMatchObject({
      kind: 'silent',
      process: 'unknown',
    })
  })
})

describe('a look ends in time', () => {
  const tookMs = async (work: Promise<unknown>) => {
    const begun = performance.now()
    await work
    return performance.now() - begun
  }

  test('when libvirt says nothing', async () => {
    for (const procedure of ['authList', 'domainLookupByName', 'domainGetState']) {
      const web = domain()
      const { hypervisor } = await served({ domains: [web], ...at(procedure, { kind: 'silence' }) })
      expect(await tookMs(hypervisor.look(idOf(web), 300)), procedure).toBeLessThan(2500)
    }
  })

  test('also on a connection that was opened when there was more time', async () => {
    const web = domain()
    let isMute = false
    const { hypervisor } = await served({
      domains: [web],
      misbehave: ({ name }) => (isMute && name === 'domainLookupByName' ? { kind: 'silence' } : undefined),
    })
    expect(await hypervisor.look(idOf(web), 6000)).toMatchObject({ kind: 'active' })
    isMute = true
    expect(await tookMs(hypervisor.look(idOf(web), 300))).toBeLessThan(2500)
  })
})

describe('the domain of a resource', () => {
  const tag = (instance: string) =>
    `<domain><name>x</name><metadata><h:resource xmlns:h="${TAG_NAMESPACE}" instance="${instance}"/></metadata></domain>`

  async function looked(options: ServerOptions, config: string, before?: { name: string; uuid: string }) {
    const folder = await temporaryFolder()
    const server = await startLibvirt(folder, options)
    const parameters = { config, hypervisor: uriAt(server.path) }
    if (before !== undefined)
      remember(callOf('monitor', environmentOf(parameters, { HA_RSCTMP: folder })), { config, ...before })
    return agents.look(await openedAgent(folder, 'monitor', parameters), 1000)
  }

  test('without its definition is what is remembered, even under another name', async () => {
    const web = domain()
    const before = { name: 'former', uuid: web.uuid }
    expect(await looked({ domains: [web] }, '/nowhere/web.xml', before)).toMatchObject({
      kind: 'active',
      uuid: web.uuid,
    })
  })

  test('without definition and memory is what bears its tag', async () => {
    const web = domain({ xml: tag('web') })
    expect(await looked({ domains: [domain({ xml: tag('other') }), web] }, '/nowhere/x.xml')).toMatchObject({
      kind: 'active',
      uuid: web.uuid,
    })
  })

  test('without anything else is what has the name of the file', async () => {
    const web = domain()
    expect(await looked({ domains: [web] }, `/nowhere/${web.name}.xml`)).toMatchObject({
      kind: 'active',
      uuid: web.uuid,
    })
  })

  test('is absent when nothing of that is active', async () => {
    const off = domain({ state: 'shutoff', xml: tag('web') })
    expect(await looked({ domains: [off, domain()] }, `/nowhere/${off.name}.xml`)).toEqual({ kind: 'absent' })
  })

  test.each<[string, Misbehaviour]>([
    ['refused', { kind: 'refuse', error: { code: 1, message: 'internal error' } }],
    ['not answered', { kind: 'silence' }],
    ['ended by a lost connection', { kind: 'close' }],
  ])('is not absent when the list, in which its tag would be, is %s', async (_, how) => {
    const web = domain({ xml: tag('web') })
    const found = await looked({ domains: [web], ...at('connectListAllDomains', how) }, '/nowhere/x.xml')
    expect(found.kind).not.toBe('absent')
  })

  test('is not absent when libvirt does not give the definition in which its tag would be', async () => {
    const web = domain({ xml: tag('web') })
    const busy: Misbehaviour = { kind: 'refuse', error: { code: 68, message: 'cannot acquire state change lock' } }
    const found = await looked({ domains: [web], ...at('domainGetXMLDesc', busy) }, '/nowhere/x.xml')
    expect(found.kind).not.toBe('absent')
  })

  test('whose definition has a uuid that is none is looked for by its name', async () => {
    const { writeFile } = await import('node:fs/promises')
    const folder = await temporaryFolder()
    const web = domain()
    const server = await startLibvirt(folder, { domains: [web] })
    const config = join(folder, 'web.xml')
    await writeFile(config, `<domain><name>${web.name}</name><uuid>to be done</uuid></domain>`)
    const agent = await openedAgent(folder, 'monitor', { config, hypervisor: uriAt(server.path) })
    expect(await agents.look(agent, 1000)).toMatchObject({ kind: 'active', uuid: web.uuid })
  })
})

test('opening an agent never fails, whatever the parameters are', async () => {
  for (const hypervisor of ['qemu:///system?socket=/run/100%', 'qemu+ssh://x/', 'nonsense', '-c', '\n']) {
    const environment = environmentOf({ config: 'x', hypervisor })
    const call = callOf('stop', environment)
    const agent = await openAgent(call, new Log(call, environment), new AbortController().signal)
    expect(agent.problems.map(({ code }) => code)).toContain(6)
  }
})
