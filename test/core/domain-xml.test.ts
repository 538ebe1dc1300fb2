/** What havirt reads in a definition, what it refuses, and how differences are shown. */

import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DiskSource, Domain } from '../../src/core/domain.ts'
import { diffDefinitions } from '../../src/core/domain-diff.ts'
import {
  DomainXmlError,
  diskIdentity,
  exclusiveDisks,
  isDomainName,
  MAX_DOMAIN_NAME_BYTES,
  parseDomain,
} from '../../src/core/domain-xml.ts'
import { XmlError } from '../../src/core/xml.ts'

const FOLDER = new URL('./xml/', import.meta.url)
const FILES = readdirSync(FOLDER)
const UUID = '3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a01'

function fixture(file: string): string {
  return readFileSync(new URL(file, FOLDER), 'utf8')
}

/** A small definition with more in it, and with parts of it replaced. */
function definition(more = '', replaced: Readonly<Record<string, string>> = {}): string {
  const text = `<domain type='kvm'>
  <name>one</name>
  <uuid>${UUID}</uuid>
  <memory unit='KiB'>2048</memory>
  <vcpu>2</vcpu>
  ${more}
</domain>
`
  return Object.entries(replaced).reduce((whole, [from, to]) => whole.replace(from, to), text)
}

function devices(inner: string): Domain {
  return parseDomain(definition(`<devices>${inner}</devices>`))
}

