/** Reads the few facts that havirt needs from libvirt's capabilities XML. */
import { child, parseXml, textOf } from '../core/xml.ts'

export interface HostCapabilities {
  readonly hostUuid: string
  readonly arch: string
  /** The host's CPU model by libvirt's name, `Skylake-Client-IBRS`; empty where libvirt knows none. */
  readonly cpuModel: string
  /** The host's `<cpu>` element as text, without what differs from boot to boot: two equal texts are the same CPU. */
  readonly cpu: string
}

/** Throws XmlError when the text is no capabilities document. */
export function parseCapabilities(xml: string): HostCapabilities {
  const text = hostPart(xml)
  const host = parseXml(text)
  const cpu = child(host, 'cpu')
  return {
    hostUuid: (textOf(child(host, 'uuid')) ?? '').toLowerCase(),
    arch: textOf(child(cpu, 'arch')) ?? '',
    cpuModel: textOf(child(cpu, 'model')) ?? '',
    cpu: cpu === undefined ? '' : text.slice(cpu.start, cpu.end).replace(CHANGING, ''),
  }
}

/** What differs from boot to boot, or says nothing of what a guest can be given. */
const CHANGING = /<(counter|microcode|signature|topology|pages)\b[^>]*\/>\s*/g

/** Only `<host>` is read: the list of guests that follows is ten times as long, and every look would pay for it. */
function hostPart(xml: string): string {
  const end = xml.indexOf('</host>')
  return end < 0 ? xml : xml.slice(Math.max(0, xml.indexOf('<host>')), end + '</host>'.length)
}
