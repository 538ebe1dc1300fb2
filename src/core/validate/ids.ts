/** The short names of the checks of `cluster validate`, in the order of its table: for programs, and for `validate.required`. */
export const checkIds = [
  'answers',
  'networks',
  'bridges',
  'iscsi-sessions',
  'iscsi-disks',
  'ssh-keys',
  'logins',
  'ssh-config',
  'libvirt',
  'qemu',
  'kvm',
  'machine-types',
  'cpu',
  'clocks',
  'pools',
  'mounts',
  'folders',
  'home',
  'libvirt-guests',
  'leases',
  'lease-folder',
  'host-ids',
  'lease-daemon',
  'lease-timeouts',
  'watchdog',
  'lease-names',
  'unprotected',
  'lease-files',
  'lease-cleanup',
  'disk-paths',
  'uncovered',
  'sshd',
  'ports',
  'own-definitions',
  'saved-images',
  'strays',
  'readable',
  'uuids',
  'disks',
  'differences',
  'paths',
  'devices',
  'rules',
] as const

export type CheckId = (typeof checkIds)[number]

/** What is wrong with an entry of `validate.required`. */
export function requiredProblem(entry: string, before: readonly string[]): string | undefined {
  if (!(checkIds as readonly string[]).includes(entry))
    return `there is no check '${entry}'; the checks are ${checkIds.join(', ')}`
  return before.includes(entry) ? `${entry} is there twice` : undefined
}
