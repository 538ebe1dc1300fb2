/** `cluster validate` in clusters of any size: who tries whom, what is written and removed, and how it is shown. On fake nodes. */
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { configOf } from '../../src/core/config.ts'
import { LOGIN_SCRIPT, LOOK_SCRIPT, MARK_SCRIPT, UNMARK_SCRIPT } from '../../src/nodes/cross-check.ts'
import { LEASES_SCRIPT } from '../../src/nodes/leases.ts'
import { SURVEY_SCRIPT } from '../../src/nodes/survey.ts'
import { aDisk, aDomain, aDomainOnNode } from '../core/builders.ts'
import { md5 } from '../core/lease-builders.ts'
import { perform, texts } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const RECORDED = readFileSync(join(import.meta.dirname, '..', 'nodes', 'recorded', 'survey.txt'), 'utf8')

/** So many nodes that answer as one was recorded, and a note of who was asked to run which script with which words. */
async function aSurveyedWorld(count: number) {
  const names = Array.from({ length: count }, (_, at) => `node${at + 1}`)
  const world = await aWorld(Object.fromEntries(names.map(name => [name, []])))
  const asked: { node: string; script: string; words: readonly string[] }[] = []
  world.nodes.answer = (node, [, , script = '', , ...words]) => {
    asked.push({ node, script, words })
    const [, ...folders] = words
    if (script === SURVEY_SCRIPT) return RECORDED.replace(/^clock.*$/m, `clock\t${world.clock.now() / 1000}`)
    if (script === LOGIN_SCRIPT) return words.map(to => `login\t${to}\t0\tnode: id-of-${to}\n`).join('')
    if (script === MARK_SCRIPT) return `${folders.map(folder => `wrote\t${folder}\n`).join('')}end\n`
    const all = folders.flatMap(folder => names.map(name => `there\t${folder}\t${name}\n`))
    return script === LOOK_SCRIPT ? `${all.join('')}end\n` : 'end\n'
  }
  return { world, asked, names }
}

const validate = (world: World) => perform(world, 'cluster validate')

test('up to 12 nodes every node tries every other', async () => {
  const { world, asked, names } = await aSurveyedWorld(12)
  const report = await validate(world)
  for (const name of names) {
    const [login] = asked.filter(({ node, script }) => node === name && script === LOGIN_SCRIPT)
    expect(new Set(login?.words)).toEqual(new Set(names.filter(other => other !== name)))
  }
  expect(report.table?.columns.map(({ key }) => key)).toEqual(['check', 'ok', 'fails'])
})

test('above that every node tries some, and is tried by some', async () => {
  const { world, asked, names } = await aSurveyedWorld(14)
  await validate(world)
  const logins = asked.filter(({ script }) => script === LOGIN_SCRIPT)
  expect(logins.map(({ words }) => words.length)).toEqual(names.map(() => 3))
  expect(new Set(logins.flatMap(({ words }) => words))).toEqual(new Set(names))
  for (const { node, words } of logins) expect(words).not.toContain(node)
})

test('few nodes have a column each, and what is sound is said in one line', async () => {
  const { world } = await aSurveyedWorld(3)
  const report = await validate(world)
  expect(report.table?.columns.map(({ key }) => key)).toEqual(['check', 'node1', 'node2', 'node3'])
  // Recorded on one node, all three let only the same three keys in.
  expect(texts(report)).toMatch(/^all \d+ checks passed/)
  expect(report.exit).toBe(0)
})

test('every node marks each folder with a file of its own, looks for all of them, and removes its own again', async () => {
  const { world, asked, names } = await aSurveyedWorld(3)
  await validate(world)
  const about = (script: string) => asked.filter(each => each.script === script)
  for (const script of [MARK_SCRIPT, LOOK_SCRIPT, UNMARK_SCRIPT])
    expect(
      about(script)
        .map(({ node }) => node)
        .sort(),
    ).toEqual(names)
  const prefix = about(LOOK_SCRIPT)[0]?.words[0] ?? ''
  expect(prefix).toMatch(/^\.havirt-validate-[0-9a-f-]{36}$/)
  for (const script of [MARK_SCRIPT, UNMARK_SCRIPT])
    for (const { node, words } of about(script))
      expect(words.slice(0, 2)).toEqual([`${prefix}.${node}`, world.home.path])
})

