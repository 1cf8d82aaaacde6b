import { S3Client } from "@aws-sdk/client-s3";

import { readConfig } from "./src/config.mjs";
import { createHandler } from "./src/handler.mjs";

// Made once per execution environment, so that warm invocations reuse connections and credentials. Region, endpoint
// and retries are the SDK's own settings (AWS_REGION, AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS).
const s3 = new S3Client({ requestHandler: { connectionTimeout: 3_000 } });

export const handler = createHandler({ s3, config: readConfig(process.env) });
