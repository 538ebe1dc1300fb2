/**
 * The Pacemaker agent on nodes of a havirt cluster: a start and a migration take the claim, and nothing else ever waits for it. And what
 * the agent does with migrations that break.
 */
import { mkdir } from 'node:fs/promises'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { agent, agentBegins, configureResource, installAgent, reasonsOf } from './agent.ts'
import {
  begin,
  clean,
  createByVirsh,
  define,
  domainsOn,
  exec,
  fault,
  guest,
  HAVIRT_PROCESS,
  HOME,
  havirtBegins,
  killOn,
  NODES,
  nextBeat,
  OUTSIDER,
  pathOn,
  processes,
  shell,
  signal,
  sure,
  until,
  uuidOf,
  whereIs,
} from './lab.ts'

const TO_NODE2 = { CRM_meta_migrate_target: 'node2', migration_transport: 'ssh' } as const
/** Long enough to be caught while it is copied. */
const SLOW = { memoryMiB: 1024 } as const
const SLOWLY = { ...TO_NODE2, migration_speed: '1' } as const

beforeAll(async () => {
  await installAgent()
})
afterEach(async () => {
  await clean()
  for (const node of NODES) await sure(shell(node, 'rm -rf /run/resource-agents/havirt /var/lib/havirt/ocf'))
})

/** Somebody's havirt on node1 that starts the domain on node2, and is kept from it by the guard's lock there, its claim alive. */
async function startThatHangs(name: string): Promise<{ end(): Promise<void> }> {
  const uuid = uuidOf(await define(name))
  await mkdir(await pathOn('node2', '/run/havirt/guard'), { recursive: true, mode: 0o700 })
  const holder = begin(['exec', 'node2', 'flock', `/run/havirt/guard/${uuid}.lock`, 'sleep', '600'])
  const starting = havirtBegins('node1', '-y', 'domain', 'start', name, 'node2')
  await until('the guard waits', async () => (await processes('node2', '^flock -w')).length > 0)
  return {
    end: async () => {
      await signal('node1', 'KILL', await processes('node1', HAVIRT_PROCESS))
      await starting.done
      await killOn('node2', /havirt-guard|^flock -w/)
      await signal('node2', 'KILL', await processes('node2', '^(flock /run/havirt/guard/.* )?sleep 600'))
      await holder.done
    },
  }
}

/** Has whoever opens config.yaml in the home folder wait for ever, as on a share that hangs. */
async function storeThatHangs(): Promise<() => Promise<void>> {
  await sure(shell('node1', `cd ${HOME} && mv config.yaml kept.yaml && mkfifo config.yaml`))
  return async () => {
    await sure(shell('node1', `cd ${HOME} && rm config.yaml && mv kept.yaml config.yaml`))
    for (const node of NODES) await signal(node, 'KILL', await processes(node, 'keeper\\.cjs'))
  }
}

describe('the claim', () => {
  test('a start while somebody works on the domain is refused, and names him; once he is dead, it is taken over', async () => {
    const hanging = await startThatHangs('web')
    try {
      await configureResource('web', await guest('web'))
      const refused = await agent('node3', 'web', 'start')
      expect(refused.status).toBe(1)
      expect(reasonsOf(refused)).toEqual([expect.stringMatching(/web is claimed by .*@node1 \(pid \d+\)/)])
    } finally {
      await hanging.end()
    }
    const { status, stderr } = await agent('node3', 'web', 'start')
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.not.stringContaining('without') })
    expect(await whereIs('web')).toEqual(['node3'])
  })

  test('a migration while somebody works on the domain is refused, and it stays', async () => {
    const xml = await guest('web')
    await configureResource('web', xml)
    const hanging = await startThatHangs('web')
    try {
      await createByVirsh('node1', xml)
      const refused = await agent('node1', 'web', 'migrate_to', { ...TO_NODE2, CRM_meta_migrate_target: 'node3' })
      expect({ status: refused.status, reasons: reasonsOf(refused) }).toEqual({
        status: 1,
        reasons: [expect.stringContaining('is claimed by')],
      })
    } finally {
      await hanging.end()
    }
    expect(await whereIs('web')).toEqual(['node1'])
  })

  test('a domain that runs on another node is not started, whoever started it there', async () => {
    const xml = await guest('web')
    await configureResource('web', xml)
    await createByVirsh('node2', xml)
    const refused = await agent('node1', 'web', 'start')
    expect({ status: refused.status, reasons: reasonsOf(refused) }).toEqual({
      status: 1,
      reasons: [expect.stringMatching(/web is (running|blocked) on node2/)],
    })
    expect(await whereIs('web')).toEqual(['node2'])
  })

  test('a domain whose disk is in use by another one elsewhere is not started', async () => {
    const xml = await guest('web')
    await configureResource('web', xml)
    await createByVirsh(
      'node2',
      xml
        .replace('<name>web<', '<name>other<')
        .replace(/<uuid>.*<\/uuid>/, '<uuid>6c8f3d0e-0000-4000-8000-000000000001</uuid>'),
    )
    const refused = await agent('node1', 'web', 'start')
    expect(reasonsOf(refused)).toEqual([expect.stringContaining('in use by other on node2')])
  })

  test('a node that does not answer refuses nothing: Pacemaker has fenced whom it wanted to', async () => {
    await configureResource('web', await guest('web'))
    await fault('cut', 'node3')
    try {
      const { status, stderr } = await agent('node1', 'web', 'start')
      expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining('node3 does not answer') })
    } finally {
      await fault('heal', 'node3')
    }
  })

  test('a store that hangs is done without, and a stop, a monitor and a status do not even ask it', async () => {
    await configureResource('web', await guest('web'))
    const heal = await storeThatHangs()
    try {
      const started = await agent('node1', 'web', 'start')
      expect(started).toMatchObject({ status: 0, stderr: expect.stringContaining('did not answer within 3 s') })
      for (const action of ['monitor', 'status', 'stop']) {
        const done = await agent('node1', 'web', action)
        expect({ action, status: done.status }).toEqual({ action, status: 0 })
        expect(done.stderr).not.toContain('claim')
      }
      expect(await whereIs('web')).toEqual([])
    } finally {
      await heal()
    }
  })

  test('a start that was killed leaves its claim to the next, and the domain is there once', async () => {
    await configureResource('web', await guest('web'))
    const starting = agentBegins('node1', 'web', 'start', { monitor_scripts: '/bin/false' })
    await until('it runs', async () => (await whereIs('web')).length > 0)
    await killOn('node1', /agent\.cjs|keeper\.cjs/)
    await starting.done
    const refused = await agent('node2', 'web', 'start')
    expect(reasonsOf(refused)).toEqual([expect.stringContaining('on node1')])
    expect((await agent('node1', 'web', 'start')).status).toBe(0)
    expect(await whereIs('web')).toEqual(['node1'])
  })
})

