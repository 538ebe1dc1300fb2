/** A report as the operational log shows it: what came of it, then one line for each row, step and message. */
import { exitStatus, type Message, type Report, type StepResult, type Table } from '../report.ts'

const EXITS = Object.fromEntries(Object.entries(exitStatus).map(([name, status]) => [status, name]))

/** `3 (refused)` and further lines. */
export function reportText({ exit, table, script, results, messages }: Report): string {
  return [
    `${exit} (${EXITS[exit]})`,
    ...(table === undefined ? [] : rowLines(table)),
    ...(script ?? []).map(line => `| ${line}`),
    ...(results ?? []).map(resultLine),
    ...messages.flatMap(messageLines),
  ].join('\n')
}

function rowLines({ columns, rows }: Table): string[] {
  const cells = rows.map(row => columns.map(({ key, unit }) => cell(row[key], unit)).filter(text => text !== ''))
  return cells.map(texts => `| ${texts.join('  ')}`)
}

function cell(value: Table['rows'][number][string], unit: string | undefined): string {
  return value === undefined ? '' : `${value}${typeof value === 'number' && unit !== undefined ? ` ${unit}` : ''}`
}

function resultLine({ text, outcome, detail }: StepResult): string {
  return `${outcome}: ${text}${detail === undefined ? '' : ` (${detail})`}`
}

function messageLines({ kind, text, next }: Message): string[] {
  return [`${kind}: ${text}`, ...(next === undefined ? [] : [`  next: ${next}`])]
}
