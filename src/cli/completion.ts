/** Completion for shells, from the table: a few lines of shell that ask havirt what may follow. */
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Operation, Option } from '../operations/operation.ts'
import { operations } from '../operations.ts'
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
  const given = withoutGlobals(words.slice(0, -1))
  return (await offers(given, last)).filter(offer => offer.startsWith(last))
}

async function offers(given: readonly string[], last: string): Promise<string[]> {
  const operation = operationOf(given)
  if (last.startsWith('-')) return [...(operation?.options ?? []), ...globalOptions].flatMap(longFlags)
  if (operation !== undefined) return argumentOffers(operation, given)
  const depth = given.length
  const verbs = operations
    .map(({ name }) => name.split(' '))
    .filter(parts => parts.slice(0, depth).join(' ') === given.join(' '))
  const next = verbs.flatMap(parts => parts[depth] ?? [])
  return [...new Set([...next, ...(depth === 0 ? DOOR_VERBS : [])])]
}

function operationOf(given: readonly string[]): Operation | undefined {
  return operations.find(({ name }) => name === given.slice(0, name.split(' ').length).join(' '))
}

async function argumentOffers(operation: Operation, given: readonly string[]): Promise<string[]> {
  const words = given.slice(operation.name.split(' ').length).filter(word => !word.startsWith('-'))
  const argument = operation.args[words.length] ?? operation.args.find(({ many }) => many)
  if (argument === undefined) return []
  const names =
    argument.complete === 'node' ? await nodeNames() : argument.complete === 'domain' ? await domainNames() : []
  return [...names.filter(name => !words.includes(name)), ...(argument.words ?? [])]
}

/** Read from the folders alone: a shell must not wait for nodes. */
async function nodeNames(): Promise<string[]> {
  return readdir(join(home(), 'var', 'nodes')).catch(() => [])
}

async function domainNames(): Promise<string[]> {
  const files = await readdir(join(home(), 'conf')).catch(() => [])
  return files.filter(file => file.endsWith('.xml')).map(file => file.slice(0, -4))
}

function home(): string {
  return process.env['HAVIRT_HOME'] ?? process.env['HAVIRT_ABOVE'] ?? dirname(import.meta.dirname)
}

function longFlags({ flags }: Option): string[] {
  return flags.match(/--[a-z-]+/g) ?? []
}

/** Global options may stand anywhere; those with a value take the next word with them. */
function withoutGlobals(words: readonly string[]): string[] {
  const withValue = new Set(
    globalOptions
      .filter(({ flags }) => / [A-Z]+$/.test(flags))
      .flatMap(({ flags }) => flags.match(/-{1,2}[a-z-]+/g) ?? []),
  )
  const all = new Set(globalOptions.flatMap(({ flags }) => flags.match(/-{1,2}[a-z-]+/g) ?? []))
  return words.filter((word, at) => !all.has(word) && !withValue.has(words[at - 1] ?? ''))
}
