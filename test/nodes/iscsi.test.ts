/**
 * The scripts for iSCSI, run by a real shell: on a tree as the kernel's sysfs has it with two sessions, and on records as open-iscsi
 * writes them.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { LOGOUT_SCRIPT, planLogins, TAKE_OFF_SCRIPT } from '../../src/core/plan/iscsi.ts'
import { ISCSI_SCRIPT, parseIscsi } from '../../src/nodes/iscsi.ts'
import { aCluster, aNode } from '../core/builders.ts'

function aFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'havirt-iscsi-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}

/** /sys with a session to target a, whose LUN 1 is sdb with a partition that a mapping holds, and one to b that broke. */
function aSysfs(): string {
  const sys = join(aFolder(), 'sys')
  const session = (number: number, target: string, state: string, address: string) => {
    write(`${sys}/class/iscsi_session/session${number}/targetname`, `${target}\n`)
    write(`${sys}/class/iscsi_session/session${number}/state`, `${state}\n`)
    write(`${sys}/class/iscsi_connection/connection${number}:0/persistent_address`, `${address}\n`)
    write(`${sys}/class/iscsi_connection/connection${number}:0/persistent_port`, '3260\n')
  }
  session(1, 'iqn.2003-01.org.example:a', 'LOGGED_IN', '10.0.0.1')
  session(2, 'iqn.2003-01.org.example:b', 'FAILED', '10.0.0.2')
  const lun = `${sys}/class/iscsi_session/session1/device/target2:0:0/2:0:0:1`
  const disk = `${lun}/block/sdb`
  write(`${lun}/wwid`, 'naa.60014051a2b3c4d5\n')
  mkdirSync(disk, { recursive: true })
  symlinkSync('../..', `${disk}/device`)
  write(`${disk}/size`, '2097152\n')
  write(`${disk}/dev`, '8:16\n')
  write(`${disk}/sdb1/dev`, '8:17\n')
  write(`${disk}/sdb1/holders/dm-3/dm/name`, 'vg0-root\n')
  return sys
}

test('sessions, their disks, and who holds them, from what the kernel shows', () => {
  const sys = aSysfs()
  const script = ISCSI_SCRIPT.replaceAll('/sys/class', `${sys}/class`)
  const { stdout, status } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  expect(status).toBe(0)
  expect(parseIscsi(stdout)).toEqual({
    sessions: [
      { target: 'iqn.2003-01.org.example:a', portal: '10.0.0.1:3260', state: 'LOGGED_IN' },
      { target: 'iqn.2003-01.org.example:b', portal: '10.0.0.2:3260', state: 'FAILED' },
    ],
    disks: [
      {
        target: 'iqn.2003-01.org.example:a',
        lun: '1',
        device: 'sdb',
        wwid: 'naa.60014051a2b3c4d5',
        bytes: 1 << 30,
        uses: ['the mapping vg0-root (dm-3)'],
        reads: false,
      },
    ],
  })
})

test('a node without iSCSI has none, and an answer that broke off is no answer', () => {
  const { stdout } = spawnSync('sh', ['-c', ISCSI_SCRIPT.replaceAll('/sys/class', '/nowhere')], { encoding: 'utf8' })
  expect(parseIscsi(stdout)).toEqual({ sessions: [], disks: [] })
  expect(parseIscsi('session\ta\tb\tc\n')).toBeUndefined()
})

test('volume groups and what can be read are counted for the disk that they are on', () => {
  const text = [
    'lun\tt\t1\tsdb\tnaa.1\t8',
    'part\tsdb\tsdb',
    'part\tsdb\tsdb2',
    'volume\tsdb2\tvg7',
    'volume\tsdc\tvg8',
    'reads\tsdb',
    'end',
  ].join('\n')
  expect(parseIscsi(text)?.disks).toMatchObject([{ uses: ['the volume group vg7'], reads: true }])
})

/** A record as open-iscsi 2.1.8 writes it, shortened. */
const RECORD = `# BEGIN RECORD 2.1.8
node.name = iqn.2003-01.org.example:a
node.startup = manual
node.session.auth.authmethod = None
node.session.timeo.replacement_timeout = 120
# END RECORD
`

