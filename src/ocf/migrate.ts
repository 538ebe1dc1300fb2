/** Live migration: migrate_to on the node that has the domain, migrate_from on the one that gets it. */
import { ocf } from '../core/agent/exit.ts'
import { type MigrationWay, migrationWay } from '../core/agent/migrate-uris.ts'
import type { ActiveDomain, Finding } from '../core/agent/presence.ts'
import { type Agent, failed, nameOf, rest, success } from './agent.ts'
import { isOver, leftMs } from './call.ts'
import { type Cover, withClaim } from './claim.ts'
import { judge } from './judge.ts'
import { forget } from './memory.ts'
import { examine, lookUntilHeard } from './monitor.ts'
import { isProgram } from './processes.ts'
import { startResources } from './resources.ts'
import { saveConfig } from './save.ts'
import { startProblem } from './start.ts'
import { orderShutdown } from './systemd.ts'
import { undefine } from './undefine.ts'
import { saidBy, virsh } from './virsh.ts'

/** How often the job is looked at, and how often it is told how far it is. */
const REST_MS = 200
const TELL_MS = 10_000
/** What is kept of the timeout to end a migration that takes too long, and to find out how it ended. */
const END_SHARE = 0.15
const END_MS = 15_000
/** A domain that migrate_to has brought here is here; libvirt may take a moment to say so. */
const ARRIVAL_MS = 10_000
const HOSTNAME_MS = 10_000

export async function migrateTo(agent: Agent): Promise<Finding> {
  const wrong = agent.problems[0]
  if (wrong !== undefined) return wrong
  const { call, settings, hypervisor } = agent
  const target = call.migrateTarget
  if (target === undefined)
    return {
      code: ocf.args,
      sentence: 'OCF_RESKEY_CRM_meta_migrate_target is not set; Pacemaker names the target node in it',
    }
  const presence = await lookUntilHeard(agent, call.deadlineMs)
  if (presence.kind === 'silent') return failed(`${nameOf(agent)} cannot be migrated: ${presence.why}`)
  if (presence.kind === 'absent')
    return (
      startProblem(agent) ?? failed(`${nameOf(agent)} is not active on this node, and so cannot be migrated from it`)
    )
  if (!isProgram('virsh'))
    return failed('virsh is not installed, and the agent migrates by it (Debian: libvirt-clients)')
  const way = migrationWay(settings, { hypervisor: hypervisor.uri, target, randomPort })
  for (const warning of way.warnings) agent.log.warn(warning)
  const astray = await leadsAstray(agent, target, way.remoteUri)
  if (astray !== undefined) return failed(astray)
  const xml = await hypervisor.liveXml(presence, leftMs(call))
  const subject = { name: presence.name, uuid: presence.uuid, xml, verb: `ocf migrate_to ${target}` }
  return withClaim(agent, subject, cover => migrate(agent, presence, target, way, cover))
}

/** A URI without %n leads to one host, whichever node Pacemaker has chosen: the domain would run where nobody expects it. */
async function leadsAstray(agent: Agent, target: string, uri: string): Promise<string | undefined> {
  if (agent.settings.remoteuri === '' || agent.settings.remoteuri.includes('%n')) return undefined
  const exit = await virsh(agent, ['hostname'], { uri, timeoutMs: HOSTNAME_MS })
  const host = exit.stdout.trim()
  if (exit.status !== 0) return `${uri} cannot be asked which host it leads to: ${saidBy(exit)}`
  if (shortName(host) === shortName(target)) return undefined
  return `remoteuri leads to ${host}, but the target is ${target}; write %n for the name of the target node`
}

function shortName(name: string): string {
  return name.toLowerCase().split('.', 1).join()
}

function randomPort(): number {
  return 49_152 + Math.floor(Math.random() * 64)
}

