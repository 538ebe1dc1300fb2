/** Files are replaced whole or not at all, and what cannot be read is told with its reason. */
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { describe, expect, test } from 'vitest'
import { isShared, readText, replaceFile } from '../../src/ocf/files.ts'
import { temporaryFolder } from '../store/parts.ts'

const modeOf = (path: string) => statSync(path).mode & 0o7777

describe('a file that is replaced', () => {
  test('has the new text and the mode that was asked for, and nothing stays beside it', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'web.xml')
    for (const [text, mode] of [
      ['one', 0o600],
      ['größer\n'.repeat(100_000), 0o640],
      ['', 0o600],
    ] as const) {
      replaceFile(file, text, mode)
      expect(readFileSync(file, 'utf8')).toBe(text)
      expect(modeOf(file)).toBe(mode)
      expect(readdirSync(folder)).toEqual(['web.xml'])
    }
  })

  test('keeps mode and owner where they are given, whatever the umask says', async () => {
    const file = join(await temporaryFolder(), 'web.xml')
    writeFileSync(file, 'old')
    chmodSync(file, 0o664)
    const { uid, gid, mode } = statSync(file)
    const former = process.umask(0o077)
    try {
      replaceFile(file, 'new', mode & 0o7777, { uid, gid })
    } finally {
      process.umask(former)
    }
    expect(statSync(file)).toMatchObject({ uid, gid, mode })
  })

  test('is another file than the one that somebody has open', async () => {
    const file = join(await temporaryFolder(), 'web.xml')
    writeFileSync(file, 'old')
    const before = statSync(file).ino
    replaceFile(file, 'new', 0o600)
    expect(statSync(file).ino).not.toBe(before)
  })

  test('is never what a crash has left beside it', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'web.xml')
    writeFileSync(file, 'old')
    const left = [`${file}.1.new`, `${file}.new`]
    for (const each of left) writeFileSync(each, '<dom')
    replaceFile(file, 'new', 0o600)
    expect(readFileSync(file, 'utf8')).toBe('new')
    for (const each of left) expect(readFileSync(each, 'utf8')).toBe('<dom')
  })

  test('stays as it was when the new one cannot be put in its place', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'web.xml')
    mkdirSync(file)
    writeFileSync(join(file, 'inside'), 'x')
    expect(() => replaceFile(file, 'new', 0o600)).toThrow()
    expect(readdirSync(folder)).toEqual(['web.xml'])
    expect(() => replaceFile(join(folder, 'no', 'web.xml'), 'new', 0o600)).toThrow(/ENOENT/)
  })

  test('is not made through a link that somebody has laid for it', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'web.xml')
    writeFileSync(join(folder, 'victim'), 'whole')
    symlinkSync(join(folder, 'victim'), `${file}.${process.pid}.new`)
    expect(() => replaceFile(file, 'new', 0o600)).toThrow(/EEXIST/)
    expect(readFileSync(join(folder, 'victim'), 'utf8')).toBe('whole')
  })

  test('stays as it was when the disk takes only a part of the new text', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'web.xml')
    writeFileSync(file, 'old')
    const program = join(folder, 'program.cjs')
    const contents = `import { replaceFile } from './files.ts'
      replaceFile(process.argv[2] ?? '', 'x'.repeat(100_000), 0o600)`
    await build({
      stdin: { contents, resolveDir: join(import.meta.dirname, '../../src/ocf'), loader: 'ts' },
      bundle: true,
      platform: 'node',
      format: 'cjs',
      outfile: program,
    })
    // A limit of the shell acts like a full disk: the first write is short, the next one fails. Units are 512 or 1024 bytes.
    const limited = `ulimit -f 16; trap '' XFSZ; exec "$@"`
    const exit = await promisify(execFile)('sh', ['-c', limited, 'sh', process.execPath, program, file]).then(
      () => 0,
      error => error.code as number,
    )
    expect({ text: readFileSync(file, 'utf8'), failed: exit !== 0 }).toEqual({ text: 'old', failed: true })
  })
})

describe('a file that is read', () => {
  test('gives its text as it is', async () => {
    const file = join(await temporaryFolder(), "it's a file")
    for (const text of ['', 'größe\r\n', '\ufeff<x/>', 'x'.repeat(1_000_000)]) {
      writeFileSync(file, text)
      expect(await readText(file)).toEqual({ text })
    }
  })

  test('or says why not, as the end of a sentence', async () => {
    const folder = await temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    symlinkSync('loop', join(folder, 'loop'))
    expect(await readText(folder)).toEqual({ problem: 'is a folder' })
    expect(await readText(join(folder, 'no'))).toEqual({ problem: 'does not exist' })
    expect(await readText(join(folder, 'file', 'below'))).toEqual({ problem: 'does not exist' })
    expect(await readText(join(folder, 'loop'))).toEqual({ problem: expect.stringMatching(/^cannot be read: ELOOP/) })
  })

  test.skipIf(process.getuid?.() === 0)('that is closed to us may not be read', async () => {
    const file = join(await temporaryFolder(), 'file')
    writeFileSync(file, '', { mode: 0 })
    expect(await readText(file)).toEqual({ problem: 'may not be read' })
  })
})

test("what the kernel itself serves lies on no share, and neither does a path that is nobody's", () => {
  for (const path of ['/proc/self/status', '/proc', '/sys/kernel', '/proc-other', ''])
    expect(isShared(path)).toBe(false)
})
