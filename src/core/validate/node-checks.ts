/** Checks that hold the nodes against each other: networks, iSCSI, ssh, versions, clocks, folders, settings. */

import { silentNodes, upNodes } from '../cluster.ts'
import { pasteableLine, quote } from '../command.ts'
import { isConfirmedDown } from '../node.ts'
import { type Check, deviations, type Facts, type Finding, minority, ofEach } from './facts.ts'
import type { CheckId } from './ids.ts'
import type { Marked, Provided, Survey } from './survey.ts'

/** A command on a node as a line to paste, whatever characters its words have. */
function on(node: string, ...argv: string[]): string {
  return pasteableLine({ node, argv }, undefined)
}

const answering: Check = {
  id: 'answers',
  title: 'every node answers',
  run: ({ cluster, unasked }) => [
    ...silentNodes(cluster).map(node => ({
      node: node.name,
      why: isConfirmedDown(node)
        ? `${node.name} is confirmed down`
        : `${node.name} is ${node.seen.state}: ${node.seen.reason}`,
      fix: node.seen.hint,
    })),
    ...upNodes(cluster).flatMap(({ name: node, seen: { inquiryProblem } }) =>
      inquiryProblem === undefined
        ? []
        : [
            {
              node,
              why: `${node} could not say what its paths are and which QEMUs run: ${inquiryProblem}`,
              fix: `havirt node scan ${node}`,
            },
          ],
    ),
    ...[...unasked].map(([node, why]) => ({
      node,
      why: `${node} could not be asked: ${why}`,
      fix: `try by hand: ssh ${node} true`,
    })),
  ],
}

function provided(
  id: CheckId,
  title: string,
  noun: string,
  verb: 'net' | 'pool',
  of: (survey: Survey) => readonly Provided[],
): Check {
  return {
    id,
    title,
    run: facts => {
      const active = ofEach(facts, survey =>
        of(survey)
          .filter(each => each.active)
          .map(({ name }) => name),
      )
      const lacking = deviations(active).map(({ node, item, kind }): Finding => {
        const known = of(facts.surveys.get(node) as Survey).some(({ name }) => name === item)
        if (kind === 'extra')
          return {
            node,
            why: `only ${node} has the ${noun} ${item}`,
            fix: `define it on all nodes, or, once no domain there needs it, take it off: ${on(node, 'virsh', `${verb}-destroy`, item)}`,
          }
        const why = `${node} ${known ? 'has not started' : 'lacks'} the ${noun} ${item}`
        return {
          node,
          why,
          fix: known ? on(node, 'virsh', `${verb}-start`, item) : copyCommand(facts, node, verb, item, of),
        }
      })
      return [...lacking, ...differently(facts, noun, verb, of), ...notByItself(facts, noun, verb, of)]
    },
  }
}

/** Fetches it from a node that has it. */
function copyCommand(
  { surveys }: Facts,
  node: string,
  verb: string,
  item: string,
  of: (survey: Survey) => readonly Provided[],
): string {
  const other =
    [...surveys].find(([, survey]) => of(survey).some(({ name, active }) => name === item && active))?.[0] ?? 'NODE'
  return `ssh ${other} virsh ${verb}-dumpxml ${quote(item)} | ssh ${node} virsh ${verb}-define /dev/stdin, then: ssh ${node} virsh ${verb}-start ${quote(item)}`
}

function differently(facts: Facts, noun: string, verb: string, of: (survey: Survey) => readonly Provided[]): Finding[] {
  const names = new Set([...facts.surveys.values()].flatMap(survey => of(survey).map(({ name }) => name)))
  return [...names].flatMap(item => {
    const values = [...facts.surveys].flatMap(([node, survey]) =>
      of(survey)
        .filter(({ name }) => name === item)
        .map(({ what }) => [node, what] as const),
    )
    return minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `the ${noun} ${item} of ${node} is '${value}', and '${usual}' elsewhere`,
      fix: `ssh -t ${node} virsh ${verb}-edit ${quote(item)}`,
    }))
  })
}

function notByItself(facts: Facts, noun: string, verb: string, of: (survey: Survey) => readonly Provided[]): Finding[] {
  return [...facts.surveys].flatMap(([node, survey]) =>
    of(survey)
      .filter(({ active, autostart }) => active && !autostart)
      .map(({ name }) => ({
        node,
        why: `the ${noun} ${name} of ${node} is not there any more when ${node} boots`,
        fix: on(node, 'virsh', `${verb}-autostart`, name),
      })),
  )
}

