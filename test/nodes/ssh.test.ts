/** What havirt asks of ssh: a recording program stands first in PATH, so that no test reaches any machine. */
import { chmod, chown, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { privateFolder, Ssh, SshError, type SshSettings } from '../../src/nodes/ssh.ts'
import { temporaryFolder } from '../store/parts.ts'

const SETTINGS: SshSettings = {
  aliveIntervalSeconds: 5,
  aliveCountMax: 2,
  persistSeconds: 60,
  connectTimeoutSeconds: 7,
  options: ['Port=2222', 'User=virt admin'],
}

/**
 * Writes each call's arguments as a line of JSON. As a master, does what the test put into `master.sh`, with the path of
 * the log in $LOG; as a client, prints its words.
 */
const FAKE_SSH = `#!/bin/sh
{ for word; do printf '%s\\037' "$word"; done; echo; } >>"$HAVIRT_FAKE/calls"
for word; do [ "$before" = -E ] && LOG=$word; before=$word; done
[ "$1" = -M ] && { . "$HAVIRT_FAKE/master.sh"; exit 0; }
. "$HAVIRT_FAKE/client.sh"
`

let folder = ''
let runtime = ''
const path = process.env['PATH']
const servers: Server[] = []

beforeEach(async () => {
  folder = await temporaryFolder()
  runtime = join(folder, 'r')
  await mkdir(join(folder, 'bin'))
  await writeFile(join(folder, 'bin', 'ssh'), FAKE_SSH, { mode: 0o755 })
  await behave('exit 0', 'cat; exit 7')
  process.env['HAVIRT_FAKE'] = folder
  process.env['PATH'] = `${join(folder, 'bin')}:${path}`
})
afterEach(() => {
  process.env['PATH'] = path
  delete process.env['HAVIRT_FAKE']
  for (const server of servers.splice(0)) server.close()
})

async function behave(master: string, client = 'exit 0'): Promise<void> {
  await writeFile(join(folder, 'master.sh'), `${master}\n`)
  await writeFile(join(folder, 'client.sh'), `${client}\n`)
}

async function calls(): Promise<string[][]> {
  const text = await readFile(join(folder, 'calls'), 'utf8').catch(() => '')
  return text
    .split('\x1f\n')
    .slice(0, -1)
    .map(line => line.split('\x1f'))
}

/** The values of all `-o` options. */
function options(argv: readonly string[]): string[] {
  return argv.filter((_, at) => argv[at - 1] === '-o')
}

const ssh = (settings: Partial<SshSettings> = {}) => new Ssh(runtime, { ...SETTINGS, ...settings })
const LIMITS = { timeoutMs: 5000 }

describe('a name that could be anything but a name', () => {
  test.each([
    '-oProxyCommand=touch /tmp/x',
    '-v',
    '--',
    'a b',
    'a;b',
    '$(id)',
    'a\nb',
    'größe',
    'user@host',
    '../../etc',
    'a/b',
    'a..b',
    '.',
    '',
    'x'.repeat(64),
  ])('is refused before any process starts: %j', async name => {
    const all = ssh()
    const refused = [
      all.ensureMaster(name),
      all.run(name, 'true', LIMITS),
      all.pipe(name, 'true'),
      all.hostKey(name),
      all.forget(name),
    ]
    for (const one of refused) {
      await expect(one).rejects.toThrow(SshError)
      await expect(one).rejects.toThrow("cannot be a node's name")
    }
    expect(await calls()).toEqual([])
    expect((await readdir(folder)).sort()).toEqual(['bin', 'client.sh', 'master.sh'])
  })
})

describe('a master', () => {
  test('is started once, asks nobody anything, watches the line, and forwards the sockets of libvirt', async () => {
    await ssh().ensureMaster('node1')
    const [argv = [], ...others] = await calls()
    expect(others).toEqual([])
    expect(argv.slice(0, 4)).toEqual(['-M', '-N', '-f', '-S'])
    expect(argv.slice(-2)).toEqual(['--', 'node1'])
    const given = options(argv)
    expect(given).toEqual(expect.arrayContaining(['BatchMode=yes', 'ControlPersist=60', 'StreamLocalBindMask=0177']))
    expect(given).toEqual(
      expect.arrayContaining(['ServerAliveInterval=5', 'ServerAliveCountMax=2', 'ConnectTimeout=7']),
    )
    expect(given).toEqual(expect.arrayContaining(['ForwardAgent=no', 'PermitLocalCommand=no']))
    // Last, since ssh takes the first of two values: nobody's options overrule what havirt relies on.
    expect(given.slice(-2)).toEqual(['Port=2222', 'User=virt admin'])
    const forwards = argv.filter((_, at) => argv[at - 1] === '-L').map(forward => forward.split(':')[1])
    const sockets = ['libvirt-sock', 'libvirt-sock-ro', 'virtqemud-sock', 'virtqemud-sock-ro']
    expect(forwards.sort()).toEqual(sockets.map(name => `/run/libvirt/${name}`))
  })

  test('works in a folder of its own that nobody else may enter, behind one link', async () => {
    await ssh().ensureMaster('node1')
    const node = join(runtime, 'ssh', 'node1')
    const names = (await readdir(node)).sort()
    expect(names).toEqual(['current', expect.stringMatching(/^m\.[0-9a-f]{8}$/)])
    expect((await stat(node)).mode & 0o777).toBe(0o700)
    expect((await stat(join(node, 'current'))).mode & 0o777).toBe(0o700)
    const current = (name: string) => join(node, 'current', name)
    expect(ssh().sockets('node1', 'readOnly').sort()).toEqual([current('lr'), current('qr')])
    expect(ssh().sockets('node1', 'readWrite').sort()).toEqual([current('lw'), current('qw')])
  })

  test('that lives is used, and is started once for all who ask meanwhile', async () => {
    const all = ssh()
    await Promise.all([all.ensureMaster('node1'), all.ensureMaster('node1')])
    expect(await calls()).toHaveLength(1)
    const server = createServer().listen(join(runtime, 'ssh', 'node1', 'current', 'c'))
    servers.push(server)
    await new Promise(resolve => server.once('listening', resolve))
    await all.ensureMaster('node1')
    expect(await calls()).toHaveLength(1)
  })

  test('that takes the place of a dead one leaves nothing of it', async () => {
    await ssh().ensureMaster('node1')
    await ssh().ensureMaster('node1')
    expect(await calls()).toHaveLength(2)
    expect(await readdir(join(runtime, 'ssh', 'node1'))).toHaveLength(2)
  })
})

describe('a command', () => {
  test('goes through the master, and never makes one by itself', async () => {
    const exit = await ssh().run('node1', 'sh -c \'echo "$HOME"\'', { ...LIMITS, stdin: 'definition' })
    expect(exit).toMatchObject({ status: 7, stdout: 'definition' })
    const argv = (await calls())[1] ?? []
    expect(argv.slice(0, 2)).toEqual(['-S', join(runtime, 'ssh', 'node1', 'current', 'c')])
    expect(argv.slice(-3)).toEqual(['--', 'node1', 'sh -c \'echo "$HOME"\''])
    expect(options(argv)).toEqual(
      expect.arrayContaining([
        'ControlMaster=no',
        'BatchMode=yes',
        'ServerAliveInterval=5',
        'ServerAliveCountMax=2',
        'Port=2222',
      ]),
    )
  })

  test('by a master that somebody just got through does not ask first whether it lives', async () => {
    const known = ssh()
    known.lives('node1')
    expect(await known.run('node1', 'true', { ...LIMITS, stdin: 'in' })).toMatchObject({ status: 7, stdout: 'in' })
    expect((await calls()).map(([first]) => first)).toEqual(['-S'])
    await known.forget('node1')
    await behave('echo gone >"$LOG"; exit 255')
    await expect(known.run('node1', 'true', LIMITS)).rejects.toThrow(SshError)
  })

  test('is not sent when there is no master', async () => {
    await behave('exit 255')
    await expect(ssh().run('node1', 'virsh destroy web', LIMITS)).rejects.toThrow(SshError)
    expect(await calls()).toHaveLength(1)
  })

  test('as a stream goes the same way', async () => {
    await behave('exit 0', 'cat')
    const stream = await ssh().pipe('node1', 'virt-ssh-helper -r qemu:///system')
    const answered = new Promise<string>(resolve => stream.once('data', chunk => resolve(String(chunk))))
    stream.write('hello')
    expect(await answered).toBe('hello')
    expect((await calls())[1]?.slice(-4)).toEqual(['-T', '--', 'node1', 'virt-ssh-helper -r qemu:///system'])
    stream.destroy()
  })
})

describe('what ssh says', () => {
  test.each([
    [
      'its last words',
      'ssh: Could not resolve hostname node1: Name or service not known\r\n',
      'ssh: Could not resolve hostname node1: Name or service not known',
    ],
    [
      'not its notes',
      'debug1: x\nroot@node1: Permission denied (publickey).\nWarning: Permanently added node1\n\n',
      'root@node1: Permission denied (publickey).',
    ],
    ['nothing', '', 'ssh failed without a message'],
  ])('%s', async (_what, log, message) => {
    await writeFile(join(folder, 'words'), log)
    await behave(`cat "$HAVIRT_FAKE/words" >"$LOG"; exit 255`)
    await expect(ssh().ensureMaster('node1')).rejects.toEqual(new SshError(message))
    expect(await readdir(join(runtime, 'ssh', 'node1'))).toEqual([])
  })

  test('when it died before its log was open, or is not there at all', async () => {
    await behave('echo "Bad configuration option: frobnicate" >&2; exit 255')
    await expect(ssh().ensureMaster('node1')).rejects.toThrow('Bad configuration option: frobnicate')
    process.env['PATH'] = join(folder, 'nowhere')
    await expect(ssh().ensureMaster('node1')).rejects.toThrow('spawn ssh ENOENT')
  })

  test('of the host key it sees', async () => {
    await behave('exit 0', 'echo "debug1: Server host key: ssh-ed25519 SHA256:abc+d/e" >&2; exit 255')
    expect(await ssh().hostKey('node1')).toBe('ssh-ed25519 SHA256:abc+d/e')
    const [argv = []] = await calls()
    expect(options(argv)).toEqual(expect.arrayContaining(['ControlPath=none', 'BatchMode=yes']))
    await behave('exit 0', 'exit 255')
    expect(await ssh().hostKey('node1')).toBeUndefined()
  })
})

test('forgetting a node ends its master and removes its folder, and none is fine', async () => {
  const all = ssh()
  await all.ensureMaster('node1')
  await all.forget('node1')
  expect((await calls())[1]).toEqual(['-S', join(runtime, 'ssh', 'node1', 'current', 'c'), '-O', 'exit', '--', 'node1'])
  expect(await readdir(join(runtime, 'ssh'))).toEqual([])
  await all.forget('node2')
})

describe('a private folder', () => {
  test('is made, for nobody else, and is fine when it is there', async () => {
    const made = join(folder, 'deep', 'private')
    for (let time = 0; time < 2; time++) expect(await privateFolder(made)).toBe(made)
    expect((await stat(made)).mode & 0o777).toBe(0o700)
  })

  test.each([0o755, 0o770, 0o710, 0o701])('that lets others in is refused: mode %o', async mode => {
    await chmod(folder, mode)
    await expect(privateFolder(folder)).rejects.toThrow('must belong to this user with mode 0700')
    await chmod(folder, 0o700)
  })

  test.skipIf(process.getuid?.() !== 0)('of somebody else is refused (only root can give a folder away)', async () => {
    const theirs = join(folder, 'theirs')
    await mkdir(theirs, { mode: 0o700 })
    await chown(theirs, 65_534, 65_534)
    await symlink(theirs, join(folder, 'link'))
    for (const each of [theirs, join(folder, 'link')])
      await expect(privateFolder(each)).rejects.toThrow('must belong to this user')
  })
})
