/**
 * What the resource agent of havirt and the original (ocf:heartbeat:VirtualDomain) answer, situation by situation, and why they differ where
 * they do. Only data: the lab makes the situations (ocf-bench.ts has the functions that are called here), and the documentation is held
 * against the sentences.
 */
import type { Run, Situation } from './ocf-answers.ts'
import { DIFFERENCES } from './ocf-differences.ts'
import { FILES } from './ocf-situations-file.ts'
import { MIGRATIONS } from './ocf-situations-migration.ts'
import { PARAMETERS } from './ocf-situations-parameters.ts'
import { EFFECTS } from './ocf-situations-programs.ts'
import { CLOCK, LIBVIRT, STATES, WORDS } from './ocf-situations-state.ts'

export const SITUATIONS: readonly Situation[] = [
  ...LIBVIRT,
  ...CLOCK,
  ...STATES,
  ...WORDS,
  ...FILES,
  ...PARAMETERS,
  ...EFFECTS,
  ...MIGRATIONS,
]

/** Runs whose answers differ, each with its sentence. */
export function differences(): { readonly situation: string; readonly run: Run; readonly sentence: string }[] {
  return SITUATIONS.flatMap(({ name, runs }) =>
    runs.flatMap(run => (run.why === undefined ? [] : [{ situation: name, run, sentence: DIFFERENCES[run.why] }])),
  )
}
