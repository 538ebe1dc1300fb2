/** What the agent says and where: one reason, one line each, and nothing that a terminal or a log would take for more than text. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Log, oneLine } from '../../src/ocf/log.ts'
import { temporaryFolder } from '../store/parts.ts'
import { type Environment, writeProgram } from './builders.ts'

/** A log whose stderr is heard. */
function heard(environment: Environment = {}, instance = 'web', action = 'start') {
  const said: string[] = []
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation(text => said.push(String(text)) > 0)
  onTestFinished(() => spy.mockRestore())
  return { log: new Log({ instance, action }, environment), said: () => said.join('') }
}

const TAG = `VirtualDomain(web)[${process.pid}]`

describe('the reason', () => {
  test('is one line with the usual prefix', () => {
    const { log, said } = heard()
    log.reason('it is\r\n\tso')
    expect(said()).toBe('ocf-exit-reason:it is so\n')
  })

  test('is given once: Pacemaker would keep the last one', () => {
    const { log, said } = heard()
    for (const text of ['first', 'second', 'third']) log.reason(text)
    expect(said()).toBe('ocf-exit-reason:first\n')
  })

  test('has the prefix that the caller wants', () => {
    for (const prefix of ['reason=', '']) {
      const { log, said } = heard({ OCF_EXIT_REASON_PREFIX: prefix })
      log.reason('why')
      expect(said()).toBe(`${prefix}why\n`)
      vi.restoreAllMocks()
    }
  })

  test('goes to the log file, too', async () => {
    const file = join(await temporaryFolder(), 'log')
    const { log, said } = heard({ HA_LOGFILE: file })
    log.reason('why')
    expect(said()).toBe('ocf-exit-reason:why\n')
    expect(readFileSync(file, 'utf8')).toMatch(/ ERR: why\n$/)
  })
})

