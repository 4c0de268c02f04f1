// Storage as the seeds write it: Prisma, and for each channel a statement that creates the row and one that finishes it.
import { PrismaPg } from '@prisma/adapter-pg'
import prismaClient from '@prisma/client'
import { EVERYTHING } from '../event.mjs'

const REPEATED = 'P2002' // a row with this event and channel is there

export async function openStorage({ databaseUrl, connections }) {
  const prisma = new prismaClient.PrismaClient({ adapter: new PrismaPg({ connectionString: databaseUrl, max: connections }) })

  async function preferences(userId) {
    const found = await prisma.userPreferences.findUnique({ where: { userId } })
    return found ? { email: found.emailOptIn, sms: found.smsOptIn, push: found.pushOptIn } : EVERYTHING
  }

  async function rowToSend({ eventId, eventType, userId, payload }, channel) {
    try {
      return await prisma.notification.create({ data: { eventId, eventType, userId, channel, status: 'PROCESSING', payload } })
    } catch (error) {
      if (error.code !== REPEATED) throw error
      return prisma.notification.findUnique({ where: { eventId_channel: { eventId, channel } } })
    }
  }

  async function deliverOne(event, channel, send) {
    const { id, status } = await rowToSend(event, channel)
    if (status === 'SENT') return
    try {
      await send(channel, event)
    } catch (error) {
      await prisma.notification.update({ where: { id }, data: { status: 'FAILED', error: String(error) } })
      throw error // BullMQ tries the job again
    }
    await prisma.notification.update({ where: { id }, data: { status: 'SENT' } })
  }

  async function deliver(event, channels, send) {
    await Promise.all(channels.map((channel) => deliverOne(event, channel, send)))
  }

  return { deliver, preferences }
}
