/** The definition file as the agent reads and edits it: who it is, and the tag by which the domain is found again. */
import { all, attr, child, children, escapeText, parseXml, textOf, type XmlElement, XmlError } from '../core/xml.ts'
import { readText, type Unreadable } from './files.ts'

export interface Definition {
  readonly path: string
  readonly text: string
  readonly root: XmlElement
  readonly name: string
  /** Lower case; undefined: libvirt would make one up. */
  readonly uuid: string | undefined
}

/** The namespace of the agent's tag in a domain's metadata. */
export const TAG_NAMESPACE = 'urn:havirt:ocf:1'

/** The definition, or what is wrong with it as a sentence that names the file. */
export async function readDefinition(path: string): Promise<Definition | Unreadable> {
  const read = await readText(path)
  if ('problem' in read) return { ...read, problem: `the definition ${path} ${read.problem}` }
  try {
    return toDefinition(path, read.text)
  } catch (error) {
    return { problem: `the definition ${path} cannot be used: ${(error as Error).message}` }
  }
}

export function toDefinition(path: string, text: string): Definition {
  const root = parseXml(text)
  if (root.name !== 'domain') throw new XmlError(`expected <domain>, found <${root.name}>`, root.line, root.column)
  // As it stands there: libvirt takes white space around it for a part of the name.
  const name = child(root, 'name')?.text
  if (name === undefined || name.trim() === '')
    throw new XmlError('expected a <name> in <domain>', root.line, root.column)
  return {
    path,
    text,
    root,
    name,
    uuid: uuidIn(textOf(child(root, 'uuid'))),
  }
}

/** With its dashes, which libvirt does not ask for; what is no uuid is left to libvirt to refuse. */
function uuidIn(text: string | undefined): string | undefined {
  const digits = text?.toLowerCase().replaceAll('-', '') ?? ''
  if (!/^[0-9a-f]{32}$/.test(digits)) return undefined
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The definition as it is started: with the resource's tag in its metadata, and with a uuid. Every other byte stays. */
export function tagged(
  { text, root, uuid }: Definition,
  instance: string,
  freshUuid: () => string,
): { text: string; uuid: string } {
  const own = uuid ?? freshUuid()
  const tag = `<havirt:resource xmlns:havirt="${TAG_NAMESPACE}" instance="${escapeText(instance).replaceAll('"', '&quot;')}"/>`
  const metadata = child(root, 'metadata')
  const edits = [
    ...(uuid === undefined ? [uuidEdit(root, own)] : []),
    ...tagEdits(root, metadata, tag),
    ...tpmEdits(root),
  ]
  return { text: edited(text, edits), uuid: own }
}

/** A transient domain's emulated TPM is wiped when it ends, unless it says otherwise (libvirt 7.0 and later; formatdomain, TPM device). */
function tpmEdits(root: XmlElement): Edit[] {
  const emulators = all(root, 'devices', 'tpm', 'backend').filter(each => attr(each, 'type') === 'emulator')
  return emulators.flatMap(({ start, name, attributes }) => {
    const at = start + 1 + name.length
    return attributes.has('persistent_state') ? [] : [{ start: at, end: at, text: " persistent_state='yes'" }]
  })
}

interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** An element that is empty stands for none, and libvirt looks at the first one only. One that holds no uuid is libvirt's to refuse. */
function uuidEdit(root: XmlElement, uuid: string): Edit {
  const written = child(root, 'uuid')
  const { start, end } = written ?? { start: root.contentEnd, end: root.contentEnd }
  return textOf(written) === undefined ? { start, end, text: `<uuid>${uuid}</uuid>` } : { start, end: start, text: '' }
}

function tagEdits(root: XmlElement, metadata: XmlElement | undefined, tag: string): Edit[] {
  if (metadata === undefined)
    return [{ start: root.contentEnd, end: root.contentEnd, text: `<metadata>${tag}</metadata>` }]
  const before = tagsIn(metadata).map(({ start, end }) => ({ start, end, text: '' }))
  const isShort = metadata.contentStart === metadata.end
  if (isShort) return [{ start: metadata.start, end: metadata.end, text: `<metadata>${tag}</metadata>` }]
  return [...before, { start: metadata.contentEnd, end: metadata.contentEnd, text: tag }]
}

/** The text without the agent's tag, as it is saved: it belongs to what runs, not to the definition. */
export function untagged(text: string): string {
  const metadata = child(parseXml(text), 'metadata')
  const tags = tagsIn(metadata)
  if (metadata === undefined || tags.length === 0) return text
  const alone = metadata.children.length === tags.length && metadata.text.trim() === ''
  const gone = alone ? [metadata] : tags
  return edited(
    text,
    gone.map(({ start, end }) => ({ ...withLine(text, start, end), text: '' })),
  )
}

/** The whole line, where the element is alone on it. */
function withLine(text: string, start: number, end: number): { start: number; end: number } {
  const lineStart = text.lastIndexOf('\n', start - 1) + 1
  const isAlone = text.slice(lineStart, start).trim() === '' && text[end] === '\n'
  return isAlone ? { start: lineStart, end: end + 1 } : { start, end }
}

/** The resource that tagged this domain, by its live definition. */
export function taggedBy(text: string): string | undefined {
  return attr(tagsIn(child(parseXml(text), 'metadata'))[0], 'instance')
}

function tagsIn(metadata: XmlElement | undefined): XmlElement[] {
  return (metadata?.children ?? []).filter(each => {
    const [prefix, local] = each.name.includes(':') ? each.name.split(':') : ['', each.name]
    return local === 'resource' && attr(each, prefix === '' ? 'xmlns' : `xmlns:${prefix}`) === TAG_NAMESPACE
  })
}

function edited(text: string, edits: readonly Edit[]): string {
  const last = [...edits].sort((a, b) => b.start - a.start || b.end - a.end)
  return last.reduce((rest, { start, end, text: fresh }) => rest.slice(0, start) + fresh + rest.slice(end), text)
}

/** The names of storage pools and networks that the domain needs. */
export function resourcesOf({ root }: Definition): { pools: string[]; networks: string[] } {
  const devices = children(root, 'devices').flatMap(each => [...each.children])
  const sources = (name: string, attribute: string) =>
    devices
      .filter(each => each.name === name)
      .flatMap(each => children(each, 'source').flatMap(one => attr(one, attribute) ?? []))
  return { pools: [...new Set(sources('disk', 'pool'))], networks: [...new Set(sources('interface', 'network'))] }
}

/** Paths of the files and devices that are its disks. */
export function diskPathsOf({ root }: Definition): string[] {
  return children(root, 'devices')
    .flatMap(each => children(each, 'disk'))
    .flatMap(disk => children(disk, 'source').flatMap(source => attr(source, 'file') ?? attr(source, 'dev') ?? []))
}
