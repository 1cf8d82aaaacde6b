import { addAbortSignal } from "node:stream";

import { PutObjectCommand } from "@aws-sdk/client-s3";

import { MultipartUpload } from "./multipart-upload.mjs";
import { readParts } from "./parts.mjs";
import { TaskGroup } from "./task-group.mjs";

// Up to this size an object is one request per copy; above, it is streamed in parts of this size. A record holds two
// parts in memory, the one being sent and the one being read, so four records at a time hold 128 MiB. 10,000 parts, the
// most that S3 allows, are 160 GB: more than a function can move in its 15 minutes.
export const PART_SIZE = 16 * 1024 * 1024;

/**
 * Writes the source to every key of the bucket, reading it once. No key gets a part of it: whatever fails, fails before
 * anything becomes visible under that key.
 *
 * @param {import("@aws-sdk/client-s3").S3Client} s3
 * @param {import("./source.mjs").Source} source
 * @param {{bucket: string, keys: string[]}} targets
 * @param {object} options
 * @param {AbortSignal} options.signal
 * @param {ReturnType<typeof import("./log.mjs").createLogger>} options.log gets "output written"
 */
export async function writeCopies(s3, source, { bucket, keys }, { signal, log }) {
  const group = new TaskGroup(signal);
  addAbortSignal(group.signal, source.body);
  const targets = keys.map((Key) => ({ Bucket: bucket, Key }));
  const write = source.size <= PART_SIZE ? writeWhole : writeInParts;
  await write(s3, source, targets, { group, log });
}

async function writeWhole(s3, { body, size, headers }, targets, { group, log }) {
  let content = Buffer.alloc(0);
  for await (const part of readParts(body, size, size)) {
    content = part;
  }
  const put = async (target) => {
    const command = new PutObjectCommand({ ...target, ...headers, Body: content });
    await s3.send(command, { abortSignal: group.signal });
    log.info("output written", { outputKey: target.Key, bytes: size });
  };
  await group.all(targets.map(put));
}

async function writeInParts(s3, { body, size, headers }, targets, { group, log }) {
  const uploads = targets.map((target) => ({ key: target.Key, upload: new MultipartUpload(s3, target) }));
  const complete = async ({ key, upload }) => {
    await upload.complete(group.signal);
    log.info("output written", { outputKey: key, bytes: size });
  };
  try {
    await group.all(uploads.map(({ upload }) => upload.start(headers, group.signal)));
    await sendParts(readParts(body, size, PART_SIZE), uploads, group);
    await group.all(uploads.map(complete));
  } catch (error) {
    await Promise.all(uploads.map(({ upload }) => upload.abandon(log)));
    throw error;
  }
}

// Sends one part to all uploads while the next one is read: the slowest upload sets the pace of the reading.
async function sendParts(parts, uploads, group) {
  let sending = Promise.resolve();
  try {
    for await (const part of parts) {
      await sending;
      sending = group.all(uploads.map(({ upload }) => upload.send(part, group.signal)));
      sending.catch(() => {}); // it is awaited after the next part was read, which is late for an unhandled rejection
    }
    await sending;
  } catch (error) {
    group.fail(error);
    await sending.catch(() => {});
    group.signal.throwIfAborted();
  }
}
