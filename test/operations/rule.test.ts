/** `rule add`, `rule list` and `rule remove` on a configuration in memory, and rules in what verbs do. */
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/core/config-check.ts'
import { initialConfigText } from '../../src/core/config-text.ts'
import { aDomain, aDomainOnNode, uuidOf } from '../core/builders.ts'
import { perform, texts } from '../verbs.ts'
import { aWorld, type World } from '../world.ts'

const guest = (name: string, number: number) => aDomainOnNode({}, aDomain({ name, uuid: uuidOf(number), disks: [] }))

/** A world with a config.yaml: what one command writes, the next one reads. */
async function aRuledWorld(): Promise<{
  world: World
  text(): string
  run(...words: string[]): ReturnType<typeof perform>
}> {
  const world = await aWorld({ node1: [guest('web', 1), guest('db', 2)], node2: [guest('cache', 3)] })
  let config = initialConfigText()
  const now = (): World => ({
    ...world,
    home: {
      ...world.home,
      config: parseConfig(config, 'config.yaml').config,
      editConfig: async edit => {
        config = edit(config)
      },
    },
  })
  const run = (verb = '', ...given: string[]) => {
    const nodes = given.find(each => each.startsWith('--nodes='))?.slice(8)
    const plain = given.filter(each => !each.startsWith('--'))
    const [kind, ...domains] = plain
    const options = { ...(nodes === undefined ? {} : { nodes }), ...(given.includes('--soft') ? { soft: true } : {}) }
    return perform(now(), `rule ${verb}`, { words: { KIND: kind, DOMAIN: domains, RULE: plain }, options })
  }
  return { world, run, text: () => config }
}

describe('rule add', () => {
  test('writes one line, and warns of names that nobody knows', async () => {
    const { run, text } = await aRuledWorld()
    const report = await run('add', 'apart', 'web', 'wbe')
    expect(report.exit).toBe(0)
    expect(texts(report)).toContain("the rule 'apart web wbe' holds from now on")
    expect(texts(report)).toContain('conf/ has no domain wbe so far')
    await run('add', 'on', 'db', '--nodes=node1, node9')
    expect(parseConfig(text(), '').config.placement.rules).toEqual(['apart web wbe', 'on db : node1 node9'])
  })

  test.each([
    [['apart', 'web'], 'names one domain only'],
    [['on', 'web'], "'on' names no node"],
    [['beside', 'web', 'db'], 'no kind of rule'],
  ])('%j is wrong usage, and nothing is written', async (words, why) => {
    const { run, text } = await aRuledWorld()
    const report = await run('add', ...words)
    expect([report.exit, texts(report)]).toEqual([2, expect.stringContaining(why)])
    expect(text()).toBe(initialConfigText())
  })

  test('twice says so', async () => {
    const { run } = await aRuledWorld()
    await run('add', 'apart', 'web', 'db')
    expect(texts(await run('add', 'apart', 'web', 'db'))).toContain('is there twice')
  })
})

describe('rule list', () => {
  test('says which are broken, and by whom; a broken hard one ends with 4', async () => {
    const { run } = await aRuledWorld()
    expect(texts(await run('list'))).toContain('there is no rule')
    await run('add', 'apart', 'web', 'cache')
    expect((await run('list')).exit).toBe(0)
    await run('add', 'together', 'web', 'cache', '--soft')
    expect((await run('list')).exit).toBe(0)
    await run('add', 'apart', 'web', 'db')
    const report = await run('list')
    expect(report.exit).toBe(4)
    expect(report.table?.rows).toMatchObject([
      { rule: 'apart web cache', hard: 'hard', state: 'kept' },
      { rule: 'soft together web cache', hard: 'soft', state: 'broken', why: 'web on node1; cache on node2' },
      { rule: 'apart web db', hard: 'hard', state: 'broken', why: 'web, db on node1' },
    ])
  })
})

test('rule remove takes the one away that is named as the list shows it', async () => {
  const { run, text } = await aRuledWorld()
  await run('add', 'apart', 'web', 'db')
  await run('add', 'apart', 'web', 'cache')
  expect((await run('remove', 'apart', 'web', 'mail')).exit).toBe(3)
  expect((await run('remove', 'apart', 'web', 'db')).exit).toBe(0)
  expect(parseConfig(text(), '').config.placement.rules).toEqual(['apart web cache'])
})
