// Put events on the queue before a worker is started. `node fill.mjs COUNT`
import { Queue } from 'bullmq'
import { jobOptions } from './queue.mjs'
import { QUEUE, connect } from './settings.mjs'

const AT_ONCE = 1000

const event = (number) => ({
  eventId: `fill-${number}`,
  eventType: 'ORDER_PLACED',
  userId: `user_${number}`,
  payload: { orderAmount: 250, items: ['Laptop', 'Mouse'] },
  timestamp: '2026-03-31T16:30:00Z',
})

const queue = new Queue(QUEUE, { connection: connect() })
const count = Number(process.argv[2])
for (let first = 0; first < count; first += AT_ONCE) {
  const events = Array.from({ length: Math.min(AT_ONCE, count - first) }, (_, at) => event(first + at))
  await queue.addBulk(events.map((data) => ({ name: data.eventType, data, opts: jobOptions(data.eventId) })))
}
console.log(await queue.getWaitingCount())
process.exit(0)
