/**
 * The built program with input that is wrong: one clear sentence, the right exit status, no stack trace, and nothing changed.
 * It is built into a folder of the test's own, where /run/havirt and /var/lib/havirt are that folder's, too.
 */
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { run } from '../src/nodes/process.ts'
import { DirectoryStore } from '../src/store/directory.ts'
import { Records } from '../src/store/records.ts'
import { domainXml, listing } from './store/parts.ts'

const REPOSITORY = join(import.meta.dirname, '..')
const CLUSTER = '0c5d7a52-1a1e-4f0a-9a44-0d2a3f1d5b10'

let app = ''
let home = ''
const inHome = (...path: string[]) => join(home, ...path)

beforeAll(async () => {
  app = await mkdtemp(join(tmpdir(), 'havirt-app-'))
  for (const folder of ['bin', 'scripts', 'run', 'lib', 'fake']) await mkdir(join(app, folder), { mode: 0o700 })
  for (const file of ['bin/havirt', 'scripts/build.mjs']) await copyFile(join(REPOSITORY, file), join(app, file))
  await symlink(join(REPOSITORY, 'node_modules'), join(app, 'node_modules'))
  execFileSync(process.execPath, [join(app, 'scripts', 'build.mjs')], { cwd: REPOSITORY })
  for (const file of (await readdir(join(app, 'dist'))).filter(name => name.endsWith('.cjs'))) {
    const path = join(app, 'dist', file)
    const text = await readFile(path, 'utf8')
    await writeFile(
      path,
      text.replaceAll('/run/havirt', join(app, 'run')).replaceAll('/var/lib/havirt', join(app, 'lib')),
    )
  }
  // Whoever asks for a node gets no further than this.
  await writeFile(join(app, 'fake', 'ssh'), `#!/bin/sh\necho "$@" >>${app}/ssh-calls\nexit 255\n`, { mode: 0o755 })
}, 60_000)
afterAll(() => rm(app, { recursive: true, force: true }))

interface Ended {
  readonly status: number | undefined
  readonly stdout: string
  readonly stderr: string
}

async function havirt(...words: readonly string[]): Promise<Ended> {
  const environment = `HAVIRT_HOME=${home}`
  const search = `PATH=${join(app, 'fake')}:${process.env['PATH']}`
  const runtime = `XDG_RUNTIME_DIR=${join(app, 'run')}`
  const { status, stdout, stderr } = await run(
    'env',
    ['-u', 'HAVIRT_DEBUG', environment, search, runtime, join(app, 'bin', 'havirt'), ...words],
    { timeoutMs: 20_000 },
  )
  return { status, stdout, stderr }
}

/**
 * Runs it, and checks what holds for every bad input: the status; one message, whose first line is a sentence and whose
 * second, if there is one, says what to do; no trace; the home as it was; and no ssh.
 */
async function refuses(status: number, ...words: readonly string[]): Promise<string> {
  const before = await listing(home).catch(() => undefined)
  const ended = await havirt(...words)
  expect(ended.status, ended.stderr).toBe(status)
  const [sentence = '', ...more] = ended.stderr.replace(/\n$/, '').split('\n')
  expect(sentence).toMatch(/^(error|refused|warning|havirt): .{10,}/)
  expect(more.length, ended.stderr).toBeLessThanOrEqual(2)
  for (const line of more) expect(line).toMatch(/^( {7,}\S.*|\(.*\))$/)
  expect(ended.stderr).not.toMatch(/\n\s+at |node:internal|TypeError|\.mjs/)
  expect(await listing(home).catch(() => undefined)).toEqual(before)
  expect(await readFile(join(app, 'ssh-calls'), 'utf8').catch(() => '')).toBe('')
  return sentence
}

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'havirt-home-'))
  await rm(join(app, 'ssh-calls'), { force: true })
  await rm(join(app, 'lib', 'id'), { force: true })
  return () => rm(home, { recursive: true, force: true })
})

/** A home that was opened once, and works. */
async function openedHome(): Promise<void> {
  expect(await havirt('node', 'list')).toMatchObject({ status: 0 })
}

