/**
 * What the agent says of itself, made from the table of parameters. Version 1.0 keeps to ra-api-1.dtd, which ocf-tester checks; 1.1
 * says more (ra-api.rng of the OCF resource agent API 1.1): which parameters a running domain takes over without a restart.
 */
import { escapeText } from '../xml.ts'
import { parameterRows } from './parameters.ts'

export type ApiVersion = '1.0' | '1.1'

/** Advised timeouts and intervals in seconds, as ocf:heartbeat:VirtualDomain has them. */
const ACTIONS: readonly { name: string; timeout: number; interval?: number; only?: ApiVersion }[] = [
  { name: 'start', timeout: 90 },
  { name: 'stop', timeout: 90 },
  { name: 'status', timeout: 30, interval: 10 },
  { name: 'monitor', timeout: 30, interval: 10 },
  { name: 'migrate_from', timeout: 60 },
  { name: 'migrate_to', timeout: 120 },
  { name: 'reload-agent', timeout: 20, only: '1.1' },
  { name: 'meta-data', timeout: 5 },
  { name: 'validate-all', timeout: 5 },
]

const SHORT = 'Manages libvirt domains; knows what runs, and lets nothing run twice'
const LONG = `Runs a libvirt domain (a virtual machine or container) as a cluster resource: starts it from a definition file, shuts it down, looks after it, and moves it to another node while it runs.

It takes every parameter of ocf:heartbeat:VirtualDomain and may take its place in a resource. It reads from libvirt's own protocol, acts by virsh, answers before its operation times out, and never calls a domain stopped that it could not look for.

For live migration set the meta attribute allow-migrate to true.`

/** The document, with a line end at its end. */
export function metaData(version: ApiVersion, program: string): string {
  const actions = ACTIONS.filter(({ only = version }) => only === version)
  return `<?xml version="1.0"?>
${version === '1.0' ? '<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">\n' : ''}<resource-agent name="VirtualDomain" version="${escapeText(program)}">
<version>${version}</version>
<longdesc lang="en">
${escapeText(LONG)}
</longdesc>
<shortdesc lang="en">${escapeText(SHORT)}</shortdesc>
<parameters>
${parameterRows.map(([name, row]) => parameterText(name, row, version)).join('\n')}
</parameters>
<actions>
${actions.map(actionText).join('\n')}
</actions>
</resource-agent>
`
}

type Row = (typeof parameterRows)[number][1]

function parameterText(name: string, row: Row, version: ApiVersion): string {
  const marks = [
    ...(row.unique ? [` unique="1"${version === '1.1' ? ` unique-group="${name}"` : ''}`] : []),
    ...(row.required ? [' required="1"'] : []),
    ...(row.reloadable && version === '1.1' ? [' reloadable="1"'] : []),
  ]
  const standard = row.default === undefined ? '' : ` default="${row.default}"`
  return `<parameter name="${name}"${marks.join('')}>
<longdesc lang="en">
${escapeText(row.long)}
</longdesc>
<shortdesc lang="en">${escapeText(row.short)}</shortdesc>
<content type="${row.type}"${standard}/>
</parameter>`
}

function actionText({ name, timeout, interval }: (typeof ACTIONS)[number]): string {
  const depth = interval === undefined ? '' : ` depth="0" interval="${interval}s"`
  return `<action name="${name}" timeout="${timeout}s"${depth}/>`
}
