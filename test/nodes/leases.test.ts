/**
 * What nodes say of their leases: answers as real nodes gave them, those answers with something else in them, and the scripts run by a
 * real shell. The recorded nodes have Debian's libvirt 9.0 and sanlock 3.8.5.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { DIRECT_SCRIPT, parseRemoved, REMOVE_SCRIPT } from '../../src/nodes/lease-folder.ts'
import { leaseName } from '../../src/nodes/lease-name.ts'
import { LEASES_SCRIPT, type LeaseAnswer, parseLeases, shareOf } from '../../src/nodes/leases.ts'

const FIL = '017f7109343e4cae1dfc8ede11ec6bac'
const SHR = '4e15cfb1040450d0f83b6142d16b7776'
const LOK = '52779d89f09dac51108d161dbd0f488a0ae2c771546bde7021f564662198f7ee'

const recorded = (situation: string) =>
  readFileSync(join(import.meta.dirname, 'recorded', `lease-${situation}.txt`), 'utf8')

function parsed(text: string): LeaseAnswer {
  const answer = parseLeases(text)
  if (answer === undefined) throw new Error('expected a whole answer')
  return answer
}

describe('as nodes answered', () => {
  test('a node whose domain runs and writes one disk', () => {
    expect(parsed(recorded('running'))).toEqual({
      leases: {
        settings: {
          manager: 'sanlock',
          saysNone: false,
          sanlock: new Map([
            ['auto_disk_leases', '1'],
            ['disk_lease_dir', '/media/leases'],
            ['host_id', '1'],
            ['require_lease_for_disks', '1'],
            ['io_timeout', '2'],
            ['user', 'sanlock'],
            ['group', 'sanlock'],
          ]),
          lockd: new Map(),
          hostName: 'node1',
        },
        installed: new Set(['sanlock', 'virtlockd', 'lockd.so', 'sanlock.so']),
        service: 'libvirtd',
        sanlock: {
          hostName: 'node1',
          watchdog: false,
          nowSeconds: 58176,
          lockspace: {
            hostId: 1,
            generation: 1,
            path: '/media/leases/__LIBVIRT__DISKS__',
            ioTimeoutSeconds: 2,
            renewedSeconds: 58175,
            state: 'joined',
          },
          pids: new Set([-1, 142]),
          held: [{ name: FIL, pid: 142, shared: false }],
          hosts: new Map([
            [1, { hostId: 1, generation: 1, state: 'live', aliveSeconds: 58176 }],
            [2, { hostId: 2, generation: 1, state: 'live', aliveSeconds: 58176 }],
          ]),
        },
        lockd: undefined,
        ordered: false,
        user: 'sanlock',
        wdmd: false,
        pids: new Map([['fil', 142]]),
        folder: {
          path: '/media/leases',
          exists: true,
          filesystem: 'ext2/ext3',
          source: '/dev/vda[/var/lib/havirt-lab/lab/leases]',
          options: 'rw,relatime,discard,resv_strict,resuid=65534,resgid=65534',
        },
        stableNames: new Map(),
      },
      hosts: new Map([
        [1, { hostId: 1, generation: 1, timestamp: 58175, name: 'node1', ioTimeoutSeconds: 2 }],
        [2, { hostId: 2, generation: 1, timestamp: 58176, name: 'node2', ioTimeoutSeconds: 2 }],
      ]),
      files: [
        {
          name: FIL,
          bytes: 1048576,
          writtenMs: 1_795_304_907_000,
          record: { ownerId: 1, ownerGeneration: 1, version: 1, timestamp: 58165 },
        },
        {
          name: SHR,
          bytes: 1048576,
          writtenMs: 1_795_304_916_000,
          record: { ownerId: 1, ownerGeneration: 1, version: 1, timestamp: 0 },
        },
      ],
    })
  })

  test('paused, the domain is registered and holds nothing: its lease was given back', () => {
    const { leases, files } = parsed(recorded('paused'))
    expect(leases.sanlock).toMatchObject({ held: [], pids: new Set([-1, 142]) })
    expect(leases.pids).toEqual(new Map([['fil', 142]]))
    expect(files[0]).toMatchObject({ name: FIL, record: { ownerId: 1, timestamp: 0 } })
  })

  test('a shareable disk is held by name and shared, while its file says that nobody has it', () => {
    const { leases, files } = parsed(recorded('shared'))
    expect(leases.sanlock?.held).toEqual([
      { name: SHR, pid: 154, shared: true },
      { name: FIL, pid: 142, shared: false },
    ])
    expect(files[1]).toMatchObject({ name: SHR, record: { timestamp: 0 } })
  })

  test('a node with nothing that runs', () => {
    const { leases } = parsed(recorded('idle'))
    expect(leases.sanlock).toMatchObject({ held: [], pids: new Set([-1]), lockspace: { hostId: 2, state: 'joined' } })
    expect(leases.pids).toEqual(new Map())
  })

  test('without sanlock its settings and the files are known all the same', () => {
    const { leases, hosts, files } = parsed(recorded('nosanlock'))
    expect(leases.sanlock).toBeUndefined()
    expect(leases.settings.manager).toBe('sanlock')
    expect([...hosts.keys()]).toEqual([1, 2])
    expect(files.map(({ name }) => name)).toEqual([FIL, SHR])
  })

  test('another host whose sanlock was killed counts as dead at last, and what it wrote stays', () => {
    const { leases, hosts } = parsed(recorded('dead'))
    expect(leases.sanlock?.hosts.get(1)?.state).toBe('live')
    expect(leases.sanlock?.hosts.get(2)).toMatchObject({ state: 'dead', generation: 1 })
    expect(hosts.get(2)).toMatchObject({ timestamp: 58189, name: 'node2' })
    expect((leases.sanlock?.nowSeconds ?? 0) - (leases.sanlock?.hosts.get(2)?.aliveSeconds ?? 0)).toBeGreaterThan(76)
  })

  test('virtlockd: what it holds, by the SHA-256 of the path', () => {
    const { leases, files } = parsed(recorded('lockd'))
    expect(leases.settings).toMatchObject({ manager: 'lockd' })
    expect(leases.lockd).toEqual({
      held: [{ name: LOK, pid: undefined, shared: false }],
      newerThanLibvirt: false,
    })
    expect(leases.folder).toMatchObject({ path: '/media/leases/lockd', exists: true })
    expect(leases.pids).toEqual(new Map([['lok', 299]]))
    expect(files).toEqual([])
  })

  test('the names are those that havirt works out from the paths', () => {
    expect(leaseName('sanlock', '/media/images/fil.img')).toBe(FIL)
    expect(leaseName('sanlock', '/media/images/shr.img')).toBe(SHR)
    expect(leaseName('lockd', '/media/images/lok.img')).toBe(LOK)
  })
})

/** The recorded answer with other lines: those that begin with the key of a new one are replaced by it. */
function withLines(situation: string, ...lines: readonly string[]): string {
  const keys = new Set(lines.map(line => line.split('\t')[0]))
  const kept = recorded(situation)
    .trimEnd()
    .split('\n')
    .filter(line => !keys.has(line.split('\t')[0]))
  return `${[...lines, ...kept].join('\n')}\n`
}

