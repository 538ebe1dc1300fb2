/**
 * Broken variants of the source: edits that take one of the reasons away why a domain never runs twice, or why a report can be
 * believed. The simulator must catch each; an edit that no longer fits the source is a failure of its own. A rule that planner
 * and checker both know is written down twice on purpose, so that such a variant edits both.
 */

import type { PlotName } from '../../src/sim/plots.ts'

/** One edit: `find` must stand in the file (below src/) exactly once. */
export interface Edit {
  readonly file: string
  readonly find: string
  readonly replace: string
}

/** A source that is broken on purpose. */
export interface Variant {
  readonly why: string
  readonly edits: readonly Edit[]
  /** Within so many seeds it must be caught. */
  readonly within: number
  /** Half of what happens in these seeds is this plot (src/sim/plots.ts); without it, any. */
  readonly plot?: PlotName
  /** A folder of test/scenarios/ that shows it instead: what it takes is too rare for chance. */
  readonly scenario?: string
}

/** A variant that no seed shows, because another layer is enough: together with that layer's removal it is caught. */
export interface Covered extends Variant {
  readonly by: string
  /** What takes the other layer away, too. `within` is for both together. */
  readonly layer: readonly Edit[]
}

const edit = (file: string, find: string, replace: string): Edit => ({ file, find, replace })

/** The guard does not ask on the target whether the domain still waits for its migration. */
const UNASKED = edit('execute/work.ts', "one.step === 'destroyDomain' && one.waits === true ?", 'one === undefined ?')

/** Whoever has the lease of a disk, and whether anybody has it, is no matter. */
const FREE = [
  edit('core/lease-pass.ts', 'if (record.timestamp === 0) return `the', 'if (record.timestamp < 0) return `the'),
  edit('core/invariants.ts', 'record.timestamp > 0 &&', 'record.timestamp >= 0 &&'),
  edit('execute/lease.ts', 'record !== undefined && record.timestamp > 0 &&', 'record !== undefined &&'),
] as const

