/** What a node is asked by script: the real script on this machine, and recorded answers of machines that we do not have. */
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { identityLine, parseIdentity, parseProbe, probeLine } from '../../src/nodes/probe.ts'
import { run } from '../../src/nodes/process.ts'
import { temporaryFolder } from '../store/parts.ts'

let folder = ''
beforeEach(async () => {
  folder = await temporaryFolder()
})

async function shell(line: string): Promise<string> {
  const { stdout, stderr } = await run('sh', ['-c', line], { timeoutMs: 10_000 })
  expect(stderr).toBe('')
  return stdout
}

async function probe(paths: readonly string[], devices: readonly string[] = []) {
  const answer = parseProbe(await shell(probeLine(paths, devices)))
  if (answer === undefined) throw new Error('the answer is not whole')
  return answer
}

describe('the script on this machine', () => {
  test('files, folders, other things and nothing', async () => {
    const path = (name: string) => join(folder, name)
    await writeFile(path('full'), 'x')
    await writeFile(path('empty'), '')
    await symlink('full', path('link'))
    await symlink('nowhere', path('broken'))
    const names = ['full', 'empty', 'link', 'broken', 'missing', '.']
    const { paths } = await probe([...names.map(path), '/dev/null', '/proc'])
    const kinds = [...names.map(path), '/dev/null', '/proc'].map(each => paths.get(each)?.kind)
    expect(kinds).toEqual(['file', 'file', 'file', 'missing', 'missing', 'folder', 'other', 'folder'])
    expect(paths.get(path('missing'))).toEqual({ exists: false, kind: 'missing' })
    expect(paths.get(path('full'))?.exists).toBe(true)
    expect(paths.get(path('full'))?.filesystem).not.toBe('')
    expect(paths.get('/proc')).toEqual({ exists: true, kind: 'folder', filesystem: 'proc' })
  })

  test('paths are told as they were asked for, whatever is in them', async () => {
    const odd = [
      'a b',
      ' ',
      "it's",
      '"',
      '$(touch x)',
      '`id`',
      '\\n',
      'a\\tb',
      '\\',
      '-L',
      '*',
      'a=b',
      '%s',
      'größe 💾',
      ';',
    ]
    for (const name of odd) await writeFile(join(folder, name), '')
    const asked = [...odd, 'not-there\\n'].map(name => join(folder, name))
    const { paths } = await probe(asked)
    expect([...paths.keys()]).toEqual(asked)
    expect([...paths.values()].map(({ kind }) => kind)).toEqual([...odd.map(() => 'file'), 'missing'])
    expect((await readdir(folder)).sort()).toEqual([...odd].sort())
  })

  test('network devices', async () => {
    const { devices } = await probe([], ['lo', 'no-such-device', 'a b', "it's"])
    expect(devices).toEqual(
      new Map([
        ['lo', true],
        ['no-such-device', false],
        ['a b', false],
        ["it's", false],
      ]),
    )
  })

  test('many at once', async () => {
    const asked = Array.from({ length: 500 }, (_, at) => `${folder}/${at}`)
    expect((await probe(asked)).paths.size).toBe(500)
  })
})

describe('block devices, by a sysfs of our own', () => {
  /** Puts a block device with these files into sysfs, and a stat that says where it is. */
  async function blockDevice(numbers: string, files: Readonly<Record<string, string>>): Promise<string | undefined> {
    const [major = '', minor = ''] = numbers.split(':')
    const device = join(folder, 'sys', 'devices', 'disk', 'part')
    await mkdir(join(folder, 'sys', 'block'), { recursive: true })
    await mkdir(device, { recursive: true })
    await symlink(device, join(folder, 'sys', 'block', `${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}`))
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(device, name, '..'), { recursive: true })
      await writeFile(join(device, name), text)
    }
    const stat = `stat() { case "$*" in *-f*) echo tmpfs;; *) printf 'block special file\\t${major}\\t${minor}\\n';; esac; }\n`
    const line = probeLine(['/dev/x'], []).replaceAll('/sys/dev/block/', `${folder}/sys/block/`)
    const answer = parseProbe(await shell(line.replace("sh -c '", () => `sh -c '${stat.replaceAll("'", "'\\''")}`)))
    expect(answer?.paths.get('/dev/x')).toMatchObject({ exists: true, kind: 'block', filesystem: 'tmpfs' })
    return answer?.paths.get('/dev/x')?.identity
  }

  test.each([
    [
      'an iSCSI LUN',
      '8:10',
      { 'device/wwid': 'naa.60014055f1e4a3b0c1d2e3f405162738\n' },
      'naa.60014055f1e4a3b0c1d2e3f405162738',
    ],
    [
      'a LUN with blanks in its name',
      '8:0',
      { 'device/wwid': 't10.ATA     QEMU\tHARDDISK  QM1\n' },
      't10.ATA_QEMU_HARDDISK_QM1',
    ],
    ['a partition of a LUN', '8:11', { '../device/wwid': 'naa.6001\n' }, 'naa.6001'],
    [
      'multipath',
      'fd:3',
      { 'dm/uuid': 'mpath-360014055f1e4a3b0\n', 'device/wwid': 'naa.6\n' },
      'mpath-360014055f1e4a3b0',
    ],
    ['a logical volume', 'fd:0', { 'dm/uuid': 'LVM-Zk3v0\n' }, 'LVM-Zk3v0'],
    ['NVMe', '103:0', { wwid: 'eui.0025385b71b00a12\n' }, 'eui.0025385b71b00a12'],
    ['DRBD', '93:a', {}, 'drbd:10'],
    ['a mapping without an id of its own', 'fd:1', { 'dm/uuid': '\n' }, undefined],
    ['a disk with an empty id before its own', '8:20', { 'dm/uuid': '\n', 'device/wwid': 'naa.7\n' }, 'naa.7'],
    ['a disk of a virtual machine', 'fe:0', {}, undefined],
  ] as const)('%s', async (_what, numbers, files, identity) => {
    expect(await blockDevice(numbers, files as Record<string, string>)).toBe(identity)
  })
})

