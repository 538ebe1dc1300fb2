/**
 * The first lines that run. They load the program from code that V8 has compiled before, since compiling takes longer than most
 * commands' work. The compiled code lies in the private runtime folder of this machine, under the names of this very build and
 * this very Node.js, because V8 itself would take code of another build whose text is equally long.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Script } from 'node:vm'
import { runtimeFolder } from '../nodes/runtime-folder.ts'

/** The build's version, and the file name of its program, which holds a hash of it. */
declare const HAVIRT_VERSION: string
declare const HAVIRT_PROGRAM: string

interface Program {
  run(argv: readonly string[], version: string): Promise<number>
}

const argv = process.argv.slice(2)
if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
  process.stdout.write(`havirt ${HAVIRT_VERSION}\n`)
} else {
  void start()
}

async function start(): Promise<void> {
  const file = join(__dirname, HAVIRT_PROGRAM)
  const compiled = join(runtimeFolder(), 'code', `${HAVIRT_PROGRAM}-${process.version}-${process.arch}`)
  const cachedData = readPrivate(compiled)
  // The wrapper is what Node.js puts around a CommonJS file.
  const script = new Script(
    `(function(exports,require,module,__filename,__dirname){${readFileSync(file, 'utf8')}\n})`,
    {
      filename: file,
      ...(cachedData === undefined ? {} : { cachedData }),
    },
  )
  const module: { exports: Program } = { exports: { run: async () => 1 } }
  script.runInThisContext()(module.exports, createRequire(file), module, file, __dirname)
  const status = await module.exports.run(argv, HAVIRT_VERSION)
  const news = `${compiled}.${argv
    .filter(word => /^[a-z][a-z-]{1,19}$/.test(word))
    .slice(0, 2)
    .join('.')}`
  if (cachedData === undefined || script.cachedDataRejected || (status === 0 && !existsSync(news)))
    keep(compiled, news, script)
  // Said outright: an ssh that lingers must not keep the command. Writes to files, pipes and terminals are done by now.
  process.exit(status)
}

/** The file's bytes, if it is ours alone: whoever could write it could run anything as us. */
function readPrivate(file: string): Buffer | undefined {
  try {
    const { uid, mode } = statSync(join(file, '..'))
    return uid === process.getuid?.() && (mode & 0o077) === 0 ? readFileSync(file) : undefined
  } catch {
    return undefined
  }
}

/**
 * For the next command, with what was compiled before. `mark` says that this verb's code is among it, which V8 compiles when it is
 * first called. That it cannot be kept is no error of this command.
 */
function keep(file: string, mark: string, script: Script): void {
  try {
    mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 })
    const fresh = `${file}.${process.pid}`
    writeFileSync(fresh, script.createCachedData(), { flag: 'wx', mode: 0o600 })
    renameSync(fresh, file)
    writeFileSync(mark, '')
  } catch {}
}
