/** Ways to reach a libvirt daemon. All that the protocol needs is a duplex stream; where it comes from is decided here or by the caller. */
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { ConnectionError } from './error.ts'

/** Opens one stream to a daemon. Rejects with {@link ConnectionError} when there is none. */
export type Dialer = (signal: AbortSignal) => Promise<Duplex>

/** Dials a unix socket: a daemon's own, or one that ssh forwards. */
export function unixSocket(path: string): Dialer {
  return signal =>
    new Promise((resolve, reject) => {
      const socket = connect({ path })
      const give = (error: Error) => {
        socket.destroy()
        reject(new ConnectionError('refused', `cannot connect to ${path}: ${error.message}`, { cause: error }))
      }
      const aborted = () => give(new Error('the deadline passed'))
      socket.once('error', give)
      socket.once('connect', () => {
        socket.off('error', give)
        signal.removeEventListener('abort', aborted)
        resolve(socket)
      })
      if (signal.aborted) aborted()
      else signal.addEventListener('abort', aborted, { once: true })
    })
}

/** Which of a daemon's two sockets: the read-only one serves lists, states, statistics, XML without secrets, and events. */
export type Access = 'readOnly' | 'readWrite'

/**
 * File names of the sockets that may serve a driver URI, best first: libvirt's own client also takes the modular
 * daemon's (virtqemud) where it exists and libvirtd's otherwise (libvirt: src/remote/remote_sockets.c).
 */
export function socketNames(uri: string, access: Access): string[] {
  const driver = /^([a-z]+)(?:\+[a-z]+)?:/.exec(uri)?.[1] ?? 'qemu'
  const suffix = access === 'readOnly' ? '-ro' : ''
  return [`virt${driver}d-sock${suffix}`, `libvirt-sock${suffix}`]
}

/** The folder of a system daemon's sockets. */
export const SYSTEM_SOCKET_FOLDER = '/run/libvirt'
