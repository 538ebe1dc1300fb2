/**
 * Two agents on one node: makes a situation, runs an agent in it as Pacemaker does, and tells what came of it. A bench is a node of the lab
 * with a guest of its own, so that several benches work at once.
 */
import { writeFile } from 'node:fs/promises'
import { type Done, exec, guest, pathOn, shell, sure } from './lab.ts'
import { type Action, type Expected, HARMLESS, type Run, type Situation } from './ocf-answers.ts'

export type Agent = 'original' | 'ours'

/** Where machines migrate to; no bench. */
export const TARGET = 'node4'
const MOVING = 'moving'

/** Not below /root, so that anybody may ask for the meta-data. */
const ROOT = '/run/ocf'

const ROOTS: Record<Agent, { readonly root: string; readonly provider: string }> = {
  original: { root: '/usr/lib/ocf', provider: 'heartbeat' },
  ours: { root: ROOT, provider: 'havirt' },
}

/** Where everything of a situation lies. */
const WORK = '/root/side-by-side'
const PATH = `${WORK}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`

/** What GNU timeout exits with, after its TERM and after its KILL. */
const TIMED_OUT = [124, 137]

/** What Pacemaker gives when nothing else is asked. */
const TIMEOUT_MS = 20_000
const INTERVAL_MS = 10_000

export interface Bench {
  readonly node: string
  /** The situation that is made there, as long as nothing has changed it. */
  made?: string
}

export interface Outcome extends Expected {
  readonly reasons: readonly string[]
  readonly said: string
}

