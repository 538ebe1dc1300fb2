/** Definitions by their text, read once: every seed has the same few. */
import type { Domain } from '../core/domain.ts'
import { parseDomain } from '../core/domain-xml.ts'
import { type DefinitionText, sha256 } from '../store/definitions.ts'

const domains = new Map<string, Domain>()
const texts = new Map<string, DefinitionText>()

/** What a definition says. */
export function definitionOf(xml: string): Domain {
  const known = domains.get(xml)
  if (known !== undefined) return known
  const domain = parseDomain(xml)
  domains.set(xml, domain)
  return domain
}

/** A file of conf/ with this text. */
export function definitionText(name: string, path: string, xml: string): DefinitionText {
  const key = `${path}\n${xml}`
  const known = texts.get(key)
  if (known !== undefined) return known
  const text = { name, path, sha256: sha256(xml), text: xml, domain: definitionOf(xml) }
  texts.set(key, text)
  return text
}

/** How a disk of the simulated cluster is spelled. */
export type DiskSpec = { readonly file: string } | { readonly block: string } | { readonly rbd: string }

/** A definition with one disk. */
export function definitionXml(name: string, uuid: string, disk: DiskSpec, memoryMiB = 1024): string {
  return `<domain type='kvm'>
  <name>${name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>${memoryMiB}</memory>
  <vcpu>1</vcpu>
  <devices>
    ${diskXml(disk)}
  </devices>
</domain>
`
}

function diskXml(disk: DiskSpec): string {
  const target = "<target dev='vda'/></disk>"
  if ('file' in disk) return `<disk type='file' device='disk'><source file='${disk.file}'/>${target}`
  if ('block' in disk) return `<disk type='block' device='disk'><source dev='${disk.block}'/>${target}`
  return `<disk type='network' device='disk'><source protocol='rbd' name='${disk.rbd}'/>${target}`
}
