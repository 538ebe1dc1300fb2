/** What a node is asked by script: the real script on this machine, and recorded answers of machines that we do not have. */
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { identityLine, type ProbeQuestion, parseIdentity, parseProbe, probeLine } from '../../src/nodes/probe.ts'
import { run } from '../../src/nodes/process.ts'
import { temporaryFolder } from '../store/parts.ts'

let folder = ''
beforeEach(async () => {
  folder = await temporaryFolder()
})

async function shell(line: string, stdin = ''): Promise<string> {
  const { stdout, stderr } = await run('sh', ['-c', line], { stdin, timeoutMs: 10_000 })
  expect(stderr).toBe('')
  return stdout
}

const NOTHING: ProbeQuestion = { paths: [], devices: [], volumes: [], processes: false }

/** Asks this machine; `edit` puts folders and commands of our own in place of the machine's. */
async function probe(question: Partial<ProbeQuestion>, edit = (line: string) => line, uri = 'test:///default') {
  const asked = { ...NOTHING, ...question }
  const { line, stdin } = probeLine(asked, uri)
  const answer = parseProbe(await shell(edit(line), stdin), asked, 'here')
  if (answer === undefined) throw new Error('the answer is not whole')
  return answer
}

/** A command of our own, for the script only. */
function instead(line: string, definition: string): string {
  return line.replace("sh -c '", () => `sh -c '${definition.replaceAll("'", "'\\''")}\n`)
}

describe('the script on this machine', () => {
  const path = (name: string) => join(folder, name)

  test('files, folders, other things and nothing', async () => {
    await writeFile(path('full'), 'x')
    await writeFile(path('empty'), '')
    await symlink('full', path('link'))
    await symlink('nowhere', path('broken'))
    const names = ['full', 'empty', 'link', 'broken', 'missing', '.']
    const asked = [...names.map(path), '/dev/null', '/proc']
    const { paths } = await probe({ paths: asked })
    const kinds = asked.map(each => paths.get(each)?.kind)
    expect(kinds).toEqual(['file', 'file', 'file', 'missing', 'missing', 'folder', 'other', 'folder'])
    expect(paths.get(path('missing'))).toEqual({ exists: false, kind: 'missing' })
    expect(paths.get(path('full'))?.exists).toBe(true)
    expect(paths.get(path('full'))?.filesystem).not.toBe('')
    expect(paths.get('/proc')).toMatchObject({ exists: true, kind: 'folder', filesystem: 'proc' })
  })

  test('a file is the same one by every path that leads to it, and another file is another', async () => {
    await mkdir(path('real'))
    await writeFile(path('real/disk'), '')
    await writeFile(path('real/other'), '')
    await symlink('real', path('alias'))
    await symlink('../alias/disk', path('real/link'))
    const asked = ['real/disk', 'alias/disk', 'real/link', 'alias/link', 'real/../alias/./disk'].map(path)
    const { paths } = await probe({ paths: [...asked, path('real/other')] })
    const identities = asked.map(each => paths.get(each)?.identity)
    expect(new Set(identities).size).toBe(1)
    expect(identities[0]).toMatch(/^local:here:\d+:\d+\/.*real\/disk$/)
    expect(paths.get(path('alias/disk'))?.canonical).toBe(path('real/disk'))
    expect(paths.get(path('real/other'))?.identity).not.toBe(identities[0])
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
    for (const name of odd) await writeFile(path(name), '')
    const asked = [...odd, 'not-there\\n'].map(path)
    const { paths } = await probe({ paths: asked })
    expect([...paths.keys()]).toEqual(asked)
    expect([...paths.values()].map(({ kind }) => kind)).toEqual([...odd.map(() => 'file'), 'missing'])
    expect([...paths.values()].slice(0, -1).map(({ canonical }) => canonical)).toEqual(odd.map(path))
    expect((await readdir(folder)).sort()).toEqual([...odd].sort())
  })

  test('a link into a name with a line break does not mix paths up', async () => {
    await writeFile(path('two\nlines'), '')
    await writeFile(path('plain'), '')
    await symlink('two\nlines', path('link'))
    const { paths } = await probe({ paths: [path('link'), path('plain')] })
    expect(paths.get(path('plain'))?.canonical).toBe(path('plain'))
    expect(paths.get(path('link'))?.exists).toBe(true)
  })

  test('network devices', async () => {
    const { devices } = await probe({ devices: ['lo', 'no-such-device', 'a b', "it's"] })
    expect(devices).toEqual(
      new Map([
        ['lo', true],
        ['no-such-device', false],
        ['a b', false],
        ["it's", false],
      ]),
    )
  })

  test('thousands at once, more than arguments could hold', async () => {
    const asked = Array.from({ length: 3000 }, (_, at) => `${folder}/${'x'.repeat(60)}-${at}`)
    await writeFile(asked[2999] ?? '', '')
    const { paths } = await probe({ paths: asked })
    expect(paths.size).toBe(3000)
    expect(paths.get(asked[2999] ?? '')?.kind).toBe('file')
  })
})

