/** The libvirt client against the QEMU driver of a real node, by its own read-only socket and through ssh. */
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { afterEach, expect, test } from 'vitest'
import {
  type Connection,
  DOMAIN_STATES,
  JOB_TYPES,
  type LifecycleEvent,
  listDomains,
  openConnection,
  procedures,
  unixSocket,
  xmlFlags,
} from '../../src/libvirt/index.ts'
import {
  clean,
  define,
  dropMasters,
  exec,
  havirt,
  havirtBegins,
  nextBeat,
  pathOn,
  printed,
  processes,
  running,
  signal,
  sure,
  until,
  uuidOf,
} from './lab.ts'

const open: Connection[] = []
afterEach(async () => {
  for (const connection of open.splice(0)) await connection.close()
  await clean()
})

async function connected(node: string): Promise<Connection> {
  const socket = await pathOn(node, '/run/libvirt/libvirt-sock-ro')
  const options = { uri: 'qemu:///system', access: 'readOnly', timeoutMs: 5000 } as const
  const connection = await openConnection(unixSocket(socket), options)
  open.push(connection)
  return connection
}

/** virDomainEventType, as far as a guest of the lab goes through it. */
const EVENTS = ['defined', 'undefined', 'started', 'suspended', 'resumed', 'stopped', 'shutdown'] as const

async function listening(node: string): Promise<{ connection: Connection; heard: string[] }> {
  const connection = await connected(node)
  const heard: string[] = []
  await connection.onLifecycle(({ domain, event }: LifecycleEvent) => heard.push(`${domain.name} ${EVENTS[event]}`))
  return { connection, heard }
}

test('a running guest is listed, with its state and its XML', async () => {
  const xml = await running('web', 'node2')
  const uuid = uuidOf(xml)
  const connection = await connected('node2')
  const { domains } = await connection.call(procedures.connectListAllDomains, {
    needResults: 1,
    flags: listDomains.active,
  })
  expect(domains).toEqual([{ name: 'web', uuid, id: expect.any(Number) }])
  const { domain } = await connection.call(procedures.domainLookupByUUID, { uuid })
  const { state } = await connection.call(procedures.domainGetState, { domain, flags: 0 })
  expect(DOMAIN_STATES[state]).toBe('running')
  const { xml: live } = await connection.call(procedures.domainGetXMLDesc, { domain, flags: 0 })
  expect(live).toContain(`<uuid>${uuid}</uuid>`)
  // Secrets are not for a connection that only reads.
  await expect(connection.call(procedures.domainGetXMLDesc, { domain, flags: xmlFlags.secure })).rejects.toThrow(
    /forbidden/,
  )
  await expect(connection.call(procedures.domainSuspend, { domain })).rejects.toThrow(/read only/)
})

test('the life of a guest is heard in the order in which it happened', async () => {
  const { heard } = await listening('node2')
  await running('web', 'node2')
  await nextBeat('web')
  await sure(havirt('node1', '-y', 'domain', 'suspend', 'web'))
  await sure(havirt('node1', '-y', 'domain', 'resume', 'web'))
  await sure(havirt('node1', '-y', 'domain', 'stop', 'web'))
  await until('the end is heard', () => heard.at(-1) === 'web stopped')
  // libvirt lets the CPUs go before it calls a domain started.
  const order = ['resumed', 'started', 'suspended', 'resumed', 'shutdown', 'stopped']
  expect(heard).toEqual(order.map(event => `web ${event}`))
})

test("a migration's job and its events are seen at both ends", async () => {
  const uuid = uuidOf(await running('big', 'node1', { memoryMiB: 1024 }))
  const source = await listening('node1')
  const target = await listening('node2')
  const moving = havirtBegins('node3', '-y', 'domain', 'migrate', 'big', 'node2', '--bandwidth', '1')
  const domain = { name: 'big', uuid, id: -1 }
  const job = await until('the job counts what remains', async () => {
    const stats = await source.connection
      .call(procedures.domainGetJobStats, { domain, flags: 0 })
      .catch(() => undefined)
    return stats !== undefined && Number(stats.params['memory_processed'] ?? 0) > 0 ? stats : undefined
  })
  expect(['bounded', 'unbounded']).toContain(JOB_TYPES[job.type])
  expect(Number(job.params['memory_total'])).toBeGreaterThanOrEqual(1024 * 2 ** 20)
  expect(await moving.done).toMatchObject({ status: 0 })
  await until('the end is heard', () => source.heard.at(-1) === 'big stopped')
  // Newer QEMUs also tell of the source's shut down in between.
  expect(source.heard.filter(each => each !== 'big shutdown')).toEqual(['big suspended', 'big stopped'])
  expect(target.heard).toEqual(['big started', 'big resumed'])
})

test('where sshd forbids forwarding, havirt works through virt-ssh-helper', async () => {
  const config = await pathOn('node2', '/etc/ssh/sshd_config')
  const before = await readFile(config, 'utf8')
  const restart = async () => {
    await signal('node2', 'HUP', await processes('node2', '^sshd: .*\\[listener\\]'))
    await dropMasters('node1', 'node2')
    await until('sshd listens again', async () => (await exec('node1', ['ssh', 'node2', 'true'])).status === 0)
  }
  try {
    await appendFile(config, 'AllowStreamLocalForwarding no\nAllowTcpForwarding no\n')
    await restart()
    await define('web')
    await sure(havirt('node1', '-y', 'domain', 'start', 'web', 'node2'))
    const scan = await printed('node1', 'node', 'scan')
    expect(scan.status).toBe(0)
    expect(scan.rows).toContainEqual(expect.objectContaining({ node: 'node2', domain: 'web', state: 'running' }))
    await sure(havirt('node1', '-y', 'domain', 'migrate', 'web', 'node3'))
  } finally {
    await writeFile(config, before)
    await restart()
  }
  expect(await printed('node1', 'node', 'scan')).toMatchObject({ status: 0 })
})
