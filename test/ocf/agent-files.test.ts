/** The installed agent: the same tree by either way, from and to any path, and an sh launcher that answers for itself. */
import { type ExecFileSyncOptions, execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  type AgentFiles,
  agentFiles,
  installAgent,
  installedAgent,
  installScript,
  removeAgent,
} from '../../src/agent-files.ts'
import { metaData } from '../../src/core/agent/meta-data.ts'
import { temporaryFolder } from '../store/parts.ts'

const VERSION = '1.2.3'

/** Says what it got, instead of being an agent. */
const AGENT = `console.log(JSON.stringify({ words: process.argv.slice(2), options: process.env.NODE_OPTIONS ?? null }))
process.exit(42)`

/** A build that can be installed, and a root to install it to. */
interface Ground {
  readonly above: string
  readonly root: string
  readonly files: AgentFiles
}

async function ground(above: string, rootName: string): Promise<Ground> {
  const folder = await temporaryFolder()
  const machine = { above: join(folder, above), home: join(folder, 'home'), version: VERSION }
  const source = join(machine.above, 'dist', 'ocf')
  mkdirSync(source, { recursive: true })
  writeFileSync(join(source, 'agent.cjs'), AGENT)
  writeFileSync(join(source, 'keeper.cjs'), '// keeper')
  for (const api of ['1.0', '1.1'] as const) writeFileSync(join(source, `meta-data-${api}.xml`), metaData(api, VERSION))
  const root = join(folder, rootName)
  mkdirSync(root)
  return { above: machine.above, root, files: agentFiles(machine, root) }
}

/** Paths below the folder with their modes and texts; a copy of Node.js only by its size. */
function tree(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
  return Object.fromEntries(
    names.map(name => {
      const path = join(folder, name)
      const stat = statSync(path)
      const mode = (stat.mode & 0o777).toString(8)
      if (stat.isDirectory()) return [name, mode]
      return [
        name,
        `${mode} ${stat.size > 10_000_000 ? stat.size : readFileSync(path, 'utf8').replaceAll(/havirt-test-\w+/g, 'FOLDER')}`,
      ]
    }),
  )
}

const PLACES: [string, string, string][] = [
  ['plain', 'havirt', 'ocf'],
  ['with spaces', 'my havirt', 'my ocf root'],
  ['with quotes', `it's "havirt"`, `it's an "ocf"`],
  ['with signs of the shell', 'a$HOME`id`;&', 'b$(id)*?#'],
]

const run = (file: string, words: string[], env: Record<string, string>) => {
  const { status, stdout, stderr } = spawnSync(file, words, { env, encoding: 'utf8' })
  return { status, stdout, stderr }
}

describe.each(PLACES)('paths %s', (_, above, rootName) => {
  let at: Ground
  beforeEach(async () => {
    at = await ground(above, rootName)
  })

  test('the script makes the same tree as the installation', async () => {
    installAgent(at.files)
    const installed = tree(at.root)
    const copy = await ground(above, rootName)
    const options: ExecFileSyncOptions = { input: installScript(copy.files).join('\n'), stdio: 'pipe' }
    execFileSync('sh', ['-eu'], options)
    expect(tree(copy.root)).toEqual(installed)
    expect(Object.keys(installed)).toEqual(
      expect.arrayContaining([
        'lib/havirt/agent.cjs',
        'lib/havirt/cluster.json',
        'lib/havirt/keeper.cjs',
        'lib/havirt/meta-data-1.0.xml',
        'lib/havirt/meta-data-1.1.xml',
        'resource.d/havirt/VirtualDomain',
      ]),
    )
  })

  test('the launcher is sh, and hands everything on', () => {
    installAgent(at.files)
    expect(run('sh', ['-n', at.files.agent], {})).toMatchObject({ status: 0, stderr: '' })
    const { status, stdout } = run(at.files.agent, ['monitor', 'a b', '$x'], { NODE_OPTIONS: '--no-such-option' })
    expect(status).toBe(42)
    expect(JSON.parse(stdout)).toEqual({ words: ['monitor', 'a b', '$x'], options: null })
  })

  test('meta-data needs no Node.js and no environment', () => {
    installAgent(at.files)
    for (const part of ['agent.cjs', 'keeper.cjs']) rmSync(join(at.files.folder, part))
    expect(run(at.files.agent, ['meta-data'], {})).toEqual({ status: 0, stdout: metaData('1.0', VERSION), stderr: '' })
  })

  test('a part that is missing is error 1 with one reason, never "not installed"', () => {
    installAgent(at.files)
    rmSync(join(at.files.folder, 'agent.cjs'))
    for (const action of ['monitor', 'stop', 'start', '']) {
      const { status, stdout, stderr } = run(at.files.agent, [action], {})
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
      expect(stderr).toMatch(/^ocf-exit-reason:the agent is damaged: [^\n]* is missing; run: havirt ocf install\n$/)
      expect(stderr).toContain(at.files.folder)
    }
    expect(run(at.files.agent, ['monitor'], { OCF_EXIT_REASON_PREFIX: 'why=' }).stderr).toMatch(/^why=the agent is/)
  })

  test('uninstalling takes all of it away, and says before what that is', () => {
    writeFileSync(join(at.root, 'other'), '')
    installAgent(at.files)
    const shown = removeAgent(at.root, false)
    expect(existsSync(at.files.agent)).toBe(true)
    expect(removeAgent(at.root, true)).toEqual([at.files.agent, at.files.folder])
    expect(Object.keys(tree(at.root))).toEqual(['lib', 'other', 'resource.d'])
    expect(removeAgent(at.root, true)).toEqual([])
    installAgent(at.files)
    execFileSync('sh', ['-eu'], { input: shown.map(path => `rm -rf ${path}`).join('\n') })
    expect([existsSync(at.files.agent), existsSync(at.files.folder)]).toEqual([false, false])
  })
})

