import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";

import { LengthMismatchError, readParts } from "../src/parts.mjs";

async function cut(chunks, size, partSize) {
  const parts = [];
  for await (const part of readParts(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), size, partSize)) {
    parts.push(part.toString());
  }
  return parts;
}

test("chunks are cut and joined at part boundaries", async () => {
  assert.deepEqual(await cut(["abcdefgh"], 8, 3), ["abc", "def", "gh"]);
  assert.deepEqual(await cut(["a", "b", "cdef", "gh"], 8, 4), ["abcd", "efgh"]);
  assert.deepEqual(await cut(["ab", "c"], 3, 10), ["abc"]);
  assert.deepEqual(await cut([], 0, 10), []);
});

test("a stream of another length than announced throws", async () => {
  await assert.rejects(cut(["abc"], 4, 2), LengthMismatchError);
  await assert.rejects(cut(["abc"], 2, 2), LengthMismatchError);
  await assert.rejects(cut([], 1, 2), LengthMismatchError);
  await assert.rejects(cut(["a"], 0, 2), LengthMismatchError);
});
