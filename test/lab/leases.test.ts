/**
 * Disk leases for real: sanlock on every node, below libvirt, on a folder that all share. A twin disk is another file on each node, so that
 * QEMU's own image lock cannot refuse, and only the lease can. One after the other: what one test leaves, the next one finds.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { agent, configureResource, installAgent, reasonsOf } from './agent.ts'
import {
  begin,
  clean,
  configure,
  createByVirsh,
  type Done,
  define,
  domainsOn,
  exec,
  fault,
  guest,
  HOME,
  havirt,
  havirtBegins,
  killOn,
  NODES,
  OUTSIDER,
  pathOn,
  printed,
  running,
  shell,
  sure,
  until,
  uuidOf,
  whereIs,
  words,
} from './lab.ts'

const FOLDER = '/media/leases'
const SPACE = '__LIBVIRT__DISKS__'
/** Seconds of sanlock's io_timeout: everything it waits for is a multiple of it. */
const IO_TIMEOUT = 2
/** After so long without a renewal a host is dead to the others (sanlock(8)). */
const DEAD_SECONDS = 8 * IO_TIMEOUT + 60

const twin = (name: string) => `/media/twins/${name}.img`
const leaseOf = (name: string) => createHash('md5').update(twin(name)).digest('hex')

type Row = Record<string, string | number>

/** The row of a domain's disk, as `lease list` has it. */
async function lease(name: string): Promise<Row> {
  const { rows } = await printed('node1', 'lease', 'list')
  return rows.find(({ path }) => path === twin(name)) ?? {}
}

async function nodeRow(node: string): Promise<Row> {
  const { rows } = await printed('node1', 'lease', 'status')
  return rows.find(row => row['node'] === node) ?? {}
}

/** How the outsider's attempt to join with somebody else's host id ended. */
let outsider: Promise<Done>

/** What `cluster validate` finds, in words. */
async function findings(): Promise<string> {
  return words(await printed('node1', 'cluster', 'validate'))
}

/** Bytes of files below /etc, before anything was changed. */
let before: string[]

const CONFIGURATION = ['/etc/libvirt/qemu.conf', '/etc/libvirt/qemu-sanlock.conf', '/etc/libvirt/qemu-lockd.conf']

async function configuration(node: string): Promise<string[]> {
  return Promise.all(CONFIGURATION.map(async file => readFile(await pathOn(node, file), 'utf8')))
}

beforeAll(async () => {
  before = await configuration('node2')
})

afterAll(async () => {
  await clean()
})

describe('setting up', () => {
  test('a dry run shows every command, and changes nothing', async () => {
    const { status, script = [] } = await printed(
      'node1',
      'lease',
      'enable',
      'sanlock',
      '--dir',
      FOLDER,
      '--io-timeout',
      String(IO_TIMEOUT),
    )
    expect(status).toBe(0)
    for (const node of NODES) expect(script.join('\n')).toContain(`start sanlock on ${node}`)
    expect(await configuration('node2')).toEqual(before)
    expect((await exec('node2', ['sanlock', 'client', 'status'])).status).not.toBe(0)
  })

  test('a folder that not all nodes share is refused, and so is one that is not there', async () => {
    const own = await printed('node1', 'lease', 'enable', 'sanlock', '--dir', '/media/twins')
    expect(own.status).toBe(3)
    expect(words(own)).toContain('/media/twins on node')
    const none = await printed('node1', 'lease', 'enable', 'sanlock', '--dir', '/media/nowhere')
    expect(none.status).toBe(3)
    expect(words(none)).toContain('/media/nowhere is not there on node1')
  })

  test('it is set up while a domain runs, which is named and does not notice', async () => {
    await running('before', 'node3', { disk: 'file' })
    const done = await printed(
      'node1',
      '-y',
      'lease',
      'enable',
      'sanlock',
      '--dir',
      FOLDER,
      '--io-timeout',
      String(IO_TIMEOUT),
    )
    expect(done.status, words(done)).toBe(0)
    expect(words(done)).toContain('before on node3 runs on without leases')
    expect(await domainsOn('node3')).toMatchObject({ before: 'running' })
    expect((await nodeRow('node3'))['without']).toBe('before')
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'before', '--force'))
  })

  test('every node has joined with an id of its own, and asked again there is nothing to do', async () => {
    const rows = await Promise.all(NODES.map(nodeRow))
    expect(rows.map(row => row['lockspace'])).toEqual(['joined', 'joined', 'joined'])
    expect(new Set(rows.map(row => row['hostId'])).size).toBe(3)
    const again = await printed('node1', '-y', 'lease', 'enable', 'sanlock')
    expect(words(again)).toContain('nothing to do')
  })

  test('every other byte of the files is as it was', async () => {
    const [qemu = '', sanlock = '', lockd] = await configuration('node2')
    expect(qemu.startsWith(before[0] ?? '-')).toBe(true)
    expect(sanlock.startsWith(before[1] ?? '-')).toBe(true)
    expect(lockd).toBe(before[2])
  })
})

