import { readFileSync } from "node:fs";

import { S3Client } from "@aws-sdk/client-s3";

import { readConfig } from "../src/config.mjs";
import { createHandler } from "../src/handler.mjs";

export const BUCKET = "data-repository";

export const ENVIRONMENT = {
  REFINER_INPUT_PREFIX: "/RefinerInput/",
  REFINER_OUTPUT_PREFIX: "/RefinerOutput/",
  REFINER_COMPLETE_PREFIX: "/RefinerComplete/",
};

/** One of the events in tests/events. */
export function loadEvent(name) {
  return JSON.parse(readFileSync(new URL(`../../../tests/events/${name}.json`, import.meta.url), "utf8"));
}

/** The `Object Created` event of a key; `object` overrides fields of detail.object. */
export function objectCreated(key, object = {}) {
  const event = loadEvent("object-created");
  event.detail.object = { ...event.detail.object, ...object, key };
  return event;
}

/** An SQS batch of the bodies: envelopes, or strings as they are. Message ids are "message-1", "message-2", … */
export function batchOf(...bodies) {
  const [template] = loadEvent("sqs-batch").Records;
  return {
    Records: bodies.map((body, index) => ({
      ...template,
      messageId: `message-${index + 1}`,
      body: typeof body === "string" ? body : JSON.stringify(body),
    })),
  };
}

/** A Lambda context whose time runs from now on. */
export function contextWith(timeoutMs = 60_000) {
  const end = Date.now() + timeoutMs;
  return { awsRequestId: "request-1", getRemainingTimeInMillis: () => end - Date.now() };
}

/** The ids that the handler reported as failed, sorted. */
export function failedIds({ batchItemFailures }) {
  return batchItemFailures.map(({ itemIdentifier }) => itemIdentifier).sort();
}

/** The real handler with a real SDK client for the server, and the log lines that it wrote. */
export function startRefiner(server, environment = ENVIRONMENT) {
  const s3 = new S3Client({
    endpoint: server.endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
  const lines = [];
  const handler = createHandler({ s3, config: readConfig(environment), write: (line) => lines.push(JSON.parse(line)) });
  return {
    handler,
    lines,
    linesOf: (message) => lines.filter((line) => line.message === message),
    run: (...bodies) => handler(batchOf(...bodies), contextWith()),
    stop: () => s3.destroy(),
  };
}
