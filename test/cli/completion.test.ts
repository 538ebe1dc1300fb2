/** What a shell offers at each place of a command line, without asking any node. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { complete, completionScript } from '../../src/cli/completion.ts'
import { operations, verbs } from '../../src/operations.ts'
import { DirectoryStore } from '../../src/store/directory.ts'
import { Records } from '../../src/store/records.ts'
import { temporaryFolder } from '../store/parts.ts'
import { havirt } from './capture.ts'

let home = ''
beforeEach(async () => {
  home = await temporaryFolder()
  await mkdir(join(home, 'conf'))
  await mkdir(join(home, 'var'))
  for (const name of ['web', 'web2', 'db']) await writeFile(join(home, 'conf', `${name}.xml`), '<domain/>')
  await writeFile(join(home, 'conf', 'web.xml.77.new'), '')
  const records = new Records(new DirectoryStore(join(home, 'var')))
  for (const name of ['node1', 'node2', 'gone']) await records.writeNode({ ...NODE, name })
  await records.removeNode('gone')
  vi.stubEnv('HAVIRT_HOME', home)
  onTestFinished(() => {
    vi.unstubAllEnvs()
  })
})

const TEXTS = {
  id: '',
  hostUuid: '',
  hostname: '',
  cpuModel: '',
  libvirtVersion: '',
  hypervisorVersion: '',
  updated: '',
}
const NODE = { ...TEXTS, cpus: 1, memoryMiB: 1, sockets: 1, coresPerSocket: 1, threadsPerCore: 1, mhz: 1 }

/** What is offered for the last word of a line: `domain start ` ends with an empty one. */
async function offered(line: string): Promise<string[]> {
  return (await complete(line.split(' '))).sort()
}

describe('nouns and verbs', () => {
  test('the first word is a noun, a lone verb, or one of the command line itself', async () => {
    const nouns = verbs.map(({ name }) => name.split(' ')[0] ?? '')
    expect(await offered('')).toEqual([...new Set([...nouns, 'completion', 'help', 'man'])].sort())
    expect(await offered('do')).toEqual(['domain'])
    expect(await offered('xyz')).toEqual([])
  })

  test('the second is a verb of the noun', async () => {
    const verbs = operations.flatMap(({ name }) => (name.startsWith('domain ') ? [name.slice(7)] : []))
    expect(await offered('domain ')).toEqual([...verbs].sort())
    expect(await offered('domain st')).toEqual(['start', 'stop'])
    expect(await offered('nonsense ')).toEqual([])
  })

  test('a shell, for completion', async () => {
    expect(await offered('completion ')).toEqual(['bash', 'fish', 'zsh'])
  })
})

describe('arguments', () => {
  test.each([
    ['domain start ', ['db', 'web', 'web2']],
    ['domain start we', ['web', 'web2']],
    ['domain start web ', ['node1', 'node2']],
    ['domain start web node1 ', []],
    ['domain list web ', ['db', 'web2']],
    ['domain list web db ', ['web2']],
    ['domain update ', ['ALL', 'RUNNING', 'db', 'web', 'web2']],
    ['node update node1 ', ['ALL', 'node2']],
    ['node list ', []],
    ['info ', ['db', 'web', 'web2']],
    ['domain stop --timeout 30 ', ['db', 'web', 'web2']],
    ['domain migrate web --bandwidth 7 --auto-converge ', ['node1', 'node2']],
  ])('%j', async (line, names) => {
    expect(await offered(line)).toEqual(names)
  })

  test('the options of every command may stand between the words', async () => {
    for (const line of ['-y domain start web ', 'domain -q start --ensure web ', 'domain start -o json web '])
      expect(await offered(line), line).toEqual(['node1', 'node2'])
  })

  test('those of the home that is named on the line', async () => {
    vi.stubEnv('HAVIRT_HOME', '/nowhere')
    expect(await offered('domain start ')).toEqual([])
    expect(await offered(`--home ${home} domain start web `)).toEqual(['node1', 'node2'])
    expect(await offered(`domain start --home ${home} `)).toEqual(['db', 'web', 'web2'])
  })

  test('nothing where the home cannot be read', async () => {
    await writeFile(join(home, 'var', 'nodes', 'node1', '9.yaml'), 'damaged')
    expect(await offered('domain start web ')).toEqual([])
  })
})

describe('options', () => {
  const everywhere = [
    '--dryrun',
    '--ensure',
    '--home',
    '--json',
    '--no-dryrun',
    '--output',
    '--quiet',
    '--wait',
    '--yes',
  ]

  test('of the operation and of every command', async () => {
    expect(await offered('-')).toEqual(everywhere)
    expect(await offered('domain stop --')).toEqual([...everywhere, '--force', '--mode', '--timeout'].sort())
    expect(await offered('domain stop web --f')).toEqual(['--force'])
    expect(await offered('node list --a')).toEqual([])
  })

  test('their values, where there are choices', async () => {
    expect(await offered('domain stop web --mode ')).toEqual(['acpi', 'agent'])
    expect(await offered('-o ')).toEqual(['json', 'table', 'tsv', 'yaml'])
    expect(await offered('domain list --output y')).toEqual(['yaml'])
    expect(await offered('domain stop web --timeout ')).toEqual([])
  })
})

test('the shell asks by a hidden verb', async () => {
  expect(await havirt('__complete', '--', '-y', 'domain', 'start', 'we')).toEqual({
    status: 0,
    stdout: 'web\nweb2\n',
    stderr: '',
  })
  expect((await havirt('--help')).stdout).not.toContain('__complete')
})

const has = (program: string) => {
  try {
    return execFileSync('sh', ['-c', `command -v ${program}`]).length > 0
  } catch {
    return false
  }
}

describe('the scripts', () => {
  test.each(['bash', 'zsh', 'fish'])('%s: it is printed', async shell => {
    const { status, stdout } = await havirt('completion', shell)
    expect(status).toBe(0)
    expect(stdout).toBe(completionScript(shell))
    expect(stdout).toContain('havirt __complete -- ')
  })

  for (const shell of ['bash', 'zsh', 'fish']) {
    test.skipIf(!has(shell))(`${shell} (needs ${shell}): it reads the script`, async () => {
      const file = join(home, 'script')
      await writeFile(file, completionScript(shell))
      execFileSync(shell, ['-n', file])
    })
  }

  test.skipIf(!has('bash'))('bash (needs bash): the words reach havirt, and its answers the shell', async () => {
    const bin = join(home, 'bin')
    await mkdir(bin)
    await writeFile(
      join(bin, 'havirt'),
      '#!/bin/sh\nfor word; do echo "w:<$word>" >&2; done\nprintf "web\\nweb2\\n"\n',
      { mode: 0o755 },
    )
    const script = `${completionScript('bash').replace('2>/dev/null', '2>"$LOG"')}
COMP_WORDS=(havirt domain start "we"); COMP_CWORD=3; _havirt; printf '%s\\n' "\${COMPREPLY[@]}"; cat "$LOG"`
    const { stdout } = await promisify(execFile)('bash', ['-c', script], {
      env: { PATH: `${bin}:${process.env['PATH']}`, LOG: join(home, 'log') },
    })
    expect(stdout.split('\n')).toEqual([
      'web',
      'web2',
      'w:<__complete>',
      'w:<-->',
      'w:<domain>',
      'w:<start>',
      'w:<we>',
      '',
    ])
  })
})
