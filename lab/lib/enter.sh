# shellcheck shell=bash
# Running something on a node.

command_exec() {
  local -a extra=()
  while [[ ${1-} == -* ]]; do
    case $1 in
      --env)
        [[ ${2-} == ?*=* ]] || refuse 'exec: --env expects NAME=VALUE.'
        extra+=("$2")
        shift 2
        ;;
      *) refuse "exec: '$1' is not known here: expected --env NAME=VALUE, or a node." ;;
    esac
  done
  need_running "${1-}"
  shift
  (($#)) || refuse 'exec: a command is missing behind the node.'
  node_environment
  enter env --default-signal=INT,QUIT -i -C /root "${ENVIRONMENT[@]}" ${extra[@]+"${extra[@]}"} "$@"
}

# enter COMMAND...: in the namespaces of PID, as if it were this process. A
# process cannot move into another process namespace, only its child can, so
# this one stays outside and passes signals on; the signal at the parent's death
# does that for SIGKILL, which nobody can pass on.
enter() {
  local signal status=0 outer
  for signal in HUP INT QUIT TERM USR1 USR2; do
    # shellcheck disable=SC2064
    trap "pass_on $signal" "$signal"
  done
  setpriv --pdeathsig KILL nsenter --target="$PID" "${ALL_NAMESPACES[@]}" -- \
    setpriv --pdeathsig KILL "$@" <&0 &
  outer=$!
  # A signal ends the wait, but not what is waited for.
  while :; do
    wait "$outer" 2>/dev/null && status=0 || status=$?
    [[ -d /proc/$outer ]] || exit "$status"
  done
}

pass_on() {
  local inner
  { read -r inner _ <"/proc/$outer/task/$outer/children"; } 2>/dev/null || true
  [[ ! ${inner-} ]] || kill -"$1" "$inner" 2>/dev/null || true
}

command_shell() {
  need_running "${1-}"
  (($# == 1)) || refuse 'shell: expected a node and nothing else.'
  node_environment
  # bash opens a terminal of its own here, and handles its signals itself.
  exec nsenter --target="$PID" "${ALL_NAMESPACES[@]}" -- \
    env -i -C /root "${ENVIRONMENT[@]}" "PS1=\u@\h:\w\\$ " bash --norc --noprofile
}

command_pid() {
  need_running "${1-}"
  (($# == 1)) || refuse 'pid: expected a node and nothing else.'
  say "$PID"
}
