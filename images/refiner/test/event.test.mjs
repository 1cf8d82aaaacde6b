import assert from "node:assert/strict";
import { test } from "node:test";

import { InvalidEventError, isFolderMarker, parseObjectCreated } from "../src/event.mjs";
import { loadEvent } from "../test-support/harness.mjs";

const parse = (name) => parseObjectCreated(JSON.stringify(loadEvent(name)));

test("all fields", () => {
  assert.deepEqual(parse("object-created"), {
    bucket: "data-repository",
    key: "RefinerInput/helloworld.txt",
    size: 12,
    etag: "6f5902ac237024bdd0c176cb93063dc4",
    versionId: "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
    eventTime: "2025-03-14T09:26:53Z",
  });
});

test("any reason counts", () => {
  assert.equal(parse("object-created-multipart").key, "RefinerInput/2025/03/large.txt");
});

test("a bucket without versions", () => {
  assert.equal(parse("object-created-unversioned").versionId, undefined);
});

test("keys are not URL-decoded", () => {
  assert.equal(parse("object-created-odd-key").key, "RefinerInput/2025 03/50% a+b & c=d/Übergröße 報告 🧪.txt");
});

test("folder markers are empty and end in a slash", () => {
  assert.ok(isFolderMarker(parse("folder-marker")));
  assert.ok(!isFolderMarker({ key: "RefinerInput/a/", size: 1 }));
  assert.ok(!isFolderMarker({ key: "RefinerInput/a", size: 0 }));
  assert.ok(!isFolderMarker({ key: "RefinerInput/a/" }));
});

test("the batch's bodies are the envelopes", () => {
  const bodies = loadEvent("sqs-batch").Records.map(({ body }) => JSON.parse(body));
  assert.deepEqual(bodies, [loadEvent("object-created"), loadEvent("object-created-multipart")]);
});

const { detail, ...withoutDetail } = loadEvent("object-created");
for (const [name, body, message] of [
  ["not JSON", "RefinerInput/x", /body is not JSON/],
  ["empty", "", /body is not JSON/],
  ["JSON null", "null", /Expected an "Object Created" event/],
  ["a JSON string", '"aws.s3"', /Expected an "Object Created" event/],
  ["another event of S3", JSON.stringify(loadEvent("object-deleted")), /got "Object Deleted" from "aws.s3"/],
  ["another source", JSON.stringify({ ...withoutDetail, detail, source: "my.app" }), /got "Object Created" from "my.app"/],
  ["S3's direct notification", JSON.stringify({ Records: [{ eventName: "ObjectCreated:Put" }] }), /got undefined from undefined/],
  ["no key", JSON.stringify(loadEvent("malformed")), /has no detail\.object\.key/],
  ["no detail", JSON.stringify(withoutDetail), /has no detail\.bucket\.name/],
  ["an empty key", JSON.stringify({ ...withoutDetail, detail: { ...detail, object: { key: "" } } }), /has no detail\.object\.key/],
  ["a key that is no string", JSON.stringify({ ...withoutDetail, detail: { ...detail, object: { key: 5 } } }), /has no detail\.object\.key/],
]) {
  test(`refused: ${name}`, () => {
    assert.throws(() => parseObjectCreated(body), (error) => error instanceof InvalidEventError && message.test(error.message));
  });
}
