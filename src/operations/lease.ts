/** `lease`: disk leases of sanlock or virtlockd, set up, shown, explained, and cleaned. */
import { CLEANUP_COLUMNS, cleanUp } from './lease-cleanup.ts'
import { explainLease } from './lease-explain.ts'
import { reconcile } from './lease-reconcile.ts'
import { disableLeases, enableLeases } from './lease-setup.ts'
import { DISK_COLUMNS, NODE_COLUMNS, showDisks, showStatus } from './lease-status.ts'
import { ACT_COLUMNS } from './node-acts.ts'
import type { Operation } from './operation.ts'

const NODES = { name: 'NODE', help: 'only these nodes', required: false, many: true, complete: 'node' } as const

export const leaseOperations: readonly Operation[] = [
  {
    name: 'lease enable',
    summary: 'have libvirt take a lease for every disk that a domain writes',
    description:
      'Sets up sanlock, or virtlockd, below libvirt on all nodes or on those named, one after the other: sees that the folder is one folder on all of them and can be written as sanlock writes, gives each node a host id that no other machine ever gets, writes the settings into /etc/libvirt/qemu-sanlock.conf (or qemu-lockd.conf) and qemu.conf, keeping every other byte and the file as it was beside it (.before-havirt), gives sanlock a name that stays, starts the daemon, and has libvirt read its settings, which touches no domain that runs. What runs already has no lease until it is moved or started anew: it is named, with the commands that do so. Installs nothing, and says what is missing. All of it is shown first. On a cluster that is set up, it sets up only what is not so.',
    args: [
      { name: 'MANAGER', help: 'sanlock or lockd (virtlockd)', required: true, words: ['sanlock', 'lockd'] },
      NODES,
    ],
    options: [
      {
        flags: '--dir FOLDER',
        help: 'the folder for leases, on storage that all nodes share; the one in use, if not given',
      },
      {
        flags: '--io-timeout SECONDS',
        help: "sanlock's io_timeout, the same on all nodes: it gives up after 8 times as long, and a dead host's leases can be had after another minute (10 if not given)",
        range: { min: 1, max: 60 },
      },
    ],
    changes: true,
    columns: ACT_COLUMNS,
    examples: ['havirt lease enable sanlock --dir /srv/leases', 'havirt -y lease enable sanlock node4'],
    run: enableLeases,
  },
  {
    name: 'lease disable',
    summary: 'take the leases off again',
    description:
      'Takes the settings out of /etc/libvirt on all nodes or on those named, and has libvirt read them. What runs keeps the leases that it has until it stops or moves, and the daemons run on. Host ids stay recorded: none is ever given to another machine.',
    args: [NODES],
    options: [],
    changes: true,
    columns: ACT_COLUMNS,
    examples: ['havirt -y lease disable'],
    run: disableLeases,
  },
  {
    name: 'lease status',
    summary: 'show leases node by node, and disk by disk',
    description:
      'Node by node: lock manager, daemon, watchdog, lockspace, host id, how long ago it last renewed, the leases that it holds and for which domains, and domains that run without. Below it, disk by disk, the table of lease list; programs find it under the key disks. Who has a lease is read from the files themselves, whose checksum must be right, and from every sanlock that answers. Ends with 4 when a node could not be asked.',
    args: [],
    options: [],
    changes: false,
    columns: NODE_COLUMNS,
    examples: ['havirt lease status', 'havirt lease status -o json'],
    run: parts => showStatus(parts),
  },
  {
    name: 'lease list',
    summary: 'show the lease of every disk',
    description:
      'Every disk that a definition or a domain writes, with its lease: held, by which node, or free, and who had it last; then the disks that no lease covers (network disks, NVMe, volumes, and more than eight of one domain). A lease is named by the text of the path: two ways to write one path are two leases.',
    args: [],
    options: [{ flags: '--unused', help: 'only leases that belong to no disk of any definition or domain' }],
    changes: false,
    columns: DISK_COLUMNS,
    examples: ['havirt lease list', 'havirt lease list --unused'],
    run: (parts, input) => showDisks(parts, input.options['unused'] === true),
  },
  {
    name: 'lease explain',
    summary: 'say who has a disk, whether they are alive, and when it can be had',
    description:
      'Says who holds the lease of a disk or had it last, whether that host is alive by what sanlock itself has seen, when the lease can be had, and what to do. Nothing forces a lease open.',
    args: [
      {
        name: 'DISK',
        help: "a disk's path, a domain for all its disks, or the name of a lease's file",
        required: true,
        complete: 'domain',
      },
    ],
    options: [],
    changes: false,
    columns: DISK_COLUMNS,
    examples: ['havirt lease explain web', 'havirt lease explain /dev/disk/by-id/wwn-0x5000c500a1b2c3d4'],
    run: explainLease,
  },
  {
    name: 'lease reconcile',
    summary: 'end what is left of domains on a node that was passed by leases, and is back',
    description:
      'Where lease.passUnreachable is set, a domain may have been started elsewhere while its node was silent and dead to sanlock. If that node comes back and still runs it, this ends it there, where it is proven that its memory is old: it runs elsewhere, or somebody else has taken its leases since. Where nobody else can have, it is the domain itself, and only the mark goes. Where neither is certain, it is refused, and says why. Until then the node receives nothing, and what is left there neither runs on nor moves. A node of which nothing is left is as any other as soon as it is looked at.',
    args: [NODES],
    options: [],
    changes: true,
    examples: ['havirt lease reconcile', 'havirt -y lease reconcile node2'],
    run: reconcile,
  },
  {
    name: 'lease cleanup',
    summary: 'remove leases of disks that nobody has any more',
    description:
      'Removes the files of leases that belong to no disk: no definition in conf/ and no domain on any node names it, every node was heard, nobody holds it, and nobody took it for lease.cleanupDays. Each goes while havirt itself holds the lease, so that what somebody has cannot go. All of it is shown first, with what it frees.',
    args: [],
    options: [
      {
        flags: '--older-than DAYS',
        help: 'for so long nobody must have taken it (lease.cleanupDays if not given)',
        range: { min: 0, max: 3650 },
      },
    ],
    changes: true,
    columns: CLEANUP_COLUMNS,
    examples: ['havirt lease cleanup', 'havirt -y lease cleanup --older-than 30'],
    run: cleanUp,
  },
]
