/** Runs one operation in the real world and prints its report. Every error becomes a sentence here, and none a stack trace. */
import { assemble } from '../assemble.ts'
import type { Parts } from '../operate.ts'
import type { Input, MachineOperation, Operation } from '../operations/operation.ts'
import { type ExitStatus, exitStatus, failure, type Report } from '../report.ts'
import { ConfigError } from '../store/home.ts'
import { StoreError } from '../store/store.ts'
import { askPerson, isSomebodyThere, terminalInterrupt } from './interrupt.ts'
import { chooseFormat, printReport } from './output.ts'
import type { GlobalOptions, Installation } from './program.ts'
import { terminalProgress } from './progress.ts'

/** Gives back the exit status. */
export async function perform(
  operation: Operation | MachineOperation,
  given: Omit<Input, 'mode' | 'ask'>,
  options: GlobalOptions,
  installation: Installation,
): Promise<ExitStatus> {
  const home = options.home || process.env['HAVIRT_HOME'] || installation.above
  let parts: Parts | undefined
  let report: Report
  try {
    const conflict = contradiction(options)
    if (conflict !== undefined) return print(conflict, options, undefined)
    if ('here' in operation) {
      const input = { ...given, mode: { act: options.dryrun !== true, ensure: options.ensure === true, waitMs: 0 } }
      return print(await operation.here({ ...installation, home }, input), options, undefined)
    }
    const interrupt = terminalInterrupt(operation.changes)
    parts = await assemble(home, await terminalProgress(options.quiet === true), interrupt)
    const act =
      options.yes === true || options.dryrun === false || (options.dryrun === undefined && !parts.home.config.dryrun)
    const waitMs = Number(options.wait ?? 0) * 1000
    const input = { ...given, mode: { act, ensure: options.ensure === true, waitMs } }
    report = await operation.run(parts, isSomebodyThere() ? { ...input, ask: askPerson } : input)
  } catch (error) {
    report = errorReport(error)
  } finally {
    parts?.nodes.close()
  }
  return print(report, options, parts)
}

async function print(report: Report, options: GlobalOptions, parts: Parts | undefined): Promise<ExitStatus> {
  const wanted = options.json === true ? 'json' : options.output
  const format = chooseFormat(wanted, parts?.home.config.output.format ?? 'auto', process.stdout.isTTY === true)
  await printReport(report, { format, quiet: options.quiet === true })
  return report.exit
}

function contradiction({ yes, dryrun, json, output }: GlobalOptions): Report | undefined {
  const both =
    yes === true && dryrun === true
      ? '--yes and --dryrun'
      : json === true && output !== undefined && output !== 'json'
        ? `--json and --output ${output}`
        : undefined
  return both === undefined
    ? undefined
    : { exit: exitStatus.usage, messages: [failure(`${both} contradict each other`, 'give one of them')] }
}

function errorReport(error: unknown): Report {
  if (error instanceof ConfigError)
    return { exit: exitStatus.usage, messages: error.problems.map(problem => failure(problem)) }
  if (error instanceof StoreError) return { exit: exitStatus.failed, messages: [failure(error.message, error.hint)] }
  const sentence = error instanceof Error ? error.message : String(error)
  // For whoever mends havirt; an administrator never needs it.
  if (process.env['HAVIRT_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  return { exit: exitStatus.failed, messages: [failure(sentence)] }
}
