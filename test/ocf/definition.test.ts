/** The definition file: who the domain is, and the tag, which is put in and taken out without touching another byte. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { attr, child, children, parseXml, textOf } from '../../src/core/xml.ts'
import {
  diskPathsOf,
  readDefinition,
  resourcesOf,
  TAG_NAMESPACE,
  tagged,
  taggedBy,
  toDefinition,
  untagged,
} from '../../src/ocf/definition.ts'
import { temporaryFolder } from '../store/parts.ts'

const UUID = '71c0e72b-1fc2-0c35-5a7d-1ac80702ff0e'
const FRESH = '00000000-1111-4222-8333-444444444444'
const INSTANCE = 'web'
const PATH = '/srv/web.xml'

const tag = (instance = 'other') => `<havirt:resource xmlns:havirt="${TAG_NAMESPACE}" instance="${instance}"/>`
const domain = (...content: string[]) => `<domain type="kvm">\n  ${content.join('\n  ')}\n</domain>\n`
const NAME = '<name>web</name>'
const OWN = `<uuid>${UUID}</uuid>`
const FOREIGN = '<app:x xmlns:app="http://example.org/app" instance="web"><app:y>1 &lt; 2</app:y></app:x>'

/** Definitions whose metadata holds something, or that have none: nothing at all may change. */
const EXACT: Record<string, string> = {
  'one line': `<domain>${NAME}${OWN}</domain>`,
  'one line without a uuid': `<domain>${NAME}</domain>`,
  'many lines': domain(NAME, OWN, '<memory unit="KiB">1024</memory>', '<devices>', '  <emulator/>', '</devices>'),
  'many lines without a uuid': domain(NAME, '<memory>1024</memory>'),
  'foreign metadata': domain(NAME, OWN, '<metadata>', `  ${FOREIGN}`, '</metadata>'),
  'foreign metadata on one line': domain(NAME, `<metadata>${FOREIGN}</metadata>`, OWN),
  'foreign metadata in a default namespace': domain(
    NAME,
    '<metadata><resource xmlns="urn:example" instance="web"/></metadata>',
  ),
  'foreign metadata with the same prefix': domain(
    NAME,
    '<metadata><havirt:resource xmlns:havirt="urn:example" instance="web"/></metadata>',
  ),
  'another element of the same namespace': domain(
    NAME,
    `<metadata><havirt:note xmlns:havirt="${TAG_NAMESPACE}" instance="web"/></metadata>`,
  ),
  'metadata with text': domain(NAME, OWN, '<metadata>text &amp; more</metadata>'),
  comments: `<!-- first -->\n<domain><!-- <metadata/> -->${NAME}<!-- <uuid>no</uuid> --></domain>\n<!-- last -->\n`,
  'a comment beside foreign metadata': domain(NAME, `<metadata><!-- mine -->${FOREIGN}</metadata>`),
  CDATA: domain(NAME, OWN, '<description><![CDATA[</domain> <metadata/> & ]]></description>'),
  'the name in CDATA': domain('<name><![CDATA[web]]></name>'),
  entities: domain('<name>a&amp;b &#x3c;&quot;</name>', OWN, '<title>&lt;metadata/&gt;</title>'),
  'a declaration': `<?xml version='1.0' encoding='UTF-8'?>\n${domain(NAME)}`,
  'a byte order mark': `\ufeff${domain(NAME, OWN)}`,
  'CRLF at the line ends': domain(NAME, OWN, '<metadata>', FOREIGN, '</metadata>').replaceAll('\n', '\r\n'),
  'CRLF without metadata': domain(NAME).replaceAll('\n', '\r\n'),
  'other namespaces': `<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">${NAME}<qemu:commandline><qemu:arg value="-x"/></qemu:commandline></domain>`,
  'a namespace of its own behind the prefix havirt': `<domain xmlns:havirt="urn:example">${NAME}<havirt:x/></domain>`,
  'the uuid last': domain(NAME, '<devices/>', OWN),
  'a uuid without dashes, in capitals': domain(NAME, `<uuid>${UUID.replaceAll('-', '').toUpperCase()}</uuid>`),
  'letters of all kinds': domain('<name>größe-🖥</name>', '<description>日本語\u2028</description>'),
  'no line end at the end': `<domain>\n${NAME}</domain>`,
  'metadata inside of something else': domain(NAME, '<x><metadata/></x>'),
}

