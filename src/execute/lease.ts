/** What leases ask of an execution: waiting until sanlock counts a silent node as dead, and ending what is left there when it comes back. */
import { type Cluster, sightings, unknownNodes } from '../core/cluster.ts'
import { isGuarded } from '../core/lease.ts'
import { isPresent } from '../core/node.ts'
import type { StepArgs } from '../core/step.ts'
import { askLeases } from '../lease-facts.ts'
import type { LeaseAnswer } from '../nodes/leases.ts'
import { observeOnce, withoutPassed } from '../observe.ts'
import { ownerText } from '../store/claim-record.ts'
import { endOn, failed, type Outcome, recordOf, type Work } from './work.ts'

type Wait = StepArgs['awaitHostDead']

const POLL_MS = 1000
const INTERRUPTED = 'interrupted; nothing was started'

/** Waits, looks once more whether the domain is anywhere, and writes down that it is started past the node. */
export async function awaitHostDead(work: Work, args: Wait): Promise<Outcome> {
  const { clock, progress, interrupt } = work.parts
  const startedMs = clock.monotonicMs()
  const bar = progress.begin(`waiting until ${args.silent} is dead to sanlock`, args.timeoutMs / 1000)
  try {
    let first: number | undefined
    for (;;) {
      const answer = await askLeases(work.parts, recordOf(work, args.node), ['hosts'])
      if (typeof answer === 'string') return failed(`${args.node} could not be asked for its leases: ${answer}`)
      first ??= answer.hosts.get(args.hostId)?.timestamp
      const verdict = verdictOf(answer, args, first)
      if (verdict === 'dead') break
      if (verdict !== 'wait') return failed(verdict)
      const waitedMs = clock.monotonicMs() - startedMs
      if (interrupt.requested()) return failed(INTERRUPTED)
      if (waitedMs > args.timeoutMs)
        return failed(`sanlock on ${args.node} does not count it as dead after ${args.timeoutMs / 1000} s`)
      bar.update(waitedMs / 1000, `${Math.round(waitedMs / 1000)} s of at most ${args.timeoutMs / 1000}`)
      await clock.sleep(POLL_MS)
    }
  } finally {
    bar.end('waited')
  }
  const problem = stillAway(await observeOnce(work.parts, { paths: [], devices: [], processes: true }), args)
  if (problem !== undefined) return failed(problem)
  // What is written down now lets `lease reconcile` end what runs there: not where nothing is started after all.
  if ((await endOn(work, args.node, args.uuid)) !== 'absent') return failed(`${args.node} no longer answers`)
  return interrupt.requested() ? failed(INTERRUPTED) : written(work, args)
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

/** The look that permits the start was long ago: nobody may have come or gone since. */
function stillAway(cluster: Cluster, { silent, uuid, domain }: Wait): string | undefined {
  if (cluster.nodes.get(silent)?.seen.state !== 'unreachable') return `${silent} answers again: look anew`
  const found = sightings(cluster).find(
    each => isPresent(each.domain) && (each.domain.uuid === uuid || each.domain.name === domain),
  )
  if (found !== undefined) return `${domain} is on ${found.node} by now`
  const other = unknownNodes(cluster).find(
    ({ name, ledger }) => name !== silent && !ledger.passed?.some(each => each.uuid === uuid),
  )
  return other === undefined ? undefined : `${other.name} does not answer any more`
}

async function written({ parts, claim }: Work, { silent, uuid, domain, node }: Wait): Promise<Outcome> {
  const entry = {
    uuid,
    domain,
    to: node,
    by: ownerText(claim.record),
    since: new Date(parts.clock.now()).toISOString(),
  }
  await parts.home.records.changeLedger(silent, ledger => ({
    ...ledger,
    passed: [...(ledger.passed ?? []).filter(each => each.uuid !== uuid), entry],
  }))
  return { outcome: 'done' }
}

/** A start that did certainly not happen was past nobody. */
export async function takeBack(
  { parts, records }: Work,
  { uuid, node }: { uuid: string; node: string },
): Promise<void> {
  if (!parts.home.config.lease.passUnreachable) return
  for (const name of records.keys()) {
    const { passed = [] } = await parts.home.records.ledger(name)
    if (passed.some(each => each.uuid === uuid && each.to === node)) await forget(parts, name, uuid)
  }
}

/** Nothing is left there of the domain. */
export async function forget(parts: Work['parts'], node: string, uuid: string): Promise<void> {
  await parts.home.records.changeLedger(node, ledger => withoutPassed(ledger, [uuid]))
}
