/** Checks of networks and bridges. */
import { type Check, deviations, minority, ofEach } from './facts.ts'
import { on } from './on.ts'
import { provided } from './provided.ts'

const bridges: Check = {
  id: 'bridges',
  title: 'the same bridges',
  run: facts => {
    // Those that libvirt makes for its own networks differ by chance.
    const names = ofEach(facts, survey => [...survey.bridges.keys()].filter(name => !/^virbr\d+$/.test(name)))
    const lacking = deviations(names).map(({ node, item, kind }) => ({
      node,
      why: kind === 'extra' ? `only ${node} has the bridge ${item}` : `${node} lacks the bridge ${item}`,
      fix:
        kind === 'extra'
          ? `make it on all nodes, or, once no domain there needs it, remove it: ${on(node, 'ip', 'link', 'delete', item)}`
          : `make it in the network configuration of ${node}; for now: ssh ${node} 'ip link add ${item} type bridge && ip link set ${item} up'`,
    }))
    const all = new Set([...names.values()].flat())
    const sizes = [...all].flatMap(name => {
      const mtus = [...facts.surveys].flatMap(([node, { bridges: has }]) =>
        has.has(name) ? [[node, has.get(name) ?? ''] as const] : [],
      )
      return minority(new Map(mtus)).map(({ node, value, usual }) => ({
        node,
        why: `the bridge ${name} of ${node} has an MTU of ${value}, and ${usual} elsewhere`,
        fix: `${on(node, 'ip', 'link', 'set', name, 'mtu', usual)}, and in its network configuration`,
      }))
    })
    return [...lacking, ...sizes]
  },
}

export const networkChecks: readonly Check[] = [
  provided('networks', 'the same networks', 'network', 'net', ({ networks }) => networks),
  bridges,
]