describe('volumes, by a virsh of our own', () => {
  /** Answers as virsh does: a blank line after each, nothing on stdout for what it does not know. */
  const virsh = (answers: string) =>
    `virsh() { printf '%s\\n' "$5" >'${folder}/asked'; printf '%s\\n' "$1 $2 $3" >>'${folder}/asked'; printf '${answers}'; }`

  test('are what they are called, and what lies behind their path', async () => {
    await writeFile(join(folder, 'web.img'), '')
    await symlink('web.img', join(folder, 'link'))
    const answers = `=0\\n${folder}/link\\n\\n=1\\n=2\\nrbd/web\\n\\n=3\\n${folder}/gone\\n\\n`
    const volumes = ['default/link', 'default/unknown', 'rbd/web', 'default/gone']
    const { paths } = await probe({ paths: [join(folder, 'web.img')], volumes }, line => instead(line, virsh(answers)))
    expect([...paths.keys()]).toEqual([join(folder, 'web.img'), 'volume:default/link', 'volume:default/gone'])
    expect(paths.get('volume:default/link')).toEqual(paths.get(join(folder, 'web.img')))
    expect(paths.get('volume:default/gone')).toEqual({ exists: false, kind: 'missing' })
  })

  test('are asked for in the quotes of virsh, all by one', async () => {
    const asked = ['po ol/a"b\\c', "p/it's; $(id)"]
    const { line, stdin } = probeLine({ ...NOTHING, volumes: asked }, 'qemu:///system')
    await shell(instead(line, `virsh() { printf '%s|' "$@" >'${folder}/asked'; }`), stdin)
    const first = 'echo =0; vol-path --pool "po ol" --vol "a\\"b\\\\c"'
    const second = `echo =1; vol-path --pool "p" --vol "it's; $(id)"`
    expect(await readFile(join(folder, 'asked'), 'utf8')).toBe(`-r|-c|qemu:///system|${first}; ${second}|`)
  })

  test('are unknown where there is no virsh', async () => {
    const { paths } = await probe({ volumes: ['default/web'] }, line => instead(line, 'virsh() { return 127; }'))
    expect(paths.size).toBe(0)
  })
})

