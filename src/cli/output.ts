/** Prints a report: aligned for people, tab-delimited for pipes, JSON or YAML for programs. Results to stdout, words to stderr. */
import { styleText } from 'node:util'
import type { Cell, Column, Message, Report, StepResult, Table } from '../report.ts'

export type Format = 'table' | 'tsv' | 'json' | 'yaml'

export interface PrintOptions {
  readonly format: Format
  readonly quiet: boolean
}

/** The option, else the config, else a table on a terminal and tabs in a pipe. */
export function chooseFormat(option: Format | undefined, configured: Format | 'auto', terminal: boolean): Format {
  if (option !== undefined) return option
  if (configured !== 'auto') return configured
  return terminal ? 'table' : 'tsv'
}

/** Writes the whole report. */
export async function printReport(report: Report, options: PrintOptions): Promise<void> {
  if (options.format === 'json') return writeOut(`${JSON.stringify(forPrograms(report), null, 2)}\n`)
  if (options.format === 'yaml') return writeOut((await import('yaml')).stringify(forPrograms(report)))
  const text = [
    ...(report.script ?? []),
    ...(await resultLines(report.results ?? [], options.format)),
    // A dry run can be pasted: where there is a script, the table is for programs.
    ...(report.script === undefined ? await tablesLines(report, options.format) : []),
  ]
  if (text.length > 0) writeOut(`${text.join('\n')}\n`)
  const messages = report.messages.filter(({ kind }) => !options.quiet || kind !== 'note')
  process.stderr.write(messages.map(message => messageText(message, process.stderr.isTTY === true)).join(''))
}

function writeOut(text: string): void {
  process.stdout.write(text)
}

/** What `-o json` and `-o yaml` give: documented in docs/formats.md. */
function forPrograms({ exit, table, also, script, plan, results, messages }: Report): object {
  return {
    status: exit,
    ...(table === undefined ? {} : { rows: table.rows }),
    ...(also === undefined ? {} : { [also.key]: also.table.rows }),
    ...(script === undefined ? {} : { script }),
    ...(plan === undefined ? {} : { plan }),
    ...(results === undefined ? {} : { results }),
    messages,
  }
}

async function tablesLines({ table, also }: Report, format: Format): Promise<string[]> {
  const [first, second] = [await tableLines(table, format), await tableLines(also?.table, format)]
  return first.length === 0 || second.length === 0 ? [...first, ...second] : [...first, '', ...second]
}

async function tableLines(table: Table | undefined, format: Format): Promise<string[]> {
  if (table === undefined || table.rows.length === 0) return []
  const { columns, rows } = table
  const titles = columns.map(({ title }) => title)
  if (format === 'tsv')
    return [titles, ...rows.map(row => columns.map(({ key }) => oneLine(plainCell(row[key]))))].map(cells =>
      cells.join('\t'),
    )
  return aligned(columns, [titles, ...rows.map(row => columns.map(column => shownCell(row[column.key], column)))])
}

async function resultLines(results: readonly StepResult[], format: Format): Promise<string[]> {
  const rows = results.map(({ outcome, text, detail }) => [
    outcome,
    oneLine(detail === undefined ? text : `${text} (${detail})`),
  ])
  if (format === 'tsv' || rows.length === 0) return rows.map(cells => cells.join('\t'))
  const columns = [{ key: 'outcome' }, { key: 'text' }].map(({ key }) => ({ key, title: '', help: '' }))
  return aligned(columns, rows)
}

/** Columns by spaces alone. The library counts widths as a terminal does, wide characters and combining marks included. */
async function aligned(columns: readonly Column[], lines: readonly (readonly string[])[]): Promise<string[]> {
  const { default: Table } = await import('cli-table3')
  const none = Object.fromEntries(BORDERS.map(border => [border, '']))
  const table = new Table({
    chars: { ...none, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: columns.map(({ align }) => align ?? 'left'),
  })
  table.push(...lines.map(cells => [...cells]))
  return table
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
}

const BORDERS = [
  'top',
  'top-mid',
  'top-left',
  'top-right',
  'bottom',
  'bottom-mid',
  'bottom-left',
  'bottom-right',
  'left',
  'left-mid',
  'mid',
  'mid-mid',
  'right',
  'right-mid',
]

function plainCell(value: Cell): string {
  return value === undefined ? '' : String(value)
}

function shownCell(value: Cell, { unit }: Column): string {
  if (value === undefined || value === '') return '-'
  return unit === undefined ? oneLine(String(value)) : `${value} ${unit}`
}

/** A name on a node, or a message of a program there, may hold anything: it must not break a line or command the terminal. */
function oneLine(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}

const PREFIX = { note: '', warning: 'warning: ', refused: 'refused: ', error: 'error: ' } as const
const COLOUR = { note: 'dim', warning: 'yellow', refused: 'red', error: 'red' } as const

/** A message, and below it, indented, what to do next. */
function messageText({ kind, text, next }: Message, terminal: boolean): string {
  const prefix = PREFIX[kind]
  const paint = (words: string) =>
    terminal && process.env['NO_COLOR'] === undefined && words !== '' ? styleText(COLOUR[kind], words) : words
  const after = next === undefined ? '' : `${' '.repeat(prefix.length)}${oneLine(next)}\n`
  return `${paint(prefix)}${oneLine(text)}\n${after}`
}
