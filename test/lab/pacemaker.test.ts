/**
 * The agent under a real Pacemaker: what a domain goes through as its resource, and that its guest notices as little of it as can be. And
 * the tools by which agents are tested and asked what they are.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  type Beat,
  beat,
  domainsOn,
  exec,
  fault,
  killOn,
  nextBeat,
  processes,
  type Running,
  shell,
  sure,
  until,
  whereIs,
} from './lab.ts'
import {
  AGENT,
  createDomain,
  crm,
  fencing,
  MEMBERS,
  type Member,
  move,
  plans,
  providersInHistory,
  putConfig,
  removeDomain,
  runsOn,
  saidBy,
  setCapacity,
  setMeta,
  setParameter,
  setProvider,
  settled,
  together,
  unhappyOperations,
  utilizationOf,
  view,
  watchDisk,
  wentOn,
} from './pacemaker.ts'

describe('a domain as a resource', () => {
  /** Operations that had to fail, since a test had broken something, in words. */
  const planned: string[] = []
  let power: Running | undefined

  beforeAll(async () => {
    power = await fencing()
  })
  afterEach(async () => {
    expect((await view()).failures).toEqual([])
  })
  afterAll(async () => {
    power?.child.kill()
    for (const name of Object.keys((await view()).nodesOf)) if (name !== 'power') await removeDomain(name)
  })

  /** Has the domain `web` run on a node, wherever the test before left it. */
  async function webOn(node: Member): Promise<Beat> {
    if ((await view()).nodesOf['web'] === undefined) await createDomain('web')
    await settled()
    if (String((await view()).nodesOf['web']) !== node) await move('web', node)
    return nextBeat('web')
  }

  /** Waits for another boot of `web` than this one. */
  function nextBoot(before: Beat): Promise<Beat> {
    return until('web boots anew', async () => {
      const now = await beat('web')
      return now !== undefined && now.nonce !== before.nonce && now
    })
  }

  test('is started on one node, and monitored there', async () => {
    await createDomain('web')
    await settled()
    await nextBeat('web')
    const { nodesOf, history } = await view()
    expect(await whereIs('web', MEMBERS)).toEqual(nodesOf['web'])
    expect(history).toEqual(
      expect.arrayContaining([`web start on ${nodesOf['web']}: ok`, `web monitor on ${nodesOf['web']}: ok`]),
    )
  })

  test('moves while it runs: the guest notices nothing', async () => {
    const before = await webOn('node1')
    await move('web', 'node2')
    expect(await whereIs('web', MEMBERS)).toEqual(['node2'])
    expect((await view()).history).toContain('web migrate_from on node2: ok')
    expect(await wentOn('web', before)).toBe(true)
  })

  test('leaves a node that goes to standby while it runs', async () => {
    const before = await webOn('node1')
    await crm('crm_standby --node node1 --update on')
    await runsOn('web', 'node2')
    await crm('crm_standby --node node1 --delete')
    await settled()
    expect(await whereIs('web', MEMBERS)).toEqual(['node2'])
    expect(await wentOn('web', before)).toBe(true)
  })

  test('shuts down when it shall not run any more, without force, and boots when it shall', async () => {
    const before = await webOn('node1')
    await setMeta('web', 'target-role', 'Stopped')
    await settled()
    expect(await whereIs('web', MEMBERS)).toEqual([])
    expect((await saidBy('node1', 'web')).filter(line => line.includes(' destroy '))).toEqual([])
    await setMeta('web', 'target-role', 'Started')
    await settled()
    expect(await nextBoot(before)).toBeDefined()
  })

  test('takes over a parameter that needs no restart: the agent is told, the guest is not', async () => {
    const before = await webOn('node1')
    const said = (await saidBy('node1', 'web')).length
    await setParameter('web', 'migration_speed', '100')
    await settled()
    expect((await saidBy('node1', 'web')).slice(said)).toEqual([expect.stringContaining('have been read anew')])
    expect(await wentOn('web', before)).toBe(true)
  })

  test('is restarted for a parameter that needs it', async () => {
    const before = await webOn('node1')
    await setParameter('web', 'hypervisor', 'qemu+unix:///system')
    await settled()
    const after = await nextBoot(before)
    expect(await whereIs('web', MEMBERS)).toHaveLength(1)
    await setParameter('web', 'hypervisor', 'qemu:///system')
    await settled()
    await nextBoot(after)
  })

  test('whose QEMU is killed is started again, once', async () => {
    const before = await webOn('node1')
    const disk = watchDisk('web')
    expect(await killOn('node1', /^[^\0]*qemu-system[\s\S]*guest=web,/)).toBe(1)
    await nextBoot(before)
    await settled()
    expect(await whereIs('web', MEMBERS)).toEqual(['node1'])
    expect({ writers: disk.writers, overlaps: disk.overlaps }).toEqual({ writers: 2, overlaps: [] })
    expect((await view()).failures).toEqual(['web monitor on node1: not running'])
    planned.push('web monitor on node1: not running')
    await crm('crm_resource -r web --cleanup')
    await settled()
  })

  test('runs on while libvirt is dead, and no operation fails', async () => {
    const before = await webOn('node1')
    const said = (await saidBy('node1', 'web')).length
    await fault('libvirtd', 'node1', 'kill')
    const alone = until('two monitors have done without libvirt', async () => {
      const lines = (await saidBy('node1', 'web')).slice(said)
      return lines.filter(line => line.includes('libvirt does not answer')).length >= 2
    })
    await alone.finally(() => fault('libvirtd', 'node1', 'start'))
    await until('libvirt answers', async () => (await domainsOn('node1'))['web'] === 'running')
    await settled()
    expect((await view()).nodesOf['web']).toEqual(['node1'])
    expect(await wentOn('web', before)).toBe(true)
  })

  test('is really stopped although its definition is gone', async () => {
    await webOn('node1')
    await sure(shell('node1', 'rm /root/web.xml'))
    await setMeta('web', 'target-role', 'Stopped')
    await settled()
    expect(await processes('node1', 'guest=web,')).toEqual([])
    expect(await whereIs('web', MEMBERS)).toEqual([])
    await putConfig('web')
    await setMeta('web', 'target-role', 'Started')
    await settled()
  })

  test('of a node that the other does not hear any more is started there, once that node is fenced, and once', async () => {
    const before = await webOn('node2')
    const disk = watchDisk('web')
    await fault('cut', 'node1', 'node2')
    // It goes on writing, until its node has no power.
    const after = await nextBoot(before).finally(() => fault('heal', 'node1', 'node2'))
    await together()
    expect(await whereIs('web', MEMBERS)).toEqual(['node1'])
    expect(await wentOn('web', after)).toBe(true)
    expect({ writers: disk.writers, overlaps: disk.overlaps }).toEqual({ writers: 2, overlaps: [] })
  })

  test('of a node that loses its power is started on the other; the node comes back, and the domain stays', async () => {
    const before = await webOn('node2')
    const disk = watchDisk('web')
    await fault('off', 'node2')
    const after = await nextBoot(before)
    await together()
    expect(await whereIs('web', MEMBERS)).toEqual(['node1'])
    expect(await wentOn('web', after)).toBe(true)
    expect({ writers: disk.writers, overlaps: disk.overlaps }).toEqual({ writers: 2, overlaps: [] })
  })

  describe('and its size', () => {
    const SIZE = { cpu: '1', host_memory: '32', hv_memory: '32' }

    async function capacities(node: Member, memoryMiB: number): Promise<void> {
      for (const [attribute, value] of Object.entries({ cpu: 4, host_memory: memoryMiB, hv_memory: memoryMiB }))
        await setCapacity(node, attribute, value)
      await settled()
    }

    test('is known to Pacemaker, which places by it: what has no room waits, and goes where there is some', async () => {
      const before = await webOn('node1')
      await createDomain('db')
      await settled()
      expect([await utilizationOf('web'), await utilizationOf('db')]).toEqual([SIZE, SIZE])
      await setMeta('db', 'target-role', 'Stopped')
      await settled()
      await capacities('node1', 48)
      await capacities('node2', 16)
      await crm('crm_attribute --name placement-strategy --update utilization')
      await setMeta('db', 'target-role', 'Started')
      await settled()
      expect((await view()).nodesOf).toMatchObject({ web: ['node1'], db: [] })
      await capacities('node2', 48)
      expect((await view()).nodesOf).toMatchObject({ web: ['node1'], db: ['node2'] })
      expect(await wentOn('web', before)).toBe(true)
      await crm('crm_attribute --name placement-strategy --delete')
      await removeDomain('db')
    })
  })

  describe('of the original agent', () => {
    /** The CIB as it would be if only the provider were another. */
    const withOurs = (cib: string) => cib.replace(/(<primitive id="old"[^>]* provider=")heartbeat/, '$1havirt')

    async function remembers(node: string): Promise<boolean> {
      return (await exec(node, ['test', '-e', '/run/resource-agents/havirt/VirtualDomain-old.json'])).status === 0
    }

    test('goes over to this one, and back, and the guest notices nothing; changed in one step it would be restarted', async () => {
      await createDomain('old', { provider: 'heartbeat' })
      await settled()
      const before = await nextBeat('old')
      expect(await plans(withOurs)).toEqual(['Restart old'])

      await setMeta('old', 'is-managed', 'false')
      await setProvider('old', 'havirt')
      await crm('crm_resource -r old --refresh')
      await settled()
      await crm('crm_resource -r old --meta -d is-managed')
      await settled()

      const { nodesOf, agentOf, history } = await view()
      const [here = ''] = nodesOf['old'] ?? []
      expect(agentOf['old']).toBe('ocf:havirt:VirtualDomain')
      expect(await providersInHistory('old')).toEqual(['havirt'])
      expect(history).toContain(`old monitor on ${here}: ok`)
      expect(await remembers(here)).toBe(true)
      expect(await plans()).toEqual([])
      await move('old', here === 'node1' ? 'node2' : 'node1')
      expect(await wentOn('old', before)).toBe(true)

      await crm('crm_attribute --name maintenance-mode --update true')
      await settled()
      await setProvider('old', 'heartbeat')
      await crm('crm_resource -r old --refresh')
      await settled()
      await crm('crm_attribute --name maintenance-mode --delete')
      await settled()
      expect(await providersInHistory('old')).toEqual(['heartbeat'])
      expect(await plans()).toEqual([])
      expect(await wentOn('old', before)).toBe(true)
      await removeDomain('old')
    })
  })

  test('in all this no operation failed that did not have to', async () => {
    const unhappy = await Promise.all(MEMBERS.map(unhappyOperations))
    expect(unhappy.flat()).toEqual(planned)
  })
})

