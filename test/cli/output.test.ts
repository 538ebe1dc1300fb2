/** A report in each format, as it is printed: the texts stand in golden/. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { chooseFormat, type Format, printReport } from '../../src/cli/output.ts'
import type { Report } from '../../src/report.ts'
import { caught } from './capture.ts'

const REPORT: Report = {
  exit: 4,
  table: {
    columns: [
      { key: 'domain', title: 'DOMAIN', help: 'the name' },
      { key: 'memoryMiB', title: 'MEMORY', align: 'right', unit: 'MiB', help: 'memory' },
      { key: 'running', title: 'RUNNING', help: 'whether it runs' },
      { key: 'note', title: 'NOTE', help: 'words' },
    ],
    rows: [
      { domain: 'web', memoryMiB: 512, running: true, note: 'plain' },
      { domain: '数据库', memoryMiB: 65_536, running: false, note: 'a tab\tand a\nline' },
      { domain: 'mu\u0308sli-💾', memoryMiB: 0, running: true, note: '' },
      { domain: 'nothing', memoryMiB: undefined, running: undefined, note: undefined },
    ],
  },
  messages: [
    { kind: 'note', text: 'a note' },
    { kind: 'warning', text: 'node3 is unreachable: ssh said no', next: 'check its power' },
    { kind: 'refused', text: 'web is present on node1 (running)', next: 'stop it there first' },
    { kind: 'error', text: 'it failed' },
  ],
}

const WEB = { domain: '数据库', uuid: '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01' }

const STEPS: Report = {
  exit: 4,
  results: [
    { step: 'shutdownDomain', ...WEB, text: 'ask 数据库 on node1 to shut down', outcome: 'done' },
    { step: 'awaitShutOff', ...WEB, text: 'wait until it is off', outcome: 'failed', detail: 'still on after 30 s' },
    { step: 'recordIntent', ...WEB, text: 'record it', outcome: 'not executed' },
  ],
  messages: [],
}

const SCRIPT: Report = {
  exit: 0,
  script: ['# start web on node2', "ssh node2 'virsh -c qemu:///system create /dev/stdin' < /shared/conf/web.xml"],
  messages: [{ kind: 'note', text: 'chosen: node2' }],
}

async function print(report: Report, format: Format, quiet = false) {
  return caught(async () => {
    await printReport(report, { format, quiet })
    return 0
  })
}

afterEach(() => {
  vi.unstubAllEnvs()
  Object.defineProperty(process.stderr, 'isTTY', { value: undefined, configurable: true })
})

describe('each format', () => {
  test.each(['table', 'tsv', 'json', 'yaml'] as const)('%s', async format => {
    for (const [name, report] of Object.entries({ report: REPORT, steps: STEPS, script: SCRIPT })) {
      const { stdout, stderr } = await print(report, format)
      await expect(`${stdout}---- stderr\n${stderr}`).toMatchFileSnapshot(`golden/${name}.${format}.golden`)
    }
  })

  test('a program reads the same from json and yaml, numbers as numbers', async () => {
    const fromJson = JSON.parse((await print(REPORT, 'json')).stdout)
    expect(parse((await print(REPORT, 'yaml')).stdout)).toEqual(fromJson)
    expect(fromJson).toMatchObject({ status: 4, rows: [{ memoryMiB: 512, running: true }, {}, {}, {}] })
    expect(fromJson.messages).toEqual(REPORT.messages)
  })

  test('tsv has as many words in each line as its first line has', async () => {
    const lines = (await print(REPORT, 'tsv')).stdout.replace(/\n$/, '').split('\n')
    expect(lines.map(line => line.split('\t').length)).toEqual([4, 4, 4, 4, 4])
  })

  test('nothing is printed for an empty table, and nothing at all for an empty report', async () => {
    const empty: Report = { exit: 0, table: { columns: REPORT.table?.columns ?? [], rows: [] }, messages: [] }
    for (const format of ['table', 'tsv'] as const)
      expect(await print(empty, format)).toMatchObject({ stdout: '', stderr: '' })
    expect(JSON.parse((await print(empty, 'json')).stdout)).toEqual({ status: 0, rows: [], messages: [] })
  })
})

test('what a node says can neither break a line nor command the terminal', async () => {
  const hostile = 'a\x1b[2J\x9b31m\r\n\tb\x07'
  const report: Report = {
    exit: 0,
    table: { columns: [{ key: 'name', title: 'NAME', help: 'name' }], rows: [{ name: hostile }] },
    results: [{ step: 'awaitShutOff', ...WEB, text: 'wait', outcome: 'failed', detail: hostile }],
    messages: [{ kind: 'error', text: hostile, next: hostile }],
  }
  for (const format of ['table', 'tsv'] as const) {
    const { stdout, stderr } = await print(report, format)
    expect(`${stdout}${stderr}`).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
    expect(stdout.match(/\n/g)).toHaveLength(3)
    expect(stderr.match(/\n/g)).toHaveLength(2)
  }
  expect(JSON.parse((await print(report, 'json')).stdout).rows).toEqual([{ name: hostile }])
})

describe('messages', () => {
  test('go to stderr; with --quiet, notes do not', async () => {
    const { stderr } = await print(REPORT, 'table', true)
    expect(stderr).toBe(
      'warning: node3 is unreachable: ssh said no\n         check its power\nrefused: web is present on node1 (running)\n         stop it there first\nerror: it failed\n',
    )
  })

  test('are coloured on a terminal, unless NO_COLOR says not to', async () => {
    Object.defineProperty(process.stderr, 'isTTY', { value: true, configurable: true })
    vi.stubEnv('NO_COLOR', undefined)
    vi.stubEnv('FORCE_COLOR', '1')
    expect((await print(REPORT, 'table')).stderr).toContain('\x1b[33mwarning: \x1b[39mnode3')
    vi.stubEnv('NO_COLOR', '1')
    expect((await print(REPORT, 'table')).stderr).not.toContain('\x1b')
  })
})

test.each([
  ['json', 'tsv', true, 'json'],
  [undefined, 'yaml', true, 'yaml'],
  [undefined, 'auto', true, 'table'],
  [undefined, 'auto', false, 'tsv'],
] as const)('with option %s, config %s and terminal %s the format is %s', (option, configured, terminal, format) => {
  expect(chooseFormat(option, configured, terminal)).toBe(format)
})
