import assert from "node:assert/strict";
import { test } from "node:test";

import { completionKey, outputKeys } from "../src/keys.mjs";

const config = { inputPrefix: "RefinerInput/", outputPrefix: "RefinerOutput/", completePrefix: "RefinerComplete/", completeSuffix: ".json" };
const source = { bucket: "data-repository", key: "RefinerInput/x", version: "v1" };

test("a completion's name is the input's below its prefix plus .json", () => {
  assert.equal(completionKey("RefinerInput/x", config), "RefinerComplete/x.json");
  assert.equal(completionKey("RefinerInput/a/b.txt", config), "RefinerComplete/a/b.txt.json");
  assert.equal(completionKey("RefinerInput/RefinerInput/x", config), "RefinerComplete/RefinerInput/x.json");
  assert.equal(completionKey("RefinerInput//x", config), "RefinerComplete//x.json");
});

test("inputs of two rulesets never have the same completion, whatever their names", () => {
  const lab = { ...config, inputPrefix: "Lab/", completePrefix: "RefinerComplete/Lab/", completeSuffix: ".completion" };
  const names = ["a.txt", "Lab/a.txt", "Lab/a.txt.completion", "a.txt.json", "a.txt.completion.json", "/Lab/a.txt"];
  const keys = [...names.map((name) => completionKey(`RefinerInput/${name}`, config)), ...names.map((name) => completionKey(`Lab/${name}`, lab))];
  assert.equal(new Set(keys).size, 2 * names.length);
  assert.equal(keys.at(names.length), "RefinerComplete/Lab/a.txt.completion");
});

test("without an input prefix it is the name below the first segment", () => {
  const anyInput = { ...config, inputPrefix: undefined };
  assert.equal(completionKey("Other/a/b.txt", anyInput), "RefinerComplete/a/b.txt.json");
  for (const key of ["x", "/x", "Other/", "RefinerOutput/x", "RefinerComplete/x.json"]) {
    assert.throws(() => completionKey(key, anyInput), /is (not )?below/, key);
  }
});

test("keys outside the input prefix have no completion", () => {
  for (const key of ["x", "RefinerInput", "RefinerInput/", "/RefinerInput/x", "refinerinput/x", "RefinerInputs/x"]) {
    assert.throws(() => completionKey(key, config), /not below the input prefix "RefinerInput\/"/, key);
  }
});

test("a completion key that S3 would refuse is refused first", () => {
  const room = 1024 - "RefinerComplete/.json".length;
  assert.equal(completionKey(`RefinerInput/${"x".repeat(room)}`, config).length, 1024);
  assert.throws(() => completionKey(`RefinerInput/${"x".repeat(room + 1)}`, config), /exceed 1024 bytes/);
  assert.throws(() => completionKey(`RefinerInput/${"é".repeat(room - 1)}`, config), /exceed 1024 bytes/);
});

test("output keys are the same for the same source, and only for it", () => {
  const keys = outputKeys(source, config);
  assert.deepEqual(keys, outputKeys({ ...source }, config));
  for (const key of keys) {
    assert.match(key, /^RefinerOutput\/[\da-f]{8}-[\da-f]{4}-5[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}\.txt$/);
  }
  const others = [{ bucket: "other" }, { key: "RefinerInput/y" }, { version: "v2" }, { key: "RefinerInput/xv", version: "1" }];
  const all = [keys, ...others.map((change) => outputKeys({ ...source, ...change }, config))].flat();
  assert.equal(new Set(all).size, 10);
});

// Redeliveries of messages that an earlier release processed must still overwrite what that release wrote.
test("output keys do not change between releases", () => {
  assert.deepEqual(outputKeys(source, config), [
    "RefinerOutput/fe1ff25b-0728-5d56-ab03-02a4a5cc88d4.txt",
    "RefinerOutput/89118dd5-079e-54a6-a0ef-361dec55e2c5.txt",
  ]);
});
