/** Where a live migration connects to and where its memory goes: the rules of ocf:heartbeat:VirtualDomain, with %n as it is documented. */
import { listOf, type Settings } from './parameters.ts'

export interface MigrationWay {
  /** The connection to the target's libvirt. */
  readonly remoteUri: string
  /** Where the memory goes; undefined: libvirt chooses. */
  readonly migrateUri: string | undefined
  /** migrate_options without their --migrateuri. */
  readonly options: readonly string[]
  /** What should be known, in sentences. */
  readonly warnings: readonly string[]
}

/** `randomPort` is asked only where a port is needed and none is set. */
export function migrationWay(
  settings: Settings,
  { hypervisor, target, randomPort }: { hypervisor: string; target: string; randomPort: () => number },
): MigrationWay {
  const { options, inOptions } = divideOptions(settings.migrate_options)
  const own = settings.migrateuri || inOptions || undefined
  const made = own === undefined ? madeUri(settings, hypervisor, target, randomPort) : {}
  return {
    remoteUri: remoteUri(settings, hypervisor, target),
    migrateUri: own === undefined ? made.uri : named(own, target),
    options,
    warnings: [
      ...(made.warning === undefined ? [] : [made.warning]),
      ...unnamed({ remoteuri: settings.remoteuri, migrateuri: own ?? '' }),
    ],
  }
}

/** The target's libvirt by the hypervisor's URI: `qemu://foo:9999/system` becomes `qemu+tls://node2-mig:9999/system`. */
function remoteUri(settings: Settings, hypervisor: string, target: string): string {
  if (settings.remoteuri !== '') return named(settings.remoteuri, target)
  const [, scheme = 'qemu', port = '', rest = '/system'] =
    /^([^:+]+)(?:\+[^:]+)?:\/\/(?:\[[^\]]*\]|[^/:]*)(:\d+)?(\/.*)?$/.exec(hypervisor) ?? []
  const transport = settings.migration_transport === '' ? '' : `+${settings.migration_transport}`
  const user = settings.migration_user === '' ? '' : `${settings.migration_user}@`
  return `${scheme}${transport}://${user}${suffixed(settings, target)}${port}${withoutSocket(rest)}`
}

/** A socket named in the URI is that of this node's daemon. What else stands in the query goes along. */
function withoutSocket(rest: string): string {
  const [path = '', query = ''] = rest.split('?', 2)
  const kept = query.split('&').filter(each => each !== '' && !each.startsWith('socket='))
  return kept.length === 0 ? path : `${path}?${kept.join('&')}`
}

function madeUri(
  settings: Settings,
  hypervisor: string,
  target: string,
  randomPort: () => number,
): { uri?: string; warning?: string } {
  if (settings.migration_network_suffix === '') return {}
  const host = suffixed(settings, target)
  const driver = /^[a-z]+/.exec(hypervisor)?.[0] ?? ''
  if (driver === 'qemu') return { uri: `tcp:${host}:${settings.migrateport ?? randomPort()}` }
  if (driver === 'xen') return { uri: host }
  return { warning: `migration_network_suffix gives no migration URI for ${driver}: only for qemu and xen` }
}

/** Behind the node's name, and before its domain. */
function suffixed({ migration_network_suffix: suffix }: Settings, target: string): string {
  return target.replace(/^[^.]+/, name => `${name}${suffix}`)
}

function named(uri: string, target: string): string {
  return uri.replaceAll('%n', target)
}

function unnamed(uris: { readonly remoteuri: string; readonly migrateuri: string }): string[] {
  return Object.entries(uris)
    .filter(([, value]) => value !== '' && !value.includes('%n'))
    .map(([name]) => `${name} has no %n: it leads to the same host whatever the target is`)
}

/** `--migrateuri X` and `--migrateuri=X` are the same to virsh; the last one counts. */
function divideOptions(text: string): { options: string[]; inOptions: string | undefined } {
  const options: string[] = []
  let inOptions: string | undefined
  const words = listOf(text)
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? ''
    if (word === '--migrateuri') inOptions = words[++at]
    else if (word.startsWith('--migrateuri=')) inOptions = word.slice('--migrateuri='.length)
    else options.push(word)
  }
  return { options, inOptions }
}