const changed = (situation: string, from: string | RegExp, to: string) => {
  const text = recorded(situation)
  const other = text.replace(from, to)
  if (other === text) throw new Error(`there is no ${from} in it`)
  return parsed(other).leases
}

describe('settings', () => {
  const settingsOf = (...lines: readonly string[]) => parsed(withLines('running', ...lines)).leases.settings

  test('of two lines of one key the first counts, as libvirt takes them', () => {
    const settings = settingsOf(
      'setting\tqemu\tlock_manager\tsanlock',
      'setting\tqemu\tlock_manager\tlockd',
      'setting\tsanlock\thost_id\t7',
      'setting\tsanlock\thost_id\t8',
    )
    expect(settings.manager).toBe('sanlock')
    expect(settings.sanlock.get('host_id')).toBe('7')
  })

  test.each([
    ['none', 'setting\tqemu\tuser\troot', ''],
    ["libvirt's word for none", 'setting\tqemu\tlock_manager\tnop', ''],
    ['virtlockd', 'setting\tqemu\tlock_manager\tlockd', 'lockd'],
  ])('the lock manager is %s', (_, line, manager) => {
    expect(settingsOf(line)).toMatchObject({ manager, saysNone: line.endsWith('nop') })
  })

  test('keys of one file are none of another', () => {
    const { sanlock, lockd } = settingsOf('setting\tsanlock\tuser\troot', 'setting\tlockd\tauto_disk_leases\t0')
    expect(sanlock).toEqual(new Map([['user', 'root']]))
    expect(lockd).toEqual(new Map([['auto_disk_leases', '0']]))
  })

  test('without a name of its own, sanlock has a new one each time', () => {
    expect(settingsOf('setting\tqemu\tlock_manager\tsanlock').hostName).toBe('')
  })
})

