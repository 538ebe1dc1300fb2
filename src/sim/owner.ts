/** Who a simulated process is. {@link thisProcess} takes the place of that of src/store/owner.ts, which asks /proc. */
import type { Owner } from '../store/owner.ts'

interface Person {
  readonly host: { readonly name: string }
  readonly pid: number
}

let current: Person | undefined

/** From now on it is this process that goes on. */
export function begins(process: Person): void {
  current = process
}

/** The process that goes on now. */
export function thisProcess(): Promise<Owner> {
  return Promise.resolve(ownerOf(current ?? { host: { name: 'desk' }, pid: 0 }))
}

/** A process as a claim names it. */
export function ownerOf({ host, pid }: Person): Owner {
  return { host: host.name, user: 'ops', pid, bootId: '', pidNamespace: 'pid:[1]', startTime: String(pid) }
}
