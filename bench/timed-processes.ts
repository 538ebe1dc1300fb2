/**
 * Times processes with all that they start: the kernel's own account (wait4) of CPU and memory. Node.js cannot ask for that, and its own
 * memory would count as its child's before the exec; so a small Python program does, which is there wherever Pacemaker's agents are.
 */

/** What {@link TIMER} is asked on its standard input. */
export interface ProcessPlan {
  readonly rounds: number
  /** First rounds that do not count. */
  readonly warmUps: number
  /** How many run at once; the commands of one turn, and the turns one after the other. */
  readonly atOnce: number
  /** A..., B..., A..., B...: each of these is a turn, and the turns of a round are taken in the order in which they stand. */
  readonly turns: Readonly<Record<string, readonly ProcessCommand[]>>
  /** Programs whose own CPU is of interest, since they work for whoever is timed. */
  readonly daemons: readonly string[]
}

export interface ProcessCommand {
  readonly argv: readonly string[]
  /** The whole environment. */
  readonly environment: Readonly<Record<string, string>>
  /** Makes it possible, and is in no figure. */
  readonly before?: readonly string[]
}

/** One turn of one round. CPU is that of the processes and of all that they started and waited for. */
export interface Taken {
  readonly ms: number
  readonly cpuMs: number
  /** The largest resident memory of any one process. */
  readonly peakMB: number
  /** What the daemons used meanwhile, all of it; the kernel counts it in ticks of 10 ms. */
  readonly daemonsMs: Readonly<Record<string, number>>
}

/** Of every counted round, by turn. */
export type TakenInTurn = Readonly<Record<string, readonly Taken[]>>

/** Every command must end with 0: anything else ends the timer, with what the command said. */
export const TIMER = `
import json, os, subprocess, sys, tempfile, time

plan = json.load(sys.stdin)
tick_ms = 1000 / os.sysconf('SC_CLK_TCK')

def pid_of(name):
    return subprocess.run(['pidof', name], capture_output=True, text=True, check=True).stdout.split()[0]

def cpu_of(pid):
    with open(f'/proc/{pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * tick_ms

def begin(command):
    said = tempfile.TemporaryFile()
    argv = command['argv']
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir('/')
            os.dup2(os.open('/dev/null', os.O_RDWR), 0)
            os.dup2(0, 1)
            os.dup2(said.fileno(), 2)
            os.execve(argv[0], argv, command['environment'])
        finally:
            os._exit(127)
    return pid, said

def take(commands):
    waiting, running = list(commands), {}
    cpu = peak = 0
    for command in commands:
        if 'before' in command:
            subprocess.run(command['before'], check=True)
    before = {name: cpu_of(pid) for name, pid in daemons.items()}
    began = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < plan['atOnce']:
            command = waiting.pop(0)
            pid, said = begin(command)
            running[pid] = (command, said)
        pid, status, usage = os.wait4(-1, 0)
        if pid not in running:
            continue
        command, said = running.pop(pid)
        if status != 0:
            said.seek(0)
            sys.exit(f"{command['argv']} ended with {os.waitstatus_to_exitcode(status)}: {said.read().decode()}")
        said.close()
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
    ms = (time.perf_counter() - began) * 1000
    spent = {name: cpu_of(pid) - before[name] for name, pid in daemons.items()}
    return {'ms': ms, 'cpuMs': cpu * 1000, 'peakMB': peak * 1024 / 1e6, 'daemonsMs': spent}

daemons = {name: pid_of(name) for name in plan['daemons']}
taken = {name: [] for name in plan['turns']}
for round in range(-plan['warmUps'], plan['rounds']):
    for name, commands in plan['turns'].items():
        one = take(commands)
        if round >= 0:
            taken[name].append(one)
json.dump(taken, sys.stdout)
`
