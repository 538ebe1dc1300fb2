/**
 * What is shown is what is run (rule 11): the script of a dry run, given to a shell on the same node, leaves the cluster as
 * `--yes` leaves it, and holds byte for byte the commands that `--yes` sends.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterEach, expect, test } from 'vitest'
import { parse } from 'yaml'
import {
  clean,
  define,
  defineByVirsh,
  everywhere,
  exec,
  guest,
  HOME,
  havirt,
  nextBeat,
  pathOn,
  printed,
  running,
  sure,
  until,
} from './lab.ts'

afterEach(clean)

/** What the cluster is after a change: domains and definitions of every node by virsh, and the files of conf/. */
async function clusterState() {
  const folder = await pathOn('node1', `${HOME}/conf`)
  const files = (await readdir(folder)).sort()
  const texts = files.map(async file => [file, sha256(await readFile(join(folder, file)))] as const)
  return { domains: await everywhere(), conf: Object.fromEntries(await Promise.all(texts)) }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Every command line that a claim was told of before it was sent (rule 12). */
async function sentCommands(): Promise<string[]> {
  const folder = await pathOn('node1', `${HOME}/var/claims/uuid`)
  const files = await readdir(folder, { recursive: true, withFileTypes: true })
  const texts = files.filter(file => file.isFile()).map(file => readFile(join(file.parentPath, file.name), 'utf8'))
  const records: { doubts: { command: string }[] }[] = (await Promise.all(texts)).map(text => parse(text))
  return records.flatMap(({ doubts }) => doubts.map(({ command }) => command))
}

interface Case {
  readonly verb: string[]
  /** Brings the cluster to where the change begins. */
  prepare(): Promise<unknown>
}

const cases: Record<string, Case> = {
  'start here': { verb: ['start', 'web', 'node1'], prepare: () => define('web') },
  'start on another node': { verb: ['start', 'web', 'node2'], prepare: () => define('web') },
  'stop here': {
    verb: ['stop', 'web'],
    prepare: () => running('web', 'node1').then(() => nextBeat('web')),
  },
  'stop on another node': {
    verb: ['stop', 'web'],
    prepare: () => running('web', 'node3').then(() => nextBeat('web')),
  },
  'migrate away from here': { verb: ['migrate', 'web', 'node2'], prepare: () => running('web', 'node1') },
  'migrate between other nodes': { verb: ['migrate', 'web', 'node3'], prepare: () => running('web', 'node2') },
  'migrate with every option': {
    verb: [
      'migrate',
      'web',
      'node3',
      '--bandwidth',
      '100',
      '--max-downtime',
      '200',
      '--auto-converge',
      '--timeout',
      '60',
    ],
    prepare: () => running('web', 'node2'),
  },
  'migrate a file disk': {
    verb: ['migrate', 'filed', 'node2', '--unsafe'],
    prepare: () => running('filed', 'node1', { disk: 'file' }),
  },
  suspend: { verb: ['suspend', 'web'], prepare: () => running('web', 'node2') },
  resume: {
    verb: ['resume', 'web'],
    prepare: () => running('web', 'node2').then(() => sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))),
  },
  'adopt from here': {
    verb: ['adopt', 'own'],
    prepare: async () => defineByVirsh('node1', await guest('own'), 'start'),
  },
  'adopt from another node, twice in one script': {
    verb: ['adopt', 'ALL'],
    prepare: async () => {
      await defineByVirsh('node2', await guest('own'), 'start')
      await defineByVirsh('node3', await guest('own2'))
    },
  },
  'update from a node': {
    verb: ['update', 'RUNNING'],
    prepare: async () => defineByVirsh('node2', await guest('own'), 'start'),
  },
}

test.each(Object.entries(cases))('%s: the script in a shell does what --yes does', async (_name, { verb, prepare }) => {
  await prepare()
  const before = await clusterState()
  const shown = await printed('node1', 'domain', ...verb)
  expect(shown.status).toBe(0)
  const done = await havirt('node1', '-y', 'domain', ...verb)
  expect(done).toMatchObject({ status: 0 })
  const byHavirt = await clusterState()
  expect(byHavirt).not.toEqual(before)

  await clean()
  await prepare()
  const { stdout: script } = await havirt('node1', '-q', 'domain', ...verb)
  expect(script).toBe(shown.script?.concat('').join('\n'))
  // Showing changed nothing: neither the first time, nor now.
  expect(await clusterState()).toEqual(before)
  // bash takes its input line by line, as a terminal gives it: a command that reads on would eat the next ones.
  expect(await exec('node1', ['bash'], { stdin: script })).toMatchObject({ status: 0, stderr: '' })
  // A script does not wait until the guest has shut down.
  const same = async () => isDeepStrictEqual(await clusterState(), byHavirt)
  await until('the cluster is as --yes left it', same, 5).catch(() => undefined)
  expect(await clusterState()).toEqual(byHavirt)
})

test('the lines of the dry run are those that the claim was told of before they were sent', async () => {
  await running('web', 'node2')
  for (const verb of [
    ['migrate', 'web', 'node3'],
    ['suspend', 'web'],
    ['stop', 'web', '--force'],
  ]) {
    const { script = [] } = await printed('node1', 'domain', ...verb)
    const lines = script.filter(line => !line.startsWith('#')).map(line => line.replace(/^ssh (-n )?\S+ /, ''))
    expect(lines).toHaveLength(1)
    await sure(havirt('node1', '-y', 'domain', ...verb))
    expect(await sentCommands()).toEqual(expect.arrayContaining(lines))
  }
})

test('a dry run takes no claim and writes nothing', async () => {
  await define('web')
  const list = async () => (await readdir(await pathOn('node1', `${HOME}/var`), { recursive: true })).sort()
  const before = await list()
  await sure(havirt('node1', 'domain', 'start', 'web', 'node2'))
  expect(await list()).toEqual(before)
})

test('--yes and --dryrun together are a wrong usage', async () => {
  expect(await havirt('node1', '-y', '--dryrun', 'domain', 'start', 'web')).toMatchObject({ status: 2 })
})
