/** Completion for shells, from the table: a few lines of shell that ask havirt what may follow. */
import { join } from 'node:path'
import type { Described, Option } from '../operations/operation.ts'
import { verbs as allVerbs } from '../operations.ts'
import { DefinitionFolder } from '../store/definitions.ts'
import { DirectoryStore } from '../store/directory.ts'
import { Records } from '../store/records.ts'
import { globalOptions } from './program.ts'

const DOOR_VERBS = ['completion', 'help', 'man']

/** The script to be loaded by a shell. */
export function completionScript(shell: string): string {
  return SCRIPTS[shell] ?? ''
}

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `# havirt completion for bash
_havirt() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(havirt __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o nosort -o bashdefault -F _havirt havirt
`,
  zsh: `#compdef havirt
# havirt completion for zsh
_havirt() {
  local -a offered
  offered=("\${(@f)$(havirt __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a offered
}
compdef _havirt havirt
`,
  fish: `# havirt completion for fish
complete -c havirt -f -a '(havirt __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
}

/** What may stand for the last of the words, given those before it. */
export async function complete(words: readonly string[]): Promise<string[]> {
  const last = words.at(-1) ?? ''
  return (await offers(read(words.slice(0, -1)), last)).filter(offer => offer.startsWith(last))
}

/** The words before the one to complete: options may stand anywhere, and some take the next word with them. */
interface Given {
  /** Nouns, verbs and arguments. */
  readonly plain: readonly string[]
  /** The option whose value comes next. */
  readonly awaiting: Option | undefined
  readonly home: string | undefined
}

function read(words: readonly string[]): Given {
  const plain: string[] = []
  let awaiting: Option | undefined
  let home: string | undefined
  for (const word of words) {
    if (awaiting !== undefined) {
      if (flagsOf(awaiting).includes('--home')) home = word
      awaiting = undefined
    } else if (word.startsWith('-')) {
      awaiting = optionsFor(plain).find(option => takesValue(option) && flagsOf(option).includes(word))
    } else plain.push(word)
  }
  return { plain, awaiting, home }
}

async function offers({ plain, awaiting, home }: Given, last: string): Promise<readonly string[]> {
  if (awaiting !== undefined) return awaiting.choices ?? []
  if (last.startsWith('-'))
    return optionsFor(plain).flatMap(option => flagsOf(option).filter(flag => flag.startsWith('--')))
  const operation = operationOf(plain)
  if (operation !== undefined) return argumentOffers(operation, plain, home ?? usualHome())
  if (plain.length === 1 && plain[0] === 'completion') return Object.keys(SCRIPTS)
  const depth = plain.length
  const verbs = allVerbs
    .flatMap(({ name, aliases = [] }) => [name, ...aliases])
    .map(name => name.split(' '))
    .filter(parts => parts.slice(0, depth).join(' ') === plain.join(' '))
  const next = verbs.flatMap(parts => parts[depth] ?? [])
  return [...new Set([...next, ...(depth === 0 ? DOOR_VERBS : [])])]
}

function operationOf(given: readonly string[]): Described | undefined {
  const isGiven = (name: string) => name === given.slice(0, name.split(' ').length).join(' ')
  return allVerbs.find(({ name, aliases = [] }) => [name, ...aliases].some(isGiven))
}

function optionsFor(plain: readonly string[]): Option[] {
  return [...(operationOf(plain)?.options ?? []), ...globalOptions]
}

async function argumentOffers(operation: Described, plain: readonly string[], home: string): Promise<string[]> {
  const words = plain.slice(operation.name.split(' ').length)
  const argument = operation.args[words.length] ?? operation.args.find(({ many }) => many)
  if (argument === undefined) return []
  const names =
    argument.complete === 'node'
      ? await nodeNames(home)
      : argument.complete === 'domain'
        ? await new DefinitionFolder(home).names().catch(() => [])
        : []
  return [...names, ...(argument.words ?? [])].filter(name => !words.includes(name))
}

/** From the records alone: a shell must not wait for nodes. Where they cannot be read, nothing is offered. */
async function nodeNames(home: string): Promise<string[]> {
  const records = new Records(new DirectoryStore(join(home, 'var')))
  return [...(await records.nodes().catch(() => new Map<string, never>())).keys()]
}

function usualHome(): string {
  return process.env['HAVIRT_HOME'] ?? process.env['HAVIRT_ABOVE'] ?? '.'
}

/** `-o, --output FORMAT`: its spellings, and whether a value follows. */
function flagsOf({ flags }: Option): string[] {
  return flags.match(/-{1,2}[a-z-]+/g) ?? []
}

function takesValue({ flags }: Option): boolean {
  return / [A-Z]+$/.test(flags)
}
