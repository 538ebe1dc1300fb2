/** What a QEMU says of itself on its command line, and which of them nobody lists. */
import { describe, expect, test } from 'vitest'
import { exclusiveDisks } from '../../src/core/domain-xml.ts'
import { asDomain, parseProcesses, type QemuProcess, unlistedOf } from '../../src/nodes/qemu-process.ts'

const UUID = '71c0e72b-1fc2-0c35-5a7d-1ac80702ff0e'

/** Lines as grep prints them. */
function lines(pid: number, ...argv: readonly string[]): string[] {
  return argv.map((arg, at) => `/proc/${pid}/cmdline${at % 2 === 0 ? ':' : '-'}${arg}`)
}

/** Recorded from libvirt 9.0 and QEMU 7.2: a domain with a file, and one with an iSCSI disk. */
const RECORDED = [
  ...lines(
    73,
    '-name',
    'guest=web,debug-threads=on',
    '-m',
    '32',
    '-smp',
    '1,sockets=1,cores=1,threads=1',
    '-uuid',
    UUID,
  ),
  '/proc/73/cmdline:-blockdev',
  '/proc/73/cmdline-{"driver":"file","filename":"/media/images/web.img","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false},"auto-read-only":true,"discard":"unmap"}',
  '/proc/73/cmdline:-blockdev',
  '/proc/73/cmdline-{"node-name":"libvirt-1-format","read-only":false,"cache":{"direct":true,"no-flush":false},"driver":"raw","file":"libvirt-1-storage"}',
  '/proc/85/cmdline:-name',
  '/proc/85/cmdline-guest=db,debug-threads=on',
  '/proc/85/cmdline:-uuid',
  '/proc/85/cmdline-9F46EBB0-7f0f-49ac-0f06-4993cca015cd',
  '/proc/85/cmdline:-blockdev',
  '/proc/85/cmdline-{"driver":"iscsi","portal":"10.77.0.250:3260","target":"iqn.2026-01.lab.havirt:disks","lun":1,"transport":"tcp","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false},"auto-read-only":true,"discard":"unmap"}',
  '/proc/85/cmdline:-blockdev',
  '/proc/85/cmdline-{"node-name":"libvirt-1-format","read-only":false,"cache":{"direct":true,"no-flush":false},"driver":"raw","file":"libvirt-1-storage"}',
]

function one(...argv: readonly string[]): QemuProcess {
  const [found] = parseProcesses(lines(7, ...argv, '-uuid', UUID))
  if (found === undefined) throw new Error('not found')
  return found
}

/** What the process may write: paths, or protocol and name. */
function written(...blockdevs: readonly object[]): string[] | undefined {
  const domain = asDomain(one(...blockdevs.flatMap(each => ['-blockdev', JSON.stringify(each)])))
  return (
    domain &&
    exclusiveDisks(domain).map(({ source }) =>
      'path' in source ? source.path : source.kind === 'network' ? `${source.protocol} ${source.name}` : source.kind,
    )
  )
}

describe('a command line', () => {
  test('recorded ones are read', () => {
    const [web, db, ...others] = parseProcesses(RECORDED)
    expect(others).toEqual([])
    expect(web).toMatchObject({ pid: 73, uuid: UUID, name: 'web', memoryMiB: 32, vcpus: 1 })
    expect(web?.disks).toMatchObject([{ source: { kind: 'file', path: '/media/images/web.img' }, readOnly: false }])
    expect(db).toMatchObject({ pid: 85, uuid: '9f46ebb0-7f0f-49ac-0f06-4993cca015cd', name: 'db' })
    expect(db?.disks).toMatchObject([
      { source: { kind: 'network', protocol: 'iscsi', name: 'iqn.2026-01.lab.havirt:disks/1' } },
    ])
  })

  test.each([
    [['-m', 'size=33554432k'], 32_768],
    [['-m', 'size=1048576k,slots=16,maxmem=8388608k'], 1024],
    [['-m', '4096'], 4096],
    [['-m', '4G'], 4096],
    [['-m', '1M,slots=1'], 1],
    [[], 0],
    [['-m', 'much'], 0],
  ])('%j is %d MiB', (argv, memoryMiB) => {
    expect(one(...argv).memoryMiB).toBe(memoryMiB)
  })

  test.each([
    [['-smp', '4'], 4],
    [['-smp', '2,maxcpus=8,sockets=8'], 2],
    [['-smp', 'cpus=3,sockets=3'], 3],
    [[], 1],
  ])('%j has %d vCPUs', (argv, vcpus) => {
    expect(one(...argv).vcpus).toBe(vcpus)
  })

  test.each([
    [['-name', 'guest=web,debug-threads=on'], 'web'],
    [['-name', 'guest=a,,b,process=x'], 'a,b'],
    [['-name', 'web'], 'web'],
    [[], UUID],
  ])('%j has a name', (argv, name) => {
    expect(one(...argv).name).toBe(name)
  })

  test('without a uuid it is nobody, and a flag without its value is none', () => {
    expect(parseProcesses(lines(7, '-name', 'guest=x'))).toEqual([])
    expect(parseProcesses(lines(7, '-uuid', 'no-uuid'))).toEqual([])
    expect(parseProcesses(['/proc/7/cmdline:-uuid', '/proc/8/cmdline:-uuid', `/proc/8/cmdline-${UUID}`])).toMatchObject(
      [{ pid: 8 }],
    )
  })
})

