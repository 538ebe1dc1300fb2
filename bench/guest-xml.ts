/** A domain as a real host describes it: two disks, a network card, a console, a display; about 3 KB when it runs. */
export function guestXml(type: 'kvm' | 'test', name: string, id: number): string {
  return `<domain type='${type}'${type === 'test' ? '' : ` id='${id}'`}>
  <name>${name}</name>
  <uuid>${guestUuid(id)}</uuid>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='${type === 'test' ? 'i686' : 'x86_64'}'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source dev='/dev/disk/by-id/scsi-360014050000000000000000000${String(id).padStart(6, '0')}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/${name}-data.qcow2'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <controller type='usb' index='0'/>
    <interface type='bridge'>
      <mac address='52:54:00:${[id >> 16, id >> 8, id].map(byte => (byte & 255).toString(16).padStart(2, '0')).join(':')}'/>
      <source bridge='br0'/>
      <model type='virtio'/>
    </interface>
    <console type='pty'/>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <video><model type='cirrus'/></video>
    <memballoon model='virtio'/>
  </devices>
</domain>
`
}

export function guestUuid(id: number): string {
  return `00000000-0000-4000-8000-${String(id).padStart(12, '0')}`
}
