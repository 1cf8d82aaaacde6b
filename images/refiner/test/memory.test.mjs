import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { BUCKET, ENVIRONMENT } from "../test-support/harness.mjs";
import { S3Server } from "../test-support/s3-server.mjs";

const SIZE = 512 * 1024 * 1024;

// In a process of its own, with little heap and with the real entry point.
test("512 MiB pass through in flat memory", async (t) => {
  const server = await new S3Server().start();
  t.after(() => server.stop());
  server.keepBodies = false;
  server.put(BUCKET, "RefinerInput/large", SIZE, { versionId: "v1" });

  const script = fileURLToPath(new URL("../test-support/one-record.mjs", import.meta.url));
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--max-old-space-size=48", script, "RefinerInput/large"], {
    env: {
      ...ENVIRONMENT,
      AWS_ENDPOINT_URL: server.endpoint,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    },
  });

  const { failures, maxRssMiB } = JSON.parse(stderr.trim().split("\n").at(-1)); // Node may warn first
  assert.equal(failures, 0, stdout);
  assert.ok(maxRssMiB < 220, `peak ${maxRssMiB} MiB`);
  t.diagnostic(`peak ${Math.round(maxRssMiB)} MiB for ${SIZE / 1024 / 1024} MiB`);

  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ message }) => message), [
    "record received", "output written", "output written", "completion written", "record done",
  ]);
  const [one, two] = server.keys(BUCKET, "RefinerOutput/").map((key) => server.get(BUCKET, key));
  assert.equal(one.size, SIZE);
  assert.equal(two.size, SIZE);
  assert.equal(one.etag, two.etag);
});
