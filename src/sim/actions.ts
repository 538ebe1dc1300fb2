/** What happens in a schedule, as plain data, and how it is done to a world. */

import type { Random } from '../core/random.ts'
import { killVirsh } from './libvirtd.ts'
import { Machine } from './machine.ts'
import type { Run } from './oracle.ts'
import type { Host } from './scheduler.ts'
import { calm, type StoreWeather } from './store.ts'
import { weatherText } from './weather-text.ts'
import type { World } from './world.ts'

/** One thing that happens. Hosts and nodes are named; `forMs` is after how long a fault is over. */
export type Action =
  /**
   * `havirt WORDS` typed on a host, killed as soon as it waits again after the `killAfter`th time that it went on; with
   * `suspendedForMs` its machine is suspended for so long instead.
   */
  | {
      readonly kind: 'havirt'
      readonly host: string
      readonly words: readonly string[]
      readonly killAfter?: number
      readonly suspendedForMs?: number
    }
  /** Ctrl-C for every havirt on the host. */
  | { readonly kind: 'interrupt'; readonly host: string }
  /** A person's plain virsh on a node; `define NAME` takes the definition of conf/. */
  | { readonly kind: 'virsh'; readonly node: string; readonly words: readonly string[] }
  /** Power lost, and back after a while. */
  | { readonly kind: 'crash'; readonly node: string; readonly forMs: number }
  /** All nodes are under heavy load, and read late what they are sent. */
  | { readonly kind: 'load'; readonly forMs: number }
  /** A person gives a node power. */
  | { readonly kind: 'powerOn'; readonly node: string }
  /** Every cable of the node is cut; it runs on. */
  | { readonly kind: 'isolate'; readonly node: string; readonly forMs: number }
  /** Nothing moves on the host; `suspended` when its monotonic clock stands still, too. */
  | { readonly kind: 'freeze'; readonly host: string; readonly forMs: number; readonly suspended: boolean }
  | { readonly kind: 'restartLibvirtd'; readonly node: string; readonly forgets: boolean }
  | { readonly kind: 'hangLibvirtd'; readonly node: string; readonly forMs: number }
  /** Somebody kills every virsh on the node; libvirtd goes on. */
  | { readonly kind: 'killVirsh'; readonly node: string }
  /** One direction between two hosts, or both. */
  | { readonly kind: 'cut'; readonly from: string; readonly to: string; readonly both: boolean; readonly forMs: number }
  /** The share as one host sees it. */
  | { readonly kind: 'store'; readonly host: string; readonly weather: Partial<StoreWeather>; readonly forMs: number }
  /** The host's wall clock jumps to this far from the truth. */
  | { readonly kind: 'clock'; readonly host: string; readonly offsetMs: number }
  /** The alias of one node leads to another machine. */
  | { readonly kind: 'alias'; readonly node: string; readonly leadsTo: string; readonly forMs: number }
  /** sanlock is killed on a node; after a while somebody starts it again, and libvirtd. */
  | { readonly kind: 'killSanlock'; readonly node: string; readonly forMs: number }
  /** A node's fence device does not obey for a while, or, without `forMs`, any more. */
  | { readonly kind: 'breakFence'; readonly node: string; readonly forMs?: number }
  /** A node's fence device answers `off` with an error when there is no power to cut. */
  | { readonly kind: 'sulkFence'; readonly node: string }
  /** Every havirt on the host is killed, whatever it waits for. */
  | { readonly kind: 'killHavirt'; readonly host: string }
  /** The home folder is empty on a node: its share is not mounted. */
  | { readonly kind: 'unmount'; readonly node: string; readonly forMs: number }

/** Does it. `random` belongs to this action alone. */
export function perform(world: World, action: Action, random: Random, ended?: (run: Run) => void): void {
  const act = performers[action.kind] as (
    world: World,
    action: Action,
    random: Random,
    ended?: (run: Run) => void,
  ) => void
  act(world, action, random, ended)
}

type Performers = {
  [K in Action['kind']]: (
    world: World,
    action: Extract<Action, { kind: K }>,
    random: Random,
    ended?: (run: Run) => void,
  ) => void
}