/** Metadata in which nothing was: an empty element says as much as none. */
const EMPTY: Record<string, string> = {
  'self-closing': '<metadata/>',
  'self-closing with a space': '<metadata />',
  'on one line': '<metadata></metadata>',
  'on two lines': '<metadata>\n  </metadata>',
}

const read = (text: string) => toDefinition(PATH, text)
const freshUuid = () => FRESH

function tagsOf(text: string): (string | undefined)[] {
  return children(child(parseXml(text), 'metadata'), 'havirt:resource')
    .filter(each => attr(each, 'xmlns:havirt') === TAG_NAMESPACE)
    .map(each => attr(each, 'instance'))
}

/** The text as it would be with the uuid that was added, and nothing else. */
function withoutFresh(text: string): string {
  return text.replace(`<uuid>${FRESH}</uuid>`, '')
}

/** All pieces of `whole` stand in `text`, in order: nothing was lost or changed, whatever was put between. */
function isWithin(whole: string, text: string): boolean {
  let at = 0
  for (const character of text) if (at < whole.length && whole.startsWith(character, at)) at += character.length
  return at === whole.length
}

describe.each(Object.entries(EXACT))('with %s', (_, text) => {
  test('a tagged definition has the tag once, the same name, and a uuid', () => {
    const definition = read(text)
    const done = tagged(definition, INSTANCE, freshUuid)
    const root = parseXml(done.text)
    expect(tagsOf(done.text)).toEqual([INSTANCE])
    expect(taggedBy(done.text)).toBe(INSTANCE)
    expect(children(root, 'metadata')).toHaveLength(1)
    expect(textOf(child(root, 'name'))).toBe(definition.name)
    expect(children(root, 'uuid')).toHaveLength(1)
    expect(toDefinition(PATH, done.text).uuid).toBe(done.uuid)
    expect(done.uuid).toBe(definition.uuid ?? FRESH)
  })

  test('untagged is as it was, except for the uuid that was added', () => {
    expect(withoutFresh(untagged(tagged(read(text), INSTANCE, freshUuid).text))).toBe(text)
  })

  test('every byte of it stays while it is tagged', () => {
    expect(isWithin(text, tagged(read(text), INSTANCE, freshUuid).text)).toBe(true)
  })

  test('tagged twice has one tag, of the last', () => {
    const once = tagged(read(text), 'first', freshUuid).text
    const twice = tagged(read(once), 'second', freshUuid).text
    expect(tagsOf(twice)).toEqual(['second'])
    expect(twice.replace('second', 'first')).toBe(once)
  })

  test('without a tag it is nobody’s, and stays as it is', () => {
    expect(taggedBy(text)).toBeUndefined()
    expect(untagged(text)).toBe(text)
  })
})

describe.each(Object.entries(EMPTY))('with empty metadata, %s', (_, metadata) => {
  const text = domain(NAME, OWN, metadata, '<devices/>')

  test('the tag goes into it', () => {
    const done = tagged(read(text), INSTANCE, freshUuid).text
    expect(tagsOf(done)).toEqual([INSTANCE])
    expect(children(parseXml(done), 'metadata')).toHaveLength(1)
  })

  test('untagged has the rest as it was', () => {
    const without = domain(NAME, OWN, '<devices/>')
    const back = untagged(tagged(read(text), INSTANCE, freshUuid).text)
    expect([text, without]).toContain(back)
  })
})

test.each(['<uuid/>', '<uuid></uuid>', '<uuid>\n  </uuid>'])(
  'an empty %s takes the uuid, since libvirt would not look at a second one',
  empty => {
    const { text, uuid } = tagged(read(domain(NAME, empty)), INSTANCE, freshUuid)
    expect(uuid).toBe(FRESH)
    expect(children(parseXml(text), 'uuid').map(each => textOf(each))).toEqual([FRESH])
  },
)

