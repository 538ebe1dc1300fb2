/** One node during one command: whatever its libvirt does, the look is a value with one sentence, and comes in time. */
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { duplexPair } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { SilentNode, UpNode } from '../../src/core/node.ts'
import { ConnectionError, type Dialer, unixSocket } from '../../src/libvirt/index.ts'
import type { Reach } from '../../src/nodes/reach.ts'
import { type Inquiry, Session } from '../../src/nodes/session.ts'
import { ProtocolServer, Refusal, type ServedDomain, type ServerOptions } from '../libvirt/server.ts'
import { domainXml, temporaryFolder } from '../store/parts.ts'

const HOST = '4c4c4544-0042-3510-8054-b2c04f4d3632'
const UUIDS = [1, 2, 3].map(n => `${n}1111111-2222-4333-8444-555555555555`)
const [WEB = '', DB = '', OFF = ''] = UUIDS
const CAPABILITIES = `<capabilities><host><uuid>${HOST.toUpperCase()}</uuid><cpu><arch>x86_64</arch><model>Skylake</model></cpu></host></capabilities>`
const DOMAINS: readonly ServedDomain[] = [
  { name: 'web', uuid: WEB, xml: domainXml('web', WEB), state: 'running', persistent: false },
  { name: 'db', uuid: DB, xml: domainXml('db', DB), state: 'paused', reason: 3, autostart: true, hasSnapshot: true },
  { name: 'off', uuid: OFF, xml: domainXml('off', OFF), state: 'shutoff', managedSave: true },
]
/** Long enough for every answer, short enough to wait for none. */
const DEADLINE_MS = 300
const NO_DOMAIN = 42
const ALL_DOMAINS = { capabilitiesXml: CAPABILITIES, domains: DOMAINS }

const sessions: Session[] = []
afterEach(() => {
  for (const session of sessions.splice(0)) session.close()
})

/** Dials the server through memory. */
const dialerOf =
  (server: ProtocolServer): Dialer =>
  async () => {
    const [ours, theirs] = duplexPair()
    server.serve(theirs as Duplex)
    return ours as Duplex
  }

function reachBy(...dialers: readonly Dialer[]): Reach {
  return {
    uri: 'qemu:///system',
    dialers: () => [...dialers],
    run: async () => ({ status: 255, signal: undefined, stdout: '', stderr: 'ssh: gone\n', timedOut: false }),
  }
}

function sessionOf(reach: Reach, hostUuid = HOST, timeoutMs = DEADLINE_MS): Session {
  const session = new Session(reach, { name: 'node1', hostUuid }, timeoutMs)
  sessions.push(session)
  return session
}

function serve(options: Partial<ServerOptions> = {}) {
  const server = new ProtocolServer({ ...ALL_DOMAINS, ...options })
  return { server, session: sessionOf(reachBy(dialerOf(server))) }
}

function up(seen: UpNode | SilentNode): UpNode {
  if (seen.state !== 'up') throw new Error(`${seen.state}: ${seen.reason}`)
  return seen
}

/** A silent node, said in one sentence, within the deadline. */
async function silent(session: Session, state: SilentNode['state'], within = DEADLINE_MS): Promise<SilentNode> {
  const startedMs = performance.now()
  const seen = await session.look()
  expect(performance.now() - startedMs).toBeLessThan(within + 250)
  expect(seen.state).toBe(state)
  if (seen.state === 'up') throw new Error('it is up')
  expect(seen.reason).toMatch(/^[^\n]{5,300}$/)
  expect(seen.hint).toMatch(/node1/)
  return seen
}