const performers: Performers = {
  havirt: (world, { host: name, words, killAfter, suspendedForMs }, random, ended) => {
    const host = hostOf(world, name)
    const instead =
      suspendedForMs === undefined ? undefined : () => world.isMended || freeze(world, host, suspendedForMs, true)
    world.havirt(host, words, random, killAfter, ended, instead)
  },
  interrupt: (world, { host }) => {
    world.tell(() => `${host}: Ctrl-C`)
    for (const process of [...world.processes]) if (process.host.name === host) process.interrupt()
  },
  virsh: (world, { node, words }, random) => personsVirsh(world, machineOf(world, node), words, random),
  crash: (world, { node, forMs }, random) => {
    const machine = machineOf(world, node)
    machine.powerOff()
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${node}: power on`)
      machine.powerOn(random)
    })
  },
  load: (world, { forMs }) => {
    world.tell(() => 'the nodes are under heavy load')
    world.load++
    world.scheduler.after(forMs, undefined, () => {
      world.load--
    })
  },
  powerOn: (world, { node }, random) => {
    world.tell(() => `${node}: a person presses its power button`)
    machineOf(world, node).powerOn(random)
  },
  isolate: (world, { node, forMs }) => {
    const others = [...world.hosts.values()].filter(({ name }) => name !== node)
    world.tell(() => `${node}: every cable cut`)
    for (const other of others) world.cut(hostOf(world, node), other, true)
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${node}: every cable mended`)
      for (const other of others) world.mend(hostOf(world, node), other, true)
    })
  },
  freeze: (world, { host, forMs, suspended }) => freeze(world, hostOf(world, host), forMs, suspended),
  restartLibvirtd: (world, { node, forgets }, random) => {
    world.tell(() => `${node}: libvirtd restarts${forgets ? ' and forgets a QEMU' : ''}`)
    machineOf(world, node).restartLibvirtd(random, forgets)
  },
  hangLibvirtd: (world, { node, forMs }) => {
    world.tell(() => `${node}: libvirtd hangs`)
    machineOf(world, node).hang()
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${node}: libvirtd answers again`)
      machineOf(world, node).unhang()
    })
  },
  killVirsh: (world, { node }) => {
    world.tell(() => `${node}: every virsh is killed`)
    killVirsh(machineOf(world, node))
  },
  cut: (world, { from, to, both, forMs }) => {
    const [one, other] = [hostOf(world, from), hostOf(world, to)]
    world.tell(() => `${from}: cable to ${to} cut${both ? '' : ' (this direction)'}`)
    world.cut(one, other, both)
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${from}: cable to ${to} mended`)
      world.mend(one, other, both)
    })
  },
  store: (world, { host, weather, forMs }) => {
    const { index } = hostOf(world, host)
    world.tell(() => `${host}: the share is ${weatherText(weather)}`)
    world.share.weather.set(index, { ...calm, ...weather })
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${host}: the share is well again`)
      world.share.weather.delete(index)
    })
  },
  clock: (world, { host, offsetMs }) => {
    world.tell(() => `${host}: the wall clock jumps to ${offsetMs / 1000} s off`)
    hostOf(world, host).clockOffsetMs = offsetMs
  },
  alias: (world, { node, leadsTo, forMs }) => {
    world.tell(() => `the alias ${node} leads to ${leadsTo}`)
    world.aliases.set(node, machineOf(world, leadsTo))
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `the alias ${node} leads to ${node} again`)
      world.aliases.delete(node)
    })
  },
  breakFence: (world, { node, forMs }) => {
    const machine = machineOf(world, node)
    world.tell(() => `${node}: its fence device is broken`)
    machine.fenceBroken = true
    if (forMs === undefined) return
    world.scheduler.after(forMs, undefined, () => {
      machine.fenceBroken = false
    })
  },
  sulkFence: (world, { node }) => {
    world.tell(() => `${node}: its fence device fails when there is no power to cut`)
    machineOf(world, node).fenceSulks = true
  },
  killHavirt: (world, { host }) => {
    for (const process of [...world.processes]) if (process.host === hostOf(world, host)) process.kill()
  },
  killSanlock: (world, { node, forMs }, random) => {
    const machine = machineOf(world, node)
    if (machine.sanlock?.daemon === undefined) return
    world.tell(() => `${node}: sanlock is killed`)
    machine.sanlock.kill()
    world.scheduler.after(forMs, machine.boot, () => {
      world.tell(() => `${node}: sanlock is started again, and libvirtd restarted`)
      machine.sanlock?.start()
      machine.restartLibvirtd(random, false)
    })
  },
  unmount: (world, { node, forMs }) => {
    world.tell(() => `${node}: the share is not mounted`)
    world.unmounted.add(machineOf(world, node))
    world.scheduler.after(forMs, undefined, () => {
      world.tell(() => `${node}: the share is mounted again`)
      world.unmounted.delete(machineOf(world, node))
    })
  },
}

function freeze(world: World, host: Host, forMs: number, suspended: boolean): void {
  if (host.frozen || (host instanceof Machine && !host.powered)) return
  world.tell(() => `${host.name}: ${suspended ? 'suspended' : 'frozen'}`)
  host.frozen = true
  world.suspect(host)
  world.scheduler.after(forMs, undefined, () => {
    if (!host.frozen) return
    if (suspended) host.stoodStillMs += forMs
    world.thaw(host)
  })
}

/** What a person types on the node itself: no guard, no claim, no second look. */
function personsVirsh(world: World, machine: Machine, words: readonly string[], random: Random): void {
  if (!machine.works) return
  const cause = { person: true, decidedMs: world.scheduler.nowMs }
  const stdin = words[0] === 'define' ? (world.texts.get(words[1] ?? '') ?? '') : ''
  world.tell(() => `root@${machine.name}# virsh ${words.join(' ')}`)
  world.libvirt.virsh({ machine, words, stdin, cause, random }, (status, stderr) =>
    world.tell(() => `root@${machine.name}: virsh ${words[0]} ends with ${status}${said(stderr)}`),
  )
}

function said(stderr: string | undefined): string {
  return stderr === undefined || stderr === '' ? '' : `\n${stderr}`
}

function hostOf(world: World, name: string): Host {
  const host = world.hosts.get(name)
  if (host === undefined) throw new Error(`there is no host ${name}`)
  return host
}

function machineOf(world: World, name: string): Machine {
  const host = hostOf(world, name)
  if (!(host instanceof Machine)) throw new Error(`${name} is no machine`)
  return host
}