describe('disks', () => {
  const storage = (more: object) => ({ 'node-name': 's', 'auto-read-only': true, ...more })
  const format = (more: object = {}) => ({ 'node-name': 'f', driver: 'qcow2', file: 's', 'read-only': false, ...more })

  test.each<[string, object[], string[]]>([
    ['a file below a format', [storage({ driver: 'file', filename: '/a' }), format()], ['/a']],
    ['a device without a format', [storage({ driver: 'host_device', filename: '/dev/b' })], ['/dev/b']],
    ['a node inside another', [{ driver: 'raw', 'node-name': 'x', file: { driver: 'file', filename: '/c' } }], ['/c']],
    [
      'Ceph',
      [storage({ driver: 'rbd', pool: 'p', namespace: 'n', image: 'i', server: [{ host: 'm' }] })],
      ['rbd p/n/i'],
    ],
    ['Ceph without namespace', [storage({ driver: 'rbd', pool: 'p', image: 'i' })], ['rbd p/i']],
    [
      'one that is only read, and its backing files',
      [
        storage({ driver: 'file', filename: '/cd.iso' }),
        format({ 'read-only': true }),
        { driver: 'file', filename: '/base', 'node-name': 'b', 'read-only': true },
      ],
      [],
    ],
    [
      'one that two stack on, of which one writes',
      [storage({ driver: 'file', filename: '/d' }), format({ 'read-only': true }), format({ 'node-name': 'g' })],
      ['/d'],
    ],
    ['nothing and the web', [{ driver: 'null-co' }, { driver: 'https', url: 'https://x/y.iso' }], []],
  ])('%s', (_, blockdevs, paths) => {
    expect(written(...blockdevs)).toEqual(paths)
  })

  test.each([
    ['-blockdev', 'driver=file,filename=/x'],
    ['-blockdev', '{"driver":'],
    ['-blockdev', '{"driver":"nvme","device":"0000:01:00.0","namespace":1,"node-name":"s"}'],
    ['-drive', 'file=nbd://x/y,if=none'],
    ['-drive', 'file=json:{}'],
  ])('%s %s may be anything, so the process has no definition', (...argv) => {
    const process = one(...argv)
    expect(asDomain(process)).toBeUndefined()
    expect(process.problem).toMatch(/^[^\n]{5,}$/)
  })

  test('by -drive', () => {
    const disks = one(
      '-drive',
      'file=/a,,b.img,format=raw,if=none',
      '-drive',
      'file=/cd,readonly=on',
      '-drive',
      'if=sd',
    ).disks
    expect(disks).toMatchObject([
      { source: { kind: 'file', path: '/a,b.img' }, readOnly: false },
      { source: { kind: 'file', path: '/cd' }, readOnly: true },
    ])
  })
})

describe('who is not listed', () => {
  const process = (pid: number, uuid = UUID): QemuProcess => ({ pid, uuid, name: 'web', memoryMiB: 1, vcpus: 1 })
  const pids = (found: readonly QemuProcess[]) => found.map(({ pid }) => pid)

  test.each<[string, QemuProcess[], string[], number[], number[]]>([
    ['a process of a uuid that is active is not', [process(1)], [UUID], [], []],
    ['one whose uuid is not active is', [process(1)], [], [1], [1]],
    [
      'of two with one active uuid, the one that libvirt did not write down is',
      [process(1), process(2)],
      [UUID],
      [2],
      [1],
    ],
    ['of two that it did not write down, one is', [process(1), process(2)], [UUID], [], [2]],
    ['both are when it is not active', [process(1), process(2)], [], [2], [1, 2]],
    ['a single process that has another number is not', [process(1)], [UUID], [9], []],
  ])('%s', (_, processes, active, own, wanted) => {
    expect(pids(unlistedOf(processes, new Set(active), new Set(own)))).toEqual(wanted)
  })
})
