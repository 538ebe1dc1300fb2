/** Claims keep their promises over every store. */
import { rm } from 'node:fs/promises'
import { DirectoryStore } from '../../src/store/directory.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import { StoreError } from '../../src/store/store.ts'
import { claimLaws, claimLawsUnderFailures } from './claim-laws.ts'
import { RoughStore } from './claim-parts.ts'
import { makeFolder } from './parts.ts'
import { generator, worldOnNfs } from './simulated-nfs.ts'

claimLaws(
  'the store in memory',
  async () => {
    const store = new MemoryStore()
    return { stores: [store, store, store, store] }
  },
  { runs: 60 },
)

claimLaws(
  'a folder on disk',
  async () => {
    const folder = await makeFolder()
    const stores = ['node1', 'node2', 'node3'].map(
      label => new DirectoryStore(folder, { writer: { label, pid: 1, isAlive: () => true } }),
    )
    return { stores, close: () => rm(folder, { recursive: true, force: true }) }
  },
  { runs: 2 },
)

const calm = { repeats: 0.1, stalls: 0.02 }
claimLaws('a folder on NFS', async seed => worldOnNfs(DirectoryStore, { seed, ...calm }), { runs: 10 })
claimLawsUnderFailures('a folder on NFS', async seed => worldOnNfs(DirectoryStore, { seed, ...calm, failures: 0.01 }), {
  runs: 20,
})

claimLawsUnderFailures('a store in memory', async seed => slowAndRough(seed, 0), { runs: 50 })
claimLawsUnderFailures('a store in memory, often in doubt', async seed => slowAndRough(seed, 0.1), { runs: 50 })

/** Everybody's operations interleave as the seed has it; so many fail, or leave their caller in doubt. */
function slowAndRough(seed: number, failures: number) {
  const random = generator(seed)
  const store = new RoughStore()
  const rest = async () => {
    for (let turns = Math.floor(random() * 6); turns > 0; turns--) await new Promise(resolve => setImmediate(resolve))
  }
  store.before = async () => {
    await rest()
    if (random() < failures) throw new StoreError('no answer', 'try again')
  }
  store.after = rest
  store.fate = () => (random() >= failures ? 'told' : random() < 0.5 ? 'done' : 'not done')
  const calm = () => {
    store.before = () => undefined
    store.fate = () => 'told'
  }
  return { stores: [store, store, store, store], calm }
}