describe('what is said', () => {
  test('goes to stderr, which Pacemaker logs, where nothing else is wanted', () => {
    const { log, said } = heard({ HA_LOGFACILITY: 'none' })
    log.info('one')
    log.warn('two\nlines')
    log.error('three')
    log.debug('not this')
    expect(said()).toBe(`${TAG}: INFO: one\n${TAG}: WARNING: two lines\n${TAG}: ERR: three\n`)
  })

  test('in debugging, more', () => {
    const { log, said } = heard({ HA_debug: '1' })
    log.debug('this')
    expect(said()).toBe(`${TAG}: DEBUG: this\n`)
    vi.restoreAllMocks()
    const other = heard({ HA_debug: '0' })
    other.log.debug('this')
    expect(other.said()).toBe('')
  })

  test('goes to the file that the cluster names, with the time, and not to stderr', async () => {
    const file = join(await temporaryFolder(), 'log')
    const { log, said } = heard({ HA_LOGFILE: file })
    log.info('one')
    log.warn('two')
    const [first, second, ...others] = readFileSync(file, 'utf8').split('\n')
    expect(first).toMatch(/^VirtualDomain\(web\)\[\d+\]: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d INFO: one$/)
    expect(second).toMatch(/ WARNING: two$/)
    expect(others).toEqual([''])
    expect(said()).toBe('')
    expect(statSync(file).mode & 0o137).toBe(0)
  })

  test('ends no operation when it cannot be written', async () => {
    const file = join(await temporaryFolder(), 'file')
    writeFileSync(file, '')
    const { log } = heard({ HA_LOGFILE: `${file}/log`, OCF_RESKEY_trace_ra: '1', OCF_RESKEY_trace_dir: file })
    expect(() => log.info('x')).not.toThrow()
  })

  test('goes by logger(1) where the cluster names a facility, with its words as they are', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'heard')
    writeProgram(folder, 'logger', `printf '<%s>' "$@" >>'${file}'; echo >>'${file}'`)
    vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`)
    onTestFinished(() => void vi.unstubAllEnvs())
    const { log, said } = heard({ HA_LOGFACILITY: 'daemon' })
    log.info('--help $(id)')
    log.reason('why')
    await log.flush()
    await vi.waitFor(() => expect(existsSync(file) && readFileSync(file, 'utf8').split('\n')).toHaveLength(3), 10_000)
    expect(readFileSync(file, 'utf8').split('\n').sort()).toEqual([
      '',
      `<-t><${TAG}><-p><daemon.err><--><why>`,
      `<-t><${TAG}><-p><daemon.info><--><--help $(id)>`,
    ])
    expect(said()).toBe('ocf-exit-reason:why\n')
  })

  test('is handed over once', async () => {
    const folder = await temporaryFolder()
    vi.stubEnv('PATH', folder)
    onTestFinished(() => void vi.unstubAllEnvs())
    const { log } = heard({ HA_LOGFACILITY: 'daemon' })
    log.info('x')
    await log.flush()
    await log.flush()
  })
})

describe('a trace', () => {
  const traced = async (environment: Environment, instance = 'web', action = 'monitor') => {
    const folder = await temporaryFolder()
    const { log, said } = heard({ OCF_RESKEY_trace_dir: folder, ...environment }, instance, action)
    log.debug('small')
    log.info('larger')
    log.reason('why')
    const files = existsSync(join(folder, 'VirtualDomain')) ? readdirSync(join(folder, 'VirtualDomain')) : []
    return { folder, files, said: said() }
  }

  test.each(['1', 'true', 'YES', 'on'])(
    'that is wanted by %s has everything, in a file for each action',
    async word => {
      for (const name of ['OCF_RESKEY_trace_ra', 'OCF_TRACE_RA']) {
        const { folder, files } = await traced({ [name]: word })
        expect(files).toEqual([expect.stringMatching(/^web\.monitor\.\d{4}-\d\d-\d\dT\d{6}$/)])
        const text = readFileSync(join(folder, 'VirtualDomain', files[0] ?? ''), 'utf8')
        expect(text.split('\n').map(line => line.replace(/^\S+ /, ''))).toEqual([
          'debug: small',
          'info: larger',
          'err: why',
          '',
        ])
        vi.restoreAllMocks()
      }
    },
  )

  test.each(['', '0', 'no', 'false'])('is none for %j', async word => {
    expect((await traced({ OCF_RESKEY_trace_ra: word })).files).toEqual([])
  })

  test.each(['../../x', '/etc/x', 'a\nb'])('of %j stays within its folder', async name => {
    const { folder, files } = await traced({ OCF_TRACE_RA: '1' }, name, name)
    expect(files).toHaveLength(1)
    expect(readdirSync(folder)).toEqual(['VirtualDomain'])
  })
})

describe('one line', () => {
  test.each([
    ['a', 'a'],
    ['  a \n b\r\n\t c  ', 'a   b c'],
    ['a\x1b[31mb\x07\x7f', 'a [31mb'],
    ['\0', ''],
    ['größe 日本 🖥', 'größe 日本 🖥'],
  ])('of %j is %j', (text, line) => {
    expect(oneLine(text).replace(/ +/g, ' ')).toBe(line.replace(/ +/g, ' '))
  })

  test('has an end', () => {
    expect(oneLine('x'.repeat(50_000_000)).length).toBeLessThan(1100)
    expect(oneLine('x'.repeat(1000))).toBe('x'.repeat(1000))
  })

  test('is free of what a terminal would obey, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        expect(oneLine(text)).not.toMatch(/[\0-\x1f\x7f]/)
        expect(oneLine(text)).toBe(oneLine(text).trim())
        expect(oneLine(oneLine(text))).toBe(oneLine(text))
      }),
    )
  })

  test('is free of the control characters above ASCII, too: some terminals obey U+009B as ESC [', () => {
    expect(oneLine('a\u009b31mb\u0085c')).not.toMatch(/\p{Cc}/u)
  })
})

test('a resource of any name has its tag on one line', () => {
  const { log, said } = heard({}, 'a\nb')
  log.info('x')
  expect(said()).toBe(`VirtualDomain(a b)[${process.pid}]: INFO: x\n`)
})