describe('a node that answers', () => {
  test('is up, with its domains and what they are', async () => {
    const seen = up(await serve({ networks: [{ name: 'front', uuid: WEB }] }).session.look())
    expect(seen).toMatchObject({
      hostUuid: HOST,
      cpuModel: 'Skylake',
      cpus: 16,
      memoryMiB: 65_536,
      networks: ['front'],
    })
    const by = new Map(seen.domains.map(domain => [domain.name, domain]))
    expect(by.get('web')).toMatchObject({ state: 'running', active: true, persistent: false, memoryMiB: 256, vcpus: 1 })
    expect(by.get('db')).toMatchObject({
      state: 'paused',
      stateReason: 3,
      active: true,
      autostart: true,
      snapshots: true,
    })
    expect(by.get('off')).toMatchObject({ state: 'shutoff', active: false, managedSave: true, persistent: true })
  })

  test('is asked over one connection for all looks, and events in between are heard', async () => {
    const { server, session } = serve()
    up(await session.look())
    const mark = session.events.length
    server.emit({ domain: { name: 'web', uuid: WEB, id: 1 }, event: 5, detail: 0 })
    up(await session.look())
    expect(server.clients).toBe(1)
    expect(session.events.slice(mark).map(({ domain }) => domain.name)).toEqual(['web'])
  })

  test('says once who it is and what it has, and for each look what it runs', async () => {
    const calls: (string | undefined)[] = []
    const { session } = serve({
      misbehave: call => {
        calls.push(call.name)
        return undefined
      },
    })
    const [first, second] = [up(await session.look()), up(await session.look())]
    expect(second).toEqual(first)
    const times = (name: string) => calls.filter(each => each === name).length
    expect(['connectGetCapabilities', 'nodeGetInfo', 'connectGetAllDomainStats'].map(times)).toEqual([1, 1, 2])
  })

  test('and has no networks, pools, saved images or snapshots, because its driver knows none', async () => {
    const refuse = () => {
      throw new Refusal({ code: 3, message: 'this function is not supported by the connection driver' })
    }
    const seen = up(
      await serve({ answers: { connectListAllNetworks: refuse, connectListAllStoragePools: refuse } }).session.look(),
    )
    expect(seen).toMatchObject({ networks: [], pools: [] })
  })

  test('when its first socket leads nowhere and the second does not', async () => {
    const server = new ProtocolServer(ALL_DOMAINS)
    const nowhere = unixSocket(join(await temporaryFolder(), 'nowhere'))
    expect((await sessionOf(reachBy(nowhere, dialerOf(server))).look()).state).toBe('up')
  })

  test('but not to the questions about its disks: it is up, and why is told', async () => {
    const seen = up(await serve().session.look({ paths: ['/x'], devices: [] }))
    expect(seen).toMatchObject({ inquiryProblem: 'ssh: gone' })
    for (const path of ['/a\nb', '/a\tb'])
      expect(up(await serve().session.look({ paths: [path], devices: [] })).inquiryProblem).toContain(
        'line break or tab',
      )
  })
})

describe('a node that is approached', () => {
  test('is looked at over the connection that was begun', async () => {
    const { server, session } = serve()
    session.approach()
    up(await session.look())
    expect(server.clients).toBe(1)
  })

  test('and does not answer then is dialled again for the look', async () => {
    let dials = 0
    const server = new ProtocolServer(ALL_DOMAINS)
    const session = sessionOf(
      reachBy(async signal => {
        if (dials++ === 0) throw new ConnectionError('refused', 'nobody listens')
        return dialerOf(server)(signal)
      }),
    )
    session.approach()
    await setImmediate()
    up(await session.look())
    expect(dials).toBe(2)
  })

  test('and ends the connection before the look is dialled again; after the look it is busy, since events were missed', async () => {
    const ends: Duplex[] = []
    const server = new ProtocolServer(ALL_DOMAINS)
    const session = sessionOf(
      reachBy(async () => {
        const [ours, theirs] = duplexPair()
        server.serve(theirs as Duplex)
        ends.push(theirs as Duplex)
        return ours as Duplex
      }),
    )
    session.approach()
    await vi.waitFor(() => expect(server.clients).toBe(1))
    await setImmediate()
    ends[0]?.end()
    await setImmediate()
    up(await session.look())
    ends[1]?.end()
    await setImmediate()
    await silent(session, 'busy')
  })
})