const bridges: Check = {
  id: 'bridges',
  title: 'the same bridges',
  run: facts => {
    // Those that libvirt makes for its own networks differ by chance.
    const names = ofEach(facts, survey => [...survey.bridges.keys()].filter(name => !/^virbr\d+$/.test(name)))
    const lacking = deviations(names).map(({ node, item, kind }) => ({
      node,
      why: kind === 'extra' ? `only ${node} has the bridge ${item}` : `${node} lacks the bridge ${item}`,
      fix:
        kind === 'extra'
          ? `make it on all nodes, or, once no domain there needs it, remove it: ${on(node, 'ip', 'link', 'delete', item)}`
          : `make it in the network configuration of ${node}; for now: ssh ${node} 'ip link add ${item} type bridge && ip link set ${item} up'`,
    }))
    const all = new Set([...names.values()].flat())
    const sizes = [...all].flatMap(name => {
      const mtus = [...facts.surveys].flatMap(([node, { bridges: has }]) =>
        has.has(name) ? [[node, has.get(name) ?? ''] as const] : [],
      )
      return minority(new Map(mtus)).map(({ node, value, usual }) => ({
        node,
        why: `the bridge ${name} of ${node} has an MTU of ${value}, and ${usual} elsewhere`,
        fix: `${on(node, 'ip', 'link', 'set', name, 'mtu', usual)}, and in its network configuration`,
      }))
    })
    return [...lacking, ...sizes]
  },
}

const iscsiSessions: Check = {
  id: 'iscsi-sessions',
  title: 'the same iSCSI sessions',
  run: facts => [
    ...deviations(ofEach(facts, ({ sessions }) => sessions.map(({ target, portal }) => `${target} at ${portal}`))).map(
      ({ node, item, kind }) => ({
        node,
        why: kind === 'extra' ? `only ${node} is logged in to ${item}` : `${node} is not logged in to ${item}`,
        fix: kind === 'extra' ? `log the others in: havirt node iscsiscan` : `havirt node iscsiscan ${node}`,
      }),
    ),
    ...[...facts.surveys].flatMap(([node, { sessions }]) =>
      sessions
        .filter(({ state }) => state !== 'LOGGED_IN')
        .map(({ target, portal, state }) => ({
          node,
          why: `the iSCSI session of ${node} to ${target} at ${portal} is ${state}`,
          fix: `look at the way to ${portal}: ssh ${node} iscsiadm -m session -P 1`,
        })),
    ),
  ],
}

const iscsiDisks: Check = {
  id: 'iscsi-disks',
  title: 'the same iSCSI disks by WWID',
  run: facts => [
    ...deviations(ofEach(facts, ({ disks }) => disks.flatMap(({ wwid }) => (wwid === '' ? [] : [wwid])))).map(
      ({ node, item, kind }) => ({
        node,
        why: kind === 'extra' ? `only ${node} sees the disk ${item}` : `${node} does not see the disk ${item}`,
        fix: kind === 'extra' ? 'havirt node iscsiscan looks for it on the others' : `havirt node iscsiscan ${node}`,
      }),
    ),
    ...[...facts.surveys].flatMap(([node, { disks }]) =>
      disks
        .filter(({ wwid }) => wwid === '')
        .map(({ target, lun, device }) => ({
          node,
          why: `LUN ${lun} of ${target} (${device} on ${node}) has no WWID, so nobody can tell whether two nodes see one disk`,
          fix: 'give the LUN a serial number or an identifier on the target',
        })),
    ),
    ...sizes(facts),
  ],
}

function sizes(facts: Facts): Finding[] {
  const wwids = new Set(
    [...facts.surveys.values()].flatMap(({ disks }) => disks.map(({ wwid }) => wwid)).filter(Boolean),
  )
  return [...wwids].flatMap(wwid => {
    const values = [...facts.surveys].flatMap(([node, { disks }]) => {
      const disk = disks.find(each => each.wwid === wwid)
      return disk === undefined ? [] : [[node, String(disk.bytes)] as const]
    })
    return minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `the disk ${wwid} has ${value} bytes on ${node}, and ${usual} elsewhere`,
      fix: `let ${node} read its size again: havirt node iscsiscan ${node}`,
    }))
  })
}

