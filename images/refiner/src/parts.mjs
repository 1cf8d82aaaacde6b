/** The object's bytes ended before, or went on after, its Content-Length. */
export class LengthMismatchError extends Error {
  name = "LengthMismatchError";
}

/**
 * Cuts a stream of known length into buffers of `partSize` bytes, the last one shorter. A consumer that has seen the
 * end of the iteration has the whole object: a stream that breaks off makes it throw instead.
 *
 * @param {AsyncIterable<Buffer>} body
 * @param {number} size bytes that the stream holds
 * @param {number} partSize bytes
 * @returns {AsyncGenerator<Buffer>}
 */
export async function* readParts(body, size, partSize) {
  let received = 0;
  let part;
  let filled = 0;
  for await (const chunk of body) {
    const start = received;
    received += chunk.length;
    if (received > size) {
      throw new LengthMismatchError(`Read more than the ${size} bytes announced`);
    }
    for (let offset = 0; offset < chunk.length; ) {
      part ??= Buffer.allocUnsafe(Math.min(partSize, size - start - offset));
      const copied = chunk.copy(part, filled, offset);
      offset += copied;
      filled += copied;
      if (filled === part.length) {
        yield part;
        part = undefined;
        filled = 0;
      }
    }
  }
  if (received < size) {
    throw new LengthMismatchError(`Read only ${received} of the ${size} bytes announced`);
  }
}