describe('QEMUs that libvirt does not list', () => {
  const STRAY = '99999999-2222-4333-8444-555555555555'
  const HELD = '{"driver":"file","filename":"/srv/stray.img","node-name":"s"}'
  const process = (pid: number, uuid: string, name: string, more: readonly string[] = []) =>
    ['-name', `guest=${name}`, '-m', '64', '-uuid', uuid, '-blockdev', HELD, ...more].map(
      (arg, at) => `/proc/${pid}/cmdline${at % 2 === 0 ? ':' : '-'}${arg}`,
    )
  const FACTS = ['path\t0\t0\tregular file\t/srv/stray.img', 'canonical\t/srv/stray.img\0']

  /** A node whose script answers this, one answer after the other and the last one again. */
  function asked(answers: readonly (readonly string[])[], options: Partial<ServerOptions> = {}) {
    const server = new ProtocolServer({ ...ALL_DOMAINS, ...options })
    const inputs: string[] = []
    const reach = reachBy(dialerOf(server))
    const run: Reach['run'] = async (_line, { stdin = '' }) => {
      const answer = answers[Math.min(inputs.length, answers.length - 1)] ?? []
      inputs.push(stdin)
      return { status: 0, signal: undefined, stdout: `${[...answer, 'end'].join('\n')}\n`, stderr: '', timedOut: false }
    }
    const look = async (inquiry: Partial<Inquiry> = {}) =>
      up(await sessionOf({ ...reach, run }).look({ paths: [], devices: [], processes: true, ...inquiry }))
    return { look, inputs, server }
  }
  const uuidLike = (digit: number) => `${digit}9999999-2222-4333-8444-555555555555`
  const OURS = [...process(1, WEB, 'web'), ...process(2, DB, 'db')]

  test('are domains that run, with their disks and what is known of these', async () => {
    const { look, inputs } = asked([
      [...OURS, ...process(3, STRAY, 'stray')],
      [...process(3, STRAY, 'stray'), ...FACTS],
    ])
    const seen = await look()
    expect(seen.domains).toHaveLength(DOMAINS.length + 1)
    expect(seen.domains.at(-1)).toMatchObject({
      name: 'stray',
      uuid: STRAY,
      state: 'running',
      active: true,
      persistent: false,
      memoryMiB: 64,
      unlistedPid: 3,
      definition: { disks: [{ source: { kind: 'file', path: '/srv/stray.img' } }] },
    })
    expect(seen.paths.get('/srv/stray.img')).toMatchObject({ exists: true, kind: 'file' })
    expect(inputs).toEqual(['', '/srv/stray.img\n'])
  })

  test('take the place of what libvirt shows as off, and keep what it knows of that', async () => {
    const seen = await asked([process(3, OFF, 'off')]).look()
    expect(seen.domains.filter(({ uuid }) => uuid === OFF)).toMatchObject([
      { active: true, unlistedPid: 3, persistent: true, managedSave: true },
    ])
  })

  test('are one more beside what libvirt shows as running under their uuid', async () => {
    const twins = [...process(3, WEB, 'web'), ...process(4, WEB, 'web'), 'pid\t4']
    const seen = await asked([twins]).look()
    expect(seen.domains.filter(({ uuid }) => uuid === WEB).map(({ unlistedPid }) => unlistedPid)).toEqual([
      undefined,
      3,
    ])
  })

  test('have no definition when an argument is not understood', async () => {
    const odd = process(3, STRAY, 'stray', ['-drive', 'file=nbd:x'])
    const stray = (await asked([odd]).look()).domains.at(-1)
    expect(stray).not.toHaveProperty('definition')
    expect(stray).toMatchObject({ unlistedPid: 3, problem: expect.stringContaining('nbd:x') })
  })

  test('none is suspected where libvirt lists all, and nothing is asked again', async () => {
    const { look, inputs, server } = asked([OURS])
    expect((await look()).domains.every(({ unlistedPid }) => unlistedPid === undefined)).toBe(true)
    expect(inputs).toHaveLength(1)
    expect(server.calls.filter(({ name }) => name === 'connectListAllDomains')).toHaveLength(5)
  })

  test('one that began after libvirt was asked is no stray: it is in the next list', async () => {
    const late = { name: 'late', uuid: STRAY, id: 9 }
    let lists = 0
    const answers = {
      connectListAllDomains: ({ flags }: { flags: number }) => {
        const domains = flags === 1 && ++lists > 0 ? [late] : []
        return { domains, ret: domains.length }
      },
    }
    const seen = await asked([process(3, STRAY, 'late')], { answers }).look()
    expect(lists).toBe(1)
    expect(seen.domains).toEqual([])
  })

  test('one that begins while a stray is looked at again is none: libvirt was asked before', async () => {
    const stray = process(3, STRAY, 'stray')
    const seen = await asked([stray, [...stray, ...process(9, uuidLike(9), 'new')]]).look()
    expect(seen.domains.flatMap(({ unlistedPid }) => unlistedPid ?? [])).toEqual([3])
  })

  test('one that ends meanwhile is no stray: it has no process any more', async () => {
    const { look, inputs } = asked([[...OURS, ...process(3, STRAY, 'gone')], OURS])
    expect((await look()).domains.every(({ unlistedPid }) => unlistedPid === undefined)).toBe(true)
    expect(inputs).toHaveLength(2)
  })

  test('that cannot be looked for make the node one that did not answer everything', async () => {
    const server = new ProtocolServer(ALL_DOMAINS)
    const seen = up(await sessionOf(reachBy(dialerOf(server))).look({ paths: [], devices: [], processes: true }))
    expect(seen).toMatchObject({ inquiryProblem: 'ssh: gone' })
  })

  test('the disks of present domains are asked for when that is wanted, and those of others are not', async () => {
    const READ = `<disk type='file'><source file='/srv/base.img'/><target dev='vdy'/><readonly/></disk>`
    const disk = (xml: string, source: string) =>
      xml.replace(
        '</domain>',
        `<devices><disk type='file'>${source}<target dev='vdz'/></disk>${READ}</devices></domain>`,
      )
    const held = (name: string, uuid: string) => disk(domainXml(name, uuid), `<source file='/srv/${name}.img'/>`)
    const domains = DOMAINS.map(each => ({ ...each, managedSave: false, xml: held(each.name, each.uuid) }))
    const { look, inputs } = asked([[]], { domains })
    await look({ paths: ['/own'], held: true })
    await look({ paths: ['/own'] })
    expect(inputs.map(each => each.split('\n').filter(path => /^.(own|srv)/.test(path)))).toEqual([
      ['/own', '/srv/web.img', '/srv/db.img'],
      ['/own'],
    ])
  })

  test('what the last look showed is asked for at once, and only what is new after the list', async () => {
    const disk = (name: string) =>
      `<devices><disk type='file'><source file='/srv/${name}.img'/><target dev='vdz'/></disk></devices></domain>`
    const served = (name: string, uuid: string): ServedDomain => ({
      name,
      uuid,
      xml: domainXml(name, uuid).replace('</domain>', disk(name)),
      state: 'running',
    })
    const servers = [[served('web', WEB)], [served('web', WEB), served('db', DB)]].map(
      domains => new ProtocolServer({ ...ALL_DOMAINS, domains }),
    )
    const asked: string[][] = []
    const run: Reach['run'] = async (_line, { stdin = '' }) => {
      asked.push(stdin.split('\n').filter(line => line !== ''))
      return { status: 0, signal: undefined, stdout: 'end\n', stderr: '', timedOut: false }
    }
    const session = sessionOf({
      ...reachBy(signal => dialerOf(servers.shift() as ProtocolServer)(signal)),
      run,
    })
    const inquiry = { paths: [], devices: [], held: true }
    up(await session.look())
    session.close()
    const { paths } = up(await session.look(inquiry))
    expect(asked).toEqual([['/srv/web.img'], ['/srv/db.img']])
    expect([...paths.keys()]).toEqual(['/srv/web.img', '/srv/db.img'])
    up(await session.look(inquiry))
    expect(asked.slice(2)).toEqual([['/srv/web.img', '/srv/db.img']])
  })
})