describe('processes, by a /proc of our own', () => {
  const UUID = '71c0e72b-1fc2-0c35-5a7d-1ac80702ff0e'

  async function processes(cmdlines: Readonly<Record<string, readonly string[]>>, pids: readonly string[] = []) {
    await mkdir(join(folder, 'pids'))
    for (const pid of pids) await writeFile(join(folder, 'pids', `${pid}.pid`), pid)
    for (const [pid, argv] of Object.entries(cmdlines)) {
      await mkdir(join(folder, pid))
      await writeFile(join(folder, pid, 'cmdline'), argv.map(arg => `${arg}\0`).join(''))
    }
    const ours = (line: string) =>
      line.replaceAll('/proc/[0-9]*', `${folder}/[0-9]*`).replaceAll('/run/libvirt/qemu/', `${folder}/pids/`)
    return probe({ processes: true }, ours)
  }

  test('those with a uuid are told, with what they hold', async () => {
    const found = await processes(
      {
        1: ['/sbin/init'],
        20: ['sh', '-c', 'grep -- -uuid'],
        30: ['qemu', '-name', 'guest=web,debug-threads=on', '-m', '32', '-smp', '2,sockets=2', '-uuid', UUID],
        31: [],
      },
      ['30', '40'],
    )
    expect(found.processes).toEqual([{ pid: 30, uuid: UUID, name: 'web', memoryMiB: 32, vcpus: 2, disks: [] }])
    expect(found.pids).toEqual(new Set([30, 40]))
  })

  test('arguments with line breaks and blanks stay one argument', async () => {
    const found = await processes({ 5: ['qemu', '-name', 'guest=a b\n-uuid', '-uuid', UUID, '-m', 'size=2097152k'] })
    expect(found.processes).toMatchObject([{ name: 'a b -uuid', uuid: UUID, memoryMiB: 2048 }])
  })

  test('none is found where none is', async () => {
    expect((await processes({ 1: ['/sbin/init'] })).processes).toEqual([])
  })

  test('the script does not find itself', async () => {
    const found = await probe({ processes: true })
    for (const { pid } of found.processes) {
      const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
      expect(argv.join(' ')).not.toMatch(/havirt-probe|^grep/)
    }
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
    const found = `path\\t${major}\\t${minor}\\tblock special file\\t/dev/x\\n`
    const stat = `stat() { case "$*" in *-f*) printf 'filesystem\\ttmpfs\\t/dev/x\\n';; *) printf '${found}';; esac; }`
    const answer = await probe({ paths: ['/dev/x'] }, line =>
      instead(line.replaceAll('/sys/dev/block/', `${folder}/sys/block/`), stat),
    )
    expect(answer.paths.get('/dev/x')).toMatchObject({ exists: true, kind: 'block', filesystem: 'tmpfs' })
    expect(answer.paths.get('/dev/x')?.canonical).toBeUndefined()
    return answer.paths.get('/dev/x')?.identity
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
    ['a partition of a LUN', '8:11', { partition: '1\n', '../device/wwid': 'naa.6001\n' }, 'naa.6001-part1'],
    [
      'a partition of a disk that nothing names',
      'fe:2',
      { partition: '2\n', '../dev': '254:0\n' },
      'local:here:device 254:0-part2',
    ],
    ['multipath', 'fd:3', { 'dm/uuid': 'mpath-360014055f1e4a3b0\n', 'device/wwid': 'naa.6\n' }, 'naa.60014055f1e4a3b0'],
    ['a logical volume', 'fd:0', { 'dm/uuid': 'LVM-Zk3v0\n' }, 'LVM-Zk3v0'],
    ['NVMe', '103:0', { wwid: 'eui.0025385B71b00a12\n' }, 'eui.0025385b71b00a12'],
    ['DRBD', '93:a', {}, 'drbd:10'],
    ['a mapping without an id of its own', 'fd:1', { 'dm/uuid': '\n' }, 'local:here:device 253:1'],
    ['a disk with an empty id before its own', '8:20', { 'dm/uuid': '\n', 'device/wwid': 'naa.7\n' }, 'naa.7'],
    ['a disk of a virtual machine', 'fe:0', {}, 'local:here:device 254:0'],
    ['a file as a device', '7:0', { 'loop/backing_file': '/dev/null/x (deleted)' }, /^local:here:.*\/null\/x$/],
  ] as const)('%s', async (_what, numbers, files, identity) => {
    expect(await blockDevice(numbers, files as Record<string, string>)).toEqual(
      typeof identity === 'string' ? identity : expect.stringMatching(identity),
    )
  })
})

