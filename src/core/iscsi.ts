/** iSCSI portals as the configuration names them, and how iscsiadm speaks of targets. */
import { wordsOf } from './words.ts'

/** Where targets are offered. */
export interface Portal {
  /** `10.0.0.1:3260`, `[fd00::1]:3260`. */
  readonly address: string
  readonly chap?: Chap
}

export interface Chap {
  readonly username: string
  /** The file whose first line is the password. */
  readonly passwordFile: string
}

export const PORTAL_EXAMPLE = '10.0.0.1:3260 username=havirt password=@/etc/havirt/chap.secret'
const PORT = 3260

/** Reads one entry of `iscsi.portals`. What is wrong with it comes as the rest of a sentence, and holds no secret. */
export function parsePortal(text: string): Portal | string {
  if (/[\p{C}\p{Zl}\p{Zp}\ufffd]/u.test(text)) return 'an entry holds a line break or another character that is no text'
  const [first = '', ...pairs] = wordsOf(text) ?? []
  const address = addressOf(first)
  if (address === undefined) return `an entry does not begin with an address; expected '${PORTAL_EXAMPLE}'`
  const values = new Map(
    pairs.map(pair => [pair.slice(0, Math.max(0, pair.indexOf('='))), pair.slice(pair.indexOf('=') + 1)]),
  )
  const stranger = [...values.keys()].find(key => key !== 'username' && key !== 'password')
  if (stranger !== undefined || values.size !== pairs.length)
    return `the entry of ${address} takes username=NAME and password=@FILE, each once`
  const [username, password] = [values.get('username'), values.get('password')]
  if (username === undefined && password === undefined) return { address }
  if (!username || password === undefined)
    return `the entry of ${address} has one of username and password; CHAP needs both`
  if (!password.startsWith('@/'))
    return `the entry of ${address} has a password in clear; put it into a file that only root can read, and write password=@/path/of/the/file`
  return { address, chap: { username, passwordFile: password.slice(1) } }
}

function addressOf(word: string): string | undefined {
  const [, host, port = String(PORT)] =
    /^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(?::(\d{1,5}))?$/.exec(word) ?? []
  return host === undefined || Number(port) === 0 || Number(port) > 65_535 ? undefined : `${host}:${port}`
}

/** What is wrong with an entry of `iscsi.portals`, given those before it. */
export function portalProblem(entry: string, before: readonly string[]): string | undefined {
  const portal = parsePortal(entry)
  if (typeof portal === 'string') return portal
  const twin = before.map(parsePortal).some(other => typeof other !== 'string' && other.address === portal.address)
  return twin ? `the portal ${portal.address} is there twice` : undefined
}

/** The portals of a configuration. */
export function portalsOf(entries: readonly string[]): Portal[] {
  return entries.map(parsePortal).filter(portal => typeof portal !== 'string')
}

/** A target as a portal offers it. */
export interface Offered {
  readonly target: string
  /** `10.0.0.1:3260`: a target may be offered on other addresses than the one that was asked. */
  readonly portal: string
}

/** Reads `iscsiadm -m discovery`: `10.0.0.1:3260,1 iqn.2003-01.org:a` a line. */
export function parseOffers(text: string): Offered[] {
  return text.split('\n').flatMap(line => {
    const [, portal, target] = /^(\S+),-?\d+\s+((?:iqn|eui|naa)\.\S+)/.exec(line.trim()) ?? []
    return portal === undefined || target === undefined ? [] : [{ target, portal }]
  })
}