describe('the lockspace', () => {
  const S = 's __LIBVIRT__DISKS__:1:/media/leases/__LIBVIRT__DISKS__:0'
  test.each([
    ['is being joined', S, `${S} ADD`, 'joining'],
    ['is being left', S, `${S} REM`, 'leaving'],
    ['cannot be renewed any more', 'space_dead=0', 'space_dead=1', 'lost'],
    ['is lost, and processes are being killed', 'killing_pids=0', 'killing_pids=1', 'lost'],
  ] as const)('%s', (_, from, to, state) => {
    expect(changed('running', from, to).sanlock?.lockspace?.state).toBe(state)
  })

  test("that is somebody else's is not ours", () => {
    expect(changed('running', `status\t${S}`, 'status\ts oVirt:1:/dev/vg/ids:0').sanlock?.lockspace).toBeUndefined()
  })

  test('beside another one is found', () => {
    const other = 'status\ts oVirt:5:/dev/vg/ids:0\nstatus\t    list=spaces\nstatus\t    host_generation=9'
    const { sanlock } = changed('running', `status\t${S}`, `${other}\nstatus\t${S}`)
    expect(sanlock?.lockspace).toMatchObject({ hostId: 1, generation: 1 })
  })

  test('in a folder with a colon has its whole path', () => {
    expect(
      changed('running', S, 's __LIBVIRT__DISKS__:12:/srv/a:b/__LIBVIRT__DISKS__:0').sanlock?.lockspace,
    ).toMatchObject({
      hostId: 12,
      path: '/srv/a:b/__LIBVIRT__DISKS__',
    })
  })
})

describe('what a sanlock holds', () => {
  const R = `r __LIBVIRT__DISKS__:${FIL}:/media/leases/${FIL}:0:1 p 142`
  const heldWith = (line: string) => changed('running', R, line).sanlock?.held

  test('with a version of more than one digit', () => {
    expect(heldWith(R.replace(':0:1 p', ':0:1234 p'))).toEqual([{ name: FIL, pid: 142, shared: false }])
  })

  test('shared', () => {
    expect(heldWith(R.replace(':0:1 p', ':0:SH p'))).toEqual([{ name: FIL, pid: 142, shared: true }])
  })

  test('in another lockspace is nothing of ours', () => {
    expect(heldWith(R.replace('__LIBVIRT__DISKS__:', 'oVirt:'))).toEqual([])
  })

  test.each(['add', 'rem', 'orphan'])('what is on its way (%s) is not held', list => {
    expect(changed('running', 'list=held', `list=${list}`).sanlock?.held).toEqual([])
  })

  test('many, by several processes', () => {
    const names = Array.from({ length: 8 }, (_, at) => String(at).repeat(32))
    const lines = names.map((name, at) => R.replaceAll(FIL, name).replace('142', String(200 + at)))
    expect(heldWith(lines.join('\nstatus\t'))?.map(({ name, pid }) => [name, pid])).toEqual(
      names.map((name, at) => [name, 200 + at]),
    )
  })

  test('a watchdog', () => {
    expect(changed('running', 'use_watchdog=0', 'use_watchdog=1').sanlock?.watchdog).toBe(true)
  })
})

test.each([
  ['LIVE', 'live'],
  ['FAIL', 'fail'],
  ['DEAD', 'dead'],
  ['FREE', 'free'],
  ['UNKNOWN', 'unknown'],
  ['BUSY', 'unknown'],
] as const)('a host that sanlock calls %s is %s', (word, state) => {
  const { sanlock } = changed('running', /(h 2 gen )1( timestamp \d+) LIVE/, `$13$2 ${word}`)
  expect(sanlock?.hosts.get(2)).toMatchObject({ hostId: 2, generation: 3, state })
})

test("another program's lockspace beside it, whose hosts have the same numbers, says nothing of ours", () => {
  const other = 'gets\ts lvm_vg:1:/dev/vg/lvmlock:0 \ngets\th 2 gen 9 timestamp 5 DEAD\n'
  const text = recorded('running')
  const before = parsed(text).leases.sanlock?.hosts
  expect(parsed(text.replace(/^gets\t/m, `${other}gets\t`)).leases.sanlock?.hosts).toEqual(before)
  expect(parsed(text.replace(/^(gets\th [\s\S]*?\n)(?!gets)/m, `$1${other}`)).leases.sanlock?.hosts).toEqual(before)
  expect(before?.get(2)).toMatchObject({ state: 'live' })
})

