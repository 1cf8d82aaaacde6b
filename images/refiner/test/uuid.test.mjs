import assert from "node:assert/strict";
import { test } from "node:test";

import { uuidv5 } from "../src/uuid.mjs";

const DNS = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

test("known vectors", () => {
  assert.equal(uuidv5("www.example.com", DNS), "2ed6657d-e927-568b-95e1-2665a8aea6a2"); // RFC 9562, appendix A.4
  assert.equal(uuidv5("python.org", DNS), "886313e1-3b8a-5372-9b90-0c9aee199e5d"); // Python's uuid documentation
});

test("names are UTF-8", () => {
  assert.notEqual(uuidv5("é", DNS), uuidv5("e\u0301", DNS));
  assert.match(uuidv5("報告 🧪", DNS), /^[\da-f]{8}-[\da-f]{4}-5[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
});