describe('domains that come and go', () => {
  const gone = (uuid: string) => () => {
    throw new Refusal({ code: NO_DOMAIN, message: `Domain not found: no domain with matching uuid '${uuid}'` })
  }

  test('one that vanishes between the list and its definition is left out', async () => {
    const answers = {
      domainGetXMLDesc: ({ domain }: { domain: { uuid: string } }) =>
        domain.uuid === WEB ? gone(WEB)() : { xml: domainXml('x', domain.uuid) },
    }
    const seen = up(await serve({ answers }).session.look())
    expect(seen.domains.map(({ name }) => name).sort()).toEqual(['db', 'off'])
  })

  test('one that vanishes between the list and its state is left out', async () => {
    const answers = {
      connectGetAllDomainStats: () => ({ records: [] }),
      domainGetState: ({ domain }: { domain: { uuid: string } }) =>
        domain.uuid === WEB ? gone(WEB)() : { state: 1, reason: 1 },
    }
    const seen = up(await serve({ answers }).session.look())
    expect(seen.domains.map(({ name }) => name).sort()).toEqual(['db', 'off'])
  })

  test.each([
    ['not XML', 'cut <domain'],
    ['no domain', '<network/>'],
    ['a bomb', '<!DOCTYPE d [<!ENTITY a "aaaa">]><domain/>'],
  ])('one whose definition is %s is present, with its problem', async (_what, xml) => {
    const [web, ...others] = DOMAINS
    if (web === undefined) throw new Error('no domain')
    const seen = up(await serve({ domains: [{ ...web, xml }, ...others] }).session.look())
    const found = seen.domains.find(({ name }) => name === 'web')
    expect(found).toMatchObject({ state: 'running', active: true, vcpus: 0, memoryMiB: 0 })
    expect(found?.problem).toMatch(/^[^\n]{5,}$/)
    expect(found).not.toHaveProperty('definition')
  })

  test('one that libvirt does not want to describe is present, with its problem', async () => {
    const answers = {
      domainGetXMLDesc: () => {
        throw new Refusal({ code: 68, message: 'Timed out during operation: cannot acquire state change lock' })
      },
    }
    const seen = up(await serve({ answers }).session.look())
    expect(seen.domains.map(({ problem }) => problem)).toEqual(
      DOMAINS.map(() => 'Timed out during operation: cannot acquire state change lock'),
    )
  })

  test("one domain's state is its state, absent, or not known", async () => {
    const { session, server } = serve()
    expect(await session.domainState(DB)).toEqual({ state: 'paused', stateReason: 3 })
    expect(await session.domainState(OFF)).toBe('absent')
    expect(await session.domainState('99999999-2222-4333-8444-555555555555')).toBe('absent')
    server.disconnect()
    const dead = sessionOf(reachBy(async () => Promise.reject(new ConnectionError('refused', 'gone'))))
    expect(await dead.domainState(DB)).toBeUndefined()
  })
})