describe.concurrent('the tools that test agents', () => {
  async function tester(node: Member, name: string, ...parameters: string[]): Promise<string[]> {
    await putConfig(name, [node])
    const given = [`config=/root/${name}.xml`, ...parameters].flatMap(each => ['-o', each])
    const { status, stdout, stderr } = await exec(node, ['timeout', '90', 'ocf-tester', '-n', name, ...given, AGENT])
    expect({ status, stderr, stdout }).toMatchObject({ status: 0, stdout: expect.stringContaining('passed all tests') })
    return `${stdout}${stderr}`.split('\n').filter(line => line.startsWith('* rc='))
  }

  test('ocf-tester has nothing to say against it', async ({ expect }) => {
    expect(await tester('node1', 'one')).toEqual([])
  })

  test('ocf-tester has nothing to say against it with parameters of migrations', async ({ expect }) => {
    const migrations = ['hypervisor=qemu:///system', 'migration_transport=ssh', 'migration_speed=100']
    expect(await tester('node1', 'two', ...migrations)).toEqual([])
  })

  /** ocft with its cases for VirtualDomain, all in a folder of the node's own. */
  const OCFT = `mkdir -p /tmp/ocft/configs /tmp/ocft/cases && cd /tmp/ocft &&
sed 's|^CASES_DIR=.*|CASES_DIR=/tmp/ocft/cases|' /usr/sbin/ocft >ocft &&
sed -e 's|AgentRoot .*|AgentRoot ${AGENT.replace(/\/[^/]*$/, '')}|' -e 's|OCFT_config=.*|OCFT_config=/root/three.xml|' \\
  /usr/share/resource-agents/ocft/configs/VirtualDomain >configs/VirtualDomain &&
bash ocft make -d /tmp/ocft/configs VirtualDomain && timeout 90 bash ocft test VirtualDomain`

  test('ocft finds that it passes the nine cases of the original agent', async ({ expect }) => {
    await putConfig('three', ['node2'])
    const { status, stdout, stderr } = await shell('node2', OCFT)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout.match(/OK/g)).toHaveLength(9)
    expect(stdout).not.toMatch(/FAILED|ERROR|WARNING/)
  })
})

