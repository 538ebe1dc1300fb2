/** What validation learns of one node beyond what every look asks: how it is set up. Facts only; what they mean is worked out elsewhere. */

/** A libvirt network or storage pool. */
export interface Provided {
  readonly name: string
  readonly active: boolean
  readonly autostart: boolean
  /** What must be the same everywhere, in words: forward mode and bridge, type and target. */
  readonly what: string
}

/** One iSCSI session, and one disk that came through it. */
export interface IscsiSession {
  readonly target: string
  readonly portal: string
  /** As the kernel says it: LOGGED_IN, FAILED, FREE. */
  readonly state: string
}

export interface IscsiDisk {
  readonly target: string
  readonly lun: string
  readonly device: string
  /** Empty when the device has none. */
  readonly wwid: string
  readonly bytes: number
}

/** One folder that other machines may mount, too. */
export interface SharedMount {
  readonly source: string
  readonly point: string
  readonly type: string
}

export interface Survey {
  /** By how much the node's clock is ahead of ours, and how far that may be wrong. */
  readonly clockAheadMs: number
  readonly clockUnsureMs: number
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  readonly machineTypes: readonly string[]
  readonly kvm: boolean
  /** Bridges with their MTU. */
  readonly bridges: ReadonlyMap<string, string>
  readonly networks: readonly Provided[]
  readonly pools: readonly Provided[]
  readonly sessions: readonly IscsiSession[]
  readonly disks: readonly IscsiDisk[]
  readonly mounts: readonly SharedMount[]
  /** Root's own public keys, `ssh-ed25519 AAAA...`, and those that may log in. */
  readonly ownKeys: readonly string[]
  readonly authorizedKeys: readonly string[]
  /** Root's ssh configuration, without comments and indentation. */
  readonly sshConfig: readonly string[]
  /** libvirt-guests is enabled, where systemd runs. */
  readonly libvirtGuests: boolean
  /** What sshd says of itself; undefined when it could not be asked. */
  readonly maxSessions: number | undefined
  readonly maxStartups: string | undefined
  /** The ports for migrations, and how many of them are taken. */
  readonly migrationPorts: { readonly from: number; readonly to: number; readonly taken: number }
  /** The home folder is there, and is this cluster's. */
  readonly home: boolean
}

/** What one node finds when it logs in to another. */
export interface Login {
  readonly from: string
  readonly to: string
  /** The id of the machine that answered; undefined: nobody did, and `said` is ssh's last word. */
  readonly id: string | undefined
  readonly said: string
}

/** Files that nodes wrote into a folder, each one of its own, and which of them each node sees there. */
export interface Marked {
  readonly folder: string
  /** The nodes that could write. */
  readonly writers: readonly string[]
  /** Of each node that has such a folder: the writers whose files it sees. */
  readonly sees: ReadonlyMap<string, readonly string[]>
  readonly missingOn: readonly string[]
}

/** A disk's device as each node has it. It is only read. */
export interface DeviceFacts {
  readonly bytes: number
  /** SHA-256 of its first MiB, hexadecimal; empty when it could not be read. */
  readonly firstMiB: string
}
