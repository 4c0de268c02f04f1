// The API: validate, put on the queue, answer 202. `node server.mjs`
import { Queue } from 'bullmq'
import express from 'express'
import { Event } from './event.mjs'
import { QUEUE, connect, settings } from './settings.mjs'
import { jobOptions } from './queue.mjs'

const queue = new Queue(QUEUE, { connection: connect() })
const app = express()
app.disable('x-powered-by')
app.disable('etag')
app.use(express.json({ limit: '64kb' }))

app.post('/api/events', async (request, response) => {
  const parsed = Event.safeParse(request.body)
  if (!parsed.success) return response.status(400).json({ errors: parsed.error.issues })
  const event = parsed.data
  await queue.add(event.eventType, event, jobOptions(event.eventId))
  response.status(202).json({ message: 'Event accepted and queued for processing', jobId: event.eventId })
})

app.get('/readyz', async (_request, response) => {
  await queue.waitUntilReady()
  response.json({ ok: true })
})

app.listen(settings.port, '127.0.0.1')
