// The contract: what is read, written and logged for good inputs.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { outputKeys } from "../src/keys.mjs";
import { BUCKET, ENVIRONMENT, batchOf, contextWith, failedIds, loadEvent, objectCreated, startRefiner } from "../test-support/harness.mjs";
import { S3Server } from "../test-support/s3-server.mjs";

const server = new S3Server();
let refiner;

before(async () => {
  await server.start();
});
after(() => server.stop());
afterEach(() => {
  refiner?.stop();
  server.reset();
});

const start = (environment) => (refiner = startRefiner(server, environment));
const outputs = () => server.keys(BUCKET, "RefinerOutput/");
const completion = (name) => JSON.parse(server.get(BUCKET, `RefinerComplete/${name}.json`).body);

test("an input becomes two outputs and a completion", async () => {
  const event = loadEvent("object-created");
  const versionId = event.detail.object["version-id"];
  server.put(BUCKET, "RefinerInput/helloworld.txt", "hello world\n", { versionId, contentType: "text/plain; charset=utf-8" });
  const { run, linesOf } = start();

  assert.deepEqual(await run(event), { batchItemFailures: [] });

  const keys = outputKeys({ bucket: BUCKET, key: "RefinerInput/helloworld.txt", version: versionId }, { outputPrefix: "RefinerOutput/" });
  assert.deepEqual(server.keys(BUCKET), ["RefinerComplete/helloworld.txt.json", "RefinerInput/helloworld.txt", ...keys].sort());
  for (const key of keys) {
    const { body, headers } = server.get(BUCKET, key);
    assert.equal(body.toString(), "hello world\n");
    assert.equal(headers["content-type"], "text/plain; charset=utf-8");
  }
  const { body, headers } = server.get(BUCKET, "RefinerComplete/helloworld.txt.json");
  assert.equal(body.toString(), JSON.stringify(keys.map((key) => `/${key}`)));
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["x-amz-meta-source-version"], versionId);
  assert.equal(headers["x-amz-meta-source-event-version"], versionId);
  assert.equal(headers["x-amz-meta-source-bucket-key"], `${BUCKET}/RefinerInput/helloworld.txt`);
  assert.deepEqual(server.operations(), ["GetObject", "PutObject", "PutObject", "PutObject"]);

  const [received] = linesOf("record received");
  assert.match(received.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const common = { level: "INFO", requestId: "request-1", messageId: "message-1", bucket: BUCKET, key: "RefinerInput/helloworld.txt" };
  assert.deepEqual(received, {
    timestamp: received.timestamp,
    message: "record received",
    ...common,
    versionId,
    eventTime: "2025-03-14T09:26:53Z",
    sentTimestamp: 1741944414183,
    receiveCount: 1,
  });
  const written = linesOf("output written").toSorted((a, b) => keys.indexOf(a.outputKey) - keys.indexOf(b.outputKey));
  for (const [index, { timestamp, ...line }] of written.entries()) {
    assert.deepEqual(line, { message: "output written", ...common, outputKey: keys[index], bytes: 12 });
  }
  const [{ timestamp, ...line }] = linesOf("completion written");
  assert.deepEqual(line, {
    message: "completion written",
    ...common,
    completionKey: "RefinerComplete/helloworld.txt.json",
    completion: keys.map((key) => `/${key}`),
  });
  assert.ok(Number.isInteger(linesOf("record done")[0].durationMs));
  assert.equal(refiner.lines.length, 5);
});

test("the batch as Lambda gets it from the queue, one object in parts", async () => {
  server.put(BUCKET, "RefinerInput/helloworld.txt", "hello world\n", { versionId: "v1" });
  server.put(BUCKET, "RefinerInput/2025/03/large.txt", Buffer.alloc(20 * 1024 * 1024 + 1, "large "), { versionId: "v2" });
  const { handler, linesOf } = start();

  assert.deepEqual(await handler(loadEvent("sqs-batch"), contextWith()), { batchItemFailures: [] });

  assert.deepEqual(linesOf("record received").map(({ receiveCount }) => receiveCount), [1, 2]);
  const input = server.get(BUCKET, "RefinerInput/2025/03/large.txt").body;
  for (const entry of completion("2025/03/large.txt")) {
    assert.ok(server.get(BUCKET, entry.slice(1)).body.equals(input));
  }
});

for (const size of [0, 1, 16 * 1024 * 1024]) {
  test(`${size} bytes are one request per output`, async () => {
    server.put(BUCKET, "RefinerInput/x", Buffer.alloc(size, "x"), { versionId: "v1" });
    const { run } = start();

    assert.deepEqual(await run(objectCreated("RefinerInput/x", { size })), { batchItemFailures: [] });

    assert.deepEqual(server.operations("RefinerOutput/"), ["PutObject", "PutObject"]);
    assert.deepEqual(outputs().map((key) => server.get(BUCKET, key).size), [size, size]);
  });
}

