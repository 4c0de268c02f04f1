// How fast BullMQ alone is: jobs that do nothing, from a full queue to the last one done; prints jobs/s. A quarter of them warms up.
// `node noop.mjs COUNT`
import { Queue, Worker } from 'bullmq'
import { connect, settings } from './settings.mjs'

const NAME = 'noop-queue'
const AT_ONCE = 1000
const count = Number(process.argv[2])
const warmUp = Math.floor(count / 4)

const queue = new Queue(NAME, { connection: connect(), defaultJobOptions: { removeOnComplete: true } })
for (let first = 0; first < count; first += AT_ONCE) {
  await queue.addBulk(Array.from({ length: Math.min(AT_ONCE, count - first) }, (_, at) => ({ name: 'noop', data: { number: first + at } })))
}

const worker = new Worker(NAME, async () => {}, { connection: connect(), concurrency: settings.concurrency, autorun: false })
await worker.waitUntilReady()
let done = 0
let began
worker.on('completed', () => {
  done++
  if (done === warmUp) began = performance.now()
  if (done < count) return
  console.log(((count - warmUp) / (performance.now() - began)) * 1000)
  process.exit(0)
})
worker.run()
