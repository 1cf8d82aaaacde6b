import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { TaskGroup } from "../src/task-group.mjs";

const never = new AbortController().signal;

test("results come in the tasks' order", async () => {
  assert.deepEqual(await new TaskGroup(never).all([sleep(5, "a"), sleep(1, "b")]), ["a", "b"]);
});

test("the first failure aborts the others, is the one thrown, and only when all are over", async () => {
  const group = new TaskGroup(never);
  const first = new Error("first");
  let over = false;
  const other = sleep(60_000, undefined, { signal: group.signal }).finally(async () => {
    await sleep(5);
    over = true;
  });
  await assert.rejects(group.all([other, sleep(1).then(() => Promise.reject(first))]), (error) => error === first);
  assert.ok(over);
});

test("an abort from outside fails the group for the parent's reason", async () => {
  const parent = new AbortController();
  const group = new TaskGroup(parent.signal);
  const reason = new Error("time is up");
  setTimeout(() => parent.abort(reason), 1);
  await assert.rejects(group.all([sleep(60_000, undefined, { signal: group.signal })]), (error) => error === reason);
});
