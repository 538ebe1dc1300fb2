/** What nodes find out about each other: whether they can log in, whether they see the same folders and the same disks. */
import type { DeviceFacts, Login } from '../core/validate/survey.ts'

/**
 * `sh -c` with the names to log in to. All at once, each with a deadline; the answer is the other's id. ssh reads the configuration
 * that a migration reads, so it is given nothing but that it must not ask.
 */
export const LOGIN_SCRIPT = `for name in "$@"; do
  (
    out=$(timeout 8 ssh -n -o BatchMode=yes -o ConnectTimeout=5 -- "$name" cat /var/lib/havirt/id 2>&1)
    printf 'login\\t%s\\t%s\\t%s\\n' "$name" $? "$(printf %s "$out" | tr '\\n\\t' '  ')"
  ) &
done
wait
echo end`

/** Reads what it printed. A name without an answer was not tried to the end. */
export function parseLogins(from: string, names: readonly string[], text: string): Login[] {
  const rows = new Map(rowsOf(text, 'login').map(([name = '', status = '', said = '']) => [name, { status, said }]))
  return names.map(to => {
    const { status, said = 'it was not tried to the end' } = rows.get(to) ?? {}
    const id = status === '0' ? /(?:^|\s)node: (\S+)/.exec(said)?.[1] : undefined
    return { from, to, id, said: said.trim() }
  })
}

/** `sh -c` with the file's name and folders: writes an empty file of that name into each, and says where it could. */
export const MARK_SCRIPT = `name=$1; shift
for folder in "$@"; do
  if [ ! -d "$folder" ]; then printf 'missing\t%s\n' "$folder"
  elif (: >"$folder/$name") 2>/dev/null; then printf 'wrote\t%s\n' "$folder"; fi
done
echo end`

/** The same with what the names of all such files begin with: says whose are there. */
export const LOOK_SCRIPT = `prefix=$1; shift
for folder in "$@"; do
  for file in "$folder/$prefix".*; do
    [ -e "$file" ] && printf 'there\t%s\t%s\n' "$folder" "\${file##*/"$prefix".}"
  done
done
echo end`

/** Removes that one file again. */
export const UNMARK_SCRIPT = `name=$1; shift
for folder in "$@"; do rm -f -- "$folder/$name"; done
echo end`

/** The folders that were printed behind this word. */
export function foldersIn(text: string, word: 'wrote' | 'missing'): string[] {
  return rowsOf(text, word).map(([folder = '']) => folder)
}

/** Whose files are in a folder. */
export function seenIn(text: string, folder: string): string[] {
  return rowsOf(text, 'there').flatMap(([where, whose = '']) => (where === folder ? [whose] : []))
}

/** True when the script came to its end. */
export function isWhole(text: string): boolean {
  return text.split('\n').includes('end')
}

/** `sh -c` with paths of block devices. They are only read: without O_DIRECT's failing, and past the page cache where that works. */
export const DEVICE_SCRIPT = `PATH=$PATH:/usr/sbin:/sbin
for path in "$@"; do
  [ -b "$path" ] || continue
  sum=$( { timeout 5 dd if="$path" bs=1M count=1 iflag=direct 2>/dev/null || timeout 5 dd if="$path" bs=1M count=1 2>/dev/null; } | sha256sum)
  printf 'device\\t%s\\t%s\\t%s\\n' "$(blockdev --getsize64 "$path" 2>/dev/null)" "\${sum%% *}" "$path"
done
echo end`

/** Reads what it printed, by path. */
export function parseDevices(text: string): Map<string, DeviceFacts> {
  return new Map(
    rowsOf(text, 'device').map(([bytes = '', firstMiB = '', path = '']) => [path, { bytes: Number(bytes), firstMiB }]),
  )
}

function rowsOf(text: string, word: string): string[][] {
  const rows = text.split('\n').map(line => line.split('\t'))
  return rows.filter(([first]) => first === word).map(row => row.slice(1))
}
