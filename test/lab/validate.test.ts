/** `cluster validate` on real nodes: nothing on a clean lab, and each of many differences that were planted, where it was planted. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import {
  clean,
  configure,
  createByVirsh,
  defineByVirsh,
  exec,
  fault,
  guest,
  HOME,
  NODES,
  type Printed,
  pathOn,
  printed,
  processes,
  putDefinition,
  running,
  shell,
  signal,
  sure,
  until,
  uuidOf,
  words,
} from './lab.ts'

const KEPT = '/root/.ssh /etc/ssh /etc/libvirt'

let standardConfig = ''
const configFile = () => pathOn('node1', `${HOME}/config.yaml`)
beforeAll(async () => {
  standardConfig = await readFile(await configFile(), 'utf8')
  for (const node of NODES) await sure(shell(node, `tar -cf /run/kept.tar ${KEPT}`))
})
afterEach(async () => {
  for (const node of NODES) {
    const undo = `grep -q ' /media/images tmpfs ' /proc/mounts && umount /media/images; rm -rf /run/systemd; ip link delete br9 2>/dev/null; ip link set br0 mtu 1500
      for name in extra; do virsh -q net-destroy $name; virsh -q net-undefine $name; done
      for name in data; do virsh -q pool-destroy $name; virsh -q pool-undefine $name; done
      rm -rf ${KEPT.split(' ')
        .map(path => `${path}/*`)
        .join(' ')}; tar -xf /run/kept.tar -C /`
    await shell(node, `exec 2>/dev/null; ${undo}`)
  }
  await clean()
  for (const node of NODES) await signal(node, 'KILL', await processes(node, 'guest=stray,'))
  await writeFile(await configFile(), standardConfig)
})
afterAll(async () => {
  await writeFile(await configFile(), standardConfig)
})

/** The nodes on which a check fails; `cluster` where it is about none alone. */
function failing({ rows }: Printed, check: string): string[] {
  const row = rows.find(each => each['check'] === check)
  return Object.entries(row ?? {}).flatMap(([key, value]) => (value === 'FAILS' ? [key] : []))
}

test('a clean lab passes every check, with guests that run', async () => {
  await running('web', 'node1')
  await running('db', 'node2', { disk: 'file' })
  const report = await printed('node1', 'cluster', 'validate')
  expect([report.status, words(report)]).toEqual([0, expect.stringMatching(/^all \d+ checks passed/)])
  expect(report.rows.length).toBeGreaterThan(30)
  // The marker is gone, and nothing else was left.
  expect(await sure(shell('node3', `ls -A /media/images ${HOME} | grep -c havirt-validate || true`))).toBe('0\n')
})

