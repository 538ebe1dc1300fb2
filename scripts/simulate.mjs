// Bundles the simulator and runs it: scripts/simulate.mjs [--seeds N] [--from K] [--seed K].
import { spawnSync } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { bundleSimulator } from './bundle-simulator.mjs'

const folder = 'node_modules/.cache/havirt'
await mkdir(folder, { recursive: true })
await bundleSimulator(`${folder}/simulator.mjs`)
const { status } = spawnSync(process.execPath, [`${folder}/simulator.mjs`, ...process.argv.slice(2)], {
  stdio: 'inherit',
})
process.exitCode = status ?? 1
