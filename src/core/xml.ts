/** XML text as a light tree that remembers where everything stood, so that edits can be byte-exact. Knows XML, not libvirt. */

/** Longest text accepted, in UTF-8 bytes: libvirt's own limit for a string on the wire. */
export const MAX_XML_BYTES = 4 * 1024 * 1024

/** Deepest nesting accepted. Definitions need about ten; the limit lets readers of the tree recurse without fear. */
export const MAX_XML_DEPTH = 64

/** Most elements accepted in one text. */
export const MAX_XML_ELEMENTS = 100_000

/** Longest element or attribute name accepted: paths made of names must stay printable. */
const MAX_XML_NAME = 256

/** One attribute: its value decoded, and where the raw value stands between its quotes. */
export interface XmlAttribute {
  readonly value: string
  readonly start: number
  readonly end: number
}

/** One element. Offsets count UTF-16 units of the parsed text, ends are exclusive. */
export interface XmlElement {
  /** The name as written, prefix included: `qemu:commandline`. */
  readonly name: string
  readonly attributes: ReadonlyMap<string, XmlAttribute>
  readonly children: readonly XmlElement[]
  /** The element's own text, decoded and joined; white space is kept. */
  readonly text: string
  readonly start: number
  readonly end: number
  /** Where the content stands between the tags. In `<a/>` both are the end of the element. */
  readonly contentStart: number
  readonly contentEnd: number
  /** Line and column of the start tag, from 1. */
  readonly line: number
  readonly column: number
}

/** The text is not the XML that libvirt would read. The message starts with the position and says what was expected. */
export class XmlError extends Error {
  readonly line: number
  readonly column: number

  /** `sentence` says what was expected; the position is put before it. */
  constructor(sentence: string, line: number, column: number) {
    super(`line ${line}, column ${column}: ${sentence}`)
    this.name = 'XmlError'
    this.line = line
    this.column = column
  }
}

/** Reads one document and returns its root element. Throws XmlError, and nothing else, for any other text. */
export function parseXml(text: string): XmlElement {
  refuseSize(text)
  const illegal = text.search(ILLEGAL)
  if (illegal >= 0) failAt(text, illegal, `character ${codePointName(text, illegal)} is not allowed in XML`)
  return new Reader(text).document()
}

/** The first child element with this name. */
export function child(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.find(each => each.name === name)
}

/** All child elements with this name, in document order. */
export function children(element: XmlElement | undefined, name: string): XmlElement[] {
  return element === undefined ? [] : element.children.filter(each => each.name === name)
}

/** All elements that a path of names leads to, as libvirt's XPath does: `all(domain, 'devices', 'disk')`. */
export function all(element: XmlElement, ...path: readonly string[]): XmlElement[] {
  return path.reduce<XmlElement[]>((found, name) => found.flatMap(each => children(each, name)), [element])
}

/** The decoded value of an attribute, undefined when the element or the attribute is absent. */
export function attr(element: XmlElement | undefined, name: string): string | undefined {
  return element?.attributes.get(name)?.value
}

/** The element's text without white space around it, undefined when there is none. */
export function textOf(element: XmlElement | undefined): string | undefined {
  return element?.text.trim() || undefined
}

/** A value as element text. Carriage return is written as a reference, or a reader would turn it into a line feed. */
export function escapeText(value: string): string {
  return value.replace(/[&<>\r]/g, each => TEXT_ESCAPES[each] ?? each)
}

/** How many bytes the text takes in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0
  for (const character of text) bytes += utf8Width(character.codePointAt(0) ?? 0)
  return bytes
}

const TEXT_ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '\r': '&#13;' }
const ENTITIES: ReadonlyMap<string, string> = new Map([
  ['lt', '<'],
  ['gt', '>'],
  ['amp', '&'],
  ['quot', '"'],
  ['apos', "'"],
])

// Every expression below is a run of one character class, or ends at a character outside of it: none can backtrack badly.
/** Outside XML's `Char`; under the `u` flag the surrogate range matches lone surrogates only. */
const ILLEGAL = /[\0-\x08\v\f\x0e-\x1f\ud800-\udfff\ufffe\uffff]/u
const NAME_START =
  ':A-Z_a-z\\xc0-\\xd6\\xd8-\\xf6\\xf8-\\u02ff\\u0370-\\u037d\\u037f-\\u1fff\\u200c\\u200d\\u2070-\\u218f\\u2c00-\\u2fef' +
  '\\u3001-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\ufffd\\u{10000}-\\u{effff}'