test('sanlock that could not tell of hosts in time: none is known to live', () => {
  const text = recorded('running').replaceAll(/^(gets|watched)\t.*\n/gm, '')
  expect(parsed(text).leases.sanlock).toMatchObject({ hosts: new Map(), held: [{ name: FIL }] })
})

describe('daemons', () => {
  test('the split virtqemud is the service that runs domains, and its own process is no domain', () => {
    const leases = changed('running', 'process\tlibvirtd\t109', 'process\tvirtqemud\t109')
    expect(leases.service).toBe('virtqemud')
    expect(leases.pids).toEqual(new Map([['fil', 142]]))
  })

  test('a virtlockd that was started after libvirt', () => {
    const lockd = /process\tvirtlockd\t(\d+)\t\d+/
    expect(changed('lockd', lockd, 'process\tvirtlockd\t$1\t99999999').lockd?.newerThanLibvirt).toBe(true)
    const libvirt = Number(/process\tlibvirtd\t\d+\t(\d+)/.exec(recorded('lockd'))?.[1])
    // By its socket, while libvirt was starting: that one knows it.
    const soon = `process\tvirtlockd\t$1\t${libvirt + 500}`
    expect(changed('lockd', lockd, soon).lockd?.newerThanLibvirt).toBe(false)
  })

  test('a virtlockd without a lockspace holds the disks themselves, and nothing else that it has open', () => {
    const text = recorded('lockd')
      .replace(/setting\tlockd\tfile_lockspace_dir.*\n/, '')
      .replaceAll(/^(?:folder|mounted)\t.*\n/gm, '')
      .replace(/^lock\t.*lockd\/[0-9a-f]{64}$/m, 'lock\t/media/images/lok.img\nlock\t/dev/vg/gone (deleted)')
    expect(parsed(text).leases.lockd?.held.map(({ name }) => name)).toEqual(['/media/images/lok.img', '/dev/vg/gone'])
  })

  test.each([
    ['runs with a device', ['process\twdmd\t30\t5', 'device\t/dev/watchdog'], true],
    ['runs without one', ['process\twdmd\t30\t5'], false],
    ['does not run', ['device\t/dev/watchdog'], false],
  ])('wdmd %s', (_, lines, wdmd) => {
    expect(parsed(`${lines.join('\n')}\n${recorded('running')}`).leases.wdmd).toBe(wdmd)
  })

  test("links by the kernel's name of their disk", () => {
    const lines = 'link\twwn-0x5000\t../../sda\nlink\tscsi-35000\t../../sda\nlink\tdm-name-a\t../../dm-0\n'
    expect(parsed(lines + recorded('running')).leases.stableNames).toEqual(
      new Map([
        ['sda', ['wwn-0x5000', 'scsi-35000']],
        ['dm-0', ['dm-name-a']],
      ]),
    )
  })

  test('sanlock without a user of its own runs as root', () => {
    expect(changed('running', /^user\t.*\n/m, '').user).toBe('root')
  })

  test('a folder that is not there', () => {
    const text = recorded('running')
      .replace(/^folder\t.*$/m, 'folder\t/media/leases')
      .replace(/^mounted\t.*\n/m, '')
    expect(parsed(text).leases.folder).toEqual({
      path: '/media/leases',
      exists: false,
      filesystem: '',
      source: '',
      options: '',
    })
  })
})

describe('an answer that is not whole', () => {
  test.each(['running', 'idle', 'nosanlock', 'lockd'])('cut off anywhere is none: %s', situation => {
    const text = recorded(situation).trimEnd()
    fc.assert(
      fc.property(fc.nat(text.length - 1), at => {
        expect(parseLeases(text.slice(0, at))).toBeUndefined()
      }),
    )
  })

  test('of any text nothing is thrown', () => {
    const line = fc.tuple(
      fc.constantFrom(
        'setting',
        'process',
        'status',
        'gets',
        'watched',
        'file',
        'hosts',
        'leaders',
        'pid',
        'lock',
        'folder',
      ),
      fc.array(fc.string()),
    )
    fc.assert(
      fc.property(fc.array(line), lines => {
        const text = lines.map(([key, rest]) => [key, ...rest].join('\t')).join('\n')
        expect(parseLeases(`${text}\nend\n`)).toBeDefined()
      }),
    )
  })
})

// ---- the files ------------------------------------------------------------------------------------------------------------

