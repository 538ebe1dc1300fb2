/**
 * A witness for rule 1 that asks neither havirt nor libvirt. Every few milliseconds it reads what the guest wrote to its disk,
 * from the file behind the iSCSI target, where no lock of an image would keep two writers apart, and sees which QEMUs live.
 *
 * A nonce is one boot. A live migration keeps it, because the memory moves. So as long as one writer ends before the next begins,
 * a nonce never comes back after another, and the counter of a nonce never falls.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { onTestFinished } from 'vitest'
import { type Beat, diskOf, NODES, pathOn, toBeat } from './lab.ts'

const SAMPLE_MS = 5
const SECTOR = 512

/** Judges what the disk showed, in the order in which it showed it. */
export class WriterSequence {
  readonly overlaps: string[] = []
  readonly #counters = new Map<string, number>()
  #writer: string | undefined

  /** How many boots have written. */
  get writers(): number {
    return this.#counters.size
  }

  add({ nonce, counter }: Beat): void {
    const before = this.#counters.get(nonce)
    if (before !== undefined && this.#writer !== nonce) this.overlaps.push(`${nonce} wrote again after ${this.#writer}`)
    if (before !== undefined && counter < before) this.overlaps.push(`${nonce} fell from ${before} to ${counter}`)
    this.#counters.set(nonce, counter)
    this.#writer = nonce
  }
}

/** A QEMU of the domain, as one look at its node shows it. */
export interface Qemu {
  readonly id: string
  /** It waits for, or once waited for, the memory of another: the only way in which two may live at a time. */
  readonly incoming: boolean
}

/** Judges which QEMUs lived at a time: none may be born to boot the domain while another one has it. */
export class QemuSequence {
  readonly overlaps: string[] = []
  #known = new Set<string>()
  #boots = 0

  /** How many QEMUs were started to boot the domain, those that a migration made not counted. */
  get boots(): number {
    return this.#boots
  }

  /** `lives` asks again after one of them: a look at several nodes is no moment in time. */
  add(seen: readonly Qemu[], lives: (id: string) => boolean): void {
    for (const { id, incoming } of seen) {
      if (incoming || this.#known.has(id)) continue
      this.#boots++
      const other = seen.find(each => each.id !== id && lives(each.id))
      if (other !== undefined) this.overlaps.push(`${id} was started while ${other.id} lived`)
    }
    this.#known = new Set(seen.map(({ id }) => id))
  }
}

/** What a witness can swear to. */
export interface Evidence {
  /** Sentences, one for each time that two had the domain. */
  readonly overlaps: readonly string[]
  /** Boots that wrote to the disk. */
  readonly writers: number
  /** QEMUs that were started to boot the domain. */
  readonly boots: number
  readonly samples: number
  /** The longest time between two samples: the guest writes about every 220 ms. */
  readonly longestGapMs: number
}

export interface DiskWitness {
  /** All evidence so far. */
  evidence(): Evidence
}

/** Watches a guest whose disk is on iSCSI until the test ends. No node may be switched off meanwhile. */
export async function witness(name: string): Promise<DiskWitness> {
  const roots = await Promise.all(NODES.map(async node => [node, await pathOn(node, '')] as const))
  const disk = openSync(diskOf(name), 'r')
  const writers = new WriterSequence()
  const qemus = new QemuSequence()
  const pace = { samples: 0, longestGapMs: 0, lastMs: performance.now() }
  const sample = () => {
    const beat = readBeat(disk)
    if (beat !== undefined) writers.add(beat)
    const look = () => roots.flatMap(([node, root]) => qemuOn(node, root, name) ?? [])
    qemus.add(look(), id => look().some(each => each.id === id))
    keepPace(pace)
  }
  const timer = setInterval(sample, SAMPLE_MS)
  onTestFinished(() => {
    clearInterval(timer)
    closeSync(disk)
  })
  return {
    evidence: () => {
      sample()
      const { samples, longestGapMs } = pace
      const overlaps = [...writers.overlaps, ...qemus.overlaps]
      return { overlaps, writers: writers.writers, boots: qemus.boots, samples, longestGapMs }
    },
  }
}

function keepPace(pace: { samples: number; longestGapMs: number; lastMs: number }): void {
  const nowMs = performance.now()
  pace.samples++
  pace.longestGapMs = Math.round(Math.max(pace.longestGapMs, nowMs - pace.lastMs))
  pace.lastMs = nowMs
}

/** Reads until two reads agree: one alone could be half of one record and half of the next. */
function readBeat(disk: number): Beat | undefined {
  const [one, two] = [Buffer.alloc(SECTOR), Buffer.alloc(SECTOR)]
  do {
    readSync(disk, one, 0, SECTOR, SECTOR)
    readSync(disk, two, 0, SECTOR, SECTOR)
  } while (!one.equals(two))
  return toBeat(one)
}

/** The domain's QEMU on a node, by the pid file that libvirt keeps, if that process lives and is one. */
function qemuOn(node: string, root: string, name: string): Qemu | undefined {
  try {
    const pid = readFileSync(`${root}/run/libvirt/qemu/${name}.pid`, 'utf8').trim()
    const argv = readFileSync(`${root}/proc/${pid}/cmdline`, 'utf8').split('\0')
    if (!argv.some(word => word.startsWith(`guest=${name},`))) return undefined
    return { id: `QEMU ${pid} on ${node}`, incoming: argv.includes('-incoming') }
  } catch {
    return undefined
  }
}
