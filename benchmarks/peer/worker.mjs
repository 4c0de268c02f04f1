// The worker: preferences and rate limit, rows, the providers, the outcome. `node worker.mjs`
import { UnrecoverableError, Worker } from 'bullmq'
import { channelsOf } from './event.mjs'
import { rateLimit } from './limit.mjs'
import { send } from './providers.mjs'
import { QUEUE, connect, settings } from './settings.mjs'

const storages = { pg: './storage.mjs', pipeline: './storage.mjs', prisma: './prisma/storage.mjs' }
const { openStorage } = await import(storages[settings.storage])
const storage = await openStorage(settings)
const allow = rateLimit(connect(), settings.rateLimitPerMinute)

async function work({ data: event }) {
  const [preferences, allowed] = await Promise.all([storage.preferences(event.userId), allow(event.userId)])
  if (!allowed) throw new UnrecoverableError(`more than ${settings.rateLimitPerMinute} events a minute for ${event.userId}`)
  const channels = channelsOf(preferences)
  if (channels.length > 0) await storage.deliver(event, channels, send)
}

const worker = new Worker(QUEUE, work, { connection: connect(), concurrency: settings.concurrency })
worker.on('error', (error) => console.error(error.message))
worker.on('failed', (job, error) => console.error(job?.id, error.message))
process.once('SIGTERM', () => worker.close().then(() => process.exit(0)))
