/** Two names of one disk come to the same words, on one node and between nodes; two disks never do. */
import { describe, expect, test } from 'vitest'
import { overlap } from '../../src/core/node.ts'
import { deviceIdentity, fileIdentity, parseMounts } from '../../src/nodes/identity.ts'

const identity = (files: Readonly<Record<string, string>>, device = '8:16', node = 'hv1') =>
  deviceIdentity(device, new Map(Object.entries(files)), node, path => `file ${path}`)

describe('one disk by several devices', () => {
  const SAME: readonly [string, ...Record<string, string>[]][] = [
    [
      'an iSCSI LUN, by its path and by multipath',
      { 'device/wwid': 'naa.60014055f1e4a3b0c1d2e3f405162738' },
      { 'dm/uuid': 'mpath-360014055f1e4a3b0c1d2e3f405162738' },
      { 'dm/uuid': 'mpath-360014055F1E4A3B0C1D2E3F405162738' },
    ],
    ['a LUN with an EUI', { 'device/wwid': 'eui.0025385b71b00a12' }, { 'dm/uuid': 'mpath-20025385b71b00a12' }],
    [
      'a LUN with a vendor name',
      { 'device/wwid': 't10.LIO-ORG disk one                        0e8e4d1c' },
      { 'dm/uuid': 'mpath-1LIO-ORG_disk_one_0e8e4d1c' },
    ],
    [
      'a LUN with a SCSI name',
      { 'device/wwid': 'iqn.2026-01.org.example:web,t,0x1' },
      { 'dm/uuid': 'mpath-8iqn.2026-01.org.example:web_t_0x1' },
    ],
    ['NVMe over fabrics', { wwid: 'uuid.9C1F0E2a-7a55-4b41' }, { 'dm/uuid': 'mpath-uuid.9c1f0e2a-7a55-4b41' }],
    [
      'a partition, by the kernel and by kpartx',
      { partition: '2', '../device/wwid': 'naa.6001' },
      { 'dm/uuid': 'part2-mpath-36001' },
    ],
    [
      'an encrypted disk, whatever it is called when open',
      { 'dm/uuid': 'CRYPT-LUKS2-0123456789abcdef0123456789abcdef-web' },
      { 'dm/uuid': 'CRYPT-LUKS2-0123456789abcdef0123456789abcdef-luks-sdb' },
    ],
  ]
  test.each(SAME)('%s', (_, ...devices) => {
    expect(new Set(devices.map(files => identity(files))).size).toBe(1)
  })

  test.each([
    ['two LUNs', { 'device/wwid': 'naa.6001' }, { 'device/wwid': 'naa.6002' }],
    ['names of two types', { 'device/wwid': 'naa.6001' }, { 'device/wwid': 'eui.6001' }],
    ['two volumes of a group', { 'dm/uuid': 'LVM-aaaabbbb' }, { 'dm/uuid': 'LVM-aaaacccc' }],
    ['two partitions', { partition: '1', '../wwid': 'eui.1' }, { partition: '11', '../wwid': 'eui.1' }],
  ] as const)('and not %s', (_, one, other) => {
    expect(overlap(identity(one), identity(other))).toBe(false)
  })

  test('a disk and its partitions overlap, and two partitions do not', () => {
    const disk = identity({ 'device/wwid': 'naa.6001' })
    const [first, tenth] = ['1', '10'].map(partition => identity({ partition, '../device/wwid': 'naa.6001' }))
    if (first === undefined || tenth === undefined) throw new Error('no identity')
    const table = [disk, first, tenth, `${first}-part3`, 'naa.60015'].map(a =>
      [disk, first, tenth].map(b => (overlap(a, b) && overlap(b, a) ? 'x' : '-')).join(''),
    )
    expect(table).toEqual(['xxx', 'xx-', 'x-x', 'xx-', '---'])
  })

  test('what nothing names is the same on its own node only', () => {
    expect(identity({})).toBe('local:hv1:device 8:16')
    expect(identity({}, '8:16', 'hv2')).not.toBe(identity({}))
    expect(identity({ 'dm/uuid': 'CRYPT-PLAIN-web' })).toBe('local:hv1:device 8:16')
    expect(overlap(identity({ partition: '1', '../dev': '8:16' }, '8:17'), identity({}))).toBe(true)
  })

  test('a loop device is the file behind it, and its partition a part of that', () => {
    expect(identity({ 'loop/backing_file': '/srv/a b.img (deleted)' }, '7:0')).toBe('file /srv/a b.img')
    expect(identity({ partition: '1', '../loop/backing_file': '/srv/web.img', '../dev': '7:0' }, '259:0')).toBe(
      'file /srv/web.img-part1',
    )
  })

  test('DRBD is its minor, the same on all peers', () => {
    expect(identity({}, '147:10', 'hv1')).toBe(identity({}, '147:10', 'hv2'))
  })
})