/** The functions that `make`, `before` and `proof` of a situation may call; $1 is the domain, $2 the path of its file. */
const PRELUDE = String.raw`
VM=$1 CONFIG=$2 W=${WORK} TARGET=${TARGET}
export VM CONFIG W
GUEST=/root/$VM.xml
UUID=$(sed -n 's:.*<uuid>\(.*\)</uuid>.*:\1:p' "$GUEST")
DISK=$(sed -n "s:.*<source file='\(.*\)'/>.*:\1:p" "$GUEST")
RUN=/run/resource-agents

wait_for() { # CONDITION: at most 20 s
  tries=0
  until eval "$1" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 400 ] || { echo "after 20 s it is still not so: $1" >&2; exit 99; }
    sleep 0.05
  done
}

reset() {
  pkill -CONT -x libvirtd
  systemctl -q is-active libvirtd || systemctl start libvirtd
  wait_for 'virsh uri'
  for each in $(virsh -q list --uuid); do virsh -q destroy "$each"; done
  for each in $(virsh -q list --all --uuid); do virsh -q undefine --managed-save --nvram "$each"; done
  for each in $(virsh -q pool-list --name); do virsh -q pool-destroy "$each"; done
  for each in $(virsh -q pool-list --all --name); do virsh -q pool-undefine "$each"; done
  for each in $(virsh -q net-list --name); do virsh -q net-destroy "$each"; done
  for each in $(virsh -q net-list --all --name); do virsh -q net-undefine "$each"; done
  umount -q "$W/full"
  rm -rf "$W" /var/lib/havirt/ocf "$RUN"
  mkdir -p "$W/bin" "$RUN" "$(dirname "$CONFIG")"
  cp "$GUEST" "$CONFIG"
  forget
} >/dev/null 2>&1

edit() { sed -i "$@" "$CONFIG"; }
nonce() { dd if="$DISK" bs=4 skip=129 count=2 status=none | od -An -tx1; }
forget() { [ -z "$DISK" ] || dd if=/dev/zero of="$DISK" bs=512 seek=1 count=1 conv=notrunc,fsync status=none; }
booted() { [ "$(dd if="$DISK" bs=4 skip=128 count=1 status=none | tr -d '\0')" = HVRT ]; }

created() { virsh -q create "$CONFIG" >/dev/null || exit 99; }
defined() { virsh -q define "$CONFIG" >/dev/null || exit 99; }
running() { created; [ -z "$DISK" ] || wait_for booted; }
paused() { running; virsh -q suspend "$VM"; }
deaf() { edit '/<disk/,/<\/disk>/d'; } # no disk, no system: nothing answers the power button
boots() { # BYTES IN OCTAL: its own disk, with these instructions
  { printf "$1"; head -c "$((510 - $2))" /dev/zero; printf '\125\252'; } >"$W/own.img"
  truncate -s 1M "$W/own.img"
  edit "s:$DISK:$W/own.img:"
}
crashed() { # it writes to the port of the panic device
  edit "s:<on_crash>destroy:<on_crash>preserve:; s:<memballoon:<panic model='isa'/>&:"
  boots '\272\005\005\260\001\356\364\353\375' 9
  created
  wait_for 'virsh domstate "$VM" | grep -q crashed'
}
asleep() { # it asks the chip set for S3
  edit "s:<on_poweroff>:<pm><suspend-to-mem enabled='yes'/></pm>&:"
  boots '\272\004\006\270\000\044\357\364\353\375' 10
  created
  wait_for 'virsh domstate "$VM" | grep -q pmsuspended'
}
slow() { # it needs a second between the power button and its end; until then, the disk shows that it listens
  cat >"$W/slow.asm" <<'END'
bits 16
org 0x7c00
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        sti
        mov     dx, 0x600
        mov     ax, 0x100
        out     dx, ax
        mov     dx, 0x602
        out     dx, ax
        mov     ax, 0x301
        mov     bx, 0x7c00
        mov     cx, 2
        mov     dx, 0x80
        int     0x13
button: hlt
        mov     dx, 0x600
        in      ax, dx
        test    ax, 0x100
        jz      button
        mov     bx, [0x46c]
        add     bx, 18
later:  hlt
        mov     ax, [0x46c]
        sub     ax, bx
        js      later
        mov     dx, 0x604
        mov     ax, 0x2000
        out     dx, ax
        hlt
        times   510 - ($ - $$) db 0
        dw      0xaa55
END
  nasm -f bin -o "$W/own.img" "$W/slow.asm"
  truncate -s 1M "$W/own.img"
  edit "s:$DISK:$W/own.img:"
  created
  wait_for '[ "$(dd if="$W/own.img" bs=512 skip=1 count=1 status=none | tr -d "\0")" ]'
}
disk_full() { # its overlay lies on a file system without room
  mkdir -p "$W/full"
  mount -t tmpfs -o size=260k tmpfs "$W/full"
  qemu-img create -q -f qcow2 -F raw -b "$DISK" "$W/full/overlay"
  head -c 400000 /dev/zero >"$W/full/ballast"
  edit "s:type='raw' cache='none':type='qcow2':; s:$DISK:$W/full/overlay:"
  created
  wait_for 'virsh domstate --reason "$VM" | grep -q I/O'
} 2>/dev/null
overlay() { edit "s:type='raw' cache='none':type='qcow2':; s:$DISK:$1:"; }

qemu() { pgrep -f -- "^/usr/bin/qemu.*-uuid $UUID"; }
kill_qemu() { kill -9 $(qemu); wait_for '! qemu'; }
libvirtd_stops() { systemctl stop libvirtd; wait_for '! pgrep -x libvirtd'; }
libvirtd_freezes() { pkill -STOP -x libvirtd; }
libvirtd_starts() { systemctl start libvirtd; }

program() { # NAME TEXT: first in PATH
  printf '#!/bin/sh\n%s\n' "$2" >"$W/bin/$1"
  chmod 755 "$W/bin/$1"
}
hide() { # PROGRAM OF /usr/bin: for what runs under $W/bin/hidden it is not there
  mkdir "$W/all"
  program hidden "exec unshare -m sh -c '
    mount --bind /usr/bin $W/all && mount -t tmpfs tmpfs /usr/bin && $W/all/ln -s $W/all/* /usr/bin && rm /usr/bin/$1 && exec \"\$@\"
  ' sh \"\$@\""
}
recorded() { # what virsh is told by a migration or a shutdown; the migration fails
  program virsh 'for word; do
    case $word in
      migrate) echo "$*" >>"$(dirname "$0")/../ran"; echo "error: refused by the bench" >&2; exit 1 ;;
      shutdown) echo "$*" >>"$(dirname "$0")/../ran" ;;
    esac
  done
  exec /usr/bin/virsh "$@"'
}
ran() { # PATTERN: the words that followed the command
  sed 's/.* \(migrate\|shutdown\) //' "$W/ran" | grep -qxE -- "$1" || { cat "$W/ran" >&2; return 1; }
}
ended() { # shutdown|destroyed: how the domain's life ended, by libvirt's log of it
  tail -n 1 "/var/log/libvirt/qemu/$VM.log" | grep "reason=$1" || { tail -n 1 "/var/log/libvirt/qemu/$VM.log" >&2; return 1; }
}
state() {
  if timeout 2 virsh -q uri >/dev/null 2>&1; then
    LC_ALL=C virsh -q domstate "$UUID" 2>/dev/null || LC_ALL=C virsh -q domstate "$VM" 2>/dev/null || echo absent
  elif qemu >/dev/null; then echo alive
  else echo dead
  fi
}
cluster() { # resource 'vm' in a file that stands for the cluster's configuration
  cat >"$W/cib.xml" <<END
<cib crm_feature_set="3.0.14" validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0"><configuration>
<crm_config/><nodes/><resources><primitive id="vm" class="ocf" provider="heartbeat" type="VirtualDomain">
<utilization id="vm-utilization"><nvpair id="vm-cpu" name="cpu" value="7"/><nvpair id="vm-hv" name="hv_memory" value="7"/></utilization>
</primitive></resources><constraints/></configuration><status/></cib>
END
}
utilization() { # NAME VALUE
  [ "$(CIB_file=$W/cib.xml crm_resource -Q -r vm -z -g "$1" 2>/dev/null)" = "$2" ]
}
`

