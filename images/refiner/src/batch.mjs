const CONCURRENCY = 4;

/** There is too little time left to process the record in this invocation. */
export class OutOfTimeError extends Error {
  name = "OutOfTimeError";
}

/**
 * Processes the records of a batch, some at a time, and reports those that failed, so that only they return to the
 * queue. Lambda would return the whole batch if it had to kill the function; so a record whose turn comes near the end
 * of the time gets an aborted signal, and a little later the running ones are aborted.
 *
 * @template {{messageId: string} | null} R
 * @param {R[]} records
 * @param {(record: R, signal: AbortSignal) => Promise<void>} processRecord rejects, having said why, if the record failed
 * @param {() => number} remainingMs milliseconds until the function is killed
 * @returns {Promise<{batchItemFailures: {itemIdentifier: string}[]}>}
 */
export async function processBatch(records, processRecord, remainingMs) {
  const total = remainingMs();
  const startMargin = Math.min(5_000, total / 5);
  const abortMargin = Math.min(2_000, total / 10);

  const deadline = new AbortController();
  const timer = setTimeout(() => {
    deadline.abort(new OutOfTimeError("The function's time ran out while the record was being processed"));
  }, total - abortMargin);
  const tooLate = AbortSignal.abort(new OutOfTimeError("Too little of the function's time was left to start the record"));

  const failed = new Set();
  const queue = records.values();
  const worker = async () => {
    for (const record of queue) {
      try {
        await processRecord(record, remainingMs() < startMargin ? tooLate : deadline.signal);
      } catch {
        failed.add(record?.messageId ?? ""); // SQS takes an empty id as a failure of the whole batch: nothing is lost
      }
    }
  };
  // The workers share one iterator: each takes the next record when it is done with its own.
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  clearTimeout(timer);

  return { batchItemFailures: Array.from(failed, (itemIdentifier) => ({ itemIdentifier })) };
}
