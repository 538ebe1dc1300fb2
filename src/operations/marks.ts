/** What people write down about nodes: by whom, since when and why. */
import type { Mark } from '../core/ledger.ts'
import { hereAmong } from '../observe.ts'
import type { Parts } from '../operate.ts'
import { ownerText } from '../store/claim-record.ts'
import { thisProcess } from '../store/owner.ts'
import type { Input } from './operation.ts'

export const REASON = { flags: '--reason TEXT', help: 'why, for whoever asks later' } as const

/** The mark of whoever gave this command, now. */
export async function mark(parts: Parts, { options }: Pick<Input, 'options'>): Promise<Mark> {
  const records = await parts.home.records.nodes()
  const node = hereAmong(records, parts.hereId)
  const by = ownerText({ owner: await thisProcess(), ...(node === undefined ? {} : { node }) })
  const since = new Date(parts.clock.now()).toISOString()
  const reason = oneLine(String(options['reason'] ?? '')).trim()
  return { by, since, ...(reason === '' ? {} : { reason }) }
}

/** A record that only havirt itself can make, as a dry run shows it. */
export function recording(node: string, what: string): string {
  return `# (havirt itself: record that ${node} is ${what})`
}

/** What a program on another machine said must not end a comment and become a command. */
export function oneLine(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
}
