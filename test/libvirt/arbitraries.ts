/** Values that go over the wire, made up: for each procedure its arguments and its answer. A new procedure needs a row here. */
import fc, { type Arbitrary } from 'fast-check'
import type { TypedParam } from '../../src/libvirt/xdr.ts'
import type { ArgsOf, ProcedureName, ResultOf } from './world.ts'

export const anInt = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
export const aUint = fc.integer({ min: 0, max: 2 ** 32 - 1 })
export const aSize = fc.maxSafeNat()
export const aWide = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
export const someText = fc.string({ unit: 'grapheme', maxLength: 40 })
export const aUuid = fc.uuid()
const maybeText = fc.option(someText, { nil: undefined })
const nothing = fc.constant(undefined)
const aFlag = fc.boolean()

export const aDomain = fc.record({ name: someText, uuid: aUuid, id: anInt })
const maybeDomain = fc.option(aDomain, { nil: undefined })
const named = fc.record({ name: someText, uuid: aUuid })
const anInterface = fc.record({ name: someText, mac: someText })
const withFlags = fc.record({ domain: aDomain, flags: aUint })
const oneDomain = fc.record({ domain: aDomain })
const xml = fc.record({ xml: someText })
const xmlAndFlags = fc.record({ xml: someText, flags: aUint })
const listFlags = fc.record({ needResults: anInt, flags: aUint })
const version = fc.record({ version: aSize })

export const aTypedParam: Arbitrary<TypedParam> = fc.oneof(
  fc.record({ field: someText, type: fc.constant('int' as const), value: anInt }),
  fc.record({ field: someText, type: fc.constant('uint' as const), value: aUint }),
  fc.record({ field: someText, type: fc.constant('llong' as const), value: narrowed(-(2n ** 63n), 2n ** 63n - 1n) }),
  fc.record({ field: someText, type: fc.constant('ullong' as const), value: narrowed(0n, 2n ** 64n - 1n) }),
  fc.record({ field: someText, type: fc.constant('double' as const), value: fc.double() }),
  fc.record({ field: someText, type: fc.constant('boolean' as const), value: fc.boolean() }),
  fc.record({ field: someText, type: fc.constant('string' as const), value: someText }),
)

/** 64-bit values as the client gives them: a number where one holds it. */
function narrowed(min: bigint, max: bigint): Arbitrary<number | bigint> {
  return fc.bigInt({ min, max }).map(value => (Number.isSafeInteger(Number(value)) ? Number(value) : value))
}

/** No field twice, since the client reads an object. */
export const someTypedParams = fc.uniqueArray(aTypedParam, { selector: param => param.field, maxLength: 8 })

export const anError = fc.record({
  code: anInt,
  domain: anInt,
  message: maybeText,
  level: anInt,
  dom: maybeDomain,
  str1: maybeText,
  str2: maybeText,
  str3: maybeText,
  int1: anInt,
  int2: anInt,
  net: fc.option(named, { nil: undefined }),
})

export const aLifecycle = fc.record({ callbackID: anInt, domain: aDomain, event: anInt, detail: anInt })

function counted<K extends string, T>(key: K, item: Arbitrary<T>) {
  const record = { [key]: fc.array(item), ret: aUint } as unknown as { [P in K]: Arbitrary<T[]> } & {
    ret: Arbitrary<number>
  }
  return fc.record(record) as unknown as Arbitrary<{ [P in K]: T[] } & { ret: number }>
}

type Values = { [K in ProcedureName]: { args: Arbitrary<ArgsOf<K>>; result: Arbitrary<ResultOf<K>> } }