function errorOf(run: () => unknown): XmlError {
  try {
    run()
  } catch (error) {
    if (error instanceof XmlError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

function fieldOf(run: () => unknown): [string, number] {
  const error = errorOf(run)
  if (!(error instanceof DomainXmlError)) throw error
  expect(error.message).toContain(`${error.field}: expected `)
  return [error.field, error.line]
}

describe('fixtures', () => {
  test('a plain domain with disks of all rights', () => {
    const domain = parseDomain(fixture('file-disk.xml'))
    expect(domain).toEqual({
      name: 'web-01',
      uuid: UUID,
      type: 'kvm',
      arch: 'x86_64',
      machine: 'pc-q35-7.2',
      emulator: '/usr/bin/qemu-system-x86_64',
      vcpus: 2,
      memoryMiB: 4096,
      vncPort: -1,
      disks: [
        disk('vda', { source: file('/shared//images/./web-01.qcow2'), cache: 'none', format: 'qcow2' }),
        disk('vdb', { source: file('/shared/images/scratch.img'), transient: true, format: 'raw' }),
        disk('vdc', { source: file('/shared/images/both.img'), shareable: true }),
        disk('vdd', { source: file('/shared/images/docs.img'), readOnly: true }),
      ],
      interfaces: [
        { kind: 'network', source: 'front', mac: '52:54:00:aa:00:01', model: 'virtio' },
        { kind: 'bridge', source: 'br-back', mac: '52:54:00:aa:00:02' },
      ],
      cpu: {
        mode: 'custom',
        model: 'Skylake-Server',
        xml: `<cpu mode='custom' match='exact' check='partial'>
    <model fallback='allow'>Skylake-Server</model>
    <feature policy='require' name='aes'/>
    <feature policy='disable' name='hle'/>
  </cpu>`,
      },
      nodeBound: [],
      hugePages: false,
    })
    expect(exclusiveDisks(domain).map(each => diskIdentity(each.source))).toEqual(['file:/shared/images/web-01.qcow2'])
  })

  test('block devices, a LUN and a volume, with fewer vCPUs than the maximum', () => {
    const domain = parseDomain(fixture('block-disk.xml'))
    expect(domain).toMatchObject({ name: 'база 1', vcpus: 4, memoryMiB: 16384, vncPort: 5917 })
    expect(domain.uuid).toBe('3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a02')
    expect(domain.interfaces).toEqual([{ kind: 'direct', source: 'eno2', model: 'e1000e' }])
    expect(domain.disks.map(each => each.device)).toEqual(['disk', 'lun', 'disk'])
    expect(exclusiveDisks(domain).map(each => diskIdentity(each.source))).toEqual([
      'block:/dev/disk/by-id/wwn-0x600a0b8000111222000003335f000001',
      'block:/dev/disk/by-id/wwn-0x600a0b8000111222000003335f000002',
      'volume:vg-guests/base-log',
    ])
  })

  test('an iSCSI disk', () => {
    const domain = parseDomain(fixture('iscsi-disk.xml'))
    const name = 'iqn.2024-05.test.example:mail/2'
    expect(domain.disks[0]?.source).toEqual({ kind: 'network', protocol: 'iscsi', name, hosts: ['192.0.2.10:3260'] })
    expect(domain).toMatchObject({ memoryMiB: 2048, interfaces: [{ kind: 'user' }] })
  })

  test('RBD with several hosts, a socket, and memory rounded up', () => {
    const domain = parseDomain(fixture('rbd-disk.xml'))
    const hosts = ['mon-b.example:6789', 'mon-a.example:6789', '[2001:db8::7]:3300', 'mon-c.example']
    expect(domain.disks[0]).toMatchObject({
      source: { protocol: 'rbd', name: 'guests/root', hosts },
      cache: 'writeback',
    })
    expect(domain.disks[1]?.source).toMatchObject({ name: '', hosts: ['unix:/run/nbd/one.sock'] })
    expect(domain).toMatchObject({ memoryMiB: 954, vcpus: 1, arch: 'aarch64' })
  })

  test('UEFI variables, TPM state and devices are bound to their node', () => {
    expect(parseDomain(fixture('uefi.xml')).nodeBound).toEqual([
      { kind: 'nvram', what: '/var/lib/libvirt/qemu/nvram/uefi_VARS.fd' },
    ])
    expect(parseDomain(fixture('tpm.xml')).nodeBound).toEqual([
      { kind: 'nvram', what: '/var/lib/libvirt/qemu/nvram/desktop_VARS.fd' },
      { kind: 'tpm', what: '/var/lib/libvirt/swtpm/3b0c1f52-7d0e-4a8e-9b61-5f2f0f1c0a06' },
    ])
    expect(parseDomain(fixture('hostdev.xml')).nodeBound).toEqual([
      { kind: 'hostdev', what: 'pci 0000:41:00.1' },
      { kind: 'hostdev', what: 'usb 046d:c31c' },
      { kind: 'hostdev', what: 'mdev c2177883-f1bb-47f0-914d-32a22e3a8804' },
      { kind: 'hostdev', what: 'pci 0000:07:10.2' },
      { kind: 'hostdev', what: 'nvme 0000:01:00.0' },
    ])
  })

  test('the source of a backing image is not the source of the disk', () => {
    expect(parseDomain(fixture('tpm.xml')).disks.map(each => each.source)).toEqual([
      file('/shared/images/desktop.qcow2'),
    ])
  })

  test('VNC on a socket has no port', () => {
    expect(parseDomain(fixture('uefi.xml'))).not.toHaveProperty('vncPort')
  })

  test('huge pages', () => {
    expect(parseDomain(fixture('huge-pages.xml'))).toMatchObject({ hugePages: true, memoryMiB: 8192, vcpus: 8 })
  })

  test('an empty drive and a medium, both read-only', () => {
    const domain = parseDomain(fixture('empty-cdrom.xml'))
    expect(domain.disks.map(each => each.source)).toEqual([{ kind: 'none' }, file('/shared/iso/debian.iso')])
    expect(domain.disks.every(each => each.readOnly)).toBe(true)
    expect(exclusiveDisks(domain)).toEqual([])
    expect(domain.memoryMiB).toBe(257)
  })

  test('a byte order mark, CRLF and a QEMU command line', () => {
    expect(parseDomain(fixture('commandline.xml'))).toMatchObject({ name: 'odd', memoryMiB: 512, disks: [] })
  })
})

describe('memory', () => {
  const sizes: [string, string, number][] = [
    ['no unit', '<memory>2048</memory>', 2],
    ['b', "<memory unit='b'>1048577</memory>", 2],
    ['bytes', "<memory unit='bytes'>1</memory>", 1],
    ['KB', "<memory unit='KB'>1049</memory>", 2],
    ['k', "<memory unit='k'>1024</memory>", 1],
    ['KiB', "<memory unit='KiB'> 1025 </memory>", 2],
    ['MB', "<memory unit='MB'>1000</memory>", 954],
    ['M', "<memory unit='M'>7</memory>", 7],
    ['MiB', "<memory unit='MiB'>7</memory>", 7],
    ['GB', "<memory unit='GB'>1</memory>", 954],
    ['G', "<memory unit='G'>1</memory>", 1024],
    ['GiB', "<memory unit='gib'>1</memory>", 1024],
    ['TB', "<memory unit='TB'>1</memory>", 953_675],
    ['T', "<memory unit='T'>1</memory>", 1_048_576],
    ['TiB', "<memory unit='TiB'>1</memory>", 1_048_576],
    ['NUMA cells alone', "<cpu><numa><cell memory='1' unit='GiB'/><cell memory='1024'/></numa></cpu>", 1025],
    ['NUMA cells above it', "<memory>1024</memory><cpu><numa><cell memory='3' unit='MiB'/></numa></cpu>", 3],
  ]
  test.each(sizes)('in %s is rounded up to MiB', (_, memory, expected) => {
    expect(parseDomain(definition('', { "<memory unit='KiB'>2048</memory>": memory })).memoryMiB).toBe(expected)
  })
})

describe('what is refused', () => {
  const uuid = `<uuid>${UUID}</uuid>`
  const memory = "<memory unit='KiB'>2048</memory>"
  const refused: [string, Record<string, string>, string, number][] = [
    ['no name', { '<name>one</name>': '' }, 'name', 1],
    ['an empty name', { '<name>one</name>': '<name/>' }, 'name', 2],
    ['a name that is a path', { '>one<': '>../one<' }, 'name', 2],
    ['a name with a line feed', { '>one<': '>on\ne<' }, 'name', 2],
    ['a name with white space around it', { '>one<': '> one <' }, 'name', 2],
    ['two names', { '<name>one</name>': '<name>one</name><name>two</name>' }, 'name', 2],
    ['no UUID', { [uuid]: '' }, 'uuid', 1],
    ['an empty UUID', { [UUID]: '' }, 'uuid', 3],
    ['a UUID too short', { [UUID]: UUID.slice(1) }, 'uuid', 3],
    ['a UUID with other letters', { [UUID]: UUID.replace('b', 'g') }, 'uuid', 3],
    ['two UUIDs', { [uuid]: `${uuid}\n${uuid}` }, 'uuid', 4],
    ['no type', { " type='kvm'": '' }, 'domain@type', 1],
    ['no memory', { [memory]: '' }, 'memory', 1],
    ['no memory in the end', { '>2048<': '>0<' }, 'memory', 4],
    ['memory in words', { '>2048<': '>much<' }, 'memory', 4],
    ['negative memory', { '>2048<': '>-1<' }, 'memory', 4],
    ['memory beyond counting', { '>2048<': `>${'9'.repeat(18)}<`, "'KiB'": "'TiB'" }, 'memory', 4],
    ['memory in an unknown unit', { "'KiB'": "'pages'" }, 'memory@unit', 4],
    ['vCPUs in words', { '>2<': '>two<' }, 'vcpu', 5],
    ['no vCPU', { '>2<': '>0<' }, 'vcpu', 5],
    ['a current of nothing', { '<vcpu>': "<vcpu current='0'>" }, 'vcpu@current', 5],
    ['another root', { '<domain ': '<network ', '</domain>': '</network>' }, 'domain', 1],
  ]
  test.each(refused)('%s is refused with its field and line', (_, replaced, field, line) => {
    expect(fieldOf(() => parseDomain(definition('', replaced)))).toEqual([field, line])
  })

  const target = "<target dev='vda'/>"
  const refusedDevices: [string, string, string][] = [
    ['a disk without a target', "<disk><source file='/a'/></disk>", 'devices/disk/target@dev'],
    ['an unknown device', `<disk device='tape'>${target}</disk>`, 'devices/disk@device'],
    ['a disk without a source', `<disk>${target}</disk>`, 'devices/disk/source'],
    ['a source of another type', `<disk type='block'><source file='/a'/>${target}</disk>`, 'devices/disk/source'],
    ['a volume without a pool', `<disk type='volume'><source volume='a'/>${target}</disk>`, 'devices/disk/source'],
    ['a port that is none', "<graphics type='vnc' port='70000'/>", 'devices/graphics@port'],
  ]
  test.each(refusedDevices)('%s is refused with its field', (_, inner, field) => {
    expect(fieldOf(() => devices(inner))).toEqual([field, 6])
  })

  test('what is no XML is refused with its line', () => {
    expect(errorOf(() => parseDomain(`${definition()}${definition()}`)).message).toMatch(
      /^line 8, column 1: .*one root/,
    )
    expect(errorOf(() => parseDomain(definition().slice(0, -12))).message).toMatch(/<\/domain>|text ends/)
    expect(errorOf(() => parseDomain('<!DOCTYPE domain [<!ENTITY a "b">]><domain/>')).message).toMatch(/document type/)
    expect(errorOf(() => parseDomain(definition('x'.repeat(10_000_000)))).message).toMatch(/too long/)
    expect(errorOf(() => parseDomain('\x7fELF\x02\x01\0\0')).message).toMatch(/U\+0002/)
  })

  test.each(FILES)('%s cut at any byte is refused with XmlError', name => {
    const bytes = readFileSync(new URL(name, FOLDER))
    for (let cut = 0; cut <= bytes.lastIndexOf('>'); cut += 7)
      errorOf(() => parseDomain(bytes.subarray(0, cut).toString()))
  })

  test('a definition with any piece taken out or doubled is read or refused with XmlError', () => {
    const spot = fc.tuple(fc.nat(6_000), fc.nat(200), fc.boolean())
    fc.assert(
      fc.property(fc.constantFrom(...FILES), spot, (name, [at, length, doubled]) => {
        const text = fixture(name)
        const piece = text.slice(at, at + length)
        const changed = text.slice(0, at) + (doubled ? piece + piece : '') + text.slice(at + length)
        for (const run of [parseDomain, (each: string) => diffDefinitions(text, each)])
          readOrRefused(() => run(changed))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('names', () => {
  const good = ['a', 'web-01', 'база 1', '名前', 'a.b_c+d@e:f~g', '~a', '7', 'é', 'a'.repeat(MAX_DOMAIN_NAME_BYTES)]
  const bad = [
    '',
    ' ',
    '.',
    '..',
    '.a',
    '-a',
    ' a',
    'a ',
    'a/b',
    '../a',
    'a\nb',
    'a\tb',
    'a\0',
    'a\x1b',
    'a\\b',
    "a'",
    'a"',
  ]
  const worse = [
    'a;b',
    'a$b',
    'a*',
    'a%',
    'a#',
    'a&b',
    'a<b',
    'e\u0301',
    'a\u202eb',
    'a\u00a0b',
    'a\ud83d',
    '🙂',
    'é'.repeat(101),
  ]
  test.each(good)('%j is a name', name => expect(isDomainName(name)).toBe(true))
  test.each([...bad, ...worse, 'a'.repeat(201)])('%j is no name', name => expect(isDomainName(name)).toBe(false))
})

describe('details', () => {
  const address = "<address type='pci' bus='0x0a' slot='0x1f' function='0x7'/>"
  const nvramCases: [string, string, string[]][] = [
    ['a BIOS has no variables', "<loader type='rom'>/x</loader>", []],
    ['a stateless loader has no variables', "<loader type='pflash' stateless='yes'>/x</loader>", []],
    [
      'flash without a file gets the default',
      "<loader type='pflash'>/x</loader>",
      ['/var/lib/libvirt/qemu/nvram/one_VARS.fd'],
    ],
    ['a source element', "<nvram type='file'><source file='/v'/></nvram>", ['/v']],
    ['a block device', "<nvram type='block'><source dev='/dev/v'/></nvram>", ['block:/dev/v']],
  ]
  test.each(nvramCases)('variables: %s', (_, os, expected) => {
    expect(parseDomain(definition(`<os>${os}</os>`)).nodeBound.map(each => each.what)).toEqual(expected)
  })

  const bound: [string, string, string][] = [
    ['a TPM of the node', "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", '/dev/tpm0'],
    ['a TPM outside', "<tpm><backend type='external'/></tpm>", 'external'],
    [
      'a SCSI device',
      "<hostdev type='scsi'><source><adapter name='scsi_host2'/></source></hostdev>",
      'scsi scsi_host2',
    ],
    [
      'a USB port',
      "<hostdev type='usb'><source><address bus='1' device='4'/></source></hostdev>",
      'usb bus 1 device 4',
    ],
    ['a device that says little', '<hostdev/>', 'device'],
    ['a virtual function', `<interface type='hostdev'><source>${address}</source></interface>`, 'pci 0000:0a:1f.7'],
  ]
  test.each(bound)('%s is bound to its node', (_, inner, what) => {
    expect(devices(inner).nodeBound.map(each => each.what)).toEqual([what])
  })

  const ports: [string, string, number | undefined][] = [
    ['no VNC', "<graphics type='spice' port='5900'/>", undefined],
    ['a fixed port', "<graphics type='vnc' port='5900'/>", 5900],
    ['no port', "<graphics type='vnc'/>", -1],
    ['a running domain with a port chosen by libvirt', "<graphics type='vnc' port='5900' autoport='yes'/>", -1],
    ['a socket listener', "<graphics type='vnc'><listen type='socket' socket='/s'/></graphics>", undefined],
  ]
  test.each(ports)('VNC: %s', (_, graphics, expected) => expect(devices(graphics).vncPort).toBe(expected))

  const pages: [string, string, boolean][] = [
    ['huge pages', '<memoryBacking><hugepages/></memoryBacking>', true],
    ['other backing', '<memoryBacking><locked/></memoryBacking>', false],
    ['strict cells', "<numatune><memory nodeset='0'/></numatune>", true],
    ['preferred cells', "<numatune><memory mode='preferred' nodeset='0'/></numatune>", false],
    ['a strict cell of the domain', "<numatune><memnode cellid='0' mode='strict' nodeset='1'/></numatune>", true],
    ['cells chosen by numad', "<numatune><memory placement='auto'/></numatune>", false],
  ]
  test.each(pages)('placement: %s', (_, more, expected) =>
    expect(parseDomain(definition(more)).hugePages).toBe(expected),
  )

  test('disks of a second devices element count too, as they do for libvirt', () => {
    const part = (name: string) => `<devices><disk><source file='/${name}'/><target dev='${name}'/></disk></devices>`
    expect(parseDomain(definition(part('vda') + part('vdb'))).disks).toHaveLength(2)
  })

  test('an unknown kind of interface or disk is kept as such', () => {
    const inner =
      "<interface type='vdpa'><source dev='/dev/v'/></interface><interface type=''/><interface type='toString'/>"
    expect(devices(inner).interfaces).toEqual([{ kind: 'other' }, { kind: 'other' }, { kind: 'other' }])
    const disk = "<disk type='vhostuser'><source type='unix' path='/s'/><target dev='vda'/></disk>"
    expect(devices(disk).disks[0]?.source).toEqual({ kind: 'other', type: 'vhostuser' })
    expect(exclusiveDisks(devices(disk))).toHaveLength(1)
  })

  test('vCPUs listed one by one are counted when enabled', () => {
    const list = "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/></vcpus>"
    expect(parseDomain(definition(list)).vcpus).toBe(1)
  })
})

describe('disk identity', () => {
  const network = (protocol: string, name: string, ...hosts: string[]): DiskSource => ({
    kind: 'network',
    protocol,
    name,
    hosts,
  })
  const same: [string, DiskSource, DiskSource, string][] = [
    ['spellings of a path', file('//a/./b//c/.'), file('/a/b/c'), 'file:/a/b/c'],
    ['a device as file and as block', file('/dev/vg/lv'), { kind: 'block', path: '/dev//vg/lv' }, 'block:/dev/vg/lv'],
    ['hosts of a Ceph cluster', network('rbd', 'p/i', 'a', 'b'), network('rbd', 'p/i', 'c'), 'network:rbd:p/i'],
    [
      'LUN 0, named and not',
      network('iscsi', 'iqn.x:Y', 'a'),
      network('iscsi', 'iqn.x:y/0', 'b'),
      'network:iscsi:iqn.x:y/0',
    ],
    ['hosts in another order', network('nbd', 'd', 'B:1', 'a'), network('nbd', 'd', 'a', 'b:1'), 'network:nbd:a,b:1:d'],
  ]
  test.each(same)('%s are one disk', (_, one, other, identity) => {
    expect([diskIdentity(one), diskIdentity(other)]).toEqual([identity, identity])
  })

  test('another path, host of NBD, volume or image is another disk', () => {
    const sources = [
      file('/a'),
      file('/a/../a'),
      network('nbd', '', 'a'),
      network('nbd', '', 'b'),
      network('rbd', 'p/j'),
    ]
    const volumes: DiskSource[] = [
      { kind: 'volume', pool: 'p', volume: 'v' },
      { kind: 'dir', path: '/a' },
    ]
    expect(new Set([...sources, ...volumes].map(diskIdentity)).size).toBe(7)
  })

  test('an empty drive and an unknown source have no identity', () => {
    expect([diskIdentity({ kind: 'none' }), diskIdentity({ kind: 'other', type: 'nvme' })]).toEqual([
      undefined,
      undefined,
    ])
  })
})

describe('differences', () => {
  const disk = (target: string, path: string) =>
    `<disk type='file'><source file='${path}'/><target dev='${target}'/></disk>`
  const inDevices = (inner: string) => definition(`<devices>${inner}</devices>`)

  const shown: [string, string, string, string[]][] = [
    [
      'a changed attribute',
      inDevices(disk('vda', '/a')),
      inDevices(disk('vda', '/b')),
      ["devices/disk[vda]/source@file: '/a' -> '/b'"],
    ],
    [
      'disks in another order',
      inDevices(disk('vda', '/a') + disk('vdb', '/b')),
      inDevices(disk('vdb', '/b') + disk('vda', '/a')),
      [],
    ],
    [
      'a removed and an added disk',
      inDevices(disk('vda', '/a')),
      inDevices(disk('vdb', '/a')),
      [
        'devices/disk[vda]: removed',
        'devices/disk[vdb]: added',
        "devices/disk[vdb]@type: added 'file'",
        'devices/disk[vdb]/source: added',
        "devices/disk[vdb]/source@file: added '/a'",
        'devices/disk[vdb]/target: added',
        "devices/disk[vdb]/target@dev: added 'vdb'",
      ],
    ],
    [
      'white space, quotes and comments',
      '<domain a="1"><b>x  y</b></domain>',
      "<domain  a='1'>\n<!-- c --><b> x\ny </b></domain>",
      [],
    ],
    ['text', definition(), definition('', { '>one<': '>two<' }), ["name: 'one' -> 'two'"]],
    [
      'the root',
      definition(),
      definition('', { "'kvm'": "'qemu' id='4'" }),
      ["domain@type: 'kvm' -> 'qemu'", "domain@id: added '4'"],
    ],
    ['a removed attribute', '<domain><a b="1"/></domain>', '<domain><a/></domain>', ["a@b: removed '1'"]],
    ['added text', '<domain/>', '<domain><a>1</a></domain>', ["a: added '1'"]],
    [
      'the order of what has no name',
      "<domain><boot dev='hd'/><boot dev='cdrom'/></domain>",
      "<domain><boot dev='cdrom'/><boot dev='hd'/></domain>",
      ["boot@dev: 'hd' -> 'cdrom'", "boot#2@dev: 'cdrom' -> 'hd'"],
    ],
    [
      'features by name',
      "<domain><feature name='a' policy='x'/><feature name='b'/></domain>",
      "<domain><feature name='b'/><feature name='a' policy='y'/></domain>",
      ["feature[a]@policy: 'x' -> 'y'"],
    ],
    [
      'a control character',
      '<domain a="1"/>',
      '<domain a="&#x9b;2J&#x202e;"/>',
      ["domain@a: '1' -> '\\u{9b}2J\\u{202e}'"],
    ],
  ]
  test.each(shown)('%s', (_, before, after, lines) => {
    expect(diffDefinitions(before, after)).toEqual(lines)
  })

  test('secrets are said to have changed, and never shown', () => {
    const file = fixture('file-disk.xml')
    expect(diffDefinitions(file, file.replace('not-a-real-one', 'new'))).toEqual(['devices/graphics@passwd: (changed)'])
    expect(diffDefinitions(file, file.replace(" passwd='not-a-real-one'", ''))).toEqual([
      'devices/graphics@passwd: removed',
    ])
    const odd = fixture('commandline.xml')
    const swapped = odd.replace('hunter2', 'hunter3').replace('data=topsecretvalue', 'data=other')
    expect(diffDefinitions(odd, swapped)).toEqual([
      'qemu:commandline/qemu:arg#2@value: (changed)',
      'qemu:commandline/qemu:env@value: (changed)',
    ])
    for (const [one, other] of [
      [odd, '<domain/>'],
      ['<domain/>', odd],
      ['<domain/>', file],
    ] as const)
      expect(diffDefinitions(one, other).join('\n')).not.toMatch(/hunter|topsecret|not-a-real/)
  })

  test('any definition differs in nothing from itself, and in something from any other', () => {
    for (const one of FILES)
      for (const other of FILES)
        expect(diffDefinitions(fixture(one), fixture(other)).length > 0, `${one} ${other}`).toBe(one !== other)
  })
})

function readOrRefused(run: () => unknown): void {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(XmlError)
  }
}

function file(path: string): DiskSource {
  return { kind: 'file', path }
}

function disk(target: string, facts: Partial<Domain['disks'][number]>) {
  return { target, device: 'disk', readOnly: false, shareable: false, transient: false, ...facts }
}
