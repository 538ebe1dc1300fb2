# shellcheck shell=bash
# Making, checking and removing a lab.

# --- the host ----------------------------------------------------------------

# One command or file for each package, so that a warm start asks no database.
# shellcheck disable=SC2034 # read by its name
readonly -A NEEDS=(
  [libvirt-daemon-system]=/usr/sbin/libvirtd
  [libvirt-clients]=/usr/bin/virsh
  [qemu-system-x86]=/usr/bin/qemu-system-x86_64
  [qemu-block-extra]=/usr/share/doc/qemu-block-extra
  [qemu-utils]=/usr/bin/qemu-img
  [sanlock]=/usr/sbin/sanlock
  [libvirt-sanlock]=/usr/sbin/virt-sanlock-cleanup
  [openssh-server]=/usr/sbin/sshd
  [openssh-client]=/usr/bin/ssh
  [tgt]=/usr/sbin/tgtd
  [tini]=/usr/bin/tini
  [nasm]=/usr/bin/nasm
  [iproute2]=/usr/share/doc/iproute2
  [procps]=/usr/bin/pgrep
  [mount]=/usr/bin/mount
  [hostname]=/usr/bin/hostname
  [bsdextrautils]=/usr/bin/hexdump
  [netcat-openbsd]=/usr/bin/nc.openbsd
)
# For a lab with Pacemaker.
# shellcheck disable=SC2034
readonly -A PACEMAKER_NEEDS=(
  [corosync]=/usr/sbin/corosync
  [pacemaker]=/usr/sbin/pacemakerd
  [pacemaker-cli-utils]=/usr/sbin/crm_resource
  [resource-agents]=/usr/lib/ocf/resource.d/heartbeat/VirtualDomain
  [libxml2-utils]=/usr/bin/xmllint
  [crmsh]=/usr/sbin/crm
)

need_host() {
  [[ $(id -u) == 0 ]] || refuse 'the lab makes namespaces and mounts, so it must run as root.'
  [[ -e /etc/debian_version ]] || refuse 'the lab installs packages with apt-get, so it runs on Debian only.'
}

