import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";

const ABANDON_TIMEOUT_MS = 1_000;

/**
 * One S3 multipart upload. Nothing is visible under its key before `complete`.
 *
 * lib-storage's Upload reads a stream of its own; this takes buffers, so that several uploads can share them.
 */
export class MultipartUpload {
  #s3;
  #target;
  #uploadId;
  #parts = [];

  /**
   * @param {import("@aws-sdk/client-s3").S3Client} s3
   * @param {{Bucket: string, Key: string}} target
   */
  constructor(s3, target) {
    this.#s3 = s3;
    this.#target = target;
  }

  /**
   * @param {object} headers such as ContentType
   * @param {AbortSignal} abortSignal
   */
  async start(headers, abortSignal) {
    const command = new CreateMultipartUploadCommand({ ...this.#target, ...headers, ChecksumAlgorithm: "CRC32" });
    const { UploadId } = await this.#s3.send(command, { abortSignal });
    this.#uploadId = UploadId;
  }

  /**
   * Sends the next part.
   *
   * @param {Buffer} body
   * @param {AbortSignal} abortSignal
   */
  async send(body, abortSignal) {
    const PartNumber = this.#parts.length + 1;
    const command = new UploadPartCommand({ ...this.#target, UploadId: this.#uploadId, PartNumber, Body: body });
    const { ETag, ChecksumCRC32 } = await this.#s3.send(command, { abortSignal });
    this.#parts.push({ PartNumber, ETag, ChecksumCRC32 });
  }

  /** @param {AbortSignal} abortSignal */
  async complete(abortSignal) {
    const command = new CompleteMultipartUploadCommand({
      ...this.#target,
      UploadId: this.#uploadId,
      MultipartUpload: { Parts: this.#parts },
    });
    await this.#s3.send(command, { abortSignal });
    this.#uploadId = undefined;
  }

  /**
   * Discards what was sent, as far as the role may; the bucket's lifecycle rule clears away the rest. It never throws,
   * since it runs when something else went wrong already.
   *
   * @param {ReturnType<typeof import("./log.mjs").createLogger>} log
   */
  async abandon(log) {
    if (this.#uploadId === undefined) {
      return;
    }
    const command = new AbortMultipartUploadCommand({ ...this.#target, UploadId: this.#uploadId });
    try {
      await this.#s3.send(command, { abortSignal: AbortSignal.timeout(ABANDON_TIMEOUT_MS) });
    } catch (error) {
      log.warn("multipart upload left behind", {
        outputKey: this.#target.Key,
        uploadId: this.#uploadId,
        reason: `${error.name}: ${error.message}`,
      });
    }
  }
}
