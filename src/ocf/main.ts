/** The agent's entry: one action in, one exit code out, and one sentence where it is not success. */
import { ocf } from '../core/agent/exit.ts'
import type { Finding } from '../core/agent/presence.ts'
import { type Agent, failed, openAgent } from './agent.ts'
import { readCall } from './call.ts'
import { Log } from './log.ts'
import { monitor, status } from './monitor.ts'

type Action = (agent: Agent) => Promise<Finding>

/** What is asked seldom is loaded when it is asked: a monitor runs every few seconds. */
const actions = new Map<string, Action>(
  Object.entries({
    monitor,
    status,
    start: async agent => (await import('./start.ts')).start(agent),
    stop: async agent => (await import('./stop.ts')).stop(agent),
    migrate_to: async agent => (await import('./migrate.ts')).migrateTo(agent),
    migrate_from: async agent => (await import('./migrate.ts')).migrateFrom(agent),
    'validate-all': async agent => (await import('./validate.ts')).validateAll(agent),
    'reload-agent': async agent => (await import('./validate.ts')).reloadAgent(agent),
  }),
)

export async function main(action: string, environment: NodeJS.ProcessEnv): Promise<number> {
  const call = readCall(action, environment)
  const log = new Log(call, environment)
  const finding = await carryOut(actions.get(action), call.action, () => open(call, log))
  if (finding.code !== ocf.success && finding.sentence !== undefined) log.reason(finding.sentence)
  await log.flush()
  return finding.code
}

async function carryOut(act: Action | undefined, name: string, opening: () => Promise<Agent>): Promise<Finding> {
  if (act === undefined) {
    const known = [...actions.keys(), 'meta-data'].join(', ')
    return {
      code: ocf.unimplemented,
      sentence: `the action ${JSON.stringify(name)} is not known; expected one of ${known}`,
    }
  }
  try {
    const agent = await opening()
    return agent.unknowable ?? (await act(agent))
  } catch (error) {
    if (process.env['HAVIRT_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    return failed(error instanceof Error ? error.message : String(error))
  }
}

async function open(call: ReturnType<typeof readCall>, log: Log): Promise<Agent> {
  const interrupt = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => interrupt.abort())
  return openAgent(call, log, interrupt.signal)
}

// Whoever reads our words may go away in the middle of an operation, which goes on.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
// Should nothing be left to wait for before an answer is found, that is no success.
process.exitCode = ocf.generic
void main(process.argv[2] ?? '', process.env).then(code => process.exit(code))
