/** Checks of each machine: whether it answers, what it runs and can run, and how libvirt is set up there. */
import { silentNodes, upNodes } from '../cluster.ts'
import { isConfirmedDown } from '../node.ts'
import { type Check, minority } from './facts.ts'
import { same } from './same.ts'

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

export const hostChecks: readonly Check[] = [
  answering,
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
  guests,
  ports,
]
