/**
 * The lab of real nodes as the tests use it: one lab for all files (set-up.ts), commands on its nodes, faults, and what is
 * true there, asked of virsh and of the disks and never of havirt. Every wait is for a condition.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { chmod, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const PROGRAM = join(import.meta.dirname, '..', '..', 'lab', 'lab')
/** Another name runs the tests beside somebody else's. */
export const LAB = process.env['HAVIRT_TEST_LAB'] ?? 'test'
/** The nodes of the cluster. */
export const NODES = ['node1', 'node2', 'node3'] as const
/** A machine of the same network that is no node of the cluster. */
export const OUTSIDER = 'node4'
/** havirt's home, as the nodes see it. */
export const HOME = '/media/shared/havirt'

/** The command line of a running havirt on a node, for {@link processes}. */
export const HAVIRT_PROCESS = 'dist/havirt\\.'

/** How a command ended. */
export interface Done {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** What `-o json` prints. */
export interface Printed {
  readonly status: number
  readonly rows: readonly Readonly<Record<string, string | number>>[]
  readonly script?: readonly string[]
  readonly results?: readonly { readonly step: string; readonly outcome: string; readonly detail?: string }[]
  readonly messages: readonly { readonly kind: string; readonly text: string; readonly next?: string }[]
}

/** A command that still runs. */
export interface Running {
  readonly child: ChildProcess
  readonly done: Promise<Done>
  /** What it has printed to stderr so far. */
  said(): string
}

export interface Input {
  readonly stdin?: string
}

/** Starts `lab/lab WORDS...` on the tests' lab and does not wait. */
export function begin(words: readonly string[], { stdin = '' }: Input = {}): Running {
  const child = spawn(PROGRAM, ['--name', LAB, ...words], { stdio: 'pipe' })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  // A command that does not read its input ends the pipe.
  child.stdin.on('error', () => undefined)
  child.stdin.end(stdin)
  const done = new Promise<Done>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', status => resolve({ status: status ?? -1, stdout, stderr }))
  })
  return { child, done, said: () => stderr }
}

/** Runs a command on a node. */
export function exec(node: string, argv: readonly string[], input: Input = {}): Promise<Done> {
  return begin(['exec', node, ...argv], input).done
}

/** Runs a line in a shell on a node. */
export function shell(node: string, line: string, input: Input = {}): Promise<Done> {
  return exec(node, ['sh', '-c', line], input)
}

/** Runs havirt on a node. */
export function havirt(node: string, ...args: string[]): Promise<Done> {
  return exec(node, ['havirt', ...args])
}

/** Runs havirt on a node for its JSON, which is there whatever the status. */
export async function printed(node: string, ...args: string[]): Promise<Printed> {
  const done = await havirt(node, '-o', 'json', ...args)
  try {
    return JSON.parse(done.stdout)
  } catch {
    throw new Error(`havirt ${args.join(' ')} printed no JSON (status ${done.status}): ${done.stdout}${done.stderr}`)
  }
}

/** All that was said to people, in one text. */
export function words({ messages }: Printed): string {
  return messages.map(({ text, next = '' }) => `${text}\n${next}`).join('\n')
}

/** Runs something that belongs to the preparation of a test: it must work. */
export async function sure(running: Promise<Done>): Promise<string> {
  const { status, stdout, stderr } = await running
  if (status !== 0) throw new Error(`status ${status}: ${stderr}${stdout}`)
  return stdout
}

/** Starts havirt on a node and does not wait. */
export function havirtBegins(node: string, ...args: string[]): Running {
  return begin(['exec', node, 'havirt', ...args])
}

/** A fault, or its end; see `lab/lab --help`. */
export async function fault(...words: string[]): Promise<void> {
  // A node that is switched on again is another process.
  pids.clear()
  await sure(begin(['fault', ...words]).done)
}

export type GuestOptions = { readonly disk?: 'iscsi' | 'file' | 'twin' | 'none'; readonly memoryMiB?: number }