describe('a start that libvirt carries out late', () => {
  /** libvirt calls it before it starts QEMU, and holds the domain meanwhile. */
  const HOOK = '/etc/libvirt/hooks/qemu'

  test.each(['node1', OUTSIDER])(
    'on %s fails, and the stop after it does not believe that nothing is there',
    async node => {
      await installAgent([node])
      await configureResource('web', await guest('web'), [node])
      const hook = `#!/bin/sh\n[ "$2" != prepare ] || until [ -e /tmp/go ]; do sleep 0.1; done\n`
      await sure(
        shell(node, `mkdir -p /etc/libvirt/hooks; cat >${HOOK}; chmod 755 ${HOOK}; systemctl restart libvirtd`, {
          stdin: hook,
        }),
      )
      await until('libvirt answers', async () => (await exec(node, ['virsh', 'uri'])).status === 0)
      try {
        const started = await agent(node, 'web', 'start', { CRM_meta_timeout: '3000' })
        expect({ status: started.status, reasons: reasonsOf(started).length }).toEqual({ status: 1, reasons: 1 })
        const early = await agent(node, 'web', 'stop', { CRM_meta_timeout: '4000' })
        expect({ status: early.status, reasons: reasonsOf(early).length }).toEqual({ status: 1, reasons: 1 })
        const stopping = agentBegins(node, 'web', 'stop', { force_stop: 'yes' })
        await sure(shell(node, 'touch /tmp/go'))
        expect((await stopping.done).status).toBe(0)
        expect(await whereIs('web', [node])).toEqual([])
      } finally {
        await sure(shell(node, `rm -f ${HOOK} /tmp/go; systemctl restart libvirtd`))
        await until('libvirt answers', async () => (await exec(node, ['virsh', 'uri'])).status === 0)
      }
    },
  )
})

describe('without its definition', () => {
  test("a resource does not take another one's domain for its own because of the file's name", async () => {
    await configureResource('app', await guest('app'), ['node1'])
    await sure(agent('node1', 'app', 'start'))
    const gone = { OCF_RESOURCE_INSTANCE: 'other', config: '/root/gone/app.xml' }
    expect((await agent('node1', 'other', 'monitor', gone)).status).toBe(7)
    expect((await agent('node1', 'other', 'stop', gone)).status).toBe(0)
    expect(await whereIs('app')).toEqual(['node1'])
  })

  test('and without its memory, while libvirt is down, a machine that nobody else knows may be the domain', async () => {
    await configureResource('app', await guest('db'), ['node1'])
    await sure(agent('node1', 'app', 'start'))
    await sure(shell('node1', 'rm -r /root/app.xml /run/resource-agents/havirt'))
    await fault('libvirtd', 'node1', 'stop')
    try {
      for (const [action, CRM_meta_timeout] of [
        ['monitor', '10000'],
        ['stop', '3000'],
      ] as const)
        expect({ action, status: (await agent('node1', 'app', action, { CRM_meta_timeout })).status }).toEqual({
          action,
          status: 1,
        })
    } finally {
      await fault('libvirtd', 'node1', 'start')
    }
    expect(await whereIs('db')).toEqual(['node1'])
  })
})

