/**
 * Looks at one libvirtd of its own accord, then prints its peak memory in MB; or, with a parent that sends messages, looks at
 * each message over one connection and answers with the milliseconds. Arguments: folder of the sockets, number of domains.
 */
import { localReach } from '../../src/nodes/reach.ts'
import { Session } from '../../src/nodes/session.ts'

const TIMEOUT_MS = 60_000
const KIB_PER_MB = 1000 ** 2 / 1024

const [folder = '', domains = ''] = process.argv.slice(2)
const session = new Session(localReach('test:///default', folder), { name: 'bench', hostUuid: '' }, TIMEOUT_MS)

async function look(): Promise<number> {
  const began = performance.now()
  const seen = await session.look()
  if (seen.state !== 'up') throw new Error(`${seen.state}: ${seen.reason}`)
  const described = seen.domains.filter(({ definition }) => definition !== undefined)
  if (described.length !== Number(domains)) throw new Error(`${described.length} domains seen, expected ${domains}`)
  return performance.now() - began
}

if (process.send === undefined) {
  await look()
  process.stdout.write(String(process.resourceUsage().maxRSS / KIB_PER_MB))
  process.exit(0)
}
process.on('message', async () => process.send?.(await look()))
process.on('disconnect', () => process.exit())
process.send('ready')