describe('recorded answers', () => {
  const RECORDED = [
    'path\t/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.2026-01.org.example:web-lun-0\tblock special file\ttmpfs\tnaa.60014055f1e4',
    'path\t/dev/mapper/mpatha\tblock special file\tdevtmpfs\tmpath-360014055f1e4',
    'path\t/dev/vg0/web\tblock special file\tdevtmpfs\tLVM-Zk3v0QWERTY',
    'path\t/dev/drbd10\tblock special file\tdevtmpfs\tdrbd:10',
    'path\t/dev/vda\tblock special file\tdevtmpfs\t',
    'path\t/shared/web.qcow2\tregular file\tnfs\t',
    'path\t/shared/new.img\tregular empty file\tnfs4\t',
    'path\t/var/lib/libvirt/images/web.img\tregular file\text2/ext3\t',
    'path\t/var/lib/libvirt/images\tdirectory\txfs\t',
    'path\t/dev/null\tcharacter special file\tdevtmpfs\t',
    'path\t/shared/gone.img\tmissing\t\t',
    'device\tbr0\tyes',
    'device\tbr9\tno',
    'end',
    '',
  ].join('\n')

  test('become facts', () => {
    const answer = parseProbe(RECORDED)
    expect([...(answer?.paths.values() ?? [])]).toEqual([
      { exists: true, kind: 'block', filesystem: 'tmpfs', identity: 'naa.60014055f1e4' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'mpath-360014055f1e4' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'LVM-Zk3v0QWERTY' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'drbd:10' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs' },
      { exists: true, kind: 'file', filesystem: 'nfs' },
      { exists: true, kind: 'file', filesystem: 'nfs4' },
      { exists: true, kind: 'file', filesystem: 'ext2/ext3' },
      { exists: true, kind: 'folder', filesystem: 'xfs' },
      { exists: true, kind: 'other', filesystem: 'devtmpfs' },
      { exists: false, kind: 'missing' },
    ])
    expect(answer?.devices).toEqual(
      new Map([
        ['br0', true],
        ['br9', false],
      ]),
    )
  })

  test('that were cut off anywhere are none', () => {
    const whole = RECORDED.trimEnd().length
    for (let bytes = 0; bytes < whole; bytes++) expect(parseProbe(RECORDED.slice(0, bytes))).toBeUndefined()
    expect(parseProbe(RECORDED.slice(0, whole))).toBeDefined()
  })
})

describe('who a node is', () => {
  const claim = { node: 'n-1', cluster: 'c-1' }
  const file = () => join(folder, 'lib', 'id')
  const ask = async (wants?: typeof claim) =>
    parseIdentity(await shell(identityLine(wants).replaceAll('/var/lib/havirt', join(folder, 'lib'))))

  test('a machine without an id has a name, and asking gives it none', async () => {
    expect(await ask()).toEqual({ hostname: hostname() })
    expect(await readdir(folder)).toEqual([])
  })

  test('the first claim is written, and no other changes it', async () => {
    expect(await ask(claim)).toEqual({ hostname: hostname(), ...claim })
    expect(await readFile(file(), 'utf8')).toBe('node: n-1\ncluster: c-1\n')
    expect(await ask({ node: 'n-2', cluster: 'c-2' })).toEqual({ hostname: hostname(), ...claim })
    expect(await ask()).toEqual({ hostname: hostname(), ...claim })
    expect(await readdir(join(folder, 'lib'))).toEqual(['id'])
  })

  test('of many at once, one is written, and all are told the same', async () => {
    const asked = Array.from({ length: 12 }, (_, at) => {
      const line = identityLine({ node: `n-${at}`, cluster: `c-${at}` }).replaceAll('/var/lib/havirt', `${folder}/lib`)
      return run('sh', ['-c', line], { timeoutMs: 10_000 })
    })
    const told = (await Promise.all(asked)).map(({ stdout }) => parseIdentity(stdout)?.node)
    expect(new Set(told).size).toBe(1)
    expect(await readFile(file(), 'utf8')).toContain(`node: ${told[0]}\n`)
    expect(await readdir(join(folder, 'lib'))).toEqual(['id'])
  })

  test('an id file that somebody edited is read, with or without its last line end', async () => {
    await mkdir(join(folder, 'lib'))
    await writeFile(file(), '# ours\nnode:   n-7\ncluster: c-7')
    expect(await ask()).toEqual({ hostname: hostname(), node: 'n-7', cluster: 'c-7' })
  })

  test('hostile words arrive as words', async () => {
    expect((await ask({ node: "$(id) 'x' %s \\n", cluster: '-e "' }))?.node).toBe("$(id) 'x' %s \\n")
  })

  test.each(['', 'hostname: hv1\n', 'hostname: hv1\nnode: n-1\ncluster: c-', 'end:\n', 'Welcome to hv1!\n'])(
    'an answer that is not whole is none: %j',
    output => {
      expect(parseIdentity(output)).toBeUndefined()
    },
  )
})