describe('recorded answers', () => {
  const PORTAL = '/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.2026-01.org.example:web-lun-0'
  const ASKED = [
    PORTAL,
    '/dev/mapper/mpatha',
    '/dev/vg0/web',
    '/dev/drbd10',
    '/dev/vda',
    '/shared/web.qcow2',
    '/shared/new.img',
    '/var/lib/libvirt/images/web.img',
    '/var/lib/libvirt/images',
    '/dev/null',
    '/shared/gone.img',
  ]
  const CANONICAL = ['/dev/sdb', '/dev/dm-3', '/dev/dm-0', '/dev/drbd10', '/dev/vda', ...ASKED.slice(5)]
  const RECORDED = [
    'device\tbr0\tyes',
    'device\tbr9\tno',
    `path\t8\t10\tblock special file\t${PORTAL}`,
    'path\tfd\t3\tblock special file\t/dev/mapper/mpatha',
    'path\tfd\t0\tblock special file\t/dev/vg0/web',
    'path\t93\ta\tblock special file\t/dev/drbd10',
    'path\tfe\t0\tblock special file\t/dev/vda',
    'path\t0\t0\tregular file\t/shared/web.qcow2',
    'path\t0\t0\tregular empty file\t/shared/new.img',
    'path\t0\t0\tregular file\t/var/lib/libvirt/images/web.img',
    'path\t0\t0\tdirectory\t/var/lib/libvirt/images',
    'path\t1\t3\tcharacter special file\t/dev/null',
    ...[
      'tmpfs',
      'devtmpfs',
      'devtmpfs',
      'devtmpfs',
      'devtmpfs',
      'nfs',
      'nfs',
      'ext2/ext3',
      'ext2/ext3',
      'devtmpfs',
    ].map((type, at) => `filesystem\t${type}\t${ASKED[at]}`),
    `canonical\t${CANONICAL.map(path => `${path}\0`).join('')}`,
    'mount\t27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda2 rw',
    'mount\t24 27 0:6 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=4k',
    'mount\t93 27 0:51 / /shared rw,relatime shared:50 - nfs4 nas:/export/vm rw,vers=4.2,addr=10.0.0.9',
    'block\t8:16\tdevice/wwid\tnaa.60014055f1e4',
    'block\t253:3\tdm/uuid\tmpath-360014055f1e4',
    'block\t253:0\tdm/uuid\tLVM-Zk3v0QWERTY',
    'end',
    '',
  ].join('\n')
  const QUESTION = { ...NOTHING, paths: ASKED, devices: ['br0', 'br9'] }

  test('become facts', () => {
    const answer = parseProbe(RECORDED, QUESTION, 'hv1')
    const images = '/var/lib/libvirt/images'
    expect([...(answer?.paths.values() ?? [])]).toEqual([
      { exists: true, kind: 'block', filesystem: 'tmpfs', identity: 'naa.60014055f1e4' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'naa.60014055f1e4' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'LVM-Zk3v0QWERTY' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'drbd:10' },
      { exists: true, kind: 'block', filesystem: 'devtmpfs', identity: 'local:hv1:device 254:0' },
      onShare('web.qcow2'),
      onShare('new.img'),
      {
        exists: true,
        kind: 'file',
        filesystem: 'ext2/ext3',
        canonical: `${images}/web.img`,
        identity: `local:hv1:254:0${images}/web.img`,
      },
      {
        exists: true,
        kind: 'folder',
        filesystem: 'ext2/ext3',
        canonical: images,
        identity: `local:hv1:254:0${images}`,
      },
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

  function onShare(name: string) {
    const identity = `nfs:10.0.0.9/export/vm/${name}`
    return { exists: true, kind: 'file', filesystem: 'nfs', canonical: `/shared/${name}`, identity }
  }

  test('that were cut off anywhere are none', () => {
    const whole = RECORDED.trimEnd().length
    for (let bytes = 0; bytes < whole; bytes++)
      expect(parseProbe(RECORDED.slice(0, bytes), QUESTION, 'hv1')).toBeUndefined()
    expect(parseProbe(RECORDED.slice(0, whole), QUESTION, 'hv1')).toBeDefined()
  })

  test('whose canonical paths do not add up are read without them', () => {
    const answer = parseProbe(RECORDED.replace('/dev/sdb\0', ''), QUESTION, 'hv1')
    expect(answer?.paths.get('/shared/web.qcow2')?.canonical).toBe('/shared/web.qcow2')
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
