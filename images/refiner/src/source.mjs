import { GetObjectCommand } from "@aws-sdk/client-s3";

/**
 * @typedef {object} Source
 * @property {import("node:stream").Readable} body
 * @property {number} size bytes
 * @property {string} version of the object that is being read
 * @property {object} headers that outputs share with the input
 */

/**
 * Starts to read the object's newest version. The role may not read older ones, so this can be a later version than
 * the event's.
 *
 * @param {import("@aws-sdk/client-s3").S3Client} s3
 * @param {import("./event.mjs").Input} input
 * @param {AbortSignal} abortSignal ends the reading of the body, too
 * @returns {Promise<Source>}
 */
export async function openSource(s3, input, abortSignal) {
  const command = new GetObjectCommand({ Bucket: input.bucket, Key: input.key });
  const response = await s3.send(command, { abortSignal });
  if (response.ContentLength === undefined) {
    response.Body.destroy();
    throw new Error("S3 sent no Content-Length, so a whole object could not be told from a truncated one");
  }
  return {
    body: response.Body,
    size: response.ContentLength,
    version: versionRead(response, input),
    headers: { ContentType: response.ContentType, ContentEncoding: response.ContentEncoding },
  };
}

// Without a version id from S3 the event's one counts only if the ETags agree: otherwise what was read is not what
// the event announced, and the ETag tells the two apart.
function versionRead({ VersionId, ETag }, input) {
  const etag = ETag?.replaceAll('"', "");
  if (isVersionId(VersionId)) {
    return VersionId;
  }
  return isVersionId(input.versionId) && input.etag === etag ? input.versionId : etag;
}

// With versioning suspended, all objects have the version "null".
function isVersionId(value) {
  return Boolean(value) && value !== "null";
}