test('the files are removed although nobody could look for them', async () => {
  const { world, asked, names } = await aSurveyedWorld(3)
  const answer = world.nodes.answer
  world.nodes.answer = (node, argv) => {
    if (argv[2] === LOOK_SCRIPT) throw new Error('no')
    return answer(node, argv)
  }
  await expect(validate(world)).rejects.toThrow('no')
  expect(asked.flatMap(({ node, script }) => (script === UNMARK_SCRIPT ? [node] : [])).sort()).toEqual(names)
})

test('without nodes there is nothing to compare', async () => {
  const world = await aWorld()
  for (const name of ['node1', 'node2', 'node3']) await world.home.records.removeNode(name)
  expect(texts(await validate(world))).toContain('there is no node yet')
})

test('what fails is written down, keeps what validate.required asks for away, and is forgotten once it is mended', async () => {
  const { world } = await aSurveyedWorld(3)
  const answer = world.nodes.answer
  world.nodes.answer = (node, argv) => {
    const text = answer(node, argv)
    return node === 'node2' && argv[2] === SURVEY_SCRIPT ? text?.replace(/^bridge.*$/m, '') : text
  }
  expect((await validate(world)).exit).toBe(4)
  expect(await world.home.records.ledger('node2')).toMatchObject({ invalid: { checks: ['bridges'] } })
  const start = (required: readonly string[]) => {
    const config = configOf(new Map([['validate.required', required]]))
    return perform({ ...world, home: { ...world.home, config } }, 'domain start', {
      words: { NAME: 'web', NODE: 'node2' },
      act: false,
    })
  }
  expect(await start([])).toMatchObject({ exit: 0 })
  expect(await start(['clocks'])).toMatchObject({ exit: 0 })
  expect(await start(['bridges'])).toMatchObject({
    exit: 3,
    refusals: [{ reason: 'validation', node: 'node2', checks: ['bridges'] }],
  })
  world.nodes.answer = answer
  await validate(world)
  expect(await world.home.records.ledger('node2')).not.toHaveProperty('invalid')
  expect(await start(['bridges'])).toMatchObject({ exit: 0 })
})

// ---- leases -------------------------------------------------------------------------------------------------------------

/** What nodeN answers that has sanlock with the host id N, and has joined; and these lines. */
function sanlockLines(node: string, ...more: readonly string[]): string {
  const id = node.slice(4)
  const lines = [
    'setting\tqemu\tlock_manager\tsanlock',
    'setting\tsanlock\tauto_disk_leases\t1',
    'setting\tsanlock\tdisk_lease_dir\t/srv/leases',
    `setting\tsanlock\thost_id\t${id}`,
    'setting\tsanlock\trequire_lease_for_disks\t1',
    `setting\tdaemon\tour_host_name\t${node}`,
    'ordered',
    'process\tlibvirtd\t10\t100',
    'process\twdmd\t11\t90',
    'device\t/dev/watchdog',
    `status\tdaemon ${node}`,
    `status\t    our_host_name=${node}`,
    'status\t    use_watchdog=1',
    'status\t    monotime=1000',
    `status\ts __LIBVIRT__DISKS__:${id}:/srv/leases/__LIBVIRT__DISKS__:0`,
    'status\t    io_timeout=10',
    'status\t    host_generation=1',
    'status\t    renewal_last_success=995',
    'folder\t/srv/leases\tyes\tnfs',
    ...more,
    'end',
  ]
  return `${lines.join('\n')}\n`
}

/** Three nodes that answer so, and no definition: that of web has a disk that no lease covers. */
async function aLeasedWorld(answer: (node: string) => string) {
  const { world, asked } = await aSurveyedWorld(3)
  await rm(join(world.definitionsFolder, 'web.xml'))
  const rest = world.nodes.answer
  world.nodes.answer = (node, argv) => {
    const other = rest(node, argv)
    return argv[2] === LEASES_SCRIPT ? answer(node) : other
  }
  return { world, asked }
}