const NAME = new RegExp(`[${NAME_START}][${NAME_START}\\-.0-9\\xb7\\u0300-\\u036f\\u203f\\u2040]*`, 'uy')
const ASCII_NAME = /[A-Za-z_:][A-Za-z0-9_:.-]*/y
const NOT_SPACE = /[^ \t\r\n]/
/** What changes when text is read: line ends and references. */
const IN_TEXT = /\r\n?|&([A-Za-z_][A-Za-z0-9_.-]*|#[0-9]+|#x[0-9A-Fa-f]+);/g
const IN_VALUE = /\r\n|[\t\r\n]|&([A-Za-z_][A-Za-z0-9_.-]*|#[0-9]+|#x[0-9A-Fa-f]+);/g
const NO_REFERENCE = /&(?!(?:[A-Za-z_][A-Za-z0-9_.-]*|#[0-9]+|#x[0-9A-Fa-f]+);)/
const NOT_ASCII = /[^\0-\x7f]/
const ENCODING = /[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([^"']*)["']/

type Building = { -readonly [K in keyof XmlElement]: XmlElement[K] } & { children: XmlElement[] }

/** Shared by all elements without attributes: a map for each costs more than the rest of the reading. */
const NO_ATTRIBUTES: ReadonlyMap<string, XmlAttribute> = new Map()

/** Walks the text once, left to right, with its own stack of open elements: nesting costs no call depth. */
class Reader {
  private readonly text: string
  private readonly first: number
  private readonly open: Building[] = []
  private root: Building | undefined
  private at: number
  private count = 0
  private line = 1
  private lineStart: number
  private lineEnd: number

  constructor(text: string) {
    this.text = text
    this.first = text.startsWith('\ufeff') ? 1 : 0
    this.at = this.first
    this.lineStart = this.first
    this.lineEnd = lineEndFrom(text, this.first)
  }

  document(): XmlElement {
    while (this.at < this.text.length) this.next()
    const unclosed = this.open.at(-1)
    if (unclosed !== undefined) this.fail(`expected </${unclosed.name}> to close ${described(unclosed)}; the text ends`)
    if (this.root === undefined) this.fail('expected an element, but the text holds none')
    return this.root
  }

  private next(): void {
    if (this.text[this.at] !== '<') return this.characters()
    const mark = this.text[this.at + 1]
    if (mark === '/') return this.endTag()
    if (mark === '!') return this.declaration()
    if (mark === '?') return this.instruction()
    this.startTag()
  }

  private characters(): void {
    const start = this.at
    const end = this.text.indexOf('<', start)
    this.at = end < 0 ? this.text.length : end
    const raw = this.text.slice(start, this.at)
    const close = raw.indexOf(']]>')
    if (close >= 0) this.fail('"]]>" may only end a CDATA section; expected "]]&gt;"', start + close)
    const parent = this.open.at(-1)
    if (parent === undefined) return this.outside(raw, start)
    parent.text += this.decode(raw, start, IN_TEXT, '\n')
  }

  private outside(raw: string, start: number): void {
    const stray = raw.search(NOT_SPACE)
    const where = this.root === undefined ? 'before' : 'after'
    if (stray >= 0) this.fail(`expected no text ${where} the root element`, start + stray)
  }

  private startTag(): void {
    const start = this.at
    this.at += 1
    const name = this.name('an element name after "<"')
    const element = this.begin(name, start)
    element.attributes = this.attributes()
    if (this.take('/>')) return this.finish(element, this.at)
    if (!this.take('>')) this.expected(`">" or an attribute in the tag of <${name}>`)
    element.contentStart = this.at
    this.open.push(element)
  }

  /** Hangs a new element into the tree, within the limits. */
  private begin(name: string, start: number): Building {
    const parent = this.open.at(-1)
    if (parent === undefined && this.root !== undefined)
      this.fail(`expected one root element, but <${name}> follows </${this.root.name}>`, start)
    if (this.open.length >= MAX_XML_DEPTH) this.fail(`expected at most ${MAX_XML_DEPTH} nested elements`, start)
    this.count += 1
    if (this.count > MAX_XML_ELEMENTS) this.fail(`expected at most ${MAX_XML_ELEMENTS} elements`, start)
    const element = unread(name, start, this.lineOf(start), start - this.lineStart + 1)
    if (parent === undefined) this.root = element
    else parent.children.push(element)
    return element
  }

  /** Starts only grow, so counting goes on from the last one and no part is searched twice. */
  private lineOf(start: number): number {
    while (this.lineEnd < start) {
      this.line += 1
      this.lineStart = this.lineEnd + 1
      this.lineEnd = lineEndFrom(this.text, this.lineStart)
    }
    return this.line
  }

  private attributes(): ReadonlyMap<string, XmlAttribute> {
    let found: Map<string, XmlAttribute> | undefined
    for (;;) {
      const start = this.at
      this.space()
      const next = this.text[this.at]
      if (next === undefined || next === '>' || next === '/') return found ?? NO_ATTRIBUTES
      if (this.at === start) this.expected('white space before an attribute, or ">"')
      found ??= new Map()
      this.attribute(found)
    }
  }

  private attribute(into: Map<string, XmlAttribute>): void {
    const start = this.at
    const name = this.name('an attribute name, "/>" or ">"')
    this.space()
    if (!this.take('=')) this.expected(`"=" after the attribute name ${name}`)
    this.space()
    if (into.has(name)) this.fail(`expected attribute ${name} only once in a tag`, start)
    into.set(name, this.quoted(name))
  }

  private quoted(name: string): XmlAttribute {
    const quote = this.text[this.at]
    if (quote !== '"' && quote !== "'") this.expected(`the value of ${name} in quotes`)
    const start = this.at + 1
    const end = this.text.indexOf(quote, start)
    if (end < 0) this.fail(`expected ${quote} to end the value of ${name}; the text ends`, start)
    const raw = this.text.slice(start, end)
    const less = raw.indexOf('<')
    if (less >= 0) this.fail(`"<" may not stand in the value of ${name}; expected "&lt;"`, start + less)
    this.at = end + 1
    return { value: this.decode(raw, start, IN_VALUE, ' '), start, end }
  }

  private endTag(): void {
    const start = this.at
    this.at += 2
    const name = this.name('an element name after "</"')
    this.space()
    if (!this.take('>')) this.expected(`">" to end </${name}`)
    const element = this.open.pop()
    if (element === undefined) this.fail(`</${name}> closes nothing; expected a start tag before it`, start)
    if (element.name !== name)
      this.fail(`expected </${element.name}> to close ${described(element)}, found </${name}>`, start)
    this.finish(element, start)
  }

  private finish(element: Building, contentEnd: number): void {
    element.end = this.at
    element.contentEnd = contentEnd
    if (element.contentStart < 0) element.contentStart = contentEnd
  }

  private declaration(): void {
    if (this.text.startsWith('<!--', this.at)) return this.comment()
    if (this.text.startsWith('<![CDATA[', this.at)) return this.cdata()
    // Entities grow when they are read: a short text can fill the memory. Not even an empty document type is let in.
    if (this.text.startsWith('<!DOCTYPE', this.at))
      this.fail('a document type (<!DOCTYPE) is not allowed; expected plain elements, libvirt needs no document type')
    if (this.text.startsWith('<!ENTITY', this.at))
      this.fail('an entity declaration (<!ENTITY) is not allowed; expected plain elements')
    this.fail('expected an element, a comment or a CDATA section after "<"')
  }

  private comment(): void {
    const end = this.text.indexOf('--', this.at + 4)
    if (end < 0) this.fail('expected "-->" to end the comment; the text ends')
    if (this.text[end + 2] !== '>') this.fail('"--" may not stand in a comment; expected "-->"', end)
    this.at = end + 3
  }

  private cdata(): void {
    const start = this.at
    const end = this.text.indexOf(']]>', start + 9)
    if (end < 0) this.fail('expected "]]>" to end the CDATA section; the text ends')
    const parent = this.open.at(-1)
    if (parent === undefined) this.fail('expected a CDATA section only inside of the root element')
    parent.text += this.text.slice(start + 9, end).replace(/\r\n?/g, '\n')
    this.at = end + 3
  }

  private instruction(): void {
    const start = this.at
    this.at += 2
    const target = this.name('a name after "<?"')
    const end = this.text.indexOf('?>', this.at)
    if (end < 0) this.fail(`expected "?>" to end <?${target}; the text ends`, start)
    if (target.toLowerCase() === 'xml') this.xmlDeclaration(start, end)
    this.at = end + 2
  }

  /** libvirt would decode the text as the declaration says, not as we did: only names of what we have may stand there. */
  private xmlDeclaration(start: number, end: number): void {
    if (start !== this.first) this.fail('expected the XML declaration only at the start of the text', start)
    const encoding = ENCODING.exec(this.text.slice(start, end))?.[1]
    if (encoding !== undefined && !this.isRightIn(encoding.toLowerCase()))
      this.fail('expected the encoding UTF-8 in the XML declaration', start)
  }

  /** Plain ASCII is the same in these. */
  private isRightIn(encoding: string): boolean {
    if (['utf-8', 'utf8', 'us-ascii', 'ascii'].includes(encoding)) return true
    return /^(iso-8859-\d+|windows-125\d)$/.test(encoding) && !NOT_ASCII.test(this.text)
  }

  private name(what: string): string {
    const name = this.asciiName() ?? this.anyName() ?? this.expected(what)
    if (name.length > MAX_XML_NAME) this.fail(`expected a name of at most ${MAX_XML_NAME} characters`)
    this.at += name.length
    return name
  }

  /** Nearly every name is plain ASCII, and this expression is several times as quick as the one for all of Unicode. */
  private asciiName(): string | undefined {
    ASCII_NAME.lastIndex = this.at
    const name = ASCII_NAME.exec(this.text)?.[0]
    return name !== undefined && !(this.text.charCodeAt(this.at + name.length) > 127) ? name : undefined
  }

  private anyName(): string | undefined {
    NAME.lastIndex = this.at
    return NAME.exec(this.text)?.[0]
  }

  private space(): void {
    while (isSpace(this.text.charCodeAt(this.at))) this.at++
  }

  private take(token: string): boolean {
    const found = this.text.startsWith(token, this.at)
    if (found) this.at += token.length
    return found
  }

  private decode(raw: string, start: number, changing: RegExp, space: string): string {
    if (!raw.includes('&') && raw.search(changing) < 0) return raw
    const bare = raw.search(NO_REFERENCE)
    if (bare >= 0) this.fail('"&" must begin a reference; expected "&amp;" for the character itself', start + bare)
    return raw.replace(changing, (_, reference: string | undefined, at: number) =>
      reference === undefined ? space : this.character(reference, start + at),
    )
  }

  private character(reference: string, start: number): string {
    if (!reference.startsWith('#')) return ENTITIES.get(reference) ?? this.unknownEntity(reference, start)
    const code =
      reference[1] === 'x' ? Number.parseInt(reference.slice(2), 16) : Number.parseInt(reference.slice(1), 10)
    const value = code <= 0x10ffff ? String.fromCodePoint(code) : '\0'
    return ILLEGAL.test(value) ? this.fail(`&${reference.slice(0, 12)}; is not a character of XML`, start) : value
  }

  private unknownEntity(name: string, start: number): never {
    const short = name.slice(0, 40)
    return this.fail(`entity &${short}; is unknown; expected &lt; &gt; &amp; &quot; &apos; or a number`, start)
  }

  private expected(what: string): never {
    return this.fail(`expected ${what}, found ${this.found()}`)
  }

  private found(): string {
    const code = this.text.codePointAt(this.at)
    return code === undefined ? 'the end of the text' : JSON.stringify(String.fromCodePoint(code))
  }

  private fail(sentence: string, at: number = this.at): never {
    return failAt(this.text, at, sentence)
  }
}

/** Space, tab, line feed or carriage return. */
function isSpace(code: number): boolean {
  return code === 32 || code === 10 || code === 9 || code === 13
}

/** A new element before its tag is read. One literal, so that all elements have one shape. */
function unread(name: string, start: number, line: number, column: number): Building {
  return {
    name,
    attributes: NO_ATTRIBUTES,
    children: [],
    text: '',
    start,
    end: start,
    contentStart: -1,
    contentEnd: start,
    line,
    column,
  }
}

function described(element: XmlElement): string {
  return `<${element.name}> of line ${element.line}`
}

function failAt(text: string, at: number, sentence: string): never {
  let line = 1
  let lineStart = text.startsWith('\ufeff') ? 1 : 0
  for (let end = lineEndFrom(text, lineStart); end < at; end = lineEndFrom(text, lineStart)) {
    line += 1
    lineStart = end + 1
  }
  throw new XmlError(sentence, line, Math.max(1, at - lineStart + 1))
}

function lineEndFrom(text: string, from: number): number {
  const end = text.indexOf('\n', from)
  return end < 0 ? text.length : end
}

/** Looks at the length first: a text that cannot fit is not even counted. */
function refuseSize(text: string): void {
  if (text.length <= MAX_XML_BYTES / 3) return
  if (text.length <= MAX_XML_BYTES && utf8Length(text) <= MAX_XML_BYTES) return
  throw new XmlError(`the text is too long; expected at most ${MAX_XML_BYTES / 1024 / 1024} MiB`, 1, 1)
}

function utf8Width(code: number): number {
  if (code < 0x80) return 1
  if (code < 0x800) return 2
  return code < 0x10000 ? 3 : 4
}

function codePointName(text: string, at: number): string {
  const code = text.codePointAt(at) ?? 0
  return `U+${code.toString(16).toUpperCase().padStart(4, '0')}`
}
