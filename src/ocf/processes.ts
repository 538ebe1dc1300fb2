/** Which process runs a domain, by the command lines of this machine: asked when libvirt does not answer, and of nothing else. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'

/** By which names and uuids a domain may be known. */
export interface Known {
  readonly names: readonly string[]
  readonly uuids: readonly string[]
}

/** The process that is the domain; undefined: certainly none; `unknown`: the driver's processes do not say whose they are. */
export function processOf(driver: string, known: Known): number | 'unknown' | undefined {
  if (driver !== 'qemu' && driver !== 'lxc') return 'unknown'
  const isOurs = driver === 'qemu' ? isQemu : isContainer
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    if (isOurs(wordsOf(entry), known)) return Number(entry)
  }
  return undefined
}

/** True when some process of this driver runs a domain that is none of these: nobody knows whose it is. */
export function hasOtherThan(driver: string, uuids: ReadonlySet<string>): boolean {
  return readdirSync('/proc').some(entry => {
    if (!/^\d+$/.test(entry)) return false
    const words = wordsOf(entry)
    if (driver === 'lxc') return basename(words[0] ?? '') === 'libvirt_lxc'
    const uuid = after(words, '-uuid')?.toLowerCase()
    return uuid !== undefined && after(words, '-name') !== undefined && !uuids.has(uuid)
  })
}

/** The words of a command line; none of a process that has ended, or is a part of the kernel. */
function wordsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
  } catch {
    return []
  }
}

/** libvirt starts each with `-name guest=NAME,...` and `-uuid UUID` (src/qemu/qemu_command.c); a comma in the name is doubled. */
function isQemu(words: readonly string[], { names, uuids }: Known): boolean {
  const uuid = after(words, '-uuid')?.toLowerCase()
  if (uuid !== undefined && uuids.includes(uuid)) return true
  const name = after(words, '-name')
  if (name === undefined) return false
  const guest = /(?:^|,)guest=((?:[^,]|,,)*)/.exec(name)?.[1] ?? bareName(words[0] ?? '', name)
  return names.map(inLatin1).includes(guest.replaceAll(',,', ','))
}

/** Before libvirt 1.2 the name stood alone; other programs have an option -name, too. */
function bareName(program: string, name: string): string {
  return /qemu|kvm/.test(basename(program)) ? (/^(?:[^,=]|,,)*/.exec(name)?.[0] ?? '') : ''
}

/** The controller of a container (src/lxc/lxc_controller.c). */
function isContainer(words: readonly string[], { names }: Known): boolean {
  return basename(words[0] ?? '') === 'libvirt_lxc' && names.map(inLatin1).includes(after(words, '--name') ?? '')
}

function after(words: readonly string[], flag: string): string | undefined {
  const at = words.indexOf(flag)
  return at < 0 ? undefined : words[at + 1]
}

/** Command lines are read as bytes, since nobody promises that they are UTF-8. */
function inLatin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

const DAEMONS = ['libvirtd', 'virtqemud', 'virtlxcd', 'virtxend']

/** False when there is neither a daemon of libvirt nor its client. */
export function isLibvirtInstalled(): boolean {
  const folders = (process.env['PATH'] || '/usr/sbin:/usr/bin:/sbin:/bin').split(':')
  return (
    isProgram('virsh') ||
    [...folders, '/usr/sbin'].some(folder => DAEMONS.some(daemon => existsSync(`${folder}/${daemon}`)))
  )
}

/** True when a program of this name is found where a shell would find it. ocf-tester pretends with a variable that none is. */
export function isProgram(name: string): boolean {
  if (process.env['OCF_TESTER_FAIL_HAVE_BINARY']) return false
  const folders = (process.env['PATH'] || '/usr/sbin:/usr/bin:/sbin:/bin').split(':')
  return folders.some(folder => folder !== '' && existsSync(`${folder}/${name}`))
}