const keys: Check = {
  id: 'ssh-keys',
  title: "every node has the others' ssh keys",
  run: ({ surveys }) =>
    [...surveys].flatMap(([node, { ownKeys }]) => {
      if (ownKeys.length === 0)
        return [
          {
            node,
            why: `root on ${node} has no ssh key`,
            fix: `ssh ${node} "ssh-keygen -t ed25519 -N '' -f ~/.ssh/id_ed25519"`,
          },
        ]
      return [...surveys]
        .filter(([other, { authorizedKeys }]) => other !== node && !ownKeys.some(key => authorizedKeys.includes(key)))
        .map(([other]) => ({
          node: other,
          why: `${other} does not let root of ${node} log in: its key is not in authorized_keys`,
          fix: `ssh ${node} 'cat ~/.ssh/*.pub' | ssh ${other} 'cat >> ~/.ssh/authorized_keys'`,
        }))
    }),
}

const logins: Check = {
  id: 'logins',
  title: 'every node can log in to the others',
  run: ({ logins: tried, cluster }) =>
    tried.flatMap(({ from, to, id, said }) => {
      if (id === undefined)
        return [
          {
            node: from,
            why: `root on ${from} cannot log in to ${to}: ${said === '' ? 'no answer' : said}`,
            fix: `try by hand: ssh ${from} ssh ${to} true`,
          },
        ]
      const expected = cluster.nodes.get(to)?.record.id
      if (id === expected) return []
      return [
        {
          node: from,
          why: `on ${from} the name ${to} leads to another machine`,
          fix: `mend /etc/hosts, DNS or ~/.ssh/config on ${from}`,
        },
      ]
    }),
}

const sshConfig: Check = {
  id: 'ssh-config',
  title: 'the same ssh configuration',
  run: facts =>
    deviations(ofEach(facts, survey => survey.sshConfig)).map(({ node, item, kind }) => ({
      node,
      why: `~/.ssh/config of ${node} ${kind === 'extra' ? 'alone has' : 'lacks'}: ${item}`,
      fix: `compare: ssh ${node} cat ~/.ssh/config`,
    })),
}

function same(
  id: CheckId,
  title: string,
  noun: string,
  value: (survey: Survey) => string,
  fix: (node: string, usual: string) => string,
): Check {
  return {
    id,
    title,
    run: facts =>
      minority(ofEach(facts, value)).map(({ node, value: found, usual }) => ({
        node,
        why: `${[node, 'has', noun].join(' ').trim()} ${found === '' ? 'none' : found}, and others ${usual === '' ? 'none' : usual}`,
        fix: fix(node, usual),
      })),
  }
}

const machineTypes: Check = {
  id: 'machine-types',
  title: 'machine types that the definitions need',
  run: ({ cluster, surveys }) => {
    const needed = [...cluster.definitions.values()].flatMap(({ domain }) =>
      domain?.machine === undefined ? [] : [{ name: domain.name, machine: domain.machine }],
    )
    return [...surveys].flatMap(([node, survey]) =>
      needed
        .filter(({ machine }) => survey.machineTypes.length > 0 && !survey.machineTypes.includes(machine))
        .map(({ name, machine }) => ({
          node,
          why: `QEMU on ${node} has no machine type ${machine}, which ${name} needs`,
          fix: `upgrade QEMU there, or give ${name} an older machine type in conf/${name}.xml`,
        })),
    )
  },
}

const cpu: Check = {
  id: 'cpu',
  title: 'the same host CPU',
  run: ({ cluster }) => {
    const seen = [...cluster.nodes.values()].flatMap(({ name, seen: up }) =>
      up.state === 'up' ? [[name, up] as const] : [],
    )
    const models = new Map(seen.map(([name, up]) => [name, up.hostCpu.replace(/\s+/g, ' ')]))
    return minority(models).map(({ node }) => ({
      node,
      why: `${node} has another CPU than most (${seen.find(([name]) => name === node)?.[1].cpuModel})`,
      fix: `give domains a CPU that all have: cat the <cpu> of "ssh NODE virsh capabilities" of all nodes into one file, and: virsh hypervisor-cpu-baseline FILE`,
    }))
  },
}

/** More than this is enough to confuse people who read logs of several nodes, and TLS and Kerberos soon after. */
const CLOCKS_MS = 2000

