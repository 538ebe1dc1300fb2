/** Who certainly died, and of whom nothing is known. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isDead, type Owner, thisProcess } from '../../src/store/owner.ts'
import { temporaryFolder } from './parts.ts'

const us = await thisProcess()

/** The start time of another process, by hand. */
function startTime(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

test('this process is exactly described, and lives', async () => {
  expect(us).toMatchObject({ pid: process.pid, startTime: startTime(process.pid) })
  expect(us.bootId).toMatch(/^[0-9a-f-]{36}$/)
  expect(us.pidNamespace).toMatch(/^pid:\[\d+\]$/)
  expect(await isDead(us, us)).toBe(false)
})

test('a child lives until it ended, whatever it is called', async () => {
  const program = join(await temporaryFolder(), 'x ) Z 1 (y')
  const child = spawn('sh', ['-c', 'cp /bin/sleep "$0" && exec "$0" 60', program], { stdio: 'ignore' })
  const pid = child.pid ?? 0
  const owner: Owner = { ...us, pid, startTime: startTime(pid) }
  expect(await isDead(owner, us)).toBe(false)
  child.kill('SIGKILL')
  await once(child, 'close')
  expect(await isDead(owner, us)).toBe(true)
})

test('a child that ended and that nobody waited for has ended', async () => {
  // The shell stops itself with an ended child that it did not wait for.
  const shell = spawn('sh', ['-c', 'sleep 0.01 & echo $!; kill -STOP $$'], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [chunk] = (await once(shell.stdout, 'data')) as [Buffer]
  const pid = Number(chunk.toString())
  const state = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0]
  while (state() !== 'Z') await new Promise(resolve => setTimeout(resolve, 5))
  expect(await isDead({ ...us, pid, startTime: startTime(pid) }, us)).toBe(true)
  shell.kill('SIGKILL')
})

test('a pid that was given out again is somebody else', async () => {
  expect(await isDead({ ...us, startTime: '1' }, us)).toBe(true)
})

test.each([
  ['another boot', { bootId: 'another' }],
  ['another pid namespace', { pidNamespace: 'pid:[1]' }],
])('of a process of %s nothing is known', async (_what, differs) => {
  expect(await isDead({ ...us, ...differs, pid: 999_999_999 }, us)).toBe(false)
})

test('where no boot is known, nothing is', async () => {
  expect(await isDead({ ...us, bootId: '', pid: 999_999_999 }, { ...us, bootId: '' })).toBe(false)
})
