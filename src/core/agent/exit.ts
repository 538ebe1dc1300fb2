/** Exit codes of a resource agent (OCF resource agent API 1.1, section 3.7), and what Pacemaker makes of them. */

/** `notInstalled` is never given while the domain may run: Pacemaker takes the resource for stopped then, whatever the action was. */
export const ocf = {
  success: 0,
  generic: 1,
  /** Wrong for this node: another is tried. */
  args: 2,
  unimplemented: 3,
  /** Wrong for this node: another is tried, and this one is taken for stopped. */
  notInstalled: 5,
  /** Wrong everywhere: the resource is stopped and tried on no node. */
  notConfigured: 6,
  notRunning: 7,
  /** Runs, but not well; nothing is recovered. Known to Pacemaker since 1.1.11, part of the API since 1.1. */
  degraded: 190,
} as const

export type OcfCode = (typeof ocf)[keyof typeof ocf]

/** Why an action ends otherwise than well: one sentence with the cause, for people, and the code for Pacemaker. */
export interface Problem {
  readonly code: OcfCode
  readonly sentence: string
}
