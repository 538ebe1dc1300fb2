/** The manual page: whole, and such that groff and mandoc have nothing to say about it. */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { manualPage } from '../../src/cli/manual.ts'
import { globalOptions } from '../../src/cli/program.ts'
import { configOptions } from '../../src/core/config.ts'
import { operations } from '../../src/operations.ts'
import { exitStatus } from '../../src/report.ts'
import { havirt } from './capture.ts'

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
/** As words on one line, without roff's spelling. */
const plain = manualPage()
  .replaceAll('\\-', '-')
  .replaceAll('\\&', '')
  .replaceAll('\\e', '\\')
  .replace(/\\f[BIR]/g, '')

test('havirt man prints it', async () => {
  expect(await havirt('man')).toEqual({ status: 0, stdout: manualPage(), stderr: '' })
})

describe('it names', () => {
  test('each operation with its options and examples', () => {
    for (const { name, description, options, examples } of operations)
      for (const text of [`havirt ${name}`, description, ...options.map(({ flags }) => flags), ...examples])
        expect(plain, name).toContain(text)
  })

  test('each option of every command, each key of the config and each exit status', () => {
    for (const { flags, help } of globalOptions) expect(plain).toContain(`${flags}\n${help}`)
    for (const { key, help } of configOptions) {
      expect(plain).toMatch(new RegExp(`\n${key.replaceAll('.', '\\.')} \\(default .*\\)\n`))
      expect(plain).toContain(help)
    }
    for (const status of Object.values(exitStatus)) expect(plain).toMatch(new RegExp(`\\.TP\n${status}\n[a-z]`))
  })
})

test('a dash is a dash, which can be copied, and a backslash stays', () => {
  expect(manualPage()).toContain('\n\\fB\\-\\-timeout SECONDS\\fR\n')
  expect(manualPage().match(/(?<!\\)-/g)).toBeNull()
})

test('no line of text can be taken for a request', () => {
  const requests = /^\.(TH|SH|SS|PP|TP|EX|EE|B|BR|I)\b/
  for (const line of manualPage().split('\n')) {
    if (/^[.']/.test(line)) expect(line).toMatch(requests)
    expect(line).not.toMatch(/^\.\S+.*\\$/)
  }
})

test.skipIf(!has('groff'))('groff has nothing to say about it (needs groff)', () => {
  const { status, stderr, stdout } = spawnSync('groff', ['-man', '-Tutf8', '-ww'], {
    input: manualPage(),
    encoding: 'utf8',
  })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toContain('havirt')
})

test.skipIf(!has('mandoc'))('mandoc misses nothing but a date (needs mandoc)', () => {
  const { stdout } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning'], { input: manualPage(), encoding: 'utf8' })
  expect(stdout.split('\n').filter(line => line !== '' && !line.includes('missing date'))).toEqual([])
})