describe('running with leases', () => {
  test('a start takes the lease: havirt, sanlock and the bytes on the disk say the same', async () => {
    await running('vm', 'node1', { disk: 'twin' })
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node1', hostId: 1, generation: 1 })
    expect(await sure(exec('node1', ['sanlock', 'client', 'status']))).toContain(`r ${SPACE}:${leaseOf('vm')}:`)
    // The daemon need not run for this one.
    const dump = await sure(exec('node3', ['sanlock', 'direct', 'dump', `${FOLDER}/${leaseOf('vm')}`]))
    expect(dump).toMatch(new RegExp(`${leaseOf('vm')} \\d*[1-9]\\d* 0001 0001 1`))
  })

  test("a person's virsh create on another node is refused by sanlock", async () => {
    const xml = await guest('vm', { disk: 'twin' })
    const { status, stderr } = await shell('node2', 'cat | virsh create /dev/stdin', { stdin: xml })
    expect(status).not.toBe(0)
    expect(stderr).toContain('Lease is held by another host')
  })

  test('a live migration takes the lease along', async () => {
    await sure(havirt('node1', '-q', '-y', 'domain', 'migrate', 'vm', 'node2', '--unsafe'))
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node2', hostId: 2 })
  })

  test('who holds a disk that somebody outside of the cluster has is named, and nothing was started', async () => {
    await sure(
      shell(
        OUTSIDER,
        `echo 'our_host_name = ${OUTSIDER}' >/etc/sanlock/sanlock.conf; systemctl start sanlock
        printf '%s\\n' 'lock_manager = "sanlock"' >>/etc/libvirt/qemu.conf
        printf '%s\\n' 'auto_disk_leases = 1' 'host_id = 9' 'disk_lease_dir = "${FOLDER}"' 'io_timeout = ${IO_TIMEOUT}' 'user = "root"' 'group = "root"' >>/etc/libvirt/qemu-sanlock.conf
        systemctl restart libvirtd`,
      ),
    )
    const xml = await define('theirs', { disk: 'twin' })
    await createByVirsh(OUTSIDER, xml)
    const refused = await printed('node1', '-y', 'domain', 'start', 'theirs', 'node1')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain(`the lease of its disk ${twin('theirs')} is held by ${OUTSIDER} (host id 9)`)
    await installAgent(['node1'])
    await configureResource('theirs', xml, ['node1'])
    const byPacemaker = await agent('node1', 'theirs', 'start')
    expect([byPacemaker.status, reasonsOf(byPacemaker)]).toEqual([
      1,
      [`theirs could not be started: the lease of its disk ${twin('theirs')} is held by ${OUTSIDER} (host id 9)`],
    ])
    expect(await whereIs('theirs')).toEqual([])
    await sure(exec(OUTSIDER, ['virsh', '-q', 'destroy', uuidOf(xml)]))
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'theirs', 'node1'))
    // It leaves, and tries to come back as node1, which is alive: sanlock takes its time to be sure.
    await sure(exec(OUTSIDER, ['sanlock', 'client', 'rem_lockspace', '-s', `${SPACE}:9:${FOLDER}/${SPACE}:0`]))
    const again = ['sanlock', 'client', 'add_lockspace', '-s', `${SPACE}:1:${FOLDER}/${SPACE}:0`]
    outsider = exec(OUTSIDER, ['timeout', '200', ...again])
  })

  test('a paused domain holds no lease, is counted as present, and is told of', async () => {
    await sure(havirt('node1', '-q', '-y', 'domain', 'suspend', 'vm'))
    expect(await lease('vm')).toMatchObject({ state: 'free', holder: 'node2' })
    expect(words(await printed('node1', 'lease', 'status'))).toContain(
      'vm is paused on node2, and a paused domain holds no lease',
    )
    const start = await printed('node1', '-y', 'domain', 'start', 'vm', 'node1')
    expect(start.status).toBe(3)
    expect(words(start)).toContain('vm is present on node2')
    await sure(havirt('node1', '-q', '-y', 'domain', 'resume', 'vm'))
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node2' })
  })

  test('a network disk has no lease, and the table says so', async () => {
    await running('net', 'node3')
    const { rows } = await printed('node1', 'lease', 'list')
    expect(rows.find(({ domains }) => domains === 'net')).toMatchObject({ state: 'not covered' })
    expect(words(await printed('node1', 'lease', 'explain', 'net'))).toContain('libvirt takes no lease for iscsi disks')
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'net', '--force'))
  })

  test('another spelling of a path is another lease', async () => {
    await sure(shell('node3', `ln -sf ${twin('vm')} /media/twins/alias.img`))
    const xml = (await guest('vm', { disk: 'twin' })).replace(twin('vm'), '/media/twins/alias.img')
    // libvirt itself does not see it: only havirt compares what the paths are.
    await sure(shell('node3', 'cat | virsh create /dev/stdin', { stdin: xml }))
    await sure(exec('node3', ['virsh', '-q', 'destroy', uuidOf(xml)]))
    await sure(shell('node3', 'rm /media/twins/alias.img'))
    expect((await lease('vm'))['state']).toBe('held')
  })
})