const domainOf = ({ node }: Bench, situation: Situation) => (situation.moves ? MOVING : `vm${node.slice(-1)}`)

/** Replaces the names that the functions above use, too. */
function expand(bench: Bench, situation: Situation, text: string): string {
  return text.replaceAll('$W', WORK).replaceAll('$VM', domainOf(bench, situation))
}

function configOf(bench: Bench, situation: Situation): string {
  return expand(bench, situation, situation.config ?? '$W/$VM.xml')
}

function script(bench: Bench, situation: Situation, lines: string, node = bench.node): Promise<Done> {
  const words = [domainOf(bench, situation), configOf(bench, situation)]
  return exec(node, ['sh', '-c', `${PRELUDE}\n${lines}`, 'sh', ...words])
}

/** The guests' definitions on each node, and our agent beside the original if it is asked for. */
export async function furnish(nodes: readonly string[], agents: readonly Agent[]): Promise<Bench[]> {
  const moving = await guest(MOVING)
  const place = async (node: string) => {
    const own = `vm${node.slice(-1)}`
    await writeFile(await pathOn(node, `/root/${own}.xml`), await guest(own, { disk: 'twin' }))
    await writeFile(await pathOn(node, `/root/${MOVING}.xml`), moving)
    if (agents.includes('ours')) await sure(shell(node, `mkdir -p ${ROOT} && havirt ocf install --root ${ROOT}`))
  }
  await Promise.all([...nodes, TARGET].map(place))
  return nodes.map(node => ({ node }))
}

/** Makes the situation, unless it is still there from the one before. */
export async function prepare(bench: Bench, situation: Situation): Promise<void> {
  const { make = ':' } = situation
  const key = JSON.stringify([make, configOf(bench, situation), domainOf(bench, situation)])
  if (bench.made === key) return
  if (situation.moves) await sure(script(bench, situation, 'reset; forget', TARGET))
  await sure(script(bench, situation, `reset\n${make}`))
  bench.made = key
}

/** Runs an agent, and looks what is true afterwards, as far as it is asked. */
export async function perform(bench: Bench, situation: Situation, run: Run, agent: Agent): Promise<Outcome> {
  const expected = run[agent]
  const node = run.there ? TARGET : bench.node
  if (!isHarmless(run)) delete bench.made
  await sure(script(bench, situation, `rm -f $W/ran\n${run.before ?? ':'}`, node))
  const startMs = performance.now()
  const { status, stderr, stdout } = await exec(node, commandLine(bench, situation, run, agent))
  const seconds = (performance.now() - startMs) / 1000
  return {
    code: TIMED_OUT.includes(status) ? 'hangs' : (status as Expected['code']),
    reasons: reasonsIn(stderr),
    said: `${stdout}${stderr}`.slice(0, 4000),
    ...(expected.seconds && { seconds: [seconds, seconds] }),
    ...(expected.state && { state: (await sure(script(bench, situation, 'state', node))).trim() }),
    ...(expected.proof && { proof: await prove(script(bench, situation, expected.proof, node)) }),
  } as Outcome
}

