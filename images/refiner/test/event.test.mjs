import assert from "node:assert/strict";
import { test } from "node:test";

import { InvalidEventError, isFolderMarker, parseObjectCreated } from "../src/event.mjs";
import { loadEvent } from "../test-support/harness.mjs";

const parseBody = (body) => parseObjectCreated({ body });
const parse = (name) => parseBody(JSON.stringify(loadEvent(name)));

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

test("a version id of null is none", () => {
  assert.equal(parseBody(withObject({ key: "a", "version-id": null })).versionId, undefined);
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
const withObject = (object) => JSON.stringify({ ...withoutDetail, detail: { ...detail, object } });
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
  ["an empty key", withObject({ key: "" }), /has no detail\.object\.key/],
  ["a version id that is no string", withObject({ key: "a", "version-id": 7 }), /detail\.object\.version-id is not a string: 7/],
  ["an ETag that is no string", withObject({ key: "a", etag: ["x"] }), /detail\.object\.etag is not a string: \["x"\]/],
  ["a key that is no string", withObject({ key: 5 }), /has no detail\.object\.key/],
]) {
  test(`refused: ${name}`, () => {
    assert.throws(() => parseBody(body), (error) => error instanceof InvalidEventError && message.test(error.message));
  });
}
