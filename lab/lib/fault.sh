# shellcheck shell=bash
# Faults: what goes wrong with real machines, on demand. Each waits until it is
# in force, and may be repeated.

source "$HERE/lib/list.sh"
source "$HERE/lib/node.sh"

command_fault() {
  local fault=${1-}
  case $fault in
    cut | heal) (($# <= 3)) || refuse "fault $fault: expected a node, and perhaps another." ;;
    libvirtd | sanlock | virtlockd) expect_word "$fault" "${3-}" stop kill start ;;
    sshd) expect_word "$fault" "${3-}" stop start ;;
    freeze | thaw | off | on | fill | unfill | readonly | readwrite)
      (($# <= 2)) || refuse "fault $fault: expected a node and nothing else."
      ;;
    *) refuse "fault: '$fault' is not known here: expected cut, heal, libvirtd, sanlock, virtlockd, sshd, freeze, thaw, off, on, fill, unfill, readonly or readwrite." ;;
  esac
  need_node "${2-}"
  switch_pid || fail "the switch of lab '$LAB' is gone: 'lab up' makes the lab anew."
  with_lock "$RUN/faults.lock"
  "fault_$fault" "${@:2}"
}

expect_word() {
  local fault=$1 word=$2
  shift 2
  [[ " $* " == *" $word "* && $word ]] || refuse "fault $fault: expected a node and one of: $*."
}

# --- the network -------------------------------------------------------------

fault_cut() {
  if [[ ${2-} ]]; then
    need_other "$@"
    touch "$RUN/cut/$(pair "$1" "$2")"
    lose_way "$1" "$2"
    lose_way "$2" "$1"
    say "$1 and $2 do not hear each other any more"
  else
    touch "$RUN/cut/$1"
    port "$1" down
    say "$1: its cable is pulled"
  fi
}

fault_heal() {
  local cut other
  if [[ ${2-} ]]; then
    need_other "$@"
    mend_pair "$1" "$2"
    say "$1 and $2 hear each other"
    return
  fi
  rm -f "$RUN/cut/$1"
  port "$1" up
  for cut in "$RUN/cut/$1-"* "$RUN/cut/"*"-$1"; do
    [[ -e $cut ]] || continue
    other=${cut##*/} other=${other/$1/} other=${other/-/}
    mend_pair "$1" "$other"
  done
  say "$1: its cable is in, and it hears every node"
}

need_other() {
  need_node "$2"
  [[ $1 != "$2" ]] || refuse 'fault: a node cannot be cut from itself: expected two nodes.'
}

pair() { if [[ $1 < $2 ]]; then say "$1-$2"; else say "$2-$1"; fi; }

# A switched-off node has no port; its next boot sees what is written down.
port() {
  node_pid "$1" || return 0
  in_switch_net ip link set "$1" "$2"
  wait_until 5 carrier "$1" "$2" || fail "$1: its link did not go $2."
}

carrier() {
  local link
  link=$(in_node_net "$1" ip -o link show dev eth0)
  if [[ $2 == down ]]; then [[ $link == *NO-CARRIER* ]]; else [[ $link == *LOWER_UP* ]]; fi
}

# A wrong and permanent neighbour sends the packets to an address that nobody
# has: silence, as with a broken path, and no kernel module needed for it.
lose_way() {
  node_pid "$1" || return 0
  in_node_net "$1" ip neighbour replace "$(address_of "$2")" lladdr "$NOBODY" dev eth0 nud permanent
}

find_way() {
  node_pid "$1" || return 0
  in_node_net "$1" ip neighbour delete "$(address_of "$2")" dev eth0 2>/dev/null || true
}

mend_pair() {
  rm -f "$RUN/cut/$(pair "$1" "$2")"
  find_way "$1" "$2"
  find_way "$2" "$1"
}

# --- daemons -----------------------------------------------------------------

fault_libvirtd() { daemon "$1" libvirtd "$2"; }
fault_sanlock() { daemon "$1" sanlock "$2"; }
fault_virtlockd() { daemon "$1" virtlockd "$2"; }
fault_sshd() { daemon "$1" sshd "$2"; }

# daemon NODE NAME WORD: as its administrator would, or as no one would.
daemon() {
  local unit=${2/#sshd/ssh}
  need_running "$1"
  case $3 in
    start) in_node "$1" systemctl start "$unit" || fail "$1: $2 does not start." ;;
    stop) in_node "$1" systemctl stop "$unit" || fail "$1: $2 does not end." ;;
    kill) kill_daemon "$2" || fail "$1: $2 does not end." ;;
  esac
  if [[ $3 == start ]]; then say "$1: $2 runs"; else say "$1: $2 does not run"; fi
}

