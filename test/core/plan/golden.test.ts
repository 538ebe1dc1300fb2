/** The scripts that a dry run shows, verb by verb, and the two sentences of every refusal. `npm test -- -u` rewrites them. */
import { expect, test } from 'vitest'
import { script } from '../../../src/core/command.ts'
import { planAdopt } from '../../../src/core/plan/adopt.ts'
import { planMigrate } from '../../../src/core/plan/migrate.ts'
import type { Plan } from '../../../src/core/plan/plan.ts'
import { planPower } from '../../../src/core/plan/power.ts'
import { planStart } from '../../../src/core/plan/start.ts'
import { planStop } from '../../../src/core/plan/stop.ts'
import { planUpdate } from '../../../src/core/plan/update.ts'
import { aCluster, aDomain, aDomainOnNode, aNode, onPath, shutOff } from '../builders.ts'
import { stepsOf } from './answer.ts'

const paths = onPath('/srv/web.img')
const on = (web = aDomainOnNode()) =>
  aCluster({ nodes: [aNode('node1', [web], { paths }), aNode('node2', [], { paths })] })
const paused = () => on(aDomainOnNode({ state: 'paused' }))
const moving = () =>
  aCluster({
    nodes: [aNode('node1', [aDomainOnNode()]), aNode('node2', [aDomainOnNode({ state: 'paused', stateReason: 2 })])],
  })
const PLAIN = { autoConverge: false, postCopy: false, unsafe: false }
const EVERYTHING = {
  autoConverge: true,
  postCopy: true,
  unsafe: true,
  bandwidthMiBps: 200,
  maxDowntimeMs: 50,
  timeoutSeconds: 30,
  migrateuri: 'tcp://node2-mig',
}
const tpm = aDomain({ nodeBound: [{ kind: 'tpm', what: 'swtpm' }] })

const VERBS: Readonly<Record<string, readonly Plan[]>> = {
  start: [planStart(aCluster(), { domain: 'web', node: 'node2', auto: false })],
  stop: [
    planStop(on(), { domain: 'web', timeoutMs: 120_000, force: false }),
    planStop(on(), { domain: 'web', timeoutMs: 500, force: false, mode: 'agent' }),
    planStop(on(), { domain: 'web', timeoutMs: 1000, force: true }),
    planStop(moving(), { domain: 'web', timeoutMs: 1000, force: false }),
  ],
  power: [
    planPower(on(), { domain: 'web', verb: 'reboot' }),
    planPower(on(), { domain: 'web', verb: 'reboot', mode: 'acpi' }),
    planPower(on(), { domain: 'web', verb: 'reset' }),
    planPower(on(), { domain: 'web', verb: 'suspend' }),
    planPower(paused(), { domain: 'web', verb: 'resume' }),
  ],
  migrate: [
    planMigrate(on(), { domain: 'web', node: 'node2', options: PLAIN }),
    planMigrate(on(aDomainOnNode({ persistent: true })), { domain: 'web', node: 'node2', options: EVERYTHING }),
    planMigrate(on(), { domain: 'web', node: 'node2', options: { ...PLAIN, postCopy: true } }),
    planMigrate(on(), { domain: 'web', node: 'node2', options: { ...PLAIN, timeoutSeconds: 5 } }),
  ],
  adopt: [
    planAdopt(on(shutOff()), { domain: 'web', path: 'conf/web.xml' }),
    planAdopt(on(shutOff({}, tpm)), { domain: 'web', path: "/mnt/it's here/conf/web.xml" }),
  ],
  update: [planUpdate(on(), { domain: 'web', path: 'conf/web.xml', node: 'node1', force: true })],
}

test.each(Object.entries(VERBS))('%s shows its script', async (verb, plans) => {
  const shown = (here: string | undefined) =>
    plans.map(plan => script(stepsOf(plan), 'qemu:///system', here).join('\n')).join('\n\n')
  const text = `## elsewhere\n\n${shown(undefined)}\n\n## on node1 itself\n\n${shown('node1')}\n`
  await expect(text).toMatchFileSnapshot(`golden/${verb}.golden`)
})