const clocks: Check = {
  id: 'clocks',
  title: 'clocks',
  run: ({ surveys }) => {
    const ahead = [...surveys.values()].map(({ clockAheadMs }) => clockAheadMs).sort((a, b) => a - b)
    const middle = ahead[ahead.length >> 1] ?? 0
    return [...surveys].flatMap(([node, { clockAheadMs, clockUnsureMs }]) => {
      const off = clockAheadMs - middle
      if (Math.abs(off) - clockUnsureMs <= CLOCKS_MS) return []
      const by = `${(Math.abs(off) / 1000).toFixed(1)} s ${off > 0 ? 'ahead' : 'behind'}`
      return [{ node, why: `the clock of ${node} is ${by}`, fix: `ssh ${node} timedatectl set-ntp true` }]
    })
  },
}

const mounts: Check = {
  id: 'mounts',
  title: 'the same shared mounts',
  run: facts =>
    deviations(
      ofEach(facts, survey => survey.mounts.map(({ source, point, type }) => `${source} on ${point} (${type})`)),
    ).map(({ node, item, kind }) => ({
      node,
      why: kind === 'extra' ? `only ${node} mounts ${item}` : `${node} does not mount ${item}`,
      fix:
        kind === 'extra'
          ? 'mount it on all nodes that are to use it'
          : `ssh ${node} mount -a, once it stands in its /etc/fstab`,
    })),
}

const folders: Check = {
  id: 'folders',
  title: 'shared folders are one folder',
  run: facts =>
    facts.marks.flatMap(marked => [
      ...marked.missingOn.map(node => ({
        node,
        why: `${marked.folder} is not there on ${node}`,
        fix: `mount its storage there: ${on(node, 'mount', marked.folder)}`,
      })),
      ...(marked.writers.length === 0 ? unwritten(facts, marked) : otherFolders(marked)),
    ]),
}

/** Who sees other files than most sees another folder. */
function otherFolders({ folder, writers, sees }: Marked): Finding[] {
  const views = [...sees].map(
    ([node, seen]) => [node, writers.filter(writer => seen.includes(writer)).join(' ')] as const,
  )
  return minority(new Map(views)).map(({ node }) => ({
    node,
    why: `${folder} on ${node} is another folder than on most nodes: files that are written there are not seen here`,
    fix: `look what is mounted there: ${on(node, 'findmnt', '--target', folder)}`,
  }))
}

/** Where root may not write, as on many NFS exports, the same source of the mount has to be proof enough. */
function unwritten({ surveys }: Facts, { folder, sees }: Marked): Finding[] {
  const sources = [...sees.keys()].map(node => {
    const over =
      surveys.get(node)?.mounts.filter(({ point }) => folder === point || folder.startsWith(`${point}/`)) ?? []
    return over.sort((one, other) => other.point.length - one.point.length)[0]?.source
  })
  if (sources.every(source => source !== undefined && source === sources[0])) return []
  return [
    {
      why: `no node could write into ${folder}, and it is not one network mount on all: nobody knows whether it is one folder`,
      fix: `look at each by hand: findmnt --target ${quote(folder)}`,
    },
  ]
}

const home: Check = {
  id: 'home',
  title: "havirt's home is mounted",
  run: ({ surveys }) =>
    [...surveys].flatMap(([node, survey]) =>
      survey.home ? [] : [{ node, why: `havirt's home is not there on ${node}`, fix: `mount its storage on ${node}` }],
    ),
}

const guests: Check = {
  id: 'libvirt-guests',
  title: 'libvirt-guests is off',
  run: ({ surveys }) =>
    [...surveys].flatMap(([node, { libvirtGuests }]) =>
      libvirtGuests
        ? [
            {
              node,
              why: `libvirt-guests is enabled on ${node}: it saves or stops domains at shutdown, and starts at boot what may run elsewhere by then`,
              fix: `ssh ${node} systemctl disable libvirt-guests (without --now, which would stop the domains)`,
            },
          ]
        : [],
    ),
}