/** Each is caught. */
export const variants: readonly Variant[] = [
  {
    why: 'one look is enough',
    within: 4000,
    edits: [
      edit('operate.ts', 'if (first.movedSince({ name', 'if (change === undefined && first.movedSince({ name'),
      edit(
        'operate.ts',
        'const first = await parts.nodes.look([...records.values()])',
        `const defined = (await parts.home.definitions.read(change.domain))?.domain?.disks ?? []
  const paths = defined.flatMap(({ source }) => ('path' in source ? [source.path] : []))
  const everything = { paths, devices: [], processes: true, held: true } as const
  const asked = new Map([...records.keys()].map(name => [name, everything]))
  const first = await parts.nodes.look([...records.values()], asked)`,
      ),
      edit('operate.ts', 'new Map([...first.seen, ...second.seen])', 'first.seen'),
    ],
  },
  {
    why: 'an unreachable node is empty',
    within: 100,
    edits: [
      edit(
        'core/cluster.ts',
        'filter(node => !isConfirmedDown(node))',
        "filter(node => node.seen.state === 'busy' && !isConfirmedDown(node))",
      ),
      edit(
        'core/invariants.ts',
        "(seen.state === 'unreachable' && !vouchedFor(ledger) && !passed.includes(name)) ||",
        '(ledger === undefined) ||',
      ),
    ],
  },
  {
    why: 'a busy node is empty',
    within: 100,
    edits: [
      edit(
        'core/cluster.ts',
        'filter(node => !isConfirmedDown(node))',
        "filter(node => node.seen.state !== 'busy' && !isConfirmedDown(node))",
      ),
      edit('core/invariants.ts', "seen.state === 'busy' ||", ''),
    ],
  },
  {
    why: 'the wall clock says when a claim is dead',
    within: 300,
    plot: 'deafRaise',
    edits: [
      edit(
        'store/claims.ts',
        "return record.state === 'held' && !(await",
        "return record.state === 'held' && Date.parse(record.since) + record.ttlMs > this.#clock.now() && !(await",
      ),
    ],
  },
  {
    why: 'a paused domain is not present',
    within: 100,
    edits: [
      edit(
        'core/node.ts',
        'return domain.active || domain.managedSave',
        "return (domain.active && domain.state !== 'paused') || domain.managedSave",
      ),
      edit(
        'core/plan/start.ts',
        '} else if (seen.active && unlisted',
        "} else if (seen.active && seen.state !== 'paused' && unlisted",
      ),
      edit(
        'core/invariants.ts',
        'return (other.active || other.managedSave) && isSame',
        "return ((other.active && other.state !== 'paused') || other.managedSave) && isSame",
      ),
    ],
  },
  {
    why: 'a saved image is not present',
    within: 1000,
    edits: [
      edit('core/node.ts', 'return domain.active || domain.managedSave', 'return domain.active'),
      edit('core/plan/start.ts', 'if (seen.managedSave) refusals', 'if (false) refusals'),
      edit(
        'core/invariants.ts',
        'return (other.active || other.managedSave) && isSame',
        'return other.active && isSame',
      ),
    ],
  },
  {
    why: 'the guard does not compare generations',
    within: 500,
    edits: [edit('sim/guard.ts', 'if (generation < this.generation(uuid))', 'if (false)')],
  },
  {
    why: 'a raised generation is forgotten when the node boots',
    within: 1,
    scenario: 'host-suspended-right-before-it-sends',
    edits: [edit('sim/nodes.ts', "mode: 'lock' as const, durable: true", "mode: 'lock' as const, durable: false")],
  },
  {
    why: 'the generation does not grow with a new holder',
    within: 500,
    edits: [edit('store/claims.ts', '(before?.generation ?? 0) + 1', '1')],
  },
  {
    why: 'commands run without the guard',
    within: 500,
    edits: [
      edit(
        'execute/work.ts',
        'return work.parts.nodes.act(record, ticket, {',
        'return work.parts.nodes.ask(record, { ...({ ticket, mode } && {}),',
      ),
      edit(
        'execute/work.ts',
        '...(stdin === undefined ? {} : { stdin }) }, mode)',
        '...(stdin === undefined ? {} : { stdin }) })',
      ),
    ],
  },
  {
    why: 'names are compared, but not uuids',
    within: 500,
    edits: [
      edit('core/cluster.ts', '...(by.get(`uuid ', '...(by.get(`no uuid '),
      edit(
        'core/invariants.ts',
        'if (other.name === one.domain || other.uuid === one.uuid) return true',
        'if (other.name === one.domain) return true',
      ),
    ],
  },
  {
    why: 'names are compared, but not disks',
    within: 200,
    edits: [
      edit('core/plan/plan.ts', 'return [...held, ...unreadable]', 'return [...unreadable].concat(held.slice(0, 0))'),
      edit(
        'core/invariants.ts',
        'return [...calledOn(seen, other.definition)].some(each => disks.has(each) || isPartOfOne(each, disks))',
        'return false',
      ),
    ],
  },
  {
    why: 'disks are compared by the text of their path alone',
    within: 200,
    edits: [
      edit('core/cluster.ts', 'const behind = nodes.flatMap(', 'const behind = nodes.slice(0, 0).flatMap('),
      edit('core/invariants.ts', "const facts = seen.paths.get('path' in", "const facts = new Map().get('path' in"),
    ],
  },
  {
    why: 'a claim covers disks by the text of their path alone',
    within: 2000,
    edits: [
      edit(
        'operate.ts',
        'every(names => names.every(name => claim.covers(name)))',
        'every(([name]) => claim.covers(name))',
      ),
    ],
  },
  {
    why: 'a disk is not claimed',
    within: 1000,
    edits: [
      edit(
        'store/claims.ts',
        'let keys = pointerKeys(identity);',
        'let keys = pointerKeys({ ...identity, disks: [] });',
      ),
      edit('operate.ts', 'every(names => names.every(name => claim.covers(name)))', 'every(() => true)'),
    ],
  },
  {
    why: 'a take-over does not raise the guard',
    within: 1000,
    edits: [
      edit(
        'take-up.ts',
        'await parts.nodes.raise(record, { uuid, generation, nodeId: record.id })',
        '{ status: uuid === undefined ? generation : 0 }',
      ),
    ],
  },
  {
    why: 'a failed raise counts as done',
    within: 500,
    plot: 'deafRaise',
    edits: [
      edit(
        'take-up.ts',
        'if (exit.status !== 0 || !(await hasComeToRest(parts, record, doubt.step))) return { unsettled',
        'if (exit.status === -1) return { unsettled',
      ),
    ],
  },
  {
    why: 'a node with a command in doubt is believed',
    within: 500,
    plot: 'deafRaise',
    edits: [edit('operate.ts', 'seen: unsettled.get(name) ?? back ?? node.seen', 'seen: (unsettled, back, node.seen)')],
  },
  {
    why: 'a new holder forgets what is in doubt',
    within: 1000,
    edits: [edit('store/claims.ts', 'doubts: before?.doubts ?? []', 'doubts: []')],
  },
  {
    why: 'a released claim forgets what is in doubt',
    within: 500,
    plot: 'deafRaise',
    edits: [
      edit('store/claim.ts', "({ ...record, state: 'released' })", "({ ...record, doubts: [], state: 'released' })"),
    ],
  },
  {
    why: 'disks of a domain with a command in doubt are free',
    within: 4000,
    plot: 'handOver',
    edits: [edit('store/claims.ts', 'if (isInDoubt(claim.record)) return claim.record', '')],
  },
  {
    why: 'a command is not written down before it is sent',
    within: 1000,
    edits: [edit('store/claim.ts', '({ ...record, doubts: [...record.doubts, doubt] })', '(void doubt, record)')],
  },
  {
    why: 'the claim is not checked again before a step',
    within: 4000,
    edits: [
      edit(
        'store/claim.ts',
        'await this.#change(record => ({ ...record, doubts: [...record.doubts, doubt] }))',
        'this.#record = { ...this.#record, doubts: [...this.#record.doubts, doubt] }',
      ),
    ],
  },
  {
    why: 'a claim that another holds is taken all the same',
    within: 1,
    scenario: 'three-starts-at-one-moment',
    edits: [
      edit(
        'store/claims.ts',
        'if (found !== undefined && (await this.#isHeld(found.record))) return { heldBy',
        'if (found !== undefined && found.version === 0) return { heldBy',
      ),
    ],
  },
  {
    why: 'a command of our own that was lost is not fenced',
    within: 3000,
    plot: 'deafRaise',
    edits: [edit('store/claim.ts', '({ ...record, generation: record.generation + 1 })', 'record')],
  },
  {
    why: 'autostart is left on the source of a migration',
    within: 1,
    scenario: 'source-lost-as-the-domain-moved',
    edits: [
      edit('core/plan/migrate.ts', "...(domain.autostart ? [step('dis", "...(domain.active === undefined ? [step('dis"),
      edit('core/invariants.ts', 'some(each => each.uuid === uuid && each.autostart)', 'some(() => false)'),
    ],
  },
  {
    why: 'what waited on the target is destroyed although it may run by then',
    within: 1,
    scenario: 'hand-over-that-comes-late',
    edits: [UNASKED],
  },
  {
    why: 'QEMUs that libvirt does not list are not counted',
    within: 1000,
    edits: [
      edit('operations/inquiries.ts', '{ paths: [], devices: [], processes: true }', '{ paths: [], devices: [] }'),
    ],
  },
  {
    why: 'the host uuid is not compared',
    within: 2000,
    edits: [edit('sim/session.ts', 'if (answer.is.seen.hostUuid !== this.#record.hostUuid)', 'if (false)')],
  },
  {
    why: 'the last scan proves that a silent node is empty',
    within: 500,
    edits: [
      edit(
        'observe.ts',
        'const answer = seen.get(record.name)',
        `const kept = await parts.home.records.population(record.name)
    const proved = kept !== undefined && Object.values(kept).every(({ state }) => state === 'shutoff')
    const answer = seen.get(record.name)?.state !== 'up' && proved ? undefined : seen.get(record.name)`,
      ),
    ],
  },
  {
    why: 'a node that was confirmed down and has answered still counts as down',
    within: 4000,
    edits: [
      edit('core/node.ts', 'ledger.down.answered !== true && ', ''),
      edit(
        'core/invariants.ts',
        'return down !== undefined && down.answered === undefined',
        'return down !== undefined',
      ),
    ],
  },
  {
    why: 'the fence device is not asked again',
    within: 4000,
    edits: [edit('operate.ts', "ledger.down?.how === 'fence')\n", 'ledger.down?.how === undefined)\n')],
  },
  {
    why: 'room is not reserved',
    within: 200,
    plot: 'lastRoom',
    edits: [edit('operate.ts', '      withReservation(parts, node, each, ours),', '      (ours, each),')],
  },
  {
    why: 'what others have reserved is not counted',
    within: 2000,
    edits: [
      edit('core/placement.ts', 'return first.filter(({ uuid }) => !here.has(uuid))', 'return first.slice(0, 0)'),
      edit('core/invariants.ts', '.filter(({ uuid }) => !has?.has(uuid))', '.slice(0, 0)'),
    ],
  },
  {
    why: 'a node in maintenance receives domains',
    within: 1000,
    edits: [
      edit('core/placement.ts', '...(maintenance === undefined\n', '...(maintenance !== null\n'),
      edit('core/invariants.ts', '...(maintenance === undefined\n', '...(maintenance !== null\n'),
    ],
  },
  {
    why: 'a node that is called down is forgotten to autostart',
    within: 1,
    scenario: 'autostart-on-a-fenced-node',
    edits: [
      edit('core/plan/start.ts', '.filter(isConfirmedDown)', '.filter(() => false)'),
      edit('core/invariants.ts', '...nobodyWakes(cluster, one),', ''),
    ],
  },
  {
    why: 'a command in doubt keeps no room',
    within: 3000,
    plot: 'deafRaise',
    edits: [
      edit('store/claims.ts', 'if (isOver && !arrivesLate(known, node)) return false', 'if (isOver) return false'),
      edit('store/claims.ts', 'return arrivesLate(record, node) || (record.token', 'return (record.token'),
    ],
  },
  {
    why: 'nobody asks from the source where the target is',
    within: 50,
    plot: 'wrongTurn',
    edits: [edit('execute/work.ts', "if (one.step === 'migrateDomain')", 'if (one === undefined)')],
  },
  {
    why: 'an end that was not seen counts as failed',
    within: 1000,
    edits: [edit('execute/work.ts', "outcome: 'unknown',\n    detail", "outcome: 'failed',\n    detail")],
  },
  {
    why: 'a command without an end is taken for one that failed',
    within: 1000,
    edits: [
      edit(
        'execute/work.ts',
        'return exit.status === undefined || exit.status === 255 || exit.timedOut || lostLibvirtd(exit)',
        'return exit.status === undefined && lostLibvirtd(exit)',
      ),
    ],
  },
  {
    why: 'a virsh that lost its libvirtd is taken at its word',
    within: 1000,
    plot: 'brokenMove',
    edits: [edit('execute/work.ts', 'status !== undefined && status !== 0 && status !== 255 &&', 'status === -1 &&')],
  },
  {
    why: 'what was not seen to end is said to be done',
    within: 1000,
    edits: [edit('execute/work.ts', "outcome: 'unknown',\n    detail", "outcome: 'done',\n    detail")],
  },
  {
    why: 'a free lease lets a start past a silent node',
    within: 1,
    scenario: 'paused-domain-on-a-silent-node',
    edits: [...FREE],
  },
  {
    why: 'sanlock is not waited for',
    within: 200,
    plot: 'silentNode',
    edits: [edit('execute/lease.ts', "return seen?.state === 'dead' &&", "return seen?.state !== 'live' &&")],
  },
  {
    why: 'a node that renews its lease counts as dead',
    within: 1,
    scenario: 'silent-node-that-still-renews',
    edits: [
      edit('execute/lease.ts', 'if (record.timestamp !== first)', 'if (first === undefined)'),
      edit('execute/lease.ts', "return seen?.state === 'dead' &&", 'return seen !== undefined &&'),
    ],
  },
  {
    why: 'without a watchdog it passes all the same',
    within: 200,
    plot: 'silentNode',
    edits: [
      edit(
        'core/lease-pass.ts',
        'if (!sighting.watchdog && !config.lease.passWithoutWatchdog)',
        'if (config === undefined)',
      ),
      edit('core/invariants.ts', 'sighting?.watchdog === true ||', 'sighting !== undefined ||'),
    ],
  },
  {
    why: 'a node that was passed receives domains before what is left is gone',
    within: 1,
    scenario: 'copy-found-on-a-passed-node',
    edits: [
      edit('core/placement.ts', '...(passed.length === 0 ?', '...(passed.length >= 0 ?'),
      edit('core/invariants.ts', '...(passed.length === 0\n', '...(passed.length >= 0\n'),
    ],
  },
]

