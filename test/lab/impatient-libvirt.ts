/** A libvirtd that finds out soon that the other end of a migration is gone. */
import { onTestFinished } from 'vitest'
import { fault, shell, sure } from './lab.ts'

/** libvirt takes 25 s to find out that a target is gone. Nothing here depends on how long that is. */
export async function impatientLibvirt(node: string): Promise<void> {
  const file = '/etc/libvirt/qemu.conf'
  await sure(
    shell(node, `cp ${file} /run/qemu.conf; printf 'keepalive_interval = 1\\nkeepalive_count = 2\\n' >>${file}`),
  )
  await restart(node)
  onTestFinished(async () => {
    await sure(shell(node, `cp /run/qemu.conf ${file}`))
    await restart(node)
  })
}

async function restart(node: string): Promise<void> {
  await fault('libvirtd', node, 'stop')
  await fault('libvirtd', node, 'start')
}
