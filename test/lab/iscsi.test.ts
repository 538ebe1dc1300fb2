/** `node iscsiscan` against the lab's real target, as far as the kernel here allows: it may lack iSCSI, and then iscsiadm cannot ask. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { clean, configure, exec, guest, HOME, havirt, pathOn, printed, words } from './lab.ts'

const PORTAL = '10.77.0.1:3260'

let before = ''
const configFile = () => pathOn('node1', `${HOME}/config.yaml`)
beforeEach(async () => {
  before = await readFile(await configFile(), 'utf8')
  await configure('iscsi', `portals: ['${PORTAL}']`)
  // Without a LUN a target may not be shown.
  await guest('web')
})
afterEach(async () => {
  await writeFile(await configFile(), before)
  await clean()
})

test('every node is asked what the portal offers: it is logged in to, or iscsiadm says what is missing', async () => {
  const discovery = ['iscsiadm', '-m', 'discovery', '-t', 'sendtargets', '-p', PORTAL, '-o', 'nonpersistent']
  const byHand = await exec('node2', discovery)
  const report = await printed('node1', 'node', 'iscsiscan')
  expect(report.status).toBe(byHand.status === 0 ? 0 : 4)
  if (byHand.status === 0) {
    const target = byHand.stdout.trim().split(/\s+/).at(-1)
    expect((report.script ?? []).join('\n')).toContain(
      `ssh -n node2 iscsiadm -m node -T ${target} -p ${PORTAL} --login`,
    )
  } else {
    const said = byHand.stderr.trim().split('\n').at(-1) ?? ''
    expect(said).toContain('iscsiadm')
    for (const node of ['node1', 'node2', 'node3'])
      expect(words(report)).toContain(`${node} could not ask ${PORTAL} for its targets: ${said}`)
    expect((await havirt('node1', '-y', 'node', 'iscsiscan')).status).toBe(4)
  }
})
