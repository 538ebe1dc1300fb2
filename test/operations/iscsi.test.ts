/** `node iscsiscan` from the configuration to the last command, on fake nodes whose iscsiadm remembers. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { configOf } from '../../src/core/config.ts'
import { ISCSI_SCRIPT } from '../../src/nodes/iscsi.ts'
import { perform, texts } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const P = '10.0.0.1:3260'
const A = 'iqn.2003-01.org:a'

/** Two nodes and a portal that offers one target; who logs in has a session from then on. */
async function anIscsiWorld(entry = P): Promise<World> {
  const world = await aWorld()
  await world.home.records.removeNode('node3')
  const loggedIn = new Set<string>()
  world.nodes.answer = (node, argv) => {
    if (argv[2] === ISCSI_SCRIPT)
      return `${loggedIn.has(node) ? `session\t${A}\t${P}\tLOGGED_IN\nlun\t${A}\t1\tsdb\tnaa.6001\t8\nreads\tsdb\n` : ''}end\n`
    if (argv.includes('nonpersistent')) return `${P},1 ${A}\n`
    if (argv.includes('--login')) loggedIn.add(node)
    return ''
  }
  return { ...world, home: { ...world.home, config: configOf(new Map([['iscsi.portals', [entry]]])) } }
}

const scan = (world: World, act: boolean, ...nodes: string[]) =>
  perform(world, 'node iscsiscan', { act, words: { NODE: nodes } })

test('a dry run shows every command and logs nobody in', async () => {
  const world = await anIscsiWorld()
  const report = await scan(world, false)
  expect(report.script?.filter(line => !line.startsWith('#'))).toEqual(
    ['node1', 'node2'].flatMap(node => [
      `ssh -n ${node} iscsiadm -m node -T ${A} -p ${P} -o new`,
      `ssh -n ${node} iscsiadm -m node -T ${A} -p ${P} -o update -n node.startup -v automatic`,
      `ssh -n ${node} iscsiadm -m node -T ${A} -p ${P} --login`,
    ]),
  )
  expect(world.nodes.log.some(line => line.includes('--login'))).toBe(false)
})

test('it logs in everywhere, and finds nothing to do the next time but to look again', async () => {
  const world = await anIscsiWorld()
  const report = await scan(world, true)
  expect(report.exit).toBe(0)
  expect(report.table?.rows.map(({ node, outcome }) => [node, outcome])).toEqual(
    ['node1', 'node1', 'node1', 'node2', 'node2', 'node2'].map(node => [node, 'done']),
  )
  expect((await scan(world, true)).table?.rows.map(({ what }) => what)).toEqual([
    'look for new and grown disks on node1',
    'look for new and grown disks on node2',
  ])
})

test('a password is read from its file and handed over by standard input', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-chap-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'secret')
  await writeFile(file, 'geheim\n', { mode: 0o600 })
  const world = await anIscsiWorld(`${P} username=havirt password=@${file}`)
  const shown = await scan(world, false, 'node1')
  expect(shown.script?.filter(line => line.endsWith(`< ${file}`))).toHaveLength(2)
  const report = await scan(world, true, 'node1')
  expect(report.exit).toBe(0)
  expect(JSON.stringify([report, shown, world.nodes.log])).not.toContain('geheim')
})

test('a password file that others may read is refused, and what needs it is not done', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'havirt-chap-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'secret')
  await writeFile(file, 'geheim\n', { mode: 0o644 })
  const report = await scan(await anIscsiWorld(`${P} username=havirt password=@${file}`), true, 'node1')
  expect(report.exit).not.toBe(0)
  expect(texts(report)).toContain('others may read or write it')
})

test('a portal that does not answer is told, with what to try by hand', async () => {
  const world = await anIscsiWorld()
  const ask = world.nodes.ask.bind(world.nodes)
  world.nodes.ask = async (record, order) =>
    order.command.argv.includes('nonpersistent')
      ? {
          status: 4,
          signal: undefined,
          stdout: '',
          stderr: 'iscsiadm: cannot make connection to 10.0.0.1\n',
          timedOut: false,
        }
      : ask(record, order)
  const report = await scan(world, true)
  expect(report.exit).toBe(4)
  expect(texts(report)).toContain(
    `node1 could not ask ${P} for its targets: iscsiadm: cannot make connection to 10.0.0.1: try by hand`,
  )
})

test('a silent node is refused by name, and otherwise told', async () => {
  const world = await anIscsiWorld()
  world.nodes.silence('node2')
  expect(await scan(world, true, 'node2')).toMatchObject({ exit: 3, refusals: [{ reason: 'unreachable' }] })
  expect(texts(await scan(world, false))).toContain('node2 is unreachable')
})