describe('the tag', () => {
  test.each([
    `a"b`,
    "it's",
    'a<b',
    'a>b',
    'a&b',
    '&quot;',
    '&amp;quot;',
    ']]>',
    'grp:web:0',
    'größe',
    ' a  b ',
    '--',
    '{}$&',
  ])('is found again for %j', instance => {
    const done = tagged(read(EXACT['foreign metadata'] ?? ''), instance, freshUuid).text
    expect(taggedBy(done)).toBe(instance)
    expect(untagged(done)).toBe(EXACT['foreign metadata'])
  })

  test('is found again for any name, in any definition', () => {
    const printable = fc
      .string({ unit: 'binary' })
      .map(text => text.replace(/[^ -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '?'))
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(EXACT)), printable, (text, instance) => {
        const done = tagged(read(text), instance, freshUuid).text
        expect(taggedBy(done)).toBe(instance)
        expect(withoutFresh(untagged(done))).toBe(text)
      }),
    )
  })

  test.each([
    ['another prefix', `<h:resource xmlns:h="${TAG_NAMESPACE}" instance="web"/>`],
    ['a default namespace', `<resource xmlns="${TAG_NAMESPACE}" instance="web"/>`],
    ['more attributes and an end', `<h:resource a="1" instance='web' xmlns:h='${TAG_NAMESPACE}'></h:resource>`],
  ])('is found with %s', (_, written) => {
    const text = domain(NAME, `<metadata>${FOREIGN}${written}</metadata>`)
    expect(taggedBy(text)).toBe('web')
    expect(untagged(text)).toBe(domain(NAME, `<metadata>${FOREIGN}</metadata>`))
  })

  test('is not read outside of metadata', () => {
    expect(taggedBy(domain(NAME, `<devices>${tag()}</devices>`))).toBeUndefined()
    expect(taggedBy(domain(NAME, `<metadata><app:x xmlns:app="urn:x">${tag()}</app:x></metadata>`))).toBeUndefined()
  })

  test('goes with its line as libvirt prints it, and with metadata that held nothing else', () => {
    const printed = (...lines: string[]) =>
      `<domain type='kvm' id='1'>\n${lines.map(line => `  ${line}\n`).join('')}</domain>\n`
    expect(untagged(printed(NAME, '<metadata>', `  ${tag()}`, '</metadata>', '<devices/>'))).toBe(
      printed(NAME, '<devices/>'),
    )
    expect(untagged(printed(NAME, '<metadata>', `  ${FOREIGN}`, `  ${tag()}`, '</metadata>'))).toBe(
      printed(NAME, '<metadata>', `  ${FOREIGN}`, '</metadata>'),
    )
    expect(untagged(printed(NAME, '<metadata>', `  ${tag('a')}`, `  ${tag('b')}`, `  ${FOREIGN}`, '</metadata>'))).toBe(
      printed(NAME, '<metadata>', `  ${FOREIGN}`, '</metadata>'),
    )
  })

  test('of another resource is replaced', () => {
    for (const metadata of [tag(), tag() + FOREIGN, FOREIGN + tag(), tag('a') + FOREIGN + tag('b')]) {
      const done = tagged(read(domain(NAME, `<metadata>${metadata}</metadata>`)), INSTANCE, freshUuid).text
      expect(tagsOf(done), metadata).toEqual([INSTANCE])
      expect(done.includes(FOREIGN)).toBe(metadata.includes(FOREIGN))
    }
  })
})