const lease = (path: string) => [
  'pid\tweb\t142',
  'status\tp 142 web',
  `status\tr __LIBVIRT__DISKS__:${md5(path)}:/srv/leases/${md5(path)}:0:1 p 142`,
  'status\t    list=held',
]

/** `id: where` of everything that failed. */
async function failing(world: World): Promise<string[]> {
  const { table } = await validate(world)
  return (table?.rows ?? []).flatMap(row =>
    ['node1', 'node2', 'node3', 'cluster'].flatMap(column =>
      row[column] === 'FAILS' ? [`${row['id']}: ${column}`] : [],
    ),
  )
}

test('leases are asked for once on each node, and their folder is compared like any other; without a lock manager it is none', async () => {
  const { world, asked } = await aLeasedWorld(node => sanlockLines(node))
  expect(texts(await validate(world))).toMatch(/^all \d+ checks passed/)
  const about = (script: string) => asked.filter(each => each.script === script)
  expect(
    about(LEASES_SCRIPT)
      .map(({ node }) => node)
      .sort(),
  ).toEqual(['node1', 'node2', 'node3'])
  for (const { words } of about(MARK_SCRIPT)) expect(words.slice(1)).toEqual([world.home.path, '/srv/leases'].sort())
  const plain = await aSurveyedWorld(3)
  expect(texts(await validate(plain.world))).toMatch(/^all \d+ checks passed/)
  for (const { script, words } of plain.asked)
    if (script === MARK_SCRIPT) expect(words.slice(1)).toEqual([plain.world.home.path])
})

test('what is wrong with leases is found where it is', async () => {
  const { world } = await aLeasedWorld(node =>
    node === 'node2' ? sanlockLines(node).replace(/^setting\tqemu.*$/m, '') : sanlockLines(node),
  )
  expect(await failing(world)).toEqual(['leases: node2'])
  world.nodes.answer = (answer => (node, argv) => {
    const text = answer(node, argv)
    return node === 'node2' && argv[2] === LEASES_SCRIPT ? sanlockLines(node).replace(/^status\ts .*$/m, '') : text
  })(world.nodes.answer)
  expect(await failing(world)).toEqual(['lease-daemon: node2'])
})

test('a domain that runs has its lease, by the process that libvirt has for it', async () => {
  const domain = aDomain({ name: 'web', disks: [aDisk('/srv/web.img')] })
  const lines = lease('/srv/web.img')
  const has = { pids: true }
  const { world } = await aLeasedWorld(node =>
    node === 'node1' ? sanlockLines(node, ...(has.pids ? lines : lines.slice(1))) : sanlockLines(node),
  )
  world.nodes.set('node1', aDomainOnNode({}, domain))
  const about = async () => (await failing(world)).filter(each => each.startsWith('unprotected'))
  expect(await about()).toEqual([])
  has.pids = false
  expect(await about()).toEqual(['unprotected: node1'])
})

test('a node that does not say what leases it has could not be asked, and the others are judged', async () => {
  const { world } = await aLeasedWorld(node =>
    node === 'node3' ? 'setting\tqemu\tlock_manager\tsanlock\n' : sanlockLines(node),
  )
  expect(await failing(world)).toEqual(['answers: node3'])
  expect(texts(await validate(world))).toContain('node3 could not be asked: its leases: ')
})

test('every disk that a node itself names is asked for, too: it may have a second name there', async () => {
  const own = aDomain({ name: 'own', disks: [aDisk('/dev/vg/own')] })
  const { world } = await aLeasedWorld(node => sanlockLines(node))
  world.nodes.set('node3', aDomainOnNode({ state: 'shutoff', persistent: true }, own))
  await validate(world)
  expect([...world.nodes.inquiries.values()].map(({ paths }) => paths?.includes('/dev/vg/own'))).toEqual([
    true,
    true,
    true,
  ])
})
