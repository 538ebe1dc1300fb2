/** One figure: what was measured, against what, and the bar that it is held to. Printed, never asserted. */
export interface Figure {
  readonly name: string
  /** `score`: a balance score; `of`: a count. */
  readonly unit: 'ms' | 's' | 'MB' | 'us' | 'score' | 'of'
  readonly ours: number
  /** Measured beside ours in the same run; undefined for a figure that is held to a plain limit. */
  readonly theirs?: number
  readonly bar?: Bar
}

export type Bar =
  /** ours / theirs. */
  | { readonly kind: 'ratio'; readonly limit: number }
  /** ours, in the figure's unit. */
  | { readonly kind: 'value'; readonly limit: number }
  /** ours - theirs, in the figure's unit. */
  | { readonly kind: 'beyond'; readonly limit: number }
  /** ours must not be less. */
  | { readonly kind: 'least'; readonly limit: number }

export type Verdict = 'ok' | 'short' | '-'

export function verdictOf({ ours, theirs, bar }: Figure): Verdict {
  if (bar === undefined) return '-'
  if (bar.kind === 'least') return ours >= bar.limit ? 'ok' : 'short'
  const value = bar.kind === 'value' ? ours : bar.kind === 'ratio' ? ours / (theirs ?? 0) : ours - (theirs ?? 0)
  return value <= bar.limit ? 'ok' : 'short'
}

export function ratioOf({ ours, theirs }: Figure): number | undefined {
  return theirs === undefined ? undefined : ours / theirs
}

const WIDTHS = [70, 10, 10, 7, 9]

export const titles = row(['name', 'ours', 'theirs', 'ratio', 'bar', ''])

export function lineOf(figure: Figure): string {
  const { name, ours, theirs, bar, unit } = figure
  return row([
    name,
    amount(ours, unit),
    theirs === undefined ? '-' : amount(theirs, unit),
    ratioOf(figure)?.toFixed(3) ?? '-',
    bar === undefined ? '-' : barText(bar, unit),
    verdictOf(figure),
  ])
}

function row(cells: readonly string[]): string {
  const [name = '', ...others] = cells
  const padded = others.map((cell, at) => cell.padStart(WIDTHS[at + 1] ?? 0))
  return [name.padEnd(WIDTHS[0] ?? 0), ...padded].join('  ').trimEnd()
}

function amount(value: number, unit: Figure['unit']): string {
  if (unit === 'score') return value.toFixed(4)
  if (unit === 'of') return String(value)
  return `${value.toFixed(unit === 's' ? 2 : value < 100 ? 1 : 0)} ${unit}`
}

function barText(bar: Bar, unit: Figure['unit']): string {
  switch (bar.kind) {
    case 'ratio':
      return bar.limit.toFixed(3)
    case 'value':
      return `${bar.limit} ${unit}`
    case 'beyond':
      return `+${bar.limit} ${unit}`
    case 'least':
      return `>= ${bar.limit}`
  }
}