describe('what it says of itself', () => {
  const NOBODY = 'cd / && env -i /usr/bin/setpriv --reuid nobody --regid nogroup --clear-groups'

  test('keeps to the rules of the OCF resource agent API 1.0, read by anybody, without an environment', async () => {
    const document = await sure(shell('node1', `${NOBODY} ${AGENT} meta-data`))
    expect(document).toContain('<version>1.0</version>')
    const lint = 'cd /usr/share/resource-agents && xmllint --noout --nonet --valid -'
    expect(await shell('node1', lint, { stdin: document })).toEqual({ status: 0, stdout: '', stderr: '' })
  })

  test('tells Pacemaker, which asks by 1.1, what may change without a restart', async () => {
    const shown = await crm('crm_resource --show-metadata ocf:havirt:VirtualDomain')
    expect(shown).toContain('<version>1.1</version>')
    expect(shown).toMatch(/<parameter name="migration_speed" reloadable="1">/)
    expect(shown).not.toMatch(/<parameter name="config"[^>]* reloadable="1"/)
    expect(shown).toMatch(/<action name="reload-agent"/)
  })

  test('stands beside the original agent', async () => {
    expect((await crm('crm_resource --list-ocf-alternatives VirtualDomain')).split(/\s+/).sort().join(' ').trim()).toBe(
      'havirt heartbeat',
    )
  })

  test('judges options before there is a resource: what is wrong, and that nothing is', async () => {
    await putConfig('four', ['node1'])
    const validate = (...options: string[]) =>
      exec('node1', [
        ...['crm_resource', '--validate', '--class', 'ocf', '--provider', 'havirt', '--agent', 'VirtualDomain'],
        ...['config=/root/four.xml', ...options].flatMap(option => ['--option', option]),
      ])
    expect(await validate('migration_transport=ssh')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('(ok)'),
    })
    expect(await validate('migrateport=99999')).toMatchObject({
      status: 6,
      stdout: expect.stringContaining('not configured: migrateport is "99999"'),
    })
    expect(await validate('config=/nowhere.xml')).toMatchObject({
      status: 5,
      stdout: expect.stringContaining('not installed'),
    })
  })
})
