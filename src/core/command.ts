/**
 * Step -> the exact command, and on which node. What a dry run prints and what an execution runs come from here (rule 11).
 */
import { describeStep, type MigrateOptions, type Step, type StepArgs, type StepName } from './step.ts'

/** A program with its arguments on a node. */
export interface Command {
  readonly node: string
  readonly argv: readonly string[]
  /** A file of the home folder that becomes its standard input. */
  readonly stdin?: string
  /** A file of the home folder that its standard output becomes. */
  readonly stdout?: string
}

/** A command on a node that is about no domain, and why: it sets the node itself up. */
export interface NodeAct {
  readonly node: string
  readonly why: string
  readonly command: Command
}

type Commands = { [S in StepName]: (args: StepArgs[S], uri: string) => Command | undefined }

/** The command of a step; undefined for a step that only waits or records. `uri` is the node's own libvirt. */
export function commandOf(one: Step, uri: string): Command | undefined {
  const make = commands[one.step] as (args: Step, uri: string) => Command | undefined
  return make(one, uri)
}

const commands: Commands = {
  createDomain: ({ node, definition }, uri) => ({ ...virsh(node, uri, 'create', '/dev/stdin'), stdin: definition }),
  shutdownDomain: ({ node, uuid, mode }, uri) => virsh(node, uri, 'shutdown', uuid, ...modeOption(mode)),
  awaitShutOff: () => undefined,
  awaitHostDead: () => undefined,
  acquitCopy: () => undefined,
  destroyCopy: ({ node, uuid }, uri) => virsh(node, uri, 'destroy', uuid),
  destroyDomain: ({ node, uuid, graceful }, uri) =>
    virsh(node, uri, 'destroy', uuid, ...(graceful ? ['--graceful'] : [])),
  rebootDomain: ({ node, uuid, mode }, uri) => virsh(node, uri, 'reboot', uuid, ...modeOption(mode)),
  resetDomain: ({ node, uuid }, uri) => virsh(node, uri, 'reset', uuid),
  suspendDomain: ({ node, uuid }, uri) => virsh(node, uri, 'suspend', uuid),
  resumeDomain: ({ node, uuid }, uri) => virsh(node, uri, 'resume', uuid),
  setMaxDowntime: ({ node, uuid, downtimeMs }, uri) =>
    virsh(node, uri, 'migrate-setmaxdowntime', uuid, String(downtimeMs)),
  disableAutostart: ({ node, uuid }, uri) => virsh(node, uri, 'autostart', '--disable', uuid),
  migrateDomain: ({ from, uuid, options }, uri) =>
    virsh(from, uri, 'migrate', ...migrateOptions(options), uuid, options.desturi),
  abortMigration: ({ from, uuid }, uri) => virsh(from, uri, 'domjobabort', uuid),
  saveDefinition: ({ node, uuid, definition }, uri) => ({
    ...virsh(node, uri, 'dumpxml', '--inactive', '--security-info', uuid),
    stdout: definition,
  }),
  undefineDomain: ({ node, uuid, keepTpm }, uri) =>
    virsh(node, uri, 'undefine', '--keep-nvram', ...(keepTpm ? ['--keep-tpm'] : []), uuid),
  recordIntent: () => undefined,
}

function virsh(node: string, uri: string, ...args: string[]): Command {
  return { node, argv: ['virsh', '-c', uri, ...args] }
}

function modeOption(mode: 'acpi' | 'agent' | undefined): string[] {
  return mode === undefined ? [] : ['--mode', mode]
}

function migrateOptions(options: MigrateOptions): string[] {
  return [
    '--live',
    '--p2p',
    ...(options.persistent ? ['--persistent', '--undefinesource'] : []),
    ...(options.unsafe ? ['--unsafe'] : []),
    ...(options.autoConverge ? ['--auto-converge'] : []),
    ...(options.postCopy ? ['--postcopy'] : []),
    ...timeoutOptions(options),
    ...(options.bandwidthMiBps === undefined ? [] : ['--bandwidth', String(options.bandwidthMiBps)]),
    ...(options.migrateuri === undefined ? [] : ['--migrateuri', options.migrateuri]),
  ]
}

function timeoutOptions({ timeoutSeconds, postCopy }: MigrateOptions): string[] {
  if (timeoutSeconds === undefined) return postCopy ? ['--postcopy-after-precopy'] : []
  return ['--timeout', String(timeoutSeconds), postCopy ? '--timeout-postcopy' : '--timeout-suspend']
}

/** Characters that mean nothing to a POSIX shell, wherever they stand. */
const PLAIN = /^[A-Za-z0-9_@%+:,./-]+(?:=[A-Za-z0-9_@%+:,./-]*)?$/

/** One word as a POSIX shell reads it back unchanged. */
export function quote(word: string): string {
  return PLAIN.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/** The command as the node's shell gets it. */
export function remoteLine(command: Command): string {
  return command.argv.map(quote).join(' ')
}

/**
 * The command as a line to paste into a shell on the machine where havirt ran: by ssh unless the node is that machine.
 * The words behind the node's name are joined by ssh and read by the node's shell, so they are quoted for both.
 */
export function pasteableLine(command: Command, here: string | undefined): string {
  const remote = remoteLine(command)
  const line = command.node === here ? remote : `${sshTo(command)} ${sshArgument(remote)}`
  const input = command.stdin === undefined ? '' : ` < ${quote(command.stdin)}`
  return command.stdout === undefined ? `${line}${input}` : intoFile(`${line}${input}`, command.stdout)
}

/** Without -n, ssh would read on in the script that it stands in, and the lines after it would be lost. */
function sshTo({ node, stdin }: Command): string {
  return stdin === undefined ? `ssh -n ${node}` : `ssh ${node}`
}

function sshArgument(remote: string): string {
  return remote.split(' ').every(word => PLAIN.test(word)) ? remote : quote(remote)
}

/** Definitions hold secrets, so nobody else may read the file at any moment; it is replaced in one step, never truncated. */
function intoFile(line: string, file: string): string {
  const fresh = quote(`${file}.new`)
  return `(umask 077 && ${line} > ${fresh}) && mv ${fresh} ${quote(file)}`
}

/** A plan as a shell script: `#` lines say why, the others are the commands. What only havirt does stands in brackets. */
export function script(steps: readonly Step[], uri: string, here: string | undefined): string[] {
  return steps.flatMap(one => {
    const command = commandOf(one, uri)
    if (command === undefined) return [`# (havirt itself: ${describeStep(one)})`]
    return [`# ${describeStep(one)}`, pasteableLine(command, here)]
  })
}

/** The same of acts on nodes, in their order. */
export function actScript(acts: readonly NodeAct[], here: string | undefined): string[] {
  return acts.flatMap(({ why, command }) => [`# ${why}`, pasteableLine(command, here)])
}
