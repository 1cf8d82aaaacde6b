import { PutObjectCommand } from "@aws-sdk/client-s3";

import { writeCopies } from "./copies.mjs";
import { completionKey, outputKeys } from "./keys.mjs";
import { openSource } from "./source.mjs";

/**
 * Refines one input: writes its outputs and then, only when all of them are safe, its completion.
 *
 * @param {import("./event.mjs").Input} input
 * @param {object} options
 * @param {import("@aws-sdk/client-s3").S3Client} options.s3
 * @param {import("./config.mjs").Config} options.config
 * @param {ReturnType<typeof import("./log.mjs").createLogger>} options.log
 * @param {AbortSignal} options.signal
 */
export async function refine(input, { s3, config, log, signal }) {
  // First, because an input that has no place for its completion should not leave outputs that nobody finds.
  const Key = completionKey(input.key, config);

  const source = await openSource(s3, input, signal);
  const keys = outputKeys({ bucket: input.bucket, key: input.key, version: source.version }, config);
  await writeCopies(s3, source, { bucket: input.bucket, keys }, { signal, log });

  const completion = keys.map((key) => `/${key}`);
  const command = new PutObjectCommand({
    Bucket: input.bucket,
    Key,
    Body: JSON.stringify(completion),
    ContentType: "application/json",
    Metadata: completionMetadata(source, input),
  });
  await s3.send(command, { abortSignal: signal });
  log.info("completion written", { completionKey: Key, completion });
}

// S3 allows 2,048 bytes of user metadata in all, and a key of 1,024 bytes can take three times as many here.
const MAX_SOURCE_BYTES = 1_500;

function completionMetadata(source, input) {
  const eventVersion = input.versionId ?? input.etag;
  const bucketKey = headerSafe(`${input.bucket}/${input.key}`);
  return {
    "source-version": headerSafe(source.version),
    ...(eventVersion && { "source-event-version": headerSafe(eventVersion) }),
    ...(bucketKey.length <= MAX_SOURCE_BYTES && { "source-bucket-key": bucketKey }),
  };
}

// S3 user metadata travels in HTTP headers, which hold ASCII only. `%` is encoded, too, so that decoding is exact.
function headerSafe(value) {
  return value.toWellFormed().replace(/[^\x21-\x24\x26-\x7e]/gu, encodeURIComponent);
}
