import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { readConfig } from "../src/config.mjs";
import { ENVIRONMENT } from "../test-support/harness.mjs";

test("prefixes become S3 key prefixes, with or without a leading slash", () => {
  const expected = { inputPrefix: "RefinerInput/", outputPrefix: "RefinerOutput/", completePrefix: "RefinerComplete/", completeSuffix: ".json" };
  assert.deepEqual(readConfig(ENVIRONMENT), expected);
  assert.deepEqual(readConfig(Object.fromEntries(Object.entries(ENVIRONMENT).map(([k, v]) => [k, v.slice(1)]))), expected);
});

test("the suffix of completions can be set", () => {
  assert.equal(readConfig({ ...ENVIRONMENT, REFINER_COMPLETE_SUFFIX: ".completion" }).completeSuffix, ".completion");
  assert.equal(readConfig({ ...ENVIRONMENT, REFINER_COMPLETE_SUFFIX: "" }).completeSuffix, ".json");
  assert.throws(() => readConfig({ ...ENVIRONMENT, REFINER_COMPLETE_SUFFIX: "/x" }), /^Error: REFINER_COMPLETE_SUFFIX is "\/x"/);
});

test("the input prefix is optional", () => {
  assert.equal(readConfig({ ...ENVIRONMENT, REFINER_INPUT_PREFIX: undefined }).inputPrefix, undefined);
  assert.equal(readConfig({ ...ENVIRONMENT, REFINER_INPUT_PREFIX: "" }).inputPrefix, undefined);
});

for (const name of ["REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX"]) {
  test(`${name} is required`, () => {
    assert.throws(() => readConfig({ ...ENVIRONMENT, [name]: undefined }), new RegExp(`^Error: ${name} is not set`));
    assert.throws(() => readConfig({ ...ENVIRONMENT, [name]: "" }), new RegExp(`^Error: ${name} is not set`));
  });
}

for (const name of Object.keys(ENVIRONMENT)) {
  test(`${name} must end in one slash and not be the root`, () => {
    for (const value of ["/X", "X", "/", "//", "X//", "//X/"]) {
      assert.throws(() => readConfig({ ...ENVIRONMENT, [name]: value }), new RegExp(`^Error: ${name} is "${value}"`), value);
    }
  });
}

test("outputs below the input prefix would be refined again, for ever", () => {
  for (const name of ["REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX"]) {
    for (const value of ["/RefinerInput/", "RefinerInput/out/"]) {
      assert.throws(() => readConfig({ ...ENVIRONMENT, [name]: value }), /outputs would become inputs/);
    }
  }
});

test("a bad environment fails at init, in a sentence", () => {
  const index = fileURLToPath(new URL("../index.mjs", import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [index], {
    env: { ...ENVIRONMENT, AWS_REGION: "us-east-1", REFINER_OUTPUT_PREFIX: "/RefinerOutput" },
    encoding: "utf8",
  });
  assert.notEqual(status, 0);
  assert.match(stderr, /Error: REFINER_OUTPUT_PREFIX is "\/RefinerOutput"; it must be a key prefix that ends in one slash/);
});