test("multipart uploads keep the input's headers", async () => {
  const size = 16 * 1024 * 1024 + 1;
  server.put(BUCKET, "RefinerInput/x.gz", size, { versionId: "v1", contentType: "text/plain", contentEncoding: "gzip" });
  const { run } = start();

  assert.deepEqual(await run(objectCreated("RefinerInput/x.gz", { size })), { batchItemFailures: [] });

  for (const key of outputs()) {
    const { headers } = server.get(BUCKET, key);
    assert.deepEqual([headers["content-type"], headers["content-encoding"]], ["text/plain", "gzip"]);
  }
});

const names = [
  "with space", "a+b", "50%", "100%25", "a%2Fb", "a&b=c;d", "Übergröße", "報告", "🧪", "e\u0301", "a/b/c", "a//b", "/a", "../a",
  "a/../b", "./a", "a?b#c", "'\"<>\\", "tab\there", "~*!()", "trailing ", "no.json.json", "a/",
];
test("keys are taken as they are", async () => {
  for (const name of names) {
    server.put(BUCKET, `RefinerInput/${name}`, name, { versionId: "v1" });
  }
  const { run, linesOf } = start();
  const events = [...names.map((name) => objectCreated(`RefinerInput/${name}`))];

  assert.deepEqual(await run(...events), { batchItemFailures: [] });

  for (const name of names) {
    const entries = completion(name);
    assert.equal(entries.length, 2);
    for (const entry of entries) {
      assert.equal(server.get(BUCKET, entry.slice(1)).body.toString(), name);
    }
  }
  assert.equal(outputs().length, 2 * names.length);
  assert.deepEqual(new Set(linesOf("record received").map(({ key }) => key)), new Set(names.map((name) => `RefinerInput/${name}`)));
});

test("the event with an odd key", async () => {
  const event = loadEvent("object-created-odd-key");
  server.put(BUCKET, event.detail.object.key, "odd", { versionId: "v1" });
  const { run } = start();
  assert.deepEqual(await run(event), { batchItemFailures: [] });
  assert.equal(completion("2025 03/50% a+b & c=d/Übergröße 報告 🧪.txt").length, 2);
});

test("a folder marker is ignored", async () => {
  const { run, linesOf } = start();
  assert.deepEqual(await run(loadEvent("folder-marker")), { batchItemFailures: [] });
  assert.deepEqual(server.requests, []);
  assert.match(linesOf("record ignored")[0].reason, /folder marker/);
});

test("the bucket is the event's", async () => {
  const event = objectCreated("RefinerInput/x");
  event.detail.bucket.name = "another-bucket";
  server.put("another-bucket", "RefinerInput/x", "x", { versionId: "v1" });
  const { run } = start();
  assert.deepEqual(await run(event), { batchItemFailures: [] });
  assert.equal(server.keys("another-bucket").length, 4);
  assert.equal(server.keys(BUCKET).length, 0);
});

test("without an input prefix it is the first path segment", async () => {
  server.put(BUCKET, "Other/a/x", "x", { versionId: "v1" });
  const { run } = start({ ...ENVIRONMENT, REFINER_INPUT_PREFIX: undefined });
  assert.deepEqual(await run(objectCreated("Other/a/x")), { batchItemFailures: [] });
  assert.equal(completion("a/x").length, 2);
});

test("a message delivered twice writes the same keys twice", async () => {
  server.put(BUCKET, "RefinerInput/x", "x", { versionId: "v1" });
  const { run } = start();
  await run(objectCreated("RefinerInput/x"));
  const keys = server.keys(BUCKET);
  const first = completion("x");

  assert.deepEqual(await run(objectCreated("RefinerInput/x"), objectCreated("RefinerInput/x")), { batchItemFailures: [] });

  assert.deepEqual(server.keys(BUCKET), keys);
  assert.deepEqual(completion("x"), first);
});

test("a late message for an overwritten object gives the newer version's files", async () => {
  server.put(BUCKET, "RefinerInput/x", "new", { versionId: "v2" });
  const { run } = start();
  await run(objectCreated("RefinerInput/x", { "version-id": "v2" }));
  const keys = server.keys(BUCKET);

  assert.deepEqual(await run(objectCreated("RefinerInput/x", { "version-id": "v1" })), { batchItemFailures: [] });

  assert.deepEqual(server.keys(BUCKET), keys);
  const { headers } = server.get(BUCKET, "RefinerComplete/x.json");
  assert.equal(headers["x-amz-meta-source-version"], "v2");
  assert.equal(headers["x-amz-meta-source-event-version"], "v1");
});

