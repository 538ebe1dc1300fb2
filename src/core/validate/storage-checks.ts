/** Checks of pools, mounts and folders that should be the same ones. */
import { quote } from '../command.ts'
import { type Check, deviations, type Facts, type Finding, minority, ofEach } from './facts.ts'
import { on } from './on.ts'
import { provided } from './provided.ts'
import type { Marked } from './survey.ts'

const mounts: Check = {
  id: 'mounts',
  title: 'the same shared mounts',
  run: facts =>
    deviations(
      ofEach(facts, survey => survey.mounts.map(({ source, point, type }) => `${source} on ${point} (${type})`)),
    ).map(({ node, item, kind }) => ({
      node,
      why: kind === 'extra' ? `only ${node} mounts ${item}` : `${node} does not mount ${item}`,
      fix:
        kind === 'extra'
          ? 'mount it on all nodes that are to use it'
          : `ssh ${node} mount -a, once it stands in its /etc/fstab`,
    })),
}

const folders: Check = {
  id: 'folders',
  title: 'shared folders are one folder',
  run: facts =>
    facts.marks.flatMap(marked => [
      ...marked.missingOn.map(node => ({
        node,
        why: `${marked.folder} is not there on ${node}`,
        fix: `mount its storage there: ${on(node, 'mount', marked.folder)}`,
      })),
      ...(marked.writers.length === 0 ? unwritten(facts, marked) : otherFolders(marked)),
    ]),
}

/** Who sees other files than most sees another folder. */
function otherFolders({ folder, writers, sees }: Marked): Finding[] {
  const views = [...sees].map(
    ([node, seen]) => [node, writers.filter(writer => seen.includes(writer)).join(' ')] as const,
  )
  return minority(new Map(views)).map(({ node }) => ({
    node,
    why: `${folder} on ${node} is another folder than on most nodes: files that are written there are not seen here`,
    fix: `look what is mounted there: ${on(node, 'findmnt', '--target', folder)}`,
  }))
}

/** Where root may not write, as on many NFS exports, the same source of the mount has to be proof enough. */
function unwritten({ surveys }: Facts, { folder, sees }: Marked): Finding[] {
  const sources = [...sees.keys()].map(node => {
    const over =
      surveys.get(node)?.mounts.filter(({ point }) => folder === point || folder.startsWith(`${point}/`)) ?? []
    return over.sort((one, other) => other.point.length - one.point.length)[0]?.source
  })
  if (sources.every(source => source !== undefined && source === sources[0])) return []
  return [
    {
      why: `no node could write into ${folder}, and it is not one network mount on all: nobody knows whether it is one folder`,
      fix: `look at each by hand: findmnt --target ${quote(folder)}`,
    },
  ]
}

const home: Check = {
  id: 'home',
  title: "havirt's home is mounted",
  run: ({ surveys }) =>
    [...surveys].flatMap(([node, survey]) =>
      survey.home ? [] : [{ node, why: `havirt's home is not there on ${node}`, fix: `mount its storage on ${node}` }],
    ),
}

export const storageChecks: readonly Check[] = [
  provided('pools', 'the same storage pools', 'storage pool', 'pool', ({ pools }) => pools),
  mounts,
  folders,
  home,
]
