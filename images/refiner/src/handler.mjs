import { processBatch } from "./batch.mjs";
import { isFolderMarker, parseObjectCreated, requireMessageIds } from "./event.mjs";
import { createLogger, describeError } from "./log.mjs";
import { refine } from "./refine.mjs";

/**
 * Makes the Lambda handler of an SQS event source mapping with ReportBatchItemFailures.
 *
 * @param {object} dependencies
 * @param {import("@aws-sdk/client-s3").S3Client} dependencies.s3
 * @param {import("./config.mjs").Config} dependencies.config
 * @param {(line: string) => void} [dependencies.write] receives the log's lines instead of stdout
 */
export function createHandler({ s3, config, write }) {
  return async function handler(event, context) {
    if (!Array.isArray(event?.Records)) {
      throw new TypeError("Expected an SQS event with Records");
    }
    requireMessageIds(event.Records);
    const log = createLogger({ requestId: context.awsRequestId }, write);
    return processBatch(
      event.Records,
      (record, signal) => processRecord(record, { s3, config, log: log.child({ messageId: record?.messageId }), signal }),
      () => context.getRemainingTimeInMillis(),
    );
  };
}

async function processRecord(record, { s3, config, log, signal }) {
  const started = performance.now();
  const durationMs = () => Math.round(performance.now() - started);
  try {
    const input = parseObjectCreated(record);
    const { bucket, key, versionId, eventTime } = input;
    log = log.child({ bucket, key });
    log.info("record received", { versionId, eventTime, ...queueFields(record) });
    signal.throwIfAborted();

    if (isFolderMarker(input)) {
      log.info("record ignored", { reason: "folder marker: the key ends in a slash and the object is empty" });
      return;
    }
    await refine(input, { s3, config, log, signal });
    log.info("record done", { durationMs: durationMs() });
  } catch (error) {
    // "Aborted" says less than why it was aborted.
    const cause = error.name === "AbortError" && signal.aborted ? signal.reason : error;
    log.error("record failed", { ...queueFields(record), durationMs: durationMs(), error: describeError(cause) });
    throw cause;
  }
}

function queueFields(record) {
  return {
    sentTimestamp: Number(record?.attributes?.SentTimestamp),
    receiveCount: Number(record?.attributes?.ApproximateReceiveCount),
  };
}