test("without versions the ETag tells what was read", async () => {
  for (const versionId of [undefined, "null"]) {
    server.reset();
    const old = server.put(BUCKET, "RefinerInput/x", "old", { versionId });
    const { run } = start();
    await run(objectCreated("RefinerInput/x", { "version-id": versionId, etag: old.etag }));
    assert.equal(server.get(BUCKET, "RefinerComplete/x.json").headers["x-amz-meta-source-version"], old.etag);
    const oldOutputs = outputs();

    const { etag } = server.put(BUCKET, "RefinerInput/x", "new", { versionId });
    await run(objectCreated("RefinerInput/x", { "version-id": versionId, etag: old.etag }));
    assert.equal(server.get(BUCKET, "RefinerComplete/x.json").headers["x-amz-meta-source-version"], etag);
    assert.deepEqual(outputs().filter((key) => oldOutputs.includes(key)), oldOutputs);
    assert.equal(outputs().length, 4);
    refiner.stop();
  }
});

test("the event's version stands in for a missing one only if the ETags agree", async () => {
  const { etag } = server.put(BUCKET, "RefinerInput/x", "x");
  const { run } = start();
  const version = () => server.get(BUCKET, "RefinerComplete/x.json").headers["x-amz-meta-source-version"];

  await run(objectCreated("RefinerInput/x", { "version-id": "v1", etag }));
  assert.equal(version(), "v1");
  await run(objectCreated("RefinerInput/x", { "version-id": "v1", etag: "another" }));
  assert.equal(version(), etag);
});

test("a completion names its input exactly, and not at all if that is too long for metadata", async () => {
  const names = { "a b%20+ü.txt": "a%20b%2520+%C3%BC.txt", ["ü".repeat(240)]: "%C3%BC".repeat(240), ["ü".repeat(250)]: undefined };
  const { run } = start();
  for (const [name, encoded] of Object.entries(names)) {
    server.put(BUCKET, `RefinerInput/${name}`, "x", { versionId: "v1" });
    assert.deepEqual(await run(objectCreated(`RefinerInput/${name}`)), { batchItemFailures: [] });
    const { headers } = server.get(BUCKET, `RefinerComplete/${name}.json`);
    assert.equal(headers["x-amz-meta-source-bucket-key"], encoded && `${BUCKET}/RefinerInput/${encoded}`);
  }
});

test("the suffix of completions is the environment's", async () => {
  server.put(BUCKET, "Lab/a.txt", "x", { versionId: "v1" });
  const { run } = start({
    REFINER_INPUT_PREFIX: "/Lab/",
    REFINER_OUTPUT_PREFIX: "/RefinerOutput/",
    REFINER_COMPLETE_PREFIX: "/RefinerComplete/Lab/",
    REFINER_COMPLETE_SUFFIX: ".completion",
  });
  assert.deepEqual(await run(objectCreated("Lab/a.txt")), { batchItemFailures: [] });
  assert.deepEqual(server.keys(BUCKET, "RefinerComplete/"), ["RefinerComplete/Lab/a.txt.completion"]);
});

test("metadata is ASCII, whatever the event says", async () => {
  server.put(BUCKET, "RefinerInput/x", "x", { versionId: "v1" });
  const { run } = start();
  assert.deepEqual(await run(objectCreated("RefinerInput/x", { "version-id": "ü\n\ud800" })), { batchItemFailures: [] });
  assert.equal(server.get(BUCKET, "RefinerComplete/x.json").headers["x-amz-meta-source-event-version"], "%C3%BC%0A%EF%BF%BD");
});

test("a batch of ten, at most four at a time", async () => {
  const events = Array.from({ length: 10 }, (_, i) => {
    server.put(BUCKET, `RefinerInput/${i}`, `${i}`, { versionId: "v1" });
    return objectCreated(`RefinerInput/${i}`);
  });
  server.fault = ({ operation }) => operation === "GetObject" && { delayMs: 20 };
  const { handler, linesOf } = start();

  assert.deepEqual(failedIds(await handler(batchOf(...events), contextWith())), []);

  assert.equal(linesOf("record done").length, 10);
  assert.equal(outputs().length, 20);
  assert.equal(server.maxConcurrentReads, 4);
});

test("an empty batch", async () => {
  const { run } = start();
  assert.deepEqual(await run(), { batchItemFailures: [] });
});

test("what is not an SQS batch fails the invocation", async () => {
  const { handler } = start();
  await assert.rejects(handler(loadEvent("object-created"), contextWith()), /Expected an SQS event with Records/);
});
