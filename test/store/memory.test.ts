/** The store in memory. */
import { MemoryStore } from '../../src/store/memory.ts'
import { storeConformance } from './conformance.ts'

storeConformance('the store in memory', async () => {
  const store = new MemoryStore()
  return { stores: [store, store, store] }
})
