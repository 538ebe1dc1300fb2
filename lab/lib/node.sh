# shellcheck shell=bash
# A node's private files, its boot, and its end.

# What of the file system is the node's own. It is kept while the lab stands,
# over 'fault off' and 'fault on', as a real machine's disk is.
readonly -a PRIVATE_FOLDERS=(
  /etc/default /etc/libvirt /etc/sanlock /etc/ssh /etc/systemd/system /root
  /usr/local/sbin /var/lib/libvirt /var/log /var/cache/libvirt /var/lib/havirt
)
readonly -a PRIVATE_FILES=(/etc/hosts /etc/hostname /etc/machine-id)

uuid_of() {
  local sum
  sum=$(md5sum <<<"$1")
  printf '%s-%s-%s-%s-%s' "${sum:0:8}" "${sum:8:4}" "${sum:12:4}" "${sum:16:4}" "${sum:20:12}"
}

prepare_nodes() {
  local node
  local -a workers=()
  for node in $(node_names); do
    (
      prepare_folders "$node"
      prepare_services "$node"
      prepare_libvirt "$node"
      prepare_ssh "$node"
      [[ ! -e $RUN/pacemaker ]] || prepare_pacemaker "$node"
    ) &
    workers+=($!)
  done
  # By name: the switch is a child of this process too, and does not end.
  wait "${workers[@]}"
  for node in $(node_names); do introduce "$node"; done
}

prepare_folders() {
  local path root=$VAR/$1
  for path in "${PRIVATE_FOLDERS[@]}"; do
    mkdir -p "$root$path"
    say "$path"
  done >"$root.private"
  mkdir -p "$root/twins"
  chmod 0700 "$root/root"
  {
    say '127.0.0.1 localhost'
    for path in $(node_names); do say "$(address_of "$path") $path"; done
  } >"$root/etc/hosts"
  say "$1" >"$root/etc/hostname"
  uuid_of "machine $LAB $1" | tr -d - >"$root/etc/machine-id"
  for path in "${PRIVATE_FILES[@]}"; do
    # A bind needs something to lie upon; a bare container may lack one of them.
    if [[ -e $path ]]; then say "$path"; fi
  done >>"$root.private"
  mv "$root.private" "$root/private"
}

prepare_services() {
  local root=$VAR/$1
  cp -rp /etc/default/. "$root/etc/default/"
  cp "$HERE/systemctl" "$root/usr/local/sbin/"
}

prepare_libvirt() {
  local name root=$VAR/$1
  mkdir "$root/var/log/libvirt"
  # As the packages bring them, for whoever sets a lock manager up.
  for name in qemu-sanlock qemu-lockd virtlockd; do
    [[ ! -e /etc/libvirt/$name.conf ]] || cp -p "/etc/libvirt/$name.conf" "$root/etc/libvirt/"
  done
  cat >"$root/etc/libvirt/libvirtd.conf" <<END
# Root alone reaches the socket; there is no polkit to ask.
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
# The machines beneath the nodes are one and the same: without this they would
# refuse to migrate to each other.
host_uuid = "$(uuid_of "host $LAB $1")"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
END
  cat >"$root/etc/libvirt/qemu.conf" <<'END'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
# The node is a namespace already, and has no cgroups.
namespaces = []
cgroup_controllers = []
# QEMU's output goes straight to its log: no virtlogd.
stdio_handler = "file"
vnc_listen = "127.0.0.1"
END
  if [[ -d $CACHE ]]; then
    mkdir -p "$root/var/cache/libvirt/qemu/capabilities"
    cp -p "$CACHE"/*.xml "$root/var/cache/libvirt/qemu/capabilities/" 2>/dev/null || true
  fi
}

prepare_ssh() {
  local root=$VAR/$1
  mkdir -m 0700 "$root/root/.ssh"
  ssh-keygen -q -t ed25519 -N '' -C "root@$1" -f "$root/root/.ssh/id_ed25519"
  ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$root/etc/ssh/ssh_host_ed25519_key"
  cat >"$root/etc/ssh/sshd_config" <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
END
  cat >"$root/root/.ssh/config" <<'END'
Host node*
  User root
  BatchMode yes
  StrictHostKeyChecking yes
  ConnectTimeout 5
END
}

# Every node's root may log in on every node, and knows each by its own key.
introduce() {
  local other kind key ssh=$VAR/$1/root/.ssh
  for other in $(node_names); do
    cat "$VAR/$other/root/.ssh/id_ed25519.pub" >>"$ssh/authorized_keys"
    read -r kind key _ <"$VAR/$other/etc/ssh/ssh_host_ed25519_key.pub"
    say "$other,$(address_of "$other") $kind $key" >>"$ssh/known_hosts"
  done
  chmod 0600 "$ssh/authorized_keys"
}

# --- power -------------------------------------------------------------------

# boot NODE: starts it and does not wait. The node's process namespace must lie
# inside the switch's, so the first of the two programs enters that.
boot() {
  switch_pid || fail "the switch of lab '$LAB' is gone: 'lab up' makes the lab anew."
  rm -f "$RUN/$1.pid"
  setsid env -i "PATH=$SYSTEM_PATH" HOME=/root LANG=C.UTF-8 \
    nsenter --target="$PID" "${ALL_NAMESPACES[@]}" -- \
    unshare --mount --net --uts --ipc --pid --fork \
    "$HERE/node-init" "$LAB" "$1" \
    </dev/null >"$RUN/$1.log" 2>&1 9>&- &
}

# A libvirtd with a lock manager joins its lockspace before it answers.
await_boot() {
  wait_until 90 booted "$1" && return
  tail -n 5 "$RUN/$1.log" >&2
  fail "$1 of lab '$LAB' did not start."
}

booted() { node_pid "$1" && [[ -S /proc/$PID/root/run/libvirt/libvirt-sock ]] && sshd_answers "$1" && libvirt_answers "$1"; }

# The daemon takes connections a moment before it is ready for them: ask.
libvirt_answers() { in_node "$1" virsh -q -c qemu:///system uri >/dev/null 2>&1; }

# The kernel's own table, from the outside: a trial connection would cost a
# login's worth of work and a line in the log.
sshd_answers() {
  node_pid "$1" && grep -qE '^ *[0-9]+: 0+:0016 0+:0000 0A ' "/proc/$PID/net/tcp"
}