export const procedureValues: Values = {
  connectOpen: { args: fc.record({ name: maybeText, flags: aUint }), result: nothing },
  connectClose: { args: nothing, result: nothing },
  connectGetVersion: { args: nothing, result: version },
  connectGetLibVersion: { args: nothing, result: version },
  connectGetHostname: { args: nothing, result: fc.record({ hostname: someText }) },
  connectSupportsFeature: { args: fc.record({ feature: anInt }), result: fc.record({ supported: anInt }) },
  authList: { args: nothing, result: fc.record({ types: fc.array(anInt, { maxLength: 20 }) }) },
  authPolkit: { args: nothing, result: fc.record({ complete: anInt }) },
  connectGetCapabilities: { args: nothing, result: xml },
  connectCompareHypervisorCPU: {
    args: fc.record({
      emulator: maybeText,
      arch: maybeText,
      machine: maybeText,
      virttype: maybeText,
      xmlCPU: someText,
      flags: aUint,
    }),
    result: fc.record({ result: anInt }),
  },
  nodeGetInfo: {
    args: nothing,
    result: fc.record({
      model: fc.string({ maxLength: 31 }),
      memoryKiB: aSize,
      cpus: anInt,
      mhz: anInt,
      nodes: anInt,
      sockets: anInt,
      cores: anInt,
      threads: anInt,
    }),
  },
  nodeGetFreeMemory: { args: nothing, result: fc.record({ freeBytes: aSize }) },
  nodeGetMemoryStats: {
    args: fc.record({ nparams: anInt, cellNum: anInt, flags: aUint }),
    result: fc.record({
      stats: fc.array(fc.record({ field: someText, value: aSize }), { maxLength: 16 }),
      nparams: anInt,
    }),
  },
  connectListAllDomains: { args: listFlags, result: counted('domains', aDomain) },
  connectListAllNetworks: { args: listFlags, result: counted('networks', named) },
  connectListAllStoragePools: { args: listFlags, result: counted('pools', named) },
  connectListAllInterfaces: { args: listFlags, result: counted('interfaces', anInterface) },
  connectGetAllDomainStats: {
    args: fc.record({ domains: fc.array(aDomain), stats: aUint, flags: aUint }),
    result: fc.record({ records: fc.array(fc.record({ domain: aDomain, params: someTypedParams })) }),
  },
  domainLookupByName: { args: fc.record({ name: someText }), result: oneDomain },
  domainLookupByUUID: { args: fc.record({ uuid: aUuid }), result: oneDomain },
  domainGetXMLDesc: { args: withFlags, result: xml },
  domainGetState: { args: withFlags, result: fc.record({ state: anInt, reason: anInt }) },
  domainGetInfo: {
    args: oneDomain,
    result: fc.record({ state: anInt, maxMemoryKiB: aSize, memoryKiB: aSize, vcpus: anInt, cpuTimeNs: aWide }),
  },
  domainGetAutostart: { args: oneDomain, result: fc.record({ autostart: aFlag }) },
  domainHasManagedSaveImage: { args: withFlags, result: fc.record({ result: anInt }) },
  domainGetJobStats: { args: withFlags, result: fc.record({ type: anInt, params: someTypedParams }) },
  domainAbortJob: { args: oneDomain, result: nothing },
  domainCreateXML: { args: xmlAndFlags, result: oneDomain },
  domainCreateWithFlags: { args: withFlags, result: oneDomain },
  domainDefineXMLFlags: { args: xmlAndFlags, result: oneDomain },
  domainUndefineFlags: { args: withFlags, result: nothing },
  domainShutdownFlags: { args: withFlags, result: nothing },
  domainDestroyFlags: { args: withFlags, result: nothing },
  domainSuspend: { args: oneDomain, result: nothing },
  domainResume: { args: oneDomain, result: nothing },
  storagePoolGetXMLDesc: { args: fc.record({ pool: named, flags: aUint }), result: xml },
  networkGetXMLDesc: { args: fc.record({ network: named, flags: aUint }), result: xml },
  connectDomainEventCallbackRegisterAny: {
    args: fc.record({ eventID: anInt, domain: maybeDomain }),
    result: fc.record({ callbackID: anInt }),
  },
  connectDomainEventCallbackDeregisterAny: { args: fc.record({ callbackID: anInt }), result: nothing },
  connectRegisterCloseCallback: { args: nothing, result: nothing },
}
