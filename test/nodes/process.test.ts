/** Programs that end well, end badly, never end, never start, or never stop talking. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { run } from '../../src/nodes/process.ts'
import { temporaryFolder } from '../store/parts.ts'

const sh = (script: string, options: Partial<Parameters<typeof run>[2]> = {}) =>
  run('sh', ['-c', script], { timeoutMs: 10_000, ...options })

async function took<T>(work: Promise<T>): Promise<{ result: T; ms: number }> {
  const startedMs = performance.now()
  return { result: await work, ms: performance.now() - startedMs }
}

describe('a program that ends', () => {
  test('gives its status and both its outputs', async () => {
    expect(await sh('echo out; echo err >&2; exit 3')).toEqual({
      status: 3,
      signal: undefined,
      stdout: 'out\n',
      stderr: 'err\n',
      timedOut: false,
    })
  })

  test('by a signal has no status', async () => {
    expect(await sh('kill -KILL $$')).toMatchObject({ status: undefined, signal: 'SIGKILL', timedOut: false })
  })

  test('gets its input to the end, and none where there is none', async () => {
    const stdin = 'größe\n'.repeat(100_000)
    expect((await run('cat', [], { stdin, timeoutMs: 10_000 })).stdout).toBe(stdin)
    expect(await run('cat', [], { timeoutMs: 10_000 })).toMatchObject({ status: 0, stdout: '' })
  })

  test('without reading its input is as good as any', async () => {
    expect(await run('true', [], { stdin: 'x'.repeat(5_000_000), timeoutMs: 10_000 })).toMatchObject({ status: 0 })
  })

  test('gets its arguments as they are, since no shell reads them', async () => {
    const args = ['a b', '$(id)', '*', "'", '', '-n']
    expect((await run('printf', ['<%s>', ...args], { timeoutMs: 10_000 })).stdout).toBe(
      args.map(arg => `<${arg}>`).join(''),
    )
  })

  test('says more than we keep: the beginning is kept', async () => {
    const { status, stdout } = await sh('head -c 40000000 /dev/zero | tr "\\0" x')
    expect(status).toBe(0)
    expect(stdout.length).toBeGreaterThanOrEqual(16 * 1024 * 1024)
    expect(stdout.length).toBeLessThan(17 * 1024 * 1024)
  })
})

describe('a program that does not end', () => {
  test('is ended at its deadline', async () => {
    const { result, ms } = await took(sh('echo begun; exec sleep 60', { timeoutMs: 100 }))
    expect(result).toMatchObject({ status: undefined, signal: 'SIGTERM', stdout: 'begun\n', timedOut: true })
    expect(ms).toBeLessThan(2000)
  })

  test('is killed when it does not listen', async () => {
    const { result, ms } = await took(sh("trap '' TERM; while :; do sleep 0.05; done", { timeoutMs: 100 }))
    expect(result).toMatchObject({ signal: 'SIGKILL', timedOut: true })
    expect(ms).toBeLessThan(3000)
  })

  test('is ended when its caller gives up, also before it began', async () => {
    const abort = new AbortController()
    const running = sh('exec sleep 60', { abort: abort.signal })
    setTimeout(() => abort.abort(), 50)
    expect(await running).toMatchObject({ signal: 'SIGTERM', timedOut: true })
    expect(await sh('exec sleep 60', { abort: abort.signal })).toMatchObject({ status: undefined, timedOut: true })
  })

  test('is not waited for through what it started, and that is left alone: it may hold a lock', async () => {
    const go = join(await temporaryFolder(), 'go')
    const { result, ms } = await took(
      sh(`sh -c 'until [ -d ${go} ]; do sleep 0.02; done; echo done >${go}/end' & wait`, { timeoutMs: 100 }),
    )
    expect(result.timedOut).toBe(true)
    expect(ms).toBeLessThan(3000)
    await mkdir(go)
    await expect.poll(() => readFile(join(go, 'end'), 'utf8').catch(() => '')).toBe('done\n')
  })
})

describe('a program that never starts', () => {
  test.each([
    ['because there is none', 'havirt-no-such-program', [], /ENOENT|EACCES/],
    ['because it is no program', '/etc/passwd', [], /EACCES/],
    ['because an argument is too long', 'true', ['x'.repeat(200_000)], /E2BIG/],
    ['because an argument holds a zero byte', 'true', ['a\0b'], /null bytes/],
  ])('%s says why', async (_why, file, args, words) => {
    const exit = await run(file, args, { timeoutMs: 10_000, stdin: 'x' })
    expect(exit).toMatchObject({ status: undefined, signal: undefined, timedOut: false })
    expect(exit.stderr).toMatch(words)
  })
})
