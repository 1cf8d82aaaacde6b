// Runs the image's entry point on one record as Lambda would, then prints its own peak memory on stderr.
//
//     node test-support/one-record.mjs KEY    (environment: the function's, AWS_ENDPOINT_URL and credentials)

import { handler } from "../index.mjs";
import { batchOf, contextWith, objectCreated } from "./harness.mjs";

const { batchItemFailures } = await handler(batchOf(objectCreated(process.argv[2])), contextWith(900_000));
const result = { failures: batchItemFailures.length, maxRssMiB: process.resourceUsage().maxRSS / 1024 };
process.stderr.write(`${JSON.stringify(result)}\n`);
