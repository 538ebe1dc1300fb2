/** The verbs on web as the doors ask for them, and reports in few words. */
import { type MigrateRequest, planMigrate } from '../src/core/plan/migrate.ts'
import { planPower } from '../src/core/plan/power.ts'
import { planStart } from '../src/core/plan/start.ts'
import { planStop } from '../src/core/plan/stop.ts'
import { changeDomain, type DomainChange } from '../src/operate.ts'
import type { Input } from '../src/operations/operation.ts'
import { operations } from '../src/operations.ts'
import type { Report } from '../src/report.ts'
import type { World } from './world.ts'

export const start = (node = 'node1', domain = 'web'): DomainChange => ({
  domain,
  verb: `domain start ${domain} ${node}`,
  plan: cluster => planStart(cluster, { domain, node, auto: false }),
})

export const startAnywhere: DomainChange = {
  domain: 'web',
  verb: 'domain start web --auto',
  plan: cluster => planStart(cluster, { domain: 'web', auto: true }),
}

export const stop = (force = true): DomainChange => ({
  domain: 'web',
  verb: 'domain stop web',
  plan: cluster => planStop(cluster, { domain: 'web', timeoutMs: 1000, force }),
  endsMigration: true,
})

export const resume: DomainChange = {
  domain: 'web',
  verb: 'domain resume web',
  plan: cluster => planPower(cluster, { domain: 'web', verb: 'resume' }),
}

export const reboot: DomainChange = {
  domain: 'web',
  verb: 'domain reboot web',
  plan: cluster => planPower(cluster, { domain: 'web', verb: 'reboot' }),
}

export const migrate = (options: Partial<MigrateRequest['options']> = {}): DomainChange => ({
  domain: 'web',
  verb: 'domain migrate web node2',
  plan: cluster =>
    planMigrate(cluster, {
      domain: 'web',
      node: 'node2',
      options: { autoConverge: false, postCopy: false, unsafe: false, ...options },
    }),
})

/** Carries it out, trying for so long. */
export function act(world: World, change: DomainChange, waitMs = 0): Promise<Report> {
  return changeDomain(world, change, { act: true, ensure: false, waitMs })
}

/** Shows it only. */
export function show(world: World, change: DomainChange): Promise<Report> {
  return changeDomain(world, change, { act: false, ensure: false, waitMs: 0 })
}

/** Runs a row of the table of operations as a door would; `act` unless told. */
export function perform(
  world: World,
  name: string,
  { act = true, ...typed }: Partial<Pick<Input, 'words' | 'options' | 'ask' | 'spelled'>> & { act?: boolean } = {},
): Promise<Report> {
  const operation = operations.find(each => each.name === name)
  if (operation === undefined) throw new Error(`there is no operation ${name}`)
  const mode = { act, ensure: false, waitMs: 0 }
  return operation.run(world, { words: {}, options: {}, mode, spelled: name, ...typed })
}

export const reasons = ({ refusals }: Report) => refusals?.map(({ reason }) => reason)
export const outcomes = ({ results }: Report) => results?.map(({ step, outcome }) => `${step} ${outcome}`)
export const texts = ({ messages }: Report) => messages.map(({ text, next }) => `${text}: ${next}`).join('\n')
