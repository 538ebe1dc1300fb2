/** Which process is the domain, by its command line: real processes with the words of QEMU, and with words that are none. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { isLibvirtInstalled, isProgram, processOf } from '../../src/ocf/processes.ts'
import { temporaryFolder } from '../store/parts.ts'
import { writeProgram } from './builders.ts'

/** A process with this command line behind its name, until the test ends. It waits for input, which never comes. */
function running(argv0: string, ...words: string[]): number | undefined {
  const child: ChildProcess = spawn('/bin/sh', ['-c', 'read line', ...words], {
    argv0,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child.pid
}

/** Names that nothing else on this machine has. */
const unheardOf = () => `havirt-test-${randomUUID()}`
const QEMU = '/usr/bin/qemu-system-x86_64'

const qemu = (names: string[], uuids: string[] = []) => processOf('qemu', { names, uuids })

describe('a QEMU', () => {
  test('is found by its name, as libvirt gives it', () => {
    const name = unheardOf()
    const pid = running(QEMU, '-name', `guest=${name},debug-threads=on`, '-S')
    expect(qemu([name])).toBe(pid)
    expect(qemu(['other', name])).toBe(pid)
  })

  test('is found by its uuid, however it is written, even under another name', () => {
    const uuid = randomUUID()
    const pid = running(QEMU, '-name', `guest=${unheardOf()}`, '-uuid', uuid.toUpperCase())
    expect(qemu([], [uuid])).toBe(pid)
    expect(qemu([unheardOf()], [randomUUID(), uuid])).toBe(pid)
  })

  test.each([
    ['a comma, which is doubled', (name: string) => [`${name},b`, `guest=${name},,b,debug-threads=on`]],
    ['several commas', (name: string) => [`,${name},,b,`, `guest=,,${name},,,,b,,,debug-threads=on`]],
    ['what looks like another option', (name: string) => [`${name},guest=x`, `guest=${name},,guest=x,process=y`]],
    ['letters beyond ASCII', (name: string) => [`größe-🖥-${name}`, `guest=größe-🖥-${name},debug-threads=on`]],
    ['spaces and signs', (name: string) => [`${name} (a) [b]+.*`, `guest=${name} (a) [b]+.*,debug-threads=on`]],
    ['an equals sign', (name: string) => [`${name}=b`, `guest=${name}=b,debug-threads=on`]],
    ['the option elsewhere', (name: string) => [name, `process=x,guest=${name}`]],
    ['an old libvirt', (name: string) => [name, name]],
    ['an old libvirt and more', (name: string) => [name, `${name},process=qemu:x`]],
  ])('is found by a name with %s', (_, make) => {
    const [name = '', word = ''] = make(unheardOf())
    const pid = running(QEMU, '-name', word)
    expect(qemu([name])).toBe(pid)
  })

  test('whose name only begins, ends, or is a pattern like it is another', () => {
    const name = unheardOf()
    running(QEMU, '-name', `guest=${name}2,debug-threads=on`)
    running(QEMU, '-name', `guest=x${name},debug-threads=on`)
    running(QEMU, '-name', `guest=${name},,x,debug-threads=on`)
    running(QEMU, '-name', `guest=x,process=${name}`)
    expect(qemu([name])).toBeUndefined()
    expect(qemu([`${name}.`])).toBeUndefined()
    expect(qemu([name.replace('havirt', '......')])).toBeUndefined()
  })

  test('of another domain is none, and nor is one without words', () => {
    running(QEMU, '-name', `guest=${unheardOf()}`, '-uuid', randomUUID())
    running(QEMU)
    running(QEMU, '-uuid')
    running(QEMU, '-name')
    expect(qemu([unheardOf()], [randomUUID()])).toBeUndefined()
    expect(qemu([], [])).toBeUndefined()
  })

  test('is none when the words only mention it', () => {
    const [name, uuid] = [unheardOf(), randomUUID()]
    running('/usr/bin/pgrep', '-f', `-uuid ${uuid}`)
    running('/usr/bin/virsh', 'start', name)
    running('/usr/bin/tail', `/var/log/libvirt/qemu/${name}.log`)
    expect(qemu([name], [uuid])).toBeUndefined()
  })

  test('is none when another program has an option of that name: find / -name web', () => {
    const name = unheardOf()
    running('/usr/bin/find', '/', '-name', name)
    expect(qemu([name])).toBeUndefined()
  })

  test('that has ended is none', async () => {
    const name = unheardOf()
    const child = spawn('/bin/sh', ['-c', 'read line', '-name', `guest=${name}`], { argv0: QEMU, stdio: 'pipe' })
    expect(qemu([name])).toBe(child.pid)
    const end = new Promise(resolve => child.on('close', resolve))
    child.kill('SIGKILL')
    await end
    expect(qemu([name])).toBeUndefined()
  })
})

describe('a container', () => {
  const lxc = (name: string) => processOf('lxc', { names: [name], uuids: [] })

  test('is found by its controller', () => {
    const name = unheardOf()
    const pid = running('/usr/lib/libvirt/libvirt_lxc', '--name', name, '--console', '20')
    expect(lxc(name)).toBe(pid)
    expect(lxc(`${name}2`)).toBeUndefined()
    expect(qemu([name])).toBeUndefined()
  })

  test('is none when another program has an option of that name', () => {
    const name = unheardOf()
    running('/usr/bin/docker', '--name', name)
    expect(lxc(name)).toBeUndefined()
  })
})

test.each(['xen', 'test', 'vbox', ''])('the processes of %j do not say whose they are: nobody knows', driver => {
  expect(processOf(driver, { names: [unheardOf()], uuids: [] })).toBe('unknown')
})

describe('what is installed', () => {
  const path = (value: string) => {
    vi.stubEnv('PATH', value)
    onTestFinished(() => void vi.unstubAllEnvs())
  }

  test('is what a shell would find', async () => {
    const folder = await temporaryFolder()
    const name = unheardOf()
    path(`/nowhere::${folder}`)
    expect(isProgram(name)).toBe(false)
    writeProgram(folder, name, 'exit 0')
    expect(isProgram(name)).toBe(true)
  })

  test('is nothing while ocf-tester pretends so', async () => {
    const folder = await temporaryFolder()
    writeProgram(folder, 'virsh', 'exit 0')
    path(folder)
    expect(isProgram('virsh')).toBe(true)
    vi.stubEnv('OCF_TESTER_FAIL_HAVE_BINARY', '1')
    expect(isProgram('virsh')).toBe(false)
  })

  test.each(['virsh', 'libvirtd', 'virtqemud', 'virtlxcd', 'virtxend'])('is libvirt where %s is', async name => {
    const folder = await temporaryFolder()
    writeProgram(folder, name, 'exit 0')
    path(join(folder))
    expect(isLibvirtInstalled()).toBe(true)
  })
})
