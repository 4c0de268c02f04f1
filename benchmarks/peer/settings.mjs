// What the environment says. One place, so that each process shows the same names.
import { Redis } from 'ioredis'

export const QUEUE = 'notification-queue'

const number = (name, otherwise) => Number(process.env[name] ?? otherwise)
const storage = process.env.STORAGE ?? 'pg'

export const settings = {
  redisUrl: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
  databaseUrl: process.env.DATABASE_URL ?? 'postgresql://127.0.0.1:5432/peer',
  port: number('PORT', 3001),
  storage,
  concurrency: number('CONCURRENCY', 100),
  connections: number('CONNECTIONS', { pg: 20, pipeline: 16, prisma: 10 }[storage]),
  rateLimitPerMinute: number('RATE_LIMIT_PER_MINUTE', 5),
}

// BullMQ wants no limit on retries of a request where it blocks.
export const connect = () => new Redis(settings.redisUrl, { maxRetriesPerRequest: null })