describe('a node that is unreachable', () => {
  test('because another machine answers', async () => {
    const server = new ProtocolServer(ALL_DOMAINS)
    const seen = await silent(
      sessionOf(reachBy(dialerOf(server)), 'ffffffff-0042-3510-8054-b2c04f4d3632'),
      'unreachable',
    )
    expect(seen.reason).toContain('another machine answered')
    expect(seen.hint).toContain('alias')
  })

  test('because it does not say who it is', async () => {
    expect((await silent(serve({ capabilitiesXml: '<capabilities/>' }).session, 'unreachable')).reason).toContain(
      'another machine answered',
    )
  })

  test('because nobody listens', async () => {
    const nowhere = unixSocket(join(await temporaryFolder(), 'nowhere'))
    await silent(sessionOf(reachBy(nowhere, nowhere)), 'unreachable')
  })

  test('because the socket accepts, and never answers', async () => {
    const { session } = serve({ misbehave: () => ({ kind: 'silence' }) })
    await silent(session, 'unreachable')
  })

  test('because dialling itself hangs', async () => {
    await silent(sessionOf(reachBy(() => new Promise(() => undefined))), 'unreachable')
  })

  test('because what answers is no libvirt', async () => {
    const bytes = Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')
    await silent(serve({ misbehave: () => ({ kind: 'garbage', bytes }) }).session, 'unreachable')
  })
})

describe('a node that is busy', () => {
  test.each(['connectListAllDomains', 'connectGetAllDomainStats', 'domainGetXMLDesc', 'nodeGetInfo'] as const)(
    'because it never answers %s',
    async name => {
      const { session } = serve({
        misbehave: call => (call.name === name ? { kind: 'silence' } : undefined),
      })
      expect((await silent(session, 'busy')).reason).toContain('no answer within 0.3 s')
    },
  )

  test.each([
    ['it stops in the middle of an answer', { kind: 'cut', afterBytes: 40 }],
    ['it ends the connection', { kind: 'close' }],
    ['it answers garbage', { kind: 'garbage', bytes: Buffer.alloc(64, 0xff) }],
    ['it refuses the list', { kind: 'refuse', error: { code: 38, message: 'internal error: no such thing' } }],
  ] as const)('because %s', async (_why, how) => {
    const { session } = serve({ misbehave: call => (call.name === 'connectListAllDomains' ? how : undefined) })
    await silent(session, 'busy')
  })

  test('is asked on a new connection the next time, and can be up again', async () => {
    let broken = true
    const { session, server } = serve({
      misbehave: call =>
        broken && call.name === 'connectListAllDomains' ? { kind: 'cut', afterBytes: 40 } : undefined,
    })
    await silent(session, 'busy')
    broken = false
    up(await session.look())
    expect(server.clients).toBe(1)
  })
})
