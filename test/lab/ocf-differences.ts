/** Why our resource agent answers otherwise than the original, by key: one sentence each, that the documentation has, too. */
export const DIFFERENCES = {
  'own deadline':
    'It answers before its time-out is over and says what it waited for; the original goes on until Pacemaker kills it.',
  'stop is true':
    'A stop answers 0 only when the domain is not active, whatever is wrong with parameters, the file or the programs; the original answers 0 and leaves it running.',
  'state without the file':
    'Without a readable file the domain is looked for in libvirt all the same, by the uuid and the name that are remembered.',
  'state without virsh': 'The state of a domain is asked without virsh and does not depend on it.',
  'state without parameters': 'Wrong parameters say nothing about the state of a domain, so it is told all the same.',
  'read as XML':
    'The file is read as XML, so its layout does not matter; the original searches its lines for the name.',
  'checked path': 'The path of the file must be absolute, because nobody knows in which folder an agent runs.',
  'any path': 'A path may hold every character; the original lets the shell split it into words.',
  'checked parameters':
    'A value that cannot be meant is refused as an error of the configuration; the original takes it for something else, or fails later.',
  'empty is unset': 'A parameter that is set to nothing counts as not set.',
  'broken file found early': 'A file that is not XML is found by the validation, not by the start that fails.',
  'what status says':
    'status answers 7 for a domain that does not run, also when something is wrong with the parameters.',
  'reload-agent': 'Parameters that matter only later can be changed without a restart of the domain.',
  'meta-data anywhere': 'The meta-data are printed without any environment.',
  'missing target': 'A migration without a target is an error of the arguments; the original migrates to itself.',
  'libvirt does not answer':
    'A libvirt that takes the connection and does not answer counts as one that is down: the process of the domain tells.',
  'dead without libvirt':
    'While libvirt is down, a domain without a process counts as stopped; the original cannot say and so has the node fenced.',
  'alive without file': 'While libvirt is down and the file is missing, a process of the domain is not overlooked.',
  'libvirt comes back':
    'A stop waits until libvirt is back, as long as its time-out allows; the original gives up after 3 s.',
  'gone while saved': 'A managed-save image would be lost by a cold start, so the start refuses.',
  'disk error degrades': 'A domain that QEMU has paused because of its disk is degraded; the original calls it well.',
  'time to end': 'A domain has at least half of the time-out to shut down; the original keeps 5 s of it for its own.',
  'paused is destroyed': 'A paused domain cannot shut down, so it is destroyed at once.',
  'shutdown_mode works': 'shutdown_mode has an effect; the original reads a variable that nobody sets.',
  'backing format':
    'The format of the backing file is told to qemu-img, which creates no overlay otherwise since QEMU 6.1.',
  'overlay in use': 'An overlay that the domain does not use is an error of the configuration.',
  'nothing defined': 'A domain that started from an overlay leaves no definition behind, as any other.',
  'user names':
    'Names of users may hold capital letters, dots and underscores; the original silently leaves such a name out.',
  'plain target': 'The placeholder %n stands for the name of the node, as documented, without user and suffix.',
  'placeholder with a space': 'Also `--migrateuri URI`, in two words, has its %n replaced.',
  'transport named twice': 'The transport of the local URI is replaced by that of the migration, not added to it.',
  'local hypervisor': 'The hypervisor must be the one of this node; the original would run the domain on another one.',
  'asked by uuid': 'libvirt is asked for the uuid or for exactly the name, never for a number or an option of virsh.',
  'domain followed': 'The domain is known by its uuid, so a name that is changed in the file hides nothing.',
} as const

export type Difference = keyof typeof DIFFERENCES
