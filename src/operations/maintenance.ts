/** Taking nodes out of service, and back. */
import { markText } from '../core/ledger.ts'
import type { Parts } from '../operate.ts'
import { exitStatus, failure, note, type Report } from '../report.ts'
import { drain, flag } from './drain.ts'
import { mark, REASON, recording } from './marks.ts'
import { combine, type Input, type Operation, unknownAmong, words } from './operation.ts'
import { maintenanceOff } from './return.ts'
import { MOVE_COLUMNS, told } from './several-moves.ts'

const NODES = { name: 'NODE', help: 'the nodes', required: true, many: true, complete: 'node' } as const
const NODE = { name: 'NODE', help: 'the node', required: true, complete: 'node' } as const

export const maintenanceOperations: readonly Operation[] = [
  {
    name: 'node maintenanceon',
    aliases: ['node drain'],
    summary: 'take nodes out of service: start nothing more there, and move everything away',
    description:
      'Records that the nodes are in maintenance, finds a place for every domain that runs there, making room by moving others where that is the only way, and moves them live, several at a time (migrate.together, migrate.togetherPerNode). The whole plan is shown first. A domain that cannot be moved while running is named with its reason, and nothing is done until --shutdown or --skip says what becomes of it. A move that fails keeps only those from beginning that need its room, and what is left is planned anew, around a node that has fallen silent. Interrupted, or run again for what is left, it goes on where it was. "Empty" is said only after a last look at the node, and at claims and reservations there.',
    args: [NODES],
    options: [
      { flags: '--shutdown', help: 'shut down what cannot be moved while running' },
      { flags: '--skip', help: 'leave what cannot be moved running where it is' },
      { flags: '--flag-only', help: 'start nothing more there, and leave everything running' },
      REASON,
    ],
    changes: true,
    columns: MOVE_COLUMNS,
    examples: [
      'havirt node maintenanceon node2',
      'havirt -y node maintenanceon node2 --reason memory --shutdown',
      'havirt -y node maintenanceon node2 --flag-only',
    ],
    run: maintenanceOn,
  },
  {
    name: 'node maintenanceoff',
    summary: 'put a node back into service',
    description:
      'Records that the node may receive domains again. --return also brings back what its drain took away, as far as it still runs elsewhere, and starts what the drain shut down. What cannot come back now is named, and the same command tries again.',
    args: [NODE],
    options: [{ flags: '--return', help: 'bring back what the drain took away' }],
    changes: true,
    columns: MOVE_COLUMNS,
    examples: ['havirt -y node maintenanceoff node2', 'havirt node maintenanceoff node2 --return'],
    run: maintenanceOff,
  },
]

async function maintenanceOn(parts: Parts, input: Input): Promise<Report> {
  const records = await parts.home.records.nodes()
  const names = [...new Set(words(input, 'NODE'))]
  const unknown = unknownAmong(names, records)
  if (unknown !== undefined) return unknown
  const { shutdown, skip, flagOnly } = input.options
  if ([shutdown, skip, flagOnly].filter(each => each === true).length > 1)
    return usage('--shutdown, --skip and --flag-only exclude each other', 'give one of them')
  return flagOnly === true ? flagAll(parts, input, names) : drain(parts, input, names)
}

function usage(text: string, next: string): Report {
  return { exit: exitStatus.usage, messages: [failure(text, next)] }
}

async function flagAll(parts: Parts, input: Input, names: readonly string[]): Promise<Report> {
  const reports: Report[] = []
  for (const name of names) reports.push(await flagOne(parts, input, name))
  return combine(reports)
}

async function flagOne(parts: Parts, input: Input, name: string): Promise<Report> {
  const { maintenance } = await parts.home.records.ledger(name)
  if (maintenance !== undefined) return told(note(`nothing to do: ${name} is in maintenance ${markText(maintenance)}`))
  if (!input.mode.act) return { exit: exitStatus.done, script: [recording(name, 'in maintenance')], messages: [] }
  const set = await flag(parts, name, await mark(parts, input))
  return told(note(`${name} is in maintenance ${markText(set)}: nothing is started there or moved there`))
}
