// Storage by hand-written SQL: one read, one insert of all rows and one update per event, prepared.
import { openPipelined, openPool } from './connections.mjs'
import { EVERYTHING } from './event.mjs'

const PREFERENCES = `
  select email_opt_in as email, sms_opt_in as sms, push_opt_in as push from user_preferences where user_id = $1`

const INSERT = `
  insert into notification (event_id, event_type, user_id, channel, status, payload)
  select $1, $2, $3, channel, 'PROCESSING', $4 from unnest($5::text[]) as channel
  on conflict (event_id, channel) do nothing
  returning id, channel`

const UNFINISHED = `select id, channel from notification where event_id = $1 and status <> 'SENT'`

const SENT = `update notification set status = 'SENT', updated_at = now() where id = any($1)`

const FAILED = `update notification set status = 'FAILED', error = $2, updated_at = now() where id = any($1)`

export async function openStorage({ storage, databaseUrl, connections }) {
  const query = await (storage === 'pipeline' ? openPipelined : openPool)(databaseUrl, connections)

  async function rowsToSend(event, channels) {
    const { eventId, eventType, userId, payload } = event
    const rows = await query('insert', INSERT, [eventId, eventType, userId, payload, channels])
    // A row that was there is another try's: it is sent again unless it is known to be SENT.
    return rows.length === channels.length ? rows : query('unfinished', UNFINISHED, [eventId])
  }

  async function deliver(event, channels, send) {
    const rows = await rowsToSend(event, channels)
    const outcomes = await Promise.allSettled(rows.map((row) => send(row.channel, event)))
    const sent = rows.filter((_, at) => outcomes[at].status === 'fulfilled')
    const failed = rows.filter((_, at) => outcomes[at].status === 'rejected')
    if (sent.length > 0) await query('sent', SENT, [sent.map((row) => row.id)])
    if (failed.length === 0) return
    const { reason } = outcomes.find((outcome) => outcome.status === 'rejected')
    await query('failed', FAILED, [failed.map((row) => row.id), String(reason)])
    throw reason // BullMQ tries the job again
  }

  return { deliver, preferences: async (userId) => (await query('preferences', PREFERENCES, [userId]))[0] ?? EVERYTHING }
}
