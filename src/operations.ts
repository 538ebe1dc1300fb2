/** THE TABLE of operations. Every door reads it: the command line, completion, the man page. */
import { balanceOperations } from './operations/balance.ts'
import { clusterOperations } from './operations/cluster.ts'
import { configOperations } from './operations/config.ts'
import { domainOperations } from './operations/domain.ts'
import { iscsiOperations } from './operations/iscsi.ts'
import { leaseOperations } from './operations/lease.ts'
import { maintenanceOperations } from './operations/maintenance.ts'
import { nodeOperations } from './operations/node.ts'
import { nodeDownOperations } from './operations/node-down.ts'
import { ocfOperations } from './operations/ocf.ts'
import type { Described, MachineOperation, Operation } from './operations/operation.ts'
import { ruleOperations } from './operations/rule.ts'
import { validateOperations } from './operations/validate.ts'
import { whatIfOperations } from './operations/what-if.ts'

/** All operations of the cluster, in the order in which help lists them. */
export const operations: readonly Operation[] = [
  ...nodeOperations,
  ...nodeDownOperations,
  ...maintenanceOperations,
  ...iscsiOperations,
  ...domainOperations,
  ...balanceOperations,
  ...whatIfOperations,
  ...validateOperations,
  ...ruleOperations,
  ...leaseOperations,
  ...clusterOperations,
  ...configOperations,
]

/** Those of one machine. */
export const machineOperations: readonly MachineOperation[] = ocfOperations

/** Every verb, for whoever tells or completes them. */
export const verbs: readonly Described[] = [...operations, ...machineOperations]
