/** Checks of what libvirt provides on each node by name: networks and storage pools. */
import { quote } from '../command.ts'
import { type Check, deviations, type Facts, type Finding, minority, ofEach } from './facts.ts'
import type { CheckId } from './ids.ts'
import { on } from './on.ts'
import type { Provided, Survey } from './survey.ts'

export function provided(
  id: CheckId,
  title: string,
  noun: string,
  verb: 'net' | 'pool',
  of: (survey: Survey) => readonly Provided[],
): Check {
  return {
    id,
    title,
    run: facts => {
      const active = ofEach(facts, survey =>
        of(survey)
          .filter(each => each.active)
          .map(({ name }) => name),
      )
      const lacking = deviations(active).map(({ node, item, kind }): Finding => {
        const known = of(facts.surveys.get(node) as Survey).some(({ name }) => name === item)
        if (kind === 'extra')
          return {
            node,
            why: `only ${node} has the ${noun} ${item}`,
            fix: `define it on all nodes, or, once no domain there needs it, take it off: ${on(node, 'virsh', `${verb}-destroy`, item)}`,
          }
        const why = `${node} ${known ? 'has not started' : 'lacks'} the ${noun} ${item}`
        return {
          node,
          why,
          fix: known ? on(node, 'virsh', `${verb}-start`, item) : copyCommand(facts, node, verb, item, of),
        }
      })
      return [...lacking, ...differently(facts, noun, verb, of), ...notByItself(facts, noun, verb, of)]
    },
  }
}

/** Fetches it from a node that has it. */
function copyCommand(
  { surveys }: Facts,
  node: string,
  verb: string,
  item: string,
  of: (survey: Survey) => readonly Provided[],
): string {
  const other =
    [...surveys].find(([, survey]) => of(survey).some(({ name, active }) => name === item && active))?.[0] ?? 'NODE'
  return `ssh ${other} virsh ${verb}-dumpxml ${quote(item)} | ssh ${node} virsh ${verb}-define /dev/stdin, then: ssh ${node} virsh ${verb}-start ${quote(item)}`
}

function differently(facts: Facts, noun: string, verb: string, of: (survey: Survey) => readonly Provided[]): Finding[] {
  const names = new Set([...facts.surveys.values()].flatMap(survey => of(survey).map(({ name }) => name)))
  return [...names].flatMap(item => {
    const values = [...facts.surveys].flatMap(([node, survey]) =>
      of(survey)
        .filter(({ name }) => name === item)
        .map(({ what }) => [node, what] as const),
    )
    return minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `the ${noun} ${item} of ${node} is '${value}', and '${usual}' elsewhere`,
      fix: `ssh -t ${node} virsh ${verb}-edit ${quote(item)}`,
    }))
  })
}

function notByItself(facts: Facts, noun: string, verb: string, of: (survey: Survey) => readonly Provided[]): Finding[] {
  return [...facts.surveys].flatMap(([node, survey]) =>
    of(survey)
      .filter(({ active, autostart }) => active && !autostart)
      .map(({ name }) => ({
        node,
        why: `the ${noun} ${name} of ${node} is not there any more when ${node} boots`,
        fix: on(node, 'virsh', `${verb}-autostart`, name),
      })),
  )
}