/** What is to be proved or prepared has changed something, even if the action is only a question. */
function isHarmless({ action, harmless, before, original, ours }: Run): boolean {
  if (harmless) return true
  return HARMLESS.has(action) && before === undefined && original.proof === undefined && ours.proof === undefined
}

async function prove(running: Promise<Done>): Promise<string> {
  const { status, stdout, stderr } = await running
  return status === 0 ? 'holds' : `status ${status}: ${stdout}${stderr}`
}

function reasonsIn(stderr: string): string[] {
  const prefix = 'ocf-exit-reason:'
  return stderr.split('\n').flatMap(line => (line.startsWith(prefix) ? [line.slice(prefix.length)] : []))
}

/** As the executor runs it: nothing in the environment but what is listed, killed when its time is over. */
function commandLine(bench: Bench, situation: Situation, run: Run, agent: Agent): string[] {
  const { root, provider } = ROOTS[agent]
  const seconds = (run.timeoutMs ?? TIMEOUT_MS) / 1000
  const environment = run.bare ? {} : environmentOf(bench, situation, run, agent)
  return [
    ...['timeout', '-k', '1', String(seconds), ...underOf(bench, situation, run), 'env', '-i', '-C', '/'],
    ...Object.entries(environment).map(([name, value]) => `${name}=${expand(bench, situation, value)}`),
    `${root}/resource.d/${provider}/VirtualDomain`,
    ...(run.action === '' ? [] : [toAction(run.action)]),
  ]
}

function underOf(bench: Bench, situation: Situation, { under = '' }: Run): string[] {
  return expand(bench, situation, under).split(' ').filter(Boolean)
}

/** A probe is a monitor that does not recur. */
function toAction(action: Action): string {
  return action === 'probe' ? 'monitor' : action
}

function environmentOf(bench: Bench, situation: Situation, run: Run, agent: Agent): Record<string, string> {
  const { root, provider } = ROOTS[agent]
  const parameters = { ...situation.parameters, ...run.parameters }
  const config = situation.config === null ? {} : { config: configOf(bench, situation) }
  return {
    PATH,
    LC_ALL: 'C',
    OCF_ROOT: root,
    OCF_RA_VERSION_MAJOR: '1',
    OCF_RA_VERSION_MINOR: '1',
    OCF_RESOURCE_INSTANCE: 'vm',
    OCF_RESOURCE_TYPE: 'VirtualDomain',
    OCF_RESOURCE_PROVIDER: provider,
    OCF_EXIT_REASON_PREFIX: 'ocf-exit-reason:',
    HA_logfacility: 'none',
    PCMK_logfacility: 'none',
    OCF_RESKEY_crm_feature_set: '3.16.2',
    ...(run.noMeta ? {} : metaOf(bench, run)),
    ...toReskeys({ ...config, ...parameters }),
    ...run.environment,
  }
}

function metaOf({ node }: Bench, run: Run): Record<string, string> {
  return toReskeys({
    CRM_meta_name: toAction(run.action),
    CRM_meta_timeout: String(run.timeoutMs ?? TIMEOUT_MS),
    CRM_meta_on_node: run.there ? TARGET : node,
    ...(run.action === 'monitor' && { CRM_meta_interval: String(INTERVAL_MS) }),
    ...(run.action === 'migrate_to' && {
      CRM_meta_migrate_source: node,
      CRM_meta_migrate_target: run.target ?? TARGET,
    }),
    ...(run.action === 'migrate_from' && { CRM_meta_migrate_source: node, CRM_meta_migrate_target: TARGET }),
  })
}

function toReskeys(parameters: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(parameters).map(([name, value]) => [`OCF_RESKEY_${name}`, value]))
}