# install_packages NEEDS...: by the names of such lists.
install_packages() {
  local package
  local -a missing=()
  local -n list
  for list in "$@"; do
    for package in "${!list[@]}"; do
      [[ -e ${list[$package]} ]] || missing+=("$package")
    done
  done
  ((${#missing[@]})) || return 0
  with_host_lock apt_install "${missing[@]}"
}

apt_install() {
  local log
  log=$(mktemp)
  # shellcheck disable=SC2064 # the names as they are now
  trap "rm -f '$log'" EXIT
  keep_services_off
  export DEBIAN_FRONTEND=noninteractive
  say "installing $*"
  apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
    { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; fail "apt-get could not install $*."; }
}

# The host needs the programs, not a libvirtd, an sshd or an iSCSI target of
# its own. A policy that is there already is the administrator's: leave it.
keep_services_off() {
  local policy=/usr/sbin/policy-rc.d
  [[ ! -e $policy ]] || return 0
  # shellcheck disable=SC2064
  trap "rm -f '$log' '$policy'" EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
}

# --- up ----------------------------------------------------------------------

command_up() {
  local nodes='' pacemaker='' trouble
  while (($#)); do
    case $1 in
      --pacemaker) pacemaker=yes; shift ;;
      --nodes) nodes=${2-}; shift $(($# > 1 ? 2 : 1)); [[ $nodes ]] || nodes=0 ;;
      --nodes=*) nodes=${1#*=}; shift ;;
      *) refuse "up: '$1' is not known here: expected --nodes N or --pacemaker." ;;
    esac
  done
  [[ -z $nodes || $nodes =~ ^[1-9]$ ]] || refuse "up: --nodes expects a number from 1 to 9."
  need_host
  with_lock "$RUN_ROOT/$LAB.lock"
  if lab_exists; then
    if trouble=$(lab_trouble); then
      say "lab '$LAB' is broken ($trouble): making it anew"
      : "${nodes:=$(node_count)}"
      [[ ! -e $RUN/pacemaker ]] || pacemaker=yes
      tear_down
    else
      [[ -z $nodes || $nodes == "$(node_count)" ]] ||
        refuse "lab '$LAB' runs with $(node_count) nodes: 'lab down' first, to have $nodes."
      [[ -z $pacemaker || -e $RUN/pacemaker ]] ||
        refuse "lab '$LAB' runs without Pacemaker: 'lab down' first, to have it."
      say "lab '$LAB' is up already, with $(node_count) nodes; nothing changed"
      return
    fi
  fi
  [[ $nodes =~ ^[1-9]$ ]] || nodes=3
  install_packages NEEDS ${pacemaker:+PACEMAKER_NEEDS}
  build "$nodes" "$pacemaker"
  say "lab '$LAB' is up with $nodes nodes in $((SECONDS)) s"
}

# lab_trouble: prints what is wrong and is true, or is false. A fault that was
# asked for is no trouble.
lab_trouble() {
  local node
  [[ -e $RUN/ready ]] || { say 'its start was never finished'; return; }
  switch_pid || { say 'its switch is gone'; return; }
  pgrep --ns "$PID" --nslist pid -x tgtd >/dev/null || { say 'its storage is gone'; return; }
  for node in $(node_names); do
    [[ -e $RUN/$node.off ]] || node_pid "$node" || { say "$node is gone"; return; }
  done
  return 1
}

build() {
  local node
  local nodes=$1 pacemaker=$2
  with_host_lock make_folders
  printf '%s\n' "$nodes" >"$RUN/nodes"
  [[ ! $pacemaker ]] || touch "$RUN/pacemaker"
  start_switch
  source "$HERE/lib/node.sh"
  source "$HERE/lib/pacemaker.sh"
  prepare_nodes
  for node in $(node_names); do boot "$node"; done
  for node in $(node_names); do await_boot "$node"; done
  teach_capabilities
  [[ ! $pacemaker ]] || await_cluster
  touch "$RUN/ready"
}

# Of the nodes' private folders, those that the host may not have.
readonly -a MOUNT_POINTS=(/etc/sanlock /var/lib/havirt)

# The repository's folders are made if they are missing, so that what is built
# into them later is seen in the nodes at once.
make_folders() {
  local path
  mkdir -p "$RUN/cut" "$VAR"/{share,images,leases,luns,program} "$REPOSITORY"/{bin,dist}
  for path in "${MOUNT_POINTS[@]}"; do
    [[ ! -e $path ]] || continue
    mkdir "$path"
    touch "$RUN_ROOT/made${path//\//-}"
  done
}

start_switch() {
  setsid env -i "PATH=$SYSTEM_PATH" LANG=C.UTF-8 \
    unshare --mount --net --uts --ipc --pid --fork \
    "$HERE/switch-init" "$LAB" 96m "$REPOSITORY" \
    </dev/null >"$RUN/switch.log" 2>&1 9>&- &
  wait_until 15 test -e "$RUN/switch.ready" || {
    tail -n 5 "$RUN/switch.log" >&2
    fail "the switch of lab '$LAB' did not start."
  }
}

# The first node learns about QEMU, for about 7 s if nothing is known yet; the
# others take it over, and so does the next lab. libvirt drops what does not
# fit the installed versions, so a stale cache costs time and nothing else.
teach_capabilities() {
  local node folder=/var/cache/libvirt/qemu/capabilities
  local source=$VAR/node1$folder
  in_node node1 virsh -q -c qemu:///system domcapabilities >/dev/null ||
    fail 'libvirt of node1 cannot tell what its QEMU is able to do.'
  for node in $(node_names); do
    [[ $node == node1 ]] || copy_capabilities "$source" "$VAR/$node$folder"
  done
  copy_capabilities "$source" "$CACHE"
}

copy_capabilities() {
  mkdir -p "$2"
  cp -p "$1"/*.xml "$2/"
}

# --- down --------------------------------------------------------------------

command_down() {
  local all='' name
  while (($#)); do
    case $1 in
      --all) all=yes ;;
      *) refuse "down: '$1' is not known here: expected --all or nothing." ;;
    esac
    shift
  done
  need_host
  if [[ ! $all ]]; then
    down_one "$LAB"
    return
  fi
  for name in $(lab_names); do (down_one "$name"); done
  rm -rf "$CACHE"
  say 'no lab is left'
}

down_one() {
  use_lab "$1"
  with_lock "$RUN_ROOT/$LAB.lock"
  local before=''
  lab_exists && before=yes
  tear_down
  rm -f "$RUN_ROOT/$LAB.lock"
  with_host_lock leave_nothing
  if [[ $before ]]; then say "lab '$LAB' is down"; else say "there was no lab '$LAB'"; fi
}

lab_names() {
  local path
  for path in "$RUN_ROOT"/*/ "$VAR_ROOT"/*/; do
    [[ -d $path ]] && basename "$path"
  done | sort -u
}

# lab_processes: every process that is the root of something of this lab, by
# its number on the host. By name and not by the files, which may be lost.
lab_processes() { pgrep -f "^havirt-lab:$LAB:|^bash $HERE/(switch|node)-init $LAB( |\$)" || true; }

tear_down() {
  local pid
  local -a targets=()
  for pid in "$RUN"/*.pid; do
    [[ -e $pid ]] || continue
    read -r pid _ <"$pid"
    targets+=("$pid")
  done
  wait_until 10 all_killed || fail "these processes of lab '$LAB' do not die: $(lab_processes | xargs)."
  for pid in "${targets[@]}"; do
    wake_entrances "$pid"
    wait_until 5 no_entrance "$pid" || true
  done
  # The folders are mount points in the lab's own namespaces only, and those are
  # gone by now; should one not be, nothing beyond it may be touched.
  rm -rf --one-file-system "$RUN" "$VAR"
}

all_killed() {
  local -a pids
  mapfile -t pids < <(lab_processes)
  ((${#pids[@]})) || return 0
  kill -KILL "${pids[@]}" 2>/dev/null
  return 1
}

no_entrance() { ! pgrep -f "^nsenter --target=$1 " >/dev/null; }

# The last lab puts out the light.
leave_nothing() {
  [[ -z $(lab_names) ]] || return 0
  local path
  for path in "${MOUNT_POINTS[@]}"; do
    [[ -e $RUN_ROOT/made${path//\//-} ]] || continue
    rmdir "$path" 2>/dev/null || true
    rm -f "$RUN_ROOT/made${path//\//-}"
  done
  rmdir "$VAR_ROOT" 2>/dev/null || true
  rm -f "$RUN_ROOT/.host.lock"
  rmdir "$RUN_ROOT" 2>/dev/null || true
}
