/** The main job on real nodes: start, stop, reboot, reset, suspend, resume, and why they are refused. */
import { afterEach, describe, expect, test } from 'vitest'
import {
  beat,
  clean,
  createByVirsh,
  define,
  defineByVirsh,
  exec,
  guest,
  havirt,
  NODES,
  nextBeat,
  OUTSIDER,
  printed,
  putDefinition,
  running,
  shell,
  sure,
  until,
  uuidOf,
  whereIs,
  words,
} from './lab.ts'

afterEach(clean)

/** A start that must be refused with 3 and leave the domain nowhere but where it was. */
async function refusedStart(name: string, node: string, why: string | RegExp) {
  const before = await whereIs(name)
  const refused = await printed('node1', '-y', 'domain', 'start', name, node)
  expect(refused.status).toBe(3)
  expect(words(refused)).toMatch(why)
  expect(refused.results).toBeUndefined()
  expect(await whereIs(name)).toEqual(before)
}

describe('start', () => {
  test('on the named node, where the guest boots', async () => {
    await define('web')
    const started = await printed('node1', '-y', 'domain', 'start', 'web', 'node2')
    expect(started.results?.map(({ step, outcome }) => `${step} ${outcome}`)).toEqual([
      'recordIntent done',
      'createDomain done',
    ])
    expect(await whereIs('web')).toEqual(['node2'])
    const first = await nextBeat('web')
    expect((await nextBeat('web', first)).nonce).toBe(first.nonce)
  })

  test('on the node that havirt runs on, when none is named', async () => {
    await define('web')
    await sure(havirt('node3', '-y', 'domain', 'start', 'web'))
    expect(await whereIs('web')).toEqual(['node3'])
  })

  test('a machine that is no node has no node of its own: refused, and --auto finds one', async () => {
    await define('web')
    const refused = await havirt(OUTSIDER, '-y', 'domain', 'start', 'web')
    expect(refused).toMatchObject({ status: 3, stderr: expect.stringContaining('not a node of the cluster') })
    await sure(havirt(OUTSIDER, '-y', 'domain', 'start', 'web', '--auto'))
    expect(await whereIs('web')).toHaveLength(1)
  })

  test('--auto takes the node with the most memory left', async () => {
    await running('big', 'node1', { memoryMiB: 256 })
    await running('middle', 'node3', { memoryMiB: 64 })
    await define('web')
    await sure(havirt('node1', '-y', 'domain', 'start', 'web', '--auto'))
    expect(await whereIs('web')).toEqual(['node2'])
  })

  test('a second start is refused wherever it is asked for, and the guest does not notice', async () => {
    await running('web', 'node2')
    const { nonce } = await nextBeat('web')
    for (const node of NODES) {
      await refusedStart('web', node, 'web is present on node2')
      const ensured = await havirt('node1', '-y', '--ensure', 'domain', 'start', 'web', node)
      expect([node, ensured.status]).toEqual([node, node === 'node2' ? 0 : 3])
    }
    expect(await whereIs('web')).toEqual(['node2'])
    expect((await beat('web'))?.nonce).toBe(nonce)
  })

  test('unknown domains and nodes are refused with what is known', async () => {
    await define('web')
    await refusedStart('web', 'node9', 'known nodes: node1, node2, node3')
    await refusedStart('wab', 'node1', 'known domains: web')
  })

  test('a domain that needs more memory than the node has left is refused', async () => {
    await define('huge', { memoryMiB: 99_999 })
    await refusedStart('huge', 'node2', /huge needs 99999 MiB, and node2 has \d+ MiB left/)
    const auto = await printed('node1', '-y', 'domain', 'start', 'huge', '--auto')
    expect(auto.status).toBe(3)
    for (const node of NODES) expect(words(auto)).toContain(node)
  })

  test('a definition set to autostart on another node is refused', async () => {
    const xml = await define('web')
    await defineByVirsh('node3', xml, 'autostart')
    await refusedStart('web', 'node1', 'autostart on node3')
  })

  test('a saved image on another node is refused', async () => {
    const xml = await define('web')
    await defineByVirsh('node3', xml, 'start')
    await nextBeat('web')
    await sure(exec('node3', ['virsh', 'managedsave', 'web']))
    await refusedStart('web', 'node1', 'node3 holds a saved image of web')
    const { rows } = await printed('node1', 'domain', 'list', 'web')
    expect(rows).toEqual([expect.objectContaining({ state: 'saved', node: 'node3' })])
  })

  test('the same uuid under another name is refused', async () => {
    const xml = await define('web')
    await createByVirsh('node2', xml.replace('<name>web<', '<name>alias<'))
    await refusedStart('web', 'node1', 'alias on node2 has the uuid of web')
    expect(await whereIs('alias')).toEqual(['node2'])
  })

  test('a disk that another running domain holds is refused', async () => {
    const xml = await running('web', 'node2')
    const other = uuidOf(await guest('other'))
    await putDefinition('other', xml.replace('<name>web<', '<name>other<').replace(uuidOf(xml), other))
    await refusedStart('other', 'node1', /web, present on node2, holds the disk/)
  })

  test('a CPU model that the node cannot run is refused by its own libvirt', async () => {
    await define('modern', { edit: withCpu('Icelake-Server') })
    await refusedStart('modern', 'node2', /node2 cannot run the CPU of modern \(Icelake-Server\)/)
  })

  test('a missing bridge and a missing disk are refused, naming both', async () => {
    await define('bridged', {
      disk: 'file',
      edit: xml =>
        xml
          .replace('/media/images/bridged.img', '/media/images/gone.img')
          .replace('</devices>', "<interface type='bridge'><source bridge='br7'/></interface></devices>"),
    })
    await refusedStart('bridged', 'node2', /gone\.img[\s\S]*'br7'/)
  })

  test('a definition whose name is not that of its file is refused', async () => {
    await putDefinition('wrong', await guest('web'))
    await refusedStart('wrong', 'node1', /conf\/wrong\.xml/)
  })
})

