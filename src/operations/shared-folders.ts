/** Whether a folder is one folder on all nodes: each writes a file of its own into it, and all look whose they see. */
import { randomUUID } from 'node:crypto'
import type { NodeRecord } from '../core/node.ts'
import type { Marked } from '../core/validate/survey.ts'
import { foldersIn, isWhole, LOOK_SCRIPT, MARK_SCRIPT, seenIn, UNMARK_SCRIPT } from '../nodes/cross-check.ts'
import type { Exit } from '../nodes/process.ts'
import type { Parts } from '../operate.ts'

const TIMEOUT_MS = 30_000

/** Runs a script of ours on a node, behind no guard: it is about no domain. */
export function askShell(parts: Parts, record: NodeRecord, script: string, words: readonly string[]): Promise<Exit> {
  const command = { node: record.name, argv: ['sh', '-c', script, 'havirt', ...words] }
  return parts.nodes.ask(record, { command, timeoutMs: TIMEOUT_MS })
}

/** Every node writes an empty file into each folder, all look for all of them, and they are removed whatever happens. */
export async function markAll(
  parts: Parts,
  records: readonly NodeRecord[],
  folders: readonly string[],
  slow: Map<string, string>,
): Promise<Marked[]> {
  if (folders.length === 0) return []
  const prefix = `.havirt-validate-${randomUUID()}`
  const ask = (script: string, wordOf: (record: NodeRecord) => string) =>
    Promise.all(
      records.map(async record => {
        const { stdout } = await askShell(parts, record, script, [wordOf(record), ...folders])
        if (!isWhole(stdout)) slow.set(record.name, 'it did not look into every folder in time')
        return [record.name, stdout] as const
      }),
    )
  const ownName = ({ name }: NodeRecord) => `${prefix}.${name}`
  try {
    const written = await ask(MARK_SCRIPT, ownName)
    const looks = await ask(LOOK_SCRIPT, () => prefix)
    return folders.map(folder => {
      const those = (word: 'wrote' | 'missing') =>
        written.flatMap(([node, text]) => (foldersIn(text, word).includes(folder) ? [node] : []))
      const missingOn = those('missing')
      const sees = looks.filter(([node, text]) => isWhole(text) && !missingOn.includes(node))
      return {
        folder,
        writers: those('wrote'),
        sees: new Map(sees.map(([node, text]) => [node, seenIn(text, folder)])),
        missingOn,
      }
    })
  } finally {
    await ask(UNMARK_SCRIPT, ownName)
  }
}
