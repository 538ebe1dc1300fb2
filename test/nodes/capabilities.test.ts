/** The few facts of libvirt's capabilities. */
import { describe, expect, test } from 'vitest'
import { XmlError } from '../../src/core/xml.ts'
import { parseCapabilities } from '../../src/nodes/capabilities.ts'

const CAPABILITIES = `<capabilities>

  <host>
    <uuid>4C4C4544-0042-3510-8054-B2C04F4D3632</uuid>
    <cpu>
      <arch>x86_64</arch>
      <model>Skylake-Client-IBRS</model>
      <vendor>Intel</vendor>
      <microcode version='240'/>
      <signature family='6' model='94' stepping='3'/>
      <counter name='tsc' frequency='3408000000' scaling='no'/>
      <topology sockets='1' dies='1' cores='4' threads='2'/>
      <maxphysaddr mode='emulate' bits='39'/>
      <feature name='ds'/>
      <feature name='vmx'/>
      <pages unit='KiB' size='4'/>
      <pages unit='KiB' size='2048'/>
    </cpu>
    <topology><cells num='1'><cell id='0'><cpus num='1'><cpu id='0'/></cpus></cell></cells></topology>
  </host>

  <guest><os_type>hvm</os_type><arch name='i686'/></guest>

</capabilities>
`

describe('a host', () => {
  test('is its uuid, its architecture, its CPU model and its CPU', () => {
    const { cpu, ...facts } = parseCapabilities(CAPABILITIES)
    expect(facts).toEqual({
      hostUuid: '4c4c4544-0042-3510-8054-b2c04f4d3632',
      arch: 'x86_64',
      cpuModel: 'Skylake-Client-IBRS',
    })
    expect(cpu.replace(/\s+/g, '')).toBe(
      "<cpu><arch>x86_64</arch><model>Skylake-Client-IBRS</model><vendor>Intel</vendor><maxphysaddrmode='emulate'bits='39'/><featurename='ds'/><featurename='vmx'/></cpu>",
    )
  })

  test('has the same CPU after a reboot, an update of microcode and with another TSC frequency', () => {
    const rebooted = CAPABILITIES.replace("version='240'", "version='241'").replace('3408000000', '3407999999')
    expect(parseCapabilities(rebooted).cpu).toBe(parseCapabilities(CAPABILITIES).cpu)
  })

  test('has another CPU when a feature is gone', () => {
    const other = CAPABILITIES.replace("      <feature name='vmx'/>\n", '')
    expect(parseCapabilities(other).cpu).not.toBe(parseCapabilities(CAPABILITIES).cpu)
  })

  test('without a CPU model or a CPU, as on ARM or the test driver, has empty ones', () => {
    const bare = '<capabilities><host><uuid>a</uuid><cpu><arch>aarch64</arch></cpu></host></capabilities>'
    expect(parseCapabilities(bare)).toMatchObject({ arch: 'aarch64', cpuModel: '' })
    expect(parseCapabilities('<capabilities/>')).toEqual({ hostUuid: '', arch: '', cpuModel: '', cpu: '' })
  })
})

test.each(['', 'no xml', CAPABILITIES.slice(0, 300), '<!DOCTYPE x [<!ENTITY a "b">]><capabilities/>'])(
  'what is no document is refused: %#',
  text => {
    expect(() => parseCapabilities(text)).toThrow(XmlError)
  },
)
