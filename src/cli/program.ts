/** The table of operations as a command line: words in, an operation's input out, its report printed. */
import {
  Command,
  Argument as CommanderArgument,
  CommanderError,
  Option as CommanderOption,
  InvalidArgumentError,
} from 'commander'
import type { Input, MachineOperation, Operation, Option } from '../operations/operation.ts'
import { machineOperations, operations } from '../operations.ts'
import { exitStatus } from '../report.ts'
import type { Format } from './output.ts'

/** What the launcher knows. */
export interface Installation {
  /** The folder above bin/. */
  readonly above: string
  readonly version: string
}

/** The options that every command takes. */
export interface GlobalOptions {
  readonly home?: string
  readonly dryrun?: boolean
  readonly yes?: boolean
  readonly output?: Format
  readonly json?: boolean
  readonly quiet?: boolean
  readonly ensure?: boolean
  readonly wait?: number
}

/** They stand here once; the parser, completion and the man page read them. */
export const globalOptions: readonly Option[] = [
  {
    flags: '--home FOLDER',
    help: "havirt's home: config.yaml, conf/ and var/ (else $HAVIRT_HOME, else the folder above bin/)",
  },
  { flags: '-y, --yes', help: 'make the changes' },
  // Before its negation, or the parser would take "given" for the default.
  { flags: '--dryrun', help: 'only show what would be done, as shell commands' },
  { flags: '--no-dryrun', help: 'the same as --yes' },
  { flags: '-o, --output FORMAT', help: 'how to print', choices: ['table', 'tsv', 'json', 'yaml'] },
  { flags: '--json', help: 'the same as -o json' },
  { flags: '-q, --quiet', help: 'no progress and no notes; warnings and refusals remain' },
  { flags: '--ensure', help: 'what is already so is success, not a refusal' },
  {
    flags: '--wait SECONDS',
    help: 'try again for so long while somebody else works on the domain, or it still moves',
    range: { min: 0, max: 86_400 },
  },
]

/** Groups of verbs, and what they are about. */
export const groups: Readonly<Record<string, string>> = {
  node: 'hypervisors: update (also adds), list, scan, fence, remove, ...',
  domain: 'virtual machines: list, start, stop, migrate, update, adopt, ...',
  cluster: 'the nodes as one: validate, balance, reserve, whatif',
  rule: 'which domains are together, apart, or on certain nodes: add, list, remove',
  lease: 'disk leases of sanlock or virtlockd: enable, show, explain, clean up',
  claim: 'who is working on what: list, takeover',
  config: 'options of config.yaml: list, set',
  ocf: 'the resource agent for Pacemaker, on this machine: install, status, uninstall',
}

/** Runs one command line and gives back its exit status. Prints everything that there is to say. */
export async function runCommand(argv: readonly string[], installation: Installation): Promise<number> {
  let status: number = exitStatus.done
  const program = buildProgram(installation, async (operation, input, options) => {
    const { perform } = await import('./perform.ts')
    status = await perform(operation, input, options, installation)
  })
  try {
    await program.parseAsync(argv[0] === 'help' ? [...argv.slice(1), '--help'] : [...argv], { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitStatus.done : exitStatus.usage
    throw error
  }
}

type AnyOperation = Operation | MachineOperation
type Run = (operation: AnyOperation, input: Omit<Input, 'mode' | 'ask'>, options: GlobalOptions) => Promise<void>

/** The parser, made from the table. */
export function buildProgram(installation: Installation, run: Run): Command {
  const program = new Command('havirt')
    .description(
      'Keeps libvirt hypervisors with shared storage working as one cluster. A domain never runs twice, and you see what will be done before it is done.',
    )
    .version(`havirt ${installation.version}`, '-V, --version', 'print the version')
    .configureHelp({ showGlobalOptions: false, sortSubcommands: false })
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'havirt: ')) })
    .showHelpAfterError('(havirt --help shows all commands)')
    .exitOverride()
  for (const option of globalOptions) program.addOption(toOption(option))
  program.addHelpText('after', EPILOGUE)
  for (const operation of [...operations, ...machineOperations]) addOperation(program, operation, run)
  addDoorVerbs(program)
  return program
}

const EPILOGUE = `
Changes are shown as shell commands and not made, unless -y is given or config.yaml says dryrun: false.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 partly done, 5 unknown, 6 a domain is present twice.
Start with: havirt node update NODE...   then: havirt node scan`

function addOperation(program: Command, operation: AnyOperation, run: Run): void {
  const [first = '', verb] = operation.name.split(' ')
  const parent = verb === undefined ? program : groupOf(program, first)
  const command = parent.command(verb ?? first).description(operation.summary)
  for (const alias of operation.aliases ?? []) command.alias(alias.slice(alias.lastIndexOf(' ') + 1))
  // Commander counts a subcommand's own settings, so what the program has is said again.
  command.exitOverride().copyInheritedSettings(program).configureHelp({ showGlobalOptions: true })
  for (const argument of operation.args) {
    const spelled = argument.many ? `${argument.name}...` : argument.name
    command.addArgument(new CommanderArgument(argument.required ? `<${spelled}>` : `[${spelled}]`, argument.help))
  }
  for (const option of operation.options) command.addOption(toOption(option))
  command.addHelpText(
    'after',
    `\n${operation.description}\n\nExamples:\n${operation.examples.map(example => `  ${example}`).join('\n')}`,
  )
  command.action(async (...given: unknown[]) => {
    const words = Object.fromEntries(
      operation.args.map(({ name }, at) => [name, given[at] as string | string[] | undefined]),
    )
    const spelled = ['havirt', operation.name, ...Object.values(words).flatMap(value => value ?? [])].join(' ')
    await run(operation, { words, options: command.opts(), spelled }, program.opts<GlobalOptions>())
  })
}

function groupOf(program: Command, name: string): Command {
  const known = program.commands.find(command => command.name() === name)
  if (known !== undefined) return known
  return program
    .command(name)
    .description(groups[name] ?? name)
    .exitOverride()
    .copyInheritedSettings(program)
}

/** Commander knows `--timeout <value>`; the table says `--timeout SECONDS`, as people read it. */
function toOption(option: Option): CommanderOption {
  const made = new CommanderOption(option.flags.replace(/ ([A-Z]+)$/, ' <$1>'), option.help)
  if (option.choices !== undefined) made.choices(option.choices)
  if (option.range !== undefined) made.argParser(text => wholeNumber(text, option.range ?? { min: 0, max: 0 }))
  return made
}

function wholeNumber(text: string, { min, max }: { min: number; max: number }): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`)
  return value
}

/** Verbs of the command line itself, which no other door has. */
function addDoorVerbs(program: Command): void {
  program
    .command('completion')
    .description('print the completion for a shell: bash, zsh or fish')
    .addArgument(new CommanderArgument('<SHELL>', 'the shell').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      '\nExamples:\n  havirt completion bash > /etc/bash_completion.d/havirt\n  havirt completion fish > ~/.config/fish/completions/havirt.fish',
    )
    .action(async shell => {
      const { completionScript } = await import('./completion.ts')
      process.stdout.write(completionScript(shell))
    })
  program
    .command('man')
    .description('print the manual page (havirt man | man -l -)')
    .action(async () => {
      const { manualPage } = await import('./manual.ts')
      process.stdout.write(manualPage())
    })
  program
    .command('__complete', { hidden: true })
    .allowUnknownOption()
    .argument('[WORDS...]')
    .action(async (words: string[]) => {
      const { complete } = await import('./completion.ts')
      process.stdout.write((await complete(words)).map(word => `${word}\n`).join(''))
    })
}
