/** Checks of domains and their disks: what is defined where, what is there twice, what differs from conf/. */
import { type Cluster, sightings, sightingsOf, unlisted, upNodes } from '../cluster.ts'
import type { Domain } from '../domain.ts'
import { diskIdentity, exclusiveDisks, placeOf } from '../domain-xml.ts'
import { savedFix, unlistedFix, unlistedWords } from '../refusal.ts'
import { ruleText } from '../rule.ts'
import { brokenRules } from '../rules.ts'
import { type Check, type Facts, type Finding, minority } from './facts.ts'

const defined: Check = {
  id: 'own-definitions',
  title: 'no node defines a domain itself',
  run: ({ cluster }) =>
    sightings(cluster)
      .filter(({ domain }) => domain.persistent)
      .map(({ node, domain }) => ({
        node,
        why: domain.autostart
          ? `${domain.name} is set to autostart on ${node}: it starts there when ${node} boots, wherever it runs by then`
          : `${domain.name} is defined on ${node}, where plain virsh could start it`,
        fix: `havirt domain adopt ${domain.name}`,
      })),
}

const saved: Check = {
  id: 'saved-images',
  title: 'no saved image is left',
  run: ({ cluster }) =>
    sightings(cluster)
      .filter(({ domain }) => domain.managedSave)
      .map(({ node, domain }) => ({
        node,
        why: `${node} holds a saved image of ${domain.name}: it cannot be started elsewhere`,
        fix: savedFix(domain.name, node, sightingsOf(cluster, domain).find(each => each.domain.active)?.node),
      })),
}

const strays: Check = {
  id: 'strays',
  title: 'every QEMU is listed',
  run: ({ cluster }) =>
    unlisted(cluster).map(({ node, domain, pid }) => ({
      node,
      why: unlistedWords(domain.name, node, pid),
      fix: unlistedFix(node, pid),
    })),
}

const readable: Check = {
  id: 'readable',
  title: 'every definition can be read',
  run: ({ cluster }) =>
    [...cluster.definitions.values()].flatMap(({ name, path, domain, problem }): Finding[] => {
      if (domain === undefined)
        return [
          { why: `${path}: ${problem}`, fix: `mend that file, or fetch it anew: havirt domain update ${name} --force` },
        ]
      return domain.name === name
        ? []
        : [{ why: `${path} defines ${domain.name}`, fix: `rename the file, or the domain in it` }]
    }),
}

/** Of each thing, those that share it. */
function shared<T>(all: readonly T[], keysOf: (one: T) => readonly string[]): { key: string; by: T[] }[] {
  const by = new Map<string, T[]>()
  for (const one of all) for (const key of new Set(keysOf(one))) by.set(key, [...(by.get(key) ?? []), one])
  return [...by].flatMap(([key, list]) => (list.length > 1 ? [{ key, by: list }] : []))
}

function definitions(cluster: Cluster): Domain[] {
  return [...cluster.definitions.values()].flatMap(({ domain }) => domain ?? [])
}

const uuids: Check = {
  id: 'uuids',
  title: 'no domain is defined twice',
  run: ({ cluster }) =>
    shared(definitions(cluster), ({ uuid }) => [uuid]).map(({ key, by }) => ({
      why: `${by.map(({ name }) => `conf/${name}.xml`).join(' and ')} have one uuid, ${key}`,
      fix: 'give one of them a uuid of its own (uuidgen), or remove it',
    })),
}

const disks: Check = {
  id: 'disks',
  title: 'no disk is in two definitions',
  run: ({ cluster }) =>
    shared(definitions(cluster), domain =>
      exclusiveDisks(domain).flatMap(({ source }) => diskIdentity(source) ?? []),
    ).map(({ key, by }) => ({
      why: `${by.map(({ name }) => `conf/${name}.xml`).join(' and ')} have one disk, ${key}`,
      fix: 'take it out of one of them; if both may really write it, mark it <shareable/> in both',
    })),
}

const differing: Check = {
  id: 'differences',
  title: 'what runs is what conf/ says',
  run: ({ cluster }) =>
    sightings(cluster)
      .filter(({ domain }) => domain.active)
      .flatMap(({ node, domain }): Finding[] => {
        const conf = cluster.definitions.get(domain.name)?.domain
        if (conf === undefined)
          return [
            {
              node,
              why: `conf/ has no definition of ${domain.name}, which runs on ${node}`,
              fix: `havirt domain update ${domain.name}`,
            },
          ]
        if (domain.definition === undefined) return []
        const what = differences(conf, domain.definition)
        if (what.length === 0) return []
        return [
          {
            node,
            why: `${domain.name} runs on ${node} otherwise than conf/${domain.name}.xml says: ${what.join('; ')}`,
            fix: `it takes effect at its next start; to keep what runs instead: havirt domain update ${domain.name} --force`,
          },
        ]
      }),
}

