/** What a node says of how it is set up, as it was recorded on one, and with what only other machines have. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseDevices, parseLogins } from '../../src/nodes/cross-check.ts'
import { parseSurvey } from '../../src/nodes/survey.ts'

const RECORDED = readFileSync(join(import.meta.dirname, 'recorded', 'survey.txt'), 'utf8')
const ASKED = { fromMs: 1_795_293_434_300, toMs: 1_795_293_434_320 }

/** The recorded answer with these lines before its end. */
function surveyWith(...lines: string[][]) {
  const survey = parseSurvey(RECORDED.replace(/^end$/m, `${lines.map(each => each.join('\t')).join('\n')}\nend`), ASKED)
  if (survey === undefined) throw new Error('it came to its end')
  return survey
}

test('a recorded answer is read as it was', () => {
  expect(surveyWith()).toMatchObject({
    clockAheadMs: 2,
    clockUnsureMs: 10,
    libvirtVersion: '9.0.0',
    hypervisorVersion: 'QEMU 7.2.22',
    kvm: true,
    networks: [],
    pools: [],
    sessions: [],
    mounts: [],
    sshConfig: ['Host node*', 'User root', 'BatchMode yes', 'StrictHostKeyChecking yes', 'ConnectTimeout 5'],
    libvirtGuests: false,
    maxSessions: 100,
    maxStartups: '100:30:100',
    migrationPorts: { from: 49_152, to: 49_215, taken: 0 },
    home: true,
  })
  expect(surveyWith().bridges).toEqual(new Map([['br0', '1500']]))
  expect(surveyWith().authorizedKeys).toHaveLength(3)
  expect(surveyWith().ownKeys[0]).toMatch(/^ssh-ed25519 AAAA\S+$/)
  expect(surveyWith().machineTypes).toContain('q35')
})

test('an answer that broke off is none', () => {
  expect(parseSurvey(RECORDED.replace(/^end$/m, ''), ASKED)).toBeUndefined()
  expect(parseSurvey('', ASKED)).toBeUndefined()
})

describe('what other machines have', () => {
  test('networks and pools, with their state and what they are', () => {
    const survey = surveyWith(
      ['net-list', '--name', 'lan'],
      ['net-list', '--autostart --all --name', 'lan'],
      ['net-list', '--inactive --name', 'old'],
      ['net-xml', 'lan', "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"],
      ['net-xml', 'old', "<network><name>old</name><forward mode='nat'/><bridge name='virbr7'/></network>"],
      ['pool-list', '--name', 'data'],
      ['pool-xml', 'data', "<pool type='dir'><name>data</name><target><path>/srv/data</path></target></pool>"],
      ['pool-xml', 'odd', '<pool'],
    )
    expect(survey.networks).toEqual([
      { name: 'lan', active: true, autostart: true, what: 'bridge br0' },
      { name: 'old', active: false, autostart: false, what: 'nat' },
    ])
    expect(survey.pools).toEqual([
      { name: 'data', active: true, autostart: false, what: 'dir /srv/data' },
      { name: 'odd', active: false, autostart: false, what: 'unreadable' },
    ])
  })

  test('iSCSI sessions and disks, sizes in bytes', () => {
    const survey = surveyWith(
      ['session', 'iqn.2003-01.org:a', '10.0.0.1:3260', 'LOGGED_IN'],
      ['lun', 'iqn.2003-01.org:a', '1', 'sdb', 'naa.6001405aaaa', '2097152'],
      ['lun', 'iqn.2003-01.org:a', '2', 'sdc', '', '8'],
    )
    expect(survey.sessions).toEqual([{ target: 'iqn.2003-01.org:a', portal: '10.0.0.1:3260', state: 'LOGGED_IN' }])
    expect(survey.disks).toMatchObject([
      { lun: '1', device: 'sdb', wwid: 'naa.6001405aaaa', bytes: 1 << 30 },
      { wwid: '', bytes: 4096 },
    ])
  })

  test('shared mounts, with blanks in their names, and no others', () => {
    const survey = surveyWith(
      ['mount', 'nas:/my\\040data', '/srv/my\\040data', 'nfs4'],
      ['mount', '/dev/sda1', '/', 'ext4'],
    )
    expect(survey.mounts).toEqual([{ source: 'nas:/my data', point: '/srv/my data', type: 'nfs4' }])
  })

  test('keys with options before and comments behind; what is commented out is none', () => {
    const before = surveyWith().authorizedKeys.length
    const survey = surveyWith(
      ['authorized', 'from="10.0.0.*",no-pty ssh-rsa AAAAB3Nz root@a'],
      ['authorized', 'ecdsa-sha2-nistp256 AAAAE2Vj'],
      ['authorized', '# ssh-rsa AAAAB3Nz root@b'],
    )
    expect(survey.authorizedKeys.slice(before)).toEqual(['ssh-rsa AAAAB3Nz', 'ecdsa-sha2-nistp256 AAAAE2Vj'])
  })

  test('ports for migrations, and those that are taken', () => {
    const survey = surveyWith(
      ['qemu', 'migration_port_min', '50000'],
      ['qemu', 'migration_port_max', '50003'],
      ['port', '50001'],
      ['port', '50001'],
      ['port', '50004'],
    )
    expect(survey).toMatchObject({ migrationPorts: { from: 50_000, to: 50_003, taken: 1 } })
  })
})

test('logins: who answered by its id, who did not and why, and who was not tried to the end', () => {
  const text =
    'login\tnode2\t0\tversion: 1 node: abc-1 cluster: xyz\nlogin\tnode3\t255\tnode3: Permission denied (publickey).\n'
  expect(parseLogins('node1', ['node2', 'node3', 'node4'], text)).toEqual([
    { from: 'node1', to: 'node2', id: 'abc-1', said: 'version: 1 node: abc-1 cluster: xyz' },
    { from: 'node1', to: 'node3', id: undefined, said: 'node3: Permission denied (publickey).' },
    { from: 'node1', to: 'node4', id: undefined, said: 'it was not tried to the end' },
  ])
})

test('devices by path', () => {
  expect(parseDevices('device\t1024\tab12\t/dev/my disk\nend\n')).toEqual(
    new Map([['/dev/my disk', { bytes: 1024, firstMiB: 'ab12' }]]),
  )
})