describe('an installation', () => {
  let at: Ground
  beforeEach(async () => {
    at = await ground('havirt', 'ocf')
    installAgent(at.files)
  })

  test('can be read by everybody and written by its owner, even under a narrow umask', async () => {
    const other = await ground('havirt', 'ocf')
    const former = process.umask(0o077)
    try {
      installAgent(other.files)
    } finally {
      process.umask(former)
    }
    for (const path of [dirnameOf(other.files.agent), other.files.folder])
      expect((statSync(path).mode & 0o777).toString(8), path).toBe('755')
    expect((statSync(other.files.agent).mode & 0o777).toString(8)).toBe('755')
    expect((statSync(join(other.files.folder, 'meta-data-1.0.xml')).mode & 0o777).toString(8)).toBe('644')
  })

  test('again leaves the same, and nothing beside it', () => {
    const before = tree(at.root)
    installAgent(at.files)
    expect(tree(at.root)).toEqual(before)
  })

  test('that fails in the middle leaves the old agent whole, and nothing beside it', () => {
    const before = tree(at.root)
    writeFileSync(join(at.above, 'dist', 'ocf', 'agent.cjs'), 'new')
    rmSync(join(at.above, 'dist', 'ocf', 'agent.cjs'))
    expect(() => installAgent(at.files)).toThrow(/ENOENT/)
    expect(tree(at.root)).toEqual(before)
  })

  test('knows its version and its Node.js', () => {
    expect(installedAgent(at.root)).toEqual({ agent: at.files.agent, version: VERSION, node: at.files.node, home: '' })
    writeFileSync(join(at.files.folder, 'cluster.json'), 'damaged')
    expect(installedAgent(at.root)).toMatchObject({ version: 'unknown' })
    removeAgent(at.root, true)
    expect(installedAgent(at.root)).toBeUndefined()
  })

  test('whose Node.js is gone says so', () => {
    const text = readFileSync(at.files.agent, 'utf8').replace(/^node=.*$/m, 'node=/nowhere/node')
    writeFileSync(at.files.agent, text)
    chmodSync(at.files.agent, 0o755)
    const { status, stderr } = run(at.files.agent, ['stop'], {})
    expect(status).toBe(1)
    expect(stderr).toMatch(/^ocf-exit-reason:[^\n]*\/nowhere\/node[^\n]*\n$/)
  })

  test.each([
    [undefined, undefined, '1.0'],
    ['1', '0', '1.0'],
    ['1', undefined, '1.0'],
    ['1', '', '1.0'],
    ['', '', '1.0'],
    ['x', 'y', '1.0'],
    ['0', '9', '1.0'],
    ['1', '1', '1.1'],
    ['1', '2', '1.1'],
    ['1', '10', '1.1'],
    ['2', '0', '1.1'],
    ['10', '0', '1.1'],
  ] as const)('whoever announces OCF %s.%s gets meta-data %s', (major, minor, api) => {
    const env = {
      ...(major === undefined ? {} : { OCF_RA_VERSION_MAJOR: major }),
      ...(minor === undefined ? {} : { OCF_RA_VERSION_MINOR: minor }),
    }
    expect(run(at.files.agent, ['meta-data'], env)).toEqual({ status: 0, stdout: metaData(api, VERSION), stderr: '' })
  })

  test('beside others of the provider leaves theirs', () => {
    const other = join(dirnameOf(at.files.agent), 'Other')
    writeFileSync(other, '')
    removeAgent(at.root, true)
    expect(existsSync(other)).toBe(true)
  })
})

function dirnameOf(path: string): string {
  return join(path, '..')
}
