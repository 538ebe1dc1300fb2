/** Scripts that work in the folder of the leases: whether it can be written as sanlock writes, and taking out what nobody uses. */
import { LOCKSPACE } from '../core/lease.ts'

/** `sh -c` with a folder and a name: writes and reads a file of that name past the page cache, and removes it. */
export const DIRECT_SCRIPT = `file=$1/$2
said=$(dd if=/dev/zero of="$file" bs=4096 count=1 oflag=direct 2>&1 && dd if="$file" of=/dev/null bs=4096 count=1 iflag=direct 2>&1)
status=$?
rm -f -- "$file"
[ $status = 0 ] || { printf '%s\\n' "$said" | head -n 1 >&2; exit 1; }
echo end`

/**
 * `sh -c` with the folder, and names of leases on standard input: each is taken by a process of ours that removes its file while it
 * holds it, and is given back when that process ends. A lease that somebody has is not given, and its file stays. Every removal is
 * whole: whoever ends this in the middle leaves the rest as it was.
 */
export const REMOVE_SCRIPT = `PATH=$PATH:/usr/sbin:/sbin
folder=$1
while IFS= read -r name; do
  [ -e "$folder/$name" ] || { printf 'kept\\t%s\\tit is not there any more\\n' "$name"; continue; }
  said=$(sanlock client command -r "${LOCKSPACE}:$name:$folder/$name:0" -c /bin/rm -f "$folder/$name" 2>&1)
  if [ -e "$folder/$name" ]; then printf 'kept\\t%s\\t%s\\n' "$name" "$(printf %s "$said" | tr '\\n\\t' '  ')"; else printf 'removed\\t%s\\n' "$name"; fi
done
echo end`

export type Removal = 'removed' | { readonly kept: string }

/** What became of each name; one that is not there was not come to. */
export function parseRemoved(text: string): Map<string, Removal> {
  const rows = text.split('\n').map(line => line.split('\t'))
  return new Map(
    rows.flatMap(([word, name = '', said = '']): (readonly [string, Removal])[] => {
      if (word === 'removed') return [[name, 'removed']]
      return word === 'kept' ? [[name, { kept: said.trim() }]] : []
    }),
  )
}
