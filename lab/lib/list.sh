# shellcheck shell=bash
# What runs: told from the processes themselves, so that it holds for a node
# that does not answer, too.

command_list() {
  local name
  (($# == 0)) || refuse "list: '$1' is not known here: expected nothing, or --name NAME."
  if [[ $NAMED ]]; then
    need_lab
    list_one
    return
  fi
  local -a names=()
  for name in "$RUN_ROOT"/*/nodes; do
    [[ ! -e $name ]] || names+=("$(basename "${name%/nodes}")")
  done
  ((${#names[@]})) || { say 'no lab runs'; return; }
  for name in "${names[@]}"; do
    use_lab "$name"
    list_one
  done
}

list_one() {
  local node state
  switch_pid && state=up || state='broken: its switch is gone'
  [[ ! -e /proc/${PID:-none}/root$VAR/share/ballast ]] || state+=', its share is full'
  say "lab $LAB: $state"
  printf '  %-6s %-12s %-8s %-24s %s\n' NODE ADDRESS PID STATE DOMAINS
  for node in $(node_names); do
    state=$(node_state "$node")
    node_pid "$node" || true
    printf '  %-6s %-12s %-8s %-24s %s\n' \
      "$node" "$(address_of "$node")" "${PID:--}" "$state" "$(domains_of "$node")"
  done
}

node_state() {
  local node=$1 cut other state=''
  if ! node_pid "$node"; then
    if [[ -e $RUN/$node.off ]]; then say off; else say dead; fi
    return
  fi
  if frozen "$PID"; then
    state+=', frozen'
  else
    daemon_runs libvirtd || state+=', no libvirtd'
    daemon_runs sshd || state+=', no sshd'
    [[ ! -e $RUN/pacemaker ]] || daemon_runs pacemakerd || state+=', no Pacemaker'
  fi
  share_is_readonly && state+=', share read-only'
  [[ -e $RUN/cut/$node ]] && state+=', cut'
  for cut in "$RUN/cut/$node-"* "$RUN/cut/"*"-$node"; do
    [[ -e $cut ]] || continue
    other=${cut##*/} other=${other/$node/} other=${other/-/}
    state+=", cut from $other"
  done
  state=${state#, }
  say "${state:-up}"
}

# daemon_runs NAME: as the node PID.
daemon_runs() { [[ -n $(daemon_pids "$1") ]]; }

# daemon_pids NAME: the daemon itself, a child of the node's init. The init also
# inherits the sessions of an sshd that ended; by their title they are no listener.
daemon_pids() {
  local child comm title
  for child in $(<"/proc/$PID/task/$PID/children"); do
    { read -r comm <"/proc/$child/comm"; } 2>/dev/null || continue
    [[ $comm == "$1" ]] || continue
    title=$(tr '\0' ' ' 2>/dev/null <"/proc/$child/cmdline") || continue
    [[ $title == 'sshd: '* && $title != *'[listener]'* ]] || echo "$child"
  done
}

# frozen PID: whether every child of the init is stopped.
frozen() {
  local child
  for child in $(<"/proc/$1/task/$1/children"); do
    process_stat "$child" && [[ $STATE != [TZX] ]] && return 1
  done
  return 0
}

share_is_readonly() {
  local path options
  while read -r _ _ _ _ path options _; do
    [[ $path != /media/shared ]] || { [[ ,$options, == *,ro,* ]]; return; }
  done 2>/dev/null <"/proc/$PID/mountinfo"
  return 1
}

domains_of() {
  local pid argument
  local -a names=()
  node_pid "$1" || { say -; return; }
  for pid in $(pgrep --ns "$PID" --nslist pid -f '^/usr/bin/qemu-system' || true); do
    while read -r -d '' argument; do
      [[ $argument != guest=* ]] || { argument=${argument#guest=}; names+=("${argument%%,*}"); }
    done 2>/dev/null <"/proc/$pid/cmdline"
  done
  ((${#names[@]})) || { say -; return; }
  local IFS=' '
  say "${names[*]}"
}