test('a password goes into the record of the target, by standard input, and nobody else may read it', () => {
  const root = aFolder()
  const file = `${root}/etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.0.1,3260,1/default`
  write(file, RECORD)
  const offers = new Map([['10.0.0.1:3260', [{ target: 'iqn.2003-01.org.example:a', portal: '10.0.0.1:3260' }]]])
  const acts = planLogins({
    cluster: aCluster({ nodes: [aNode('node1')] }),
    nodes: new Map([['node1', { sessions: [], disks: [], offers }]]),
    portals: [{ address: '10.0.0.1:3260', chap: { username: "o'brien", passwordFile: '/etc/havirt/chap' } }],
    wanted: ['node1'],
  })
  const chap = acts.find(({ command }) => command.stdin !== undefined)
  expect(chap?.command.stdin).toBe('/etc/havirt/chap')
  const [, , text = ''] = chap?.command.argv ?? []
  const script = text
    .replaceAll("'/etc/iscsi", `'${root}/etc/iscsi`)
    .replaceAll("'/var/lib/iscsi", `'${root}/var/lib/iscsi`)
  for (const secret of ['first', 'se cr$et"\'\\']) {
    const { status, stderr } = spawnSync('sh', ['-c', script], { input: `${secret}\n`, encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
    expect(readFileSync(file, 'utf8')).toBe(
      RECORD.replace('node.session.auth.authmethod = None\n', '').replace(
        '# END',
        `node.session.auth.authmethod = CHAP\nnode.session.auth.username = o'brien\nnode.session.auth.password = ${secret}\n# END`,
      ),
    )
    expect(statSync(file).mode & 0o777).toBe(0o600)
  }
  expect(spawnSync('sh', ['-c', script.replaceAll(root, '/nowhere')], { input: 'x\n' }).status).toBe(1)
})

/** /sys/block with sdb, and a /proc where nothing is mounted; what a script would do to the real ones, it does to these. */
function aBlockDevice(): {
  run(script: string, ...words: string[]): { status: number | null; stderr: string }
  root: string
} {
  const root = aFolder()
  write(`${root}/sys/block/sdb/device/wwid`, 'naa.6001\n')
  write(`${root}/sys/block/sdb/device/delete`, '')
  write(`${root}/sys/block/sdb/dev`, '8:16\n')
  write(`${root}/sys/block/sdb/sdb1/dev`, '8:17\n')
  write(`${root}/proc/self/mountinfo`, '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n')
  write(`${root}/proc/swaps`, 'Filename Type\n')
  write(`${root}/bin/iscsiadm`, '#!/bin/sh\necho "$@" >"$0.said"\n')
  spawnSync('chmod', ['+x', `${root}/bin/iscsiadm`])
  const run = (script: string, ...words: string[]) => {
    const text = script
      .replaceAll('/sys/block', `${root}/sys/block`)
      .replaceAll('/proc/', `${root}/proc/`)
      .replaceAll('/dev/$1', `${root}/dev/$1`)
    const env = { ...process.env, PATH: `${root}/bin:${process.env['PATH']}` }
    const { status, stderr } = spawnSync('sh', ['-c', text, 'havirt', ...words], { encoding: 'utf8', env })
    return { status, stderr }
  }
  return { run, root }
}

describe('right before something is taken away it is looked at once more', () => {
  const mount = (root: string, line: string) => write(`${root}/proc/self/mountinfo`, `${line}\n`)

  test('a disk that still is the one and that nobody uses goes, and so does a session', () => {
    const { run, root } = aBlockDevice()
    expect(run(TAKE_OFF_SCRIPT, 'sdb', 'naa.6001')).toEqual({ status: 0, stderr: '' })
    expect(readFileSync(`${root}/sys/block/sdb/device/delete`, 'utf8')).toBe('1\n')
    expect(run(LOGOUT_SCRIPT, 'iqn.a:b', '10.0.0.1:3260', 'sdb', 'naa.6001').status).toBe(0)
    expect(readFileSync(`${root}/bin/iscsiadm.said`, 'utf8')).toBe('-m node -T iqn.a:b -p 10.0.0.1:3260 --logout\n')
  })

  test.each([
    ['another disk by now', (root: string) => write(`${root}/sys/block/sdb/device/wwid`, 'naa.7777\n')],
    ['in use by dm-3', (root: string) => write(`${root}/sys/block/sdb/sdb1/holders/dm-3/x`, '')],
    ['mounted, or is swap', (root: string) => mount(root, '30 1 8:17 / /srv rw - ext4 /dev/sdb1 rw')],
    ['mounted, or is swap', (root: string) => mount(root, '30 1 0:44 / /srv rw - btrfs /dev/sdb1 rw')],
    ['mounted, or is swap', (root: string) => write(`${root}/proc/swaps`, 'Filename\n/dev/sdb partition\n')],
  ])('%s: nothing is done', (why, change) => {
    const { run, root } = aBlockDevice()
    change(root)
    for (const answer of [
      run(TAKE_OFF_SCRIPT, 'sdb', 'naa.6001'),
      run(LOGOUT_SCRIPT, 'iqn.a:b', '10.0.0.1:3260', 'sdb', 'naa.6001'),
    ])
      expect(answer).toEqual({ status: 1, stderr: expect.stringContaining(why) })
    expect(readFileSync(`${root}/sys/block/sdb/device/delete`, 'utf8')).toBe('')
  })

  test('a disk that can be read again stays', () => {
    const { run, root } = aBlockDevice()
    write(`${root}/dev/sdb`, 'x'.repeat(8192))
    expect(run(TAKE_OFF_SCRIPT.replaceAll('iflag=direct', ''), 'sdb', 'naa.6001')).toEqual({
      status: 1,
      stderr: 'sdb can be read again\n',
    })
  })
})