async function migrate(
  agent: Agent,
  domain: ActiveDomain,
  target: string,
  way: MigrationWay,
  cover: Cover,
): Promise<Finding> {
  const { settings, definition } = agent
  if (settings.save_config_on_stop) await saveConfig(agent, domain)
  if (settings.start_resources && !('problem' in definition)) {
    const resources = await startResources(agent, definition, way.remoteUri)
    if (resources.code !== ocf.success) return resources
  }
  await limit(agent, domain, 'migrate-setspeed', settings.migration_speed)
  const uris = way.migrateUri === undefined ? [way.remoteUri] : [way.remoteUri, way.migrateUri]
  // By its uuid: virsh takes a name that is a number for the id of another domain.
  const words = ['migrate', '--live', ...way.options, domain.uuid, ...uris]
  const sending = cover.virsh(words, { always: true })
  const watch = watchMigration(agent, domain, sending)
  const exit = await sending
  await watch
  if (exit.status === 0) {
    agent.log.info(`${domain.name} was migrated to ${target}`)
    await leaveNothing(agent, domain)
    return success
  }
  return judge(agent, domain, { target, remoteUri: way.remoteUri, said: saidBy(exit) })
}

/** A definition that stays here could bring the domain up a second time: by autostart, or by hand. */
async function leaveNothing(agent: Agent, { name, uuid }: ActiveDomain): Promise<void> {
  forget(agent.call)
  const kept = await agent.hypervisor.kept({ names: [name], uuids: [uuid] }, leftMs(agent.call)).catch(() => undefined)
  if (kept !== undefined) await undefine(agent, kept)
}

/** A limit that libvirt does not take is no reason not to migrate. */
async function limit(agent: Agent, domain: ActiveDomain, verb: string, value: number | undefined): Promise<void> {
  if (value === undefined || value === 0) return
  const exit = await virsh(agent, [verb, domain.uuid, String(value)])
  if (exit.status !== 0) agent.log.warn(`virsh ${verb} ${domain.name} ${value} failed: ${saidBy(exit)}`)
}

/** Follows the job until its command ends: sets the downtime once it has begun, tells how far it is, and ends it in time. */
async function watchMigration(agent: Agent, domain: ActiveDomain, sending: Promise<unknown>): Promise<void> {
  let over = false
  const end = sending.finally(() => {
    over = true
  })
  const { call } = agent
  const abortAt = call.deadlineMs - Math.min(END_MS, call.timeoutMs * END_SHARE)
  let downtimeIsSet = agent.settings.migration_downtime === undefined
  let aborted = false
  for (let toldAt = performance.now(); !over; ) {
    const progress = await agent.hypervisor.progress(domain, leftMs(call)).catch(() => undefined)
    if (over) return
    if (progress !== undefined && !downtimeIsSet) {
      downtimeIsSet = true
      await limit(agent, domain, 'migrate-setmaxdowntime', agent.settings.migration_downtime)
    }
    if (progress !== undefined && performance.now() - toldAt > TELL_MS) {
      toldAt = performance.now()
      agent.log.info(`migration of ${domain.name}: ${progress}`)
    }
    if (!aborted && progress !== undefined && (agent.interrupt.aborted || isOver(abortAt))) {
      aborted = true
      agent.log.warn(
        `the migration of ${domain.name} is aborted: ${agent.interrupt.aborted ? 'somebody ended the operation' : 'its time is nearly over'}`,
      )
      await virsh(agent, ['domjobabort', domain.uuid], { always: true })
    }
    await Promise.race([end.catch(() => undefined), new Promise(resolve => setTimeout(resolve, REST_MS))])
  }
}

export async function migrateFrom(agent: Agent): Promise<Finding> {
  const wrong = agent.problems[0]
  if (wrong !== undefined) return wrong
  await orderShutdown(agent)
  const untilMs = Math.min(agent.call.deadlineMs, performance.now() + ARRIVAL_MS)
  for (;;) {
    const presence = await lookUntilHeard(agent, agent.call.deadlineMs)
    const finding = await examine(agent, presence)
    if (finding.code === ocf.success || finding.code === ocf.degraded) return arrived(agent)
    const isAbsent = presence.kind === 'absent'
    if (agent.interrupt.aborted || isOver(isAbsent ? untilMs : agent.call.deadlineMs - REST_MS))
      return failed(isAbsent ? notArrived(agent) : (finding.sentence ?? notArrived(agent)))
    await rest(agent, REST_MS)
  }
}

function arrived(agent: Agent): Finding {
  agent.log.info(`${nameOf(agent)} has arrived from ${agent.call.migrateSource ?? 'another node'}`)
  return success
}

function notArrived(agent: Agent): string {
  const from = agent.call.migrateSource === undefined ? '' : ` from ${agent.call.migrateSource}`
  return `${nameOf(agent)} is not active on this node: it has not arrived${from}`
}