const pack = (bytes: Buffer) => gzipSync(bytes).toString('base64')
const packed = (situation: string, key: string) =>
  gunzipSync(Buffer.from(new RegExp(`^${key}\t(.*)$`, 'm').exec(recorded(situation))?.[1] ?? '', 'base64'))

/** The first sectors as head(1) prints them, each file's name before its own. */
function heads(files: Readonly<Record<string, Buffer>>): string {
  const parts = Object.entries(files).map(([name, bytes], at) =>
    Buffer.concat([Buffer.from(`${at === 0 ? '' : '\n'}==> ${name} <==\n`), bytes]),
  )
  return `leaders\t${pack(Buffer.concat(parts))}`
}

const A = Buffer.from(
  readFileSync(join(import.meta.dirname, 'recorded', 'lease-leader.hex'), 'utf8').replaceAll('\n', ''),
  'hex',
)
const RECORD = { ownerId: 1, ownerGeneration: 1, version: 1, timestamp: 58165 }
const OTHER = 'f'.repeat(32)

describe('files of the folder', () => {
  const filesOf = (listed: Readonly<Record<string, number>>, leaders: string) =>
    parsed(
      withLines(
        'idle',
        ...Object.entries(listed).map(([name, bytes]) => `file\t${bytes}\t1700000000\t${name}`),
        leaders,
      ),
    ).files

  test('in the order of the listing, each with its own record', () => {
    const files = filesOf({ [OTHER]: 1048576, [FIL]: 1048576 }, heads({ [OTHER]: Buffer.alloc(512), [FIL]: A }))
    expect(files).toEqual([
      { name: OTHER, bytes: 1048576, writtenMs: 1_700_000_000_000, record: undefined },
      { name: FIL, bytes: 1048576, writtenMs: 1_700_000_000_000, record: RECORD },
    ])
  })

  test('one that went between the listing and the reading is left out, and no other is lost', () => {
    const gone = '0'.repeat(32)
    const files = filesOf({ [gone]: 1048576, [FIL]: 1048576, [OTHER]: 1048576 }, heads({ [FIL]: A }))
    expect(files).toMatchObject([{ name: FIL, record: RECORD }])
  })

  test('one that came in between is left out', () => {
    expect(filesOf({ [FIL]: 1048576 }, heads({ [OTHER]: Buffer.alloc(512), [FIL]: A }))).toMatchObject([
      { name: FIL, record: RECORD },
    ])
  })

  test('one that is shorter than a sector is damaged, and the next is read right', () => {
    const files = filesOf({ [OTHER]: 100, [FIL]: 1048576 }, heads({ [OTHER]: A.subarray(0, 100), [FIL]: A }))
    expect(files).toMatchObject([
      { name: OTHER, bytes: 100, record: undefined },
      { name: FIL, record: RECORD },
    ])
  })

  test('one that was cut to nothing after it was listed is damaged, and the next is read right', () => {
    const files = filesOf({ [OTHER]: 1048576, [FIL]: 1048576 }, heads({ [OTHER]: Buffer.alloc(0), [FIL]: A }))
    expect(files.find(({ name }) => name === OTHER)).toMatchObject({ record: undefined })
    expect(files.find(({ name }) => name === FIL)).toMatchObject({ record: RECORD })
  })

  test("a file with another's lease in it, as a copy has, is damaged", () => {
    expect(filesOf({ [OTHER]: 1048576 }, heads({ [OTHER]: A }))).toMatchObject([{ record: undefined }])
  })

  test('bytes that look like the line before another file are only bytes', () => {
    const sly = Buffer.alloc(512)
    sly.write(`\n==> ${FIL} <==\n`, 100)
    A.copy(sly, 100 + 40, 0, 300)
    const files = filesOf({ [OTHER]: 1048576, [FIL]: 1048576 }, heads({ [OTHER]: sly, [FIL]: Buffer.alloc(512) }))
    expect(files).toMatchObject([{ record: undefined }, { name: FIL, record: undefined }])
  })

  test.each([
    ['cut off', (text: string) => text.slice(0, -40)],
    ['no base64', () => 'leaders\t%%%%'],
    ['not packed', () => `leaders\t${Buffer.from('no').toString('base64')}`],
  ])('sectors that are %s hold no record that could be believed', (_, change) => {
    const files = filesOf({ [FIL]: 1048576 }, change(heads({ [FIL]: A })))
    expect(files.flatMap(({ record }) => record ?? [])).toEqual([])
  })
})

