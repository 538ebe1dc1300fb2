/** Checks of iSCSI: sessions, and disks by what they are, never by their names. */
import { type Check, deviations, type Facts, type Finding, minority, ofEach } from './facts.ts'

const iscsiSessions: Check = {
  id: 'iscsi-sessions',
  title: 'the same iSCSI sessions',
  run: facts => [
    ...deviations(ofEach(facts, ({ sessions }) => sessions.map(({ target, portal }) => `${target} at ${portal}`))).map(
      ({ node, item, kind }) => ({
        node,
        why: kind === 'extra' ? `only ${node} is logged in to ${item}` : `${node} is not logged in to ${item}`,
        fix: kind === 'extra' ? `log the others in: havirt node iscsiscan` : `havirt node iscsiscan ${node}`,
      }),
    ),
    ...[...facts.surveys].flatMap(([node, { sessions }]) =>
      sessions
        .filter(({ state }) => state !== 'LOGGED_IN')
        .map(({ target, portal, state }) => ({
          node,
          why: `the iSCSI session of ${node} to ${target} at ${portal} is ${state}`,
          fix: `look at the way to ${portal}: ssh ${node} iscsiadm -m session -P 1`,
        })),
    ),
  ],
}

const iscsiDisks: Check = {
  id: 'iscsi-disks',
  title: 'the same iSCSI disks by WWID',
  run: facts => [
    ...deviations(ofEach(facts, ({ disks }) => disks.flatMap(({ wwid }) => (wwid === '' ? [] : [wwid])))).map(
      ({ node, item, kind }) => ({
        node,
        why: kind === 'extra' ? `only ${node} sees the disk ${item}` : `${node} does not see the disk ${item}`,
        fix: kind === 'extra' ? 'havirt node iscsiscan looks for it on the others' : `havirt node iscsiscan ${node}`,
      }),
    ),
    ...[...facts.surveys].flatMap(([node, { disks }]) =>
      disks
        .filter(({ wwid }) => wwid === '')
        .map(({ target, lun, device }) => ({
          node,
          why: `LUN ${lun} of ${target} (${device} on ${node}) has no WWID, so nobody can tell whether two nodes see one disk`,
          fix: 'give the LUN a serial number or an identifier on the target',
        })),
    ),
    ...sizes(facts),
  ],
}

function sizes(facts: Facts): Finding[] {
  const wwids = new Set(
    [...facts.surveys.values()].flatMap(({ disks }) => disks.map(({ wwid }) => wwid)).filter(Boolean),
  )
  return [...wwids].flatMap(wwid => {
    const values = [...facts.surveys].flatMap(([node, { disks }]) => {
      const disk = disks.find(each => each.wwid === wwid)
      return disk === undefined ? [] : [[node, String(disk.bytes)] as const]
    })
    return minority(new Map(values)).map(({ node, value, usual }) => ({
      node,
      why: `the disk ${wwid} has ${value} bytes on ${node}, and ${usual} elsewhere`,
      fix: `let ${node} read its size again: havirt node iscsiscan ${node}`,
    }))
  })
}

export const iscsiChecks: readonly Check[] = [iscsiSessions, iscsiDisks]
