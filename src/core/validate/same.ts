/** A check that one value of each node's survey is the same on all. */
import { type Check, minority, ofEach } from './facts.ts'
import type { CheckId } from './ids.ts'
import type { Survey } from './survey.ts'

/** `noun` stands before the values; `fix` gets the node and what most nodes have. */
export function same(
  id: CheckId,
  title: string,
  noun: string,
  value: (survey: Survey) => string,
  fix: (node: string, usual: string) => string,
): Check {
  return {
    id,
    title,
    run: facts =>
      minority(ofEach(facts, value)).map(({ node, value: found, usual }) => ({
        node,
        why: `${[node, 'has', noun].join(' ').trim()} ${found === '' ? 'none' : found}, and others ${usual === '' ? 'none' : usual}`,
        fix: fix(node, usual),
      })),
  }
}
