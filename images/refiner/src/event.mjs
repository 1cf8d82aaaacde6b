/** The record is not an S3 `Object Created` event in an SQS message, and will not become one by trying again. */
export class InvalidEventError extends Error {
  name = "InvalidEventError";
}

/**
 * @typedef {object} Input
 * @property {string} bucket
 * @property {string} key as it is: EventBridge does not URL-encode keys, unlike S3's direct notifications
 * @property {number} [size] bytes
 * @property {string} [etag] without quotes
 * @property {string} [versionId] absent where the bucket keeps no versions
 * @property {string} [eventTime] ISO 8601
 */

/**
 * Refuses records without a message id: those of S3, SNS, Kinesis and others that invoke the function themselves. Their
 * failures could not be reported, and an asynchronous invocation would lose them silently.
 *
 * @param {unknown[]} records
 * @throws {TypeError}
 */
export function requireMessageIds(records) {
  const other = records.find((record) => isObject(record) && (typeof record.messageId !== "string" || !record.messageId));
  if (other !== undefined) {
    const source = JSON.stringify(other.eventSource ?? other.EventSource);
    throw new TypeError(`Expected records of SQS, got one without messageId and with eventSource ${source}`);
  }
}

/**
 * Reads a record of SQS whose body an EventBridge rule sent.
 *
 * The shape is described at https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
 *
 * @param {unknown} record
 * @returns {Input}
 * @throws {InvalidEventError}
 */
export function parseObjectCreated(record) {
  if (!isObject(record)) {
    throw new InvalidEventError(`Expected an SQS message, got ${JSON.stringify(record)?.slice(0, 100)}`);
  }
  const event = parseJson(record.body);
  if (event?.source !== "aws.s3" || event["detail-type"] !== "Object Created") {
    throw new InvalidEventError(
      `Expected an "Object Created" event from aws.s3, got ${JSON.stringify(event?.["detail-type"])} from ${JSON.stringify(event?.source)}`,
    );
  }
  const object = event.detail?.object;
  return {
    bucket: requireString(event.detail?.bucket?.name, "detail.bucket.name"),
    key: requireString(object?.key, "detail.object.key"),
    size: object.size,
    etag: optionalString(object.etag, "detail.object.etag"),
    versionId: optionalString(object["version-id"], "detail.object.version-id"),
    eventTime: event.time,
  };
}

function parseJson(body) {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new InvalidEventError(`The message body is not JSON: ${error.message}`, { cause: error });
  }
}

function requireString(value, name) {
  if (typeof value !== "string" || value === "") {
    throw new InvalidEventError(`The event has no ${name}`);
  }
  return value;
}

function optionalString(value, name) {
  if (value !== undefined && value !== null && typeof value !== "string") {
    throw new InvalidEventError(`The event's ${name} is not a string: ${JSON.stringify(value).slice(0, 100)}`);
  }
  return value ?? undefined;
}

function isObject(value) {
  return typeof value === "object" && value !== null;
}

/**
 * Whether the object is what the S3 console creates for "Create folder": nothing to refine.
 *
 * @param {Input} input
 */
export function isFolderMarker({ key, size }) {
  return key.endsWith("/") && size === 0;
}
