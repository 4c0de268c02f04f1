// Connections in turn, each sent statement upon statement without waiting for the answers: pg's own pool has one statement
// on a connection at a time, which costs a fifth of the events/s.
import pg from 'pg'

function lost(error) {
  console.error(`connection to PostgreSQL lost: ${error.message}`)
  process.exit(1) // whoever started us starts us again, and BullMQ gives out the jobs that we held
}

async function open(connectionString) {
  const client = new pg.Client({ connectionString, pipeline: true })
  client.on('error', lost)
  await client.connect()
  return client
}

export async function openConnections(connectionString, number) {
  const clients = await Promise.all(Array.from({ length: number }, () => open(connectionString)))
  let turn = 0
  return async (name, text, values) => (await clients[turn++ % number].query({ name, text, values })).rows
}