describe('a definition', () => {
  test('gives its name and its uuid', () => {
    expect(read(domain(NAME, OWN))).toMatchObject({ path: PATH, name: 'web', uuid: UUID })
    expect(read(domain(NAME)).uuid).toBeUndefined()
    // libvirt takes white space for a part of the name.
    expect(read(domain('<name> a &amp; b </name>')).name).toBe(' a & b ')
  })

  test.each([UUID, UUID.toUpperCase(), UUID.replaceAll('-', ''), ` ${UUID}\n`])('%j is one uuid', uuid => {
    expect(read(domain(NAME, `<uuid>${uuid}</uuid>`)).uuid).toBe(UUID)
  })

  test('is read from its file, whatever its path', async () => {
    const file = join(await temporaryFolder(), "it's a web.xml")
    await writeFile(file, EXACT['a byte order mark'] ?? '')
    expect(await readDefinition(file)).toMatchObject({ path: file, name: 'web', uuid: UUID })
  })

  test.each([
    ['', /holds none/],
    ['no xml', /cannot be used: line 1/],
    [domain(NAME).slice(0, -5), /cannot be used: line/],
    [domain(OWN), /expected a <name>/],
    [domain('<name> </name>'), /expected a <name>/],
    ['<network><name>web</name></network>', /expected <domain>, found <network>/],
    [`<!DOCTYPE x>${domain(NAME)}`, /document type/],
    [`${domain(NAME)}${domain(NAME)}`, /one root/],
    ['\0\x01\x02', /not allowed/],
  ])('%j is none, and the sentence names the file and why', async (text, why) => {
    const file = join(await temporaryFolder(), 'web.xml')
    await writeFile(file, text)
    const found = await readDefinition(file)
    expect(found).toEqual({ problem: expect.stringMatching(why) })
    expect('problem' in found && found.problem.startsWith(`the definition ${file} `)).toBe(true)
    expect('problem' in found && found.problem).not.toContain('\n')
  })

  test('that is not there, or is a folder, is told so', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'web.xml'))
    expect(await readDefinition(join(folder, 'web.xml'))).toEqual({
      problem: `the definition ${folder}/web.xml is a folder`,
    })
    expect(await readDefinition(join(folder, 'no.xml'))).toEqual({
      problem: `the definition ${folder}/no.xml does not exist`,
    })
    await writeFile(join(folder, 'file'), '')
    expect(await readDefinition(join(folder, 'file', 'x'))).toEqual({
      problem: `the definition ${folder}/file/x does not exist`,
    })
  })
})

describe('what a definition needs', () => {
  const devices = (...elements: string[]) => read(domain(NAME, '<devices>', ...elements, '</devices>'))

  test('pools and networks, each once', () => {
    const definition = devices(
      `<disk type="volume"><source pool="fast &amp; new" volume="a"/></disk>`,
      `<disk type='volume'><source pool='fast &amp; new' volume='b'/></disk>`,
      `<disk type="volume"><source volume="c" pool="slow"/></disk>`,
      '<disk type="file"><source file="/pool=&apos;no&apos;"/></disk>',
      '<interface type="network"><source network="default" portgroup="x"/></interface>',
      '<interface type="network"><source network="default"/></interface>',
      '<interface type="bridge"><source bridge="br0"/></interface>',
      '<!-- <interface type="network"><source network="old"/></interface> -->',
    )
    expect(resourcesOf(definition)).toEqual({ pools: ['fast & new', 'slow'], networks: ['default'] })
  })

  test('the word pool elsewhere is none', () => {
    const text = domain(
      NAME,
      `<description>pool='x' network='y'</description>`,
      `<x><source pool="p" network="n"/></x>`,
    )
    expect(resourcesOf(read(text))).toEqual({ pools: [], networks: [] })
    expect(resourcesOf(devices('<disk type="network"><source protocol="rbd" name="pool/image"/></disk>'))).toEqual({
      pools: [],
      networks: [],
    })
  })

  test('files and devices of its disks', () => {
    const definition = devices(
      '<disk type="file" device="disk"><source file="/srv/a b.qcow2"/><target dev="vda"/></disk>',
      '<disk type="block"><source dev="/dev/vg/lv"/></disk>',
      '<disk type="file" device="cdrom"><target dev="sda"/></disk>',
      '<disk type="network"><source protocol="rbd" name="p/i"/></disk>',
      '<filesystem type="mount"><source dir="/x"/></filesystem>',
    )
    expect(diskPathsOf(definition)).toEqual(['/srv/a b.qcow2', '/dev/vg/lv'])
    expect(diskPathsOf(read(domain(NAME)))).toEqual([])
  })
})

test('an emulated TPM is told to outlive its domain, which is transient; what says so itself stays as it is', () => {
  const tpm = (backend: string) => `<domain>${NAME}${OWN}<devices><tpm>${backend}</tpm></devices></domain>`
  const started = (backend: string) => tagged(read(tpm(backend)), INSTANCE, () => FRESH).text
  expect(started("<backend type='emulator' version='2.0'/>")).toContain(
    "<backend persistent_state='yes' type='emulator' version='2.0'/>",
  )
  for (const other of ["<backend type='emulator' persistent_state='no'/>", "<backend type='passthrough'/>"])
    expect(started(other)).toContain(other)
})
