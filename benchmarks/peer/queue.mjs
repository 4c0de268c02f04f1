// How an event lies on the queue: its id is the job's, so that a repeated event makes no second job while the first is kept.
export const jobOptions = (eventId) => ({
  jobId: eventId,
  attempts: 3,
  backoff: { type: 'exponential', delay: 1000 },
  removeOnComplete: { count: 1000 },
  removeOnFail: { count: 1000 },
})
