/** The changes of one domain that several operations make: start, stop, live migration. */
import { type Cluster, sightingsOf } from '../core/cluster.ts'
import { planMigrate } from '../core/plan/migrate.ts'
import { planStart } from '../core/plan/start.ts'
import { planStop, type StopRequest } from '../core/plan/stop.ts'
import type { Inquiry } from '../nodes/session.ts'
import type { DomainChange, Parts } from '../operate.ts'
import { everywhere, inquiries, PROCESSES, rivalry } from './inquiries.ts'
import type { Input } from './operation.ts'

type Spelled = Pick<Input, 'spelled'>

/** The start of a domain on a node; without one on the node that we are on, or with `auto` on the best. */
export function starting(
  { spelled, options }: Pick<Input, 'spelled' | 'options'>,
  domain: string,
  node: string | undefined,
  auto: boolean,
): DomainChange {
  const request = {
    domain,
    auto,
    ...(node === undefined ? {} : { node }),
    despiteRules: options['despiteRules'] === true,
  }
  const inquire = (cluster: Cluster) => {
    const definition = cluster.definitions.get(domain)?.domain
    if (definition === undefined) return new Map<string, Inquiry>()
    // State that belongs to the domain may lie on any node; only its place tells whether it would be left behind.
    const anywhere = auto || definition.nodeBound.length > 0
    const hosts = anywhere ? [...cluster.nodes.keys()] : [node ?? cluster.here ?? '']
    return inquiries(cluster, definition, hosts, rivalry(definition))
  }
  return { domain, verb: spelled, plan: cluster => planStart(cluster, request), inquire, passes: true }
}

/** The stop of a domain, wherever it is. */
export function stopping({ spelled }: Spelled, domain: string, how: Omit<StopRequest, 'domain'>): DomainChange {
  const inquire = (cluster: Cluster) => everywhere(cluster, PROCESSES)
  const plan = (cluster: Cluster) => planStop(cluster, { domain, ...how })
  return { domain, verb: spelled, plan, inquire, endsMigration: true }
}

/** The live migration of a domain to a node, by the options of the command and the configuration; `along`: those that go there with it. */
export function migration(
  parts: Parts,
  input: Pick<Input, 'options' | 'spelled'>,
  domain: string,
  node: string,
  along: readonly string[] = [],
): DomainChange {
  const waived = input.options['despiteRules'] === true ? ('all' as const) : { along }
  const request = { domain, node, options: migrateOptions(parts, input, node), waived }
  const inquire = (cluster: Cluster) => {
    const source = sightingsOf(cluster, { name: domain }).find(sighting => sighting.domain.active)
    const definition = source?.domain.definition
    return definition === undefined || source === undefined
      ? everywhere(cluster, PROCESSES)
      : inquiries(cluster, definition, [node, source.node], PROCESSES)
  }
  return { domain, verb: input.spelled, target: node, plan: cluster => planMigrate(cluster, request), inquire }
}

function migrateOptions(parts: Parts, { options }: Pick<Input, 'options'>, target: string) {
  const { migrate } = parts.home.config
  const number = (key: string, standard: number) => Number(options[key] ?? standard)
  const bandwidthMiBps = number('bandwidth', migrate.bandwidthMiBps)
  const maxDowntimeMs = number('maxDowntime', migrate.maxDowntimeMs)
  const timeoutSeconds = number('timeout', migrate.timeoutSeconds)
  const uri = String(options['migrateUri'] ?? migrate.uri)
  return {
    autoConverge: options['autoConverge'] === true || migrate.autoConverge,
    postCopy: options['postCopy'] === true || migrate.postCopy,
    unsafe: options['unsafe'] === true || migrate.unsafe,
    ...(bandwidthMiBps > 0 ? { bandwidthMiBps } : {}),
    ...(maxDowntimeMs > 0 ? { maxDowntimeMs } : {}),
    ...(timeoutSeconds > 0 ? { timeoutSeconds } : {}),
    ...(uri === '' ? {} : { migrateuri: uri.replaceAll('%n', target) }),
  }
}
