/** Everything that validation looks at, and the words in which it speaks. */
import type { Cluster } from '../cluster.ts'
import type { LeaseFacts } from '../leases.ts'
import type { CheckId } from './ids.ts'
import type { DeviceFacts, Login, Marked, Survey } from './survey.ts'

export interface Facts {
  readonly cluster: Cluster
  /** Of the nodes that answered. */
  readonly surveys: ReadonlyMap<string, Survey>
  /** Nodes that did not answer the survey, and why. */
  readonly unasked: ReadonlyMap<string, string>
  readonly logins: readonly Login[]
  readonly marks: readonly Marked[]
  /** By node, and then by path. */
  readonly devices: ReadonlyMap<string, ReadonlyMap<string, DeviceFacts>>
  /** Undefined where no node could say anything of leases. */
  readonly leases: LeaseFacts | undefined
}

/** One thing that is not as it should be. */
export interface Finding {
  /** Absent: it is about the cluster, or its definitions, and about no node alone. */
  readonly node?: string
  readonly why: string
  /** The command that mends it, or what a person has to do. */
  readonly fix: string
}

/** One check. */
export interface Check {
  readonly id: CheckId
  /** What is checked, in few words: the row of the table. */
  readonly title: string
  run(facts: Facts): readonly Finding[]
}

/** What a word means to one node: which of the values that most others have it lacks, and which it alone has. */
export interface Deviation {
  readonly node: string
  readonly item: string
  readonly kind: 'missing' | 'extra'
}

/**
 * What differs between sets that should be the same on all nodes. What at least half of the nodes have is expected, and missing on the
 * others; what fewer have is too much where it is.
 */
export function deviations(sets: ReadonlyMap<string, readonly string[]>): Deviation[] {
  const items = new Set([...sets.values()].flat())
  return [...items].sort().flatMap(item => {
    const having = [...sets].filter(([, set]) => set.includes(item)).map(([node]) => node)
    if (having.length === sets.size) return []
    const isExpected = having.length * 2 >= sets.size
    const wrong = isExpected ? [...sets.keys()].filter(node => !having.includes(node)) : having
    return wrong.map((node): Deviation => ({ node, item, kind: isExpected ? 'missing' : 'extra' }))
  })
}

/** What differs between values that should be the same on all nodes: who has another than most, and what most have. */
export function minority(values: ReadonlyMap<string, string>): { node: string; value: string; usual: string }[] {
  const counts = new Map<string, number>()
  for (const value of values.values()) counts.set(value, (counts.get(value) ?? 0) + 1)
  const [usual] = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
  if (usual === undefined) return []
  return [...values].flatMap(([node, value]) => (value === usual[0] ? [] : [{ node, value, usual: usual[0] }]))
}

/** A value of each survey. */
export function ofEach<T>({ surveys }: Facts, value: (survey: Survey) => T): Map<string, T> {
  return new Map([...surveys].map(([node, survey]) => [node, value(survey)]))
}
