// What must not happen when something goes wrong: a lost record, a truncated output, a completion without outputs.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { crc32 } from "node:zlib";

import { outputKeys } from "../src/keys.mjs";
import { BUCKET, batchOf, contextWith, failedIds, loadEvent, objectCreated, startRefiner } from "../test-support/harness.mjs";
import { S3Server } from "../test-support/s3-server.mjs";

const MiB = 1024 * 1024;
const server = new S3Server();
const unhandled = [];
let refiner;

before(async () => {
  process.on("unhandledRejection", (error) => unhandled.push(error));
  await server.start();
});
after(() => server.stop());
afterEach(async () => {
  await new Promise(setImmediate);
  assert.deepEqual(unhandled, []);
  refiner?.stop();
  server.reset();
});

const start = () => (refiner = startRefiner(server));
const written = () => server.keys(BUCKET).filter((key) => !key.startsWith("RefinerInput/"));
const putInput = (name, body = name) => {
  server.put(BUCKET, `RefinerInput/${name}`, body, { versionId: "v1" });
  return objectCreated(`RefinerInput/${name}`);
};
const faultOn = (operation, fault, prefix = "") => (seen) =>
  seen.operation === operation && seen.key.startsWith(prefix) ? fault : undefined;
const theFailure = () => {
  const lines = refiner.linesOf("record failed");
  assert.equal(lines.length, 1);
  return lines[0];
};

test("bad records fail alone", async () => {
  const bodies = [
    putInput("good 1"),
    "not JSON",
    loadEvent("object-deleted"),
    loadEvent("malformed"),
    putInput("good 2"),
    objectCreated("Elsewhere/x"),
    objectCreated("RefinerInput/gone"),
    putInput("good 3"),
  ];
  const { run, linesOf } = start();

  assert.deepEqual(failedIds(await run(...bodies)), ["message-2", "message-3", "message-4", "message-6", "message-7"]);

  assert.equal(written().length, 9);
  assert.equal(linesOf("record done").length, 3);
  const failures = new Map(linesOf("record failed").map((line) => [line.messageId, line]));
  assert.match(failures.get("message-2").error.message, /not JSON/);
  assert.match(failures.get("message-3").error.message, /"Object Deleted"/);
  assert.match(failures.get("message-4").error.message, /no detail\.object\.key/);
  assert.match(failures.get("message-6").error.message, /not below the input prefix/);
  const gone = failures.get("message-7");
  assert.equal(gone.level, "ERROR");
  assert.equal(gone.key, "RefinerInput/gone");
  assert.equal(gone.sentTimestamp, 1741944414183);
  assert.equal(gone.error.name, "NoSuchKey");
  assert.equal(gone.error.httpStatusCode, 404);
  assert.match(gone.error.stack, /NoSuchKey/);
});

for (const record of [null, 5, "x"]) {
  test(`a record that is ${JSON.stringify(record)} fails alone`, async () => {
    const { Records } = batchOf(putInput("good"));
    const { handler } = start();

    assert.deepEqual(failedIds(await handler({ Records: [record, ...Records] }, contextWith())), [""]);

    assert.match(theFailure().error.message, /Expected an SQS message, got (null|5|"x")/);
    assert.deepEqual(server.keys(BUCKET, "RefinerComplete/"), ["RefinerComplete/good.json"]);
  });
}

test("a version id that is no text fails alone, and before anything is written", async () => {
  putInput("bad");
  const events = [objectCreated("RefinerInput/bad", { "version-id": 7 }), putInput("good")];
  const { run } = start();

  assert.deepEqual(failedIds(await run(...events)), ["message-1"]);

  assert.match(theFailure().error.message, /detail\.object\.version-id is not a string: 7/);
  assert.equal(written().length, 3);
});

