/** Everything that can go wrong on a libvirt connection, as three errors that never blur into one another. */

/** The codes of virErrorNumber (libvirt's include/libvirt/virterror.h) that havirt tells apart. */
export const errorCode = {
  internalError: 1,
  noSupport: 3,
  invalidArg: 8,
  operationFailed: 9,
  operationDenied: 29,
  systemError: 38,
  rpc: 39,
  noDomain: 42,
  noNetwork: 43,
  authFailed: 45,
  noStoragePool: 49,
  noStorageVol: 50,
  operationInvalid: 55,
  configUnsupported: 67,
  operationTimeout: 68,
  operationAborted: 78,
  noDomainMetadata: 80,
  migrateUnsafe: 81,
  agentUnresponsive: 86,
  resourceBusy: 87,
  accessDenied: 88,
  xmlInvalidSchema: 92,
} as const

/** A domain as libvirt names one on the wire. `id` is -1 when it is not active; `uuid` is lower case with dashes. */
export interface WireDomain {
  readonly name: string
  readonly uuid: string
  readonly id: number
}

/** Every field of virNetMessageError: nothing that libvirt said is lost. */
export interface LibvirtErrorFields {
  /** virErrorNumber, see {@link errorCode}. */
  readonly code: number
  /** virErrorDomain: which part of libvirt speaks. */
  readonly domain: number
  readonly message: string | undefined
  readonly level: number
  readonly dom: WireDomain | undefined
  readonly str1: string | undefined
  readonly str2: string | undefined
  readonly str3: string | undefined
  readonly int1: number
  readonly int2: number
}

/** libvirt answered a call with an error. The call is over, and the connection is as good as before. */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError'
  readonly fields: LibvirtErrorFields
  /** The procedure that was called, by libvirt's name. */
  readonly procedure: string

  constructor(procedure: string, fields: LibvirtErrorFields) {
    super(fields.message ?? `libvirt error ${fields.code}`)
    this.fields = fields
    this.procedure = procedure
  }

  get code(): number {
    return this.fields.code
  }
}

/** The peer sent bytes that are not libvirt's protocol. The connection is closed: nothing later on it can be trusted. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

/**
 * The connection ended, or a deadline passed, while a call was under way.
 * What the call did on the other side is *unknown*: observe again before believing anything.
 */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
  readonly kind: 'closed' | 'timeout' | 'refused'

  constructor(kind: ConnectionError['kind'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}
