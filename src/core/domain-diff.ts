/** What differs between two definitions, for people who are asked whether one may replace the other. */
import { domainRoot } from './domain-xml.ts'
import { attr, child, type XmlElement } from './xml.ts'

/**
 * What differs between two definitions, one line each: `devices/disk[vda]/source@file: '/a' -> '/b'`. White space, quotes,
 * comments and the order of siblings that name themselves do not count. Secrets are never shown, only that they changed.
 */
export function diffDefinitions(oldText: string, newText: string): string[] {
  const lines: string[] = []
  compare(domainRoot(oldText), domainRoot(newText), '', lines)
  return lines
}

function compare(before: XmlElement, after: XmlElement, path: string, lines: string[]): void {
  const here = path || before.name
  for (const name of new Set([...before.attributes.keys(), ...after.attributes.keys()]))
    report(
      `${here}@${name}`,
      attr(before, name),
      attr(after, name),
      isSecret(before, name) || isSecret(after, name),
      lines,
    )
  const secret = isSecret(before) || isSecret(after)
  report(here, plainText(before) || undefined, plainText(after) || undefined, secret, lines)
  compareChildren(before, after, path === '' ? '' : `${path}/`, lines)
}

function compareChildren(before: XmlElement, after: XmlElement, prefix: string, lines: string[]): void {
  const plural = new Set([...repeated(before), ...repeated(after)])
  const left = keyed(before, plural)
  const right = keyed(after, plural)
  for (const key of new Set([...left.keys(), ...right.keys()])) {
    const [was, is] = [left.get(key), right.get(key)]
    const path = prefix + key
    if (is === undefined) lines.push(`${path}: removed`)
    else if (was !== undefined) compare(was, is, path, lines)
    else compareAdded(is, path, lines)
  }
}

/** An added element is shown whole: what it brings is what the operator must agree to. */
function compareAdded(added: XmlElement, path: string, lines: string[]): void {
  if (plainText(added) === '') lines.push(`${path}: added`)
  compare({ ...added, ...NOTHING }, added, path, lines)
}

const NOTHING = { attributes: new Map(), children: [], text: '' }

function report(path: string, was: string | undefined, is: string | undefined, secret: boolean, lines: string[]): void {
  if (was === is) return
  if (was !== undefined && is !== undefined)
    lines.push(secret ? `${path}: (changed)` : `${path}: ${shown(was)} -> ${shown(is)}`)
  else if (is !== undefined) lines.push(secret ? `${path}: added` : `${path}: added ${shown(is)}`)
  else lines.push(secret ? `${path}: removed` : `${path}: removed ${shown(was ?? '')}`)
}

/** Children under names that say which one each is; the rest by their place among those of the same name. */
function keyed(parent: XmlElement, plural: ReadonlySet<string>): Map<string, XmlElement> {
  const seen = new Map<string, number>()
  return new Map(
    parent.children.map(each => {
      const identity = identityOf(each, plural.has(each.name))
      const key = identity === undefined ? each.name : `${each.name}[${shownPlain(identity.slice(0, 80))}]`
      const nth = (seen.get(key) ?? 0) + 1
      seen.set(key, nth)
      return [nth === 1 ? key : `${key}#${nth}`, each]
    }),
  )
}

function repeated(parent: XmlElement): string[] {
  const names = parent.children.map(each => each.name)
  const seen = new Set<string>()
  return names.filter(name => seen.has(name) || !seen.add(name))
}

function identityOf(element: XmlElement, plural: boolean): string | undefined {
  const target = child(element, 'target')
  const strong = attr(child(element, 'mac'), 'address')?.toLowerCase() ?? attr(target, 'dev') ?? attr(target, 'dir')
  if (strong !== undefined || !plural) return strong
  const weak = ['name', 'id', 'type', 'index'].flatMap(name => attr(element, name) ?? [])
  return attr(target, 'name') ?? (weak.join(' ') || undefined)
}

const SECRET = /passw|passphrase|secret|cookie|token/i

/** Whether a value may be secret: by its own name, by the element or entry it stands in, or by what it says (`qemu:arg`). */
function isSecret(element: XmlElement, attribute?: string): boolean {
  const own = attribute === undefined ? [element.text] : [attribute, attr(element, attribute)]
  return [...own, element.name, attr(element, 'name')].some(each => each !== undefined && SECRET.test(each))
}

function plainText(element: XmlElement): string {
  return element.text.replace(/\s+/g, ' ').trim()
}

function shown(value: string): string {
  return `'${shownPlain(value)}'`
}

/** Control and direction characters are spelled out: a definition must not be able to repaint the operator's terminal. */
function shownPlain(value: string): string {
  return value.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, each => `\\u{${(each.codePointAt(0) ?? 0).toString(16)}}`)
}
