/** The words of one line of the configuration. */

/** Words between spaces; a part in quotes may hold spaces. Undefined when a quote has no end. */
export function wordsOf(text: string): string[] | undefined {
  const word = /\s*((?:[^\s"']|"[^"]*"|'[^']*')+)/y
  const found: string[] = []
  const whole = text.trimEnd()
  for (let end = 0; end < whole.length; end = word.lastIndex) {
    const match = word.exec(whole)
    if (match === null) return undefined
    found.push((match[1] ?? '').replace(/"([^"]*)"|'([^']*)'/g, (_, double, single) => double ?? single))
  }
  return found
}
