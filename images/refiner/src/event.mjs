/** The message is not an S3 `Object Created` event and will not become one by trying again. */
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
 * Reads the body of an SQS message that an EventBridge rule sent.
 *
 * The shape is described at https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
 *
 * @param {string} body
 * @returns {Input}
 * @throws {InvalidEventError}
 */
export function parseObjectCreated(body) {
  const event = parseJson(body);
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
    etag: object.etag,
    versionId: object["version-id"],
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

/**
 * Whether the object is what the S3 console creates for "Create folder": nothing to refine.
 *
 * @param {Input} input
 */
export function isFolderMarker({ key, size }) {
  return key.endsWith("/") && size === 0;
}