describe('a lease file that is not whole', () => {
  const path = `${FOLDER}/${leaseOf('hurt')}`
  const DAMAGES: Record<string, string> = {
    'cut off': `head -c 300 /root/good >${path}`,
    empty: `: >${path}`,
    zeroed: `head -c 1048576 /dev/zero >${path}`,
    'of random bytes': `head -c 1048576 /dev/urandom >${path}`,
    'with one byte altered': `cp /root/good ${path}; printf '\\377' | dd of=${path} bs=1 seek=50 conv=notrunc status=none`,
  }

  beforeAll(async () => {
    await running('hurt', 'node1', { disk: 'twin' })
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'hurt', '--force'))
    await sure(shell('node1', `cp ${path} /root/good`))
  })

  test.each(Object.entries(DAMAGES))(
    '%s: never free, refused by sanlock, not cleaned up, and told with what to do',
    async (_, damage) => {
      await sure(shell('node1', damage))
      expect(await lease('hurt')).toMatchObject({ state: 'damaged' })
      const start = await printed('node1', '-y', 'domain', 'start', 'hurt', 'node1')
      expect(start.status).toBe(3)
      expect(words(start)).toContain('the lease of one of its disks is damaged')
      expect(words(await printed('node1', 'lease', 'explain', 'hurt'))).toContain(`rm ${path}`)
    },
  )

  test('removed as told, the domain starts', async () => {
    await sure(shell('node1', `rm ${path}`))
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'hurt', 'node1'))
    expect(await lease('hurt')).toMatchObject({ state: 'held', holder: 'node1' })
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'hurt', '--force'))
  })
})

