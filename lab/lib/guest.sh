# shellcheck shell=bash
# Guests: a boot disk each, and the XML of a domain that boots from it.

command_guest() {
  local name='' disk=iscsi memory=32 vcpus=1 remove=''
  while (($#)); do
    case $1 in
      --disk) disk=${2-}; shift ;;
      --disk=*) disk=${1#*=} ;;
      --memory) memory=${2-}; shift ;;
      --memory=*) memory=${1#*=} ;;
      --vcpus) vcpus=${2-}; shift ;;
      --vcpus=*) vcpus=${1#*=} ;;
      --remove) remove=yes ;;
      -*) refuse "guest: '$1' is not known here: expected --disk, --memory, --vcpus or --remove." ;;
      *) [[ ! $name ]] || refuse "guest: one name is enough: '$1'."; name=$1 ;;
    esac
    shift $(($# > 0))
  done
  need_guest_name guest "$name"
  [[ $disk =~ ^(iscsi|file|twin|none)$ ]] || refuse "guest: --disk expects iscsi, file, twin or none, not '$disk'."
  [[ $memory =~ ^[1-9][0-9]{0,4}$ ]] || refuse "guest: --memory expects MiB, not '$memory'."
  [[ $vcpus =~ ^[1-9][0-9]?$ ]] || refuse "guest: --vcpus expects a number, not '$vcpus'."
  need_lab
  # Two callers must not be given the same LUN.
  with_lock "$RUN/guests.lock"
  if [[ $remove ]]; then
    remove_lun "$name"
    rm -f "$VAR/images/$name.img" "$VAR"/node?/twins/"$name.img"
    say "guest $name has no disk any more"
    return
  fi
  local source=''
  case $disk in
    iscsi) make_lun "$name"; source=$(iscsi_disk "$(lun_of "$name")") ;;
    file) make_image "$VAR/images/$name.img"; source=$(file_disk "/media/images/$name.img") ;;
    twin) make_twins "$name"; source=$(file_disk "/media/twins/$name.img") ;;
  esac
  domain_xml "$name" "$memory" "$vcpus" "$source"
}

command_disk() {
  local name='' hex='' path
  while (($#)); do
    case $1 in
      --hex) hex=yes ;;
      -*) refuse "disk: '$1' is not known here: expected --hex." ;;
      *) name=$1 ;;
    esac
    shift
  done
  need_guest_name disk "$name"
  need_lab
  for path in "$VAR/luns/$name.img" "$VAR/images/$name.img"; do
    [[ -e $path ]] || continue
    if [[ $hex ]]; then hexdump -C "$path"; else cat "$path"; fi
    return
  done
  [[ ! -e $VAR/node1/twins/$name.img ]] ||
    refuse "guest '$name' has a disk on each node: $VAR/NODE/twins/$name.img."
  refuse "guest '$name' has no disk in lab '$LAB': 'lab guest $name' makes one."
}

need_guest_name() {
  [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$ ]] ||
    refuse "$1: '$2' cannot name a guest: expected letters, digits, '_', '.' and '-'."
}

# --- disks -------------------------------------------------------------------

# Made aside and renamed: whoever finds an image finds a whole one.
make_image() {
  [[ ! -e $1 ]] || return 0
  [[ -e $VAR/boot ]] || nasm -f bin -o "$VAR/boot" "$HERE/guest.asm"
  cp "$VAR/boot" "$1.new"
  truncate -s 1M "$1.new"
  mv "$1.new" "$1"
}

# One path, and a file of its own behind it on each node: QEMU's lock of the
# image sees no second guest, so only a lease can.
make_twins() {
  local node
  for node in $(node_names); do make_image "$VAR/$node/twins/$1.img"; done
}

lun_of() { cat "$VAR/luns/$1.lun" 2>/dev/null; }

target_admin() {
  TGT_IPC_SOCKET=$RUN/tgt tgtadm --lld iscsi --mode logicalunit --tid 1 "$@" ||
    fail "the storage of lab '$LAB' refused: tgtadm $*."
}

make_lun() {
  local lun
  local image=$VAR/luns/$1.img
  [[ ! -e $VAR/luns/$1.lun ]] || return 0
  make_image "$image"
  # LUN 0 is the target's own controller.
  for ((lun = 1; ; lun++)); do
    grep -qx "$lun" "$VAR/luns"/*.lun 2>/dev/null || break
  done
  target_admin --op new --lun "$lun" --backing-store "$image"
  say "$lun" >"$VAR/luns/$1.lun"
}

remove_lun() {
  local lun
  lun=$(lun_of "$1") || return 0
  target_admin --op delete --lun "$lun"
  rm -f "$VAR/luns/$1.lun" "$VAR/luns/$1.img"
}

# --- XML ---------------------------------------------------------------------

iscsi_disk() {
  cat <<END
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source protocol='iscsi' name='$IQN/$1'>
        <host name='$SWITCH_ADDRESS' port='3260'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
END
}

file_disk() {
  cat <<END
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='$1'/>
      <target dev='vda' bus='virtio'/>
    </disk>
END
}

# The same name, the same uuid: on every node, and in the next lab.
domain_xml() {
  local sum
  sum=$(md5sum <<<"guest $1")
  cat <<END
<domain type='qemu'>
  <name>$1</name>
  <uuid>${sum:0:8}-${sum:8:4}-${sum:12:4}-${sum:16:4}-${sum:20:12}</uuid>
  <memory unit='MiB'>$2</memory>
  <vcpu>$3</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
${4:+$4
}    <controller type='usb' model='none'/>
    <graphics type='vnc' autoport='yes' listen='127.0.0.1'/>
    <memballoon model='none'/>
  </devices>
</domain>
END
}
