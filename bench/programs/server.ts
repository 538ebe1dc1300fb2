/** Plays many libvirt daemons, at the places where warm masters would have their sockets. Arguments: folder, number of nodes. */
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { parseConfig } from '../../src/core/config-check.ts'
import { Ssh } from '../../src/nodes/ssh.ts'
import { ProtocolServer } from '../../test/libvirt/server.ts'
import { guestUuid, guestXml } from '../guest-xml.ts'

const DOMAINS = 50
const CAPABILITIES = `<capabilities><host><uuid>11111111-2222-4333-8444-555555555555</uuid><cpu><arch>x86_64</arch><model>EPYC-Rome</model><vendor>AMD</vendor></cpu></host></capabilities>`

const [folder = '', nodes = ''] = process.argv.slice(2)
const domains = Array.from({ length: DOMAINS }, (_, at) => ({
  name: `vm${at}`,
  uuid: guestUuid(at),
  xml: guestXml('kvm', `vm${at}`, at),
  state: 'running' as const,
}))
// All nodes are alike, so that one server can answer for them from bytes that it has encoded once.
const protocol = new ProtocolServer({ domains, capabilitiesXml: CAPABILITIES, recordCalls: false })
const ssh = new Ssh(folder, parseConfig('', 'config.yaml').config.ssh)
for (let at = 0; at < Number(nodes); at++) {
  // The one that is dialed first.
  const path = ssh.sockets(`n${at}`, 'readOnly')[0] ?? ''
  await mkdir(dirname(path), { recursive: true })
  await new Promise<void>(listening => createServer(stream => protocol.serve(stream)).listen(path, listening))
}
process.on('disconnect', () => process.exit())
process.send?.('ready')
