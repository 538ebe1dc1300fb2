/** Checks of ssh between the nodes. */
import { type Check, deviations, ofEach } from './facts.ts'

const keys: Check = {
  id: 'ssh-keys',
  title: "every node has the others' ssh keys",
  run: ({ surveys }) =>
    [...surveys].flatMap(([node, { ownKeys }]) => {
      if (ownKeys.length === 0)
        return [
          {
            node,
            why: `root on ${node} has no ssh key`,
            fix: `ssh ${node} "ssh-keygen -t ed25519 -N '' -f ~/.ssh/id_ed25519"`,
          },
        ]
      return [...surveys]
        .filter(([other, { authorizedKeys }]) => other !== node && !ownKeys.some(key => authorizedKeys.includes(key)))
        .map(([other]) => ({
          node: other,
          why: `${other} does not let root of ${node} log in: its key is not in authorized_keys`,
          fix: `ssh ${node} 'cat ~/.ssh/*.pub' | ssh ${other} 'cat >> ~/.ssh/authorized_keys'`,
        }))
    }),
}

const logins: Check = {
  id: 'logins',
  title: 'every node can log in to the others',
  run: ({ logins: tried, cluster }) =>
    tried.flatMap(({ from, to, id, said }) => {
      if (id === undefined)
        return [
          {
            node: from,
            why: `root on ${from} cannot log in to ${to}: ${said === '' ? 'no answer' : said}`,
            fix: `try by hand: ssh ${from} ssh ${to} true`,
          },
        ]
      const expected = cluster.nodes.get(to)?.record.id
      if (id === expected) return []
      return [
        {
          node: from,
          why: `on ${from} the name ${to} leads to another machine`,
          fix: `mend /etc/hosts, DNS or ~/.ssh/config on ${from}`,
        },
      ]
    }),
}

const sshConfig: Check = {
  id: 'ssh-config',
  title: 'the same ssh configuration',
  run: facts =>
    deviations(ofEach(facts, survey => survey.sshConfig)).map(({ node, item, kind }) => ({
      node,
      why: `~/.ssh/config of ${node} ${kind === 'extra' ? 'alone has' : 'lacks'}: ${item}`,
      fix: `compare: ssh ${node} cat ~/.ssh/config`,
    })),
}

/** havirt's looks and commands of one operator share a master; migrations come beside them. */
const SESSIONS = 10

const sshd: Check = {
  id: 'sshd',
  title: "sshd's MaxSessions and MaxStartups",
  run: ({ surveys, cluster }) => {
    const needed = Math.max(SESSIONS, cluster.config.migrate.togetherPerNode + 8)
    const startups = Math.max(SESSIONS, surveys.size)
    return [...surveys].flatMap(([node, { maxSessions, maxStartups }]) => [
      ...(maxSessions !== undefined && maxSessions < needed
        ? [
            {
              node,
              why: `sshd on ${node} allows ${maxSessions} sessions a connection, and havirt may need ${needed}`,
              fix: `MaxSessions ${needed} in /etc/ssh/sshd_config of ${node}, then: ssh ${node} systemctl reload ssh`,
            },
          ]
        : []),
      ...(maxStartups !== undefined && Number.parseInt(maxStartups, 10) < startups
        ? [
            {
              node,
              why: `sshd on ${node} drops connections from ${Number.parseInt(maxStartups, 10)} at once on, and ${startups} may come`,
              fix: `MaxStartups ${startups}:30:100 in /etc/ssh/sshd_config of ${node}, then: ssh ${node} systemctl reload ssh`,
            },
          ]
        : []),
    ])
  },
}

export const sshChecks: readonly Check[] = [keys, logins, sshConfig, sshd]
