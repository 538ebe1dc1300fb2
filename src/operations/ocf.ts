/** Verbs of one machine: the resource agent for Pacemaker is copied to its local disk, or taken away again. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import {
  type AgentFiles,
  agentFiles,
  installAgent,
  installedAgent,
  installScript,
  removeAgent,
} from '../agent-files.ts'
import { exitStatus, failure, note, type Report } from '../report.ts'
import type { Input, Machine, MachineOperation, Option } from './operation.ts'

const ROOT: Option = { flags: '--root FOLDER', help: 'the OCF root (else $OCF_ROOT, else /usr/lib/ocf)' }

function rootOf({ options }: Pick<Input, 'options'>): string {
  return String(options['root'] ?? (process.env['OCF_ROOT'] || '/usr/lib/ocf'))
}

/** Why nothing can be installed there. */
function problemOf(machine: Machine, root: string): Report | undefined {
  if (!root.startsWith('/'))
    return usage(`--root is ${root}; expected an absolute path`, 'name the OCF root, such as /usr/lib/ocf')
  if (!existsSync(root) || !statSync(root).isDirectory())
    return usage(`the OCF root ${root} is not there`, 'install pacemaker, or name another folder with --root')
  const source = join(machine.above, 'dist', 'ocf')
  return existsSync(join(source, 'agent.cjs'))
    ? undefined
    : { exit: exitStatus.failed, messages: [failure(`the agent is not in ${source}`, 'build it: make build')] }
}

function usage(problem: string, next: string): Report {
  return { exit: exitStatus.usage, messages: [failure(problem, next)] }
}

async function install(machine: Machine, input: Input): Promise<Report> {
  const root = rootOf(input)
  const problem = problemOf(machine, root)
  if (problem !== undefined) return problem
  const files = agentFiles(machine, root)
  if (!input.mode.act) return { exit: exitStatus.done, script: installScript(files), messages: [] }
  installAgent(files)
  return { exit: exitStatus.done, messages: [note(whatIsThere(files)), note(clusterWords(files))] }
}

function whatIsThere({ agent, node, copiesNode }: AgentFiles): string {
  return `ocf:havirt:VirtualDomain is ${agent}; it runs by ${copiesNode ? 'its own copy of Node.js, ' : ''}${node}`
}

function clusterWords({ home }: AgentFiles): string {
  return home === undefined
    ? 'it belongs to no havirt cluster, and so takes no claims; run this again after: havirt node update'
    : `on nodes of the cluster in ${home} it takes the claim of a domain that it starts or migrates`
}

async function uninstall(_: Machine, input: Input): Promise<Report> {
  const root = rootOf(input)
  const removed = removeAgent(root, input.mode.act)
  if (removed.length === 0) return { exit: exitStatus.done, messages: [note(`there is no agent of havirt in ${root}`)] }
  if (!input.mode.act) return { exit: exitStatus.done, script: removed.map(path => `rm -rf ${path}`), messages: [] }
  return {
    exit: exitStatus.done,
    messages: [note(`the agent is gone from ${root}; resources that name it cannot be run on this node any more`)],
  }
}

async function status(machine: Machine, input: Input): Promise<Report> {
  const root = rootOf(input)
  const found = installedAgent(root)
  if (found === undefined)
    return {
      exit: exitStatus.failed,
      messages: [failure(`no agent of havirt is installed in ${root}`, 'install it: havirt ocf install')],
    }
  const rows = [{ agent: found.agent, version: found.version, node: found.node, home: found.home }]
  const messages = [
    ...(found.version === machine.version
      ? []
      : [
          failure(
            `the agent is of havirt ${found.version}, and this is ${machine.version}`,
            'renew it: havirt ocf install',
          ),
        ]),
    ...(existsSync(found.node)
      ? []
      : [failure(`its Node.js, ${found.node}, is not there`, 'install the agent again: havirt ocf install')]),
  ]
  return {
    exit: messages.length === 0 ? exitStatus.done : exitStatus.failed,
    table: { columns: STATUS_COLUMNS, rows },
    messages,
  }
}

const STATUS_COLUMNS = [
  { key: 'agent', title: 'AGENT', help: 'the program that Pacemaker runs' },
  { key: 'version', title: 'VERSION', help: 'the version of havirt that it came with' },
  { key: 'node', title: 'NODE.JS', help: 'the Node.js that it runs by' },
  { key: 'home', title: 'HOME', help: 'the home folder of the cluster whose claims it takes; empty: none' },
] as const

export const ocfOperations: readonly MachineOperation[] = [
  {
    name: 'ocf install',
    summary: 'put the Pacemaker agent ocf:havirt:VirtualDomain onto this machine',
    description:
      'Copies the agent to the local disk, so that it works when the share with havirt hangs: the program that Pacemaker runs to resource.d/havirt/VirtualDomain of the OCF root, what it needs to lib/havirt, and Node.js with it unless the system has one. Run it on every node, and again after an update. It writes down which havirt cluster the node belongs to; the agent takes the claims of that one. It acts at once, since it touches no domain; --dryrun shows what it does. See docs/ocf.md for the way from ocf:heartbeat:VirtualDomain.',
    args: [],
    options: [ROOT],
    changes: false,
    examples: ['havirt ocf install', 'havirt --dryrun ocf install', 'havirt ocf install --root /usr/lib/ocf'],
    here: install,
  },
  {
    name: 'ocf status',
    summary: 'show which agent is installed on this machine',
    description:
      'Shows where the agent is, its version, its Node.js, and the cluster whose claims it takes. Fails when there is none, when it is of another version than this havirt, or when its Node.js is gone.',
    args: [],
    options: [ROOT],
    changes: false,
    columns: STATUS_COLUMNS,
    examples: ['havirt ocf status'],
    here: status,
  },
  {
    name: 'ocf uninstall',
    summary: 'take the Pacemaker agent away from this machine',
    description:
      'Removes what "ocf install" made. Pacemaker can then run no resource of ocf:havirt:VirtualDomain on this node, and cannot stop one that runs: give them another provider first, as docs/ocf.md says.',
    args: [],
    options: [ROOT],
    changes: false,
    examples: ['havirt --dryrun ocf uninstall', 'havirt ocf uninstall'],
    here: uninstall,
  },
]
