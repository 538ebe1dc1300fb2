/** The two generated files: the config.yaml of the first use, and the sample with every option. */
import { type ConfigOption, configOptions, expectedOf, nameOf, type OptionValue, sectionOf } from './config.ts'

/** The config.yaml made at first use: the important options, and every other one as a comment with its default. */
export function initialConfigText(): string {
  return render(
    'The settings of havirt. A key behind a # has the default that stands there; take the # away to change it.',
    option => option.important === true,
  )
}

/** config.sample.yaml: every option, active, with its default and its help. */
export function sampleConfigText(): string {
  return render(
    'Every setting of havirt with its default. havirt never reads this file; it reads config.yaml.',
    () => true,
  )
}

function render(title: string, active: (option: ConfigOption) => boolean): string {
  const lines = [...comment(title, '')]
  let section = ''
  for (const option of configOptions) {
    const indent = sectionOf(option.key) ? '  ' : ''
    lines.push('')
    if (sectionOf(option.key) !== section) lines.push(`${sectionOf(option.key)}:`)
    section = sectionOf(option.key)
    lines.push(...comment(option.help, indent), ...comment(sentence(expectedOf(option)), indent))
    lines.push(`${indent}${active(option) ? '' : '#'}${nameOf(option.key)}: ${valueText(option, option.default)}`)
  }
  return `${lines.join('\n')}\n`
}

const sentence = (words: string) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`

function comment(words: string, indent: string): string[] {
  const lines = ['']
  for (const word of words.split(' ')) {
    const line = lines[lines.length - 1] ?? ''
    if (line.length + word.length < 96) lines[lines.length - 1] = line ? `${line} ${word}` : word
    else lines.push(word)
  }
  return lines.map(line => `${indent}# ${line}`)
}

/** A value as it stands behind its key in the file. */
export function valueText(option: ConfigOption, value: OptionValue): string {
  if (typeof value === 'object') return `[${value.map(textText).join(', ')}]`
  if (typeof value === 'string') return textText(value)
  return option.type === 'number' && Number.isInteger(value) ? `${value}.0` : String(value)
}

/** Plain where every YAML reader takes it for a text, else in single quotes. */
function textText(text: string): string {
  const plain = /^[a-z][\w./-]*(:\/[\w./-]+)?$/i.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)
  return plain ? text : `'${text.replaceAll("'", "''")}'`
}
