/** Who watches the watchman: the witness must see two that have one disk, and must not see what is not there. */
import { afterEach, describe, expect, test } from 'vitest'
import { QemuSequence, WriterSequence, witness } from './disk-witness.ts'
import { clean, createByVirsh, define, guest, havirt, nextBeat, running, sure, until } from './lab.ts'

describe('writers overlap', () => {
  const overlaps = (...beats: [nonce: string, counter: number][]) => {
    const writers = new WriterSequence()
    for (const [nonce, counter] of beats) writers.add({ nonce, counter })
    return writers.overlaps
  }

  test('when one writes again after another', () => {
    expect(overlaps(['a', 1], ['b', 1], ['a', 2])).toEqual(['a wrote again after b'])
  })

  test('when the counter falls, as it does with two copies of one memory', () => {
    expect(overlaps(['a', 7], ['a', 8], ['a', 7])).toEqual(['a fell from 8 to 7'])
  })

  test('never while each begins after the one before has ended', () => {
    expect(overlaps(['a', 1], ['a', 1], ['a', 2], ['b', 1], ['b', 9], ['c', 1])).toEqual([])
  })
})

describe('QEMUs overlap', () => {
  const [one, two] = [
    { id: 'one', incoming: false },
    { id: 'two', incoming: false },
  ]
  const overlaps = (lives: boolean, ...looks: { id: string; incoming: boolean }[][]) => {
    const qemus = new QemuSequence()
    for (const look of looks) qemus.add(look, () => lives)
    return qemus.overlaps
  }

  test('when one is started while another lives, even one that a migration brought', () => {
    expect(overlaps(true, [one], [one, two])).toEqual(['two was started while one lived'])
    expect(overlaps(true, [{ ...one, incoming: true }], [{ ...one, incoming: true }, two])).toHaveLength(1)
  })

  test('never when the other has ended by the time that the look is complete, nor when it moves', () => {
    expect(overlaps(false, [one], [one, two])).toEqual([])
    expect(overlaps(true, [one], [one, { ...two, incoming: true }], [{ ...two, incoming: true }])).toEqual([])
  })
})

describe('on real nodes', () => {
  afterEach(clean)

  test("two QEMUs that virsh starts on one disk behind havirt's back are seen, by the disk and by the processes", async () => {
    const xml = await guest('web')
    const watch = await witness('web')
    for (const node of ['node1', 'node2']) await createByVirsh(node, xml)
    const { overlaps } = await until('the witness sees it', () => {
      const evidence = watch.evidence()
      return evidence.overlaps.length > 2 && evidence
    })
    expect(overlaps).toContainEqual(
      expect.stringMatching(/^QEMU \d+ on node2 was started while QEMU \d+ on node1 lived$/),
    )
    expect(overlaps).toContainEqual(expect.stringMatching(/^[0-9a-f]{16} wrote again after [0-9a-f]{16}$/))
  })

  test('one that moves, stops and starts elsewhere overlaps with nobody', async () => {
    await define('web')
    const watch = await witness('web')
    await running('web', 'node1')
    const moved = await nextBeat('web')
    await sure(havirt('node1', '-y', 'domain', 'migrate', 'web', 'node2'))
    await nextBeat('web', await nextBeat('web', moved))
    await sure(havirt('node1', '-y', 'domain', 'stop', 'web'))
    await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node3'))
    await until('the second boot writes', () => watch.evidence().writers === 2)
    expect(watch.evidence()).toMatchObject({ overlaps: [], writers: 2, boots: 2 })
  })
})