describe('a lockspace that is not there', () => {
  test('a node that left it is found, a start there says why, and what is told mends it', async () => {
    await sure(exec('node3', ['sanlock', 'client', 'rem_lockspace', '-s', `${SPACE}:3:${FOLDER}/${SPACE}:0`]))
    expect((await nodeRow('node3'))['lockspace']).toBe('no')
    expect(await findings()).toContain('node3 has not joined the lockspace')
    const start = await printed('node1', '-y', 'domain', 'start', 'hurt', 'node3')
    expect(start.status).toBe(3)
    expect(words(start)).toContain('node3 has not joined the lockspace')
    await sure(exec('node3', ['systemctl', 'restart', 'libvirtd']))
    expect((await nodeRow('node3'))['lockspace']).toBe('joined')
  })

  test('sanlock that is dead: told, refused, and set up again by the same command', async () => {
    await fault('sanlock', 'node3', 'kill')
    expect(await nodeRow('node3')).toMatchObject({ daemon: 'no', lockspace: 'no' })
    const start = await printed('node1', '-y', 'domain', 'start', 'hurt', 'node3')
    expect(start.status).toBe(3)
    expect(words(start)).toContain('sanlock does not run there')
    const again = await printed('node1', '-y', 'lease', 'enable', 'sanlock', 'node3')
    expect(again.status, words(again)).toBe(0)
    expect((await nodeRow('node3'))['lockspace']).toBe('joined')
  })

  test('renewals that fail: sanlock ends the domain before anybody else could have its lease', async () => {
    await running('lost', 'node3', { disk: 'twin' })
    const { hostId } = await nodeRow('node3')
    const at = (Number(hostId) - 1) * 512
    await sure(shell('node3', `dd if=${FOLDER}/${SPACE} of=/root/sector bs=1 skip=${at} count=512 status=none`))
    await sure(
      shell('node3', `dd if=/dev/zero of=${FOLDER}/${SPACE} bs=1 seek=${at} count=512 conv=notrunc status=none`),
    )
    await until('sanlock ends the domain', async () => (await domainsOn('node3'))['lost'] === undefined, 60)
    await sure(
      shell('node3', `dd if=/root/sector of=${FOLDER}/${SPACE} bs=1 seek=${at} count=512 conv=notrunc status=none`),
    )
    await until('node3 has left', async () => ((await nodeRow('node3'))['lockspace'] === 'no' ? true : undefined), 60)
    await sure(exec('node3', ['systemctl', 'restart', 'libvirtd']))
    await until('node3 has joined again', async () => (await nodeRow('node3'))['lockspace'] === 'joined', 120)
  })
})

describe('cleanup', () => {
  const NAMES = Array.from({ length: 60 }, (_, at) => createHash('md5').update(`gone ${at}`).digest('hex'))

  const files = async () => (await sure(exec('node1', ['ls', FOLDER]))).split('\n').filter(name => NAMES.includes(name))

  beforeAll(async () => {
    // What disks that are gone have left behind, made as libvirt makes it.
    const init = `for name in ${NAMES.join(' ')}; do truncate -s 1M ${FOLDER}/$name; sanlock client init -r ${SPACE}:$name:${FOLDER}/$name:0 >/dev/null || exit 1; done`
    await sure(shell('node1', init))
  })

  test('young ones stay, and nothing of a disk that is known is named', async () => {
    const plan = await printed('node1', 'lease', 'cleanup')
    expect(plan.status).toBe(0)
    expect(plan.script ?? []).toEqual([])
    const unused = await printed('node1', 'lease', 'list', '--unused')
    const names = unused.rows.map(({ file }) => String(file))
    expect(names).toEqual(expect.arrayContaining(NAMES))
    expect(names).not.toContain(leaseOf('vm'))
  })

  test('while a node is silent nothing goes', async () => {
    await fault('cut', 'node3')
    const refused = await printed('node1', '-y', 'lease', 'cleanup', '--older-than', '0')
    await fault('heal', 'node3')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain('node3 is unreachable')
    expect(await files()).toHaveLength(NAMES.length)
    await until('node3 answers', async () => (await havirt('node1', '-q', 'node', 'scan', 'node3')).status === 0)
  })

  test('killed in the middle, what is left is whole, and the same command goes on', async () => {
    // One that somebody holds by hand: no domain has it, and it must not go.
    const [held = ''] = NAMES
    const holder = begin([
      'exec',
      'node1',
      'sanlock',
      'client',
      'command',
      '-r',
      `${SPACE}:${held}:${FOLDER}/${held}:0`,
      '-c',
      '/bin/sleep',
      '600',
    ])
    await until('it is held', async () => (await sure(exec('node1', ['sanlock', 'client', 'status']))).includes(held))
    const cleaning = havirtBegins('node1', '-y', 'lease', 'cleanup', '--older-than', '0')
    await until('some are gone', async () => ((await files()).length < NAMES.length ? true : undefined))
    await killOn('node1', /dist\/havirt\.|havirt\0\/media\/leases/)
    await cleaning.done
    const left = await files()
    expect(left.length).toBeGreaterThan(1)
    const { rows } = await printed('node1', 'lease', 'list', '--unused')
    expect(rows.every(({ state }) => state !== 'damaged')).toBe(true)
    const again = await printed('node1', '-y', 'lease', 'cleanup', '--older-than', '0')
    expect(again.status, words(again)).toBe(0)
    expect(await files()).toEqual([held])
    expect((await lease('vm'))['state']).toBe('held')
    await killOn('node1', /^\/bin\/sleep\x00600/)
    await holder.done
  })
})

