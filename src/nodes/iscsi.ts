/** What iSCSI is on a node, asked by one read-only script: sessions, disks, who uses them, and whether they can be read. */
import type { SeenDisk } from '../core/plan/iscsi.ts'
import type { IscsiSession } from '../core/validate/survey.ts'
import { ISCSI_LINES, iscsiDisks, iscsiSessions, SAY } from './survey.ts'

/** `sh -c` without arguments. A disk is only read. */
export const ISCSI_SCRIPT = `LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin
${SAY}
${ISCSI_LINES}
pvs --noheadings --readonly -o pv_name,vg_name 2>/dev/null | while read -r volume group; do
  say volume "$(basename "$(readlink -f "$volume")")" "$group"
done
for disk in /sys/class/iscsi_session/session*/device/target*/*/block/*; do
  [ -d "$disk" ] || continue
  name=\${disk##*/}
  for part in "$disk" "$disk/$name"*; do
    [ -r "$part/dev" ] || continue
    number=$(first "$part/dev")
    say part "$name" "\${part##*/}"
    for holder in "$part"/holders/*; do
      [ -e "$holder" ] && say used "$name" "the mapping $(first "$holder/dm/name") (\${holder##*/})"
    done
    while read -r id parent device root point rest; do
      case "$device $rest " in "$number "*|*" /dev/\${part##*/} "*) say used "$name" "it is mounted on $point" ;; esac
    done </proc/self/mountinfo
    for pool in /sys/fs/btrfs/*/devices/"\${part##*/}"; do [ -e "$pool" ] && say used "$name" 'it is part of a btrfs'; done
    case $(timeout 5 blkid -p -o value -s TYPE "/dev/\${part##*/}" 2>/dev/null) in
      zfs_member) say used "$name" 'it is part of a ZFS pool' ;;
      linux_raid_member) say used "$name" 'it is part of a RAID' ;;
      LVM2_member) say used "$name" 'it is an LVM volume' ;;
      drbd) say used "$name" 'it is a DRBD disk' ;;
    esac
    while read -r file rest; do [ "$file" = "/dev/\${part##*/}" ] && say used "$name" 'it is swap'; done </proc/swaps
  done
  timeout 5 dd if="/dev/$name" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null && say reads "$name"
done
say end`

/** Reads what the script printed; undefined when it did not come to its end. */
export function parseIscsi(text: string): { sessions: IscsiSession[]; disks: SeenDisk[] } | undefined {
  const rows = text.split('\n').map(line => line.split('\t'))
  if (!rows.some(([key]) => key === 'end')) return undefined
  const of = (key: string) => rows.filter(row => row[0] === key).map(row => row.slice(1))
  const parts = new Map(of('part').map(([disk = '', part = '']) => [part, disk]))
  const groups = of('volume').flatMap(([device = '', group = '']) =>
    parts.has(device)
      ? [[parts.get(device) ?? '', group === '' ? 'it is an LVM volume' : `the volume group ${group}`] as const]
      : [],
  )
  const uses = [...of('used').map(([disk = '', use = '']) => [disk, use] as const), ...groups]
  const readable = new Set(of('reads').map(([disk]) => disk))
  return {
    sessions: iscsiSessions(of('session')),
    disks: iscsiDisks(of('lun')).map(disk => ({
      ...disk,
      uses: uses.flatMap(([name, use]) => (name === disk.device ? [use] : [])),
      reads: readable.has(disk.device),
    })),
  }
}