/** Mounts of one node, as its kernel writes them. */
const HV1 = parseMounts([
  '27 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/hv1-root rw,errors=remount-ro',
  '93 27 0:51 / /srv/vm rw,relatime shared:50 - nfs4 nas.example.org:/export/vm rw,vers=4.2,clientaddr=10.0.0.1,addr=10.0.0.9',
  '94 27 0:51 / /mnt/deep rw,relatime shared:51 - nfs4 nas.example.org:/export/vm/deep rw,vers=4.2,addr=10.0.0.9',
  '95 27 0:51 /deep /mnt/bound rw,relatime shared:50 - nfs4 nas.example.org:/export/vm rw,vers=4.2,addr=10.0.0.9',
  '96 27 253:0 /var/lib/images /images rw,relatime shared:1 - ext4 /dev/mapper/hv1-root rw',
  '97 27 0:60 / /mnt/with\\040blank rw - nfs [fd00::9]:/export\\040two rw,vers=3',
  '98 27 0:61 / /gluster rw - fuse.glusterfs hv1:/vol rw,user_id=0',
  '99 27 0:62 / /ceph rw - ceph 10.0.0.1:6789,10.0.0.2:6789:/vm rw,name=admin',
  '100 27 0:63 / /win rw - cifs //NAS/share rw,addr=10.0.0.9',
  '101 27 253:9 / /auto rw - autofs systemd-1 rw',
  '102 101 253:7 / /auto rw - xfs /dev/sdz rw',
  '103 27 253:8 / /ocfs rw - ocfs2 /dev/mapper/shared rw',
])
const HV2 = parseMounts([
  '31 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/hv2-root rw',
  '93 31 0:44 / /data rw,relatime shared:50 - nfs nas:/export/vm rw,vers=3,addr=10.0.0.9',
  '98 31 0:61 / /gluster rw - fuse.glusterfs localhost:vol rw',
  '99 31 0:62 / /ceph rw - ceph admin@1b2c.cephfs=/vm rw',
  '100 31 0:63 / /win rw - smb3 //nas.example.org/share rw,addr=10.0.0.9',
])
const onHv1 = (path: string) => fileIdentity(path, HV1, 'hv1')
const onHv2 = (path: string) => fileIdentity(path, HV2, 'hv2')

describe('files', () => {
  test.each([
    ['two mount points of one export', onHv1('/srv/vm/web.img'), onHv2('/data/web.img')],
    ['a folder of an export that is exported, too', onHv1('/srv/vm/deep/web.img'), onHv1('/mnt/deep/web.img')],
    ['a bind mount of a folder of an export', onHv1('/srv/vm/deep/web.img'), onHv1('/mnt/bound/web.img')],
    ['a bind mount of a local folder', onHv1('/var/lib/images/web.img'), onHv1('/images/web.img')],
    ['a volume by any of its servers', onHv1('/gluster/web.img'), onHv2('/gluster/web.img')],
    ['a cluster filesystem by any of its monitors', onHv1('/ceph/web.img'), onHv2('/ceph/web.img')],
    ['a share by two names and dialects', onHv1('/win/web.img'), onHv2('/win/web.img')],
  ])('%s is one file', (_, one, other) => {
    expect(one).toBe(other)
  })

  test.each([
    ['a local file of each node', onHv1('/var/web.img'), onHv2('/var/web.img')],
    ['files of two folders', onHv1('/srv/vm/web.img'), onHv1('/mnt/deep/web.img')],
    ['a path that only begins like a mount point', onHv1('/srv/vmx/web.img'), onHv1('/srv/vm/x/web.img')],
    ['what is mounted over something, and what is below', onHv1('/auto/web.img'), 'local:hv1:253:9/web.img'],
  ])('%s are two', (_, one, other) => {
    expect(one).not.toBe(other)
  })

  test.each([
    ['/srv/vm/web.img', 'nfs:10.0.0.9/export/vm/web.img'],
    ['/mnt/with blank/web.img', 'nfs:[fd00::9]/export two/web.img'],
    ['/win/web.img', 'cifs:10.0.0.9/share/web.img'],
    ['/ocfs/web.img', 'ocfs2:/dev/mapper/shared/web.img'],
    ['/auto/web.img', 'local:hv1:253:7/web.img'],
    ['/', 'local:hv1:253:0/'],
  ])('%s is %s', (path, wanted) => {
    expect(onHv1(path)).toBe(wanted)
  })

  test('without mounts a path is itself, on its node', () => {
    expect(fileIdentity('/srv/web.img', parseMounts(['', 'nonsense', '1 2 3']), 'hv1')).toBe('local:hv1:/srv/web.img')
  })
})