describe('past a node that does not answer', () => {
  beforeAll(async () => {
    await configure('lease', 'passUnreachable: true')
  })

  test('without a watchdog it is refused, and the plan names what the second setting takes upon itself', async () => {
    await sure(havirt('node1', '-q', 'node', 'scan'))
    await fault('cut', 'node2')
    const refused = await printed('node1', 'domain', 'start', 'vm', 'node1')
    expect(refused.status).toBe(3)
    expect(words(refused)).toContain('no watchdog guarded node2')
    await configure('lease', 'passWithoutWatchdog: true')
    const { script = [] } = await printed('node1', 'domain', 'start', 'vm', 'node1')
    expect(script.join('\n')).toContain('NO WATCHDOG guarded node2')
  })

  test('a node that is only cut off renews its leases on the storage: it is alive, and nothing starts', async () => {
    const refused = await printed('node1', '-y', 'domain', 'start', 'vm', 'node1')
    expect(refused.results?.map(({ outcome }) => outcome)).toEqual(['done', 'failed', 'not executed'])
    expect(JSON.stringify(refused.results)).toContain('node2 is alive: it renews its leases')
    expect(await whereIs('vm', ['node1', 'node3'])).toEqual([])
    expect(words(await printed('node1', 'lease', 'explain', 'vm'))).toContain('is alive: it renews its leases')
  })

  test('a domain that was paused when last seen is never passed, nor one that no lease covers', async () => {
    await fault('heal', 'node2')
    await until('node2 answers', async () => (await havirt('node1', '-q', 'node', 'scan', 'node2')).status === 0)
    await running('still', 'node2', { disk: 'twin' })
    await running('bare', 'node2')
    await sure(havirt('node1', '-q', '-y', 'domain', 'suspend', 'still'))
    await fault('cut', 'node2')
    const paused = await printed('node1', 'domain', 'start', 'still', 'node1')
    expect([paused.status, words(paused)]).toEqual([
      3,
      expect.stringContaining('it was paused there when node2 was last seen'),
    ])
    const uncovered = await printed('node1', 'domain', 'start', 'bare', 'node1')
    expect([uncovered.status, words(uncovered)]).toEqual([3, expect.stringContaining('no lease covers its disk')])
  })

  test('sanlock died there and its domain runs on: it starts elsewhere after the time, never before, and what is left is ended', async () => {
    // What the watchdog is for: this node cannot renew, and nobody kills what runs there.
    await fault('sanlock', 'node2', 'kill')
    const killedMs = performance.now()
    const start = havirtBegins('node1', '-o', 'json', '-y', 'domain', 'start', 'vm', 'node1')
    await until('it waits', () => start.said().includes('waiting until node2 is dead to sanlock') || undefined, 60)
    await until('it runs', async () => (await whereIs('vm', ['node1'])).length > 0 || undefined, 200)
    // Its last renewal was up to two io_timeouts before it was killed.
    expect((performance.now() - killedMs) / 1000).toBeGreaterThan(DEAD_SECONDS - 2 * IO_TIMEOUT - 2)
    expect((await start.done).status).toBe(0)
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node1' })

    await fault('heal', 'node2')
    await until('node2 answers', async () => (await nodeRow('node2'))['manager'] === 'sanlock')
    expect(await whereIs('vm')).toEqual(['node1', 'node2'])
    const refused = await printed('node1', '-y', 'domain', 'start', 'hurt', 'node2')
    expect([refused.status, words(refused)]).toEqual([3, expect.stringContaining('havirt lease reconcile node2')])
    const shown = await printed('node1', 'lease', 'reconcile')
    expect(shown.script?.join('\n')).toMatch(/end what is left of vm on node2[\s\S]*virsh -c qemu:\/\/\/system destroy/)
    expect(await whereIs('vm')).toEqual(['node1', 'node2'])
    const done = await printed('node1', '-y', 'lease', 'reconcile')
    expect(done.status, words(done)).toBe(0)
    expect(await whereIs('vm')).toEqual(['node1'])
    for (const name of ['still', 'bare']) await sure(havirt('node1', '-q', '-y', 'domain', 'stop', name, '--force'))
    const again = await printed('node1', '-y', 'lease', 'enable', 'sanlock', 'node2')
    expect(again.status, words(again)).toBe(0)
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'hurt', 'node2'))
  })

  test('a node loses its power while it holds leases, and comes back with nothing: it receives again as soon as it is looked at', async () => {
    await fault('off', 'node2')
    const started = performance.now()
    const done = await printed('node1', '-y', 'domain', 'start', 'hurt', 'node1')
    expect(done.status, words(done)).toBe(0)
    expect((performance.now() - started) / 1000).toBeGreaterThan(DEAD_SECONDS - 2 * IO_TIMEOUT - 2)
    await fault('on', 'node2')
    await sure(havirt('node1', '-q', 'node', 'scan'))
    expect(words(await printed('node1', 'lease', 'reconcile'))).toContain('nothing to do')
    await sure(havirt('node1', '-q', '-y', 'domain', 'migrate', 'hurt', 'node2', '--unsafe'))
  })
})