kill_daemon() {
  local pids
  pids=$(daemon_pids "$1")
  # sanlock's helper is a child of the daemon and would outlive it a moment.
  if [[ $1 == sanlock && $pids ]]; then pids+=" $(pgrep -P "${pids//$'\n'/,}" || true)"; fi
  # shellcheck disable=SC2086
  [[ -z $pids ]] || kill -KILL $pids
  wait_until 15 daemon_ended "$1"
}

daemon_ended() { ! daemon_runs "$1"; }

# --- the whole node ----------------------------------------------------------

# kill -1 from within reaches every process of the node but its init, which has
# nothing to do anyway, in one step: nobody can fork out of it.
signal_all() { in_node "$1" kill "-$2" -- -1; }

fault_freeze() {
  need_running "$1"
  signal_all "$1" STOP
  wait_until 5 frozen "$PID" || fail "$1: not everything stopped."
  say "$1: every process is stopped"
}

fault_thaw() {
  need_running "$1"
  signal_all "$1" CONT
  wake_entrances "$PID"
  wait_until 5 thawed "$PID" || fail "$1: not everything goes on."
  say "$1: every process goes on"
}

thawed() { ! frozen "$1"; }

# The cable first: a machine without power says no goodbye, while the kernel
# would close the connections of its processes for them.
fault_off() {
  if node_pid "$1"; then
    local pid=$PID
    touch "$RUN/$1.off"
    in_switch_net ip link delete "$1" 2>/dev/null || true
    kill -KILL "$pid" 2>/dev/null || true
    wait_until 10 gone "$RUN/$1.pid" || fail "$1: its process 1 does not die."
    wake_entrances "$pid"
  fi
  touch "$RUN/$1.off"
  rm -f "$RUN/$1.pid"
  say "$1: it is off"
}

fault_on() {
  if node_pid "$1"; then
    say "$1: it is on already"
    return
  fi
  boot "$1"
  await_boot "$1"
  rm -f "$RUN/$1.off"
  say "$1: it is on"
}

# --- the share ---------------------------------------------------------------

# There is one share, so it is full for every node, whichever was named.
fault_fill() {
  switch_pid
  local ballast=/proc/$PID/root$VAR/share/ballast
  # The end of this is 'No space left on device'.
  dd if=/dev/zero of="$ballast" bs=64K oflag=append conv=notrunc 2>/dev/null || true
  dd if=/dev/zero of="$ballast" bs=4K oflag=append conv=notrunc 2>/dev/null || true
  [[ $(stat -f -c %a "${ballast%/*}") == 0 ]] || fail 'the share did not get full.'
  say "$1: the share has no free byte, on every node"
}

fault_unfill() {
  switch_pid
  rm -f "/proc/$PID/root$VAR/share/ballast"
  say "$1: the share has room again, on every node"
}

fault_readonly() { remount "$1" ro 'read only'; }
fault_readwrite() { remount "$1" rw 'to read and write'; }

# The kernel refuses to take writing away while a file is open for it. Most such
# files are closed in a moment.
remount() {
  need_running "$1"
  wait_until 5 try_remount "$PID" "$2" ||
    fail "$1: a process holds a file of the share open for writing, so it cannot be made $3."
  say "$1: the share is there $3"
}

try_remount() {
  nsenter --target="$1" --mount -- mount -o "remount,bind,$2" /media/shared 2>/dev/null
}
