/** What leases ask of an execution: waiting until sanlock counts a silent node as dead, and ending what is left there when it comes back. */
import { sightings, unknownNodes, upNodes } from '../core/cluster.ts'
import { DEFAULT_IO_TIMEOUT_SECONDS, isGuarded, type LeaseHost, type LeaseRecord, leasePaths } from '../core/lease.ts'
import type { Passed } from '../core/ledger.ts'
import { isPresent } from '../core/node.ts'
import type { StepArgs } from '../core/step.ts'
import { askLeases } from '../lease-facts.ts'
import { leaseName } from '../nodes/lease-name.ts'
import type { LeaseAnswer } from '../nodes/leases.ts'
import { observeOnce, withoutPassed } from '../observe.ts'
import { ownerText } from '../store/claim-record.ts'
import { endOn, failed, type Outcome, recordOf, type Work } from './work.ts'

type Wait = StepArgs['awaitHostDead']

const POLL_MS = 1000
const INTERRUPTED = 'interrupted; nothing was started'

/** Waits, looks once more whether the domain is anywhere, and writes down that it is started past the node. */
export async function awaitHostDead(work: Work, args: Wait): Promise<Outcome> {
  const problem = (await untilDead(work, args)) ?? (await stillAway(work, args))
  if (problem !== undefined) return failed(problem)
  // What is written down now lets `lease reconcile` end what runs there: not where nothing is started after all.
  const end = await endOn(work, args.node, args.uuid)
  if (end !== 'absent')
    return failed(end === undefined ? `${args.node} no longer answers` : `${args.domain} is on ${args.node} by now`)
  return work.parts.interrupt.requested() ? failed(INTERRUPTED) : written(work, args)
}

/** So often in a row the watching node may fail to answer: an ssh that breaks once must not end a wait of minutes. */
const MISSES = 10

/** Undefined once the host is dead; else why the wait ended. */
async function untilDead(work: Work, args: Wait): Promise<string | undefined> {
  const { clock, progress, interrupt } = work.parts
  const startedMs = clock.monotonicMs()
  const bar = progress.begin(`waiting until ${args.silent} is dead to sanlock`, args.timeoutMs / 1000)
  let first: LeaseHost | undefined
  let misses = 0
  try {
    for (;;) {
      const answer = await askLeases(work.parts, recordOf(work, args.node), ['hosts'])
      const waitedMs = clock.monotonicMs() - startedMs
      misses = typeof answer === 'string' ? misses + 1 : 0
      if (typeof answer === 'string' && misses > MISSES)
        return `${args.node} could not be asked for its leases: ${answer}`
      if (typeof answer !== 'string') {
        first ??= answer.hosts.get(args.hostId)
        const verdict = verdictOf(answer, args, first?.timestamp)
        // Its clock on the disk must have stood still under our own eyes, too, for longer than from one renewal to the next.
        if (verdict === 'dead' && waitedMs >= 2 * (first?.ioTimeoutSeconds || DEFAULT_IO_TIMEOUT_SECONDS) * 1000)
          return undefined
        if (verdict !== 'wait' && verdict !== 'dead') return verdict
      }
      if (interrupt.requested()) return INTERRUPTED
      if (waitedMs > args.timeoutMs)
        return `sanlock on ${args.node} does not count it as dead after ${args.timeoutMs / 1000} s`
      bar.update(waitedMs / 1000, `${Math.round(waitedMs / 1000)} s of at most ${args.timeoutMs / 1000}`)
      await clock.sleep(POLL_MS)
    }
  } finally {
    bar.end('waited')
  }
}

/** Its own record on the disk is the judge: whoever renews lives, whatever anybody makes of it. */
function verdictOf(
  { hosts, leases }: LeaseAnswer,
  { hostId, generation, silent, node }: Wait,
  first: number | undefined,
): string {
  const record = hosts.get(hostId)
  if (record === undefined) return `the lockspace has no record of ${silent} any more`
  if (record.generation !== generation) return `${silent} has joined the lockspace anew: it is alive`
  if (record.timestamp === 0) return `${silent} has left the lockspace: it is alive, or was`
  if (record.timestamp !== first) return `${silent} is alive: it renews its leases`
  if (!isGuarded(leases)) return `${node} is not in the lockspace any more`
  const seen = leases.sanlock?.hosts.get(hostId)
  return seen?.state === 'dead' && seen.generation === generation ? 'dead' : 'wait'
}