describe('config.yaml', () => {
  test.each([
    ['a tab', 'dryrun: true\nobserve:\n\ttimeoutMs: 500\n', 3, /tab/i],
    ['an unknown key', '# ours\n\ndryrum: true\n', 3, /unknown.*dryrum.*dryrun/],
    ['a wrong type', 'claim:\n  ttlMs: soon\n', 2, /claim\.ttlMs.*(number|integer)/],
    ['a value out of range', 'claim:\n  ttlMs: 1\n', 2, /claim\.ttlMs.*3000/],
    ['a list in place of all', '- dryrun\n', 1, /./],
    ['bytes that are no text', '\u0000\u0001\ufffd\u0007', 1, /./],
    ['an alias bomb', 'a: &a [x, x]\nb: &b [*a, *a]\ndryrun: *b\n', 1, /./],
  ] as const)('with %s: status 2, file and line, and nothing is made', async (_what, text, line, words) => {
    await writeFile(inHome('config.yaml'), text)
    const before = await listing(home)
    const { status, stderr } = await havirt('node', 'list')
    expect({ status, changed: await listing(home) }).toEqual({ status: 2, changed: before })
    const problems = stderr.trimEnd().split('\n')
    for (const problem of problems) expect(problem).toMatch(/^error: \S+config\.yaml:\d+: .{10,}$/)
    expect(problems[0]).toContain(`${inHome('config.yaml')}:${line}: `)
    expect(problems[0]).toMatch(words)
  })

  test('that is no UTF-8', async () => {
    await writeFile(inHome('config.yaml'), Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x0a, 0x93]))
    expect(await refuses(2, 'node', 'list')).toContain('config.yaml:1: ')
  })

  test.each(['', '# nothing\n', '\ufeff', '---\n'])('that says nothing (%j) works', async text => {
    await writeFile(inHome('config.yaml'), text)
    expect(await havirt('node', 'list')).toMatchObject({ status: 0 })
    expect(await readFile(inHome('config.yaml'), 'utf8')).toBe(text)
  })

  test('that is a folder', async () => {
    await mkdir(inHome('config.yaml'))
    expect(await refuses(1, 'node', 'list')).toContain(inHome('config.yaml'))
  })
})

describe('conf/NAME.xml', () => {
  const BOMB = `<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n${domainXml().replace('web', '&b;')}`

  test.each([
    ['cut off', domainXml().slice(0, 90), /web\.xml: line \d/],
    ['empty', '', /web\.xml: line 1/],
    ['no domain', '<network><name>web</name></network>\n', /web\.xml: line 1.*domain/],
    ['an entity bomb', BOMB, /web\.xml: line 1.*(DOCTYPE|document type|entit)/i],
    ['two domains', `${domainXml()}${domainXml()}`, /web\.xml: line 8/],
    [
      '10 MB',
      `${domainXml()}<!--${'x'.repeat(10_000_000)}-->`,
      /web\.xml has 10000\d{3} bytes; a definition has at most/,
    ],
    ['with a path as name', domainXml('../../etc/passwd'), /web\.xml: line 2.*name: expected a name of letters/],
    ['with an option as name', domainXml('--help'), /web\.xml: line 2.*name: expected/],
    ['without a uuid', domainXml().replace(/<uuid>.*<\/uuid>/, ''), /web\.xml: line \d+.*uuid: expected/],
    ['with a bad uuid', domainXml('web', 'none'), /web\.xml: line 3.*uuid: expected/],
    ['with memory that is no number', domainXml().replace('256', 'much'), /web\.xml: line 4.*memory: expected/],
  ])('%s: named where it is listed, and refused where it is needed', async (_what, text, words) => {
    await openedHome()
    await writeFile(inHome('conf', 'web.xml'), text)
    await writeFile(inHome('conf', 'db.xml'), domainXml('db'))
    const asked = [
      refuses(0, 'domain', 'list'),
      refuses(3, 'domain', 'update', 'web'),
      refuses(3, 'domain', 'start', 'web', '--auto'),
      refuses(3, '-y', 'domain', 'start', 'web', '--auto'),
    ]
    for (const sentence of await Promise.all(asked)) expect(sentence).toMatch(words)
    expect((await havirt('domain', 'list')).stdout).toMatch(/^db\toff/m)
  })

  test('that defines another domain', async () => {
    await openedHome()
    await writeFile(inHome('conf', 'web.xml'), domainXml('db'))
    expect(await refuses(3, 'domain', 'start', 'web', '--auto')).toContain("defines the domain 'db', expected 'web'")
  })

  test.each(['../../etc/passwd', '/etc/passwd', '.', 'a/b', '', 'a\nb', '$(id)', 'x'.repeat(300)])(
    'a domain called %j is no domain',
    async name => {
      await openedHome()
      const asked = [
        ...['stop', 'update', 'adopt'].map(verb => refuses(3, 'domain', verb, name)),
        refuses(3, 'domain', 'list', name),
        refuses(3, '-y', 'domain', 'start', name, '--auto'),
      ]
      for (const sentence of await Promise.all(asked)) expect(sentence).toMatch(/^refused: there is no /)
    },
  )
})

