/** All checks, and what they give as one table: check by node. */
import { diskPathChecks } from './disk-path-checks.ts'
import { domainChecks } from './domain-checks.ts'
import type { Check, Facts, Finding } from './facts.ts'
import { hostChecks } from './host-checks.ts'
import { type CheckId, checkIds } from './ids.ts'
import { iscsiChecks } from './iscsi-checks.ts'
import { leaseChecks } from './lease-checks.ts'
import { leaseDiskChecks } from './lease-disk-checks.ts'
import { networkChecks } from './network-checks.ts'
import { sshChecks } from './ssh-checks.ts'
import { storageChecks } from './storage-checks.ts'

const all = [
  ...hostChecks,
  ...networkChecks,
  ...iscsiChecks,
  ...sshChecks,
  ...storageChecks,
  ...leaseChecks,
  ...leaseDiskChecks,
  ...diskPathChecks,
  ...domainChecks,
]

/** In the order of the table. */
export const checks: readonly Check[] = [...all].sort((a, b) => checkIds.indexOf(a.id) - checkIds.indexOf(b.id))

/** What one check found. */
export interface Result {
  readonly id: CheckId
  readonly title: string
  readonly findings: readonly Finding[]
}

/** Runs every check. Each finding is told once, however often a check comes to it. */
export function validate(facts: Facts): Result[] {
  return checks.map(({ id, title, run }) => {
    const found = run(facts)
    const texts = found.map(({ node, why }) => `${node} ${why}`)
    return { id, title, findings: found.filter((_, at) => texts.indexOf(texts[at] ?? '') === at) }
  })
}

/** How one check stands on one node. */
export function standing({ findings }: Result, node: string): 'ok' | 'FAILS' {
  return findings.some(finding => finding.node === node) ? 'FAILS' : 'ok'
}
