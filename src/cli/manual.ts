/** The manual page havirt(1), from the table, in man(7)'s macros. */
import { configOptions } from '../core/config.ts'
import type { Argument, Described, Option } from '../operations/operation.ts'
import { verbs } from '../operations.ts'
import { globalOptions } from './program.ts'

/** The whole page as roff. */
export function manualPage(): string {
  return [
    '.TH HAVIRT 1 "" havirt "System administration"',
    section('NAME', 'havirt \\- keep libvirt hypervisors with shared storage working as one cluster'),
    section('SYNOPSIS', '.B havirt\n[\\fIOPTION\\fR...] \\fINOUN VERB\\fR [\\fIARGUMENT\\fR...]'),
    section('DESCRIPTION', DESCRIPTION.map(roff).join('\n.PP\n')),
    section('OPTIONS', globalOptions.map(optionText).join('\n')),
    section('COMMANDS', verbs.map(operationText).join('\n')),
    section(
      'CONFIGURATION',
      `.I config.yaml\nin the home folder has these keys:\n${configOptions.map(configText).join('\n')}`,
    ),
    section('EXIT STATUS', STATUSES.map(([status, text]) => item(`\\fB${status}\\fR`, roff(text))).join('\n')),
    section('FILES', FILES.map(([file, text]) => item(`\\fI${roff(file)}\\fR`, roff(text))).join('\n')),
    section('SEE ALSO', '.BR virsh (1),\n.BR ssh_config (5)'),
    '',
  ].join('\n')
}

const DESCRIPTION = [
  "havirt knows which domain runs on which node, and starts, stops and live-migrates domains so that none ever runs twice. It needs no daemon: it reads over libvirt's own protocol and acts by virsh on the node, both through ssh.",
  'Every change is first shown as shell commands that do the same when they are pasted into a shell. Option -y makes it, as does dryrun: false in the configuration.',
]

const STATUSES = [
  ['0', 'done, or nothing to do'],
  ['1', 'failed'],
  ['2', 'wrong usage, or a configuration that cannot be read'],
  ['3', 'refused, with the reason and what to do next'],
  ['4', 'partly done'],
  ['5', 'unknown: interrupted, and the end could not be seen'],
  ['6', 'a domain is present on two nodes'],
] as const

const FILES = [
  ['HOME/config.yaml', 'the configuration; config.sample.yaml beside it shows every key'],
  ['HOME/conf/NAME.xml', 'the one definition of each domain'],
  ['HOME/var/', 'records and claims'],
  ['/var/lib/havirt/id', 'on each node: which node of which cluster it is'],
  ['/run/havirt/', 'connections (here), and the guard of each domain (on nodes); gone after a reboot'],
] as const

function section(title: string, text: string): string {
  return `.SH ${title}\n${text}`
}

function item(head: string, text: string): string {
  return `.TP\n${head}\n${text}`
}

function operationText(operation: Described): string {
  const usage = [operation.name, ...operation.args.map(argumentText)].join(' ')
  const examples = operation.examples.map(example => `.EX\n${roff(example)}\n.EE`).join('\n')
  return [
    `.SS "havirt ${roff(usage)}"`,
    roff(operation.description),
    ...(operation.aliases ?? []).map(alias => `.PP\n${roff(`It is the same as: havirt ${alias}.`)}`),
    ...operation.options.map(optionText),
    '.PP',
    examples,
  ].join('\n')
}

function argumentText({ name, required, many }: Argument): string {
  const spelled = many ? `${name}...` : name
  return required ? spelled : `[${spelled}]`
}

function optionText({ flags, help, choices }: Option): string {
  const among = choices === undefined ? '' : ` (${choices.join(', ')})`
  return item(`\\fB${roff(flags)}\\fR`, roff(`${help}${among}`))
}

function configText({ key, help, default: standard }: { key: string; help: string; default: unknown }): string {
  return item(`\\fB${roff(key)}\\fR (default ${roff(JSON.stringify(standard))})`, roff(help))
}

/** Text as roff: no line may begin with a control character, and a dash is a dash. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')
}
