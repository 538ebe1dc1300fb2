/** Entries of fence.devices: what is read from them, what is refused, and what the agent and a shell are given. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { configOf, defaultConfig } from '../../src/core/config.ts'
import { describeProblem, parseConfig } from '../../src/core/config-check.ts'
import { setConfigValue } from '../../src/core/config-edit.ts'
import { initialConfigText } from '../../src/core/config-text.ts'
import {
  FENCE_EXAMPLE,
  type FenceDevice,
  fenceDeviceOf,
  fenceDeviceProblem,
  fenceInput,
  fenceLine,
  parseFenceDevice,
} from '../../src/core/fence.ts'

const DEVICE: FenceDevice = {
  node: 'node1',
  agent: 'fence_ipmilan',
  parameters: { ip: '10.0.0.11', username: 'admin', lanplus: '1' },
  secrets: { password: '/etc/havirt/node1.secret' },
}

describe('an entry', () => {
  test('the example of the documents is one', () => {
    expect(parseFenceDevice(FENCE_EXAMPLE)).toEqual(DEVICE)
  })

  test.each([
    ['node1 fence_apc', {}],
    ['  node1   fence_apc  ', {}],
    ['node1 fence_apc plug="rack 3" ip=a', { plug: 'rack 3', ip: 'a' }],
    ['node1 fence_apc plug=\'a "b"\'', { plug: 'a "b"' }],
    ['node1 fence_apc ssh-options="-o A=b" cmd_prompt=', { 'ssh-options': '-o A=b', cmd_prompt: '' }],
    [
      'node1 fence_apc passwd_script=/usr/local/bin/p identity_file=/root/k',
      { passwd_script: '/usr/local/bin/p', identity_file: '/root/k' },
    ],
    ['node1 fence_apc constructor=1', { constructor: '1' }],
  ])('%s', (text, parameters) => {
    expect(parseFenceDevice(text)).toMatchObject({ node: 'node1', agent: 'fence_apc', parameters, secrets: {} })
  })

  test.each([
    ['', 'an entry is empty'],
    ['   ', 'an entry is empty'],
    ['node1 fence_apc plug="x', 'a quote without an end'],
    ['-oX fence_apc', "does not begin with a node's name"],
    ['node1', 'names no fence agent'],
    ['node1 ip=1', 'names no fence agent'],
    ['node1 reboot', 'names no fence agent'],
    ['node1 ./fence_apc', 'names no fence agent'],
    ['node1 fence_apc;id', 'names no fence agent'],
    ['node1 fence_scsi', "does not cut the node's power"],
    ['node1 fence_kdump', "does not cut the node's power"],
    ['node1 fence_apc ip', 'has a word that is no name=value'],
    ['node1 fence_apc =x', 'has a word that is no name=value'],
    ['node1 fence_apc --ip=x', 'has a word that is no name=value'],
    ['node1 fence_apc ip=1 ip=2', 'has ip twice'],
    ['node1 fence_apc a=1 a=@/x', 'has a twice'],
    ['node1 fence_apc action=on', 'has action, which is not allowed here: havirt itself says'],
    ['node1 fence_apc option=reboot', 'has option, which is not allowed here'],
    ['node1 fence_apc verbose=1', 'would write the password down'],
    ['node1 fence_apc debug-file=/tmp/x', 'would write the password down'],
    ['node1 fence_apc missing_as_off=1', 'would count as off'],
    ['node1 fence_apc missing-as-off=1', 'would count as off'],
    ['node1 fence_apc password=@relative', 'expected the absolute path'],
    ['node1 fence_apc password=@', 'expected the absolute path'],
    ['node1 fence_apc ip=a\naction=on', 'a line break or another character'],
    ['node1 fence_apc ip=a\u2028b', 'a line break or another character'],
  ])('%j is refused: %s', (text, problem) => {
    expect(parseFenceDevice(text)).toContain(problem)
  })

  test.each([
    'password',
    'passwd',
    'PASSWORD',
    'snmp_priv_passwd',
    'snmp-priv-passwd',
    'passphrase',
    'secret_key',
    'token',
    'token_value',
    'community',
    'api_key',
    'apikey',
  ])('%s in clear is refused, and the message does not repeat it', name => {
    const problem = parseFenceDevice(`node1 fence_apc ip=10.0.0.1 ${name}=geheim`)
    expect(problem).toContain(`has ${name} in clear; put it into a file`)
    expect(problem).not.toContain('geheim')
  })

  test('a second device of a node is refused', () => {
    expect(fenceDeviceProblem('node1 fence_apc', ['node2 fence_apc', 'node1 fence_apc ip=2'])).toContain(
      'node1 has a device already',
    )
    expect(fenceDeviceProblem('node1 fence_apc', ['node2 fence_apc'])).toBeUndefined()
  })
})

describe('in config.yaml', () => {
  const read = (lines: string) => parseConfig(lines, 'config.yaml')

  test('devices are read, and found by their node', () => {
    const { config, problems } = read(`fence:\n  devices:\n  - ${FENCE_EXAMPLE}\n  - node2 fence_apc plug="a b"\n`)
    expect(problems).toEqual([])
    expect(fenceDeviceOf(config, 'node1')).toEqual(DEVICE)
    expect(fenceDeviceOf(config, 'node2')).toMatchObject({ parameters: { plug: 'a b' } })
    expect(fenceDeviceOf(config, 'node3')).toBeUndefined()
    expect(fenceDeviceOf(defaultConfig, 'node1')).toBeUndefined()
    expect(configOf(new Map()).fence.devices).toEqual([])
  })

  test.each([
    ['fence:\n  devices:\n  - node1 fence_apc\n  - node1 fence_wti', 4, 'node1 has a device already'],
    [
      'fence:\n  devices:\n  - node1 fence_apc\n  - node2 fence_apc password=geheim',
      4,
      'the entry of node2 has password in clear',
    ],
    ['fence:\n  devices: node2 fence_apc password=geheim', 2, 'fence.devices is no list; expected a list in brackets'],
    ['fence:\n  devices: [[a]]', 2, 'an entry is not a text'],
    ['fence:\n  devices: [7]', 2, 'an entry is not a text'],
  ])('%j is refused with its line, and no secret is repeated', (text, line, problem) => {
    const sentences = read(text).problems.map(describeProblem)
    expect(sentences).toEqual([expect.stringContaining(problem)])
    expect(sentences[0]).toMatch(new RegExp(`^config.yaml:${line}: fence.devices`))
    expect(sentences[0]).not.toContain('geheim')
  })

  test('setting them keeps every other line, and refuses a password in clear without repeating it', () => {
    const text = setConfigValue(initialConfigText(), 'fence.devices', [FENCE_EXAMPLE])
    expect(read(text)).toMatchObject({ problems: [], config: { fence: { devices: [FENCE_EXAMPLE] } } })
    const refuse = () => setConfigValue(text, 'fence.devices', ['node1 fence_apc password=geheim'])
    expect(refuse).toThrow(/has password in clear/)
    expect(refuse).not.toThrow(/geheim/)
  })
})

describe('what the agent is told', () => {
  test('the action first, then its parameters, then secrets', () => {
    expect(fenceInput(DEVICE, 'off', { password: 'geheim' })).toBe(
      'action=off\nip=10.0.0.11\nusername=admin\nlanplus=1\npassword=geheim\n',
    )
  })

  test('the line that is shown has references instead of secrets', () => {
    expect(fenceLine(DEVICE, 'off')).toBe(
      `{ printf '%s\\n' action=off ip=10.0.0.11 username=admin lanplus=1; printf 'password=%s\\n' "$(head -n1 /etc/havirt/node1.secret)"; } | fence_ipmilan`,
    )
    expect(fenceLine({ ...DEVICE, secrets: {} }, 'status')).toBe(
      `printf '%s\\n' action=status ip=10.0.0.11 username=admin lanplus=1 | fence_ipmilan`,
    )
  })

  test('pasted into a shell, the line tells the agent the same, whatever the values hold', () => {
    const folder = mkdtempSync(join(tmpdir(), 'havirt-fence-'))
    try {
      const file = join(folder, "a secret's place")
      writeFileSync(file, `100%s$(id)\\n'"\nsecond line\n`)
      writeFileSync(join(folder, 'fence_ipmilan'), '#!/bin/sh\ncat\n')
      chmodSync(join(folder, 'fence_ipmilan'), 0o755)
      const device = {
        ...DEVICE,
        parameters: { plug: `a b'c"d$(id)%s\\n`, ip: '-n' },
        secrets: { password: file },
      }
      for (const shell of ['sh', 'bash']) {
        const told = execFileSync(shell, ['-c', fenceLine(device, 'off')], {
          encoding: 'utf8',
          env: { PATH: `${folder}:${process.env['PATH']}` },
        })
        expect(told).toBe(fenceInput(device, 'off', { password: `100%s$(id)\\n'"` }))
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