describe('hosts of the lockspace', () => {
  const hostsOf = (bytes: Buffer) => parsed(withLines('idle', `hosts\t${pack(bytes)}`)).hosts
  const whole = packed('running', 'hosts')

  test('2000 sectors, of which those count that joined', () => {
    expect(whole.length).toBe(2000 * 512)
    expect([...hostsOf(whole).keys()]).toEqual([1, 2])
  })

  test('a damaged one is left out, and no other', () => {
    const bytes = Buffer.from(whole)
    bytes[40] = 9
    expect([...hostsOf(bytes).keys()]).toEqual([2])
  })

  test('in a file that was cut off, those that are whole', () => {
    expect([...hostsOf(whole.subarray(0, 700)).keys()]).toEqual([1])
  })
})

describe('shares of the files', () => {
  const globOf = (share: string) =>
    share
      .replace('files=', '')
      .split(' ')
      .map(glob => glob.replace('*', ''))

  test('one node reads all', () => {
    expect(shareOf(0, 1)).toBe('files=*')
  })

  test('every name belongs to exactly one of 1 to 60 nodes', () => {
    const name = fc.array(fc.constantFrom(...'0123456789abcdef'), { minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), name, (nodes, digits) => {
        const shares = Array.from({ length: nodes }, (_, at) => globOf(shareOf(at, nodes)))
        const mine = shares.flatMap(prefixes => prefixes.filter(prefix => digits.join('').startsWith(prefix)))
        expect(mine).toHaveLength(1)
      }),
    )
  })

  test('no node has many more than another', () => {
    for (let nodes = 2; nodes <= 60; nodes++) {
      const sizes = Array.from({ length: nodes }, (_, at) => globOf(shareOf(at, nodes)).length)
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
    }
  })
})

// ---- by a real shell --------------------------------------------------------------------------------------------------------

function aFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'havirt-leases-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A folder with programs for PATH, which come before the machine's own. */
function programs(scripts: Readonly<Record<string, string>>): string {
  const bin = aFolder()
  for (const [name, text] of Object.entries(scripts)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(bin, name), 0o755)
  }
  return bin
}

function sh(script: string, { words = [], bin, input = '' }: { words?: string[]; bin?: string; input?: string } = {}) {
  const path = process.env['PATH'] ?? ''
  const env = { ...process.env, PATH: bin === undefined ? path : `${bin}:${path}` }
  return spawnSync('sh', ['-c', script, 'havirt', ...words], { encoding: 'utf8', env, input })
}