for (const [source, record] of [
  ["", { messageId: "", body: "{}" }],
  ["aws:s3", { eventSource: "aws:s3", s3: { bucket: { name: BUCKET }, object: { key: "RefinerInput/x" } } }],
  ["aws:sns", { EventSource: "aws:sns", Sns: { MessageId: "1", Message: "{}" } }],
  ["aws:kinesis", { eventSource: "aws:kinesis", eventID: "shardId-000000000000:1", kinesis: { data: "" } }],
]) {
  test(`an invocation by "${source}" fails as a whole, because no failure could be returned to it`, async () => {
    const { Records } = batchOf(putInput("good"));
    const { handler } = start();

    await assert.rejects(handler({ Records: [...Records, record] }, contextWith()), new RegExp(`records of SQS, got one .*${source}`));

    assert.deepEqual(written(), []);
  });
}

test("throttling is waited out", async () => {
  const event = putInput("x");
  server.fault = ({ attempt }) => attempt === 1 && { status: 503, code: "SlowDown" };
  const { run } = start();
  assert.deepEqual(await run(event), { batchItemFailures: [] });
  assert.equal(written().length, 3);
  assert.equal(server.requests.length, 8);
});

test("lasting throttling fails the record", async () => {
  const event = putInput("x");
  server.fault = faultOn("GetObject", { status: 503, code: "SlowDown" });
  const { run } = start();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.equal(theFailure().error.name, "SlowDown");
  assert.equal(server.requests.length, 3);
});

for (const [operation, prefix] of [["GetObject", "RefinerInput/"], ["PutObject", "RefinerOutput/"], ["PutObject", "RefinerComplete/"]]) {
  test(`${operation} of ${prefix} denied`, async () => {
    const event = putInput("x");
    server.fault = faultOn(operation, { status: 403, code: "AccessDenied" }, prefix);
    const { run } = start();
    assert.deepEqual(failedIds(await run(event)), ["message-1"]);
    assert.equal(theFailure().error.name, "AccessDenied");
    assert.equal(theFailure().error.httpStatusCode, 403);
    assert.deepEqual(server.keys(BUCKET, "RefinerComplete/"), []);
  });
}

test("one of two outputs fails: no completion, and the next delivery heals it", async () => {
  const event = putInput("x");
  let refused;
  server.fault = ({ operation, key }) => {
    if (operation !== "PutObject") return undefined;
    refused ??= key;
    return key === refused ? { status: 403, code: "AccessDenied" } : { delayMs: 50 };
  };
  const { run } = start();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.equal(theFailure().error.name, "AccessDenied");
  assert.deepEqual(server.keys(BUCKET, "RefinerComplete/"), []);

  server.fault = () => undefined;
  assert.deepEqual(await run(event), { batchItemFailures: [] });
  assert.equal(written().length, 3);
});

test("one upload fails while the other and the read hang: both are aborted", async () => {
  const event = putInput("x", 64 * MiB);
  let refused;
  server.fault = ({ operation, key, query }) => {
    if (operation !== "UploadPart" || query.get("partNumber") === "1") return undefined;
    refused ??= key;
    return key === refused ? { status: 403, code: "AccessDenied" } : { hang: true };
  };
  const { run } = start();
  const started = Date.now();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.ok(Date.now() - started < 5_000);
  assert.equal(theFailure().error.name, "AccessDenied");
  assert.deepEqual(written(), []);
  assert.equal(server.operations().filter((operation) => operation === "AbortMultipartUpload").length, 2);
});

test("an upload fails while the read is stuck", async () => {
  const event = putInput("x", 64 * MiB);
  server.fault = ({ operation }) => {
    if (operation === "GetObject") return { hang: true };
    if (operation === "CreateMultipartUpload") return { status: 403, code: "AccessDenied" };
    return undefined;
  };
  const { run } = start();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.equal(theFailure().error.name, "AccessDenied");
});

