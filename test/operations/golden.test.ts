/** What people read of the verbs for the whole cluster: dry runs and tables as they are printed. The texts stand in golden/. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { printReport } from '../../src/cli/output.ts'
import { configOf } from '../../src/core/config.ts'
import { LOGIN_SCRIPT, LOOK_SCRIPT, MARK_SCRIPT } from '../../src/nodes/cross-check.ts'
import { ISCSI_SCRIPT } from '../../src/nodes/iscsi.ts'
import { SURVEY_SCRIPT } from '../../src/nodes/survey.ts'
import type { Input } from '../../src/operations/operation.ts'
import { caught } from '../cli/capture.ts'
import { aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import { perform } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

vi.mock('../../src/store/owner.ts', async original => ({
  ...(await original<typeof import('../../src/store/owner.ts')>()),
  thisProcess: async () => ({ host: 'desk', user: 'ops', pid: 7, bootId: 'b', pidNamespace: 'p', startTime: '1' }),
}))

const guest = (name: string, number: number, gib: number, state: 'running' | 'paused' = 'running') =>
  aDomainOnNode({ state }, aDomain({ name, uuid: uuidOf(number), memoryMiB: gib * 1024, disks: [] }))

/** Three nodes: node1 is full, and one of its domains stands still; web and db are to be apart; a portal offers one target. */
async function aCluster(): Promise<World> {
  const world = await aWorld({
    node1: [guest('web', 1, 2), guest('db', 2, 2), guest('mail', 3, 1), guest('still', 4, 1, 'paused')],
    node2: [guest('cache', 5, 5)],
  })
  const survey = readFileSync(join(import.meta.dirname, '..', 'nodes', 'recorded', 'survey.txt'), 'utf8')
  world.nodes.answer = (node, argv) => answerOf(survey, world, node, argv)
  const config = configOf(
    new Map<string, readonly string[]>([
      ['placement.rules', ['apart web db', 'prefer mail : node3']],
      ['iscsi.portals', ['10.0.0.1:3260 username=havirt password=@/etc/havirt/chap.secret']],
    ]),
  )
  return { ...world, home: { ...world.home, config, path: '/srv/havirt' } }
}

function answerOf(
  survey: string,
  world: World,
  node: string,
  [, , script, , ...words]: readonly string[],
): string | undefined {
  const [, ...folders] = words
  if (script === SURVEY_SCRIPT) {
    const now = survey.replace(/^clock.*$/m, `clock\t${world.clock.now() / 1000}`)
    return node === 'node2' ? now.replace(/^bridge.*$/m, '').replace('maxsessions\t100', 'maxsessions\t4') : now
  }
  if (script === LOGIN_SCRIPT) return words.map(to => `login\t${to}\t0\tnode: id-of-${to}\n`).join('')
  if (script === MARK_SCRIPT) return `${folders.map(folder => `wrote\t${folder}\n`).join('')}end\n`
  if (script === LOOK_SCRIPT)
    return `${folders.flatMap(folder => ['node1', 'node2', 'node3'].map(name => `there\t${folder}\t${name}\n`)).join('')}end\n`
  if (script === ISCSI_SCRIPT) return 'end\n'
  return script === 'discoverydb' || words.includes('nonpersistent') || script?.startsWith('discovery') === true
    ? '10.0.0.1:3260,1 iqn.2003-01.org.example:a\n'
    : 'end\n'
}

const VERBS: Readonly<Record<string, { name: string; input?: Partial<Pick<Input, 'words' | 'options'>> }>> = {
  balance: { name: 'cluster balance' },
  drain: { name: 'node maintenanceon', input: { words: { NODE: ['node2'] } } },
  'drain-stuck': { name: 'node maintenanceon', input: { words: { NODE: ['node1'] } } },
  'drain-shutdown': { name: 'node maintenanceon', input: { words: { NODE: ['node1'] }, options: { shutdown: true } } },
  whatif: { name: 'cluster whatif', input: { options: { down: 'node1,node2' } } },
  reserve: { name: 'cluster reserve' },
  validate: { name: 'cluster validate' },
  iscsiscan: { name: 'node iscsiscan', input: { words: { NODE: ['node3'] } } },
  'rule-list': { name: 'rule list' },
}

async function printed(world: World, { name, input = {} }: (typeof VERBS)[string]): Promise<string> {
  const report = await perform(world, name, { ...input, act: false })
  const { stdout, stderr } = await caught(async () => {
    await printReport(report, { format: 'table', quiet: false })
    return report.exit
  })
  return `${stdout}--- messages\n${stderr}--- status ${report.exit}\n`
}

test.each(Object.entries(VERBS))('%s', async (file, verb) => {
  await expect(await printed(await aCluster(), verb)).toMatchFileSnapshot(`golden/${file}.golden`)
})

test('the way back', async () => {
  const world = await aCluster()
  await perform(world, 'node maintenanceon', { words: { NODE: ['node2'] } })
  const text = await printed(world, {
    name: 'node maintenanceoff',
    input: { words: { NODE: 'node2' }, options: { return: true } },
  })
  await expect(text).toMatchFileSnapshot('golden/return.golden')
})
