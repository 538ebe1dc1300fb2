/** The folder conf/: definitions come and go whole, old ones are kept, and what is no definition is named and left alone. */
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { MAX_XML_BYTES } from '../../src/core/xml.ts'
import { DefinitionFolder, sha256 } from '../../src/store/definitions.ts'
import { StoreError } from '../../src/store/store.ts'
import { domainXml, listing, temporaryFolder } from './parts.ts'

let home = ''
let definitions = new DefinitionFolder('')
const conf = (file: string) => join(home, 'conf', file)
const history = (...path: string[]) => join(home, 'var', 'definitions', ...path)

beforeEach(async () => {
  home = await temporaryFolder()
  await mkdir(join(home, 'conf'))
  await mkdir(join(home, 'var'))
  definitions = new DefinitionFolder(home)
})

describe('reading', () => {
  test('a definition is its text, its hash and what it says', async () => {
    await writeFile(conf('web.xml'), domainXml())
    const read = await definitions.read('web')
    expect(read).toMatchObject({ name: 'web', path: conf('web.xml'), text: domainXml(), sha256: sha256(domainXml()) })
    expect(read?.domain).toMatchObject({ name: 'web', memoryMiB: 256 })
    expect(read).not.toHaveProperty('problem')
  })

  test('a file that is not there is undefined, and a folder that is not there is empty', async () => {
    expect(await definitions.read('web')).toBeUndefined()
    expect(await new DefinitionFolder(join(home, 'nowhere')).all()).toEqual(new Map())
  })

  test('a broken definition is among all, with path, line and field', async () => {
    await writeFile(conf('web.xml'), domainXml())
    await writeFile(conf('cut.xml'), domainXml().slice(0, 40))
    await writeFile(conf('bad.xml'), domainXml().replace('256', 'much'))
    const all = await definitions.all()
    expect([...all.keys()]).toEqual(['bad', 'cut', 'web'])
    expect(all.get('cut')?.domain).toBeUndefined()
    expect(all.get('cut')?.problem).toMatch(/conf\/cut\.xml: line 3, /)
    expect(all.get('bad')?.problem).toMatch(/conf\/bad\.xml: line 4, .*memory/)
    expect(all.get('bad')?.sha256).toBe(sha256(domainXml().replace('256', 'much')))
  })

  test('leftovers, hidden files and names that no domain has are not looked at', async () => {
    const others = ['web.xml.0f.new', '.hidden.xml', '-x.xml', 'README', 'web.xml~', '.xml', 'a\tb.xml']
    for (const file of [...others, 'größe.xml', 'web.xml']) await writeFile(conf(file), domainXml())
    expect(await definitions.names()).toEqual(['größe', 'web'])
  })

  test('a file that is too big is not read', async () => {
    await writeFile(conf('big.xml'), 'x'.repeat(MAX_XML_BYTES + 1))
    const { problem, text } = (await definitions.read('big')) ?? {}
    expect(problem).toBe(`${conf('big.xml')} has ${MAX_XML_BYTES + 1} bytes; a definition has at most ${MAX_XML_BYTES}`)
    expect(text).toBe('')
  })

  test('a folder or a pipe in place of the file is a problem, not a wait', async () => {
    await mkdir(conf('folder.xml'))
    execFileSync('mkfifo', [conf('pipe.xml')])
    for (const name of ['folder', 'pipe'])
      expect((await definitions.read(name))?.problem).toBe(`${conf(`${name}.xml`)} is not a file`)
  })

  test('a link that leads nowhere is no definition, and one in a circle is a problem', async () => {
    await symlink('nowhere', conf('gone.xml'))
    await symlink('circle.xml', conf('circle.xml'))
    expect(await definitions.read('gone')).toBeUndefined()
    expect((await definitions.read('circle'))?.problem).toContain('ELOOP')
  })

  test.skipIf(process.getuid?.() === 0)('a file that may not be read is a problem (not as root)', async () => {
    await writeFile(conf('web.xml'), domainXml())
    await chmod(conf('web.xml'), 0)
    expect((await definitions.read('web'))?.problem).toContain('EACCES')
  })
})

