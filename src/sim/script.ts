/**
 * Schedules as people write them: one line for each thing that happens, with its time. test/scenarios/README.md explains the lines.
 * Reading and writing are inverse to each other, so that a schedule that fails can be kept as a scenario.
 */
import type { Action } from './actions.ts'
import type { Item } from './schedule.ts'
import { weatherOf, weatherText } from './weather-text.ts'
import { typedWords, wordsTyped } from './words.ts'

/** What happens, and when everything is mended and each domain is started; absent: it ends as it is. */
export interface Script {
  readonly items: readonly Item[]
  readonly mendedMs?: number
}

/** How long a fault lasts that nobody ends. */
const FOREVER_MS = 1e9
const MENDED = 'everything is mended'

// --- Writing

/** The inverse of {@link parseScript}. */
export function printScript({ items, mendedMs }: Script): string {
  const lines = items.map(({ id, atMs, action }, at) => ({
    atMs,
    text: `${actionText(action)}${id === at ? '' : `   (luck ${id})`}`,
  }))
  const end = mendedMs === undefined ? [] : [{ atMs: mendedMs, text: MENDED }]
  return [...lines, ...end].map(({ atMs, text }) => `${String(atMs / 1000).padStart(8)} s  ${text}\n`).join('')
}

/** One action as a line says it. */
export function actionText(action: Action): string {
  const write = writers[action.kind] as (action: Action) => string
  return write(action)
}

type Writers = { [K in Action['kind']]: (action: Extract<Action, { kind: K }>) => string }

const writers: Writers = {
  havirt: ({ host, words, killAfter, suspendedForMs }) => {
    const after = killAfter === undefined ? '' : ` after it went on ${killAfter} times`
    const fate = suspendedForMs === undefined ? `killed${after}` : `suspended${during(suspendedForMs)}${after}`
    return `ops@${host}$ ${typedWords(words)}${after === '' ? '' : `   # ${fate}`}`
  },
  interrupt: ({ host }) => `${host}: Ctrl-C for every havirt`,
  virsh: ({ node, words }) => `root@${node}# virsh ${words.join(' ')}`,
  crash: ({ node, forMs }) => `${node}: power off${during(forMs)}`,
  load: ({ forMs }) => `every node: heavy load${during(forMs)}`,
  powerOn: ({ node }) => `${node}: power on`,
  isolate: ({ node, forMs }) => `${node}: every cable cut${during(forMs)}`,
  freeze: ({ host, forMs, suspended }) => `${host}: ${suspended ? 'suspended' : 'frozen'}${during(forMs)}`,
  restartLibvirtd: ({ node, forgets }) => `${node}: libvirtd restarts${forgets ? ' and forgets a QEMU' : ''}`,
  hangLibvirtd: ({ node, forMs }) => `${node}: libvirtd hangs${during(forMs)}`,
  killVirsh: ({ node }) => `${node}: every virsh is killed`,
  killHavirt: ({ host }) => `${host}: every havirt is killed`,
  cut: ({ from, to, both, forMs }) => `${from}: cable to ${to} cut${both ? '' : ' one way'}${during(forMs)}`,
  store: ({ host, weather, forMs }) => `${host}: the share is ${weatherText(weather)}${during(forMs)}`,
  unmount: ({ node, forMs }) => `${node}: the share is not mounted${during(forMs)}`,
  clock: ({ host, offsetMs }) => `${host}: the wall clock jumps to ${offsetMs / 1000} s off`,
  alias: ({ node, leadsTo, forMs }) => `${node}: its alias leads to ${leadsTo}${during(forMs)}`,
  breakFence: ({ node, forMs = FOREVER_MS }) => `${node}: its fence device is broken${during(forMs)}`,
  killSanlock: ({ node, forMs }) => `${node}: sanlock is killed${during(forMs)}`,
  sulkFence: ({ node }) => `${node}: its fence device fails when there is no power to cut`,
}

function during(forMs: number): string {
  return forMs >= FOREVER_MS ? '' : ` for ${forMs / 1000} s`
}

// --- Reading

/** Reads a script. Throws with the line that cannot be read. Empty lines and those that begin with `#` say nothing. */
export function parseScript(text: string): Script {
  const items: Item[] = []
  let mendedMs: number | undefined
  for (const line of text.split('\n').map(each => each.trim())) {
    if (line === '' || line.startsWith('#')) continue
    const [, seconds, what = '', luck] = /^([\d.]+) s\s+(.*?)(?:\s+\(luck (\d+)\))?$/.exec(line) ?? unreadable(line)
    const atMs = milliseconds(seconds)
    if (what === MENDED) mendedMs = atMs
    else
      for (const action of actionsOf(what))
        items.push({ id: luck === undefined ? items.length : Number(luck), atMs, action })
  }
  return { items, ...(mendedMs === undefined ? {} : { mendedMs }) }
}

