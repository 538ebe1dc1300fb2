# shellcheck shell=bash
# The lab's power switches: does what fence_lab asks for on the nodes, by files
# on the share, until it is interrupted. They are reached by the network, so they
# do not hear a node without cable or power: of two nodes that switch each other
# off, one survives.

source "$HERE/lib/node.sh"

command_power() {
  local folder request
  need_lab
  switch_pid || fail "the switch of lab '$LAB' is gone: 'lab up' makes the lab anew."
  # By a process that lives as long as the lab, since each look-up sets PID.
  folder=/proc/$PID/root$VAR/share/files/power
  mkdir -p "$folder"
  say "the power switches of lab '$LAB' listen"
  while switch_pid; do
    for request in "$folder"/*.request; do
      [[ ! -e $request ]] || answer_request "$request"
    done
    sleep 0.05
  done
}

# answer_request FILE: one named for the node that asks.
answer_request() {
  local action plug answer base=${1%.request}
  local asker=${base##*/}
  read -r action plug <"$1" || true
  rm -f "$1"
  asker=${asker%%.*}
  [[ ! -e $RUN/cut/$asker ]] && node_pid "$asker" || return 0
  answer=$(switch_power "$action" "$plug") || answer='the switch failed'
  printf '%s\n' "$answer" >"$base.new"
  mv "$base.new" "$base.answer"
}

switch_power() {
  local nodes
  nodes=$(node_names | xargs)
  [[ $1 != list ]] || { say "$nodes"; return; }
  [[ " $nodes " == *" $2 "* ]] || { say "there is no plug '$2'"; return; }
  [[ $1 != off ]] || "$HERE/lab" --name "$LAB" fault off "$2" >/dev/null
  [[ $1 != on ]] || switch_on "$2"
  if node_pid "$2"; then say on; else say off; fi
}

# A switch does not wait for a machine to boot.
switch_on() {
  "$HERE/lab" --name "$LAB" fault on "$1" >/dev/null &
  wait_until 15 node_pid "$1" || true
}