describe('names', () => {
  test.each(['', '.', '..', '../web', '/etc/passwd', 'a/b', '-rf', '.web', 'a\nb', 'a\0b', 'x'.repeat(201), 'web '])(
    '%j is refused wherever it comes',
    async name => {
      expect(() => definitions.path(name)).toThrow(StoreError)
      await expect(definitions.read(name)).rejects.toThrow("cannot be a domain's name")
      await expect(definitions.write(name, domainXml(), undefined)).rejects.toThrow(StoreError)
      expect(await readdir(home, { recursive: true })).toEqual(['conf', 'var'])
    },
  )
})

describe('writing', () => {
  const text = (version: number) => `${domainXml()}<!-- ${version} -->\n`

  test('a first definition is a file that only we may read, and nothing else is left', async () => {
    await definitions.write('web', text(1), undefined)
    expect(await readFile(conf('web.xml'), 'utf8')).toBe(text(1))
    expect((await stat(conf('web.xml'))).mode & 0o777).toBe(0o600)
    expect(await readdir(home, { recursive: true })).toEqual(['conf', 'var', 'conf/web.xml'])
  })

  test('the version before is kept, byte for byte, for nobody else', async () => {
    const latin1 = Buffer.from(`${domainXml()}<!-- gr\xf6\xdfe -->\n`, 'latin1')
    await writeFile(conf('web.xml'), latin1)
    await definitions.write('web', text(2), sha256(latin1))
    expect(await readFile(history('web', '1.xml'))).toEqual(latin1)
    expect((await stat(history('web', '1.xml'))).mode & 0o777).toBe(0o600)
    expect((await stat(history('web'))).mode & 0o777).toBe(0o700)
    expect((await stat(conf('web.xml'))).mode & 0o777).toBe(0o600)
  })

  test('the last eight versions are kept, and files that others put there', async () => {
    await definitions.write('web', text(0), undefined)
    await definitions.write('web', text(1), sha256(text(0)))
    await writeFile(history('web', '1 (copy).xml'), 'mine')
    for (let version = 2; version <= 12; version++)
      await definitions.write('web', text(version), sha256(text(version - 1)))
    const kept = (await readdir(history('web'))).sort()
    expect(kept).toEqual(['1 (copy).xml', '10.xml', '11.xml', '12.xml', ...[5, 6, 7, 8, 9].map(n => `${n}.xml`)])
    expect(await readFile(history('web', '12.xml'), 'utf8')).toBe(text(11))
  })

  test.each([
    ['changed', async () => writeFile(conf('web.xml'), text(2)), sha256(text(1))],
    ['removed', async () => undefined, sha256(text(1))],
    ['appeared', async () => writeFile(conf('web.xml'), text(2)), undefined],
  ])('a file that %s meanwhile is left alone', async (_what, meanwhile, replaces) => {
    await meanwhile()
    const before = await listing(home)
    const written = definitions.write('web', text(3), replaces)
    await expect(written).rejects.toThrow('was changed by somebody else in the meantime')
    expect(await listing(home)).toEqual(before)
  })

  test('what cannot be read is not replaced, since it could not be kept', async () => {
    await writeFile(conf('big.xml'), 'x'.repeat(MAX_XML_BYTES + 1))
    await mkdir(conf('folder.xml'))
    const before = await listing(home)
    await expect(definitions.write('big', text(1), '')).rejects.toThrow('a definition has at most')
    await expect(definitions.write('folder', text(1), '')).rejects.toThrow('is not a file')
    expect(await listing(home)).toEqual(before)
  })

  test('a history that cannot be written stops the write, in words', async () => {
    await writeFile(history(), 'a file in the way')
    await definitions.write('web', text(1), undefined)
    const written = definitions.write('web', text(2), sha256(text(1)))
    await expect(written).rejects.toThrow(/conf\/web\.xml could not be written: ENOTDIR|EEXIST/)
    await expect(written).rejects.toBeInstanceOf(StoreError)
    expect(await readFile(conf('web.xml'), 'utf8')).toBe(text(1))
    expect(await readdir(join(home, 'conf'))).toEqual(['web.xml'])
  })

  test('a conf/ that is gone is said in words', async () => {
    const written = new DefinitionFolder(join(home, 'nowhere')).write('web', text(1), undefined)
    await expect(written).rejects.toThrow(/conf\/web\.xml could not be written: ENOENT/)
  })
})