/** A line about several cables is several actions. */
function actionsOf(line: string): Action[] {
  for (const [pattern, read] of readers) {
    const found = pattern.exec(line)
    if (found !== null) return [read(found.groups ?? {})].flat()
  }
  return unreadable(line)
}

type Groups = Readonly<Record<string, string | undefined>>

const FOR = '(?: for (?<seconds>[\\d.]+) s)?$'
const AT = '^(?<host>[\\w-]+): '
const about = (text: string) => new RegExp(`${AT}${text}`)

const readers: readonly (readonly [RegExp, (groups: Groups) => Action | Action[]])[] = [
  [
    /^ops@(?<host>[\w-]+)\$ (?<words>havirt .*?)(?:\s+# (?:killed|suspended(?: for (?<seconds>[\d.]+) s)?) after it went on (?<times>\d+) times)?$/,
    readHavirt,
  ],
  [
    /^root@(?<host>[\w-]+)# virsh (?<words>.*)$/,
    each => ({ kind: 'virsh', node: hostIn(each), words: (each['words'] ?? '').split(/\s+/) }),
  ],
  [about('Ctrl-C for every havirt$'), each => ({ kind: 'interrupt', host: hostIn(each) })],
  [new RegExp(`^every node: heavy load${FOR}`), each => ({ kind: 'load', forMs: forMsIn(each) })],
  [about('power on$'), each => ({ kind: 'powerOn', node: hostIn(each) })],
  [about(`every cable cut${FOR}`), each => ({ kind: 'isolate', node: hostIn(each), forMs: forMsIn(each) })],
  [about(`power off${FOR}`), each => ({ kind: 'crash', node: hostIn(each), forMs: forMsIn(each) })],
  [
    about(`(?<how>frozen|suspended)${FOR}`),
    each => ({ kind: 'freeze', host: hostIn(each), forMs: forMsIn(each), suspended: each['how'] === 'suspended' }),
  ],
  [
    about('libvirtd restarts(?<forgets> and forgets a QEMU)?$'),
    each => ({ kind: 'restartLibvirtd', node: hostIn(each), forgets: each['forgets'] !== undefined }),
  ],
  [about(`sanlock is killed${FOR}`), each => ({ kind: 'killSanlock', node: hostIn(each), forMs: forMsIn(each) })],
  [about(`libvirtd hangs${FOR}`), each => ({ kind: 'hangLibvirtd', node: hostIn(each), forMs: forMsIn(each) })],
  [about('every virsh is killed$'), each => ({ kind: 'killVirsh', node: hostIn(each) })],
  [about('every havirt is killed$'), each => ({ kind: 'killHavirt', host: hostIn(each) })],
  [about(`cables? to (?<to>[\\w-]+(?:, [\\w-]+)*) cut(?<way> one way)?${FOR}`), readCuts],
  [about(`the share is not mounted${FOR}`), each => ({ kind: 'unmount', node: hostIn(each), forMs: forMsIn(each) })],
  [
    about(`the share is (?<weather>.*?)${FOR}`),
    each => ({ kind: 'store', host: hostIn(each), weather: weatherOf(each['weather'] ?? ''), forMs: forMsIn(each) }),
  ],
  [
    about('the wall clock jumps to (?<off>-?[\\d.]+) s off$'),
    each => ({ kind: 'clock', host: hostIn(each), offsetMs: milliseconds(each['off']) }),
  ],
  [
    about(`its alias leads to (?<to>[\\w-]+?)${FOR}`),
    each => ({ kind: 'alias', node: hostIn(each), leadsTo: each['to'] ?? '', forMs: forMsIn(each) }),
  ],
  [
    about(`its fence device is broken${FOR}`),
    each => ({
      kind: 'breakFence',
      node: hostIn(each),
      ...(each['seconds'] === undefined ? {} : { forMs: forMsIn(each) }),
    }),
  ],
  [about('its fence device fails when there is no power to cut$'), each => ({ kind: 'sulkFence', node: hostIn(each) })],
]

function readHavirt(each: Groups): Action {
  const { times, seconds } = each
  const words = wordsTyped(each['words'] ?? '')
  const killAfter = times === undefined ? {} : { killAfter: Number(times) }
  return {
    kind: 'havirt',
    host: hostIn(each),
    words,
    ...killAfter,
    ...(seconds === undefined ? {} : { suspendedForMs: forMsIn(each) }),
  }
}

function readCuts(each: Groups): Action[] {
  const both = each['way'] === undefined
  return (each['to'] ?? '').split(', ').map(to => ({ kind: 'cut', from: hostIn(each), to, both, forMs: forMsIn(each) }))
}

function hostIn({ host }: Groups): string {
  return host ?? ''
}

function forMsIn({ seconds }: Groups): number {
  return seconds === undefined ? FOREVER_MS : milliseconds(seconds)
}

function milliseconds(seconds: string | undefined): number {
  return Math.round(Number(seconds) * 1000)
}

function unreadable(line: string): never {
  throw new Error(`this line cannot be read: ${line}`)
}
