/** A domain: what its libvirt definition says of it, in the units that havirt compares. Facts only; nothing here acts. */

/** One disk of a domain, named by what backs it, so that two spellings of one disk can be compared. */
export interface Disk {
  /** Target device in the guest, `vda`. */
  readonly target: string
  readonly device: 'disk' | 'cdrom' | 'floppy' | 'lun'
  readonly source: DiskSource
  readonly readOnly: boolean
  /** `<shareable/>`: the administrator says that several domains may write it. */
  readonly shareable: boolean
  /** `<transient/>`: writes are thrown away at shut off. */
  readonly transient: boolean
  /** The driver's cache mode, `none`, `writeback`, ...; absent when the definition leaves it to QEMU. */
  readonly cache?: string
  /** The image format, `raw`, `qcow2`, ...; absent when the definition does not say. */
  readonly format?: string
}

/** Where a disk's bytes are. `none` is an empty drive. */
export type DiskSource =
  | { readonly kind: 'none' }
  | { readonly kind: 'file' | 'block' | 'dir'; readonly path: string }
  | { readonly kind: 'volume'; readonly pool: string; readonly volume: string }
  | { readonly kind: 'network'; readonly protocol: string; readonly name: string; readonly hosts: readonly string[] }
  | { readonly kind: 'other'; readonly type: string }

/** One network interface: which network or bridge of the node it needs. */
export interface NetworkInterface {
  readonly kind: 'network' | 'bridge' | 'direct' | 'user' | 'ethernet' | 'other'
  /** Name of the libvirt network, the bridge, or the device for `direct`. */
  readonly source?: string
  readonly mac?: string
  readonly model?: string
}

/** What a CPU element asks of the node. The XML text itself is what libvirt compares. */
export interface DomainCpu {
  /** `host-passthrough`, `host-model`, `custom`, `maximum`; absent with a bare `<cpu>` or none. */
  readonly mode?: string
  readonly model?: string
  /** The `<cpu>` element byte for byte, for libvirt's own comparison. */
  readonly xml: string
}

/** State that lives in files on one node and would stay behind when the domain runs elsewhere. */
export interface NodeBoundState {
  readonly kind: 'nvram' | 'tpm' | 'hostdev'
  /** The path, or what the device is. */
  readonly what: string
}

/** A libvirt domain as its XML defines it. */
export interface Domain {
  readonly name: string
  /** Lower case, with dashes. */
  readonly uuid: string
  /** libvirt's virtualisation type: `kvm`, `qemu`, ... */
  readonly type: string
  readonly arch?: string
  readonly machine?: string
  readonly emulator?: string
  /** Current vCPUs, or the maximum when the definition names no current. */
  readonly vcpus: number
  /** Maximum memory in MiB, rounded up. */
  readonly memoryMiB: number
  /** VNC port; -1 means that libvirt chooses (autoport). Absent without VNC. */
  readonly vncPort?: number
  readonly disks: readonly Disk[]
  readonly interfaces: readonly NetworkInterface[]
  readonly cpu?: DomainCpu
  readonly nodeBound: readonly NodeBoundState[]
  /** True when memory is backed by huge pages or pinned to NUMA cells: placement must not ignore it. */
  readonly hugePages: boolean
}