/** What is planted, where, and how it is told. */
const PLANTED: readonly (readonly [check: string, where: string, why: RegExp, plant: () => Promise<unknown>])[] = [
  // First: libvirtd does not start again with the lease settings below.
  [
    'every QEMU is listed',
    'node1',
    /stray runs on node1 as process \d+, which libvirt there does not list/,
    async () => {
      await running('stray', 'node1')
      await fault('libvirtd', 'node1', 'stop')
      await sure(shell('node1', 'rm /run/libvirt/qemu/stray.xml /run/libvirt/qemu/stray.pid'))
      await fault('libvirtd', 'node1', 'start')
      await until('libvirtd answers', async () => (await exec('node1', ['virsh', '-q', 'list'])).status === 0)
    },
  ],
  [
    'the same networks',
    'node2',
    /only node2 has the network extra/,
    async () => {
      const xml = "<network><name>extra</name><bridge name='br7'/></network>"
      await sure(
        shell('node2', 'cat >/run/net.xml; virsh -q net-define /run/net.xml; virsh -q net-start extra', { stdin: xml }),
      )
    },
  ],
  [
    'the same networks',
    'node2',
    /network extra of node2 is not there any more when node2 boots/,
    async () => undefined,
  ],
  [
    'the same bridges',
    'node2',
    /node2 lacks the bridge br9/,
    async () => {
      for (const node of ['node1', 'node3']) await sure(exec(node, ['ip', 'link', 'add', 'br9', 'type', 'bridge']))
    },
  ],
  [
    'the same bridges',
    'node3',
    /the bridge br0 of node3 has an MTU of 1400, and 1500 elsewhere/,
    () => sure(exec('node3', ['ip', 'link', 'set', 'br0', 'mtu', '1400'])),
  ],
  [
    "every node has the others' ssh keys",
    'node3',
    /node3 does not let root of node1 log in/,
    () => sure(shell('node3', 'sed -i /root@node1/d /root/.ssh/authorized_keys')),
  ],
  ['every node can log in to the others', 'node1', /root on node1 cannot log in to node3/, async () => undefined],
  [
    'every node can log in to the others',
    'node3',
    /on node3 the name node1 leads to another machine/,
    async () => {
      await sure(
        shell(
          'node3',
          "printf 'Host node1\\n  HostName node2\\n' | cat - /root/.ssh/config >/run/c; cat /run/c >/root/.ssh/config",
        ),
      )
    },
  ],
  ['the same ssh configuration', 'node3', /config of node3 alone has: HostName node2/, async () => undefined],
  [
    'the same storage pools',
    'node2',
    /the storage pool data of node2 is 'dir \/media', and 'dir \/media\/images' elsewhere/,
    async () => {
      for (const node of NODES) {
        const folder = node === 'node2' ? '/media' : '/media/images'
        await sure(
          shell(
            node,
            `virsh -q pool-define-as data dir --target ${folder}; virsh -q pool-start data; virsh -q pool-autostart data`,
          ),
        )
      }
    },
  ],
  [
    'shared folders are one folder',
    'node3',
    /\/media\/images on node3 is another folder than on most nodes/,
    () => sure(exec('node3', ['mount', '-t', 'tmpfs', 'tmpfs', '/media/images'])),
  ],
  [
    'every disk is on every node',
    'node3',
    /the disk \/media\/images\/db\.img of db does not exist on node3/,
    async () => undefined,
  ],
  [
    'libvirt-guests is off',
    'node2',
    /libvirt-guests is enabled on node2/,
    () =>
      sure(
        shell(
          'node2',
          'cd /run && mkdir -p systemd/system/x.wants && ln -s /dev/null systemd/system/x.wants/libvirt-guests.service',
        ),
      ),
  ],
  [
    'the same lock manager',
    'node3',
    /node3 has no lock manager, and others have sanlock/,
    async () => {
      for (const node of ['node1', 'node2'])
        await sure(
          shell(
            node,
            `echo 'lock_manager = "sanlock"' >>/etc/libvirt/qemu.conf; echo 'host_id = 1' >/etc/libvirt/qemu-sanlock.conf`,
          ),
        )
    },
  ],
  [
    'a host id of its own on each node',
    'node2',
    /node2 and node1 have the same host id for sanlock, 1/,
    async () => undefined,
  ],
  [
    "sshd's MaxSessions and MaxStartups",
    'node3',
    /sshd on node3 allows 2 sessions a connection/,
    () => sure(shell('node3', "sed -i 's/^MaxSessions.*/MaxSessions 2/' /etc/ssh/sshd_config")),
  ],
  [
    "sshd's MaxSessions and MaxStartups",
    'node1',
    /sshd on node1 drops connections from 3 at once on/,
    () => sure(shell('node1', "sed -i 's/^MaxStartups.*/MaxStartups 3:30:100/' /etc/ssh/sshd_config")),
  ],
  [
    'free ports for migrations',
    'node3',
    /node3 has 1 free ports for migrations/,
    () =>
      sure(
        shell('node3', "printf 'migration_port_min = 49152\\nmigration_port_max = 49152\\n' >>/etc/libvirt/qemu.conf"),
      ),
  ],
  [
    'no node defines a domain itself',
    'node1',
    /own is defined on node1/,
    async () => defineByVirsh('node1', await guest('own')),
  ],
  [
    'no node defines a domain itself',
    'node3',
    /eager is set to autostart on node3/,
    async () => defineByVirsh('node3', await guest('eager'), 'autostart'),
  ],
  [
    'no saved image is left',
    'node2',
    /node2 holds a saved image of asleep/,
    async () => {
      const xml = await guest('asleep')
      await defineByVirsh('node2', xml, 'start')
      await sure(exec('node2', ['virsh', '-q', 'managedsave', uuidOf(xml)]))
    },
  ],
  ['every definition can be read', 'cluster', /conf\/broken\.xml/, () => putDefinition('broken', '<domain')],
  [
    'no domain is defined twice',
    'cluster',
    /conf\/twin\.xml and conf\/web\.xml have one uuid/,
    async () => {
      const web = await readFile(await pathOn('node1', `${HOME}/conf/web.xml`), 'utf8')
      await putDefinition('twin', web.replace('<name>web</name>', '<name>twin</name>'))
    },
  ],
  [
    'no disk is in two definitions',
    'cluster',
    /conf\/twin\.xml and conf\/web\.xml have one disk/,
    async () => undefined,
  ],
  [
    'what runs is what conf/ says',
    'node2',
    /db runs on node2 otherwise than conf\/db\.xml says: memory 64 MiB there, 32 MiB here/,
    async () => {
      const db = await readFile(await pathOn('node1', `${HOME}/conf/db.xml`), 'utf8')
      await putDefinition('db', db.replace(/<memory unit='MiB'>32</, "<memory unit='MiB'>64<"))
    },
  ],
  [
    'what runs is what conf/ says',
    'node3',
    /conf\/ has no definition of alien, which runs on node3/,
    async () => createByVirsh('node3', await guest('alien')),
  ],
  [
    'machine types that the definitions need',
    'node1',
    /QEMU on node1 has no machine type pc-q35-99, which future needs/,
    async () => {
      const xml = await guest('future')
      await putDefinition('future', xml.replace(/<type[^>]*>hvm/, "<type arch='x86_64' machine='pc-q35-99'>hvm"))
    },
  ],
  [
    'rules are kept',
    'cluster',
    /the rule 'on web : node3' is not kept: web on node1/,
    () => configure('placement', "rules: ['on web : node3']"),
  ],
]

test(`each of ${PLANTED.length} planted differences is found where it is`, async () => {
  await running('web', 'node1')
  await running('db', 'node2', { disk: 'file' })
  for (const [, , , plant] of PLANTED) await plant()
  const report = await printed('node2', 'cluster', 'validate')
  expect(report.status).toBe(4)
  for (const [check, where, why] of PLANTED) {
    expect([check, failing(report, check)]).toEqual([check, expect.arrayContaining([where])])
    expect(words(report)).toMatch(why)
  }
  // What was not planted is not found.
  for (const check of [
    'every node answers',
    'the same libvirt',
    'the same QEMU',
    'KVM',
    'the same host CPU',
    'clocks',
    "havirt's home is mounted",
  ])
    expect([check, failing(report, check)]).toEqual([check, []])
})

test('a node that does not answer is named, and the others are compared all the same', async () => {
  await fault('cut', 'node3')
  const report = await printed('node1', 'cluster', 'validate').finally(() => fault('heal', 'node3'))
  expect(report.status).toBe(4)
  expect(failing(report, 'every node answers')).toEqual(['node3'])
  expect(failing(report, 'the same bridges')).toEqual([])
  await until('node3 is heard again', async () => (await exec('node1', ['havirt', '-q', 'node', 'scan'])).status === 0)
})
