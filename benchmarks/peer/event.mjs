// What an event is, and which channels a user takes.
import { z } from 'zod'

export const Event = z.object({
  // BullMQ takes neither a colon nor a bare number as the id of a job.
  eventId: z.string().min(1).max(200).regex(/^(?!\d+$)[^:]+$/),
  eventType: z.string().min(1),
  userId: z.string().min(1),
  payload: z.record(z.string(), z.unknown()),
  timestamp: z.iso.datetime({ offset: true }),
})

export const EVERYTHING = { email: true, sms: true, push: true }

export const channelsOf = ({ email, sms, push }) => [
  ...(email ? ['EMAIL'] : []),
  ...(sms ? ['SMS'] : []),
  ...(push ? ['PUSH'] : []),
]
