/** A plan in few words, for tables: the steps as `name node`, or the reasons of the refusals. */

import { expect, test } from 'vitest'
import type { Plan } from '../../../src/core/plan/plan.ts'
import { nodesOf, type Step } from '../../../src/core/step.ts'

/** `createDomain node2`, `refused: present, autostart`, `already: present`. */
export function answerOf(plan: Plan): string[] {
  if (plan.kind === 'refused') return plan.refusals.map(({ reason }) => `refused: ${reason}`)
  return plan.kind === 'already' ? [`already: ${plan.refusal.reason}`] : plan.steps.map(stepWords)
}

function stepWords(one: Step): string {
  if (one.step === 'recordIntent') return one.manual ? 'recordIntent manual' : 'recordIntent may run'
  return [one.step, ...nodesOf(one)].join(' ')
}

/** The steps of a plan that has some. */
export function stepsOf(plan: Plan): readonly Step[] {
  if (plan.kind !== 'steps') throw new Error(`expected steps, got ${JSON.stringify(plan)}`)
  return plan.steps
}

/** One line of a table: the situation with its outcome, the plan for it, and the answer. */
export type Row = readonly [title: string, plan: () => Plan, ...answer: string[]]

/** A test for each line of the table. */
export function checkRows(rows: readonly Row[]): void {
  for (const [title, plan, ...answer] of rows) test(title, () => expect(answerOf(plan())).toEqual(answer))
}