function differences(conf: Domain, live: Domain): string[] {
  const sources = ({ disks: all }: Domain) => all.flatMap(({ source }) => diskIdentity(source) ?? []).sort()
  const nets = ({ interfaces }: Domain) =>
    interfaces.map(({ kind, source, mac }) => `${kind} ${source ?? ''} ${mac ?? ''}`.trim()).sort()
  const pairs: [string, string, string][] = [
    ['uuid', conf.uuid, live.uuid],
    ['memory', `${conf.memoryMiB} MiB`, `${live.memoryMiB} MiB`],
    ['vCPUs', String(conf.vcpus), String(live.vcpus)],
    ['disks', sources(conf).join(', '), sources(live).join(', ')],
    ['interfaces', withoutMacs(nets(conf), conf), withoutMacs(nets(live), conf)],
  ]
  return pairs.flatMap(([what, said, is]) =>
    said === is ? [] : [`${what} ${said || 'none'} there, ${is || 'none'} here`],
  )
}

/** libvirt makes up an address where the definition has none. */
function withoutMacs(lines: readonly string[], { interfaces }: Domain): string {
  const plain = interfaces.some(({ mac }) => mac === undefined)
  return lines.map(line => (plain ? line.replace(/ ?([0-9a-f]{2}:){5}[0-9a-f]{2}$/i, '') : line)).join(', ')
}

const paths: Check = {
  id: 'paths',
  title: 'every disk is on every node',
  run: ({ cluster }) => {
    const wanted = definitions(cluster).flatMap(({ name, disks: all }) =>
      all.flatMap(({ source }) => {
        const path = placeOf(source)
        return path === undefined ? [] : [{ name, path }]
      }),
    )
    return upNodes(cluster).flatMap(({ name: node, seen }) =>
      wanted
        .filter(({ path }) => seen.paths.get(path)?.exists === false)
        .map(({ name, path }) => ({
          node,
          why: `the disk ${path} of ${name} does not exist on ${node}`,
          fix: `mount or log in to its storage on ${node}, and check the path`,
        })),
    )
  },
}

const devices: Check = {
  id: 'devices',
  title: 'every disk is the same everywhere',
  run: facts => {
    const all = [...new Set([...facts.devices.values()].flatMap(each => [...each.keys()]))].sort()
    return all.flatMap(path => [...otherDisk(facts, path), ...otherSize(facts, path), ...otherContent(facts, path)])
  },
}

function otherDisk({ cluster }: Facts, path: string): Finding[] {
  const values = upNodes(cluster).flatMap(({ name, seen }) => {
    const identity = seen.paths.get(path)?.identity
    return identity === undefined || identity.startsWith('local:') ? [] : [[name, identity] as const]
  })
  return minority(new Map(values)).map(({ node, value, usual }) => ({
    node,
    why: `${path} on ${node} is ${value}, and elsewhere ${usual}`,
    fix: `name the disk by what it is (/dev/disk/by-id/...), or mend the mapping on ${node}`,
  }))
}

function otherSize({ devices: all }: Facts, path: string): Finding[] {
  const values = [...all].flatMap(([node, each]) =>
    each.has(path) ? [[node, String(each.get(path)?.bytes)] as const] : [],
  )
  return minority(new Map(values)).map(({ node, value, usual }) => ({
    node,
    why: `${path} has ${value} bytes on ${node}, and ${usual} elsewhere`,
    fix: `let ${node} read its size again: havirt node iscsiscan ${node}`,
  }))
}

/** A disk that a running domain writes may differ from one look to the next, and says nothing then. */
function otherContent({ devices: all, cluster }: Facts, path: string): Finding[] {
  const isUsed = sightings(cluster).some(
    ({ domain }) => domain.active && domain.definition?.disks.some(({ source }) => placeOf(source) === path) === true,
  )
  if (isUsed) return []
  const values = [...all].flatMap(([node, each]) => {
    const sum = each.get(path)?.firstMiB ?? ''
    return sum === '' ? [] : [[node, sum] as const]
  })
  return minority(new Map(values)).map(({ node }) => ({
    node,
    why: `${path} begins with other bytes on ${node} than elsewhere: it is another disk, or an old cache of it`,
    fix: `see where it comes from: ssh ${node} lsblk -o NAME,WWN,SERIAL,SIZE ${path}`,
  }))
}

const rules: Check = {
  id: 'rules',
  title: 'rules are kept',
  run: ({ cluster }) =>
    brokenRules(cluster).map(({ rule, why }) => ({
      why: `the ${rule.hard ? 'rule' : 'soft rule'} '${ruleText(rule)}' is not kept: ${why}`,
      fix: 'havirt cluster balance',
    })),
}

/** In the order of the table. */
export const domainChecks: readonly Check[] = [
  defined,
  saved,
  strays,
  readable,
  uuids,
  disks,
  differing,
  paths,
  devices,
  rules,
]