describe('validation', () => {
  const CONF = '/etc/libvirt/qemu-sanlock.conf'
  const GONE = createHash('md5').update('gone long ago').digest('hex')

  /** What is planted, and the row, the place and the words by which it is found. */
  const PLANTED: readonly (readonly [check: string, where: string, why: RegExp, plant: () => Promise<unknown>])[] = [
    [
      'the same lock manager',
      'node1',
      /node1 has no lock manager/,
      () => sure(shell('node1', "sed -i '/^lock_manager/d' /etc/libvirt/qemu.conf")),
    ],
    [
      'a host id of its own on each node',
      'node3',
      /node3.*host id.* 2/,
      () => sure(shell('node3', `sed -i 's/^host_id = .*/host_id = 2/' ${CONF}`)),
    ],
    [
      'the same folder for leases',
      'node3',
      /\/media\/other/,
      () => sure(shell('node3', `sed -i 's#^disk_lease_dir = .*#disk_lease_dir = "/media/other"#' ${CONF}`)),
    ],
    [
      'the same lease time-outs',
      'node3',
      /io_timeout/,
      () => sure(shell('node3', `sed -i 's/^io_timeout = .*/io_timeout = 5/' ${CONF}`)),
    ],
    ['sanlock keeps its name', 'node3', /node3/, () => sure(shell('node3', 'rm /etc/sanlock/sanlock.conf'))],
    [
      'the lease daemon runs and has joined',
      'node2',
      /sanlock.*node2|node2.*sanlock/,
      async () => {
        await running('bare', 'node2', { disk: 'twin' })
        await fault('sanlock', 'node2', 'kill')
      },
    ],
    ['what runs has its leases', 'node2', /bare.*node2/, async () => undefined],
    [
      'a watchdog guards the node',
      'node3',
      /watchdog.*node3|node3.*watchdog/,
      () => sure(havirt('node1', 'config', 'set', 'lease.passWithoutWatchdog', 'false')),
    ],
    [
      'leases are whole',
      'cluster',
      new RegExp(leaseOf('theirs')),
      () => sure(shell('node1', `head -c 300 /dev/urandom >${FOLDER}/${leaseOf('theirs')}`)),
    ],
    [
      'leases of disks that are gone are cleaned up',
      'cluster',
      /havirt lease cleanup/,
      () =>
        sure(
          shell('node1', `cp ${FOLDER}/${leaseOf('vm')} ${FOLDER}/${GONE}; touch -d '90 days ago' ${FOLDER}/${GONE}`),
        ),
    ],
    [
      'disks by stable paths',
      'cluster',
      /\/dev\/sdb/,
      async () => {
        const xml = await guest('odd', { disk: 'file' })
        await define('odd', {
          disk: 'file',
          edit: () => xml.replace(/<disk type='file'/, "<disk type='block'").replace(/file='[^']*'/, "dev='/dev/sdb'"),
        })
      },
    ],
    [
      'disks by stable paths',
      'cluster',
      /alias\.img.* and .*vm\.img.* are one disk|vm\.img.* and .*alias\.img.* are one disk/,
      async () => {
        await define('alias', { disk: 'twin' })
        for (const node of NODES) await sure(shell(node, `ln -sf ${twin('vm')} /media/twins/alias.img`))
      },
    ],
    ['every disk can have a lease', 'cluster', /net/, () => define('net')],
  ]

  const failing = ({ rows }: Awaited<ReturnType<typeof printed>>, check: string) =>
    Object.entries(rows.find(row => row['check'] === check) ?? {}).flatMap(([key, value]) =>
      value === 'FAILS' ? [key] : [],
    )

  test('a cluster with leases passes, but for what it cannot have here', async () => {
    await sure(shell('node1', `rm -f ${HOME}/conf/net.xml ${HOME}/conf/bare.xml`))
    const report = await printed('node1', 'cluster', 'validate')
    for (const [check] of PLANTED.filter(([each]) => each !== 'a watchdog guards the node'))
      expect([check, failing(report, check)]).toEqual([check, []])
  })

  test(`each of ${PLANTED.length} planted faults is found where it is, and enabling again mends what havirt set up`, async () => {
    for (const [, , , plant] of PLANTED) await plant()
    const report = await printed('node1', 'cluster', 'validate')
    expect(report.status).toBe(4)
    for (const [check, where, why] of PLANTED) {
      expect([check, failing(report, check)]).toEqual([check, expect.arrayContaining([where])])
      expect(words(report)).toMatch(why)
    }
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'bare', '--force'))
    const again = await printed(
      'node1',
      '-y',
      'lease',
      'enable',
      'sanlock',
      '--dir',
      FOLDER,
      '--io-timeout',
      String(IO_TIMEOUT),
    )
    expect(again.status, words(again)).toBe(0)
    expect(await readFile(await pathOn('node3', CONF), 'utf8')).toContain('host_id = 3')
    await sure(
      shell(
        'node1',
        `rm -f ${HOME}/conf/odd.xml ${HOME}/conf/alias.xml ${HOME}/conf/net.xml ${FOLDER}/${leaseOf('theirs')}`,
      ),
    )
  })

  test('sanlock keeps out a machine that wants to join with the host id of one that is alive', async () => {
    const { stdout, stderr } = await outsider
    expect(stdout + stderr).toMatch(/-262/)
  })
})

