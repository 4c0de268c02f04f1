// Two ways to use connections: pg's pool, as most programs have it, with one statement on a connection at a time; and pg's pipeline
// mode, statement upon statement on connections in turn, without waiting for the answers between them.
import pg from 'pg'

function lost(error) {
  console.error(`connection to PostgreSQL lost: ${error.message}`)
  process.exit(1) // whoever started us starts us again, and BullMQ gives out the jobs that we held
}

export async function openPool(connectionString, number) {
  const pool = new pg.Pool({ connectionString, max: number, idleTimeoutMillis: 0 })
  pool.on('error', lost)
  await Promise.all(Array.from({ length: number }, () => pool.query('select'))) // no job waits for a connection to be made
  return async (name, text, values) => (await pool.query({ name, text, values })).rows
}

async function openOne(connectionString) {
  const client = new pg.Client({ connectionString, pipeline: true })
  client.on('error', lost)
  await client.connect()
  return client
}

export async function openPipelined(connectionString, number) {
  const clients = await Promise.all(Array.from({ length: number }, () => openOne(connectionString)))
  let turn = 0
  return async (name, text, values) => (await clients[turn++ % number].query({ name, text, values })).rows
}