const locks: Check = {
  id: 'leases',
  title: 'lease settings',
  run: facts => {
    const managers = same(
      'leases',
      '',
      'the lock manager',
      survey => survey.lockManager,
      node => `set lock_manager in /etc/libvirt/qemu.conf of ${node}, and restart libvirtd`,
    ).run(facts)
    const using = [...facts.surveys].filter(([, { lockManager }]) => lockManager === 'sanlock')
    const ids = using.map(([node, { lockSettings }]) => [node, lockSettings.get('host_id') ?? '0'] as const)
    const hosts = ids.flatMap(([node, id]): Finding[] => {
      const fix = `give ${node} a host_id of its own, from 1 to 2000, in /etc/libvirt/qemu-sanlock.conf`
      if (Number(id) === 0) return [{ node, why: `${node} has no host id for sanlock`, fix }]
      const twin = ids.find(([other, same]) => other < node && same === id)
      return twin === undefined
        ? []
        : [{ node, why: `${node} and ${twin[0]} have the same host id for sanlock, ${id}`, fix }]
    })
    const settings = ofEach(facts, ({ lockSettings }) =>
      [...lockSettings].filter(([key]) => key !== 'host_id').map(([key, value]) => `${key} = ${value}`),
    )
    const differing = deviations(settings).map(({ node, item, kind }) => ({
      node,
      why: `the lease settings of ${node} ${kind === 'extra' ? 'alone have' : 'lack'}: ${item}`,
      fix: `make /etc/libvirt/qemu-sanlock.conf or qemu-lockd.conf the same, and restart libvirtd on ${node}`,
    }))
    return [...managers, ...hosts, ...differing]
  },
}

/** havirt's looks and commands of one operator share a master; migrations come beside them. */
const SESSIONS = 10

const sshd: Check = {
  id: 'sshd',
  title: "sshd's MaxSessions and MaxStartups",
  run: ({ surveys, cluster }) => {
    const needed = Math.max(SESSIONS, cluster.config.migrate.togetherPerNode + 8)
    const startups = Math.max(SESSIONS, surveys.size)
    return [...surveys].flatMap(([node, { maxSessions, maxStartups }]) => [
      ...(maxSessions !== undefined && maxSessions < needed
        ? [
            {
              node,
              why: `sshd on ${node} allows ${maxSessions} sessions a connection, and havirt may need ${needed}`,
              fix: `MaxSessions ${needed} in /etc/ssh/sshd_config of ${node}, then: ssh ${node} systemctl reload ssh`,
            },
          ]
        : []),
      ...(maxStartups !== undefined && Number.parseInt(maxStartups, 10) < startups
        ? [
            {
              node,
              why: `sshd on ${node} drops connections from ${Number.parseInt(maxStartups, 10)} at once on, and ${startups} may come`,
              fix: `MaxStartups ${startups}:30:100 in /etc/ssh/sshd_config of ${node}, then: ssh ${node} systemctl reload ssh`,
            },
          ]
        : []),
    ])
  },
}

const ports: Check = {
  id: 'ports',
  title: 'free ports for migrations',
  run: ({ surveys, cluster }) =>
    [...surveys].flatMap(([node, { migrationPorts }]) => {
      const { from, to, taken } = migrationPorts
      const free = Math.max(0, to - from + 1 - taken)
      const needed = cluster.config.migrate.togetherPerNode
      if (free >= needed) return []
      return [
        {
          node,
          why: `${node} has ${free} free ports for migrations (${from} to ${to}), and ${needed} may come at once`,
          fix: `widen migration_port_min and migration_port_max in /etc/libvirt/qemu.conf of ${node}, and restart libvirtd`,
        },
      ]
    }),
}

/** In the order of the table. */
export const nodeChecks: readonly Check[] = [
  answering,
  provided('networks', 'the same networks', 'network', 'net', ({ networks }) => networks),
  bridges,
  iscsiSessions,
  iscsiDisks,
  keys,
  logins,
  sshConfig,
  same(
    'libvirt',
    'the same libvirt',
    'libvirt',
    ({ libvirtVersion }) => libvirtVersion,
    (node, usual) => `bring ${node} to ${usual}`,
  ),
  same(
    'qemu',
    'the same QEMU',
    '',
    ({ hypervisorVersion }) => hypervisorVersion,
    (node, usual) => `bring ${node} to ${usual}`,
  ),
  same(
    'kvm',
    'KVM',
    '',
    ({ kvm }) => (kvm ? 'KVM' : 'no KVM'),
    node => `load it: ssh ${node} modprobe kvm_intel, or kvm_amd; see that it is on in the BIOS`,
  ),
  machineTypes,
  cpu,
  clocks,
  provided('pools', 'the same storage pools', 'storage pool', 'pool', ({ pools }) => pools),
  mounts,
  folders,
  home,
  guests,
  locks,
  sshd,
  ports,
]