/** The XML of a guest, its disk made if there is none. */
export function guest(name: string, { disk = 'iscsi', memoryMiB = 32 }: GuestOptions = {}): Promise<string> {
  return sure(begin(['guest', name, '--disk', disk, '--memory', String(memoryMiB)]).done)
}

/** A guest's uuid, from its XML. */
export function uuidOf(xml: string): string {
  return /<uuid>(.*)<\/uuid>/.exec(xml)?.[1] ?? ''
}

const pids = new Map<string, string>()

/** A file of a node as this machine sees it. */
export async function pathOn(node: string, path: string): Promise<string> {
  const pid = pids.get(node) ?? (await sure(begin(['pid', node]).done)).trim()
  pids.set(node, pid)
  return `/proc/${pid}/root${path}`
}

/** Puts a definition into conf/. Gives it back. */
export async function define(name: string, options: GuestOptions & { edit?(xml: string): string } = {}) {
  const xml = await guest(name, options)
  const text = options.edit?.(xml) ?? xml
  await putDefinition(name, text)
  return text
}

export async function putDefinition(name: string, text: string): Promise<void> {
  const path = await pathOn('node1', `${HOME}/conf/${name}.xml`)
  await writeFile(path, text)
  await chmod(path, 0o600)
}

/** Puts a definition into conf/ and starts it. */
export async function running(name: string, node: string, options: GuestOptions & { edit?(xml: string): string } = {}) {
  const xml = await define(name, options)
  await sure(havirt('node1', '-q', '-y', 'domain', 'start', name, node))
  return xml
}

/** A line that edits config.yaml: `key: value` in a section that has no such key yet. */
export async function configure(section: string, line: string): Promise<void> {
  const path = await pathOn('node1', `${HOME}/config.yaml`)
  const text = await readFile(path, 'utf8')
  await writeFile(path, text.replace(`\n${section}:\n`, `\n${section}:\n  ${line}\n`))
}

/** Starts a domain behind havirt's back, as a person would. (Node.js gives a child a socket, which cannot be /dev/stdin.) */
export async function createByVirsh(node: string, xml: string): Promise<void> {
  await sure(shell(node, 'cat | virsh create /dev/stdin', { stdin: xml }))
}

/** Defines a domain on a node itself, behind havirt's back, and starts it there. */
export async function defineByVirsh(node: string, xml: string, ...verbs: ('start' | 'autostart')[]): Promise<void> {
  await sure(shell(node, 'cat | virsh define /dev/stdin', { stdin: xml }))
  for (const verb of verbs) await sure(exec(node, ['virsh', verb, uuidOf(xml)]))
}

/** What virsh on one node shows: name -> state, those that are shut off included. */
export async function domainsOn(node: string): Promise<Record<string, string>> {
  const { stdout } = await exec(node, ['virsh', '-q', 'list', '--all'])
  const lines = stdout.split('\n').map(line => /^\s*\S+\s+(\S+)\s+(.*?)\s*$/.exec(line))
  return Object.fromEntries(lines.flatMap(match => (match === null ? [] : [[match[1] ?? '', match[2] ?? '']])))
}

/** What virsh on every node shows, the nodes asked at once. */
export async function everywhere(nodes: readonly string[] = NODES): Promise<Record<string, Record<string, string>>> {
  return Object.fromEntries(await Promise.all(nodes.map(async node => [node, await domainsOn(node)] as const)))
}

/** Nodes where the domain is active, by virsh. */
export async function whereIs(name: string, nodes: readonly string[] = NODES): Promise<string[]> {
  const all = await everywhere(nodes)
  return nodes.filter(node => {
    const state = all[node]?.[name]
    return state !== undefined && state !== 'shut off'
  })
}

/** What the guest last wrote to its disk; undefined before it wrote anything. */
export interface Beat {
  readonly nonce: string
  readonly counter: number
}

const LUNS = join('/var/lib/havirt-lab', LAB, 'luns')

/** The file behind a guest's disk on iSCSI. */
export const diskOf = (name: string) => join(LUNS, `${name}.img`)

export async function beat(name: string): Promise<Beat | undefined> {
  return toBeat((await readFile(diskOf(name))).subarray(512, 1024))
}

