/** What is shown is what runs: words survive every shell on their way, and a line pasted does what execution does. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { commandOf, pasteableLine, quote, remoteLine, script } from '../../src/core/command.ts'
import { step } from '../../src/core/step.ts'

const FOLDER = mkdtempSync(join(tmpdir(), 'havirt-command-'))
afterAll(() => rmSync(FOLDER, { recursive: true }))

/** As ssh does it: the words behind the host are joined by spaces, and a shell on the other side reads them. */
writeFileSync(join(FOLDER, 'ssh'), '#!/bin/sh\n[ "$1" != -n ] || { shift; exec </dev/null; }\nshift\nexec sh -c "$*"\n')
chmodSync(join(FOLDER, 'ssh'), 0o755)

const PRINT = ['printf', '%s\\0']
const RUNS = { numRuns: 100 }

const word = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom("'", '"', '$', '`', '\\', ' ', '-', '*', '~', '!', '#', '&', ';', '=', '(', 'a', 'é'),
  }),
  fc.constantFrom('-n', '--', '$(reboot)', "'", '', 'a=b', '=', '~root', '{a,b}', '!!', '$HOME', '\t', '*'),
)
const words = fc.array(
  word.map(text => Buffer.from(text.replace(/[\0\n\r]/g, '')).toString()),
  { minLength: 1, maxLength: 8 },
)

function runIn(line: string, cwd = FOLDER): string {
  return execFileSync('sh', ['-c', line], { cwd, env: { PATH: `${FOLDER}:/usr/bin:/bin`, HOME: '/root' } }).toString()
}

function printed(line: string): string[] {
  return runIn(line).split('\0').slice(0, -1)
}

describe('lines for shells', () => {
  test('any words come through the shell of a node as they were', () => {
    fc.assert(
      fc.property(words, argv => {
        expect(printed(remoteLine({ node: 'node2', argv: [...PRINT, ...argv] }))).toEqual(argv)
      }),
      RUNS,
    )
  }, 60_000)

  test('any words come through a pasted line, our shell, ssh and the shell of the node as they were', () => {
    fc.assert(
      fc.property(words, argv => {
        expect(printed(pasteableLine({ node: 'node2', argv: [...PRINT, ...argv] }, undefined))).toEqual(argv)
      }),
      RUNS,
    )
  }, 60_000)

  test('on the node itself the line goes without ssh', () => {
    const command = { node: 'node2', argv: ['virsh', 'list'] }
    expect(pasteableLine(command, 'node2')).toBe('virsh list')
    expect(pasteableLine(command, 'node1')).toBe('ssh -n node2 virsh list')
  })

  test('what a shell reads as itself stays plain, so that people can read it', () => {
    const plain = ['virsh', '-c', 'qemu:///system', 'a=b', 'web-1_2@x', '/srv/a,b%c+d']
    expect(plain.map(quote)).toEqual(plain)
    expect(['', 'a b', '~', "it's", 'A B=c', '=x', '#'].map(quote)).toEqual([
      "''",
      "'a b'",
      "'~'",
      "'it'\\''s'",
      "'A B=c'",
      "'=x'",
      "'#'",
    ])
  })

  test('a word with = at the front of a line cannot become a variable of the shell', () => {
    expect(printed(remoteLine({ node: 'n', argv: [...PRINT, 'PATH=/nowhere', 'x'] }))).toEqual(['PATH=/nowhere', 'x'])
  })

  test('input and output are files whose names may be anything', () => {
    const name = "it's $HOME.xml"
    writeFileSync(join(FOLDER, name), 'the definition')
    const line = pasteableLine({ node: 'node2', argv: ['cat'], stdin: name, stdout: `${name}.copy` }, undefined)
    runIn(line)
    expect(readFileSync(join(FOLDER, `${name}.copy`), 'utf8')).toBe('the definition')
    expect(statSync(join(FOLDER, `${name}.copy`)).mode & 0o777).toBe(0o600)
  })

  test('a command that fails leaves the file that it was to replace alone', () => {
    writeFileSync(join(FOLDER, 'kept.xml'), 'old')
    const line = pasteableLine({ node: 'node2', argv: ['false'], stdout: 'kept.xml' }, undefined)
    expect(() => runIn(line)).toThrow()
    expect(readFileSync(join(FOLDER, 'kept.xml'), 'utf8')).toBe('old')
  })
})

describe('commands of steps', () => {
  const on = { domain: 'web', uuid: 'u-u-i-d', node: 'node2' }

  test('every virsh line names its connection, and domains by uuid', () => {
    const all = [
      step('shutdownDomain', on),
      step('destroyDomain', { ...on, graceful: true }),
      step('resetDomain', on),
      step('suspendDomain', on),
      step('resumeDomain', on),
      step('rebootDomain', on),
      step('setMaxDowntime', { ...on, downtimeMs: 5 }),
      step('undefineDomain', { ...on, keepTpm: false }),
      step('abortMigration', { domain: 'web', uuid: 'u-u-i-d', from: 'node2', to: 'node1' }),
      step('saveDefinition', { ...on, definition: 'conf/web.xml' }),
    ].map(one => commandOf(one, 'qemu+unix:///x')?.argv)
    for (const argv of all) {
      expect(argv?.slice(0, 3)).toEqual(['virsh', '-c', 'qemu+unix:///x'])
      expect(argv).toContain('u-u-i-d')
      expect(argv).not.toContain('web')
    }
  })

  test('a definition travels by stdin, never as an argument', () => {
    const command = commandOf(
      step('createDomain', { ...on, definition: 'conf/web.xml', sha256: 'x' }),
      'qemu:///system',
    )
    expect(command).toEqual({
      node: 'node2',
      argv: ['virsh', '-c', 'qemu:///system', 'create', '/dev/stdin'],
      stdin: 'conf/web.xml',
    })
  })

  test('what only waits or records has no command, and is shown by its reason alone', () => {
    const quiet = [step('awaitShutOff', { ...on, timeoutMs: 1500 }), step('recordIntent', { ...on, manual: false })]
    expect(script(quiet, 'qemu:///system', undefined)).toEqual([
      '# (havirt itself: wait up to 1.5 s until web is off on node2)',
      '# (havirt itself: record that web may run, as asked)',
    ])
  })
})