describe('a record', () => {
  const TEXTS = {
    id: 'x',
    hostUuid: 'y',
    hostname: 'z',
    cpuModel: '',
    libvirtVersion: '',
    hypervisorVersion: '',
    updated: '',
  }
  const NUMBERS = { cpus: 1, memoryMiB: 1, sockets: 1, coresPerSocket: 1, threadsPerCore: 1, mhz: 1 }

  test('that is cut off anywhere stops everything that needs it, by name', async () => {
    await openedHome()
    await new Records(new DirectoryStore(inHome('var'))).writeNode({ name: 'node1', ...TEXTS, ...NUMBERS })
    const file = inHome('var', 'nodes', 'node1', '1.yaml')
    const whole = await readFile(file)
    for (const bytes of [0, 1, 20, 60, 85, 120, whole.length - 1]) {
      await writeFile(file, whole.subarray(0, bytes))
      expect(await refuses(1, 'node', 'list'), `${bytes} bytes`).toContain(`${file} is damaged`)
    }
    for (const words of [['node', 'scan'], ['domain', 'list'], ['-y', 'domain', 'start', 'web', '--auto'], ['info']])
      expect(await refuses(1, ...words)).toContain(`${file} is damaged`)
    await writeFile(file, whole)
    expect((await havirt('node', 'list')).stdout).toContain('node1\tz')
  })

  test('of the cluster that is damaged', async () => {
    await openedHome()
    const file = inHome('var', 'cluster', '1.yaml')
    await writeFile(file, 'id: mine\n')
    expect(await refuses(1, 'node', 'list')).toContain(`${file} is damaged`)
  })

  test('of a later havirt', async () => {
    await openedHome()
    await writeFile(inHome('var', 'cluster', '2.yaml'), '# havirt record 2 x y\nid: mine\n')
    expect(await refuses(1, 'node', 'list')).toContain('record format 2')
  })
})

describe('the name of a node', () => {
  test.each(['a b', '-oProxyCommand=touch x', '--', 'größe', '', '../x', 'a/b', 'a;b', 'root@node1'])(
    '%j is refused, and ssh is not asked',
    async name => {
      await openedHome()
      expect(await refuses(1, 'node', 'update', '--', name)).toBe(`error: '${name}' cannot be a node's name`)
      expect(await refuses(3, 'node', 'remove', '--', name)).toMatch(/^refused: there is no node/)
    },
  )
})

describe('the home', () => {
  test('that does not exist', async () => {
    await rm(home, { recursive: true })
    expect(await refuses(1, 'node', 'list')).toBe(`error: the home folder ${home} does not exist`)
    const named = await refuses(1, '--home', `${home}/other`, 'node', 'list')
    expect(named).toBe(`error: the home folder ${home}/other does not exist`)
  })

  test('that is a file', async () => {
    await rm(home, { recursive: true })
    await writeFile(home, '')
    expect(await refuses(1, 'node', 'list')).toContain(home)
  })

  test('of another cluster', async () => {
    await openedHome()
    await writeFile(join(app, 'lib', 'id'), `node: n\ncluster: ${CLUSTER}\n`)
    for (const words of [
      ['node', 'list'],
      ['-y', 'domain', 'start', 'web'],
      ['node', 'update', 'node1'],
    ])
      expect(await refuses(1, ...words)).toContain(`belongs to another cluster`)
  })

  test('that is empty where this machine knows a cluster: an unmounted share', async () => {
    await writeFile(join(app, 'lib', 'id'), `node: n\ncluster: ${CLUSTER}\n`)
    expect(await refuses(1, 'info')).toContain(`holds no cluster, but this machine belongs to one (${CLUSTER}`)
    expect(await readdir(home)).toEqual([])
  })
})

describe('the command line', () => {
  test.each([
    ['nonsense'],
    ['domain', 'nonsense'],
    ['domain', 'stop', 'web', '--timeout', '0'],
    ['-y', '--dryrun', 'info'],
    ['info', '--output'],
  ])('%s %s %s %s %s: status 2, and not even a home is opened', async (...words) => {
    await refuses(2, ...words.filter(word => word !== undefined))
    expect(await readdir(home)).toEqual([])
  })
})
