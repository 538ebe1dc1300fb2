/** Whether a node answers another: the real script in a real sh, with programs of the test's own in PATH, and OpenSSH's own words. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { quote } from '../../src/core/command.ts'
import { run } from '../../src/nodes/process.ts'
import { parseReach, type Reached, reachLine } from '../../src/nodes/reaches.ts'
import { temporaryFolder } from '../store/parts.ts'

let folder = ''
const at = (name: string) => join(folder, name)

beforeEach(async () => {
  folder = await temporaryFolder()
  await mkdir(at('bin'))
})

/** Puts programs first in PATH: `ssh -G` says the host's address, everything else is the test's. */
async function fake(programs: { readonly ping?: string; readonly ssh?: string }): Promise<void> {
  const write = (name: string, text: string) => writeFile(at(`bin/${name}`), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  const record = (name: string) => `for word; do printf '%s\\n' "$word"; done >>${at(`${name}.argv`)}`
  if (programs.ping !== undefined) await write('ping', `${record('ping')}\n${programs.ping}`)
  await write(
    'ssh',
    `[ "$1" = -G ] && { echo 'user root'; echo "hostname $(cat ${at('hostname')})"; exit; }\n${record('ssh')}\n${programs.ssh ?? 'exit 255'}`,
  )
  await writeFile(at('hostname'), '10.77.0.13')
}

async function tryNode(name = 'node3'): Promise<Reached | undefined> {
  const search = [at('bin'), ...(process.env['PATH'] ?? '').split(delimiter)].join(':')
  const { stdout } = await run('sh', ['-c', `PATH=${quote(search)}; export PATH; ${reachLine(name)}`], {
    timeoutMs: 15_000,
  })
  return parseReach(stdout)
}

/** Prints these lines to stderr, and ends as ssh does when it has failed. */
const says = (...lines: string[]) => `${lines.map(line => `printf '%s\\r\\n' ${quote(line)} >&2`).join('\n')}\nexit 255`
const CONNECTING = 'debug1: Connecting to node3 [10.77.0.13] port 22.'
const NO_PING =
  'echo "PING 10.77.0.13 (10.77.0.13) 56(84) bytes of data."; echo; echo "--- 10.77.0.13 ping statistics ---"; echo "3 packets transmitted, 0 received, 100% packet loss, time 2029ms"; exit 1'

describe('what OpenSSH says', () => {
  test.each<[Reached['verdict'], string, readonly string[]]>([
    [
      'answers',
      'it answered ssh (ssh: connect to host node3 port 22: Connection refused)',
      [
        CONNECTING,
        'debug1: connect to address 10.77.0.13 port 22: Connection refused',
        'ssh: connect to host node3 port 22: Connection refused',
      ],
    ],
    [
      'answers',
      'it answered ssh (root@node3: Permission denied (publickey,password).)',
      [
        CONNECTING,
        'debug1: Connection established.',
        'debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1',
        'root@node3: Permission denied (publickey,password).',
      ],
    ],
    [
      'answers',
      'it answered ssh (Host key verification failed.)',
      [
        CONNECTING,
        'debug1: Connection established.',
        'No ED25519 host key is known for node3 and you have requested strict checking.',
        'Host key verification failed.',
      ],
    ],
    [
      'answers',
      'it answered ssh (Connection timed out during banner exchange)',
      [CONNECTING, 'debug1: Connection established.', 'Connection timed out during banner exchange'],
    ],
    [
      'answers',
      'it answered ssh (kex_exchange_identification: read: Connection reset by peer)',
      [CONNECTING, 'kex_exchange_identification: read: Connection reset by peer'],
    ],
    ['answers', 'it answered ssh', [CONNECTING, 'debug1: Connection established.']],
    [
      'answers',
      'it answered ssh (ssh: connect to host node3 port 22: Connection timed out)',
      [
        'debug1: Connecting to node3 [fd00::13] port 22.',
        'debug1: connect to address fd00::13 port 22: Connection refused',
        CONNECTING,
        'debug1: connect to address 10.77.0.13 port 22: Connection timed out',
        'ssh: connect to host node3 port 22: Connection timed out',
      ],
    ],
    [
      'answers',
      'ssh logs in',
      [
        CONNECTING,
        'debug1: Connection established.',
        'Authenticated to node3 ([10.77.0.13]:22) using "publickey".',
        'Transferred: sent 2520, received 2300 bytes, in 0.0 seconds',
        'Bytes per second: sent 1.0, received 1.0',
      ],
    ],
    // Behind a jump host it is the version that tells, and the jump host's words.
    [
      'answers',
      'it answered ssh (root@node3: Permission denied (publickey).)',
      [
        'debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1',
        'root@node3: Permission denied (publickey).',
      ],
    ],
    [
      'answers',
      'it answered ssh (Connection closed by UNKNOWN port 65535)',
      [
        'channel 0: open failed: connect failed: Connection refused',
        'stdio forwarding failed',
        'Connection closed by UNKNOWN port 65535',
      ],
    ],
    [
      'silent',
      'channel 0: open failed: connect failed: No route to host',
      [
        'channel 0: open failed: connect failed: No route to host',
        'stdio forwarding failed',
        'kex_exchange_identification: Connection closed by remote host',
        'Connection closed by UNKNOWN port 65535',
      ],
    ],
    [
      'unknown',
      'ssh: Connection closed by UNKNOWN port 65535',
      [
        'channel 0: open failed: administratively prohibited: open failed',
        'stdio forwarding failed',
        'Connection closed by UNKNOWN port 65535',
      ],
    ],
    [
      'silent',
      'ssh: connect to host node3 port 22: Connection timed out',
      [
        CONNECTING,
        'debug1: connect to address 10.77.0.13 port 22: Connection timed out',
        'ssh: connect to host node3 port 22: Connection timed out',
      ],
    ],
    [
      'silent',
      'ssh: connect to host node3 port 22: No route to host',
      [CONNECTING, 'ssh: connect to host node3 port 22: No route to host'],
    ],
    ['silent', 'ssh: no connection within 4 s', [CONNECTING]],
    [
      'unknown',
      'ssh: Could not resolve hostname node3: Name or service not known',
      ['ssh: Could not resolve hostname node3: Name or service not known'],
    ],
    [
      'unknown',
      'ssh: connect to host node3 port 22: Network is unreachable',
      [CONNECTING, 'ssh: connect to host node3 port 22: Network is unreachable'],
    ],
    ['unknown', 'ssh said nothing', []],
  ])('%s: %s', async (verdict, said, lines) => {
    await fake({ ping: 'exit 2', ssh: says(...lines) })
    const reached = await tryNode()
    expect(reached?.verdict).toBe(verdict)
    expect(reached?.said.split(', ').at(-1)).toBe(said)
  })
})

describe('what ping says', () => {
  const SILENT_SSH = says('ssh: Could not resolve hostname node3: Name or service not known')
  test.each<[Reached['verdict'], string, string]>([
    [
      'answers',
      'it answered ping',
      'echo "PING 10.77.0.13 (10.77.0.13) 56(84) bytes of data."; echo "64 bytes from 10.77.0.13: icmp_seq=2 ttl=64 time=0.031 ms"',
    ],
    [
      'answers',
      'it answered ping',
      'echo "PING 10.77.0.13 (10.77.0.13): 56 data bytes"; echo "64 bytes from 10.77.0.13: seq=0 ttl=64 time=0.031 ms"',
    ],
    [
      'answers',
      'it answered ping with an error',
      'echo "PING node3 (10.77.0.13) 56(84) bytes of data."; echo "From 10.77.0.13 icmp_seq=1 Destination Host Prohibited"; exit 1',
    ],
    [
      'silent',
      'no answer to ping',
      'echo "PING node3 (10.77.0.13) 56(84) bytes of data."; echo "From 10.77.0.11 icmp_seq=1 Destination Host Unreachable"; echo "3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2055ms"; exit 1',
    ],
    ['silent', 'no answer to ping', NO_PING],
    [
      'silent',
      'no answer to ping',
      'echo "PING 10.77.0.13 (10.77.0.13): 56 data bytes"; echo "3 packets transmitted, 0 packets received, 100% packet loss"; exit 1',
    ],
  ])('%s: %s', async (verdict, said, ping) => {
    await fake({ ping, ssh: SILENT_SSH })
    expect(await tryNode()).toEqual({ verdict, said })
  })

  test('unknown: it cannot resolve the name, or may not ping', async () => {
    await fake({ ping: 'echo "ping: node3: Name or service not known" >&2; exit 2', ssh: SILENT_SSH })
    expect(await tryNode()).toMatchObject({
      verdict: 'unknown',
      said: expect.stringContaining('ping: ping: node3: Name or service'),
    })
  })
})

describe('the script', () => {
  test('asks both at once, by what ssh resolves, with a fresh connection that keeps nothing and asks nobody', async () => {
    await fake({
      ping: `sleep 1; ${NO_PING}`,
      ssh: `sleep 1; ${says('ssh: connect to host node3 port 22: No route to host')}`,
    })
    const begun = performance.now()
    expect(await tryNode()).toEqual({
      verdict: 'silent',
      said: 'no answer to ping, ssh: connect to host node3 port 22: No route to host',
    })
    expect(performance.now() - begun).toBeLessThan(1900)
    expect((await readFile(at('ping.argv'), 'utf8')).trim().split('\n').at(-1)).toBe('10.77.0.13')
    const argv = (await readFile(at('ssh.argv'), 'utf8')).trim().split('\n')
    expect(argv.slice(-3)).toEqual(['--', 'node3', 'true'])
    for (const option of ['BatchMode=yes', 'ControlPath=none', 'StrictHostKeyChecking=yes', 'UpdateHostKeys=no'])
      expect(argv).toContain(option)
  })

  test('one answer outweighs any silence', async () => {
    await fake({ ping: NO_PING, ssh: says('ssh: connect to host node3 port 22: Connection refused') })
    expect(await tryNode()).toMatchObject({ verdict: 'answers' })
    await fake({
      ping: 'echo "64 bytes from 10.77.0.13: icmp_seq=1"',
      ssh: says('ssh: connect to host node3 port 22: Connection timed out'),
    })
    expect(await tryNode()).toEqual({ verdict: 'answers', said: 'it answered ping' })
  })

  test('ends by itself when neither does', async () => {
    await fake({ ping: 'sleep 20', ssh: `echo ${quote(CONNECTING)} >&2; sleep 20` })
    const begun = performance.now()
    expect(await tryNode()).toEqual({ verdict: 'silent', said: 'ssh: no connection within 4 s' })
    expect(performance.now() - begun).toBeLessThan(6000)
  })

  test('nothing that is said or resolved is read by the shell, nor breaks the answer', async () => {
    const evil = `$(touch ${at('ran')}) \`touch ${at('ran')}\` ; touch ${at('ran')}`
    await fake({ ping: `printf '%s\\n' ${quote(evil)}`, ssh: says(evil, 'end', 'ping\t64 bytes from 1.1.1.1') })
    for (const hostname of [evil, '-oProxyCommand=touch', '* ?', '']) {
      await writeFile(at('hostname'), hostname)
      expect(await tryNode()).toMatchObject({ verdict: 'unknown' })
    }
    await expect(readFile(at('ran'))).rejects.toThrow()
    expect(await readFile(at('ping.argv'), 'utf8')).not.toContain('-oProxyCommand')
  })

  test('a program that never stops talking is cut off', async () => {
    await fake({ ping: 'yes 64 bytes', ssh: says(CONNECTING, 'ssh: connect to host node3 port 22: No route to host') })
    expect(await tryNode()).toMatchObject({ verdict: 'silent' })
  })

  test.each([
    [
      'ping',
      `printf 'connect: no end of line'`,
      `sleep 0.5; ${says('ssh: connect to host node3 port 22: Connection refused')}`,
    ],
    ['ssh', `sleep 0.5; echo '64 bytes from 10.77.0.13: icmp_seq=1'`, `printf 'no end of line' >&2; exit 255`],
  ])('a last line of %s without an end hides nothing that the other says', async (_, ping, ssh) => {
    await fake({ ping, ssh })
    expect(await tryNode()).toMatchObject({ verdict: 'answers' })
  })

  test('an answer that is not whole is none', () => {
    expect(parseReach('')).toBeUndefined()
    expect(parseReach('ssh\tssh: connect to host node3 port 22: No route to host\n')).toBeUndefined()
    expect(parseReach('end\n')).toMatchObject({ verdict: 'unknown' })
  })

  test('the real ssh, towards a port where somebody listens and says nothing, and one where nobody does', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const { stdout: ssh } = await run('sh', ['-c', 'command -v ssh'], { timeoutMs: 5000 })
    await writeFile(
      at('config'),
      `Host node3\n  HostName 127.0.0.1\n  Port ${port}\nHost node4\n  HostName 127.0.0.1\n  Port 1\n`,
    )
    await writeFile(at('bin/ssh'), `#!/bin/sh\nexec ${ssh.trim()} -F ${at('config')} "$@"\n`, { mode: 0o755 })
    await writeFile(at('bin/ping'), '#!/bin/sh\nexit 2\n', { mode: 0o755 })
    try {
      expect(await tryNode('node3')).toMatchObject({
        verdict: 'answers',
        said: expect.stringContaining('it answered ssh'),
      })
      expect(await tryNode('node4')).toMatchObject({
        verdict: 'answers',
        said: expect.stringContaining('Connection refused'),
      })
    } finally {
      server.close()
    }
  })
})