describe('saved memory', () => {
  const FOLDER = '/root/saved'
  const SAVING = { snapshot: FOLDER } as const

  test('goes on after the next start, once; where it cannot be saved, none of an earlier life is restored', async () => {
    const on = (line: string) => sure(shell('node1', line))
    await configureResource('web', await guest('web'), ['node1'])
    await on(`mkdir -p ${FOLDER} && mount -t tmpfs -o size=64m tmpfs ${FOLDER}`)
    try {
      await sure(agent('node1', 'web', 'start', SAVING))
      const first = await nextBeat('web')
      await sure(agent('node1', 'web', 'stop', SAVING))
      await on(`cp ${FOLDER}/web.state /root/kept`)
      await sure(agent('node1', 'web', 'start', SAVING))
      expect((await nextBeat('web', first)).nonce).toBe(first.nonce)
      expect(await on(`ls ${FOLDER}`)).toBe('')
      await on(`cp /root/kept ${FOLDER}/web.state; cat /dev/zero >${FOLDER}/ballast 2>/dev/null || true`)
      await sure(agent('node1', 'web', 'stop', SAVING))
      expect((await on(`ls ${FOLDER}`)).split('\n')).toContain('web.state.stale')
      await on(`rm ${FOLDER}/ballast`)
      await sure(agent('node1', 'web', 'start', SAVING))
      await until('it has booted anew', async () => (await nextBeat('web', first)).nonce !== first.nonce)
    } finally {
      await on(`virsh destroy web; umount -l ${FOLDER}; rm -f /root/kept`)
    }
  })
})

describe('a migration', () => {
  test('goes to the other node, the guest notices nothing, and nothing is left behind', async () => {
    await configureResource('web', await guest('web'))
    await sure(agent('node1', 'web', 'start'))
    await sure(shell('node1', 'virsh define /root/web.xml && virsh autostart web'))
    const before = await nextBeat('web')
    await sure(agent('node1', 'web', 'migrate_to', TO_NODE2))
    await sure(agent('node2', 'web', 'migrate_from', { CRM_meta_migrate_source: 'node1' }))
    const after = await nextBeat('web', before)
    expect(after.nonce).toBe(before.nonce)
    expect(await domainsOn('node1')).toEqual({})
    expect(await whereIs('web')).toEqual(['node2'])
  })

  test('that takes too long is aborted before its operation times out; the domain stays', async () => {
    await configureResource('big', await guest('big', { memoryMiB: 2048 }))
    await sure(agent('node1', 'big', 'start'))
    const done = await agent('node1', 'big', 'migrate_to', { ...SLOWLY, CRM_meta_timeout: '4000' })
    expect({ status: done.status, reasons: reasonsOf(done) }).toEqual({
      status: 1,
      reasons: [expect.stringContaining('could not be migrated to node2')],
    })
    expect(done.stderr).toContain('its time is nearly over')
    expect(await domainsOn('node1')).toEqual({ big: 'running' })
    expect(await domainsOn('node2')).toEqual({})
  })

  test('whose agent gets SIGTERM is aborted; the domain stays', async () => {
    await configureResource('big', await guest('big', SLOW))
    await sure(agent('node1', 'big', 'start'))
    const moving = agentBegins('node1', 'big', 'migrate_to', SLOWLY)
    await until('it moves', async () => (await domainsOn('node2'))['big'] === 'paused')
    await signal('node1', 'TERM', await processes('node1', 'agent\\.cjs migrate_to'))
    const { status } = await moving.done
    expect(status).toBe(1)
    expect(await domainsOn('node1')).toEqual({ big: 'running' })
    expect(await domainsOn('node2')).toEqual({})
  })

  test('whose agent was killed is ended by the stop that follows, and the target has nothing', async () => {
    await configureResource('big', await guest('big', { ...SLOW, disk: 'none' }))
    await sure(agent('node1', 'big', 'start'))
    const moving = agentBegins('node1', 'big', 'migrate_to', { ...SLOWLY, migrate_options: '--p2p' })
    await until('it moves', async () => (await domainsOn('node2'))['big'] === 'paused')
    await killOn('node1', /agent\.cjs|keeper\.cjs|virsh.*migrate/)
    await moving.done
    // The guest hears no shutdown: while it is asked, the migration would come to its end.
    await sure(agent('node1', 'big', 'stop', { CRM_meta_timeout: '40000' }))
    await until('nothing is left', async () => (await whereIs('big')).length === 0)
  })

  test('whose target loses its libvirt breaks, and the domain stays where it was', async () => {
    await configureResource('big', await guest('big', SLOW))
    await sure(agent('node1', 'big', 'start'))
    const moving = agentBegins('node1', 'big', 'migrate_to', SLOWLY)
    await until('it moves', async () => (await domainsOn('node2'))['big'] === 'paused')
    await fault('libvirtd', 'node2', 'kill')
    const done = await moving.done
    await fault('libvirtd', 'node2', 'start')
    expect(done.status).toBe(1)
    expect(reasonsOf(done)).toHaveLength(1)
    expect((await domainsOn('node1'))['big']).toBe('running')
    await exec('node2', ['virsh', 'destroy', 'big'])
  })
})