/** The look that permits the start was long ago: nobody may have come or gone since, and every node has to say all once more. */
async function stillAway(work: Work, { silent, uuid, domain, node }: Wait): Promise<string | undefined> {
  const added = [...(await work.parts.home.records.nodes('fresh')).keys()].find(name => !work.records.has(name))
  if (added !== undefined) return `${added} was added meanwhile: look anew`
  const cluster = await observeOnce(work.parts, { paths: [], devices: [], processes: true })
  if (cluster.nodes.get(silent)?.seen.state !== 'unreachable') return `${silent} answers again: look anew`
  const found = sightings(cluster).find(
    each => isPresent(each.domain) && (each.domain.uuid === uuid || each.domain.name === domain),
  )
  if (found !== undefined) return `${domain} is on ${found.node} by now`
  const { maintenance, down } = cluster.nodes.get(node)?.ledger ?? {}
  if (maintenance !== undefined || down !== undefined) return `${node} takes nothing any more: look anew`
  const unsaid = upNodes(cluster).find(({ seen }) => seen.inquiryProblem !== undefined)
  if (unsaid !== undefined) return `${unsaid.name} could not say which QEMUs run there`
  const other = unknownNodes(cluster).find(
    ({ name, ledger }) => name !== silent && !ledger.passed?.some(each => each.uuid === uuid),
  )
  return other === undefined ? undefined : `${other.name} does not answer any more`
}

async function written(work: Work, args: Wait): Promise<Outcome> {
  const { parts, claim } = work
  const { silent, uuid, domain, node, hostId } = args
  const taken = await leasesNow(work, args)
  if (typeof taken === 'string') return failed(taken)
  const since = new Date(parts.clock.now()).toISOString()
  const entry: Passed = { uuid, domain, to: node, hostId, taken, by: ownerText(claim.record), since }
  // Whoever stood still during the wait may have lost the claim, and somebody else may have started the domain.
  await claim.confirm()
  await parts.home.records.changeLedger(silent, ledger => ({
    ...ledger,
    passed: [...(ledger.passed ?? []).filter(each => each.uuid !== uuid), entry],
  }))
  return { outcome: 'done' }
}

/** How often each lease of its disks was taken so far, where all of them are still in that host's name; else what is not so. */
async function leasesNow(
  work: Work,
  { node, domain, silent, hostId, generation }: Wait,
): Promise<Record<string, number> | string> {
  const definition = (await work.parts.home.definitions.read(domain))?.domain
  const paths = definition === undefined ? [] : leasePaths(definition)
  const names = new Map(paths.map(path => [leaseName('sanlock', path), path]))
  const answer = await askLeases(work.parts, recordOf(work, node), [`files=${[...names.keys()].join(' ')}`])
  if (typeof answer === 'string' || names.size === 0) return `${node} could not read the leases of ${domain} once more`
  const records = new Map(answer.files.map(file => [file.name, file.record]))
  const other = [...names].find(([name]) => !isIn(records.get(name), hostId, generation))
  if (other !== undefined) return `the lease of ${other[1]} is no longer in the name of ${silent}: look anew`
  return Object.fromEntries([...names.keys()].map(name => [name, records.get(name)?.version ?? 0]))
}

/** Held now, by this host in this life: a lease that was given back meanwhile proves nothing. */
function isIn(record: LeaseRecord | undefined, hostId: number, generation: number): boolean {
  return (
    record !== undefined && record.timestamp > 0 && record.ownerId === hostId && record.ownerGeneration === generation
  )
}

/** A start that did certainly not happen was past nobody. What another command wrote down stays. */
export async function takeBack(
  { parts, records, claim }: Work,
  { uuid, node }: { uuid: string; node: string },
): Promise<void> {
  if (!parts.home.config.lease.passUnreachable) return
  const by = ownerText(claim.record)
  const isOurs = (each: Passed) => each.uuid === uuid && each.to === node && each.by === by
  for (const name of records.keys()) {
    const { passed = [] } = await parts.home.records.ledger(name)
    if (passed.some(isOurs)) await parts.home.records.changeLedger(name, ledger => withoutPassed(ledger, isOurs))
  }
}

/** The mark that was meant goes, and no other that somebody made since. */
export async function forget({ parts, claim }: Work, { node, uuid, by, since }: StepArgs['acquitCopy']): Promise<void> {
  await claim.confirm()
  await parts.home.records.changeLedger(node, ledger =>
    withoutPassed(ledger, each => each.uuid === uuid && each.by === by && each.since === since),
  )
}
