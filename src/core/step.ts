/**
 * Steps: what a plan is made of. A step is plain data, complete enough that carrying it out needs no decision:
 * it can be printed, saved in a claim, and compared. A new row in {@link StepArgs} makes the compiler name the rest.
 */

/** Every step names its domain by name, for people, and by uuid, for commands: virsh takes a name like `5` for an id. */
interface OnDomain {
  readonly domain: string
  readonly uuid: string
}

interface OnNode extends OnDomain {
  readonly node: string
}

/** Which mark of a start past a node is meant: by whom and when it was made. */
interface PassMark {
  readonly by: string
  readonly since: string
}

/** How a live migration is done. All are shown in its command. */
export interface MigrateOptions {
  /** The node's libvirt as the source reaches it, `qemu+ssh://node2/system`. */
  readonly desturi: string
  /** Where the memory goes, `tcp://node2-mig`; absent leaves it to libvirt. */
  readonly migrateuri?: string
  readonly bandwidthMiBps?: number
  readonly maxDowntimeMs?: number
  readonly autoConverge: boolean
  readonly postCopy: boolean
  /** After this long the guest is paused so that the migration ends; with post-copy it switches over instead. */
  readonly timeoutSeconds?: number
  readonly unsafe: boolean
  /** The domain is defined on the source: its definition moves along instead of staying behind to start there again. */
  readonly persistent: boolean
}

/** Step name -> its arguments. The one list of steps. */
export interface StepArgs {
  /** `virsh create` of the definition whose bytes have this hash. */
  createDomain: OnNode & { readonly definition: string; readonly sha256: string }
  shutdownDomain: OnNode & { readonly mode?: 'acpi' | 'agent' }
  /** Waits until the node no longer shows the domain active. Observes only. */
  awaitShutOff: OnNode & { readonly timeoutMs: number }
  /**
   * Waits until the sanlock of `node` counts the host of a silent node as dead, and writes down that the domain was started past it. With
   * `withoutWatchdog` nothing but sanlock itself kept the domain from running there on.
   */
  awaitHostDead: OnNode & {
    readonly silent: string
    readonly hostId: number
    readonly generation: number
    readonly timeoutMs: number
    readonly withoutWatchdog?: true
  }
  /** What is left of a domain on a node that came back after it was started past it: its memory is old, and its disk changed. */
  destroyCopy: OnNode & PassMark
  /** It is no copy: nobody else ever took its leases. Only the mark goes. */
  acquitCopy: OnNode & PassMark
  /** With `waits` only while it waits there for a migration and never ran: the node is asked right before. */
  destroyDomain: OnNode & { readonly graceful: boolean; readonly waits?: true }
  rebootDomain: OnNode & { readonly mode?: 'acpi' | 'agent' }
  resetDomain: OnNode
  suspendDomain: OnNode
  resumeDomain: OnNode
  /** Only before a migration that asks for it: libvirt keeps the value with the domain. */
  setMaxDowntime: OnNode & { readonly downtimeMs: number }
  /** Before a migration: should the definition stay behind on the source, nothing must start it there by itself. */
  disableAutostart: OnNode
  migrateDomain: OnDomain & { readonly from: string; readonly to: string; readonly options: MigrateOptions }
  /** Ends the migration that is under way and waits until only the source has the domain. */
  abortMigration: OnDomain & { readonly from: string; readonly to: string }
  /** Reads the inactive definition with its secrets and keeps it as conf/NAME.xml; the previous version is kept. */
  saveDefinition: OnNode & { readonly definition: string; readonly replacesSha256?: string }
  /** Removes the node's own definition, keeping its UEFI variables. A running domain runs on, transient. */
  undefineDomain: OnNode & { readonly keepTpm: boolean }
  /** Writes into the store that an operator stopped the domain, or that it may run again (rule 9). */
  recordIntent: OnDomain & { readonly manual: boolean }
}

export type StepName = keyof StepArgs
/** One step: its name and its arguments. */
export type Step = { [S in StepName]: { readonly step: S } & StepArgs[S] }[StepName]

/** Builds a step; the compiler checks its arguments. */
export function step<S extends StepName>(name: S, args: StepArgs[S]): Step {
  return { step: name, ...args } as unknown as Step
}

type Texts = { [S in StepName]: (args: StepArgs[S]) => string }

/** What a step does, in one line for people: the `#` lines of a dry run and the log of an execution. */
export function describeStep(one: Step): string {
  const describe = texts[one.step] as (args: Step) => string
  return describe(one)
}

const texts: Texts = {
  createDomain: ({ domain, node }) => `start ${domain} on ${node}`,
  shutdownDomain: ({ domain, node, mode }) =>
    `ask ${domain} on ${node} to shut down${mode === undefined ? '' : mode === 'acpi' ? ' by its power button' : ' by its guest agent'}`,
  awaitShutOff: ({ domain, node, timeoutMs }) => `wait up to ${timeoutMs / 1000} s until ${domain} is off on ${node}`,
  awaitHostDead: ({ domain, node, silent, hostId, timeoutMs, withoutWatchdog }) =>
    `wait up to ${timeoutMs / 1000} s until sanlock on ${node} counts ${silent} (host id ${hostId}) as dead, and record that ${domain} is started past it${withoutWatchdog === true ? `; NO WATCHDOG guarded ${silent}: should sanlock have died there first, or the machine stand still, ${domain} will run twice` : ''}`,
  destroyCopy: ({ domain, node }) => `end what is left of ${domain} on ${node}, which was started elsewhere since`,
  acquitCopy: ({ domain, node }) => `record that ${domain} on ${node} is no copy: nobody else took its leases`,
  destroyDomain: ({ domain, node, graceful }) =>
    `${graceful ? 'end' : 'kill'} ${domain} on ${node} at once, as if its power were cut`,
  rebootDomain: ({ domain, node }) => `ask ${domain} on ${node} to reboot`,
  resetDomain: ({ domain, node }) => `reset ${domain} on ${node}, as if by its reset button`,
  suspendDomain: ({ domain, node }) => `pause ${domain} on ${node}; it stays in memory there`,
  resumeDomain: ({ domain, node }) => `let ${domain} on ${node} run on`,
  setMaxDowntime: ({ domain, downtimeMs }) => `let ${domain} stand still for at most ${downtimeMs} ms while it moves`,
  disableAutostart: ({ domain, node }) => `turn off that ${node} starts ${domain} by itself when it boots`,
  migrateDomain: ({ domain, from, to }) => `move ${domain} from ${from} to ${to} while it runs`,
  abortMigration: ({ domain, from, to }) => `end the migration of ${domain} from ${from} to ${to}; it stays on ${from}`,
  saveDefinition: ({ domain, node, replacesSha256 }) =>
    `${replacesSha256 === undefined ? 'keep' : 'replace'} the definition of ${domain} from ${node}`,
  undefineDomain: ({ domain, node }) => `take ${domain}'s own definition off ${node}, keeping its UEFI variables`,
  recordIntent: ({ domain, manual }) =>
    manual
      ? `record that ${domain} was stopped on purpose, so that nothing starts it by itself`
      : `record that ${domain} may run, as asked`,
}

/** The node on which a step brings a domain to life or makes it arrive, if it does. */
export function arrivalOf(one: Step): string | undefined {
  if (one.step === 'createDomain') return one.node
  return one.step === 'migrateDomain' ? one.to : undefined
}

/** The nodes that a step acts on. */
export function nodesOf(one: Step): string[] {
  if (one.step === 'migrateDomain' || one.step === 'abortMigration') return [one.from, one.to]
  return 'node' in one ? [one.node] : []
}
