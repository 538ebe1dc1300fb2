/** Layouts for tests: small ones by hand, and random ones from a seed. */
import fc from 'fast-check'
import { type Layout, type LayoutItem, type LayoutNode, type Places, place } from '../../../src/core/balance/layout.ts'

const GIB = 1024

export function node(name: string, memoryGiB: number, more: Partial<LayoutNode> = {}): LayoutNode {
  const size = { memoryMiB: memoryGiB * GIB, vcpus: 8 }
  return {
    name,
    size,
    room: { memoryMiB: size.memoryMiB, vcpus: 64 },
    held: { memoryMiB: 0, vcpus: 0 },
    counts: true,
    ...more,
  }
}

/** An item of so many GiB on the node with this index; `places` by node, and nothing speaks against any where it is absent. */
export function item(name: string, memoryGiB: number, at: number, places: readonly number[] = []): LayoutItem {
  const flags = Uint8Array.from({ length: 16 }, (_, index) => places[index] ?? 0)
  return { domains: [name], needs: { memoryMiB: memoryGiB * GIB, vcpus: 1 }, node: at, places: flags }
}

/** Random small layouts in which every node has room for what is on it. */
export function layouts({ nodes = 4, items = 7 } = {}): fc.Arbitrary<Layout> {
  const flag = fc.constantFrom(0, 0, 0, 0, 0, place.barred, place.broken, place.unwanted)
  const anItem = (count: number) =>
    fc.record({
      gib: fc.integer({ min: 1, max: 8 }),
      vcpus: fc.integer({ min: 1, max: 4 }),
      at: fc.nat(count - 1),
      places: fc.array(flag, { minLength: count, maxLength: count }),
    })
  return fc.integer({ min: 2, max: nodes }).chain(count =>
    fc
      .record({
        spare: fc.array(fc.nat(12), { minLength: count, maxLength: count }),
        drawn: fc.array(anItem(count), { minLength: 1, maxLength: items }),
        aparts: fc.array(fc.record({ picks: fc.array(fc.nat(items - 1), { maxLength: 4 }), hard: fc.boolean() }), {
          maxLength: 2,
        }),
      })
      .map(({ spare, drawn, aparts }) => {
        const made = drawn.map(({ gib, vcpus, at, places }, index) => ({
          ...item(`d${index}`, gib, at, places),
          needs: { memoryMiB: gib * GIB, vcpus },
        }))
        const held = (at: number, what: 'memoryMiB' | 'vcpus') =>
          made.filter(each => each.node === at).reduce((sum, { needs }) => sum + needs[what], 0)
        return {
          nodes: spare.map((more, at) => {
            const sized = node(`node${at}`, held(at, 'memoryMiB') / GIB + more + 1)
            return { ...sized, room: { ...sized.room, vcpus: held(at, 'vcpus') + (more % 5) } }
          }),
          items: made,
          aparts: aparts.map(({ picks, hard }) => ({
            items: [...new Set(picks)].filter(pick => pick < made.length),
            hard,
          })),
        }
      }),
  )
}

/** Every way to put the items onto the nodes, each tried once; for small layouts only. */
export function* everyPlacing({ nodes, items }: Layout): Generator<Places> {
  const places = new Int32Array(items.length)
  for (let number = 0; number < nodes.length ** items.length; number++) {
    for (let at = 0, rest = number; at < items.length; at++, rest = Math.floor(rest / nodes.length))
      places[at] = rest % nodes.length
    yield places
  }
}
