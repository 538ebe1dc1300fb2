# shellcheck shell=bash
# The lab's power switches: does what fence_lab asks for on the nodes, by files
# on the share, until it is interrupted.

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

answer_request() {
  local action plug answer base=${1%.request}
  read -r action plug <"$1" || true
  rm -f "$1"
  answer=$(switch_power "$action" "$plug") || answer='the switch failed'
  printf '%s\n' "$answer" >"$base.new"
  mv "$base.new" "$base.answer"
}

switch_power() {
  [[ " $(node_names | tr '\n' ' ')" == *" $2 "* ]] || { say "there is no plug '$2'"; return; }
  [[ $1 != off ]] || "$HERE/lab" --name "$LAB" fault off "$2" >/dev/null
  if node_pid "$2"; then say on; else say off; fi
}