test("a failed abort does not hide why it was tried", async () => {
  const event = putInput("x", 20 * MiB);
  server.fault = ({ operation }) => {
    if (operation === "CompleteMultipartUpload") return { status: 400, code: "InvalidPart" };
    if (operation === "AbortMultipartUpload") return { status: 403, code: "AccessDenied" };
    return undefined;
  };
  const { run, linesOf } = start();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.equal(theFailure().error.name, "InvalidPart");
  assert.deepEqual(written(), []);
  const left = linesOf("multipart upload left behind");
  assert.equal(left.length, 2);
  assert.equal(left[0].level, "WARN");
  assert.match(left[0].outputKey, /^RefinerOutput\//);
  assert.match(left[0].reason, /AccessDenied/);
});

for (const size of [1 * MiB, 40 * MiB]) {
  for (const fault of ["reset", "finish"]) {
    test(`a download of ${size / MiB} MiB that breaks off (${fault}) leaves nothing`, async () => {
      const event = putInput("x", size);
      server.fault = faultOn("GetObject", { [fault]: size - 100_000 });
      const { run } = start();
      assert.deepEqual(failedIds(await run(event)), ["message-1"]);
      assert.match(theFailure().error.message, /aborted|ECONNRESET|Connection lost/);
      assert.deepEqual(written(), []);
    });
  }
}

test("a download of unknown length is not trusted", async () => {
  const event = putInput("x");
  server.fault = faultOn("GetObject", { noLength: true });
  const { run } = start();
  assert.deepEqual(failedIds(await run(event)), ["message-1"]);
  assert.match(theFailure().error.message, /no Content-Length/);
  assert.deepEqual(written(), []);
});

for (const size of [1 * MiB, 20 * MiB]) {
  test(`${size / MiB} MiB that arrive damaged leave nothing`, async () => {
    const body = Buffer.alloc(size, "x");
    const checksum = Buffer.alloc(4);
    checksum.writeInt32BE(crc32(body) ^ 1);
    server.put(BUCKET, "RefinerInput/x", body, { versionId: "v1", checksum: checksum.toString("base64") });
    const { run } = start();
    assert.deepEqual(failedIds(await run(objectCreated("RefinerInput/x"))), ["message-1"]);
    assert.match(theFailure().error.message, /Checksum mismatch/);
    assert.deepEqual(written(), []);
  });
}

const stuckOutputs = outputKeys({ bucket: BUCKET, key: "RefinerInput/stuck", version: "v1" }, { outputPrefix: "RefinerOutput/" });
for (const [operation, size] of [["GetObject", 20 * MiB], ["PutObject", 10], ["UploadPart", 40 * MiB]]) {
  test(`the time runs out while ${operation} hangs: only that record fails`, async () => {
    const events = [putInput("stuck", size), putInput("good")];
    server.fault = (seen) =>
      seen.operation === operation && ["RefinerInput/stuck", ...stuckOutputs].includes(seen.key) ? { hang: true } : undefined;
    const { handler } = start();
    const context = contextWith(3_000);

    assert.deepEqual(failedIds(await handler(batchOf(...events), context)), ["message-1"]);

    assert.ok(context.getRemainingTimeInMillis() > 0);
    assert.equal(theFailure().error.name, "OutOfTimeError");
    assert.deepEqual(server.keys(BUCKET, "RefinerComplete/"), ["RefinerComplete/good.json"]);
  });
}

test("records that cannot be started in time go back to the queue", async () => {
  const events = Array.from({ length: 10 }, (_, i) => putInput(`${i}`));
  server.fault = faultOn("GetObject", { delayMs: 900 });
  const { handler, linesOf } = start();

  const { batchItemFailures } = await handler(batchOf(...events), contextWith(2_100));

  assert.equal(batchItemFailures.length + linesOf("record done").length, 10);
  assert.ok(batchItemFailures.length >= 2 && batchItemFailures.length < 10, `${batchItemFailures.length} failed`);
  assert.ok(linesOf("record failed").every(({ error }) => error.name === "OutOfTimeError"));
  // The time may end between a completion and the record's end: then its second attempt writes the same.
  assert.ok(server.keys(BUCKET, "RefinerComplete/").length >= linesOf("record done").length);
});