/** Other layers are enough. */
export const covered: readonly Covered[] = [
  {
    why: 'a domain that was paused when last seen is passed',
    by: 'what is free proves nothing, and a paused domain has given its leases back',
    within: 300,
    plot: 'silentNode',
    edits: [
      edit(
        'core/lease-pass.ts',
        "if (seen.state !== 'running')",
        "if (seen.state !== 'running' && seen.state !== 'paused')",
      ),
      edit(
        'core/lease-pass.ts',
        'if (seen.without !== undefined)',
        "if (seen.without !== undefined && seen.state !== 'paused')",
      ),
      edit(
        'core/invariants.ts',
        "seen?.state === 'running' && seen.without === undefined",
        "(seen?.state === 'running' && seen.without === undefined) || seen?.state === 'paused'",
      ),
    ],
    layer: [...FREE],
  },
  {
    why: 'the guard takes no lock',
    by: 'whoever takes over waits until libvirtd shows nothing of a lost start',
    within: 4000,
    plot: 'handOver',
    edits: [
      edit('sim/guard.ts', "if (pass.mode === 'nolock') return this", 'if (pass.mode !== undefined) return this'),
    ],
    layer: [
      edit('execute/work.ts', "if (asked?.step !== 'createDomain') return true", 'if (asked !== null) return true'),
    ],
  },
  {
    why: 'a source paused for a migration runs on whatever the target does',
    by: 'the guard asks on the target whether it still waits',
    within: 2000,
    plot: 'brokenMove',
    edits: [
      edit(
        'core/migration.ts',
        'if (isRunning(target)) return afterTargetRan(source)',
        "if (isRunning(target)) return pausedForIt(source) ? 'destroyTargetResumeSource' : afterTargetRan(source)",
      ),
      edit('core/migration.ts', "return target === 'absent' && pausedForIt(source)", 'return pausedForIt(source)'),
    ],
    layer: [UNASKED],
  },
  {
    why: 'the ends of a broken migration are not looked at again before it is mended',
    by: 'they are looked at only after libvirt had ten seconds to tidy up, and the guard asks on the target whether it still waits',
    within: 4000,
    plot: 'brokenMove',
    edits: [
      edit(
        'execute/migration.ts',
        "return one.step === 'resumeDomain' ? mayResume(source, target) : judgeMigration(source, target) === verdict",
        'return true',
      ),
    ],
    layer: [edit('execute/migration.ts', 'const SETTLING_MS = 10_000', 'const SETTLING_MS = 0'), UNASKED],
  },
]
