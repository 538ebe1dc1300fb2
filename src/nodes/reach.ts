/** Two ways to reach a node: this machine directly, any other through ssh. Above this, nobody needs to know which. */

import { join } from 'node:path'
import { type Access, type Dialer, SYSTEM_SOCKET_FOLDER, socketNames, unixSocket } from '../libvirt/index.ts'
import { type Exit, type RunOptions, run } from './process.ts'
import type { Ssh } from './ssh.ts'

/** How one node is reached. */
export interface Reach {
  /** The libvirt URI on the node itself, `qemu:///system`. */
  readonly uri: string
  /** Dialers for libvirt's socket, best first. */
  dialers(access: Access): Dialer[]
  /** Runs one line in the node's shell. */
  run(line: string, options: RunOptions): Promise<Exit>
}

/** This machine. */
export function localReach(uri: string, socketFolder = SYSTEM_SOCKET_FOLDER): Reach {
  return {
    uri,
    dialers: access => socketNames(uri, access).map(name => unixSocket(join(socketFolder, name))),
    // Node.js gives a child a socket for its input, which nobody can open as /dev/stdin; behind cat it is a pipe.
    run: (line, options) => run('sh', ['-c', options.stdin ? `cat | ${line}` : line], options),
  }
}

/** Another node: forwarded sockets of its master, or a pipe through virt-ssh-helper where sshd forbids forwarding. */
export function sshReach(ssh: Ssh, node: string, uri: string): Reach {
  return {
    uri,
    dialers: access => {
      const forwarded = ssh.sockets(node, access).map(path => unixSocket(path))
      const [first, ...others] = forwarded
      return first === undefined ? [] : [ensuring(ssh, node, first), ...others, helper(ssh, node, uri, access)]
    },
    run: (line, options) => ssh.run(node, line, options),
  }
}

/** Dials, and starts a master only when nobody listens: with a warm master no process is started at all. */
function ensuring(ssh: Ssh, node: string, dial: Dialer): Dialer {
  return async signal => {
    try {
      const stream = await dial(signal)
      ssh.lives(node)
      return stream
    } catch {
      await ssh.ensureMaster(node)
      return dial(signal)
    }
  }
}

/** libvirt's own helper finds the socket on its side, and says in words why it cannot. */
function helper(ssh: Ssh, node: string, uri: string, access: Access): Dialer {
  const flag = access === 'readOnly' ? '-r ' : ''
  return () => ssh.pipe(node, `virt-ssh-helper ${flag}${uri}`)
}