/** The script with the places of a node in a folder of ours, and a sanlock that prints what one printed. */
function onATree(script = LEASES_SCRIPT) {
  const root = aFolder()
  const put = (path: string, text: string | Buffer) => {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  for (const folder of ['etc/libvirt', 'proc', 'run/libvirt/qemu', 'dev/disk/by-id'])
    mkdirSync(join(root, folder), { recursive: true })
  const moved = ['/etc/', '/proc/', '/run/', '/dev/disk', '/dev/watchdog', '/usr/lib'].reduce(
    (text, place) => text.replaceAll(place, `${root}${place}`),
    // What begins with the place of another is left alone by the assertion that nothing of this machine shows.
    script,
  )
  return { root, put, run: (bin: string, ...words: string[]) => sh(moved, { words, bin }) }
}

describe('the script that asks', () => {
  test('comes to its end where nothing is installed', () => {
    const { run } = onATree()
    const { stdout, status } = run(programs({ sanlock: 'exit 1', getent: 'exit 2' }), 'hosts', 'files=*')
    expect(status).toBe(0)
    const { leases, hosts, files } = parsed(stdout)
    expect(leases).toMatchObject({
      settings: { manager: '', hostName: '' },
      sanlock: undefined,
      lockd: undefined,
      user: 'root',
      service: 'libvirtd',
      wdmd: false,
    })
    expect([hosts.size, files.length]).toEqual([0, 0])
  })

  test('reads values with and without quotes, and nothing of what stands behind them or in comments', () => {
    const { put, run } = onATree()
    put(
      'etc/libvirt/qemu.conf',
      '#lock_manager = "lockd"\n  lock_manager="sanlock"   # was "lockd"\nlock_manager = "lockd"\n',
    )
    put(
      'etc/libvirt/qemu-sanlock.conf',
      [
        '# host_id = 1',
        '#host_id = 2',
        'host_id = 3 # not 4',
        'disk_lease_dir = "/nowhere/with#hash"',
        '\tauto_disk_leases\t=\t1',
        'require_lease_for_disks=1',
        'user = "root" # the "other"',
        'io_timeout = 0',
        '',
      ].join('\n'),
    )
    put('etc/sanlock/sanlock.conf', '# our_host_name = no\nour_host_name = node7\nuse_watchdog = 0\n')
    const { settings } = parsed(run(programs({ sanlock: 'exit 1' })).stdout).leases
    expect(settings.manager).toBe('sanlock')
    expect(Object.fromEntries(settings.sanlock)).toEqual({
      host_id: '3',
      disk_lease_dir: '/nowhere/with#hash',
      auto_disk_leases: '1',
      require_lease_for_disks: '1',
      user: 'root',
      io_timeout: '0',
    })
    expect(settings.hostName).toBe('node7')
  })

  test('hands over what sanlock says, and reads the files of its folder', () => {
    const { root, put, run } = onATree()
    const folder = join(root, 'leases')
    put('etc/libvirt/qemu.conf', 'lock_manager = "sanlock"\n')
    put('etc/libvirt/qemu-sanlock.conf', `disk_lease_dir = "${folder}"\n`)
    put(`leases/${FIL}`, Buffer.concat([A, Buffer.alloc(4096)]))
    put(`leases/${OTHER}`, A.subarray(0, 10))
    put('leases/readme', 'no lease')
    put(`leases/${FIL}.old`, A)
    put('leases/__LIBVIRT__DISKS__', packed('running', 'hosts'))
    const said = (key: string) =>
      recorded('running')
        .split('\n')
        .flatMap(line => (line.startsWith(`${key}\t`) ? [line.slice(key.length + 1)] : []))
        .join('\n')
    const bin = programs({
      sanlock: `case "$*" in\n'client status -D') cat <<'END'\n${said('status')}\nEND\n;;\n'client gets -h 1') cat <<'END'\n${said('gets')}\nEND\n;;\n'client host_status -s __LIBVIRT__DISKS__ -D') cat <<'END'\n${said('watched')}\nEND\n;;\n*) exit 1;; esac`,
    })
    const { leases, hosts, files } = parsed(run(bin, 'hosts', 'files=*').stdout)
    expect(leases.sanlock).toEqual(parsed(recorded('running')).leases.sanlock)
    expect(leases.folder).toMatchObject({ path: folder, exists: true })
    expect([...hosts.keys()]).toEqual([1, 2])
    expect(files).toMatchObject([
      { name: FIL, bytes: 512 + 4096, record: RECORD },
      { name: OTHER, bytes: 10, record: undefined },
    ])
  })

  test('reads the share that it is asked for, and no more; also where daemons run', () => {
    const { root, put, run } = onATree()
    put('etc/libvirt/qemu.conf', 'lock_manager = "sanlock"\n')
    put('etc/libvirt/qemu-sanlock.conf', `disk_lease_dir = "${root}/leases"\n`)
    const fields = Array.from({ length: 50 }, (_, at) => String(at + 3)).join(' ')
    put('proc/77/comm', 'libvirtd\n')
    put('proc/77/stat', `77 (lib) virtd) S ${fields.split(' ').slice(1).join(' ')}\n`)
    const names = Array.from({ length: 256 }, (_, at) => at.toString(16).padStart(2, '0') + 'a'.repeat(30))
    for (const name of names) put(`leases/${name}`, A)
    const bin = programs({ sanlock: 'exit 1' })
    const read = [0, 1, 2].map(at => parsed(run(bin, shareOf(at, 3)).stdout).files.map(({ name }) => name))
    expect(read.flat().sort()).toEqual(names)
    expect(read.map(({ length }) => length)).toEqual([86, 85, 85])
    expect(parsed(run(bin).stdout).files).toEqual([])
    // The 22nd field of stat, counted from behind the name, which may hold anything.
    expect(run(bin).stdout).toContain('process\tlibvirtd\t77\t22\n')
  })

  test('says which domains have which process', () => {
    const { put, run } = onATree()
    put('run/libvirt/qemu/web.pid', '4711')
    put('run/libvirt/qemu/my domain.pid', '4712\n')
    expect(parsed(run(programs({ sanlock: 'exit 1' })).stdout).leases.pids).toEqual(
      new Map([
        ['web', 4711],
        ['my domain', 4712],
      ]),
    )
  })
})

/** A sanlock that gives every lease but those in the file `taken`, and runs the command that it is given. */
const SANLOCK = (folder: string) => `echo "$@" >>${folder}/calls
name=$(echo "$4" | cut -d: -f2)
if grep -qx "$name" ${folder}/taken; then echo "acquire error -243" >&2; echo 'and more' >&2; exit 1; fi
shift 5
[ "$(basename "$1")" = rm ] || exit 9
exec "$@"`

describe('removing leases', () => {
  function aLeaseFolder(taken: readonly string[], ...names: readonly string[]) {
    const leases = aFolder()
    const notes = aFolder()
    for (const name of names) writeFileSync(join(leases, name), 'x')
    writeFileSync(join(notes, 'taken'), taken.map(name => `${name}\n`).join(''))
    const remove = (...wanted: readonly string[]) =>
      sh(REMOVE_SCRIPT, {
        words: [leases],
        bin: programs({ sanlock: SANLOCK(notes) }),
        input: wanted.map(name => `${name}\n`).join(''),
      }).stdout
    return { leases, remove, calls: () => readFileSync(join(notes, 'calls'), 'utf8').trim().split('\n') }
  }

  test('each goes while its lease is held, and nothing else goes', () => {
    const { leases, remove, calls } = aLeaseFolder([], FIL, SHR, OTHER)
    const said = remove(FIL, SHR)
    expect(parseRemoved(said)).toEqual(
      new Map([
        [FIL, 'removed'],
        [SHR, 'removed'],
      ]),
    )
    expect(readdirSync(leases)).toEqual([OTHER])
    expect(calls()[0]).toBe(
      `client command -r __LIBVIRT__DISKS__:${FIL}:${leases}/${FIL}:0 -c /bin/rm -f ${leases}/${FIL}`,
    )
    expect(said.endsWith('end\n')).toBe(true)
  })

  test('what somebody has stays, and why is said in one line', () => {
    const { leases, remove } = aLeaseFolder([SHR], FIL, SHR)
    expect(parseRemoved(remove(SHR, FIL))).toEqual(
      new Map<string, unknown>([
        [SHR, { kept: 'acquire error -243 and more' }],
        [FIL, 'removed'],
      ]),
    )
    expect(readdirSync(leases)).toEqual([SHR])
  })

  test('a sanlock that says nothing and does nothing removes nothing', () => {
    const leases = aFolder()
    writeFileSync(join(leases, FIL), 'x')
    const { stdout } = sh(REMOVE_SCRIPT, { words: [leases], bin: programs({ sanlock: 'exit 0' }), input: `${FIL}\n` })
    expect(parseRemoved(stdout)).toEqual(new Map([[FIL, { kept: '' }]]))
    expect(existsSync(join(leases, FIL))).toBe(true)
  })

  test('cut off, what was not come to is not there', () => {
    const text = `removed\t${FIL}\nkept\t${SHR}\tacquire error\nremo`
    expect([...parseRemoved(text).keys()]).toEqual([FIL, SHR])
  })
})

describe('trying the folder', () => {
  const tried = (dd: string) => {
    const folder = aFolder()
    return { folder, ...sh(DIRECT_SCRIPT, { words: [folder, '.havirt-x'], bin: programs({ dd }) }) }
  }

  test('writes, reads, and leaves nothing', () => {
    const { folder, stdout, status } = tried(
      'for word in "$@"; do case $word in of=/dev/null) ;; of=*) : >"$(echo "$word" | cut -c4-)" ;; esac; done',
    )
    expect([stdout, status]).toEqual(['end\n', 0])
    expect(readdirSync(folder)).toEqual([])
  })

  test('says what dd said where direct I/O does not work, and leaves nothing', () => {
    const { folder, stdout, stderr, status } = tried(
      'for word in "$@"; do case $word in of=*) : >"$(echo "$word" | cut -c4-)" ;; esac; done\necho "dd: failed to open: Invalid argument" >&2; echo more >&2; exit 1',
    )
    expect([stdout, stderr, status]).toEqual(['', 'dd: failed to open: Invalid argument\n', 1])
    expect(readdirSync(folder)).toEqual([])
  })

  test('what can be written but not read is no ground either', () => {
    expect(tried('case "$*" in *iflag=direct*) echo "dd: error reading" >&2; exit 1;; esac')).toMatchObject({
      status: 1,
      stderr: 'dd: error reading\n',
    })
  })

  test('asks for direct I/O both times', () => {
    const { stderr } = tried('echo "$*" | grep -q direct || { echo "dd: not direct" >&2; exit 1; }')
    expect(stderr).toBe('')
  })
})