/** Reads the guest's record (lab/README.md) in sector 1 of its disk. */
export function toBeat(sector: Buffer): Beat | undefined {
  if (sector.toString('latin1', 0, 4) !== 'HVRT') return undefined
  return { nonce: sector.toString('hex', 4, 12), counter: sector.readUInt32LE(12) }
}

/** Waits until the guest wrote to its disk, and after `since` if that is given. */
export function nextBeat(name: string, since?: Beat): Promise<Beat> {
  return until(`${name} writes to its disk`, async () => {
    const now = await beat(name)
    return now !== undefined && (now.nonce !== since?.nonce || now.counter > since.counter) ? now : undefined
  })
}

const POLL_MS = 50

/** What takes longer than this is asked for once a second only: each question starts processes, and the machine has other work. */
const LONG_SECONDS = 30
const LONG_POLL_MS = 1000

/** Waits until `check` gives something; then that is the answer. */
export async function until<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  seconds = 20,
): Promise<T> {
  const end = performance.now() + seconds * 1000
  for (;;) {
    const answer = await check()
    if (answer !== undefined && answer !== false) return answer
    if (performance.now() > end) throw new Error(`after ${seconds} s it is still not so: ${what}`)
    const pollMs = seconds > LONG_SECONDS ? LONG_POLL_MS : POLL_MS
    await new Promise(resolve => setTimeout(resolve, pollMs))
  }
}

/** Processes of a node whose command line matches, as the node numbers them. */
export async function processes(node: string, pattern: string): Promise<number[]> {
  const { stdout } = await exec(node, ['pgrep', '-f', '--', pattern])
  return stdout.split('\n').filter(Boolean).map(Number)
}

/** Signals processes of a node by number. Those that ended meanwhile are no matter. */
export async function signal(node: string, name: string, numbers: readonly number[]): Promise<void> {
  if (numbers.length > 0) await exec(node, ['kill', `-${name}`, ...numbers.map(String)])
}

/**
 * Kills processes of a node at once, from outside, by what /proc holds of their command line: words that end with \0. How many
 * they were.
 */
export async function killOn(node: string, pattern: RegExp): Promise<number> {
  const space = readlinkSync(await pathOn(node, '/proc/1/ns/pid'))
  const found = readdirSync('/proc').filter(pid => /^\d+$/.test(pid) && isThere(pid, space, pattern))
  return found.filter(pid => kill(Number(pid))).length
}

function kill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    // It ended meanwhile.
    return false
  }
}

function isThere(pid: string, space: string, pattern: RegExp): boolean {
  try {
    return pattern.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) && readlinkSync(`/proc/${pid}/ns/pid`) === space
  } catch {
    // It ended meanwhile.
    return false
  }
}

/** Ends the ssh masters that a node holds, to all nodes or to one. */
export async function dropMasters(node: string, to = 'node'): Promise<void> {
  await signal(node, 'KILL', await processes(node, `^ssh -M .*-- ${to}`))
}

/** Leaves nothing: no domain on any node, no definition, no record of a scan. Faults must be healed before. */
export async function clean(): Promise<void> {
  await Promise.all(NODES.map(node => sure(shell(node, CLEAN))))
  await sure(shell('node1', `rm -rf ${HOME}/conf/* ${HOME}/var/population/*`))
  await forgetBeats()
}

/** The next guest of the same name must not find the record of the one before. */
async function forgetBeats(): Promise<void> {
  const images = (await readdir(LUNS)).filter(name => name.endsWith('.img'))
  await Promise.all(
    images.map(async name => {
      const image = await open(join(LUNS, name), 'r+')
      await image.write(Buffer.alloc(512), 0, 512, 512)
      await image.close()
    }),
  )
}

const CLEAN = `virsh -q list --name | while read -r name; do [ -z "$name" ] || virsh -q destroy "$name"; done
virsh -q list --all --name | while read -r name; do
  [ -z "$name" ] || virsh -q undefine --managed-save --snapshots-metadata --nvram "$name" ||
    virsh -q undefine --managed-save --snapshots-metadata "$name"
done
[ -z "$(virsh -q list --all --name)" ]`