describe('virtlockd', () => {
  test('leases are taken off again: every file as it was', async () => {
    for (const name of ['vm', 'hurt', 'theirs']) await havirt('node1', '-q', '-y', 'domain', 'stop', name, '--force')
    const done = await printed('node1', '-y', 'lease', 'disable')
    expect(done.status, words(done)).toBe(0)
    expect(await configuration('node2')).toEqual(before)
    expect((await nodeRow('node2'))['manager']).toBe('none')
  })

  test('virtlockd keeps a second one out, a migration takes the lock along, and who has it is told', async () => {
    await sure(shell('node1', `mkdir -p ${FOLDER}/lockd`))
    const done = await printed('node1', '-y', 'lease', 'enable', 'lockd', '--dir', `${FOLDER}/lockd`)
    expect(done.status, words(done)).toBe(0)
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'vm', 'node1'))
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node1' })
    const xml = await guest('vm', { disk: 'twin' })
    const { stderr } = await shell('node2', 'cat | virsh create /dev/stdin', { stdin: xml })
    expect(stderr).toMatch(/Lockspace resource '[0-9a-f]+' is locked/)
    await sure(havirt('node1', '-q', '-y', 'domain', 'migrate', 'vm', 'node2', '--unsafe'))
    expect(await lease('vm')).toMatchObject({ state: 'held', holder: 'node2' })
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'vm', '--force'))
    expect(await lease('vm')).toMatchObject({ state: 'free' })
  })

  test('a virtlockd that was started anew knows no lockspace: the start says what mends it', async () => {
    await fault('virtlockd', 'node3', 'kill')
    await fault('virtlockd', 'node3', 'start')
    const start = await printed('node1', '-y', 'domain', 'start', 'vm', 'node3')
    expect(start.status).toBe(3)
    expect(words(start)).toContain('ssh node3 systemctl restart libvirtd')
    await sure(exec('node3', ['systemctl', 'restart', 'libvirtd']))
    await sure(havirt('node1', '-q', '-y', 'domain', 'start', 'vm', 'node3'))
    await sure(havirt('node1', '-q', '-y', 'domain', 'stop', 'vm', '--force'))
  })

  test('it is taken off, too', async () => {
    expect((await havirt('node1', '-q', '-y', 'lease', 'disable')).status).toBe(0)
    expect(await configuration('node2')).toEqual(before)
    expect(await sure(shell('node1', `ls ${HOME}/var/host-ids | wc -l`))).not.toBe('0\n')
  })
})
