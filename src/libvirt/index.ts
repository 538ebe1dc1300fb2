/** A client for libvirt's RPC protocol. It knows libvirt and nothing of clusters. */
export { Connection, type ConnectOptions, type LifecycleEvent, openConnection } from './connection.ts'
export { ConnectionError, errorCode, LibvirtError, ProtocolError, type WireDomain } from './error.ts'
export {
  DOMAIN_STATES,
  domainStats,
  JOB_TYPES,
  listDomains,
  type Procedure,
  procedures,
  xmlFlags,
} from './procedures.ts'
export { type Access, type Dialer, SYSTEM_SOCKET_FOLDER, socketNames, unixSocket } from './transport.ts'
export type { TypedParams, TypedValue } from './xdr.ts'