function withCpu(model: string) {
  return (xml: string) =>
    xml.replace(
      '<features>',
      `<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>${model}</model></cpu>\n  <features>`,
    )
}

describe('stop', () => {
  test('asks the guest, waits until it is off, and remembers that it was meant', async () => {
    await running('web', 'node3')
    await nextBeat('web')
    const stopped = await printed('node1', '-y', 'domain', 'stop', 'web')
    expect(stopped.results?.map(({ step, outcome }) => `${step} ${outcome}`)).toEqual([
      'recordIntent done',
      'shutdownDomain done',
      'awaitShutOff done',
    ])
    expect(await whereIs('web')).toEqual([])
    expect((await printed('node1', 'domain', 'list', 'web')).rows).toEqual([
      expect.objectContaining({ state: 'off', intent: 'manual' }),
    ])
    expect(await havirt('node1', '-y', 'domain', 'stop', 'web')).toMatchObject({ status: 3 })
    expect(await havirt('node1', '-y', '--ensure', 'domain', 'stop', 'web')).toMatchObject({ status: 0 })
    await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node1'))
    expect((await printed('node1', 'domain', 'list', 'web')).rows).toEqual([
      expect.objectContaining({ state: 'running', intent: '' }),
    ])
  })

  test('a guest that does not listen is still on after the timeout, and --force is named; --force ends it', async () => {
    await running('deaf', 'node2', { disk: 'none' })
    const { status, stdout, stderr } = await havirt('node1', '-y', 'domain', 'stop', 'deaf', '--timeout', '1')
    expect(status).toBe(4)
    expect(stdout).toMatch(/^failed\t.*still on after 1 s/m)
    expect(stderr).toContain('havirt domain stop deaf --force')
    expect(await whereIs('deaf')).toEqual(['node2'])
    await sure(havirt('node1', '-y', 'domain', 'stop', 'deaf', '--force'))
    expect(await whereIs('deaf')).toEqual([])
  })
})

describe('reboot, reset, suspend, resume', () => {
  test.each(['reboot', 'reset'])('%s boots the guest anew in the same QEMU', async verb => {
    await running('web', 'node2')
    const first = await nextBeat('web')
    const qemu = await sure(exec('node2', ['pgrep', 'qemu']))
    await sure(havirt('node1', '-y', 'domain', verb, 'web'))
    await until('the guest has another nonce', async () => {
      const now = await beat('web')
      return now !== undefined && now.nonce !== first.nonce
    })
    expect(await sure(exec('node2', ['pgrep', 'qemu']))).toBe(qemu)
  })

  test('suspend holds the guest still where it is, and resume lets it go on', async () => {
    await running('web', 'node2')
    await nextBeat('web')
    await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
    expect((await sure(exec('node2', ['virsh', 'domstate', 'web', '--reason']))).trim()).toBe('paused (user)')
    const still = await beat('web')
    await refusedStart('web', 'node1', /web is present on node2 \(paused\)/)
    expect(await havirt('node1', '-y', 'domain', 'suspend', 'web')).toMatchObject({ status: 3 })
    expect(await havirt('node1', '-y', '--ensure', 'domain', 'suspend', 'web')).toMatchObject({ status: 0 })
    expect(await beat('web')).toEqual(still)
    await sure(havirt('node1', '-y', 'domain', 'resume', 'web'))
    expect((await nextBeat('web', still)).nonce).toBe(still?.nonce)
    expect(await havirt('node1', '-y', 'domain', 'resume', 'web')).toMatchObject({ status: 3 })
  })
})

test('no claim is left behind by anything of this', async () => {
  expect(await havirt('node1', 'claim', 'list')).toMatchObject({ status: 0, stdout: '' })
  expect((await shell('node2', 'ls /run/havirt/guard/*.new.* 2>/dev/null')).stdout).toBe('')
})
