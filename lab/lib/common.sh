# shellcheck shell=bash disable=SC2034 # used by those who read this file
# What every part of the lab shares: names, messages, locks, and how a process
# of the lab is known again later.

readonly RUN_ROOT=/run/havirt-lab       # process ids, locks, logs, faults in force
readonly VAR_ROOT=/var/lib/havirt-lab   # the nodes' private folders, disks, images
# The one thing that outlives a lab: what libvirt learnt about QEMU (7 s of
# work). libvirt itself checks it against the installed versions.
readonly CACHE=/var/cache/havirt-lab

readonly SUBNET=10.77.0
readonly SWITCH_ADDRESS=$SUBNET.250
readonly IQN=iqn.2026-01.lab.havirt:disks
# No card has this address: what is sent to it is dropped without a word.
readonly NOBODY=02:77:00:00:ff:ff
readonly SYSTEM_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '%s\n' "$*"; }

fail() {
  printf 'lab: %s\n' "$*" >&2
  exit 1
}

# The caller asked for something that cannot be.
refuse() {
  printf 'lab: %s\n' "$*" >&2
  exit 2
}

use_lab() {
  [[ $1 =~ ^[a-z][a-z0-9]{0,7}$ ]] ||
    refuse "'$1' cannot name a lab: expected a small letter and up to seven small letters or digits."
  LAB=$1
  RUN=$RUN_ROOT/$LAB
  VAR=$VAR_ROOT/$LAB
}

# wait_until SECONDS COMMAND...: true as soon as COMMAND is, false when time is up.
wait_until() {
  local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/[.,]/} < deadline)) || return 1
    sleep 0.02
  done
}

# --- processes ---------------------------------------------------------------

# A process is remembered as 'PID STARTTIME': a number alone may long belong to
# somebody else when it is next used, and then be killed.

# process_stat PID: sets STATE and STARTED; false when there is no such process.
process_stat() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The command's name, in brackets, may hold anything; count from behind it.
  read -r -a fields <<<"${stat##*) }"
  STATE=${fields[0]}
  STARTED=${fields[19]}
}

# remembered FILE: sets PID if the process written down in FILE still lives.
remembered() {
  local started
  PID=
  { read -r PID started <"$1"; } 2>/dev/null || return 1
  if process_stat "$PID" && [[ $STARTED == "$started" && $STATE != [ZX] ]]; then
    return 0
  fi
  PID=
  return 1
}

gone() { ! remembered "$1"; }

switch_pid() { remembered "$RUN/switch.pid"; }

# --- nodes -------------------------------------------------------------------

lab_exists() { [[ -e $RUN/nodes || -e $VAR ]]; }

node_count() {
  local count=0
  { read -r count <"$RUN/nodes"; } 2>/dev/null || true
  printf '%s' "$count"
}

node_names() {
  local i count
  count=$(node_count)
  for ((i = 1; i <= count; i++)); do printf 'node%d\n' "$i"; done
}

address_of() { printf '%s' "$SUBNET.1${1#node}"; }

need_lab() {
  [[ -e $RUN/nodes ]] || refuse "there is no lab '$LAB': 'lab up' makes it."
}

need_node() {
  local count=0
  need_lab
  read -r count <"$RUN/nodes"
  [[ ${1-} =~ ^node[1-9]$ && ${1#node} -le $count ]] ||
    refuse "there is no node '${1-}' in lab '$LAB': expected node1 to node$count."
}

# node_pid NODE: sets PID to the node's init as the host numbers it.
node_pid() { remembered "$RUN/$1.pid"; }

need_running() {
  need_node "$1"
  node_pid "$1" || refuse "$1 is off: 'lab fault on $1' starts it."
}

# --- inside ------------------------------------------------------------------

readonly -a ALL_NAMESPACES=(--mount --uts --ipc --net --pid)

# The environment of a root login on a node: nothing of the caller's leaks in.
node_environment() {
  ENVIRONMENT=(
    HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8
    "TERM=${TERM:-dumb}" "PATH=/media/shared/havirt/bin:$SYSTEM_PATH"
  )
}

# in_node NODE COMMAND...: for the lab's own short errands in a running node. A
# daemon started so must not inherit the lock, or it would hold it for ever.
in_node() {
  node_pid "$1" || return 1
  shift
  node_environment
  nsenter --target="$PID" "${ALL_NAMESPACES[@]}" -- env -i -C /root "${ENVIRONMENT[@]}" "$@" 9>&-
}

# The network alone needs no fork and no files of the node.
in_node_net() {
  node_pid "$1" || return 1
  shift
  nsenter --target="$PID" --net -- "$@"
}

in_switch_net() {
  switch_pid || return 1
  nsenter --target="$PID" --net -- "$@"
}

# Whoever entered a node stops along with what it started there (nsenter does),
# and would then stay for ever: wake them, so that they see the end.
wake_entrances() { pkill -CONT -f "^nsenter --target=$1 " || true; }

# --- locks -------------------------------------------------------------------

# with_lock FILE: holds descriptor 9 on FILE for the rest of this process. The
# holder of a lock may remove its file; whoever waited for that file must then
# try again with the new one, or two would think themselves alone.
with_lock() {
  while :; do
    mkdir -p "${1%/*}"
    { exec 9>"$1"; } 2>/dev/null || continue
    flock 9
    [[ $1 -ef /proc/self/fd/9 ]] && return
  done
}

# with_host_lock COMMAND...: for what all labs of the host share.
with_host_lock() {
  (
    with_lock "$RUN_ROOT/.host.lock"
    "$@"
  )
}
